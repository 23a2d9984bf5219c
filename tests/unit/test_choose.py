"""The choice of a template: the cheapest that takes the spec, or the forced one, or all reasons.

Here without records and cost model; tests/tuning/test_tiers.py has those.
"""

import math
from typing import Any

import pytest

import tvmconv as tc
from tests.schedules.cases import CASES, LEVELS
from tvmconv.choose import LEAST_GAIN_OF_A_TRANSFORM, Candidate, choose, consider
from tvmconv.errors import ArgumentError, InvalidConfig, TargetError, UnsupportedSpec
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template, templates
from tvmconv.tolerance import OWN_PRODUCTS

SPEC = tc.conv2d((1, 8, 9, 9), 8, 3, padding=1)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvmconv.choose.prior", lambda target: (None, "no cost model"))
    monkeypatch.setattr("tvmconv.choose.shipped_sources", lambda target: ())


def ids(found: tuple[Candidate, ...]) -> list[str]:
    return [candidate.template.id for candidate in found]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("template_id", CASES)
def test_every_template_can_be_forced(template_id: str, level: str) -> None:
    for spec in CASES[template_id]:
        task = Task(spec, load(level))
        candidate = choose(task, template_id)
        assert candidate.template.id == template_id
        assert candidate.config == candidate.template.default(task)


def test_every_candidate_is_told_fastest_first() -> None:
    """One that rounds more than sums of its own products do has to be 5 % faster."""
    task = Task(SPEC, load("x86_64_v3"))
    found = consider(task)
    assert sorted(ids(found)) == [template.id for template in templates("x86")]
    weighed = [
        c.cycles
        if c.config is None or c.template.accuracy(task, c.config) in OWN_PRODUCTS
        else c.cycles * LEAST_GAIN_OF_A_TRANSFORM
        for c in found
    ]
    assert weighed == sorted(weighed)
    for candidate in found:
        assert candidate.reason
        assert candidate.fits == (candidate.config is not None) == math.isfinite(candidate.cycles)


def test_the_fastest_by_prediction_is_chosen() -> None:
    task = Task(SPEC, load("x86_64_v3"))
    assert choose(task) == consider(task)[0]
    direct = [c for c in consider(task) if c.template.algorithm == "direct"]
    assert choose(task, "direct") == direct[0]
    assert choose(task).tier == "analytic"


# Layers that the templates were written for; wherever vectors are wider than four lanes, which
# the four channels of a group fill.
SUITED: dict[str, tuple[str, ConvSpec]] = {
    "dense": ("x86.direct", tc.conv2d((1, 56, 56, 64), 64, 3, padding=1, layout="NHWC")),
    "1x1": ("x86.pointwise", tc.conv2d((1, 28, 28, 128), 512, 1, layout="NHWC")),
    "depthwise": (
        "x86.depthwise",
        tc.conv2d((1, 112, 112, 32), 32, 3, padding=1, groups=32, layout="NHWC"),
    ),
    "groups": (
        "x86.grouped",
        tc.conv2d((1, 56, 56, 128), 128, 3, padding=1, groups=32, layout="NHWC"),
    ),
    "transposed": (
        "x86.transposed",
        tc.conv_transpose2d((1, 16, 16, 64), 32, 4, stride=2, padding=1, layout="NHWC"),
    ),
    "deformable": ("x86.deformable", tc.deform_conv2d((1, 28, 28, 64), 64, 3, layout="NHWC")),
}


@pytest.mark.parametrize("level", ["x86_64_v3", "x86_64_v4"])
@pytest.mark.parametrize("name", SUITED)
def test_layers_go_to_the_template_made_for_them(name: str, level: str) -> None:
    template_id, spec = SUITED[name]
    assert choose(Task(spec, load(level)), "direct").template.id == template_id


REASONS = {
    "x86.columns": (tc.conv2d((1, 9, 9, 8), 8, 3, layout="NHWC"), "not neighbours"),
    "x86.deformable": (SPEC, "only for deformable"),
    "x86.depthwise": (SPEC, "one input channel per group"),
    "x86.direct": (tc.conv2d((1, 8, 9, 9), 8, 1), "1x1 has a template"),
    "x86.fft": (tc.conv2d((1, 8, 9, 9), 8, 1), "nothing to transform"),
    "x86.grouped": (SPEC, "several groups of 2 to"),
    "x86.im2col": (tc.conv2d((1, 8, 9, 9), 8, 1), "no taps to gather"),
    "x86.pointwise": (SPEC, "only for 1x1"),
    "x86.strassen": (tc.conv2d((1, 8, 9, 9), 8, 1), "needs 32 channels"),
    "x86.transposed": (SPEC, "only for transposed"),
    "x86.winograd": (tc.conv2d((1, 8, 9, 9), 8, 1), "no taps to share"),
}


