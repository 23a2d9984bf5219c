"""Im2col on NEON: taps and input channels of a block gathered side by side, then a matrix product.

    parallel n, g, part, d, rows, columns:
        xpad[window][ic] = x, padded                                (unless x is read in place)
        xcol[oh][ow][k] = xpad[oh + kh][ow + kw][ic]                k = taps and ic together
        for block of tile_oc channels, row, column tile:
            acc[tile_oh][tile_ow][tile_oc / 4] = 0
            for k by 16:  acc[i][j] += packed[block][k][0 : tile_oc] * xcol[i][j][k].lane
            y[tile] = epilogue(acc)

The columns of one block take a third of the second-level cache. It pays where taps lie so far apart
that a window of the direct template leaves the cache (Chetlur et al., "cuDNN: Efficient Primitives
for Deep Learning", 2014).
"""

from __future__ import annotations

from tvmconv.declare import Form, declare_im2col
from tvmconv.declare.im2col import columns_last, unfolded
from tvmconv.template import Task, register

from ..nests.choices import input_stages
from ..nests.lanes import channel_loads, channel_operands, unroll_ic
from ..nests.recipe import Recipe
from ..nests.takes import gathered
from . import direct


def stages(task: Task) -> tuple[str, ...]:
    """As the direct template, but columns are not transposed: they are read once per block."""
    return tuple(stage for stage in input_stages(task) if stage != "transposed")


def loads(task: Task, form: Form) -> float:
    """As the direct template: by columns of xcol when x is channels-first."""
    return channel_loads(task, form, unroll_ic(unfolded(task.problem), form, task.target))


TEMPLATE = register(
    Recipe(
        id="arm.im2col",
        algorithm="im2col",
        supports=gathered,
        vector="oc",
        per_lane=False,
        tiles=direct.tiles,
        stages=stages,
        loads=loads,
        stage_elem=lambda problem: 0.8 if columns_last(problem) else 0.6,
        store_elem=direct.store_elem,
        unroll_taps=lambda problem, form, target: 0,
        unroll_ic=unroll_ic,
        declare_run=declare_im2col,
        unfold=True,
        operands=channel_operands,
    ).template()
)
