"""Measures on other machines over TVM's RPC; they need `apache-tvm` and nothing of ours.

Candidates are linked with our own runtime and expose what TVM's module loader looks for, so the
device runs the code that a bundle would run. Answers come back and are checked here. Each device
has a process of its own on this machine, so that one that hangs or dies holds up nothing else.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.errors import ArgumentError, EnvironmentProblem
from tvmconv.tuning.answers import compare, read_operands
from tvmconv.tuning.measure import WALL_SAMPLES, Outcome, calls_per_sample, hopeless
from tvmconv.tuning.pool import BUILD_TIMEOUT, RUN_TIMEOUT, Pool
from tvmconv.tuning.processes import die_with_parent, signal_name

if TYPE_CHECKING:
    from tvmconv.target import Target
    from tvmconv.tuning.candidate import Artifact
    from tvmconv.tuning.runner import Request

# Connecting to a device, or waiting until the tracker has one to give.
CONNECT_TIMEOUT = 20.0
INSTALL = "pip install 'tvmconv[rpc]'"


@dataclass(frozen=True)
class Address:
    """Where a device is: a server, or a tracker and the key of the servers it has.

    Attributes:
        host: name or number.
        port: of the server or tracker.
        key: of the tracker's devices; None for a server itself.
    """

    host: str
    port: int
    key: str | None = None

    @classmethod
    def parse(cls, text: str, key: str | None = None) -> Address:
        """Read HOST:PORT.

        Raises:
            ArgumentError: it is something else.
        """
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
            raise ArgumentError("address", text, "HOST:PORT")
        return cls(host, int(port), key)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" + (f" ({self.key})" if self.key else "")

    def connect(self, timeout: float) -> Any:
        """An RPC session, whose server ends what it runs after ``timeout`` seconds."""
        from tvm import rpc

        if self.key is None:
            return rpc.connect(self.host, self.port, session_timeout=timeout)
        tracker = rpc.connect_tracker(self.host, self.port)
        return tracker.request(self.key, session_timeout=timeout, max_retry=1)


def tracked_devices(tracker: Address) -> int:
    """How many devices of its key a tracker knows now.

    Raises:
        EnvironmentProblem: the tracker does not answer.
    """
    from tvm import rpc

    try:
        summary = rpc.connect_tracker(tracker.host, tracker.port).summary()
    except (OSError, RuntimeError) as error:
        raise EnvironmentProblem(f"no RPC tracker at {tracker}: {error}") from error
    servers = summary["server_info"]
    return sum(server["key"] == f"server:{tracker.key}" for server in servers)


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
            self._process = context.Process(target=_serve, args=arguments, daemon=True)
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
            shipped=True,
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


def _serve(connection: Connection, address: Address, timeout: float, parent: int) -> None:
    """A client's life: requests come in, outcomes go out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    client = _Client(address, timeout)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(client.answer(request))


class _Client:
    """One session with a device; opened when needed, and again after a failure."""

    def __init__(self, address: Address, timeout: float) -> None:
        self._address, self._timeout = address, timeout
        self._session: Any = None
        self._tensors: dict[str, dict[str, Any]] = {}

    def answer(self, request: Request) -> list[Outcome]:
        """The outcomes of a request; one only when the device failed."""
        try:
            self._connect()
        except Exception as error:
            return [Outcome("device_lost", f"{self._address}: {_first_line(error)}")]
        try:
            return self._measured(request)
        except Exception as error:
            # TVM raises RuntimeError and its own kinds both for what a kernel did to the server's
            # process and for a server that is gone; only asking again tells them apart.
            text = _first_line(error)
        self._session = None
        try:
            self._connect()
        except Exception:
            return [Outcome("device_lost", f"{self._address}: {text}")]
        return [Outcome("crashed", text)]

    def _connect(self) -> None:
        if self._session is None:
            self._tensors = {}
            self._session = self._address.connect(self._timeout)

    def _measured(self, request: Request) -> list[Outcome]:
        tensors = self._uploaded(request.answers)
        loaded = [_Loaded(self._session, tensors, a, request) for a in request.artifacts]
        samples: list[list[float]] = [[] for _ in loaded]
        if request.rounds:
            shuffle = random.Random(request.seed).shuffle
            order = list(range(len(loaded)))
            for _ in range(request.rounds):
                shuffle(order)
                for at in order:
                    if loaded[at].failure is None:
                        samples[at] += loaded[at].sample(1)
        else:
            for at, candidate in enumerate(loaded):
                if candidate.failure is None:
                    samples[at] = _trial_samples(candidate, request.best)
        return [
            candidate.failure or Outcome("ok", "", tuple(s), 0.0, candidate.error, tuple(s))
            for candidate, s in zip(loaded, samples, strict=True)
        ]

    def _uploaded(self, folder: str) -> dict[str, Any]:
        """The operands of a spec on the device; those of the last spec stay there."""
        if folder not in self._tensors:
            self._tensors = {folder: {}}
            for name, array in read_operands(Path(folder)).items():
                empty = _empty(self._session, array.shape)
                self._tensors[folder][name] = empty.copyfrom(np.ascontiguousarray(array))
        return self._tensors[folder]


class _Loaded:
    """A candidate on a device: packed once, checked, ready to be timed."""

    def __init__(
        self, session: Any, tensors: dict[str, Any], artifact: Artifact, request: Request
    ) -> None:
        folder = Path(request.answers)
        expected = np.load(folder / "expected.npy")
        # A name twice would overwrite a library that is mapped, and crash the server.
        name = f"tvmconv-{os.getpid()}-{time.monotonic_ns()}.so"
        session.upload(artifact.path, name)
        self._module = session.load_module(name)
        session.remove(name)
        self._device = session.cpu(0)
        y = _empty(session, expected.shape).copyfrom(np.full(expected.shape, np.nan, np.float32))
        packed = _empty(session, (max(1, artifact.packed_elems),))
        given = {**tensors, "y": y, "packed": packed}
        if artifact.pack_args:
            self._module["timed_pack"](*(given[a] for a in artifact.pack_args))
        self._arguments = [given[a] for a in artifact.run_args]
        self._module["timed_run"](*self._arguments)
        self.calls = calls_per_sample(self._timed(1, 1)[0])
        bound = np.load(folder / f"bound-{artifact.accuracy}.npy")
        reason, self.error = compare(y.numpy(), expected, bound)
        wrong = Outcome("wrong_answer", reason or "", error=self.error)
        self.failure = wrong if reason else None

    def sample(self, count: int) -> list[float]:
        """Wall seconds per call of some samples; each follows a call that warms the caches."""
        self._module["timed_run"](*self._arguments)
        return self._timed(self.calls, count)

    def _timed(self, calls: int, count: int) -> list[float]:
        evaluate = self._module.time_evaluator("timed_run", self._device, calls, count)
        return [float(seconds) for seconds in evaluate(*self._arguments).results]


def _trial_samples(candidate: _Loaded, best: float) -> list[float]:
    samples = candidate.sample(2)
    if not hopeless(samples, best):
        samples += candidate.sample(WALL_SAMPLES - 2)
    return samples


def _empty(session: Any, shape: tuple[int, ...]) -> Any:
    import tvm

    return tvm.runtime.empty(shape, "float32", session.cpu(0))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"[:500]
