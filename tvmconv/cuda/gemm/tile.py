"""Tiles of the matrix product: what a block and a warp compute, and what that takes of an SM."""

from __future__ import annotations

from dataclasses import dataclass

from tvmconv.cuda.gemm.product import CHUNK_BYTES, Product

WARP, WARPGROUP = 32, 4
# Floats by which the rows of a strip are longer than its channels (epilogue.cuh).
STRIP_PAD = 8
# Warps of a block that adds up the splits (reduce.cuh).
REDUCE_WARPS = 4
MBARRIER_BYTES = 8


@dataclass(frozen=True)
class Tile:
    """Sizes of a tiling.

    Attributes:
        m: rows of a block.
        n: channels of a block.
        k: elements of depth that one stage holds.
        warp_m: rows of a warp.
        warp_n: channels of a warp.
        stages: buffers of the pipeline.
        split: parts of the depth that blocks of their own sum.
        by_warpgroups: whether four warps multiply together (wgmma, sm_90), else each warp by
            itself (mma.sync). A warp's rows are then 16 of each 64, and its channels the block's.
        bulk: whether a stage's weights are copied in one piece, and not by every thread's copies.
    """

    m: int
    n: int
    k: int
    warp_m: int
    warp_n: int
    stages: int
    split: int
    by_warpgroups: bool = False
    bulk: bool = False

    @property
    def warps(self) -> int:
        """Warps of a block."""
        return (self.m // self.warp_m) * (self.n // self.warp_n)

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return WARP * self.warps

    def row_bytes(self, product: Product) -> int:
        """Bytes of depth in one stage."""
        return self.k * CHUNK_BYTES // product.chunk

    def stage_bytes(self, product: Product) -> int:
        """Shared memory of one stage."""
        return (self.m + self.n) * self.row_bytes(product)

    def arrivals_at(self, product: Product) -> int:
        """Where the mbarriers of bulk copies are: behind the stages and the epilogue's strips."""
        strips = 0 if self.split > 1 else self.warps * 16 * (self.warp_n + STRIP_PAD) * 4
        return max(self.stages * self.stage_bytes(product), strips)

    def shared_bytes(self, product: Product) -> int:
        """Dynamic shared memory of a block: the stages, reused by the epilogue; mbarriers."""
        return self.arrivals_at(product) + (MBARRIER_BYTES * self.stages if self.bulk else 0)

    def grid(self, product: Product) -> tuple[int, int, int]:
        """Blocks: tiles of rows and channels, slices, splits."""
        return self.tiles_m(product) * self.tiles_n(product), product.slices, self.split

    def tiles_m(self, product: Product) -> int:
        """Tiles along the pixels."""
        return -(-product.rows // self.m)

    def tiles_n(self, product: Product) -> int:
        """Tiles along a group's output channels."""
        return -(-product.problem.ocg // self.n)

    def tiles_k(self, product: Product) -> int:
        """Stages that a block without split works through in the largest phase."""
        return -(-product.depth // self.k)

    def strips(self, product: Product) -> int:
        """Strips of 16 rows that one split leaves for the reduction."""
        x, y, _ = self.grid(product)
        return x * y * self.warps * (self.warp_m // 16)

    def partial_bytes(self, product: Product) -> int:
        """Workspace of the sums of all splits, where they are not finished at once."""
        return self.split * self.strips(product) * 16 * self.warp_n * 4
