"""Winograd on tensor cores: which tasks, which tiles for which max_error, how it is launched."""

from dataclasses import replace

import pytest

import tvmconv as tc
from tvmconv.choose import choose, consider
from tvmconv.errors import InvalidConfig
from tvmconv.space import columns_of
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tolerance import ACCURACIES, DEFAULT_MAX_ERROR, get_accuracy

ID = "cuda.tensor_winograd"
LAYER = tc.conv2d((32, 14, 14, 256), 256, 3, padding=1, layout="NHWC", dtype="float16")
SMALL_TILES, ALL_TILES = 1e-3, 5e-3


def task_of(spec: ConvSpec, max_error: float, target_id: str = "sm_80") -> Task:
    return Task(spec, load(target_id), max_error=max_error)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (replace(LAYER, dtype="float32"), "not float32"),
        (replace(LAYER, dtype="bfloat16"), "not bfloat16"),
        (tc.conv2d((1, 12, 9, 9), 32, 3, dtype="float16"), "16 channels a group"),
        (tc.conv2d((1, 32, 9, 9), 32, 3, stride=2, dtype="float16"), "needs stride 1"),
        (tc.conv2d((1, 32, 9, 9), 32, 1, dtype="float16"), "no taps"),
        (tc.conv2d((64, 256, 256, 64), 64, 3, padding=1, layout="NHWC", dtype="float16"),
         "bytes of workspace exceed"),
    ],
)  # fmt: skip
def test_what_it_does_not_take(spec: ConvSpec, reason: str) -> None:
    assert reason in str(get_template(ID).supports(task_of(spec, SMALL_TILES)))


def test_two_bfloat16s_do_not_hold_a_weight() -> None:
    task = task_of(replace(LAYER, dtype="bfloat16"), SMALL_TILES)
    assert "bfloat16" in str(get_template("cuda.winograd").supports(task))


def test_never_by_default() -> None:
    """Every class' ceiling is above what is allowed unless the caller says otherwise."""
    classes = {name: a for name, a in ACCURACIES.items() if name.startswith("half_")}
    assert classes
    assert min(a.relative_error for a in classes.values()) > 50 * DEFAULT_MAX_ERROR
    found = {c.template.id: c for c in consider(task_of(LAYER, DEFAULT_MAX_ERROR))}
    assert not found[ID].fits
    assert "above max_error" in found[ID].reason
    assert choose(task_of(LAYER, DEFAULT_MAX_ERROR)).template.id == "cuda.implicit_gemm"


@pytest.mark.parametrize(
    ("max_error", "most"), [(DEFAULT_MAX_ERROR, 2), (SMALL_TILES, 2), (2.5e-3, 3), (ALL_TILES, 4)]
)
def test_max_error_decides_the_tiles(max_error: float, most: int) -> None:
    template, task = get_template(ID), task_of(LAYER, max_error)
    configs = template.space(task).configs()
    columns = columns_of(configs)
    assert (columns["m_h"].max(), columns["m_w"].max()) == (most, most)
    for config in (configs[0], configs[len(configs) // 2], *template.shortlist(task)):
        assert template.space(task).valid(config) is None
        error = get_accuracy(template.accuracy(task, config)).relative_error
        assert error <= max(max_error, SMALL_TILES)


def test_a_config_that_is_not_exact_enough_is_refused() -> None:
    config = "m_h=4,m_w=4,tile_m=64,tile_n=64,tile_k=32,warp_m=32,warp_n=32,stages=3,split=1"
    kernel = tc.compile(LAYER, "sm_80", algorithm=ID, config=config, max_error=ALL_TILES)
    assert kernel.accuracy == "half_winograd_f4_3"
    assert kernel.task.max_error == ALL_TILES
    with pytest.raises(InvalidConfig, match=r"0\.005 above max_error 0\.001"):
        tc.compile(LAYER, "sm_80", algorithm=ID, config=config, max_error=SMALL_TILES)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_launches_and_workspace(layout: str) -> None:
    shape = (2, 14, 14, 64) if layout == "NHWC" else (2, 64, 14, 14)
    spec = tc.conv2d(shape, 48, 3, padding=1, layout=layout, residual=True, dtype="float16")
    kernel = tc.compile(spec, "sm_80", algorithm=ID, max_error=SMALL_TILES)
    code, first = kernel.built.device, layout == "NCHW"
    assert code is not None
    names = [launch.kernel.rpartition("_")[2] for launch in code.launches]
    assert names == ["stage"] * first + ["transform", "multiply", "finish"]
    assert [name for name, _ in code.workspace] == ["staged"] * first + ["v", "partial"]
    sizes = dict(code.workspace)
    assert sizes["v"] == 2 * 16 * (2 * 7 * 7) * 64
    split, n = (kernel.config.integer(name) for name in ("split", "tile_n"))
    rows, columns = -(-98 // kernel.config.integer("tile_m")), -(-48 // n)
    tile = kernel.config.integer("tile_m") * n
    assert sizes["partial"] == 4 * split * 16 * rows * columns * tile
    assert code.launches[-1].args == ("packed", "residual", "y", "partial")


def test_predictions_rank_like_what_they_are_made_of() -> None:
    template, task = get_template(ID), task_of(LAYER, ALL_TILES, "sm_90")
    configs = template.shortlist(task)
    cycles = [template.cycles(task, config) for config in configs]
    assert cycles == sorted(cycles)
    found = template.features(task, configs)
    assert all(len(column) == len(configs) for column in found.values())
    assert template.features(task, ()) == {}
