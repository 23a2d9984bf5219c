"""What a pool of processes keeps track of: its devices, and the trials in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Protocol

from tvmconv.tuning.candidate import Artifact
from tvmconv.tuning.measure import OnDone, Outcome, Trial
from tvmconv.tuning.processes import Build, Prepare
from tvmconv.tuning.runner import Request

# A device that was lost so often in a row is given up; so is a trial that was on a device each of
# so many times that one was lost.
MAX_LOSSES = 4


class Device(Protocol):
    """Where candidates are timed.

    Attributes:
        name: for messages.
        cores: of this machine, that timing needs for itself.
        connection: where answers come from; None before the first request.
        deadline: monotonic time at which the request in progress is given up.
    """

    name: str
    cores: frozenset[int]
    connection: Connection | None
    deadline: float

    def give(self, request: Request, timeout: float) -> None:
        """Start on a request."""

    def take(self) -> list[Outcome]:
        """The outcomes of the request, or one that says what ended it."""

    def kill(self) -> None:
        """End it now; the next request starts it again."""


@dataclass
class Slot:
    """A device and what is on it.

    Attributes:
        device: the device.
        entry: index, trial and library that are being timed.
        retried: whether the entry crashed once already.
        losses: how often in a row the device was lost.
        retry_at: monotonic time before which it is left alone.
    """

    device: Device
    entry: tuple[int, Trial, Artifact] | None = None
    retried: bool = False
    losses: int = 0
    retry_at: float = 0.0

    @property
    def dead(self) -> bool:
        """Whether it was lost too often."""
        return self.losses >= MAX_LOSSES


@dataclass
class Run:
    """What one call of ``measure`` has in flight; trials are known by their index."""

    trials: Iterator[tuple[int, Trial]]
    on_done: OnDone
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    jobs: deque[Prepare | Build] = field(default_factory=deque)
    building: dict[int, tuple[int, Trial]] = field(default_factory=dict)  # by build number
    ready: deque[tuple[int, Trial, Artifact]] = field(default_factory=deque)
    lost: dict[int, int] = field(default_factory=dict)
    exhausted: bool = False

    def done(self, index: int, outcome: Outcome) -> None:
        """Keep an outcome and tell of it."""
        self.outcomes[index] = outcome
        self.on_done(index, outcome)
