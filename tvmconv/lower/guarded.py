"""Vectors of a row read in place: masked loads at the border, shuffles where the row is strided.

A loop annotated with GUARDED = lanes whose body is

    for w:  acc[.., w] = acc[.., w] + if_then_else(tests, x[base + s * w], pad_value) * weight

becomes one vector statement. Tests that do not depend on w stay a branch, which loop partitioning
takes out of the interior; those that do become masks, and constants once the loops around are
unrolled: LLVM leaves plain loads where a mask is full. With s > 1 the vector is shuffled out of s
neighbouring ones, cut at multiples of s, so that taps one column apart share their loads: a row of
three taps at stride 2 takes four loads and three shuffles, and no copy of x.

Machines without masks would load a cut vector element by element: eleven instructions for three
elements on aarch64. With a further annotation COLUMNS = columns of x, a constant mask becomes a
whole vector from inside the row, and a shuffle that moves in the padding: two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import ir, sym, tirx

from tvmconv.lower.borders import ALL_MASKS, GUARDED, part_borders
from tvmconv.lower.masked import (
    conjuncts,
    from_zero,
    is_choice,
    loop_bounds,
    masked_load,
    opaque,
    replace,
    settled,
    slope,
)

# On the same loop: columns of x, where masks cost more than a shuffle.
COLUMNS = "tvmconv.columns"
Expr = Any


@dataclass(frozen=True, eq=False)
class Lanes:
    """The lanes of one vector.

    Attributes:
        var: loop that runs over them.
        count: how many there are.
        columns: of x, where masks are to be shuffles; None where masks are welcome.
        bounds: knows the range of every loop of constant extent.
        branches: whether tests that are the same for all lanes stay branches.
    """

    var: tirx.Var
    count: int
    columns: int | None
    bounds: sym.Analyzer
    branches: bool = True


def vectorize_guarded(func: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Rewrite every annotated loop; None when there is none.

    Unrolls what is to be unrolled, so that masks become constants.
    """
    func = func.with_body(part_borders(func.body))
    unrolled = tirx.transform.UnrollLoop()(tvm.IRModule({"main": func}))["main"]
    bounds = loop_bounds(unrolled.body)
    found = False

    def visit(loop: tirx.For) -> tirx.Stmt:
        nonlocal found
        if GUARDED not in loop.annotations:
            return loop
        found = True
        columns = loop.annotations.get(COLUMNS)
        count, columns = int(loop.annotations[GUARDED]), None if columns is None else int(columns)
        branches = ALL_MASKS not in loop.annotations
        return _vector(loop.body, Lanes(loop.loop_var, count, columns, bounds, branches))

    body = tvm_ffi.structural_map(unrolled.body, (tirx.For, visit))
    return func.with_body(body) if found else None


def _vector(store: tirx.Stmt, lanes: Lanes) -> tirx.Stmt:
    if isinstance(store, tirx.Evaluate):
        # All of it is padding, and TVM saw that nothing is added.
        return store
    assert isinstance(store, tirx.BufferStore)
    assert slope(store.indices[-1], lanes.var) == 1
    first = replace(store.indices[-1], lanes.var, _ZERO)
    place = [*store.indices[:-1], tirx.Ramp(first, 1, lanes.count)]
    return tirx.BufferStore(store.buffer, _at_lanes(store.value, lanes), place)


_ZERO = tirx.const(0, "int32")


def _at_lanes(value: Expr, lanes: Lanes) -> Expr:
    """The value at all lanes as one vector."""
    if isinstance(value, tirx.Add | tirx.Mul):
        a, b = (_at_lanes(side, lanes) for side in (value.a, value.b))
        return type(value)(a, b)
    if isinstance(value, ir.TensorLoad):
        return _row(value, [], lanes)
    if is_choice(value):
        test, load, other = value.args
        terms = conjuncts(test)
        fixed = [t for t in terms if lanes.branches and slope(t.a - t.b, lanes.var) == 0]
        vector = _row(load, [t for t in terms if t not in fixed], lanes, other)
        if not fixed:
            return vector
        return tirx.if_then_else(tirx.all(*fixed), vector, tirx.Broadcast(other, lanes.count))
    return tirx.Broadcast(value, lanes.count)


