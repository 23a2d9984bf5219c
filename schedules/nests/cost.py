"""Predicted cycles of a form on one core: what ranks templates and picks untuned configs.

Compute is bound by the core's vector FMAs and loads a cycle and by the FMA's latency (cores.py);
staging and storing are bound by memory. The constants were fitted on a Zen 5 core; what matters is
the order of candidates, not the absolute number.
"""

from __future__ import annotations

from math import gcd, prod

from tvmconv.cores import core_of
from tvmconv.declare.form import Form
from tvmconv.problem import Axis, Problem
from tvmconv.target import Target

from .choices import may_clip, worth_clipping

TILE_OVERHEAD_CYCLES = 10.0
# Of staged rows that do not fit the first-level cache: shifted loads from there cross cache lines.
L2_BYTES_PER_CYCLE = 4.0
# Indices are 32 bits wide, those of stages over all blocks as well.
MOST_ELEMS = 2**31 - 1
# LLVM needs registers for broadcasts as well; tiles that leave fewer measured 3 to 10 % slower.
CROWDED_REGISTERS = 6
CROWDED_FACTOR = 1.05
# Broadcasts from channels-first x touch a cache line per channel.
PLANES_FACTOR = 1.12
# Part of the second-level cache that stays ours, and part of a stream that compute does not hide.
L2_SHARE = 0.7
STALLED = 0.4


def vector_width(form: Form, lanes: int) -> int:
    """Lanes of a tile's vectors: all, or half where its columns or channels fill only those."""
    return gcd(form.tile_ow if form.vector == "ow" else form.tile_oc, lanes)


def accumulators(form: Form, lanes: int) -> int:
    """Vector registers that one register tile accumulates in."""
    return form.tile_oc * form.tile_oh * form.tile_ow // vector_width(form, lanes)


def fma_cycles(form: Form, target: Target) -> float:
    """Multiply-adds of one reduction step of one tile, if they were all there is."""
    held, core = accumulators(form, target.lanes), core_of(target)
    width = vector_width(form, target.lanes) / target.lanes if core.halves else 1.0
    return held * width / core.fma_per_cycle * (1.0 if target.fma else 2.0)


def step_cycles(problem: Problem, form: Form, target: Target, loads: float) -> float:
    """Cycles of one reduction step of one tile."""
    held, core = accumulators(form, target.lanes), core_of(target)
    fma = fma_cycles(form, target)
    # Straight-line taps of one channel: the next tile starts before this one's sums are done.
    overlap = 2 if spills_l1(problem, form.vector) and form.stage == "guarded" else 1
    step = max(fma, loads / core.loads_per_cycle, core.fma_latency_cycles / overlap)
    step += (held + loads) * core.instruction_cycles
    if held > target.registers - CROWDED_REGISTERS:
        step *= CROWDED_FACTOR
    if form.vector == "oc" and not form.per_lane:
        if 4.0 * form.tile_oc * problem.reduction > target.l1_bytes / 2:
            step += 4.0 * form.tile_oc * core.near_cycles_per_byte
        if form.stage in ("none", "planes") and not problem.channels_last and problem.icg >= 8:
            step *= PLANES_FACTOR
    return step


def reduction_steps(problem: Problem, form: Form) -> float:
    """Reduction steps per output of an average tile; taps wholly in the padding are skipped."""
    # Taps of depthwise sums and of rows in the lanes may be unrolled, and are then not skipped.
    looped = form.vector == "oc" and not form.per_lane
    taps = 1.0
    for i, tile in enumerate((1, form.tile_oh, form.tile_ow)):
        axis = problem.axes[i]
        if looped and axis.is_dilated and worth_clipping(problem, i) and may_clip(form, i):
            taps *= met_taps(axis, tile)
        else:
            taps *= sum(axis.tap_counts) / len(axis.tap_counts)
    return problem.icg * max(0.25, taps)


