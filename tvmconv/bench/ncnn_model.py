"""A layer as ncnn's two files: text that names layers and their parameters, and raw weights.

Parameters go by number (docs/developer-guide/operators.md of ncnn); -23300 - n is an array.
"""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from tvmconv.bench.plain import Plain
from tvmconv.errors import UnsupportedSpec
from tvmconv.spec import ConvSpec

MAGIC = 7767517
FLOAT32_TAG = b"\0\0\0\0"  # says that the weights behind it are plain float32

# Per axis, innermost first: w, h, d.
KERNEL, DILATION, STRIDE = (1, 11, 21), (2, 12, 22), (3, 13, 23)
PAD_BEGIN, PAD_END = (4, 14, 24), (15, 16, 17)
OUTPUT_PAD = (18, 19, 20)
RANK_SUFFIX = {1: "1D", 2: "", 3: "3D"}
PAD_TYPES = {"zeros": 0, "constant": 0, "replicate": 1, "reflect": 2}

Parameters = dict[int, float | Sequence[float]]


def files(plain: Plain) -> tuple[str, bytes]:
    """The param text and the weights; inputs "x", "offset", "mask", "residual"; output "y".

    Raises:
        UnsupportedSpec: ncnn has no such layer.
    """
    spec = plain.spec
    _check(spec)
    layers = [_line("Input", "x", [], ["x"])]
    sampled = ["offset", "mask"][: spec.mask + 1] if spec.op == "deform_conv" else []
    for name in (*sampled, *(["residual"] if spec.residual else [])):
        layers.append(_line("Input", name, [], [name]))
    last = "x"
    if _padded_before(spec):
        layers.append(_line("Padding", "pad", [last], ["padded"], _padding(spec)))
        last = "padded"
    fused = {} if spec.residual else _activation(spec)
    after = "" if fused or spec.activation == "none" else _separate(spec)
    steps = [(_operator(spec), _convolution(plain) | fused, sampled)]
    if spec.residual:
        steps.append(("BinaryOp", {0: 0}, ["residual"]))
    if after:
        steps.append((after, _separate_parameters(spec), []))
    for number, (operator, parameters, more) in enumerate(steps):
        to = "y" if number == len(steps) - 1 else f"step{number}"
        layers.append(_line(operator, to, [last, *more], [to], parameters))
        last = to
    # Every layer gives one blob.
    text = "\n".join([str(MAGIC), f"{len(layers)} {len(layers)}", *layers]) + "\n"
    return text, _weights(plain)


def _check(spec: ConvSpec) -> None:
    if spec.n != 1:
        raise UnsupportedSpec("ncnn takes one image at a time")
    if spec.op == "deform_conv" and (spec.groups > 1 or spec.offset_groups > 1):
        raise UnsupportedSpec("ncnn's deformable convolution has no groups")
    if spec.padding_mode not in PAD_TYPES:
        raise UnsupportedSpec(f"ncnn has no padding mode {spec.padding_mode}")
    if _padded_before(spec) and spec.rank == 3 and spec.padding_mode == "reflect":
        raise UnsupportedSpec("ncnn reflects images only")
    if min(spec.pads_begin + spec.pads_end) < 0:
        raise UnsupportedSpec("ncnn has no negative padding")


def _line(
    operator: str,
    name: str,
    bottoms: Sequence[str],
    tops: Sequence[str],
    parameters: Mapping[int, float | Sequence[float]] | None = None,
) -> str:
    """One layer: operator, name, counts, blobs, parameters."""
    values = [
        f"{number}={value!r}"
        if isinstance(value, int | float)
        else f"{-23300 - number}={len(value)}," + ",".join(f"{v:.9g}" for v in value)
        for number, value in (parameters or {}).items()
    ]
    return " ".join([operator, name, str(len(bottoms)), str(len(tops)), *bottoms, *tops, *values])


