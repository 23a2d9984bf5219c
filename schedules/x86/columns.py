"""Direct convolution with output columns in the lanes: channels-first maps, and few channels.

    parallel n, g, part, d, rows, columns:
        xpad[ic][window], columns one stride apart made neighbours  (unless x is read in place)
        for block of tile_oc channels, row, column tile:
            acc[tile_oc][tile_oh][tile_ow / lanes] = 0
            for kd, kh, kw, ic:
                v = xpad[ic][i + kh][j + kw : + lanes]              one load for tile_oc FMAs
                acc[o][i] += broadcast(packed[..][ic][o]) * v
            y[channel o][row][columns] = epilogue(acc)              stored as it lies in memory

Nothing is transposed, and one output channel fills the vectors as well as sixteen do: depthwise
layers, 1x1 with few inputs, and layers with one to three outputs in NCHW run here. So do those of
one to four outputs in NHWC, whose pixels are turned into rows first: 64 to 3 channels at 32x32,
transposed, take 36 us, and 86 with three of sixteen lanes filled; 56 to one, 9x9 of stride 4 on
64x64, 0.8 ms and 5.3. Rows of unit stride are read in place under masks, and the phases of a
transposed row are stored together. This is the "row" form of Zhang, Franchetti and Low, "High
Performance Zero-Memory Overhead Direct Convolutions" (ICML 2018), turned to channels-first.

A core that makes two halves of each vector may sum short rows by half vectors: the seven columns of
a depthwise 7x7 map fill seven of eight lanes instead of sixteen, and take Zen 4 12 us, not 23.
"""

from __future__ import annotations

from tvmconv.cores import core_of
from tvmconv.declare import Form
from tvmconv.problem import Problem
from tvmconv.target import Target
from tvmconv.template import Task, register

from ..nests.choices import ODD_HALVES, tile_choices
from ..nests.cost import accumulators, vector_width
from ..nests.nest import MAX_UNROLLED_FMAS
from ..nests.recipe import FEW_CHANNELS, Recipe
from ..nests.takes import rows_or_few_outputs


def tiles(task: Task) -> dict[str, tuple[int, ...]]:
    """Channels, rows and whole vectors of columns, of half the width where that fits better."""
    problem, lanes = task.problem, task.target.lanes
    _, h, w = problem.axes
    vectors, halves = -(-w.quotients // lanes), -(-w.quotients // (lanes // 2))
    narrow = halves in ODD_HALVES and core_of(task.target).halves
    return {
        "tile_oc": tile_choices(problem.ocg, (1, 2, 3, 4, 6, 7, 8, 12, 14)),
        "tile_oh": tile_choices(h.quotients, (1, 2, 3, 4, 6, 7, 8, 12, 14)),
        "tile_ow": (
            *(v * lanes for v in tile_choices(vectors, (1, 2, 3, 4))),
            *((halves * lanes // 2,) if narrow else ()),
        ),
    }


def stages(task: Task) -> tuple[str, ...]:
    """In place needs unit stride and no tap outside, or masks; so do tiles that leave x."""
    problem = task.problem
    if problem.x.space[2] != 1:
        return ("turned",)
    plain = not problem.is_padded and problem.axes[2].stride == 1
    return (*(("none",) if plain else ()), *(("guarded",) if guards(task) else ()), "planes")


def guards(task: Task) -> bool:
    """Whether rows are read in place under masks, which saves a copy.

    Of many channels only neighbouring columns are: a vector that is shuffled out of strided ones
    pays where its taps are unrolled and share loads.
    """
    problem = task.problem
    known = problem.padding_mode in ("zeros", "constant") or not problem.is_padded
    one_load = problem.icg == 1 or problem.axes[2].stride == 1
    forward = all(axis.phases == 1 for axis in problem.axes)
    return known and one_load and forward and task.target.lanes >= 8


def loads(task: Task, form: Form) -> float:
    """Vectors of x and broadcasts of weights; a vector off a cache line's start costs two.

    With few channels the tap rows are unrolled: a row of x is loaded once for all of them, and
    their weights stay in registers.
    """
    problem, lanes = task.problem, task.target.lanes
    shifted = 1.0 if problem.axes[2].taps == 1 else 2.0
    vectors = form.tile_oh * form.tile_ow / vector_width(form, lanes)
    if form.stage == "guarded":
        shifted *= _strided_loads(problem, form, task.target)
    if not unroll_taps(problem, form, task.target):
        return vectors * shifted + form.tile_oc
    h = problem.axes[1]
    distinct = ((form.tile_oh - 1) * h.stride + h.taps) / (form.tile_oh * h.taps)
    return vectors * shifted * min(1.0, distinct) + form.tile_oc / 2


def _strided_loads(problem: Problem, form: Form, target: Target) -> float:
    """Loads and shuffles per vector where rows are read in place; unrolled taps share loads."""
    w = problem.axes[2]
    if w.stride == 1:
        return 1.0
    if unroll_taps(problem, form, target) < 2:
        return w.stride + 1.0
    return -(-(w.taps + w.stride - 1) // w.stride) * w.stride / w.taps + 0.5


def unroll_taps(problem: Problem, form: Form, target: Target) -> int:
    """Tap rows, then tap columns, while the straight line stays short; only with few channels."""
    if problem.icg > FEW_CHANNELS:
        return 0
    body = accumulators(form, target.lanes) * problem.icg
    d, h, w = problem.axes
    if body * h.taps * w.taps <= MAX_UNROLLED_FMAS:
        return 3 if d.taps == 1 else 2
    # The weights of several channels do not fit beside the accumulators.
    longest = 2 * MAX_UNROLLED_FMAS if problem.icg == 1 else MAX_UNROLLED_FMAS
    return 1 if body * h.taps <= longest else 0


def unroll_ic(problem: Problem, form: Form, target: Target) -> int:
    """All of a few channels, else a few of many."""
    if problem.icg <= FEW_CHANNELS:
        return problem.icg
    return next((u for u in (4, 3, 2) if problem.icg % u == 0), 1)


def stage_elem(problem: Problem) -> float:
    """Copied, taken apart by the stride, or transposed."""
    if problem.x.space[2] != 1:
        return 0.4
    return 0.2 if problem.axes[2].stride == 1 else 0.3


def store_elem(problem: Problem) -> float:
    """Whole vectors, two phases in turn, or one by one."""
    if problem.y.space[2] != 1:
        return 1.0
    return 0.15 if problem.axes[2].phases == 1 else 0.4


TEMPLATE = register(
    Recipe(
        id="x86.columns",
        supports=rows_or_few_outputs,
        vector="ow",
        per_lane=False,
        tiles=tiles,
        stages=stages,
        loads=loads,
        stage_elem=stage_elem,
        store_elem=store_elem,
        unroll_taps=unroll_taps,
        unroll_ic=unroll_ic,
    ).template()
)
