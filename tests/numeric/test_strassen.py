"""Strassen's kernels stay within their bounds: every variant, any size, and no error that grows."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tvmconv as tc
from tests.numeric.proving import level_of, named
from tvmconv import fills
from tvmconv.errors import InvalidConfig, UnsupportedSpec
from tvmconv.reference import reference
from tvmconv.space import Config, Value
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tolerance import DEFAULT_MAX_ERROR, get_accuracy

STRASSEN = "x86.strassen"
SPECS: dict[str, ConvSpec] = {
    "pixels": tc.conv2d((1, 14, 14, 64), 96, 1, bias=True, layout="NHWC"),
    "planes": tc.conv2d((1, 64, 14, 14), 96, 1, residual=True),
    "odd_pixels": tc.conv2d((2, 13, 15, 70), 83, 1, scale_shift=True, layout="NHWC"),
    "odd_planes": tc.conv2d((2, 70, 13, 15), 83, 1, activation="gelu"),
    "pixels_to_planes": replace(
        tc.conv2d((1, 12, 20, 64), 64, 1, bias=True, layout="NHWC"), out_layout="NCHW"
    ),
    "planes_to_pixels": replace(tc.conv2d((1, 64, 12, 20), 64, 1), out_layout="NHWC"),
    "strided": tc.conv2d((1, 32, 29, 27), 64, 3, stride=2, padding=1, bias=True),
    "strided_pixels": tc.conv2d((1, 29, 27, 32), 64, 3, stride=2, padding=1, layout="NHWC"),
    "strided_pointwise": tc.conv2d((1, 64, 15, 17), 64, 1, stride=2),
    "dilated": tc.conv2d((1, 19, 18, 32), 32, 3, dilation=2, padding=2, layout="NHWC"),
    "reflect": tc.conv2d((1, 32, 11, 13), 40, 3, stride=2, padding=1, padding_mode="reflect"),
    "value": tc.conv2d(
        (1, 9, 9, 32), 32, 3, padding=1, padding_mode="constant", pad_value=0.5, layout="NHWC"
    ),
    "groups": tc.conv2d((1, 72, 12, 12), 96, 1, groups=2),
    "line": tc.conv1d((1, 40, 101), 64, 5, stride=3, padding="causal"),
    "volume": tc.conv3d((1, 32, 5, 8, 9), 48, 3, stride=2, padding=1),
    "volume_last": tc.conv3d((1, 5, 8, 9, 32), 48, (1, 3, 2), layout="NDHWC", flip=True),
    "phases": tc.conv_transpose2d((1, 32, 9, 11), 40, 4, stride=2, padding=1, bias=True),
    "phases_of_one_tap": tc.conv_transpose2d((1, 40, 13, 12), 32, 2, stride=2, residual=True),
    "phases_last": tc.conv_transpose2d((1, 9, 7, 32), 48, 2, stride=2, layout="NHWC"),
    "phases_of_a_line": tc.conv_transpose1d((2, 64, 33), 32, 6, stride=3, padding=2),
    "many_channels": tc.conv2d((1, 5, 5, 650), 64, 1, layout="NHWC"),
    "two_pixels": tc.conv2d((1, 64, 1, 2), 64, 1),
}


def prove(spec: ConvSpec, level: str, config: Config | None = None) -> None:
    kernel = tc.compile(spec, level, algorithm=STRASSEN, config=config)
    assert kernel.accuracy.startswith("strassen_")
    tc.validate(kernel).require()


@named(SPECS)
def test_every_variant_by_default(spec: ConvSpec) -> None:
    prove(spec, level_of(spec))


@named(SPECS)
def test_every_variant_in_another_config(spec: ConvSpec) -> None:
    level = level_of(spec)
    listed = get_template(STRASSEN).shortlist(Task(spec, load(level)))
    prove(spec, level, random.Random(str(spec)).choice(listed))


@st.composite
def dense_specs(draw: st.DrawFn) -> ConvSpec:
    """Specs of rank 1 to 3 that Strassen takes, with everything else at random."""
    rank, groups = draw(st.integers(1, 3)), draw(st.sampled_from((1, 1, 2)))
    kernel = [draw(st.sampled_from((1, 1, 2, 3))) for _ in range(rank)]
    stride = [draw(st.sampled_from((1, 2, 3))) for _ in range(rank)]
    size = [k + s + draw(st.integers(0, 9)) for k, s in zip(kernel, stride, strict=True)]
    first, last = (("NCL", "NLC"), ("NCHW", "NHWC"), ("NCDHW", "NDHWC"))[rank - 1]
    layouts = [draw(st.sampled_from((first, last))) for _ in range(2)]
    channels = groups * draw(st.integers(32, 75))
    shape = (*size, channels) if layouts[0] == last else (channels, *size)
    make = (tc.conv1d, tc.conv2d, tc.conv3d)[rank - 1]
    spec = make(
        (draw(st.integers(1, 2)), *shape),
        groups * draw(st.integers(32, 100)),
        tuple(kernel),
        stride=tuple(stride),
        padding=tuple(draw(st.integers(0, k - 1)) for k in kernel),
        groups=groups,
        bias=draw(st.booleans()),
        residual=draw(st.booleans()),
        activation=draw(st.sampled_from(("none", "relu", "silu"))),
        layout=layouts[0],
    )
    return replace(spec, out_layout=layouts[1])


@settings(max_examples=25, deadline=None)
@given(dense_specs(), st.randoms(use_true_random=False))
def test_random_specs_in_random_configs(spec: ConvSpec, drawn: random.Random) -> None:
    level = level_of(spec)
    listed = get_template(STRASSEN).shortlist(Task(spec, load(level)))
    prove(spec, level, drawn.choice(listed))


@settings(max_examples=15, deadline=None)
@given(dense_specs(), st.integers(0, 2**32))
def test_random_specs_anywhere_in_the_space(spec: ConvSpec, seed: int) -> None:
    level = level_of(spec)
    space = get_template(STRASSEN).space(Task(spec, load(level)))
    for at in np.random.default_rng(seed).integers(0, space.grid_size, 400):
        config = space.at(int(at))
        if space.valid(config) is None:
            prove(spec, level, config)
            return


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("ic", [64, 512, 2048])
def test_relative_error_is_below_its_ceiling(levels: int, ic: int) -> None:
    spec = tc.conv2d((1, 14, 14, ic), 64, 1, layout="NHWC")
    tile = f"levels={levels},vector=oc,tile_oc=16,tile_oh=1,tile_ow=5"
    config = Config.parse(f"{tile},block_oh=1,block_ow=49,chunks=1")
    kernel = tc.compile(spec, "x86_64_v3", algorithm=STRASSEN, config=config)
    operands = fills.normal(spec, seed=ic)
    exact = reference(spec, operands)
    error = np.abs(kernel(operands.x, operands.weight) - exact).max() / np.abs(exact).max()
    ceiling = get_accuracy(f"strassen_{levels}").relative_error
    assert ceiling / 100 < error < ceiling <= DEFAULT_MAX_ERROR


def test_max_error_leaves_out_the_second_level() -> None:
    spec = tc.conv2d((1, 14, 14, 64), 64, 1, layout="NHWC")
    listed = get_template(STRASSEN).shortlist(Task(spec, load("x86_64_v3"), max_error=7e-6))
    assert {config.integer("levels") for config in listed} == {1}
    with pytest.raises(UnsupportedSpec, match="strassen"):
        tc.compile(spec, "x86_64_v3", algorithm=STRASSEN, max_error=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tile_oc": 20}, "tile_oc"),
        ({"tile_oc": 32}, "registers"),
        ({"vector": "ow"}, "vector"),
        ({"chunks": 16}, "chunks"),
        ({"levels": 3}, "levels"),
    ],
)
def test_bad_configs_say_why(change: dict[str, Value], reason: str) -> None:
    spec = tc.conv2d((1, 14, 14, 64), 64, 1, layout="NHWC")
    knobs: dict[str, Value] = {
        "levels": 1,
        "vector": "oc",
        "tile_oc": 16,
        "tile_oh": 1,
        "tile_ow": 5,
    }
    knobs |= {"block_oh": 1, "block_ow": 98, "chunks": 1}
    config = Config.of(**(knobs | change))
    with pytest.raises(InvalidConfig, match=reason):
        tc.compile(spec, "x86_64_v3", algorithm=STRASSEN, config=config)


def test_few_channels_and_single_pixels_are_declined() -> None:
    template = get_template(STRASSEN)
    few = Task(tc.conv2d((1, 16, 14, 14), 64, 1), load("x86_64_v3"))
    single = Task(tc.conv2d((1, 64, 1, 1), 64, 1), load("x86_64_v3"))
    turned = Task(tc.conv_transpose2d((1, 64, 8, 8), 64, 3, stride=2), load("x86_64_v3"))
    assert "32 channels" in str(template.supports(few))
    assert "single" in str(template.supports(single))
    assert "differ in taps" in str(template.supports(turned))