def _row(load: ir.TensorLoad, tests: list[Expr], lanes: Lanes, other: Expr = None) -> Expr:
    """A load whose last index grows by a constant with the lane, as vectors side by side."""
    step, count = slope(load.indices[-1], lanes.var), lanes.count
    assert step is not None
    base = replace(load.indices[-1], lanes.var, _ZERO)
    if step == 0:
        return tirx.Broadcast(tirx.BufferLoad(load.source, [*load.indices[:-1], base]), count)
    shift = _remainder(base, step)
    masks = [[_lane_test(t, step, i * count - shift, lanes) for t in tests] for i in range(step)]
    if lanes.columns is not None and any(test is not True for mask in masks for test in mask):
        moved = _moved_in(load, base, step, tests, lanes, other)
        if moved is not None:
            return moved
    elif lanes.columns is not None:
        return _every(load, base - shift, step, shift, count)
    parts = [
        _segment(load, base + i * count - shift, mask, count, other) for i, mask in enumerate(masks)
    ]
    if step == 1:
        return parts[0]
    return tirx.Shuffle(parts, [tirx.const(shift + step * i, "int32") for i in range(count)])


def _every(load: ir.TensorLoad, first: Expr, step: int, shift: int, count: int) -> Expr:
    """Every step-th of neighbours, as one load that LLVM takes apart (ld2 .. ld4)."""
    place = [*load.indices[:-1], tirx.Ramp(first, 1, step * count)]
    whole = tirx.BufferLoad(load.source, place)
    if step == 1:
        return whole
    return tirx.Shuffle([whole], [tirx.const(shift + step * i, "int32") for i in range(count)])


def _moved_in(
    load: ir.TensorLoad, base: Expr, step: int, tests: list[Expr], lanes: Lanes, other: Expr
) -> Expr | None:
    """A vector that is cut at one end: whole from inside the row, and ``other`` moved in.

    None where the tests are no constants, or a row has fewer columns than that takes.
    """
    count = lanes.count
    assert lanes.columns is not None
    if lanes.columns < step * (count + 1):
        return None
    held = [_holds(tests, lanes, i) for i in range(count)]
    if None in held or not any(held):
        return None if None in held else tirx.Broadcast(other, count)
    low, high = held.index(True), count - held[::-1].index(True)
    if low > 0 and high < count:
        return None
    # Behind the last column nothing may be read, so the load ends with it.
    shift = 0 if low > 0 else step - 1
    by = low if low > 0 else high - count
    whole = _every(load, base + step * by - shift, step, shift, count)
    if by == 0:
        return whole
    lane = [i - by if low <= i < high else count for i in range(count)]
    sources = [whole, tirx.Broadcast(other, count)]
    return tirx.Shuffle(sources, [tirx.const(i, "int32") for i in lane])


def _holds(tests: list[Expr], lanes: Lanes, lane: int) -> bool | None:
    """Whether all tests hold for a lane; None where that is no constant."""
    found = [
        sym.Analyzer().simplify(replace(test, lanes.var, tirx.const(lane, "int32")))
        for test in tests
    ]
    if not all(isinstance(one, tirx.IntImm) for one in found):
        return None
    return all(bool(int(one)) for one in found)


def _remainder(base: Expr, step: int) -> int:
    """How far a base is past a multiple of the step; zero when that is not known."""
    found = sym.Analyzer().simplify(tirx.floormod(base, step))
    return int(found) if isinstance(found, tirx.IntImm) else 0


def _lane_test(test: Expr, step: int, first: int, lanes: Lanes) -> Expr | bool:
    """A test on columns of x, of which one lane is `step`: at neighbours from `first` on.

    A truth value where it holds, or fails, for all: TVM cannot fold a vector of equal answers.
    """
    start, growth = from_zero(test, lanes.var, _ZERO)
    if growth % step:
        # TVM divided the test by the stride. Back to columns: up to the last, or from the first
        # lane that it holds for, and not a column more.
        sign = 1 if growth > 0 else -1
        start, growth = step * tirx.floordiv(start, abs(growth)), sign * step
    growth //= step
    start = sym.Analyzer().simplify(start + growth * first)
    answer = settled(start, growth, lanes.count, lanes.bounds)
    if answer is not None:
        return answer
    return tirx.GE(tirx.Ramp(start, growth, lanes.count), tirx.Broadcast(_ZERO, lanes.count))


def _segment(
    load: ir.TensorLoad, first: Expr, tests: list[Expr | bool], count: int, other: Expr
) -> Expr:
    """Neighbours from ``first`` on, and ``other`` where a test fails."""
    place = [*load.indices[:-1], first]
    if any(test is False for test in tests):
        return tirx.Broadcast(other, count)
    by_lane = [test for test in tests if test is not True]
    if not by_lane:
        place[-1] = tirx.Ramp(first, 1, count)
        return tirx.BufferLoad(load.source, place)
    mask = by_lane[0]
    for test in by_lane[1:]:
        mask = tirx.And(mask, test)
    loaded = masked_load(load.source, place, count, mask)
    return tirx.Select(opaque(mask, count), loaded, tirx.Broadcast(other, count))
