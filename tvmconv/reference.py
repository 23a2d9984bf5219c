"""What torch computes for a spec: the answer that every kernel is compared with.

Forward and transposed convolutions, padding modes and activations are torch.nn.functional's own.
Written here are only the things that torch has no function for: asymmetric padding of a transposed
convolution (a crop of the unpadded one), true convolution (a flipped kernel), the memory orders of
gradient specs, and deformable sampling (tvmconv/deformable.py).

Between the steps tensors are in canonical order: activations [n, c, *space] with the channels
group-major, forward weights [oc, ic/g, *k], transposed weights [ic, oc/g, *k].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from tvmconv.deformable import sample_taps
from tvmconv.operands import Operands

if TYPE_CHECKING:
    from tvmconv.spec import ConvSpec

Array = NDArray[Any]
FORWARD = (functional.conv1d, functional.conv2d, functional.conv3d)
TRANSPOSED = (
    functional.conv_transpose1d,
    functional.conv_transpose2d,
    functional.conv_transpose3d,
)


def reference(spec: ConvSpec, operands: Operands, dtype: str = "float64") -> Array:
    """Compute the spec's result in `dtype`; the shape is `spec.out_shape`."""
    return finish(spec, accumulate(spec, operands, dtype), operands)


def accumulate(spec: ConvSpec, operands: Operands, dtype: str = "float64") -> Array:
    """Compute the sums over channels and taps alone, without epilogue, as [n, oc, *out]."""
    x, weight = _canonical_operands(spec, operands, dtype)
    if spec.op == "deform_conv":
        columns = _deformable_columns(spec, x, operands)
        return _contract(spec, columns, weight)
    return _convolve(spec, x, weight, spec.pad_value)


def accumulate_squares(spec: ConvSpec, operands: Operands) -> Array:
    """Compute the sums of the squared products in float64, as [n, oc, *out].

    Its root is the size of a sum of products with random signs, which tolerance.py scales by.
    """
    x, weight = _canonical_operands(spec, operands, "float64")
    if spec.op == "deform_conv":
        # Roundings inside the interpolation follow the sizes of its four terms, not their sum.
        columns = _deformable_columns(spec, x.abs(), operands)
        return _contract(spec, columns.square(), weight.square())
    return _convolve(spec, x.square(), weight.square(), spec.pad_value**2)


def finish(spec: ConvSpec, sums: Array, operands: Operands) -> Array:
    """Apply the epilogue in the dtype of `sums` and bring [n, oc, *out] into the output's order."""
    value = activate(spec, torch.from_numpy(before_activation(spec, sums, operands)))
    return from_canonical(value.numpy(), spec.out_layout)


def before_activation(spec: ConvSpec, sums: Array, operands: Operands) -> Array:
    """Add bias, scale and shift, and residual to the sums, staying in [n, oc, *out]."""
    value = sums
    if operands.bias is not None:
        value = value + per_channel(spec, operands.bias, sums.dtype)
    if operands.scale is not None and operands.shift is not None:
        value = value * per_channel(spec, operands.scale, sums.dtype)
        value = value + per_channel(spec, operands.shift, sums.dtype)
    if operands.residual is not None:
        residual = operands.residual.astype(sums.dtype)
        value = value + to_canonical(residual, spec.out_layout, spec.n, spec.oc, 1, spec.out_size)
    return value


def activate(spec: ConvSpec, value: torch.Tensor) -> torch.Tensor:
    """Apply the spec's activation as torch does."""
    args = spec.activation_args
    match spec.activation:
        case "none":
            return value
        case "clip":
            return torch.clamp(value, args[0], args[1])
        case "leaky_relu":
            return functional.leaky_relu(value, args[0])
        case "gelu_tanh":
            return functional.gelu(value, approximate="tanh")
        case name:
            plain: torch.Tensor = getattr(functional, name)(value)
            return plain


def per_channel(spec: ConvSpec, values: Array, dtype: Any) -> Array:
    """Shape one value per output channel so that it broadcasts over [n, oc, *out]."""
    return values.astype(dtype).reshape(spec.oc, *(1,) * spec.rank)


