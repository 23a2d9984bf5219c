"""Small groups (ResNeXt): one vector of output channels spans several groups.

    parallel n, block of tile_oc channels, d, rows, columns:
        xpad[window][ic][lane] = x[channel ic of the lane's group]  x spread over the lanes, once
        for row, column tile:
            acc[tile_oh][tile_ow] = 0
            for kd, kh, kw, ic:
                acc[i][j] += xpad[i + kh][j + kw][ic][lanes] * packed[..][ic][lanes]
            y[tile] = epilogue(acc)

With four channels per group a dense kernel would fill 4 of 16 lanes. Spreading x costs one store
per channel of a group and turns the sum into the depthwise form, whose lanes are all busy.
"""

from __future__ import annotations

from tvmconv.declare import Form
from tvmconv.problem import Problem
from tvmconv.target import Target
from tvmconv.template import Task, register

from ..nests.choices import tile_choices
from ..nests.recipe import Recipe
from ..nests.takes import small_groups
from . import depthwise


def tiles(task: Task) -> dict[str, tuple[int, ...]]:
    """One vector of channels; the columns hide the FMA's latency."""
    _, h, w = task.problem.axes
    return {
        "tile_oc": (task.target.lanes,),
        "tile_oh": tile_choices(h.quotients, (1, 2, 4)),
        "tile_ow": tile_choices(w.quotients, (1, 2, 4, 6, 7, 8, 14)),
    }


def loads(task: Task, form: Form) -> float:
    """A vector of x per output position, and the weights."""
    return form.tile_oc / task.target.lanes * (form.tile_oh * form.tile_ow + 1)


def unroll_taps(problem: Problem, form: Form, target: Target) -> int:
    """As depthwise, with the channels of a group unrolled inside."""
    return depthwise.unroll_taps(problem, form, target)


TEMPLATE = register(
    Recipe(
        id="x86.grouped",
        supports=small_groups,
        vector="oc",
        per_lane=True,
        tiles=tiles,
        stages=lambda task: ("pixels",),
        loads=loads,
        stage_elem=lambda problem: 0.25 if problem.channels_last else 1.0,
        store_elem=depthwise.store_elem,
        unroll_taps=unroll_taps,
        unroll_ic=lambda problem, form, target: problem.icg,
    ).template()
)
