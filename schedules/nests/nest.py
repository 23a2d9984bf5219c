"""The loop nest that the x86 templates share, as named steps.

Each line that stages, reduces or stores is one function below; a Nest says how it is done.

    parallel n, g, block part, d, row block, column block:
        xpad        the window that this block reads, staged once        (_stage_input)
        xcol        its taps side by side, where they are unfolded       (_gather_columns)
        for block, phase, row, column tile:
            conv    accumulators of one register tile, all in registers  (_reduce_in_registers)
                for taps, ic: unrolled FMAs over tile and lanes
            out     epilogue and store of the tile                       (_store_tile)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import s_tir

from tvmconv.declare.declaration import Declaration
from tvmconv.declare.direct import TRANSPOSE_UNIT
from tvmconv.declare.form import Form
from tvmconv.lower.borders import GUARDED, INSIDE, PEELED
from tvmconv.lower.clip import CLIP
from tvmconv.lower.guarded import COLUMNS
from tvmconv.lower.prefetch import LINE_FLOATS, PREFETCH_X
from tvmconv.lower.squares import QUAD
from tvmconv.problem import Problem

from .choices import may_clip, worth_clipping
from .staging import (
    gather_phases,
    shuffle_rows,
    split_off_borders,
    turn_rows,
    turn_sums,
    vectorize_channels,
)

Loop = Any

# Past this many FMAs in a straight line LLVM starts to spill, and loops over taps are faster.
MAX_UNROLLED_FMAS = 80
# Tiles of columns that are written out where rows are read in place, so that masks are constants.
# Of more, machines without masks write out the two at the borders, which take another way there;
# others write a tile's code several times, with masks and without.
FEW_COLUMNS, FEW_MASKED_COLUMNS = 3, 8
# Phases whose stores are written out together; with 32, a layer took half a minute to compile.
MOST_WOVEN = 4


@dataclass(frozen=True)
class Nest:
    """How a form is scheduled.

    Attributes:
        lanes: float32 values in one vector.
        parts: parts of the channel blocks that run as outermost, parallel loop.
        unroll_ic: input channels per iteration of the innermost reduction loop.
        unroll_taps: how many of the tap loops are unrolled, innermost first.
        rows_innermost: tap loops run d, w, h instead of d, h, w.
        rows_slide: unrolled tap rows run inside the input channels: a channel's rows of x then pass
            through registers one by one. In the other order those of three channels of 7x7 taps
            spilled, 20 of 423 instructions.
        unfold: how many innermost axes of ``xcol`` are neighbours in x; None without that stage.
        masks: whether vectors are loaded under masks of lanes.
        prefetch_x: whether the next tile's columns are asked for, where x is read in place.
    """

    lanes: int
    parts: int = 1
    unroll_ic: int = 1
    unroll_taps: int = 0
    rows_innermost: bool = False
    rows_slide: bool = False
    unfold: int | None = None
    masks: bool = True
    prefetch_x: bool = False


def schedule_nest(
    declaration: Declaration, problem: Problem, form: Form, nest: Nest, source: Problem
) -> s_tir.Schedule:
    """Apply all steps to a direct declaration.

    ``source`` is the problem whose x is staged: ``problem`` itself, or what it was unfolded from.
    """
    sch = s_tir.Schedule(declaration.prim_func())
    outer, tile_at = _tile_output(sch, problem, form, nest)
    conv = sch.get_sblock("conv")
    sch.compute_at(conv, tile_at, preserve_unit_loops=True)
    taps = _reduce_in_registers(sch, conv, len(sch.get_loops(conv)), problem, form, nest)
    if nest.unfold is not None:
        _gather_columns(sch, outer, nest.unfold, nest)
    if form.stage == "sample":
        _stage_samples(sch, outer, problem, nest)
    elif form.stage not in ("none", "guarded"):
        _stage_input(sch, outer, source, form, nest)
    sch.decompose_reduction(conv, taps)
    return sch


def _tile_output(
    sch: s_tir.Schedule, problem: Problem, form: Form, nest: Nest
) -> tuple[Loop, Loop]:
    """Split ``out`` into row blocks and register tiles; returns the staging and the tile loop."""
    out = sch.get_sblock("out")
    loops = dict(zip(form.order, sch.get_loops(out), strict=True))
    n, g, block, qd, qh, qw, v = (loops[a] for a in ("n", "g", "b", "qd", "qh", "qw", "v"))
    phases = [loops[a] for a in ("pd", "ph", "pw")]
    rows, row, th = sch.split(qh, [None, form.block_oh // form.tile_oh, form.tile_oh])
    columns, column, tw = sch.split(qw, [None, form.block_ow // form.tile_ow, form.tile_ow])
    part, block = sch.split(block, [nest.parts, None])
    # With channels per lane the staged input belongs to one block, else all blocks share it.
    shared = [block] if form.per_lane else []
    outer = [n, g, part, *shared, qd, rows, columns]
    woven = [phases.pop()] if _weaves(problem, form, nest) else []
    inner = [*phases, row, column] if form.per_lane else [block, *phases, row, column]
    sch.reorder(*outer, *inner, *woven, th, tw, v)
    _store_tile(sch, th, tw, v, woven, problem, form, nest)
    if form.stage == "guarded":
        _part_borders(sch, row, column, problem, form, nest)
    parallel = sch.fuse(*outer)
    sch.parallel(parallel)
    return parallel, column


def _part_borders(
    sch: s_tir.Schedule, row: Loop, column: Loop, problem: Problem, form: Form, nest: Nest
) -> None:
    """Take tiles with taps in the padding apart from those without."""
    columns = int(sch.get(column).extent)
    if form.vector == "ow" and nest.masks and (problem.icg > 1 or columns > FEW_MASKED_COLUMNS):
        sch.annotate(column, INSIDE, True)
        return
    if int(sch.get(row).extent) > 1:
        sch.annotate(row, "pragma_loop_partition_hint", 1)
    if form.vector == "oc":
        sch.annotate(column, "pragma_loop_partition_hint", 1)
    elif nest.masks or columns <= FEW_COLUMNS:
        sch.unroll(column)
    else:
        sch.annotate(column, PEELED, True)


def _weaves(problem: Problem, form: Form, nest: Nest) -> bool:
    """Whether a tile holds all phases along w, whose outputs lie in turn in a row of y."""
    if not 1 < problem.axes[2].phases <= MOST_WOVEN:
        return False
    return _turns(problem, form, nest) or (form.vector == "ow" and not form.per_lane)


def _turns(problem: Problem, form: Form, nest: Nest) -> bool:
    """Whether sums with channels in the lanes are stored by rows, turned in squares."""
    if form.vector != "oc" or form.per_lane or problem.output_channels_last or _narrow(form):
        return False
    return nest.masks and nest.lanes > QUAD


def _narrow(form: Form) -> bool:
    """Whether a row of a tile is too short for a vector."""
    return form.tile_ow % 4 > 0 and form.tile_ow < 4


def _store_tile(
    sch: s_tir.Schedule,
    th: Loop,
    tw: Loop,
    v: Loop,
    woven: list[Loop],
    problem: Problem,
    form: Form,
    nest: Nest,
) -> None:
    """Vectors along whatever is contiguous in y; the rest of the tile is unrolled.

    Phases that are woven come last: of stores that together fill a row LLVM makes shuffles, while
    those of one phase at a time stay single.
    """
    if _turns(problem, form, nest):
        _store_turned(sch, th, tw, v, woven, nest.lanes)
        return
    if form.vector == "oc" and (problem.output_channels_last or _narrow(form)):
        width = min(nest.lanes, form.tile_oc)
        outer, lane = sch.split(v, [None, width])
        sch.reorder(th, tw, outer, lane)
        unrolled = [th, tw, outer]
    else:
        width = min(nest.lanes, form.tile_ow)
        exact = form.tile_ow % width == 0
        outer, lane = sch.split(tw, [None, width if exact else form.tile_ow])
        # What lies in turn in a row of y comes last, channels too where they are last.
        order = [v, outer, *woven] if problem.y.space[2] == 1 else [outer, *woven, v]
        sch.reorder(th, *order, lane)
        unrolled = [th, *order]
    sch.vectorize(lane)
    for loop in unrolled:
        sch.unroll(loop)


def _store_turned(
    sch: s_tir.Schedule, th: Loop, tw: Loop, v: Loop, woven: list[Loop], lanes: int
) -> None:
    """A tile's rows of each channel, the columns of all woven phases in turn."""
    phases = int(sch.get(woven[0]).extent) if woven else 1
    sch.reorder(th, v, tw, *woven)
    column = sch.fuse(tw, *woven)
    columns = int(sch.get(column).extent)
    outer, lane = sch.split(column, [None, columns if columns % lanes else lanes])
    sch.vectorize(lane)
    for loop in (th, v, outer):
        sch.unroll(loop)
    turn_sums(sch, th, phases, lanes)


