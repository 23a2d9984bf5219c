"""The measuring process of a GPU: loads candidates, checks their answers, times them.

As runner.py does it for processors: a fresh interpreter without TVM and torch. A candidate that
crashes the GPU takes the process with it, since nothing works in it any more.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.cuda.driver import driver
from tvmconv.cuda.timing import Stopwatch
from tvmconv.errors import DeviceCrashed, DeviceError
from tvmconv.tuning.answers import compare, read_operands
from tvmconv.tuning.artifact import Artifact
from tvmconv.tuning.gpu_trials import Check, GpuTrials, read_code
from tvmconv.tuning.measure import Outcome
from tvmconv.tuning.runner import Request, serve_requests

Array = NDArray[Any]
CRASHED = 70


class GpuRunner:
    """Answers requests on the first GPU."""

    def __init__(self) -> None:
        """Ask for the GPU.

        Raises:
            DeviceError: there is none.
        """
        self._device = driver().device(0)
        self._stopwatch = Stopwatch(self._device)
        self._folder = ""
        self._expected: Array = np.zeros(0)
        self._trials: GpuTrials | None = None

    def answer(self, request: Request) -> list[Outcome]:
        """The outcomes of a request's artifacts.

        Raises:
            DeviceCrashed: one of them crashed the GPU.
        """
        trials = self._of(request.answers)
        if request.rounds:
            return self._interleaved(trials, request)
        outcomes = [
            trials.measure(
                read_code(Path(artifact.path), "candidate"),
                self._check(request, artifact),
                self._stopwatch,
                request.best,
            )
            for artifact in request.artifacts
        ]
        crashed = next((one for one in outcomes if one.status == "crashed"), None)
        if crashed is not None:
            raise DeviceCrashed(crashed.message)
        return outcomes

    def _of(self, answers: str) -> GpuTrials:
        """The tensors of a convolution on the GPU; those of the last one stay there."""
        if self._trials is None or self._folder != answers:
            self._trials = None  # before the next one's tensors come
            tensors = read_operands(Path(answers))
            self._expected = np.load(Path(answers) / "expected.npy")
            dtype = str(tensors["x"].dtype)
            self._trials = GpuTrials(self._device, tensors, self._expected.shape, dtype)
            self._folder = answers
        return self._trials

    def _check(self, request: Request, artifact: Artifact) -> Check:
        bound = np.load(Path(request.answers) / f"bound-{artifact.accuracy}.npy")
        return lambda y: compare(y, self._expected, bound)

    def _interleaved(self, trials: GpuTrials, request: Request) -> list[Outcome]:
        """So many samples of each, in shuffled rounds."""
        outcomes: dict[int, Outcome] = {}
        samples: dict[int, list[float]] = {}
        with ExitStack() as stack:
            recorded = {}
            for index, artifact in enumerate(request.artifacts):
                try:
                    loaded = trials.load(read_code(Path(artifact.path), "candidate"))
                    reason, error = loaded.verdict(self._check(request, artifact))
                    if reason is not None:
                        outcomes[index] = Outcome("wrong_answer", reason, error=error)
                        continue
                    recorded[index] = stack.enter_context(self._stopwatch.prepare(loaded.launch))
                except DeviceCrashed:
                    raise
                except DeviceError as failure:
                    outcomes[index] = Outcome("build_failed", str(failure))
            samples = {index: [] for index in recorded}
            order, shuffle = list(recorded), random.Random(request.seed).shuffle
            for _ in range(request.rounds):
                shuffle(order)
                for index in order:
                    samples[index].append(recorded[index].sample())
        for index, some in samples.items():
            outcomes[index] = Outcome("ok", "", tuple(some), wall=tuple(some))
        return [outcomes[index] for index in range(len(request.artifacts))]


def main() -> None:
    """Take the parent's number and the connection's descriptor from the command line."""
    from tvmconv.tuning.processes import die_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(int(sys.argv[1]))
    try:
        serve_requests(Connection(int(sys.argv[2])), GpuRunner().answer)
    except DeviceError as error:
        print(str(error).replace("\n", " "), file=sys.stderr, flush=True)
        os._exit(CRASHED)


if __name__ == "__main__":
    main()
