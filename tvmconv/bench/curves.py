"""How fast tuning found its best: the best so far against the trials, from a records file.

Beside it stands what the same trials would have given in random order, as an expectation. Most of
them were proposed by the model, so that a random search of the whole space does worse still.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tvmconv.tuning.records import Record

Floats = NDArray[np.float64]
LEAST_TRIALS = 4  # fewer make no curve


@dataclass(frozen=True)
class Curve:
    """One task's search; entry n - 1 holds for n trials.

    Attributes:
        spec: text of the convolution.
        found: speed of the best so far as a share of the best of all trials.
        shuffled: the same for a random order of these trials, expected.
    """

    spec: str
    found: Floats
    shuffled: Floats

    def trials_to(self, share: float) -> int:
        """How many trials it took to reach a share of the best."""
        return int(np.argmax(self.found >= share)) + 1


def curves(records: Iterable[Record]) -> list[Curve]:
    """One curve for each task with enough trials; trials that failed count, with a speed of 0."""
    grouped: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        if record.stage == "trial":
            grouped.setdefault(record.key, []).append(record)
    found = []
    for group in grouped.values():
        seconds = np.array([record.score for record in group])
        if len(seconds) >= LEAST_TRIALS and np.isfinite(seconds).any():
            speeds = seconds.min() / seconds
            best = np.maximum.accumulate(speeds)
            found.append(Curve(group[0].spec, best, expected_best(speeds)))
    return found


def expected_best(speeds: Floats) -> Floats:
    """The expected greatest of n values drawn from these without putting back, for each n.

    With the values sorted downwards, the i-th is the greatest of a draw of n with probability
    p(1) = n / N, p(i + 1) = p(i) (N - i - n + 1) / (N - i).
    """
    ordered = np.sort(speeds)[::-1]
    total = len(ordered)
    places = np.arange(1, total)
    expected = np.empty(total)
    for n in range(1, total + 1):
        ratios = np.maximum(total - places - n + 1, 0) / (total - places)
        chances = n / total * np.concatenate([[1.0], np.cumprod(ratios)])
        expected[n - 1] = chances @ ordered
    return expected


def median_curve(many: Iterable[Floats]) -> Floats:
    """The median over curves of different lengths; a shorter one stays where it ended."""
    listed = list(many)
    length = max(map(len, listed))
    padded = [np.pad(one, (0, length - len(one)), mode="edge") for one in listed]
    return np.asarray(np.median(padded, axis=0), dtype=np.float64)
