"""Which template and config compile a spec, and why: each candidate with its time or its reason.

Four tiers, the first that has an answer:

* tuned: the best record of this spec, target and number of threads, the caller's before ours;
* static: the caller's record of least static cost, where nothing was measured;
* predicted: the shipped cost model ranks the shortlist of every template;
* analytic: each template's default, ranked by its own predicted cycles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import exp

from tvmconv.errors import InvalidConfig, RecordsError, TvmconvError, UnsupportedSpec
from tvmconv.space import Config
from tvmconv.template import Task, Template, get_template, templates
from tvmconv.tolerance import DIRECT, OWN_PRODUCTS, get_accuracy
from tvmconv.tuning.boosters import Floats
from tvmconv.tuning.features import tabulate
from tvmconv.tuning.knowledge import Paths, Source, own_sources, prior, shipped_sources
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.records import Record, best_estimates, best_records

TIERS = ("tuned", "static", "predicted", "analytic")
# Predictions err by 5 to 10 %. A transform rounds what direct sums add up exactly, on integers say:
# that is given up only for a gain beyond the error.
LEAST_GAIN_OF_A_TRANSFORM = 1.05


@dataclass(frozen=True)
class Candidate:
    """A template's answer to a task.

    Attributes:
        template: whose answer it is.
        config: None when the template declined.
        cycles: predicted by the template itself; infinite when it declined.
        reason: what is expected of the config, or why there is none.
        tier: where the config came from, empty when there is none.
        seconds: measured or predicted by the cost model; None when neither is there.
    """

    template: Template
    config: Config | None
    cycles: float
    reason: str
    tier: str = ""
    seconds: float | None = None

    @property
    def fits(self) -> bool:
        """True when the template takes the task."""
        return self.config is not None


@dataclass(frozen=True)
class Choice:
    """All candidates, the chosen one first, and what was known but did not apply."""

    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Candidate:
        """The chosen one."""
        return self.candidates[0]


def consider(task: Task) -> tuple[Candidate, ...]:
    """Every template's default for the task, the best by predicted cycles first."""
    found = []
    for template in templates(task.target.family):
        reason = template.supports(task)
        try:
            config = template.default(task) if reason is None else None
            reason = reason or too_inexact(task, template, config)
        except UnsupportedSpec as error:
            reason = error.message
        if reason is not None or config is None:
            found.append(Candidate(template, None, float("inf"), reason or ""))
            continue
        cycles = template.cycles(task, config)
        reason = f"{cycles:.3g} cycles predicted"
        found.append(Candidate(template, config, cycles, reason, "analytic"))
    return tuple(sorted(found, key=lambda c: _weighed(task, c, c.cycles)))


def choose(task: Task, algorithm: str | None = None, records: Paths = None) -> Candidate:
    """The best candidate, or the best one of a forced algorithm or template id.

    Raises:
        UnsupportedSpec: when nothing fits; the error lists every template's reason.
        RecordsError: a records file that cannot be read.
    """
    return decide(task, algorithm, records).best


def decide(
    task: Task, algorithm: str | None = None, records: Paths = None, *, shipped: bool = True
) -> Choice:
    """All candidates with what is known of them, the chosen one first.

    Without ``shipped``, the records that ship are left out of account: what an unseen spec gets.

    Raises:
        UnsupportedSpec: when nothing fits; the error lists every template's reason.
        RecordsError: a records file that cannot be read.
    """
    considered = consider(task)
    wanted = [c for c in considered if algorithm in (None, c.template.algorithm, c.template.id)]
    if not wanted:
        known = sorted({c.template.algorithm for c in considered})
        ids = [c.template.id for c in considered]
        raise UnsupportedSpec("algorithm", algorithm, ", ".join((*known, *ids)))
    if not wanted[0].fits:
        reasons = "; ".join(f"{c.template.id}: {c.reason}" for c in wanted)
        raise UnsupportedSpec(f"{task.spec} on {task.target.id}: no template fits ({reasons})")
    others = tuple(
        replace(c, reason=f"not asked for: algorithm is {algorithm}", config=None, tier="")
        for c in considered
        if c not in wanted
    )
    notes: list[str] = []
    wanted = _predicted(task, wanted, notes)
    ours = shipped_sources(task.target) if shipped else ()
    tuned = _tuned(
        task, {c.template.id for c in wanted if c.fits}, own_sources(records), ours, notes
    )
    if tuned is not None:
        wanted = [tuned, *(c for c in wanted if c.template.id != tuned.template.id)]
    return Choice((*wanted, *others), tuple(notes))


