"""Measuring on this machine: what is right is timed, and what goes wrong gets a status."""

import os
from collections.abc import Iterator

import numpy as np
import pytest

import tvmconv as tc
from tests.tuning import broken
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning import kept
from tvmconv.tuning.answers import compare
from tvmconv.tuning.local import LocalMeasurer
from tvmconv.tuning.measure import Outcome, Trial, calls_per_sample, hopeless
from tvmconv.tuning.space_points import sample_valid

SPEC = tc.conv2d((1, 16, 12, 12), 16, 3, padding=1)
HOST = load("host")
TASK = Task(SPEC, HOST)
DIRECT = get_template("x86.direct")
DEFAULT = Trial(TASK, DIRECT.id, DIRECT.default(TASK))


def some(count: int) -> list[Trial]:
    drawn = sample_valid(DIRECT.space(TASK), count, np.random.default_rng(0))
    return [Trial(TASK, DIRECT.id, config) for config in drawn]


@pytest.fixture(scope="module")
def measurer() -> Iterator[LocalMeasurer]:
    with LocalMeasurer(HOST) as opened:
        yield opened


def test_good_candidates_are_timed_and_checked(measurer: LocalMeasurer) -> None:
    heard: dict[int, Outcome] = {}
    outcomes = measurer.measure(some(4), heard.__setitem__)
    assert [heard[index] for index in range(4)] == outcomes
    for outcome in outcomes:
        assert outcome.status == "ok", outcome.message
        assert len(outcome.seconds) in (2, 3)
        assert 1e-8 < outcome.score < 1e-2
        assert 0 < outcome.error < 1e-5


def test_every_algorithm_is_measured(measurer: LocalMeasurer) -> None:
    from tvmconv.choose import consider

    trials = [Trial(TASK, c.template.id, c.config) for c in consider(TASK) if c.config is not None]
    assert len(trials) >= 3
    assert {outcome.status for outcome in measurer.measure(trials)} == {"ok"}


def test_epilogues_and_other_operators(measurer: LocalMeasurer) -> None:
    specs = (
        tc.conv2d((2, 8, 9, 9), 8, 3, bias=True, residual=True, activation="gelu"),
        tc.conv_transpose2d((1, 8, 5, 5), 8, 4, stride=2, layout="NHWC"),
        tc.deform_conv2d((1, 8, 9, 9), 8, 3, mask=True),
        tc.conv1d((1, 8, 40), 8, 3, scale_shift=True),
    )
    tasks = [Task(spec, HOST) for spec in specs]
    general = get_template("x86.general")
    trials = [
        Trial(task, t.id, t.default(task))
        for task in tasks
        for t in [get_template("x86.deformable") if task.spec.op == "deform_conv" else general]
    ]
    outcomes = measurer.measure(trials)
    assert [o.status for o in outcomes] == ["ok"] * 4, [o.message for o in outcomes]


def test_measuring_again_takes_turns(measurer: LocalMeasurer) -> None:
    trials = [DEFAULT, *some(2)]
    outcomes = measurer.remeasure(trials, 6)
    assert [len(outcome.seconds) for outcome in outcomes] == [6, 6, 6]


def test_what_is_measured_again_stays_while_the_rest_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run of 5000 trials keeps 2048 libraries: a winner made way for another that was gone."""
    monkeypatch.setattr(kept, "MAX_KEPT", 3)
    trials = some(4)
    with LocalMeasurer(HOST) as measurer:
        measurer.measure(trials)
        outcomes = measurer.remeasure(trials[:2], 2)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]


def test_several_threads_are_timed_by_the_wall() -> None:
    task = Task(SPEC, HOST, threads=2)
    trial = Trial(task, DIRECT.id, DIRECT.default(task))
    with LocalMeasurer(HOST, 2) as measurer:
        (outcome,) = measurer.measure([trial])
    assert outcome.seconds == outcome.wall
    assert len(outcome.seconds) == 10


def test_what_goes_wrong_gets_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = broken.register(monkeypatch)
    config = DEFAULT.config
    with LocalMeasurer(HOST, build_timeout=8.0) as measurer:
        names = list(ways)
        trials = [Trial(TASK, name, config) for name in names]
        outcomes = dict(zip(names, measurer.measure([*trials, DEFAULT]), strict=False))
        (after,) = measurer.measure(some(1))
    assert outcomes["x86.wrong"].status == "wrong_answer"
    assert "elements wrong" in outcomes["x86.wrong"].message
    assert outcomes["x86.crashing"].status == "crashed"
    # Which signal depends on what lies behind the tensors.
    assert outcomes["x86.crashing"].message in ("SIGSEGV", "SIGBUS", "SIGABRT")
    assert outcomes["x86.endless"].status == "timed_out"
    assert "not built after 8 s" in outcomes["x86.endless"].message
    assert outcomes["x86.aborting"].status == outcomes["x86.refused"].status == "build_failed"
    assert outcomes["x86.aborting"].message == "the compiler crashed: SIGABRT"
    assert outcomes["x86.refused"].message == "ValueError: no such loop"
    assert not any(outcome.seconds for outcome in outcomes.values())
    assert after.ok


def test_configs_that_do_not_apply_are_invalid(measurer: LocalMeasurer) -> None:
    knobs = dict(DEFAULT.config.items) | {"tile_oc": 17}
    bad = Trial(TASK, DIRECT.id, type(DEFAULT.config)(tuple(knobs.items())))
    (outcome,) = measurer.measure([bad])
    assert outcome.status == "invalid"
    assert "tile_oc" in outcome.message


def test_a_candidate_that_takes_too_long_is_given_up() -> None:
    with LocalMeasurer(HOST, run_timeout=0.001) as measurer:
        (outcome,) = measurer.measure([DEFAULT])
    assert (outcome.status, outcome.message) == ("timed_out", "no result after 0.001 s")
    assert not outcome.seconds


def test_closing_ends_everything() -> None:
    with LocalMeasurer(HOST) as measurer:
        measurer.measure([DEFAULT])
        folder = measurer._folder
        builders = [builder._process.pid for builder in measurer._builders]
    assert not folder.exists()
    assert all(not os.path.exists(f"/proc/{pid}") for pid in builders)  # noqa: PTH110


def test_a_target_of_another_machine_is_refused() -> None:
    from dataclasses import replace

    foreign = replace(HOST, cpu_features=(*HOST.cpu_features, "from_the_future"))
    with pytest.raises(tc.TargetError, match="from_the_future"):
        LocalMeasurer(foreign)


def test_short_kernels_are_repeated() -> None:
    assert calls_per_sample(1e-6) == 100
    assert calls_per_sample(1e-3) == 1
    assert calls_per_sample(0.0) == 10_000


def test_hopeless_after_two_samples() -> None:
    assert hopeless([3.1, 3.2], 1.0)
    assert not hopeless([3.1], 1.0)
    assert not hopeless([2.9, 3.2], 1.0)


def test_answers_are_compared_element_by_element() -> None:
    expected, bound = np.array([1.0, -2.0, 4.0]), np.full(3, 0.1)
    near = np.array([1.05, -2.0, 4.0], np.float32)
    reason, error = compare(near, expected, bound)
    assert reason is None
    assert error == pytest.approx(0.05 / 4, rel=1e-4)
    reason, _ = compare(np.array([1.0, -2.5, 4.0], np.float32), expected, bound)
    assert reason == "y[1] is -2.5, expected -2 within 0.1; 1 of 3 elements wrong"
    reason, _ = compare(np.array([1.0, np.nan, 4.0], np.float32), expected, bound)
    assert reason is not None
    assert "1 of 3 elements wrong" in reason
