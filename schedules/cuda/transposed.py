"""Transposed convolution by phases: a product per phase, no zeros inserted, no atomics.

    blocks over group, phase p, pixel tile of quotients q, channel block:
        acc[thread_m][thread_oc] = 0
        for k0 in steps of tile_k terms (tap of p, ic):
            xcol[tile_k][tile_m], weight[p][tile_k][tile_oc]
            for k in tile_k:  acc += xcol[k] outer weight[k]
        y[q * stride + p] = epilogue(acc)

Output o = q * stride + p meets only the taps k with (p + padding - k * dilation) divisible by the
stride: a dense stride-1 convolution per phase (Shi et al., "Is the deconvolution layer the same as
a convolutional layer?", 2016).
"""

from __future__ import annotations

from tvmconv.template import register

from ..nests.product import ProductRecipe
from ..nests.takes import transposed

TEMPLATE = register(ProductRecipe(id="cuda.transposed", supports=transposed).template())
