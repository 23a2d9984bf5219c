"""What measuring means, whoever does it: trials go in, outcomes come out.

A failure is a status with its text, never a large number. ``local.py`` measures on this machine,
``remote.py`` and ``boards.py`` on others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tvmconv.space import Config
    from tvmconv.template import Task

# A candidate this many times slower than the best so far is not worth a third sample.
HOPELESS = 3.0
# Samples of a trial: of thread CPU time for one thread, of wall time for several (and remotely),
# where preemption shows and only many samples contain an undisturbed one.
CPU_SAMPLES = 3
WALL_SAMPLES = 10
# A sample repeats short kernels so often that reading the clock (50 ns) stays below 0.1 %.
SAMPLE_SECONDS = 1e-4
MAX_CALLS = 10_000
# A sample whose wall time exceeds its CPU time by this factor lost the CPU in between.
LOST_CPU = 1.2


@dataclass(frozen=True)
class Trial:
    """A config of a template to be measured for a task."""

    task: Task
    template_id: str
    config: Config


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        status: one of records.STATUSES.
        message: text of the failure, empty when ok.
        seconds: per-call samples, CPU time for one thread and wall time for several; empty
            unless ok.
        preempted: share of the samples that lost the CPU; 0 where that cannot be told.
        error: largest error over largest result, NaN unless the answer was compared.
        wall: wall times of the same samples.
        begun: False when the device was lost before it came to the trial.
    """

    status: str
    message: str = ""
    seconds: tuple[float, ...] = ()
    preempted: float = 0.0
    error: float = float("nan")
    wall: tuple[float, ...] = ()
    begun: bool = True

    @property
    def ok(self) -> bool:
        """Whether there are samples."""
        return self.status == "ok"

    @property
    def score(self) -> float:
        """The least sample; infinite when there is none."""
        return min(self.seconds, default=float("inf"))


OnDone = Callable[[int, Outcome], None]


def ignore(index: int, outcome: Outcome) -> None:
    """An OnDone that does nothing."""


class Measurer(Protocol):
    """Measures trials. Trials may be drawn from an iterator as workers become free.

    Attributes:
        machine: what it measures on, for records; None for this machine.
    """

    machine: str | None

    def measure(self, trials: Iterable[Trial], on_done: OnDone = ignore) -> list[Outcome]:
        """Build, check and time each; ``on_done(index, outcome)`` hears of each as it is done."""

    def remeasure(self, trials: Sequence[Trial], rounds: int) -> list[Outcome]:
        """Time trials of one task against each other, interleaved in shuffled rounds."""

    def close(self) -> None:
        """End all workers; a second call does nothing."""


def calls_per_sample(once: float) -> int:
    """How often a call of ``once`` seconds is repeated in one sample."""
    return max(1, min(MAX_CALLS, round(SAMPLE_SECONDS / max(once, 1e-9))))


def hopeless(samples: Sequence[float], best: float) -> bool:
    """Whether two samples suffice to see that a candidate will not be the best."""
    return len(samples) == 2 and min(samples) > HOPELESS * best