def test_only_the_general_template_takes_everything() -> None:
    assert {t.id for t in templates("x86")} - set(REASONS) == {"x86.general"}


@pytest.mark.parametrize("template_id", REASONS)
def test_forced_template_that_declines_says_why(template_id: str) -> None:
    spec, reason = REASONS[template_id]
    with pytest.raises(UnsupportedSpec, match=reason) as error:
        tc.compile(spec, "x86_64_v3", algorithm=template_id)
    assert str(spec) in str(error.value)
    assert template_id in str(error.value)
    with pytest.raises(UnsupportedSpec, match=reason):
        tc.compile(spec, "x86_64_v3", algorithm=template_id, config="tile_oc=8")


def test_when_nothing_fits_every_reason_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task(SPEC, load("x86_64_v3"))
    declining = tuple(t for t in templates("x86") if t.supports(task) is not None)
    monkeypatch.setattr("tvmconv.choose.templates", lambda family: declining)
    with pytest.raises(UnsupportedSpec) as error:
        choose(task)
    for template in declining:
        assert f"{template.id}: {template.supports(task)}" in str(error.value)
    assert str(SPEC) in str(error.value)
    assert "x86_64_v3" in str(error.value)


@pytest.mark.parametrize("algorithm", ["magic", "x86.magic", "winograd_cook", ""])
def test_unknown_algorithm_lists_the_known(algorithm: str) -> None:
    with pytest.raises(UnsupportedSpec) as error:
        tc.compile(SPEC, algorithm=algorithm)
    assert error.value.argument == "algorithm"
    assert "direct" in error.value.allowed
    assert all(template.id in error.value.allowed for template in templates("x86"))


def test_other_arguments_of_compile_are_checked() -> None:
    with pytest.raises(ArgumentError, match="spec: got 'str'"):
        tc.compile("conv2d_n1c3s8x8_o4k3x3")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="threads: got 0"):
        tc.compile(SPEC, threads=0)
    with pytest.raises(ArgumentError, match="algorithm: got None"):
        tc.compile(SPEC, config="tile_oc=8")
    with pytest.raises(TargetError, match="target: got 'z80'"):
        tc.compile(SPEC, "z80")
    with pytest.raises(InvalidConfig, match="config knobs"):
        tc.compile(SPEC, "x86_64_v3", algorithm="x86.general", config="tile_oc=8")


def test_tensors_beyond_32_bit_offsets_are_refused() -> None:
    huge = tc.conv1d((1, 2, 2**31), 1, 1)
    with pytest.raises(UnsupportedSpec, match="x elements: got 4294967296"):
        tc.compile(huge)


def test_a_family_without_schedules_is_told() -> None:
    with pytest.raises(UnsupportedSpec, match="target family: got 'vax'; allowed: arm, cuda, risc"):
        templates("vax")


@pytest.mark.parametrize("value", [0, -1e-5, float("nan"), "1e-5", True, None])
def test_max_error_must_be_a_positive_number(value: Any) -> None:
    with pytest.raises(ArgumentError, match="max_error: got"):
        tc.compile(SPEC, max_error=value)


def test_what_is_not_exact_enough_declines_and_direct_sums_always_are() -> None:
    target = load("x86_64_v3")
    exact = choose(Task(SPEC, target, max_error=1e-9))
    assert exact.template.algorithm in ("direct", "im2col")
    with pytest.raises(UnsupportedSpec, match=r"relative error .* above max_error 1e-09"):
        choose(Task(SPEC, target, max_error=1e-9), "fft")
    config = get_template("x86.fft").default(Task(SPEC, target))
    with pytest.raises(InvalidConfig, match=r"relative error .* above max_error 1e-09"):
        tc.compile(SPEC, target, algorithm="x86.fft", config=config, max_error=1e-9)
