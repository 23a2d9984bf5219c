"""Validity, predicted cycles and features of many Winograd configs at once, as columns.

The counts follow the loop nest; the constants were fitted on a Zen 5 core, where a 3x3 layer of 64
channels spends three quarters of its time in the matrix products, 8 % in each transform and 7 % in
staging.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.cores import core_of
from tvmconv.declare.winograd_form import FEWER_SUMMED, MOST_SUMMED, TiledAxis, parts_of_sum
from tvmconv.problem import Axis, Problem
from tvmconv.space import Columns
from tvmconv.template import Features, Task
from tvmconv.tolerance import LONG_SUMS
from tvmconv.winograd import filtering

from . import cost
from .staging import transpose_square

Array = NDArray[Any]
# Beside accumulators and weights: one for the broadcast, and one that LLVM wants for itself.
SPARE_REGISTERS = 2
# Window, v and gemm together. A whole map of 512 channels at 28x28 takes 10 MB and pays.
SCRATCH_LIMIT_BYTES = 16_000_000
# Loads and stores of a transform, per point of a tile and vector of channels; stores a cycle.
MOVES = 2
STORES_PER_CYCLE = 1.0
# Setting a sum to zero, keeping it, and the loop around, per register tile.
SUM_CYCLES = 2.0
LOOP_CYCLES = 15.0
STAGE_PIXELS_CYCLES_PER_ELEM = 0.26
STAGE_TRANSPOSED_CYCLES_PER_ELEM = 0.45
STORE_CYCLES_PER_ELEM = 0.15
STORE_TRANSPOSED_CYCLES_PER_ELEM = 0.5
# The same with vectors of four, and loops for borders in place of masks.
COPY_FACTOR_WITHOUT_MASKS = 2.0


def unroll_ic(channels: int) -> int:
    """Input channels per iteration, where lanes multiply: whole vectors of v, else what divides."""
    return next(u for u in (16, 8, 4, 2, 1) if channels % u == 0)


@dataclass(frozen=True, eq=False)
class Tiling:
    """One axis of every config: tiles, blocks of them, and the work of its transform."""

    m: Array
    alpha: Array
    block: Array
    blocks: Array
    tiles: Array
    window: Array
    input_ops: Array
    output_ops: Array
    residues: int
    products: Array

    @classmethod
    def of(cls, axis: Axis, m: Array, blocks: Array) -> Tiling:
        """Blocks of equal size, rounded up, as TiledAxis has them."""
        step = axis.step if axis.taps > 1 else 1
        bands = -(-axis.quotients // (m * step))
        block = -(-bands // blocks)
        spread = max(axis.origins) - axis.low
        one = TiledAxis(axis, 1, 1)
        kinds, at = np.unique(m, return_inverse=True)
        transforms = [filtering(int(kind), one.taps) for kind in kinds]
        whole = (block * m + one.taps - 1) * step + spread
        return cls(
            m=m,
            alpha=m + one.taps - 1,
            block=block,
            blocks=-(-bands // block),
            tiles=block * step,
            window=(whole - 1) * axis.stride + one.residues,
            input_ops=np.array([t.input_ops for t in transforms])[at],
            output_ops=np.array([t.output_ops for t in transforms])[at],
            residues=one.residues,
            # At infinity only residues that have all taps have a product.
            products=(m + one.taps - 2) * one.residues + one.residues_at_infinity,
        )


@dataclass(frozen=True, eq=False)
class Plan:
    """What follows from configs of one task; one row each."""

    task: Task
    columns: Columns
    h: Tiling
    w: Tiling
    depth: Array
    blocks_d: Array
    blocks_oc: Array
    chunk: Array

    @classmethod
    def of(cls, task: Task, columns: Columns) -> Plan:
        """Work the columns out."""
        d, h, w = task.problem.axes
        needed = -(-task.problem.ocg // columns["tile_oc"])
        chunk = -(-needed // columns["chunks"])
        depth = -(-d.out_extent // columns["blocks_d"])
        return cls(
            task=task,
            columns=columns,
            h=Tiling.of(h, columns["m_h"], columns["blocks_h"]),
            w=Tiling.of(w, columns["m_w"], columns["blocks_w"]),
            depth=depth,
            blocks_d=-(-d.out_extent // depth),
            blocks_oc=-(-needed // chunk) * chunk,
            chunk=chunk,
        )

    @property
    def problem(self) -> Problem:
        """The task's."""
        return self.task.problem

    @property
    def tiles(self) -> Array:
        """Tiles of one block."""
        return self.h.tiles * self.w.tiles

    @property
    def points(self) -> Array:
        """Products per tile and pair of channels."""
        return self.h.alpha * self.w.alpha

    @property
    def vectors(self) -> Array:
        """Vectors of a register tile's weights."""
        return self.columns["tile_oc"] // self.task.target.lanes

    def _parts(self, chains: int) -> Array:
        """Parts of the sum in so many chains, as WinogradForm.ic_parts has them."""
        taps = self.problem.axes[0].taps * self.h.residues * self.w.residues
        runs = (FEWER_SUMMED, MOST_SUMMED)
        few, most = (parts_of_sum(self.problem.icg, taps, run, chains) for run in runs)
        return np.where(self._short_sums, few, most)

    @property
    def _short_sums(self) -> Array:
        """Whether the transforms ask for them, as run_of_sums has it."""
        return self.h.alpha + self.w.alpha > LONG_SUMS

    @property
    def chains(self) -> Array:
        """Two runs of sums side by side where one is too long and registers hold both."""
        even = self.problem.icg % (2 * self._parts(2)) == 0
        fits = 2 * self.sums + self._beside <= self.task.target.registers
        return np.where(self._short_sums & (self._parts(1) > 1) & even & fits, 2, 1)

    @property
    def parts(self) -> Array:
        """Parts of the sum."""
        return np.where(self.chains == 2, self._parts(2), self._parts(1))

    @property
    def sums(self) -> Array:
        """Vectors of outputs of a register tile."""
        return self.columns["tile_t"] * self.vectors

    @property
    def held(self) -> Array:
        """Accumulators."""
        return self.sums * self.chains

    @property
    def registers(self) -> Array:
        """Registers of a reduction step; v of several channels stays in one where lanes multiply.

        Otherwise there is a broadcast, and one that LLVM wants for itself.
        """
        needed: Array = self.held + self._beside
        return needed

    @property
    def _beside(self) -> Array:
        by_lane = self.task.target.lanes_multiply
        return self.vectors + (self.columns["tile_t"] if by_lane else SPARE_REGISTERS)

    @property
    def window_d(self) -> Array:
        """Slices of x that a block reads."""
        d = self.problem.axes[0]
        return (self.depth - 1) * d.stride + (d.taps - 1) * d.step + 1

    @property
    def channels_in(self) -> int:
        """Input channels in whole vectors."""
        target = self.task.target
        unit = target.lanes if self.problem.channels_last else transpose_square(target)
        return -(-self.problem.icg // unit) * unit

    @property
    def window_bytes(self) -> Array:
        """Staged input of a block."""
        return 4.0 * self.window_d * self.h.window * self.w.window * self.channels_in

    @property
    def slices(self) -> Array:
        """Transforms of a tile's input and vector of channels."""
        return self.window_d * self.h.residues * self.w.residues

    @property
    def terms(self) -> Array:
        """Products that are summed for a point of an output tile, in the mean."""
        each = self.problem.icg * self.problem.axes[0].taps
        terms: Array = each * self.h.products * self.w.products / self.points
        return terms

    @property
    def v_bytes(self) -> Array:
        """Transformed input of a block."""
        return 4.0 * self.points * self.tiles * self.slices * self.channels_in

    @property
    def gemm_bytes(self) -> Array:
        """Products of a block and chunk."""
        return 4.0 * self.points * self.tiles * self.chunk * self.columns["tile_oc"]

    @property
    def weight_bytes(self) -> Array:
        """Weights of one group and phase."""
        return 4.0 * self.points * self.terms * self.blocks_oc * self.columns["tile_oc"]

    @property
    def runs(self) -> Array:
        """Blocks and phases of the whole layer."""
        _, h, w = self.problem.axes
        outer = max(1, self.problem.n) * self.problem.g * h.phases * w.phases
        return outer * self.blocks_d * self.h.blocks * self.w.blocks

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Whether a config can be applied; winograd.invalid says why not."""
        asked = self.columns
        fits: NDArray[np.bool_] = (
            (self.tiles % asked["tile_t"] == 0)
            & (self.registers <= self.task.target.registers)
            & (self.blocks_d == asked["blocks_d"])
            & (self.h.blocks == asked["blocks_h"])
            & (self.w.blocks == asked["blocks_w"])
            & (self.blocks_oc // self.chunk == asked["chunks"])
            & (asked["chunks"] % asked["parts"] == 0)
            & (self.window_bytes + self.v_bytes + self.gemm_bytes <= SCRATCH_LIMIT_BYTES)
            & (self.stage_elems <= cost.MOST_ELEMS)
        )
        return fits

    @property
    def stage_elems(self) -> Array:
        """Elements of the largest stage over all blocks and chunks, as it is declared."""
        gemm = self.gemm_bytes * self.depth * self.blocks_oc // self.chunk
        elems: Array = self.runs * np.maximum(self.v_bytes, gemm) / 4
        return elems

    @property
    def summed(self) -> Array:
        """Channels of one part."""
        return -(-self.problem.icg // self.parts)

    @property
    def unrolled(self) -> Array:
        """Channels of each chain per iteration, where lanes multiply."""
        lengths, at = np.unique(self.summed // self.chains, return_inverse=True)
        return np.array([unroll_ic(int(length)) for length in lengths])[at.reshape(-1)]

    @property
    def loads(self) -> Array:
        """Loads of one reduction step; from lanes, a load serves four steps or two vectors."""
        if self.task.target.lanes_multiply:
            tiles, unrolled = self.columns["tile_t"], self.unrolled
            # Both halves of eight channels are one load while there are registers for them.
            fits = (unrolled % 8 == 0) & (self.registers + tiles <= self.task.target.registers)
            steps = np.where(fits, 8, np.minimum(unrolled, 4))
            paired: Array = tiles / steps + self.vectors / 2 + 4 / unrolled
            return paired
        plain: Array = self.columns["tile_t"] + self.vectors
        return plain

    @property
    def step_cycles(self) -> Array:
        """One reduction step of one register tile."""
        target, core = self.task.target, core_of(self.task.target)
        fma = self.sums / core.fma_per_cycle * (1.0 if target.fma else 2.0)
        loads = self.loads / core.loads_per_cycle
        step = np.maximum(np.maximum(fma, loads), core.fma_latency_cycles)
        step += (self.sums + self.loads) * core.instruction_cycles
        far = 4.0 * self.columns["tile_oc"] * self.summed > target.l1_bytes / 2
        cycles: Array = step + far * 4.0 * self.columns["tile_oc"] * core.near_cycles_per_byte
        return cycles

    @property
    def product_cycles(self) -> Array:
        """All matrix products."""
        tiles = self.points * self.depth * self.blocks_oc * self.tiles / self.columns["tile_t"]
        overhead = self.parts * (SUM_CYCLES * self.sums + LOOP_CYCLES)
        fma_per_cycle = core_of(self.task.target).fma_per_cycle
        overhead += self.parts * (self.chains - 1) * self.sums / fma_per_cycle
        return self.runs * tiles * (self.terms * self.step_cycles + overhead)

    @property
    def transform_cycles(self) -> Array:
        """Both transforms; each part of the channels transforms its input again."""
        h, w, core = self.h, self.w, core_of(self.task.target)
        moved = (1 / core.loads_per_cycle + 1 / STORES_PER_CYCLE) * self.points
        vectors_in = self.columns["parts"] * self.slices * self.channels_in
        ops_in = h.alpha * w.input_ops + w.alpha * h.input_ops
        vectors_out = self.depth * self.blocks_oc * self.columns["tile_oc"]
        ops_out = h.alpha * w.output_ops + w.m * h.output_ops
        each = (vectors_in + vectors_out) * MOVES * self.points * core.instruction_cycles
        operation = 1 / core.fma_per_cycle + core.instruction_cycles
        each += (vectors_in * ops_in + vectors_out * ops_out) * operation
        per_tile = each + (vectors_in + vectors_out) * moved
        transformed: Array = self.runs * self.tiles * per_tile / self.task.target.lanes
        return transformed

    @property
    def copy_cycles(self) -> Array:
        """Staging and storing."""
        last_in, last_out = self.problem.channels_last, self.problem.output_channels_last
        read = STAGE_PIXELS_CYCLES_PER_ELEM if last_in else STAGE_TRANSPOSED_CYCLES_PER_ELEM
        written = STORE_CYCLES_PER_ELEM if last_out else STORE_TRANSPOSED_CYCLES_PER_ELEM
        _, h, w = self.problem.axes
        windows = self.runs / (h.phases * w.phases) * self.columns["parts"]
        staged = windows * self.window_d * self.h.window * self.w.window * self.channels_in
        outputs = self.tiles * self.h.m * self.w.m * self.depth
        stored = self.runs * outputs * self.blocks_oc * self.columns["tile_oc"]
        factor = 1.0 if self.task.target.masks else COPY_FACTOR_WITHOUT_MASKS
        copied: Array = factor * (staged * read + stored * written)
        return copied

    @property
    def streamed_bytes(self) -> Array:
        """Weights once per block unless they stay beside it; v once per chunk if it does not."""
        l2 = cost.L2_SHARE * self.task.target.l2_bytes
        v, gemm, weights = self.v_bytes, self.gemm_bytes, self.weight_bytes
        chunks = self.columns["chunks"]
        moved = weights * np.where(weights + v + gemm > l2, self.runs * self.depth, 1.0)
        reread = v * (1 + chunks * self.depth) + 2 * gemm * chunks * self.depth
        return moved + np.where(v + gemm > l2, self.runs * reread, 0.0)

    @property
    def work_cycles(self) -> Array:
        """Predicted cycles on one core."""
        far = core_of(self.task.target).far_bytes_per_cycle
        streamed = cost.STALLED * self.streamed_bytes / far
        return self.product_cycles + self.transform_cycles + self.copy_cycles + streamed

    @property
    def cycles(self) -> Array:
        """Predicted cycles until the last of the task's threads is done."""
        _, h, w = self.problem.axes
        tasks = self.runs / (h.phases * w.phases) * self.columns["parts"]
        return self.work_cycles * np.ceil(tasks / self.task.threads) / tasks

    def features(self) -> Features:
        """What the cost model sees beside the knobs; see features.py for the units."""
        target = self.task.target
        return {
            "log_cycles": np.log(self.cycles),
            "product_share": self.product_cycles / self.work_cycles,
            "transform_share": self.transform_cycles / self.work_cycles,
            "copy_share": self.copy_cycles / self.work_cycles,
            "step_over_fma": self.step_cycles * core_of(target).fma_per_cycle / self.sums,
            "accumulators": self.held,
            "registers_used": self.held / target.registers,
            "vectors": self.vectors,
            "loads_per_fma": (self.columns["tile_t"] + self.vectors) / self.sums,
            "alpha_h": self.h.alpha,
            "alpha_w": self.w.alpha,
            "log_v_l2": np.log2(self.v_bytes / target.l2_bytes),
            "log_gemm_l2": np.log2(self.gemm_bytes / target.l2_bytes),
            "log_weights_l2": np.log2(self.weight_bytes / target.l2_bytes),
            "log_footprint_l2": np.log2(
                (self.v_bytes + self.gemm_bytes + self.weight_bytes) / target.l2_bytes
            ),
            "log_panel_l1": np.log2(
                4.0 * self.columns["tile_oc"] * self.problem.icg / target.l1_bytes
            ),
            "log_tiles": np.log2(self.tiles),
            "log_runs": np.log2(self.runs),
            "log_chunks": np.log2(self.columns["chunks"]),
            "log_sweeps": np.log2(self.tiles / self.columns["tile_t"]),
            "waste_h": _waste(self.problem.axes[1], self.h),
            "waste_w": _waste(self.problem.axes[2], self.w),
            "waste_oc": self.blocks_oc * self.columns["tile_oc"] / self.problem.ocg,
            "reread_h": self.h.window / (self.h.tiles * self.h.m),
            "reread_w": self.w.window / (self.w.tiles * self.w.m),
            "log_streamed": np.log2(1.0 + self.streamed_bytes),
        }


def _waste(axis: Axis, tiling: Tiling) -> Array:
    """Outputs computed per output stored."""
    return tiling.blocks * tiling.tiles * tiling.m / axis.quotients
