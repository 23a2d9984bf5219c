"""The direct algorithm: forward, transposed, grouped and depthwise as one sum.

    out[n, g, b, p, q, v] = act(conv + bias[g, b, v])
    conv[n, g, b, p, q, v] = sum over taps j and ic of
        xpad[n, g, q * stride + origin(p) + j * step, ic] * weight[g, b, p, j, ic, v]

p are the phases of a transposed convolution (one, for a forward one), b blocks of v channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import te

from tvmconv.declare.border import read_padded
from tvmconv.declare.declaration import (
    Declaration,
    Placement,
    flat_index,
    tap_position,
    widened,
)
from tvmconv.declare.epilogue import epilogue
from tvmconv.declare.form import Form, Output
from tvmconv.declare.packing import arguments, packed_elems
from tvmconv.problem import Axis, Problem
from tvmconv.spec import ConvSpec

Expr = Any
# Side of the blocks in which rows are transposed or de-interleaved: one AVX-512 register.
TRANSPOSE_UNIT = 16
Reader = Callable[..., Expr]


def declare_direct(spec: ConvSpec, problem: Problem, form: Form) -> Declaration:
    """Declare ``run``: x, packed and, where the spec has one, residual, to y."""
    inputs = arguments(spec, problem, packed_elems(spec, problem, form))
    conv = reduce_taps(problem, form, read_x(problem, form, inputs["x"]), inputs["packed"])
    placement = output_placement(problem, form)
    out = epilogue(spec, problem, form, conv.shape, conv, inputs, placement)
    return Declaration(inputs, ((out, placement),), "y", form.order)


def reduce_taps(problem: Problem, form: Form, read: Reader, packed: te.Tensor) -> te.Tensor:
    """Stage ``conv``: the sum over taps and channels of what ``read`` gives, times the weights."""
    shape = form.weight_shape(problem)
    taps = [
        te.reduce_axis((0, axis.taps), name=f"k{name}")
        for axis, name in zip(problem.axes, "dhw", strict=True)
    ]
    ic = te.reduce_axis((0, problem.icg), name="ic")

    def term(*index: Expr) -> Expr:
        o = form.at(index)
        at = list(zip(problem.axes, o.q, o.phase, taps, strict=True))
        value = read(o.n, o.g, o.b, o.v, ic, at)
        weight = widened(packed[flat_index((o.g, o.b, *o.phase, *taps, ic, o.v), shape)])
        return te.sum(value * weight, axis=[*taps, ic])

    return te.compute(form.blocked_shape(problem), term, name="conv")


def staged_extents(problem: Problem, form: Form) -> tuple[int, int, int]:
    """Sizes of the staged window over the whole output, whole tiles included."""
    d, h, w = (
        axis.window(quotients) - axis.low
        for axis, quotients in zip(problem.axes, form.quotients(problem), strict=True)
    )
    return d, h, w


@dataclass(frozen=True)
class Rows:
    """How a staged window counts its rows.

    One by one; or, where a block's taps lie far apart, by tap and output, and what lies between
    is not staged: it is most of a window at dilation 12.

    Attributes:
        axis: along which rows lie.
        extents: sizes of the axes that count them.
    """

    axis: Axis
    extents: tuple[int, ...]

    @classmethod
    def of(cls, problem: Problem, form: Form) -> Rows:
        """By tap where that stages fewer."""
        axis, (_, quotients, _) = problem.axes[1], form.quotients(problem)
        if axis.rows(form.block_oh) < axis.window(form.block_oh) - axis.low:
            return cls(axis, (axis.taps, quotients))
        return cls(axis, (axis.window(quotients) - axis.low,))

    def local(self, index: tuple[Expr, ...]) -> Expr:
        """Row of the whole window, counted from the axis' low."""
        return index[0] if len(index) == 1 else index[0] * self.axis.step + index[1]

    def at(self, quotient: Expr, phase: Expr, tap: Expr) -> tuple[Expr, ...]:
        """Index of the row that a tap of an output reads."""
        if len(self.extents) == 1:
            return (tap_position(self.axis, quotient, phase, tap) - self.axis.low,)
        return tap, quotient


def read_x(problem: Problem, form: Form, x: te.Tensor) -> Reader:
    """How taps read x: in place, or through the stage ``xpad``."""
    if form.stage == "none":
        return _read_in_place(problem, form, x)
    if form.stage == "guarded":
        return _read_guarded(problem, form, x)
    return _STAGES[form.stage, form.per_lane](problem, form, x)


