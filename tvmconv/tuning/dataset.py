"""Records as training data: features and times of each template's measurements, spec by spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvmconv.errors import InvalidConfig, TvmconvError, UnsupportedSpec
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning.features import Table, tabulate
from tvmconv.tuning.records import Record, tuning_key

Floats = NDArray[np.float64]

# A config that failed counts as this much slower than the slowest of its spec that worked.
FAILED_FACTOR = 2.0
# A device that went away says nothing of the config that was on it.
IGNORED = ("device_lost",)


@dataclass(frozen=True, eq=False)
class Rows:
    """Measurements of one template.

    Attributes:
        names: of the feature columns.
        features: one row per measurement.
        log_cycles: analytic prediction of each.
        log_seconds: what was measured, or what a failure counts as.
        groups: number of the spec, target and threads of each.
        keys: their names.
    """

    names: tuple[str, ...]
    features: NDArray[np.float32]
    log_cycles: Floats
    log_seconds: Floats
    groups: NDArray[np.int64]
    keys: tuple[str, ...]

    def of_groups(self, keep: Sequence[int]) -> Rows:
        """The measurements of some groups."""
        wanted = np.isin(self.groups, keep)
        number = np.zeros(len(self.keys), dtype=np.int64)
        number[list(keep)] = np.arange(len(keep))
        return Rows(
            self.names,
            self.features[wanted],
            self.log_cycles[wanted],
            self.log_seconds[wanted],
            number[self.groups[wanted]],
            tuple(self.keys[group] for group in keep),
        )


def key_of(task: Task) -> str:
    """Name of a group: tuning key, target and threads."""
    return f"{tuning_key(task.spec)} {task.target.id} {task.threads}"


def rows_of(records: Sequence[Record]) -> dict[str, Rows]:
    """Training data by template id; records that no longer apply are left out."""
    found = {
        template_id: _rows(template_id, of_template)
        for template_id, of_template in _by_template(records).items()
    }
    return {template_id: rows for template_id, rows in found.items() if rows is not None}


def _by_template(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        measured = record.status not in IGNORED and record.stage != "static"
        if measured and _is_known(record.template):
            found.setdefault(record.template, []).append(record)
    return dict(sorted(found.items()))


def _is_known(template_id: str) -> bool:
    try:
        get_template(template_id)
    except UnsupportedSpec:
        return False
    return True


def _rows(template_id: str, records: Sequence[Record]) -> Rows | None:
    """Features of records, spec by spec; None when none of them applies any more."""
    by_key: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        by_key.setdefault(record.key, []).append(record)
    template = get_template(template_id)
    tables: list[Table] = []
    seconds: list[float] = []
    groups: list[int] = []
    keys: list[str] = []
    for (spec, target, threads), some in by_key.items():
        try:
            task = Task(ConvSpec.parse(spec), load(target), threads)
        except TvmconvError:
            continue
        if template.supports(task) is not None:
            continue
        knobs = tuple(template.space(task).knobs)
        applying = [(r, c) for r in some if (c := _config_of(knobs, r.config)) is not None]
        worked = [r.score for r, _ in applying if r.status == "ok"]
        if not worked:
            continue
        tables.append(tabulate(task, template, [config for _, config in applying]))
        failed = FAILED_FACTOR * max(worked)
        seconds += [r.score if r.status == "ok" else failed for r, _ in applying]
        groups += [len(keys)] * len(applying)
        keys.append(key_of(task))
    if not tables:
        return None
    return Rows(
        tables[0].names,
        np.concatenate([table.rows for table in tables]),
        np.concatenate([table.log_cycles for table in tables]),
        np.log(np.array(seconds)),
        np.array(groups, dtype=np.int64),
        tuple(keys),
    )


def _config_of(knobs: tuple[str, ...], text: str) -> Config | None:
    """The config when it has the space's knobs; values that are no choice any more still teach."""
    try:
        config = Config.parse(text)
    except InvalidConfig:
        return None
    return config if tuple(name for name, _ in config.items) == knobs else None
