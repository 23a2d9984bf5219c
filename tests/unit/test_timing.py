import time

import pytest

from tvmconv.bench.timing import MIN_ROUNDS, Timing, interleave, local_slice


def test_timing_is_minimum_and_median() -> None:
    timing = Timing.of([3.0, 1.0, 50.0], preempted=0.25)
    assert (timing.min_seconds, timing.median_seconds) == (1.0, 3.0)
    assert (timing.samples, timing.preempted) == (3, 0.25)


def test_every_contestant_gets_the_same_number_of_slices() -> None:
    calls: list[str] = []

    def contestant(name: str) -> tuple[list[float], bool]:
        calls.append(name)
        return [1.0 if name == "a" else 2.0], name == "b"

    timings = interleave({n: lambda n=n: contestant(n) for n in "ab"}, seconds=0.0)  # type: ignore[misc]
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

        interleave({n: lambda n=n: contestant(n) for n in "abcd"}, seconds=1e-3, seed=seed)  # type: ignore[misc]
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

    run = local_slice(call, one_thread=True)
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

    run = local_slice(call, one_thread=True)
    before = calls
    samples, _ = run()
    assert (calls - before - 1) % len(samples) == 0
    assert (calls - before - 1) // len(samples) > 10
    assert samples[0] < 1e-5
