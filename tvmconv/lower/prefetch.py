"""Ask for packed weights ahead of their use: prefetches in the reduction loop.

Packed weights are read front to back, which hardware prefetchers follow, but only to the end of a
4 KB page: at 128 bytes per reduction step the stream stalls every 32 steps for the latency of the
third-level cache. A loop annotated with PREFETCH = n floats per iteration touches the cache lines
that lie AHEAD_BYTES further on. Reading past the end is harmless: a prefetch cannot fault.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import ir, tirx

PREFETCH = "tvmconv.prefetch"
# Latency of the third-level cache, about 250 cycles, at the 10 to 15 bytes a cycle of a register
# tile of weights.
AHEAD_BYTES = 16384
LINE_FLOATS = 16


def insert_prefetches(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Put prefetches of ``packed`` at the start of every annotated loop's body."""

    def visit(loop: tirx.For) -> tirx.Stmt:
        if PREFETCH not in loop.annotations:
            return loop
        floats = int(loop.annotations[PREFETCH])
        annotations = {k: v for k, v in loop.annotations.items() if k != PREFETCH}
        first = _first_read(loop.body)
        lines = [] if first is None else _prefetches(first, floats)
        body = tirx.SeqStmt([*lines, loop.body]) if lines else loop.body
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, None, annotations)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.For, visit)))


def _first_read(body: tirx.Stmt) -> ir.TensorLoad | None:
    """The read of ``packed`` with every loop inside the body at its start."""
    reads: list[ir.TensorLoad] = []
    inner: list[tirx.Var] = []

    def read(load: ir.TensorLoad) -> ir.TensorLoad:
        if load.source.name == "packed":
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


def _prefetches(first: ir.TensorLoad, floats: int) -> list[tirx.Stmt]:
    """One prefetch per cache line of an iteration."""
    ahead = AHEAD_BYTES // 4
    return [
        prefetch(first.source, first.indices[0] + (ahead + line))
        for line in range(0, floats, LINE_FLOATS)
    ]


def prefetch(buffer: tirx.Buffer, at: Any) -> tirx.Stmt:
    """Ask for the cache line of an element: for reading, into every level, data."""
    address = tirx.address_of(tirx.BufferLoad(buffer, [at]))
    return tirx.Evaluate(tirx.call_intrin("void", "tirx.prefetch", address, 0, 3, 1))
