"""The measuring process: loads candidates, checks their answers, times them.

It is a fresh interpreter (``python -m tvmconv.tuning.runner``) without TVM and torch, so that it
starts in 0.1 s and has nothing in it that a crashing candidate could take along.
"""

from __future__ import annotations

import ctypes
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.tuning.answers import compare, read_operands
from tvmconv.tuning.artifact import Artifact
from tvmconv.tuning.measure import (
    CPU_SAMPLES,
    LOST_CPU,
    WALL_SAMPLES,
    Outcome,
    calls_per_sample,
    hopeless,
)

Array = NDArray[Any]
# Written around what a candidate writes, and looked at afterwards.
GUARD = 64
CANARY = np.float32(-1.2345e30)
NUMBERS = {
    name: number
    for number, name in enumerate(
        ("x", "packed", "residual", "offset", "mask", "y", "weight", "bias", "scale", "shift"), 1
    )
}
FOLDERS_KEPT = 4


@dataclass(frozen=True)
class Request:
    """Candidates of one task to be timed.

    Attributes:
        artifacts: the candidates.
        answers: folder that answers.write_answer filled.
        threads: how many threads a call may use.
        best: least seconds so far, to stop early.
        rounds: 0 for the protocol of a trial, or how many interleaved samples each gets.
        seed: of the order within rounds.
        timeout: seconds for checking and timing one of them.
    """

    artifacts: tuple[Artifact, ...]
    answers: str
    threads: int
    best: float = float("inf")
    rounds: int = 0
    seed: int = 0
    timeout: float = 20.0

    @property
    def turns(self) -> list[int]:
        """Whose turn it is, sample after sample, over all rounds."""
        shuffle = random.Random(self.seed).shuffle
        order = list(range(len(self.artifacts)))
        found: list[int] = []
        for _ in range(self.rounds):
            shuffle(order)
            found += order
        return found


class _Pointer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("argument", ctypes.c_int32))


