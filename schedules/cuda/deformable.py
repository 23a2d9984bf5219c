"""Deformable convolution: bilinear samples gathered into shared memory, then the product.

    blocks over group, pixel tile, channel block:
        acc[thread_m][thread_oc] = 0
        for k0 in steps of tile_k terms (tap, ic):
            xcol[tile_k][tile_m] = mask * bilinear(x)       four corners, two offsets each
            weight[tile_k][tile_oc] = packed
            for k in tile_k:  acc += xcol[k] outer weight[k]
        y = epilogue(acc)

The k^2-fold buffer of samples of other implementations (torchvision's deform_conv2d) is never in
memory; wide channel blocks keep samples from being made twice.
"""

from __future__ import annotations

from tvmconv.template import register

from ..nests.product import ProductRecipe
from ..nests.takes import deformable

# Corner addresses, four tests, and weights of the interpolation; four corners and two offsets.
SAMPLE_INSTRUCTIONS = 80
SAMPLE_READS = 6

TEMPLATE = register(
    ProductRecipe(
        id="cuda.deformable", supports=deformable, gather=SAMPLE_INSTRUCTIONS, reads=SAMPLE_READS
    ).template()
)
