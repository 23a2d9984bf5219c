"""Skip the taps that fall into zero padding: tap loops get bounds that depend on the tile.

The stage ``xpad`` makes every tap legal, but a tap whose whole tile lies in the padding adds only
zeros. oneDNN skips such taps, and at dilation 4 on a 28-wide map, or 3x3x3 on a map two deep, they
are a fifth to a third of the work. A loop annotated with CLIP = axis (0, 1, 2 for d, h, w) runs

    from max(0, ceil(-last / step))  to  min(taps(phase), floor((in - 1 - first) / step) + 1)

where first and last are the input coordinates of tap 0 for the tile's first and last output. This
also keeps a phase with fewer taps than its neighbours from multiplying x by a padded zero
weight, which would turn an infinity into NaN.

Winograd's last point is infinity, where a filter is its highest tap: of a residue of the stride
that has a tap less it is zero. A loop over residues annotated with AT_LAST_POINT = (axis, last, n)
runs over the first n of them at the last point along h (1) or w (2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx

from tvmconv.declare.declaration import by_phase
from tvmconv.problem import Axis, Problem

CLIP = "tvmconv.clip"
AT_LAST_POINT = "tvmconv.at_last_point"
# Names of Winograd's points along h and w among the axes of ``conv``.
POINTS = {1: "a", 2: "c"}
Expr = Any


@dataclass(frozen=True)
class Bounds:
    """What loops depend on, by axis (0, 1, 2 for d, h, w).

    Attributes:
        taps: first tap and number of taps.
        points: point of Winograd's transform.
    """

    taps: dict[int, tuple[Expr, Expr]]
    points: dict[int, Expr]


def find_bounds(func: tirx.PrimFunc, problem: Problem, order: Sequence[str]) -> Bounds:
    """Bounds from the bindings of ``conv_update``."""
    bindings, unrolled = _tile_bindings(func, order)
    taps = {}
    for i, name in enumerate("dhw"):
        if f"q{name}" not in bindings:
            continue
        phase, quotient = bindings.get(f"p{name}", 0), bindings[f"q{name}"]
        low, high = _bounds(problem.axes[i], problem, phase, quotient, unrolled)
        taps[i] = (low, tirx.max(high - low, 0))
    return Bounds(taps, {axis: bindings[name] for axis, name in POINTS.items() if name in bindings})


def bound_loops(func: tirx.PrimFunc, bounds: Bounds) -> tirx.PrimFunc:
    """Bound every annotated loop over taps or residues."""

    def bound(loop: tirx.For) -> tirx.Stmt:
        annotations = dict(loop.annotations.items())
        if CLIP in annotations:
            low, extent = bounds.taps[int(annotations.pop(CLIP))]
        elif AT_LAST_POINT in annotations:
            axis, last, fewer = map(int, annotations.pop(AT_LAST_POINT))
            at_last = bounds.points[axis] == last
            low, extent = loop.min, tirx.Select(at_last, fewer, loop.extent)
        else:
            return loop
        return tirx.For(loop.loop_var, low, extent, loop.kind, loop.body, None, annotations)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, bound)))


def without_cancelled_terms(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """The function with its indices simplified, where a loop starts at a position alone.

    Of two slices and five taps the first one met is ``2 - d``, which no padding bounds, and an
    index ``d + (tap + (2 - d))``. TVM 0.27's FlattenBuffer leaves d a coefficient of zero, and
    divides by it.
    """
    starts: list[set[type[Any]]] = []

    def start(loop: tirx.For) -> None:
        starts.append(kinds := set())
        tvm_ffi.structural_walk(loop.min, (Expr, lambda node: kinds.add(type(node))))

    tvm_ffi.structural_walk(func.body, (tirx.For, start))
    if not any(tirx.Var in kinds and tirx.Max not in kinds for kinds in starts):
        return func
    passes = (s_tir.transform.CanonicalizeLoop(), s_tir.transform.StmtSimplify())
    module = tvm.transform.Sequential(list(passes))(tvm.IRModule({"main": func}))
    return module["main"]


def _bounds(
    axis: Axis, problem: Problem, phase: Expr, quotient: Expr, unrolled: dict[Any, int]
) -> tuple[Expr, Expr]:
    origin = by_phase(axis.origins, phase)
    first = _at_corner(quotient, unrolled, last=False) * axis.stride + origin
    last = _at_corner(quotient, unrolled, last=True) * axis.stride + origin
    low: Expr = tirx.const(0, "int32")
    high: Expr = by_phase(axis.tap_counts, phase) + low
    if problem.padding_mode == "zeros":
        low = tirx.max(low, (axis.step - 1 - last) // axis.step)
        high = tirx.min(high, (axis.in_extent - 1 - first) // axis.step + 1)
    return low, high


def _at_corner(expr: Expr, unrolled: dict[Any, int], last: bool) -> Expr:
    """The expression with every loop inside the tile at its first or last value."""

    def corner(var: tirx.Var) -> Expr:
        return next(
            (
                tirx.const(extent - 1 if last else 0, "int32")
                for loop_var, extent in unrolled.items()
                if var.same_as(loop_var)
            ),
            var,
        )

    return tvm_ffi.structural_map(expr, (tirx.Var, corner))


def _tile_bindings(
    func: tirx.PrimFunc, order: Sequence[str]
) -> tuple[dict[str, Expr], dict[Any, int]]:
    """Bindings of conv_update's axes by name, and the loops inside the innermost clipped loop."""
    found: dict[str, Expr] = {}
    unrolled: dict[Any, int] = {}

    def block(realize: s_tir.SBlockRealize) -> s_tir.SBlockRealize:
        if realize.block.name_hint == "conv_update":
            found.update(zip(order, realize.iter_values, strict=False))
        return realize

    def loop(node: tirx.For) -> tirx.For:
        if node.kind in (tirx.ForKind.UNROLLED, tirx.ForKind.VECTORIZED):
            unrolled[node.loop_var] = int(node.extent)
        return node

    tvm_ffi.structural_map(func.body, [(s_tir.SBlockRealize, block), (tirx.For, loop)])
    return found, unrolled
