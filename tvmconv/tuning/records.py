"""Records of measurements: JSON lines, one flushed line per trial, readable by hand.

A record says what was measured (spec, target, template, config, threads), what came of it (status,
samples) and with what (versions, CPU). Files only grow: whatever happens to a run, its earlier
lines stay as they are, and a line that cannot be read costs that line alone. docs/knowledge.md
shows the format.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tvmconv.errors import RecordsError, TvmconvError
from tvmconv.spec import ConvSpec

# Readers refuse a greater number; a lesser one is converted here when there is one.
FORMAT = 1
STATUSES = (
    "ok",
    "build_failed",
    "crashed",
    "timed_out",
    "wrong_answer",
    "invalid",
    "device_lost",
)
STAGES = ("trial", "final", "static")


@dataclass(frozen=True)
class Record:
    """One measurement of one config.

    Attributes:
        spec: text of the spec.
        target: id of the target.
        template: id of the template.
        config: text of the config.
        threads: how many threads a call used.
        status: one of STATUSES.
        message: text of the failure, empty when ok; of a static cost, what it comes from.
        seconds: samples per call; empty unless ok.
        stage: "trial", or "final" when measured again beside the best others and the default;
            "static" when nothing was measured and seconds are an estimate (static.py).
        run: names the tuning run, so that samples taken under the same conditions are known.
        versions: of the packages that the code came from.
        cpu: on which it ran.
        time: when, ISO 8601 in UTC.
        format: version of these fields.
    """

    spec: str
    target: str
    template: str
    config: str
    threads: int
    status: str
    message: str = ""
    seconds: tuple[float, ...] = ()
    stage: str = "trial"
    run: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    cpu: str = ""
    time: str = ""
    format: int = FORMAT

    @classmethod
    def now(cls, **given: Any) -> Record:
        """A record of this machine and moment; keywords are the fields."""
        versions, cpu = _machine()
        time = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(**{"versions": versions, "cpu": cpu, "time": time, **given})

    @property
    def score(self) -> float:
        """The least sample; infinite when there is none."""
        return min(self.seconds, default=float("inf"))

    @property
    def key(self) -> tuple[str, str, int]:
        """What a record holds for: tuning key, target id and threads."""
        return tuning_key(self.spec), self.target, self.threads

    @property
    def line(self) -> str:
        """The record as one line of a file, without the line's end."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        first = {"format": values.pop("format")}
        return json.dumps(first | values, default=dict, ensure_ascii=False)

    @classmethod
    def from_line(cls, text: str) -> Record:
        """Invert ``line``.

        Raises:
            RecordsError: what is wrong with the line.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise RecordsError(f"not JSON ({error})") from None
        if not isinstance(data, dict):
            raise RecordsError("not a JSON object")
        version = data.get("format")
        if not isinstance(version, int) or isinstance(version, bool) or version > FORMAT:
            raise RecordsError("format", version, f"at most {FORMAT}")
        names = {f.name for f in fields(cls)}
        missing = [name for name in _REQUIRED if name not in data]
        if missing or data.keys() - names:
            raise RecordsError(
                "fields", ", ".join(sorted(data)), f"{', '.join(sorted(names))}; missing {missing}"
            )
        for name, value in data.items():
            if not _KINDS[name][0](value):
                raise RecordsError(name, value, _KINDS[name][1])
        data["seconds"] = tuple(map(float, data.get("seconds", ())))
        if data["status"] == "ok" and not data["seconds"]:
            raise RecordsError("seconds", (), "at least one sample when the status is ok")
        try:
            tuning_key(data["spec"])
        except TvmconvError as error:
            raise RecordsError(f"spec: {error}") from None
        return cls(**data)


@cache
def _machine() -> tuple[dict[str, str], str]:
    from tvmconv.bench.machine import Machine

    here = Machine.here(threads=1)
    return dict(here.versions), here.cpu


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_samples(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, int | float) and not isinstance(one, bool) and 0 < one < float("inf")
        for one in value
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


_REQUIRED = ("spec", "target", "template", "config", "threads", "status")
_KINDS = {
    **dict.fromkeys(
        ("spec", "target", "template", "config", "message", "run", "cpu", "time"),
        (_is_text, "a text"),
    ),
    "threads": (_is_count, "an int >= 1"),
    "format": (_is_count, "an int >= 1"),
    "status": (lambda value: value in STATUSES, ", ".join(STATUSES)),
    "stage": (lambda value: value in STAGES, ", ".join(STAGES)),
    "seconds": (_are_samples, "positive seconds"),
    "versions": (_are_texts, "texts by name"),
}


@cache
def tuning_key(spec: str | ConvSpec) -> str:
    """Text of a spec without its epilogue: a config that is best for conv is for conv + ReLU too.

    Raises:
        SpecError: when the text is no spec.
    """
    return str((ConvSpec.parse(spec) if isinstance(spec, str) else spec).linear())


@dataclass(frozen=True)
class Unreadable:
    """A line that was skipped."""

    path: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


def read_records(path: str | Path) -> tuple[tuple[Record, ...], tuple[Unreadable, ...]]:
    """All records of a file, and the lines that are none, each with its number and reason.

    Raises:
        RecordsError: the file cannot be read at all.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise RecordsError(f"cannot read {path}: {error.strerror}") from error
    found, problems = [], []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            found.append(Record.from_line(line.decode("utf-8")))
        except UnicodeDecodeError:
            problems.append(Unreadable(str(path), number, "not UTF-8"))
        except RecordsError as error:
            problems.append(Unreadable(str(path), number, str(error)))
    return tuple(found), tuple(problems)


