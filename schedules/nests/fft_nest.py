"""The loop nest of the FFT algorithm, as named steps.

    parallel g, block of tiles:
        for vector of transforms u:
            for h:  xrow, row_0 .. row_n        samples, then transforms over w   (_transform)
            for bin of w:  column_0 .. column_n                                   (_transform)
        for bin, b, tile_t tiles:                                                 (_multiply)
            conv    tile_t x tile_b x 2 sums in registers over k
        for tile, b:                                                              (_store)
            for bin of w:  column_back_n .. column_back_0                         (_transform_back)
            for h:  row_back_n .. row_back_0, out

Levels of a transform run depth first: each is computed at the node of the level that reads it, so
the parts of a long transform stay in the first-level cache (Frigo and Johnson, "The Design and
Implementation of FFTW3", 2005). Where the product is fused, it runs inside the last level too.
"""

from __future__ import annotations

from typing import Any

from tvm import s_tir, tirx

from tvmconv.declare import Declaration
from tvmconv.declare.direct import TRANSPOSE_UNIT
from tvmconv.declare.fft_form import FftForm
from tvmconv.declare.roots import Ring
from tvmconv.problem import Problem

from .staging import shuffle_rows, split_off_borders

Loop = Any
# Axes g and block of tiles of every stage of run; g, k and b of every stage of pack.
RUN_LEAD, PACK_LEAD = 2, 3
# Where ``row_0`` walks over rows: outside inner positions, digits, parts and lanes.
ROW = -5
# Below so many products per output the digits of the innermost level are unrolled as well.
FEW_TERMS = 4


def schedule_fft(
    declaration: Declaration, problem: Problem, form: FftForm, turned: int
) -> s_tir.Schedule:
    """Apply all steps to ``run``; ``turned`` lanes of a vector take part in transpositions."""
    sch = s_tir.Schedule(declaration.prim_func())
    # Local memory is not shared: beside a row of samples the sums would be kept out of registers.
    sch.set_scope(sch.get_sblock("conv"), 0, "local")
    parallel, tile = _store(sch, form, turned)
    innermost = _transform_back(sch, form, tile)
    _multiply(sch, innermost if form.fused else parallel, problem, form)
    final = sch.get_sblock(_last(form))
    sch.compute_at(final, parallel, preserve_unit_loops=True)
    _transform(sch, final, form, RUN_LEAD, has_batch=True)
    _gather(sch, problem, form, turned)
    return sch


def schedule_fft_packing(declaration: Declaration, form: FftForm) -> tirx.PrimFunc:
    """Apply the transforms' steps to ``pack``."""
    sch = s_tir.Schedule(declaration.prim_func())
    _transform(sch, sch.get_sblock(_last(form)), form, PACK_LEAD, has_batch=False)
    taps = sch.get_sblock("wrow")
    row = sch.get_sblock("row_0")
    sch.compute_at(taps, sch.get_loops(row)[ROW], preserve_unit_loops=True)
    return sch.mod["main"]


def _last(form: FftForm) -> str:
    """The stage that holds the spectrum."""
    ring, name = (form.h.ring, "column") if form.h.ring.radices else (form.w.ring, "row")
    return f"{name}_{len(ring.radices) - 1}"


def _store(sch: s_tir.Schedule, form: FftForm, turned: int) -> tuple[Loop, Loop]:
    """Tiles of one vector of channels at a time; gives the parallel and the tile's loop."""
    out = sch.get_sblock("out")
    g, tb, ti, b, row, outer, inner = sch.get_loops(out)
    sch.reorder(g, tb, b, ti, row, outer, inner)
    if form.rows_out:
        _, inner = sch.split(inner, [None, TRANSPOSE_UNIT])
        transposed = sch.get_sblock("yrow")
        sch.compute_at(transposed, row, preserve_unit_loops=True)
        *_, lane, column = sch.get_loops(transposed)
        shuffle_rows(sch, lane, column, TRANSPOSE_UNIT, turned)
    sch.vectorize(inner)
    parallel = sch.fuse(g, tb)
    sch.parallel(parallel)
    final = sch.get_sblock("row_back_0")
    sch.compute_at(final, row, preserve_unit_loops=True)
    return parallel, ti


def _transform_back(sch: s_tir.Schedule, form: FftForm, tile: Loop) -> Loop:
    """All levels, depth first; gives the innermost node's loop."""
    at = _levels_back(sch, "row_back", form.w.ring, RUN_LEAD + 3)
    if not form.h.ring.radices:
        return at
    sch.compute_at(sch.get_sblock("column_back_0"), tile, preserve_unit_loops=True)
    return _levels_back(sch, "column_back", form.h.ring, RUN_LEAD + 2 + len(form.w.ring.radices))


def _levels_back(sch: s_tir.Schedule, name: str, ring: Ring, lead: int) -> Loop:
    """Level 0 is in place; each further one is computed at its reader's node."""
    at = None
    for level in range(len(ring.radices)):
        stage = sch.get_sblock(f"{name}_{level}")
        if at is not None:
            sch.compute_at(stage, at, preserve_unit_loops=True)
        # Parallel loops are fused, and stages in place lack none of their own loops.
        loops = sch.get_loops(stage)[-(lead + level + 4) :]
        at, own, lane = loops[lead + level - 1], loops[lead + level : -1], loops[-1]
        part, m, n = own if ring.real and level == 0 else (own[2], own[0], own[1])
        _unroll_butterfly(sch, n, m, part, lane)
        for part_of in ("joined", "points"):
            _keep_in_registers(sch, f"{name}_{level}_{part_of}", n, [lane])
    return at


