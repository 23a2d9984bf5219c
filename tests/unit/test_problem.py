"""The canonical form reads and writes what the spec says: index by index, against plain loops."""

from itertools import product
from math import prod
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import tvmconv as tc
from tests.strategies import conv_specs
from tvmconv.problem import Axis, Problem, canonical
from tvmconv.spec import ConvSpec

Pairs = set[tuple[int, int]]


@st.composite
def lines(draw: st.DrawFn) -> ConvSpec:
    """Rank-1 specs with one channel: everything that an axis depends on."""
    op = draw(st.sampled_from(("conv", "conv_transpose")))
    size, kernel = draw(st.integers(1, 12)), draw(st.integers(1, 7))
    stride, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    reach = dilation * (kernel - 1) + 1
    begin, end = draw(st.integers(0, reach + 2)), draw(st.integers(0, reach + 2))
    extra = 0
    if op == "conv":
        assume(size + begin + end >= reach)
    else:
        extra = draw(st.integers(0, max(stride, dilation) - 1))
        assume((size - 1) * stride + reach + extra - begin - end >= 1)
    return ConvSpec(
        op=op,
        n=1,
        ic=1,
        oc=1,
        in_size=(size,),
        kernel=(kernel,),
        stride=(stride,),
        dilation=(dilation,),
        pads_begin=(begin,),
        pads_end=(end,),
        output_padding=(extra,),
    )


def pairs_of_spec(spec: ConvSpec, axis: int, output: int) -> Pairs:
    """Input index and kernel index of every product in an output, as torch defines them."""
    size, kernel = spec.in_size[axis], spec.kernel[axis]
    s, d, pad = spec.stride[axis], spec.dilation[axis], spec.pads_begin[axis]
    if spec.op == "conv_transpose":
        grid = product(range(size), range(kernel))
        return {(i, k) for i, k in grid if i * s + k * d - pad == output}
    sources = ((output * s - pad + k * d, k) for k in range(kernel))
    return {(i, k) for i, k in sources if 0 <= i < size}


def pairs_of_axis(axis: Axis, output: int) -> Pairs:
    """The same from the canonical axis."""
    q, p = divmod(output, axis.phases)
    found = set()
    for j in range(axis.tap_counts[p]):
        position = q * axis.stride + axis.origins[p] + j * axis.step
        assert axis.low <= position < axis.high
        if 0 <= position < axis.in_extent:
            found.add((position, axis.first_taps[p] + j * axis.tap_stride))
    return found


@given(lines())
def test_axis_meets_the_taps_of_the_spec(spec: ConvSpec) -> None:
    axis = canonical(spec).axes[2]
    assert axis.out_extent == spec.out_size[0]
    assert axis.quotients * axis.phases >= axis.out_extent > (axis.quotients - 1) * axis.phases
    for output in range(axis.out_extent):
        assert pairs_of_axis(axis, output) == pairs_of_spec(spec, 0, output)


@given(lines())
def test_every_kernel_index_belongs_to_exactly_one_phase(spec: ConvSpec) -> None:
    axis = canonical(spec).axes[2]
    per_phase = zip(axis.first_taps, axis.tap_counts, strict=True)
    taps = [first + j * axis.tap_stride for first, count in per_phase for j in range(count)]
    assert len(taps) == len(set(taps))
    assert set(taps) <= set(range(spec.kernel[0]))
    if axis.phases == spec.stride[0] or spec.op == "conv":
        assert len(taps) == spec.kernel[0]


@given(lines())
def test_axis_tells_whether_it_is_padded_and_uneven(spec: ConvSpec) -> None:
    axis = canonical(spec).axes[2]
    read = [
        q * axis.stride + axis.origins[p] + j * axis.step
        for q in range(axis.quotients)
        for p in range(axis.phases)
        for j in range(axis.taps)
    ]
    assert axis.is_padded == (min(read) < 0 or max(read) >= axis.in_extent)
    assert (axis.low, axis.high) == (min(read), max(read) + 1)
    assert axis.is_uneven == (len(set(axis.tap_counts)) > 1 or axis.tap_counts[0] == 0)


