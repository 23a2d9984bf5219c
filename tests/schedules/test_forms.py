"""Whole spaces as columns say what the formulas for one config say, row by row."""

import importlib
import time
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tvmconv as tc
from tests.schedules.cases import CASES, LEVELS
from tests.strategies import conv_specs
from tvmconv.errors import InvalidConfig
from tvmconv.problem import canonical
from tvmconv.space import Config, columns_of
from tvmconv.spec import ConvSpec
from tvmconv.target import Target, load
from tvmconv.template import Task, Template, get_template, templates

SEEDS = st.integers(0, 2**32)
# A core of its own offers tiles of half vectors.
TARGETS = (*LEVELS, "zen4")


def recipes(task: Task) -> list[tuple[Template, Any]]:
    """Templates that are made from a recipe and take the task, with their recipes."""
    found = []
    for template in templates("x86"):
        recipe = getattr(template.cycles, "__self__", None)
        if type(recipe).__name__ == "Recipe" and template.supports(task) is None:
            found.append((template, recipe))
    return found


@settings(max_examples=60, deadline=None)
@given(conv_specs(), st.sampled_from(TARGETS).map(load), st.sampled_from((1, 2, 4)), SEEDS)
def test_columns_say_what_single_configs_say(
    spec: ConvSpec, target: Target, threads: int, seed: int
) -> None:
    task = Task(spec, target, threads)
    for template, recipe in recipes(task):
        space = template.space(task)
        indices = np.random.default_rng(seed).integers(0, space.grid_size, 20)
        some = [space.at(int(i)) for i in indices]
        assert space.valid_rows is not None
        valid = space.valid_rows(columns_of(some))
        assert list(valid) == [space.valid(config) is None for config in some]
        features = template.features(task, some)
        wide = [recipe.too_wide(task, recipe.form(config)) for config in some]
        for config, row, reason in zip(some, features["log_cycles"], wide, strict=True):
            if reason is None:
                assert row == pytest.approx(np.log(recipe.makespan(task, config)), abs=1e-9)


