import threading
import time
from functools import partial

import pytest

from tvmconv.bench.timing import (
    HOT,
    LONG_SECONDS,
    MIN_ROUNDS,
    ContestantLost,
    Timer,
    Timing,
    interleave,
)


def test_timing_is_minimum_and_median() -> None:
    timing = Timing.of([3.0, 1.0, 50.0], preempted=0.25)
    assert (timing.min_seconds, timing.median_seconds) == (1.0, 3.0)
    assert (timing.samples, timing.preempted) == (3, 0.25)


def test_every_contestant_gets_the_same_number_of_slices() -> None:
    calls: list[str] = []

    def contestant(name: str) -> tuple[list[float], bool]:
        calls.append(name)
        return [1.0 if name == "a" else 2.0], name == "b"

    timings = interleave({n: partial(contestant, n) for n in "ab"}, seconds=0.0).timed
    assert calls.count("a") == calls.count("b") == MIN_ROUNDS
    assert timings["a"].min_seconds == 1.0
    assert timings["b"].preempted == 1.0


def test_order_is_shuffled_and_seeded() -> None:
    def orders(seed: int) -> list[str]:
        calls: list[str] = []

        def contestant(name: str) -> tuple[list[float], bool]:
            calls.append(name)
            time.sleep(1e-4)
            return [1.0], False

        interleave({n: partial(contestant, n) for n in "abcd"}, seconds=1e-3, seed=seed)
        return calls[: 4 * MIN_ROUNDS]

    first = orders(7)
    assert first == orders(7)
    assert first[:4] != first[4:8] or first[4:8] != first[8:12]


def test_slice_warms_up_and_times_single_calls_when_they_are_long() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(2e-3)

    run = HOT.slice(call)
    warm_up = calls
    samples, preempted = run()
    assert warm_up == 3
    assert calls == warm_up + 1 + len(samples)
    assert samples[0] == pytest.approx(2e-3, rel=2)
    assert preempted  # asleep is not on the CPU


def test_short_calls_are_timed_in_batches() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    run = HOT.slice(call)
    before = calls
    samples, _ = run()
    assert (calls - before - 1) % len(samples) == 0
    assert (calls - before - 1) // len(samples) > 10
    assert samples[0] < 1e-5


def test_a_cold_slice_is_one_call_on_empty_caches() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    run = Timer(one_thread=True, cold=True).slice(call)
    before = calls
    samples, preempted = run()
    assert (len(samples), calls - before) == (1, 1)
    assert samples[0] < 1e-3
    assert not preempted


def test_a_contestant_that_is_lost_leaves_the_others_alone() -> None:
    turns = 0

    def dies() -> tuple[list[float], bool]:
        nonlocal turns
        turns += 1
        if turns == 2:
            raise ContestantLost("it fell")
        return [1.0], False

    found = interleave({"a": lambda: ([1.0], False), "b": dies}, seconds=0.0)
    assert found.lost == {"b": "it fell"}
    assert found.timed.keys() == {"a"}
    assert found.timed["a"].samples == MIN_ROUNDS


def test_hopeless_contestants_leave_early() -> None:
    def contestant(seconds: float) -> tuple[list[float], bool]:
        time.sleep(1e-4)
        return [seconds], False

    speeds = {"fast": 1e-3, "fair": 9e-3, "slow": 20e-3, "asleep": 0.5}
    slices = {name: partial(contestant, seconds) for name, seconds in speeds.items()}
    timed = interleave(slices, seconds=0.05).timed
    assert timed["asleep"].samples == 1
    assert timed["slow"].samples == MIN_ROUNDS
    assert timed["fast"].samples == timed["fair"].samples > MIN_ROUNDS


def test_long_calls_are_not_warmed_up() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        time.sleep(LONG_SECONDS)

    run = HOT.slice(call)
    assert calls == 1
    run()
    assert calls == 2


def test_several_threads_are_waited_for_until_they_sleep() -> None:
    done = threading.Event()

    def spin() -> None:
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass
        done.set()

    def call() -> None:
        if not done.is_set() and threading.active_count() == before:
            threading.Thread(target=spin).start()

    before = threading.active_count() + 1  # nobody spins while the slice is set up
    run = Timer(one_thread=False).slice(call)
    before -= 1
    run()
    assert done.is_set()
