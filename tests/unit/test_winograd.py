"""Winograd's matrices are exact, and their expressions compute what the matrices say."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tvmconv.tolerance import EPS, get_accuracy, half
from tvmconv.winograd import POINTS, Filtering, filtering

Array = NDArray[Any]

ALL = [(a - r + 1, r) for a in POINTS for r in range(2, 6) if a - r + 1 >= 1]
WHOLE = st.integers(-99, 99).map(Fraction)


def times(matrix: tuple[tuple[Fraction, ...], ...], vector: list[Fraction]) -> list[Fraction]:
    return [sum((c * v for c, v in zip(row, vector, strict=True)), Fraction(0)) for row in matrix]


@given(st.sampled_from(ALL), st.data())
def test_products_at_points_are_the_filter(size: tuple[int, int], data: st.DataObject) -> None:
    m, r = size
    f = filtering(m, r)
    d = data.draw(st.lists(WHOLE, min_size=f.alpha, max_size=f.alpha))
    g = data.draw(st.lists(WHOLE, min_size=r, max_size=r))
    products = [x * w for x, w in zip(times(f.input, d), times(f.weight, g), strict=True)]
    filtered = [sum(g[k] * d[i + k] for k in range(r)) for i in range(m)]
    assert times(f.output, products) == filtered


@pytest.mark.parametrize("size", ALL, ids=str)
def test_expressions_are_the_matrices(size: tuple[int, int]) -> None:
    f = filtering(*size)
    # Powers of two with exact products: floats lose nothing.
    d = [Fraction(2**k) for k in range(f.alpha)]
    assert f.transform_input([float(x) for x in d]) == [float(x) for x in times(f.input, d)]
    assert f.transform_output([float(x) for x in d]) == [float(x) for x in times(f.output, d)]


@pytest.mark.parametrize("size", ALL, ids=str)
def test_input_and_output_matrices_are_exact_in_float32(size: tuple[int, int]) -> None:
    f = filtering(*size)
    for c in (c for matrix in (f.input, f.output) for row in matrix for c in row):
        assert c.denominator & (c.denominator - 1) == 0
        assert abs(c.numerator) < 2**24


def count(f: Filtering) -> tuple[int, int]:
    """Operations if every row were computed by itself."""
    rows = (sum(1 for c in row if c) for row in f.input), (sum(map(bool, row)) for row in f.output)
    return sum(rows[0]) - f.alpha, sum(rows[1]) - f.m


@pytest.mark.parametrize(("m", "r"), [(3, 3), (4, 3), (5, 3), (6, 3), (4, 5)])
def test_opposite_points_share_their_halves(m: int, r: int) -> None:
    f = filtering(m, r)
    assert f.input_ops < count(f)[0]
    assert f.output_ops < count(f)[1]


def test_points_are_distinct_and_enough() -> None:
    for alpha, points in POINTS.items():
        assert len(set(points)) == len(points) == alpha - 1


def rounded_products(m: int, r: int, channels: int, seed: int) -> tuple[float, float]:
    """What rounding both factors to float16 costs a map: as c, and of the largest result."""
    rng, made = np.random.default_rng(seed), filtering(m, r)
    output, weight, inputs = (
        np.array(x, dtype=np.float64) for x in (made.output, made.weight, made.input)
    )
    x = rng.standard_normal((channels, 16 * m + r - 1, 16 * m + r - 1)).astype(np.float16)
    w = rng.standard_normal((16, channels, r, r)).astype(np.float16)
    window = np.lib.stride_tricks.sliding_window_view
    tiles = window(x.astype(np.float64), (made.alpha, made.alpha), axis=(1, 2))[:, ::m, ::m]
    v = np.einsum("ap,cyxpq,bq->abcyx", inputs, tiles, inputs, optimize=True)
    u = np.einsum("ak,ockl,bl->aboc", weight, w.astype(np.float64), weight, optimize=True)

    def back(v: Array, u: Array) -> Array:
        sums = np.einsum("abcyx,aboc->abyxo", v, u, optimize=True)
        y: Array = np.einsum("ia,abyxo,jb->oyixj", output, sums, output, optimize=True)
        return y

    exact = back(v, u)
    error = np.abs(back(*(f.astype(np.float16).astype(np.float64) for f in (v, u))) - exact)
    squares = np.einsum(
        "cyxkl,ockl->oyx",
        window(np.square(x, dtype=np.float64), (r, r), axis=(1, 2)),
        np.square(w, dtype=np.float64),
        optimize=True,
    )
    root = np.sqrt(squares.max(axis=(1, 2)) * (channels * r * r + 1))
    worst = error.max(axis=(1, 2, 3, 4)) / (EPS["float32"] * root)
    return float(worst.max()), float(error.max() / np.abs(exact).max())


@pytest.mark.parametrize(("m", "r"), [(2, 2), (2, 3), (3, 2), (3, 3), (4, 2), (4, 3), (2, 5)])
@pytest.mark.parametrize("channels", [16, 128])
def test_factors_of_float16_keep_to_their_class(m: int, r: int, channels: int) -> None:
    """Neither the constant nor the ceiling is passed, and the ceiling is not far away."""
    accuracy = get_accuracy(half(f"winograd_f{m}_{r}"))
    c, relative = rounded_products(m, r, channels, seed=7)
    assert c <= accuracy.constant / 2
    assert 0.2 * accuracy.relative_error <= relative <= accuracy.relative_error
