"""Peers in processes of their own, one per family, which answer one request at a time.

Why apart: a peer that crashes or hangs must not take the run down; thread pools of two libraries
in one process inherit each other's CPU pinning and spin on each other's cores; and memory that a
library never gives back goes with its process. The slices still alternate with ours: the parent
asks for one at a time and waits, so only one process runs.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any, cast

from tvmconv.bench.peers import FAMILIES, Family, PeerFile, Prepared, Ready, family_of
from tvmconv.bench.plain import Plain, aligned
from tvmconv.bench.timing import ContestantLost, Slice, Timer
from tvmconv.errors import UnsupportedSpec

SLICE_SECONDS_LIMIT = 120.0  # the largest layer of the networks takes 0.4 s a call
STOP_SECONDS = 2.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h
# torch keeps about 1 MB per traced layer and 3 per compiled one; a new process costs 2 seconds.
LAYERS_PER_PROCESS = 64
CHECKOUT = Path(__file__).resolve().parents[2]


@contextmanager
def opened(
    threads: int, timer: Timer, families: Mapping[str, Family] = FAMILIES
) -> Iterator["Processes"]:
    """Give the peers a place to run with so many threads."""
    processes = Processes(threads, timer, families)
    try:
        yield processes
    finally:
        processes.close()


@dataclass(frozen=True)
class Processes:
    """The processes of all families; each starts when it is first needed."""

    threads: int
    timer: Timer
    families: Mapping[str, Family]
    running: dict[str, "_Process"] = field(default_factory=dict)

    def prepare(self, names: Sequence[str], plain: Plain) -> list[Prepared]:
        """See Peers; a process that dies is started anew for the contestants after it."""
        found: dict[str, Prepared] = {}
        grouped: dict[str, list[str]] = {}
        for name in names:
            grouped.setdefault(family_of(name, self.families), []).append(name)
        for family, members in grouped.items():
            found |= self._prepare(family, members, plain)
        return [found[name] for name in names]

    def _prepare(self, family: str, names: Sequence[str], plain: Plain) -> dict[str, Prepared]:
        lost: dict[str, Prepared] = {}
        while not lost.keys() >= set(names):
            ready: dict[str, Prepared] = {}
            process = self._process(family)
            name = ""
            try:
                process.ask(("layer", plain), self.families[family].prepare_seconds)
                for name in names:
                    if name not in lost:
                        ready[name] = self._prepare_one(family, process, name)
                return ready | lost
            except ContestantLost as error:
                self.running.pop(family).close()
                said = str(error)
                # Without a name it could not even take the data: nothing to try again.
                failed = [name] if name else names
                lost |= {one: Prepared(one, status="failed", problem=said) for one in failed}
        return lost

    def _prepare_one(self, family: str, process: "_Process", name: str) -> Prepared:
        limit = self.families[family].prepare_seconds
        number = name.partition(":")[2]
        if number:
            limit += 10.0 * int(number)
        answer, status, problem = process.ask(("prepare", name), limit)
        if answer is None:
            return Prepared(name, status=status, problem=problem)
        return Prepared(name, answer, partial(self._slice, process, name))

    def _slice(self, process: "_Process", name: str) -> tuple[list[float], bool]:
        samples, preempted = process.ask(("slice", name), SLICE_SECONDS_LIMIT)
        return samples, preempted

    def _process(self, family: str) -> "_Process":
        process = self.running.get(family)
        if process is not None and not process.fit:
            self.running.pop(family).close()
            process = None
        if process is None:
            process = _Process.start(self.families[family].module, self.threads, self.timer)
            self.running[family] = process
        process.layers[0] += 1
        return process

    def close(self) -> None:
        """End every process."""
        for process in self.running.values():
            process.close()
        self.running.clear()


@dataclass(frozen=True)
class _Process:
    """A running process, the pipe to it, and a file with what it said."""

    popen: "subprocess.Popen[bytes]"
    pipe: "Connection[Any, Any]"
    said: IO[bytes]
    layers: list[int]

    @classmethod
    def start(cls, module: str, threads: int, timer: Timer) -> "_Process":
        ours, theirs = Pipe()
        paths = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
        said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        with theirs:
            popen = subprocess.Popen(
                [sys.executable, "-m", __name__, module, str(threads), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=[theirs.fileno()],
                env=os.environ
                | {"PYTHONPATH": paths, "TVM_BIND_THREADS": "0"}
                | dict.fromkeys(("OMP_NUM_THREADS", "TVM_NUM_THREADS"), str(threads)),
                start_new_session=True,  # Ctrl-C in the terminal is ours to handle
            )
        ours.send(timer)
        return cls(popen, ours, said, [0])

    @property
    def fit(self) -> bool:
        """Whether it is alive and has not run too many layers."""
        return self.popen.poll() is None and self.layers[0] < LAYERS_PER_PROCESS

    def ask(self, request: tuple[Any, ...], seconds: float) -> Any:
        """Send a request and wait for the reply.

        Raises:
            ContestantLost: the process died, or did not answer in time and was ended.
        """
        try:
            self.pipe.send(request)
            if self.pipe.poll(seconds):
                return self.pipe.recv()
        except (BrokenPipeError, ConnectionResetError, EOFError):
            raise ContestantLost(self._last_words()) from None
        self._kill()
        raise ContestantLost(f"no answer within {seconds:.0f} s; its process was ended")

    def close(self) -> None:
        """End the process: it leaves when its pipe closes, or is made to."""
        self.pipe.close()
        try:
            self.popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self.popen.wait()
        self.said.close()

    def _kill(self) -> None:
        """End it and the workers that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)

    def _last_words(self) -> str:
        code = self.popen.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.said.seek(0)
        lines = self.said.read().decode(errors="replace").strip().splitlines()
        return f"its process died ({name})" + (f": {lines[-1].strip()}" if lines else "")


def _serve(module: str, threads: int, descriptor: int) -> None:
    """Answer requests until the pipe closes."""
    # However the parent ends, this process does not stay behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    peer = cast("PeerFile", import_module(module))
    pipe: Connection[Any, Any] = Connection(descriptor)
    timer: Timer = pipe.recv()
    slices: dict[str, tuple[Ready, Slice]] = {}
    plain: Plain | None = None
    while True:
        try:
            kind, content = pipe.recv()
        except EOFError:
            # Some libraries crash while they are torn down; nothing here is worth that.
            os._exit(0)
        reply: Any = None
        if kind == "layer":
            slices.clear()
            plain = aligned(content)
        elif kind == "prepare":
            assert plain is not None
            reply = _prepared(peer, content, plain, threads, timer, slices)
        else:
            reply = slices[content][1]()
        pipe.send(reply)


def _prepared(
    peer: PeerFile,
    name: str,
    plain: Plain,
    threads: int,
    timer: Timer,
    slices: dict[str, tuple[Ready, Slice]],
) -> tuple[Any, str, str]:
    """Answer, status and problem of one contestant; what it holds is kept with its slice."""
    try:
        ready = peer.prepare(name, plain, threads)
        answer = ready.read(ready.call())
        slices[name] = (ready, timer.slice(ready.call))
        return answer, "ok", ""
    except UnsupportedSpec as error:
        return None, "unsupported", str(error)
    except ImportError as error:
        return None, "not installed", one_line(error)
    except Exception as error:  # a peer's failure is a result, whatever it is
        return None, "failed", one_line(error)


def one_line(error: BaseException) -> str:
    """The type of an error and the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # OpenVINO begins with a place in its sources.
    lines = [line for line in lines if not line.startswith("Exception from ")] or lines
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
