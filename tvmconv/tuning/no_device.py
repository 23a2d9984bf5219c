"""A Measurer that runs nothing: candidates are compiled, and their code is weighed (static.py)."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tvmconv.tuning.measure import OnDone, Outcome, Trial, ignore
from tvmconv.tuning.processes import Builder, Estimate

if TYPE_CHECKING:
    from tvmconv.target import Target

# As for builds that are measured: the slowest honest one took 4 s.
TIMEOUT = 30.0


class StaticMeasurer:
    """Estimates of a target's code by builder processes, one per core; a context manager.

    Seconds are static costs. They rank configs of one spec; they compare with no measurement, and
    the records say so.
    """

    def __init__(
        self, target: Target, *, cores: Sequence[int] | None = None, timeout: float = TIMEOUT
    ) -> None:
        """Start nothing yet.

        Args:
            target: any; nothing of it has to be here.
            cores: cores to compile on; default: those this process may use.
            timeout: seconds after which a candidate is given up.
        """
        self.machine: str | None = f"static cost for {target.mcpu}"
        self._cores = sorted(os.sched_getaffinity(0)) if cores is None else list(cores)
        self._timeout = timeout
        self._folder = Path(tempfile.mkdtemp(prefix="tvmconv-static-"))
        self._builders: dict[int, Builder] = {}
        self._known: dict[Trial, Outcome] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes and remove all files."""
        for builder in self._builders.values():
            builder.kill()
        self._builders = {}
        shutil.rmtree(self._folder, ignore_errors=True)

    def measure(self, trials: Iterable[Trial], on_done: OnDone = ignore) -> list[Outcome]:
        """Compile each and weigh its code; trials are drawn as builders become free."""
        waiting, outcomes = enumerate(trials), dict[int, Outcome]()
        jobs: dict[int, tuple[int, Trial]] = {}
        try:
            while True:
                for core in self._cores:
                    if core not in jobs and (entry := next(waiting, None)) is not None:
                        self._builder(core).give(Estimate(entry[1]), self._timeout)
                        jobs[core] = entry
                if not jobs:
                    return [outcomes[index] for index in sorted(outcomes)]
                for core, outcome in self._heard(jobs):
                    index, trial = jobs.pop(core)
                    outcomes[index] = self._known[trial] = outcome
                    on_done(index, outcome)
        except BaseException:
            for builder in self._builders.values():
                builder.kill()
            self._builders = {}
            raise

    def remeasure(self, trials: Sequence[Trial], rounds: int) -> list[Outcome]:
        """The same costs again: they have no noise."""
        missing = [trial for trial in trials if trial not in self._known]
        self.measure(missing)
        return [self._known[trial] for trial in trials]

    def _builder(self, core: int) -> Builder:
        builder = self._builders.get(core)
        if builder is None or not builder.alive:
            if builder is not None:
                builder.kill()
            builder = self._builders[core] = Builder(self._folder, core)
        return builder

    def _heard(self, jobs: Iterable[int]) -> list[tuple[int, Outcome]]:
        """Outcomes of the builders that are done, or have taken too long."""
        busy = {core: self._builders[core] for core in jobs}
        first = min(builder.deadline for builder in busy.values())
        heard = wait([b.connection for b in busy.values()], max(0.0, first - time.monotonic()))
        found = []
        for core, builder in busy.items():
            if builder.connection in heard:
                found.append((core, builder.take()))
            elif time.monotonic() > builder.deadline:
                builder.kill()
                del self._builders[core]
                message = f"not compiled after {self._timeout:g} s"
                found.append((core, Outcome("timed_out", message)))
        return found
