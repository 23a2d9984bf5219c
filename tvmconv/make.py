"""Constructors of specs, named and parametrised as in torch.nn.

``x_shape`` is the input's shape in the memory order of ``layout``; ``layout`` is written for two
axes ("NCHW", "NHWC") and may be written for the rank at hand ("NCL", "NDHWC", ...).

Padding of a forward convolution, for each the padding added before and after an axis:

| given                 | 2-D example        | meaning                                             |
| --------------------- | ------------------ | --------------------------------------------------- |
| int                   | 1                  | 1 on every side                                     |
| one per axis          | (1, 2)             | 1 above and below, 2 left and right                 |
| a pair per axis       | ((0, 1), (2, 3))   | 0 above, 1 below, 2 left, 3 right                   |
| "valid"               |                    | none                                                |
| "same"                |                    | d(k-1) in all, the odd one at the end; stride 1     |
| "full"                |                    | d(k-1) on both sides                                |
| "causal"              |                    | d(k-1) before the first axis (time) and none after; |
|                       |                    | other axes as "same"                                |

A transposed convolution takes ints and pairs (they cut the output, as in torch) and "valid".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvmconv import layouts
from tvmconv.errors import SpecError
from tvmconv.spec import ConvSpec, Size

IntOrInts = int | Sequence[int]
Padding = int | str | Sequence[int] | Sequence[Sequence[int]]

_STRINGS = '"valid", "same", "full" or "causal"'


def conv1d(x_shape: Sequence[int], out_channels: int, kernel_size: IntOrInts, **options: Any) -> ConvSpec:
    """Make the spec of a 1-D convolution; options as for conv2d, layout NCL or NLC."""
    return _make("conv", 1, x_shape, out_channels, kernel_size, **options)


def conv3d(x_shape: Sequence[int], out_channels: int, kernel_size: IntOrInts, **options: Any) -> ConvSpec:
    """Make the spec of a 3-D convolution; options as for conv2d, layout NCDHW or NDHWC."""
    return _make("conv", 3, x_shape, out_channels, kernel_size, **options)


def conv2d(x_shape: Sequence[int], out_channels: int, kernel_size: IntOrInts, **options: Any) -> ConvSpec:
    """Make the spec of a 2-D convolution."""
    return _make("conv", 2, x_shape, out_channels, kernel_size, **options)


def conv_transpose1d(x_shape: Sequence[int], out_channels: int, kernel_size: IntOrInts, **options: Any) -> ConvSpec:
    """Make the spec of a 1-D transposed convolution."""
    return _make("conv_transpose", 1, x_shape, out_channels, kernel_size, **options)


def conv_transpose2d(x_shape: Sequence[int], out_channels: int, kernel_size: IntOrInts, **options: Any) -> ConvSpec:
    """Make the spec of a 2-D transposed convolution."""
    return _make("conv_transpose", 2, x_shape, out_channels, kernel_size, **options)


def conv_transpose3d(x_shape: Sequence[int], out_channels: int, kernel_size: IntOrInts, **options: Any) -> ConvSpec:
    """Make the spec of a 3-D transposed convolution."""
    return _make("conv_transpose", 3, x_shape, out_channels, kernel_size, **options)


def deform_conv2d(x_shape: Sequence[int], out_channels: int, kernel_size: IntOrInts, **options: Any) -> ConvSpec:
    """Make the spec of a deformable 2-D convolution, as torchvision.ops.deform_conv2d."""
    return _make("deform_conv", 2, x_shape, out_channels, kernel_size, **options)


def _make(
    op: str,
    rank: int,
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: IntOrInts,
    *,
    stride: IntOrInts = 1,
    padding: Padding = 0,
    padding_mode: str = "zeros",
    pad_value: float = 0.0,
    dilation: IntOrInts = 1,
    groups: int = 1,
    output_padding: IntOrInts = 0,
    layout: str = "NCHW",
    activation: str | None = None,
    activation_args: Sequence[float] = (),
    **options: Any,
) -> ConvSpec:
    kernel = per_axis("kernel_size", kernel_size, rank)
    strides = per_axis("stride", stride, rank)
    dilations = per_axis("dilation", dilation, rank)
    memory_order = layout_of_rank(layout, rank)
    if len(tuple(x_shape)) != rank + 2:
        raise SpecError("x_shape", x_shape, f"{rank + 2} ints in the order {memory_order}")
    length = dict(zip(memory_order, x_shape, strict=True))
    begin, end = pads(op, padding, kernel, strides, dilations)
    return ConvSpec(
        op=op,
        n=length["N"],
        ic=length["C"],
        oc=out_channels,
        in_size=tuple(length[letter] for letter in layouts.SPATIAL[rank]),
        kernel=kernel,
        groups=groups,
        stride=strides,
        dilation=dilations,
        pads_begin=begin,
        pads_end=end,
        padding_mode=padding_mode,
        pad_value=pad_value,
        output_padding=per_axis("output_padding", output_padding, rank),
        activation=activation or "none",
        activation_args=tuple(activation_args),
        in_layout=memory_order,
        out_layout=memory_order,
        **options,
    )


def layout_of_rank(layout: str, rank: int) -> str:
    """Return the memory order for a rank from its own name or from NCHW / NHWC."""
    first, last = layouts.channels_first(rank), layouts.channels_last(rank)
    name = {"NCHW": first, "NHWC": last}.get(str(layout).upper(), layout)
    return layouts.canonical(name, rank, (first, last), "layout")


def per_axis(name: str, value: IntOrInts, rank: int) -> Size:
    """Return one int per axis from an int, a sequence of one, or a sequence of `rank`."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        return (value,) * rank
    if len(value) == 1:
        return (value[0],) * rank
    if len(value) != rank:
        raise SpecError(name, value, f"an int or one per axis ({rank})")
    return tuple(value)