def _read_in_place(problem: Problem, form: Form, x: te.Tensor) -> Reader:
    def read(n: Expr, g: Expr, b: Expr, v: Expr, ic: Expr, at: Any) -> Expr:
        group, c = _input_channel(problem, form, g, b, v, ic)
        return x[problem.x.offset(n, group, c, tuple(tap_position(*a) for a in at))]

    return read


def _read_guarded(problem: Problem, form: Form, x: te.Tensor) -> Reader:
    """Read x in place with a test per tap; the schedule splits off the tiles that need none."""
    extents = staged_extents(problem, form)

    def read(n: Expr, g: Expr, b: Expr, v: Expr, ic: Expr, at: Any) -> Expr:
        group, c = _input_channel(problem, form, g, b, v, ic)
        local = [tap_position(*a) - a[0].low for a in at]
        valid = _lane_exists(problem, form, b, v)
        return read_padded(x, problem, extents, n, group, c, local, valid)

    return read


def _input_channel(
    problem: Problem, form: Form, g: Expr, b: Expr, v: Expr, ic: Expr
) -> tuple[Expr, Expr]:
    """Group and channel within it that lane v of block b reads."""
    if not form.per_lane:
        return g, ic
    return (b * form.tile_oc + v) // problem.ocg, ic


def _lane_exists(problem: Problem, form: Form, b: Expr, v: Expr) -> list[Expr]:
    """Whether lane v of block b has a channel, where each lane has its own; nothing if all have."""
    channels = form.channels(problem)
    if not form.per_lane or form.blocks(problem) * form.tile_oc == channels:
        return []
    return [b * form.tile_oc + v < channels]


def _stage_pixels(problem: Problem, form: Form, x: te.Tensor) -> Reader:
    rows, xpad = Rows.of(problem, form), _padded_pixels(problem, form, x, 1, "xpad")

    def read(n: Expr, g: Expr, b: Expr, v: Expr, ic: Expr, at: Any) -> Expr:
        d, w = (tap_position(*a) - a[0].low for a in (at[0], at[2]))
        return xpad[n, g, d, *rows.at(*at[1][1:]), w, ic]

    return read


def _stage_pixels_per_lane(problem: Problem, form: Form, x: te.Tensor) -> Reader:
    """Channels spread over the lanes: lane v holds channel ic of the group it belongs to."""
    extents, blocks = staged_extents(problem, form), form.blocks(problem)

    def spread(n: Expr, b: Expr, d: Expr, h: Expr, w: Expr, ic: Expr, v: Expr) -> Expr:
        valid = _lane_exists(problem, form, b, v)
        group, c = _input_channel(problem, form, 0, b, v, ic)
        return read_padded(x, problem, extents, n, group, c, (d, h, w), valid)

    shape = (max(1, problem.n), blocks, *extents, problem.icg, form.tile_oc)
    xpad = te.compute(shape, spread, name="xpad")

    def read(n: Expr, g: Expr, b: Expr, v: Expr, ic: Expr, at: Any) -> Expr:
        return xpad[n, b, *(tap_position(*a) - a[0].low for a in at), ic, v]

    return read