def _operator(spec: ConvSpec) -> str:
    if spec.op == "deform_conv":
        return "DeformableConv2D"
    grouped = "DepthWise" if spec.groups > 1 else ""
    kind = "Deconvolution" if spec.op == "conv_transpose" else "Convolution"
    return f"{kind}{grouped}{RANK_SUFFIX[spec.rank]}"


def _padded_before(spec: ConvSpec) -> bool:
    return spec.padding_mode not in ("zeros", "constant")


def _padding(spec: ConvSpec) -> Parameters:
    """A Padding layer: 0 to 3 top, bottom, left, right; 4 the type; 7 and 8 front and behind."""
    (top, left), (bottom, right) = ((0, 0, *p)[-2:] for p in (spec.pads_begin, spec.pads_end))
    found: Parameters = {0: top, 1: bottom, 2: left, 3: right, 4: PAD_TYPES[spec.padding_mode]}
    if spec.rank == 3:
        found |= {7: spec.pads_begin[0], 8: spec.pads_end[0]}
    return found


def _convolution(plain: Plain) -> Parameters:
    spec = plain.spec
    found: Parameters = {0: spec.oc, 5: int(plain.bias is not None), 6: plain.weight.size}
    if spec.groups > 1:
        found[7] = spec.groups
    zeros = (0,) * spec.rank
    outside = _padded_before(spec)
    axes = [
        (KERNEL, spec.kernel),
        (DILATION, spec.dilation),
        (STRIDE, spec.stride),
        (PAD_BEGIN, zeros if outside else spec.pads_begin),
        (PAD_END, zeros if outside else spec.pads_end),
    ]
    if spec.op == "conv_transpose":
        axes.append((OUTPUT_PAD, spec.output_padding))
    elif spec.padding_mode == "constant":
        found[18] = spec.pad_value
    for numbers, values in axes:
        found |= dict(zip(numbers, values[::-1], strict=False))
    return found


def _activation(spec: ConvSpec) -> Parameters:
    """What a convolution applies by itself: 9 is the type, 10 its arguments."""
    args = spec.activation_args
    match spec.activation:
        case "relu":
            return {9: 1}
        case "leaky_relu":
            return {9: 2, 10: args}
        case "relu6" | "clip":
            return {9: 3, 10: args or (0.0, 6.0)}
        case "sigmoid":
            return {9: 4}
        case "hardswish":
            return {9: 6, 10: (1 / 6, 0.5)}
    return {}


def _separate(spec: ConvSpec) -> str:
    """The layer of an activation that stands alone."""
    names = {
        "relu": "ReLU",
        "leaky_relu": "ReLU",
        "relu6": "Clip",
        "clip": "Clip",
        "sigmoid": "Sigmoid",
        "hardswish": "HardSwish",
        "silu": "Swish",
        "gelu": "GELU",
        "gelu_tanh": "GELU",
        "tanh": "TanH",
    }
    return names.get(spec.activation, "")


def _separate_parameters(spec: ConvSpec) -> Parameters:
    args = spec.activation_args
    match spec.activation:
        case "leaky_relu":
            return {0: args[0]}
        case "relu6" | "clip":
            low, high = args or (0.0, 6.0)
            return {0: low, 1: high}
        case "hardswish":
            return {0: 1 / 6, 1: 0.5}
        case "gelu_tanh":
            return {0: 1}
    return {}


def _weights(plain: Plain) -> bytes:
    """Weights as [oc, ic/g, *k] in each group; a deconvolution has them so too."""
    spec, weight = plain.spec, plain.weight
    if spec.op == "conv_transpose":
        per_group = weight.reshape(spec.groups, spec.ic // spec.groups, *weight.shape[1:])
        weight = per_group.swapaxes(1, 2)
    assert weight.size == spec.oc * spec.ic // spec.groups * prod(spec.kernel)
    parts = [FLOAT32_TAG, np.ascontiguousarray(weight).tobytes()]
    if plain.bias is not None:
        parts.append(np.ascontiguousarray(plain.bias).tobytes())
    return b"".join(parts)