def too_inexact(task: Task, template: Template, config: Config | None) -> str | None:
    """Why a config's answers are not exact enough for the task, or None; direct sums always are."""
    if config is None:
        return None
    accuracy = template.accuracy(task, config)
    error = 0.0 if accuracy == DIRECT else get_accuracy(accuracy).relative_error
    if error > task.max_error:
        return f"relative error {error:.2g} above max_error {task.max_error:.2g}"
    return None


def _predicted(task: Task, wanted: list[Candidate], notes: list[str]) -> list[Candidate]:
    """The candidates with the config that the cost model likes best, sorted by its seconds."""
    model, reason = prior(task.target)
    if model is None:
        notes.append(reason)
        return wanted
    found = [_ask(model, task, candidate, notes) for candidate in wanted]
    per_cycle = model.seconds_per_cycle
    return sorted(
        found,
        key=lambda c: _weighed(task, c, c.cycles * per_cycle if c.seconds is None else c.seconds),
    )


def _weighed(task: Task, candidate: Candidate, time: float) -> float:
    """A candidate's time, with what its inexactness has to be worth."""
    config = candidate.config
    if config is None or candidate.template.accuracy(task, config) in OWN_PRODUCTS:
        return time
    return time * LEAST_GAIN_OF_A_TRANSFORM


def _ask(model: CostModel, task: Task, candidate: Candidate, notes: list[str]) -> Candidate:
    """The candidate with the best of its template's shortlist; as it is when unknown."""
    template = candidate.template
    if candidate.config is None or not model.knows(template.id):
        return candidate
    one = replace(task, threads=1)
    try:
        default = candidate.config if task.threads == 1 else template.default(one)
        configs, seconds = predict_shortlist(model, one, template, default)
        best = configs[int(seconds.argmin())]
        config = _spread(task, template, best)
    except (RecordsError, InvalidConfig) as error:
        notes.append(f"{template.id} is not predicted: {error}")
        return candidate
    expected = float(seconds.min()) * _gain(task, template, best, config)
    text = f"{1e6 * expected:.3g} us predicted"
    cycles = template.cycles(task, config)
    return Candidate(template, config, cycles, text, "predicted", expected)


def predict_shortlist(
    model: CostModel, task: Task, template: Template, default: Config
) -> tuple[list[Config], Floats]:
    """A template's default and shortlist, where exact enough for the task, and seconds of each.

    Raises:
        RecordsError: as ``CostModel.predict``.
    """
    configs = [
        config
        for config in dict.fromkeys((default, *template.shortlist(task)))
        if too_inexact(task, template, config) is None
    ]
    return configs, model.predict(task, template, configs)


def _spread(task: Task, template: Template, config: Config) -> Config:
    """A one-thread config for the task's threads.

    Raises:
        InvalidConfig: it does not apply there.
    """
    spread = config if task.threads == 1 else template.spread(task, config)
    template.space(task).check(spread)
    return spread


def _gain(task: Task, template: Template, one: Config, spread: Config) -> float:
    """By what factor the analytic prediction changes from one thread to the task's."""
    if task.threads == 1:
        return 1.0
    before = tabulate(replace(task, threads=1), template, [one]).log_cycles[0]
    return exp(tabulate(task, template, [spread]).log_cycles[0] - before)


