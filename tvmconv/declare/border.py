"""Reading x at coordinates that may lie outside: one expression per padding mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te, tirx

from tvmconv.declare.declaration import widened
from tvmconv.problem import Axis, Problem

Expr = Any


def read_padded(
    x: te.Tensor,
    problem: Problem,
    extents: Sequence[int],
    n: Expr,
    g: Expr,
    c: Expr,
    local: Sequence[Expr],
    valid: Sequence[Expr] = (),
) -> Expr:
    """Value of the padded input at ``local`` coordinates, which count from each axis' low; float32.

    ``extents`` are the sizes of the window that ``local`` runs over; sides that cannot leave the
    input get no test. ``valid`` are further conditions under which x may be read at all.
    """
    conditions, space = list(valid), []
    for axis, index, extent in zip(problem.axes, local, extents, strict=True):
        position = index + axis.low
        high = axis.low + extent
        mapped = _WRAP.get(problem.padding_mode)
        if mapped is not None and axis.is_padded:
            # Columns beyond the last real output read garbage; clamping keeps them inside x.
            position = _clamp(mapped(position, axis), axis)
        else:
            if axis.low < 0:
                conditions.append(position >= 0)
            if high > axis.in_extent:
                conditions.append(position < axis.in_extent)
        space.append(position)
    value = widened(x[problem.x.offset(n, g, c, tuple(space))])
    if not conditions:
        return value
    return tirx.if_then_else(tirx.all(*conditions), value, tirx.const(problem.pad_value, "float32"))


def _reflect(position: Expr, axis: Axis) -> Expr:
    inside = te.max(position, -position)
    return te.min(inside, 2 * (axis.in_extent - 1) - inside)


def _replicate(position: Expr, axis: Axis) -> Expr:
    return position


def _circular(position: Expr, axis: Axis) -> Expr:
    # Padding is at most one input wide, so one addition and one subtraction wrap it.
    size = axis.in_extent
    lifted = tirx.Select(position < 0, position + size, position)
    return tirx.Select(lifted >= size, lifted - size, lifted)


def _clamp(position: Expr, axis: Axis) -> Expr:
    return te.max(te.min(position, axis.in_extent - 1), 0)


_WRAP: dict[str, Callable[[Expr, Axis], Expr]] = {
    "reflect": _reflect,
    "replicate": _replicate,
    "circular": _circular,
}
