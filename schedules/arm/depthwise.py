"""Depthwise convolution on NEON with channels in the lanes, any multiplier: for channels-last maps.

    parallel n, block of tile_oc channels, d, rows, columns:
        xpad[window][channel] = x, padded                           (unless x is read in place)
        for row, column tile:
            acc[tile_oh][tile_ow][tile_oc / 4] = 0
            for kd, kh, kw: unrolled while the line stays short
                acc[i][j] += xpad[i + kh][j + kw][channels] * packed[block][kd][kh][kw][channels]
            y[tile] = epilogue(acc)

One vector of x serves every tap that reaches it, and a 3x3 block's nine weights stay in registers
beside twelve sums of three rows and the row of x (Zhang, Lo and Lu, "High Performance Depthwise and
Pointwise Convolutions on Mobile Devices", AAAI 2020). Channels-first, `arm.columns` turns nothing.
"""

from __future__ import annotations

from math import prod

from tvmconv.declare import Form
from tvmconv.problem import Problem
from tvmconv.target import Target
from tvmconv.template import Task, register

from ..nests.choices import tile_choices
from ..nests.lanes import CONTROL, LONGEST_LINE, SHORT_LINE
from ..nests.recipe import Recipe
from ..nests.takes import depthwise

# A test and a branch around a load, where taps are a loop and its places in x may be padding.
TESTED = 4.0


def tiles(task: Task) -> dict[str, tuple[int, ...]]:
    """One vector of channels of some columns; of some rows where those share vectors of x."""
    _, h, w = task.problem.axes
    rows = (1, 2, 3) if h.stride == 1 and task.target.registers >= 32 else (1,)
    return {
        "tile_oc": (task.target.lanes,),
        "tile_oh": tile_choices(h.quotients, rows),
        "tile_ow": tile_choices(w.quotients, (1, 2, 3, 4, 5, 6, 7, 8)),
    }


def stages(task: Task) -> tuple[str, ...]:
    """In place needs every lane's channel to exist and to lie beside its neighbour's."""
    problem = task.problem
    whole = problem.g % (2 * task.target.lanes) == 0
    if not (problem.channels_last and problem.ocg == 1 and whole):
        return ("pixels",)
    if not problem.is_padded:
        return ("none", "pixels")
    short = prod(a.taps for a in problem.axes) <= 25
    return ("guarded",) if short or problem.axes[2].out_extent <= 16 else ("pixels",)


def loads(task: Task, form: Form) -> float:
    """Distinct vectors of x per tap, the weights, and the loop."""
    problem, vectors = task.problem, form.tile_oc / task.target.lanes
    _, h, w = problem.axes
    taps = prod(a.taps for a in problem.axes)
    if unroll_taps(problem, form, task.target) < 2:
        straight = task.target.registers >= 32 and form.stage == "guarded"
        tests = TESTED if straight else 1.0
        return vectors * (tests * form.tile_oh * form.tile_ow + 1) + CONTROL
    rows = (form.tile_oh - 1) * h.stride + h.taps
    columns = (form.tile_ow - 1) * w.stride + w.taps
    distinct = min(rows * columns / (h.taps * w.taps), form.tile_oh * form.tile_ow)
    return vectors * (distinct + 0.5) + CONTROL / taps


def unroll_taps(problem: Problem, form: Form, target: Target) -> int:
    """All taps while the straight line stays short, else none."""
    body = form.tile_oc // target.lanes * form.tile_oh * form.tile_ow * problem.icg
    longest = SHORT_LINE if target.registers < 32 else LONGEST_LINE
    return 3 if body * prod(a.taps for a in problem.axes) <= longest else 0


def operands(task: Task, form: Form) -> int:
    """Weights, and vectors of x that taps share: with more sums beside them, loads are spilled."""
    _, h, w = task.problem.axes
    if task.target.registers < 32:
        return form.tile_oc // task.target.lanes * min(3, w.taps) + 8
    columns = (form.tile_ow - 1) * w.stride + w.taps
    return min(9, h.taps * w.taps) + min(8, columns) + 2


def stage_elem(problem: Problem) -> float:
    """Channels-first input is transposed on the way."""
    return 0.6 if problem.channels_last and problem.ocg == 1 else 3.0


def store_elem(problem: Problem) -> float:
    """Channels-first output is transposed from the registers."""
    return 0.4 if problem.output_channels_last else 1.0


TEMPLATE = register(
    Recipe(
        id="arm.depthwise",
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
        operands=operands,
    ).template()
)
