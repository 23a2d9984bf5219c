"""Searches repeated from a table: what they ask, what they count, when they end."""

from pathlib import Path

import pytest

from tests.tuning.fake import SPEC, TARGET, FakeMeasurer, seconds_of, task
from tvmconv.tuning.measure import Trial
from tvmconv.tuning.records import Record
from tvmconv.tuning.replay import Replay, Table, replay
from tvmconv.tuning.tune import tune


@pytest.fixture
def records(tmp_path: Path) -> tuple[Record, ...]:
    """What a search of 40 trials measured."""
    from tvmconv.tuning.records import read_records

    path = tmp_path / "table.jsonl"
    tune([SPEC], TARGET, records=path, measurer=FakeMeasurer(), trials=40, prior=None)
    return read_records(path)[0]


def test_a_table_answers_what_it_holds_and_measures_the_rest(
    records: tuple[Record, ...], tmp_path: Path
) -> None:
    measurer = FakeMeasurer()
    table = Table(task(), records, measurer)
    known = len(table)
    first = replay(task(), table, None, tmp_path / "scratch.jsonl", trials=24, seed=7)
    assert len(first.scores) == 24
    assert first.scores == pytest.approx([seconds_of(t) for t in table.asked], rel=1e-4)
    assert len(table) == known + len(measurer.measured)
    again = replay(task(), table, None, tmp_path / "scratch.jsonl", trials=24, seed=7)
    assert again == first
    assert len(table) == known + len(measurer.measured), "nothing is measured twice"


def test_a_trial_that_nobody_can_measure_is_an_error(records: tuple[Record, ...]) -> None:
    table = Table(task(), records[:1])
    other = next(
        r for r in records if (r.template, r.config) != (records[0].template, records[0].config)
    )
    from tvmconv.space import Config

    with pytest.raises(KeyError, match="does not hold"):
        table.measure([Trial(task(), other.template, Config.parse(other.config))])


def test_a_goal_ends_the_search(records: tuple[Record, ...], tmp_path: Path) -> None:
    table = Table(task(), records, FakeMeasurer())
    goal = 1.5 * table.best
    found = replay(task(), table, None, tmp_path / "scratch.jsonl", trials=96, seed=3, goal=goal)
    assert found.trials_to(goal) == len(found.scores) < 96
    assert all(score > goal for score in found.scores[:-1])


def test_the_least_sample_of_a_config_counts(records: tuple[Record, ...]) -> None:
    from dataclasses import replace

    best = min(records, key=lambda record: record.score)
    noisy = replace(best, seconds=(3 * best.score,))
    assert Table(task(), [noisy, best, noisy]).best == best.score


def test_trials_to_counts_from_one_and_may_never_end() -> None:
    assert Replay((3.0, 2.0, 1.0)).trials_to(2.0) == 2
    assert Replay((3.0, 2.0, 1.0)).trials_to(0.5) is None
