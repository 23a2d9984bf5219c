"""Machine code of kernels on tensor cores: no spills, and about the registers that tiles expect."""

import re
from dataclasses import replace

import numpy as np
import pytest

import tvmconv as tc
from tests.schedules.test_tensor_gemm import LAYER, LAYERS, WARPGROUPS, WARPS, task_of
from tvmconv.cuda.compiler import find_cuda_compiler
from tvmconv.errors import EnvironmentProblem
from tvmconv.kernel import Kernel
from tvmconv.template import get_template

TARGETS = ("sm_75", "sm_80", "sm_90", "sm_100")


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        find_cuda_compiler()
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))


def check(kernel: Kernel) -> None:
    """No spills; not above the registers that decided how many blocks an SM holds."""
    image = kernel.image
    assert not [name for name, spills in image.spills if spills.store_bytes or spills.load_bytes]
    gpu, device = kernel.target.gpu, kernel.built.device
    assert gpu is not None
    assert device is not None
    threads = {launch.kernel: launch.threads for launch in device.launches}
    for used in image.usage:
        assert used.stack_bytes == 0
        assert used.registers * threads[used.kernel] <= gpu.registers_per_sm


@pytest.mark.parametrize(("template_id", "target_id"), [(WARPS, "sm_80"), (WARPGROUPS, "sm_90")])
def test_the_default_of_a_layer_does_not_spill(template_id: str, target_id: str) -> None:
    check(tc.compile(LAYER, target_id, algorithm=template_id))


@pytest.mark.slow
@pytest.mark.parametrize("target_id", TARGETS)
@pytest.mark.parametrize("name", LAYERS)
def test_defaults_do_not_spill(name: str, target_id: str) -> None:
    for template_id in (WARPS, WARPGROUPS):
        if get_template(template_id).supports(task_of(LAYERS[name], target_id)) is None:
            check(tc.compile(LAYERS[name], target_id, algorithm=template_id))


@pytest.mark.slow
@pytest.mark.parametrize("template_id", [WARPS, WARPGROUPS])
def test_tiles_from_anywhere_do_not_spill(template_id: str) -> None:
    configs = get_template(template_id).space(task_of(LAYER)).configs()
    for at in np.random.default_rng(2).choice(len(configs), 16, replace=False):
        check(tc.compile(LAYER, "sm_90", algorithm=template_id, config=configs[int(at)]))


@pytest.mark.slow
def test_other_element_types_compile() -> None:
    check(tc.compile(replace(LAYER, dtype="float32"), "sm_80", algorithm=WARPS, max_error=1e-3))
    for template_id in (WARPS, WARPGROUPS):
        kernel = tc.compile(replace(LAYER, dtype="bfloat16"), "sm_90", algorithm=template_id)
        check(kernel)
        assert re.search(r"\.bf16\.bf16", kernel.image.ptx)
