"""Winograd's algorithm as a template: what it takes, its configs, and which of them are cheap.

The families' files draw the loop nest; winograd_nest.py schedules it, winograd_blocks.py counts
what configs make of a layer, winograd_cost.py predicts how long it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from tvm import s_tir

from tvmconv.cores import core_of
from tvmconv.declare import Declaration
from tvmconv.declare.winograd import declare_winograd, declare_winograd_packing
from tvmconv.declare.winograd_form import TiledAxis, WinogradForm
from tvmconv.errors import UnsupportedSpec
from tvmconv.problem import Axis
from tvmconv.space import Columns, Config, ConfigSpace, columns_of
from tvmconv.template import Features, Task, Template
from tvmconv.tolerance import get_accuracy, winograd
from tvmconv.winograd import POINTS

from . import cost
from .staging import transpose_square
from .winograd_blocks import unroll_ic
from .winograd_cost import Plan
from .winograd_nest import schedule_winograd

# Longest filter per axis; beyond, alpha = 9 leaves fewer than four outputs and rounding grows.
MOST_TAPS = 5
MOST_OUTPUTS = 7
BLOCKS = (*range(1, 17), 19, 23, 28, 38, 56, 75, 112)
# Of those, the ones that are listed along d.
BLOCKS_D = (1, 2, 4, 8, 16)
TILES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 21, 22, 23, 24, 25, 26, 28)
VECTORS = (1, 2, 3, 4)
CHUNKS = (1, 2, 3, 4, 6, 8, 16)
# Configs that are ranked by the cost model.
SHORTLISTED = 100
# By how much another tile must be predicted to win before a config's own is given up for threads.
MUCH_FASTER = 1.3


def supports(task: Task) -> str | None:
    """Two to five taps of a residue on at least one of the last two axes."""
    problem = task.problem
    if task.spec.op == "deform_conv":
        return "samples lie on no grid"
    if not isfinite(problem.pad_value):
        return "transforms would spread the padding value"
    d, h, w = problem.axes
    if d.phases > 1:
        return "transposed convolutions of rank 3 are summed directly"
    for axis in (h, w):
        if axis.stride > 1 and axis.step > 1:
            return "needs stride 1 where taps are dilated"
        if axis.is_uneven:
            return "the phases differ in taps"
        if axis.residue_taps > MOST_TAPS:
            return f"needs at most {MOST_TAPS} taps along each axis, per residue of its stride"
    if max(h.residue_taps, w.residue_taps) < 2:
        return "no taps to share products"
    if problem.icg == 1 and problem.g > 1:
        return "depthwise: nothing to multiply but points"
    return None


def space(task: Task) -> ConfigSpace:
    """Tile sizes, how the map is cut into blocks, and the register tile."""
    d, h, w = task.problem.axes
    return (
        ConfigSpace()
        .define_knob("m_h", _outputs(h))
        .define_knob("m_w", _outputs(w))
        .define_knob("blocks_d", _up_to(BLOCKS, d.out_extent))
        .define_knob("blocks_h", _blocks_of_rows(h))
        .define_knob("blocks_w", _up_to(BLOCKS, w.quotients))
        .define_knob("tile_t", TILES)
        .define_knob("tile_oc", tuple(v * task.target.lanes for v in VECTORS))
        .define_knob("chunks", _up_to(CHUNKS, -(-task.problem.ocg // task.target.lanes)))
        .define_knob("parts", (1,) if task.threads == 1 else (1, 2, 4, 8, 16))
        .where(
            lambda config: invalid(task, config),
            lambda columns: Plan.of(task, columns).valid & _exact_enough(task, columns),
        )
    )


def _up_to(choices: tuple[int, ...], extent: int) -> tuple[int, ...]:
    return tuple(choice for choice in choices if choice <= max(1, extent))


def _blocks_of_rows(axis: Axis) -> tuple[int, ...]:
    """Some, and those of one or two bands of tiles: a single band can be cut along w as well."""
    bands = [TiledAxis(axis, m, 1).bands for m in _outputs(axis)]
    few = {-(-count // block) for count in bands for block in (1, 2)}
    return tuple(sorted({*_up_to(BLOCKS, axis.quotients), *few}))


def _outputs(axis: Axis) -> tuple[int, ...]:
    """Outputs per tile: all that alpha allows, none beyond the axis' own extent."""
    if axis.residue_taps == 1:
        return (1,)
    most = min(MOST_OUTPUTS, max(POINTS) + 1 - axis.residue_taps, max(2, axis.quotients))
    return tuple(range(2, most + 1))


