"""Dense direct convolution: a product of pixels by channels, tiles of both in shared memory.

    blocks over group, pixel tile, channel block:
        acc[thread_m][thread_oc] = 0                        registers of each thread
        for k0 in steps of tile_k terms (tap, ic):
            xcol[tile_k][tile_m] = x, padded                gathered by all threads
            weight[tile_k][tile_oc] = packed                read front to back, by vectors of four
            for k in tile_k:  acc += xcol[k] outer weight[k]
        y = epilogue(acc)

Pixels are counted over rows, columns and batches, so tiles fit small maps as well as large ones.
Nath, Tomov and Dongarra, "An Improved MAGMA GEMM for Fermi GPUs" (2010) have the register tile,
Chetlur et al., "cuDNN" (2014) the gathering.
"""

from __future__ import annotations

from tvmconv.template import register

from ..nests.product import ProductRecipe
from ..nests.takes import dense

TEMPLATE = register(ProductRecipe(id="cuda.direct", supports=dense).template())
