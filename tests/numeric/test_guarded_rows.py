"""Layers that read x in place under masks: rows, also by shuffles, and pixels of depthwise ones."""

import hypothesis
import numpy as np
from hypothesis import strategies as st

import tvmconv as tc
from tests.numeric.proving import MASKED_LEVELS, named, per_level, prove_some
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning.space_points import sample_valid

COLUMNS = "x86.columns"
SPECS: dict[str, ConvSpec] = {
    "same": tc.conv2d((1, 5, 14, 14), 5, 3, padding=1, groups=5, bias=True, activation="relu"),
    "narrow": tc.conv2d((1, 6, 7, 7), 6, 3, padding=1, groups=6),
    "one_column": tc.conv2d((1, 4, 5, 1), 4, 3, padding=1, groups=4),
    "whole_vectors": tc.conv2d((1, 3, 9, 32), 3, 3, padding=1, groups=3),
    "stride_2": tc.conv2d((1, 5, 13, 29), 5, 3, padding=1, stride=2, groups=5, residual=True),
    "stride_2_even": tc.conv2d((1, 5, 12, 112), 5, 3, padding=1, stride=2, groups=5),
    "stride_2_wide_kernel": tc.conv2d((1, 4, 11, 14), 4, 5, padding=2, stride=2, groups=4),
    "stride_3": tc.conv2d((2, 3, 10, 47), 3, 4, padding=3, stride=3, groups=3),
    "stride_over_kernel": tc.conv2d((1, 3, 9, 33), 3, 2, padding=1, stride=4, groups=3),
    "sides_differ": tc.conv2d((1, 3, 8, 18), 3, 3, padding=((0, 2), (1, 0)), stride=2, groups=3),
    "dilated": tc.conv2d((1, 3, 12, 37), 3, 3, padding=2, dilation=2, groups=3),
    "dilated_stride": tc.conv2d((1, 3, 12, 37), 3, 3, padding=3, dilation=3, stride=2, groups=3),
    "constant": tc.conv2d(
        (1, 3, 6, 19), 3, 3, padding=1, groups=3, padding_mode="constant", pad_value=2.0
    ),
    "multiplier": tc.conv2d((1, 4, 9, 20), 12, 3, padding=1, stride=2, groups=4, scale_shift=True),
    "line": tc.conv1d((2, 6, 75), 6, 7, padding="causal", dilation=2, groups=6),
    "volume": tc.conv3d((1, 4, 5, 6, 18), 4, 3, padding=1, stride=(1, 2, 2), groups=4),
    "wide": tc.conv2d((1, 2, 5, 603), 2, 3, padding=1, groups=2),
    "dense": tc.conv2d((1, 12, 9, 37), 10, 3, padding=1, bias=True, activation="relu"),
    "dense_narrow": tc.conv2d((2, 9, 7, 7), 8, 3, padding=1, residual=True),
    "dense_row_stride": tc.conv2d((1, 8, 12, 50), 8, (3, 5), padding=2, stride=(2, 1)),
    "dense_dilated": tc.conv2d((1, 8, 9, 40), 7, 3, padding=(16, 48), dilation=(8, 16)),
    "dense_constant": tc.conv2d(
        (1, 6, 6, 19), 5, 3, padding=1, padding_mode="constant", pad_value=2.0
    ),
    "dense_line": tc.conv1d((1, 33, 611), 9, 2, padding="causal", dilation=16),
    "dense_far": tc.conv1d((1, 16, 100), 8, 3, padding=300, dilation=128),
    "dense_volume": tc.conv3d((1, 8, 5, 6, 18), 8, 3, padding=(1, 2, 1)),
    "groups": tc.conv2d((1, 24, 10, 21), 24, 3, padding=1, groups=4, scale_shift=True),
    "past_the_end": tc.conv2d((1, 20, 5, 13), 9, 1, bias=True),
    "past_the_row": tc.conv2d((2, 7, 9, 39), 6, 3, residual=True),
    "one_of_one": tc.conv2d((1, 1, 30, 50), 5, 3),
    "many_taps": tc.conv2d((1, 2, 40, 40), 2, 13, padding=6, groups=2),
}


@per_level(MASKED_LEVELS)
@named(SPECS)
def test_every_tile(spec: ConvSpec, level: str) -> None:
    shortlist = get_template(COLUMNS).shortlist(Task(spec, load(level)))
    tiles = [c for c in shortlist if c.text("stage") == "guarded"]
    assert tiles
    prove_some(spec, level, COLUMNS, tiles)


# Rows that an odd number of half vectors hold, so that a core of two halves wastes none.
HALVES = {
    name: SPECS[name]
    for name in (
        "narrow",
        "one_column",
        "stride_2_wide_kernel",
        "constant",
        "dense",
        "dense_narrow",
        "dense_row_stride",
        "dense_constant",
    )
} | {
    "reflected": tc.conv2d((1, 4, 9, 7), 4, 3, padding=1, groups=4, padding_mode="reflect"),
    "phases": tc.conv_transpose2d((1, 3, 5, 7), 5, 2, stride=2, bias=True),
    "turned": tc.conv2d((1, 9, 7, 32), 2, 3, padding=1, layout="NHWC"),
}