def invalid(task: Task, config: Config) -> str | None:
    """Why a config cannot be applied, or None."""
    error = get_accuracy(accuracy(task, config)).relative_error
    if error > task.max_error:
        return f"relative error {error:g} above max_error {task.max_error:g}"
    made = form(task, config)
    if made.tiles % made.tile_t:
        return f"tile_t must divide the {made.tiles} tiles of a block"
    plan = Plan.of(task, columns_of([config]))
    if plan.registers[0] > task.target.registers:
        return f"{plan.registers[0]} of {task.target.registers} registers needed"
    blocks = made.blocks_of_outputs(task.problem)
    asked = tuple(config.integer(f"blocks_{name}") for name in "dhw")
    if blocks != asked:
        return f"{asked} blocks would be {blocks}"
    chunks = made.blocks(task.problem) // made.chunk
    if chunks != config.integer("chunks"):
        return f"the channels make {chunks} chunks"
    if chunks % config.integer("parts"):
        return "parts must divide the chunks"
    if plan.stage_elems[0] > cost.MOST_ELEMS:
        return f"all products exceed {cost.MOST_ELEMS} elements"
    if not plan.valid[0]:
        return f"needs more than {plan.most_scratch_bytes[0]:.0f} bytes of scratch memory"
    return None


def form(task: Task, config: Config) -> WinogradForm:
    """Blocks and chunks of equal size, rounded up."""
    problem = task.problem
    d, h, w = problem.axes

    def tiled(name: str, axis: Axis) -> TiledAxis:
        whole = TiledAxis(axis, config.integer(f"m_{name}"), 1)
        return TiledAxis(axis, whole.m, -(-whole.bands // config.integer(f"blocks_{name}")))

    tile_oc = config.integer("tile_oc")
    needed = -(-problem.ocg // tile_oc)
    return WinogradForm(
        depth=-(-d.out_extent // config.integer("blocks_d")),
        h=tiled("h", h),
        w=tiled("w", w),
        tile_t=config.integer("tile_t"),
        tile_oc=tile_oc,
        chunk=-(-needed // config.integer("chunks")),
        stage="pixels" if problem.channels_last else "transposed",
        channels_last=problem.output_channels_last,
        lanes=task.target.lanes,
        square=transpose_square(task.target),
        woven=not task.target.masks,
        chains=int(Plan.of(task, columns_of([config])).chains[0]),
    )


def accuracy(task: Task, config: Config) -> str:
    """The class of its two transforms."""
    return _accuracy(task, config.integer("m_h"), config.integer("m_w"))


def _accuracy(task: Task, m_h: int, m_w: int) -> str:
    _, h, w = task.problem.axes
    return winograd((m_h, h.residue_taps), (m_w, w.residue_taps))


def _exact_enough(task: Task, columns: Columns) -> NDArray[np.bool_]:
    """Which rows keep to the task's max_error."""
    pairs = np.stack([columns["m_h"], columns["m_w"]], axis=1)
    kinds, at = np.unique(pairs, axis=0, return_inverse=True)
    errors = [get_accuracy(_accuracy(task, int(h), int(w))).relative_error for h, w in kinds]
    exact: NDArray[np.bool_] = np.array(errors)[at.ravel()] <= task.max_error
    return exact


def cycles(task: Task, config: Config) -> float:
    """Predicted cycles on one core."""
    return float(Plan.of(task, columns_of([config])).work_cycles[0])


@lru_cache(maxsize=64)
def shortlist(task: Task) -> tuple[Config, ...]:
    """The cheapest by prediction, with the widest register tile for each cut of the map."""
    knobs = {name: np.array(choices) for name, choices in space(task).knobs.items()}
    knobs["blocks_d"] = np.array([b for b in knobs["blocks_d"] if b in BLOCKS_D])
    knobs["tile_t"] = np.array([1])
    knobs["parts"] = np.array([1])
    grid = np.meshgrid(*knobs.values(), indexing="ij")
    columns = dict(zip(knobs, (axis.ravel() for axis in grid), strict=True))
    # Blocks are whole rows, or pieces of a single row; tiles of unequal sides are rarely worth it,
    # but for F(7 x 4), as exact as F(5, 3) and with an eighth fewer products.
    alike = np.abs(columns["m_h"] - columns["m_w"]) <= 3
    bands = Plan.of(task, columns).h
    rows = (columns["blocks_w"] == 1) | (bands.block == 1)
    single = min(axis.residue_taps for axis in task.problem.axes[1:]) == 1
    listed = rows & (alike | single) & _exact_enough(task, columns)
    columns = {name: column[listed] for name, column in columns.items()}
    widest = columns | {"tile_t": _widest(task, columns)}
    chained = columns | {"tile_t": _widest(task, columns, chains=2)}
    two = Plan.of(task, chained).chains == 2
    columns = {name: np.append(widest[name], chained[name][two]) for name in columns}
    plan = Plan.of(task, columns)
    keep = np.flatnonzero(plan.valid)
    if not len(keep):
        raise UnsupportedSpec(f"winograd: no config fits {task.spec} on {task.target.id}")
    best = keep[np.argsort(plan.cycles[keep], kind="stable")[:SHORTLISTED]]
    return tuple(
        Config(tuple((name, int(column[row])) for name, column in columns.items())) for row in best
    )


def _widest(task: Task, columns: Columns, chains: int = 1) -> NDArray[np.int64]:
    """For each row the largest tile_t that divides the tiles and fits the registers.

    With two chains it is the largest of those whose sums run side by side, or one.
    """
    plan = Plan.of(task, columns)
    widest = np.ones(len(plan.tiles), dtype=np.int64)
    for size in TILES:
        sized = replace(plan, columns={**columns, "tile_t": np.full(len(plan.tiles), size)})
        fits = (plan.tiles % size == 0) & (sized.registers <= task.target.registers)
        fits &= sized.chains >= chains
        widest[fits] = size
    return widest


def spread(task: Task, config: Config) -> Config:
    """The config with smaller blocks and more parts, where that keeps the threads busy.

    Its tile and chunks stay where another choice is not predicted to be much faster: they may have
    been measured. On two Zen 4 cores 512 channels at 28x28 took 8.4 ms in 2 chunks of a predicted
    tile, as one core did in the 16 that a contest had found.
    """
    choices, items = space(task).knobs, dict(config.items)
    found = [config]
    for blocks_h, chunks, parts in product(choices["blocks_h"], CHUNKS, choices["parts"]):
        if int(blocks_h) < int(items["blocks_h"]):
            continue
        split = {**items, "blocks_h": blocks_h, "chunks": chunks, "parts": parts, "tile_t": 1}
        columns = {name: np.array([value]) for name, value in split.items()}
        widest = (int(_widest(task, columns, chains)[0]) for chains in (1, 2))
        for tile_t in {config.integer("tile_t"), *widest}:
            candidate = Config(tuple((split | {"tile_t": tile_t}).items()))
            if invalid(task, candidate) is None:
                found.append(candidate)
    predicted = dict(zip(found, Plan.of(task, columns_of(found)).cycles, strict=True))
    best = min(found, key=predicted.__getitem__)
    kept = [c for c in found if all(c.integer(k) == items[k] for k in ("tile_t", "chunks"))]
    near = min(kept, key=predicted.__getitem__)
    return near if predicted[near] <= MUCH_FASTER * predicted[best] else best


def features(task: Task, configs: Sequence[Config]) -> Features:
    """Columns for the cost model."""
    return Plan.of(task, columns_of(configs)).features()


def declare(task: Task, config: Config) -> tuple[Declaration, Declaration]:
    """TE of run and of pack."""
    made = form(task, config)
    return (
        declare_winograd(task.spec, task.problem, made),
        declare_winograd_packing(task.spec, task.problem, made),
    )


def apply(task: Task, config: Config, declaration: Declaration) -> s_tir.Schedule:
    """Schedule run; weights that do not stay in the second-level cache are prefetched."""
    made = form(task, config)
    core = core_of(task.target)
    streamed = 4 * made.weight_elems(task.problem) > task.target.l2_bytes // 2
    return schedule_winograd(
        declaration,
        task.problem,
        made,
        config.integer("parts"),
        prefetch=streamed and core.prefetches,
        unroll=unroll_ic(made.ic_parts(task.problem)[1]) if task.target.lanes_multiply else 1,
    )


def winograd_template(template_id: str) -> Template:
    """The template under a family's id; the target's facts choose sizes and layouts."""
    return Template(
        id=template_id,
        algorithm="winograd",
        supports=supports,
        space=space,
        default=lambda task: (
            spread(task, shortlist(task)[0]) if task.threads > 1 else shortlist(task)[0]
        ),
        cycles=cycles,
        declare=declare,
        apply=apply,
        accuracy=accuracy,
        features=features,
        shortlist=shortlist,
        spread=spread,
    )
