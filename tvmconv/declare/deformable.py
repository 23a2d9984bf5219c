"""Deformable convolution (Dai et al. 2017; with masks, Zhu et al. 2019): sample, then multiply.

    sample[n, o, tap, c] = mask * bilinear(x[n, c], o * stride - pad + tap * dilation + offset)
    conv[n, g, b, o, v]  = sum over tap, ic of sample[n, o, tap, ic] * weight[g, b, tap, ic, v]

The border rule is torchvision's: a sample further than one pixel outside is zero, and each of the
four corners counts only when it lies inside, so weights fade out between -1 and 0 and behind H - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from tvm import te, tirx

from tvmconv.declare.declaration import Declaration
from tvmconv.declare.direct import output_placement, reduce_taps
from tvmconv.declare.epilogue import epilogue
from tvmconv.declare.form import Form
from tvmconv.declare.packing import packed_elems
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec

Expr = Any


def declare_deformable(spec: ConvSpec, problem: Problem, form: Form) -> Declaration:
    """Declare ``run``: x, packed, [residual,] offset, [mask] to y."""
    inputs = {
        "x": te.placeholder((max(1, problem.x_elems),), name="x"),
        "packed": te.placeholder((packed_elems(spec, problem, form),), name="packed"),
    }
    if spec.residual:
        inputs["residual"] = te.placeholder((max(1, problem.y_elems),), name="residual")
    inputs["offset"] = te.placeholder((max(1, prod(spec.offset_shape)),), name="offset")
    if spec.mask:
        inputs["mask"] = te.placeholder((max(1, prod(spec.mask_shape)),), name="mask")
    sample = _sample(spec, problem, form, inputs)
    per_offset_group = spec.ic // spec.offset_groups

    def read(n: Expr, g: Expr, b: Expr, v: Expr, ic: Expr, at: Any) -> Expr:
        (_, _, _, _), (_, qh, _, kh), (_, qw, _, kw) = at
        c = g * problem.icg + ic
        if spec.offset_groups == 1:
            return sample[n, 0, qh, qw, kh, kw, c]
        return sample[n, c // per_offset_group, qh, qw, kh, kw, c % per_offset_group]

    conv = reduce_taps(problem, form, read, inputs["packed"])
    placement = output_placement(problem, form)
    out = epilogue(spec, problem, form, conv.shape, conv, inputs, placement)
    return Declaration(inputs, ((out, placement),), "y", form.order)


def _sample(
    spec: ConvSpec, problem: Problem, form: Form, inputs: dict[str, te.Tensor]
) -> te.Tensor:
    """Stage ``sample``; the offset group is an axis, so that positions do not depend on c."""
    _, h, w = problem.axes
    _, rows, columns = form.quotients(problem)
    per_group = spec.ic // spec.offset_groups
    corner = _corner_reader(problem, _channels_last(spec, problem, inputs["x"]))

    def value(n: Expr, og: Expr, oh: Expr, ow: Expr, kh: Expr, kw: Expr, c: Expr) -> Expr:
        tap = og * (h.taps * w.taps) + kh * w.taps + kw
        row, column = te.min(oh, h.out_extent - 1), te.min(ow, w.out_extent - 1)
        place = (n, row, column)
        y = (oh * h.stride + h.origins[0] + kh * h.step).astype("float32")
        x = (ow * w.stride + w.origins[0] + kw * w.step).astype("float32")
        y = y + _per_tap(inputs["offset"], spec.offset_shape, spec, place, tap * 2)
        x = x + _per_tap(inputs["offset"], spec.offset_shape, spec, place, tap * 2 + 1)
        sampled = _bilinear(corner, n, og * per_group + c, y, x, h.in_extent, w.in_extent)
        if spec.mask:
            sampled = sampled * _per_tap(inputs["mask"], spec.mask_shape, spec, place, tap)
        return sampled

    shape = (max(1, problem.n), spec.offset_groups, rows, columns, h.taps, w.taps, per_group)
    return te.compute(shape, value, name="sample")


def _channels_last(
    spec: ConvSpec, problem: Problem, x: te.Tensor
) -> Callable[[Expr, Expr, Expr, Expr], Expr]:
    """X with neighbouring channels: as it is, or through the stage ``xlast``."""
    _, h, w = problem.axes

    def at(n: Expr, row: Expr, column: Expr, c: Expr) -> Expr:
        # Channels of all groups lie one stride apart in both layouts that this operator has.
        return x[problem.x.offset(n, 0, c, (0, row, column))]

    if problem.channels_last:
        return at
    shape = (max(1, problem.n), h.in_extent, w.in_extent, spec.ic)
    xlast = te.compute(shape, at, name="xlast")
    return lambda n, row, column, c: xlast[n, row, column, c]


def _per_tap(
    tensor: te.Tensor,
    shape: tuple[int, ...],
    spec: ConvSpec,
    place: tuple[Expr, ...],
    channel: Expr,
) -> Expr:
    """Element of offset or mask, which follow x's layout."""
    n, row, column = place
    channels_last = spec.in_layout.endswith("C")
    index = (n, row, column, channel) if channels_last else (n, channel, row, column)
    offset: Expr = 0
    for i, extent in zip(index, shape, strict=True):
        offset = offset * extent + i
    return tensor[offset]


def _corner_reader(
    problem: Problem, read: Callable[[Expr, Expr, Expr, Expr], Expr]
) -> Callable[..., Expr]:
    _, h, w = problem.axes

    def corner(n: Expr, c: Expr, row: Expr, column: Expr) -> Expr:
        inside = tirx.all(row >= 0, row < h.in_extent, column >= 0, column < w.in_extent)
        return tirx.if_then_else(inside, read(n, row, column, c), tirx.const(0.0, "float32"))

    return corner


def _bilinear(
    corner: Callable[..., Expr], n: Expr, c: Expr, y: Expr, x: Expr, height: int, width: int
) -> Expr:
    one = tirx.const(1.0, "float32")
    top, left = te.floor(y), te.floor(x)
    fy, fx = y - top, x - left
    row, column = top.astype("int32"), left.astype("int32")
    total = (
        corner(n, c, row, column) * ((one - fy) * (one - fx))
        + corner(n, c, row, column + 1) * ((one - fy) * fx)
        + corner(n, c, row + 1, column) * (fy * (one - fx))
        + corner(n, c, row + 1, column + 1) * (fy * fx)
    )
    near = tirx.all(
        y > tirx.const(-1.0, "float32"),
        x > tirx.const(-1.0, "float32"),
        y < tirx.const(float(height), "float32"),
        x < tirx.const(float(width), "float32"),
    )
    return tirx.if_then_else(near, total, tirx.const(0.0, "float32"))
