"""Static costs: what they count, that they rank, and that they never pass for measurements."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import tvmconv as tc
from tvmconv import cli
from tvmconv.build import lower
from tvmconv.choose import decide
from tvmconv.cores import core_of
from tvmconv.hot_loop import find_hot_loop
from tvmconv.space import Config
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning.dataset import rows_of
from tvmconv.tuning.log import Log
from tvmconv.tuning.measure import Outcome, Trial
from tvmconv.tuning.no_device import StaticMeasurer
from tvmconv.tuning.records import Record, best_estimates, best_records, read_records
from tvmconv.tuning.static import Work, cost_of, loop_cycles, work_of
from tvmconv.tuning.tune import ESTIMATED, tune

SPEC = tc.conv2d((1, 16, 14, 16), 16, 3, padding=1)
PI4 = load("pi4")
TILES = "tile_oc=8,tile_oh=1,tile_ow={},block_oh=14,block_ow=16,parts=1,stage=planes"

LOOP = """\
.LBB0_1:
\tldp\tq2, q3, [x8], #32
{extra}\
\tfmla\tv1.4s, v2.4s, v4.s[0]
\tfmla\tv5.4s, v3.4s, v4.s[1]
\tsubs\tx9, x9, #1
\tb.ne\t.LBB0_1
"""


def trial(tile_ow: int, target: str = "pi4") -> Trial:
    return Trial(Task(SPEC, load(target)), "arm.columns", Config.parse(TILES.format(tile_ow)))


def cycles_of(extra: str) -> float:
    return cost_of(Work(1e6, 0.0), LOOP.format(extra=extra), PI4).cycles


def test_work_counts_every_trip() -> None:
    task, template = Task(SPEC, PI4), get_template("arm.columns")
    lowered = lower(task, template, Config.parse(TILES.format(8)), "k")
    work = work_of(lowered.run_loops, PI4.lanes)
    # Tap rows in the padding are skipped; their loop counts at its longest.
    assert work.multiply_adds == SPEC.macs / 4
    # At least each sum set to zero and each output loaded and stored.
    assert work.moves >= 3 * 16 * 14 * 16 / 4


def test_spills_chains_and_instructions_cost() -> None:
    plain = cycles_of("")
    assert cycles_of("\tadd\tx10, x10, #16\n") > plain
    assert cycles_of("\tstr\tq7, [sp, #16]\n") > cycles_of("\tstr\tq7, [x4, #16]\n")
    chained = LOOP.format(extra="").replace("v5.4s", "v1.4s")
    assert cost_of(Work(1e6, 0.0), chained, PI4).cycles > plain


def test_costs_scale_with_work_and_say_what_they_are() -> None:
    once = cost_of(Work(1e6, 1e5), LOOP.format(extra=""), PI4)
    twice = cost_of(Work(2e6, 2e5), LOOP.format(extra=""), PI4)
    assert twice.cycles == pytest.approx(2 * once.cycles)
    assert str(once).startswith("2.50 instructions, 1.00 loads, ")
    assert str(once).endswith("0 spills")


def test_a_slower_core_takes_longer() -> None:
    loop = find_hot_loop(LOOP.format(extra=""))
    assert loop is not None
    slow, fast = (loop_cycles(loop, core_of(load(name))) for name in ("pi3", "pi5"))
    assert slow > fast


def test_code_without_a_loop_costs_what_it_moves() -> None:
    assert cost_of(Work(0.0, 300.0), "f:\n\tret\n", PI4).cycles == pytest.approx(100.0)


def test_measurer_ranks_register_tiles() -> None:
    """One vector of columns leaves half of the registers idle and loads twice as often."""
    wrong = Trial(Task(SPEC, PI4), "arm.columns", Config.parse("tile_oc=3"))
    heard: list[int] = []
    with StaticMeasurer(PI4) as measurer:
        trials = [trial(4), trial(8), wrong]
        narrow, wide, refused = measurer.measure(trials, lambda at, _: heard.append(at))
        again = measurer.remeasure(trials[:2], rounds=3)
    assert sorted(heard) == [0, 1, 2]
    assert narrow.ok
    assert wide.ok
    assert wide.score < narrow.score
    assert "spills" in wide.message
    assert (refused.status, refused.score) == ("invalid", float("inf"))
    assert [one.score for one in again] == [narrow.score, wide.score]


def test_a_compiler_that_hangs_is_given_up() -> None:
    with StaticMeasurer(PI4, timeout=0.0) as measurer:
        (outcome,) = measurer.measure([trial(8)])
    assert outcome.status == "timed_out"


def record(stage: str, seconds: float, tile_ow: int, time: str = "2026-01-01") -> Record:
    return Record(
        str(SPEC), "pi4", "arm.columns", TILES.format(tile_ow), 1, "ok", "", (seconds,), stage,
        time=time,
    )  # fmt: skip


def test_estimates_are_no_measurements() -> None:
    records = [record("static", 1e-6, 4), record("trial", 1e-3, 8)]
    assert [r.stage for r in best_records(records)] == ["trial"]
    assert [r.stage for r in best_estimates(records)] == ["static"]
    assert rows_of(records[:1]) == {}
    newer = record("static", 5e-6, 4, "2026-01-02")
    assert best_estimates([newer, *records]) == (newer,)


@pytest.mark.parametrize(("stages", "tile", "tier"), [
    (("static",), 4, "static"),
    (("static", "trial"), 8, "tuned"),
])  # fmt: skip
def test_compile_takes_estimates_where_nothing_was_measured(
    stages: tuple[str, ...], tile: int, tier: str, tmp_path: Path
) -> None:
    made = {"static": record("static", 1e-6, 4), "trial": record("trial", 1e-3, 8)}
    path = tmp_path / "records.jsonl"
    path.write_text("".join(made[stage].line + "\n" for stage in stages))
    best = decide(Task(SPEC, PI4), records=path).best
    assert (str(best.config), best.tier) == (TILES.format(tile), tier)


def test_logs_keep_both_kinds_apart(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with Log(path, 1, "a core", static=True) as static, Log(path, 1, "a core") as measured:
        kept = static.write(trial(4), Outcome("ok", "why", (1e-6,)))
        measured.write(trial(8), Outcome("ok", "", (1e-3,)))
        records, _ = read_records(path)
        assert kept.stage == "trial"
        assert [r.stage for r in records] == ["static", "trial"]
        assert [r.config for r in static.comparable(records)] == [TILES.format(4)]
        assert [r.config for r in measured.comparable(records)] == [TILES.format(8)]


def test_tuning_without_a_device(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with StaticMeasurer(PI4) as measurer:
        result = tune(SPEC, "pi4", trials=6, records=path, measurer=measurer)
        assert ESTIMATED in result.warnings
        assert result.layers[0].gain >= 1
        records, _ = read_records(path)
        assert {r.stage for r in records} == {"static"}
        assert {r.cpu for r in records} == {"static cost for cortex-a72"}
        assert result.layers[0].config == best_estimates(records)[0].config
        # What is known is not compiled again.
        tune(SPEC, "pi4", trials=6, records=path, measurer=measurer)
        records, _ = read_records(path)
    tried = [(r.template, r.config) for r in records]
    assert len(set(tried)) >= 12
    assert decide(Task(SPEC, PI4), records=path).best.tier == "static"


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "records.jsonl")
    line = ["tune", str(SPEC), "--target", "pi4", "--no-device", "--trials", "4"]
    assert cli.main([*line, "--records", path, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert ESTIMATED in told["warnings"]
    assert told["layers"][0]["template"].startswith("arm.")


def test_command_refuses_a_device_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["tune", str(SPEC), "--target", "pi4", "--no-device", "--rpc", "10.0.0.1:9090"]
    assert cli.main(line) == 1
    assert "--no-device" in capsys.readouterr().err


def test_records_of_estimates_keep_their_reason() -> None:
    one = replace(record("static", 1e-6, 4), message="1.20 instructions")
    assert Record.from_line(one.line) == one
