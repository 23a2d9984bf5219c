"""Kernels of CUDA targets as a user calls them, on the stand-in for a GPU."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tvmconv as tc
from tests.stand_in.kernels import StandIn, add_kernels
from tests.stand_in.tensors import gpu_tensor
from tvmconv.elements import SHORT_FLOATS, numpy_dtype
from tvmconv.errors import DeviceError, TargetError
from tvmconv.kernel import Kernel
from tvmconv.target import load

pytestmark = pytest.mark.usefixtures("cuda_compiler")

SPEC = tc.conv2d((1, 3, 7, 9), 5, 3, padding=1, bias=True, residual=True, activation="relu")


def _kernel(stand_in: StandIn, spec: tc.ConvSpec = SPEC, target: str = "cuda") -> Kernel:
    kernel = tc.compile(spec, target)
    assert kernel.built.device is not None
    if kernel.built.device.launches:
        images = [kernel.image.cubin, kernel.image.ptx.encode()]
        add_kernels(kernel.built.device, images, stand_in.kernels)
    return kernel


def _operands(spec: tc.ConvSpec) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = {"x": spec.x_shape, "weight": spec.weight_shape, "bias": (spec.oc,),
              "residual": spec.out_shape}  # fmt: skip
    return {n: rng.integers(-4, 5, s).astype(numpy_dtype(spec.dtype)) for n, s in shapes.items()}


def _expected(given: dict[str, Any]) -> Any:
    import torch

    t = {name: torch.from_numpy(value.astype(np.float32)) for name, value in given.items()}
    y = torch.conv2d(t["x"], t["weight"], t["bias"], padding=1) + t["residual"]
    return torch.relu(y).numpy().astype(given["x"].dtype)


@pytest.mark.parametrize(
    ("gpu", "target"), [("9.0", "sm_90"), ("8.6", "sm_86"), ("12.0", "sm_100"), ("8.7", "sm_86")]
)
def test_cuda_is_the_gpu_that_is_there(stand_in: StandIn, gpu: str, target: str) -> None:
    stand_in.gpus(gpu)
    assert load("cuda").id == target
    assert load(target).runs_here


def test_without_a_gpu(stand_in: StandIn) -> None:
    stand_in.gpus("")
    kernel = _kernel(stand_in, target="sm_90")
    assert not load("sm_90").runs_here
    with pytest.raises(TargetError, match="target: got 'cuda'; allowed: a machine with an NVIDIA"):
        tc.compile(SPEC, "cuda")
    given = _operands(SPEC)
    with pytest.raises(DeviceError, match="CUDA_ERROR_NO_DEVICE"):
        kernel(**given)


DTYPES = pytest.mark.parametrize("dtype", ["float32", *SHORT_FLOATS])


@DTYPES
def test_numpy_in_numpy_out(stand_in: StandIn, dtype: str) -> None:
    spec = replace(SPEC, dtype=dtype)
    given = _operands(spec)
    y = _kernel(stand_in, spec)(**given)
    assert y.dtype == numpy_dtype(dtype)
    np.testing.assert_array_equal(y, _expected(given))


@DTYPES
def test_torch_in_torch_out(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    spec = replace(SPEC, dtype=dtype)
    given = _operands(spec)
    kernel = _kernel(stand_in, spec)
    layer = kernel.bind(given["weight"], given["bias"])
    for _ in range(2):
        y = layer(gpu_tensor(given["x"], monkeypatch),
                  residual=gpu_tensor(given["residual"], monkeypatch))  # fmt: skip
        np.testing.assert_array_equal(y.content, _expected(given))
        assert str(y.dtype) == f"torch.{dtype}"
    assert len(stand_in.calls("cuModuleLoadData")) == 1


def test_a_newer_gpu_takes_the_ptx(stand_in: StandIn) -> None:
    stand_in.gpus("12.0")
    kernel = _kernel(stand_in, target="sm_90")
    given = _operands(SPEC)
    np.testing.assert_array_equal(kernel(**given), _expected(given))
    assert stand_in.calls("cuModuleLoadData")[0].startswith("cuModuleLoadData ptx")


def test_an_older_gpu_is_refused(stand_in: StandIn) -> None:
    stand_in.gpus("8.0")
    kernel = _kernel(stand_in, target="sm_90")
    with pytest.raises(DeviceError, match=r"cuda:0 .*sm_80.*a GPU that runs code for sm_90"):
        kernel(**_operands(SPEC))


@pytest.mark.parametrize(
    "text",
    [
        "conv2d_n2c6s5x7_o8k3x3_g2_s2_p1_bias_nhwc",
        "conv1d_n1c4s19_o5k1_s2_scale",
        "convt2d_n1c3s5x6_o7k2x3_s3x1_d2_a2x0",
        "deform2d_n1c4s5x6_o4k3x3_p1_mask",
        "conv3d_n1c3s4x5x6_o4k2x2x2_p1_res",
        "conv2d_n0c3s7x9_o5k3x3",
        "conv2d_n1c6s5x7_o8k3x3_p1_bias_res_bf16",
    ],
)
def test_validate_compares_with_torch(stand_in: StandIn, text: str) -> None:
    report = tc.validate(_kernel(stand_in, tc.ConvSpec.parse(text)))
    assert report.ok, str(report)


def test_validate_finds_a_wrong_kernel(stand_in: StandIn) -> None:
    kernel = tc.compile(SPEC, "cuda")
    code = kernel.built.device
    assert code is not None
    from dataclasses import replace

    wrong = code.source.replace("+ residual_ptr[", "- residual_ptr[")
    assert wrong != code.source
    add_kernels(replace(code, source=wrong), [kernel.image.cubin], stand_in.kernels)
    assert not tc.validate(kernel).ok


@pytest.mark.usefixtures("disassembler")
def test_listings_of_the_machine_code(stand_in: StandIn) -> None:
    kernel = tc.compile(SPEC, "sm_90")
    assert ".target sm_90" in kernel.inspect("ptx")
    assert "FFMA" in kernel.inspect("sass")


def test_importing_tvmconv_opens_no_driver() -> None:
    code = "import tvmconv.kernel, sys; assert 'libcuda' not in open('/proc/self/maps').read()"
    subprocess.run([sys.executable, "-c", code], check=True)