@dataclass
class _Guarded:
    """A float32 buffer, 64-byte aligned, between canaries."""

    whole: Array
    values: Array

    @classmethod
    def filled(cls, elems: int) -> _Guarded:
        raw = np.full(elems + 2 * GUARD + 16, CANARY, np.float32)
        start = GUARD + (-raw.ctypes.data // 4) % 16
        values = raw[start : start + elems]
        values[:] = np.nan
        return cls(raw[start - GUARD : start + elems + GUARD], values)

    @property
    def intact(self) -> bool:
        ends = (self.whole[:GUARD], self.whole[-GUARD:])
        return all(bool((end == CANARY).all()) for end in ends)


class _Failed(Exception):
    """A candidate that ran but cannot be timed: carries its outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


class _Loaded:
    """A candidate in memory: packed once, checked, ready to be timed."""

    def __init__(self, runner: Runner, artifact: Artifact, request: Request) -> None:
        tensors, expected, bound = runner.answers(request.answers, artifact.accuracy)
        self._runner, self._threads = runner, request.threads
        self._library = ctypes.CDLL(artifact.path)
        self._packed = _Guarded.filled(artifact.packed_elems)
        self._y = _Guarded.filled(expected.size)
        given = {name: array.ctypes.data for name, array in tensors.items()}
        given |= {"packed": self._packed.values.ctypes.data, "y": self._y.values.ctypes.data}
        self._kept = tensors
        if artifact.pack_args:
            runner.call(*self._prepare("pack", artifact.pack_args, given), threads=1, calls=1)
        self._run = self._prepare("run", artifact.run_args, given)
        self.once = self.sample(1)[0]
        self.error = self._check(expected, bound)

    def _prepare(
        self, kind: str, names: tuple[str, ...], given: dict[str, int]
    ) -> tuple[Any, Any, int]:
        entry = ctypes.cast(getattr(self._library, f"__tvm_ffi_candidate_{kind}"), ctypes.c_void_p)
        pointers = (_Pointer * len(names))(*(_Pointer(given[n], NUMBERS[n]) for n in names))
        return entry, pointers, len(names)

    def _check(self, expected: Array, bound: Array) -> float:
        reason, error = compare(self._y.values.reshape(expected.shape), expected, bound)
        if reason is None and not (self._y.intact and self._packed.intact):
            reason = "it wrote outside its result or its packed weights"
        if reason is not None:
            raise _Failed(Outcome("wrong_answer", reason, error=error))
        return error

    def sample(self, calls: int) -> tuple[float, float]:
        """Wall and thread CPU seconds of one call."""
        return self._runner.call(*self._run, threads=self._threads, calls=calls)

    def unload(self) -> None:
        """Give the library's memory back."""
        ctypes.CDLL(None).dlclose(ctypes.c_void_p(self._library._handle))


class Runner:
    """Answers requests; see ``serve``."""

    def __init__(self, stopwatch: str) -> None:
        library = ctypes.CDLL(stopwatch)
        self._time: Callable[..., int] = library.tvmconv_time
        library.tvmconv_time.argtypes = [ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int32] * 3
        library.tvmconv_time.argtypes += [ctypes.POINTER(ctypes.c_double)]
        self._folders: dict[str, tuple[dict[str, Array], Array]] = {}
        self._bounds: dict[tuple[str, str], Array] = {}

    def call(
        self, entry: Any, pointers: Any, count: int, *, threads: int, calls: int
    ) -> tuple[float, float]:
        """Time calls of an entry point."""
        seconds = (ctypes.c_double * 2)()
        status = self._time(entry, pointers, count, threads, calls, seconds)
        if status:
            raise _Failed(Outcome("crashed", f"the kernel returned error {status}"))
        return seconds[0], seconds[1]

    def answers(self, folder: str, accuracy: str) -> tuple[dict[str, Array], Array, Array]:
        """Tensors, exact result and bound; those of the last few specs stay in memory."""
        if folder not in self._folders:
            while len(self._folders) >= FOLDERS_KEPT:
                oldest = next(iter(self._folders))
                del self._folders[oldest]
                self._bounds = {k: v for k, v in self._bounds.items() if k[0] != oldest}
            tensors = {k: _aligned(v) for k, v in read_operands(Path(folder)).items()}
            self._folders[folder] = tensors, np.load(Path(folder) / "expected.npy")
        if (folder, accuracy) not in self._bounds:
            self._bounds[folder, accuracy] = np.load(Path(folder) / f"bound-{accuracy}.npy")
        tensors, expected = self._folders[folder]
        return tensors, expected, self._bounds[folder, accuracy]

    def answer(self, request: Request) -> list[Outcome]:
        """The outcomes of a request's artifacts."""
        loaded: dict[int, _Loaded] = {}
        outcomes: dict[int, Outcome] = {}
        for index, artifact in enumerate(request.artifacts):
            try:
                loaded[index] = _Loaded(self, artifact, request)
            except _Failed as failed:
                outcomes[index] = failed.outcome
            except OSError as error:
                outcomes[index] = Outcome("build_failed", f"cannot be loaded: {error}")
        times: dict[int, list[tuple[float, float]]] = {index: [] for index in loaded}
        if request.rounds:
            _interleave(loaded, times, request)
        else:
            for index, candidate in loaded.items():
                times[index] = _trial_samples(candidate, request)
        for index, candidate in loaded.items():
            outcomes[index] = outcome_of(times[index], candidate.error, request.threads)
            candidate.unload()
        return [outcomes[index] for index in range(len(request.artifacts))]


def _trial_samples(candidate: _Loaded, request: Request) -> list[tuple[float, float]]:
    clock = 1 if request.threads == 1 else 0
    wanted = CPU_SAMPLES if request.threads == 1 else WALL_SAMPLES
    once = candidate.sample(1)[clock]
    calls = calls_per_sample(once)
    samples: list[tuple[float, float]] = []
    while len(samples) < wanted:
        samples.append(candidate.sample(calls))
        if hopeless([sample[clock] for sample in samples], request.best):
            break
    return samples


def _interleave(
    loaded: dict[int, _Loaded], times: dict[int, list[tuple[float, float]]], request: Request
) -> None:
    calls = {i: calls_per_sample(candidate.sample(1)[1]) for i, candidate in loaded.items()}
    for index in request.turns:
        if index in loaded:
            loaded[index].sample(1)
            times[index].append(loaded[index].sample(calls[index]))


def outcome_of(times: Sequence[tuple[float, float]], error: float, threads: int) -> Outcome:
    """What samples of wall and thread CPU time say of a candidate whose answer was right."""
    wall = tuple(sample[0] for sample in times)
    if threads > 1:
        return Outcome("ok", seconds=wall, error=error, wall=wall)
    lost = sum(sample[0] > LOST_CPU * sample[1] for sample in times)
    cpu = tuple(sample[1] for sample in times)
    return Outcome("ok", "", cpu, lost / len(times), error, wall)


def serve_requests(connection: Connection, answer: Callable[[Request], list[Outcome]]) -> None:
    """Answer requests until the other end closes."""
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(answer(request))


def _aligned(array: Array) -> Array:
    buffer = _Guarded.filled(array.size).values
    buffer[:] = array.reshape(-1)
    return buffer


def serve(connection: Connection, stopwatch: str, cores: list[int]) -> None:
    """Answer requests on these cores until the other end closes."""
    if cores:
        os.sched_setaffinity(0, cores)
    serve_requests(connection, Runner(stopwatch).answer)


def main() -> None:
    """Take the connection's descriptor, the stopwatch and the cores from the command line."""
    from tvmconv.tuning.processes import die_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(int(sys.argv[1]))
    cores = [int(core) for core in sys.argv[4].split(",") if core]
    serve(Connection(int(sys.argv[2])), sys.argv[3], cores)


if __name__ == "__main__":
    main()
