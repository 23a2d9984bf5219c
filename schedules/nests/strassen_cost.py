"""Validity, predicted cycles and features of many Strassen configs at once, as columns."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.cores import core_of
from tvmconv.declare.strassen_form import is_sampled, runs_of
from tvmconv.problem import Problem
from tvmconv.space import Columns
from tvmconv.strassen import ADDITIONS_IN, ADDITIONS_OUT, HALVES, PRODUCTS
from tvmconv.template import Features, Task

from . import cost
from .strassen_cut import Cut, columns_fill_lanes, cut_rows

Array = NDArray[Any]
# Copied window, sums and products together.
SCRATCH_LIMIT_BYTES = 16_000_000
# Beside accumulators and weights: one for the broadcast, and one that LLVM wants for itself.
SPARE_REGISTERS = 2
STORES_PER_CYCLE = 1.0
# Setting a sum to zero, keeping it, and the loop around, per register tile.
SUM_CYCLES = 2.0
LOOP_CYCLES = 15.0
STAGE_PIXELS_CYCLES_PER_ELEM = 0.26
STAGE_PLANES_CYCLES_PER_ELEM = 0.3
STORE_CYCLES_PER_ELEM = 0.15
STORE_TURNED_CYCLES_PER_ELEM = 0.5
# Columns of a phase are no neighbours in y: elements are stored one by one.
STORE_APART_CYCLES_PER_ELEM = 1.0


@dataclass(frozen=True, eq=False)
class Plan:
    """What follows from configs of one task; one row each."""

    task: Task
    columns: Columns
    h: Cut
    w: Cut
    parts: Array
    products: Array
    blocks_oc: Array
    chunk: Array

    @classmethod
    def of(cls, task: Task, columns: Columns) -> Plan:
        """Work the columns out; blocks are rounded up to whole tiles."""
        _, h, w = task.problem.axes
        parts = HALVES ** columns["levels"]
        needed = -(-task.problem.ocg // (parts * columns["tile_oc"]))
        chunk = -(-needed // columns["chunks"])
        rows, across = (
            -(-columns[f"block_{name}"] // columns[f"tile_{name}"]) * columns[f"tile_{name}"]
            for name in ("oh", "ow")
        )
        by_rows = cut_rows(task.problem)
        return cls(
            task=task,
            columns=columns,
            h=Cut(h, rows, rows * parts if by_rows else rows),
            w=Cut(w, across, across if by_rows else across * parts),
            parts=parts,
            products=PRODUCTS ** columns["levels"],
            blocks_oc=-(-needed // chunk) * chunk,
            chunk=chunk,
        )

    @property
    def problem(self) -> Problem:
        """The task's."""
        return self.task.problem

    @property
    def by_columns(self) -> Array:
        """Whether output columns fill the lanes."""
        by_columns: Array = self.columns["vector"] == "ow"
        return by_columns

    @property
    def turned(self) -> Array:
        """Whether results are transposed."""
        turned: Array = ~self.by_columns & (not self.problem.output_channels_last)
        return turned

    @property
    def staged(self) -> Array:
        """Whether x is copied first."""
        problem, planes = self.problem, not self.problem.channels_last
        ragged = (self.h.waste > 1) | (self.w.waste > 1)
        uneven = problem.icg % self.parts != 0
        staged: Array = problem.is_padded | uneven | (planes & ragged)
        return staged

    @property
    def vectors(self) -> Array:
        """Vectors along the lanes of a register tile."""
        across = np.where(self.by_columns, self.columns["tile_ow"], self.columns["tile_oc"])
        vectors: Array = across // self.task.target.lanes
        return vectors

    @property
    def broadcasts(self) -> Array:
        """Scalars of a register tile's reduction step."""
        other = np.where(self.by_columns, self.columns["tile_oc"], self.columns["tile_ow"])
        scalars: Array = self.columns["tile_oh"] * other
        return scalars

    @property
    def held(self) -> Array:
        """Accumulators."""
        tile = self.columns["tile_oc"] * self.columns["tile_oh"] * self.columns["tile_ow"]
        held: Array = tile // self.task.target.lanes
        return held

    @property
    def registers(self) -> Array:
        """Registers of a reduction step."""
        loaded = np.where(self.by_columns, self.columns["tile_oh"] * self.vectors, self.vectors)
        return self.held + loaded + SPARE_REGISTERS

    @property
    def channels_in(self) -> Array:
        """Input channels of a part."""
        return -(-self.problem.icg // self.parts)

    @property
    def pixels(self) -> Array:
        """Outputs of one part in a block."""
        return self.h.block * self.w.block

    @property
    def depth(self) -> int:
        """Slices of x that a block reads."""
        d = self.problem.axes[0]
        return 1 if is_sampled(d) else d.window(1) - d.low

    @property
    def phases(self) -> int:
        """Phases of a transposed convolution, which share the sums of x."""
        return prod(axis.phases for axis in self.problem.axes)

    @property
    def sum_elems(self) -> Array:
        """Elements of one sum of x."""
        return self.depth * self.h.window * self.w.window * self.channels_in

    @property
    def window_bytes(self) -> Array:
        """Copied input of a block."""
        elems = self.depth * self.h.padded * self.w.padded * self.channels_in * self.parts
        return 4.0 * np.where(self.staged, elems, 0)

    @property
    def sum_bytes(self) -> Array:
        """All sums of x of a block."""
        return 4.0 * self.products * self.sum_elems

    @property
    def gemm_bytes(self) -> Array:
        """Products of a block and chunk."""
        return 4.0 * self.products * self.pixels * self.chunk * self.columns["tile_oc"]

    @property
    def weight_bytes(self) -> Array:
        """Sums of the weights of one group."""
        taps = prod(axis.taps for axis in self.problem.axes)
        panel = self.products * taps * self.channels_in * self.columns["tile_oc"]
        return 4.0 * panel * self.blocks_oc * self.phases

    @property
    def blocks(self) -> Array:
        """Blocks of the whole layer: what threads share."""
        outer = max(1, self.problem.n) * self.problem.g * self.problem.axes[0].quotients
        return outer * self.h.blocks * self.w.blocks

    @property
    def tile_fits(self) -> NDArray[np.bool_]:
        """Whether the register tile can be applied."""
        target, asked = self.task.target, self.columns
        lanes = np.where(self.by_columns, asked["tile_ow"], asked["tile_oc"])
        allowed = ~self.by_columns | columns_fill_lanes(self.problem)
        fits: NDArray[np.bool_] = (
            allowed & (lanes % target.lanes == 0) & (self.registers <= target.registers)
        )
        return fits

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Whether a config can be applied; strassen.invalid says why not."""
        asked = self.columns
        fits: NDArray[np.bool_] = (
            self.tile_fits
            & (self.blocks_oc // self.chunk == asked["chunks"])
            & (self.window_bytes + self.sum_bytes + self.gemm_bytes <= SCRATCH_LIMIT_BYTES)
            & (self.stage_elems <= cost.MOST_ELEMS)
        )
        return fits

    @property
    def stage_elems(self) -> Array:
        """Elements of the largest stage over all blocks and chunks, as it is declared."""
        gemm = self.gemm_bytes * self.phases * self.blocks_oc // self.chunk
        largest = np.maximum(np.maximum(self.sum_bytes, gemm), self.window_bytes)
        elems: Array = self.blocks * largest / 4
        return elems

    @property
    def loads(self) -> Array:
        """Loads of one reduction step."""
        loads: Array = self.broadcasts + np.where(
            self.by_columns, self.columns["tile_oh"] * self.vectors, self.vectors
        )
        return loads

    @property
    def step_cycles(self) -> Array:
        """One reduction step of one register tile."""
        target, core = self.task.target, core_of(self.task.target)
        fma = self.held / core.fma_per_cycle * (1.0 if target.fma else 2.0)
        step = np.maximum(fma, self.loads / core.loads_per_cycle)
        step = np.maximum(step, core.fma_latency_cycles)
        step += (self.held + self.loads) * core.instruction_cycles
        panel = 4.0 * self.columns["tile_oc"] * self.reduction / self.runs
        far = panel > target.l1_bytes / 2
        cycles: Array = step + far * 4.0 * self.columns["tile_oc"] * core.near_cycles_per_byte
        return cycles

    @property
    def reduction(self) -> Array:
        """Terms of one sum."""
        return self.channels_in * prod(axis.taps for axis in self.problem.axes)

    @property
    def runs(self) -> Array:
        """Runs of one sum, as StrassenForm.runs has them."""
        taps = prod(axis.taps for axis in self.problem.axes)
        kinds, at = np.unique(self.channels_in, return_inverse=True)
        runs: Array = np.array([runs_of(int(channels), taps) for channels in kinds])[at]
        return runs

    @property
    def product_cycles(self) -> Array:
        """All products of parts."""
        tile = self.columns["tile_oh"] * self.columns["tile_ow"]
        tiles = self.phases * self.products * self.blocks_oc * self.pixels / tile
        overhead = SUM_CYCLES * self.held + LOOP_CYCLES
        each = self.reduction * self.step_cycles + self.runs * overhead
        cycles: Array = self.blocks * tiles * each
        return cycles

    @property
    def add_cycles(self) -> Array:
        """Sums of x and of products: what is read, added and written of a vector of each part."""
        core, lanes = core_of(self.task.target), self.task.target.lanes
        blocks, levels = self.parts**2, self.columns["levels"]
        steps_in, steps_out = (_additions(levels, each) for each in (ADDITIONS_IN, ADDITIONS_OUT))
        read, written = 1 / core.loads_per_cycle, 1 / STORES_PER_CYCLE
        operation = 1 / core.fma_per_cycle + core.instruction_cycles
        into = blocks * read + steps_in * operation + self.products * written
        out = self.products * read + steps_out * operation + blocks * written
        chunks = self.phases * self.pixels * self.blocks_oc * self.columns["tile_oc"]
        added: Array = self.blocks * (self.sum_elems * into + chunks * out) / lanes
        return added

    @property
    def copy_cycles(self) -> Array:
        """Staging and storing."""
        last = self.problem.channels_last
        read = STAGE_PIXELS_CYCLES_PER_ELEM if last else STAGE_PLANES_CYCLES_PER_ELEM
        stored = (
            self.blocks * self.pixels * self.parts**2 * self.blocks_oc * self.columns["tile_oc"]
        )
        each = np.where(self.turned, STORE_TURNED_CYCLES_PER_ELEM, STORE_CYCLES_PER_ELEM)
        if self.problem.axes[2].phases > 1 and not self.problem.output_channels_last:
            each = each + STORE_APART_CYCLES_PER_ELEM
        copied: Array = self.blocks * self.window_bytes / 4 * read + stored * each
        return copied

    @property
    def streamed_bytes(self) -> Array:
        """Weights once per block unless they stay beside it; so for sums and products."""
        l2 = cost.L2_SHARE * self.task.target.l2_bytes
        sums, gemm, weights = self.sum_bytes, self.gemm_bytes, self.weight_bytes
        chunks = self.columns["chunks"]
        moved = weights * np.where(weights + sums + gemm > l2, self.blocks, 1.0)
        again = sums * (1 + chunks * self.phases) + 2 * gemm * chunks * self.phases
        return moved + np.where(sums + gemm > l2, self.blocks * again, 0.0)

    @property
    def work_cycles(self) -> Array:
        """Predicted cycles on one core."""
        far = core_of(self.task.target).far_bytes_per_cycle
        streamed = cost.STALLED * self.streamed_bytes / far
        return self.product_cycles + self.add_cycles + self.copy_cycles + streamed

    @property
    def cycles(self) -> Array:
        """Predicted cycles until the last of the task's threads is done."""
        return self.work_cycles * np.ceil(self.blocks / self.task.threads) / self.blocks

    def features(self) -> Features:
        """What the cost model sees beside the knobs; see features.py for the units."""
        target = self.task.target
        return {
            "log_cycles": np.log(self.cycles),
            "product_share": self.product_cycles / self.work_cycles,
            "add_share": self.add_cycles / self.work_cycles,
            "copy_share": self.copy_cycles / self.work_cycles,
            "step_over_fma": self.step_cycles * core_of(target).fma_per_cycle / self.held,
            "accumulators": self.held.astype(np.float64),
            "vectors": self.vectors.astype(np.float64),
            "loads_per_fma": self.loads / self.held,
            "by_columns": self.by_columns.astype(np.float64),
            "turned": self.turned.astype(np.float64),
            "staged": self.staged.astype(np.float64),
            "log_sums_l2": np.log2(self.sum_bytes / target.l2_bytes),
            "log_gemm_l2": np.log2(self.gemm_bytes / target.l2_bytes),
            "log_weights_l2": np.log2(self.weight_bytes / target.l2_bytes),
            "log_footprint_l2": np.log2(
                (self.sum_bytes + self.gemm_bytes + self.weight_bytes) / target.l2_bytes
            ),
            "log_panel_l1": np.log2(
                4.0 * self.columns["tile_oc"] * self.reduction / target.l1_bytes
            ),
            "log_pixels": np.log2(self.pixels),
            "log_blocks": np.log2(self.blocks),
            "log_chunks": np.log2(self.columns["chunks"]),
            "log_reduction": np.log2(self.reduction),
            "waste_h": self.h.waste,
            "waste_w": self.w.waste,
            "waste_oc": self.parts * self.blocks_oc * self.columns["tile_oc"] / self.problem.ocg,
            "reread": self.h.window * self.w.window / self.pixels,
            "log_streamed": np.log2(1.0 + self.streamed_bytes),
        }


def _additions(levels: Array, each: int) -> Array:
    """Of all levels: each works on 7 sums of the one before, whose parts are 4 of its own."""
    two = each * (PRODUCTS + HALVES**2)
    return np.where(levels > 1, two, each)
