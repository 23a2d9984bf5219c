"""Winograd's kernels stay within their bounds: every variant, any size, and no error that grows."""

import importlib
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tvmconv as tc
from tests.numeric.proving import level_of, named
from tvmconv import fills
from tvmconv.reference import reference
from tvmconv.space import Config
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tolerance import DEFAULT_MAX_ERROR, get_accuracy

WINOGRAD = "x86.winograd"
form = importlib.import_module("tvmconv.schedules.nests.winograd").form
SPECS: dict[str, ConvSpec] = {
    "rows": tc.conv2d((1, 64, 28, 28), 64, 3, padding=1),
    "pixels": tc.conv2d((1, 28, 28, 48), 32, 3, padding=1, bias=True, layout="NHWC"),
    "odd": tc.conv2d((2, 19, 17, 21), 37, 3, padding=1, bias=True, activation="gelu"),
    "odd_pixels": tc.conv2d((2, 17, 21, 19), 37, 3, padding=1, residual=True, layout="NHWC"),
    "many_channels": tc.conv2d((1, 300, 8, 8), 24, 3, padding=1),
    "dilated": tc.conv2d((1, 16, 29, 27), 20, 3, padding=2, dilation=2),
    "dilated_apart": tc.conv2d((1, 25, 27, 16), 20, 3, dilation=(1, 3), layout="NHWC"),
    "five": tc.conv2d((1, 12, 20, 20), 16, 5, padding=2),
    "five_by_three": tc.conv2d((1, 12, 20, 20), 16, (5, 3), padding="same", flip=True),
    "tall": tc.conv2d((1, 12, 20, 17), 16, (3, 1)),
    "line": tc.conv1d((1, 24, 100), 40, 3, padding="causal", dilation=4),
    "line_five": tc.conv1d((2, 57, 24), 17, 5, layout="NLC"),
    "volume": tc.conv3d((1, 8, 7, 9, 10), 16, 3, stride=(2, 1, 1), padding=1),
    "volume_last": tc.conv3d((1, 5, 9, 10, 8), 16, (1, 3, 3), layout="NDHWC", scale_shift=True),
    "transposed": tc.conv_transpose2d((1, 16, 9, 7), 20, 4, stride=2, padding=1),
    "transposed_last": tc.conv_transpose2d((1, 9, 7, 16), 20, 6, stride=2, layout="NHWC"),
    "groups": tc.conv2d((1, 32, 12, 12), 64, 3, padding=1, groups=4),
    "reflect": tc.conv2d((1, 16, 11, 13), 16, 3, padding=1, padding_mode="reflect"),
    "value": tc.conv2d((1, 6, 9, 9), 8, 3, padding=(2, 1), padding_mode="constant", pad_value=0.5),
    "smaller_than_a_tile": tc.conv2d((1, 8, 3, 3), 8, 3),
    "strided": tc.conv2d((1, 32, 29, 30), 40, 3, stride=2, padding=1, bias=True),
    "strided_pixels": tc.conv2d((2, 30, 29, 20), 24, 3, stride=2, padding=1, layout="NHWC"),
    "stem": tc.conv2d((1, 3, 40, 38), 16, 7, stride=2, padding=3, activation="relu"),
    "first_layer": tc.conv2d((1, 3, 47, 47), 24, 11, stride=4, padding=2),
    "strided_apart": tc.conv2d((1, 10, 31, 26), 12, (5, 3), stride=(3, 2), groups=2),
    "strided_over_columns": tc.conv2d((1, 12, 20, 17), 16, (3, 1), stride=(1, 2)),
    "strided_line": tc.conv1d((1, 12, 101), 20, 10, stride=5),
    "strided_volume": tc.conv3d((1, 8, 7, 9, 10), 16, 3, stride=2, padding=1, layout="NCDHW"),
}


def prove(spec: ConvSpec, level: str, config: Config | None = None) -> None:
    kernel = tc.compile(spec, level, algorithm=WINOGRAD, config=config)
    assert kernel.accuracy.startswith("winograd_f")
    tc.validate(kernel).require()


def prove_listed(spec: ConvSpec, drawn: random.Random) -> None:
    level = level_of(spec)
    listed = get_template(WINOGRAD).shortlist(Task(spec, load(level)))
    prove(spec, level, drawn.choice(listed))


@named(SPECS)
def test_every_variant_by_default(spec: ConvSpec) -> None:
    prove(spec, level_of(spec))


@named(SPECS)
def test_every_variant_in_another_config(spec: ConvSpec) -> None:
    prove_listed(spec, random.Random(str(spec)))


@st.composite
def unit_strides(draw: st.DrawFn) -> ConvSpec:
    """Specs of rank 1 to 3 and unit stride that Winograd takes, with everything else at random."""
    rank, groups = draw(st.integers(1, 3)), draw(st.sampled_from((1, 1, 2, 3)))
    kernel = [draw(st.integers(1, 5)) for _ in range(rank)]
    kernel[-1] = draw(st.integers(2, 5))
    dilation = [draw(st.sampled_from((1, 1, 2, 3))) for _ in range(rank)]
    size = [d * (k - 1) + draw(st.integers(1, 13)) for k, d in zip(kernel, dilation, strict=True)]
    last = draw(st.booleans())
    channels = groups * draw(st.integers(1 if groups == 1 else 2, 20))
    shape = (draw(st.integers(1, 2)), *((*size, channels) if last else (channels, *size)))
    make = (tc.conv1d, tc.conv2d, tc.conv3d)[rank - 1]
    return make(
        shape,
        groups * draw(st.integers(1, 20)),
        tuple(kernel),
        padding=tuple(draw(st.integers(0, k)) for k in kernel),
        dilation=tuple(dilation),
        groups=groups,
        bias=draw(st.booleans()),
        residual=draw(st.booleans()),
        activation=draw(st.sampled_from(("none", "relu", "silu"))),
        layout=(("NCL", "NLC"), ("NCHW", "NHWC"), ("NCDHW", "NDHWC"))[rank - 1][last],
    )