def products_of_spec(spec: ConvSpec, channel: tuple[int, int, int], at: tuple[int, ...]) -> Pairs:
    """Flat index in x and in the kernel of every product in one output."""
    _, n, c = channel
    per_axis = [pairs_of_spec(spec, i, o) for i, o in enumerate(at)]
    found = set()
    for taps in product(*per_axis):
        inside, kernel = [i for i, _ in taps], [k for _, k in taps]
        x = flat(spec.in_layout, spec.x_shape, n, c, inside)
        found.add((x, int(np.ravel_multi_index(kernel, spec.kernel))))
    return found


def products_of_problem(
    problem: Problem, spec: ConvSpec, channel: tuple[int, int, int], at: tuple[int, int, int]
) -> Pairs:
    _, n, c = channel
    per_axis = [pairs_of_axis(axis, o) for axis, o in zip(problem.axes, at, strict=True)]
    found = set()
    for taps in product(*per_axis):
        x = problem.x.offset(n, c // problem.icg, c % problem.icg, tuple(i for i, _ in taps))
        # A merged axis has one tap, number 0, so the kernel's own axes are the innermost.
        kernel = [k for _, k in taps][3 - spec.rank :]
        assert isinstance(x, int)
        found.add((x, int(np.ravel_multi_index(kernel, spec.kernel))))
    return found


def flat(layout: str, shape: tuple[int, ...], n: int, c: int, space: list[int]) -> int:
    """Row-major index of an element, by the letters of the layout; no G."""
    index = {"N": n, "C": c, **dict(zip((x for x in layout if x not in "NC"), space, strict=True))}
    return int(np.ravel_multi_index([index[letter] for letter in layout], shape))


@given(conv_specs(ops=("conv", "conv_transpose")), st.randoms(use_true_random=False))
def test_problem_is_the_same_sum_as_the_spec(spec: ConvSpec, random: Random) -> None:
    assume(spec.n > 0)
    problem = canonical(spec)
    for _ in range(8):
        n, oc = random.randrange(spec.n), random.randrange(spec.oc)
        ic = (oc // problem.ocg) * problem.icg + random.randrange(problem.icg)
        at = [random.randrange(size) for size in spec.out_size]
        y = flat(spec.out_layout, spec.out_shape, n, oc, at)
        place = place_of(problem, y, n, oc)
        expected = products_of_spec(spec, (oc, n, ic), tuple(at))
        assert products_of_problem(problem, spec, (oc, n, ic), place) == expected


def place_of(problem: Problem, y: int, n: int, oc: int) -> tuple[int, int, int]:
    """The canonical coordinates that are stored at a flat index of y; there is exactly one."""
    start = problem.y.offset(n, oc // problem.ocg, oc % problem.ocg, (0, 0, 0))
    assert isinstance(start, int)
    rest = y - start
    found = []
    for axis, stride in zip(problem.axes, problem.y.space, strict=True):
        at = rest // stride if axis.out_extent > 1 else 0
        rest -= at * stride
        assert 0 <= at < axis.out_extent
        found.append(at)
    assert rest == 0
    return found[0], found[1], found[2]


@given(conv_specs())
def test_strides_are_those_of_a_dense_array(spec: ConvSpec) -> None:
    assume(spec.n > 0)
    problem = canonical(spec)
    for layout, shape, strides in (
        (spec.in_layout, spec.x_shape, problem.x),
        (spec.out_layout, spec.out_shape, problem.y),
    ):
        dense = np.empty(shape, np.int8).strides
        own = dict(zip(layout, dense, strict=True))
        assert (strides.n, strides.c) == (own["N"], own["C"])
        per_group = problem.icg if strides is problem.x else problem.ocg
        assert strides.g == per_group * strides.c
        assert strides.space[2] == own[layout.replace("N", "").replace("C", "")[-1]]


@given(conv_specs())
def test_totals_are_those_of_the_spec(spec: ConvSpec) -> None:
    problem = canonical(spec)
    assert problem.x_elems == prod(spec.x_shape)
    assert problem.y_elems == prod(spec.out_shape)
    assert (problem.g, problem.icg * problem.g) == (spec.groups, spec.ic)
    assert problem.ocg * problem.g == spec.oc
    if spec.op == "conv":
        assert problem.macs == spec.macs
        assert problem.reduction == spec.ic // spec.groups * prod(spec.kernel)


MERGED = {
    "2d_first": (tc.conv2d((1, 8, 5, 7), 4, 1), (1, 1, 35)),
    "2d_last": (tc.conv2d((1, 5, 7, 8), 4, 1, layout="NHWC"), (1, 1, 35)),
    "3d": (tc.conv3d((1, 8, 3, 5, 7), 4, 1), (1, 1, 105)),
    "rows_of_a_column_kernel": (tc.conv3d((1, 8, 3, 5, 7), 4, (1, 1, 3)), (1, 15, 5)),
    "strided": (tc.conv2d((1, 8, 6, 8), 4, 1, stride=2), (1, 3, 4)),
    "padded": (tc.conv2d((1, 8, 6, 8), 4, 1, padding=1), (1, 8, 10)),
    "3x3": (tc.conv2d((1, 8, 6, 8), 4, 3), (1, 4, 6)),
}


@pytest.mark.parametrize("name", MERGED)
def test_neighbouring_axes_without_taps_become_one(name: str) -> None:
    spec, extents = MERGED[name]
    assert tuple(axis.out_extent for axis in canonical(spec).axes) == extents


def test_transposed_stride_two_has_a_dense_phase_per_residue() -> None:
    axis = canonical(tc.conv_transpose1d((1, 1, 5), 1, 4, stride=2, padding=1)).axes[2]
    assert (axis.phases, axis.tap_counts, axis.stride, axis.step) == (2, (2, 2), 1, 1)
    # Even outputs meet kernel indices 3 and 1 in rising order of the input, odd ones 2 and 0.
    assert axis.first_taps == (3, 2)
    assert axis.origins == (-1, 0)


def test_gaps_between_strides_are_phases_without_taps() -> None:
    axis = canonical(tc.conv_transpose1d((1, 1, 5), 1, 1, stride=3)).axes[2]
    assert axis.tap_counts == (1, 0, 0)
    assert axis.is_uneven
    assert axis.taps == 1


@pytest.mark.parametrize(
    ("spec", "channels_last"),
    [
        (tc.conv2d((1, 8, 5, 7), 4, 3), (False, False)),
        (tc.conv2d((1, 5, 7, 8), 4, 3, layout="NHWC"), (True, True)),
        (tc.conv1d((2, 5, 8), 4, 3, layout="NWC"), (True, True)),
        (tc.conv3d((1, 3, 5, 7, 8), 4, 3, layout="NDHWC"), (True, True)),
    ],
    ids=["nchw", "nhwc", "nwc", "ndhwc"],
)
def test_layout_is_seen_in_the_strides(spec: ConvSpec, channels_last: tuple[bool, bool]) -> None:
    problem = canonical(spec)
    assert (problem.channels_last, problem.output_channels_last) == channels_last


def test_canonical_of_a_gradient_reads_groups_from_the_layout() -> None:
    spec = tc.conv2d((2, 6, 7, 9), 8, 3, groups=2).grad_weight()
    problem = canonical(spec)
    assert "G" in spec.in_layout
    dense = dict(zip(spec.in_layout, np.empty(spec.x_shape, np.int8).strides, strict=True))
    assert (problem.x.n, problem.x.g, problem.x.c) == (dense["N"], dense["G"], dense["C"])


def test_rows_that_a_stride_passes_over_are_a_matter_of_strides() -> None:
    d, h, w = canonical(tc.conv3d((1, 4, 7, 8, 9), 4, 1, stride=2)).axes
    assert (d.in_extent, d.stride, h.in_extent, h.stride) == (4, 1, 4, 1)
    assert (w.in_extent, w.stride) == (9, 2)
    assert canonical(tc.conv3d((1, 4, 7, 8, 9), 4, 1, stride=2)).x.space == (144, 18, 1)
    padded = canonical(tc.conv2d((1, 4, 8, 9), 4, 1, stride=2, padding=1)).axes[1]
    assert (padded.in_extent, padded.stride) == (8, 2)
    tapped = canonical(tc.conv2d((1, 4, 8, 9), 4, (2, 1), stride=2)).axes[1]
    assert (tapped.in_extent, tapped.stride) == (8, 2)
