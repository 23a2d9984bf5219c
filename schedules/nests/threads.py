"""Steps that all GPU nests share: binding, cooperative copies, unrolling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import s_tir

Loop = Any
# Float32 values of the widest load and store, 16 bytes.
VECTOR = 4
# Threads of a block where each thread works for itself.
SPREAD_THREADS = (128, 64, 32, 16)
# Statements up to which nested loops are unrolled: above any register tile of the spaces.
_UNROLL_STEPS = 1 << 14


def bind_blocks(sch: s_tir.Schedule, loops: Sequence[Loop]) -> Loop:
    """All loops as blocks along x, the only axis of a grid that is not limited to 65535."""
    fused = sch.fuse(*loops)
    sch.bind(fused, "blockIdx.x")
    return fused


def bind_threads(sch: s_tir.Schedule, loops: Sequence[Loop]) -> Loop:
    """All loops as threads, the last one fastest."""
    fused = sch.fuse(*loops)
    sch.bind(fused, "threadIdx.x")
    return fused


def spread(sch: s_tir.Schedule, loops: Sequence[Loop]) -> Loop:
    """All loops as blocks of as many threads as divide the last two; returns the threads."""
    last = int(sch.get(loops[-2]).extent) * int(sch.get(loops[-1]).extent)
    count = next((size for size in SPREAD_THREADS if last % size == 0), 1)
    block, thread = sch.split(sch.fuse(*loops), [None, count])
    sch.bind(block, "blockIdx.x")
    sch.bind(thread, "threadIdx.x")
    return thread


def unroll(sch: s_tir.Schedule, loop: Loop) -> None:
    """Have nvcc unroll this loop and those inside, so that arrays become registers."""
    sch.annotate(loop, "pragma_auto_unroll_max_step", _UNROLL_STEPS)
    sch.annotate(loop, "pragma_unroll_explicit", False)


def share(
    sch: s_tir.Schedule, stage: Any, at: Loop, order: Sequence[int], threads: int, vector: int = 1
) -> None:
    """Compute a stage's tile in shared memory, all threads of a block side by side.

    Args:
        sch: the schedule.
        stage: block of the stage.
        at: loop that a tile serves.
        order: the stage's last axes, counted from its last (-1), in the order in which threads run
            over them, fastest last.
        threads: of the block; with the vector they divide the tile.
        vector: neighbours of the last axis that a thread copies at once.
    """
    sch.set_scope(stage, 0, "shared")
    sch.compute_at(stage, at, preserve_unit_loops=True)
    loops = sch.get_loops(stage)
    chosen = [loops[axis] for axis in order]
    sch.reorder(*chosen)
    each, thread, lane = sch.split(sch.fuse(*chosen), [None, threads, vector])
    sch.bind(thread, "threadIdx.x")
    if vector > 1:
        sch.vectorize(lane)
    unroll(sch, each)


def hold(sch: s_tir.Schedule, consumer: Any, at: Loop, read: int, vector: int) -> None:
    """Copy what a step reads of shared memory into registers, by vectors of its last axis."""
    copy = sch.cache_read(consumer, read, "local")
    sch.compute_at(copy, at, preserve_unit_loops=True)
    last = sch.get_loops(copy)[-1]
    if vector > 1:
        _, lane = sch.split(last, [None, vector])
        sch.vectorize(lane)
