"""What talks to a device over TVM's RPC: uploads, checks and times candidates."""

from __future__ import annotations

import gc
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tvmconv.errors import DeviceUnreachable, WrongDevice
from tvmconv.tuning.answers import compare, read_operands
from tvmconv.tuning.facts import Facts
from tvmconv.tuning.measure import WALL_SAMPLES, Outcome, calls_per_sample, hopeless
from tvmconv.tuning.rpc_address import CONNECT_TIMEOUT, Address

if TYPE_CHECKING:
    from tvmconv.target import Target
    from tvmconv.tuning.artifact import Artifact
    from tvmconv.tuning.runner import Request

# A server has one session at a time and ends it after a time that is set when it begins, whoever
# waits: a candidate that hangs blocks a plain server for so long. In units of a candidate's time
# limit; a request has at most ten candidates.
SESSION, LONGEST = 15, 10
FACTS_BYTES: Final = 2048
BUSY: Final = "a server has one session at a time: another one may be open, or hang"


class RpcClient:
    """One session with a device.

    The server's end closes with the last reference to anything in it, and after an error nobody
    knows who still has one: the process then has to end, too (``spent``).
    """

    def __init__(self, address: Address, target: Target, probe: Path, timeout: float) -> None:
        """Remember where it is, what it should be, the library that asks it, and a time limit."""
        self._address, self._target, self._probe = address, target, probe
        self._timeout = timeout
        self._session: Any = None
        self._failed = False
        self._opened = 0.0
        self._tensors: dict[str, dict[str, Any]] = {}

    @property
    def spent(self) -> bool:
        """After a failure, or when the session might not last for the next request."""
        late = time.monotonic() > self._opened + (SESSION - LONGEST) * self._timeout
        return self._failed or late

    def facts(self) -> Facts:
        """See client.Client.

        Raises:
            DeviceUnreachable: no session.
            WrongDevice: it cannot load the target's libraries, or lacks an instruction set.
        """
        try:
            self._connect()
            name = _uploaded(self._session, self._probe)
        except Exception as error:
            raise DeviceUnreachable(f"{self._address}: {_first_line(error)}") from error
        try:
            module = self._session.load_module(name)
        except Exception as error:
            text = _first_line(error)
            try:
                self._session.remove(name)
            except Exception:
                raise DeviceUnreachable(f"{self._address}: {text}") from error
            needs = f"{self._address} cannot load code for {self._target.id}"
            raise WrongDevice(f"{needs} ({self._target.machine}): {text}") from error
        self._session.remove(name)
        said = _empty(self._session, (FACTS_BYTES,), "uint8")
        module["timed_probe"](said)
        text = bytes(said.numpy()).partition(b"\0")[0].decode(errors="replace")
        found = Facts.parse(text)
        found.check(str(self._address), self._target)
        return found

    def leave(self) -> None:
        """Nothing to do: a session's files go with it."""

    def answer(self, request: Request) -> list[Outcome]:
        """The outcomes of a request; one only when the device failed."""
        try:
            self._connect()
        except Exception as error:
            self._failed = True
            text = f"{self._address}: {_first_line(error)}"
            return [Outcome("device_lost", text, begun=False)]
        try:
            return self._measured(request)
        except Exception as error:
            # TVM raises RuntimeError and its own kinds both for what a kernel did to the server's
            # process and for a server that is gone; only asking again tells them apart.
            self._failed, text = True, _first_line(error)
        self._session, self._tensors = None, {}
        gc.collect()
        try:
            self._connect()
        except Exception:
            return [Outcome("device_lost", f"{self._address}: {text}")]
        return [Outcome("crashed", text)]

    def _connect(self) -> None:
        if self._session is not None:
            return
        # A tracker answers only when it has a device to give.
        signal.signal(signal.SIGALRM, _too_late)
        signal.setitimer(signal.ITIMER_REAL, CONNECT_TIMEOUT / 2)
        try:
            self._session = self._address.connect(SESSION * self._timeout)
            self._opened = time.monotonic()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _measured(self, request: Request) -> list[Outcome]:
        tensors = self._operands(request.answers)
        loaded = [_Loaded(self._session, tensors, a, request) for a in request.artifacts]
        samples: list[list[float]] = [[] for _ in loaded]
        if request.rounds:
            for at in request.turns:
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

    def _operands(self, folder: str) -> dict[str, Any]:
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
        name = _uploaded(session, Path(artifact.path))
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


def _uploaded(session: Any, library: Path) -> str:
    """Copy a library; a name twice would overwrite one that is mapped, and crash the server."""
    name = f"tvmconv-{os.getpid()}-{time.monotonic_ns()}.so"
    session.upload(str(library), name)
    return name


def _empty(session: Any, shape: tuple[int, ...], dtype: str = "float32") -> Any:
    import tvm

    return tvm.runtime.empty(shape, dtype, session.cpu(0))


def _too_late(number: int, frame: object) -> None:
    raise TimeoutError(f"no device after {CONNECT_TIMEOUT / 2:g} s; {BUSY}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # TVM's own checks read "Check failed: (its C++) is false: what is wrong".
    text = re.sub(r"^Check failed: .*? is false: ", "", lines[-1]) if lines else ""
    return f"{type(error).__name__}: {text}"[:500]
