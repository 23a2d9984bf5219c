"""A board that breaks down on cue: a transport of this machine, and what happens at which batch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tvmconv.tuning.batch import BEGUN, frames
from tvmconv.tuning.boards import Host
from tvmconv.tuning.transport import ConnectionLost, Finished, Transport

HERE = "sh -c {command}"


@dataclass(frozen=True)
class Death:
    """How a board dies while it runs a batch.

    Attributes:
        begun: of how many candidates it still said that they were begun.
        away: commands that do not reach it afterwards.
    """

    begun: int
    away: int = 0


@dataclass(frozen=True)
class FlakyHost(Host):
    """This machine as a board that dies, and has lost its files when it comes back.

    Attributes:
        deaths: by number of the batch, from 0.
        log: file that gets a line per candidate that was seen to begin.
    """

    deaths: Mapping[int, Death] = field(default_factory=dict)
    log: Path = Path("/dev/null")

    def open(self, shared: Path) -> Transport:
        return _Flaky(super().open(shared), self)


@dataclass
class _Flaky:
    inner: Transport
    host: FlakyHost
    batches: int = 0
    away: int = 0

    @property
    def name(self) -> str:
        return self.inner.name

    def copy(self, file: Path, to: str, timeout: float) -> Finished:
        self._reach()
        return self.inner.copy(file, to, timeout)

    def run(self, command: str, timeout: float, given: Path | None = None) -> Finished:
        self._reach()
        done = self.inner.run(command, timeout, given)
        if "./batch" not in command:
            return done
        death = self.host.deaths.get(self.batches)
        self.batches += 1
        out = done.out if death is None else _cut(done.out, death.begun)
        with self.host.log.open("a") as log:
            log.write("begun\n" * sum(frame.kind == BEGUN for frame in frames(out)))
        if death is None:
            return done
        self.away = death.away
        shutil.rmtree(command.split()[1])
        raise ConnectionLost(f"{self.name}: broken pipe", out)

    def _reach(self) -> None:
        if self.away:
            self.away -= 1
            raise ConnectionLost(f"{self.name}: no route to host")


def _cut(out: bytes, begun: int) -> bytes:
    """What had arrived when the last of so many candidates was begun, and a bit more."""
    kept = 0
    for frame in frames(out):
        begun -= frame.kind == BEGUN
        kept += 24 + len(frame.content)
        if begun == 0:
            break
    return out[: kept + 5]
