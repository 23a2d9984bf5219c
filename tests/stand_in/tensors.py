"""torch tensors on the stand-in's GPU: what torch tells of them is true, but for the arithmetic.

A build of torch for CPUs has no CUDA tensors. These are wrapper subclasses, as torch's own fake
tensors are: device, dtype, shape and strides are torch's, the memory is the stand-in's.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tvmconv.cuda.driver import Buffer, driver
from tvmconv.elements import numpy_dtype

STREAM = 0x77


class GpuTensor(torch.Tensor):
    """A tensor of a device of the stand-in."""

    memory: Buffer
    skip_bytes: int

    @staticmethod
    def __new__(
        cls, shape: tuple[int, ...], dtype: torch.dtype, device: int, skip_bytes: int = 0
    ) -> GpuTensor:
        """Allocate it; its values are NaN."""
        made: GpuTensor = torch.Tensor._make_wrapper_subclass(
            cls, shape, dtype=dtype, device=torch.device("cuda", device)
        )
        size = made.numel() * made.element_size()
        made.memory = driver().device(device).allocate(size + skip_bytes)
        made.skip_bytes = skip_bytes
        return made

    def data_ptr(self) -> int:
        """Where the stand-in has it."""
        return self.memory.address + self.skip_bytes

    @property
    def content(self) -> NDArray[Any]:
        """Its values, in place."""
        kind = numpy_dtype(str(self.dtype).removeprefix("torch."))
        size = self.numel() * kind.itemsize
        room = (ctypes.c_char * size).from_address(self.data_ptr())
        return np.frombuffer(memoryview(room), kind).reshape(tuple(self.shape))

    def detach(self) -> GpuTensor:
        """Nothing here has a gradient."""
        return self

    def contiguous(self, *args: Any, **kwargs: Any) -> GpuTensor:
        """Always dense."""
        return self

    def clone(self, *args: Any, **kwargs: Any) -> GpuTensor:
        """A copy at the start of an allocation."""
        copy = GpuTensor(tuple(self.shape), self.dtype, int(self.device.index))
        copy.content[...] = self.content
        return copy

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise NotImplementedError(f"{func} of the stand-in's tensors")


def gpu_tensor(
    values: NDArray[Any], monkeypatch: pytest.MonkeyPatch, device: int = 0, skip_bytes: int = 0
) -> GpuTensor:
    """A tensor with these values; torch allocates there from now on."""
    plain_empty = torch.empty

    def empty(shape: Any, *, dtype: torch.dtype, device: Any) -> torch.Tensor:
        where = torch.device(device)
        if where.type != "cuda":
            return plain_empty(shape, dtype=dtype, device=where)
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        return GpuTensor(sizes, dtype, int(where.index))

    monkeypatch.setattr(torch, "empty", empty)
    current = SimpleNamespace(cuda_stream=STREAM)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: current)
    kind = getattr(torch, str(values.dtype))
    made = GpuTensor(values.shape, kind, device, skip_bytes)
    made.content[...] = values
    return made
