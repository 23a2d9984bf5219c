"""Predicted cycles and features of many Winograd configs at once, as columns.

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
from tvmconv.problem import Axis
from tvmconv.template import Features

from . import cost
from .winograd_blocks import Blocks, Tiling

Array = NDArray[Any]
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


@dataclass(frozen=True, eq=False)
class Plan(Blocks):
    """Blocks and what they cost."""

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