def to_canonical(
    array: Array, layout: str, n: int, channels: int, groups: int, size: tuple[int, ...]
) -> Array:
    """Bring an activation tensor from a layout's memory order to [n, channels, *size]."""
    space = layout_space(layout)
    length = {"N": n, "G": groups, "C": channels // groups if "G" in layout else channels}
    length |= dict(zip(space, size, strict=True))
    target = "NGC" + space if "G" in layout else "NC" + space
    split = array.reshape([length[letter] for letter in layout])
    ordered = split.transpose([layout.index(letter) for letter in target])
    return ordered.reshape(n, channels, *size)


def from_canonical(array: Array, layout: str) -> Array:
    """Bring [n, channels, *size] into the memory order of an output layout."""
    canonical = "NC" + layout_space(layout)
    ordered = array.transpose([canonical.index(letter) for letter in layout])
    return np.ascontiguousarray(ordered)


def layout_space(layout: str) -> str:
    """Return the spatial letters of a layout, outermost first."""
    return "".join(letter for letter in layout if letter not in "NGC")


def _canonical_operands(
    spec: ConvSpec, operands: Operands, dtype: str
) -> tuple[torch.Tensor, torch.Tensor]:
    x = to_canonical(operands.x, spec.in_layout, spec.n, spec.ic, spec.groups, spec.in_size)
    weight = canonical_weight(spec, operands.weight)
    if spec.flip:
        weight = np.flip(weight, tuple(range(2, 2 + spec.rank)))
    return _tensor(x, dtype), _tensor(weight, dtype)


def canonical_weight(spec: ConvSpec, weight: Array) -> Array:
    """Bring a weight to torch's order: [oc, ic/g, *k], or [ic, oc/g, *k] when transposed."""
    own = "IO" if spec.op == "conv_transpose" else "OI"
    return weight if spec.weight_layout == own else weight.swapaxes(0, 1)


def _tensor(array: Array, dtype: str) -> torch.Tensor:
    # A copy first: torch refuses negative strides and warns about read-only memory.
    return torch.from_numpy(np.array(array, dtype=dtype, order="C"))


def _convolve(spec: ConvSpec, x: torch.Tensor, weight: torch.Tensor, pad_value: float) -> Array:
    if spec.n == 0:
        return np.zeros((0, spec.oc, *spec.out_size), x.numpy().dtype)
    if spec.op == "conv_transpose":
        return _transpose(spec, x, weight).numpy()
    operator = FORWARD[spec.rank - 1]
    keywords: dict[str, Any] = {
        "stride": spec.stride,
        "dilation": spec.dilation,
        "groups": spec.groups,
    }
    symmetric = spec.pads_begin == spec.pads_end and min(spec.pads_begin) >= 0
    if spec.padding_mode == "zeros" and symmetric:
        return operator(x, weight, padding=spec.pads_begin, **keywords).numpy()
    return operator(pad(spec, x, pad_value), weight, **keywords).numpy()


def pad(spec: ConvSpec, x: torch.Tensor, pad_value: float) -> torch.Tensor:
    """Pad (or crop, where negative) a canonical input on each side as the spec says."""
    # torch lists the innermost axis first.
    amounts = [p for pair in _pads(spec)[::-1] for p in pair]
    if spec.padding_mode == "zeros":
        return functional.pad(x, amounts)
    if spec.padding_mode == "constant":
        return functional.pad(x, amounts, value=pad_value)
    return functional.pad(x, amounts, mode=spec.padding_mode)


def _pads(spec: ConvSpec) -> list[tuple[int, int]]:
    return list(zip(spec.pads_begin, spec.pads_end, strict=True))


def _transpose(spec: ConvSpec, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    operator = TRANSPOSED[spec.rank - 1]
    keywords: dict[str, Any] = {
        "stride": spec.stride,
        "dilation": spec.dilation,
        "groups": spec.groups,
    }
    if spec.pads_begin == spec.pads_end and min(spec.pads_begin) >= 0:
        padding, extra = spec.pads_begin, spec.output_padding
        return operator(x, weight, padding=padding, output_padding=extra, **keywords)
    # Padding of a transposed convolution crops its result; output_padding crops less at the end.
    crops = zip(_pads(spec)[::-1], spec.output_padding[::-1], strict=True)
    amounts = [amount for (begin, end), extra in crops for amount in (-begin, extra - end)]
    # Extended first: more may be cut off at the begin than there was.
    extended = functional.pad(operator(x, weight, **keywords), [max(a, 0) for a in amounts])
    return functional.pad(extended, [min(a, 0) for a in amounts])


def _deformable_columns(spec: ConvSpec, x: torch.Tensor, operands: Operands) -> torch.Tensor:
    """Sample the input under every tap: [n, ic, taps, oh, ow]."""
    taps = spec.kernel[0] * spec.kernel[1]
    channels = spec.offset_groups * taps
    dtype = str(x.numpy().dtype)
    layout, n, size = spec.in_layout, spec.n, spec.out_size
    assert operands.offset is not None
    offset = _tensor(to_canonical(operands.offset, layout, n, 2 * channels, 1, size), dtype)
    columns = sample_taps(spec, x, offset.reshape(n, spec.offset_groups, taps, 2, *size))
    if operands.mask is not None:
        mask = _tensor(to_canonical(operands.mask, layout, n, channels, 1, size), dtype)
        per_group = spec.ic // spec.offset_groups
        mask = mask.reshape(n, spec.offset_groups, taps, *size)
        columns = columns * mask.repeat_interleave(per_group, 1)
    return columns


def _contract(spec: ConvSpec, columns: torch.Tensor, weight: torch.Tensor) -> Array:
    """Sum over channels and taps, group by group."""
    g, terms = spec.groups, spec.ic // spec.groups * spec.kernel[0] * spec.kernel[1]
    pixels = spec.out_size[0] * spec.out_size[1]
    by_group = columns.reshape(spec.n, g, terms, pixels)
    sums = weight.reshape(1, g, spec.oc // g, terms) @ by_group
    return sums.reshape(spec.n, spec.oc, *spec.out_size).numpy()
