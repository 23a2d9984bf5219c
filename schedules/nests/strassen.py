"""Strassen's product of parts as a template: what it takes, its configs, which are cheap.

The families' files draw the loop nest; strassen_nest.py schedules it, strassen_cost.py predicts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import isfinite

import numpy as np
from numpy.typing import NDArray
from tvm import s_tir

from tvmconv.cores import core_of
from tvmconv.declare import Declaration
from tvmconv.declare.strassen import declare_strassen
from tvmconv.declare.strassen_form import StrassenForm
from tvmconv.declare.strassen_packing import declare_strassen_packing
from tvmconv.errors import UnsupportedSpec
from tvmconv.space import Columns, Config, ConfigSpace, Value, columns_of, even_splits
from tvmconv.strassen import parts
from tvmconv.template import Features, Task, Template
from tvmconv.tolerance import get_accuracy

from . import cost
from .staging import transpose_square
from .strassen_cost import SCRATCH_LIMIT_BYTES, Plan
from .strassen_cut import columns_fill_lanes, cut_rows
from .strassen_nest import schedule_strassen

LEVELS = (1, 2)
# Channels of one part below which its sums cost more than an eighth of the products.
FEWEST_CHANNELS = 16
CHUNKS = (1, 2, 3, 4, 6, 8, 16)
TILE_PIXELS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 14, 16, 20, 24, 28)
MOST_ROWS = 14
TILE_CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14)
VECTORS = (1, 2, 3, 4)
MOST_BLOCKS = 64
SMALLEST_BLOCK = 7
# Configs that are ranked by the cost model, and register tiles among them for one cut.
SHORTLISTED = 80
# Of which these many register tiles, and about so many blocks along each axis.
TILES = 10
BLOCKS = 12


def supports(task: Task) -> str | None:
    """Whole channels on both sides of every product, and more than one pixel."""
    problem = task.problem
    if task.spec.op == "deform_conv":
        return "samples lie on no grid"
    if not isfinite(problem.pad_value):
        return "sums would spread the padding value"
    if any(axis.is_uneven for axis in problem.axes):
        return "the phases differ in taps"
    if min(problem.icg, problem.ocg) < parts(1) * FEWEST_CHANNELS:
        return f"needs {parts(1) * FEWEST_CHANNELS} channels on both sides"
    if problem.axes[1].quotients * problem.axes[2].quotients < parts(1):
        return "a single pixel"
    return None


def space(task: Task) -> ConfigSpace:
    """Levels, how the map is cut into blocks, and the register tile."""
    problem, lanes = task.problem, task.target.lanes
    _, h, w = problem.axes
    least = min(problem.icg, problem.ocg) // FEWEST_CHANNELS
    rows = min(MOST_ROWS, h.quotients)
    channels = {n * lanes for n in VECTORS}
    across = {n for n in TILE_PIXELS if n <= w.quotients}
    vectors = ["oc"]
    if columns_fill_lanes(problem):
        vectors.append("ow")
        channels |= set(TILE_CHANNELS)
        across |= {n * lanes for n in VECTORS}
    return (
        ConfigSpace()
        .define_knob("levels", tuple(level for level in LEVELS if parts(level) <= least))
        .define_knob("vector", vectors)
        .define_knob("tile_oc", sorted(channels))
        .define_knob("tile_oh", tuple(n for n in TILE_PIXELS if n <= rows))
        .define_knob("tile_ow", sorted(across))
        .define_knob("block_oh", _blocks(h.quotients, cut_rows(problem)))
        .define_knob("block_ow", _blocks(w.quotients, not cut_rows(problem)))
        .define_knob("chunks", CHUNKS)
        .where(
            lambda config: invalid(task, config),
            lambda columns: Plan.of(task, columns).valid & _exact_enough(task, columns),
        )
    )


def _blocks(extent: int, is_cut: bool) -> tuple[int, ...]:
    """Even splits of an axis, or of its halves and quarters, down to the smallest tiles."""
    shares = [-(-extent // parts(level)) for level in LEVELS] if is_cut else [extent]
    sizes = {size for share in shares for size in even_splits(share, MOST_BLOCKS)}
    return tuple(sorted(size for size in sizes if size >= min(*shares, SMALLEST_BLOCK)))


def invalid(task: Task, config: Config) -> str | None:
    """Why a config cannot be applied, or None."""
    error = get_accuracy(accuracy(task, config)).relative_error
    if error > task.max_error:
        return f"relative error {error:g} above max_error {task.max_error:g}"
    plan, lanes = Plan.of(task, columns_of([config])), task.target.lanes
    vector = config.text("vector")
    if vector == "ow" and not columns_fill_lanes(task.problem):
        return "columns are no neighbours in x and y"
    along = "tile_ow" if vector == "ow" else "tile_oc"
    if config.integer(along) % lanes:
        return f"{along} must be whole vectors of {lanes}"
    if plan.registers[0] > task.target.registers:
        return f"{plan.registers[0]} of {task.target.registers} registers needed"
    chunks = plan.blocks_oc[0] // plan.chunk[0]
    if chunks != config.integer("chunks"):
        return f"the channels make {chunks} chunks"
    if plan.stage_elems[0] > cost.MOST_ELEMS:
        return f"all products exceed {cost.MOST_ELEMS} elements"
    if not plan.valid[0]:
        return f"needs more than {SCRATCH_LIMIT_BYTES} bytes of scratch memory"
    return None


def form(task: Task, config: Config) -> StrassenForm:
    """Blocks of whole tiles, chunks of equal size."""
    problem, plan = task.problem, Plan.of(task, columns_of([config]))
    return StrassenForm(
        levels=config.integer("levels"),
        along=1 if cut_rows(problem) else 2,
        vector=config.text("vector"),
        tile_oc=config.integer("tile_oc"),
        tile_oh=config.integer("tile_oh"),
        tile_ow=config.integer("tile_ow"),
        block_oh=int(plan.h.block[0]),
        block_ow=int(plan.w.block[0]),
        chunk=int(plan.chunk[0]),
        staged=bool(plan.staged[0]),
        channels_last=problem.channels_last,
        output_channels_last=problem.output_channels_last,
        square=transpose_square(task.target),
    )


def accuracy(task: Task, config: Config) -> str:
    """The class of the levels."""
    return f"strassen_{config.integer('levels')}"


def _exact_enough(task: Task, columns: Columns) -> NDArray[np.bool_]:
    """Which rows keep to the task's max_error."""
    allowed = [
        level
        for level in LEVELS
        if get_accuracy(f"strassen_{level}").relative_error <= task.max_error
    ]
    exact: NDArray[np.bool_] = np.isin(columns["levels"], allowed)
    return exact


