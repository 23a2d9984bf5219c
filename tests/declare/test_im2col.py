"""Columns: the gathered sum is the direct one, and each axis of ``xcol`` is what its name says."""

import numpy as np
import pytest

import tvmconv as tc
from tests.declare.evaluate import evaluate, tensors
from tvmconv import fills
from tvmconv.declare import Form, declare_im2col, declare_packing
from tvmconv.declare.im2col import neighbours, unfolded
from tvmconv.problem import canonical
from tvmconv.reference import reference
from tvmconv.spec import ConvSpec

PIXELS = Form("oc", 4, 2, 3, 2, 6, "pixels")
PLANES = Form("oc", 4, 2, 3, 2, 6, "planes")
IN_PLACE = Form("oc", 4, 1, 1, 1, 1, "none")

CASES: dict[str, tuple[ConvSpec, Form]] = {
    "first": (tc.conv2d((2, 3, 5, 8), 6, 3, padding=1, bias=True, activation="relu"), PLANES),
    "last": (tc.conv2d((2, 5, 8, 3), 6, (2, 3), stride=2, layout="NHWC"), PIXELS),
    "in_place": (tc.conv2d((1, 3, 5, 8), 6, 3), IN_PLACE),
    "in_place_last": (tc.conv2d((1, 5, 8, 4), 6, 3, groups=2, layout="NHWC"), IN_PLACE),
    "rank_1": (tc.conv1d((1, 3, 20), 5, 4, dilation=3, padding="causal"), PLANES),
    "rank_3": (tc.conv3d((1, 2, 4, 5, 6), 5, (2, 1, 3), dilation=(1, 2, 1), padding=1), PLANES),
    "groups": (tc.conv2d((1, 6, 5, 6), 9, 2, groups=3, residual=True), PLANES),
    "depthwise": (tc.conv2d((1, 5, 6, 7), 14, 3, padding=1, groups=7, layout="NHWC"), PIXELS),
    "flip": (tc.conv2d((1, 3, 5, 6), 4, (3, 2), flip=True), PLANES),
    "reflect": (tc.conv2d((1, 3, 5, 6), 4, 3, padding=2, padding_mode="reflect"), PLANES),
    "circular": (tc.conv1d((1, 3, 7), 4, 3, padding=2, padding_mode="circular"), PLANES),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_im2col(name: str) -> None:
    spec, form = CASES[name]
    problem, operands = canonical(spec), fills.integers(spec)
    packing = declare_packing(spec, problem, form)
    packed = evaluate(packing, {"weight": operands.weight, **operands.keywords()})
    run = declare_im2col(spec, problem, form)
    y = evaluate(run, tensors(operands, packed)).reshape(spec.out_shape)
    assert np.array_equal(y, reference(spec, operands, "float32"))


def test_a_problem_without_taps_has_the_same_work_and_packing() -> None:
    for spec, form in CASES.values():
        problem = canonical(spec)
        plain = unfolded(problem)
        assert plain.macs == problem.macs
        assert form.weight_elems(plain) == form.weight_elems(problem)
        assert not plain.is_padded


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (tc.conv2d((1, 3, 9, 9), 4, 3), 1),
        (tc.conv2d((1, 3, 9, 9), 4, 3, stride=2), 0),
        (tc.conv2d((1, 9, 9, 3), 4, 3, stride=2, layout="NHWC"), 2),
        (tc.conv2d((1, 9, 9, 3), 4, 3, dilation=2, layout="NHWC"), 1),
        (tc.conv2d((1, 9, 9, 4), 4, 3, groups=2, layout="NHWC"), 1),
    ],
)
def test_neighbours_are_one_element_apart(spec: ConvSpec, count: int) -> None:
    assert neighbours(canonical(spec)) == count
