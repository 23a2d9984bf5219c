"""Depthwise convolution with channels in the lanes, any multiplier.

    parallel n, block of tile_oc channels, d, rows, columns:
        xpad[window][channel] = x, padded                           (unless x is read in place)
        for row, column tile:
            acc[tile_oh][tile_ow][tile_oc / lanes] = 0
            for kd, kh, kw: unrolled while the code fits the instruction cache
                acc[i][j] += xpad[i + kh][j + kw][channels] * packed[block][kd][kh][kw][channels]
            y[tile] = epilogue(acc)

One vector of x serves every tap that reaches it, and the weights of a block stay in registers.
Zhang, Lo and Lu, "High Performance Depthwise and Pointwise Convolutions on Mobile Devices" (AAAI
2020) derives the tile: width over height, bounded by registers.
"""

from __future__ import annotations

from math import prod

from tvmconv.declare import Form
from tvmconv.problem import Problem
from tvmconv.target import Target
from tvmconv.template import Task, register

from ..nests.choices import tile_choices
from ..nests.nest import MAX_UNROLLED_FMAS
from ..nests.recipe import Recipe
from ..nests.takes import depthwise

# Taps up to here are unrolled with a tile of seven columns.
SHORT_TAPS = 9


def tiles(task: Task) -> dict[str, tuple[int, ...]]:
    """One row of columns, which share taps; two rows and 14 columns only where taps are loops.

    Straight-line taps over more than eight accumulators measured 1.5 times slower.
    """
    _, h, w = task.problem.axes
    short = prod(a.taps for a in task.problem.axes) <= SHORT_TAPS
    return {
        "tile_oc": tuple(v * task.target.lanes for v in (1, 2)),
        "tile_oh": tile_choices(h.quotients, (1,) if short else (1, 2)),
        "tile_ow": tile_choices(w.quotients, (1, 2, 3, 4, 5, 6, 7, *(() if short else (8, 14)))),
    }


def stages(task: Task) -> tuple[str, ...]:
    """In place needs every lane's channel to lie beside its neighbour's, and to exist or a mask."""
    problem = task.problem
    whole = problem.g % 16 == 0
    if not (problem.channels_last and problem.ocg == 1 and (whole or task.target.masks)):
        return ("pixels",)
    if not problem.is_padded:
        return ("none" if whole else "guarded", "pixels")
    # Guards cost a branch per tap at the border; many taps on a wide map are better copied. Slices
    # that are not there are left out, so taps along d cost none.
    d, h, w = problem.axes
    if d.taps > 1:
        return ("guarded", "pixels")
    short = h.taps * w.taps <= 25
    return ("guarded",) if short or w.out_extent <= 16 else ("pixels",)


def loads(task: Task, form: Form) -> float:
    """Distinct vectors of x per tap, and the weights."""
    problem, vectors = task.problem, form.tile_oc / task.target.lanes
    _, h, w = problem.axes
    if unroll_taps(problem, form, task.target) < 2:
        return vectors * (form.tile_oh * form.tile_ow + 1)
    rows = (form.tile_oh - 1) * h.stride + h.taps
    columns = (form.tile_ow - 1) * w.stride + w.taps
    return vectors * (min(rows * columns / (h.taps * w.taps), form.tile_oh * form.tile_ow) + 1)


def unroll_taps(problem: Problem, form: Form, target: Target) -> int:
    """All taps while the straight line stays short, else none."""
    body = form.tile_oc // target.lanes * form.tile_oh * form.tile_ow * problem.icg
    return 3 if body * prod(a.taps for a in problem.axes) <= MAX_UNROLLED_FMAS else 0


def stage_elem(problem: Problem) -> float:
    """Channels-first input is transposed on the way."""
    return 0.25 if problem.channels_last and problem.ocg == 1 else 0.8


def store_elem(problem: Problem) -> float:
    """Channels-first output is transposed from the registers."""
    return 0.15 if problem.output_channels_last else 0.4


TEMPLATE = register(
    Recipe(
        id="x86.depthwise",
        supports=depthwise,
        vector="oc",
        per_lane=True,
        tiles=tiles,
        stages=stages,
        loads=loads,
        stage_elem=stage_elem,
        store_elem=store_elem,
        unroll_taps=unroll_taps,
        unroll_ic=lambda problem, form, target: 1,
    ).template()
)
