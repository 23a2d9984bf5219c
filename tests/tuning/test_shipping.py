"""What ships: the best records, the prior, and how a prior is judged."""

from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.tuning.test_model import SPECS, TEMPLATE, cost, measured, task_of
from tvmconv import workloads
from tvmconv.space import Config
from tvmconv.target import ids
from tvmconv.tolerance import ACCURACIES
from tvmconv.tuning.dataset import rows_of
from tvmconv.tuning.evaluate import judge, keys_of_network, leave_one_network_out, rank_correlation
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.records import read_records, tuning_key
from tvmconv.tuning.shipping import best_of_each, write_best


def test_one_record_of_each_key_is_kept(tmp_path: Path) -> None:
    records = [*measured(SPECS[0], 10), *measured(SPECS[1], 10)]
    gone = [replace(records[0], template="x86.gone", seconds=(1e-9,))]
    bias = replace(records[3], spec=SPECS[0] + "_bias_relu", seconds=(1e-8,))
    failed = replace(records[4], status="crashed", seconds=())
    kept = best_of_each([*records, *gone, bias, failed])
    assert [r.spec for r in kept] == sorted(SPECS[:2])
    assert [r.score for r in kept if r.spec == SPECS[0]] == [1e-8]
    assert all(not r.run and not r.message and len(r.seconds) == 1 for r in kept)
    assert write_best(records, tmp_path) == {"x86_64_v4": 2}
    again, problems = read_records(tmp_path / "x86_64_v4.jsonl")
    assert list(again) == best_of_each(records)
    assert not problems


def test_the_newest_contest_replaces_what_is_older(tmp_path: Path) -> None:
    fast, slow, exact = sorted(measured(SPECS[0], 3), key=lambda r: r.score)
    shipped = replace(fast, stage="final", run="", time="2026-01-01T00:00:00+00:00")
    again = replace(slow, stage="final", run="b", time="2026-01-02T00:00:00+00:00")
    other = replace(exact, stage="final", run="b", time="2026-01-02T00:00:03+00:00")
    older = replace(fast, run="a", time="2026-01-01T12:00:00+00:00")
    newer = replace(fast, run="c", time="2026-01-03T00:00:00+00:00")
    for some, winner in (
        ([shipped, older], fast),
        ([again, shipped, older, other], slow),
        ([shipped, again, newer], slow),
        ([shipped, replace(newer, stage="final"), again], fast),
    ):
        assert [r.config for r in best_of_each(some)] == [winner.config]


def test_an_exact_record_stands_beside_a_faster_inexact_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = sorted(measured(SPECS[0], 10), key=lambda r: r.score)

    def accuracy(task: object, config: Config) -> str:
        return "coarse" if str(config) in {r.config for r in records[:3]} else "direct"

    monkeypatch.setitem(ACCURACIES, "coarse", ACCURACIES["direct"])
    coarse = replace(TEMPLATE, accuracy=accuracy)
    monkeypatch.setattr("tvmconv.tuning.shipping.get_template", lambda name: coarse)
    kept = best_of_each(records)
    assert [r.config for r in kept] == [records[0].config, records[3].config]


def test_rows_of_some_groups() -> None:
    rows = rows_of([*measured(SPECS[0], 5), *measured(SPECS[1], 7), *measured(SPECS[2], 3)])
    whole = rows[TEMPLATE.id]
    part = whole.of_groups([2, 0])
    assert part.keys == (whole.keys[2], whole.keys[0])
    assert sorted(part.groups.tolist()) == [0] * 3 + [1] * 5
    assert len(part.features) == len(part.log_seconds) == len(part.log_cycles) == 8
    assert np.array_equal(part.log_seconds[part.groups == 0], whole.log_seconds[whole.groups == 2])


def test_networks_know_their_layers_in_both_layouts() -> None:
    keys = keys_of_network("resnet18")
    assert "conv2d_n1c64s56x56_o64k3x3_p1" in keys
    assert "conv2d_n1c64s56x56_o64k3x3_p1_nhwc" in keys
    assert all(tuning_key(key) == key for key in keys)
    assert len(keys) == 2 * len({layer.spec.linear() for layer in workloads.load("resnet18")})


