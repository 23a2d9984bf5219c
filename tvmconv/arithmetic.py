"""Counts that follow from a spec: sizes, multiply-adds, parameters, bytes, receptive fields."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING

from tvmconv.errors import SpecError

if TYPE_CHECKING:
    from tvmconv.spec import ConvSpec

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "uint16": 2, "int8": 1, "int32": 4}


def out_size(spec: ConvSpec) -> tuple[int, ...]:
    """Return the spatial size of the output.

    conv: floor((I + P0 + P1 - D(K-1) - 1) / S) + 1; deform_conv: the same, but torchvision
    divides as C does, toward zero, so that a kernel may stand out by less than one stride;
    conv_transpose: (I-1)S - P0 - P1 + D(K-1) + A + 1.
    """
    axes = zip(
        spec.in_size,
        spec.kernel,
        spec.stride,
        spec.dilation,
        spec.pads_begin,
        spec.pads_end,
        spec.output_padding,
        strict=True,
    )
    if spec.op == "conv_transpose":
        return tuple((i - 1) * s - p0 - p1 + d * (k - 1) + a + 1 for i, k, s, d, p0, p1, a in axes)
    room = [(i + p0 + p1 - d * (k - 1) - 1, s) for i, k, s, d, p0, p1, _ in axes]
    if spec.op == "deform_conv":
        return tuple(int(length / s) + 1 for length, s in room)
    return tuple(length // s + 1 for length, s in room)


def macs(spec: ConvSpec) -> int:
    """Return the multiply-adds of the direct algorithm, as if no tap fell into the padding."""
    taps = prod(spec.kernel)
    if spec.op == "conv_transpose":
        return spec.n * spec.ic * prod(spec.in_size) * (spec.oc // spec.groups) * taps
    return spec.n * spec.oc * prod(spec.out_size) * (spec.ic // spec.groups) * taps


def params(spec: ConvSpec) -> int:
    """Return how many values are learnt: weight, and per output channel bias, scale and shift."""
    return prod(spec.weight_shape) + spec.oc * (spec.bias + 2 * spec.scale_shift)


def bytes_moved(spec: ConvSpec) -> int:
    """Return the bytes of all tensors of the spec, each touched once."""
    elements = prod(spec.x_shape) + prod(spec.out_shape) * (1 + spec.residual) + params(spec)
    if spec.op == "deform_conv":
        elements += prod(spec.offset_shape)
    if spec.mask:
        elements += prod(spec.mask_shape)
    return elements * ITEM_BYTES[spec.dtype]


def arithmetic_intensity(spec: ConvSpec) -> float:
    """Return the FLOPs per byte moved."""
    return 2 * macs(spec) / bytes_moved(spec)


def receptive_field(specs: Iterable[ConvSpec]) -> tuple[int, ...]:
    """Return how many input positions per axis one output of a chain of convolutions sees.

    Each layer adds (k-1) d times the product of the strides before it. The specs come in the order
    in which data passes them and have one rank; a transposed convolution has no such rule.
    """
    chain = tuple(specs)
    if not chain:
        raise SpecError("specs", chain, "at least one spec")
    rank = chain[0].rank
    field, jump = [1] * rank, [1] * rank
    for spec in chain:
        if spec.op != "conv" or spec.rank != rank:
            raise SpecError("specs", str(spec), f"forward convolutions of rank {rank}")
        for axis in range(rank):
            field[axis] += (spec.kernel[axis] - 1) * spec.dilation[axis] * jump[axis]
            jump[axis] *= spec.stride[axis]
    return tuple(field)
