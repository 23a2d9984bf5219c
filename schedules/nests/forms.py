"""Many forms of one task as columns: validity and predicted cycles of a whole space at once.

The same formulas as recipe.py and cost.py have for one config; tests compare them row by row. What
depends on the register tile alone is asked of the recipe once per tile, of which a space has some
hundreds, and spread over the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.cores import core_of
from tvmconv.declare import Form
from tvmconv.problem import Problem
from tvmconv.space import Columns
from tvmconv.target import Target
from tvmconv.template import Task

from . import cost

if TYPE_CHECKING:
    from .recipe import Recipe

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tiles:
    """What follows from each row's register tile.

    Attributes:
        fits: 1 where the registers suffice, else 0.
        held: accumulators.
        loads: loads and broadcasts of a reduction step.
        fma: cycles of its multiply-adds.
        step: predicted cycles of a reduction step.
        steps: of an average tile.
        unroll_taps: tap loops that are unrolled.
        unroll_ic: input channels that are unrolled.
    """

    fits: Floats
    held: Floats
    loads: Floats
    fma: Floats
    step: Floats
    steps: Floats
    unroll_taps: Floats
    unroll_ic: Floats

    @classmethod
    def of(cls, recipe: Recipe, task: Task, columns: Columns) -> Tiles:
        """Ask the recipe once per distinct tile."""
        words, stage = np.unique(columns["stage"], return_inverse=True)
        code = stage.astype(np.int64)
        for name in ("tile_oc", "tile_oh", "tile_ow"):
            code = (code << 16) + columns[name]
        _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
        rows = [
            _of_tile(
                recipe,
                task,
                Form(
                    vector=recipe.vector,
                    tile_oc=(tile := [int(columns[f"tile_{axis}"][at]) for axis in _AXES])[0],
                    tile_oh=tile[1],
                    tile_ow=tile[2],
                    block_oh=tile[1],
                    block_ow=tile[2],
                    stage=str(words[stage[at]]),
                    per_lane=recipe.per_lane,
                ),
            )
            for at in first
        ]
        table = np.array(rows, dtype=np.float64).reshape(-1, len(fields(cls)))[inverse]
        return cls(*table.T)


_AXES = ("oc", "oh", "ow")


def _of_tile(recipe: Recipe, task: Task, form: Form) -> tuple[float, ...]:
    problem, lanes = recipe.problem(task), task.target.lanes
    loads = recipe.loads(task, form)
    return (
        float(recipe.too_wide(task, form) is None),
        cost.accumulators(form, lanes),
        loads,
        cost.fma_cycles(form, task.target),
        cost.step_cycles(problem, form, task.target, loads),
        cost.reduction_steps(problem, form),
        recipe.unroll_taps(problem, form, task.target),
        recipe.unroll_ic(problem, form, task.target),
    )


@dataclass(frozen=True, eq=False)
class Forms:
    """Columns of many forms of one problem; ``tile_oc`` to ``parts`` are floats, one per row."""

    problem: Problem
    target: Target
    vector: str
    per_lane: bool
    stage: NDArray[Any]
    tile_oc: Floats
    tile_oh: Floats
    tile_ow: Floats
    block_oh: Floats
    block_ow: Floats
    parts: Floats

    @classmethod
    def of(cls, recipe: Recipe, task: Task, columns: Mapping[str, NDArray[Any]]) -> Forms:
        """Blocks are rounded up to whole tiles."""
        tile_oc, tile_oh, tile_ow, block_oh, block_ow, parts = (
            columns[name].astype(np.float64)
            for name in ("tile_oc", "tile_oh", "tile_ow", "block_oh", "block_ow", "parts")
        )
        return cls(
            problem=recipe.problem(task),
            target=task.target,
            vector=recipe.vector,
            per_lane=recipe.per_lane,
            stage=columns["stage"],
            tile_oc=tile_oc,
            tile_oh=tile_oh,
            tile_ow=tile_ow,
            block_oh=np.ceil(block_oh / tile_oh) * tile_oh,
            block_ow=np.ceil(block_ow / tile_ow) * tile_ow,
            parts=parts,
        )

    @property
    def channels(self) -> int:
        """Output channels that share the outer loop over groups."""
        return self.problem.ocg * (self.problem.g if self.per_lane else 1)

    @property
    def groups(self) -> int:
        """Outer loop over groups."""
        return 1 if self.per_lane else self.problem.g

    @property
    def channel_blocks(self) -> Floats:
        """Blocks of tile_oc channels."""
        return np.ceil(self.channels / self.tile_oc)

    @property
    def rows(self) -> Floats:
        """Output rows per phase, rounded up to whole blocks."""
        return np.ceil(self.problem.axes[1].quotients / self.block_oh) * self.block_oh

    @property
    def columns(self) -> Floats:
        """Output columns per phase, rounded up to whole blocks."""
        return np.ceil(self.problem.axes[2].quotients / self.block_ow) * self.block_ow

    @property
    def outputs(self) -> Floats:
        """All outputs, rounding up included."""
        problem = self.problem
        phases = prod(a.phases for a in problem.axes)
        fixed = max(1, problem.n) * self.groups * phases * problem.axes[0].quotients
        return fixed * self.channel_blocks * self.tile_oc * self.rows * self.columns

    @property
    def tiles(self) -> Floats:
        """Register tiles of one run."""
        return self.outputs / (self.tile_oc * self.tile_oh * self.tile_ow)

    @property
    def windows(self) -> Floats:
        """How many windows are staged for one n and g."""
        d = self.problem.axes[0].quotients
        return d * (self.rows / self.block_oh) * (self.columns / self.block_ow)

    @property
    def window_elems(self) -> Floats:
        """Positions of one window."""
        d, h, w = self.problem.axes
        rows = (self.block_oh - 1) * h.stride + h.window(1) - h.low
        if h.is_dilated and not self.per_lane:
            rows = np.minimum(rows, h.taps * self.block_oh)
        columns = (self.block_ow - 1) * w.stride + w.window(1) - w.low
        samples = self.block_oh * self.block_ow * h.taps * w.taps
        plain = (d.window(1) - d.low) * rows * columns
        return np.where(self.stage == "sample", samples, plain)

    @property
    def window_bytes(self) -> Floats:
        """Bytes of one window."""
        shared = np.where(self.stage == "sample", float(self.problem.g), 1.0)
        sharing = self.tile_oc if self.per_lane else shared
        return 4.0 * self.window_elems * self.problem.icg * sharing

    @property
    def weight_bytes(self) -> Floats:
        """Bytes of the packed weights of one group."""
        taps = prod(a.phases * a.taps for a in self.problem.axes)
        return 4.0 * self.channel_blocks * taps * self.problem.icg * self.tile_oc

    @property
    def staged_elems(self) -> Floats:
        """Elements that the stage writes in one run."""
        problem = self.problem
        lanes = self.channel_blocks * self.tile_oc if self.per_lane else float(problem.g)
        written = max(1, problem.n) * self.windows * self.window_elems * problem.icg * lanes
        in_place = self.stage == "none"
        if not self.per_lane:
            in_place = in_place | (self.stage == "guarded")
        return np.where(in_place, 0.0, written)

    def compute_cycles(self, tiles: Tiles) -> Floats:
        """As cost.compute_cycles."""
        overhead = cost.TILE_OVERHEAD_CYCLES + tiles.held
        return self.tiles * (tiles.steps * tiles.step + overhead)

    def memory_cycles(self, stage_elem: float, store_elem: float) -> Floats:
        """As cost.memory_cycles."""
        problem, share = self.problem, cost.L2_SHARE * self.target.l2_bytes
        runs = max(1, problem.n) * self.groups * self.windows
        weights, window = self.weight_bytes, self.window_bytes
        again = 1.0 if self.per_lane else self.channel_blocks
        streamed = np.where(weights + window > share, weights * runs, 0.0)
        streamed += np.where(window > share, window * runs * again, 0.0)
        core = core_of(self.target)
        far = core.far_bytes_per_cycle
        if cost.spills_l1(problem, self.vector):
            spilled = (self.stage == "planes") & (window > self.target.l1_bytes)
            streamed += np.where(spilled, window * runs * far / cost.L2_BYTES_PER_CYCLE, 0.0)
        stalled = cost.STALLED * streamed / far
        staged = self.staged_elems * (stage_elem + core.row_cycles / self.row_elems)
        return staged + self.outputs * store_elem + stalled

    @property
    def row_elems(self) -> Floats:
        """As cost.row_elems."""
        w = self.problem.axes[2]
        lanes = self.tile_oc if self.per_lane else 1.0
        beside = np.where(self.stage == "planes", 1.0, self.problem.icg * lanes)
        return ((self.block_ow - 1) * w.stride + w.window(1) - w.low) * beside

    def tasks(self) -> Floats:
        """Pieces of work that threads share."""
        count = max(1, self.problem.n) * self.groups * self.windows
        return count * (self.channel_blocks if self.per_lane else self.parts)

    def covers(self, problem: Problem) -> NDArray[np.bool_]:
        """As recipe.covers: rounding up to whole blocks reads nothing that is not in x."""
        d, h, w = problem.axes
        inside = d.window(d.quotients) <= d.in_extent
        rows = (self.rows - 1) * h.stride + h.window(1) <= h.in_extent
        columns = (self.columns - 1) * w.stride + w.window(1) <= w.in_extent
        covered: NDArray[np.bool_] = inside & rows & columns
        return covered
