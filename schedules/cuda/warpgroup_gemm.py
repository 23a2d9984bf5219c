"""Implicit GEMM by wgmma, Hopper's instruction: four warps multiply what lies in shared memory.

    blocks over tiles of pixels and channels; group and phase; part of the depth:
        sums[warp_m][tile_n] = 0                                  registers, float32
        for 64 elements of depth, `stages` - 2 tiles ahead:
            x of tile_m pixels -> shared      cp.async, 16 bytes of channels, zeros in the padding
            weights of tile_n channels -> shared    cp.async, as they are packed; or one bulk copy
            wait for the tile; start  sums += x times weights         wgmma m64nNk16, asynchronous
            copy ahead while it runs; wait for the one before it
        y = epilogue(sums), through shared memory                           16 bytes at a time
    with split > 1 the sums go to workspace, and a second launch adds them in order

mma.sync reaches 62 % of what Hopper's tensor cores can do, since operands pass through registers
(Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture", 2024). wgmma reads
shared memory in swizzled rows of 128 bytes, which is how x is copied anyway; weights are packed as
that image, so a stage of them is one piece of memory: where `bulk` says so, one thread starts one
copy of it, and an mbarrier counts its bytes. A multiplication is under way while the next tiles are
copied by the same warps; the sums of a tile are waited for one tile later, so tensor cores find
work at every barrier. Staging, folding and splits are those of implicit_gemm.py. Later chips have
no wgmma: the machine code is for sm_90a, and has no PTX.
"""

from __future__ import annotations

from tvmconv.template import Task, register

from ..nests.tensor_gemm import Choices, TensorGemm


def declines(task: Task) -> str | None:
    """Hopper alone has wgmma; it cuts float32 to tf32 where others round."""
    if task.target.mcpu != "sm_90":
        return "only for sm_90, which has wgmma"
    if task.spec.dtype == "float32":
        return "wgmma takes float32 without rounding to tf32"
    return None


def choices(chunk: int) -> Choices:
    """Tiles to try; 16 rows of a warp are 64 of a warpgroup."""
    return {
        "tile_m": (64, 128, 192, 256),
        "tile_n": (64, 96, 128, 192, 256),
        "tile_k": (8 * chunk,),
        "warp_m": (16, 32),
        "stages": (4, 3, 5, 6),
        # Nobody has timed bulk copies: by prediction they take as long, so the default has none.
        "bulk": (0, 1),
    }


RECIPE = TensorGemm(
    id="cuda.warpgroup_gemm", declines=declines, choices=choices, by_warpgroups=True
)
TEMPLATE = register(RECIPE.template())