@settings(max_examples=25, deadline=None)
@given(unit_strides(), st.randoms(use_true_random=False))
def test_random_specs_in_random_configs(spec: ConvSpec, drawn: random.Random) -> None:
    prove_listed(spec, drawn)


TILES = [(2, 2), (3, 3), (4, 4), (5, 5), (6, 4), (7, 4), (4, 7), (2, 7), (5, 6)]


def config_of(m_h: int, m_w: int, tile_t: int = 1, tile_oc: int = 16) -> Config:
    knobs = {"m_h": m_h, "m_w": m_w, "blocks_d": 1, "blocks_h": 1, "blocks_w": 1}
    return Config.of(**knobs, tile_t=tile_t, tile_oc=tile_oc, chunks=1, parts=1)


@st.composite
def strides(draw: st.DrawFn) -> ConvSpec:
    """Specs of rank 1 and 2 with a stride along w, of up to four taps per residue."""
    rank, channels = draw(st.integers(1, 2)), draw(st.integers(1, 20))
    stride = [draw(st.integers(1, 3)) for _ in range(rank - 1)] + [draw(st.integers(2, 4))]
    kernel = [draw(st.integers(1, 4 * s)) for s in stride]
    kernel[-1] = draw(st.integers(stride[-1] + 1, 4 * stride[-1]))
    size = [k + draw(st.integers(0, 30)) for k in kernel]
    last = draw(st.booleans())
    shape = (draw(st.integers(1, 2)), *((*size, channels) if last else (channels, *size)))
    return (tc.conv1d, tc.conv2d)[rank - 1](
        shape,
        draw(st.integers(1, 20)),
        tuple(kernel),
        stride=tuple(stride),
        padding=tuple(draw(st.integers(0, k - 1)) for k in kernel),
        bias=draw(st.booleans()),
        layout=(("NCL", "NLC"), ("NCHW", "NHWC"))[rank - 1][last],
    )


@settings(max_examples=25, deadline=None)
@given(strides(), st.randoms(use_true_random=False))
def test_random_strides_in_random_configs(spec: ConvSpec, drawn: random.Random) -> None:
    prove_listed(spec, drawn)


@pytest.mark.parametrize(("m_h", "m_w"), TILES)
@pytest.mark.parametrize("ic", [1, 64, 512])
def test_relative_error_is_below_its_ceiling(m_h: int, m_w: int, ic: int) -> None:
    spec = tc.conv2d((1, 16, 16, ic), 32, 3, padding=1, layout="NHWC")
    kernel = tc.compile(spec, "x86_64_v3", algorithm=WINOGRAD, config=config_of(m_h, m_w))
    operands = fills.normal(spec, seed=ic)
    exact = reference(spec, operands)
    error = np.abs(kernel(operands.x, operands.weight) - exact).max() / np.abs(exact).max()
    ceiling = get_accuracy(kernel.accuracy).relative_error
    assert ceiling / 100 < error < ceiling <= DEFAULT_MAX_ERROR


@pytest.mark.parametrize("m", range(2, 8))
def test_relative_error_along_one_axis_is_below_its_ceiling(m: int) -> None:
    spec = tc.conv1d((1, 400, 128), 32, 3, padding=1, layout="NLC")
    kernel = tc.compile(spec, "x86_64_v3", algorithm=WINOGRAD, config=config_of(1, m))
    operands = fills.normal(spec, seed=m)
    exact = reference(spec, operands)
    error = np.abs(kernel(operands.x, operands.weight) - exact).max() / np.abs(exact).max()
    ceiling = get_accuracy(kernel.accuracy).relative_error
    assert ceiling / 100 < error < ceiling <= DEFAULT_MAX_ERROR


@pytest.mark.parametrize(
    ("ic", "chains"), [(32, 1), (33, 1), (62, 2), (64, 2), (66, 2), (74, 1), (96, 2), (200, 2)]
)
def test_chains_of_sums_are_as_exact_as_parts(ic: int, chains: int) -> None:
    """Runs of 32 channels, side by side where registers hold two, else one after the other."""
    spec = tc.conv2d((1, 28, 28, ic), 32, 3, padding=1, layout="NHWC", bias=True)
    operands, task = fills.normal(spec, seed=ic), Task(spec, load("x86_64_v3"))
    exact, errors = reference(spec, operands), []
    for tile_t, side_by_side in ((2, chains), (4, 1)):
        config = config_of(7, 4, tile_t)
        assert form(task, config).chains == side_by_side
        kernel = tc.compile(spec, task.target.id, algorithm=WINOGRAD, config=config)
        tc.validate(kernel).require()
        answer = kernel(operands.x, operands.weight, bias=operands.bias)
        errors.append(np.std(answer - exact))
    assert max(errors) < 1.2 * min(errors)


def test_channels_are_summed_in_parts_so_that_the_error_does_not_grow() -> None:
    errors = []
    for ic in (64, 1024):
        spec = tc.conv2d((1, 12, 12, ic), 16, 3, layout="NHWC")
        kernel = tc.compile(spec, "x86_64_v3", algorithm=WINOGRAD)
        operands = fills.normal(spec, seed=1)
        exact = reference(spec, operands)
        errors.append(np.std(kernel(operands.x, operands.weight) - exact) / np.std(exact))
    # One run of 1024 terms would lose four times as much as one of 64.
    assert errors[1] < 2.5 * errors[0]
