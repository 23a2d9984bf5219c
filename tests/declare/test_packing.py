"""Packed weights against numpy: blocks, phases, reversed kernels, groups, zeros for the rest."""

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

import tvmconv as tc
from tests.declare.evaluate import evaluate
from tvmconv import fills
from tvmconv.declare import Form, declare_packing
from tvmconv.declare.packing import packed_elems, vector_names
from tvmconv.problem import canonical
from tvmconv.reference import canonical_weight
from tvmconv.spec import ConvSpec

Array = NDArray[np.float32]


def form(tile_oc: int, *, per_lane: bool = False) -> Form:
    """Only the channels matter to packing."""
    return Form("oc", tile_oc, 1, 1, 1, 1, "pixels", per_lane=per_lane)


def expected(spec: ConvSpec, blocks: Form, weight: Array) -> Array:
    """The weight as run reads it: g, block, phases, taps in rising input order, ic, channel."""
    problem = canonical(spec)
    packed = np.zeros(blocks.weight_shape(problem), np.float32)
    grouped = by_group(spec, weight)
    kernel = (1,) * (3 - spec.rank) + spec.kernel
    for (group, o), i in product(np.ndindex(problem.g, problem.ocg), range(problem.icg)):
        c = group * problem.ocg + o if blocks.per_lane else o
        g = 0 if blocks.per_lane else group
        b, v = divmod(c, blocks.tile_oc)
        taps = grouped[group, o, i].reshape(kernel)
        for phase in product(*(range(a.phases) for a in problem.axes)):
            counts = [a.tap_counts[p] for a, p in zip(problem.axes, phase, strict=True)]
            for j in product(*map(range, counts)):
                k = tuple(
                    a.first_taps[p] + t * a.tap_stride
                    for a, p, t in zip(problem.axes, phase, j, strict=True)
                )
                packed[(g, b, *phase, *j, i, v)] = taps[k]
    return packed


def by_group(spec: ConvSpec, weight: Array) -> Array:
    """[g, outputs of a group, inputs of a group, *kernel], flipped for true convolution."""
    weight = canonical_weight(spec, weight)
    if spec.flip:
        weight = np.flip(weight, tuple(range(2, weight.ndim)))
    g, o, i = spec.groups, spec.oc // spec.groups, spec.ic // spec.groups
    if spec.op == "conv_transpose":
        return weight.reshape(g, i, o, *spec.kernel).swapaxes(1, 2)
    return weight.reshape(g, o, i, *spec.kernel)


CASES: dict[str, tuple[ConvSpec, Form]] = {
    "whole_blocks": (tc.conv2d((1, 3, 5, 6), 8, 3), form(4)),
    "last_block_half": (tc.conv2d((1, 3, 5, 6), 6, (2, 3)), form(4)),
    "one_wide_block": (tc.conv1d((1, 2, 9), 3, 4), form(16)),
    "flipped": (tc.conv2d((1, 3, 5, 6), 5, (3, 2), flip=True), form(4)),
    "groups": (tc.conv2d((1, 6, 5, 6), 9, 2, groups=3), form(4)),
    "rank_3": (tc.conv3d((1, 2, 4, 5, 6), 5, (1, 2, 3)), form(4)),
    "depthwise": (tc.conv2d((1, 7, 5, 6), 7, 3, groups=7), form(4, per_lane=True)),
    "multiplier": (tc.conv2d((1, 5, 5, 6), 15, 2, groups=5), form(8, per_lane=True)),
    "small_groups": (tc.conv2d((1, 6, 5, 6), 12, 2, groups=3), form(8, per_lane=True)),
    "transposed": (tc.conv_transpose2d((1, 3, 5, 6), 6, 4, stride=2, padding=1), form(4)),
    "uneven_phases": (tc.conv_transpose2d((1, 3, 5, 6), 4, 3, stride=2), form(4)),
    "empty_phases": (tc.conv_transpose1d((1, 3, 5), 4, 2, stride=4), form(4)),
    "transposed_flipped": (tc.conv_transpose1d((1, 3, 5), 4, 5, stride=2, flip=True), form(4)),
    "transposed_groups": (tc.conv_transpose2d((1, 6, 4, 5), 9, 3, stride=2, groups=3), form(4)),
    "transposed_depthwise": (
        tc.conv_transpose1d((1, 5, 6), 10, 3, stride=2, groups=5),
        form(4, per_lane=True),
    ),
    "gradient": (tc.conv2d((2, 4, 5, 6), 6, 3, groups=2, padding=1).grad_input(), form(4)),
}


@pytest.mark.parametrize("name", CASES)
def test_weight_lies_as_run_reads_it(name: str) -> None:
    spec, blocks = CASES[name]
    problem, weight = canonical(spec), fills.impulses(spec).weight
    packed = evaluate(declare_packing(spec, problem, blocks), {"weight": weight})
    assert packed.size == packed_elems(spec, problem, blocks) == blocks.weight_elems(problem)
    assert np.array_equal(packed, expected(spec, blocks, weight).reshape(-1))


@pytest.mark.parametrize(
    ("bias", "scale_shift", "names"),
    [
        (True, False, ("bias",)),
        (False, True, ("scale", "shift")),
        (True, True, ("bias", "scale", "shift")),
    ],
)
@pytest.mark.parametrize("per_lane", [False, True])
def test_vectors_follow_the_weight(
    bias: bool, scale_shift: bool, names: tuple[str, ...], per_lane: bool
) -> None:
    spec = tc.conv1d((1, 6, 8), 12, 2, groups=2, bias=bias, scale_shift=scale_shift)
    problem, blocks = canonical(spec), form(8, per_lane=per_lane)
    operands = fills.integers(spec)
    given = {"weight": operands.weight, **operands.keywords()}
    packed = evaluate(declare_packing(spec, problem, blocks), given)
    assert vector_names(spec) == names
    rows = packed[blocks.weight_elems(problem) :].reshape(len(names), -1)
    groups, channels = (1, 12) if per_lane else (2, 6)
    for name, row in zip(names, rows, strict=True):
        padded = row.reshape(groups, -1)
        assert np.array_equal(padded[:, :channels].reshape(-1), given[name])
        assert not padded[:, channels:].any()
