"""Tiers of compile: the caller's records, shipped records, the cost model, predicted cycles."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tvmconv as tc
from tvmconv.choose import Choice, consider, decide
from tvmconv.errors import ArgumentError, RecordsError, UnsupportedSpec
from tvmconv.target import load
from tvmconv.template import Task, Template, get_template
from tvmconv.tolerance import ACCURACIES, Accuracy
from tvmconv.tuning import knowledge
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.records import Journal, Record

SPEC = tc.conv2d((1, 64, 28, 28), 64, 3, padding=1, bias=True, activation="relu")
TARGET = load("x86_64_v3")
TASK = Task(SPEC, TARGET)
DIRECT, COLUMNS = get_template("x86.direct"), get_template("x86.columns")


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in place of the one that ships."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(knowledge, "_shipped", lambda name: folder / name)
    some = (DIRECT, COLUMNS, get_template("x86.general"), get_template("x86.pointwise"))
    monkeypatch.setattr("tvmconv.choose.templates", lambda family: some)
    knowledge.prior.cache_clear()
    knowledge.shipped_sources.cache_clear()
    yield folder
    knowledge.prior.cache_clear()
    knowledge.shipped_sources.cache_clear()


def record(config: object, seconds: float = 1e-4, **changes: object) -> Record:
    made = Record(
        spec=str(SPEC.linear()),
        target=TARGET.id,
        template=DIRECT.id,
        config=str(config),
        threads=1,
        status="ok",
        seconds=(seconds,),
        time="2026-01-02T03:04:05+00:00",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def others(template: Template, task: Task = TASK) -> list[str]:
    """Configs of the shortlist, without the default."""
    return [str(c) for c in template.shortlist(task) if c != template.default(task)]


def write(path: Path, *records: Record) -> str:
    with Journal(path) as journal:
        for one in records:
            journal.append(one)
    return str(path)


def chosen(choice: Choice) -> tuple[str, str]:
    return choice.best.tier, str(choice.best.config)


def test_the_fastest_record_is_used_whatever_follows_the_sums(tmp_path: Path) -> None:
    slow, fast = others(DIRECT)[:2]
    path = write(tmp_path / "r.jsonl", record(slow, 2e-4), record(fast, 1e-4))
    choice = decide(TASK, records=path)
    assert chosen(choice) == ("tuned", fast)
    assert choice.best.seconds == 1e-4
    assert choice.best.reason == "100 us measured (trial of 2026-01-02)"
    assert choice.notes == ("no cost model ships for x86",)
    kernel = tc.compile(SPEC, TARGET, records=path)
    assert (kernel.tier, str(kernel.config)) == ("tuned", fast)


def test_records_of_several_files_and_templates_compare(tmp_path: Path) -> None:
    first = write(tmp_path / "a.jsonl", record(others(DIRECT)[0], 2e-4))
    other = record(others(COLUMNS)[0], 1e-4, template=COLUMNS.id)
    second = write(tmp_path / "b.jsonl", other)
    assert chosen(decide(TASK, records=[first, Path(second)])) == ("tuned", other.config)
    assert decide(TASK, "x86.direct", [first, second]).best.template == DIRECT


def test_a_file_that_grew_is_read_again(tmp_path: Path) -> None:
    slow, fast = others(DIRECT)[:2]
    path = write(tmp_path / "r.jsonl", record(slow, 2e-4))
    assert chosen(decide(TASK, records=path)) == ("tuned", slow)
    write(tmp_path / "r.jsonl", record(fast, 1e-4))
    assert chosen(decide(TASK, records=path)) == ("tuned", fast)


def test_what_does_not_apply_says_why_and_the_default_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = others(DIRECT)[0]
    path = write(
        tmp_path / "r.jsonl",
        record(config, target="x86_64_v4"),
        record(config, threads=8),
        record(config, template="x86.gone"),
        record(config, template="x86.pointwise"),
        record("tile_oc=16"),
        record(config.replace("tile_ow=", "tile_ow=9")),
        replace(record(config), status="wrong_answer", seconds=()),
        record(config, spec="conv2d_n1c64s28x28_o64k1x1"),
    )
    with Path(path).open("a", encoding="utf-8") as file:
        file.write("{torn")
    choice = decide(TASK, records=path)
    assert choice.best == consider(TASK)[0]
    told = "\n".join(choice.notes)
    for reason in (
        "measured for x86_64_v4, not x86_64_v3 (1 records)",
        "measured with 8 threads, not 1",
        "template: got 'x86.gone'",
        "x86.pointwise does not take the task or was not asked for",
        "config knobs: got 'tile_oc'",
        "config tile_ow: got 9",
        "r.jsonl:9: not JSON",
    ):
        assert reason in told
    monkeypatch.setitem(ACCURACIES, "direct", Accuracy(4.0, 1e-5))
    good = write(tmp_path / "g.jsonl", record(config))
    assert decide(TASK, records=good).best.tier == "tuned"
    coarse = replace(DIRECT, accuracy=lambda task, config: "coarse")
    monkeypatch.setitem(ACCURACIES, "coarse", Accuracy(4.0, 1e-3))
    monkeypatch.setattr("tvmconv.choose.get_template", lambda name: coarse)
    choice = decide(TASK, records=good)
    assert choice.best.tier == "analytic"
    assert "relative error 0.001 above max_error 1e-05" in "\n".join(choice.notes)


def test_a_winner_that_lost_to_the_default_is_refused(tmp_path: Path) -> None:
    config, default = others(DIRECT)[0], str(DIRECT.default(TASK))
    lucky = [record(config, 1e-5), record(default, 2e-5)]
    lost = [record(config, 3e-5, stage="final"), record(default, 2e-5, stage="final")]
    path = write(tmp_path / "r.jsonl", *lucky)
    assert chosen(decide(TASK, records=path)) == ("tuned", config)
    write(tmp_path / "r.jsonl", *lost)
    choice = decide(TASK, records=path)
    assert chosen(choice) == ("tuned", default)
    assert any("no faster than the default when measured again" in n for n in choice.notes)


def test_own_records_come_before_those_that_ship(tmp_path: Path, shipped: Path) -> None:
    mine, theirs = others(DIRECT)[:2]
    write(shipped / "x86_64_v3.jsonl", record(theirs, 1e-6))
    assert chosen(decide(TASK)) == ("tuned", theirs)
    path = write(tmp_path / "r.jsonl", record(mine, 1e-3))
    assert chosen(decide(TASK, records=path)) == ("tuned", mine)
    useless = write(tmp_path / "u.jsonl", record("tile_oc=16"))
    assert chosen(decide(TASK, records=useless)) == ("tuned", theirs)
    assert decide(replace(TASK, target=load("x86_64_v2"))).best.tier == "analytic"


def test_records_of_a_like_target_serve_where_there_are_no_own(
    tmp_path: Path, shipped: Path
) -> None:
    task = replace(TASK, target=replace(TARGET, id="like", records_from=TARGET.id))
    lent, own = others(DIRECT)[:2]
    write(shipped / f"{TARGET.id}.jsonl", record(lent, 1e-6))
    choice = decide(task)
    assert chosen(choice) == ("tuned", lent)
    assert choice.best.reason == f"1 us measured (trial of 2026-01-02 for {TARGET.id})"
    four = decide(replace(task, threads=4)).best
    assert (four.tier, "spread over 4" in four.reason) == ("tuned", True)
    write(shipped / "like.jsonl", record(own, 1e-3, target="like"))
    knowledge.shipped_sources.cache_clear()
    assert chosen(decide(task)) == ("tuned", own)
    assert chosen(decide(TASK)) == ("tuned", lent)
    mine = write(tmp_path / "r.jsonl", record(lent, 1e-9), record(own, 1.0, target="like"))
    assert chosen(decide(task, records=mine)) == ("tuned", own)
    told = decide(task, records=write(tmp_path / "o.jsonl", record(own, target="x86_64_v2"))).notes
    assert "o.jsonl: measured for x86_64_v2, not like (1 records)" in told


def test_records_that_ship_can_be_left_out_of_account(tmp_path: Path, shipped: Path) -> None:
    mine, theirs = others(DIRECT)[:2]
    write(shipped / "x86_64_v3.jsonl", record(theirs, 1e-6))
    assert decide(TASK, shipped=False).best.tier == "analytic"
    path = write(tmp_path / "r.jsonl", record(mine, 1e-3))
    assert chosen(decide(TASK, records=path, shipped=False)) == ("tuned", mine)


def test_one_threads_record_is_spread_over_several(tmp_path: Path) -> None:
    config = others(DIRECT)[0]
    path = write(tmp_path / "r.jsonl", record(config))
    four = replace(TASK, threads=4)
    choice = decide(four, records=path)
    assert choice.best.tier == "tuned"
    assert choice.best.config is not None
    assert "tile_oc=" + config.split(",")[0].split("=")[1] in str(choice.best.config)
    DIRECT.space(four).check(choice.best.config)
    assert "one thread; spread over 4" in choice.best.reason
    assert choice.best.seconds is not None
    assert choice.best.seconds < 0.7e-4
    own = str(DIRECT.shortlist(four)[-1])
    write(tmp_path / "r.jsonl", record(own, 1.0, threads=4))
    assert chosen(decide(four, records=path)) == ("tuned", own)


def likes(config: str, templates: tuple[Template, ...] = (DIRECT, COLUMNS)) -> CostModel:
    """A model trained where one knob setting of the shortlists is five times faster."""
    records = [
        record(c, (1e-9 if config in str(c) else 5e-9) * t.cycles(TASK, c), template=t.id)
        for t in templates
        for c in list(t.space(TASK).configs(np.arange(0, t.space(TASK).grid_size, 41)))[:150]
    ]
    return CostModel.fit(records)


def test_the_cost_model_ranks_the_shortlists(shipped: Path) -> None:
    likes("tile_oc=16,").save(shipped / "prior_x86.json.gz")
    choice = decide(TASK)
    assert choice.best.tier == "predicted"
    assert "tile_oc=16" in str(choice.best.config)
    assert choice.best.config in DIRECT.shortlist(TASK)
    assert choice.best.seconds is not None
    assert choice.best.reason == f"{1e6 * choice.best.seconds:.3g} us predicted"
    tiers = {c.template.id: c.tier for c in choice.candidates}
    assert tiers[COLUMNS.id] == "predicted"
    assert tiers["x86.general"] == "analytic"
    assert tiers["x86.pointwise"] == ""
    forced = decide(TASK, COLUMNS.id)
    assert forced.best.template == COLUMNS
    reasons = {c.template.id: c.reason for c in forced.candidates}
    assert reasons[DIRECT.id] == "not asked for: algorithm is x86.columns"
    four = decide(replace(TASK, threads=4))
    assert four.best.tier == "predicted"
    assert "tile_oc=16" in str(four.best.config)


def test_a_model_of_other_features_is_not_asked(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    likes("tile_oc=16,", (DIRECT,)).save(shipped / "prior_x86.json.gz")
    changed = replace(DIRECT, features=lambda task, configs: {})
    monkeypatch.setattr("tvmconv.choose.templates", lambda family: (changed,))
    choice = decide(TASK)
    assert choice.best.tier == "analytic"
    assert choice.notes[0].startswith("x86.direct is not predicted: the model of x86.direct was")


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_broken_model_is_told_and_not_used(shipped: Path, content: bytes) -> None:
    (shipped / "prior_x86.json.gz").write_bytes(content)
    choice = decide(TASK)
    assert choice.best == consider(TASK)[0]
    assert "the shipped cost model is not used: " in choice.notes[0]


def test_without_xgboost_records_and_defaults_still_work(
    tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    likes("tile_oc=16,").save(shipped / "prior_x86.json.gz")
    monkeypatch.setitem(sys.modules, "xgboost", None)
    choice = decide(TASK)
    assert choice.best == consider(TASK)[0]
    assert "xgboost: got 'not installed" in choice.notes[0]
    assert tc.compile(SPEC, TARGET).tier == "analytic"
    path = write(tmp_path / "r.jsonl", record(others(DIRECT)[0]))
    assert decide(TASK, records=path).best.tier == "tuned"


def test_records_must_be_paths(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="records: got 3; allowed: a path"):
        tc.compile(SPEC, TARGET, records=3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="records: got"):
        tc.compile(SPEC, TARGET, records=[3])  # type: ignore[list-item]
    with pytest.raises(RecordsError, match="No such file"):
        tc.compile(SPEC, TARGET, records=tmp_path / "none.jsonl")


def test_an_algorithm_that_is_too_inexact_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = replace(COLUMNS, algorithm="coarse", accuracy=lambda task, config: "coarse")
    monkeypatch.setitem(ACCURACIES, "coarse", Accuracy(4.0, 1e-4))
    monkeypatch.setattr("tvmconv.choose.templates", lambda family: (DIRECT, coarse))
    reasons = {c.template.id: c.reason for c in decide(TASK).candidates}
    assert reasons[COLUMNS.id] == "relative error 0.0001 above max_error 1e-05"
    assert decide(replace(TASK, max_error=1e-3), "coarse").best.template == coarse
    with pytest.raises(UnsupportedSpec, match=r"relative error 0\.0001 above"):
        decide(TASK, "coarse")


@pytest.mark.parametrize(("gain", "wins"), [(1.03, False), (1.08, True)])
def test_exactness_is_given_up_only_for_more_than_predictions_err_by(
    gain: float, wins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transform that is predicted to be a little faster comes second."""
    cycles = DIRECT.cycles(TASK, DIRECT.default(TASK))
    rounding = replace(
        COLUMNS,
        algorithm="rounding",
        accuracy=lambda task, config: "winograd_f2_3",
        cycles=lambda task, config: cycles / gain,
    )
    monkeypatch.setattr("tvmconv.choose.templates", lambda family: (DIRECT, rounding))
    assert (decide(TASK).best.template == rounding) is wins
    assert decide(TASK, "rounding").best.template == rounding
