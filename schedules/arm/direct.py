"""Dense direct convolution on NEON, output channels in the lanes.

    parallel n, g, part, d, rows, columns:
        xpad[window][ic] = x, padded                                (unless x is read in place)
        for block of tile_oc channels, phase, row, column tile:
            acc[tile_oh][tile_ow][tile_oc / 4] = 0                  16 to 24 of 32 registers
            for kd, kh, kw (taps in the padding skipped), ic by 16:
                w = packed[block][kd][kh][kw][ic][0 : tile_oc]      ldp: two vectors
                v = xpad[i + kh][j + kw][ic : ic + 4]               ldr: four channels of a pixel
                acc[i][j] += w * v.lane                             fmla by element
            y[tile] = epilogue(acc)

XNNPACK's 4x8 to 6x8 float kernels for aarch64 and ncnn's packed convolutions take x by element too;
the nest is that of Georganas et al. (SC 2018). With two vectors of weights and eight pixels, 64
multiply-adds take 12 loads: 1.25 instructions each, the loop included. 28 accumulators spill. Of up
to four channels, channels-last, the taps of a row are neighbours as well: all in one straight line,
four pixels of 7x7 at stride 2 load ten vectors in place of 56.
"""

from __future__ import annotations

from tvmconv.declare import Form
from tvmconv.problem import Problem
from tvmconv.target import Target
from tvmconv.template import Task, register

from ..nests.choices import input_stages, tile_choices
from ..nests.lanes import CONTROL, FEW_CHANNELS, channel_loads, channel_operands, unroll_ic
from ..nests.recipe import Recipe
from ..nests.takes import dense

TILE_OH = (1, 2, 3, 4, 6)
TILE_OW = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12)
VECTORS = (1, 2, 3, 4, 5)
# Multiply-adds of a few channels' row of taps: 336 for 7x7, three channels and 16 sums.
FEW_LINE = 384


def tiles(task: Task) -> dict[str, tuple[int, ...]]:
    """Register tiles to try."""
    _, h, w = task.problem.axes
    return {
        "tile_oc": tuple(v * task.target.lanes for v in VECTORS),
        "tile_oh": tile_choices(h.quotients, TILE_OH),
        "tile_ow": tile_choices(w.quotients, TILE_OW),
    }


def loads(task: Task, form: Form) -> float:
    """Loads of pixels and of weights, and the loop; neighbouring pixels share rows of taps."""
    problem, lanes = task.problem, task.target.lanes
    if unroll_taps(problem, form, task.target):
        w = problem.axes[2]
        line = w.taps * problem.icg
        row = ((form.tile_ow - 1) * w.stride + w.taps) * problem.icg / lanes
        return (form.tile_oh * row + CONTROL) / line + form.tile_oc / lanes / 2
    return loop_loads(task, form)


def loop_loads(task: Task, form: Form) -> float:
    """The same where taps are loops."""
    return channel_loads(task, form, unroll_ic(task.problem, form, task.target))


def unroll_taps(problem: Problem, form: Form, target: Target) -> int:
    """A row of taps where a few channels' lie side by side, so that loads serve taps and pixels."""
    w = problem.axes[2]
    beside = problem.channels_last and w.step == 1 and target.lanes_multiply
    if problem.icg > FEW_CHANNELS or not beside:
        return 0
    held = form.tile_oc * form.tile_oh * form.tile_ow // target.lanes
    return int(held * w.taps * problem.icg <= FEW_LINE)


def store_elem(problem: Problem) -> float:
    """Channels-first output is transposed from the registers."""
    return 0.4 if problem.output_channels_last else 1.0


TEMPLATE = register(
    Recipe(
        id="arm.direct",
        supports=dense,
        vector="oc",
        per_lane=False,
        tiles=tiles,
        stages=input_stages,
        loads=loads,
        stage_elem=lambda problem: 0.6 if problem.channels_last else 2.0,
        store_elem=store_elem,
        unroll_taps=unroll_taps,
        unroll_ic=unroll_ic,
        square=4,
        operands=channel_operands,
    ).template()
)
