"""Implicit GEMM on tensor cores: pixels by channels, taps and input channels as the depth.

    blocks over tiles of pixels and channels; group and phase; part of the depth:
        sums[warp_m][warp_n] = 0                                  registers, float32
        for tile_k elements of depth, `stages` - 1 tiles ahead:
            x of tile_m pixels -> shared      cp.async, 16 bytes of channels, zeros in the padding
            weights of tile_n channels -> shared                    cp.async, in the packed order
            for 32 bytes of depth:  sums += ldmatrix(x) times weights           mma.sync m16n8k16
        y = epilogue(sums), through shared memory                           16 bytes at a time
    with split > 1 the sums go to workspace, and a second launch adds them in order

x is read in place where its channels are last and start at multiples of 16 bytes. Elsewhere
(channels first, padding that is not zero, few channels) a launch before stages padded pixels; a
stem's three channels are folded with the taps of a row into one run of depth, so its sums are not
mostly zeros.
A layer of few pixels does not fill a GPU with tiles, so its depth is split; no atomics, so that
answers do not depend on which block is first. float16 and bfloat16 with float32 sums; float32 as
tf32 where ``max_error`` allows that.

Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning" (2014), compute the gathered matrix
tile by tile; Thakkar et al., CUTLASS (2017 on), have the pipeline of asynchronous copies.
"""

from __future__ import annotations

from tvmconv.template import Task, register

from ..nests.tensor_gemm import Choices, TensorGemm


def declines(task: Task) -> str | None:
    """float32 needs tf32; the first tensor cores multiply float16 alone."""
    if task.spec.dtype != "float16" and task.target.mcpu == "sm_75":
        return f"sm_75 multiplies no {task.spec.dtype} on tensor cores"
    return None


def choices(chunk: int) -> Choices:
    """Tiles to try; of equals the first stages are taken: deep enough for a trip to memory."""
    return {
        "tile_m": (64, 128, 256),
        "tile_n": (32, 64, 128, 256),
        "tile_k": (4 * chunk, 8 * chunk),
        "warp_m": (16, 32, 64),
        "warp_n": (16, 32, 64),
        "stages": (4, 3, 5, 2),
    }


RECIPE = TensorGemm(id="cuda.implicit_gemm", declines=declines, choices=choices)
TEMPLATE = register(RECIPE.template())
