"""Outputs all of whose taps lie in the padding: a block of them reads a window beyond x."""

import numpy as np
import pytest

import tvmconv as tc
from tests.numeric.proving import named, per_level, prove_some
from tvmconv.problem import canonical
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, templates
from tvmconv.tuning.space_points import sample_valid

BEYOND: dict[str, ConvSpec] = {
    "one_input": tc.conv1d((1, 1, 24), 2, 1, stride=2, padding=5, layout="NWC"),
    "pointwise": tc.conv2d((1, 8, 3, 5), 16, 1, padding=(1, 6), bias=True),
    "pointwise_last": tc.conv2d((1, 3, 5, 32), 24, 1, padding=(1, 6), layout="NHWC"),
    "window": tc.conv2d((1, 10, 4, 6), 8, 3, padding=9, activation="relu"),
    "window_last": tc.conv2d((2, 4, 6, 10), 20, 3, padding=9, layout="NHWC"),
    "depthwise": tc.conv2d((1, 20, 5, 4), 20, 3, padding=8, groups=20),
    "depthwise_last": tc.conv2d((1, 5, 4, 20), 20, 3, padding=8, groups=20, layout="NHWC"),
    "strided": tc.conv2d((1, 4, 5, 7), 9, 3, padding=11, stride=3),
    "grouped": tc.conv2d((1, 5, 4, 24), 24, 3, padding=7, groups=3, layout="NHWC"),
    "constant": tc.conv2d(
        (1, 6, 4, 5), 7, 2, padding=8, padding_mode="constant", pad_value=-1.5
    ),
    "volume": tc.conv3d((1, 3, 2, 4, 3), 5, 2, padding=6),
}  # fmt: skip


@per_level(("x86_64_v2", "x86_64_v4"))
@named(BEYOND)
def test_every_template(spec: ConvSpec, level: str) -> None:
    task = Task(spec, load(level))
    assert any(axis.is_beyond for axis in task.problem.axes)
    proven = 0
    for template in templates("x86"):
        if template.supports(task) is not None:
            continue
        some = sample_valid(template.space(task), 2, np.random.default_rng(1))
        if some:
            prove_some(spec, level, template.id, some)
            proven += 1
    assert proven >= 2


@pytest.mark.parametrize(
    ("spec", "beyond"),
    [
        (tc.conv1d((1, 1, 9), 1, 3, padding=2), False),
        (tc.conv1d((1, 1, 9), 1, 3, padding=3), True),
        (tc.conv1d((1, 1, 9), 1, 3, padding=((0, 3),)), True),
        (tc.conv1d((1, 1, 9), 1, 3, padding=((0, 3),), stride=2), False),
        (tc.conv1d((1, 1, 9), 1, 1, padding=1), True),
        (tc.conv_transpose1d((1, 1, 9), 1, 4, stride=2, padding=1), False),
    ],
    ids=["same", "wide", "wide_end", "stride_skips_it", "pointwise", "transposed"],
)
def test_axis_tells_whether_outputs_read_padding_alone(spec: ConvSpec, beyond: bool) -> None:
    assert canonical(spec).axes[2].is_beyond == beyond
