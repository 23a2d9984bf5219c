"""One convolution on a GPU: a compiled kernel and torch, timed in turn by the GPU's clock.

All run in this process, where tensors stay on the GPU. Both are timed as graphs of calls, so that
the time of a launch, which is Python's and not the kernel's, is no part of what is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from tvmconv import fills
from tvmconv.bench.contest import Array, Expected, our_row, peer_row
from tvmconv.bench.peers import FAMILIES, Prepared, names_for
from tvmconv.bench.plain import Plain
from tvmconv.bench.rows import OURS, Row
from tvmconv.bench.timing import ContestantLost, Slice, interleave
from tvmconv.bench.torch_cuda_peers import TorchSampler, launcher, read
from tvmconv.cuda.calls import Weights
from tvmconv.cuda.driver import driver
from tvmconv.cuda.timing import Launch, Stopwatch
from tvmconv.elements import numpy_dtype
from tvmconv.errors import DeviceError, UnsupportedSpec
from tvmconv.operands import Operands

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel


def compare_on_gpu(
    kernel: Kernel, peers: Sequence[str], *, seconds: float, seed: int = 0
) -> list[Row]:
    """Time one kernel beside torch on the first GPU; the first row is the kernel's.

    Args:
        kernel: compiled for a GPU that is here.
        peers: as `tvmconv.bench.bench` takes them; "torch" means torch on the GPU.
        seconds: measuring time per contestant.
        seed: of the inputs and of the order of turns.

    Raises:
        DeviceError: there is no GPU, or not enough memory for the kernel.
    """
    spec = kernel.spec
    operands = fills.normal(spec, seed)
    plain = Plain.of(spec, operands)
    on_gpu = ["torch_cuda" if name == "torch" else name for name in peers]
    prepared, slices = [], dict[str, Slice]()
    with ExitStack() as stack:
        launch, result = on_first_gpu(kernel, operands)
        stopwatch = stack.enter_context(Stopwatch(driver().device(0)))
        recorded = stack.enter_context(stopwatch.prepare(launch))
        slices[OURS] = _slice(recorded.sample)
        for name in names_for(on_gpu, spec, FAMILIES):
            peer = _prepared(name, plain)
            prepared.append(peer)
            if peer.slice is not None:
                slices[name] = peer.slice
        timings = interleave(slices, seconds, seed=seed)
        answer = result()
    expected = Expected.of(kernel, operands)
    rows = [our_row(kernel, answer, expected, timings.timed[OURS])]
    for peer in prepared:
        if peer.name in timings.lost:
            peer = Prepared(peer.name, status="failed", problem=timings.lost[peer.name])
        rows.append(peer_row(kernel, peer, expected, timings.timed.get(peer.name)))
    return rows


def on_first_gpu(kernel: Kernel, operands: Operands) -> tuple[Launch, Callable[[], Array]]:
    """What starts a kernel on tensors that stay on the first GPU, and what fetches the result.

    Raises:
        DeviceError: there is no GPU, or not enough memory.
    """
    device, spec = driver().device(0), kernel.spec
    program = kernel.gpu_run.program(device)
    keywords = operands.keywords()
    extras = {n: keywords.pop(n) for n in ("residual", "offset", "mask") if n in keywords}
    weights = Weights(kernel.pack(operands.weight, keywords.pop("bias", None), **keywords))
    arrays = {n: np.ascontiguousarray(a) for n, a in ({"x": operands.x} | extras).items()}
    buffers = {n: device.upload(a.ctypes.data, a.nbytes) for n, a in arrays.items()}
    dtype = numpy_dtype(spec.dtype)
    y = buffers["y"] = device.allocate(prod(spec.out_shape) * dtype.itemsize)
    workspace = device.allocate(program.workspace_bytes)
    addresses = {name: buffer.address for name, buffer in buffers.items()}
    addresses["packed"] = weights.address(device)

    def launch(stream: int) -> None:
        # What is captured here keeps the buffers: addresses alone would not.
        assert buffers
        program.launch(addresses, workspace.address, stream)

    def result() -> Array:
        assert weights is not None
        values = np.empty(spec.out_shape, dtype)
        device.download(y, values.ctypes.data)
        return values.astype(np.float32)

    return launch, result


def _slice(sample: Callable[[], float]) -> Slice:
    def run() -> tuple[list[float], bool]:
        try:
            return [sample()], False
        except DeviceError as error:
            raise ContestantLost(str(error)) from error

    return run


def _prepared(name: str, plain: Plain) -> Prepared:
    if not name.startswith("torch_cuda"):
        return Prepared(name, status="unsupported", problem="it runs on processors alone here")
    try:
        call = launcher(name, plain)
        sampler = TorchSampler(call)
        return Prepared(name, answer=read(call()), slice=_slice(sampler.sample))
    except UnsupportedSpec as error:
        return Prepared(name, status="unsupported", problem=str(error))
    except ImportError:
        return Prepared(name, status="not installed", problem="torch is not installed")
    except DeviceError as error:
        return Prepared(name, status="failed", problem=str(error))
