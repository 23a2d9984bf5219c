"""Runs with a fake measurer: budgets, resuming, failures, what is recorded, and that it pays."""

from collections import Counter
from itertools import count
from math import exp, log
from pathlib import Path

import numpy as np
import pytest

import tvmconv as tc
from tests.tuning.fake import SPEC, TARGET, FakeMeasurer, seconds_of, task
from tvmconv.template import get_template
from tvmconv.tuning.measure import Outcome, Trial
from tvmconv.tuning.records import read_records
from tvmconv.tuning.result import Progress, TuneResult
from tvmconv.tuning.space_points import sample_valid
from tvmconv.tuning.tune import tune

OTHER = tc.conv2d((1, 128, 14, 14), 128, 3, padding=1)


def go(path: Path, measurer: FakeMeasurer, *specs: tc.ConvSpec, **options: object) -> TuneResult:
    given = {"trials": 24, "prior": None} | options
    return tune(specs or (SPEC,), TARGET, records=path, measurer=measurer, **given)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.jsonl"


def test_beats_random_search(path: Path) -> None:
    ratios = []
    for seed in range(3):
        result = go(
            path, FakeMeasurer(), trials=32, seed=seed, algorithm="x86.direct", resume=False
        )
        space = get_template("x86.direct").space(task())
        drawn = sample_valid(space, 48, np.random.default_rng(seed))
        chance = min(seconds_of(Trial(task(), "x86.direct", config)) for config in drawn)
        ratios.append(log(chance / result.layers[0].seconds))
    assert exp(sum(ratios) / 3) > 1.05


def test_same_seed_measures_the_same(tmp_path: Path) -> None:
    runs = [FakeMeasurer() for _ in range(3)]
    for number, (measurer, seed) in enumerate(zip(runs, (1, 1, 2), strict=True)):
        go(tmp_path / f"{number}.jsonl", measurer, seed=seed)
    assert runs[0].measured == runs[1].measured
    assert runs[0].measured != runs[2].measured


def test_records_every_trial_and_the_final_pair(path: Path) -> None:
    measurer = FakeMeasurer()
    result = go(path, measurer)
    records, problems = read_records(path)
    stages = Counter(record.stage for record in records)
    assert not problems
    assert stages["trial"] == len(measurer.measured) == result.trials == 24
    finals = [record for record in records if record.stage == "final"]
    tuned = result.layers[0]
    assert tuned.final
    assert (finals[0].template, finals[0].config) == (tuned.template, tuned.config)
    default = (tuned.default_template, tuned.default_config)
    assert {(r.template, r.config) for r in finals} == {(tuned.template, tuned.config), default}
    assert len({record.run for record in records}) == 1


def test_the_best_meet_again_with_the_default(path: Path) -> None:
    measurer = FakeMeasurer()
    result = go(path, measurer, trials=40)
    sizes = [(len(trials), rounds) for trials, rounds in measurer.remeasured]
    assert sizes[0][1] == 3
    assert sizes[-1][1] == 12
    last = {(t.template_id, str(t.config)) for t in measurer.remeasured[-1][0]}
    tuned = result.layers[0]
    assert (tuned.default_template, tuned.default_config) in last


def test_lucky_trials_do_not_win(path: Path) -> None:
    """One trial reads ten times too fast; measured again it is what it is."""
    tries: Counter[Trial] = Counter()

    def seconds(trial: Trial) -> float:
        tries[trial] += 1
        lucky = len(measurer.measured) == 6 and tries[trial] == 1
        return seconds_of(trial) / (10 if lucky else 1)

    measurer = FakeMeasurer(seconds)
    tuned = go(path, measurer).layers[0]
    assert tuned.seconds == pytest.approx(min(map(seconds_of, measurer.measured)), rel=1e-3)


def test_a_default_that_is_best_stays(path: Path) -> None:
    default: list[Trial] = []

    def seconds(trial: Trial) -> float:
        default.append(trial)
        return 1e-3 if trial == default[0] else 2e-3

    tuned = go(path, FakeMeasurer(seconds)).layers[0]
    assert (tuned.template, tuned.config) == (tuned.default_template, tuned.default_config)
    assert tuned.gain == 1.0