def cycles(task: Task, config: Config) -> float:
    """Predicted cycles on one core."""
    return float(Plan.of(task, columns_of([config])).work_cycles[0])


@lru_cache(maxsize=64)
def shortlist(task: Task) -> tuple[Config, ...]:
    """The cheapest by prediction: a few register tiles with every cut of the map."""
    knobs = space(task).knobs
    tiles = _register_tiles(task)
    blocks = list(product(*(_thinned(knobs[name]) for name in ("block_oh", "block_ow"))))
    cuts = np.array(list(product(knobs["levels"], CHUNKS, range(len(tiles)), range(len(blocks)))))
    tile, block = np.array(tiles)[cuts[:, 2]], np.array(blocks)[cuts[:, 3]]
    columns = {
        "levels": cuts[:, 0],
        "vector": tile[:, 0],
        "tile_oc": tile[:, 1].astype(np.int64),
        "tile_oh": tile[:, 2].astype(np.int64),
        "tile_ow": tile[:, 3].astype(np.int64),
        "block_oh": block[:, 0],
        "block_ow": block[:, 1],
        "chunks": cuts[:, 1],
    }
    plan = Plan.of(task, columns)
    keep = np.flatnonzero(plan.valid & _exact_enough(task, columns))
    if not len(keep):
        raise UnsupportedSpec(f"strassen: no config fits {task.spec} on {task.target.id}")
    best = keep[np.argsort(plan.cycles[keep], kind="stable")[:SHORTLISTED]]
    return tuple(Config(tuple((name, columns[name][row].item()) for name in knobs)) for row in best)


def _register_tiles(task: Task) -> list[tuple[str, int, int, int]]:
    """Those that compute an output in the fewest cycles, remainders at the borders included."""
    knobs = space(task).knobs
    names = ("vector", "tile_oc", "tile_oh", "tile_ow")
    tiles = list(product(*(knobs[name] for name in names)))
    columns = dict(
        zip(names, (np.array(column) for column in zip(*tiles, strict=True)), strict=True)
    )
    whole = dict(levels=1, chunks=1)
    for name, axis in zip(("block_oh", "block_ow"), task.problem.axes[1:], strict=True):
        whole[name] = -(-axis.quotients // parts(1))
    columns |= {name: np.full(len(tiles), value) for name, value in whole.items()}
    plan = Plan.of(task, columns)
    fits = np.flatnonzero(plan.tile_fits)
    best = fits[np.argsort(plan.product_cycles[fits], kind="stable")[:TILES]]
    return [tiles[row] for row in best]


def _thinned(sizes: tuple[Value, ...]) -> tuple[Value, ...]:
    """The whole, and some of the others."""
    return sizes[:: -max(1, len(sizes) // BLOCKS)]


def spread(task: Task, config: Config) -> Config:
    """The config with smaller blocks, where that keeps the threads busy."""
    knobs, items = space(task).knobs, dict(config.items)
    found = [config]
    for block_oh, block_ow in product(knobs["block_oh"], knobs["block_ow"]):
        if int(block_oh) > int(items["block_oh"]) or int(block_ow) > int(items["block_ow"]):
            continue
        candidate = Config(tuple({**items, "block_oh": block_oh, "block_ow": block_ow}.items()))
        if invalid(task, candidate) is None:
            found.append(candidate)
    return found[int(np.argmin(Plan.of(task, columns_of(found)).cycles))]


def features(task: Task, configs: Sequence[Config]) -> Features:
    """Columns for the cost model."""
    return Plan.of(task, columns_of(configs)).features()


def declare(task: Task, config: Config) -> tuple[Declaration, Declaration]:
    """TE of run and of pack."""
    made = form(task, config)
    return (
        declare_strassen(task.spec, task.problem, made),
        declare_strassen_packing(task.spec, task.problem, made),
    )


def apply(task: Task, config: Config, declaration: Declaration) -> s_tir.Schedule:
    """Schedule run; weights that do not stay in the second-level cache are prefetched."""
    made = form(task, config)
    streamed = 4 * made.weight_elems(task.problem) > task.target.l2_bytes // 2
    prefetch = streamed and core_of(task.target).prefetches and made.vector == "oc"
    return schedule_strassen(declaration, task.problem, made, task.target.lanes, prefetch)


def strassen_template(template_id: str) -> Template:
    """The template under a family's id; the target's facts choose sizes and layouts."""
    return Template(
        id=template_id,
        algorithm="strassen",
        supports=supports,
        space=space,
        default=lambda task: shortlist(task)[0],
        cycles=cycles,
        declare=declare,
        apply=apply,
        accuracy=accuracy,
        features=features,
        shortlist=shortlist,
        spread=spread,
    )
