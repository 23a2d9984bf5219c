"""Strassen's product of 2 x 2 blocks with seven multiplications, in Winograd's form, recursively.

    x = [x11 x12]   w = [w11 w12]    y = x w:   eight products of blocks, or these seven
        [x21 x22]       [w21 w22]

    s1 = x21 + x22   s2 = s1 - x11    s3 = x11 - x21   s4 = x12 - s2
    t1 = w12 - w11   t2 = w22 - t1    t3 = w22 - w12   t4 = t2 - w21
    p1 = x11 w11     p2 = x12 w21     p3 = s4 w22      p4 = x22 t4
    p5 = s1 t1       p6 = s2 t2       p7 = s3 t3
    y11 = p1 + p2                     y12 = p1 + p6 + p5 + p3
    y21 = p1 + p6 + p7 - p4           y22 = p1 + p6 + p7 + p5

A convolution is such a product for any kernel: the rows of x are outputs (each standing for the
window that it reads), the columns input channels. So x is cut along one spatial axis and its
channels, w along input and output channels, and a seventh or, in two levels, 49 of 64 products are
left. Sums of w are taken at pack time (Strassen, "Gaussian Elimination is not Optimal", 1969;
Winograd, "On Multiplication of 2 x 2 Matrices", 1971: fifteen additions are the fewest).

Values are anything that adds and subtracts: numbers, arrays, expressions of TE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

# Products of one level, and blocks along each axis.
PRODUCTS = 7
HALVES = 2
# Additions of one level: of x, and of products. Those of w cost nothing at run time.
ADDITIONS_IN = 4
ADDITIONS_OUT = 7

Grid = Sequence[Sequence[Any]]


def products(levels: int) -> int:
    """Multiplications of blocks that are left: 7 of 8, 49 of 64."""
    return int(PRODUCTS**levels)


def parts(levels: int) -> int:
    """Blocks along each axis."""
    return int(HALVES**levels)


def sums_of_x(x: Grid) -> list[Any]:
    """First factors of all products, from the blocks of x by rows; as many rows as columns."""
    if len(x) == 1:
        return [x[0][0]]
    x11, x12, x21, x22 = _quarters(x)
    s1 = _each(_plus, x21, x22)
    s2 = _each(_minus, s1, x11)
    s3 = _each(_minus, x11, x21)
    s4 = _each(_minus, x12, s2)
    return [s for factor in (x11, x12, s4, x22, s1, s2, s3) for s in sums_of_x(factor)]


def sums_of_w(w: Grid) -> list[Any]:
    """Second factors of all products, from the blocks of w, a row for each part of ic."""
    if len(w) == 1:
        return [w[0][0]]
    w11, w12, w21, w22 = _quarters(w)
    t1 = _each(_minus, w12, w11)
    t2 = _each(_minus, w22, t1)
    t3 = _each(_minus, w22, w12)
    t4 = _each(_minus, t2, w21)
    return [t for factor in (w11, w21, w22, t4, t1, t2, t3) for t in sums_of_w(factor)]


def blocks_of_y(p: Sequence[Any]) -> list[list[Any]]:
    """The blocks of y by rows, from all products."""
    if len(p) == 1:
        return [[p[0]]]
    each = len(p) // PRODUCTS
    p1, p2, p3, p4, p5, p6, p7 = (
        blocks_of_y(p[i * each : (i + 1) * each]) for i in range(PRODUCTS)
    )
    u2 = _each(_plus, p1, p6)
    u3 = _each(_plus, u2, p7)
    u4 = _each(_plus, u2, p5)
    above = zip(_each(_plus, p1, p2), _each(_plus, u4, p3), strict=True)
    below = zip(_each(_minus, u3, p4), _each(_plus, u3, p5), strict=True)
    return [[*left, *right] for left, right in (*above, *below)]


def _quarters(blocks: Grid) -> tuple[Grid, Grid, Grid, Grid]:
    half = len(blocks) // HALVES
    above, below = blocks[:half], blocks[half:]
    return (
        [row[:half] for row in above],
        [row[half:] for row in above],
        [row[:half] for row in below],
        [row[half:] for row in below],
    )


def _each(operation: Callable[[Any, Any], Any], a: Grid, b: Grid) -> list[list[Any]]:
    return [
        [operation(left, right) for left, right in zip(*rows, strict=True)]
        for rows in zip(a, b, strict=True)
    ]


def _plus(a: Any, b: Any) -> Any:
    return a + b


def _minus(a: Any, b: Any) -> Any:
    return a - b
