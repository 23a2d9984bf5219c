"""Libraries that were timed, kept so that the best can be timed again against each other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tvmconv.tuning.artifact import Artifact
from tvmconv.tuning.measure import Trial

# A library takes 20 to 100 KB.
MAX_KEPT = 2048


class Kept:
    """The newest MAX_KEPT of them; files of older ones are removed."""

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._artifacts: dict[Trial, Artifact] = {}

    def __contains__(self, trial: Trial) -> bool:
        return trial in self._artifacts

    def __getitem__(self, trial: Trial) -> Artifact:
        return self._artifacts[trial]

    def add(self, trial: Trial, artifact: Artifact) -> None:
        """Keep one more."""
        self._artifacts[trial] = artifact
        while len(self._artifacts) > MAX_KEPT:
            oldest = next(iter(self._artifacts))
            Path(self._artifacts.pop(oldest).path).unlink(missing_ok=True)

    def renew(self, trials: Iterable[Trial]) -> None:
        """Make these the newest, so that others which are built now do not take their place."""
        for trial in self._artifacts.keys() & set(trials):
            self._artifacts[trial] = self._artifacts.pop(trial)
