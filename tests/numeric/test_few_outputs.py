"""Channels-last layers of few outputs: columns in the lanes, pixels turned into rows and back."""

import hypothesis
import pytest
from hypothesis import strategies as st

import tvmconv as tc
from tests.numeric.proving import MASKED_LEVELS, named, per_level, prove_some
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import Task, get_template

COLUMNS = "x86.columns"
SPECS: dict[str, ConvSpec] = {
    "image": tc.conv_transpose2d((1, 11, 9, 32), 3, 4, stride=2, padding=1, layout="NHWC"),
    "gray": tc.conv2d((1, 13, 70, 16), 1, 5, padding=2, bias=True, layout="NHWC"),
    "mask": tc.conv2d((2, 9, 33, 48), 2, 1, activation="sigmoid", layout="NHWC"),
    "residual": tc.conv2d((1, 7, 20, 16), 4, 3, padding=1, residual=True, layout="NHWC"),
    "dilated": tc.conv2d((1, 12, 19, 16), 3, 3, padding=4, dilation=4, layout="NHWC"),
    "row_stride": tc.conv2d((1, 12, 19, 32), 3, 3, padding=1, stride=(2, 1), layout="NHWC"),
    "reflect": tc.conv2d(
        (1, 9, 10, 16), 3, 3, padding=1, padding_mode="reflect", layout="NHWC", scale_shift=True
    ),
    "uneven_phases": tc.conv_transpose2d((1, 5, 6, 16), 2, 3, stride=2, layout="NHWC"),
    "line": tc.conv1d((2, 75, 16), 2, 7, padding="causal", dilation=2, layout="NWC"),
    "half_a_vector": tc.conv_transpose2d((1, 8, 9, 56), 1, 9, stride=4, padding=4, layout="NHWC"),
    "five_quads": tc.conv2d((1, 13, 21, 20), 3, 3, padding=1, bias=True, layout="NHWC"),
    "volume": tc.conv3d((1, 4, 5, 18, 16), 3, 3, padding=1, layout="NDHWC"),
}


@per_level(MASKED_LEVELS)
@named(SPECS)
def test_every_tile(spec: ConvSpec, level: str) -> None:
    shortlist = get_template(COLUMNS).shortlist(Task(spec, load(level)))
    assert {config.text("stage") for config in shortlist} == {"turned"}
    prove_some(spec, level, COLUMNS, shortlist)


@pytest.mark.parametrize(
    "spec",
    [
        tc.conv2d((1, 9, 9, 16), 5, 3, layout="NHWC"),
        tc.conv2d((1, 9, 9, 18), 3, 3, layout="NHWC"),
        tc.conv2d((1, 9, 9, 16), 3, 3, stride=2, layout="NHWC"),
        tc.conv2d((1, 9, 9, 32), 4, 3, groups=2, layout="NHWC"),
    ],
    ids=["many_outputs", "cut_vector", "stride", "groups"],
)
def test_others_are_left_to_other_templates(spec: ConvSpec) -> None:
    assert get_template(COLUMNS).supports(Task(spec, load("x86_64_v4"))) is not None
    assert get_template(COLUMNS).supports(Task(spec, load("x86_64_v2"))) is not None


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 70)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    padding=st.integers(0, 4),
    quads=st.integers(1, 10),
    outputs=st.integers(1, 4),
)
def test_random(
    size: tuple[int, int], kernel: tuple[int, int], padding: int, quads: int, outputs: int
) -> None:
    window = [i + 2 * padding - (k - 1) for i, k in zip(size, kernel, strict=True)]
    hypothesis.assume(min(window) >= 1)
    spec = tc.conv2d((1, *size, 4 * quads), outputs, kernel, padding=padding, layout="NHWC")
    kernel_: tc.Kernel = tc.compile(spec, "host", algorithm=COLUMNS)
    tc.validate(kernel_).require()
