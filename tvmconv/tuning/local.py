"""Measures on this machine.

One core is measured on. A builder runs there as well, but is stopped while something is timed.
Kernels of several threads need every core, so then all builders are stopped.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.errors import TargetError
from tvmconv.toolchain import link_shared
from tvmconv.tuning.pool import BUILD_TIMEOUT, RUN_TIMEOUT, Pool
from tvmconv.tuning.processes import RunnerProcess

if TYPE_CHECKING:
    from tvmconv.target import Target

STOPWATCH = Path(__file__).parent / "stopwatch.c"


class LocalMeasurer(Pool):
    """A Measurer of this machine; a context manager."""

    def __init__(
        self,
        target: Target,
        threads: int = 1,
        *,
        cores: Sequence[int] | None = None,
        build_timeout: float = BUILD_TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
    ) -> None:
        """Start nothing yet.

        Args:
            target: what is compiled for; must run here.
            threads: of the kernels that will be measured.
            cores: cores to use; default: those this process may use. The first is measured on.
            build_timeout: seconds after which a build is given up.
            run_timeout: seconds after which checking and timing a candidate is given up.

        Raises:
            TargetError: this machine cannot run code for the target.
        """
        if not target.runs_here:
            missing = ", ".join(target.missing_features) or "another architecture"
            raise TargetError(f"{target.id} does not run on this machine: missing {missing}")
        usable = sorted(os.sched_getaffinity(0)) if cores is None else list(cores)
        measuring = tuple(usable[:1] if threads == 1 else usable)

        def devices(folder: Path) -> list[RunnerProcess]:
            stopwatch = link_shared([], [STOPWATCH], folder / "stopwatch.so", target)
            return [RunnerProcess(stopwatch, measuring, folder)]

        super().__init__(
            devices, threads, usable, build_timeout=build_timeout, run_timeout=run_timeout
        )