def _reduce_in_registers(
    sch: s_tir.Schedule, conv: Any, depth: int, problem: Problem, form: Form, nest: Nest
) -> Loop:
    """Taps and ic outside, the register tile unrolled inside; returns the outermost tap loop."""
    *_, kd, kh, kw, ic = loops = sch.get_loops(conv)
    inner = dict(zip(form.order[-3:], loops[-7:-4], strict=True))
    th, tw, v = inner["qh"], inner["qw"], inner["v"]
    if form.vector == "oc":
        vectors, lane = sch.split(v, [None, nest.lanes])
        tile = [th, tw, vectors]
    else:
        vectors, lane = sch.split(tw, [None, nest.lanes])
        tile = [v, th, vectors]
    # Kept in a register, a row of x serves every tap row that is unrolled below it.
    order = [kw, kh, ic] if nest.rows_innermost else [kh, kw, ic]
    if nest.rows_slide and nest.unroll_taps:
        order = [kw, ic, kh]
    sch.reorder(kd, *order, *tile, lane)
    for loop in tile:
        sch.unroll(loop)
    cut_off = form.per_lane and form.channels(problem) % form.tile_oc
    if form.stage == "guarded" and (form.vector == "ow" or cut_off):
        sch.annotate(lane, GUARDED, nest.lanes)
        if not nest.masks:
            sch.annotate(lane, COLUMNS, problem.axes[2].in_extent)
    else:
        sch.vectorize(lane)
    if nest.unroll_ic > 1:
        _, ic = sch.split(ic, [None, nest.unroll_ic])
        sch.unroll(ic)
    if nest.prefetch_x and form.stage in ("none", "guarded"):
        sch.annotate(ic, PREFETCH_X, max(form.tile_ow, LINE_FLOATS))
    innermost = (1, 2, 0) if nest.rows_innermost else (2, 1, 0)
    for depth, i in enumerate(innermost):
        loop = (kd, kh, kw)[i]
        if depth < nest.unroll_taps and not problem.axes[i].is_uneven:
            sch.unroll(loop)
        elif worth_clipping(problem, i) and may_clip(form, i):
            sch.annotate(loop, CLIP, i)
    return kd


