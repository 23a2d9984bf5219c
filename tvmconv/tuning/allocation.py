"""Which layer gets the next trials: where a second of tuning is expected to save most.

A trial of a layer is expected to save ``weight * seconds * rate`` of the network's time. The rate,
relative improvement per trial, is what the last trials brought, plus a hope that fades with the
number of trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Hope: at 8 trials 0.5 % per trial, at 40 trials 0.1 %, about what tuned networks showed.
HOPE = 0.3
HOPE_TRIALS = 8
HOPE_POWER = 1.5
# Weight of the newest batch in the running rate of improvement, and what of it will go on.
NEWEST = 0.3
CONTINUED = 0.5
# An improvement below this is noise (tuning.md: minimum CPU times repeat to 1 %).
SIGNIFICANT = 0.01


@dataclass
class Pace:
    """How a layer's search goes.

    Attributes:
        weight: how often the layer occurs.
        patience: trials without improvement after which the layer is done.
        best: least seconds so far.
        trials: how many were handed out.
        measured: how many came back.
        rate: running relative improvement per trial.
        stale: trials since the last significant improvement.
        trial_seconds: what a trial takes.
    """

    weight: float = 1.0
    patience: int = 96
    best: float = float("inf")
    trials: int = 0
    measured: int = 0
    rate: float = 0.0
    stale: int = 0
    trial_seconds: float = 1.0

    def hear(self, seconds: float) -> None:
        """Take one trial's score; infinite for a failure."""
        self.measured += 1
        gain = 0.0
        if seconds < self.best:
            if self.best < float("inf"):
                gain = 1.0 - seconds / self.best
            self.best = seconds
        significant = gain > SIGNIFICANT or self.measured == 1
        self.stale = 0 if significant else self.stale + 1
        self.rate += NEWEST / HOPE_TRIALS * (gain - self.rate)

    @property
    def done(self) -> bool:
        """Whether it stopped early."""
        return self.stale >= self.patience

    @property
    def expected(self) -> float:
        """Seconds that a second of tuning is expected to save in the whole network."""
        hope = HOPE / float((self.trials + HOPE_TRIALS) ** HOPE_POWER)
        if self.best == float("inf"):
            # Nothing worked yet: no time to weigh it by, so it waits for what does.
            return 0.0
        return self.weight * self.best * (CONTINUED * self.rate + hope) / self.trial_seconds


def next_layer(paces: Sequence[Pace]) -> int | None:
    """Index of the layer to go on with; None when all are done."""
    going = [index for index, pace in enumerate(paces) if not pace.done]
    if not going:
        return None
    return max(going, key=lambda index: (paces[index].expected, -paces[index].trials))