def _tuned(
    task: Task, ids: set[str], own: tuple[Source, ...], ours: tuple[Source, ...], notes: list[str]
) -> Candidate | None:
    """The best record that applies, of the caller's files or else of ours."""
    for source in own:
        notes.extend(map(str, source.problems))
    for sources in (own, ours):
        by_threads = {
            threads: _applying(task, threads, ids, sources, notes)
            for threads in dict.fromkeys((task.threads, 1))
        }
        for target_id in task.target.record_ids:
            for threads, applying in by_threads.items():
                mine = [record for record in applying if record.target == target_id]
                best = _best_of(task, target_id, threads, mine, notes)
                if best is not None:
                    return best
    return _estimated(task, ids, own)


def _estimated(task: Task, ids: set[str], sources: Iterable[Source]) -> Candidate | None:
    """The config of least static cost, of the caller's files: `tvmconv tune --no-device`."""
    applying = [
        record
        for source in sources
        for record in source.of(task)
        if record.stage == "static" and _refusal(task, record, ids) is None
    ]
    ranked = best_estimates(applying)
    if not ranked:
        return None
    best = ranked[0]
    template, config = get_template(best.template), Config.parse(best.config)
    text = f"least static cost ({best.message})"
    return Candidate(template, config, template.cycles(task, config), text, "static")


def _best_of(
    task: Task, target_id: str, threads: int, applying: Sequence[Record], notes: list[str]
) -> Candidate | None:
    """The best of records that were measured for this target and number of threads."""
    measured = replace(task, threads=threads)
    defaults = {
        template_id: str(get_template(template_id).default(measured))
        for template_id in {record.template for record in applying}
    }
    ranked = best_records(applying, lambda r: r.config == defaults[r.template])
    if not ranked:
        return None
    best = ranked[0]
    fastest_trial = min(applying, key=lambda r: r.score)
    if best.config == defaults[best.template] and fastest_trial.config != best.config:
        notes.append(f"{fastest_trial.config} was no faster than the default when measured again")
    template = get_template(best.template)
    one = Config.parse(best.config)
    try:
        config = one if threads == task.threads else _spread(task, template, one)
    except InvalidConfig as error:
        notes.append(f"one thread's record does not serve {task.threads}: {error.message}")
        return None
    gain = 1.0 if threads == task.threads else _gain(task, template, one, config)
    when = f"{best.stage} of {best.time[:10] or 'unknown date'}"
    if target_id != task.target.id:
        when += f" for {target_id}"
    text = f"{1e6 * best.score:.3g} us measured ({when}"
    text += ")" if threads == task.threads else f", one thread; spread over {task.threads})"
    cycles = template.cycles(task, config)
    return Candidate(template, config, cycles, text, "tuned", best.score * gain)


def _applying(
    task: Task, threads: int, ids: set[str], sources: Iterable[Source], notes: list[str]
) -> list[Record]:
    """Measurements with this number of threads that apply; of the task's own, why others do not."""
    measured = replace(task, threads=threads)
    applying: list[Record] = []
    refused: Counter[str] = Counter()
    for source in sources:
        for record in source.of(task):
            if record.status != "ok" or record.stage == "static":
                continue
            reason = _refusal(measured, record, ids)
            if reason is None:
                applying.append(record)
            else:
                refused[f"{source.name}: {reason}"] += 1
    if threads == task.threads:
        notes.extend(f"{reason} ({count} records)" for reason, count in refused.items())
    return applying


def _refusal(task: Task, record: Record, ids: set[str]) -> str | None:
    """Why a record of the task's spec does not apply, or None."""
    if record.target not in task.target.record_ids:
        return f"measured for {record.target}, not {task.target.id}"
    if record.threads != task.threads:
        return f"measured with {record.threads} threads, not {task.threads}"
    try:
        template = get_template(record.template)
        config = Config.parse(record.config)
        if record.template not in ids:
            return f"{record.template} does not take the task or was not asked for"
        template.space(task).check(config)
        return too_inexact(task, template, config)
    except TvmconvError as error:
        return error.message
