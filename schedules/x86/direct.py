"""Dense direct convolution, output channels in the lanes.

    parallel n, g, part, d, rows, columns:
        xpad[window][ic] = x, padded                                (unless x is read in place)
        for block of tile_oc channels, phase, row, column tile:
            acc[tile_oh][tile_ow][tile_oc / lanes] = 0              up to 28 of 32 zmm registers
            for kd, kh, kw (taps in the padding skipped), ic:
                w = packed[block][kd][kh][kw][ic][0 : tile_oc]      read front to back
                acc[i][j] += broadcast(xpad[i + kh][j + kw][ic]) * w
            y[tile] = epilogue(acc)

The register tile follows Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions
on SIMD Architectures" (SC 2018): broadcasts from the input, vectors from packed weights.

A core that makes two halves of each vector may hold channels in an odd number of half vectors,
where whole ones would compute more that are not there: 24 channels take three halves, not two
wholes. In channels-first maps columns.py computes none.
"""

from __future__ import annotations

from tvmconv.cores import core_of
from tvmconv.declare import Form
from tvmconv.problem import Problem
from tvmconv.target import Target
from tvmconv.template import Task, register

from ..nests.choices import ODD_HALVES, input_stages, tile_choices
from ..nests.cost import vector_width
from ..nests.recipe import Recipe
from ..nests.takes import dense

TILE_OH = (1, 2, 3, 4, 6, 7, 8)
TILE_OW = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 16, 24, 28)
VECTORS = (1, 2, 3, 4)


def tiles(task: Task) -> dict[str, tuple[int, ...]]:
    """Register tiles to try."""
    _, h, w = task.problem.axes
    return {
        "tile_oc": (*(v * task.target.lanes for v in VECTORS), *_halves(task)),
        "tile_oh": tile_choices(h.quotients, TILE_OH),
        "tile_ow": tile_choices(w.quotients, TILE_OW),
    }


def _halves(task: Task) -> tuple[int, ...]:
    """Channels in odd numbers of half vectors, where those compute fewer than whole ones do."""
    channels, lanes = task.problem.ocg, task.target.lanes
    if not (core_of(task.target).halves and task.problem.output_channels_last):
        return ()
    computed = {v * lanes // 2: -(-channels // (v * lanes // 2)) * v for v in ODD_HALVES}
    return tuple(size for size, halves in computed.items() if halves < 2 * -(-channels // lanes))


def loads(task: Task, form: Form) -> float:
    """A broadcast per output position and a vector per weight register; half vectors count half."""
    width = vector_width(form, task.target.lanes)
    pixels = form.tile_oh * form.tile_ow
    return (pixels + form.tile_oc / width) * width / task.target.lanes


def store_elem(problem: Problem) -> float:
    """Channels-first output is transposed from the registers."""
    return 0.15 if problem.output_channels_last else 0.5


def unroll_ic(problem: Problem, form: Form, target: Target) -> int:
    """A few channels per iteration, so that loop control hides behind the FMAs."""
    return next((u for u in (4, 3, 2) if problem.icg % u == 0), 1)


TEMPLATE = register(
    Recipe(
        id="x86.direct",
        supports=dense,
        vector="oc",
        per_lane=False,
        tiles=tiles,
        stages=input_stages,
        loads=loads,
        stage_elem=lambda problem: 0.25,
        store_elem=store_elem,
        unroll_taps=lambda problem, form, target: 0,
        unroll_ic=unroll_ic,
    ).template()
)