def test_resuming_measures_nothing_twice(path: Path) -> None:
    first, second = FakeMeasurer(), FakeMeasurer()
    go(path, first)
    go(path, second)
    assert not set(first.measured) & set(second.measured)
    again = FakeMeasurer()
    go(path, again, resume=False)
    assert set(first.measured) & set(again.measured)


def test_another_machines_times_are_not_taken_over(path: Path) -> None:
    elsewhere = FakeMeasurer()
    elsewhere.machine = "another CPU"
    go(path, elsewhere)
    here = FakeMeasurer()
    result = go(path, here)
    assert result.layers[0].trials == len(here.measured)
    assert set(here.measured) & set(elsewhere.measured)


def test_unreadable_lines_are_reported(path: Path) -> None:
    go(path, FakeMeasurer(), trials=4)
    with path.open("a") as file:
        file.write("{broken\n")
    result = go(path, FakeMeasurer(), trials=4)
    assert any(f"{path}:" in warning for warning in result.warnings)


def test_failures_are_statuses(path: Path) -> None:
    numbers = count()
    kinds = ("wrong_answer", "crashed", "timed_out", "build_failed", "invalid")

    def fails(trial: Trial) -> Outcome | None:
        number = next(numbers)
        return Outcome(kinds[number % 6], "why") if number % 6 < 5 else None

    result = go(path, FakeMeasurer(fails=fails))
    records, _ = read_records(path)
    failed = [record for record in records if record.status != "ok"]
    assert {record.status for record in failed} == set(kinds)
    assert all(record.message == "why" and not record.seconds for record in failed)
    assert result.layers[0].failures == len(failed) == 20


def test_nothing_works(path: Path) -> None:
    result = go(path, FakeMeasurer(fails=lambda trial: Outcome("crashed", "SIGSEGV")))
    assert result.layers[0].template is None
    assert not result.layers[0].final


def test_layers_share_the_budget_by_weight(path: Path) -> None:
    result = go(path, FakeMeasurer(), SPEC, OTHER, trials=40, weights=(10.0, 0.1))
    trials = [tuned.trials for tuned in result.layers]
    assert sum(trials) == 80
    assert trials[0] > 2 * trials[1] > 0


def test_epilogues_are_tuned_once(path: Path) -> None:
    with_relu = tc.conv2d((1, 64, 28, 28), 64, 3, padding=1, bias=True, activation="relu")
    result = go(path, FakeMeasurer(), SPEC, with_relu, trials=8)
    assert len(result.layers) == 1
    assert result.layers[0].weight == 2.0


def test_ends_when_nothing_improves(path: Path) -> None:
    result = go(path, FakeMeasurer(lambda trial: 1e-3), trials=500, patience=20)
    assert result.stopped == "early stop"
    assert result.trials < 60


def test_minutes_end_a_run(path: Path) -> None:
    result = go(path, FakeMeasurer(), trials=None, minutes=0.03, patience=10**6)
    assert result.stopped == "budget"
    assert result.elapsed < 10


def test_interrupt_keeps_everything(path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.trials == 7:
            raise KeyboardInterrupt

    result = go(path, FakeMeasurer(), on_event=stop)
    assert result.stopped == "interrupted"
    assert result.layers[0].template is not None
    assert len(read_records(path)[0]) == 7


def test_full_disk_stops_with_a_message() -> None:
    with pytest.raises(tc.TvmconvError, match="cannot write /dev/full"):
        go(Path("/dev/full"), FakeMeasurer(), resume=False)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"trials": 0}, "trials"),
        ({"minutes": 0}, "minutes"),
        ({"weights": (1.0, 2.0)}, "weights"),
        ({"patience": 0}, "patience"),
    ],
)
def test_senseless_arguments(path: Path, options: dict[str, object], argument: str) -> None:
    with pytest.raises(tc.ArgumentError, match=argument):
        go(path, FakeMeasurer(), **options)


def test_unknown_algorithm(path: Path) -> None:
    with pytest.raises(tc.UnsupportedSpec, match="nothing to tune"):
        go(path, FakeMeasurer(), algorithm="fastest")


def test_without_xgboost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "xgboost", None)
    measurer = FakeMeasurer()
    with pytest.raises(tc.EnvironmentProblem, match="xgboost"):
        go(path, measurer)
    assert not measurer.measured
