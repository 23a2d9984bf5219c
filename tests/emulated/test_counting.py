"""Instructions are counted exactly, and static costs order kernels as the counts do."""

from pathlib import Path

import numpy as np
import pytest

import tvmconv as tc
from tests.emulated.machines import runner_of
from tvmconv.emulate.counting import build_plugin, count_instructions
from tvmconv.errors import EnvironmentProblem
from tvmconv.space import Config
from tvmconv.target import load
from tvmconv.template import Task
from tvmconv.tuning.measure import Trial
from tvmconv.tuning.no_device import StaticMeasurer

pytestmark = pytest.mark.emulated

SPEC = tc.conv2d((1, 32, 28, 28), 32, 3, padding=1)
CONFIGS = [
    f"tile_oc={oc},tile_oh={oh},tile_ow={ow},block_oh=28,block_ow=28,parts=1,stage=planes"
    for oc, oh, ow in [(1, 1, 4), (2, 1, 4), (4, 1, 4), (4, 2, 4), (8, 1, 4), (8, 1, 8), (8, 2, 4)]
]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build_plugin(tmp_path_factory.mktemp("plugin"), runner_of("pi4"))
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))


def counted(config: str, plugin: Path) -> float:
    kernel = tc.compile(SPEC, "pi4", algorithm="arm.columns", config=config)
    return count_instructions(kernel, plugin)


def test_counts_are_exact_and_the_same_again(plugin: Path) -> None:
    first, again = (counted(CONFIGS[5], plugin) for _ in range(2))
    assert first == again
    # The multiply-adds themselves, and less than a half on top.
    assert SPEC.macs / 4 < first < 1.5 * SPEC.macs / 4


def test_static_costs_order_kernels_as_counts_do(plugin: Path) -> None:
    counts = [counted(config, plugin) for config in CONFIGS]
    task = Task(SPEC, load("pi4"))
    trials = [Trial(task, "arm.columns", Config.parse(config)) for config in CONFIGS]
    with StaticMeasurer(load("pi4")) as measurer:
        costs = [outcome.score for outcome in measurer.measure(trials)]
    by_count, by_cost = (np.argsort(np.argsort(values)) for values in (counts, costs))
    assert np.corrcoef(by_count, by_cost)[0, 1] > 0.85


def test_winograd_takes_less_than_half_of_the_direct_sum(plugin: Path) -> None:
    direct, winograd = (
        count_instructions(tc.compile(SPEC, "pi4", algorithm=name), plugin)
        for name in ("direct", "winograd")
    )
    assert direct < 1.4 * SPEC.macs / 4
    assert winograd < 0.5 * direct