def met_taps(axis: Axis, tile: int) -> float:
    """Taps that an average tile of so many outputs does not meet in the padding alone.

    Of a dilated axis. A tile that starts at ``q`` meets a tap at ``shift`` where
    ``-tile < q + shift < in_extent``, so of each tap it is a run of tiles.
    """
    tiles = -(-axis.quotients // tile)
    met = 0
    for tap in range(axis.taps):
        shift = axis.low + tap * axis.step
        first, end = (-(-bound // tile) for bound in (1 - tile - shift, axis.in_extent - shift))
        met += max(0, min(tiles, end) - max(0, first))
    return met / tiles


def compute_cycles(problem: Problem, form: Form, target: Target, loads: float) -> float:
    """All tiles, rounding up included."""
    shape = form.blocked_shape(problem)
    tiles = prod(shape) / (form.tile_oc * form.tile_oh * form.tile_ow)
    step = step_cycles(problem, form, target, loads)
    overhead = TILE_OVERHEAD_CYCLES + accumulators(form, target.lanes)
    return tiles * (reduction_steps(problem, form) * step + overhead)


def blocks(problem: Problem, form: Form) -> int:
    """How many windows are staged for one n and g."""
    d, h, w = form.quotients(problem)
    return d * (h // form.block_oh) * (w // form.block_ow)


def staged_elems(problem: Problem, form: Form) -> float:
    """Elements that the stage writes in one run; tests per tap in the lanes' place count as one."""
    if form.stage == "none" or (form.stage == "guarded" and not form.per_lane):
        return 0.0
    window = window_elems(problem, form)
    channels = problem.icg * (form.blocks(problem) * form.tile_oc if form.per_lane else problem.g)
    return float(max(1, problem.n) * blocks(problem, form) * window * channels)


def window_bytes(problem: Problem, form: Form) -> float:
    """Bytes of one staged (or read) window."""
    sharing = form.tile_oc if form.per_lane else problem.g if form.stage == "sample" else 1
    return 4.0 * window_elems(problem, form) * problem.icg * sharing


def window_elems(problem: Problem, form: Form) -> int:
    """Positions of one staged window; for samples, one per output and tap."""
    d, h, w = problem.axes
    if form.stage == "sample":
        return form.block_oh * form.block_ow * h.taps * w.taps
    rows = h.window(form.block_oh) - h.low if form.per_lane else h.rows(form.block_oh)
    columns = w.window(form.block_ow) - w.low
    return (d.window(1) - d.low) * rows * columns


def spills_l1(problem: Problem, vector: str) -> bool:
    """Whether staged rows must fit the first-level cache: depthwise sums hide no loads."""
    return vector == "ow" and problem.icg == 1 and problem.ocg == 1


def row_elems(problem: Problem, form: Form) -> float:
    """Elements of one row of a staged window: columns, and the channels beside them."""
    w = problem.axes[2]
    beside = 1 if form.stage == "planes" else problem.icg * (form.tile_oc if form.per_lane else 1)
    return (w.window(form.block_ow) - w.low) * beside


def memory_cycles(
    problem: Problem, form: Form, target: Target, stage_elem: float, store_elem: float
) -> float:
    """Staging and storing, and what streams from the third-level cache into each block."""
    shape = form.blocked_shape(problem)
    runs = max(1, problem.n) * form.groups(problem) * blocks(problem, form)
    weights = 4.0 * form.weight_elems(problem) / form.groups(problem)
    window = window_bytes(problem, form)
    streamed, far = 0.0, core_of(target).far_bytes_per_cycle
    if weights + window > L2_SHARE * target.l2_bytes:
        streamed += weights * runs
    if window > L2_SHARE * target.l2_bytes:
        streamed += window * runs * (1 if form.per_lane else form.blocks(problem))
    if spills_l1(problem, form.vector) and form.stage == "planes" and window > target.l1_bytes:
        streamed += window * runs * far / L2_BYTES_PER_CYCLE
    row = core_of(target).row_cycles / row_elems(problem, form)
    stage = staged_elems(problem, form) * (stage_elem + row)
    return stage + prod(shape) * store_elem + STALLED * streamed / far
