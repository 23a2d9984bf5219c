"""Time several runs against each other, so that what disturbs one disturbs all.

The contestants take turns in short slices, in an order that is shuffled every round. A slice is
one untimed call, which brings the contestant's data back into the caches, then timed calls. The
noise of a shared machine is one-sided: a preempted call reads many times too long, none reads too
short. So the minimum compares code, the median tells what a caller sees, and the share of slices
that lost the CPU is kept beside them; above 20 % the numbers deserve no trust.

A cold slice is one timed call after 64 MB of other memory were touched.
"""

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLICE_SECONDS = 1e-3  # short against a scheduler's tick of 4 ms, long against a call's overhead
# Weights of 8 MB, in a last-level cache that fills by eviction, are back after two calls: timed
# once, right after the untimed call, a kernel of 0.8 ms read 1.1 ms.
LEAST_SAMPLES = 3
BATCH_BELOW_SECONDS = 20e-6  # a clock reading costs about 50 ns, 0.25 % of this
LOST_CPU = 1.2  # a slice whose wall time exceeds its CPU time by this factor was preempted
MIN_ROUNDS = 3
MAX_CALLS_PER_SLICE = 1000
CPU_CLOCK_SECONDS = 1e-6  # a reading of the process's CPU clock is a system call of this length
LONG_SECONDS = 0.1  # such a call reads more than the caches hold: warming up changes nothing
HOPELESS = 10  # a contestant so many times slower than the fastest is not timed to the end
SETTLE_SECONDS, SETTLE_TRIES = 1e-3, 200
COLD_BYTES = 64 << 20  # twice the last-level cache of the CPUs that this was written on

Slice = Callable[[], tuple[list[float], bool]]


class ContestantLost(Exception):
    """A contestant that can no longer be timed; the text says why."""


@dataclass(frozen=True)
class Timer:
    """How slices are timed, the same for every contestant of a run.

    Attributes:
        one_thread: whether a call keeps one CPU busy, so that CPU time tells of preemption.
        cold: whether the caches are emptied before each timed call.
    """

    one_thread: bool = True
    cold: bool = False

    def slice(self, call: Callable[[], object]) -> Slice:
        """Warm `call` up and return the function that times one slice of it in this process."""
        run = (cold_slice if self.cold else local_slice)(call, one_thread=self.one_thread)
        return run if self.one_thread else _settling(run)


HOT = Timer()


@dataclass(frozen=True)
class Timing:
    """How long one call took: seconds, over all samples of a run."""

    min_seconds: float
    median_seconds: float
    samples: int
    preempted: float
    """Share of the slices that lost the CPU, 0 to 1; only one-thread runs can tell."""

    @classmethod
    def of(cls, samples: list[float], preempted: float = 0.0) -> "Timing":
        """Summarise the seconds per call of at least one sample."""
        return cls(min(samples), statistics.median(samples), len(samples), preempted)


@dataclass(frozen=True)
class Timings:
    """What came of taking turns: a timing, or why a contestant was lost, by name."""

    timed: Mapping[str, Timing]
    lost: Mapping[str, str]


def interleave(slices: Mapping[str, Slice], seconds: float, *, seed: int = 0) -> Timings:
    """Run the slices in turn until each had its share of `seconds`, and at least three rounds.

    A contestant ten times slower than the fastest leaves after three rounds, or after one if its
    calls take 0.1 seconds or more: some peers have layers with no fast code at all.

    Args:
        slices: for each contestant a function that runs one slice; see `Timer`.
        seconds: wall time per contestant.
        seed: of the order within the rounds.
    """
    order = list(slices)
    shuffle = random.Random(seed).shuffle
    samples: dict[str, list[float]] = {name: [] for name in order}
    preempted = dict.fromkeys(order, 0)
    lost: dict[str, str] = {}
    rounds = dict.fromkeys(order, 0)
    end = time.perf_counter() + seconds * len(order)
    while order and (min(rounds[n] for n in order) < MIN_ROUNDS or time.perf_counter() < end):
        shuffle(order)
        for name in tuple(order):
            try:
                measured, hit = slices[name]()
            except ContestantLost as error:
                lost[name] = str(error)
                order.remove(name)
                continue
            samples[name] += measured
            preempted[name] += hit
            rounds[name] += 1
        best = {name: min(samples[name]) for name in order}
        limit = HOPELESS * min(best.values(), default=0.0)
        order = [n for n in order if best[n] <= limit or not _known(best[n], rounds[n])]
    timed = {
        name: Timing.of(taken, preempted[name] / rounds[name])
        for name, taken in samples.items()
        if name not in lost
    }
    return Timings(timed, lost)


def _known(seconds: float, rounds: int) -> bool:
    """Whether a reading is no accident: three rounds agree, or it is too long to be one."""
    return rounds >= MIN_ROUNDS or seconds >= LONG_SECONDS


def local_slice(call: Callable[[], object], *, one_thread: bool) -> Slice:
    """Warm `call` up and return the function that times one slice of it in this process.

    Args:
        call: what is timed; its result is dropped.
        one_thread: whether a call keeps one CPU busy, so that the process's CPU time (some
            libraries compute on a thread of their own) tells whether the slice was preempted.
    """
    batch, long = _calls_per_sample(call)
    least = 1 if long else LEAST_SAMPLES

    def run() -> tuple[list[float], bool]:
        if not long:
            call()
        cpu = time.process_time()
        start = now = time.perf_counter()
        samples: list[float] = []
        while now - start < SLICE_SECONDS or len(samples) < least:
            for _ in range(batch):
                call()
            previous, now = now, time.perf_counter()
            samples.append((now - previous) / batch)
        cpu = time.process_time() - cpu
        return samples, one_thread and now - start > cpu * LOST_CPU

    return run


def cold_slice(call: Callable[[], object], *, one_thread: bool) -> Slice:
    """Warm `call` up and return the function that times one call of it on empty caches."""
    for _ in range(3):
        call()
    memory = _other_memory()

    def run() -> tuple[list[float], bool]:
        np.add(memory, 1, out=memory)
        cpu = time.process_time()
        start = time.perf_counter()
        call()
        wall = time.perf_counter() - start
        cpu = time.process_time() - cpu
        return [wall], one_thread and wall > cpu * LOST_CPU + 2 * CPU_CLOCK_SECONDS

    return run


@cache
def _other_memory() -> NDArray[Any]:
    """What a cold slice touches; one for all contestants of a process."""
    return np.zeros(COLD_BYTES // 8, np.int64)


def _settling(run: Slice) -> Slice:
    """The same slice, over only when this process's threads have gone to sleep.

    Workers of thread pools spin after their last loop (ncnn's for 20 ms, OpenMP's for 1, as a rule)
    and would take the cores from the next contestant.
    """

    def run_and_wait() -> tuple[list[float], bool]:
        taken = run()
        for _ in range(SETTLE_TRIES):
            before = time.process_time()
            time.sleep(SETTLE_SECONDS)
            if time.process_time() - before < SETTLE_SECONDS / 4:
                break
        return taken

    return run_and_wait


def _calls_per_sample(call: Callable[[], object]) -> tuple[int, bool]:
    """Size a sample after two calls (just-in-time peers compile); also whether a call is long."""
    for _ in range(3):
        start = time.perf_counter()
        call()
        once = max(time.perf_counter() - start, 1e-9)
        if once >= LONG_SECONDS:
            return 1, True
    if once >= BATCH_BELOW_SECONDS:
        return 1, False
    return min(MAX_CALLS_PER_SLICE, round(BATCH_BELOW_SECONDS / once) + 1), False
