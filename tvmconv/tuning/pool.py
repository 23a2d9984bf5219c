"""Measures with a pool of processes: builders compile while devices check and time.

A device is this machine's measuring process (local.py) or another machine (remote.py, boards.py).
Where a device shares cores with builders, those builders are stopped while something is timed
there; candidates are timed in groups so that they are stopped seldom.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Self

from tvmconv.errors import DeviceUnreachable, EnvironmentProblem
from tvmconv.tuning.candidate import Form
from tvmconv.tuning.kept import Kept
from tvmconv.tuning.measure import OnDone, Outcome, Trial, ignore
from tvmconv.tuning.prepared import PreparedAnswers
from tvmconv.tuning.processes import Build, Builder, Prepare
from tvmconv.tuning.runner import Request
from tvmconv.tuning.slots import GONE, MAX_LOSSES, Device, Entry, Run, Slot, ask_any

# The slowest honest build seen took 4 s; a config that unrolls without end must not hold a core.
BUILD_TIMEOUT = 30.0
RUN_TIMEOUT = 20.0
# The exact answer of the largest layers of VGG takes torch 3 s on one core.
PREPARE_TIMEOUT = 600.0
# Seconds without an answer after which a device is given up; a board restarts in 20 to 60 s.
ABSENCE = 90.0
# Built candidates to wait for before the builder on the measuring core is stopped, or before a
# device that takes many at once gets some.
GROUP = 4
# Built candidates that may wait; more would only fill the disk.
MAX_READY = 16
# Longest wait for an event when nothing has a deadline.
IDLE = 60.0


class Pool:
    """A Measurer over some devices; a context manager.

    Args:
        devices: makes the devices, given the folder for files.
        threads: of the kernels that will be measured.
        cores: cores to build on, one builder each.
        machine: see measure.Measurer.
        form: what builders make of a trial.
        build_timeout: seconds after which a build is given up.
        run_timeout: seconds after which checking and timing a candidate is given up.
        absence: seconds without an answer after which a device is given up.
    """

    def __init__(
        self,
        devices: Callable[[Path], Sequence[Device]],
        threads: int,
        cores: Sequence[int],
        *,
        machine: str | None = None,
        form: Form = "local",
        build_timeout: float = BUILD_TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
        absence: float = ABSENCE,
    ) -> None:
        self.machine = machine
        self._threads, self._cores, self._form = threads, list(cores), form
        self._timeouts = build_timeout, run_timeout
        self._folder = Path(tempfile.mkdtemp(prefix="tvmconv-tune-"))
        atexit.register(self.close)
        self._slots = [Slot(device, absence) for device in devices(self._folder)]
        self._builders: list[Builder] = []
        self._answers = PreparedAnswers(self._folder)
        self._kept = Kept()
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
            slot.device.close()
        for builder in self._builders:
            builder.kill()
        self._builders = []
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def devices(self) -> tuple[Device, ...]:
        """Those that are still tried."""
        return tuple(slot.device for slot in self._slots if not slot.dead)

    def measure(self, trials: Iterable[Trial], on_done: OnDone = ignore) -> list[Outcome]:
        """Build, check and time each; trials are drawn as builders become free.

        Raises:
            DeviceUnreachable: no device is left; what was drawn is recorded as lost.
        """
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
        missing = [t for t in trials if t not in self._kept or t not in self._answers]
        self._kept.renew(trials)
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
        """Outcomes of the first of them, or of all."""
        if not trials:
            return []
        self._number += 1
        request = Request(
            tuple(self._kept[trial] for trial in trials),
            str(self._answers.folder(str(trials[0].task.spec))),
            self._threads,
            rounds=rounds,
            seed=self._number,
            timeout=self._timeouts[1],
        )
        return ask_any(self._slots, request)

    def _step(self, run: Run) -> bool:
        """Hand out what can be handed out, then wait for one event; False when all is done."""
        self._hand_out(run)
        self._start_timing(run)
        busy = [b for b in self._builders if b.job is not None]
        timing = [slot for slot in self._slots if slot.entries]
        if not timing and not busy and not run.ready:
            return False
        running = [b for b in busy if not b.paused]
        sources = [b.connection for b in running]
        sources += [s.device.connection for s in timing if s.device.connection is not None]
        deadlines = [b.deadline for b in running] + [s.device.deadline for s in timing]
        deadlines += [s.retry_at for s in self._slots if run.ready and not s.entries]
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
        timing = (slot.device.cores for slot in self._slots if slot.entries)
        return frozenset().union(*timing)

    def _builder(self, core: int) -> Builder:
        return Builder(self._folder, core, form=self._form)

    def _next_job(self, run: Run) -> Prepare | Build | None:
        """The next build; before the first of a spec and accuracy, what it must answer."""
        if not run.jobs and not run.exhausted:
            index, trial = next(run.trials, (-1, None))
            if trial is None:
                run.exhausted = True
                return None
            if key := self._answers.ask(trial, self._specs_in_use(run)):
                folder = str(self._answers.folder(key[0]))
                run.jobs.append(Prepare(trial.task.spec, key[1], folder))
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
            self._answers.arrived((str(job.spec), job.accuracy))
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
        """Give every free device candidates; stop and restart the builders on its cores."""
        if all(slot.dead for slot in self._slots):
            self._end(run)
        for slot in self._slots:
            if slot.entries or slot.dead or time.monotonic() < slot.retry_at:
                continue
            shared = [b for b in self._builders if b.core in slot.device.cores]
            entries = self._next_ready(run, slot, shared)
            if not entries:
                for builder in shared:
                    builder.resume()
                continue
            for builder in shared:
                builder.pause()
            for entry in entries:
                run.ready.remove(entry)
            slot.entries = entries
            self._send(slot)

    def _end(self, run: Run) -> None:
        """Give up what was drawn."""
        drawn = [*((index, trial) for index, trial, _ in run.ready), *run.building.values()]
        for index, _ in drawn:
            run.done(index, Outcome("device_lost", GONE))
        raise DeviceUnreachable("no device is left: none came back in time")

    def _next_ready(self, run: Run, slot: Slot, shared: Sequence[Builder]) -> tuple[Entry, ...]:
        """Candidates of one spec to time now; none where there are none, or waiting is better."""
        stopped = any(b.paused for b in shared)
        disturbed = any(b.job is not None for b in shared) and not stopped
        more = bool(run.jobs) or not run.exhausted or bool(run.building)
        if (disturbed or slot.device.batch > 1) and more and len(run.ready) < GROUP:
            return ()
        # What a device was lost with goes to one that was not, where there is one.
        careful = slot.losses > 0 and any(other.losses == 0 for other in self._slots)
        found: list[Entry] = []
        for entry in run.ready:
            index, trial, _ = entry
            if trial not in self._answers or (careful and run.lost.get(index)):
                continue
            if not found or trial.task == found[0][1].task:
                found.append(entry)
        return tuple(found[: slot.device.batch])

    def _send(self, slot: Slot) -> None:
        task = str(slot.entries[0][1].task.spec)
        request = Request(
            tuple(artifact for _, _, artifact in slot.entries),
            str(self._answers.folder(task)),
            self._threads,
            best=self._best.get(task, float("inf")),
            timeout=self._timeouts[1],
        )
        slot.device.give(request, self._timeouts[1] * len(slot.entries))

    def _timed(self, run: Run, slot: Slot, outcomes: Sequence[Outcome]) -> None:
        """Take outcomes of a device's first entries; the others wait for their turn again."""
        entries, slot.entries = slot.entries, ()
        run.again(entries[len(outcomes) :])
        for entry, outcome in zip(entries, outcomes, strict=False):
            if outcome.status == "device_lost":
                slot.lose(outcome)
                self._lost(run, entry, outcome)
            else:
                slot.losses = 0
                self._decided(run, entry, outcome)

    def _decided(self, run: Run, entry: Entry, outcome: Outcome) -> None:
        index, trial, artifact = entry
        if outcome.status == "crashed" and index not in run.crashed:
            # An earlier candidate may have damaged the process; only a second crash is its own.
            run.crashed.add(index)
            run.again([entry])
            return
        if outcome.ok:
            task = str(trial.task.spec)
            self._best[task] = min(outcome.score, self._best.get(task, float("inf")))
            self._kept.add(trial, artifact)
        else:
            Path(artifact.path).unlink(missing_ok=True)
        run.done(index, outcome)

    def _lost(self, run: Run, entry: Entry, outcome: Outcome) -> None:
        """Try a trial again; last, when the device may have been lost because of it."""
        index = entry[0]
        run.lost[index] = run.lost.get(index, 0) + outcome.begun
        if run.lost[index] >= MAX_LOSSES:
            run.done(index, outcome)
        elif outcome.begun:
            run.ready.append(entry)
        else:
            run.again([entry])

    def _abandon(self) -> None:
        """Drop what is in flight, so that the next call starts clean."""
        for slot in self._slots:
            slot.device.kill()
            slot.entries = ()
        for builder in self._builders:
            builder.kill()
        self._builders = []
        self._answers.drop_pending()

    def _specs_in_use(self, run: Run) -> set[str]:
        used = {str(trial.task.spec) for _, trial in run.building.values()}
        used |= {str(trial.task.spec) for _, trial, _ in run.ready}
        return used | {str(e[1].task.spec) for slot in self._slots for e in slot.entries}
