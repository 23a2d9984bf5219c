"""What a tuning run says: of each spec, of the run, and while it lasts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvmconv.tuning.measure import Outcome


@dataclass(frozen=True)
class Tuned:
    """What tuning found for a spec.

    Attributes:
        spec: text of the spec.
        template: id of the best template; None when nothing worked.
        config: text of its config; None as well.
        seconds: of the best.
        default_template: what is compiled without tuning.
        default_config: its config.
        default_seconds: infinite when it did not work.
        trials: how many were measured, in this run and before.
        failures: how many of them failed.
        weight: how often the spec occurs.
        final: whether best and default were measured against each other at the end.
    """

    spec: str
    template: str | None
    config: str | None
    seconds: float
    default_template: str
    default_config: str
    default_seconds: float
    trials: int
    failures: int
    weight: float
    final: bool

    @property
    def gain(self) -> float:
        """How many times faster than the default."""
        return self.default_seconds / self.seconds


@dataclass(frozen=True)
class TuneResult:
    """What a run found.

    Attributes:
        layers: one per spec.
        records: the file that holds everything that was measured.
        trials: measured in this run.
        elapsed: seconds of this run.
        stopped: why it ended: "budget", "early stop", "interrupted" or "device lost".
        warnings: what makes the figures doubtful, and lines of the file that were skipped.
    """

    layers: tuple[Tuned, ...]
    records: str
    trials: int
    elapsed: float
    stopped: str
    warnings: tuple[str, ...]

    @property
    def gain(self) -> float:
        """How many times faster all specs together are than their defaults."""
        known = [t for t in self.layers if t.seconds < float("inf") > t.default_seconds]
        before = sum(t.weight * t.default_seconds for t in known)
        return before / sum(t.weight * t.seconds for t in known) if known else 1.0


@dataclass(frozen=True)
class Progress:
    """What ``on_event`` hears after each trial and each final measurement.

    Attributes:
        layers: one per spec, as known now.
        changed: index of the spec that something was learnt about.
        trials: measured so far in this run.
        share: of the budget that is spent, 0 to 1.
        elapsed: seconds so far.
        phase: "searching" or "final".
        outcome: of the trial; None in the final phase.
    """

    layers: tuple[Tuned, ...]
    changed: int
    trials: int
    share: float
    elapsed: float
    phase: str
    outcome: Outcome | None


OnEvent = Callable[[Progress], None]


def ignore_event(progress: Progress) -> None:
    """An OnEvent that does nothing."""
