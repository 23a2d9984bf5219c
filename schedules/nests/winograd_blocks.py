"""How many Winograd configs at once cut a layer into blocks, as columns, and which can be applied.

One row per config: tiles and points, runs of sums and their registers, bytes of each stage. The
counts are those of winograd_form.py; winograd_cost.py makes cycles of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tvmconv.declare.winograd_form import FEWER_SUMMED, MOST_SUMMED, parts_of_sum
from tvmconv.problem import Axis, Problem
from tvmconv.space import Columns
from tvmconv.template import Task
from tvmconv.tolerance import LONG_SUMS
from tvmconv.winograd import filtering

from . import cost
from .staging import transpose_square

Array = NDArray[Any]
# Beside accumulators and weights: one for the broadcast, and one that LLVM wants for itself.
SPARE_REGISTERS = 2
# Window, v and gemm together, where the weights take no more: each block reads those again. A whole
# map of 512 channels at 28x28 takes 10 MB and pays.
SCRATCH_LIMIT_BYTES = 16_000_000
# How far a block that can be cut no further, of all interleaved maps of dilated taps, may exceed
# the weights: 2048 to 256 channels of dilation 12 at 33x33 take 59 MB beside weights of 52.
UNCUT_EXCESS = 1.25


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
        kinds, at = np.unique(m, return_inverse=True)
        transforms = [filtering(int(kind), axis.residue_taps) for kind in kinds]
        whole = (block * m + axis.residue_taps - 1) * step + spread
        return cls(
            m=m,
            alpha=m + axis.residue_taps - 1,
            block=block,
            blocks=-(-bands // block),
            tiles=block * step,
            window=(whole - 1) * axis.stride + axis.residues,
            input_ops=np.array([t.input_ops for t in transforms])[at],
            output_ops=np.array([t.output_ops for t in transforms])[at],
            residues=axis.residues,
            # At infinity only residues that have all taps have a product.
            products=(m + axis.residue_taps - 2) * axis.residues + axis.full_residues,
        )


@dataclass(frozen=True, eq=False)
class Blocks:
    """What follows from configs of one task, but for time; one row each."""

    task: Task
    columns: Columns
    h: Tiling
    w: Tiling
    depth: Array
    blocks_d: Array
    blocks_oc: Array
    chunk: Array

    @classmethod
    def of(cls, task: Task, columns: Columns) -> Self:
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
    def most_scratch_bytes(self) -> Array:
        """What window, v and gemm of a block may take."""
        uncut = (self.h.block == 1) & (self.w.block == 1)
        excess = np.where(uncut, UNCUT_EXCESS, 1.0)
        most: Array = np.maximum(SCRATCH_LIMIT_BYTES, excess * self.weight_bytes)
        return most

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
            & (self.window_bytes + self.v_bytes + self.gemm_bytes <= self.most_scratch_bytes)
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
