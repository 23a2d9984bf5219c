"""The loop nest that the x86 templates share, as named steps.

parallel n, g, block part, d, row block, column block:
xpad        the rows that this block reads, staged once          (stage_input)
for block, phase, row, column tile:
conv    accumulators of one register tile, all in registers  (reduce_in_registers)
for taps, ic: unrolled FMAs over tile and lanes
out     epilogue and store of the tile                       (store_tile)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import s_tir

from tvmconv.declare.declaration import Declaration
from tvmconv.declare.form import Form
from tvmconv.lower.clip import CLIP
from tvmconv.problem import Problem

Loop = Any

# LLVM turns a fully unrolled body into straight-line code; past this many FMAs the code leaves the
# 32 KB instruction cache (an AVX-512 FMA with an address takes 7 to 11 bytes).
MAX_UNROLLED_FMAS = 1200


@dataclass(frozen=True)
class Nest:
    """How a form is scheduled.

    Attributes:
        lanes: float32 values in one vector.
        parts: parts of the channel blocks that run as outermost, parallel loop.
        unroll_ic: input channels per iteration of the innermost reduction loop.
        unroll_taps: how many of the tap loops w, h, d are unrolled, innermost first.
    """

    lanes: int
    parts: int = 1
    unroll_ic: int = 1
    unroll_taps: int = 0


def schedule_nest(
    declaration: Declaration, problem: Problem, form: Form, nest: Nest
) -> s_tir.Schedule:
    """Apply all steps to a direct declaration."""
    sch = s_tir.Schedule(declaration.prim_func())
    outer, tile_at = _tile_output(sch, problem, form, nest)
    conv = sch.get_sblock("conv")
    sch.compute_at(conv, tile_at, preserve_unit_loops=True)
    taps = _reduce_in_registers(sch, conv, len(sch.get_loops(conv)), problem, form, nest)
    if form.stage == "sample":
        _stage_samples(sch, outer, problem, nest)
    elif form.stage != "none":
        _stage_input(sch, outer, problem, form, nest)
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
    # With channels per lane the staged input belongs to one block of them, else all blocks share it.
    shared = [block] if form.per_lane else []
    outer = [n, g, part, *shared, qd, rows, columns]
    inner = [*phases, row, column] if form.per_lane else [block, *phases, row, column]
    sch.reorder(*outer, *inner, th, tw, v)
    _store_tile(sch, th, tw, v, problem, form, nest)
    parallel = sch.fuse(*outer)
    sch.parallel(parallel)
    return parallel, column


def _store_tile(
    sch: s_tir.Schedule, th: Loop, tw: Loop, v: Loop, problem: Problem, form: Form, nest: Nest
) -> None:
    """Vectors along whatever is contiguous in y; the rest of the tile is unrolled."""
    along_channels = problem.output_channels_last or (
        form.vector == "oc" and form.tile_ow % 4 and form.tile_ow < 4
    )
    if along_channels:
        width = min(nest.lanes, form.tile_oc)
        outer, lane = sch.split(v, [None, width])
        sch.reorder(th, tw, outer, lane)
        unrolled = [th, tw, outer]
    else:
        width = min(nest.lanes, form.tile_ow)
        exact = form.tile_ow % width == 0
        outer, lane = sch.split(tw, [None, width if exact else form.tile_ow])
        sch.reorder(th, v, outer, lane)
        unrolled = [th, v, outer]
    sch.vectorize(lane)
    for loop in unrolled:
        sch.unroll(loop)


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
    sch.reorder(kd, kh, kw, ic, *tile, lane)
    for loop in tile:
        sch.unroll(loop)
    sch.vectorize(lane)
    if nest.unroll_ic > 1:
        _, inner = sch.split(ic, [None, nest.unroll_ic])
        sch.unroll(inner)
    for i, loop in enumerate((kw, kh, kd)):
        if i < nest.unroll_taps and not problem.axes[2 - i].is_uneven:
            sch.unroll(loop)
        # Offsets move samples, so a tap whose regular place is padding still counts.
        elif form.stage != "sample" and _worth_clipping(problem, 2 - i):
            sch.annotate(loop, CLIP, 2 - i)
    return kd


def _worth_clipping(problem: Problem, i: int) -> bool:
    """Clip where phases differ in taps, or where padding of zeros can hide a tap."""
    axis = problem.axes[i]
    return axis.is_uneven or (problem.padding_mode == "zeros" and axis.is_padded)


def _stage_input(
    sch: s_tir.Schedule, at: Loop, problem: Problem, form: Form, nest: Nest
) -> None:
    """Copy the window of one row block; vectors along the innermost staged axis."""
    xpad = sch.get_sblock("xpad")
    sch.compute_at(xpad, at, preserve_unit_loops=True)
    loops = sch.get_loops(xpad)
    innermost, columns = loops[-1], loops[-1] if form.stage == "planes" else loops[-2]
    if form.per_lane:
        columns = loops[-3]
    if columns is not innermost:
        _vectorize_channels(sch, innermost, nest)
    if problem.axes[2].is_padded and problem.padding_mode in ("zeros", "constant"):
        sch.annotate(columns, "pragma_loop_partition_hint", 1)


def _stage_samples(sch: s_tir.Schedule, at: Loop, problem: Problem, nest: Nest) -> None:
    """Bilinear samples of one block of outputs; positions once per tap, channels in the lanes."""
    sample = sch.get_sblock("sample")
    sch.compute_at(sample, at, preserve_unit_loops=True)
    *_, c = sch.get_loops(sample)
    _vectorize_channels(sch, c, nest)
    if not problem.channels_last:
        n, row, _, c = sch.get_loops(sch.get_sblock("xlast"))
        sch.parallel(sch.fuse(n, row))
        _vectorize_channels(sch, c, nest)


def _vectorize_channels(sch: s_tir.Schedule, c: Loop, nest: Nest) -> None:
    width = staging_width(int(sch.get(c).extent), nest.lanes)
    if width > 1:
        _, lane = sch.split(c, [None, width])
        sch.vectorize(lane)


def staging_width(extent: int, lanes: int) -> int:
    """Largest vector, up to four registers, that divides the extent; odd extents go whole."""
    fitting = [w for w in range(1, 4 * lanes + 1) if extent % w == 0]
    return max(fitting)
