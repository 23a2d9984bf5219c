"""Makes what ships in schedules/tuned/: the best record per spec, and the prior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tvmconv.choose import predict_shortlist
from tvmconv.errors import RecordsError, TvmconvError, UnsupportedSpec
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template, templates
from tvmconv.tolerance import DIRECT
from tvmconv.tuning.log import CODE_VERSIONS
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.records import Record, best_records

# A prediction this far below a measurement is rarely wrong about which is faster.
BEATABLE = 0.85


def best_of_each(records: Sequence[Record], model: CostModel | None = None) -> list[Record]:
    """The fastest applying record of each key, and of each that is exact where that one is not.

    The second serves callers who force "direct" or allow less error. Samples are reduced to the
    least, versions to what the code depends on. A final measurement replaces what is older than its
    run. Where only a few configs of a spec were measured, the best of them may be far from good: a
    record that ``model`` expects to beat is left out.
    """
    by_key: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        if record.status == "ok":
            by_key.setdefault(record.key, []).append(record)
    return [record for key, some in sorted(by_key.items()) for record in _kept(key, some, model)]


def _kept(
    key: tuple[str, str, int], records: Sequence[Record], model: CostModel | None
) -> list[Record]:
    """What ships of one key: the best record, and the best exact one."""
    accuracies = {(r.template, r.config): _accuracy(key, r) for r in records}
    applying = [r for r in records if accuracies[r.template, r.config] is not None]
    defaults = {template_id: _default(key, template_id) for template_id, _ in accuracies}
    best = best_records(_of_last_contest(applying), lambda r: r.config == defaults[r.template])
    if not best or (model is not None and _beatable(key, best[0], model)):
        return []
    exact = [r for r in best if accuracies[r.template, r.config] == DIRECT][:1]
    return [_lean(key, r) for r in (best[0], *(r for r in exact if r != best[0]))]


def write_best(
    records: Sequence[Record], folder: Path, model: CostModel | None = None
) -> dict[str, int]:
    """Write ``<target id>.jsonl`` for each target of the records; returns how many lines each has.

    Raises:
        RecordsError: the folder cannot be written.
    """
    lines: dict[str, list[str]] = {}
    for record in best_of_each(records, model):
        lines.setdefault(record.target, []).append(record.line)
    for target, some in lines.items():
        path = folder / f"{target}.jsonl"
        try:
            path.write_text("\n".join(some) + "\n", encoding="utf-8")
        except OSError as error:
            raise RecordsError(f"cannot write {path}: {error.strerror}") from error
    return {target: len(some) for target, some in lines.items()}


def _task(key: tuple[str, str, int]) -> Task:
    spec, target, threads = key
    return Task(ConvSpec.parse(spec), load(target), threads, max_error=float("inf"))


def _of_last_contest(records: Sequence[Record]) -> list[Record]:
    """The records without those that the newest final measurement replaces: older ones.

    It was timed beside the best known then; those of its own run stay, and what is newer.
    """
    final = [record for record in records if record.stage == "final"]
    if not final:
        return list(records)
    last = max(final, key=lambda r: r.time)
    return [r for r in records if r.run == last.run or r.time > last.time]


def _beatable(key: tuple[str, str, int], record: Record, model: CostModel) -> bool:
    """Whether the model knows a config that it expects to be faster by more than it errs."""
    spec, target, threads = key
    task = Task(ConvSpec.parse(spec), load(target), threads)
    for template in templates(task.target.family):
        if template.supports(task) is not None or not model.knows(template.id):
            continue
        try:
            _, seconds = predict_shortlist(model, task, template, template.default(task))
        except UnsupportedSpec:
            continue
        if seconds.min(initial=record.score) < BEATABLE * record.score:
            return True
    return False


def _accuracy(key: tuple[str, str, int], record: Record) -> str | None:
    """Accuracy class of a record's config, None when it no longer applies."""
    try:
        task, template = _task(key), get_template(record.template)
        config = Config.parse(record.config)
        if template.supports(task) is not None:
            return None
        template.space(task).check(config)
        return template.accuracy(task, config)
    except TvmconvError:
        return None


def _default(key: tuple[str, str, int], template_id: str) -> str:
    try:
        return str(get_template(template_id).default(_task(key)))
    except TvmconvError:
        return ""


def _lean(key: tuple[str, str, int], record: Record) -> Record:
    versions = {name: v for name, v in record.versions.items() if name in CODE_VERSIONS}
    seconds = (float(f"{record.score:.4g}"),)
    return replace(record, spec=key[0], seconds=seconds, versions=versions, message="", run="")
