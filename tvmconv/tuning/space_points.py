"""Points of a space: drawn at random, or all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tvmconv.space import Config, ConfigSpace

# Filters reject up to four fifths of a grid; one that rejects more than this is walked instead.
MAX_REJECTED = 50


def sample_valid(space: ConfigSpace, count: int, rng: random.Random) -> list[Config]:
    """Up to ``count`` distinct valid configs; all of them, shuffled, when there are not more."""
    size = space.grid_size
    if size <= 2 * count:
        found = list(space)
        rng.shuffle(found)
        return found[:count]
    drawn: dict[Config, None] = {}
    for index in _distinct(size, min(size, MAX_REJECTED * count), rng):
        config = space.at(index)
        if space.valid(config) is None:
            drawn[config] = None
            if len(drawn) == count:
                break
    return list(drawn)


def _distinct(size: int, count: int, rng: random.Random) -> Iterator[int]:
    seen: set[int] = set()
    for _ in range(count):
        index = rng.randrange(size)
        if index not in seen:
            seen.add(index)
            yield index
