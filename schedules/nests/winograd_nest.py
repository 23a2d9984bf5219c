"""The loop nest of Winograd's algorithm, as named steps.

parallel n, g, block of d, h, w, part of the channel chunks:
    xpad    the block's window, channels last                             (_stage_input)
    for phase:
        for d, tile, vector of ic:  v, by way of half_v                   (_transform_input)
        for qd, chunk of channels:
            for a, b, block of tile_oc, tile_t tiles:
                conv    tile_t x tile_oc sums in registers over kd, ic    (_multiply)
                gemm    the same, kept
            for block, tile, vector of oc:  out, by way of half_y         (_store_...)
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd
from typing import Any

from tvm import s_tir

from tvmconv.declare import Declaration
from tvmconv.declare.winograd_form import TiledAxis, WinogradForm
from tvmconv.lower.clip import AT_LAST_POINT, CLIP
from tvmconv.lower.prefetch import PREFETCH
from tvmconv.problem import Problem

from .choices import worth_clipping
from .staging import shuffle_rows, split_off_borders, turn_rows

Loop = Any

# A cache line; how many sets of lines a page of 4 KB fills, as a way of the first-level cache does;
# and so many sets of 8 to 12 lines hold hardly more than one tile's points.
LINE_FLOATS = 16
SETS = 64
FEW_SETS = 4


def schedule_winograd(
    declaration: Declaration,
    problem: Problem,
    form: WinogradForm,
    parts: int,
    prefetch: bool,
    unroll: int = 1,
) -> s_tir.Schedule:
    """Apply all steps to a Winograd declaration.

    Args:
        declaration: ``run``.
        problem: what it computes.
        form: how it is blocked.
        parts: parts of the channel chunks that run in parallel.
        prefetch: whether weights are asked for ahead of their use.
        unroll: input channels per iteration of a matrix product.
    """
    sch = s_tir.Schedule(declaration.prim_func())
    # Local memory is not shared: beside a row of y the sums would be kept out of registers.
    for stage in ("conv", "half_v", "half_y") if form.h.filtering.alpha > 1 else ("conv",):
        sch.set_scope(sch.get_sblock(stage), 0, "local")
    if form.woven:
        _gather_points(sch, form, problem.channels_last)
    else:
        _spread_over_sets(sch, problem, form)
    store = (
        _store_pixels if form.channels_last else _store_interleaved if form.woven else _store_rows
    )
    parallel, phase, chunk = store(sch, form, parts)
    _multiply(sch, chunk, problem, form, prefetch, unroll)
    _transform_input(sch, phase, form)
    _stage_input(sch, parallel, problem, form)
    return sch


def _gather_points(sch: s_tir.Schedule, form: WinogradForm, channels_last: bool) -> None:
    """All points of tile_t tiles within 64 KB, as far as a load of aarch64 reaches from a pointer.

    A transform writes or reads 36 points of one tile; 50 KB apart, each has an address of its own.
    """
    # Axes before the points: phases and d; block of channels too.
    for name, lead in (("v", 8), ("gemm", 9)):
        sch.transform_layout(sch.get_sblock(name), ("write", 0), _by_tile(lead, form.tile_t))

    def by_vector(*index: Any) -> list[Any]:
        *outer, h, square, w, c = index
        return [*outer, c // form.lanes, h, square, w, c % form.lanes]

    if not channels_last:
        sch.transform_layout(sch.get_sblock("xpad"), ("write", 0), by_vector)


def _spread_over_sets(sch: s_tir.Schedule, problem: Problem, form: WinogradForm) -> None:
    """Neighbouring points, and columns of x, an odd number of cache lines apart where need be.

    A transform touches 36 points of a tile at once. 56 tiles of 64 channels apart, they share two
    of the first-level cache's 64 sets, 24 lines in all: the layer took twice the time.
    """
    channels = form.channels_in(problem)
    # Of each stage the axis whose elements shall not meet, and the distance between them.
    distances = {
        "xpad": (8 if form.stage == "transposed" else 7, channels),
        "v": (9, form.tiles * channels),
        "gemm": (10, form.tiles * form.tile_oc),
    }
    for stage, (axis, distance) in distances.items():
        if SETS // gcd(SETS, distance // LINE_FLOATS) <= FEW_SETS:
            sch.storage_align(sch.get_sblock(stage), 0, axis, 2 * LINE_FLOATS, LINE_FLOATS)


def _by_tile(lead: int, tile_t: int) -> Callable[..., list[Any]]:
    """An index (.., a, b, t, ..) as (.., t // tile_t, a, b, t % tile_t, ..)."""

    def by_tile(*index: Any) -> list[Any]:
        a, b, t, *channel = index[lead:]
        return [*index[:lead], t // tile_t, a, b, t % tile_t, *channel]

    return by_tile


def _outer_loops(
    sch: s_tir.Schedule, loops: list[Loop], form: WinogradForm, parts: int
) -> tuple[list[Loop], list[Loop], Loop]:
    """Split the channel blocks into parts, chunks and blocks; gives outer loops, phases, block."""
    n, g, bd, bh, bw, ph, pw, qd, block = loops
    part, chunk, block = sch.split(block, [parts, None, form.chunk])
    outer, phases = [n, g, part, bd, bh, bw], [ph, pw]
    sch.reorder(*outer, *phases, qd, chunk, block)
    return outer, [*phases, qd, chunk], block


def _store_pixels(sch: s_tir.Schedule, form: WinogradForm, parts: int) -> tuple[Loop, Loop, Loop]:
    """Channels-last: a tile's m x m outputs of one vector of channels at a time."""
    out = sch.get_sblock("out")
    *loops, row, column, lane = sch.get_loops(out)
    outer, inner, block = _outer_loops(sch, loops, form, parts)
    band_h, i, sub_h = _split_band(sch, row, form.h)
    band_w, j, sub_w = _split_band(sch, column, form.w)
    vector, lane = sch.split(lane, [None, form.lanes])
    sch.reorder(block, band_h, sub_h, band_w, sub_w, vector, i, j, lane)
    sch.vectorize(lane)
    parallel = sch.fuse(*outer)
    sch.parallel(parallel)
    _transform_output(sch, vector, form)
    return parallel, inner[1], inner[3]


def _store_rows(sch: s_tir.Schedule, form: WinogradForm, parts: int) -> tuple[Loop, Loop, Loop]:
    """Channels-first: a band of rows of one square's channels at a time.

    A square is turned and stored at once, so that it stays in registers.
    """
    out = sch.get_sblock("out")
    *loops, lane, row, column = sch.get_loops(out)
    outer, inner, block = _outer_loops(sch, loops, form, parts)
    band, i, sub = _split_band(sch, row, form.h)
    square, lane = sch.split(lane, [None, gcd(form.square, form.tile_oc)])
    piece, column = sch.split(column, [None, gcd(form.square, form.columns)])
    sch.reorder(block, square, band, i, sub, piece, lane, column)
    sch.unroll(lane)
    sch.vectorize(column)
    parallel = sch.fuse(*outer)
    sch.parallel(parallel)
    shuffled = sch.get_sblock("yrow")
    sch.compute_at(shuffled, piece, preserve_unit_loops=True)
    sch.set_scope(shuffled, 0, "local")
    *_, along, across = sch.get_loops(shuffled)
    shuffle_rows(sch, along, across, form.square, form.lanes)
    _transform_output(sch, band, form)
    return parallel, inner[1], inner[3]


def _store_interleaved(
    sch: s_tir.Schedule, form: WinogradForm, parts: int
) -> tuple[Loop, Loop, Loop]:
    """Channels-first: rows of one vector of channels; LLVM takes the channels apart (ld4)."""
    sch.compute_inline(sch.get_sblock("yrow"))
    out = sch.get_sblock("out")
    *loops, lane, row, column = sch.get_loops(out)
    outer, inner, block = _outer_loops(sch, loops, form, parts)
    band, i, sub = _split_band(sch, row, form.h)
    vector, lane = sch.split(lane, [None, form.lanes])
    sch.reorder(block, vector, band, i, sub, column, lane)
    sch.unroll(lane)
    # Columns of the last tile that y does not have get a loop of their own.
    sch.annotate(column, "pragma_loop_partition_hint", 1)
    parallel = sch.fuse(*outer)
    sch.parallel(parallel)
    _transform_output(sch, band, form)
    return parallel, inner[1], inner[3]


def _transform_output(sch: s_tir.Schedule, at: Loop, form: WinogradForm) -> None:
    """Products of one tile and vector of channels, along w, then along h; all in registers."""
    tile = sch.get_sblock("ytile")
    sch.compute_at(tile, at, preserve_unit_loops=True)
    *_, band_h, i, sub_h, band_w, j, sub_w, lane = sch.get_loops(tile)
    vector, lane = sch.split(lane, [None, form.lanes])
    sch.reorder(band_h, sub_h, band_w, sub_w, vector, i, j, lane)
    _unroll(sch, i, j)
    sch.vectorize(lane)
    if form.h.filtering.alpha > 1:
        half = sch.get_sblock("half_y")
        sch.compute_at(half, vector, preserve_unit_loops=True)
        *_, a, j, lane = sch.get_loops(half)
        _unroll(sch, a, j)
        sch.vectorize(lane)


def _split_band(sch: s_tir.Schedule, loop: Loop, axis: TiledAxis) -> list[Loop]:
    """Bands, the m outputs of a tile, interleaved sub-images."""
    split: list[Loop] = sch.split(loop, [None, axis.m, axis.step])
    return split


def _multiply(
    sch: s_tir.Schedule,
    at: Loop,
    problem: Problem,
    form: WinogradForm,
    prefetch: bool,
    unroll: int,
) -> None:
    """For each point a matrix product of v and u; a register tile is summed, then kept."""
    gemm, conv = sch.get_sblock("gemm"), sch.get_sblock("conv")
    sch.compute_at(gemm, at, preserve_unit_loops=True)
    loops = sch.get_loops(gemm)
    part = [loops.pop()] if form.ic_parts(problem)[0] > 1 else []
    *_, block, a, b, t, v = loops
    tile, t = sch.split(t, [None, form.tile_t])
    vector, lane = sch.split(v, [None, form.lanes])
    sch.reorder(a, b, block, *part, tile, t, vector, lane)
    _unroll(sch, t, vector)
    sch.vectorize(lane)
    sch.compute_at(conv, tile, preserve_unit_loops=True)
    *_, chain, t, v, kd, e_h, e_w, ic = sch.get_loops(conv)
    vector, lane = sch.split(v, [None, form.lanes])
    sch.reorder(kd, e_h, e_w, ic, chain, t, vector, lane)
    for i, (loop, tiled) in enumerate(((e_h, form.h), (e_w, form.w)), start=1):
        if tiled.axis.full_residues < tiled.axis.residues:
            ends = [i, tiled.filtering.alpha - 1, tiled.axis.full_residues]
            sch.annotate(loop, AT_LAST_POINT, ends)
    _unroll(sch, chain, t, vector)
    sch.vectorize(lane)
    if worth_clipping(problem, 0) and form.depth >= problem.axes[0].out_extent:
        sch.annotate(kd, CLIP, 0)
    if unroll > 1:
        ic, inner = sch.split(ic, [None, unroll])
        sch.unroll(inner)
    if prefetch:
        sch.annotate(ic, PREFETCH, form.chains * form.tile_oc * unroll)
    sch.decompose_reduction(conv, kd)
    if part:
        sch.decompose_reduction(gemm, part[0])


def _transform_input(sch: s_tir.Schedule, at: Loop, form: WinogradForm) -> None:
    """One vector of channels of one tile at a time, first along w."""
    v = sch.get_sblock("v")
    sch.compute_at(v, at, preserve_unit_loops=True)
    *_, d, a, b, t, vector, lane = sch.get_loops(v)
    sch.reorder(d, t, vector, b, a, lane)
    _unroll(sch, a, b)
    sch.vectorize(lane)
    if form.h.filtering.alpha > 1:
        half = sch.get_sblock("half_v")
        sch.compute_at(half, vector, preserve_unit_loops=True)
        *_, i, b, _, lane = sch.get_loops(half)
        _unroll(sch, i, b)
        sch.vectorize(lane)


def _stage_input(sch: s_tir.Schedule, at: Loop, problem: Problem, form: WinogradForm) -> None:
    """Copy the window of one block, vectors along the channels."""
    xpad = sch.get_sblock("xpad")
    sch.compute_at(xpad, at, preserve_unit_loops=True)
    if form.stage == "transposed":
        *_, d, h, square, w, c = sch.get_loops(xpad)
        if form.woven:
            _weave_rows(sch, d, h, [square, w], c, problem, form.lanes)
        else:
            turn_rows(sch, (h, square, w, c), problem, form.square, form.lanes)
        return
    *_, w, c = sch.get_loops(xpad)
    _, lane = sch.split(c, [None, form.lanes])
    sch.vectorize(lane)
    split_off_borders(sch, w, problem)


def _weave_rows(
    sch: s_tir.Schedule,
    d: Loop,
    h: Loop,
    columns: list[Loop],
    channels: Loop,
    problem: Problem,
    lanes: int,
) -> None:
    """Channels-first x as vectors of channels: the machine weaves four rows (st4)."""
    vector, lane = sch.split(channels, [None, lanes])
    sch.reorder(vector, *columns, lane)
    sch.unroll(lane)
    column = sch.fuse(*columns)
    xrow = sch.get_sblock("xrow")
    if problem.padding_mode in ("zeros", "constant"):
        # Straight from x, and borders have loops of their own.
        sch.compute_inline(xrow)
        for loop in (d, h, column):
            split_off_borders(sch, loop, problem)
    else:
        sch.compute_at(xrow, h, preserve_unit_loops=True)
        split_off_borders(sch, sch.get_loops(xrow)[-1], problem)


def _unroll(sch: s_tir.Schedule, *loops: Loop) -> None:
    for loop in loops:
        sch.unroll(loop)