def test_a_network_is_judged_by_a_model_that_never_saw_it() -> None:
    inside = ["conv2d_n1c64s56x56_o64k3x3_p1", "conv2d_n1c128s28x28_o128k3x3_p1"]
    outside = ["conv2d_n1c72s40x40_o96k3x3_p1", "conv2d_n1c48s56x56_o64k3x3_p1", SPECS[3]]
    records = [r for spec in (*inside, *outside) for r in measured(spec, 60)]
    found = {held.network: held for held in leave_one_network_out(records, rounds=60)}
    assert {"resnet18", "resnet50"} <= set(found)
    held = found["resnet18"]
    assert held.specs == 2
    assert held.correlation > 0.9
    assert 0.9 < held.share <= 1
    assert 0 < held.worst <= held.share
    assert held.worst_key.split(" ")[0] in inside


def test_shares_are_the_picks_against_the_best() -> None:
    """A model of a device where nothing but the analytic order counts picks by that."""
    plain = CostModel.fit([r for s in SPECS[1:] for r in measured(s, 60, lambda config: 1.0)])
    rows = rows_of(measured(SPECS[0], 60, cost))
    held = judge("one", plain, rows)
    of_template = rows[TEMPLATE.id]
    best, at = of_template.log_seconds.min(), of_template.log_cycles.argmin()
    assert held.analytic_share == pytest.approx(np.exp(best - of_template.log_seconds[at]))
    assert held.share == held.worst
    assert held.specs == 1


def test_rank_correlation() -> None:
    values = np.array([3.0, 1.0, 2.0])
    assert rank_correlation(values, values) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)


def test_the_script_builds_prior_and_best_records(script: ModuleType, tmp_path: Path) -> None:
    path, output = tmp_path / "records.jsonl", tmp_path / "tuned"
    output.mkdir()
    records = [r for spec in SPECS for r in measured(spec, 30)]
    path.write_text("\n".join(r.line for r in records) + "\n{torn", encoding="utf-8")
    arguments = [str(path), "--output", str(output), "--rounds", "20"]
    assert script.main([*arguments, "--check"]) == 0
    assert list(output.iterdir()) == []
    assert script.main(arguments) == 0
    assert {p.name for p in output.iterdir()} == {"prior_x86.json.gz", "x86_64_v4.jsonl"}
    model = CostModel.load(output / "prior_x86.json.gz")
    assert model.templates == (TEMPLATE.id,)
    task = task_of(SPECS[0])
    assert model.predict(task, TEMPLATE, TEMPLATE.shortlist(task)).min() > 0
    assert script.main([str(tmp_path / "none.jsonl")]) == 1


def test_a_template_is_added_to_a_prior(script: ModuleType, tmp_path: Path) -> None:
    path, prior = tmp_path / "records.jsonl", tmp_path / "prior_x86.json.gz"
    lines = [r.line for spec in SPECS for r in measured(spec, 30)]
    path.write_text("\n".join(lines), encoding="utf-8")
    arguments = [str(path), "--output", str(tmp_path), "--rounds", "20", "--no-best"]
    assert script.main(arguments) == 0
    before = CostModel.load(prior)
    renamed = [replace(r, template="x86.im2col") for spec in SPECS for r in measured(spec, 30)]
    path.write_text("\n".join(r.line for r in renamed), encoding="utf-8")
    assert script.main([*arguments, "--add"]) == 0
    after = CostModel.load(prior)
    assert after.templates == ("x86.direct", "x86.im2col")
    task = task_of(SPECS[0])
    some = TEMPLATE.shortlist(task)
    assert list(after.predict(task, TEMPLATE, some)) == list(before.predict(task, TEMPLATE, some))


def shipped() -> list[Path]:
    folder = Path(str(resources.files("tvmconv.schedules") / "tuned"))
    return sorted(folder.glob("*.jsonl"))


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_every_record_that_ships_applies(path: Path) -> None:
    records, problems = read_records(path)
    assert problems == ()
    assert path.stem in ids()
    assert {r.target for r in records} == {path.stem}
    assert {r.status for r in records} == {"ok"}
    applying = {(r.spec, r.template, r.config) for r in best_of_each(records)}
    assert applying == {(r.spec, r.template, r.config) for r in records}
