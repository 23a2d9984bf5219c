"""Pointwise (1x1) convolution with output channels in the lanes: a packed matrix product.

All spatial axes without stride are one axis of pixels here (tvmconv/problem.py), so

    parallel n, g, part, block of pixels (a third of L2):
        for block of tile_oc channels, tile of pixels:
            acc[tile_ow][tile_oc / lanes] = 0
            for ic:  acc[i] += broadcast(x[pixel i][ic]) * packed[block][ic][0 : tile_oc]
            y[tile] = epilogue(acc)

x is read in place when whole tiles cover the pixels. The blocking is that of Goto and van de Geijn,
"Anatomy of High-Performance Matrix Multiplication" (2008), with the weights packed beforehand.
"""

from __future__ import annotations

from tvmconv.template import Task, register

from ..nests.choices import input_stages
from ..nests.recipe import Recipe
from ..nests.takes import pointwise
from . import direct


def stages(task: Task) -> tuple[str, ...]:
    """As the direct template, but never transposed: with one tap each element is broadcast once."""
    return tuple(stage for stage in input_stages(task) if stage != "transposed") or ("planes",)


TEMPLATE = register(
    Recipe(
        id="x86.pointwise",
        supports=pointwise,
        vector="oc",
        per_lane=False,
        tiles=direct.tiles,
        stages=stages,
        loads=direct.loads,
        stage_elem=lambda problem: 0.25,
        store_elem=direct.store_elem,
        unroll_taps=lambda problem, form, target: 0,
        unroll_ic=direct.unroll_ic,
    ).template()
)
