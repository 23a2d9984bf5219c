"""Winograd's algorithm in three launches: transform, a matrix product per point, transform back.

    v[a][b][ic][t]    = Bh x Bw                     a thread per tile and channel, in registers
    gemm[a][b][oc][t] = sum of v[a][b] u[a][b]      tiles in shared memory, as in direct.py
    y[tile t]         = epilogue(Ah gemm Aw)        a thread per tile and channel

3x3 in tiles of 4x4 takes 36 products in place of 144, for two and a quarter times the input and the
output through memory: it pays from some tens of channels (Lavin and Gray, CVPR 2016). u = Gh w Gw
is made when weights are packed. The launches share two buffers of workspace, float32 whatever x is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import prod

from tvm import s_tir

from tvmconv.arithmetic import ITEM_BYTES
from tvmconv.declare import Declaration
from tvmconv.declare.staged_winograd import (
    StagedForm,
    declare_staged_packing,
    declare_staged_winograd,
)
from tvmconv.space import Config, ConfigSpace
from tvmconv.template import Features, Task, Template, register
from tvmconv.tolerance import get_accuracy

from ..nests import staged
from ..nests import winograd as takes
from ..nests.occupancy import Footprint, Work, as_columns, described, kernel_cycles
from ..nests.product import (
    STAGES,
    define_tiles,
    form_of,
    invalid_tiles,
    nest_for,
    threads_along,
    too_few_steps,
    valid_tiles,
)
from ..nests.product_cost import footprint, gpu_of, product_work
from ..nests.product_nest import ProductNest
from ..nests.ranking import cheapest
from ..nests.staged import MOST_WORKSPACE_BYTES, outputs_of, square, transform_launch, whole
from ..nests.staged_nest import schedule_staged


def supports(task: Task) -> str | None:
    """Unit stride and two to five taps on at least one of the last two axes; no bfloat16."""
    if task.spec.dtype == "bfloat16":
        return "two bfloat16s do not hold a transformed weight"
    return staged.supports(task)


def space(task: Task) -> ConfigSpace:
    """Outputs of a tile, and the product's tiles."""
    _, h, w = task.problem.axes
    made = ConfigSpace().define_knob("m_h", outputs_of(h)).define_knob("m_w", outputs_of(w))
    # A weight of float16 is the sum of two halves: no copy.
    copied = gpu_of(task).async_copies and task.spec.dtype == "float32"
    stages = STAGES if copied else STAGES[:1]
    return define_tiles(made, task.problem, stages).where(lambda config: invalid(task, config))


def invalid(task: Task, config: Config) -> str | None:
    """Why a config cannot be applied, or None."""
    error = get_accuracy(accuracy(task, config)).relative_error
    if error > task.max_error:
        return f"relative error {error:g} above max_error {task.max_error:g}"
    reason = too_large(task, config.integer("m_h"), config.integer("m_w"))
    reason = reason or too_few_steps(config, terms(task, config))
    return reason or invalid_tiles(config, nest_of(task, config), gpu_of(task))


