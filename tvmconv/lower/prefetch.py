"""Ask for packed weights, and for x, ahead of their use: prefetches in the reduction loop.

Packed weights are read front to back, which hardware prefetchers follow, but only to the end of a
4 KB page: at 128 bytes per reduction step the stream stalls every 32 steps for the latency of the
third-level cache. A loop annotated with PREFETCH = n floats per iteration touches the cache lines
that lie AHEAD_BYTES further on. Reading past the end is harmless: a prefetch cannot fault.

Channels-first x that is read in place is as many streams as it has channels, each in a page of its
own, more than hardware follows. A loop annotated with PREFETCH_X = n touches what lies n columns
further on, the next tile's.

A store waits until its cache line was read from memory, and few of them wait at once. Where y is
larger than the caches, each vector's store asks for the line STORED_AHEAD floats behind it: a first
layer of 64 channels at 572x572, 83 MB, went from 4.4 to 1.9 ms, a transposed one of 20 MB from 12.0
to 11.3. At 13 MB nothing changed, and below it cost up to 3 %.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx

from tvmconv.lower.masked import replace, slope

PREFETCH = "tvmconv.prefetch"
PREFETCH_X = "tvmconv.prefetch_x"
# Latency of the third-level cache, about 250 cycles, at the 10 to 15 bytes a cycle of a register
# tile of weights.
AHEAD_BYTES = 16384
LINE_FLOATS = 16
STORED_AHEAD = 128
# Half of a third-level cache of 32 MB.
FAR_BYTES = 1 << 24
# What each annotation reads, and how many elements ahead: of x, by as many as it touches.
_AHEAD = {PREFETCH: ("packed", AHEAD_BYTES // 4), PREFETCH_X: ("x", 0)}


def insert_prefetches(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Put prefetches of ``packed`` and of ``x`` at the start of every annotated loop's body."""

    def visit(loop: tirx.For) -> tirx.Stmt:
        asked = {key: int(n) for key, n in loop.annotations.items() if key in _AHEAD}
        if not asked:
            return loop
        annotations = {k: v for k, v in loop.annotations.items() if k not in asked}
        lines: list[tirx.Stmt] = []
        for key, floats in asked.items():
            name, ahead = _AHEAD[key]
            ahead = ahead or floats
            lines += _prefetches(loop.body, name, range(ahead, ahead + floats, LINE_FLOATS))
        body = tirx.SeqStmt([*lines, loop.body]) if lines else loop.body
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, None, annotations)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, visit)))


def _prefetches(body: tirx.Stmt, name: str, ahead: range) -> list[tirx.Stmt]:
    """Prefetches of what lies so many elements behind the first read of a buffer."""
    first = _first_read(body, name)
    if first is None:
        return []
    return [prefetch(first.source, first.indices[0] + floats) for floats in ahead]


def _first_read(body: tirx.Stmt, name: str) -> ir.TensorLoad | None:
    """The read of a buffer with every loop inside the body at its start."""
    reads: list[ir.TensorLoad] = []
    inner: list[tirx.Var] = []

    def read(load: ir.TensorLoad) -> ir.TensorLoad:
        if load.source.name == name:
            reads.append(load)
        return load

    def loop(node: tirx.For) -> tirx.For:
        inner.append(node.loop_var)
        return node

    tvm_ffi.structural_map(body, [(ir.TensorLoad, read), (tirx.For, loop)])
    if not reads:
        return None

    def at_start(var: tirx.Var) -> Any:
        return tirx.const(0, "int32") if any(var.same_as(v) for v in inner) else var

    first = reads[0]
    index = tvm_ffi.structural_map(first.indices[0], (tirx.Var, at_start))
    return tirx.BufferLoad(first.source, [index])


def prefetch_stores(body: tirx.Stmt, buffer: tirx.Buffer) -> tirx.Stmt:
    """Before each vector that is stored into a flat buffer, ask for what is stored later.

    Not between stores of phases, two or more elements apart: LLVM then stores them one by one.
    """

    def ask(first: Any, store: tirx.Stmt) -> tirx.Stmt:
        return tirx.SeqStmt([prefetch(buffer, first + STORED_AHEAD, write=True), store])

    def vector(loop: tirx.For) -> tirx.Stmt:
        store = loop.body
        if loop.kind != tirx.ForKind.VECTORIZED or not isinstance(store, tirx.BufferStore):
            return loop
        if not store.buffer.same_as(buffer):
            return loop
        if slope(store.indices[0], loop.loop_var) != 1:
            return loop
        return ask(replace(store.indices[0], loop.loop_var, loop.min), loop)

    def masked(statement: tirx.Evaluate) -> tirx.Stmt:
        call = statement.value
        if not isinstance(call, ir.Call) or not call.op.name.endswith("masked_store"):
            return statement
        target, _, *places, _ = call.args
        return ask(places[0].base, statement) if target.same_as(buffer) else statement

    return tvm_ffi.structural_map(body, [(tirx.For, vector), (tirx.Evaluate, masked)])


def prefetch(buffer: tirx.Buffer, at: Any, *, write: bool = False) -> tirx.Stmt:
    """Ask for the cache line of an element: for reading or writing, into every level, data."""
    address = tirx.address_of(tirx.BufferLoad(buffer, [at]))
    return tirx.Evaluate(tirx.call_intrin("void", "tirx.prefetch", address, int(write), 3, 1))
