"""The cost model learns what was measured, says seconds, and is the same after a round trip."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tvmconv.errors import EnvironmentProblem, RecordsError
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning import model as model_module
from tvmconv.tuning.boosters import RANKED_ROWS
from tvmconv.tuning.features import tabulate
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.records import Record

TEMPLATE = get_template("x86.direct")
SPECS = [
    f"conv2d_n1c{c}s{s}x{s}_o{o}k3x3_p1"
    for c, o, s in ((64, 64, 56), (128, 128, 28), (256, 256, 14), (96, 40, 28), (32, 64, 112))
]
Cost = Callable[[Config], float]


def task_of(spec: str) -> Task:
    return Task(ConvSpec.parse(spec), load("x86_64_v4"))


def cost(config: Config) -> float:
    """A device on which small tiles are slow in a way that no analytic model would say."""
    tile = config.integer("tile_oh") * config.integer("tile_ow")
    return 1.0 + 3.0 * (config.integer("tile_oc") == 64) + 2.0 / tile


def measured(spec: str, count: int, cost: Cost = cost, seed: int = 0) -> list[Record]:
    """Random configs of a spec, as long as their cycles times the cost."""
    task = task_of(spec)
    space = TEMPLATE.space(task)
    drawn = np.random.default_rng(seed).integers(0, space.grid_size, 40 * count)
    return [
        Record(
            spec,
            task.target.id,
            TEMPLATE.id,
            str(config),
            1,
            "ok",
            seconds=(TEMPLATE.cycles(task, config) * cost(config) * 2.5e-10,),
        )
        for config in list(space.configs(drawn))[:count]
    ]


def order(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
    ranks: list[float] = np.argsort(np.argsort(values)).tolist()
    return ranks


def correlation(model: CostModel, records: list[Record], *, seconds: bool) -> float:
    task, configs = task_of(records[0].spec), [Config.parse(r.config) for r in records]
    ask = model.predict if seconds else model.score
    found = order(ask(task, TEMPLATE, configs))
    return float(np.corrcoef(found, order(np.array([r.score for r in records])))[0, 1])


@pytest.fixture(scope="module")
def learnt() -> CostModel:
    """A model that never saw the first spec."""
    return CostModel.fit([r for spec in SPECS[1:] for r in measured(spec, 120)])


def test_an_unseen_spec_is_predicted_in_seconds(learnt: CostModel) -> None:
    records = measured(SPECS[0], 200, seed=1)
    assert correlation(learnt, records, seconds=True) > 0.95
    configs = [Config.parse(r.config) for r in records]
    error = np.log(learnt.predict(task_of(SPECS[0]), TEMPLATE, configs))
    error -= np.log([r.score for r in records])
    assert np.sqrt(np.mean(error**2)) < 0.15
    best = min(r.score for r in records)
    picked = records[int(learnt.predict(task_of(SPECS[0]), TEMPLATE, configs).argmin())]
    assert picked.score < 1.1 * best


def test_little_data_is_ranked_by_pairs() -> None:
    few = CostModel.fit(measured(SPECS[0], 48))
    assert few._fitted[TEMPLATE.id].ranking is not None
    held_out = measured(SPECS[0], 200, seed=1)
    assert correlation(few, held_out, seconds=False) > 0.78
    many = CostModel.fit(measured(SPECS[0], 2 * RANKED_ROWS))
    assert many._fitted[TEMPLATE.id].ranking is None
    assert correlation(many, held_out, seconds=False) > 0.95


def test_a_prior_helps_and_is_corrected(learnt: CostModel) -> None:
    """On a device three times slower, eight trials are enough for seconds."""
    slow = measured(SPECS[0], 8, lambda config: 3 * cost(config))
    model = CostModel.fit(slow, prior=learnt)
    held_out = measured(SPECS[0], 100, lambda config: 3 * cost(config), seed=1)
    configs = [Config.parse(r.config) for r in held_out]
    ratio = model.predict(task_of(SPECS[0]), TEMPLATE, configs)
    ratio /= np.array([r.score for r in held_out])
    assert 0.6 < np.median(ratio) < 1.2
    cold = CostModel.fit(slow)
    warm = correlation(model, held_out, seconds=False)
    assert warm > 0.9
    assert warm > correlation(cold, held_out, seconds=False)
    with pytest.raises(RecordsError, match="serves no others"):
        model.save("/dev/null")


def test_failures_are_avoided() -> None:
    records = measured(SPECS[0], 200)
    for at, record in enumerate(records):
        if "tile_oc=64" in record.config:
            records[at] = replace(record, status="crashed", seconds=(), message="signal 11")
    model = CostModel.fit(records)
    task = task_of(SPECS[0])
    configs = [Config.parse(r.config) for r in measured(SPECS[0], 100, seed=2)]
    ratio = np.exp(np.log(model.predict(task, TEMPLATE, configs)))
    ratio /= [TEMPLATE.cycles(task, c) * 2.5e-10 for c in configs]
    crashed = np.array(["tile_oc=64" in str(c) for c in configs])
    assert np.median(ratio[crashed]) > 2 * np.median(ratio[~crashed])


def test_what_no_longer_applies_is_left_out() -> None:
    good = measured(SPECS[0], 20)
    bad = [
        replace(good[0], template="x86.gone"),
        replace(good[0], target="z80"),
        replace(good[0], config="other=3"),
        replace(good[0], config="nonsense"),
        replace(good[0], spec="conv2d_n1c8s9x9_o8k1x1"),
        replace(good[0], status="device_lost", seconds=()),
    ]
    assert CostModel.fit(bad).templates == ()
    task, configs = task_of(SPECS[0]), [Config.parse(r.config) for r in good]
    alone = CostModel.fit(good).predict(task, TEMPLATE, configs)
    assert np.array_equal(CostModel.fit([*bad, *good]).predict(task, TEMPLATE, configs), alone)


def test_the_same_records_and_seed_give_the_same_model(learnt: CostModel) -> None:
    records = measured(SPECS[0], 60)
    task, configs = task_of(SPECS[0]), [Config.parse(r.config) for r in records]

    def predicted(seed: int) -> list[float]:
        seconds: list[float] = (
            CostModel.fit(records, seed=seed).predict(task, TEMPLATE, configs).tolist()
        )
        return seconds

    assert predicted(1) == predicted(1) != predicted(2)


def test_saved_and_loaded_it_is_the_same(learnt: CostModel, tmp_path: Path) -> None:
    first, second = tmp_path / "a.json.gz", tmp_path / "b.json.gz"
    learnt.save(first)
    again = CostModel.load(first)
    again.save(second)
    assert first.read_bytes() == second.read_bytes()
    task = task_of(SPECS[0])
    configs = TEMPLATE.shortlist(task)
    before = learnt.predict(task, TEMPLATE, configs)
    assert np.allclose(before, again.predict(task, TEMPLATE, configs), rtol=1e-5)
    assert again.templates == ("x86.direct",)
    assert again.seconds_per_cycle == pytest.approx(learnt.seconds_per_cycle)


def test_files_that_are_no_model_are_refused(learnt: CostModel, tmp_path: Path) -> None:
    path = tmp_path / "model.json.gz"
    learnt.save(path)
    whole = path.read_bytes()
    data = json.loads(gzip.decompress(whole))
    wrong = {
        "truncated": whole[: len(whole) // 2],
        "no gzip": b"hello",
        "no object": gzip.compress(b"[]"),
        "newer": gzip.compress(json.dumps(data | {"format": 99}).encode()),
        "no booster": gzip.compress(
            json.dumps(data | {"templates": {"x86.direct": {"names": [], "offset": 0}}}).encode()
        ),
        "broken booster": gzip.compress(
            json.dumps(
                data | {"templates": {"x86.direct": {"names": [], "offset": 0, "booster": "{"}}}
            ).encode()
        ),
    }
    for name, content in wrong.items():
        path.write_bytes(content)
        with pytest.raises(RecordsError, match=r"cost model|format of"):
            pytest.fail(f"{name}: {CostModel.load(path)}")
    with pytest.raises(RecordsError, match="cannot read"):
        CostModel.load(tmp_path / "none.json.gz")
    with pytest.raises(RecordsError, match="cannot write"):
        learnt.save(tmp_path / "none" / "model.json.gz")


def test_unknown_templates_and_other_features_are_told(learnt: CostModel) -> None:
    task = Task(ConvSpec.parse("conv2d_n1c64s28x28_o64k1x1"), load("x86_64_v4"))
    pointwise = get_template("x86.pointwise")
    with pytest.raises(RecordsError, match=r"template: got 'x86\.pointwise'; allowed: x86\.direct"):
        learnt.predict(task, pointwise, pointwise.shortlist(task))
    changed = replace(TEMPLATE, features=lambda task, configs: {})
    task = task_of(SPECS[0])
    with pytest.raises(RecordsError, match="other features"):
        learnt.predict(task, changed, TEMPLATE.shortlist(task))
    assert len(learnt.predict(task, TEMPLATE, [])) == len(learnt.score(task, TEMPLATE, [])) == 0


def test_every_template_has_features_of_its_own_or_its_knobs() -> None:
    task = task_of(SPECS[0])
    plain = replace(TEMPLATE, features=lambda task, configs: {})
    configs = TEMPLATE.shortlist(task)
    table = tabulate(task, plain, configs)
    assert "knob_stage" in table.names
    assert np.allclose(table.log_cycles, [np.log(TEMPLATE.cycles(task, c)) for c in configs])
    rich = tabulate(task, TEMPLATE, configs)
    assert set(table.names) < set(rich.names)
    assert len(set(rich.names)) == len(rich.names)
    assert rich.rows.shape == (len(configs), len(rich.names))


def test_without_xgboost_training_and_loading_say_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(EnvironmentProblem, match="pip install xgboost-cpu"):
        CostModel.fit(measured(SPECS[0], 10))
    with pytest.raises(EnvironmentProblem, match="xgboost: got 'not installed"):
        CostModel.load(tmp_path / "any.json.gz")
    assert model_module.CostModel.fit([]).templates == ()


def test_xgboost_is_imported_when_it_is_needed() -> None:
    code = (
        "import sys, tvmconv.kernel, tvmconv.choose, tvmconv.tuning.model\n"
        "assert 'xgboost' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
