"""The general template on RISC-V: one pair or vector of output channels, any legal spec.

    parallel n, g, d, rows, columns:
        xpad[window][ic] = x, padded (or sample[..], for deformable specs)
        for block of tile_oc channels, phase, row, column tile of up to four:
            acc[tile_ow] = 0
            for kd, kh, kw, ic:  acc[i] += broadcast(xpad[..][ic]) * packed[..][ic][0 : tile_oc]
            y[tile] = epilogue(acc)

It is chosen when nothing else takes a spec, and it is the slow twin that tests compare the others
with: same declaration, plainest schedule.
"""

from __future__ import annotations

from tvmconv.declare import Declaration, Form, declare_deformable, declare_direct
from tvmconv.problem import Problem
from tvmconv.spec import ConvSpec
from tvmconv.template import Task, register

from ..nests.choices import tile_choices
from ..nests.recipe import Recipe
from ..nests.takes import anything

# Ranks it behind every template that knows the spec's shape.
PLAIN_FACTOR = 4.0


def tiles(task: Task) -> dict[str, tuple[int, ...]]:
    """One vector of channels, a few columns."""
    return {
        "tile_oc": (task.target.lanes,),
        "tile_oh": (1,),
        "tile_ow": tile_choices(task.problem.axes[2].quotients, (1, 2, 4)),
    }


def declare_run(spec: ConvSpec, problem: Problem, form: Form) -> Declaration:
    """The direct sum, over samples for deformable specs."""
    declare = declare_deformable if spec.op == "deform_conv" else declare_direct
    return declare(spec, problem, form)


def stages(task: Task) -> tuple[str, ...]:
    """A copy in x's own order, or samples."""
    if task.spec.op == "deform_conv":
        return ("sample",)
    return ("pixels" if task.problem.channels_last else "planes",)


TEMPLATE = register(
    Recipe(
        id="riscv.general",
        supports=anything,
        vector="oc",
        per_lane=False,
        tiles=tiles,
        stages=stages,
        loads=lambda task, form: PLAIN_FACTOR * (form.tile_oh * form.tile_ow + 1),
        stage_elem=lambda problem: 3.0,
        store_elem=lambda problem: 3.0,
        unroll_taps=lambda problem, form, target: 0,
        unroll_ic=lambda problem, form, target: 1,
        declare_run=declare_run,
    ).template()
)
