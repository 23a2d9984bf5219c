"""What a tiling costs on a GPU: occupancy, waves, tensor cores, traffic. Facts in, cycles out.

All configs of a space are scored at once, as columns. A stage of a block is bounded by tensor
cores, by shared memory, by the second-level cache and by issue slots; blocks beside each other on
an SM share its rates and hide each other's latency; the last wave holds what is left. Nothing was
fitted to times: rates are data sheets', registers are what nvcc 13 took of a hundred tilings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.cuda.gemm.product import CHUNK_BYTES, Product
from tvmconv.cuda.gemm.tile import MBARRIER_BYTES, REDUCE_WARPS, STRIP_PAD, WARP, WARPGROUP
from tvmconv.gpu import Gpu

Array = NDArray[np.float64]
# Bytes that an SM takes from shared memory and from the second-level cache per cycle.
SHARED_BYTES_PER_CYCLE = 128.0
L2_BYTES_PER_CYCLE = 64.0
SCHEDULERS = 4
# Part of the data sheet's rate that mma.sync reaches; wgmma alone reaches the whole on sm_90 (Luo
# et al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture", 2024: 62 %).
MMA_SHARE = {"sm_90": 0.62, "sm_100": 0.5}
# tf32 multiplies half as many elements per cycle as types of 16 bits.
TF32_SHARE = 0.5
# Cycles: of a round trip to memory before a block can start, of starting and ending one, of a
# barrier with the loads behind it that other warps hide, and between dependent launches.
FILL_CYCLES, BLOCK_CYCLES, BARRIER_CYCLES, LAUNCH_CYCLES = 800.0, 600.0, 120.0, 2500.0
# Part of what is hidden behind the scarcest resource that delays it all the same.
OVERLAP_LOSS = 0.2
# Part of its rate that a scheduler with a single warp keeps.
LONE_WARP = 0.75
# Registers of a thread beside its sums and two steps of operands, and for each row that it copies.
OTHER_REGISTERS, ROW_REGISTERS = 28, 3
MOST_COPIES = 8
MOST_SUMS = 128
ROWS_OF_WARPGROUP = 64
REGISTER_UNIT, SHARED_UNIT = 8, 1024


@dataclass(frozen=True)
class Tilings:
    """Many tilings of one product on one GPU; each attribute holds a value per tiling.

    Attributes:
        product: the matrix product.
        gpu: limits and rates.
        macs_per_cycle: multiply-adds of one SM's tensor cores per cycle.
        columns: knobs of Tile by name: tile_m, tile_n, tile_k, warp_m, warp_n, stages, split;
            bulk, of which nothing but the mbarriers counts: nobody has timed it.
        by_warpgroups: whether four warps multiply together.
        keeps_sums: whether a later launch takes the sums as they are, of splits or not.
    """

    product: Product
    gpu: Gpu
    macs_per_cycle: float
    columns: Mapping[str, NDArray[Any]]
    by_warpgroups: bool = False
    keeps_sums: bool = False

    def __getitem__(self, name: str) -> Array:
        return np.asarray(self.columns[name], dtype=np.float64)

    @cached_property
    def warps(self) -> Array:
        """Warps of a block; a fraction where warps do not divide it."""
        return (self["tile_m"] / self["warp_m"]) * (self["tile_n"] / self["warp_n"])

    @cached_property
    def row_bytes(self) -> Array:
        """Bytes of depth in a stage."""
        return self["tile_k"] * (CHUNK_BYTES / self.product.chunk)

    @cached_property
    def copies(self) -> Array:
        """Chunks of x that a thread copies for a stage; a fraction where threads do not divide."""
        return self["tile_m"] * self.row_bytes / (CHUNK_BYTES * WARP * self.warps)

    @cached_property
    def registers(self) -> Array:
        """Registers of a thread, about."""
        sums = self["warp_m"] * self["warp_n"] / WARP
        # wgmma takes its operands from shared memory, but is unrolled further.
        operands = 36 if self.by_warpgroups else (self["warp_m"] + self["warp_n"]) / 2
        return np.minimum(255, sums + operands + ROW_REGISTERS * self.copies + OTHER_REGISTERS)

    @cached_property
    def shared_bytes(self) -> Array:
        """Dynamic shared memory of a block."""
        stages = self["stages"] * (self["tile_m"] + self["tile_n"]) * self.row_bytes
        strips = self.warps * 16 * (self["warp_n"] + STRIP_PAD) * 4
        found: Array = np.maximum(stages, np.where(self.unfinished, 0, strips))
        return found + MBARRIER_BYTES * self["stages"] * self["bulk"]

    @property
    def unfinished(self) -> NDArray[np.bool_]:
        """Whether blocks leave float32 sums for a later launch."""
        return (self["split"] > 1) | self.keeps_sums

    @cached_property
    def resident(self) -> Array:
        """Blocks that an SM holds at once; 0 where it takes none."""
        registers = _up(self.registers, REGISTER_UNIT) * WARP * self.warps
        limits = (
            np.full_like(registers, self.gpu.blocks_per_sm),
            self.gpu.threads_per_sm // (WARP * self.warps),
            self.gpu.registers_per_sm // registers,
            self.gpu.shared_bytes_per_sm // (_up(self.shared_bytes, SHARED_UNIT) + SHARED_UNIT),
        )
        fits = self.shared_bytes <= self.gpu.shared_bytes_per_block_optin
        return np.where(fits, np.minimum.reduce(limits), 0)

    @cached_property
    def depth_tiles(self) -> Array:
        """Stages that a block works through, rounded up where splits differ."""
        return np.ceil(np.ceil(self.product.depth / self["tile_k"]) / self["split"])

    @cached_property
    def tiles(self) -> Array:
        """Blocks of one split."""
        m = np.ceil(self.product.rows / self["tile_m"])
        n = np.ceil(self.product.problem.ocg / self["tile_n"])
        return m * n * self.product.slices

    @cached_property
    def blocks(self) -> Array:
        """Blocks of the launch."""
        return self.tiles * self["split"]

    @cached_property
    def busy(self) -> Array:
        """Cycles of an SM for one stage of one block, by its scarcest resource."""
        m, n = self["tile_m"], self["tile_n"]
        multiplied = m * n * self["tile_k"] / self.macs_per_cycle
        moved = (m + n) * self.row_bytes
        steps = self.row_bytes / (2 * CHUNK_BYTES)
        if self.by_warpgroups:
            # Each instruction reads its 64 rows and all channels; one warp of four issues it.
            read = (m + m / ROWS_OF_WARPGROUP * n) * self.row_bytes
            per_step = self["warp_m"] / 16
        else:
            read = self.warps * (self["warp_m"] + self["warp_n"]) * self.row_bytes
            loads = (self["warp_m"] + self["warp_n"]) / 16
            per_step = loads + self["warp_m"] * self["warp_n"] / 128
        # Then addresses and tests of copies of x, copies of weights.
        product = self.product
        each = 12 if product.together == 0 else 4 * product.chunk / product.together
        copied = each * self.copies + 3 * self.copies * n / m + 20
        issued = self.warps * (steps * per_step + copied) / SCHEDULERS
        parts = np.stack(
            [
                multiplied,
                (read + moved) / SHARED_BYTES_PER_CYCLE,
                moved / L2_BYTES_PER_CYCLE,
                issued,
            ]
        )
        slowest = parts.max(axis=0)
        busy: Array = slowest + OVERLAP_LOSS * (parts.sum(axis=0) - slowest)
        return busy

    @cached_property
    def waiting(self) -> Array:
        """Cycles of a block in which nothing of it runs: first copies, barriers, its end."""
        outputs = self["tile_m"] * self["tile_n"] * np.where(self.unfinished, 4.0, 3.0)
        stores = outputs * CHUNK_BYTES / self.product.chunk / L2_BYTES_PER_CYCLE / 2
        # Copies that run fewer stages ahead than a round trip takes are waited for.
        ahead = (self["stages"] - 1) * self.busy * np.maximum(1, self.resident)
        late = np.maximum(0.0, FILL_CYCLES - ahead) / self["stages"]
        return FILL_CYCLES + BLOCK_CYCLES + stores + self.depth_tiles * (BARRIER_CYCLES + late)

    @cached_property
    def cycles(self) -> Array:
        """Predicted cycles of the whole GPU, all launches."""
        resident = np.maximum(1, self.resident)
        full = self.blocks // (self.gpu.sms * resident)
        rest = np.ceil((self.blocks - full * self.gpu.sms * resident) / self.gpu.sms)
        work = self.depth_tiles * self.busy

        def wave(beside: Array) -> Array:
            # Warps stay with their scheduler; one alone with it waits for its own loads.
            warps = np.maximum(1, beside * self.warps)
            crowded = np.ceil(warps / SCHEDULERS) * SCHEDULERS / warps
            lonely = 1.0 if self.by_warpgroups else np.where(warps > SCHEDULERS, 1.0, LONE_WARP)
            spent: Array = np.maximum(beside * work * crowded / lonely, work + self.waiting)
            return spent

        spent = full * wave(resident) + np.where(rest > 0, wave(rest), 0)
        if self.keeps_sums:
            return np.asarray(spent)
        memory = self._tensor_bytes() / self.gpu.dram_bytes_per_cycle
        total: Array = np.maximum(spent, memory) + staging_cycles(self.product, self.gpu)
        return total + self._reduction()

    def _tensor_bytes(self) -> float:
        problem, size = self.product.problem, CHUNK_BYTES / self.product.chunk
        weights = prod((self.product.slices, self.product.depth, problem.ocg))
        return size * (problem.x_elems + weights + problem.y_elems)

    def _reduction(self) -> Array:
        """The splits' sums are written and read once; they fit the second-level cache."""
        partial = self.blocks * self["tile_m"] * self["tile_n"] * 4
        strips = self.tiles * self.warps * self["warp_m"] / 16
        busy = np.minimum(self.gpu.sms, np.ceil(strips / REDUCE_WARPS))
        read = partial / (busy * L2_BYTES_PER_CYCLE)
        written = partial / (self.gpu.sms * L2_BYTES_PER_CYCLE)
        return np.where(self["split"] > 1, LAUNCH_CYCLES + FILL_CYCLES + read + written, 0.0)

    @cached_property
    def fits(self) -> NDArray[np.bool_]:
        """Whether warps divide blocks, threads divide copies, and an SM takes a block."""
        whole = (self["tile_m"] % self["warp_m"] == 0) & (self["tile_n"] % self["warp_n"] == 0)
        even = (self.copies % 1 == 0) & (self.copies >= 1) & (self.copies <= MOST_COPIES)
        few = (self["warp_m"] * self["warp_n"] <= MOST_SUMS * WARP) & (self.warps <= 16)
        if self.by_warpgroups:
            few &= (self.warps % WARPGROUP == 0) & (self["tile_n"] == self["warp_n"])
        # A split needs stages of its own to run ahead of.
        deep = (self["split"] == 1) | (self.depth_tiles >= 2)
        useful = self["split"] <= np.ceil(self.product.depth / self["tile_k"])
        found: NDArray[np.bool_] = whole & even & few & deep & useful & (self.resident >= 1)
        return found


def staging_cycles(product: Product, gpu: Gpu) -> float:
    """Predicted cycles of the launch that copies x, 0 where none does."""
    if product.staging is None:
        return 0.0
    problem, size = product.problem, CHUNK_BYTES / product.chunk
    moved = size * (problem.x_elems + product.staging.elems(problem))
    return LAUNCH_CYCLES + moved / gpu.dram_bytes_per_cycle


def tensor_macs(gpu: Gpu, arch: str, elem_bytes: int, by_warpgroups: bool) -> float:
    """Multiply-adds of one SM per cycle by mma.sync, or by wgmma."""
    peak = 1e9 * gpu.tensor_fp16_gflops / 2 / (gpu.sms * gpu.cycles_per_s)
    share = 1.0 if by_warpgroups else MMA_SHARE.get(arch, 1.0)
    return peak * share * (1.0 if elem_bytes == 2 else TF32_SHARE)


def _up(values: Array, unit: int) -> Array:
    return np.ceil(values / unit) * unit
