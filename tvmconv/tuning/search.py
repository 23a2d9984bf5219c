"""Proposes what to measure next for one task. Pure: it is told results and asked for configs.

Up to 1e5 points a space is scored whole (0.1 s); larger ones are searched by simulated annealing
over the model's scores. A share of the proposals is random, so that a model which is wrong about a
region gets to see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tvmconv.space import Config, Configs, ConfigSpace
from tvmconv.tolerance import get_accuracy
from tvmconv.tuning.space_points import neighbours, sample_valid

if TYPE_CHECKING:
    from tvmconv.template import Task, Template

Choice = tuple[str, Config]
Seconds = NDArray[np.float64]
# Predicted seconds of a template's configs.
Predict = Callable[["Template", Sequence[Config]], Seconds]

WHOLE_SPACE = 100_000
EPSILON = 0.1
# Share of random proposals to a model without any data, halved at so many results. Eight searches
# of 48 trials came to 1.14 times a known optimum; 1.20 at 0.75, 1.35 without, 1.36 by chance.
BLIND = 1.0
COLD_ROWS = 16
# Of so many of the best per wanted one those are taken that differ in two knobs from each other:
# what differs in one behaves alike and teaches little.
CROWD = 8
# Annealing: so many chains, steps, and temperatures of log seconds from and to which they cool.
CHAINS = 256
STEPS = 40
HOT, COLD = 0.3, 0.01
# Random proposals go to templates that are predicted to be at most this much slower than the best.
UNLIKELY = 3.0


class Search:
    """The search for one task's fastest config over several templates.

    Args:
        task: what is tuned.
        templates: those that take the task.
        seed: same seed, same results told: same proposals.
        epsilon: share of random proposals.
        informed: whether the model knows other specs; one that begins with nothing is believed
            less at first.
        whole: largest grid that is scored whole.
    """

    def __init__(
        self,
        task: Task,
        templates: Sequence[Template],
        *,
        seed: int = 0,
        epsilon: float = EPSILON,
        informed: bool = True,
        whole: int = WHOLE_SPACE,
    ) -> None:
        self.task = task
        self.results: dict[Choice, float] = {}
        self._templates = {template.id: template for template in templates}
        self._spaces = {template.id: template.space(task) for template in templates}
        self._points: dict[str, Configs] = {}
        self._proposed: set[Choice] = set()
        self._rng = np.random.default_rng(seed)
        self._epsilon, self._whole = epsilon, whole
        self._informed = informed

    @property
    def best(self) -> tuple[Choice, float] | None:
        """The fastest so far and its seconds; None while nothing was measured."""
        choice = min(self.results, key=self.results.__getitem__, default=None)
        if choice is None or self.results[choice] == float("inf"):
            return None
        return choice, self.results[choice]

    @property
    def exhausted(self) -> bool:
        """Whether every point of small spaces was proposed."""
        return all(
            space.grid_size <= self._whole
            and len(self._whole_space(name)) <= sum(1 for n, _ in self._proposed if n == name)
            for name, space in self._spaces.items()
        )

    def tell(self, choice: Choice, seconds: float) -> None:
        """A result: infinite seconds for a failure. A later one replaces an earlier one."""
        self._proposed.add(choice)
        self.results[choice] = seconds

    def first(self, count: int, predict: Predict, given: Iterable[Choice]) -> list[Choice]:
        """What to begin with: the given choices, then the model's top picks of the shortlists."""
        found = [choice for choice in dict.fromkeys(given) if choice not in self._proposed]
        self._proposed.update(found)
        pools = {
            name: [c for c in template.shortlist(self.task) if (name, c) not in self._proposed]
            for name, template in self._templates.items()
        }
        scored = [
            (seconds, (name, config))
            for name, pool in pools.items()
            if pool
            for seconds, config in zip(predict(self._templates[name], pool), pool, strict=True)
        ]
        picked = self._accept(sorted(scored, key=lambda pair: pair[0]), count - len(found))
        return found + picked

    def propose(self, count: int, predict: Predict) -> list[Choice]:
        """Up to ``count`` new choices, the best by prediction and some at random."""
        known = sum(seconds < float("inf") for seconds in self.results.values())
        blind = 0.0 if self._informed else BLIND * COLD_ROWS / (COLD_ROWS + known)
        at_random = int(self._rng.binomial(count, max(self._epsilon, blind)))
        ranked: list[tuple[float, Choice]] = []
        promise: dict[str, float] = {}
        for name in self._spaces:
            top = self._top(name, CROWD * count, predict)
            ranked += top
            promise[name] = min((seconds for seconds, _ in top), default=float("inf"))
        ranked.sort(key=lambda pair: pair[0])
        found = self._accept(_apart(ranked), count - at_random)
        fastest = min(promise.values(), default=float("inf"))
        likely = [name for name, seconds in promise.items() if seconds <= UNLIKELY * fastest]
        return found + self._random(likely, count - len(found))

    def _accept(self, ranked: Sequence[tuple[float, Choice]], count: int) -> list[Choice]:
        """The first that were not proposed yet and are exact enough."""
        found: list[Choice] = []
        for _, choice in ranked:
            if len(found) >= count:
                break
            if choice not in self._proposed and self._exact(choice):
                self._proposed.add(choice)
                found.append(choice)
        return found

    def _exact(self, choice: Choice) -> bool:
        name, config = choice
        accuracy = self._templates[name].accuracy(self.task, config)
        return get_accuracy(accuracy).relative_error <= self.task.max_error

    def _random(self, names: Sequence[str], count: int) -> list[Choice]:
        found: list[Choice] = []
        for _ in range(count if names else 0):
            name = names[int(self._rng.integers(len(names)))]
            drawn = sample_valid(self._spaces[name], 16, self._rng)
            found += self._accept([(0.0, (name, config)) for config in drawn], 1)
        return found

    def _top(self, name: str, count: int, predict: Predict) -> list[tuple[float, Choice]]:
        """The best points of a space that were not proposed yet, by prediction."""
        space, template = self._spaces[name], self._templates[name]
        if space.grid_size <= self._whole:
            points = self._whole_space(name)
        else:
            points = self._annealed(name, predict)
        if not len(points):
            return []
        seconds = predict(template, points)
        taken = {config for other, config in self._proposed if other == name}
        # Enough of the best that the new ones among them suffice.
        order = np.argsort(seconds, kind="stable")[: count + len(taken)]
        new = [(float(seconds[at]), points[int(at)]) for at in order]
        return [(value, (name, config)) for value, config in new if config not in taken][:count]

    def _whole_space(self, name: str) -> Configs:
        if name not in self._points:
            self._points[name] = self._spaces[name].configs()
        return self._points[name]

    def _annealed(self, name: str, predict: Predict) -> Configs:
        """Distinct points that the chains visited, the best by prediction."""
        space, template = self._spaces[name], self._templates[name]
        points = self._start(name, space)
        if not len(points):
            return Configs(space, points)
        energy = np.log(predict(template, Configs(space, points)))
        visited, energies = [points], [energy]
        for temperature in np.geomspace(HOT, COLD, STEPS):
            moved = neighbours(space, points, self._rng)
            new = np.log(predict(template, Configs(space, moved)))
            accept = self._rng.random(len(points)) < np.exp((energy - new) / temperature)
            points = np.where(accept, moved, points)
            energy = np.where(accept, new, energy)
            visited.append(moved)
            energies.append(new)
        everything, at = np.unique(np.concatenate(visited), return_index=True)
        order = np.argsort(np.concatenate(energies)[at], kind="stable")
        return Configs(space, everything[order[: 4 * CHAINS]])

    def _start(self, name: str, space: ConfigSpace) -> NDArray[np.int64]:
        """Where chains begin: the best that were measured, the shortlist, random points."""
        mine = [config for other, config in self.results if other == name]
        mine.sort(key=lambda config: self.results[name, config])
        known = mine[: CHAINS // 4]
        known += list(self._templates[name].shortlist(self.task))[: CHAINS // 4]
        indices = [space.index(config) for config in known]
        drawn = sample_valid(space, CHAINS - len(indices), self._rng).indices
        return np.concatenate([np.array(indices, np.int64), drawn])


def _apart(ranked: Sequence[tuple[float, Choice]]) -> list[tuple[float, Choice]]:
    """The same, those that differ in one knob from a better one moved behind the others."""
    first: list[tuple[float, Choice]] = []
    crowded: list[tuple[float, Choice]] = []
    for seconds, (name, config) in ranked:
        near = any(name == other and _differing(config, picked) < 2 for _, (other, picked) in first)
        (crowded if near else first).append((seconds, (name, config)))
    return first + crowded


def _differing(one: Config, other: Config) -> int:
    """In how many knobs two configs of one space differ."""
    pairs = zip(one.items, other.items, strict=True)
    return sum(mine != others for mine, others in pairs)
