"""A model for one target that corrects its family's: trained, saved, loaded, asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.tuning.test_model import SPECS, TEMPLATE, measured, task_of
from tvmconv.errors import RecordsError
from tvmconv.space import Config
from tvmconv.target import load
from tvmconv.tuning import knowledge
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.records import Record

UNSEEN = SPECS[-1]


def other_cost(config: Config) -> float:
    """A device of a quarter of the rate, on which wide tiles are no slower than others."""
    return 4.0 + 16.0 / (config.integer("tile_oh") * config.integer("tile_ow"))


def records(cost_is_other: bool, specs: list[str]) -> list[Record]:
    if not cost_is_other:
        return [r for spec in specs for r in measured(spec, 80)]
    return [replace(r, target="zen4") for s in specs for r in measured(s, 60, other_cost, seed=4)]


@pytest.fixture(scope="module")
def family() -> CostModel:
    return CostModel.fit(records(False, SPECS))


@pytest.fixture(scope="module")
def corrected(family: CostModel) -> CostModel:
    return CostModel.fit(records(True, SPECS[:-1]), prior=family, per_spec=False)


def off_by(model: CostModel) -> float:
    """Median factor between what the other device takes for an unseen spec and what is said."""
    task = replace(task_of(UNSEEN), target=load("zen4"))
    configs = [Config.parse(r.config) for r in measured(UNSEEN, 40, seed=9)]
    said = model.predict(task, TEMPLATE, configs)
    # The other target has a core of its own, and so other cycles.
    took = [
        TEMPLATE.cycles(task_of(UNSEEN), config) * other_cost(config) * 2.5e-10
        for config in configs
    ]
    return float(np.exp(np.median(np.abs(np.log(said / took)))))


def test_an_unseen_spec_is_corrected_too(family: CostModel, corrected: CostModel) -> None:
    assert off_by(corrected) < 1.15 < off_by(family)


def test_only_the_corrections_are_saved(
    family: CostModel, corrected: CostModel, tmp_path: Path
) -> None:
    whole, part = tmp_path / "family.json.gz", tmp_path / "zen4.json.gz"
    family.save(whole)
    corrected.save(part)
    again = CostModel.load(part, upon=CostModel.load(whole))
    assert off_by(again) == pytest.approx(off_by(corrected), rel=1e-4)
    assert again.seconds_per_cycle == pytest.approx(corrected.seconds_per_cycle)
    assert again.seconds_per_cycle != pytest.approx(family.seconds_per_cycle)
    again.save(tmp_path / "again.json.gz")
    assert (tmp_path / "again.json.gz").read_bytes() == part.read_bytes()


def test_corrections_of_what_the_prior_lacks_are_left_out(
    family: CostModel, corrected: CostModel, tmp_path: Path
) -> None:
    path = tmp_path / "zen4.json.gz"
    corrected.save(path)
    assert CostModel.load(path, upon=CostModel({})).templates == ()


def test_a_sessions_model_is_not_saved(family: CostModel, tmp_path: Path) -> None:
    one_by_one = CostModel.fit(records(True, SPECS[:1]), prior=family)
    with pytest.raises(RecordsError, match="serves no others"):
        one_by_one.save(tmp_path / "model.json.gz")


def test_a_target_is_asked_by_its_own_corrections(
    family: CostModel, corrected: CostModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family.save(tmp_path / "prior_x86.json.gz")
    corrected.save(tmp_path / "prior_zen4.json.gz")
    monkeypatch.setattr(knowledge, "_shipped", lambda name: tmp_path / name)
    told = [knowledge.prior.__wrapped__(load(name)) for name in ("zen4", "x86_64_v4", "pi4")]
    models = [model for model, _ in told]
    assert models[0] is not None
    assert models[1] is not None
    assert off_by(models[0]) < off_by(models[1])
    assert told[2] == (None, "no cost model ships for arm")


def test_the_script_builds_corrections(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    arguments = [str(path), "--output", str(tmp_path), "--rounds", "20", "--no-best"]
    path.write_text("\n".join(r.line for r in records(False, SPECS)), encoding="utf-8")
    assert script.main(arguments) == 0
    before = (tmp_path / "prior_x86.json.gz").read_bytes()
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + "\n".join(r.line for r in records(True, SPECS)))
    assert script.main([*arguments, "--target", "zen4"]) == 0
    assert (tmp_path / "prior_x86.json.gz").read_bytes() == before
    upon = CostModel.load(tmp_path / "prior_x86.json.gz")
    model = CostModel.load(tmp_path / "prior_zen4.json.gz", upon=upon)
    assert off_by(model) < off_by(upon)
    with pytest.raises(SystemExit):
        script.main([*arguments, "--target", "zen4", "--add"])
