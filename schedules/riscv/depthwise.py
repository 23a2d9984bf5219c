"""Depthwise convolution on RISC-V, any multiplier.

    parallel n, block of tile_oc channels, d, rows, columns:
        xpad[window][channel] = x, padded
        for row, column tile:
            acc[tile_ow][tile_oc] = 0
            for kd, kh, kw:
                acc[j] += xpad[i + kh][j + kw][channels] * packed[block][kd][kh][kw][channels]
            y[tile] = epilogue(acc)

Channels share nothing, so a tile is two channels, or a vector of them, of a few columns
(Zhang, Lo and Lu, AAAI 2020).
"""

from __future__ import annotations

from tvmconv.declare import Form
from tvmconv.template import Task, register

from ..nests.choices import tile_choices
from ..nests.recipe import Recipe
from ..nests.takes import depthwise
from .direct import PAIR


def tiles(task: Task) -> dict[str, tuple[int, ...]]:
    """One pair or vector of channels, some columns."""
    return {
        "tile_oc": (task.target.lanes,),
        "tile_oh": (1,),
        "tile_ow": tile_choices(task.problem.axes[2].quotients, (1, 2, 4, 6)),
    }


def loads(task: Task, form: Form) -> float:
    """Every factor of its own; a vector's load takes an address."""
    vectors = form.tile_oc if task.target.lanes == PAIR else 2 * form.tile_oc / task.target.lanes
    return vectors * (form.tile_ow + 1)


TEMPLATE = register(
    Recipe(
        id="riscv.depthwise",
        supports=depthwise,
        vector="oc",
        per_lane=True,
        tiles=tiles,
        stages=lambda task: ("pixels",),
        loads=loads,
        stage_elem=lambda problem: 4.0,
        store_elem=lambda problem: 2.0,
        unroll_taps=lambda problem, form, target: 0,
        unroll_ic=lambda problem, form, target: 1,
    ).template()
)
