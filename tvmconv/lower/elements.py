"""Take broadcasts from the lanes of one vector load, for machines that multiply by a lane.

``fmla v0.4s, v1.4s, v2.s[3]`` of aarch64 multiplies a vector by one lane of another for nothing,
so four broadcasts of neighbours need one load. Written as loads of scalars, LLVM 22 keeps a load
each: a 3x3 layer of 64 channels at 56x56 then executes 42 M instructions in place of 34 M.

In a straight line of stores, four (else two) broadcasts

    broadcast(b[i]), broadcast(b[i + 1]), broadcast(b[i + 2]), broadcast(b[i + 3])

become ``broadcast(b[i : i + 4].lane)``, provided that the line does not write b. All elements were
read before, so no load leaves the buffer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import tvm_ffi
from tvm import ir, tirx

from tvmconv.lower.masked import is_choice

Expr = Any
# Lanes of one load, widest first.
WIDTHS = (4, 2)


def share_elements(func: tirx.PrimFunc) -> tirx.PrimFunc:
    """Rewrite every straight line of stores, other statements before and behind it or not."""

    def visit(sequence: tirx.SeqStmt) -> tirx.SeqStmt:
        lines: list[tirx.Stmt] = []
        for straight, steps in groupby(sequence.seq, lambda s: isinstance(s, tirx.BufferStore)):
            line = list(steps)
            lines += _share(tirx.SeqStmt(line)).seq if straight and len(line) > 1 else line
        return tirx.SeqStmt(lines)

    return func.with_body(tvm_ffi.structural_map(func.body, (tirx.SeqStmt, visit)))


def _share(line: tirx.SeqStmt) -> tirx.SeqStmt:
    excluded = [store.buffer for store in line.seq] + _tested(line)
    found: list[tuple[Any, Expr, set[int]]] = []

    def row_of(load: ir.TensorLoad) -> tuple[Any, Expr, set[int]] | None:
        """Offsets that are read of this buffer from this base on; None where none may be added."""
        if any(load.source.same_as(one) for one in excluded):
            return None
        base, _ = _split(load.indices[0])
        for row in found:
            if row[0].same_as(load.source) and tvm_ffi.structural_equal(row[1], base):
                return row
        found.append((load.source, base, set()))
        return found[-1]

    def collect(node: tirx.Broadcast) -> tirx.Broadcast:
        if _is_element(node) and (row := row_of(node.value)) is not None:
            row[2].add(_split(node.value.indices[0])[1])
        return node

    tvm_ffi.structural_map(line, (tirx.Broadcast, collect))
    shared = [dict(_vectors(sorted(offsets))) for _, _, offsets in found]

    def replace(node: tirx.Broadcast) -> Expr:
        if not _is_element(node) or (row := row_of(node.value)) is None:
            return node
        base, offset = _split(node.value.indices[0])
        at = next(i for i, one in enumerate(found) if one is row)
        if offset not in shared[at]:
            return node
        first, width = shared[at][offset]
        place = tirx.Ramp(base + tirx.const(first, "int32"), 1, width)
        vector = tirx.BufferLoad(node.value.source, [place])
        # As many lanes go in as come out, or more.
        sources = [vector] * -(-int(node.lanes) // width)
        return tirx.Shuffle(sources, [offset - first] * int(node.lanes))

    return tvm_ffi.structural_map(line, (tirx.Broadcast, replace))


def _tested(line: tirx.SeqStmt) -> list[Any]:
    """What is read under a test: of such a buffer, only what was asked for may be read."""
    found: list[Any] = []

    def load(node: ir.TensorLoad) -> ir.TensorLoad:
        found.append(node.source)
        return node

    def call(node: ir.Call) -> ir.Call:
        if is_choice(node):
            for value in node.args[1:]:
                tvm_ffi.structural_map(value, (ir.TensorLoad, load))
        return node

    tvm_ffi.structural_map(line, (ir.Call, call))
    return found


def _is_element(node: tirx.Broadcast) -> bool:
    """A broadcast of a float32 of a flat buffer."""
    load = node.value
    return isinstance(load, ir.TensorLoad) and len(load.indices) == 1


def _split(index: Expr) -> tuple[Expr, int]:
    """An index as a base and a constant."""
    if isinstance(index, tirx.IntImm):
        return tirx.const(0, "int32"), int(index)
    if isinstance(index, tirx.Add) and isinstance(index.b, tirx.IntImm):
        return index.a, int(index.b)
    return index, 0


def _vectors(offsets: Sequence[int]) -> Iterator[tuple[int, tuple[int, int]]]:
    """For each offset that shares a load: the load's first offset and its width."""
    at = 0
    while at < len(offsets):
        for width in WIDTHS:
            run = offsets[at : at + width]
            if len(run) == width and run[-1] - run[0] == width - 1:
                yield from ((offset, (run[0], width)) for offset in run)
                at += width
                break
        else:
            at += 1
