"""The text of a spec and back: ``conv2d_n1c64s56x56_o64k3x3_p1_bias_relu``.

Parts are joined by underscores; the first three always stand, the rest only where they differ from
the default (stride 1, no padding, one group ...). Several numbers are joined by x, one per axis,
and one number stands for all axes where they are equal (sizes and kernels are written in full).

    conv2d | convt2d | deform2d     operator and rank (1 to 3)
    n1c64s56x56                     batch, input channels, input size
    o64k3x3                         output channels, kernel
    g32                             groups
    s2 | s2x1                       stride
    d2 | d2x1                       dilation
    p1 | p1x2 | p0.1 | p0.1x2.0     padding: the same on both sides, or begin.end of each axis
    a1                              output padding
    reflect | replicate | circular | const0.5      padding mode
    og2, mask                       offset groups, mask
    flip                            true convolution
    bias, scale, res                bias, scale and shift, residual
    relu | relu6 | clip-1x1 | leakyrelu0.01 | silu | hardswish | gelu | gelutanh | sigmoid | tanh
    f16 | bf16 | i8, accf16 | acci32               element type, type of the sums
    nhwc | cgnhw.cnhw               layout of input and output, or input.output
    oi | io                         weight layout

Letters other than a-z, digits, dot, minus and underscore never occur, so the text is a file name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tvmconv import layouts
from tvmconv.errors import SpecError
from tvmconv.legality import ACTIVATIONS
from tvmconv.spec import ConvSpec, Size, default_weight_layout

_OPS = {"conv": "conv", "convt": "conv_transpose", "deform": "deform_conv"}
_OP_NAMES = {op: name for name, op in _OPS.items()}
_ACTIVATIONS = {name.replace("_", ""): name for name in ACTIVATIONS if name != "none"}
_DTYPES = {"f16": "float16", "bf16": "bfloat16", "i8": "int8"}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_ACC_DTYPES = {"accf16": "float16", "acci32": "int32"}
_ACC_NAMES = {dtype: name for name, dtype in _ACC_DTYPES.items()}
_FLAGS = {"mask": "mask", "flip": "flip", "bias": "bias", "scale": "scale_shift", "res": "residual"}
_MODES = ("reflect", "replicate", "circular")

_NUMBER = r"-?(?:\d+(?:\.\d+)?(?:e-?\d+)?|inf)"
_INTS = r"\d+(?:x\d+)*"


# --- writing ------------------------------------------------------------------------------------


def to_text(spec: ConvSpec) -> str:
    """Return the canonical text of a spec."""
    return "_".join(
        part
        for part in (
            f"{_OP_NAMES[spec.op]}{spec.rank}d",
            f"n{spec.n}c{spec.ic}s{_join(spec.in_size)}",
            f"o{spec.oc}k{_join(spec.kernel)}",
            *_geometry_parts(spec),
            *(name for name, field in _FLAGS.items() if getattr(spec, field)),
            _activation_part(spec),
            _DTYPE_NAMES.get(spec.dtype, ""),
            _ACC_NAMES.get(spec.acc_dtype, ""),
            _layout_part(spec),
            "" if spec.weight_layout == default_weight_layout(spec.op) else spec.weight_layout,
        )
        if part
    ).lower()


def _geometry_parts(spec: ConvSpec) -> list[str]:
    mode = {"zeros": "", "constant": f"const{_number(spec.pad_value)}"}
    return [
        "" if spec.groups == 1 else f"g{spec.groups}",
        _short("s", spec.stride, 1),
        _short("d", spec.dilation, 1),
        _pads_part(spec),
        _short("a", spec.output_padding, 0),
        mode.get(spec.padding_mode, spec.padding_mode),
        "" if spec.offset_groups == 1 else f"og{spec.offset_groups}",
    ]


def _join(values: Size) -> str:
    return "x".join(map(str, values))


def _short(letter: str, values: Size, default: int) -> str:
    if all(value == default for value in values):
        return ""
    return letter + (str(values[0]) if len(set(values)) == 1 else _join(values))


def _pads_part(spec: ConvSpec) -> str:
    if spec.pads_begin == spec.pads_end:
        return _short("p", spec.pads_begin, 0)
    pairs = [f"{begin}.{end}" for begin, end in zip(spec.pads_begin, spec.pads_end, strict=True)]
    return "p" + (pairs[0] if len(set(pairs)) == 1 else "x".join(pairs))


def _number(value: float) -> str:
    # repr is the shortest text that reads back to the same float; "+" of 1e+16 is not needed.
    text = repr(value).replace("e+", "e")
    return text.removesuffix(".0")


def _activation_part(spec: ConvSpec) -> str:
    if spec.activation == "none":
        return ""
    return spec.activation.replace("_", "") + "x".join(map(_number, spec.activation_args))


def _layout_part(spec: ConvSpec) -> str:
    first = layouts.channels_first(spec.rank)
    if spec.in_layout == spec.out_layout:
        text = "" if spec.in_layout == first else spec.in_layout
    else:
        text = f"{spec.in_layout}.{spec.out_layout}"
    return text.replace("W", "L") if spec.rank == 1 else text


# --- reading ------------------------------------------------------------------------------------


def from_text(text: str) -> ConvSpec:
    """Read the text of a spec; the parts after the third may come in any order.

    Raises:
        SpecError: names the part that cannot be read and shows where it stands, or says which
            rule of torch the convolution breaks.
    """
    parts = text.strip().lower().split("_")
    if len(parts) < 3:
        raise SpecError("spec", text, "at least operator, input and kernel: " + EXAMPLE)
    found: dict[str, Any] = {}
    for index, part in enumerate(parts):
        try:
            fields = _read_head(index, part) if index < 3 else _read_part(part, found)
        except SpecError as error:
            raise _pointing(text, parts, index, error.allowed) from None
        for name, value in fields.items():
            if name in found:
                raise _pointing(text, parts, index, f"{name} only once")
            found[name] = value
    rank = found.pop("rank")
    for name in _PER_AXIS:
        if name in found and len(found[name]) == 1:
            found[name] *= rank
    if len(found["kernel"]) != rank:
        raise _pointing(text, parts, 2, f"a kernel of {rank} axes, as {parts[0]} says")
    return ConvSpec(**found)


_PER_AXIS = (
    "in_size",
    "kernel",
    "stride",
    "dilation",
    "pads_begin",
    "pads_end",
    "output_padding",
)
EXAMPLE = "conv2d_n1c64s56x56_o64k3x3_p1_bias_relu"


def _pointing(text: str, parts: list[str], index: int, allowed: str) -> SpecError:
    column = len("_".join(parts[:index])) + (1 if index else 0)
    marked = f"{text.strip()}\n{' ' * column}{'^' * max(1, len(parts[index]))}"
    return SpecError(f"spec part {index + 1}", parts[index], f"{allowed}\n{marked}")


def _read_head(index: int, part: str) -> dict[str, Any]:
    pattern, allowed = (
        (r"(conv|convt|deform)([123])d", "conv, convt or deform, then 1d, 2d or 3d"),
        (rf"n(\d+)c(\d+)s({_INTS})", "batch, input channels and input size: n1c64s56x56"),
        (rf"o(\d+)k({_INTS})", "output channels and kernel: o64k3x3"),
    )[index]
    match = re.fullmatch(pattern, part)
    if match is None:
        raise SpecError("part", part, allowed)
    if index == 0:
        return {"op": _OPS[match[1]], "rank": int(match[2])}
    if index == 1:
        return {"n": int(match[1]), "ic": int(match[2]), "in_size": _split(match[3])}
    return {"oc": int(match[1]), "kernel": _split(match[2])}


def _split(text: str) -> Size:
    return tuple(map(int, text.split("x")))


def _read_part(part: str, found: dict[str, Any]) -> dict[str, Any]:
    rank = found["rank"]
    if part in _FLAGS:
        return {_FLAGS[part]: True}
    if part in _MODES:
        return {"padding_mode": part}
    if part in _DTYPES:
        return {"dtype": _DTYPES[part]}
    if part in _ACC_DTYPES:
        return {"acc_dtype": _ACC_DTYPES[part]}
    if part in ("oi", "io"):
        return {"weight_layout": part.upper()}
    for pattern, read in _PATTERNS:
        match = re.fullmatch(pattern, part)
        if match is not None:
            return read(match)
    if re.fullmatch(r"[ncgdhwl]+(\.[ncgdhwl]+)?", part):
        in_layout, _, out_layout = part.partition(".")
        return {
            "in_layout": layouts.canonical(in_layout, rank, layouts.allowed_in(rank), "layout"),
            "out_layout": layouts.canonical(
                out_layout or in_layout, rank, layouts.allowed_out(rank), "layout"
            ),
        }
    raise SpecError("part", part, "one of " + _ALLOWED)


def _read_activation(match: re.Match[str]) -> dict[str, Any]:
    args = tuple(map(float, match[2].split("x"))) if match[2] else ()
    return {"activation": _ACTIVATIONS[match[1]], "activation_args": args}


def _read_pads(match: re.Match[str]) -> dict[str, Any]:
    pairs = [axis.partition(".") for axis in match[1].split("x")]
    return {
        "pads_begin": tuple(int(begin) for begin, _, _ in pairs),
        "pads_end": tuple(int(end or begin) for begin, _, end in pairs),
    }


_PATTERNS: tuple[tuple[str, Callable[[re.Match[str]], dict[str, Any]]], ...] = (
    (r"g(\d+)", lambda match: {"groups": int(match[1])}),
    (rf"s({_INTS})", lambda match: {"stride": _split(match[1])}),
    (rf"d({_INTS})", lambda match: {"dilation": _split(match[1])}),
    (r"p(-?\d+(?:\.-?\d+)?(?:x-?\d+(?:\.-?\d+)?)*)", _read_pads),
    (rf"a({_INTS})", lambda match: {"output_padding": _split(match[1])}),
    (
        rf"const({_NUMBER})",
        lambda match: {"padding_mode": "constant", "pad_value": float(match[1])},
    ),
    (r"og(\d+)", lambda match: {"offset_groups": int(match[1])}),
    (
        rf"(relu6|{'|'.join(sorted(_ACTIVATIONS, key=len, reverse=True))})((?:{_NUMBER}x?)*)",
        _read_activation,
    ),
)

_ALLOWED = (
    "g<groups>, s<stride>, d<dilation>, p<padding>, a<output padding>, og<offset groups>, "
    "const<value>, "
    + ", ".join((*_MODES, *_FLAGS, *_ACTIVATIONS, *_DTYPES, *_ACC_DTYPES))
    + ", a layout such as nhwc, oi, io"
)
