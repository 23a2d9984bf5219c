"""Squares of values transposed in registers: unpacked in fours, then moved by 128 bits.

A loop over rows annotated with SQUARES = lanes whose body is

    for row:  for lane:  out[.., lane, row] = in[.., row, lane]

becomes loads of rows, log2(lanes) shuffles for each of them, and stores of columns. Written as
scattered lanes, LLVM 22 made squares of 4x4 out of it: 300 instructions and 64 stores of 16 bytes
for 16x16 values, which take 64 shuffles and 16 stores of whole cache lines (of AVX-512).

Rows may be x itself, with tests for its padding: they become masks, as in rows.py. Of rows that do
not fill the last square, whole vectors are stored where the destination has room for them.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import tvm_ffi
from tvm import sym, tirx

from tvmconv.lower.masked import loop_bounds, replace, slope
from tvmconv.lower.rows import AHEAD, row_of

SQUARES = "tvmconv.squares"
# Values that one instruction takes turns with; wider vectors are so many times four.
QUAD = 4
Expr = Any


def turn_squares(func: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Rewrite every annotated loop; where rows are not whole vectors it stays as it is.

    None when there is none.
    """
    found = False
    bounds = loop_bounds(func.body)

    def visit(loop: tirx.For) -> tirx.Stmt:
        nonlocal found
        if SQUARES not in loop.annotations:
            return loop
        found = True
        lanes, ahead = int(loop.annotations[SQUARES]), int(loop.annotations.get(AHEAD, 0))
        annotations = {k: v for k, v in loop.annotations.items() if k not in (SQUARES, AHEAD)}
        return _by_squares(loop, lanes, ahead, bounds) or tirx.For(
            loop.loop_var, loop.min, loop.extent, loop.kind, loop.body, None, annotations
        )

    body = tvm_ffi.structural_map(func.body, (tirx.For, visit))
    return func.with_body(body) if found else None


def _by_squares(rows: tirx.For, lanes: int, ahead: int, bounds: sym.Analyzer) -> tirx.Stmt | None:
    """Straight-line code, a square at a time; None where the loops have another shape."""
    columns = rows.body
    if not isinstance(columns, tirx.For) or not isinstance(columns.body, tirx.BufferStore):
        return None
    store, along, across = columns.body, columns.loop_var, rows.loop_var
    source = row_of(store.value)
    if source is None or not source.lies_along(along, lanes):
        return None
    wide, high = int(columns.extent), int(rows.extent)
    if slope(store.indices[-1], across) != 1 or wide % lanes:
        return None
    if high % lanes and not _has_room(store.buffer, high, lanes):
        return None
    code: list[tirx.Stmt] = []
    for first, top in product(range(0, wide, lanes), range(0, high, lanes)):
        loaded = []
        for i in range(min(lanes, high - top)):
            row = source.at(across, _const(top + i))
            if ahead:
                code.append(row.ask(along, _const(first), ahead))
            loaded.append(row.vector(along, _const(first), lanes, bounds))
        loaded += [tirx.Broadcast(tirx.const(0.0, "float32"), lanes)] * (lanes - len(loaded))
        for i, vector in enumerate(_transposed(loaded, lanes, code)):
            place = [
                replace(replace(index, along, _const(first + i)), across, _const(top))
                for index in store.indices
            ]
            place[-1] = tirx.Ramp(place[-1], 1, lanes)
            code.append(tirx.BufferStore(store.buffer, vector, place))
    return tirx.SeqStmt(code)


def _has_room(buffer: tirx.Buffer, high: int, lanes: int) -> bool:
    """Whether each column has a place of whole vectors to itself."""
    if len(buffer.strides) < 2 or int(buffer.shape[-1]) != high:
        return False
    return int(buffer.strides[-2]) % lanes == 0


def _transposed(rows: list[Expr], lanes: int, code: list[tirx.Stmt]) -> list[Expr]:
    """Columns of a square, by shuffles that machines have: within 128 bits, then of these."""
    quads = []
    for i in range(0, lanes, QUAD):
        a, b, c, d = rows[i : i + QUAD]
        low, high = _unpacked(a, b, 1, lanes, code), _unpacked(c, d, 1, lanes, code)
        quads.append(
            [
                *_unpacked(low[0], high[0], 2, lanes, code),
                *_unpacked(low[1], high[1], 2, lanes, code),
            ]
        )
    # quads[q][c] holds column 4 j + c of rows 4 q .. 4 q + 3 in its j-th 128 bits.
    turned = [_moved([quad[c] for quad in quads], lanes, code) for c in range(QUAD)]
    return [turned[i % QUAD][i // QUAD] for i in range(lanes)]


def _unpacked(a: Expr, b: Expr, unit: int, lanes: int, code: list[tirx.Stmt]) -> tuple[Expr, Expr]:
    """Units of a and b in turn: of the low half of each 128 bits, and of the high half."""
    halves = []
    for half in (0, QUAD // 2):
        order = []
        for block in range(0, lanes, QUAD):
            for start in range(half, half + QUAD // 2, unit):
                for side in (0, lanes):
                    order += [side + block + start + i for i in range(unit)]
        halves.append(_shuffled(a, b, order, lanes, code))
    return halves[0], halves[1]


def _moved(vectors: list[Expr], lanes: int, code: list[tirx.Stmt]) -> list[Expr]:
    """As many columns of 128-bit values as there are vectors, as vectors."""
    if len(vectors) == 1:
        return vectors
    columns = []
    for parity in (0, 1):
        order = [
            side + QUAD * unit + i
            for side in (0, lanes)
            for unit in range(parity, lanes // QUAD, 2)
            for i in range(QUAD)
        ]
        halves = [
            _shuffled(a, b, order, lanes, code)
            for a, b in zip(vectors[::2], vectors[1::2], strict=True)
        ]
        columns.append(_moved(halves, lanes, code))
    return [column for pair in zip(*columns, strict=True) for column in pair]


def _shuffled(a: Expr, b: Expr, order: list[int], lanes: int, code: list[tirx.Stmt]) -> Expr:
    """Elements of a and b in an order, by name: each is used twice."""
    var = tirx.Var("part", f"float32x{lanes}")
    code.append(tirx.Bind(var, tirx.Shuffle([a, b], [_const(i) for i in order])))
    return var


def _const(value: int) -> Expr:
    return tirx.const(value, "int32")
