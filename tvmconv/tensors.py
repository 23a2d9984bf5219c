"""Tensors from outside: numpy arrays and torch tensors of any stride, checked and made plain.

Kernels read dense float32 (or floats of 16 bits) in the memory order of the spec's layout, at any
address that is a multiple of the element.
What is already so is used in place; anything else is copied, and what cannot be meant is refused.
"""

from __future__ import annotations

import ctypes
import sys
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.errors import ArgumentError
from tvmconv.pages import LARGE_ELEMS, lend

FLOAT32 = np.dtype(np.float32)
# Kernel stores are whole vectors; an AVX-512 store that straddles two cache lines costs two.
ALIGNMENT_BYTES = 64

Tensor = Any
Shape = tuple[int, ...]


def _data_field() -> int | None:
    """Offset of the data pointer in numpy's array object, or None where it is not as expected."""
    probe = np.zeros(1, FLOAT32)
    offset = object.__basicsize__
    found = ctypes.c_void_p.from_address(id(probe) + offset).value
    return offset if found == probe.__array_interface__["data"][0] else None


# The C struct of an array starts with its data pointer: reading it takes 0.1 us, the dictionary of
# __array_interface__ 0.5 us, and a call has 3 us for everything. Checked once, on a real array.
_DATA_FIELD = _data_field()
_pointer_at = ctypes.c_void_p.from_address


def address(array: NDArray[Any]) -> int:
    """Address of an array's first element."""
    if _DATA_FIELD is None:
        return int(array.__array_interface__["data"][0])
    return _pointer_at(id(array) + _DATA_FIELD).value or 0


def is_torch(value: Tensor) -> bool:
    """True for a torch tensor; never imports torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def dense(
    name: str, value: Tensor, shape: Shape, dtype: np.dtype[Any] = FLOAT32
) -> tuple[Tensor, int]:
    """A dense tensor of this shape and type and its address; a view when that suffices.

    Raises:
        ArgumentError: wrong kind, dtype, device or shape.
    """
    if (
        type(value) is np.ndarray
        and value.dtype is dtype
        and value.shape == shape
        and value.flags.c_contiguous
    ):
        at = address(value)
        if not at % dtype.itemsize:
            return value, at
    if is_torch(value):
        return _dense_torch(name, value, shape, dtype)
    if not isinstance(value, np.ndarray):
        kind = type(value).__name__
        raise ArgumentError(name, kind, "a numpy array or a torch tensor")
    if value.dtype != dtype or not value.dtype.isnative:
        raise ArgumentError(f"{name}.dtype", str(value.dtype), str(dtype))
    if value.shape != shape:
        raise ArgumentError(f"{name}.shape", value.shape, str(shape))
    plain = value if value.flags.c_contiguous and value.flags.aligned else value.copy(order="C")
    return plain, address(plain)


def _dense_torch(
    name: str, value: Tensor, shape: Shape, dtype: np.dtype[Any]
) -> tuple[Tensor, int]:
    torch = sys.modules["torch"]
    wanted = torch.float32 if dtype is FLOAT32 else getattr(torch, dtype.name)
    if (
        value.is_cpu
        and value.dtype is wanted
        and value.layout is torch.strided
        and value.shape == shape
        and value.is_contiguous()
        and not value.is_neg()
    ):
        at = int(value.data_ptr())
        if not at % dtype.itemsize:
            return value, at
    if value.device.type != "cpu":
        raise ArgumentError(f"{name}.device", str(value.device), "cpu")
    if value.layout != torch.strided:
        raise ArgumentError(f"{name}.layout", str(value.layout), "torch.strided")
    if value.dtype != wanted:
        raise ArgumentError(f"{name}.dtype", str(value.dtype), str(wanted))
    if tuple(value.shape) != shape:
        raise ArgumentError(f"{name}.shape", tuple(value.shape), str(shape))
    plain = value.detach()
    if plain.is_conj() or plain.is_neg():
        plain = plain.resolve_conj().resolve_neg()
    plain = plain.contiguous()
    if plain.data_ptr() % dtype.itemsize:
        plain = plain.clone()
    return plain, int(plain.data_ptr())


def check_out(value: Tensor, shape: Shape, like_torch: bool) -> tuple[Tensor, int]:
    """The address of a caller's output tensor, which must be dense already.

    Raises:
        ArgumentError: as ``dense``, or when a copy would be needed or it cannot be written.
    """
    if is_torch(value) != like_torch:
        kind = "a torch tensor" if like_torch else "a numpy array"
        raise ArgumentError("out", type(value).__name__, f"{kind}, as x is")
    if not like_torch and isinstance(value, np.ndarray) and not value.flags.writeable:
        raise ArgumentError("out", "a read-only array", "one that can be written")
    plain, at = dense("out", value, shape)
    own = value.data_ptr() if like_torch else address(value)
    if at != own:
        raise ArgumentError("out", "a strided tensor", f"a dense one of shape {shape}")
    return plain, at


def empty_numpy(
    shape: Shape, elems: int, dtype: np.dtype[Any] = FLOAT32
) -> tuple[NDArray[Any], int]:
    """An uninitialised array at a cache line's start, and its address."""
    wanted = elems + ALIGNMENT_BYTES // dtype.itemsize
    large = elems >= LARGE_ELEMS and dtype == FLOAT32
    room = lend(wanted) if large else np.empty(wanted, dtype)
    start = address(room)
    skip = -start % ALIGNMENT_BYTES
    return np.ndarray(shape, dtype, room, skip), start + skip


def empty_torch(shape: Shape) -> tuple[Tensor, int]:
    """An uninitialised torch tensor (64-byte aligned by torch's allocator), and its address."""
    torch = sys.modules["torch"]
    elems = prod(shape)
    if elems >= LARGE_ELEMS:
        array, at = empty_numpy(shape, elems)
        return torch.from_numpy(array), at
    value = torch.empty(shape, dtype=torch.float32, device="cpu")
    return value, int(value.data_ptr())


def to_host(value: Tensor) -> Tensor:
    """A torch tensor of another device as one of this process's memory; anything else as it is."""
    return value.detach().cpu() if is_torch(value) and not value.is_cpu else value
