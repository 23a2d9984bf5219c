"""Writes what was measured to a records file, with what every record of a run shares."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tvmconv.tuning.records import Journal, Record, read_records

if TYPE_CHECKING:
    from tvmconv.template import Task
    from tvmconv.tuning.measure import Outcome, Trial

Measured = tuple[str, str]  # template, config
# What decides which code comes out.
CODE_VERSIONS = ("tvmconv", "apache-tvm")
# A device's death says nothing about the config that it was measuring.
UNDECIDED = frozenset({"device_lost"})


def run_name() -> str:
    """What the records of one run have in common: when it began, and four digits of chance."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


class Log:
    """One run's records; a context manager."""

    def __init__(
        self, path: str | Path, threads: int, cpu: str | None = None, *, static: bool = False
    ) -> None:
        """Name the file.

        Args:
            path: of the records.
            threads: of the kernels.
            cpu: what it is measured on when that is not this machine.
            static: whether seconds are estimates. The file then says so of every record, and only
                estimates are taken from it; to the run itself they are trials like any other.
        """
        self._static = static
        self.run = run_name()
        shared = Record.now(
            spec="", target="", template="", config="", threads=threads, status="invalid"
        )
        self._shared = replace(shared, run=self.run, cpu=shared.cpu if cpu is None else cpu)
        self._journal = Journal(path)

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._journal.close()

    def write(self, trial: Trial, outcome: Outcome, stage: str = "trial") -> Record:
        """Append a record and return it.

        Raises:
            RecordsError: the file cannot be written; earlier records are intact.
        """
        record = replace(
            self._shared,
            spec=str(trial.task.spec),
            target=trial.task.target.id,
            template=trial.template_id,
            config=str(trial.config),
            status=outcome.status,
            message=outcome.message,
            # Five digits are a hundredth of what two samples of one kernel differ by.
            seconds=tuple(float(f"{sample:.5g}") for sample in outcome.seconds),
            stage=stage,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._journal.append(replace(record, stage="static") if self._static else record)
        return record

    def comparable(self, records: Iterable[Record]) -> tuple[Record, ...]:
        """Those of the same CPU and versions: only their times compare with this run's."""
        mine = self._shared
        return tuple(
            replace(r, stage="trial") if self._static else r
            for r in records
            if r.cpu == mine.cpu
            and (r.stage == "static") == self._static
            and all(r.versions.get(name) == mine.versions[name] for name in CODE_VERSIONS)
        )


def read_existing(path: str | Path) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """Records of a file that need not exist yet, and what could not be read, in words."""
    if not Path(path).is_file():
        return (), ()
    records, problems = read_records(path)
    return records, tuple(map(str, problems))


def of_task(records: Iterable[Record], task: Task) -> tuple[Record, ...]:
    """The records that hold for a task."""
    from tvmconv.tuning.records import tuning_key

    key = tuning_key(task.spec), task.target.id, task.threads
    return tuple(record for record in records if record.key == key)


def measured(records: Iterable[Record]) -> set[Measured]:
    """Which configs need no further trial."""
    return {(r.template, r.config) for r in records if r.status not in UNDECIDED}
