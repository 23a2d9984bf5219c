"""What a kernel's threads cost on a GPU: occupancy, waves, arithmetic, traffic.

A prediction for ranking configs, made of bounds: issue slots and shared memory of an SM, the second
level cache and the memory of the whole GPU, stretched where too few warps are there to hide latency
(Volkov, "Understanding Latency Hiding on GPUs", 2016). Nothing in it was fitted to measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tvmconv.gpu import WARP, Gpu
from tvmconv.template import Features

# Bytes that an SM takes from shared memory and from the second-level cache per cycle.
SHARED_BYTES_PER_CYCLE = 128
L2_BYTES_PER_CYCLE = 64
# Integer instructions of an SM per cycle, on every generation since Volta.
INTEGER_LANES = 64
# Warps with which an SM reaches half its rate; four schedulers each want more than one.
HALF_WARPS = 3.0
# Exponent by which bounds that act at once add up: two equal ones take a quarter longer than one.
OVERLAP = 3.0
# Independent multiply-adds of a thread beyond which more do not help.
INDEPENDENT = 16.0
# Cycles of a round trip to the second-level cache and a barrier, and of a block's start and end.
LATENCY_CYCLES = 400
BLOCK_CYCLES = 800
# Cycles of an SM that every block costs it, however many run beside each other.
LAUNCH_CYCLES = 100
# Cycles between dependent launches of one stream, about two microseconds.
KERNEL_CYCLES = 3500
# Registers and shared memory are handed out in units of these.
REGISTER_UNIT = 8
SHARED_UNIT_BYTES = 1024


@dataclass(frozen=True)
class Footprint:
    """What one block of a kernel takes of its SM.

    Attributes:
        threads: threads of the block.
        registers: registers of a thread.
        shared_bytes: shared memory of the block.
    """

    threads: int
    registers: int
    shared_bytes: int = 0

    def misfit(self, gpu: Gpu) -> str | None:
        """Why no SM takes the block, or None."""
        if self.threads > gpu.threads_per_block:
            return f"{self.threads} threads exceed {gpu.threads_per_block} of a block"
        if self.registers > gpu.registers_per_thread:
            return f"about {self.registers} registers exceed {gpu.registers_per_thread} of a thread"
        if self.registers * self.threads > gpu.registers_per_sm:
            return f"{self.threads} threads of {self.registers} registers exceed those of an SM"
        if self.shared_bytes > gpu.shared_bytes_per_block:
            return f"{self.shared_bytes} bytes exceed {gpu.shared_bytes_per_block} of shared memory"
        return None

    def blocks_per_sm(self, gpu: Gpu) -> int:
        """Blocks that an SM holds at once; at least one, where it holds any."""
        registers = _up(self.registers, REGISTER_UNIT) * _up(self.threads, WARP)
        shared = _up(self.shared_bytes + SHARED_UNIT_BYTES, SHARED_UNIT_BYTES)
        limits = (
            gpu.blocks_per_sm,
            gpu.threads_per_sm // _up(self.threads, WARP),
            gpu.registers_per_sm // registers,
            gpu.shared_bytes_per_sm // shared,
        )
        return max(1, min(limits))


@dataclass(frozen=True)
class Work:
    """What one block does from start to end; all counts are of the whole block.

    Attributes:
        multiply_adds: float32 multiply-adds, padding of tiles included.
        integers: other instructions, counted by thread: addresses, tests, conversions.
        shared_bytes: bytes through shared memory, repeated reads of a warp not counted.
        cached_bytes: bytes asked of the second-level cache.
        independent: multiply-adds of a thread that do not wait for each other.
        rounds: times that all threads wait for memory.
    """

    multiply_adds: float
    integers: float
    shared_bytes: float
    cached_bytes: float
    independent: float
    rounds: float


def kernel_cycles(
    gpu: Gpu, footprint: Footprint, work: Work, blocks: int, dram_bytes: float
) -> float:
    """Predicted cycles of one launch."""
    resident = min(footprint.blocks_per_sm(gpu), -(-blocks // gpu.sms))
    waves = -(-blocks // (gpu.sms * resident))
    warps = resident * -(-footprint.threads // WARP)
    ready = warps * min(1.0, work.independent / INDEPENDENT)
    hidden = ready / (ready + HALF_WARPS)
    issue = work.multiply_adds / gpu.fp32_lanes_per_sm + work.integers / INTEGER_LANES
    busy = _together(
        issue / hidden,
        work.shared_bytes / SHARED_BYTES_PER_CYCLE,
        work.cached_bytes / L2_BYTES_PER_CYCLE,
    )
    waiting = work.rounds * LATENCY_CYCLES + BLOCK_CYCLES
    # Blocks beside each other share the SM's rates and hide each other's waiting.
    wave = max(resident * (busy + LAUNCH_CYCLES), busy + waiting)
    return KERNEL_CYCLES + _together(waves * wave, dram_bytes / gpu.dram_bytes_per_cycle)


def described(gpu: Gpu, footprint: Footprint, work: Work, blocks: int) -> dict[str, float]:
    """What a prediction is made of, by name: features for the cost model."""
    resident = footprint.blocks_per_sm(gpu)
    return {
        "blocks": float(blocks),
        "threads": float(footprint.threads),
        "registers": float(footprint.registers),
        "shared_bytes": float(footprint.shared_bytes),
        "resident": float(resident),
        "waves": blocks / (gpu.sms * resident),
        "multiply_adds": work.multiply_adds * blocks,
        "integers": work.integers * blocks,
        "shared_traffic": work.shared_bytes * blocks,
        "cached_traffic": work.cached_bytes * blocks,
        "independent": work.independent,
        "rounds": work.rounds,
    }


def as_columns(rows: Sequence[Mapping[str, float]]) -> Features:
    """Rows of features as columns; none where there are no rows."""
    names = list(rows[0]) if rows else []
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}


def _together(*bounds: float) -> float:
    """Time of things that overlap, though not all the time."""
    return float(sum(bound**OVERLAP for bound in bounds) ** (1 / OVERLAP))


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
