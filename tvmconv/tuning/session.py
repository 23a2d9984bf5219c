"""The course of a tuning run: who is measured when, until the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tvmconv.errors import DeviceUnreachable, RecordsError
from tvmconv.tuning.allocation import Pace, next_layer
from tvmconv.tuning.features import tabulate
from tvmconv.tuning.layer import FIELD, FIELD_ROUNDS, FINAL_ROUNDS, FINALISTS, Layer
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.result import OnEvent, Progress

if TYPE_CHECKING:
    from tvmconv.space import Config
    from tvmconv.template import Template
    from tvmconv.tuning.log import Log
    from tvmconv.tuning.measure import Measurer, Outcome, Trial
    from tvmconv.tuning.search import Choice, Predict

# Choices per batch, and for every spec at the beginning.
BATCH = 8
FIRST = 4
# The model is trained again when there are so many more results, at least four; 60 trees for 1000
# results take 0.3 s.
REFIT_SHARE = 0.125
REFIT_LEAST = 4
TREES = 60
# Specs are measured again together, so that the stream of builds is seldom interrupted.
DUE_SHARE = 0.25
# Share of the samples that may lose the CPU before the figures deserve a warning.
BUSY = 0.2
# To turn cycles into seconds where there is no model yet; only the order matters then.
NOMINAL_HZ = 4e9
# Loading, packing and checking the last candidates of a layer, and how much longer than the best
# they take. With 0.3 s and as long, 208 layers needed 7 minutes for what 3.6 were set aside for.
FINAL_SECONDS = 0.6
OVER_BEST = 2.0


@dataclass
class Budget:
    """How much may still be spent."""

    minutes: float | None
    trials: int | None
    start: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def share(self, trials: int, reserve: float) -> float:
        """What part is spent, when ``reserve`` seconds are kept for the end."""
        parts = [0.0]
        if self.trials is not None:
            parts.append(trials / self.trials)
        if self.minutes is not None:
            parts.append((self.elapsed + reserve) / (60 * self.minutes))
        return min(1.0, max(parts))


class Session:
    """One run over some layers.

    Attributes:
        trials: measured so far.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        measurer: Measurer,
        log: Log,
        budget: Budget,
        prior: CostModel | None,
        on_event: OnEvent,
        seed: int,
    ) -> None:
        self.trials = 0
        self._layers, self._measurer, self._log = list(layers), measurer, log
        self._budget, self._on_event, self._seed = budget, on_event, seed
        self._prior = self._model = prior
        self._results_at_fit = 0
        self._issued = 0
        self._preempted = 0.0
        self._heard = time.monotonic()
        self._tuned = [layer.tuned for layer in layers]

    def run(self) -> str:
        """Search, then measure the best against each other; says what ended it."""
        try:
            self._measure(self._warm_start())
            while not self._spent and next_layer(self._paces) is not None:
                self._measure(self._stream())
                self._remeasure_due()
            stopped = "budget" if self._spent else "early stop"
            self._final()
        except KeyboardInterrupt:
            return "interrupted"
        except DeviceUnreachable:
            return "device lost"
        return stopped

    @property
    def warnings(self) -> tuple[str, ...]:
        """What makes the figures doubtful, in words."""
        share = self._preempted / max(1, self.trials)
        if share <= BUSY:
            return ()
        return (f"the machine was busy: {share:.0%} of the samples lost the CPU",)

    @property
    def _paces(self) -> list[Pace]:
        return [layer.pace for layer in self._layers]

    @property
    def _share(self) -> float:
        """Part of the budget that is spent, the final measurements set aside."""
        again = (FIELD + 1) * 2 * (FIELD_ROUNDS + 2) + (FINALISTS + 1) * 2 * (FINAL_ROUNDS + 2)
        works = [OVER_BEST * layer.pace.best for layer in self._layers if layer.ok]
        return self._budget.share(self._issued, sum(FINAL_SECONDS + again * s for s in works))

    @property
    def _spent(self) -> bool:
        return self._share >= 1.0

    def _measure(self, source: Iterator[tuple[int, Choice]]) -> None:
        """Measure what the source gives; it is asked again whenever a builder is free."""
        issued: list[tuple[int, Choice]] = []

        def trials() -> Iterator[Trial]:
            for number, choice in source:
                if self._spent:
                    return
                issued.append((number, choice))
                self._issued += 1
                yield self._layers[number].trial(choice)

        def done(at: int, outcome: Outcome) -> None:
            number, choice = issued[at]
            layer, now = self._layers[number], time.monotonic()
            layer.hear(choice, outcome, self._log)
            layer.pace.trial_seconds += 0.2 * (now - self._heard - layer.pace.trial_seconds)
            self._heard = now
            self.trials += 1
            self._preempted += outcome.preempted
            self._tell(number, "searching", outcome)

        self._heard = time.monotonic()
        self._measurer.measure(trials(), done)

    def _tell(self, number: int, phase: str, outcome: Outcome | None) -> None:
        self._tuned[number] = self._layers[number].tuned
        share, elapsed = self._share, self._budget.elapsed
        layers = tuple(self._tuned)
        self._on_event(Progress(layers, number, self.trials, share, elapsed, phase, outcome))

    def _warm_start(self) -> Iterator[tuple[int, Choice]]:
        """The default and the first picks of every layer in turn."""
        for number, layer in enumerate(self._layers):
            for choice in layer.first(FIRST, self._predict(layer)):
                yield number, choice

    def _stream(self) -> Iterator[tuple[int, Choice]]:
        """Batches of the layers that promise most, until enough of them are due."""
        while sum(layer.due for layer in self._layers) <= DUE_SHARE * len(self._layers):
            number = next_layer(self._paces)
            if number is None or self._spent:
                return
            layer = self._layers[number]
            for choice in layer.propose(BATCH, self._predict(layer)):
                yield number, choice

    def _predict(self, layer: Layer) -> Predict:
        """The newest model's seconds for a layer, or the analytic ones where it knows nothing."""
        self._refit()
        model = self._model

        def predict(template: Template, configs: Sequence[Config]) -> NDArray[np.float64]:
            if model is not None and model.knows(template.id):
                # A prior of other features is refused; this run's own results soon replace it.
                with suppress(RecordsError):
                    return model.predict(layer.task, template, configs)
            analytic: NDArray[np.float64] = np.exp(
                tabulate(layer.task, template, configs).log_cycles
            )
            return analytic / NOMINAL_HZ

        return predict

    def _refit(self) -> None:
        """Train on everything that this run knows, upon the prior."""
        records = [record for layer in self._layers for record in layer.records]
        enough = max(REFIT_LEAST, REFIT_SHARE * self._results_at_fit)
        if len(records) >= self._results_at_fit + enough:
            self._model = CostModel.fit(records, prior=self._prior, seed=self._seed, rounds=TREES)
            self._results_at_fit = len(records)

    def _remeasure_due(self) -> None:
        for number, layer in enumerate(self._layers):
            if layer.due and not self._spent:
                self._against_each_other(layer, layer.field(FIELD), FIELD_ROUNDS)
                self._tell(number, "searching", None)

    def _against_each_other(
        self, layer: Layer, choices: list[Choice], rounds: int
    ) -> list[Outcome]:
        outcomes = self._measurer.remeasure([layer.trial(c) for c in choices], rounds)
        layer.correct(choices, outcomes)
        return outcomes

    def _final(self) -> None:
        """The best eight of each layer, then the best four at length, and the default with both."""
        for number, layer in enumerate(self._layers):
            if layer.ok:
                self._against_each_other(layer, layer.field(FIELD), FIELD_ROUNDS)
                choices = layer.field(FINALISTS)
                outcomes = self._against_each_other(layer, choices, FINAL_ROUNDS)
                layer.finish(choices, outcomes, self._log)
            self._tell(number, "final", None)
