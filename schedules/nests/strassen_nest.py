"""The loop nest of Strassen's product of parts, as named steps.

parallel n, g, block of d, h, w:
    xpad    what the block reads, padding filled in                       (_stage_input)
    xsum    all sums of x, a vector of channels or columns at a time      (_add_parts)
    for phase, chunk of channels:
        for product, block of tile_oc, run of ic, tile of pixels:
            conv    tile_oh x tile_ow x tile_oc sums in registers         (_multiply)
            gemm    the same, kept; of several runs, their sum
        for block, vector:  out, all parts of it, by way of ytile         (_store_...)
"""

from __future__ import annotations

from math import gcd
from typing import Any

from tvm import s_tir

from tvmconv.declare import Declaration
from tvmconv.declare.strassen_form import StrassenForm
from tvmconv.lower.prefetch import PREFETCH
from tvmconv.problem import Problem

from .staging import copy_rows, shuffle_rows, split_off_borders, staging_width

Loop = Any
# Axes of every stage before its own: n, g, and the blocks of outputs; and the block of channels.
LEAD = 5


def schedule_strassen(
    declaration: Declaration,
    problem: Problem,
    form: StrassenForm,
    lanes: int,
    prefetch: bool,
) -> s_tir.Schedule:
    """Apply all steps to a Strassen declaration.

    Args:
        declaration: ``run``.
        problem: what it computes.
        form: how it is cut.
        lanes: float32 values in a vector.
        prefetch: whether weights are asked for ahead of their use.
    """
    sch = s_tir.Schedule(declaration.prim_func())
    _lay_out(sch, form)
    store = (
        _store_turned if form.turned else _store_pixels if form.vector == "oc" else _store_columns
    )
    parallel, chunk = store(sch, form, lanes)
    _multiply(sch, chunk, problem, form, lanes, prefetch)
    _add_parts(sch, parallel, form, lanes)
    if form.staged:
        _stage_input(sch, parallel, problem, form, lanes)
    return sch


def _lay_out(sch: s_tir.Schedule, form: StrassenForm) -> None:
    """Products outermost in memory, and what a vector holds innermost in registers."""

    def by_product(*index: Any) -> list[Any]:
        *window, r = index[LEAD:]
        return [*index[:LEAD], r, *window]

    def vector_last(*index: Any) -> list[Any]:
        *outer, lane, a, b = index
        return [*outer, a, b, lane]

    def three_before(*index: Any) -> list[Any]:
        *outer, lane, r, a, b = index
        return [*outer, r, a, b, lane]

    sch.transform_layout(sch.get_sblock("xsum"), ("write", 0), by_product)
    sch.transform_layout(sch.get_sblock("ytile"), ("write", 0), vector_last)
    local = ["conv"]
    if form.levels > 1:
        for stage in ("xhalf", "yhalf"):
            sch.transform_layout(sch.get_sblock(stage), ("write", 0), three_before)
        local += ["xhalf", "yhalf"]
    for stage in local:
        sch.set_scope(sch.get_sblock(stage), 0, "local")


def _store_pixels(sch: s_tir.Schedule, form: StrassenForm, lanes: int) -> tuple[Loop, Loop]:
    """Channels-last: all parts of one vector of channels at a time."""
    outer, inner, (block, i, j, row, column, lane) = _outer_loops(sch, form)
    vector, lane = sch.split(lane, [None, lanes])
    sch.reorder(*outer, *inner, block, row, column, vector, i, j, lane)
    return _finish(sch, form, outer, vector, (i, j), lane), inner[-1]


def _store_columns(sch: s_tir.Schedule, form: StrassenForm, lanes: int) -> tuple[Loop, Loop]:
    """Channels-first with columns in the lanes: all parts of one vector of columns at a time."""
    outer, inner, (block, i, j, channel, row, lane) = _outer_loops(sch, form)
    vector, lane = sch.split(lane, [None, lanes])
    sch.reorder(*outer, *inner, block, channel, row, vector, i, j, lane)
    return _finish(sch, form, outer, vector, (i, j), lane), inner[-1]


def _outer_loops(
    sch: s_tir.Schedule, form: StrassenForm
) -> tuple[list[Loop], list[Loop], list[Loop]]:
    """Of ``out``: blocks of outputs; phases and chunk; block of the chunk and the rest."""
    loops = sch.get_loops(sch.get_sblock("out"))
    outer, phases, (b, *rest) = loops[:LEAD], loops[LEAD:-6], loops[-6:]
    chunk, block = sch.split(b, [None, form.chunk])
    return outer, [*phases, chunk], [block, *rest]


def _finish(
    sch: s_tir.Schedule,
    form: StrassenForm,
    outer: list[Loop],
    vector: Loop,
    parts: tuple[Loop, Loop],
    lane: Loop,
) -> Loop:
    _unroll(sch, *parts)
    sch.vectorize(lane)
    parallel = sch.fuse(*outer)
    sch.parallel(parallel)
    _add_products(sch, vector, form)
    return parallel


