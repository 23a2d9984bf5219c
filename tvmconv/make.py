"""Constructors of specs, named and parametrised as in torch.nn.

``x_shape`` is the input's shape in the memory order of ``layout``; ``layout`` is "NCHW" (channels
first) or "NHWC" (channels last) at every rank, or the rank's own name ("NCL", "NDHWC", ...).
tvmconv.padding lists the forms of ``padding``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

from tvmconv import layouts, padding
from tvmconv.errors import SpecError
from tvmconv.padding import IntOrInts, Padding
from tvmconv.spec import ConvSpec, as_int


class Options(TypedDict, total=False):
    """Keywords of every constructor; see ConvSpec for their meaning."""

    stride: IntOrInts
    padding: Padding
    padding_mode: str
    pad_value: float
    dilation: IntOrInts
    groups: int
    bias: bool
    scale_shift: bool
    residual: bool
    activation: str | None
    activation_args: Sequence[float]
    flip: bool
    dtype: str
    layout: str


class TransposeOptions(Options, total=False):
    """Keywords of the transposed convolutions."""

    output_padding: IntOrInts


class DeformOptions(Options, total=False):
    """Keywords of the deformable convolution."""

    offset_groups: int
    mask: bool


def conv1d(
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: IntOrInts,
    **options: Unpack[Options],
) -> ConvSpec:
    """Make the spec of a 1-D convolution, x_shape (n, c, l).

    Raises:
        SpecError: for what torch would refuse, and for an unknown keyword.
    """
    return _make("conv", 1, x_shape, out_channels, kernel_size, options)


def conv2d(
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: IntOrInts,
    **options: Unpack[Options],
) -> ConvSpec:
    """Make the spec of a 2-D convolution, x_shape (n, c, h, w).

    Raises:
        SpecError: for what torch would refuse, and for an unknown keyword.
    """
    return _make("conv", 2, x_shape, out_channels, kernel_size, options)


def conv3d(
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: IntOrInts,
    **options: Unpack[Options],
) -> ConvSpec:
    """Make the spec of a 3-D convolution, x_shape (n, c, d, h, w).

    Raises:
        SpecError: for what torch would refuse, and for an unknown keyword.
    """
    return _make("conv", 3, x_shape, out_channels, kernel_size, options)


def conv_transpose1d(
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: IntOrInts,
    **options: Unpack[TransposeOptions],
) -> ConvSpec:
    """Make the spec of a 1-D transposed convolution, x_shape (n, c, l).

    Raises:
        SpecError: for what torch would refuse, and for an unknown keyword.
    """
    return _make("conv_transpose", 1, x_shape, out_channels, kernel_size, options)


def conv_transpose2d(
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: IntOrInts,
    **options: Unpack[TransposeOptions],
) -> ConvSpec:
    """Make the spec of a 2-D transposed convolution, x_shape (n, c, h, w).

    Raises:
        SpecError: for what torch would refuse, and for an unknown keyword.
    """
    return _make("conv_transpose", 2, x_shape, out_channels, kernel_size, options)


def conv_transpose3d(
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: IntOrInts,
    **options: Unpack[TransposeOptions],
) -> ConvSpec:
    """Make the spec of a 3-D transposed convolution, x_shape (n, c, d, h, w).

    Raises:
        SpecError: for what torch would refuse, and for an unknown keyword.
    """
    return _make("conv_transpose", 3, x_shape, out_channels, kernel_size, options)


def deform_conv2d(
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: IntOrInts,
    **options: Unpack[DeformOptions],
) -> ConvSpec:
    """Make the spec of a deformable convolution, as torchvision.ops.deform_conv2d.

    Raises:
        SpecError: for what torchvision would refuse, and for an unknown keyword.
    """
    return _make("deform_conv", 2, x_shape, out_channels, kernel_size, options)


def depthwise_separable(
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: IntOrInts,
    *,
    multiplier: int = 1,
    **options: Unpack[Options],
) -> tuple[ConvSpec, ConvSpec]:
    """Make the pair (depthwise, pointwise) that takes the place of a dense 2-D convolution.

    The depthwise convolution has kernel, stride, padding and dilation and gives `multiplier`
    channels for each one; the pointwise one mixes them and has the bias and what follows it.

    Raises:
        SpecError: for what torch would refuse, an unknown keyword, and groups.
    """
    whole = _dense(x_shape, out_channels, kernel_size, options)
    between = whole.ic * as_int("multiplier", multiplier)
    depthwise = replace(whole.linear(), oc=between, groups=whole.ic)
    pointwise = replace(
        whole,
        ic=between,
        in_size=depthwise.out_size,
        kernel=(1, 1),
        stride=(),
        dilation=(),
        pads_begin=(),
        pads_end=(),
        flip=False,
    )
    return depthwise, pointwise


def spatially_separable(
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: IntOrInts,
    **options: Unpack[Options],
) -> tuple[ConvSpec, ConvSpec]:
    """Make the pair (k x 1, 1 x k) that takes the place of a 2-D convolution with rank-1 kernels.

    The column convolution keeps the channels apart, weight [ic, 1, kh, 1]; the row convolution
    mixes them, weight [oc, ic, 1, kw], and has the bias and what follows it. Together they are the
    dense convolution of weight ``column[i, 0, u, 0] * row[o, i, 0, v]``.

    Raises:
        SpecError: for what torch would refuse, an unknown keyword, groups, and a constant other
            than 0 around the input, which the column kernel would turn into another value.
    """
    whole = _dense(x_shape, out_channels, kernel_size, options)
    if whole.padding_mode == "constant":
        raise SpecError("pad_value", whole.pad_value, "0 for a pair of convolutions")
    column = replace(whole.linear(), oc=whole.ic, groups=whole.ic, **_along(whole, axis=0))
    row = replace(whole, in_size=column.out_size, **_along(whole, axis=1))
    return column, row


def _dense(
    x_shape: Sequence[int], out_channels: int, kernel_size: IntOrInts, options: Options
) -> ConvSpec:
    if options.get("groups", 1) != 1:
        raise SpecError("groups", options["groups"], "1: the pair has its own groups")
    return _make("conv", 2, x_shape, out_channels, kernel_size, options)


def _along(spec: ConvSpec, axis: int) -> dict[str, Any]:
    """Return the geometry of a spec along one axis, with nothing to do along the other."""
    nothing = {"kernel": 1, "stride": 1, "dilation": 1, "pads_begin": 0, "pads_end": 0}
    return {
        name: tuple(value if at == axis else other for at, value in enumerate(getattr(spec, name)))
        for name, other in nothing.items()
    }


def _make(
    op: str,
    rank: int,
    x_shape: Sequence[int],
    out_channels: int,
    kernel_size: IntOrInts,
    options: Options,
) -> ConvSpec:
    given: dict[str, Any] = dict(options)
    known = _KEYWORDS[op]
    for name in given:
        if name not in known:
            raise SpecError("keyword", name, ", ".join(sorted(known)))
    order = layouts.of_rank(given.pop("layout", "NCHW"), rank)
    if not isinstance(x_shape, Sequence) or len(x_shape) != rank + 2:
        raise SpecError("x_shape", x_shape, f"{rank + 2} ints in the order {order}")
    length = dict(zip(order, x_shape, strict=True))
    kernel = padding.per_axis("kernel_size", kernel_size, rank)
    stride = padding.per_axis("stride", given.pop("stride", 1), rank)
    dilation = padding.per_axis("dilation", given.pop("dilation", 1), rank)
    begin, end = padding.sides(op, given.pop("padding", 0), kernel, stride, dilation)
    return ConvSpec(
        op=op,
        n=length["N"],
        ic=length["C"],
        oc=out_channels,
        in_size=tuple(length[letter] for letter in layouts.SPATIAL[rank]),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        pads_begin=begin,
        pads_end=end,
        output_padding=padding.per_axis("output_padding", given.pop("output_padding", 0), rank),
        activation=given.pop("activation", None) or "none",
        in_layout=order,
        out_layout=order,
        **given,
    )


_KEYWORDS: dict[str, frozenset[str]] = {
    "conv": frozenset(Options.__annotations__),
    "conv_transpose": frozenset(TransposeOptions.__annotations__),
    "deform_conv": frozenset(DeformOptions.__annotations__),
}
