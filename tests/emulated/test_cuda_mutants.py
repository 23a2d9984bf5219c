"""Would the proof notice a mistake? Small ones are made in kernels' sources, and all are found.

A mistake that changes nothing that anybody can see is listed with the reason.
"""

import json

import pytest

import tvmconv as tc
from tests.emulated.cuda_sources import need_cxx
from tests.emulated.mutants import PRODUCT, STAGED, WINDOW, WINOGRAD, Mistake, mutants
from tvmconv.cli import main
from tvmconv.emulate.cuda.proof import Subject, prove
from tvmconv.errors import Mismatch
from tvmconv.kernel import Kernel
from tvmconv.spec import ConvSpec
from tvmconv.validate import proof_cases

pytestmark = pytest.mark.emulated

# Configs are named, so that the sources change with the templates alone.
KERNELS: dict[str, tuple[ConvSpec, str, tuple[Mistake, ...]]] = {
    "cuda.direct": (
        tc.conv2d((1, 5, 9, 7), 12, 3, padding=1, bias=True),
        "tile_m=64,tile_oc=16,tile_k=16,thread_m=4,thread_oc=4,ahead=0,stages=1,slices=1",
        PRODUCT,
    ),
    "cuda.pointwise": (
        tc.conv2d((2, 32, 9, 9), 24, 1),
        "tile_m=64,tile_oc=32,tile_k=8,thread_m=8,thread_oc=4,ahead=0,stages=1,slices=2",
        PRODUCT,
    ),
    "cuda.transposed": (
        tc.conv_transpose2d((1, 6, 7, 7), 9, 4, stride=2, padding=1),
        "tile_m=64,tile_oc=16,tile_k=16,thread_m=4,thread_oc=2,ahead=1,stages=1,slices=1",
        PRODUCT,
    ),
    "cuda.deformable": (
        tc.deform_conv2d((1, 8, 9, 9), 6, 3, padding=1, mask=True),
        "tile_m=64,tile_oc=8,tile_k=8,thread_m=2,thread_oc=4,ahead=0,slices=1",
        PRODUCT,
    ),
    "cuda.depthwise": (
        tc.conv2d((1, 12, 9, 11), 12, 3, padding=1, groups=12, bias=True),
        "tile_oc=2,tile_oh=2,tile_ow=2,threads_h=4,threads_w=4,stage=row",
        WINDOW,
    ),
    "cuda.grouped": (
        tc.conv2d((1, 16, 9, 9), 32, 3, padding=1, groups=4),
        "tile_oc=4,tile_oh=2,tile_ow=2,threads_h=4,threads_w=4,stage=window",
        WINDOW,
    ),
    "cuda.winograd": (
        tc.conv2d((1, 16, 9, 9), 32, 3, padding=1),
        "m_h=2,m_w=2,tile_m=32,tile_oc=16,tile_k=8,thread_m=4,thread_oc=4,ahead=0,stages=1",
        WINOGRAD,
    ),
    "cuda.direct in stages": (
        tc.conv2d((1, 5, 9, 7), 12, 3, padding=1, bias=True),
        "tile_m=64,tile_oc=16,tile_k=8,thread_m=4,thread_oc=4,ahead=0,stages=3,slices=1",
        STAGED,
    ),
    "cuda.pointwise in stages": (
        tc.conv2d((2, 40, 9, 9), 24, 1),
        "tile_m=64,tile_oc=32,tile_k=8,thread_m=8,thread_oc=4,ahead=0,stages=2,slices=1",
        STAGED,
    ),
    "cuda.transposed in stages": (
        tc.conv_transpose2d((1, 7, 7, 24), 16, 4, stride=2, padding=1, layout="NHWC"),
        "tile_m=64,tile_oc=16,tile_k=16,thread_m=4,thread_oc=4,ahead=0,stages=4,slices=1",
        STAGED,
    ),
    "cuda.winograd in stages": (
        tc.conv2d((1, 32, 9, 9), 32, 3, padding=1),
        "m_h=2,m_w=2,tile_m=32,tile_oc=16,tile_k=8,thread_m=4,thread_oc=4,ahead=0,stages=3",
        STAGED,
    ),
}
# Kernel and mistake: why nobody can see it.
EQUIVALENT = {
    ("cuda.pointwise", "padding is one"): "it fills pixels behind the last, which nobody stores",
    ("cuda.deformable", "padding is one"): "it fills pixels behind the last, which nobody stores",
    ("cuda.winograd in stages", "zeros are not filled in"): "transformed x has no padding",
}


def compiled(name: str) -> Kernel:
    spec, config, _ = KERNELS[name]
    return tc.compile(spec, "sm_80", algorithm=name.split()[0], config=config)


@pytest.mark.parametrize("name", KERNELS)
def test_mistakes_are_found(name: str) -> None:
    need_cxx()
    kernel = compiled(name)
    assert kernel.built.device is not None
    made = dict(mutants(kernel.built.device, KERNELS[name][2]))
    assert len(made) >= 14
    every = proof_cases(kernel.spec, kernel.accuracy, 0)
    # In each order of threads once.
    kinds = ("integers", "impulses", "borders", "nonfinite")
    cases = {kind: every[kind] for kind in kinds if kind in every}
    subjects = [Subject(kernel, code, cases) for code in (kernel.built.device, *made.values())]
    right, *wrong = prove(subjects, 0)
    right.require()
    survivors = [mistake for mistake, report in zip(made, wrong, strict=True) if report.ok]
    assert sorted(survivors) == sorted(mistake for at, mistake in EQUIVALENT if at == name)


def test_a_fault_is_a_failed_check_that_says_where() -> None:
    need_cxx()
    kernel = compiled("cuda.pointwise")
    assert kernel.built.device is not None
    bad = dict(mutants(kernel.built.device, PRODUCT))["no barrier before tiles are read"]
    (report,) = prove([Subject(kernel, bad, proof_cases(kernel.spec, kernel.accuracy, 0))], 0)
    assert not report.ok
    assert {check.name for check in report.checks} >= {"integers", "impulses", "borders"}
    with pytest.raises(
        Mismatch, match=r"FAIL integers: race: .*, block \(0, 0, 0\), thread .*line"
    ):
        report.require()


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    need_cxx()
    arguments = ["validate", str(KERNELS["cuda.direct"][0]), "--target", "sm_80", "--emulate"]
    assert main([*arguments, "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert report["ok"]
    assert report["template"].startswith("cuda.")
    assert report["reproducer"].endswith("--emulate")
