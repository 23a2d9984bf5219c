"""The FFT algorithm as a template: what it takes, its configs, and which of them are cheap.

fft_nest.py draws the loop nest and schedules it, fft_cost.py predicts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import product
from math import isfinite
from typing import Any

import numpy as np

from tvmconv.declare import Declaration
from tvmconv.declare.fft import declare_fft, declare_fft_packing
from tvmconv.declare.fft_form import NO_TRANSFORM, FftForm, SpectralAxis
from tvmconv.declare.roots import Ring
from tvmconv.errors import UnsupportedSpec
from tvmconv.problem import Axis, Problem
from tvmconv.space import Config, ConfigSpace, Value
from tvmconv.template import Features, Task, Template

from ..nests import cost, fft_cost
from ..nests.fft_nest import schedule_fft, schedule_fft_packing

Choices = tuple[Value, ...]
# Samples of a transform: 2^a or 3 * 2^a, so that some size is never far above what is needed.
SIZES = tuple(sorted({1 << a for a in range(2, 15)} | {3 << a for a in range(1, 13)}))
# Sizes of an axis that are searched, from the first that holds the kernel and one output.
MOST_SIZES = 7
RADICES = (4, 8)
BLOCKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
# Pairs of sizes whose blocks and register tiles are searched, and how many configs are handed on.
SIZES_TO_BLOCK = 4
SHORTLISTED = 64
# Scratch memory of a kernel stays below 4 MB, unless a single tile needs more.
SCRATCH_LIMIT_BYTES = 3_500_000


def supports(task: Task) -> str | None:
    """Forward specs whose columns have several taps."""
    if task.spec.op != "conv":
        return f"{task.spec.op} has a template of its own"
    if not isfinite(task.problem.pad_value):
        return "transforms would spread the padding value"
    if task.problem.axes[2].taps == 1:
        return "the columns have one tap, so there is nothing to transform"
    if axis_sizes(task.problem, task.problem.axes[2]) == ():
        return f"the kernel is longer than the longest transform, {SIZES[-1]}"
    return None


def axis_sizes(problem: Problem, axis: Axis) -> tuple[int, ...]:
    """Transforms worth trying: from one output a tile to the whole axis in one tile."""
    one = SpectralAxis.of(problem, axis)
    fitting = [size for size in SIZES if size >= one.span]
    sizes = [s for s in fitting if s < one.enough] + [s for s in fitting if s >= one.enough][:1]
    return tuple(sizes[-MOST_SIZES:])


def space(task: Task) -> ConfigSpace:
    """Sizes of the transforms, register tiles, blocks of tiles."""
    _, h, w = task.problem.axes
    rows = axis_sizes(task.problem, h) if h.taps > 1 else ()
    return (
        ConfigSpace({"size_h": (1, *rows), "size_w": axis_sizes(task.problem, w)})
        .define_knob("radix", RADICES)
        .define_knob("tile_t", (1, 2, 3, 4, 5, 6, 7))
        .define_knob("tile_b", (1, 2, 4))
        .define_knob("blocks", BLOCKS)
        .define_knob("product", ("block", "tile"))
        .where(lambda config: invalid(task, config))
    )


def form_of(task: Task, config: Config) -> FftForm:
    """The part of a config that changes the compute."""
    d, h, w = task.problem.axes
    radix = config.integer("radix")
    size_h = config.integer("size_h")
    rows = Ring(split(size_h, radix), real=False) if size_h > 1 else NO_TRANSFORM
    columns = Ring(split(config.integer("size_w") // 2, radix), real=True)
    return FftForm(
        d=SpectralAxis(d),
        h=SpectralAxis.of(task.problem, h, rows),
        w=SpectralAxis.of(task.problem, w, columns),
        block=config.integer("blocks") * config.integer("tile_t"),
        tile_t=config.integer("tile_t"),
        tile_b=config.integer("tile_b"),
        lanes=task.target.lanes,
        fused=config.text("product") == "tile",
        per_lane=is_per_lane(task.problem),
        rows_in=not task.problem.channels_last,
        rows_out=not task.problem.output_channels_last,
    )


def is_per_lane(problem: Problem) -> bool:
    """One input channel per group: lanes run across groups."""
    return problem.icg == 1 and problem.g > 1


@lru_cache(maxsize=256)
def split(points: int, most: int) -> tuple[int, ...]:
    """Radices up to ``most`` with the cheapest butterflies."""
    if points == 1:
        return ()
    ways = [(r, *split(points // r, most)) for r in (8, 4, 3, 2) if r <= most and points % r == 0]
    return min(ways, key=lambda radices: sum(fft_cost.level_cycles(r) / r for r in radices))


def invalid(task: Task, config: Config) -> str | None:
    """Why a config cannot be applied, or None."""
    form, problem = form_of(task, config), task.problem
    sums = 2 * form.tile_t * form.tile_b
    operands = 2 * form.tile_b + 1 + (not task.target.fma)
    if sums + operands > task.target.registers:
        return f"{sums} sums and {operands} operands exceed {task.target.registers} registers"
    if form.fused and (form.tile_t, form.tile_b) != (1, 1):
        return "a product inside a tile has no register tile"
    if form.per_lane and form.tile_b != 1:
        return "channels in the lanes have one vector of outputs"
    if form.block >= form.tiles(problem) + form.tile_t:
        return "fewer tiles than in a block"
    if fft_cost.scratch_bytes(problem, form) > SCRATCH_LIMIT_BYTES and form.block > form.tile_t:
        return f"the spectra exceed {SCRATCH_LIMIT_BYTES} bytes"
    if fft_cost.stage_elems(problem, form) > cost.MOST_ELEMS:
        return f"all spectra exceed {cost.MOST_ELEMS} elements"
    return None


@lru_cache(maxsize=64)
def shortlist(task: Task) -> tuple[Config, ...]:
    """The cheapest sizes by prediction, each with the blocks and register tiles that fit."""
    knobs = space(task).knobs
    radix = max(RADICES) if task.target.registers >= 32 else min(RADICES)
    found: list[tuple[float, Config]] = []

    def ranked(sizes: Iterable[tuple[Value, Value]], choices: Mapping[str, Choices]) -> None:
        found.clear()
        for (size_h, size_w), rest in product(sizes, [*product(*choices.values())]):
            chosen = dict(zip(choices, rest, strict=True))
            config = Config.of(size_h=size_h, size_w=size_w, **chosen)
            if invalid(task, config) is None:
                found.append((makespan(task, config), config))
        found.sort(key=lambda entry: entry[0])

    few: dict[str, Choices] = {"radix": (radix,), "tile_t": (1, 4, 7), "tile_b": (1, 2)}
    sizes = product(knobs["size_h"], knobs["size_w"])
    ranked(sizes, {**few, "blocks": (1, 4), "product": knobs["product"]})
    by_size = dict.fromkeys((c.integer("size_h"), c.integer("size_w")) for _, c in found)
    best = tuple(by_size)[:SIZES_TO_BLOCK]
    rest = ("tile_t", "tile_b", "blocks", "product")
    ranked(best, {"radix": (radix,), **{name: knobs[name] for name in rest}})
    if not found:
        raise UnsupportedSpec(f"fft: no config fits {task.spec} on {task.target.id}")
    return tuple(config for _, config in found[:SHORTLISTED])


def default(task: Task) -> Config:
    """The cheapest by prediction."""
    return shortlist(task)[0]


def cycles(task: Task, config: Config) -> float:
    """Predicted cycles on one core."""
    return fft_cost.cycles(task.problem, form_of(task, config), task.target)


def makespan(task: Task, config: Config) -> float:
    """Cycles until the last thread is done."""
    form = form_of(task, config)
    tasks = fft_cost.blocks(task.problem, form)
    return cycles(task, config) * -(-tasks // task.threads) / tasks


def spread(task: Task, config: Config) -> Config:
    """The same transforms in blocks that feed the task's threads."""
    items = dict(config.items)
    smaller = [b for b in BLOCKS if b <= config.integer("blocks")]
    split = [Config(tuple({**items, "blocks": b}.items())) for b in smaller]
    fitting = [c for c in split if invalid(task, c) is None]
    return min(fitting, key=lambda c: makespan(task, c))


