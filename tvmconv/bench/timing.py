"""Time several runs against each other, so that what disturbs one disturbs all.

The contestants take turns in short slices, in an order that is shuffled every round. A slice is
one untimed call, which brings the contestant's data back into the caches, then timed calls. The
noise of a shared machine is one-sided: a preempted call reads many times too long, none reads too
short. So the minimum compares code, the median tells what a caller sees, and the share of slices
that lost the CPU is kept beside them; above 20 % the numbers deserve no trust.
"""

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

SLICE_SECONDS = 1e-3  # short against a scheduler's tick of 4 ms, long against a call's overhead
BATCH_BELOW_SECONDS = 20e-6  # a clock reading costs about 50 ns, 0.25 % of this
LOST_CPU = 1.2  # a slice whose wall time exceeds its CPU time by this factor was preempted
MIN_ROUNDS = 3
MAX_CALLS_PER_SLICE = 1000

Slice = Callable[[], tuple[list[float], bool]]


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


def interleave(slices: Mapping[str, Slice], seconds: float, *, seed: int = 0) -> dict[str, Timing]:
    """Run the slices in turn until each had its share of `seconds`, and at least three rounds.

    Args:
        slices: for each contestant a function that runs one slice; see `local_slice`.
        seconds: wall time per contestant.
        seed: of the order within the rounds.
    """
    order = list(slices)
    shuffle = random.Random(seed).shuffle
    samples: dict[str, list[float]] = {name: [] for name in order}
    lost = dict.fromkeys(order, 0)
    rounds = 0
    end = time.perf_counter() + seconds * len(order)
    while rounds < MIN_ROUNDS or time.perf_counter() < end:
        shuffle(order)
        for name in order:
            measured, preempted = slices[name]()
            samples[name] += measured
            lost[name] += preempted
        rounds += 1
    return {name: Timing.of(samples[name], lost[name] / rounds) for name in slices}


def local_slice(call: Callable[[], object], *, one_thread: bool) -> Slice:
    """Warm `call` up and return the function that times one slice of it in this process.

    Args:
        call: what is timed; its result is dropped.
        one_thread: whether the work is done on the calling thread, so that its CPU time tells
            whether the slice was preempted.
    """
    batch = _calls_per_sample(call)

    def run() -> tuple[list[float], bool]:
        call()
        cpu = time.thread_time()
        start = now = time.perf_counter()
        samples: list[float] = []
        while now - start < SLICE_SECONDS or not samples:
            for _ in range(batch):
                call()
            previous, now = now, time.perf_counter()
            samples.append((now - previous) / batch)
        cpu = time.thread_time() - cpu
        return samples, one_thread and now - start > cpu * LOST_CPU

    return run


def _calls_per_sample(call: Callable[[], object]) -> int:
    """Call three times (just-in-time peers compile on the first two), then size a sample."""
    call()
    call()
    start = time.perf_counter()
    call()
    once = max(time.perf_counter() - start, 1e-9)
    if once >= BATCH_BELOW_SECONDS:
        return 1
    return min(MAX_CALLS_PER_SLICE, round(BATCH_BELOW_SECONDS / once) + 1)
