"""Pointwise (1x1) convolution on NEON, output channels in the lanes: a packed matrix product.

    parallel n, g, part, block of pixels (a third of L2):
        for block of tile_oc channels, tile of pixels:
            acc[tile_ow][tile_oc / 4] = 0
            for ic by 16:
                w = packed[block][ic][0 : tile_oc]                  ldp: two vectors
                v = x[pixel i][ic : ic + 4]                         channels-last: four channels
                    or x[ic][i : i + 4]                             channels-first: four pixels
                acc[i] += w * v.lane                                fmla by element
            y[tile] = epilogue(acc)

Goto and van de Geijn's blocking (2008) with packed weights. Where x is channels-first and y too,
`arm.columns` has the same sums without turning y's rows.
"""

from __future__ import annotations

from tvmconv.template import Task, register

from ..nests.choices import input_stages
from ..nests.lanes import channel_operands, unroll_ic
from ..nests.recipe import Recipe
from ..nests.takes import pointwise
from . import direct


def stages(task: Task) -> tuple[str, ...]:
    """As the direct template, but never transposed: with one tap each element is used once."""
    return tuple(stage for stage in input_stages(task) if stage != "transposed") or ("planes",)


TEMPLATE = register(
    Recipe(
        id="arm.pointwise",
        supports=pointwise,
        vector="oc",
        per_lane=False,
        tiles=direct.tiles,
        stages=stages,
        loads=direct.loop_loads,
        stage_elem=lambda problem: 0.6,
        store_elem=direct.store_elem,
        unroll_taps=lambda problem, form, target: 0,
        unroll_ic=unroll_ic,
        operands=channel_operands,
    ).template()
)
