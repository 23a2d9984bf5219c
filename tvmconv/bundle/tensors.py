"""Tensors on their way into a bundle's C functions: checked, copied only when they must be."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.errors import ArgumentError

Array = NDArray[Any]
Shape = tuple[int, ...]


def as_numpy(name: str, value: Any) -> Array:
    """The value as an array, sharing its memory where that is possible."""
    if isinstance(value, np.ndarray):
        return value
    try:
        # torch refuses to show tensors that require gradients; the values are all we read.
        array: Array = np.asarray(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        allowed = f"a numpy array, or what numpy can read ({error})"
        raise ArgumentError(name, type(value).__name__, allowed) from error
    return array


def checked(name: str, value: Any, shape: Shape) -> Array:
    """The value as a float32 array of this shape, still with any strides."""
    array = as_numpy(name, value)
    if array.dtype != np.float32:
        raise ArgumentError(f"{name}: dtype", str(array.dtype), "float32")
    if array.shape != shape:
        raise ArgumentError(f"{name}: shape", array.shape, str(shape))
    return array


def plain(name: str, value: Any, shape: Shape) -> Array:
    """The tensor as C reads it; a copy only when it is strided or misaligned."""
    array = checked(name, value, shape)
    return array if _is_plain(array) else np.array(array, np.float32, order="C")


def output(out: Any, shape: Shape, inputs: Iterable[Array]) -> Array:
    """Where the kernel writes: `out` itself when that is possible."""
    if out is None:
        return _fresh(shape)
    array = checked("out", out, shape)
    if not array.flags.writeable:
        raise ArgumentError("out", "a read-only array", "one that can be written")
    # A kernel reads inputs while it writes: a result that lies over one of them is written aside.
    if _is_plain(array) and not any(np.may_share_memory(array, a) for a in inputs):
        return array
    return _fresh(shape)


def aligned(size: int) -> Array:
    """`size` float32 zeros at the start of a cache line."""
    zeros = _fresh((size,))
    zeros[...] = 0.0
    return zeros


def _fresh(shape: Shape) -> Array:
    """An uninitialised array at the start of a cache line of 64 bytes: no vector straddles two."""
    size = prod(shape)
    room = np.empty(size + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    return room[start : start + size].reshape(shape)


def _is_plain(array: Array) -> bool:
    return bool(array.flags.c_contiguous and array.flags.aligned)


def like(x: Any, y: Array) -> Any:
    """The result `y` in the kind of the input `x`, on the same memory."""
    torch = sys.modules.get("torch")
    return torch.from_numpy(y) if torch is not None and isinstance(x, torch.Tensor) else y


def fold_batch_norm(
    weight: Array, bias: Array, batch_norm: Any, axis: int, groups: int
) -> tuple[Array, Array]:
    """Weight and bias of a convolution with its batch norm: float32, computed in float64.

    Args:
        weight: its output channels are on `axis` 0 or 1.
        bias: one value per output channel.
        batch_norm: (mean, variance, gamma, beta, eps), the first four one value per channel.
        axis: 0 or 1.
        groups: 1 but for transposed convolutions, whose groups lie along the other axis.
    """
    mean, variance, gamma, beta = (np.asarray(v, np.float64) for v in batch_norm[:4])
    factor = gamma / np.sqrt(variance + float(batch_norm[4]))
    rows = np.repeat(factor.reshape(groups, -1), weight.shape[1 - axis] // groups, axis=0)
    matrix = rows if axis == 1 else rows.T
    scaled = weight.astype(np.float64) * matrix.reshape(*matrix.shape, *[1] * (weight.ndim - 2))
    return scaled.astype(np.float32), ((bias - mean) * factor + beta).astype(np.float32)
