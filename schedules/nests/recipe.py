"""From a recipe to a template: what all templates built on nest.py do in the same way.

A recipe says which tiles may be tried, how a config becomes a Form and a Nest, and what a step
costs; this file turns it into a space with a validity filter, an analytic default and an apply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import inf

from tvm import s_tir

from tvmconv.cores import core_of
from tvmconv.declare import Declaration, Form, declare_direct, declare_packing
from tvmconv.declare.im2col import neighbours, unfolded
from tvmconv.errors import UnsupportedSpec
from tvmconv.problem import Problem
from tvmconv.space import Config, ConfigSpace, columns_of, even_splits
from tvmconv.spec import ConvSpec
from tvmconv.target import Target
from tvmconv.template import Features, Task, Template
from tvmconv.tolerance import DIRECT

from . import cost
from .choices import covers
from .features import form_features, valid_rows
from .nest import Nest, schedule_nest

# Tiles whose blocks are searched; the ranking of tiles hardly depends on the blocks.
TILES_TO_BLOCK = 6
# The same where there are no blocks to search.
TILES_UNBLOCKED = 18
# Scratch memory of a kernel stays below 4 MB, unless a single tile needs more.
WINDOW_LIMIT_BYTES = 3_500_000
# Into how many rows and columns of blocks an output is split at most.
MOST_ROWS = 32
MOST_COLUMNS = 512
# Predictions of blocks for several threads that differ by less say nothing.
NEARLY_EQUAL = 1.01
# Of x that is so many times the second-level cache, the next tile's columns are asked for.
FAR_SHARE = 4
# How far a load of 128 bits reaches from its pointer.
OFFSET_BYTES = 65536
# Input channels that are unrolled inside the taps instead of looped over.
FEW_CHANNELS = 4


@dataclass(frozen=True)
class Recipe:
    """One template's own part.

    Attributes:
        id: template id.
        supports: reason why not, or None.
        vector: which axis fills the lanes, "oc" or "ow".
        per_lane: whether each lane has its own input channels.
        tiles: choices of tile_oc, tile_oh and tile_ow.
        stages: ways to read x.
        loads: vector loads and broadcasts of one reduction step of one tile.
        stage_elem: cycles to stage one element.
        store_elem: cycles to store one element.
        unroll_taps: how many tap loops to unroll for a form.
        unroll_ic: input channels per iteration for a form.
        declare_run: TE of run.
        unfold: whether taps are gathered into columns first, so that the nest sees none.
        algorithm: what ``algorithm=`` selects.
        square: side of the squares in which channels-first x becomes pixels.
        operands: registers of a step beside its accumulators, where they are not one for a
            broadcast and one for each vector of weights.
        rows_innermost: tap rows run innermost even with many channels: where LLVM unrolls the
            innermost taps by itself, columns would share loads that no register is left for.
    """

    id: str
    supports: Callable[[Task], str | None]
    vector: str
    per_lane: bool
    tiles: Callable[[Task], dict[str, tuple[int, ...]]]
    stages: Callable[[Task], tuple[str, ...]]
    loads: Callable[[Task, Form], float]
    stage_elem: Callable[[Problem], float]
    store_elem: Callable[[Problem], float]
    unroll_taps: Callable[[Problem, Form, Target], int]
    unroll_ic: Callable[[Problem, Form, Target], int]
    declare_run: Callable[[ConvSpec, Problem, Form], Declaration] = declare_direct
    unfold: bool = False
    algorithm: str = DIRECT
    square: int = 16
    operands: Callable[[Task, Form], int] | None = None
    rows_innermost: bool = False

    def template(self) -> Template:
        """The template that this recipe describes."""
        return Template(
            id=self.id,
            algorithm=self.algorithm,
            supports=self.supports,
            space=self.space,
            default=self.default,
            cycles=self.cycles,
            declare=self.declare,
            apply=self.apply,
            features=self.features,
            shortlist=self.shortlist,
            spread=self.spread,
        )

    def problem(self, task: Task) -> Problem:
        """What the nest has to compute."""
        return unfolded(task.problem) if self.unfold else task.problem

    def form(self, config: Config) -> Form:
        """Blocks are rounded up to whole tiles."""
        tile_oh, tile_ow = config.integer("tile_oh"), config.integer("tile_ow")
        return Form(
            vector=self.vector,
            tile_oc=config.integer("tile_oc"),
            tile_oh=tile_oh,
            tile_ow=tile_ow,
            block_oh=-(-config.integer("block_oh") // tile_oh) * tile_oh,
            block_ow=-(-config.integer("block_ow") // tile_ow) * tile_ow,
            stage=config.text("stage"),
            per_lane=self.per_lane,
            square=self.square,
        )

    def space(self, task: Task) -> ConfigSpace:
        """Tiles that fit the registers, blocks that split the output evenly."""
        _, h, w = self.problem(task).axes
        return (
            ConfigSpace(self.tiles(task))
            .define_split("block_oh", h.quotients, MOST_ROWS)
            .define_split("block_ow", w.quotients, MOST_COLUMNS)
            .define_knob("parts", (1,) if task.threads == 1 else (1, 2, 4, 8, 16))
            .define_knob("stage", self.stages(task))
            .where(
                lambda config: self.invalid(task, config),
                lambda columns: valid_rows(self, task, columns, WINDOW_LIMIT_BYTES),
            )
        )

    def invalid(self, task: Task, config: Config) -> str | None:
        """Why a config cannot be applied, or None."""
        form = self.form(config)
        reason = self.too_wide(task, form)
        if reason is not None:
            return reason
        if form.blocks(self.problem(task)) % config.integer("parts"):
            return "parts must divide the channel blocks"
        if form.stage == "none" and not covers(task.problem, form):
            return "whole tiles would read past the end of x"
        smallest = (form.block_oh, form.block_ow) == (form.tile_oh, form.tile_ow)
        copied = form.stage != "guarded" or form.per_lane
        large = cost.window_bytes(self.problem(task), form) > WINDOW_LIMIT_BYTES
        if large and copied and not smallest:
            return f"the staged window exceeds {WINDOW_LIMIT_BYTES} bytes"
        return None

    def too_wide(self, task: Task, form: Form) -> str | None:
        """Why a register tile spills, or None."""
        lanes, registers = task.target.lanes, task.target.registers
        held = cost.accumulators(form, lanes)
        operands = form.tile_oc // cost.vector_width(form, lanes) + 1
        if self.operands is not None:
            operands = self.operands(task, form)
        elif self.vector == "ow":
            # With few channels a column of weights stays in registers too (rows_innermost).
            few = self.problem(task).icg <= FEW_CHANNELS
            operands = 2 + (min(self.problem(task).axes[1].taps, registers // 4) if few else 0)
        if not task.target.fma:
            operands += 1
        if held + operands > registers:
            return f"{held} accumulators and {operands} operands exceed {registers} registers"
        return None

    @lru_cache(maxsize=64)  # noqa: B019 - recipes are few and live as long as the process
    def default(self, task: Task) -> Config:
        """The cheapest of the shortlist, by predicted cycles."""
        return min(self.shortlist(task), key=lambda c: self.makespan(task, c))

    @lru_cache(maxsize=64)  # noqa: B019 - as above
    def shortlist(self, task: Task) -> tuple[Config, ...]:
        """The best tiles by predicted cycles, each with every block that makes sense."""
        blocked: list[Config] = []
        for stage in self.stages(task):
            tiles = sorted(self._tiles_that_fit(task, stage), key=lambda c: self.cycles(task, c))
            few = TILES_TO_BLOCK if self._has_blocks(task, stage) else TILES_UNBLOCKED
            blocked += [c for t in tiles[:few] for c in self._blocked(task, t)]
        if task.threads > 1:
            blocked.sort(key=lambda c: self.cycles(task, c))
            blocked = [c for b in blocked[:TILES_TO_BLOCK] for c in self._split(task, b)]
        if blocked:
            return tuple(dict.fromkeys(blocked))
        raise UnsupportedSpec(f"{self.id}: no config fits {task.spec} on {task.target.id}")

    def _few(self, task: Task) -> bool:
        """Whether columns fill the lanes and input channels are few."""
        return self.vector == "ow" and self.problem(task).icg <= FEW_CHANNELS

    def _reach(self, task: Task) -> float:
        """Bytes of a window within which loads of a few channels' planes are offsets of a pointer.

        Beyond, each has an address of its own, and sums spill (7x7 of three channels: 9 %).
        """
        problem = self.problem(task)
        if self._few(task) and problem.icg > 1 and task.target.lanes_multiply:
            return float(problem.icg * OFFSET_BYTES)
        return inf

    def _has_blocks(self, task: Task, stage: str) -> bool:
        """Whether blocks matter: not to one thread that copies nothing and uses x once."""
        once = stage == "guarded" and self.problem(task).icg == 1
        return self.per_lane or not once or task.threads > 1

    def _tiles_that_fit(self, task: Task, stage: str) -> Iterator[Config]:
        """Register tiles, each as a config whose block is the whole output."""
        tiles = self.tiles(task)
        _, h, w = self.problem(task).axes
        for sizes in product(*tiles.values()):
            config = Config.of(
                **dict(zip(tiles, sizes, strict=True)),
                block_oh=h.quotients,
                block_ow=w.quotients,
                parts=1,
                stage=stage,
            )
            if self.too_wide(task, self.form(config)) is None:
                yield config

    def _blocked(self, task: Task, tile: Config) -> Iterator[Config]:
        """Blocks from the whole output down to the first whose window takes a third of L2."""
        _, h, w = self.problem(task).axes
        if not self._has_blocks(task, tile.text("stage")):
            yield tile
            return
        # x spread over lanes is as large as icg copies; an eighth of L2 measured 10 % faster there.
        limit = task.target.l2_bytes // (8 if self.per_lane and self.problem(task).icg > 1 else 3)
        if cost.spills_l1(self.problem(task), self.vector):
            limit = task.target.l1_bytes // 2
        reach = self._reach(task)
        columns, rows = even_splits(w.quotients, MOST_COLUMNS), even_splits(h.quotients, MOST_ROWS)

        def sized(block_oh: int, block_ow: int) -> tuple[Config, float]:
            items = {**dict(tile.items), "block_oh": block_oh, "block_ow": block_ow}
            config = Config(tuple(items.items()))
            return config, cost.window_bytes(self.problem(task), self.form(config))

        for block_ow in reversed(columns):
            if block_ow > columns[0] and sized(rows[0], block_ow)[1] > WINDOW_LIMIT_BYTES:
                continue
            fitted = False
            for block_oh in reversed(rows):
                config, window = sized(block_oh, block_ow)
                near = window <= reach or block_oh == rows[0]
                if near and self.invalid(task, config) is None:
                    yield config
                fitted = window <= min(limit, reach)
                if fitted:
                    break
            if fitted and block_oh == h.quotients and block_ow <= w.quotients // 2:
                return

    def _split(self, task: Task, config: Config) -> Iterator[Config]:
        """The config, and the same with smaller blocks and more parts, to feed several threads."""
        items = dict(config.items)
        blocks = self.form(config).blocks(self.problem(task))
        parts = [p for p in (1, 2, 4, 8) if blocks % p == 0 and (p == 1 or not self.per_lane)]
        all_rows, all_columns = (self.space(task).knobs[name] for name in ("block_oh", "block_ow"))
        rows = [r for r in map(int, all_rows) if r <= int(items["block_oh"])]
        columns = [c for c in map(int, all_columns) if c <= int(items["block_ow"])]
        for part, block_oh, block_ow in product(parts, rows[-5:], columns[-3:]):
            split = {**items, "block_oh": block_oh, "block_ow": block_ow, "parts": part}
            candidate = Config(tuple(split.items()))
            if self.invalid(task, candidate) is None:
                yield candidate

    def spread(self, task: Task, config: Config) -> Config:
        """A one-thread config with blocks and parts that feed the task's threads.

        Rows stay as long as they are where that costs nothing: 1 to 64 channels at 572x572, 83 MB,
        took two threads 2.7 ms in half rows of 1140 bytes, 1.9 ms in whole ones.
        """
        split = {c: self.makespan(task, c) for c in (config, *self._split(task, config))}
        best = min(split, key=split.__getitem__)
        long_rows = (config.integer("block_ow"), best.integer("parts"))
        near = [
            c
            for c, cycles in split.items()
            if cycles <= NEARLY_EQUAL * split[best]
            and (c.integer("block_ow"), c.integer("parts")) == long_rows
        ]
        return min(near, key=split.__getitem__, default=best)

    def features(self, task: Task, configs: Sequence[Config]) -> Features:
        """Columns for the cost model."""
        return form_features(self, task, columns_of(configs))

    def makespan(self, task: Task, config: Config) -> float:
        """Cycles until the last thread is done; each channel part stages its input itself."""
        form, problem = self.form(config), self.problem(task)
        parts = config.integer("parts")
        tasks = max(1, problem.n) * form.groups(problem) * cost.blocks(problem, form)
        tasks *= form.blocks(problem) if form.per_lane else parts
        restaged = (parts - 1) * cost.staged_elems(problem, form) * self.stage_elem(problem)
        rounds = -(-tasks // task.threads)
        return (self.cycles(task, config) + restaged) * rounds / tasks

    def cycles(self, task: Task, config: Config) -> float:
        """Predicted cycles on one core."""
        form, problem, target = self.form(config), self.problem(task), task.target
        compute = cost.compute_cycles(problem, form, target, self.loads(task, form))
        stage, store = self.stage_elem(problem), self.store_elem(problem)
        return compute + cost.memory_cycles(problem, form, target, stage, store)

    def _streams(self, task: Task) -> bool:
        """Whether channels are planes, many and large, each a stream from the far cache."""
        problem = task.problem
        planes = not problem.channels_last and problem.icg > FEW_CHANNELS
        large = 4 * problem.x_elems > FAR_SHARE * task.target.l2_bytes
        return core_of(task.target).prefetches and planes and large

    def declare(self, task: Task, config: Config) -> tuple[Declaration, Declaration]:
        """TE of run and of pack."""
        form = self.form(config)
        return (
            self.declare_run(task.spec, task.problem, form),
            declare_packing(task.spec, task.problem, form),
        )

    def apply(self, task: Task, config: Config, declaration: Declaration) -> s_tir.Schedule:
        """Schedule run."""
        form, problem = self.form(config), self.problem(task)
        nest = Nest(
            lanes=cost.vector_width(form, task.target.lanes),
            parts=config.integer("parts"),
            unroll_ic=self.unroll_ic(problem, form, task.target),
            unroll_taps=self.unroll_taps(problem, form, task.target),
            rows_innermost=self.rows_innermost or self._few(task),
            rows_slide=task.target.registers >= 32 and not task.target.masks and self._few(task),
            unfold=neighbours(task.problem) if self.unfold else None,
            masks=task.target.masks,
            prefetch_x=self._streams(task),
        )
        return schedule_nest(declaration, problem, form, nest, task.problem)
