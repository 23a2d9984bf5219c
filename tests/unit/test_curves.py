"""Tuning curves: what they count, and the expectation for a random order."""

from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tvmconv.bench.curves import curves, expected_best, median_curve


def trial(seconds: float, task: str = "a", stage: str = "trial") -> Any:
    return SimpleNamespace(spec=task, key=(task, "t", 1), stage=stage, score=seconds)


def test_best_so_far_is_a_share_of_the_best() -> None:
    failed = float("inf")
    seconds = (4.0, failed, 2.0, 3.0, 1.0)
    (curve,) = curves([*map(trial, seconds), trial(0.1, stage="final")])
    assert curve.found.tolist() == [0.25, 0.25, 0.5, 0.5, 1.0]
    assert curve.trials_to(0.5) == 3
    assert curve.trials_to(0.95) == 5


def test_tasks_are_apart_and_need_a_few_trials() -> None:
    many = [trial(1.0, task) for task in "ab" for _ in range(4)]
    assert [one.spec for one in curves([*many, trial(1.0, "c")])] == ["a", "b"]
    assert curves([trial(float("inf"))] * 5) == []


def test_expectation_is_that_of_all_orders() -> None:
    speeds = np.array([0.3, 1.0, 0.0, 0.6, 0.6])
    orders = np.array(list(permutations(speeds)))
    expected = np.maximum.accumulate(orders, axis=1).mean(axis=0)
    assert expected_best(speeds) == pytest.approx(expected)


def test_expectation_of_many_is_finite_and_grows() -> None:
    found = expected_best(np.random.default_rng(0).random(1000))
    assert np.all(np.diff(found) >= -1e-12)
    assert found[-1] == pytest.approx(found.max())


def test_a_shorter_curve_stays_where_it_ended() -> None:
    found = median_curve([np.array([0.5, 1.0]), np.array([0.1, 0.2, 0.6])])
    assert found.tolist() == pytest.approx([0.3, 0.6, 0.8])
