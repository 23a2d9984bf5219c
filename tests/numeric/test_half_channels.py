"""Channels-last layers whose channels fill an odd number of half vectors."""

import numpy as np
import pytest

import tvmconv as tc
from tests.numeric.proving import named, per_level, prove_some
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning.space_points import sample_valid

TEMPLATES = ("x86.pointwise", "x86.direct", "x86.im2col", "x86.transposed", "x86.deformable")
SPECS: dict[str, ConvSpec] = {
    "three_halves": tc.conv2d((1, 9, 13, 20), 24, 1, layout="NHWC", bias=True, activation="relu"),
    "five_halves": tc.conv2d((2, 7, 7, 16), 40, 1, layout="NHWC", residual=True),
    "two_channels": tc.conv2d((1, 11, 9, 64), 2, 1, layout="NHWC", bias=True),
    "cut_off": tc.conv2d((1, 8, 15, 12), 21, 3, padding=1, layout="NHWC", scale_shift=True),
    "strided": tc.conv2d((1, 14, 14, 24), 72, 3, padding=1, stride=2, layout="NHWC"),
    "grouped": tc.conv2d((1, 10, 9, 36), 72, 3, padding=1, groups=3, layout="NHWC"),
    "reflected": tc.conv2d((1, 9, 7, 8), 8, 3, padding=1, padding_mode="reflect", layout="NHWC"),
    "line": tc.conv1d((2, 40, 12), 24, 5, padding="causal", dilation=2, layout="NWC"),
    "volume": tc.conv3d((1, 4, 6, 7, 8), 5, 3, padding=1, layout="NDHWC"),
    "vector": tc.conv2d((1, 1, 1, 96), 24, 1, layout="NHWC", bias=True),
    "phases": tc.conv_transpose2d((1, 5, 6, 16), 24, 4, stride=2, padding=1, layout="NHWC"),
    "sampled": tc.deform_conv2d((1, 7, 8, 6), 24, 3, padding=1, layout="NHWC"),
}


@per_level(("zen4",))
@named(SPECS)
def test_channels_in_half_vectors(spec: ConvSpec, level: str) -> None:
    task = Task(spec, load(level))
    lanes, proven = task.target.lanes, 0
    for template in map(get_template, TEMPLATES):
        if template.supports(task) is not None:
            continue
        sampled = sample_valid(template.space(task), 200, np.random.default_rng(0))
        tiles = [c for c in sampled if c.integer("tile_oc") % lanes]
        assert {c.integer("tile_oc") % lanes for c in tiles} == {lanes // 2}
        prove_some(spec, level, template.id, tiles)
        proven += 1
    assert proven


@pytest.mark.parametrize(
    ("spec", "level"),
    [
        (SPECS["three_halves"], "x86_64_v4"),
        (tc.conv2d((1, 9, 13, 32), 32, 1, layout="NHWC"), "zen4"),
        (tc.conv2d((1, 20, 9, 13), 24, 1), "zen4"),
    ],
    ids=["whole_cores", "whole_vectors", "channels_first"],
)
def test_what_offers_none(spec: ConvSpec, level: str) -> None:
    task = Task(spec, load(level))
    space = get_template("x86.direct").space(task)
    assert {int(size) % task.target.lanes for size in space.knobs["tile_oc"]} == {0}
