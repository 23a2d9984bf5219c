"""A layer as other libraries know it: channels first, weights in torch's order, batch norm folded.

The parent process makes one of these per layer and sends it to every peer, so no peer needs to
know a layout of ours, and all of them get the same numbers at equally aligned addresses.
"""

from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tvmconv.operands import Operands
from tvmconv.spec import ConvSpec

Array = NDArray[Any]
Holder = TypeVar("Holder", "Plain", Operands)
ALIGNMENT_BYTES = 64  # what torch's allocator gives, so every contestant reads such addresses


@dataclass(frozen=True)
class Plain:
    """One layer and its data, as float32 arrays.

    Attributes:
        spec: the layer; its layouts, flip and scale_shift no longer matter.
        x: [n, ic, *in].
        weight: [oc, ic/g, *k]; transposed [ic, oc/g, *k]; not flipped.
        bias: [oc], with the shift in it when there is one.
        residual: [n, oc, *out].
        offset: [n, 2 * offset groups * taps, *out].
        mask: [n, offset groups * taps, *out].
    """

    spec: ConvSpec
    x: Array
    weight: Array
    bias: Array | None = None
    residual: Array | None = None
    offset: Array | None = None
    mask: Array | None = None

    @classmethod
    def of(cls, spec: ConvSpec, operands: Operands) -> "Plain":
        """Bring a spec's operands into the common form."""
        from tvmconv.reference import to_canonical

        operands = _widened(operands)
        weight, bias = _folded(spec, operands)
        extras: dict[str, Array | None] = {}
        for name, layout in (
            ("residual", spec.out_layout),
            ("offset", spec.in_layout),
            ("mask", spec.in_layout),
        ):
            array = getattr(operands, name)
            if array is not None:
                channels = array.size // max(1, spec.n * prod(spec.out_size))
                array = to_canonical(array, layout, spec.n, channels, 1, spec.out_size)
            extras[name] = array
        x = to_canonical(operands.x, spec.in_layout, spec.n, spec.ic, spec.groups, spec.in_size)
        return aligned(cls(spec, x, weight, bias, **extras))


def _widened(operands: Operands) -> Operands:
    """The same in float32, from which every library converts to the spec's type by itself."""
    arrays = {f.name: getattr(operands, f.name) for f in fields(operands)}
    wide: dict[str, Any] = {
        name: array.astype(np.float32, copy=False)
        for name, array in arrays.items()
        if array is not None
    }
    return replace(operands, **wide)


def aligned(holder: Holder) -> Holder:
    """Copy every array of a dataclass to a dense one at the beginning of a cache line."""
    arrays = {f.name: getattr(holder, f.name) for f in fields(holder)}
    copies: dict[str, Any] = {
        name: at_cache_line(v) for name, v in arrays.items() if isinstance(v, np.ndarray)
    }
    return replace(holder, **copies)


def at_cache_line(array: Array) -> Array:
    """Copy an array to a dense one at the beginning of a cache line."""
    spare = ALIGNMENT_BYTES // array.itemsize
    memory = np.empty(array.size + spare, array.dtype)
    skip = -memory.ctypes.data % ALIGNMENT_BYTES // array.itemsize
    copy = memory[skip : skip + array.size].reshape(array.shape)
    copy[...] = array
    return copy


def _folded(spec: ConvSpec, operands: Operands) -> tuple[Array, Array | None]:
    """Weight and bias in torch's order, with scale and shift folded in as for deployment."""
    from tvmconv.reference import canonical_weight

    weight = canonical_weight(spec, operands.weight)
    if spec.flip:
        weight = np.flip(weight, tuple(range(2, 2 + spec.rank)))
    bias = operands.bias
    if operands.scale is None or operands.shift is None:
        return weight, bias
    scale, shift = operands.scale, operands.shift
    bias = shift if bias is None else bias * scale + shift
    if spec.op != "conv_transpose":
        return weight * scale.reshape(-1, 1, *(1,) * spec.rank), bias
    per_group = weight.reshape(spec.groups, spec.ic // spec.groups, *weight.shape[1:])
    scale = scale.reshape(spec.groups, 1, -1, *(1,) * spec.rank)
    return (per_group * scale).reshape(weight.shape), bias
