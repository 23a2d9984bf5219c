"""A device of another machine, behind a forked process here that talks to it.

A device that hangs or dies so holds up nothing else, and what a client library does at such a
moment stays in that process.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from tvmconv.errors import DeviceUnreachable, TvmconvError
from tvmconv.tuning.facts import Facts, check_alike
from tvmconv.tuning.measure import Outcome
from tvmconv.tuning.pool import Pool
from tvmconv.tuning.processes import die_with_parent, signal_name
from tvmconv.tuning.runner import Request

# What a client may take to put things in order when it is told to end.
LEAVE = 10.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class AskFacts:
    """A request: say what the device is."""


@dataclass(frozen=True)
class Leave:
    """A request: put the device in order and end.

    A closed connection would not be noticed: other forked processes hold its end as well.
    """


class Client(Protocol):
    """Talks to one device, in a process of its own."""

    def facts(self) -> Facts:
        """What the device is.

        Raises:
            DeviceError: it cannot be used; says why.
        """

    def answer(self, request: Request) -> list[Outcome]:
        """See slots.Device.take."""

    def leave(self) -> None:
        """Take back what was put on the device."""

    @property
    def spent(self) -> bool:
        """Whether the next request should have another client, in a process of its own."""


class ClientDevice:
    """A device through its client; see slots.Device."""

    def __init__(
        self,
        name: str,
        client: Callable[[], Client],
        *,
        batch: int,
        allowance: float,
        leaves: bool = False,
    ) -> None:
        """Remember how to reach it; nothing is connected yet.

        Args:
            name: for messages.
            client: makes the client, in its process.
            batch: how many candidates a request may have.
            allowance: seconds for connecting and copying.
            leaves: whether a client has something to take back at the end.
        """
        self.name = name
        self.cores: frozenset[int] = frozenset()
        self.batch = batch
        self.connection: Connection | None = None
        self.deadline = float("inf")
        self._client, self._allowance, self._leaves = client, allowance, leaves
        self._process: Any = None
        self._used = False

    def give(self, request: Request | AskFacts | Leave, timeout: float) -> None:
        """Start on a request; connecting and copying have time of their own."""
        if self._process is None or not self._process.is_alive():
            self.kill()
            self.connection, inner = multiprocessing.Pipe()
            context = multiprocessing.get_context("fork")
            arguments = (inner, self.connection, self._client, os.getpid())
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
            self._process.start()
            inner.close()
        self._used = True
        self.deadline = time.monotonic() + timeout + self._allowance
        assert self.connection is not None
        self.connection.send(request)

    def take(self) -> list[Outcome]:
        """The outcomes of the request's first candidates."""
        answer = self._heard()
        if isinstance(answer, str):
            return [Outcome("device_lost", answer)]
        outcomes: list[Outcome] = answer
        return outcomes

    def facts(self) -> Facts:
        """Ask the device what it is.

        Raises:
            DeviceError: it cannot be used.
            TvmconvError: what it takes is missing here.
        """
        self.give(AskFacts(), 0.0)
        assert self.connection is not None
        if not self.connection.poll(max(0.0, self.deadline - time.monotonic())):
            self.kill()
            raise DeviceUnreachable(f"{self.name}: no answer after {self._allowance:g} s")
        answer = self._heard()
        if isinstance(answer, TvmconvError):
            raise answer
        if isinstance(answer, str):
            raise DeviceUnreachable(answer)
        assert isinstance(answer, Facts)
        return answer

    def _heard(self) -> Any:
        """What the client sends; a text that says how it ended."""
        assert self.connection is not None
        self.deadline = float("inf")
        try:
            answer, spent = self.connection.recv()
            if spent:
                self.kill()
            return answer
        except (EOFError, OSError):
            self._process.join()
            how = signal_name(self._process.exitcode)
            self.kill()
            return f"{self.name}: its client ended with {how}"

    def kill(self) -> None:
        """Drop the connection now."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self.deadline = float("inf")

    def close(self) -> None:
        """Leave the device as it was, with a new client where the last one is busy or gone."""
        if self._used and self._leaves:
            if self.deadline < float("inf"):
                self.kill()
            with suppress(OSError):
                self.give(Leave(), 0.0)
                self._process.join(LEAVE)
        self._used = False
        self.kill()


def _serve(
    connection: Connection, other: Connection, client: Callable[[], Client], parent: int
) -> None:
    """A client's life: requests come in, outcomes go out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    other.close()
    die_with_parent(parent)
    made = client()
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        if isinstance(request, Leave):
            made.leave()
            return
        if isinstance(request, AskFacts):
            try:
                connection.send((made.facts(), made.spent))
            except TvmconvError as error:
                connection.send((error, True))
        else:
            connection.send((made.answer(request), made.spent))


class ClientPool(Pool):
    """A Measurer of other machines: a Pool whose devices are ClientDevices."""

    def connect(self) -> tuple[Facts, ...]:
        """Reach every device, and make sure that all are the target and of one kind.

        Their times compare with those of any such device, so records name the kind and not the
        address.

        Raises:
            DeviceError: one does not answer, is another machine, or has no space.
            TvmconvError: what it takes is missing here.
        """
        devices = [slot.device for slot in self._slots]
        found = tuple(device.facts() for device in devices if isinstance(device, ClientDevice))
        self.machine = check_alike(found, [device.name for device in devices])
        for device, facts in zip(devices, found, strict=True):
            _LOG.info("%s: %s, %s, %d cores", device.name, facts.label, facts.machine, facts.cores)
        return found
