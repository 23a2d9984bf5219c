"""Im2col: taps and input channels of a block gathered side by side, then one flat matrix product.

    parallel n, g, part, d, rows, columns:
        xpad[window][ic] = x, padded                                (unless x is read in place)
        xcol[oh][ow][k] = xpad[oh + kh][ow + kw][ic]                k = taps and ic together
        for block of tile_oc channels, row, column tile:
            acc[tile_oh][tile_ow][tile_oc / lanes] = 0
            for k:  acc[i][j] += broadcast(xcol[i][j][k]) * packed[block][k][0 : tile_oc]
            y[tile] = epilogue(acc)

The columns of one block take a third of the second-level cache. The copy pays where taps lie so far
apart that a window of the direct template leaves the cache (256 channels, k=3, dilation 512: 8.5 ms
against 10.2); on stems the direct sum is long and flat already, and 12 to 15 % faster. The blocking
is implicit GEMM's (Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014).
"""

from __future__ import annotations

from tvmconv.cores import core_of
from tvmconv.declare import Form, declare_im2col
from tvmconv.problem import Problem
from tvmconv.target import Target
from tvmconv.template import Task, register

from ..nests.choices import input_stages
from ..nests.cost import L2_SHARE
from ..nests.recipe import Recipe
from ..nests.takes import gathered
from . import direct

# Weights from the third-level cache, read front to back.
STREAM_BYTES_PER_CYCLE = 16.0


def stages(task: Task) -> tuple[str, ...]:
    """As the direct template, but columns are not transposed: they are read once per block."""
    return tuple(stage for stage in input_stages(task) if stage != "transposed")


def loads(task: Task, form: Form) -> float:
    """As the direct template; weights of one block that exceed the second-level cache stream.

    There is one block of channels for all taps here, so a wide tile under many channels waits:
    512 channels of 3x3 at 64 channels a tile ran at a quarter of the speed.
    """
    weights = 4.0 * form.tile_oc * task.problem.reduction
    streamed = 0.0
    if weights > L2_SHARE * task.target.l2_bytes:
        pace = core_of(task.target).loads_per_cycle / STREAM_BYTES_PER_CYCLE
        streamed = 4.0 * form.tile_oc * pace
    return max(direct.loads(task, form), streamed)


def gather_elem(problem: Problem) -> float:
    """Runs and rows are copied by vectors."""
    return 0.25


def unroll_k(problem: Problem, form: Form, target: Target) -> int:
    """Some of the one reduction loop, so that loop control hides behind the FMAs."""
    return next((u for u in (4, 3, 2) if problem.icg % u == 0), 1)


TEMPLATE = register(
    Recipe(
        id="x86.im2col",
        algorithm="im2col",
        supports=gathered,
        vector="oc",
        per_lane=False,
        tiles=direct.tiles,
        stages=stages,
        loads=loads,
        stage_elem=gather_elem,
        store_elem=direct.store_elem,
        unroll_taps=lambda problem, form, target: 0,
        unroll_ic=unroll_k,
        declare_run=declare_im2col,
        unfold=True,
    ).template()
)
