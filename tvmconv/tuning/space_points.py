"""Points of a space: random ones, and neighbours for annealing."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from tvmconv.space import Configs, ConfigSpace

Indices = NDArray[np.int64]
# Filters reject up to nine tenths of a grid; after this many draws per wanted point it is given up.
MAX_DRAWS = 64


def sample_valid(space: ConfigSpace, count: int, rng: np.random.Generator) -> Configs:
    """Up to ``count`` distinct valid points; all of them, shuffled, when the grid is that small."""
    size = space.grid_size
    if size <= 4 * count:
        found = space.configs().indices
        return Configs(space, rng.permutation(found)[:count])
    kept: Indices = np.zeros(0, np.int64)
    for _ in range(MAX_DRAWS // 4):
        drawn = np.unique(rng.integers(0, size, 4 * count))
        valid = rng.permutation(space.configs(np.setdiff1d(drawn, kept)).indices)
        kept = np.concatenate([kept, valid])
        if len(kept) >= count:
            break
    return Configs(space, kept[:count])


def neighbours(space: ConfigSpace, indices: Indices, rng: np.random.Generator) -> Indices:
    """For each point one that differs in one knob; the point itself where that is not valid.

    A knob moves to the next choice half of the time, and anywhere else otherwise: choices are in
    order, so near ones behave alike, and far ones leave a local optimum.
    """
    sizes = [len(choices) for choices in space.knobs.values()]
    steps = [prod(sizes[at + 1 :]) for at in range(len(sizes))]
    movable = [at for at, size in enumerate(sizes) if size > 1]
    if not movable:
        return indices
    which = rng.choice(movable, len(indices))
    size, step = np.array(sizes)[which], np.array(steps)[which]
    digit = indices // step % size
    near = np.clip(digit + rng.choice([-1, 1], len(indices)), 0, size - 1)
    far = rng.integers(0, size)
    moved = indices + (np.where(rng.random(len(indices)) < 0.5, near, far) - digit) * step
    valid = np.isin(moved, space.configs(np.unique(moved)).indices)
    result: Indices = np.where(valid, moved, indices)
    return result
