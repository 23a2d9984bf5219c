"""torch on a GPU as a peer: cuDNN in each way a careful user would run one convolution with it.

All run under `inference_mode` with cuDNN's benchmark mode, which times its algorithms at the first
call, on tensors that are on the GPU in the memory order that the name says.

| name                          | how                                                   |
|-------------------------------|-------------------------------------------------------|
| torch_cuda_nchw               | contiguous tensors; float32 without TF32              |
| torch_cuda_channels_last      | channels_last (channels_last_3d); ranks 2 and 3       |
| torch_cuda_nchw_tf32          | float32 specs: TF32 allowed (products of 10 bits)     |
| torch_cuda_channels_last_tf32 | both                                                  |
| torch_cuda_grid_sample        | deformable: grid_sample for every tap, then a product |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tvmconv.bench.peers import Ready
from tvmconv.bench.plain import Array, Plain
from tvmconv.cuda.timing import MAX_CALLS, SAMPLE_SECONDS
from tvmconv.errors import DeviceError, UnsupportedSpec
from tvmconv.spec import ConvSpec

if TYPE_CHECKING:
    import torch

NAMES = (
    "torch_cuda_nchw",
    "torch_cuda_channels_last",
    "torch_cuda_nchw_tf32",
    "torch_cuda_channels_last_tf32",
    "torch_cuda_grid_sample",
)
TF32 = "_tf32"
# Before a graph is captured torch wants the work to have run on another stream.
WARM_UP = 3


def names_for(spec: ConvSpec) -> tuple[str, ...]:
    """The peers that make sense for a spec; those with TF32 last."""
    if spec.op == "deform_conv":
        return ("torch_cuda_grid_sample",)
    plain = ("torch_cuda_nchw",) + ("torch_cuda_channels_last",) * (spec.rank > 1)
    return plain + tuple(f"{name}{TF32}" for name in plain if spec.dtype == "float32")


def prepare(name: str, plain: Plain, threads: int) -> Ready:
    """Bring one peer's layer and its data to the GPU; a call waits for its result.

    See tvmconv.bench.peers.

    Raises:
        UnsupportedSpec: this torch has no GPU.
        DeviceError: not enough memory.
    """
    del threads
    launch = launcher(name, plain)

    def call() -> torch.Tensor:
        import torch

        result = launch()
        torch.cuda.synchronize()
        return result

    return Ready(call, read)


def launcher(name: str, plain: Plain) -> Callable[[], torch.Tensor]:
    """What starts one peer's work on torch's current stream, and does not wait for it.

    Raises:
        UnsupportedSpec: this torch has no GPU.
        DeviceError: not enough memory.
    """
    import torch

    from tvmconv.bench import torch_layers

    if not torch.cuda.is_available():
        raise UnsupportedSpec(
            "torch sees no GPU; a build of torch for CUDA and a driver are needed"
        )
    tf32, dtype = name.endswith(TF32), getattr(torch, plain.spec.dtype)
    order = torch.contiguous_format
    if "channels_last" in name:
        order = torch.channels_last if plain.spec.rank == 2 else torch.channels_last_3d
    try:
        layer = torch_layers.module(plain).to("cuda", dtype)
        layer = layer.to(memory_format=order)  # type: ignore[call-overload]
        inputs = [_on_gpu(value, dtype, order) for value in torch_layers.inputs(plain)]
    except torch.OutOfMemoryError as error:
        raise DeviceError(f"GPU memory: {error}") from error

    def call() -> torch.Tensor:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        flags = torch.backends.cudnn.flags(
            enabled=True, benchmark=True, deterministic=False, allow_tf32=tf32
        )
        with torch.inference_mode(), flags:
            result: torch.Tensor = layer(*inputs)
            return result

    return call


def _on_gpu(value: torch.Tensor, dtype: torch.dtype, order: torch.memory_format) -> torch.Tensor:
    moved = value.to("cuda", dtype)
    return moved.contiguous(memory_format=order)


def read(result: torch.Tensor) -> Array:
    """The answer as float32 in this process's memory."""
    values: Array = result.float().contiguous().cpu().numpy()
    return values


class TorchSampler:
    """Times a torch call by the GPU's clock, as cuda/timing.py times a kernel: a graph of calls.

    Attributes:
        calls: how many a sample has.
        graphed: whether they are in a graph; torch refuses to capture some.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        """Warm up, choose the number of calls, and capture them.

        Raises:
            DeviceError: the call failed.
        """
        import torch

        self._torch: Any = torch
        try:
            stream = self._torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    call()
            torch.cuda.current_stream().wait_stream(stream)
            torch.cuda.synchronize()
            once = min(self._time(call, 1) for _ in range(WARM_UP))
            self.calls = max(1, min(MAX_CALLS, round(SAMPLE_SECONDS / max(once, 1e-7))))
            self._replay, self.graphed = self._captured(call)
        except RuntimeError as error:
            raise DeviceError(f"torch: {str(error).splitlines()[0]}") from error

    def sample(self) -> float:
        """Seconds of one call.

        Raises:
            DeviceError: the call failed.
        """
        try:
            return self._time(self._replay, 1) / self.calls
        except RuntimeError as error:
            raise DeviceError(f"torch: {str(error).splitlines()[0]}") from error

    def _time(self, work: Callable[[], Any], times: int) -> float:
        cuda = self._torch.cuda
        start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        start.record()
        for _ in range(times):
            work()
        end.record()
        end.synchronize()
        return max(float(start.elapsed_time(end)) / 1e3, 1e-9)

    def _captured(self, call: Callable[[], Any]) -> tuple[Callable[[], Any], bool]:
        def repeated() -> None:
            for _ in range(self.calls):
                call()

        graph = self._torch.cuda.CUDAGraph()
        try:
            with self._torch.cuda.graph(graph):
                repeated()
        except RuntimeError:
            self._torch.cuda.synchronize()
            return repeated, False
        graph.replay()
        self._torch.cuda.synchronize()
        return graph.replay, True