@per_level(("zen4",))
@named(HALVES)
def test_rows_of_half_vectors(spec: ConvSpec, level: str) -> None:
    task = Task(spec, load(level))
    lanes = task.target.lanes
    sampled = sample_valid(get_template(COLUMNS).space(task), 400, np.random.default_rng(0))
    tiles = [c for c in sampled if c.integer("tile_ow") % lanes]
    assert {c.integer("tile_ow") % lanes for c in tiles} == {lanes // 2}
    for stage in dict.fromkeys(c.text("stage") for c in tiles):
        prove_some(spec, level, COLUMNS, [c for c in tiles if c.text("stage") == stage])


def test_only_a_core_of_two_halves_has_them() -> None:
    wide = Task(SPECS["narrow"], load("x86_64_v4"))
    space = get_template(COLUMNS).space(wide)
    assert {int(size) % wide.target.lanes for size in space.knobs["tile_ow"]} == {0}


PIXELS: dict[str, ConvSpec] = {
    "half_a_vector": tc.conv2d(
        (1, 9, 13, 72), 72, 3, padding=1, stride=2, groups=72, layout="NHWC"
    ),
    "five_lanes": tc.conv2d((2, 7, 7, 37), 37, 5, padding=2, groups=37, bias=True, layout="NHWC"),
    "unpadded": tc.conv2d((1, 9, 7, 10), 10, 3, groups=10, activation="relu", layout="NHWC"),
    "single_column": tc.conv2d((1, 5, 1, 20), 20, 3, padding=1, groups=20, layout="NHWC"),
    "line": tc.conv1d((1, 40, 12), 12, 4, padding="causal", groups=12, layout="NWC"),
}


@per_level(MASKED_LEVELS)
@named(PIXELS)
def test_channels_that_are_no_whole_vectors(spec: ConvSpec, level: str) -> None:
    shortlist = get_template("x86.depthwise").shortlist(Task(spec, load(level)))
    tiles = [c for c in shortlist if c.text("stage") == "guarded"]
    assert tiles
    prove_some(spec, level, "x86.depthwise", tiles)


def test_a_long_line_has_a_config() -> None:
    """What is not copied needs no window that fits."""
    task = Task(tc.conv1d((1, 8, 1_000_000), 8, 3, padding=1, groups=8), load("x86_64_v4"))
    template = get_template(COLUMNS)
    template.space(task).check(template.default(task))


def test_phases_with_fewer_taps_are_not_read_in_place() -> None:
    """A tap that a phase does not have is skipped: times zero, what is not finite would be NaN."""
    spec = tc.conv_transpose2d((1, 3, 4, 9), 3, (2, 2), stride=(3, 1), padding=1, groups=3)
    for config in get_template(COLUMNS).shortlist(Task(spec, load("x86_64_v4"))):
        assert config.text("stage") == "planes"
    kernel: tc.Kernel = tc.compile(spec, "host", algorithm=COLUMNS)
    tc.validate(kernel).require()


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 70)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    padding=st.integers(1, 4),
    channels=st.integers(2, 5),
)
def test_random(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    dilation: int,
    padding: int,
    channels: int,
) -> None:
    window = [i + 2 * padding - (k - 1) * dilation for i, k in zip(size, kernel, strict=True)]
    hypothesis.assume(min(window) >= 1)
    spec = tc.conv2d(
        (1, channels, *size),
        channels,
        kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        groups=channels,
    )
    kernel_: tc.Kernel = tc.compile(spec, "host", algorithm=COLUMNS)
    tc.validate(kernel_).require()


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 90)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    row_stride=st.integers(1, 3),
    dilation=st.integers(1, 20),
    padding=st.integers(1, 40),
    channels=st.integers(2, 12),
    at=st.floats(0, 1),
)
def test_random_dense(
    size: tuple[int, int],
    kernel: tuple[int, int],
    row_stride: int,
    dilation: int,
    padding: int,
    channels: int,
    at: float,
) -> None:
    window = [i + 2 * padding - (k - 1) * dilation for i, k in zip(size, kernel, strict=True)]
    hypothesis.assume(min(window) >= 1)
    spec = tc.conv2d(
        (1, channels, *size),
        5,
        kernel,
        stride=(row_stride, 1),
        dilation=dilation,
        padding=padding,
    )
    shortlist = get_template(COLUMNS).shortlist(Task(spec, load("host")))
    tiles = [c for c in shortlist if c.text("stage") == "guarded"]
    hypothesis.assume(tiles)
    config = tiles[int(at * (len(tiles) - 1))]
    kernel_: tc.Kernel = tc.compile(spec, "host", algorithm=COLUMNS, config=config)
    tc.validate(kernel_).require()


VOLUMES: dict[str, ConvSpec] = {
    "cut_lanes": tc.conv3d((1, 5, 9, 20, 22), 22, 3, padding=1, groups=22, layout="NDHWC"),
    "whole_lanes": tc.conv3d(
        (1, 4, 19, 18, 32), 32, 3, padding=1, groups=32, layout="NDHWC", bias=True
    ),
    "strided": tc.conv3d(
        (1, 6, 21, 20, 17), 17, (3, 5, 5), padding=2, stride=2, groups=17, layout="NDHWC"
    ),
    "deep_padding": tc.conv3d(
        (2, 2, 7, 18, 16), 16, (5, 1, 3), padding=(2, 0, 1), groups=16, layout="NDHWC"
    ),
}


@per_level(MASKED_LEVELS)
@named(VOLUMES)
def test_slices_of_a_volume_are_read_in_place_or_copied(spec: ConvSpec, level: str) -> None:
    shortlist = get_template("x86.depthwise").shortlist(Task(spec, load(level)))
    for stage in ("guarded", "pixels"):
        tiles = [config for config in shortlist if config.text("stage") == stage]
        prove_some(spec, level, "x86.depthwise", tiles)
