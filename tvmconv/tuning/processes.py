"""The tuner's child processes, as its own process sees them.

Builders are forked: TVM takes two seconds to import and a forked child has it already. The
measuring process is a fresh interpreter (runner.py). Both die with their parent, whatever ends it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.errors import EnvironmentProblem, InvalidConfig, TvmconvError
from tvmconv.tuning.measure import Outcome, Trial

if TYPE_CHECKING:
    from tvmconv.spec import ConvSpec
    from tvmconv.tuning.candidate import Form

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Prepare:
    """A job: compute what kernels of a spec must answer."""

    spec: ConvSpec
    accuracy: str
    folder: str


@dataclass(frozen=True)
class Build:
    """A job: compile a trial into ``<number>.so``."""

    trial: Trial
    number: int


@dataclass(frozen=True)
class Estimate:
    """A job: compile a trial and tell its static cost."""

    trial: Trial


def die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when its parent is gone, and check that it is not yet."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def signal_name(code: int | None) -> str:
    """How a process ended, from its (negative) exit code."""
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


class Builder:
    """A forked process that does one job at a time."""

    def __init__(self, folder: Path, core: int, *, form: Form = "local") -> None:
        """Start it on a core."""
        self.core = core
        self.job: Prepare | Build | Estimate | None = None
        self.deadline = float("inf")
        self._paused_at: float | None = None
        self.connection, inner = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        arguments = (inner, str(folder), core, os.getpid(), form)
        self._process = context.Process(target=_build_jobs, args=arguments, daemon=True)
        self._process.start()
        inner.close()

    def give(self, job: Prepare | Build | Estimate, timeout: float) -> None:
        """Start a job; its answer comes through ``connection``."""
        self.job, self.deadline = job, time.monotonic() + timeout
        self.connection.send(job)

    def take(self) -> Any:
        """The job's answer: an Artifact, None for Prepare, an Outcome of estimates and failures."""
        self.job, self.deadline = None, float("inf")
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            how = signal_name(self._process.exitcode)
            return Outcome("build_failed", f"the compiler crashed: {how}")

    @property
    def alive(self) -> bool:
        """Whether it can take jobs."""
        return self._process.is_alive()

    @property
    def paused(self) -> bool:
        """Whether it was stopped."""
        return self._paused_at is not None

    def pause(self) -> None:
        """Stop it where it is: its core is needed for measuring."""
        if self._paused_at is None and self.job is not None and self._process.pid:
            self._paused_at = time.monotonic()
            os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on; time spent paused does not count against its job."""
        if self._paused_at is not None and self._process.pid:
            self.deadline += time.monotonic() - self._paused_at
            self._paused_at = None
            os.kill(self._process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.join()
        self.connection.close()


def _build_jobs(connection: Connection, folder: str, core: int, parent: int, form: Form) -> None:
    """A builder's life: jobs come in, artifacts or failures go out."""
    from tvmconv.tuning.answers import write_answer
    from tvmconv.tuning.candidate import CandidateBuilder
    from tvmconv.tuning.static import estimate

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    os.sched_setaffinity(0, {core})
    builder = CandidateBuilder(Path(folder), form)
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        answer: Any = None
        try:
            if isinstance(job, Prepare):
                write_answer(job.spec, job.accuracy, Path(job.folder))
            elif isinstance(job, Estimate):
                answer = estimate(job.trial)
            else:
                answer = builder.build(job.trial, job.number)
        except InvalidConfig as error:
            answer = Outcome("invalid", str(error))
        except TvmconvError as error:
            answer = Outcome("build_failed", str(error))
        except Exception as error:
            # TVM raises errors of many types; a bad candidate must not end the builder.
            answer = Outcome("build_failed", f"{type(error).__name__}: {error}"[:2000])
        connection.send(answer)


class RunnerProcess:
    """The measuring process; started again after each crash."""

    def __init__(
        self,
        stopwatch: Path,
        cores: tuple[int, ...],
        folder: Path,
        module: str = "tvmconv.tuning.runner",
    ) -> None:
        """Remember how to start it; `module` is what it runs."""
        self.name = "this machine"
        self._module = module
        self.cores = frozenset(cores)
        self.batch = 1
        self._stopwatch = stopwatch
        self._errors = folder / "runner.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None
        self.deadline = float("inf")

    def give(self, request: Any, timeout: float) -> None:
        """Start on a request; the answer comes through ``connection``."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self.connection is not None
        self.deadline = time.monotonic() + timeout
        try:
            self.connection.send(request)
        except OSError as error:
            raise EnvironmentProblem(
                f"the measuring process does not start: {self._last_words()}"
            ) from error

    def take(self) -> list[Outcome]:
        """The outcomes of the request, or what ended the process, as the one outcome."""
        assert self.connection is not None
        assert self._process is not None
        self.deadline = float("inf")
        try:
            outcomes: list[Outcome] = self.connection.recv()
            return outcomes
        except (EOFError, OSError):
            code = self._process.wait()
            self.kill()
            message = signal_name(code) if code < 0 else self._last_words() or signal_name(code)
            return [Outcome("crashed", message)]

    def kill(self) -> None:
        """End it now; the next request starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        self.deadline = float("inf")

    def close(self) -> None:
        """As ``kill``: nothing is left behind."""
        self.kill()

    def _start(self) -> None:
        self.kill()
        self.connection, inner = multiprocessing.Pipe()
        # A fresh interpreter finds the package where this one did.
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH", ""))))
        cores = ",".join(map(str, sorted(self.cores)))
        command = [sys.executable, "-m", self._module, str(os.getpid())]
        command += [str(inner.fileno()), str(self._stopwatch), cores]
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                pass_fds=(inner.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": path},
            )
        inner.close()

    def _last_words(self) -> str:
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""
