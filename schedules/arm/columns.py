"""Direct convolution on NEON with output columns in the lanes: for channels-first maps.

    parallel n, g, part, d, rows, columns:
        xpad[ic][window], columns one stride apart made neighbours  (ld2; unless x is read in place)
        for block of tile_oc channels, row, column tile:
            acc[tile_oc][tile_oh][tile_ow / 4] = 0                  16 to 24 of 32 registers
            for kd, kh, kw, ic by 16:
                v = xpad[ic][i + kh][j + kw : + 4]                  ldr: tile_oh * tile_ow / 4
                w = packed[..][ic][0 : tile_oc]                     ldp: eight channels' weights
                acc[o][i] += v * w.lane                             fmla by element
            y[channel o][row][columns] = epilogue(acc)              stored as it lies in memory

Depthwise layers read rows of x where they lie, every tap in a straight line of up to 14 sums of one
column: a vector that the border cuts is a whole one, shuffled, and a strided row is taken apart by
ld2 (tvmconv/lower/guarded.py). Nothing is turned on the way in or out. Eight channels and eight
columns take 3 loads for 16 multiply-adds, eight and twelve 4 for 24. The "row" form of Zhang,
Franchetti and Low, "High Performance Zero-Memory Overhead Direct Convolutions" (ICML 2018),
channels-first, with the weights by element as ncnn and XNNPACK have x.
"""

from __future__ import annotations

from tvmconv.declare import Form
from tvmconv.problem import Problem
from tvmconv.target import Target
from tvmconv.template import Task, register

from ..nests.choices import tile_choices
from ..nests.lanes import (
    CONTROL,
    FEW_CHANNELS,
    column_loads,
    column_operands,
    longest_line,
    unroll_ic,
)
from ..nests.recipe import Recipe
from ..nests.takes import rows_of_columns

# A few channels' tap rows may make a longer line: 336 for 7x7, three channels and 16 sums.
FEW_FACTOR = 1.5
# A depthwise layer: seven sums of 7x7 taps. Without lanes as factors one sum of few taps, lest the
# weights be loaded in front of it all; a factor of 32 bits is half a load where paths have 64.
DEPTHWISE_LINE, DEPTHWISE_TAPS, FACTOR = 384, 16, 0.5
# Rows of a depthwise tile, where strides let no row serve more than two of its sums; and elsewhere.
STRIDED_ROWS, MOST_ROWS = 8, 14
# Instructions of a vector that a mask takes lane by lane, of one off a multiple of 16 bytes, and of
# one that ld2 gives: it has to be told its address.
MASKED, SHIFTED, TAKEN_APART = 11.0, 1.25, 2.0


def tiles(task: Task) -> dict[str, tuple[int, ...]]:
    """Channels, rows and whole vectors of columns."""
    problem, lanes = task.problem, task.target.lanes
    _, h, w = problem.axes
    vectors = -(-w.quotients // lanes)
    rows: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    if problem.icg == 1 and task.target.registers < 32:
        rows, vectors = (1,), 1
    elif problem.icg == 1:
        most = MOST_ROWS if w.stride == 1 else STRIDED_ROWS
        rows = tuple(r for r in (*rows, 10, 12, 14) if r <= most)
    return {
        "tile_oc": tile_choices(problem.ocg, (1, 2, 3, 4, 6, 8, 12, 16, 20)),
        "tile_oh": tile_choices(h.quotients, rows),
        "tile_ow": tuple(v * lanes for v in tile_choices(vectors, (1, 2, 3, 4, 5))),
    }


def stages(task: Task) -> tuple[str, ...]:
    """In place needs unit stride, and no tap outside; or depthwise rows, whose x is used once."""
    problem = task.problem
    if not problem.is_padded and problem.axes[2].stride == 1:
        return ("none", "planes")
    # Phases differ in taps; a tap that one lacks must be skipped, not multiplied by zero.
    guarded = problem.icg == 1 and all(axis.phases == 1 for axis in problem.axes)
    known = problem.padding_mode in ("zeros", "constant")
    return ("guarded", "planes") if guarded and known else ("planes",)


def loads(task: Task, form: Form) -> float:
    """Vectors of x, weights and the loop; unrolled tap rows share vectors of x."""
    problem, lanes = task.problem, task.target.lanes
    if problem.icg > FEW_CHANNELS:
        return column_loads(task, form, unroll_ic(problem, form, task.target))
    _, h, w = problem.axes
    vectors = form.tile_oh * form.tile_ow / lanes
    unrolled = unroll_taps(problem, form, task.target)
    if form.stage == "guarded":
        vectors *= _in_place(problem, unrolled)
    line = (1, h.taps, h.taps * w.taps, h.taps * w.taps)[unrolled]
    if unrolled:
        vectors *= min(1.0, ((form.tile_oh - 1) * h.stride + h.taps) / (form.tile_oh * h.taps))
    # A single channel's weights stay in registers; those of several lie rows of taps apart.
    weights = float(-(-form.tile_oc // lanes))
    if problem.icg == 1 and unrolled:
        weights = FACTOR if task.target.registers < 32 else 0.0
    return vectors + weights + CONTROL / (line * problem.icg)


def _in_place(problem: Problem, unrolled: int) -> float:
    """Instructions per tap for a vector of x where it lies."""
    w = problem.axes[2]
    if unrolled < 2:
        return MASKED
    return SHIFTED if w.stride == 1 else TAKEN_APART * (w.taps // w.stride + 1) / w.taps


def unroll_taps(problem: Problem, form: Form, target: Target) -> int:
    """Tap rows, then tap columns, while the straight line stays short; only with few channels."""
    if problem.icg > FEW_CHANNELS:
        return 0
    body = form.tile_oc * form.tile_oh * form.tile_ow // target.lanes * problem.icg
    d, h, w = problem.axes
    longest = longest_line(target)
    if problem.icg == 1:
        longest = DEPTHWISE_TAPS if target.registers < 32 else DEPTHWISE_LINE
    if body * h.taps * w.taps <= longest:
        return 3 if d.taps == 1 else 2
    return 1 if body * h.taps <= FEW_FACTOR * longest else 0


TEMPLATE = register(
    Recipe(
        id="arm.columns",
        supports=rows_of_columns,
        vector="ow",
        per_lane=False,
        tiles=tiles,
        stages=stages,
        loads=loads,
        stage_elem=lambda problem: 0.8 if problem.axes[2].stride == 1 else 1.5,
        store_elem=lambda problem: 0.4 if problem.axes[2].phases == 1 else 2.0,
        unroll_taps=unroll_taps,
        unroll_ic=unroll_ic,
        square=4,
        operands=column_operands,
    ).template()
)
