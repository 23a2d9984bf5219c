"""Launching through the driver, on a stand-in for it: numpy arrays, torch tensors, and failures."""

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.stand_in.kernels import StandIn, add_kernels
from tests.stand_in.tensors import gpu_tensor
from tvmconv.cuda import driver as drivers
from tvmconv.cuda.arch import pick_code
from tvmconv.cuda.calls import GpuRun, Tensors, Weights
from tvmconv.cuda.code import DeviceCode, Launch
from tvmconv.cuda.driver import Device, driver
from tvmconv.cuda.program import Program
from tvmconv.errors import ArgumentError, DeviceError

# Two launches with a buffer between them: y = 2 x + packed + residual.
SOURCE = """
extern "C" __global__ void __launch_bounds__(32) twice(float *doubled, const float *x) {
  const int at = blockIdx.x * 32 + threadIdx.x;
  if (at < 100) doubled[at] = 2 * x[at];
}
extern "C" __global__ void __launch_bounds__(32) add(const float *doubled, float *y,
                                                     const float *packed, const float *residual) {
  const int at = blockIdx.x * 32 + threadIdx.x;
  if (at < 100) y[at] = doubled[at] + packed[at % 10] + residual[at];
}
"""
CODE = DeviceCode(
    SOURCE,
    (
        Launch("twice", (4, 1, 1), (32, 1, 1), 0, ("doubled", "x")),
        Launch("add", (4, 1, 1), (32, 1, 1), 64 << 10, ("doubled", "y", "packed", "residual")),
    ),
    (("unused", 4), ("doubled", 400)),
)
# The stand-in wants to know no more of PTX than this.
IMAGE = b".version 9.0\n.target sm_90\n"
TENSORS = Tensors("float32", {"x": (10, 10), "residual": (10, 10), "packed": (10,), "y": (10, 10)},
                  frozenset({"residual"}))  # fmt: skip
X = np.arange(100, dtype=np.float32).reshape(10, 10)
RESIDUAL = X[::-1].copy()
PACKED = np.arange(10, dtype=np.float32) * 1000
EXPECTED = 2 * X + PACKED + RESIDUAL


def _load(device: Device) -> Program:
    return Program(device, CODE, IMAGE, "sum")


@pytest.fixture
def run(stand_in: StandIn) -> GpuRun:
    add_kernels(CODE, [IMAGE], stand_in.kernels)
    return GpuRun(TENSORS, _load)


def test_numpy_is_copied_to_and_fro(run: GpuRun, stand_in: StandIn) -> None:
    y = run(X, Weights(PACKED), residual=RESIDUAL)
    np.testing.assert_array_equal(y, EXPECTED)
    launches = [line.split(" ")[1:] for line in stand_in.calls("cuLaunchKernel")]
    assert [one[0] for one in launches] == ["twice", "add"]
    assert "grid 4,1,1 block 32,1,1 shared 65536 stream (nil)" in " ".join(launches[1])
    assert stand_in.calls("cuFuncSetAttribute") == ["cuFuncSetAttribute add shared 65536"]


def test_memory_is_freed_and_weights_are_kept(run: GpuRun, stand_in: StandIn) -> None:
    weights = Weights(PACKED)
    for _ in range(3):
        run(X, weights, residual=RESIDUAL)
    gc.collect()
    allocated = [line.split(" ")[1] for line in stand_in.calls("cuMemAlloc_v2")]
    assert allocated.count("40") == 1  # the packed weights
    assert len(allocated) == 1 + 3 * 4  # x, residual, y, workspace
    assert len(stand_in.calls("cuMemFree_v2")) == 3 * 4
    del weights
    gc.collect()
    assert len(stand_in.calls("cuMemFree_v2")) == 1 + 3 * 4


def test_any_strides_of_numpy(run: GpuRun) -> None:
    y = run(np.asfortranarray(X), Weights(PACKED[::-1][::-1]), residual=X[::-1])
    np.testing.assert_array_equal(y, EXPECTED)


