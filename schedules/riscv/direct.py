"""Direct convolution on RISC-V: forward and transposed, dense and grouped.

    parallel n, g, part, d, rows, columns:
        xpad[window][ic] = x, padded                                (unless x is read in place)
        for block of tile_oc channels, phase, row, column tile:
            acc[tile_oh][tile_ow][tile_oc] = 0                      up to 20 of 32 registers
            for kd, kh, kw, ic by 4:
                acc[i][j] += xpad[i + kh][j + kw][ic] * packed[block][kd][kh][kw][ic][0 : tile_oc]
            y[tile] = epilogue(acc)

Without vectors a tile is as wide as registers allow: four pixels and four channels take 8 loads for
16 multiply-adds (the register tile of Georganas et al., SC 2018). With V, ``vfmacc.vf`` multiplies
a vector of channels by a pixel in a scalar register: four pixels and two vectors take 8 loads and
addresses for 8 multiply-adds, since a vector load knows no offset.
"""

from __future__ import annotations

from tvmconv.declare import Form
from tvmconv.problem import Problem
from tvmconv.target import Target
from tvmconv.template import Task, register

from ..nests.choices import input_stages, tile_choices
from ..nests.recipe import Recipe
from ..nests.takes import DEFORMABLE

# Lanes of a target without vectors.
PAIR = 2


def supports(task: Task) -> str | None:
    """Any forward or transposed spec."""
    return DEFORMABLE if task.spec.op == "deform_conv" else None


def tiles(task: Task) -> dict[str, tuple[int, ...]]:
    """Register tiles to try."""
    _, h, w = task.problem.axes
    return {
        "tile_oc": tuple(v * task.target.lanes for v in (1, 2, 4)),
        "tile_oh": tile_choices(h.quotients, (1, 2)),
        "tile_ow": tile_choices(w.quotients, (1, 2, 3, 4, 5)),
    }


def loads(task: Task, form: Form) -> float:
    """A load per pixel and per channel, or per vector of them with its address."""
    pixels, vectors = form.tile_oh * form.tile_ow, form.tile_oc / task.target.lanes
    return pixels + (form.tile_oc if task.target.lanes == PAIR else 2 * vectors)


def unroll_ic(problem: Problem, form: Form, target: Target) -> int:
    """A few channels per iteration."""
    return next((u for u in (4, 3, 2) if problem.icg % u == 0), 1)


TEMPLATE = register(
    Recipe(
        id="riscv.direct",
        supports=supports,
        vector="oc",
        per_lane=False,
        tiles=tiles,
        stages=input_stages,
        loads=loads,
        stage_elem=lambda problem: 4.0,
        store_elem=lambda problem: 2.0,
        unroll_taps=lambda problem, form, target: 0,
        unroll_ic=unroll_ic,
        square=4,
    ).template()
)
