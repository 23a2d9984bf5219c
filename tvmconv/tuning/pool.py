"""Measures with a pool of processes: builders compile while devices check and time.

A device is this machine's measuring process (local.py) or another machine (remote.py). Where a
device shares cores with builders, those builders are stopped while something is timed there;
candidates are timed in groups so that they are stopped seldom.
"""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Self

from tvmconv.errors import EnvironmentProblem
from tvmconv.template import get_template
from tvmconv.tuning.candidate import Artifact
from tvmconv.tuning.measure import OnDone, Outcome, Trial, ignore
from tvmconv.tuning.processes import Build, Builder, Prepare
from tvmconv.tuning.runner import Request
from tvmconv.tuning.slots import MAX_LOSSES, Device, Run, Slot

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
MAX_KEPT = 2048
# Specs whose exact answers are kept.
MAX_ANSWERS = 32
# A lost device is tried again after 1, 2 and 4 s.
FIRST_RETRY = 1.0
# Longest wait for an event when nothing has a deadline.
IDLE = 60.0

Key = tuple[str, str]  # spec, accuracy


class Pool:
    """A Measurer over some devices; a context manager.

    Args:
        devices: makes the devices, given the folder for files.
        threads: of the kernels that will be measured.
        cores: cores to build on, one builder each.
        machine: see measure.Measurer.
        shipped: link libraries that run without this machine's runtime.
        build_timeout: seconds after which a build is given up.
        run_timeout: seconds after which checking and timing a candidate is given up.
    """

    def __init__(
        self,
        devices: Callable[[Path], Sequence[Device]],
        threads: int,
        cores: Sequence[int],
        *,
        machine: str | None = None,
        shipped: bool = False,
        build_timeout: float = BUILD_TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
    ) -> None:
        self.machine = machine
        self._threads, self._cores, self._shipped = threads, list(cores), shipped
        self._timeouts = build_timeout, run_timeout
        self._folder = Path(tempfile.mkdtemp(prefix="tvmconv-tune-"))
        atexit.register(self.close)
        self._slots = [Slot(device) for device in devices(self._folder)]
        self._builders: list[Builder] = []
        self._answers: dict[Key, bool] = {}
        self._kept: dict[Trial, Artifact] = {}
        self._best: dict[str, float] = {}
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes and remove all files."""
        atexit.unregister(self.close)
        for slot in self._slots:
            slot.device.kill()
        for builder in self._builders:
            builder.kill()
        self._builders = []
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def devices(self) -> tuple[Device, ...]:
        """Those that are still tried."""
        return tuple(slot.device for slot in self._slots if not slot.dead)

    def measure(self, trials: Iterable[Trial], on_done: OnDone = ignore) -> list[Outcome]:
        """Build, check and time each; trials are drawn as builders become free."""
        while len(self._builders) < len(self._cores):
            self._builders.append(self._builder(self._cores[len(self._builders)]))
        run = Run(enumerate(trials), on_done)
        try:
            while self._step(run):
                pass
        except BaseException:
            self._abandon()
            raise
        return [run.outcomes[index] for index in sorted(run.outcomes)]

    def remeasure(self, trials: Sequence[Trial], rounds: int) -> list[Outcome]:
        """Time trials of one task against each other, in shuffled rounds, on one device."""
        missing = [t for t in trials if t not in self._kept or not self._answers.get(_key(t))]
        failed = {
            trial: outcome
            for trial, outcome in zip(missing, self.measure(missing), strict=True)
            if not outcome.ok
        }
        present = [trial for trial in trials if trial not in failed]
        again = self._together(present, rounds)
        if len(again) != len(present):
            # One of them took the process down; alone, the others can still be timed.
            again = [self._together([trial], rounds)[0] for trial in present]
        outcomes = failed | dict(zip(present, again, strict=True))
        return [outcomes[trial] for trial in trials]

    def _together(self, trials: Sequence[Trial], rounds: int) -> list[Outcome]:
        if not trials:
            return []
        self._number += 1
        request = Request(
            tuple(self._kept[trial] for trial in trials),
            str(self._answer_folder(str(trials[0].task.spec))),
            self._threads,
            rounds=rounds,
            seed=self._number,
        )
        outcomes = [Outcome("device_lost", "no device is left")]
        for device in self.devices:
            device.give(request, self._timeouts[1] * len(trials))
            left = max(0.0, device.deadline - time.monotonic())
            if device.connection is not None and not wait([device.connection], left):
                device.kill()
                return [Outcome("timed_out", "measuring again took too long")]
            outcomes = device.take()
            if outcomes[0].status != "device_lost":
                break
        return outcomes

    def _step(self, run: Run) -> bool:
        """Hand out what can be handed out, then wait for one event; False when all is done."""
        self._hand_out(run)
        self._start_timing(run)
        busy = [b for b in self._builders if b.job is not None]
        timing = [slot for slot in self._slots if slot.entry is not None]
        if not timing and not busy and not run.ready:
            return False
        running = [b for b in busy if not b.paused]
        sources = [b.connection for b in running]
        sources += [s.device.connection for s in timing if s.device.connection is not None]
        deadlines = [b.deadline for b in running] + [s.device.deadline for s in timing]
        deadlines += [s.retry_at for s in self._slots if run.ready and s.entry is None]
        now = time.monotonic()
        later = [moment for moment in deadlines if moment > now]
        heard = wait(sources, min(later, default=now + IDLE) - now)
        for builder in running:
            if builder.connection in heard:
                self._built(run, builder)
            elif time.monotonic() > builder.deadline:
                self._give_up(run, builder)
        for slot in timing:
            if slot.device.connection in heard:
                self._timed(run, slot, slot.device.take())
            elif time.monotonic() > slot.device.deadline:
                slot.device.kill()
                limit = f"no result after {self._timeouts[1]:g} s"
                self._timed(run, slot, [Outcome("timed_out", limit)])
        return True

    def _hand_out(self, run: Run) -> None:
        """Give every free builder a job, unless its core is being measured on."""
        taken = self._taken
        for at, builder in enumerate(self._builders):
            waiting = len(run.ready) + len(run.building)
            room = MAX_READY * len(self._slots)
            if builder.job is not None or builder.core in taken or waiting >= room:
                continue
            job = self._next_job(run)
            if job is None:
                return
            if not builder.alive:
                builder.kill()
                builder = self._builders[at] = self._builder(builder.core)
            preparing = isinstance(job, Prepare)
            builder.give(job, PREPARE_TIMEOUT if preparing else self._timeouts[0])

    @property
    def _taken(self) -> frozenset[int]:
        """Cores on which something is being timed."""
        timing = (slot.device.cores for slot in self._slots if slot.entry is not None)
        return frozenset().union(*timing)

    def _builder(self, core: int) -> Builder:
        return Builder(self._folder, core, shipped=self._shipped)

    def _next_job(self, run: Run) -> Prepare | Build | None:
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

    def _built(self, run: Run, builder: Builder) -> None:
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

    def _give_up(self, run: Run, builder: Builder) -> None:
        job = builder.job
        builder.kill()
        self._builders[self._builders.index(builder)] = self._builder(builder.core)
        if isinstance(job, Prepare):
            raise EnvironmentProblem(f"no reference for {job.spec} after {PREPARE_TIMEOUT:g} s")
        assert isinstance(job, Build)
        index, _ = run.building.pop(job.number)
        run.done(index, Outcome("timed_out", f"not built after {self._timeouts[0]:g} s"))

    def _start_timing(self, run: Run) -> None:
        """Give every free device a candidate; stop and restart the builders on its cores."""
        if run.ready and all(slot.dead for slot in self._slots):
            while run.ready:
                index, _, _ = run.ready.popleft()
                run.done(index, Outcome("device_lost", "no device is left"))
        for slot in self._slots:
            if slot.entry is not None or slot.dead or time.monotonic() < slot.retry_at:
                continue
            shared = [b for b in self._builders if b.core in slot.device.cores]
            at = self._next_ready(run, slot, shared)
            if at is None:
                for builder in shared:
                    builder.resume()
                continue
            for builder in shared:
                builder.pause()
            slot.entry, slot.retried = run.ready[at], False
            del run.ready[at]
            self._send(slot)

    def _next_ready(self, run: Run, slot: Slot, shared: Sequence[Builder]) -> int | None:
        """Position of a candidate to time now; None when there is none, or waiting is better."""
        stopped = any(b.paused for b in shared)
        disturbed = any(b.job is not None for b in shared) and not stopped
        more = bool(run.jobs) or not run.exhausted or bool(run.building)
        if disturbed and more and len(run.ready) < GROUP:
            return None
        # What a device was lost with goes to one that was not, where there is one.
        careful = slot.losses > 0 and any(other.losses == 0 for other in self._slots)
        for at, (index, trial, _) in enumerate(run.ready):
            if self._answers[_key(trial)] and not (careful and index in run.lost):
                return at
        return None

    def _send(self, slot: Slot) -> None:
        assert slot.entry is not None
        _, trial, artifact = slot.entry
        task = str(trial.task.spec)
        request = Request(
            (artifact,),
            str(self._answer_folder(task)),
            self._threads,
            best=self._best.get(task, float("inf")),
        )
        slot.device.give(request, self._timeouts[1])

    def _timed(self, run: Run, slot: Slot, outcomes: list[Outcome]) -> None:
        assert slot.entry is not None
        index, trial, artifact = slot.entry
        outcome = outcomes[0]
        if outcome.status == "crashed" and not slot.retried:
            # An earlier candidate may have damaged the process; only a second crash is its own.
            slot.retried = True
            self._send(slot)
            return
        slot.entry = None
        if outcome.status == "device_lost":
            self._lost(run, slot, (index, trial, artifact), outcome)
            return
        slot.losses = 0
        if outcome.ok:
            task = str(trial.task.spec)
            self._best[task] = min(outcome.score, self._best.get(task, float("inf")))
            self._keep(trial, artifact)
        else:
            Path(artifact.path).unlink(missing_ok=True)
        run.done(index, outcome)

    def _lost(
        self, run: Run, slot: Slot, entry: tuple[int, Trial, Artifact], outcome: Outcome
    ) -> None:
        """Leave the device alone for a while; its trial goes to another one."""
        slot.losses += 1
        slot.retry_at = time.monotonic() + FIRST_RETRY * 2.0 ** (slot.losses - 1)
        run.lost[entry[0]] = run.lost.get(entry[0], 0) + 1
        if run.lost[entry[0]] >= MAX_LOSSES:
            # It took several devices with it, or none came back.
            run.done(entry[0], outcome)
        else:
            run.ready.appendleft(entry)

    def _keep(self, trial: Trial, artifact: Artifact) -> None:
        self._kept[trial] = artifact
        while len(self._kept) > MAX_KEPT:
            oldest = next(iter(self._kept))
            Path(self._kept.pop(oldest).path).unlink(missing_ok=True)

    def _abandon(self) -> None:
        """Drop what is in flight, so that the next call starts clean."""
        for slot in self._slots:
            slot.device.kill()
            slot.entry = None
        for builder in self._builders:
            builder.kill()
        self._builders = []
        self._answers = {key: True for key, ready in self._answers.items() if ready}

    def _forget_answers(self, run: Run) -> None:
        """Remove the answers of the specs that were used longest ago; large ones take 100 MB."""
        used = {str(trial.task.spec) for _, trial in run.building.values()}
        used |= {str(entry[1].task.spec) for entry in run.ready}
        used |= {str(slot.entry[1].task.spec) for slot in self._slots if slot.entry is not None}
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
