"""What a pool of processes keeps track of: its devices, and the trials in flight."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Protocol

from tvmconv.tuning.artifact import Artifact
from tvmconv.tuning.measure import OnDone, Outcome, Trial
from tvmconv.tuning.processes import Build, Prepare
from tvmconv.tuning.runner import Request

# A trial with which devices were lost so often is given up.
MAX_LOSSES = 3
# A lost device is tried again after 1, 2, 4, 8 and then every 16 s: a board restarts in 20 to 60 s.
FIRST_RETRY, LONGEST_RETRY = 1.0, 16.0
GONE = "no device is left"

_LOG = logging.getLogger(__name__)

Entry = tuple[int, Trial, Artifact]


class Device(Protocol):
    """Where candidates are timed.

    Attributes:
        name: for messages.
        cores: of this machine, that timing needs for itself.
        batch: how many trials it takes at once.
        connection: where answers come from; None before the first request.
        deadline: monotonic time at which the request in progress is given up.
    """

    name: str
    cores: frozenset[int]
    batch: int
    connection: Connection | None
    deadline: float

    def give(self, request: Request, timeout: float) -> None:
        """Start on a request; ``timeout`` seconds are enough for its candidates alone."""

    def take(self) -> list[Outcome]:
        """The outcomes of the request's first candidates.

        The rest was not begun. Where the last outcome says that the device was lost, it is that of
        the candidate that it was lost with, or ``begun`` is False.
        """

    def kill(self) -> None:
        """End it now; the next request starts it again."""

    def close(self) -> None:
        """End it for good, and take back what was put on it."""


@dataclass
class Slot:
    """A device and what is on it.

    Attributes:
        device: the device.
        absence: seconds without an answer after which it is given up.
        entries: the trials and libraries that are being timed.
        losses: how often in a row the device was lost.
        retry_at: monotonic time before which it is left alone.
        dead: whether it was given up.
    """

    device: Device
    absence: float
    entries: tuple[Entry, ...] = ()
    losses: int = 0
    retry_at: float = 0.0
    dead: bool = False
    _since: float = 0.0

    def lose(self, outcome: Outcome) -> None:
        """Leave it alone for a while, twice as long each time, and say so."""
        now = time.monotonic()
        # Where a trial was begun, it was there until just now.
        if outcome.begun or self.losses == 0:
            self.losses, self._since = 0, now
        self.losses += 1
        pause = min(LONGEST_RETRY, FIRST_RETRY * 2.0 ** (self.losses - 1))
        self.retry_at = now + pause
        self.dead = now - self._since >= self.absence
        then = f"given up after {self.absence:g} s" if self.dead else f"again in {pause:g} s"
        _LOG.warning("lost %s: %s; %s", self.device.name, outcome.message, then)


@dataclass
class Run:
    """What one call of ``measure`` has in flight; trials are known by their index."""

    trials: Iterator[tuple[int, Trial]]
    on_done: OnDone
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    jobs: deque[Prepare | Build] = field(default_factory=deque)
    building: dict[int, tuple[int, Trial]] = field(default_factory=dict)  # by build number
    ready: deque[Entry] = field(default_factory=deque)
    crashed: set[int] = field(default_factory=set)
    lost: dict[int, int] = field(default_factory=dict)
    exhausted: bool = False

    def done(self, index: int, outcome: Outcome) -> None:
        """Keep an outcome and tell of it."""
        self.outcomes[index] = outcome
        self.on_done(index, outcome)

    def again(self, entries: Sequence[Entry]) -> None:
        """Put entries back before all others."""
        self.ready.extendleft(reversed(entries))


def ask_any(slots: Sequence[Slot], request: Request) -> list[Outcome]:
    """Outcomes of a request's first candidates by one device; a lost one is waited for."""
    lost = 0
    while lost < MAX_LOSSES and (alive := [slot for slot in slots if not slot.dead]):
        slot = min(alive, key=lambda one: one.retry_at)
        time.sleep(max(0.0, slot.retry_at - time.monotonic()))
        outcomes = _asked(slot.device, request)
        last = outcomes[-1]
        if last.status != "device_lost":
            slot.losses = 0
            return outcomes
        slot.lose(last)
        lost += last.begun
    return [Outcome("device_lost", GONE)] * len(request.artifacts)


def _asked(device: Device, request: Request) -> list[Outcome]:
    device.give(request, request.timeout * len(request.artifacts))
    left = max(0.0, device.deadline - time.monotonic())
    if device.connection is not None and not wait([device.connection], left):
        device.kill()
        return [Outcome("timed_out", "measuring again took too long")]
    return device.take()
