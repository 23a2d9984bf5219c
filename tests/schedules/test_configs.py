"""Spaces and defaults for any spec: the default is inside, and every config computes the same."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tvmconv as tc
from tests.schedules.cases import CASES, FAMILY_TARGETS, LEVELS
from tests.strategies import conv_specs
from tvmconv import fills
from tvmconv.build import schedule
from tvmconv.errors import InvalidConfig, TvmconvError
from tvmconv.reference import reference
from tvmconv.space import Config, ConfigSpace
from tvmconv.spec import ConvSpec
from tvmconv.target import Target, load
from tvmconv.template import Task, Template, get_template, templates
from tvmconv.tolerance import DIRECT
from tvmconv.validate import call, sums_are_exact

TARGETS = st.sampled_from(LEVELS).map(load)
ALL_TARGETS = st.sampled_from(sum(FAMILY_TARGETS.values(), ())).map(load)
THREADS = st.sampled_from((1, 2, 4))


def takers(task: Task) -> list[Template]:
    return [t for t in templates(task.target.family) if t.supports(task) is None]


@settings(max_examples=200)
@given(conv_specs(), ALL_TARGETS, THREADS)
def test_default_is_in_the_space(spec: ConvSpec, target: Target, threads: int) -> None:
    task = Task(spec, target, threads)
    found = takers(task)
    assert found, "nothing takes it"
    for template in found:
        config, space = template.default(task), template.space(task)
        space.check(config)
        assert space.at(space.index(config)) == config
        assert 0 < template.cycles(task, config) < float("inf")


@settings(max_examples=100)
@given(conv_specs(), ALL_TARGETS)
def test_reasons_are_given_in_words(spec: ConvSpec, target: Target) -> None:
    task = Task(spec, target)
    for template in templates(target.family):
        reason = template.supports(task)
        assert reason is None or len(reason.split()) >= 3


@settings(max_examples=90)
@given(conv_specs(), ALL_TARGETS, st.integers(0, 2**20), st.integers(0, 7))
def test_any_config_applies_or_is_refused(
    spec: ConvSpec, target: Target, at: int, which: int
) -> None:
    task = Task(spec, target, threads=1 + which % 2)
    found = takers(task)
    template = found[which % len(found)]
    space = template.space(task)
    config = space.at(at % space.grid_size)
    if space.valid(config) is None:
        _, _, sch = schedule(task, template, config)
        assert (sch is None) == (template.source is not None)
    else:
        with pytest.raises(InvalidConfig, match=f"config {config}: "):
            schedule(task, template, config)


@pytest.mark.parametrize("template_id", CASES)
@pytest.mark.parametrize(
    "wrong", ["", "tile_oc=3", "stage=none,tile_oc=16", "tile_oc=1000,stage=none"]
)
def test_configs_of_nothing_are_refused(template_id: str, wrong: str) -> None:
    task = Task(CASES[template_id][0], load("x86_64_v3"))
    with pytest.raises(InvalidConfig, match="config"):
        schedule(task, get_template(template_id), Config.parse(wrong))


def spread(space: ConfigSpace, count: int) -> list[Config]:
    """Valid configs far from each other: walk the grid in steps that share no factor with it."""
    step = max(1, int(space.grid_size * 0.381966)) | 1
    walk = (space.at((i * step) % space.grid_size) for i in range(min(space.grid_size, 3000)))
    return list(dict.fromkeys(islice((c for c in walk if space.valid(c) is None), count)))


SMALL: dict[str, ConvSpec] = {
    "direct_first": tc.conv2d((2, 5, 9, 21), 11, 3, padding=(1, 2), bias=True, activation="relu"),
    "direct_last": tc.conv2d((1, 12, 12, 6), 20, (2, 3), stride=2, padding=1, layout="NHWC"),
    "direct_3d": tc.conv3d((1, 4, 5, 6, 7), 9, 2, dilation=2, padding=1, residual=True),
    "pointwise_last": tc.conv2d((2, 6, 7, 8), 19, 1, scale_shift=True, layout="NHWC"),
    "pointwise_strided": tc.conv2d((1, 7, 9, 8), 5, 1, stride=2),
    "columns_few": tc.conv2d((1, 3, 10, 37), 2, 3, stride=(1, 2), padding=1),
    "depthwise_first": tc.conv2d((1, 7, 9, 20), 7, 3, padding=1, groups=7),
    "depthwise_last": tc.conv2d((2, 9, 13, 16), 16, 3, groups=16, layout="NHWC"),
    "depthwise_multiplied": tc.conv1d((2, 5, 30), 15, 4, padding=2, groups=5),
    "grouped": tc.conv2d((1, 12, 8, 9), 20, 3, padding=1, groups=4, padding_mode="circular"),
    "transposed_even": tc.conv_transpose2d((1, 5, 6, 8), 18, 4, stride=2, padding=1, layout="NHWC"),
    "transposed_gaps": tc.conv_transpose2d((2, 4, 5, 6), 3, (1, 3), stride=3, output_padding=1),
    "deformable": tc.deform_conv2d((1, 6, 7, 8), 9, 3, padding=1, offset_groups=2, mask=True),
}


@pytest.mark.parametrize("name", SMALL)
def test_configs_never_change_a_bit(name: str) -> None:
    """Integers: every direct template and one further config of each give torch's own bits."""
    spec = SMALL[name]
    operands = fills.integers(spec)
    expected = reference(spec, operands, "float32")
    for template in takers(Task(spec, load("host"))):
        task = Task(spec, load("host"))
        for config in [template.default(task), *spread(template.space(task), 1)]:
            kernel = tc.compile(spec, algorithm=template.id, config=config)
            if kernel.accuracy == DIRECT:
                assert np.array_equal(call(kernel, operands), expected), f"{template.id} {config}"
            else:
                tc.validate(kernel).require()


@settings(max_examples=12)
@given(conv_specs(), st.integers(1, 7))
def test_templates_agree_with_the_general_one(spec: ConvSpec, which: int) -> None:
    assume(sums_are_exact(spec) and spec.activation in ("none", "relu", "relu6"))
    task = Task(spec, load("host"))
    direct = [t for t in takers(task) if t.accuracy(task, t.default(task)) == DIRECT]
    found = [t for t in direct if t.id != "x86.general"]
    assume(found)
    operands = fills.integers(spec)
    plain = call(tc.compile(spec, algorithm="x86.general"), operands)
    template = found[which % len(found)]
    assert np.array_equal(call(tc.compile(spec, algorithm=template.id), operands), plain)


@pytest.mark.slow
@settings(max_examples=20)
@given(conv_specs(), TARGETS, st.integers(0, 2**20), st.integers(0, 7), THREADS)
def test_random_configs_compute_what_torch_computes(
    spec: ConvSpec, target: Target, at: int, which: int, threads: int
) -> None:
    assume(target.runs_here)
    task = Task(spec, target, threads)
    found = takers(task)
    template = found[which % len(found)]
    space = template.space(task)
    start = at % space.grid_size
    tried = (space.at((start + i * 7919) % space.grid_size) for i in range(200))
    config = next((c for c in tried if space.valid(c) is None), template.default(task))
    kernel = tc.compile(spec, target, algorithm=template.id, config=config, threads=threads)
    tc.validate(kernel).require()


def test_a_config_without_its_template_is_refused() -> None:
    with pytest.raises(TvmconvError, match="algorithm"):
        tc.compile(SMALL["grouped"], config="tile_oc=16")