def _store_turned(sch: s_tir.Schedule, form: StrassenForm, lanes: int) -> tuple[Loop, Loop]:
    """Channels-first with channels in the lanes: squares of pixels and channels are transposed."""
    outer, inner, (block, i, j, channel, row, column) = _outer_loops(sch, form)
    square, channel = sch.split(channel, [None, gcd(form.square, form.tile_oc)])
    piece, lane = sch.split(column, [None, form.square])
    sch.reorder(*outer, *inner, block, square, row, piece, i, j, channel, lane)
    sch.vectorize(lane)
    parallel = sch.fuse(*outer)
    sch.parallel(parallel)
    yrow = sch.get_sblock("yrow")
    sch.compute_at(yrow, j, preserve_unit_loops=True)
    *_, along, _, across = sch.get_loops(yrow)
    shuffle_rows(sch, along, across, form.square, lanes)
    _add_products(sch, piece, form, lanes)
    return parallel, inner[-1]


def _add_products(
    sch: s_tir.Schedule, at: Loop, form: StrassenForm, lanes: int | None = None
) -> None:
    """All parts of y from the products of one vector; ``lanes`` where there are several vectors."""
    ytile = sch.get_sblock("ytile")
    sch.compute_at(ytile, at, preserve_unit_loops=True)
    *_, lane, i, j = sch.get_loops(ytile)
    if lanes is not None:
        vector, lane = sch.split(lane, [None, lanes])
        sch.reorder(vector, i, j, lane)
        at = vector
    else:
        sch.reorder(i, j, lane)
    _unroll(sch, i, j)
    sch.vectorize(lane)
    if form.levels > 1:
        yhalf = sch.get_sblock("yhalf")
        sch.compute_at(yhalf, at, preserve_unit_loops=True)
        *_, lane, r, i, j = sch.get_loops(yhalf)
        sch.reorder(r, i, j, lane)
        _unroll(sch, r, i, j)
        sch.vectorize(lane)


def _multiply(
    sch: s_tir.Schedule,
    at: Loop,
    problem: Problem,
    form: StrassenForm,
    lanes: int,
    prefetch: bool,
) -> None:
    """Each product of parts: a register tile is summed, then kept."""
    gemm, conv = sch.get_sblock("gemm"), sch.get_sblock("conv")
    sch.compute_at(gemm, at, preserve_unit_loops=True)
    loops = sch.get_loops(gemm)
    runs = [loops.pop()] if form.runs(problem)[0] > 1 else []
    r, b, *tile = loops[-5:]
    outer, inner, lane = _register_tile(sch, tile, form, lanes)
    sch.reorder(r, b, *runs, *outer, *inner, lane)
    _unroll(sch, *inner)
    sch.vectorize(lane)
    sch.compute_at(conv, outer[-1], preserve_unit_loops=True)
    *_, x, y, z, kd, kh, kw, ic = sch.get_loops(conv)
    within, inner, lane = _register_tile(sch, [x, y, z], form, lanes)
    sch.reorder(*within, kd, kh, kw, ic, *inner, lane)
    _unroll(sch, *inner)
    sch.vectorize(lane)
    if prefetch:
        sch.annotate(ic, PREFETCH, form.tile_oc)
    sch.decompose_reduction(conv, kd)
    if runs:
        sch.decompose_reduction(gemm, runs[0])


def _register_tile(
    sch: s_tir.Schedule, tile: list[Loop], form: StrassenForm, lanes: int
) -> tuple[list[Loop], list[Loop], Loop]:
    """Loops over tiles, over what one holds, and over lanes."""
    row, column, v = tile if form.vector == "oc" else (tile[1], tile[2], tile[0])
    rows, row = sch.split(row, [None, form.tile_oh])
    columns, column = sch.split(column, [None, form.tile_ow])
    if form.vector == "oc":
        vector, lane = sch.split(v, [None, lanes])
        return [rows, columns], [row, column, vector], lane
    vector, lane = sch.split(column, [None, lanes])
    return [rows, columns], [v, row, vector], lane


def _add_parts(sch: s_tir.Schedule, at: Loop, form: StrassenForm, lanes: int) -> None:
    """All sums of one vector of x; of two levels, the first into registers."""
    xsum = sch.get_sblock("xsum")
    sch.compute_at(xsum, at, preserve_unit_loops=True)
    *_, lane, r = sch.get_loops(xsum)
    vector, lane = sch.split(lane, [None, staging_width(int(sch.get(lane).extent), lanes)])
    sch.reorder(vector, r, lane)
    _unroll(sch, r)
    sch.vectorize(lane)
    if form.levels > 1:
        xhalf = sch.get_sblock("xhalf")
        sch.compute_at(xhalf, vector, preserve_unit_loops=True)
        *_, lane, r, i, k = sch.get_loops(xhalf)
        sch.reorder(r, i, k, lane)
        _unroll(sch, r, i, k)
        sch.vectorize(lane)


def _stage_input(
    sch: s_tir.Schedule, at: Loop, problem: Problem, form: StrassenForm, lanes: int
) -> None:
    """Copy what one block reads, vectors along what is innermost in x."""
    xpad = sch.get_sblock("xpad")
    sch.compute_at(xpad, at, preserve_unit_loops=True)
    *_, outer, inner = sch.get_loops(xpad)
    if form.channels_last:
        _, lane = sch.split(inner, [None, staging_width(int(sch.get(inner).extent), lanes)])
        sch.vectorize(lane)
        split_off_borders(sch, outer, problem)
    else:
        copy_rows(sch, inner, problem, lanes)


def _unroll(sch: s_tir.Schedule, *loops: Loop) -> None:
    for loop in loops:
        sch.unroll(loop)