class Journal:
    """A records file that is being added to; opened by the first record.

    Each line is on the disk before ``append`` returns. What a killed writer left of its last line
    stays a line of its own, to be reported; what a full disk left of one is cut off again. Several
    processes may add to one file: a lock keeps their lines apart.
    """

    def __init__(self, path: str | Path) -> None:
        """Name the file; nothing is opened yet."""
        self.path = Path(path)
        self._file: int | None = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Add one line and wait until it is on the disk.

        Raises:
            RecordsError: the file cannot be written; earlier lines are as they were.
        """
        try:
            if self._file is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._file = os.open(self.path, flags, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                self._write_line(self._file, record.line.encode("utf-8") + b"\n")
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        except OSError as error:
            raise RecordsError(
                f"cannot write {self.path}: {error.strerror}; its earlier records are intact"
            ) from error

    def close(self) -> None:
        """Close the file; a later ``append`` opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @staticmethod
    def _write_line(file: int, line: bytes) -> None:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            line = b"\n" + line
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        except OSError:
            with suppress(OSError):  # else the next line starts on a new one, see above
                os.ftruncate(file, size)
            raise


def best_records(
    records: Sequence[Record], is_default: Callable[[Record], bool] = lambda record: False
) -> tuple[Record, ...]:
    """The ok records that speak for their configs, the fastest first.

    Of each config the newest final measurement counts, or else its fastest trial. Once any config
    but a default was measured again, final measurements alone are kept: a trial that was lucky
    must not beat them, and a winner that was slower than the default beside it comes behind it.
    Estimates are no measurements: see ``best_estimates``.
    """
    ok = sorted((record for record in records if record.status == "ok"), key=lambda r: r.time)
    final = [record for record in ok if record.stage == "final"]
    trials = [record for record in ok if record.stage == "trial"]
    only_final = not all(map(is_default, final))
    speaking: dict[tuple[str, str], Record] = {}
    for record in [*([] if only_final else sorted(trials, key=lambda r: -r.score)), *final]:
        speaking[record.template, record.config] = record
    return tuple(sorted(speaking.values(), key=lambda r: r.score))


def best_estimates(records: Sequence[Record]) -> tuple[Record, ...]:
    """The newest static cost of each config, the least first."""
    newest = {
        (record.template, record.config): record
        for record in sorted(records, key=lambda r: r.time)
        if record.status == "ok" and record.stage == "static"
    }
    return tuple(sorted(newest.values(), key=lambda r: r.score))
