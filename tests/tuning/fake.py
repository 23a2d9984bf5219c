"""A measurer whose times are a formula: instant, exact, with a known optimum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import log2

import tvmconv as tc
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning.measure import OnDone, Outcome, Trial, ignore

TARGET = load("x86_64_v4")
SPEC = tc.conv2d((1, 64, 28, 28), 64, 3, padding=1)


def seconds_of(trial: Trial) -> float:
    """The template's own prediction, bent so that its favourites are not the best."""
    template = get_template(trial.template_id)
    knobs = dict(trial.config.items)
    bend = 0.0
    for name, best in (("tile_oc", 16), ("tile_ow", 4), ("block_oh", 7)):
        if isinstance(value := knobs.get(name), int):
            bend += abs(log2(value / best))
    return template.cycles(trial.task, trial.config) / 4e9 * (1.0 + 0.4 * bend)


class FakeMeasurer:
    """Measures by ``seconds``; what ``fails`` names gets its status."""

    machine: str | None = None

    def __init__(
        self,
        seconds: Callable[[Trial], float] = seconds_of,
        fails: Callable[[Trial], Outcome | None] = lambda trial: None,
    ) -> None:
        self.seconds, self.fails = seconds, fails
        self.measured: list[Trial] = []
        self.remeasured: list[tuple[list[Trial], int]] = []

    def measure(self, trials: Iterable[Trial], on_done: OnDone = ignore) -> list[Outcome]:
        outcomes = []
        for index, trial in enumerate(trials):
            self.measured.append(trial)
            outcome = self.fails(trial) or Outcome("ok", seconds=(self.seconds(trial),) * 3)
            outcomes.append(outcome)
            on_done(index, outcome)
        return outcomes

    def remeasure(self, trials: Sequence[Trial], rounds: int) -> list[Outcome]:
        self.remeasured.append((list(trials), rounds))
        return [Outcome("ok", seconds=(self.seconds(trial),) * rounds) for trial in trials]

    def close(self) -> None:
        pass


def task(spec: tc.ConvSpec = SPEC) -> Task:
    return Task(spec, TARGET)