def too_large(task: Task, m_h: int, m_w: int) -> str | None:
    """Why tiles of so many outputs need too much workspace, or None."""
    problem = task.problem
    d, h, w = problem.axes
    points = (m_h + h.taps - 1) * (m_w + w.taps - 1)
    tiles = problem.n * -(-h.quotients // m_h) * -(-w.quotients // m_w) * h.phases * w.phases
    widest = max(problem.icg * (d.high - d.low), problem.ocg * d.out_extent)
    size = 4 * problem.g * points * tiles * widest
    if size > MOST_WORKSPACE_BYTES:
        return f"{size} bytes of workspace exceed {MOST_WORKSPACE_BYTES}"
    return None


def accuracy(task: Task, config: Config) -> str:
    """The class of the longer of the two transforms."""
    return takes.accuracy(task, config)


def staged_form(task: Task, config: Config) -> StagedForm:
    """Both axes in one block of tiles."""
    problem = task.problem
    _, h, w = problem.axes
    rows, columns = whole(h, config.integer("m_h")), whole(w, config.integer("m_w"))
    pixels_inside, terms_inside = threads_along(problem)
    halves = 4 // ITEM_BYTES[task.spec.dtype]
    return StagedForm(rows, columns, form_of(config), terms_inside, not pixels_inside, halves)


def nest_of(task: Task, config: Config) -> ProductNest:
    """The product's threads, by the order of v and gemm."""
    pixels_inside, terms_inside = threads_along(task.problem)
    # Tiles of v are rounded up to those of the product, and each tile of v is one of gemm.
    depth = task.problem.axes[0]
    together = not terms_inside and depth.taps == depth.stride == 1
    return nest_for(config, pixels_inside, terms_inside, pixels_inside, together)


def terms(task: Task, config: Config) -> int:
    """Terms of a sum, rounded up to whole steps."""
    return staged_form(task, config).weight_shape(task.problem)[-2]


def configs(task: Task) -> Iterator[Config]:
    """Valid configs whose tiles are square, or as long as they may be along one axis alone."""
    knobs = space(task).knobs
    names, (rows, columns, *tiles) = list(knobs), knobs.values()
    fitting = valid_tiles(gpu_of(task), tuple(tiles), *threads_along(task.problem))
    for m_h, m_w in square(rows, columns):
        if too_large(task, m_h, m_w) is not None:
            continue
        for values in fitting:
            config = Config(tuple(zip(names, (m_h, m_w, *values), strict=True)))
            if get_accuracy(accuracy(task, config)).relative_error > task.max_error:
                break
            if too_few_steps(config, terms(task, config)) is None:
                yield config


@lru_cache(maxsize=64)
def shortlist(task: Task) -> tuple[Config, ...]:
    """The best by predicted cycles."""
    return cheapest("cuda.winograd", task, configs(task), cycles)


def cycles(task: Task, config: Config) -> float:
    """Predicted cycles of the three launches."""
    gpu = gpu_of(task)
    return sum(kernel_cycles(gpu, *launch) for launch in launches(task, config))


def launches(task: Task, config: Config) -> tuple[tuple[Footprint, Work, int, float], ...]:
    """Footprint and work of a block, blocks, and bytes through memory of each launch."""
    gpu, problem, form = gpu_of(task), task.problem, staged_form(task, config)
    nest, tiles = nest_of(task, config), form.product
    groups = prod(form.lead(problem)[:3])
    points = prod(form.lead(problem)[3:])
    taken_in = groups * form.tiles_in(problem) * form.channels_in(problem)
    taken_out = groups * form.tiles_out(problem) * form.blocks(problem) * form.tile_oc
    v_bytes, gemm_bytes = 4.0 * points * taken_in, 4.0 * points * taken_out
    work = product_work(gpu, tiles, nest, terms(task, config), gather=4.0, size=4, spread=1.0)
    blocks = groups * points * (form.tiles_out(problem) // tiles.tile_m) * form.blocks(problem)
    size = float(ITEM_BYTES[task.spec.dtype])
    moved = v_bytes + gemm_bytes + size * form.weight_elems(problem)
    return (
        transform_launch(taken_in, points, points, v_bytes + size * problem.x_elems),
        (footprint(tiles, nest), work, blocks, moved),
        transform_launch(
            taken_out, points, form.h.m * form.w.m, gemm_bytes + size * problem.y_elems
        ),
    )


def features(task: Task, configs: Sequence[Config]) -> Features:
    """Columns for the cost model: the product's, and what the transforms move."""
    rows = []
    for config in configs:
        first, (taken, work, blocks, moved), last = launches(task, config)
        row = described(gpu_of(task), taken, work, blocks)
        rows.append(row | {"product_bytes": moved, "transform_bytes": first[3] + last[3]})
    return as_columns(rows)


def declare(task: Task, config: Config) -> tuple[Declaration, Declaration]:
    """TE of run and of pack."""
    form = staged_form(task, config)
    return (
        declare_staged_winograd(task.spec, task.problem, form),
        declare_staged_packing(task.spec, task.problem, form),
    )


def apply(task: Task, config: Config, declaration: Declaration) -> s_tir.Schedule:
    """Schedule run."""
    return schedule_staged(declaration, staged_form(task, config), nest_of(task, config))


TEMPLATE = register(
    Template(
        id="cuda.winograd",
        algorithm="winograd",
        supports=supports,
        space=space,
        default=lambda task: shortlist(task)[0],
        cycles=cycles,
        declare=declare,
        apply=apply,
        accuracy=accuracy,
        features=features,
        shortlist=shortlist,
    )
)
