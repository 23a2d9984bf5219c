"""Calls of a convolution on a GPU: torch tensors where they are, numpy arrays by way of copies.

x decides. A torch tensor on a GPU stays there: every other tensor has to be on the same GPU, the
work goes to torch's current stream of it, and the result is a new torch tensor. A numpy array is
copied to the first GPU and the result is copied back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.cuda.driver import Buffer, Device, driver
from tvmconv.cuda.program import ALIGNMENT, Program
from tvmconv.elements import numpy_dtype
from tvmconv.errors import ArgumentError, DeviceError

OPTIONAL = ("residual", "offset", "mask")


@dataclass(frozen=True)
class Tensors:
    """What a kernel takes and gives.

    Attributes:
        dtype: of all tensors, "float32", "float16" or "bfloat16".
        shapes: of each tensor by name, in memory order; of "packed" too.
        inputs: which tensors beside x and packed a call takes.
    """

    dtype: str
    shapes: Mapping[str, tuple[int, ...]]
    inputs: frozenset[str]

    def check_given(self, given: Mapping[str, Any]) -> None:
        """Refuse tensors that are missing or not asked for."""
        for name in OPTIONAL:
            value, wanted = given.get(name), name in self.inputs
            if (value is not None) != wanted:
                shape = self.shapes.get(name)
                allowed = f"a tensor of shape {shape}" if wanted else "nothing: not in the spec"
                raise ArgumentError(name, None if value is None else "a tensor", allowed)


class Weights:
    """Packed weights, brought to each GPU that uses them once.

    Attributes:
        array: 1-D, in this process's memory.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        """Take the packed weights; nothing is copied yet."""
        self.array = np.ascontiguousarray(array)
        self._copies: dict[int, Buffer] = {}

    def address(self, device: Device) -> int:
        """Where they are on a GPU."""
        if device.index not in self._copies:
            at, size = self.array.ctypes.data, self.array.nbytes
            self._copies[device.index] = device.upload(at, size)
        return self._copies[device.index].address


