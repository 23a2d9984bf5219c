"""Measures on this machine's GPU: builders on every core, one process that has the GPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.cuda.driver import driver
from tvmconv.errors import DeviceError
from tvmconv.tuning.pool import BUILD_TIMEOUT, RUN_TIMEOUT, Pool
from tvmconv.tuning.processes import RunnerProcess

if TYPE_CHECKING:
    from tvmconv.target import Target


class GpuMeasurer(Pool):
    """A Measurer of this machine's first GPU; a context manager."""

    def __init__(
        self,
        target: Target,
        *,
        cores: Sequence[int] | None = None,
        build_timeout: float = BUILD_TIMEOUT,
        run_timeout: float = RUN_TIMEOUT,
    ) -> None:
        """Start nothing yet.

        Args:
            target: what is compiled for; must run on the GPU.
            cores: cores to compile on; default: those this process may use.
            build_timeout: seconds after which a build is given up.
            run_timeout: seconds after which checking and timing a candidate is given up.

        Raises:
            DeviceError: there is no GPU, or it does not run code for the target.
        """
        device = driver().device(0)
        if not target.runs_here:
            raise DeviceError("GPU", str(device), f"one that runs code for {target.isa}")
        usable = sorted(os.sched_getaffinity(0)) if cores is None else list(cores)

        def devices(folder: Path) -> list[RunnerProcess]:
            # Compiling disturbs no time that the GPU takes itself: no core is kept free.
            return [RunnerProcess(folder / "none", (), folder, "tvmconv.tuning.gpu_runner")]

        super().__init__(
            devices,
            1,
            usable,
            machine=device.name,
            build_timeout=build_timeout,
            run_timeout=run_timeout,
        )
