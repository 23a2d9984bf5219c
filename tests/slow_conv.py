"""What a ConvSpec means, evaluated in float64 by plain loops over the taps; numpy alone.

Independent of the compiled kernels and of torch: each tap of the kernel gathers (or, transposed,
scatters) the positions that it sees, and nothing is done cleverly.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from tvmconv.spec import ConvSpec

# Any, because numpy's own types do not follow an index that mixes ints and an ellipsis.
Array = Any


def slow_conv(
    spec: ConvSpec,
    x: Array,
    weight: Array,
    *,
    bias: Array | None = None,
    scale: Array | None = None,
    shift: Array | None = None,
    residual: Array | None = None,
    offset: Array | None = None,
    mask: Array | None = None,
) -> Array:
    """Evaluate a spec; arrays have the shapes that the spec states, the result spec.out_shape."""
    assert x.shape == spec.x_shape, f"x is {x.shape}, not {spec.x_shape}"
    assert weight.shape == spec.weight_shape, f"weight is {weight.shape}, not {spec.weight_shape}"
    planar = _to_planar(x.astype(np.float64), spec.in_layout)
    taps = _grouped_weight(spec, weight.astype(np.float64))
    if spec.op == "conv_transpose":
        y = _scatter(spec, planar, taps)
    elif spec.op == "deform_conv":
        assert offset is not None
        offset = _to_planar(offset.astype(np.float64), _plain(spec.in_layout))
        if mask is not None:
            mask = _to_planar(mask.astype(np.float64), _plain(spec.in_layout))
        y = _sample(spec, planar, taps, offset, mask)
    else:
        y = _gather(spec, planar, taps)
    per_channel = (1, -1) + (1,) * spec.rank
    if spec.bias:
        assert bias is not None
        y = y + bias.reshape(per_channel)
    if spec.scale_shift:
        assert scale is not None
        assert shift is not None
        y = y * scale.reshape(per_channel) + shift.reshape(per_channel)
    if spec.residual:
        assert residual is not None
        y = y + _to_planar(residual.astype(np.float64), spec.out_layout)
    y = ACTIVATIONS[spec.activation](y, *spec.activation_args)
    return _from_planar(y, spec.out_layout)


def _plain(layout: str) -> str:
    return layout.replace("G", "")


def _to_planar(a: Array, layout: str) -> Array:
    """Bring memory order to [n, g * c, *space]."""
    space = [letter for letter in layout if letter in "DHW"]
    order = [layout.index(letter) for letter in ["N", *("G" if "G" in layout else ""), "C", *space]]
    a = a.transpose(order)
    return a.reshape(a.shape[0], -1, *a.shape[3:]) if "G" in layout else a


def _from_planar(a: Array, layout: str) -> Array:
    letters = "NC" + "".join(letter for letter in layout if letter in "DHW")
    return a.transpose([letters.index(letter) for letter in layout])


def _grouped_weight(spec: ConvSpec, w: Array) -> Array:
    """Bring a weight to [g, output channels of a group, input channels of a group, *kernel]."""
    g, out, into = spec.groups, spec.oc // spec.groups, spec.ic // spec.groups
    if spec.flip:
        w = np.flip(w, tuple(range(2, w.ndim)))
    if spec.op != "conv_transpose":
        w = w if spec.weight_layout == "OI" else w.swapaxes(0, 1)
        return w.reshape(g, out, into, *spec.kernel)
    w = w if spec.weight_layout == "IO" else w.swapaxes(0, 1)
    return w.reshape(g, into, out, *spec.kernel).swapaxes(1, 2)


def _source(spec: ConvSpec, axis: int, position: int) -> int | None:
    """Return the input index that a position of the padded axis shows, None outside the input."""
    size = spec.in_size[axis]
    if 0 <= position < size:
        return position
    if spec.padding_mode == "reflect":
        return -position if position < 0 else 2 * (size - 1) - position
    if spec.padding_mode == "replicate":
        return 0 if position < 0 else size - 1
    if spec.padding_mode == "circular":
        return position % size
    return None


def _gather(spec: ConvSpec, x: Array, w: Array) -> Array:
    y = np.zeros((spec.n, spec.groups, spec.oc // spec.groups, *spec.out_size))
    outside = spec.pad_value if spec.padding_mode == "constant" else 0.0
    grouped = x.reshape(spec.n, spec.groups, spec.ic // spec.groups, *spec.in_size)
    for tap in product(*map(range, spec.kernel)):
        seen = grouped
        for axis, u in enumerate(tap):
            start = u * spec.dilation[axis] - spec.pads_begin[axis]
            positions = [start + o * spec.stride[axis] for o in range(spec.out_size[axis])]
            sources = [_source(spec, axis, position) for position in positions]
            seen = np.take(seen, [source or 0 for source in sources], axis=3 + axis)
            out = [o for o, source in enumerate(sources) if source is None]
            seen[(slice(None),) * (3 + axis) + (out,)] = outside
        y += np.einsum("ngi...,goi->ngo...", seen, w[(..., *tap)])
    return y.reshape(spec.n, spec.oc, *spec.out_size)


def _scatter(spec: ConvSpec, x: Array, w: Array) -> Array:
    grouped = x.reshape(spec.n, spec.groups, spec.ic // spec.groups, *spec.in_size)
    y: Array = np.zeros((spec.n, spec.groups, spec.oc // spec.groups, *spec.out_size))
    for tap in product(*map(range, spec.kernel)):
        value = np.einsum("ngi...,goi->ngo...", grouped, w[(..., *tap)])
        for where in product(*map(range, spec.in_size)):
            target = tuple(
                i * s + u * d - p
                for i, s, u, d, p in zip(
                    where, spec.stride, tap, spec.dilation, spec.pads_begin, strict=True
                )
            )
            if all(0 <= t < size for t, size in zip(target, spec.out_size, strict=True)):
                y[..., *target] += value[..., *where]
    return y.reshape(spec.n, spec.oc, *spec.out_size)


def _sample(spec: ConvSpec, x: Array, w: Array, offset: Array, mask: Array | None) -> Array:
    """Deformable convolution as torchvision has it: bilinear, zero from -1 and from the size on."""
    _, kw = spec.kernel
    oh, ow = spec.out_size
    per_offset = spec.ic // spec.offset_groups
    columns = np.zeros((spec.n, spec.ic, *spec.kernel, oh, ow))
    for n, c, u, v, i, j in product(
        range(spec.n), range(spec.ic), *map(range, spec.kernel), range(oh), range(ow)
    ):
        tap = (c // per_offset) * math.prod(spec.kernel) + u * kw + v
        h = i * spec.stride[0] - spec.pads_begin[0] + u * spec.dilation[0]
        q = j * spec.stride[1] - spec.pads_begin[1] + v * spec.dilation[1]
        value = _bilinear(x[n, c], h + offset[n, 2 * tap, i, j], q + offset[n, 2 * tap + 1, i, j])
        columns[n, c, u, v, i, j] = value * (1.0 if mask is None else mask[n, tap, i, j])
    grouped = columns.reshape(spec.n, spec.groups, -1, *columns.shape[2:])
    return np.einsum("ngiuvhw,goiuv->ngohw", grouped, w).reshape(spec.n, spec.oc, oh, ow)


def _bilinear(image: Array, h: float, q: float) -> float:
    if not (-1 < h < image.shape[0] and -1 < q < image.shape[1]):
        return 0.0
    top, left = math.floor(h), math.floor(q)
    total = 0.0
    for row, part in ((top, top + 1 - h), (top + 1, h - top)):
        for column, share in ((left, left + 1 - q), (left + 1, q - left)):
            if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                total += part * share * float(image[row, column])
    return total


def _gelu(v: Array) -> Array:
    return 0.5 * v * (1.0 + np.vectorize(math.erf, otypes=[np.float64])(v / math.sqrt(2.0)))


ACTIVATIONS: dict[str, Callable[..., Array]] = {
    "none": lambda v: v,
    "relu": lambda v: np.maximum(v, 0.0),
    "relu6": lambda v: np.clip(v, 0.0, 6.0),
    "clip": lambda v, low, high: np.clip(v, low, high),
    "leaky_relu": lambda v, slope: np.where(v > 0, v, v * slope),
    "silu": lambda v: v / (1.0 + np.exp(-v)),
    "hardswish": lambda v: v * np.clip(v + 3.0, 0.0, 6.0) / 6.0,
    "gelu": _gelu,
    "gelu_tanh": lambda v: (
        0.5 * v * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (v + 0.044715 * v**3)))
    ),
    "sigmoid": lambda v: 1.0 / (1.0 + np.exp(-v)),
    "tanh": np.tanh,
}
