"""1x1 convolution: a plain matrix product, in which nothing is gathered.

    blocks over group, pixel tile, channel block:
        acc[thread_m][thread_oc] = 0
        for k0 in steps of tile_k channels:
            xcol[tile_k][tile_m] = x                        threads along what lies together
            weight[tile_k][tile_oc] = packed
            for k in tile_k:  acc += xcol[k] outer weight[k]
        y = epilogue(acc)

Neighbouring axes without taps are one axis here: pixels are counted through.
"""

from __future__ import annotations

from tvmconv.template import register

from ..nests.product import ProductRecipe
from ..nests.takes import pointwise

TEMPLATE = register(ProductRecipe(id="cuda.pointwise", supports=pointwise, gather=4).template())
