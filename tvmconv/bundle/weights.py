"""Packed weights that are shipped with a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.elements import numpy_dtype
from tvmconv.errors import ArgumentError

from .contents import Contents, Convolution
from .tensors import Array

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel

# By the symbol of the kernel that reads them.
Packed = dict[str, Array]


def packed_weights(contents: Contents, weights: Mapping[str, Any]) -> Packed:
    """The given weights by the kernel that reads them, little-endian.

    Args:
        contents: of the bundle.
        weights: by spec text, or by the symbol of a convolution or of a single kernel: packed
            weights or layers; for a convolution of several targets a mapping of these, by target.

    Raises:
        ArgumentError: a name that is none, a target without weights, or weights that do not fit.
    """
    packed: Packed = {}
    for name, value in weights.items():
        for kernel, array in _of(name, value, contents):
            packed[kernel.symbol] = _checked(kernel, array)
    return packed


def write_weights(
    folder: Path, convolution: Convolution, entry: dict[str, Any], packed: Packed
) -> None:
    """A file for each kernel whose weights are shipped; named in the entry of the manifest."""
    several = len(convolution.kernels) > 1
    for kernel in convolution.kernels:
        if kernel.symbol in packed:
            suffix = f"-{kernel.target.id}" if several else ""
            path = f"weights/{convolution.symbol}{suffix}.bin"
            (folder / path).write_bytes(packed[kernel.symbol].tobytes())
            entry["targets"][kernel.target.id]["weights"] = path


def _of(name: str, value: Any, contents: Contents) -> list[tuple[Kernel, Any]]:
    kernels = [k for convolution in contents.convolutions for k in convolution.kernels]
    for kernel in kernels:
        if name == kernel.symbol:
            return [(kernel, value)]
    for convolution in contents.convolutions:
        if name in (convolution.symbol, str(convolution.kernels[0].spec)):
            return _by_target(convolution, value)
    known = ", ".join(dict.fromkeys(str(k.spec) for k in kernels))
    raise ArgumentError("weights", name, f"the spec or symbol of a kernel: {known}")


def _by_target(convolution: Convolution, value: Any) -> list[tuple[Kernel, Any]]:
    kernels = convolution.kernels
    if len(kernels) == 1 and not isinstance(value, Mapping):
        return [(kernels[0], value)]
    targets = [kernel.target.id for kernel in kernels]
    if not isinstance(value, Mapping) or sorted(value) != sorted(targets):
        given = sorted(value) if isinstance(value, Mapping) else type(value).__name__
        allowed = f"a mapping with the weights of each target: {', '.join(targets)}"
        raise ArgumentError(f"weights of {kernels[0].spec}", given, allowed)
    return [(kernel, value[kernel.target.id]) for kernel in kernels]


def _checked(kernel: Kernel, value: Any) -> Array:
    array = np.asarray(getattr(value, "packed", value))
    dtype = numpy_dtype(kernel.spec.dtype)
    if array.dtype != dtype or array.shape != (kernel.packed_elems,):
        given = f"{array.dtype} of shape {array.shape}"
        allowed = f"{dtype} of shape ({kernel.packed_elems},): what kernel.pack returns"
        raise ArgumentError(f"weights of {kernel.spec}", given, allowed)
    return array.astype(dtype.newbyteorder("<"))
