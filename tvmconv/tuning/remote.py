"""Measures on other machines over TVM's RPC; they need `apache-tvm` and nothing of ours.

Candidates are linked with our own runtime and expose what TVM's module loader looks for, so the
device runs the code that a bundle would run. Answers come back and are checked here. Each device
has a process of its own on this machine, so that one that hangs or dies holds up nothing else.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.errors import ArgumentError, EnvironmentProblem
from tvmconv.tuning.measure import Outcome
from tvmconv.tuning.pool import BUILD_TIMEOUT, RUN_TIMEOUT, Pool
from tvmconv.tuning.processes import signal_name
from tvmconv.tuning.rpc_address import CONNECT_TIMEOUT, Address, tracked_devices
from tvmconv.tuning.rpc_client import serve

if TYPE_CHECKING:
    from tvmconv.target import Target
    from tvmconv.tuning.runner import Request

__all__ = ["Address", "RemoteDevice", "RemoteMeasurer", "check_rpc", "tracked_devices"]

INSTALL = "pip install 'tvmconv[rpc]'"


class RemoteDevice:
    """A device, through a forked process that talks to it; see slots.Device."""

    def __init__(self, address: Address, number: int, session_timeout: float) -> None:
        """Remember where it is; nothing is connected yet."""
        self.name = f"{address} #{number}"
        self.cores: frozenset[int] = frozenset()
        self.connection: Connection | None = None
        self.deadline = float("inf")
        self._arguments = address, session_timeout
        self._process: Any = None

    def give(self, request: Request, timeout: float) -> None:
        """Start on a request; connecting has time of its own."""
        if self._process is None or not self._process.is_alive():
            self.kill()
            self.connection, inner = multiprocessing.Pipe()
            context = multiprocessing.get_context("fork")
            arguments = (inner, *self._arguments, os.getpid())
            self._process = context.Process(target=serve, args=arguments, daemon=True)
            self._process.start()
            inner.close()
        self.deadline = time.monotonic() + timeout + CONNECT_TIMEOUT
        assert self.connection is not None
        self.connection.send(request)

    def take(self) -> list[Outcome]:
        """The outcomes of the request."""
        assert self.connection is not None
        self.deadline = float("inf")
        try:
            outcomes: list[Outcome] = self.connection.recv()
            return outcomes
        except (EOFError, OSError):
            self._process.join()
            how = signal_name(self._process.exitcode)
            self.kill()
            return [Outcome("device_lost", f"{self.name}: its client ended with {how}")]

    def kill(self) -> None:
        """Drop the session; the server ends what it runs for it."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self.deadline = float("inf")


class RemoteMeasurer(Pool):
    """A Measurer of other machines; a context manager."""

    def __init__(
        self,
        target: Target,
        addresses: Sequence[Address],
        threads: int = 1,
        *,
        cores: Sequence[int] | None = None,
        build_timeout: float = BUILD_TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
    ) -> None:
        """Connect to nothing yet.

        Args:
            target: what is compiled for; a compiler for its triple must be here.
            addresses: one per device; a tracker's as often as devices are to be used.
            threads: of the kernels that will be measured.
            cores: cores to build on; default: those this process may use.
            build_timeout: seconds after which a build is given up.
            run_timeout: seconds after which checking and timing a candidate is given up.

        Raises:
            ArgumentError: no address.
            EnvironmentProblem: what TVM's RPC needs is not installed.
        """
        if not addresses:
            raise ArgumentError("addresses", (), "at least one device")
        check_rpc()
        del target
        usable = sorted(os.sched_getaffinity(0)) if cores is None else list(cores)
        # A session lasts for many trials; the server needs a limit only to end what nobody awaits.
        session = 100 * run_timeout

        def devices(folder: Path) -> list[RemoteDevice]:
            del folder
            return [RemoteDevice(a, n, session) for n, a in enumerate(addresses)]

        super().__init__(
            devices,
            threads,
            usable,
            machine=", ".join(sorted({f"rpc {address}" for address in addresses})),
            form="shared",
            build_timeout=build_timeout,
            run_timeout=run_timeout,
        )


def check_rpc() -> None:
    """Check that TVM's RPC can be imported.

    Raises:
        EnvironmentProblem: says what to install.
    """
    needed = ("cloudpickle", "psutil", "tornado")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentProblem("TVM's RPC", f"without {', '.join(missing)}", INSTALL)