class GpuRun:
    """A convolution's run function on any GPU of this machine."""

    def __init__(self, tensors: Tensors, load: Callable[[Device], Program]) -> None:
        """Take what loads the code on a GPU; it is called once for each that is used."""
        self.tensors = tensors
        self._load, self._programs = load, dict[int, Program]()

    def program(self, device: Device) -> Program:
        """The code on a GPU, loaded at first use."""
        if device.index not in self._programs:
            self._programs[device.index] = self._load(device)
        return self._programs[device.index]

    def __call__(self, x: Any, weights: Weights, out: Any = None, **extras: Any) -> Any:
        """Compute y from x, and residual, offset and mask where the kernel has them.

        Raises:
            ArgumentError: a tensor that is missing, not asked for, of the wrong kind, shape or
                dtype, or on another GPU than x.
            DeviceError: no GPU, one that runs no code of this kernel, or not enough memory.
        """
        given = {"x": x} | {name: extras.get(name) for name in OPTIONAL}
        self.tensors.check_given(given)
        given = {name: value for name, value in given.items() if value is not None}
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(x, torch.Tensor):
            return self._on_torch(given, weights, out)
        return self._on_numpy(given, weights, out)

    def _on_torch(self, given: Mapping[str, Any], weights: Weights, out: Any) -> Any:
        torch: Any = sys.modules["torch"]
        where = given["x"].device
        if where.type != "cuda":
            allowed = "a tensor on a GPU (x.cuda()), or a numpy array, which is copied to and fro"
            raise ArgumentError("x.device", str(where), allowed)
        dtype = getattr(torch, self.tensors.dtype)
        kept = {name: self._dense(name, value, where, dtype) for name, value in given.items()}
        y = out
        if out is not None:
            self._check_torch("out", out, where, dtype, self.tensors.shapes["y"])
            if not out.is_contiguous() or out.data_ptr() % ALIGNMENT:
                allowed = f"a dense tensor at a multiple of {ALIGNMENT} bytes"
                raise ArgumentError("out", "a strided or misaligned tensor", allowed)
        program = self.program(driver().device(where.index))
        try:
            if out is None:
                y = torch.empty(self.tensors.shapes["y"], dtype=dtype, device=where)
            # torch's allocator gives memory again only to what comes later in the same stream.
            size = program.workspace_bytes
            workspace = torch.empty(size, dtype=torch.uint8, device=where) if size else None
        except torch.OutOfMemoryError as error:
            raise DeviceError(f"GPU memory on {program.device}: {error}") from error
        addresses = {name: int(value.data_ptr()) for name, value in kept.items()}
        addresses |= {"packed": weights.address(program.device), "y": int(y.data_ptr())}
        stream = torch.cuda.current_stream(where).cuda_stream
        at = 0 if workspace is None else int(workspace.data_ptr())
        program.launch(addresses, at, int(stream))
        return y

    def _check_torch(
        self, name: str, value: Any, where: Any, dtype: Any, shape: tuple[int, ...]
    ) -> None:
        torch: Any = sys.modules["torch"]
        if not isinstance(value, torch.Tensor):
            raise ArgumentError(name, type(value).__name__, "a torch tensor, as x is")
        if value.device != where:
            raise ArgumentError(f"{name}.device", str(value.device), f"{where}, where x is")
        if value.layout != torch.strided:
            raise ArgumentError(f"{name}.layout", str(value.layout), "torch.strided")
        if value.dtype != dtype:
            raise ArgumentError(f"{name}.dtype", str(value.dtype), str(dtype))
        if tuple(value.shape) != shape:
            raise ArgumentError(f"{name}.shape", tuple(value.shape), str(shape))

    def _dense(self, name: str, value: Any, where: Any, dtype: Any) -> Any:
        """The tensor as kernels read it: itself, or a copy where it is strided or misaligned."""
        self._check_torch(name, value, where, dtype, self.tensors.shapes[name])
        plain = value.detach()
        if plain.is_conj() or plain.is_neg():
            plain = plain.resolve_conj().resolve_neg()
        plain = plain.contiguous()
        return plain.clone() if plain.data_ptr() % ALIGNMENT else plain

    def _on_numpy(self, given: Mapping[str, Any], weights: Weights, out: Any) -> Any:
        arrays = {name: self._array(name, value) for name, value in given.items()}
        shape, dtype = self.tensors.shapes["y"], numpy_dtype(self.tensors.dtype)
        y = np.empty(shape, dtype) if out is None else out
        if out is not None:
            self._array("out", out, shape)
            if not out.flags.writeable or not out.flags.c_contiguous:
                raise ArgumentError("out", "a strided or read-only array", "a dense, writeable one")
        program = self.program(driver().device(0))
        device = program.device
        buffers = {n: device.upload(a.ctypes.data, a.nbytes) for n, a in arrays.items()}
        buffers["y"] = device.allocate(prod(shape) * dtype.itemsize)
        addresses = {name: buffer.address for name, buffer in buffers.items()}
        addresses["packed"] = weights.address(device)
        size = program.workspace_bytes
        workspace = device.allocate(size) if size else None
        program.launch(addresses, workspace.address if workspace else 0, 0)
        device.download(buffers["y"], y.ctypes.data)
        return y

    def _array(self, name: str, value: Any, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
        wanted = self.tensors.shapes[name] if shape is None else shape
        if not isinstance(value, np.ndarray):
            allowed = "a numpy array" + (" or a torch tensor" if name == "x" else ", as x is")
            raise ArgumentError(name, type(value).__name__, allowed)
        if value.dtype != numpy_dtype(self.tensors.dtype):
            raise ArgumentError(f"{name}.dtype", str(value.dtype), self.tensors.dtype)
        if value.shape != wanted:
            raise ArgumentError(f"{name}.shape", value.shape, str(wanted))
        return np.ascontiguousarray(value)
