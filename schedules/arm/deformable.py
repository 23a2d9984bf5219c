"""Deformable convolution on NEON: bilinear samples of a block, then a packed matrix product.

    xlast[n][h][w][c] = x                                           (only for channels-first x)
    parallel n, g, part, rows, columns:
        sample[oh][ow][kh][kw][c]: corner positions and weights once per tap and offset group,
            four vector loads over the channels
        for block of tile_oc channels, tile of outputs:
            acc[tile_oh][tile_ow][tile_oc / 4] = 0
            for kh, kw, ic by 16:
                acc[i] += packed[..][ic][0 : tile_oc] * sample[i][kh][kw][ic].lane
            y[tile] = epilogue(acc)

The samples of a block take a third of the second-level cache, so they are never written to memory
as the im2col buffer of other implementations is (torchvision's deform_conv2d).
"""

from __future__ import annotations

from tvmconv.declare import declare_deformable
from tvmconv.template import register

from ..nests.lanes import channel_operands, unroll_ic
from ..nests.recipe import Recipe
from ..nests.takes import deformable
from . import direct

TEMPLATE = register(
    Recipe(
        id="arm.deformable",
        supports=deformable,
        vector="oc",
        per_lane=False,
        tiles=direct.tiles,
        stages=lambda task: ("sample",),
        loads=direct.loop_loads,
        stage_elem=lambda problem: 4.0,
        store_elem=direct.store_elem,
        unroll_taps=lambda problem, form, target: 0,
        unroll_ic=unroll_ic,
        declare_run=declare_deformable,
        operands=channel_operands,
    ).template()
)
