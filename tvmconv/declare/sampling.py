"""Bilinear samples of deformable convolutions, as expressions.

The border rule is torchvision's: a sample further than one pixel outside is zero, and each of the
four corners counts only when it lies inside, so weights fade out between -1 and 0 and behind H - 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import te, tirx

from tvmconv.declare.declaration import flat_index, widened
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec

Expr = Any
# An element of x in float32 for n, row, column and channel of all groups.
Pixel = Callable[[Expr, Expr, Expr, Expr], Expr]


def sampler(
    spec: ConvSpec, problem: Problem, inputs: dict[str, te.Tensor], pixel: Pixel | None = None
) -> Callable[..., Expr]:
    """Value of x for n, offset group, output row and column, tap row and column, channel of it.

    ``pixel`` reads x where it lies in another order than the user's.
    """
    _, h, w = problem.axes
    per_group = spec.ic // spec.offset_groups
    corner = _corner_reader(problem, pixel or pixel_reader(problem, inputs["x"]))

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

    return value


def pixel_reader(problem: Problem, x: te.Tensor) -> Pixel:
    """X as the user has it: channels of all groups lie one stride apart in both layouts."""
    return lambda n, row, column, c: widened(x[problem.x.offset(n, 0, c, (0, row, column))])


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
    return widened(tensor[flat_index(index, shape)])


def _corner_reader(problem: Problem, read: Pixel) -> Callable[..., Expr]:
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
