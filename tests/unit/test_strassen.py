"""Strassen's seven products: exact on integers, at every level, with the additions it promises."""

from __future__ import annotations

import numpy as np
import pytest

from tvmconv import strassen


def grid(matrix: np.ndarray, parts: int) -> list[list[np.ndarray]]:
    """A matrix as parts x parts blocks."""
    return [np.hsplit(rows, parts) for rows in np.vsplit(matrix, parts)]


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_it_is_the_product_of_integer_matrices(levels: int) -> None:
    rng = np.random.default_rng(levels)
    parts = strassen.parts(levels)
    x = rng.integers(-9, 10, (3 * parts, 2 * parts))
    w = rng.integers(-9, 10, (2 * parts, 5 * parts))
    s = strassen.sums_of_x(grid(x, parts))
    t = strassen.sums_of_w(grid(w, parts))
    assert len(s) == len(t) == strassen.products(levels)
    y = strassen.blocks_of_y([a @ b for a, b in zip(s, t, strict=True)])
    np.testing.assert_array_equal(np.block(y), x @ w)


class Counted:
    """A number that counts additions."""

    additions = 0

    def __add__(self, other: Counted) -> Counted:
        Counted.additions += 1
        return Counted()

    __sub__ = __add__


@pytest.mark.parametrize(
    ("step", "size", "additions"),
    [
        ("sums_of_x", (2, 2), strassen.ADDITIONS_IN),
        ("sums_of_w", (2, 2), 4),
        ("blocks_of_y", (7,), strassen.ADDITIONS_OUT),
    ],
)
def test_a_level_takes_fifteen_additions(step: str, size: tuple[int, ...], additions: int) -> None:
    values = [Counted() for _ in range(7)]
    Counted.additions = 0
    getattr(strassen, step)(values if len(size) == 1 else [values[:2], values[2:4]])
    assert Counted.additions == additions