def features(task: Task, configs: Sequence[Config]) -> Features:
    """Columns for the cost model."""
    rows = [
        fft_cost.features(task.problem, form_of(task, config), task.target, task.threads)
        for config in configs
    ]
    names = rows[0] if rows else ()
    return {name: np.array([row[name] for row in rows]) for name in names}


def declare(task: Task, config: Config) -> tuple[Declaration, Declaration]:
    """TE of run and of pack."""
    form = form_of(task, config)
    return (
        declare_fft(task.spec, task.problem, form),
        declare_fft_packing(task.spec, task.problem, form),
    )


def apply(task: Task, config: Config, declaration: Declaration) -> Any:
    """Schedule run."""
    turned = task.target.lanes if task.target.masks else 1
    return schedule_fft(declaration, task.problem, form_of(task, config), turned)


def apply_pack(task: Task, config: Config, declaration: Declaration) -> Any:
    """Schedule pack."""
    return schedule_fft_packing(declaration, form_of(task, config))


def fft_template(template_id: str) -> Template:
    """The template under a family's id; the target's facts choose sizes."""
    return Template(
        id=template_id,
        algorithm="fft",
        supports=supports,
        space=space,
        default=default,
        cycles=cycles,
        declare=declare,
        apply=apply,
        apply_pack=apply_pack,
        accuracy=lambda task, config: "fft",
        features=features,
        shortlist=shortlist,
        spread=spread,
    )
