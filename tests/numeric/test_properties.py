"""What holds for every convolution, on compiled kernels and with integers, so exactly."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tvmconv as tc
from tests.numeric.proving import DIRECT_SUMS_ONLY, level_of
from tests.numeric.rows import CONV, CONV_TRANSPOSE, RANKS, make
from tvmconv.spec import ConvSpec

Array = NDArray[Any]


def integers(shape: tuple[int, ...], seed: int) -> Array:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def compiled(spec: ConvSpec) -> Any:
    return tc.compile(spec, level_of(spec), max_error=DIRECT_SUMS_ONLY)


@pytest.mark.parametrize("rank", RANKS)
def test_linear_in_x_and_in_the_weight(rank: int) -> None:
    spec = make(CONV, rank, "NHWC", {"padding": 1, "stride": 2})
    kernel = compiled(spec)
    x, other = integers(spec.x_shape, 1), integers(spec.x_shape, 2)
    weight, second = integers(spec.weight_shape, 3), integers(spec.weight_shape, 4)
    y = kernel(x, weight)
    np.testing.assert_array_equal(kernel(2 * x + other, weight), 2 * y + kernel(other, weight))
    np.testing.assert_array_equal(kernel(x, weight - 3 * second), y - 3 * kernel(x, second))


@pytest.mark.parametrize("rank", RANKS)
def test_translation_moves_the_answer(rank: int) -> None:
    """Circular padding makes it hold up to the border, stride s for shifts of s."""
    spec = make(CONV, rank, "NCHW", {"padding": 1, "padding_mode": "circular", "size": (8, 6, 4)})
    kernel = compiled(spec)
    x, weight = integers(spec.x_shape, 1), integers(spec.weight_shape, 2)
    axes = tuple(range(2, 2 + rank))
    shift = (2, 1, 3)[:rank]
    moved = kernel(np.roll(x, shift, axes), weight)
    np.testing.assert_array_equal(moved, np.roll(kernel(x, weight), shift, axes))


@pytest.mark.parametrize("rank", RANKS)
def test_stride_moves_by_whole_steps(rank: int) -> None:
    spec = make(
        CONV, rank, "NCHW",
        {"padding": 1, "padding_mode": "circular", "size": (8, 6, 4), "stride": 2},
    )  # fmt: skip
    kernel = compiled(spec)
    x, weight = integers(spec.x_shape, 1), integers(spec.weight_shape, 2)
    axes = tuple(range(2, 2 + rank))
    moved = kernel(np.roll(x, (2,) * rank, axes), weight)
    np.testing.assert_array_equal(moved, np.roll(kernel(x, weight), (1,) * rank, axes))


@pytest.mark.parametrize("rank", RANKS)
def test_true_convolution_commutes_and_correlation_does_not(rank: int) -> None:
    a_size, b_size = (5, 4, 3)[:rank], (3, 4, 2)[:rank]
    a, b = integers((1, 1, *a_size), 1), integers((1, 1, *b_size), 2)
    answers = {}
    for flip in (True, False):
        one = CONV[rank]((1, 1, *a_size), 1, b_size, padding="full", flip=flip)
        two = CONV[rank]((1, 1, *b_size), 1, a_size, padding="full", flip=flip)
        answers[flip] = (compiled(one)(a, b), compiled(two)(b, a))
    np.testing.assert_array_equal(*answers[True])
    first, second = answers[False]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, np.flip(second))


@pytest.mark.parametrize("rank", RANKS)
def test_convolution_theorem(rank: int) -> None:
    """Full true convolution is the product of spectra (FFT in float64, rounded)."""
    a_size, b_size = (9, 6, 5)[:rank], (4, 3, 2)[:rank]
    spec = CONV[rank]((1, 1, *a_size), 1, b_size, padding="full", flip=True)
    a, b = integers(spec.x_shape, 1), integers(spec.weight_shape, 2)
    axes = tuple(range(2, 2 + rank))
    size = spec.out_size
    spectrum = np.fft.rfftn(a, size, axes) * np.fft.rfftn(b, size, axes)
    expected = np.rint(np.fft.irfftn(spectrum, size, axes))
    np.testing.assert_array_equal(compiled(spec)(a, b), expected)


@pytest.mark.parametrize("rank", RANKS)
def test_groups_between_their_limits(rank: int) -> None:
    """G groups are G dense convolutions side by side; G = C is one per channel; G = 1 is dense."""
    dense = make(CONV, rank, "NCHW", {"ic": 6, "oc": 6, "padding": 1})
    x = integers(dense.x_shape, 1)
    for groups in (2, 6):
        spec = make(CONV, rank, "NCHW", {"ic": 6, "oc": 6, "padding": 1, "groups": groups})
        weight = integers(spec.weight_shape, groups)
        part = 6 // groups
        blocks = np.zeros(dense.weight_shape, np.float32)
        for g in range(groups):
            own = slice(g * part, (g + 1) * part)
            blocks[own, own] = weight[own]
        np.testing.assert_array_equal(compiled(spec)(x, weight), compiled(dense)(x, blocks))


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pointwise_is_a_matrix_product(rank: int, layout: str) -> None:
    spec = make(CONV, rank, layout, {"kernel": 1, "ic": 19, "oc": 21})
    x, weight = integers(spec.x_shape, 1), integers(spec.weight_shape, 2)
    matrix = weight.reshape(21, 19)
    letters = "ncs" if layout == "NCHW" else "nsc"
    flat = x.reshape((2, 19, -1) if layout == "NCHW" else (2, -1, 19))
    expected = np.einsum(f"oc,{letters}->{letters.replace('c', 'o')}", matrix, flat)
    np.testing.assert_array_equal(compiled(spec)(x, weight), expected.reshape(spec.out_shape))


ADJOINT: dict[str, dict[str, Any]] = {
    "plain": {"padding": 1},
    "strided": {"stride": 2, "padding": 1, "dilation": (1, 2, 1)},
    "groups": {"stride": 3, "groups": 2, "ic": 4, "oc": 6, "kernel": 2},
}


@pytest.mark.parametrize("row", ADJOINT)
@pytest.mark.parametrize("rank", RANKS)
def test_transposed_is_the_adjoint(rank: int, row: str) -> None:
    """<conv x, y> = <x, convT y> with the same weight."""
    spec = make(CONV, rank, "NCHW", ADJOINT[row])
    x, y = integers(spec.x_shape, 1), integers(spec.out_shape, 2)
    weight = integers(spec.weight_shape, 3)
    lengths = zip(
        spec.out_size, spec.stride, spec.pads_begin, spec.dilation, spec.kernel, spec.in_size,
        strict=True,
    )  # fmt: skip
    extra = tuple(i - ((o - 1) * s - 2 * p + d * (k - 1) + 1) for o, s, p, d, k, i in lengths)
    back = CONV_TRANSPOSE[rank](
        spec.out_shape, spec.ic, spec.kernel, stride=spec.stride, padding=spec.pads_begin,
        dilation=spec.dilation, groups=spec.groups, output_padding=extra,
    )  # fmt: skip
    left = np.vdot(compiled(spec)(x, weight).astype(np.float64), y)
    assert left == np.vdot(x.astype(np.float64), compiled(back)(y, weight))


@pytest.mark.parametrize("rank", RANKS)
def test_two_3x3_cover_one_5x5(rank: int) -> None:
    """Two true convolutions after each other are one with the convolved kernel."""
    size = (11, 10, 9)[:rank]
    first = CONV[rank]((1, 1, *size), 1, 3, flip=True)
    second = CONV[rank]((1, 1, *first.out_size), 1, 3, flip=True)
    whole = CONV[rank]((1, 1, *size), 1, 5, flip=True)
    merge = CONV[rank]((1, 1, *(3,) * rank), 1, 3, padding="full", flip=True)
    x, a, b = (integers(s, i) for i, s in enumerate((first.x_shape, *[first.weight_shape] * 2)))
    apart = compiled(second)(compiled(first)(x, a), b)
    np.testing.assert_array_equal(apart, compiled(whole)(x, compiled(merge)(a, b)))
    assert second.out_size == whole.out_size


@pytest.mark.parametrize("rank", RANKS)
def test_threads_do_not_change_a_bit(rank: int) -> None:
    row = {"ic": 16, "oc": 40, "padding": 1, "bias": True, "activation": "silu"}
    spec = make(CONV, rank, "NHWC", row)
    x, weight = (np.random.default_rng(i).standard_normal(s).astype(np.float32)
                 for i, s in enumerate((spec.x_shape, spec.weight_shape)))  # fmt: skip
    bias = integers((spec.oc,), 3)
    alone = tc.compile(spec, level_of(spec))(x, weight, bias)
    for threads in (2, 3):
        kernel = tc.compile(spec, level_of(spec), threads=threads)
        for _ in range(3):
            np.testing.assert_array_equal(kernel(x, weight, bias), alone)