def test_out_takes_the_result(run: GpuRun) -> None:
    out = np.empty((10, 10), np.float32)
    assert run(X, Weights(PACKED), out, residual=RESIDUAL) is out
    np.testing.assert_array_equal(out, EXPECTED)
    with pytest.raises(ArgumentError, match="out"):
        run(X, Weights(PACKED), np.empty((10, 20), np.float32)[:, ::2], residual=RESIDUAL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a | {"x": X[:5]}, r"x\.shape: got \(5, 10\); allowed: \(10, 10\)"),
        (lambda a: a | {"x": X.astype(np.float64)}, r"x\.dtype: got 'float64'; allowed: float32"),
        (lambda a: a | {"x": [1.0]}, "x: got 'list'; allowed: a numpy array"),
        (lambda a: a | {"residual": None}, "residual: got None; allowed: a tensor of shape"),
        (lambda a: a | {"mask": X}, "mask: got 'a tensor'; allowed: nothing"),
        (lambda a: a | {"residual": "no"}, "residual: got 'str'; allowed: a numpy array"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    run: GpuRun, change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    given = change({"x": X, "residual": RESIDUAL})
    with pytest.raises(ArgumentError, match=message):
        run(given.pop("x"), Weights(PACKED), **given)


def test_torch_tensors_stay_where_they_are(
    run: GpuRun, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, residual = gpu_tensor(X, monkeypatch), gpu_tensor(RESIDUAL, monkeypatch)
    uploaded = len(stand_in.calls("cuMemcpyHtoD_v2"))
    weights = Weights(PACKED)
    y = run(x, weights, residual=residual)
    assert y.device == x.device
    np.testing.assert_array_equal(y.content, EXPECTED)
    # On torch's stream, and nothing was copied but the weights.
    assert all("stream 0x77" in line for line in stand_in.calls("cuLaunchKernel"))
    assert len(stand_in.calls("cuMemcpyHtoD_v2")) == uploaded + 1
    assert not stand_in.calls("cuMemcpyDtoH_v2")
    out = gpu_tensor(np.zeros((10, 10), np.float32), monkeypatch)
    assert run(x, weights, out, residual=residual) is out
    np.testing.assert_array_equal(out.content, EXPECTED)


def test_misaligned_torch_tensors_are_copied(run: GpuRun, monkeypatch: pytest.MonkeyPatch) -> None:
    x = gpu_tensor(X, monkeypatch, skip_bytes=4)
    y = run(x, Weights(PACKED), residual=gpu_tensor(RESIDUAL, monkeypatch))
    np.testing.assert_array_equal(y.content, EXPECTED)
    out = gpu_tensor(X, monkeypatch, skip_bytes=4)
    with pytest.raises(ArgumentError, match="multiple of 16 bytes"):
        run(x, Weights(PACKED), out, residual=gpu_tensor(RESIDUAL, monkeypatch))


def test_devices_must_not_be_mixed(
    run: GpuRun, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    stand_in.gpus("9.0,9.0")
    x = gpu_tensor(X, monkeypatch)
    for other in (torch.from_numpy(RESIDUAL), gpu_tensor(RESIDUAL, monkeypatch, device=1)):
        with pytest.raises(ArgumentError, match=r"residual\.device.*allowed: cuda:0, where x is"):
            run(x, Weights(PACKED), residual=other)
    with pytest.raises(ArgumentError, match="residual: got 'ndarray'; allowed: a torch tensor"):
        run(x, Weights(PACKED), residual=RESIDUAL)
    with pytest.raises(ArgumentError, match=r"x\.device: got 'cpu'"):
        run(torch.from_numpy(X), Weights(PACKED), residual=torch.from_numpy(RESIDUAL))
    wrong = gpu_tensor(X, monkeypatch, device=1)
    with pytest.raises(ArgumentError, match=r"out\.device: got 'cuda:1'; allowed: cuda:0"):
        run(x, Weights(PACKED), wrong, residual=gpu_tensor(RESIDUAL, monkeypatch))


def test_a_second_gpu_has_weights_and_code_of_its_own(
    run: GpuRun, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.gpus("9.0,9.0")
    weights = Weights(PACKED)
    for device in (0, 1, 0, 1):
        x = gpu_tensor(X, monkeypatch, device=device)
        y = run(x, weights, residual=gpu_tensor(RESIDUAL, monkeypatch, device=device))
        np.testing.assert_array_equal(y.content, EXPECTED)
    assert len(stand_in.calls("cuModuleLoadData")) == 2
    used = [line[-1] for line in stand_in.calls("cuLaunchKernel")]
    assert used == [*"00110011"]


def test_no_gpu(run: GpuRun, stand_in: StandIn) -> None:
    stand_in.gpus("")
    with pytest.raises(DeviceError, match="cuInit failed: CUDA_ERROR_NO_DEVICE"):
        run(X, Weights(PACKED), residual=RESIDUAL)


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(DeviceError, match=r"CUDA driver: got .none.*a machine with an NVIDIA GPU"):
        driver()


def test_a_gpu_of_another_kind(run: GpuRun, stand_in: StandIn) -> None:
    stand_in.gpus("8.6")
    with pytest.raises(DeviceError, match=r"sum is no code for cuda:0 \(Stand-in 0, sm_86\)"):
        run(X, Weights(PACKED), residual=RESIDUAL)


def test_out_of_memory_says_how_much_is_free(run: GpuRun, stand_in: StandIn) -> None:
    stand_in.monkeypatch.setenv("STAND_IN_MEMORY", "1000")
    with pytest.raises(DeviceError, match=r"GPU memory: got 400; allowed: at most 200 free bytes"):
        run(X, Weights(PACKED), residual=RESIDUAL)
    gc.collect()
    stand_in.monkeypatch.setenv("STAND_IN_MEMORY", "2100")
    y = run(X, Weights(PACKED), residual=RESIDUAL)  # what was taken before has been given back
    np.testing.assert_array_equal(y, EXPECTED)


def test_failed_launches_name_kernel_and_error(run: GpuRun, stand_in: StandIn) -> None:
    stand_in.fail("cuLaunchKernel=701@2")
    message = r"launch of add on cuda:0 .* failed \(grid \(4, .*: CUDA_ERROR_LAUNCH_OUT_OF"
    with pytest.raises(DeviceError, match=message):
        run(X, Weights(PACKED), residual=RESIDUAL)


def test_kernels_that_fail_are_heard_of(run: GpuRun, stand_in: StandIn) -> None:
    stand_in.fail("cuMemcpyDtoH_v2=719")
    with pytest.raises(DeviceError, match="CUDA_ERROR_LAUNCH_FAILED"):
        run(X, Weights(PACKED), residual=RESIDUAL)


def test_too_much_shared_memory_is_refused(stand_in: StandIn) -> None:
    add_kernels(CODE, [IMAGE], stand_in.kernels)
    launch = Launch("twice", (1, 1, 1), (32, 1, 1), 300 << 10, ("doubled", "x"))
    code = DeviceCode(SOURCE, (launch,))
    with pytest.raises(DeviceError, match="dynamic shared memory of twice: got 307200; allowed"):
        Program(driver().device(0), code, IMAGE, "sum")


def test_the_context_is_put_back(run: GpuRun, stand_in: StandIn) -> None:
    import ctypes

    run(X, Weights(PACKED), residual=RESIDUAL)
    current = ctypes.c_void_p()
    driver().call("cuCtxGetCurrent", ctypes.byref(current))
    assert current.value is None


def test_properties_of_a_gpu(stand_in: StandIn) -> None:
    stand_in.gpus("8.9")
    device = driver().device(0)
    assert (device.capability, device.sms, device.index) == ((8, 9), 4, 0)
    assert str(device) == "cuda:0 (Stand-in 0, sm_89)"
    assert driver().version == "13.0"
    with pytest.raises(DeviceError, match="GPU: got 1; allowed: 0 to 0"):
        driver().device(1)


@pytest.mark.parametrize(
    ("archs", "capability", "expected"),
    [
        (("sm_80", "sm_90"), (9, 0), ("sm_90", "cubin")),
        (("sm_80", "sm_90"), (8, 6), ("sm_80", "cubin")),
        (("sm_80", "sm_86", "sm_89"), (8, 7), ("sm_86", "cubin")),
        (("sm_80", "sm_90"), (10, 0), ("sm_90", "ptx")),
        (("sm_80", "sm_120"), (10, 0), ("sm_80", "ptx")),
        (("sm_90",), (8, 9), None),
        (("sm_90a",), (9, 0), ("sm_90a", "cubin")),
        (("sm_90", "sm_90a"), (9, 0), ("sm_90a", "cubin")),
        (("sm_90a",), (10, 0), None),
        (("sm_90a", "sm_80"), (10, 0), ("sm_80", "ptx")),
        (("sm_100",), (10, 3), ("sm_100", "cubin")),
        ((), (9, 0), None),
    ],
)
def test_which_code_a_gpu_runs(
    archs: tuple[str, ...], capability: tuple[int, int], expected: tuple[str, str] | None
) -> None:
    assert pick_code(archs, capability) == expected
