"""Small groups (ResNeXt) on NEON: one vector of output channels spans several groups.

    parallel n, block of 4 channels, d, rows, columns:
        xpad[window][ic][lane] = x[channel ic of the lane's group]  x spread over the lanes, once
        for row, column tile:
            acc[tile_oh][tile_ow] = 0
            for kd, kh, kw, ic:
                acc[i][j] += xpad[i + kh][j + kw][ic][lanes] * packed[..][ic][lanes]
            y[tile] = epilogue(acc)

For groups of fewer than four outputs, channels-last: the depthwise form. Four outputs and more fill
a register, so `arm.direct` and `arm.columns` run them a group at a time, without spreading x.
"""

from __future__ import annotations

from tvmconv.declare import Form
from tvmconv.template import Task, register

from ..nests.choices import tile_choices
from ..nests.recipe import Recipe
from ..nests.takes import small_groups
from . import depthwise


def supports(task: Task) -> str | None:
    """Several groups of two to sixteen input channels, on machines with 32 registers."""
    if task.target.registers < 32:
        return "16 registers do not hold what the lanes of several groups load"
    return small_groups(task)


def tiles(task: Task) -> dict[str, tuple[int, ...]]:
    """One vector of channels; the columns hide the FMA's latency."""
    _, h, w = task.problem.axes
    return {
        "tile_oc": (task.target.lanes,),
        "tile_oh": tile_choices(h.quotients, (1, 2, 4)),
        "tile_ow": tile_choices(w.quotients, (1, 2, 4, 6, 7, 8)),
    }


def operands(task: Task, form: Form) -> int:
    """Vectors of x are loaded in pairs and in advance, and take more registers than sums."""
    return 24


def loads(task: Task, form: Form) -> float:
    """A vector of x per output position, and the weights."""
    return form.tile_oc / task.target.lanes * (form.tile_oh * form.tile_ow + 1)


TEMPLATE = register(
    Recipe(
        id="arm.grouped",
        supports=supports,
        vector="oc",
        per_lane=True,
        tiles=tiles,
        stages=lambda task: ("pixels",),
        loads=loads,
        stage_elem=lambda problem: 1.0 if problem.channels_last else 3.0,
        store_elem=depthwise.store_elem,
        unroll_taps=lambda problem, form, target: 0,
        unroll_ic=lambda problem, form, target: problem.icg,
        operands=operands,
        rows_innermost=True,
    ).template()
)