def _stage_input(sch: s_tir.Schedule, at: Loop, problem: Problem, form: Form, nest: Nest) -> None:
    """Copy the window of one block, vectors along the innermost staged axis."""
    xpad = sch.get_sblock("xpad")
    sch.compute_at(xpad, at, preserve_unit_loops=True)
    loops = sch.get_loops(xpad)
    if form.stage == "transposed":
        turn_rows(sch, loops[-4:], problem, form.square, nest.lanes if nest.masks else 1)
    elif form.stage == "turned":
        h, c, w = loops[-3:]
        pixels = sch.get_sblock("xrow")
        sch.compute_at(pixels, h, preserve_unit_loops=True)
        shuffle_rows(sch, c, w, TRANSPOSE_UNIT, nest.lanes)
        *_, columns, c = sch.get_loops(pixels)
        vectorize_channels(sch, c, nest.lanes)
        split_off_borders(sch, columns, problem)
    elif form.stage == "planes" and form.vector == "ow" and problem.axes[2].stride > 1:
        h, r, w = loops[-3:]
        if problem.axes[2].is_padded or not nest.masks:
            gather_phases(sch, h, r, w)
            split_off_borders(sch, sch.get_loops(sch.get_sblock("xrow"))[-1], problem)
        else:
            # Rows without padding need no copy of their own: straight from x measured 7 to 10 %
            # faster. On machines without masks it was not measured.
            sch.compute_inline(sch.get_sblock("xrow"))
            split_off_borders(sch, w, problem)
    elif form.stage == "planes":
        split_off_borders(sch, loops[-1], problem)
    else:
        columns = loops[-3] if form.per_lane else loops[-2]
        if form.per_lane and problem.ocg > 1:
            _broadcast_over_group(sch, loops[-1], problem, nest)
        else:
            vectorize_channels(sch, loops[-1], nest.lanes)
        split_off_borders(sch, columns, problem)


def _gather_columns(sch: s_tir.Schedule, at: Loop, neighbours: int, nest: Nest) -> None:
    """Copy taps side by side: whole rows of x, or whole runs of neighbouring taps' channels."""
    xcol = sch.get_sblock("xcol")
    sch.compute_at(xcol, at, preserve_unit_loops=True)
    run = sch.get_loops(xcol)[-neighbours:] if neighbours else []
    if run:
        vectorize_channels(sch, sch.fuse(*run), nest.lanes)


def _broadcast_over_group(sch: s_tir.Schedule, lane: Loop, problem: Problem, nest: Nest) -> None:
    """All outputs of a group read the same input: vectors of one group's outputs are broadcasts."""
    if nest.lanes % problem.ocg == 0:
        group, lane = sch.split(lane, [None, problem.ocg])
        sch.unroll(group)
    sch.vectorize(lane)


def _stage_samples(sch: s_tir.Schedule, at: Loop, problem: Problem, nest: Nest) -> None:
    """Bilinear samples of one block of outputs; positions once per tap, channels in the lanes."""
    sample = sch.get_sblock("sample")
    sch.compute_at(sample, at, preserve_unit_loops=True)
    *_, c = sch.get_loops(sample)
    vectorize_channels(sch, c, nest.lanes)
    if not problem.channels_last:
        n, row, _, c = sch.get_loops(sch.get_sblock("xlast"))
        sch.parallel(sch.fuse(n, row))
        vectorize_channels(sch, c, nest.lanes)
