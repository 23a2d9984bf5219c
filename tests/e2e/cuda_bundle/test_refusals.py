"""What a bundle for GPUs refuses, and how it says so: files, machines, arguments, answers."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import tvmconv as tc
from tests.e2e.cuda_bundle.layers import SPEC, build, loaded_from, run
from tests.stand_in.kernels import StandIn, add_kernels
from tvmconv.cuda.driver import driver
from tvmconv.cuda.packing import device_packing
from tvmconv.errors import BundleError, DeviceError
from tvmconv.kernel import Kernel


@pytest.mark.parametrize("how", ["missing", "truncated", "altered", "longer"])
@pytest.mark.parametrize("suffix", ["cubin", "ptx"])
def test_damaged_files_are_refused_by_name(
    bundle: Path, stand_in: StandIn, how: str, suffix: str
) -> None:
    file = sorted((bundle / "code").glob(f"*_run-sm_90.{suffix}"))[0]
    _damage(file, how)
    with pytest.raises(BundleError, match=f"{file.name}"):
        tc.load(bundle)
    code, said = run([sys.executable, bundle / "tvmconv_load.py"])
    assert (code, file.name in said) == (2, True)
    code, said = run([build(bundle, "selftest"), bundle])
    assert code == 2
    word = {"missing": "cannot be read", "truncated": "truncated"}.get(how, "altered")
    assert f"{file.name}: {word}" in said


def _damage(file: Path, how: str) -> None:
    data = bytearray(file.read_bytes())
    if how == "missing":
        file.unlink()
        return
    if how == "altered":
        data[len(data) // 2] ^= 1
    file.write_bytes(data[:-1] if how == "truncated" else data + b"\0" * (how == "longer"))


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        (lambda s: s.gpus(""), "there is no GPU"),
        (
            lambda s: s.gpus("7.5"),
            "no code for this GPU (made for sm_90, sm_80: this GPU is sm_75)",
        ),
        (lambda s: s.fail("cuInit=999"), "a call of the driver failed"),
    ],
)
def test_machines_that_cannot_run_it(
    bundle: Path, stand_in: StandIn, arrange: Callable[[StandIn], None], message: str
) -> None:
    arrange(stand_in)
    code, said = run([build(bundle, "selftest"), bundle])
    assert (code, message in said) == (2, True), said
    code, said = run([sys.executable, bundle / "tvmconv_load.py"])
    assert (code, said.startswith("refused: ")) == (2, True), said


def test_without_a_driver(bundle: Path) -> None:
    program = build(bundle, "selftest")
    plain = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    done = subprocess.run([program, bundle], env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no NVIDIA driver" in done.stdout


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("cuLaunchKernel=719@2", "CUDA_ERROR_LAUNCH_FAILED"),
        ("cuMemAlloc_v2=2@3", "not enough memory"),
        ("cuModuleGetFunction=500", "CUDA_ERROR_NOT_FOUND"),
        ("cuStreamSynchronize=700@9", "CUDA_ERROR_ILLEGAL_ADDRESS"),
    ],
)
def test_failures_on_the_way_are_told(
    bundle: Path, stand_in: StandIn, plan: str, message: str
) -> None:
    program = build(bundle, "selftest")
    stand_in.fail(plan)
    code, said = run([program, bundle])
    assert (code, message in said) == (1, True), said
    code, said = run([sys.executable, bundle / "tvmconv_load.py"])
    assert code == 1, said
    assert "FAIL" in said


def test_wrong_answers_are_found(bundle: Path, kernels: list[Kernel], stand_in: StandIn) -> None:
    kernel = next(k for k in kernels if str(k.spec) == SPEC and k.target.id == "sm_90")
    device = kernel.built.device
    assert device is not None
    wrong = replace(device, source=device.source.replace("+ residual_ptr[", "- residual_ptr["))
    for link in stand_in.kernels.glob("*"):
        link.unlink()
    for other in kernels:
        if other is kernel:
            add_kernels(wrong, [kernel.image.cubin], stand_in.kernels)
            packing = device_packing(kernel)
            entry = loaded_from(bundle).kernel(SPEC).entry["targets"]["sm_90"]["pack"]
            add_kernels(packing, [(bundle / entry["cubin"]).read_bytes()], stand_in.kernels)
    code, said = run([build(bundle, "selftest"), bundle])
    assert code == 1
    assert f"FAIL {loaded_from(bundle).kernel(SPEC).symbol}: output" in said
    row = loaded_from(bundle).test(loaded_from(bundle).kernel(SPEC))
    assert not row.ok


def test_arguments_are_checked_in_c(bundle: Path, stand_in: StandIn) -> None:
    symbol = loaded_from(bundle).kernel(SPEC).symbol
    text = f"""
#include <stdio.h>
#include "layers.h"
int main(void) {{
  void *a;
  int32_t code = {symbol}_run(NULL, NULL, NULL, NULL, NULL, NULL, NULL);
  printf("%d %s\\n", code, layers_error(code));
  code = layers_allocate(&a, 4096);
  code = {symbol}_run(a, a, (char *)a + 4, NULL, NULL, a, NULL);
  printf("%d %s\\n", code, layers_error(code));
  code = {symbol}_run(a, a, a, NULL, NULL, a, NULL);
  printf("%d %s\\n", code, layers_error(code));
  return 0;
}}"""
    (bundle / "check.c").write_text(text)
    code, said = run([build(bundle, "check")])
    lines = said.splitlines()
    assert (code, lines[0]) == (0, "-101 an argument does not fit (x: is NULL)")
    assert lines[1].startswith("-203 an argument does not fit (residual: is no multiple of 16")
    assert lines[2] == "-603 a file is missing, truncated or altered (layers_open: call it first)"


def test_a_gpu_of_another_target_is_refused(bundle: Path, stand_in: StandIn) -> None:
    stand_in.gpus("9.0,8.0")
    loaded = loaded_from(bundle)
    assert [loaded.pick(driver().device(i)) for i in (0, 1)] == [
        ("sm_90", "cubin"),
        ("sm_80", "cubin"),
    ]
    kernel = loaded.kernel(SPEC)
    with pytest.raises(DeviceError, match="one that runs the code for sm_90, as the first GPU"):
        kernel._program(driver().device(1), "run")


@pytest.mark.usefixtures("cuda_compiler")
def test_code_of_one_very_gpu_has_no_ptx(stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.gpus("10.0")
    spec = tc.ConvSpec.parse("conv2d_n8c64s28x28_o64k3x3_p1_f16_nhwc")
    kernel = tc.compile(spec, "sm_90", algorithm="cuda.warpgroup_gemm")
    assert kernel.image.arch == "sm_90a"
    folder = tmp_path / "layers"
    tc.export([kernel], folder)
    loaded = loaded_from(folder)
    device = driver().device(0)
    with pytest.raises(DeviceError, match="there is no PTX of this kernel"):
        loaded.kernel(str(spec))._program(device, "run")
    packing = loaded.kernel(str(spec)).entry["targets"]["sm_90"]["pack"]
    add_kernels(device_packing(kernel), [(folder / packing["ptx"]).read_bytes()], stand_in.kernels)
    code, said = run([build(folder, "selftest"), folder])
    assert code == 1
    assert "no code for this GPU" in said
    assert "it has no PTX" in said
