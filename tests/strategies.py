"""Random legal specs over everything that has to work, small enough to compile by the hundred."""

from typing import Any

from hypothesis import strategies as st

from tvmconv import layouts
from tvmconv.spec import ConvSpec, Size

# Longest input and kernel axis per rank: a spec costs some 10^5 multiply-adds, its compiler more.
LONGEST = {1: 40, 2: 17, 3: 7}
WIDEST = {1: 9, 2: 5, 3: 3}
# Channels per group: 1 and 3 as in pictures, full vectors, and no multiple of anything.
CHANNELS = (1, 2, 3, 5, 8, 16, 37)
PADDING_MODES = ("zeros", "constant", "reflect", "replicate", "circular")
ACTIVATIONS = (
    ("none", ()),
    ("relu", ()),
    ("relu6", ()),
    ("clip", (-1.5, 2.0)),
    ("leaky_relu", (0.125,)),
    ("silu", ()),
    ("hardswish", ()),
    ("gelu", ()),
    ("gelu_tanh", ()),
    ("sigmoid", ()),
    ("tanh", ()),
)


@st.composite
def conv_specs(
    draw: st.DrawFn, ops: tuple[str, ...] = ("conv", "conv_transpose", "deform_conv")
) -> ConvSpec:
    """Any legal float32 spec of these operators."""
    op = draw(st.sampled_from(ops))
    rank = 2 if op == "deform_conv" else draw(st.sampled_from((2, 1, 3)))
    axes = [draw(_axis(op, rank)) for _ in range(rank)]
    sizes, kernel, stride, dilation, begin, end, extra = (
        tuple(axis[i] for axis in axes) for i in range(7)
    )
    mode = draw(st.sampled_from(PADDING_MODES)) if op == "conv" else "zeros"
    if mode in ("reflect", "circular"):
        begin, end, kernel = _within(mode, sizes, kernel, dilation, begin, end)
    groups, ic, oc = draw(_channels())
    options = draw(_epilogue())
    if op == "deform_conv":
        options["offset_groups"] = draw(st.sampled_from([d for d in (1, 2, 4, ic) if ic % d == 0]))
        options["mask"] = draw(st.booleans())
    in_layout = draw(st.sampled_from((layouts.channels_first(rank), layouts.channels_last(rank))))
    return ConvSpec(
        op=op,
        n=draw(st.sampled_from((1, 2, 1, 3, 2, 1, 0))),
        ic=ic,
        oc=oc,
        groups=groups,
        in_size=sizes,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        pads_begin=begin,
        pads_end=end,
        padding_mode=mode,
        pad_value=draw(st.sampled_from((1.0, -2.5, 0.1))) if mode == "constant" else 0.0,
        output_padding=extra,
        flip=draw(st.booleans()) if op != "deform_conv" else False,
        in_layout=in_layout,
        out_layout=in_layout,
        **options,
    )


@st.composite
def _axis(draw: st.DrawFn, op: str, rank: int) -> tuple[int, int, int, int, int, int, int]:
    """One axis: size, kernel, stride, dilation, padding before and after, output padding."""
    size = draw(st.integers(1, LONGEST[rank]))
    kernel = draw(st.integers(1, WIDEST[rank]))
    stride = draw(st.sampled_from((1, 2, 3)))
    dilation = draw(st.sampled_from((1, 2, 3)))
    reach = dilation * (kernel - 1) + 1
    # Up to one more than the kernel: some outputs then see nothing but padding.
    begin = draw(st.integers(0, reach + 1))
    end = draw(st.one_of(st.just(begin), st.integers(0, reach + 1)))
    if op == "conv_transpose":
        extra = draw(st.integers(0, max(stride, dilation) - 1))
        full = (size - 1) * stride + reach + extra
        begin = min(begin, full - 1)
        return size, kernel, stride, dilation, begin, min(end, full - 1 - begin), extra
    return size, kernel, stride, dilation, begin, max(end, reach - size - begin), 0


def _within(
    mode: str, sizes: Size, kernel: Size, dilation: Size, begin: Size, end: Size
) -> tuple[Size, Size, Size]:
    """Shrink padding to what the mode allows, and the kernel to what is then there."""
    limits = [size - (mode == "reflect") for size in sizes]
    before = tuple(min(p, limit) for p, limit in zip(begin, limits, strict=True))
    after = tuple(min(p, limit) for p, limit in zip(end, limits, strict=True))
    axes = zip(sizes, before, after, kernel, dilation, strict=True)
    taps = tuple(min(k, (size + b + e - 1) // d + 1) for size, b, e, k, d in axes)
    return before, after, taps


@st.composite
def _channels(draw: st.DrawFn) -> tuple[int, int, int]:
    """Groups, input and output channels: dense, grouped, depthwise, depthwise with multiplier."""
    kind = draw(st.sampled_from(("dense", "grouped", "depthwise")))
    if kind == "dense":
        return 1, draw(st.sampled_from(CHANNELS)), draw(st.sampled_from(CHANNELS))
    if kind == "depthwise":
        channels = draw(st.sampled_from((3, 8, 16, 37)))
        return channels, channels, channels * draw(st.sampled_from((1, 1, 2, 3)))
    groups = draw(st.sampled_from((2, 3, 4)))
    icg, ocg = draw(st.sampled_from((1, 2, 3, 5, 8))), draw(st.sampled_from((1, 2, 3, 8, 9)))
    return groups, groups * icg, groups * ocg


@st.composite
def _epilogue(draw: st.DrawFn) -> dict[str, Any]:
    activation, args = draw(st.sampled_from(ACTIVATIONS))
    return {
        "bias": draw(st.booleans()),
        "scale_shift": draw(st.sampled_from((False, False, True))),
        "residual": draw(st.sampled_from((False, False, True))),
        "activation": activation,
        "activation_args": args,
    }
