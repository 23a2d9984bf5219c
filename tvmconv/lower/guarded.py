"""Vectors of a row read in place: masked loads at the border, shuffles where the row is strided.

A loop annotated with GUARDED = lanes whose body is

    for w:  acc[.., w] = acc[.., w] + if_then_else(tests, x[base + s * w], pad_value) * weight

becomes one vector statement. Tests that do not depend on w stay a branch, which loop partitioning
takes out of the interior; those that do become masks, and constants once the loops around are
unrolled: LLVM leaves plain loads where a mask is full. With s > 1 the vector is shuffled out of s
neighbouring ones, cut at multiples of s, so that taps one column apart share their loads: a row of
three taps at stride 2 takes four loads and three shuffles, and no copy of x.
"""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import ir, sym, tirx

from tvmconv.lower.masked import conjuncts, masked_load, opaque, replace, slope

GUARDED = "tvmconv.guarded"
# A loop whose first and last iteration are taken out, since only they meet the borders.
PEELED = "tvmconv.peeled"
Expr = Any


def vectorize_guarded(func: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Rewrite every annotated loop; None when there is none.

    Unrolls what is to be unrolled, so that masks become constants.
    """
    func = func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, _peel)))
    unrolled = tirx.transform.UnrollLoop()(tvm.IRModule({"main": func}))["main"]
    bounds = _bounds(unrolled.body)
    found = False

    def visit(loop: tirx.For) -> tirx.Stmt:
        nonlocal found
        if GUARDED not in loop.annotations:
            return loop
        found = True
        return _vector(loop, int(loop.annotations[GUARDED]), bounds)

    body = tvm_ffi.structural_map(unrolled.body, (tirx.For, visit))
    return func.with_body(body) if found else None


def _peel(loop: tirx.For) -> tirx.Stmt:
    """First iteration, the others, last iteration; as it is when it is not annotated."""
    if PEELED not in loop.annotations:
        return loop
    count = int(loop.extent)
    first, last = (
        replace(loop.body, loop.loop_var, tirx.const(i, "int32")) for i in (0, count - 1)
    )
    middle = tirx.For(loop.loop_var, 1, count - 2, loop.kind, loop.body)
    return tirx.SeqStmt([first, middle, last])


def _bounds(body: tirx.Stmt) -> sym.Analyzer:
    """An analyzer that knows the range of every loop of constant extent."""
    analyzer = sym.Analyzer()

    def bind(loop: tirx.For) -> tirx.For:
        if isinstance(loop.extent, tirx.IntImm) and isinstance(loop.min, tirx.IntImm):
            analyzer.bind(loop.loop_var, ir.Range.from_min_extent(loop.min, loop.extent))
        return loop

    tvm_ffi.structural_map(body, (tirx.For, bind))
    return analyzer


def _vector(loop: tirx.For, lanes: int, bounds: sym.Analyzer) -> tirx.Stmt:
    store, var = loop.body, loop.loop_var
    if isinstance(store, tirx.Evaluate):
        # All of it is padding, and TVM saw that nothing is added.
        return store
    assert isinstance(store, tirx.BufferStore)
    assert slope(store.indices[-1], var) == 1

    def at_lanes(expr: Expr) -> Expr:
        return _at_lanes(expr, var, lanes, bounds)

    place = [*store.indices[:-1], tirx.Ramp(replace(store.indices[-1], var, _ZERO), 1, lanes)]
    return tirx.BufferStore(store.buffer, at_lanes(store.value), place)


_ZERO = tirx.const(0, "int32")


def _at_lanes(value: Expr, var: tirx.Var, lanes: int, bounds: sym.Analyzer) -> Expr:
    """The value at var = 0, 1, .. lanes - 1 as one vector."""
    if isinstance(value, tirx.Add | tirx.Mul):
        a, b = (_at_lanes(side, var, lanes, bounds) for side in (value.a, value.b))
        return type(value)(a, b)
    if isinstance(value, ir.TensorLoad):
        return _row(value, [], var, lanes, bounds)
    if isinstance(value, ir.Call) and value.op.name.endswith("if_then_else"):
        test, load, other = value.args
        terms = conjuncts(test)
        fixed = [t for t in terms if slope(t.a - t.b, var) == 0]
        vector = _row(load, [t for t in terms if t not in fixed], var, lanes, bounds, other)
        if not fixed:
            return vector
        return tirx.if_then_else(tirx.all(*fixed), vector, tirx.Broadcast(other, lanes))
    return tirx.Broadcast(value, lanes)


def _row(
    load: ir.TensorLoad,
    tests: list[Expr],
    var: tirx.Var,
    lanes: int,
    bounds: sym.Analyzer,
    other: Expr = None,
) -> Expr:
    """A load whose last index grows by a constant with the lane, as vectors side by side."""
    step = slope(load.indices[-1], var)
    assert step is not None
    base = replace(load.indices[-1], var, _ZERO)
    if step == 0:
        return tirx.Broadcast(tirx.BufferLoad(load.source, [*load.indices[:-1], base]), lanes)
    shift = _remainder(base, step)
    parts = []
    for i in range(step):
        first = i * lanes - shift
        mask = [_lane_test(t, var, step, first, lanes, bounds) for t in tests]
        parts.append(_segment(load, base + first, mask, lanes, other))
    if step == 1:
        return parts[0]
    return tirx.Shuffle(parts, [tirx.const(shift + step * i, "int32") for i in range(lanes)])


def _remainder(base: Expr, step: int) -> int:
    """How far a base is past a multiple of the step; zero when that is not known."""
    found = sym.Analyzer().simplify(tirx.floormod(base, step))
    return int(found) if isinstance(found, tirx.IntImm) else 0


def _lane_test(
    test: Expr, var: tirx.Var, step: int, first: int, lanes: int, bounds: sym.Analyzer
) -> Expr | bool:
    """A test on columns of x, of which one lane is `step`: at neighbours from `first` on.

    A truth value where it holds, or fails, for all: TVM cannot fold a vector of equal answers.
    """
    start, growth = _from_zero(test, var)
    if growth % step:
        # TVM divided the test by the stride. Back to columns: up to the last, or from the first
        # lane that it holds for, and not a column more.
        sign = 1 if growth > 0 else -1
        start, growth = step * tirx.floordiv(start, abs(growth)), sign * step
    growth //= step
    start = sym.Analyzer().simplify(start + growth * first)
    known = bounds.const_int_bound(start)
    across = growth * (lanes - 1)
    if known.min_value + min(0, across) >= 0:
        return True
    if known.max_value + max(0, across) < 0:
        return False
    return tirx.GE(tirx.Ramp(start, growth, lanes), tirx.Broadcast(_ZERO, lanes))


def _from_zero(test: Expr, var: tirx.Var) -> tuple[Expr, int]:
    """A comparison of integers as ``start + growth * var >= 0``."""
    difference = test.a - test.b
    if isinstance(test, tirx.LT | tirx.LE):
        difference = test.b - test.a
    if isinstance(test, tirx.LT | tirx.GT):
        difference = difference - 1
    growth = slope(difference, var)
    assert growth is not None
    return replace(difference, var, _ZERO), growth


def _segment(
    load: ir.TensorLoad, first: Expr, tests: list[Expr | bool], lanes: int, other: Expr
) -> Expr:
    """Neighbours from ``first`` on, and ``other`` where a test fails."""
    place = [*load.indices[:-1], first]
    if any(test is False for test in tests):
        return tirx.Broadcast(other, lanes)
    by_lane = [test for test in tests if test is not True]
    if not by_lane:
        place[-1] = tirx.Ramp(first, 1, lanes)
        return tirx.BufferLoad(load.source, place)
    mask = by_lane[0]
    for test in by_lane[1:]:
        mask = tirx.And(mask, test)
    loaded = masked_load(load.source, place, lanes, mask)
    return tirx.Select(opaque(mask, lanes), loaded, tirx.Broadcast(other, lanes))
