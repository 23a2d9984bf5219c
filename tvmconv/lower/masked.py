"""Vector loads and stores under a mask of lanes, written out where TVM would make them scalars.

TVM's own predication takes a mask only where the buffer's index and the test count from the same
base; a row that starts in the padding or a channel block that is cut off does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import ir, sym, tirx

Expr = Any
COMPARISONS = (tirx.LT, tirx.LE, tirx.GT, tirx.GE)


def replace(expr: Expr, var: tirx.Var, value: Expr) -> Expr:
    """The expression with a variable replaced."""
    return tvm_ffi.structural_map(expr, (tirx.Var, lambda v: value if v.same_as(var) else v))


def slope(expr: Expr, var: tirx.Var) -> int | None:
    """By how much an expression grows with a variable; None when that is no constant."""
    step = sym.Analyzer().simplify(replace(expr, var, var + 1) - expr)
    return int(step) if isinstance(step, tirx.IntImm) else None


def is_choice(value: Expr) -> bool:
    """Whether a value is chosen by a test."""
    return isinstance(value, ir.Call) and bool(value.op.name.endswith("if_then_else"))


def conjuncts(test: Expr) -> list[Expr]:
    """The terms of ``a and b and ...``."""
    if isinstance(test, tirx.And):
        return [*conjuncts(test.a), *conjuncts(test.b)]
    return [test]


def lane_mask(tests: Sequence[Expr], var: tirx.Var, first: Expr, lanes: int) -> Expr | None:
    """All tests at var = first, first + 1, ...; None where one is no comparison linear in var."""
    mask = None
    for test in tests:
        if not isinstance(test, COMPARISONS):
            return None
        difference = test.a - test.b
        step = slope(difference, var)
        if step is None:
            return None
        start = replace(difference, var, first)
        zero = tirx.const(0, "int32")
        if step == 0:
            term = tirx.Broadcast(type(test)(start, zero), lanes)
        else:
            term = type(test)(tirx.Ramp(start, step, lanes), tirx.Broadcast(zero, lanes))
        mask = term if mask is None else tirx.And(mask, term)
    return mask


def margin_of(test: Expr) -> Expr:
    """What is zero or more where a comparison of integers holds."""
    difference = test.a - test.b
    if isinstance(test, tirx.LT | tirx.LE):
        difference = test.b - test.a
    return difference - 1 if isinstance(test, tirx.LT | tirx.GT) else difference


def least_margin(margin: Expr, loop: tirx.For) -> Expr | None:
    """A margin in the trip of a loop where it is least; None where it is not linear in the loop."""
    growth = slope(margin, loop.loop_var)
    if growth is None:
        return None
    last = loop.min + loop.extent - 1
    return replace(margin, loop.loop_var, loop.min if growth > 0 else last)


def from_zero(test: Expr, var: tirx.Var, first: Expr) -> tuple[Expr, int]:
    """A comparison of integers as ``start + growth * (var - first) >= 0``: start and growth."""
    margin = margin_of(test)
    growth = slope(margin, var)
    assert growth is not None
    return replace(margin, var, first), growth


def loop_bounds(body: tirx.Stmt) -> sym.Analyzer:
    """An analyzer that knows the range of every loop of constant extent."""
    analyzer = sym.Analyzer()

    def bind(loop: tirx.For) -> tirx.For:
        if isinstance(loop.extent, tirx.IntImm) and isinstance(loop.min, tirx.IntImm):
            analyzer.bind(loop.loop_var, ir.Range.from_min_extent(loop.min, loop.extent))
        return loop

    tvm_ffi.structural_map(body, (tirx.For, bind))
    return analyzer


def settled(start: Expr, growth: int, lanes: int, bounds: sym.Analyzer) -> bool | None:
    """Whether ``start + growth * lane >= 0`` holds for all lanes, or for none; None: it varies.

    TVM cannot fold a vector of equal answers: it fails where such a mask becomes a constant.
    """
    known = bounds.const_int_bound(start)
    across = growth * (lanes - 1)
    if known.min_value + min(0, across) >= 0:
        return True
    return False if known.max_value + max(0, across) < 0 else None


def opaque(mask: Expr, lanes: int) -> Expr:
    """The same mask in a form that TVM's simplifier does not take apart.

    Inside a select it takes the condition for granted, and would drop it from the mask of a load
    there, which then reads what must not be read. LLVM sees through it.
    """
    zero = tirx.Broadcast(tirx.const(0, "int8"), lanes)
    return tirx.NE(tirx.Cast(f"int8x{lanes}", mask), zero)


def masked_load(buffer: tirx.Buffer, at: Sequence[Expr], lanes: int, mask: Expr) -> Expr:
    """Neighbours along the last axis of a float32 buffer; lanes outside the mask are undefined."""
    return tirx.call_intrin(f"float32x{lanes}", "tirx.masked_load", buffer, *_ramp(at, lanes), mask)


def masked_store(
    buffer: tirx.Buffer, value: Expr, at: Sequence[Expr], lanes: int, mask: Expr
) -> tirx.Stmt:
    """Store the lanes of the mask into neighbours along the last axis of a buffer."""
    return tirx.Evaluate(
        tirx.call_intrin("void", "tirx.masked_store", buffer, value, *_ramp(at, lanes), mask)
    )


def _ramp(at: Sequence[Expr], lanes: int) -> list[Expr]:
    return [*at[:-1], tirx.Ramp(at[-1], 1, lanes)]