@given(
    st.integers(1, 40), st.integers(1, 5), st.integers(2, 20), st.integers(0, 40), st.integers(1, 9)
)
def test_tiles_meet_taps_that_any_of_their_outputs_reads(
    size: int, taps: int, dilation: int, padding: int, tile: int
) -> None:
    assume(size + 2 * padding >= dilation * (taps - 1) + 1)
    spec = tc.conv1d((1, 1, size), 1, taps, padding=padding, dilation=dilation)
    axis = canonical(spec).axes[2]
    tiles = -(-axis.out_extent // tile)
    met = {
        (output // tile, tap)
        for output in range(tiles * tile)
        for tap in range(taps)
        if 0 <= output - padding + tap * dilation < size
    }
    cost = importlib.import_module("tvmconv.schedules.nests.cost")
    assert cost.met_taps(axis, tile) * tiles == pytest.approx(len(met))


@st.composite
def unit_strides(draw: st.DrawFn) -> ConvSpec:
    """Specs that Winograd takes: unit stride, or transposed by the stride that divides the taps."""
    ic, oc, groups = (
        draw(st.integers(1, 40)),
        draw(st.integers(1, 70)),
        draw(st.sampled_from((1, 2))),
    )
    channels = (groups * (ic + 1), groups * oc)
    layout = draw(st.sampled_from(("NCHW", "NHWC")))
    size = draw(st.tuples(st.integers(9, 40), st.integers(9, 40)))
    shape = (1, channels[0], *size) if layout == "NCHW" else (1, *size, channels[0])
    if draw(st.booleans()):
        return tc.conv_transpose2d(
            shape, channels[1], 4, stride=2, padding=1, groups=groups, layout=layout
        )
    kernel = draw(st.sampled_from(((3, 3), (5, 5), (1, 3), (2, 4))))
    return tc.conv2d(
        shape,
        channels[1],
        kernel,
        padding=draw(st.integers(0, 2)),
        dilation=draw(st.sampled_from((1, 2))),
        groups=groups,
        layout=layout,
    )


@settings(max_examples=60, deadline=None)
@given(unit_strides(), st.sampled_from(LEVELS).map(load), SEEDS)
def test_winograds_columns_say_what_its_forms_say(
    spec: ConvSpec, target: Target, seed: int
) -> None:
    task, template = Task(spec, target), get_template("x86.winograd")
    assert template.supports(task) is None
    winograd = importlib.import_module("tvmconv.schedules.nests.winograd")
    space, problem = template.space(task), task.problem
    indices = np.random.default_rng(seed).integers(0, space.grid_size, 20)
    some = [space.at(int(i)) for i in indices]
    plan = winograd.Plan.of(task, columns_of(some))
    for row, config in enumerate(some):
        form = winograd.form(task, config)
        v_elems = form.windows(problem)[0] * form.tiles * form.channels_in(problem)
        points = form.h.filtering.alpha * form.w.filtering.alpha
        assert plan.tiles[row] == form.tiles
        assert plan.points[row] == points
        assert plan.blocks_oc[row] == form.blocks(problem)
        assert plan.v_bytes[row] == 4 * points * v_elems
        assert plan.h.window[row] == form.h.window
        assert plan.w.window[row] == form.w.window
        phases = form.h.axis.phases * form.w.axis.phases
        assert plan.weight_bytes[row] * problem.g * phases == 4 * form.weight_elems(problem)
        assert plan.runs[row] == prod(form.phase_shape(problem))


@st.composite
def dense_specs(draw: st.DrawFn) -> ConvSpec:
    """Specs that Strassen takes: strides, taps, padding and layouts at random."""
    channels = (draw(st.integers(32, 100)), draw(st.integers(32, 150)))
    size = draw(st.tuples(st.integers(6, 40), st.integers(6, 40)))
    layout = draw(st.sampled_from(("NCHW", "NHWC")))
    shape = (1, channels[0], *size) if layout == "NCHW" else (1, *size, channels[0])
    kernel = draw(st.sampled_from((1, 1, 2, 3)))
    return tc.conv2d(
        shape,
        channels[1],
        kernel,
        stride=draw(st.sampled_from((1, 2))),
        padding=draw(st.integers(0, kernel - 1)),
        layout=layout,
    )


@settings(max_examples=60, deadline=None)
@given(dense_specs(), st.sampled_from(LEVELS).map(load), SEEDS)
def test_strassens_columns_say_what_its_forms_say(
    spec: ConvSpec, target: Target, seed: int
) -> None:
    task, template = Task(spec, target), get_template("x86.strassen")
    assert template.supports(task) is None
    strassen = importlib.import_module("tvmconv.schedules.nests.strassen")
    space, problem = template.space(task), task.problem
    indices = np.random.default_rng(seed).integers(0, space.grid_size, 20)
    some = [space.at(int(i)) for i in indices]
    assert space.valid_rows is not None
    valid = space.valid_rows(columns_of(some))
    assert list(valid) == [space.valid(config) is None for config in some]
    plan = strassen.Plan.of(task, columns_of(some))
    for row, config in enumerate(some):
        form = strassen.form(task, config)
        sums = prod(form.window(problem)) * form.channels_in(problem)
        assert plan.products[row] == form.products
        assert plan.sum_bytes[row] == 4 * form.products * sums
        assert plan.parts[row] * plan.blocks_oc[row] == form.blocks(problem)
        assert plan.weight_bytes[row] * problem.g == 4 * form.weight_elems(problem)
        assert plan.blocks[row] == prod(form.block_shape(problem))
        assert plan.runs[row] == form.runs(problem)[0]
        if form.staged:
            window = prod(form.padded_window(problem)) * form.channels_in(problem) * form.parts
            assert plan.window_bytes[row] == 4 * window


@pytest.mark.parametrize("template_id", CASES)
@pytest.mark.parametrize("level", LEVELS)
def test_features_are_finite_and_of_every_config(template_id: str, level: str) -> None:
    template = get_template(template_id)
    for spec in CASES[template_id]:
        task = Task(spec, load(level))
        configs = template.shortlist(task)
        features = template.features(task, configs)
        assert {len(column) for column in features.values()} <= {len(configs)}
        assert all(np.isfinite(column).all() for column in features.values())


@pytest.mark.parametrize("template_id", CASES)
@pytest.mark.parametrize("threads", [1, 4])
def test_shortlist_holds_the_default_and_only_what_is_valid(template_id: str, threads: int) -> None:
    template = get_template(template_id)
    for spec in CASES[template_id]:
        task = Task(spec, load("x86_64_v3"), threads)
        configs = template.shortlist(task)
        assert template.default(task) in configs
        assert len(set(configs)) == len(configs) <= 1200
        for config in configs:
            template.space(task).check(config)


def test_one_threads_config_is_spread_over_several() -> None:
    spec = tc.conv2d((1, 256, 14, 14), 256, 3, padding=1)
    template, one = get_template("x86.direct"), Task(spec, load("x86_64_v3"))
    four = Task(spec, load("x86_64_v3"), 4)
    config = template.default(one)
    spread = template.spread(four, config)
    template.space(four).check(spread)
    assert spread != config
    for knob in ("tile_oc", "tile_oh", "tile_ow"):
        assert spread.integer(knob) == config.integer(knob)
    assert template.spread(one, config) == config


def test_rows_of_a_map_stay_whole_when_threads_share_it() -> None:
    template = get_template("x86.columns")
    two = Task(tc.conv2d((1, 1, 572, 572), 64, 3), load("x86_64_v4"), threads=2)
    config = Config.parse(
        "tile_oc=8,tile_oh=1,tile_ow=48,block_oh=570,block_ow=570,parts=1,stage=planes"
    )
    spread = template.spread(two, config)
    assert (spread.integer("block_oh"), spread.integer("block_ow")) == (285, 570)


@pytest.mark.parametrize(("threads", "parts"), [(1, 1), (2, 2), (3, 8), (4, 4), (8, 8)])
def test_winograd_keeps_its_chunks_and_tile_where_threads_can_share_them(
    threads: int, parts: int
) -> None:
    template = get_template("x86.winograd")
    task = Task(tc.conv2d((1, 512, 28, 28), 512, 3, padding=1), load("zen4"), threads)
    config = "m_h=7,m_w=4,blocks_d=1,blocks_h=1,blocks_w=1,tile_t=14,tile_oc=16,chunks=16,parts="
    spread = template.spread(task, Config.parse(f"{config}1"))
    template.space(task).check(spread)
    assert str(spread) == f"{config}{parts}"


def test_winograd_takes_the_scratch_memory_that_its_weights_take() -> None:
    space = get_template("x86.winograd").space
    whole = "m_h=7,m_w=4,blocks_d=1,blocks_h=1,blocks_w=1,tile_t=5,tile_oc=32,chunks=2,parts=1"
    large = Task(tc.conv2d((1, 2048, 65, 65), 512, 3, padding=1), load("zen4"))
    space(large).check(Config.parse(whole))
    small = Task(tc.conv2d((1, 64, 390, 390), 64, 3), load("zen4"))
    with pytest.raises(InvalidConfig, match="more than 16000000 bytes of scratch"):
        space(small).check(Config.parse(whole.replace("tile_t=5", "tile_t=4")))


@pytest.mark.parametrize("size", [57, 224, 388])
def test_winograd_cuts_single_bands_of_tiles(size: int) -> None:
    task = Task(tc.conv2d((1, 64, size, size), 64, 3, padding=1), load("zen4"))
    space = get_template("x86.winograd").space(task)
    bands = -(-size // 7)
    config = f"m_h=7,m_w=4,blocks_d=1,blocks_h={bands},blocks_w=2,tile_t=1,tile_oc=32,chunks=1"
    space.check(Config.parse(f"{config},parts=1"))


@pytest.mark.slow
def test_a_hundred_thousand_configs_take_less_than_two_seconds() -> None:
    task = Task(tc.conv2d((1, 64, 56, 56), 64, 3, padding=1), load("x86_64_v4"))
    template = get_template("x86.direct")
    space = template.space(task)
    assert space.grid_size > 100_000
    started = time.process_time()
    configs = space.configs(np.arange(100_000))
    template.features(task, configs)
    assert time.process_time() - started < 2
    assert len(configs) > 1000


def test_order_of_stages_is_known() -> None:
    features = importlib.import_module("tvmconv.schedules.nests.features")
    for template_id in CASES:
        for spec in CASES[template_id]:
            task = Task(spec, load("x86_64_v3"))
            choices = get_template(template_id).space(task).knobs.get("stage", ())
            assert set(choices) <= set(features.STAGES)