def pads(
    op: str, padding: Padding, kernel: Size, stride: Size, dilation: Size
) -> tuple[Size, Size]:
    """Return the padding before and after each axis; see the table at the top."""
    rank = len(kernel)
    if isinstance(padding, str):
        return _string_pads(op, padding, kernel, stride, dilation)
    if isinstance(padding, Sequence) and any(isinstance(side, Sequence) for side in padding):
        if len(padding) != rank or not all(
            isinstance(side, Sequence) and len(side) == 2 for side in padding
        ):
            raise SpecError("padding", padding, f"{rank} pairs (before, after)")
        begin = tuple(side[0] for side in padding)  # type: ignore[index]
        end = tuple(side[1] for side in padding)  # type: ignore[index]
    else:
        begin = end = per_axis("padding", padding, rank)  # type: ignore[arg-type]
    if any(isinstance(side, int) and side < 0 for side in begin + end):
        raise SpecError("padding", padding, f"ints >= 0, pairs of them per axis, or {_STRINGS}")
    return begin, end


def _string_pads(
    op: str, padding: str, kernel: Size, stride: Size, dilation: Size
) -> tuple[Size, Size]:
    none = (0,) * len(kernel)
    total = tuple(d * (k - 1) for d, k in zip(dilation, kernel, strict=True))
    half = tuple(length // 2 for length in total)
    rest = tuple(length - length // 2 for length in total)
    if padding == "valid":
        return none, none
    if op == "conv_transpose" or padding not in ("same", "full", "causal"):
        raise SpecError("padding", padding, "ints, pairs per axis, or " + _STRINGS)
    if padding == "same" and max(stride) > 1:
        raise SpecError("padding", padding, "'same' only with stride 1, as in torch")
    return {
        "same": (half, rest),
        "full": (total, total),
        "causal": ((total[0], *half[1:]), (0, *rest[1:])),
    }[padding]
