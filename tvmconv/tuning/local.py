"""Measures on this machine: builders compile while one process checks and times.

One core is measured on. A builder runs there as well, but is stopped while something is timed;
candidates are timed in groups so that it is stopped seldom. Kernels of several threads need every
core, so then all builders are stopped.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.errors import EnvironmentProblem, TargetError
from tvmconv.template import get_template
from tvmconv.toolchain import link_shared
from tvmconv.tuning.candidate import Artifact
from tvmconv.tuning.measure import OnDone, Outcome, Trial, ignore
from tvmconv.tuning.processes import Build, Builder, Prepare, RunnerProcess
from tvmconv.tuning.runner import Request

if TYPE_CHECKING:
    from tvmconv.target import Target

STOPWATCH = Path(__file__).parent / "stopwatch.c"
# The slowest honest build seen took 4 s; a config that unrolls without end must not hold a core.
BUILD_TIMEOUT = 30.0
RUN_TIMEOUT = 20.0
# The exact answer of the largest layers of VGG takes torch 3 s on one core.
PREPARE_TIMEOUT = 600.0
# Built candidates to wait for before the builder on the measuring core is stopped.
GROUP = 4
# Built candidates that may wait; more would only fill the disk.
MAX_READY = 16
# Libraries kept for measuring again.
MAX_KEPT = 512
# Specs whose exact answers are kept.
MAX_ANSWERS = 32

Key = tuple[str, str]  # spec, accuracy


@dataclass
class _Run:
    """What one call of ``measure`` has in flight; trials are known by their index."""

    trials: Iterator[tuple[int, Trial]]
    on_done: OnDone
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    jobs: deque[Prepare | Build] = field(default_factory=deque)
    building: dict[int, tuple[int, Trial]] = field(default_factory=dict)  # by build number
    ready: deque[tuple[int, Trial, Artifact]] = field(default_factory=deque)
    timing: tuple[int, Trial, Artifact] | None = None
    retried: bool = False
    exhausted: bool = False

    def done(self, index: int, outcome: Outcome) -> None:
        """Keep an outcome and tell of it."""
        self.outcomes[index] = outcome
        self.on_done(index, outcome)


class LocalMeasurer:
    """A Measurer of this machine; a context manager.

    Args:
        target: what is compiled for; must run here.
        threads: of the kernels that will be measured.
        cores: cores to use; default: those this process may use. The first is measured on.
        build_timeout: seconds after which a build is given up.
        run_timeout: seconds after which checking and timing a candidate is given up.
    """

    def __init__(
        self,
        target: Target,
        threads: int = 1,
        *,
        cores: Sequence[int] | None = None,
        build_timeout: float = BUILD_TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
    ) -> None:
        if not target.runs_here:
            missing = ", ".join(target.missing_features) or "another architecture"
            raise TargetError(f"{target.id} does not run on this machine: missing {missing}")
        self._threads = threads
        self._timeouts = build_timeout, run_timeout
        self._folder = Path(tempfile.mkdtemp(prefix="tvmconv-tune-"))
        atexit.register(self.close)
        self._cores = sorted(os.sched_getaffinity(0)) if cores is None else list(cores)
        stopwatch = link_shared([], [STOPWATCH], self._folder / "stopwatch.so", target)
        measuring = self._cores[:1] if threads == 1 else self._cores
        self._runner = RunnerProcess(stopwatch, tuple(measuring), self._folder)
        self._measuring = frozenset(measuring)
        self._builders: list[Builder] = []
        self._answers: dict[Key, bool] = {}
        self._kept: dict[Trial, Artifact] = {}
        self._best: dict[str, float] = {}
        self._number = 0

    def __enter__(self) -> LocalMeasurer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes and remove all files."""
        atexit.unregister(self.close)
        self._runner.kill()
        for builder in self._builders:
            builder.kill()
        self._builders = []
        shutil.rmtree(self._folder, ignore_errors=True)

    def measure(self, trials: Iterable[Trial], on_done: OnDone = ignore) -> list[Outcome]:
        """Build, check and time each; trials are drawn as builders become free."""
        while len(self._builders) < len(self._cores):
            self._builders.append(Builder(self._folder, self._cores[len(self._builders)]))
        run = _Run(enumerate(trials), on_done)
        try:
            while self._step(run):
                pass
        except BaseException:
            self._abandon()
            raise
        return [run.outcomes[index] for index in sorted(run.outcomes)]

    def remeasure(self, trials: Sequence[Trial], rounds: int) -> list[Outcome]:
        """Time trials of one task against each other, in shuffled rounds."""
        missing = [trial for trial in trials if trial not in self._kept]
        failed = {
            trial: outcome
            for trial, outcome in zip(missing, self.measure(missing), strict=True)
            if not outcome.ok
        }
        present = [trial for trial in trials if trial not in failed]
        again = self._timed(present, rounds)
        if len(again) != len(present):
            # One of them took the process down; alone, the others can still be timed.
            again = [self._timed([trial], rounds)[0] for trial in present]
        outcomes = failed | dict(zip(present, again, strict=True))
        return [outcomes[trial] for trial in trials]

    def _timed(self, trials: Sequence[Trial], rounds: int) -> list[Outcome]:
        if not trials:
            return []
        artifacts = tuple(self._kept[trial] for trial in trials)
        folder = self._answer_folder(str(trials[0].task.spec))
        self._number += 1
        request = Request(artifacts, str(folder), self._threads, rounds=rounds, seed=self._number)
        self._runner.give(request, self._timeouts[1] * len(trials))
        assert self._runner.connection is not None
        if not wait([self._runner.connection], max(0.0, self._runner.deadline - time.monotonic())):
            self._runner.kill()
            return [Outcome("timed_out", "measuring again took too long")]
        return self._runner.take()

    def _step(self, run: _Run) -> bool:
        """Hand out what can be handed out, then wait for one event; False when all is done."""
        self._hand_out(run)
        self._start_timing(run)
        busy = [b for b in self._builders if b.job is not None]
        if run.timing is None and not busy:
            return False
        running = [b for b in busy if not b.paused]
        sources: list[Connection] = [b.connection for b in running]
        if run.timing is not None and self._runner.connection is not None:
            sources.append(self._runner.connection)
        deadline = min([b.deadline for b in running] + [self._runner.deadline])
        heard = wait(sources, max(0.0, deadline - time.monotonic()))
        for builder in running:
            if builder.connection in heard:
                self._built(run, builder)
            elif time.monotonic() > builder.deadline:
                self._give_up(run, builder)
        if self._runner.connection in heard:
            self._timed_one(run, self._runner.take())
        elif time.monotonic() > self._runner.deadline:
            self._runner.kill()
            limit = f"no result after {self._timeouts[1]:g} s"
            self._timed_one(run, [Outcome("timed_out", limit)])
        return True

    def _hand_out(self, run: _Run) -> None:
        """Give every free builder a job, unless its core is being measured on."""
        for at, builder in enumerate(self._builders):
            waiting = len(run.ready) + len(run.building)
            held = run.timing is not None and builder.core in self._measuring
            if builder.job is not None or held or waiting >= MAX_READY:
                continue
            job = self._next_job(run)
            if job is None:
                return
            if not builder.alive:
                builder.kill()
                builder = self._builders[at] = Builder(self._folder, builder.core)
            preparing = isinstance(job, Prepare)
            builder.give(job, PREPARE_TIMEOUT if preparing else self._timeouts[0])

    def _next_job(self, run: _Run) -> Prepare | Build | None:
        """The next build; before the first of a spec and accuracy, what it must answer."""
        if not run.jobs and not run.exhausted:
            index, trial = next(run.trials, (-1, None))
            if trial is None:
                run.exhausted = True
                return None
            key = _key(trial)
            if key not in self._answers:
                self._forget_answers(run)
                self._answers[key] = False
                run.jobs.append(Prepare(trial.task.spec, key[1], str(self._answer_folder(key[0]))))
            self._number += 1
            run.jobs.append(Build(trial, self._number))
            run.building[self._number] = index, trial
        return run.jobs.popleft() if run.jobs else None

    def _built(self, run: _Run, builder: Builder) -> None:
        job = builder.job
        answer = builder.take()
        if isinstance(job, Prepare):
            if isinstance(answer, Outcome):
                raise EnvironmentProblem(f"no reference for {job.spec}: {answer.message}")
            self._answers[str(job.spec), job.accuracy] = True
        elif isinstance(job, Build):
            index, trial = run.building.pop(job.number)
            if isinstance(answer, Outcome):
                run.done(index, answer)
            else:
                run.ready.append((index, trial, answer))

    def _give_up(self, run: _Run, builder: Builder) -> None:
        job = builder.job
        builder.kill()
        self._builders[self._builders.index(builder)] = Builder(self._folder, builder.core)
        if isinstance(job, Prepare):
            raise EnvironmentProblem(f"no reference for {job.spec} after {PREPARE_TIMEOUT:g} s")
        assert job is not None
        index, _ = run.building.pop(job.number)
        run.done(index, Outcome("timed_out", f"not built after {self._timeouts[0]:g} s"))

    def _start_timing(self, run: _Run) -> None:
        """Time the next candidate; stop and restart the builders on the measuring cores."""
        if run.timing is not None:
            return
        shared = [b for b in self._builders if b.core in self._measuring]
        stopped = any(b.paused for b in shared)
        disturbed = any(b.job is not None for b in shared) and not stopped
        at = next((i for i, e in enumerate(run.ready) if self._answers[_key(e[1])]), None)
        if at is None or (disturbed and len(run.ready) < GROUP and self._can_wait(run)):
            for builder in shared:
                builder.resume()
            return
        for builder in shared:
            builder.pause()
        run.timing, run.retried = run.ready[at], False
        del run.ready[at]
        self._send(run)

    def _can_wait(self, run: _Run) -> bool:
        """Whether more candidates are on their way, so that timing them together pays."""
        return bool(run.jobs) or not run.exhausted or bool(run.building)

    def _send(self, run: _Run) -> None:
        assert run.timing is not None
        _, trial, artifact = run.timing
        task = str(trial.task.spec)
        request = Request(
            (artifact,),
            str(self._answer_folder(task)),
            self._threads,
            best=self._best.get(task, float("inf")),
        )
        self._runner.give(request, self._timeouts[1])

    def _timed_one(self, run: _Run, outcomes: list[Outcome]) -> None:
        assert run.timing is not None
        index, trial, artifact = run.timing
        outcome = outcomes[0]
        if outcome.status == "crashed" and not run.retried:
            # An earlier candidate may have damaged the process; only a second crash is its own.
            run.retried = True
            self._send(run)
            return
        run.timing = None
        if outcome.ok:
            task = str(trial.task.spec)
            self._best[task] = min(outcome.score, self._best.get(task, float("inf")))
            self._keep(trial, artifact)
        else:
            Path(artifact.path).unlink(missing_ok=True)
        run.done(index, outcome)

    def _keep(self, trial: Trial, artifact: Artifact) -> None:
        self._kept[trial] = artifact
        while len(self._kept) > MAX_KEPT:
            oldest = next(iter(self._kept))
            Path(self._kept.pop(oldest).path).unlink(missing_ok=True)

    def _abandon(self) -> None:
        """Drop what is in flight, so that the next call starts clean."""
        self._runner.kill()
        for builder in self._builders:
            builder.kill()
        self._builders = []
        self._answers = {key: True for key, ready in self._answers.items() if ready}

    def _forget_answers(self, run: _Run) -> None:
        """Remove the answers of the specs that were used longest ago; large ones take 100 MB."""
        used = {str(trial.task.spec) for _, trial in run.building.values()}
        used |= {str(entry[1].task.spec) for entry in run.ready}
        used |= {str(run.timing[1].task.spec)} if run.timing is not None else set()
        specs = list(dict.fromkeys(key[0] for key in self._answers))
        for spec in specs[: -MAX_ANSWERS or None]:
            if spec not in used:
                shutil.rmtree(self._answer_folder(spec), ignore_errors=True)
                self._answers = {k: v for k, v in self._answers.items() if k[0] != spec}

    def _answer_folder(self, spec: str) -> Path:
        return self._folder / hashlib.sha256(spec.encode()).hexdigest()[:16]


def _key(trial: Trial) -> Key:
    template = get_template(trial.template_id)
    return str(trial.task.spec), template.accuracy(trial.task, trial.config)
