"""Memory for large results, whose pages stay mapped from one call to the next.

Allocators give large blocks back to the system (glibc from 32 MB up), so the pages of every new
result would fault and be zeroed once more before a kernel writes them. A result's memory is lent
instead: it comes back when the last array or tensor upon it is gone, and serves the next result
of that size.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Results from here on, in float32 values: 32 MB.
LARGE_ELEMS = 8 << 20
# Most memory that waits for a next result.
KEPT_BYTES = 256 << 20

Memory = NDArray[np.float32]
# By size. Lists are popped and appended to in one step each, so no thread needs a lock, which a
# result that dies in the middle of `lend` would wait for forever.
_free: dict[int, list[Memory]] = {}


class _Lease:
    """What a lent array keeps alive; its end is the end of every view."""

    __slots__ = ("memory",)

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.memory.__array_interface__

    def __del__(self) -> None:
        if not sys.is_finalizing():
            _take_back(self.memory)


def lend(elems: int) -> Memory:
    """An uninitialised array, on pages that an earlier one of this size has left if there are."""
    try:
        memory = _free[elems].pop()
    except (KeyError, IndexError):
        memory = np.empty(elems, np.float32)
    return np.asarray(_Lease(memory))


def waiting_bytes() -> int:
    """How much memory waits for a next result."""
    return sum(elems * 4 * len(some) for elems, some in list(_free.items()))


def _take_back(memory: Memory) -> None:
    """Keep it; if that becomes too much, forget what other sizes have left."""
    if waiting_bytes() + memory.nbytes > KEPT_BYTES:
        _free.clear()
    if memory.nbytes <= KEPT_BYTES:
        _free.setdefault(memory.size, []).append(memory)
