"""Write a blocked stage straight into the user's buffer (see Placement).

Runs after blocks are gone, so a store is a plain store inside plain loops. A vector loop whose
guard depends on the lane would be scalarised by TVM; it becomes a masked store or, where elements
are not neighbours or the machine has no masks, a whole vector and a scalar loop for the remainder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm_ffi
from tvm import ir, sym, tirx

from tvmconv.arithmetic import ITEM_BYTES
from tvmconv.declare.declaration import Placement
from tvmconv.lower.masked import lane_mask, masked_load, masked_store, replace, slope
from tvmconv.lower.prefetch import FAR_BYTES, prefetch_stores

Expr = Any


def place_outputs(
    func: tirx.PrimFunc, placements: Sequence[Placement], result: str, *, masks: bool = True
) -> tirx.PrimFunc:
    """Replace the blocked output parameters by the one flat buffer ``result``.

    ``masks`` says whether the machine stores vectors under a mask.
    """
    dtype = next(str(v.dtype) for v in func.params if v.name == placements[0].stage)
    target = _argument(result, placements[0].elems, dtype)
    stages = {p.stage: p for p in placements}
    blocked = [v for v in func.params if v.name in stages]

    def stage_of(store: tirx.BufferStore) -> Placement | None:
        return next((stages[b.name] for b in blocked if store.buffer.same_as(b)), None)

    def place(store: tirx.BufferStore) -> tirx.Stmt:
        placement = stage_of(store)
        if placement is None:
            return store
        written = tirx.BufferStore(target, store.value, [placement.offset(*store.indices)])
        guards = placement.guards(*store.indices)
        return tirx.IfThenElse(tirx.all(*guards), written, None) if guards else written

    def split_vector(loop: tirx.For) -> tirx.Stmt:
        if loop.kind != tirx.ForKind.VECTORIZED or not isinstance(loop.body, tirx.BufferStore):
            return loop
        placement = stage_of(loop.body)
        guards = placement.guards(*loop.body.indices) if placement else []
        by_lane = [g for g in guards if _uses(g, loop.loop_var)]
        if not by_lane:
            return loop
        others = [g for g in guards if not _uses(g, loop.loop_var)]
        assert placement is not None
        store = tirx.BufferStore(target, loop.body.value, [placement.offset(*loop.body.indices)])
        both = _whole_or_none(loop, store, by_lane) if not masks else _masked(loop, store, by_lane)
        both = both or _whole_or_scalar(loop, store, by_lane, unroll=not masks)
        return tirx.IfThenElse(tirx.all(*others), both, None) if others else both

    body = tvm_ffi.structural_map(func.body, (tirx.For, split_vector), order="pre")
    body = tvm_ffi.structural_map(body, (tirx.BufferStore, place))
    if masks and ITEM_BYTES[dtype] * placements[0].elems > FAR_BYTES:
        body = prefetch_stores(body, target)
    inputs = {
        v: _argument(v.name, int(v.shape[0]), str(v.dtype))
        for v in func.params
        if v.name not in stages
    }

    def renamed(var: tirx.Var) -> tirx.Var:
        return next((new for old, new in inputs.items() if var.same_as(old)), var)

    body = tvm_ffi.structural_map(body, (tirx.Var, renamed))
    return tirx.PrimFunc([*inputs.values(), target], body, attrs=func.attrs)


def _argument(name: str, elems: int, dtype: str) -> tirx.Buffer:
    """A flat argument at any address that its type may have.

    TVM's own default assumes 64 bytes, which numpy and torch views do not keep, and crashes when
    it is wrong. Unaligned vector moves cost nothing on aligned data.
    """
    size = ITEM_BYTES[dtype]
    return tirx.decl_buffer((elems,), dtype, name=name, data_alignment=size)


def _whole_or_none(
    loop: tirx.For, store: tirx.BufferStore, guards: Sequence[Expr]
) -> tirx.Stmt | None:
    """One test where no vector is ever cut, as when lanes divide a row; None otherwise."""
    tests, lanes = [replace(g, loop.loop_var, loop.min) for g in guards], int(loop.extent)
    for guard, test in zip(guards, tests, strict=True):
        if not isinstance(guard, tirx.LT) or slope(guard.a - guard.b, loop.loop_var) != 1:
            return None
        left = sym.Analyzer().simplify(tirx.floormod(test.b - test.a, lanes))
        if not isinstance(left, tirx.IntImm) or int(left):
            return None
    return tirx.IfThenElse(tirx.all(*tests), _loop(loop, tirx.ForKind.VECTORIZED, store), None)


def _whole_or_scalar(
    loop: tirx.For, store: tirx.BufferStore, guards: Sequence[Expr], unroll: bool
) -> tirx.Stmt:
    """A vector where all lanes exist, else a scalar loop that tests each."""
    last = int(loop.extent) - 1
    whole = tirx.all(*(replace(g, loop.loop_var, tirx.const(last, "int32")) for g in guards))
    scalar = tirx.IfThenElse(tirx.all(*guards), store, None)
    # Lanes by name, so that sums stay in registers.
    lanes = tirx.ForKind.UNROLLED if unroll else tirx.ForKind.SERIAL
    return tirx.IfThenElse(
        whole, _loop(loop, tirx.ForKind.VECTORIZED, store), _loop(loop, lanes, scalar)
    )


def _masked(loop: tirx.For, store: tirx.BufferStore, guards: Sequence[Expr]) -> tirx.Stmt | None:
    """A masked store of the lanes that exist; None where elements are not neighbours.

    One path for whole and partial vectors: with a branch between them LLVM spilled accumulators
    (a 1x1 layer with bias ran at half speed). The value goes through a small buffer first, where
    TVM makes a vector of it. What the value reads of the residual is masked as well: the lanes
    beyond may lie beyond the tensor.
    """
    at, lane, lanes = store.indices[0], loop.loop_var, int(loop.extent)
    mask = lane_mask(guards, lane, loop.min, lanes)
    if lanes & (lanes - 1) or slope(at, lane) != 1 or mask is None:
        return None
    first = replace(at, lane, loop.min)
    steps: list[tirx.Stmt] = []
    tails: list[tirx.Buffer] = []

    def masked_residual(load: ir.TensorLoad) -> Expr:
        if load.source.name != "residual":
            return load
        # Every occurrence reads the element that is written, so one copy serves all.
        if not tails:
            tails.append(tirx.decl_buffer((lanes,), "float32", name="residual_tail"))
            start = replace(load.indices[0], lane, loop.min)
            read = masked_load(load.source, [start], lanes, mask)
            whole = [tirx.Ramp(0, 1, lanes)]
            steps.extend([tirx.AllocBuffer(tails[0]), tirx.BufferStore(tails[0], read, whole)])
        return tirx.BufferLoad(tails[0], [lane])

    value = tvm_ffi.structural_map(store.value, (ir.TensorLoad, masked_residual))
    tail = tirx.decl_buffer((lanes,), "float32", name="tail")
    fill = _loop(loop, tirx.ForKind.VECTORIZED, tirx.BufferStore(tail, value, [lane]))
    kept = tirx.BufferLoad(tail, [tirx.Ramp(0, 1, lanes)])
    written = masked_store(store.buffer, kept, [first], lanes, mask)
    return tirx.SeqStmt([*steps, tirx.AllocBuffer(tail), fill, written])


def _loop(loop: tirx.For, kind: int, body: tirx.Stmt) -> tirx.For:
    var = tirx.Var(loop.loop_var.name, "int32")
    body = replace(body, loop.loop_var, var)
    return tirx.For(var, loop.min, loop.extent, kind, body)


def _uses(expr: Expr, var: tirx.Var) -> bool:
    seen = False

    def visit(v: tirx.Var) -> tirx.Var:
        nonlocal seen
        seen = seen or v.same_as(var)
        return v

    tvm_ffi.structural_map(expr, (tirx.Var, visit))
    return seen
