"""How many trials a search needs: repeated from a table of measurements, with the real search.

A table holds what was measured of a task. A replayed run asks it in place of the machine, so that
many runs, with other seeds and priors, cost no measuring beyond what no run asked for before, and
all of them see the same times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.tuning.layer import Layer, open_layer
from tvmconv.tuning.log import Log
from tvmconv.tuning.measure import Measurer, OnDone, Outcome, Trial, ignore
from tvmconv.tuning.result import ignore_event
from tvmconv.tuning.session import Budget, Session

if TYPE_CHECKING:
    from tvmconv.template import Task
    from tvmconv.tuning.model import CostModel
    from tvmconv.tuning.records import Record

Key = tuple[str, str]  # template, config


class Table:
    """Measurements of one task, by template and config; a Measurer that asks another if need be.

    Args:
        task: what was measured.
        records: its measurements; of each config the least counts, since noise only adds.
        measurer: measures what the table does not hold; None where that is an error.
        log: where such measurements are written.
    """

    machine: str | None = None

    def __init__(
        self,
        task: Task,
        records: Iterable[Record],
        measurer: Measurer | None = None,
        log: Log | None = None,
    ) -> None:
        self._task, self._measurer, self._log = task, measurer, log
        self._outcomes: dict[Key, Outcome] = {}
        self.asked: list[Trial] = []
        for record in records:
            outcome = Outcome(record.status, record.message, record.seconds)
            self._keep((record.template, record.config), outcome)

    def __len__(self) -> int:
        """How many configs it holds."""
        return len(self._outcomes)

    @property
    def best(self) -> float:
        """The least seconds; infinite when nothing worked."""
        return min((outcome.score for outcome in self._outcomes.values()), default=float("inf"))

    def score(self, trial: Trial) -> float:
        """Seconds of a trial that the table holds."""
        return self._outcomes[trial.template_id, str(trial.config)].score

    def measure(self, trials: Iterable[Trial], on_done: OnDone = ignore) -> list[Outcome]:
        """What the table says; trials that it does not hold are measured one by one and kept."""
        outcomes = []
        for index, trial in enumerate(trials):
            outcomes.append(self._outcome(trial))
            self.asked.append(trial)
            on_done(index, outcomes[-1])
        return outcomes

    def remeasure(self, trials: Sequence[Trial], rounds: int) -> list[Outcome]:
        """The same again: the table's times are the truth."""
        return [self._outcome(trial) for trial in trials]

    def close(self) -> None:
        """Nothing to end: the measurer behind it belongs to the caller."""

    def _outcome(self, trial: Trial) -> Outcome:
        key = trial.template_id, str(trial.config)
        if key not in self._outcomes:
            if self._measurer is None:
                raise KeyError(f"the table does not hold {key} of {self._task.spec}")
            (outcome,) = self._measurer.measure([trial])
            if self._log is not None:
                self._log.write(trial, outcome)
            self._keep(key, outcome)
        return self._outcomes[key]

    def _keep(self, key: Key, outcome: Outcome) -> None:
        known = self._outcomes.get(key)
        if known is None or outcome.score < known.score:
            self._outcomes[key] = outcome


@dataclass(frozen=True)
class Replay:
    """One repeated run.

    Attributes:
        scores: seconds of its trials, in the order in which they were asked for.
    """

    scores: tuple[float, ...]

    def trials_to(self, seconds: float) -> int | None:
        """After how many trials one took at most so long; None when none did."""
        found = (number for number, score in enumerate(self.scores, 1) if score <= seconds)
        return next(found, None)


@dataclass
class _UntilReached(Budget):
    """A budget that is spent as soon as a trial took at most ``goal`` seconds."""

    table: Table | None = None
    goal: float = 0.0

    def share(self, trials: int, reserve: float) -> float:
        """What part is spent; all of it once the goal is reached."""
        asked = self.table.asked if self.table else []
        if self.table and asked and self.table.score(asked[-1]) <= self.goal:
            return 1.0
        return super().share(trials, reserve)


def replay(
    task: Task,
    table: Table,
    prior: CostModel | None,
    scratch: Path,
    *,
    trials: int,
    seed: int,
    goal: float = 0.0,
) -> Replay:
    """Search for so many trials, or until one is good enough; nothing that ships is known.

    Args:
        task: what is tuned.
        table: what answers.
        prior: a model that was trained without the task, or None to begin with nothing.
        scratch: a records file for the run's own use; it is overwritten.
        trials: how many at most.
        seed: of the search.
        goal: seconds that end it.
    """
    scratch.unlink(missing_ok=True)
    table.asked.clear()
    with Log(scratch, task.threads) as log:
        layer = _fresh(task, prior, seed)
        budget = _UntilReached(None, trials, table=table, goal=goal)
        Session([layer], table, log, budget, prior, ignore_event, seed).run()
    return Replay(tuple(table.score(trial) for trial in table.asked))


def _fresh(task: Task, prior: CostModel | None, seed: int) -> Layer:
    """A layer whose tuned record, which ships, is forgotten."""
    informed = prior is not None
    layer = open_layer(task, None, (), weight=1.0, patience=10**6, seed=seed, informed=informed)
    return replace(layer, current=layer.default)
