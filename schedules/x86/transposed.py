"""Transposed convolution by phases: no zeros inserted, no scatter, no atomics.

    parallel n, g, part, d, rows, columns of quotients q:
        xpad[window][ic] = x, padded
        for block of tile_oc channels, phase p, tile of q:
            acc[tile_oh][tile_ow][tile_oc / lanes] = 0
            for the taps of phase p, ic:
                acc[i][j] += broadcast(xpad[i + j_h][j + j_w][ic]) * packed[block][p][..][ic]
            y[q * stride + p] = epilogue(acc)

Output o = q * stride + p meets only the taps k with (p + padding - k * dilation) divisible by the
stride: a dense stride-1 convolution per phase (Shi et al., "Is the deconvolution layer the same as
a convolutional layer?", 2016). The phases share one staged window.
"""

from __future__ import annotations

from tvmconv.template import register

from ..nests.choices import input_stages
from ..nests.recipe import Recipe
from ..nests.takes import transposed
from . import direct

TEMPLATE = register(
    Recipe(
        id="x86.transposed",
        supports=transposed,
        vector="oc",
        per_lane=False,
        tiles=direct.tiles,
        stages=input_stages,
        loads=direct.loads,
        stage_elem=lambda problem: 0.25,
        store_elem=direct.store_elem,
        unroll_taps=lambda problem, form, target: 0,
        unroll_ic=direct.unroll_ic,
    ).template()
)
