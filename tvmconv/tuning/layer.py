"""One spec that is being tuned: its search, its results, how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tvmconv.choose import Candidate, consider, decide
from tvmconv.errors import UnsupportedSpec
from tvmconv.space import Config
from tvmconv.template import Task, Template, get_template
from tvmconv.tuning.allocation import Pace
from tvmconv.tuning.measure import Outcome, Trial
from tvmconv.tuning.records import Record, best_records
from tvmconv.tuning.result import Tuned
from tvmconv.tuning.search import Choice, Predict, Search

if TYPE_CHECKING:
    from tvmconv.tuning.log import Log

# Trials after which the best are measured again, against each other.
REMEASURE_EVERY = 32
# So many of the best are measured again, in so many rounds; at the end the first few once more.
FIELD, FIELD_ROUNDS = 8, 3
FINALISTS, FINAL_ROUNDS = 4, 12


@dataclass
class Layer:
    """A spec's state while a run lasts; made by ``open_layer``.

    Attributes:
        task: what is tuned.
        default: the cheapest by predicted cycles; what gains are measured against.
        current: what is compiled without the caller's records: shipped, predicted or the default.
        search: what was measured, and what to measure next.
        pace: how the search goes.
        records: all that is known of the task on this machine.
        since_remeasured: trials since the best were measured against each other.
        failures: trials that failed.
        final: winner and default with their seconds, once measured at the end.
    """

    task: Task
    default: Choice
    current: Choice
    search: Search
    pace: Pace
    records: list[Record] = field(default_factory=list)
    since_remeasured: int = 0
    failures: int = 0
    final: tuple[tuple[Choice, float], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether anything worked."""
        return self.search.best is not None

    @property
    def due(self) -> bool:
        """Whether the best should be measured again."""
        return self.since_remeasured >= REMEASURE_EVERY and self.ok

    def trial(self, choice: Choice) -> Trial:
        """A choice as a trial."""
        return Trial(self.task, *choice)

    def first(self, count: int, predict: Predict) -> list[Choice]:
        """The default, what is compiled now, and the model's first picks; known ones left out."""
        return self._handed(self.search.first(count, predict, [self.default, self.current]))

    def propose(self, count: int, predict: Predict) -> list[Choice]:
        """The next choices."""
        return self._handed(self.search.propose(count, predict))

    def _handed(self, choices: list[Choice]) -> list[Choice]:
        self.pace.trials += len(choices)
        if not choices:
            self.pace.stale = self.pace.patience
        return choices

    def hear(self, choice: Choice, outcome: Outcome, log: Log) -> None:
        """Write a trial's outcome down and learn from it."""
        self.records.append(log.write(self.trial(choice), outcome))
        self.search.tell(choice, outcome.score)
        self.pace.hear(outcome.score)
        self.since_remeasured += 1
        self.failures += not outcome.ok

    def field(self, count: int) -> list[Choice]:
        """The best so far, and the default where it works."""
        worked = {c: s for c, s in self.search.results.items() if s < float("inf")}
        best = sorted(worked, key=worked.__getitem__)[:count]
        if self.default in worked and self.default not in best:
            best.append(self.default)
        return best

    def correct(self, choices: Sequence[Choice], outcomes: Sequence[Outcome]) -> None:
        """Replace scores by those of a measurement against each other.

        A device that was lost meanwhile says nothing of a choice.
        """
        for choice, outcome in zip(choices, outcomes, strict=True):
            if outcome.status != "device_lost":
                self.search.tell(choice, outcome.score)
        self.since_remeasured = 0
        best = self.search.best
        self.pace.best = best[1] if best else float("inf")

    def finish(self, choices: Sequence[Choice], outcomes: Sequence[Outcome], log: Log) -> None:
        """Write the last measurement of winner and default; the default wins a draw."""
        self.correct(choices, outcomes)
        scores = {c: o.score for c, o in zip(choices, outcomes, strict=True) if o.ok}
        if not scores:
            return
        winner = min(scores, key=lambda choice: (scores[choice], choice != self.default))
        samples = dict(zip(choices, outcomes, strict=True))
        for choice in dict.fromkeys((winner, self.default)):
            if choice in scores:
                self.records.append(log.write(self.trial(choice), samples[choice], "final"))
        self.final = tuple((c, scores[c]) for c in (winner, self.default) if c in scores)

    @property
    def tuned(self) -> Tuned:
        """What is known now."""
        best = self._spoken_for() if self.final else self.search.best
        default = self.search.results.get(self.default, float("inf"))
        return Tuned(
            spec=str(self.task.spec),
            template=best[0][0] if best else None,
            config=str(best[0][1]) if best else None,
            seconds=best[1] if best else float("inf"),
            default_template=self.default[0],
            default_config=str(self.default[1]),
            default_seconds=default,
            trials=len(self.search.results),
            failures=self.failures,
            weight=self.pace.weight,
            final=bool(self.final),
        )

    def _spoken_for(self) -> tuple[Choice, float]:
        """What compile takes from these records: an earlier run's winner may still be ahead."""
        default = (self.default[0], str(self.default[1]))
        ranked = best_records(self.records, lambda r: (r.template, r.config) == default)
        return (ranked[0].template, Config.parse(ranked[0].config)), ranked[0].score


def open_layer(
    task: Task,
    algorithm: str | None,
    existing: Sequence[Record],
    *,
    weight: float,
    patience: int,
    seed: int,
    informed: bool,
) -> Layer:
    """A layer with what earlier runs on the same machine found for it.

    Raises:
        UnsupportedSpec: no template takes the spec.
    """
    fitting = [c for c in consider(task) if c.fits and _wanted(c.template, algorithm)]
    if not fitting:
        considered = consider(task)
        reasons = "; ".join(f"{c.template.id}: {c.reason}" for c in considered)
        raise UnsupportedSpec(f"{task.spec} on {task.target.id}: nothing to tune ({reasons})")
    default = _choice(fitting[0])
    search = Search(task, [c.template for c in fitting], seed=seed, informed=informed)
    current = _choice(decide(task, algorithm).best)
    layer = Layer(task, default, current, search, Pace(weight, patience))
    known = {c.template.id for c in fitting}
    for record in existing:
        config = _config(task, record) if record.template in known else None
        if config is not None:
            layer.search.tell((record.template, config), record.score)
            layer.records.append(record)
            layer.failures += record.status != "ok" and record.stage == "trial"
    layer.pace.trials = layer.pace.measured = len(search.results)
    layer.pace.best = search.best[1] if search.best else float("inf")
    return layer


def _wanted(template: Template, algorithm: str | None) -> bool:
    return algorithm in (None, template.algorithm, template.id)


def _choice(candidate: Candidate) -> Choice:
    assert candidate.config is not None
    return candidate.template.id, candidate.config


def _config(task: Task, record: Record) -> Config | None:
    """The record's config when it is still a point of the space."""
    from tvmconv.errors import InvalidConfig

    try:
        config = Config.parse(record.config)
        get_template(record.template).space(task).check(config)
    except InvalidConfig:
        return None
    return config
