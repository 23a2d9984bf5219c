"""Measures a spread of configs of many specs: what the cost model that ships is trained on.

Per spec and template: the default, the best by predicted cycles, and random valid ones. A tuner
concentrates on what is fast; a model that ranks must also have seen what is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from tvmconv.choose import consider
from tvmconv.template import Task, Template
from tvmconv.tolerance import DEFAULT_MAX_ERROR
from tvmconv.tuning.log import Log, measured, of_task, read_existing
from tvmconv.tuning.measure import Measurer, Outcome, Trial
from tvmconv.tuning.space_points import sample_valid

if TYPE_CHECKING:
    from tvmconv.space import Config
    from tvmconv.spec import ConvSpec
    from tvmconv.target import Target
    from tvmconv.tuning.records import Record

# Configs that are ranked by predicted cycles; more random ones hardly improve the best of them.
RANKED = 256
# A third of the configs are the best by prediction, so that good ones are well covered.
TOP_SHARE = 1 / 3
# A template predicted to be this much slower than the best gets a quarter of the configs.
UNLIKELY = 3.0


@dataclass(frozen=True)
class Collected:
    """What a collection did."""

    trials: int
    failures: int
    preempted: float
    problems: tuple[str, ...]


def plan(task: Task, configs: int, seed: int, algorithm: str | None = None) -> list[Trial]:
    """What to measure of a task, the defaults first; of one algorithm or template where asked."""
    fitting = [c for c in consider(task) if c.fits]
    fastest = min((c.cycles for c in fitting), default=1.0)
    chosen: list[list[Trial]] = []
    for candidate in fitting:
        if algorithm not in (None, candidate.template.algorithm, candidate.template.id):
            continue
        likely = candidate.cycles <= UNLIKELY * fastest
        count = configs if likely else max(3, configs // 4)
        template = candidate.template
        picked = pick(task, template, count, seed)
        chosen.append([Trial(task, template.id, config) for config in picked])
    return [trial for trials in sorted(chosen, key=len, reverse=True) for trial in trials]


def pick(task: Task, template: Template, count: int, seed: int) -> list[Config]:
    """The default, the best by predicted cycles, and random valid configs, without duplicates."""
    rng = np.random.default_rng([seed, crc32(f"{task.spec}|{template.id}".encode())])
    drawn = sample_valid(template.space(task), RANKED, rng)
    pool = [*template.shortlist(task), *drawn]
    ranked = sorted(dict.fromkeys(pool), key=lambda config: template.cycles(task, config))
    top = ranked[: round(count * TOP_SHARE)]
    spread = [drawn[int(at)] for at in rng.permutation(len(drawn))]
    return list(dict.fromkeys([template.default(task), *top, *spread]))[:count]


def collect(
    specs: Sequence[ConvSpec],
    target: Target,
    measurer: Measurer,
    records: str | Path,
    *,
    configs: int = 24,
    threads: int = 1,
    max_error: float = DEFAULT_MAX_ERROR,
    seed: int = 0,
    algorithm: str | None = None,
    on_trial: Callable[[int, int, Trial, Outcome], None] = lambda done, total, trial, outcome: None,
) -> Collected:
    """Measure what is not in the records file yet, and add it there.

    Args:
        specs: epilogues are left off; what remains is measured once.
        target: what is compiled for.
        measurer: see measure.Measurer.
        records: JSON-lines file; each trial is on disk before the next begins.
        configs: per spec and likely template.
        threads: of the kernels.
        max_error: largest relative error that an algorithm may have.
        seed: of the choice of configs.
        algorithm: or template id to stay with.
        on_trial: hears of each trial: how many are done, of how many, which, and what came of it.

    Raises:
        RecordsError: the file cannot be written; what was measured before is in it.
    """
    distinct = dict.fromkeys(spec.linear() for spec in specs)
    tasks = [Task(spec, target, threads, max_error) for spec in distinct]
    existing, problems = read_existing(records)
    todo = list(_missing(tasks, existing, configs, seed, algorithm))
    lost: list[float] = []
    failures = 0

    with Log(records, threads, measurer.machine) as log:

        def done(index: int, outcome: Outcome) -> None:
            nonlocal failures
            log.write(todo[index], outcome)
            lost.append(outcome.preempted)
            failures += not outcome.ok
            on_trial(len(lost), len(todo), todo[index], outcome)

        measurer.measure(todo, done)
    preempted = sum(lost) / max(1, len(lost))
    return Collected(len(lost), failures, preempted, problems)


def _missing(
    tasks: Iterable[Task],
    existing: Sequence[Record],
    configs: int,
    seed: int,
    algorithm: str | None,
) -> Iterator[Trial]:
    for task in tasks:
        known = measured(of_task(existing, task))
        for trial in plan(task, configs, seed, algorithm):
            if (trial.template_id, str(trial.config)) not in known:
                yield trial