def _unroll_butterfly(sch: s_tir.Schedule, n: Loop, digit: Loop, part: Loop, lane: Loop) -> None:
    """All outputs of one butterfly in a straight line, vectors of transforms."""
    sch.reorder(n, digit, part, lane)
    sch.unroll(digit)
    sch.unroll(part)
    sch.vectorize(lane)


def _keep_in_registers(sch: s_tir.Schedule, name: str, at: Loop, tail: list[Loop]) -> None:
    """The points between a butterfly and its powers of roots: a straight line of vectors."""
    stage = sch.get_sblock(name)
    sch.compute_at(stage, at, preserve_unit_loops=True)
    own = sch.get_loops(stage)[-(3 + len(tail)) :]
    _unroll_butterfly(sch, own[1], own[0], own[2], own[-1])


def _multiply(sch: s_tir.Schedule, at: Loop, problem: Problem, form: FftForm) -> None:
    """Products of spectra: a register tile of tiles and channels per frequency."""
    product, conv = sch.get_sblock("product"), sch.get_sblock("conv")
    sch.compute_at(product, at, preserve_unit_loops=True)
    *_, ti, b, part, lane = loops = sch.get_loops(product)
    bins = loops[-4 - len(form.radices) : -4]
    tiles, ti = sch.split(ti, [None, form.tile_t])
    vectors, b = sch.split(b, [None, form.tile_b])
    sch.reorder(*bins, vectors, tiles, ti, b, part, lane)
    for loop in (ti, b, part):
        sch.unroll(loop)
    sch.vectorize(lane)
    sch.compute_at(conv, tiles, preserve_unit_loops=True)
    *_, ti, b, part, lane, k, half = sch.get_loops(conv)
    sch.reorder(k, half, ti, b, part, lane)
    for loop in (half, ti, b, part):
        sch.unroll(loop)
    sch.vectorize(lane)
    sch.decompose_reduction(conv, k)
    if form.fused and form.reduction(problem) <= FEW_TERMS:
        sch.unroll(bins[-1])


def _transform(
    sch: s_tir.Schedule, final: Any, form: FftForm, lead: int, *, has_batch: bool
) -> None:
    """Both transforms, the vector of transforms outermost."""
    columns = len(form.w.ring.radices)
    name = "row"
    if form.h.ring.radices:
        name = "column"
    else:
        lead += 1
        columns = 0
    batch = _levels(sch, final, name, form, lead + columns, has_batch)
    if not form.h.ring.radices:
        return
    row = sch.get_sblock(f"row_{len(form.w.ring.radices) - 1}")
    sch.compute_at(row, batch, preserve_unit_loops=True)
    _levels(sch, row, "row", form, lead + 1, has_batch)


def _levels(
    sch: s_tir.Schedule, final: Any, name: str, form: FftForm, lead: int, has_batch: bool
) -> Loop:
    """The levels of one transform; gives the loop inside which the last one runs."""
    ring = form.h.ring if name == "column" else form.w.ring
    places: list[Loop] = []
    batch = None
    for level in reversed(range(len(ring.radices))):
        stage = final
        if places:
            stage = sch.get_sblock(f"{name}_{level}")
            sch.compute_at(stage, places[level], preserve_unit_loops=True)
        loops = sch.get_loops(stage)[-(lead + level + 4 + has_batch) :]
        outer, digits = loops[:lead], loops[lead : lead + level + 1]
        inner, part = loops[lead + level + 1 : lead + level + 3]
        tail = loops[-1 - has_batch :]
        fixed = outer[: RUN_LEAD if has_batch else PACK_LEAD]
        rest = outer[len(fixed) :]
        sch.reorder(*fixed, *tail[:-1], *rest, *digits[:-1], inner, digits[-1], part, tail[-1])
        _unroll_butterfly(sch, inner, digits[-1], part, tail[-1])
        _keep_in_registers(sch, f"{name}_{level}_points", inner, tail)
        if not places:
            # Level l makes all digits of one of its nodes, that is of l digits, at once.
            places = [outer[-1], *digits]
            batch = tail[0] if has_batch else fixed[-1]
    return batch


def _gather(sch: s_tir.Schedule, problem: Problem, form: FftForm, turned: int) -> None:
    """Samples of one row and one vector of transforms."""
    samples, row = sch.get_sblock("xrow"), sch.get_sblock("row_0")
    loops = sch.get_loops(row)
    sch.compute_at(samples, loops[ROW], preserve_unit_loops=True)
    *_, column, u, lane = sch.get_loops(samples)
    if form.rows_in:
        line = sch.get_sblock("xline")
        sch.compute_at(line, loops[ROW], preserve_unit_loops=True)
        shuffle_rows(sch, column, lane, TRANSPOSE_UNIT, turned)
        split_off_borders(sch, sch.get_loops(line)[-1], problem)
    elif neighbours(problem, form):
        sch.vectorize(lane)
        split_off_borders(sch, column, problem)
    else:
        sch.reorder(u, lane, column)


def neighbours(problem: Problem, form: FftForm) -> bool:
    """True when the lanes of one vector of samples lie side by side in channels-last x."""
    if form.per_lane:
        return problem.ocg == 1 and problem.g % form.lanes == 0
    return problem.icg % form.lanes == 0
