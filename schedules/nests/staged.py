"""What Winograd's templates of several launches share: sizes of tiles, and what transforms cost."""

from __future__ import annotations

from collections.abc import Iterator

from tvmconv.declare.winograd_form import TiledAxis
from tvmconv.problem import Axis
from tvmconv.space import Value
from tvmconv.template import Task

from . import winograd as takes
from .occupancy import Footprint, Work
from .threads import SPREAD_THREADS

# Inputs of a tile: at eight, registers spill and rounding grows.
MOST_ALPHA = 6
# Bytes of either buffer of workspace; 2^31 elements would be too many for 32-bit offsets.
MOST_WORKSPACE_BYTES = 1 << 31
# Instructions of one element: address and tests of a read, address of a write.
MOVE_INSTRUCTIONS = 10


def supports(task: Task) -> str | None:
    """What Winograd takes, with unit strides."""
    if any(axis.stride > 1 for axis in task.problem.axes[1:]):
        return "needs stride 1"
    return takes.supports(task)


def outputs_of(axis: Axis) -> tuple[int, ...]:
    """Outputs that a tile may have along an axis; one where there are no taps."""
    if axis.taps == 1:
        return (1,)
    return tuple(range(2, max(2, min(MOST_ALPHA + 1 - axis.taps, axis.quotients)) + 1))


def whole(axis: Axis, m: int) -> TiledAxis:
    """An axis in one block of tiles of m outputs."""
    return TiledAxis(axis, m, TiledAxis(axis, m, 1).bands)


def square(rows: tuple[Value, ...], columns: tuple[Value, ...]) -> Iterator[tuple[int, int]]:
    """Outputs m_h, m_w of tiles that are square, or as long as may be along one axis alone."""
    for m_h in map(int, rows):
        for m_w in map(int, columns):
            if m_h == m_w or len(rows) == 1 or len(columns) == 1:
                yield m_h, m_w


def transform_launch(
    count: int, read: int, written: int, data: float, *, values: int = 1
) -> tuple[Footprint, Work, int, float]:
    """Footprint and work of a block, blocks, and bytes through memory of a transform's launch.

    Args:
        count: threads.
        read: words of four bytes that a thread reads.
        written: those that it writes.
        data: bytes that memory moves.
        values: elements that a word stands for.
    """
    threads = SPREAD_THREADS[0]
    work = Work(
        multiply_adds=3.0 * threads * read * values,
        integers=MOVE_INSTRUCTIONS * threads * (read + written),
        shared_bytes=4.0 * threads * (read + written),
        cached_bytes=4.0 * threads * (read + written),
        independent=4.0,
        rounds=2.0,
    )
    return Footprint(threads, 2 * read * values + 32), work, -(-count // threads), data
