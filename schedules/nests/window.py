"""From a recipe to a template: what all templates built on window_nest.py do in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

from tvm import s_tir

from tvmconv.arithmetic import ITEM_BYTES
from tvmconv.declare import Declaration, Form, declare_direct, declare_packing
from tvmconv.gpu import WARP
from tvmconv.problem import Problem
from tvmconv.space import Config, ConfigSpace
from tvmconv.template import Features, Task, Template
from tvmconv.tolerance import DIRECT

from .occupancy import (
    SHARED_BYTES_PER_CYCLE,
    Footprint,
    Work,
    as_columns,
    described,
    kernel_cycles,
)
from .product_cost import gpu_of, traffic
from .ranking import cheapest
from .window_nest import WindowNest, schedule_windows

TILE_OC = (1, 2, 4, 8, 16, 32, 64, 128)
TILE_OH = (1, 2, 4, 7, 8)
TILE_OW = (1, 2, 4)
THREADS_H = (1, 2, 4, 7, 8)
THREADS_W = (1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 64)
STAGES = ("window", "row")
MOST_THREADS = 512
# Multiply-adds in a straight line; longer ones leave the instruction cache.
MOST_UNROLLED = 1024
# Registers of a thread: of its window, and beside window and sums.
MOST_WINDOW = 96
OTHER_REGISTERS = 32
# Instructions of one element's load: address and tests, many of them shared along a row.
LOAD_INSTRUCTIONS = 6


@dataclass(frozen=True)
class WindowRecipe:
    """One template's own part.

    Attributes:
        id: template id.
        supports: reason why not, or None.
    """

    id: str
    supports: Callable[[Task], str | None]

    def template(self) -> Template:
        """The template that this recipe describes."""
        return Template(
            id=self.id,
            algorithm=DIRECT,
            supports=self.supports,
            space=self.space,
            default=self.default,
            cycles=self.cycles,
            declare=self.declare,
            apply=self.apply,
            features=self.features,
            shortlist=self.shortlist,
        )

    def space(self, task: Task) -> ConfigSpace:
        """Tiles whose windows fit the registers."""
        problem = task.problem
        _, h, w = problem.axes
        # A warp at least, however small the layer is.
        channels = _up_to(TILE_OC, max(WARP, problem.g * problem.ocg))
        return (
            ConfigSpace()
            .define_knob("tile_oc", channels)
            .define_knob("tile_oh", _up_to(TILE_OH, h.quotients))
            .define_knob("tile_ow", _up_to(TILE_OW, w.quotients))
            .define_knob("threads_h", _up_to(THREADS_H, h.quotients))
            .define_knob("threads_w", _up_to(THREADS_W, w.quotients))
            .define_knob("stage", STAGES)
            .where(lambda config: invalid(config, task))
        )

    def configs(self, task: Task) -> Iterator[Config]:
        """All valid configs."""
        knobs = self.space(task).knobs
        for values in product(*knobs.values()):
            config = Config(tuple(zip(knobs, values, strict=True)))
            if invalid(config, task) is None:
                yield config

    @lru_cache(maxsize=64)  # noqa: B019 - recipes are few and live as long as the process
    def shortlist(self, task: Task) -> tuple[Config, ...]:
        """The best by predicted cycles."""
        return cheapest(self.id, task, self.configs(task), self.cycles)

    def default(self, task: Task) -> Config:
        """The cheapest by predicted cycles."""
        return self.shortlist(task)[0]

    def cycles(self, task: Task, config: Config) -> float:
        """Predicted cycles of the whole GPU."""
        taken, work = footprint(config, task.problem), work_of(task, config)
        return kernel_cycles(gpu_of(task), taken, work, grid(config, task.problem), traffic(task))

    def features(self, task: Task, configs: Sequence[Config]) -> Features:
        """Columns for the cost model: what the prediction is made of."""
        return as_columns([self._features(task, config) for config in configs])

    def _features(self, task: Task, config: Config) -> dict[str, float]:
        taken, work = footprint(config, task.problem), work_of(task, config)
        found = described(gpu_of(task), taken, work, grid(config, task.problem))
        return found | {"unrolled": float(unrolled(config, task.problem))}

    def declare(self, task: Task, config: Config) -> tuple[Declaration, Declaration]:
        """TE of run and of pack."""
        form = form_of(config)
        return (
            declare_direct(task.spec, task.problem, form),
            declare_packing(task.spec, task.problem, form),
        )

    def apply(self, task: Task, config: Config, declaration: Declaration) -> s_tir.Schedule:
        """Schedule run."""
        return schedule_windows(declaration, form_of(config), nest_of(config, task.problem))


def form_of(config: Config) -> Form:
    """Channels of a block in the lanes, each with its own input channels."""
    tile_oh, tile_ow = config.integer("tile_oh"), config.integer("tile_ow")
    return Form(
        vector="oc",
        tile_oc=config.integer("tile_oc"),
        tile_oh=tile_oh,
        tile_ow=tile_ow,
        block_oh=tile_oh * config.integer("threads_h"),
        block_ow=tile_ow * config.integer("threads_w"),
        stage="pixels",
        per_lane=True,
    )


def nest_of(config: Config, problem: Problem) -> WindowNest:
    """Threads run along what lies together in memory."""
    return WindowNest(config.text("stage") == "row", problem.output_channels_last)


def invalid(config: Config, task: Task) -> str | None:
    """Why a config cannot be applied, or None."""
    problem = task.problem
    threads = threads_of(config)
    if threads % WARP or threads > MOST_THREADS:
        return f"{threads} threads are no whole warps up to {MOST_THREADS}"
    straight = unrolled(config, problem)
    if straight > MOST_UNROLLED:
        return f"{straight} multiply-adds in a straight line exceed {MOST_UNROLLED}"
    rows, columns = window_of(config, problem)
    if rows * columns > MOST_WINDOW:
        return f"a window of {rows * columns} exceeds {MOST_WINDOW} registers"
    return footprint(config, problem).misfit(gpu_of(task))


def threads_of(config: Config) -> int:
    """Threads of a block."""
    return prod(config.integer(name) for name in ("tile_oc", "threads_h", "threads_w"))


def unrolled(config: Config, problem: Problem) -> int:
    """Multiply-adds in a straight line."""
    _, h, w = problem.axes
    tile = config.integer("tile_oh") * config.integer("tile_ow")
    return tile * w.taps * (1 if config.text("stage") == "row" else h.taps)


def window_of(config: Config, problem: Problem) -> tuple[int, int]:
    """Rows and columns that a thread holds at once."""
    _, h, w = problem.axes
    tile_oh, tile_ow = config.integer("tile_oh"), config.integer("tile_ow")
    columns = (tile_ow - 1) * w.stride + (w.taps - 1) * w.step + 1
    if config.text("stage") == "row":
        return (tile_oh - 1) * h.stride + 1, columns
    return (tile_oh - 1) * h.stride + (h.taps - 1) * h.step + 1, columns


def footprint(config: Config, problem: Problem) -> Footprint:
    """Threads and registers of a block."""
    rows, columns = window_of(config, problem)
    sums = config.integer("tile_oh") * config.integer("tile_ow")
    return Footprint(threads_of(config), rows * columns + sums + OTHER_REGISTERS)


def grid(config: Config, problem: Problem) -> int:
    """Blocks of a launch."""
    form = form_of(config)
    quotients = form.quotients(problem)
    blocks = quotients[0] * (quotients[1] // form.block_oh) * (quotients[2] // form.block_ow)
    phases = prod(axis.phases for axis in problem.axes)
    return max(1, problem.n) * form.blocks(problem) * phases * blocks


def work_of(task: Task, config: Config) -> Work:
    """What a block does."""
    problem, form, threads = task.problem, form_of(config), threads_of(config)
    d, h, w = problem.axes
    taps = d.taps * h.taps * w.taps
    rows, columns = window_of(config, problem)
    windows = problem.icg * d.taps * (h.taps if config.text("stage") == "row" else 1)
    loads = threads * windows * rows * columns
    sums = threads * form.tile_oh * form.tile_ow
    # A warp's read takes a cycle where its elements are neighbours; else they share cache banks.
    inside = nest_of(config, problem).channels_inside
    conflicts = WARP / min(WARP, form.tile_oc) if inside else min(WARP, form.tile_ow * w.stride)
    reads = loads / WARP * conflicts * SHARED_BYTES_PER_CYCLE
    height = (form.block_oh - 1) * h.stride + (h.taps - 1) * h.step + 1
    width = (form.block_ow - 1) * w.stride + (w.taps - 1) * w.step + 1
    size = ITEM_BYTES[task.spec.dtype]
    channels = max(1, form.tile_oc * problem.icg // problem.ocg)
    row = (width + 7) // 8 * 8 / width
    sectors = max(1.0, 8.0 / channels) if problem.channels_last else row
    return Work(
        multiply_adds=sums * problem.icg * taps,
        integers=LOAD_INSTRUCTIONS * (loads + sums) + threads * problem.icg * taps,
        shared_bytes=reads,
        cached_bytes=size * (channels * d.taps * height * width * sectors + sums),
        independent=form.tile_oh * form.tile_ow,
        rounds=windows / 2,
    )


def _up_to(sizes: tuple[int, ...], extent: int) -> tuple[int, ...]:
    """Sizes up to the first that covers the extent."""
    covering = next((size for size in sizes if size >= extent), sizes[-1])
    return tuple(size for size in sizes if size <= covering)
