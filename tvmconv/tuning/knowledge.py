"""What is known of a task without measuring: the caller's records, shipped records, the prior.

``schedules/tuned/`` holds ``<target id>.jsonl``, the best records of well-known networks,
``prior_<family>.json.gz``, a cost model for all other specs, and for some targets
``prior_<target id>.json.gz``, which corrects it. Files are read once per process and again when
they changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path

from tvmconv.errors import ArgumentError, TvmconvError
from tvmconv.target import Target
from tvmconv.template import Task
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.records import Record, Unreadable, read_records, tuning_key

Paths = str | Path | Sequence[str | Path] | None


@dataclass(frozen=True)
class Source:
    """Records of one file: by tuning key, and the lines that could not be read."""

    name: str
    by_key: dict[str, tuple[Record, ...]]
    problems: tuple[Unreadable, ...]

    def of(self, task: Task) -> tuple[Record, ...]:
        """Records of the task's spec, whatever their target and threads."""
        return self.by_key.get(tuning_key(task.spec), ())


def own_sources(records: Paths) -> tuple[Source, ...]:
    """The caller's files.

    Raises:
        ArgumentError: neither a path nor paths.
        RecordsError: a file that cannot be read.
    """
    if records is None:
        return ()
    paths = [records] if isinstance(records, str | Path) else records
    if not isinstance(paths, Sequence) or not all(isinstance(p, str | Path) for p in paths):
        raise ArgumentError("records", records, "a path, a sequence of paths, or None")
    return tuple(_read(Path(path)) for path in paths)


@cache
def shipped_sources(target: Target) -> tuple[Source, ...]:
    """Best records that ship for a target, and for the one whose records serve it as well."""
    paths = [_shipped(f"{target_id}.jsonl") for target_id in target.record_ids]
    return tuple(_read(path) for path in paths if path.is_file())


@cache
def prior(target: Target) -> tuple[CostModel | None, str]:
    """The cost model that ships for a target, or the reason why there is none."""
    path, own = (_shipped(f"prior_{name}.json.gz") for name in (target.family, target.id))
    if not path.is_file():
        return None, f"no cost model ships for {target.family}"
    try:
        model = CostModel.load(path)
        return CostModel.load(own, upon=model) if own.is_file() else model, ""
    except TvmconvError as error:
        return None, f"the shipped cost model is not used: {error}"


def _shipped(name: str) -> Path:
    return Path(str(resources.files("tvmconv.schedules") / "tuned" / name))


def _read(path: Path) -> Source:
    try:
        stamp = path.stat()
    except OSError:
        return _read_at(path, 0, 0)
    return _read_at(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=16)
def _read_at(path: Path, modified: int, size: int) -> Source:
    """Read a file in the state that modification time and size tell."""
    del modified, size
    records, problems = read_records(path)
    by_key: dict[str, list[Record]] = {}
    for record in records:
        by_key.setdefault(tuning_key(record.spec), []).append(record)
    return Source(path.name, {key: tuple(some) for key, some in by_key.items()}, problems)
