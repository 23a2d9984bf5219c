"""Copy rows with padding by whole vectors: a masked load per vector, zeros where x ends.

Split into border and interior, a row of 56 columns costs some forty instructions besides its
copies; masked, four loads and four stores. A loop annotated with ROWS = lanes whose body is

    for w:  row[.., w] = if_then_else(tests on w, x[base + w], pad_value)

becomes ``row[.., w : w + lanes] = select(mask, masked_load(x), pad_value)``; where lanes do not
divide the row, the last vector overlaps the one before, or is stored under a mask.

The rows of many channels are more streams than hardware follows, so AHEAD = n elements asks for
what lies so far behind each vector: one row, which is copied next. Of a 3x3 layer of 64 channels
at 224x224 the copy took 16 %.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx

from tvmconv.lower.masked import (
    conjuncts,
    is_choice,
    lane_mask,
    masked_load,
    masked_store,
    opaque,
    replace,
    slope,
)
from tvmconv.lower.prefetch import prefetch

ROWS = "tvmconv.rows"
AHEAD = "tvmconv.rows_ahead"
Expr = Any


def vectorize_rows(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Rewrite every annotated loop."""

    def visit(loop: tirx.For) -> tirx.Stmt:
        if ROWS not in loop.annotations:
            return loop
        lanes, ahead = int(loop.annotations[ROWS]), int(loop.annotations.get(AHEAD, 0))
        annotations = {k: v for k, v in loop.annotations.items() if k not in (ROWS, AHEAD)}
        return _by_vectors(loop, lanes, ahead) or tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, loop.body, None, annotations
        )

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, visit)))


def _by_vectors(loop: tirx.For, lanes: int, ahead: int) -> tirx.Stmt | None:
    """The loop by vectors; None where it is no copy of neighbours."""
    store, var = loop.body, loop.loop_var
    if not isinstance(store, tirx.BufferStore) or not store.indices[-1].same_as(var):
        return None
    tests, load, other = _parts(store.value)
    if load is None or slope(load.indices[0], var) != 1:
        return None
    inside = var < loop.extent
    if any(lane_mask([t], var, loop.min, lanes) is None for t in (*tests, inside)):
        return None

    def vector(first: Expr, cut: bool) -> tirx.Stmt:
        mask = lane_mask([*tests, inside] if cut else tests, var, first, lanes)
        at = replace(load.indices[0], var, first)
        if mask is None:
            value = tirx.BufferLoad(load.source, [tirx.Ramp(at, 1, lanes)])
        else:
            loaded = masked_load(load.source, [at], lanes, mask)
            filler = tirx.const(0.0, "float32") if other is None else other
            value = tirx.Select(opaque(mask, lanes), loaded, tirx.Broadcast(filler, lanes))
        place = [*store.indices[:-1], first]
        if cut:
            kept = lane_mask([inside], var, first, lanes)
            return masked_store(store.buffer, value, place, lanes, kept)
        place[-1] = tirx.Ramp(first, 1, lanes)
        return tirx.BufferStore(store.buffer, value, place)

    block = tirx.Var("vector", "int32")
    whole, rest = loop.extent // lanes, loop.extent % lanes
    step = vector(block * lanes, cut=False)
    if ahead:
        later = replace(load.indices[0], var, block * lanes) + ahead
        step = tirx.SeqStmt([prefetch(load.source, later), step])
    body = tirx.For(block, 0, whole, tirx.ForKind.SERIAL, step)
    if isinstance(rest, tirx.IntImm) and int(rest) == 0:
        return body
    if isinstance(loop.extent, tirx.IntImm) and int(loop.extent) >= lanes:
        # Once more the values before: what reads a masked store waits until it left the core.
        return tirx.SeqStmt([body, vector(loop.extent - lanes, cut=False)])
    return tirx.SeqStmt([body, vector(whole * lanes, cut=True)])


def _parts(value: Expr) -> tuple[list[Expr], ir.TensorLoad | None, Expr]:
    """Tests, the load of x, and what stands in for it elsewhere."""
    if isinstance(value, ir.TensorLoad):
        return [], value, None
    if is_choice(value):
        test, load, other = value.args
        if isinstance(load, ir.TensorLoad):
            return conjuncts(test), load, other
    return [], None, None
