"""What makes a convolution legal: torch's rules, checked when a ConvSpec is made.

Each rule was tried against torch 2.13; tests/unit/test_legality.py tries them again. Meant
differences: torch answers an input of zero channels with an output of zero channels, whatever
out_channels says; that is an error here. An output of size 0 and a dilation of 0 are errors here;
torch lets them pass or not depending on which of its own implementations it picks. torch refuses
negative padding only with zeros; here it is an error in every padding mode. And torch skips some
checks of an empty batch, which here has the rules of a batch of one.

Negative padding (cropping) is accepted at the end of an axis for specs of gradients; the
constructors in tvmconv.make refuse it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tvmconv.errors import SpecError

if TYPE_CHECKING:
    from tvmconv.spec import ConvSpec

OPS = ("conv", "conv_transpose", "deform_conv")
PADDING_MODES = ("zeros", "constant", "reflect", "replicate", "circular")
DTYPES = ("float32", "float16", "bfloat16", "int8")
ACC_DTYPES = ("float32", "float16", "int32")
# Activation name -> how many numbers it takes.
ACTIVATIONS = {
    "none": 0,
    "relu": 0,
    "relu6": 0,
    "clip": 2,
    "leaky_relu": 1,
    "silu": 0,
    "hardswish": 0,
    "gelu": 0,
    "gelu_tanh": 0,
    "sigmoid": 0,
    "tanh": 0,
}


def check(spec: ConvSpec) -> None:
    """Raise SpecError when torch would refuse this convolution."""
    _check_numbers(spec)
    _check_names(spec)
    if spec.op == "conv_transpose":
        _check_transposed(spec)
    else:
        _check_forward(spec)
    if spec.op == "deform_conv":
        _check_deformable(spec)
    elif spec.mask or spec.offset_groups != 1:
        raise SpecError(
            "mask" if spec.mask else "offset_groups",
            spec.mask or spec.offset_groups,
            "only a deformable convolution has offsets and a mask",
        )


def _check_numbers(spec: ConvSpec) -> None:
    if spec.n < 0:
        raise SpecError("n", spec.n, "a batch >= 0")
    for name in ("ic", "oc", "groups", "offset_groups"):
        if getattr(spec, name) < 1:
            raise SpecError(name, getattr(spec, name), "an int >= 1")
    for name in ("ic", "oc"):
        if getattr(spec, name) % spec.groups:
            raise SpecError(name, getattr(spec, name), f"a multiple of groups={spec.groups}")
    for name in ("in_size", "kernel", "stride", "dilation"):
        if min(getattr(spec, name)) < 1:
            raise SpecError(name, getattr(spec, name), f"ints >= 1, one per axis ({spec.rank})")


def _check_names(spec: ConvSpec) -> None:
    for name, allowed in (
        ("op", OPS),
        ("padding_mode", PADDING_MODES),
        ("activation", tuple(ACTIVATIONS)),
        ("dtype", DTYPES),
        ("acc_dtype", ACC_DTYPES),
        ("weight_layout", ("OI", "IO")),
    ):
        if getattr(spec, name) not in allowed:
            raise SpecError(name, getattr(spec, name), ", ".join(allowed))
    count = ACTIVATIONS[spec.activation]
    args = spec.activation_args
    if len(args) != count or any(math.isnan(value) for value in args):
        raise SpecError("activation_args", args, f"{count} numbers for {spec.activation}, no NaN")
    if spec.activation == "clip" and args[0] > args[1]:
        raise SpecError("activation_args", args, "clip takes (low, high) with low <= high")
    if spec.padding_mode != "constant" and spec.pad_value != 0.0:
        raise SpecError("pad_value", spec.pad_value, "a value only with padding_mode='constant'")
    if math.isnan(spec.pad_value):
        raise SpecError("pad_value", spec.pad_value, "a number or an infinity, no NaN")


def _check_forward(spec: ConvSpec) -> None:
    if any(spec.output_padding):
        raise SpecError("output_padding", spec.output_padding, "0: only conv_transpose has it")
    if min(spec.pads_begin) < 0:
        raise SpecError("pads_begin", spec.pads_begin, f"ints >= 0, one per axis ({spec.rank})")
    for axis, size in enumerate(spec.in_size):
        begin, end = spec.pads_begin[axis], spec.pads_end[axis]
        reach = spec.dilation[axis] * (spec.kernel[axis] - 1) + 1
        if size + begin + end < reach and not (
            spec.op == "deform_conv" and spec.out_size[axis] > 0
        ):
            raise SpecError(
                "kernel",
                spec.kernel,
                f"a kernel that reaches over at most {size + begin + end} on axis {axis} (input "
                f"{size}, padding {begin} and {end}); with dilation {spec.dilation[axis]} it "
                f"reaches over {reach}",
            )
        largest = {"reflect": size - 1, "circular": size}.get(spec.padding_mode)
        if largest is not None and max(begin, end) > largest:
            raise SpecError(
                "padding",
                (begin, end),
                f"at most {largest} on axis {axis} for padding_mode={spec.padding_mode!r} and "
                f"input size {size}",
            )


def _check_transposed(spec: ConvSpec) -> None:
    if spec.padding_mode != "zeros":
        raise SpecError("padding_mode", spec.padding_mode, "'zeros' for a transposed convolution")
    if min(spec.pads_begin + spec.pads_end) < 0:
        raise SpecError("padding", (spec.pads_begin, spec.pads_end), "ints >= 0")
    for axis, extra in enumerate(spec.output_padding):
        limit = max(spec.stride[axis], spec.dilation[axis])
        if not 0 <= extra < limit:
            raise SpecError(
                "output_padding",
                spec.output_padding,
                f"0 to {limit - 1} on axis {axis}: less than the larger of stride "
                f"{spec.stride[axis]} and dilation {spec.dilation[axis]}",
            )
    if min(spec.out_size) < 1:
        raise SpecError(
            "padding", (spec.pads_begin, spec.pads_end), f"an output >= 1; it is {spec.out_size}"
        )


def _check_deformable(spec: ConvSpec) -> None:
    if spec.rank != 2:
        raise SpecError("kernel", spec.kernel, "two axes: a deformable convolution is 2-D")
    if spec.ic % spec.offset_groups:
        raise SpecError("offset_groups", spec.offset_groups, f"a divisor of ic={spec.ic}")
    if spec.padding_mode != "zeros":
        raise SpecError("padding_mode", spec.padding_mode, "'zeros' for a deformable convolution")
    if spec.flip:
        raise SpecError("flip", spec.flip, "False: each tap of a deformable kernel has its offset")
    if min(spec.pads_end) < 0:
        raise SpecError("pads_end", spec.pads_end, "ints >= 0")