def _stage_planes(problem: Problem, form: Form, x: te.Tensor) -> Reader:
    """Columns that are one stride apart become neighbours: a vector of outputs reads a vector."""
    split = problem.axes[2].stride if form.vector == "ow" else 1
    padded = _padded_rows(problem, form, x, split, "xpad" if split == 1 else "xrow")
    rows, xpad = Rows.of(problem, form), padded
    if split > 1:
        *lead, w = (int(e) for e in padded.shape)

        def apart(*index: Expr) -> Expr:
            *row, r, w = index
            return padded[*row, w * split + r]

        xpad = te.compute((*lead, split, w // split), apart, name="xpad")

    def read(n: Expr, g: Expr, b: Expr, v: Expr, ic: Expr, at: Any) -> Expr:
        d, h = tap_position(*at[0]) - at[0][0].low, rows.at(*at[1][1:])
        axis, q, phase, tap = at[2]
        if split == 1:
            return xpad[n, g, ic, d, *h, tap_position(axis, q, phase, tap) - axis.low]
        # With a stride there is one phase, whose origin is the axis' low.
        shift = tap * axis.step
        return xpad[n, g, ic, d, *h, shift % split, q + shift // split]

    return read


def _stage_transposed(problem: Problem, form: Form, x: te.Tensor) -> Reader:
    """Channels-first x as pixels: padded rows first, so that the transposition needs no test."""
    side, rows = form.square, Rows.of(problem, form)
    padded = _padded_rows(problem, form, x, side, "xrow")
    n, g, c, *lead, w = (int(e) for e in padded.shape)

    # Columns by squares, so that whole squares are staged however many columns are read.
    def turned(n: Expr, g: Expr, *index: Expr) -> Expr:
        *row, s, w, c = index
        return padded[n, g, c, *row, s * side + w]

    xpad = te.compute((n, g, *lead, w // side, side, c), turned, name="xpad")

    def read(n: Expr, g: Expr, b: Expr, v: Expr, ic: Expr, at: Any) -> Expr:
        d, w = (tap_position(*a) - a[0].low for a in (at[0], at[2]))
        return xpad[n, g, d, *rows.at(*at[1][1:]), w // side, w % side, ic]

    return read


def _stage_turned(problem: Problem, form: Form, x: te.Tensor) -> Reader:
    """Channels-last x as rows of each channel: padded pixels first, as for ``transposed``."""
    rows = Rows.of(problem, form)
    pixels = _padded_pixels(problem, form, x, TRANSPOSE_UNIT, "xrow")
    *lead, length, channels = (int(e) for e in pixels.shape)

    def turned(*index: Expr) -> Expr:
        *row, c, w = index
        return pixels[*row, w, c]

    xpad = te.compute((*lead, channels, length), turned, name="xpad")

    def read(n: Expr, g: Expr, b: Expr, v: Expr, ic: Expr, at: Any) -> Expr:
        d, w = (tap_position(*a) - a[0].low for a in (at[0], at[2]))
        return xpad[n, g, d, *rows.at(*at[1][1:]), ic, w]

    return read


def _padded_pixels(problem: Problem, form: Form, x: te.Tensor, unit: int, name: str) -> te.Tensor:
    """Stage of padded pixels, channels last; rows are a multiple of ``unit`` pixels."""
    d, h, w = staged_extents(problem, form)
    window, rows = (d, h, -(-w // unit) * unit), Rows.of(problem, form)

    def pixel(n: Expr, g: Expr, i: Expr, *index: Expr) -> Expr:
        *j, k, c = index
        return read_padded(x, problem, window, n, g, c, (i, rows.local(tuple(j)), k))

    shape = (max(1, problem.n), problem.g, d, *rows.extents, window[2], problem.icg)
    return te.compute(shape, pixel, name=name)


def _padded_rows(problem: Problem, form: Form, x: te.Tensor, unit: int, name: str) -> te.Tensor:
    """Stage of whole padded rows, channels outermost; row lengths are a multiple of ``unit``."""
    d, h, w = staged_extents(problem, form)
    length = -(-w // unit) * unit
    if unit > 1 and form.vector == "ow":
        # Vectors are taken from each of the ``unit`` interleaved rows.
        length = -(-w // (unit * TRANSPOSE_UNIT)) * unit * TRANSPOSE_UNIT
    channels = problem.icg
    if name == "xrow" and form.vector == "oc":
        channels = -(-channels // form.square) * form.square
    window, rows = (d, h, length), Rows.of(problem, form)

    def row(n: Expr, g: Expr, c: Expr, i: Expr, *index: Expr) -> Expr:
        *j, k = index
        valid = [c < problem.icg] if channels > problem.icg else []
        return read_padded(x, problem, window, n, g, c, (i, rows.local(tuple(j)), k), valid)

    shape = (max(1, problem.n), problem.g, channels, d, *rows.extents, length)
    return te.compute(shape, row, name=name)


_STAGES = {
    ("pixels", False): _stage_pixels,
    ("pixels", True): _stage_pixels_per_lane,
    ("planes", False): _stage_planes,
    ("transposed", False): _stage_transposed,
    ("turned", False): _stage_turned,
}


def output_placement(problem: Problem, form: Form) -> Placement:
    """Blocked ``out`` to the user's layout: phases interleave, whole tiles are cropped."""
    blocks, quotients = form.blocks(problem), form.quotients(problem)
    channels = form.channels(problem)

    def split(index: tuple[Expr, ...]) -> tuple[Output, Expr, tuple[Expr, ...]]:
        o = form.at(index)
        space = (q * axis.phases + p for axis, p, q in zip(problem.axes, o.phase, o.q, strict=True))
        return o, o.b * form.tile_oc + o.v, tuple(space)

    def offset(*index: Expr) -> Expr:
        o, c, space = split(index)
        return problem.y.offset(o.n, o.g, c, space)

    def guards(*index: Expr) -> list[Expr]:
        _, c, space = split(index)
        tests = [
            position < axis.out_extent
            for axis, position, q in zip(problem.axes, space, quotients, strict=True)
            if q * axis.phases > axis.out_extent
        ]
        if blocks * form.tile_oc > channels:
            tests.append(c < channels)
        return tests

    return Placement("out", "y", max(1, problem.y_elems), offset, guards)
