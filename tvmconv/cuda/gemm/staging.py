"""The copy of x that is staged in workspace: which block copies what (stage.cuh)."""

from __future__ import annotations

from math import gcd, prod

from tvmconv.cuda.gemm.product import Product, Staging

# Elements that a block copies, and its threads.
STAGE_ELEMS, STAGE_THREADS = 2048, 256
MOST_CHANNELS, MOST_COLUMNS = 32, 256


def stage_shape(staging: Staging) -> tuple[int, int]:
    """Channels and columns of one block."""
    channels = min(MOST_CHANNELS, 1 << (staging.channels - 1).bit_length())
    return channels, min(MOST_COLUMNS, STAGE_ELEMS // channels)


def stage_blocks(product: Product) -> int:
    """Blocks of the launch; none where nothing is staged."""
    if product.staging is None:
        return 0
    channels, columns = stage_shape(product.staging)
    d, h, w = product.staging.extents
    across = -(-product.staging.channels // channels) * -(-w // columns)
    return across * product.problem.g * prod((max(1, product.problem.n), d, h))


def stage_vector(product: Product, staging: Staging) -> int:
    """Channels that are stored at once."""
    return gcd(staging.channels, product.chunk)
