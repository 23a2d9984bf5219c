"""Winograd's minimal filtering F(m, r): matrices from exact fractions, as sparse linear forms.

m outputs of an r-tap filter take alpha = m + r - 1 products instead of m * r:

    y = A^T [(G g) * (B^T d)]        d: alpha inputs, g: r taps, y: m outputs

The matrices are those of Toom and Cook: the product of two polynomials from its values at alpha - 1
points and at infinity, transposed (Winograd 1980; Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016). The points decide the rounding error. Those below had
the smallest among multiples of 1/8 up to 3 (root mean square over random 2-D tiles of 32 channels);
such points keep A and B exact in binary, and opposite ones let rows share their even and odd
halves. G holds the divisions, and is applied once, at pack time, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property
from typing import Any

Matrix = tuple[tuple[Fraction, ...], ...]


def _opposite(*points: Fraction) -> tuple[Fraction, ...]:
    """Each point and its negative, side by side."""
    return tuple(signed for p in points for signed in (p, -p))


# Finite points by alpha; infinity is always the last one.
ZERO = (Fraction(0),)
POINTS: dict[int, tuple[Fraction, ...]] = {
    1: (),
    2: ZERO,
    3: (Fraction(0), Fraction(1)),
    4: ZERO + _opposite(Fraction(1)),
    5: _opposite(Fraction(3, 8), Fraction(11, 8)),
    6: ZERO + _opposite(Fraction(5, 8), Fraction(3, 2)),
    7: _opposite(Fraction(3, 8), Fraction(7, 8), Fraction(15, 8)),
    8: ZERO + _opposite(Fraction(1, 2), Fraction(1), Fraction(2)),
    9: _opposite(Fraction(1, 4), Fraction(5, 8), Fraction(9, 8), Fraction(2)),
}


@dataclass(frozen=True)
class Filtering:
    """F(m, r) with its three matrices.

    ``output`` is A^T (m by alpha), ``weight`` is G (alpha by r), ``input`` is B^T (alpha square).
    """

    m: int
    r: int
    output: Matrix
    weight: Matrix
    input: Matrix

    @property
    def alpha(self) -> int:
        """Products, and inputs of a tile."""
        return self.m + self.r - 1

    @cached_property
    def input_ops(self) -> int:
        """Vector operations of one input transform; halves that two rows share count once."""
        rows = _shared_rows(self.input)
        halves = {tuple(half) for even, odd, _ in rows for half in (even, odd) if half}
        return sum(map(len, halves)) + sum(1 for even, odd, _ in rows if even and odd) - len(rows)

    @cached_property
    def output_ops(self) -> int:
        """Vector operations of one output transform; sums that rows share count once."""
        rows = _shared_columns(self.output)
        shared = {(i, j, sign) for row in rows for i, j, sign, _ in row if sign}
        return len(shared) + sum(map(len, rows)) - len(rows)

    def transform_input(self, d: Sequence[Any]) -> list[Any]:
        """B^T d as expressions; rows of opposite points are even + odd and even - odd."""
        return [
            _add(_sum(even, d), sign, _sum(odd, d)) for even, odd, sign in _shared_rows(self.input)
        ]

    def transform_output(self, products: Sequence[Any]) -> list[Any]:
        """A^T products as expressions; products of opposite points are first added, subtracted."""
        results = []
        for row in _shared_columns(self.output):
            values = [
                _add(products[i], sign, products[j] if sign else None) for i, j, sign, _ in row
            ]
            results.append(_sum([(k, term[3]) for k, term in enumerate(row)], values))
        return results


@cache
def filtering(m: int, r: int) -> Filtering:
    """F(m, r) for alpha = m + r - 1 up to nine."""
    points = POINTS[m + r - 1]
    size = m + r - 1
    zeros = [[Fraction(0)] * size for _ in range(size)]
    output = [row[:] for row in zeros[:m]]
    weight = [[Fraction(0)] * r for _ in range(size)]
    inputs = [row[:] for row in zeros]
    for j, p in enumerate(points):
        others = [q for i, q in enumerate(points) if i != j]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        for i in range(m):
            output[i][j] = p**i
        for k in range(r):
            weight[j][k] = p**k / scale
        for i, c in enumerate(_from_roots(others)):
            inputs[j][i] = c
    output[m - 1][size - 1] = Fraction(1)
    weight[size - 1][r - 1] = Fraction(1)
    for i, c in enumerate(_from_roots(points)):
        inputs[size - 1][i] = c
    return Filtering(m, r, _frozen(output), _frozen(weight), _frozen(inputs))


def _from_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Coefficients of the product of (x - root), lowest first."""
    coefficients = [Fraction(1)]
    for root in roots:
        raised = [Fraction(0), *coefficients]
        for i, c in enumerate(coefficients):
            raised[i] -= root * c
        coefficients = raised
    return coefficients


def _frozen(rows: list[list[Fraction]]) -> Matrix:
    return tuple(tuple(row) for row in rows)


Terms = list[tuple[int, Fraction]]


def _sum(terms: Terms, values: Sequence[Any]) -> Any:
    """C * v + ..., a unit coefficient first so that all other terms are multiply-adds."""
    total = None
    for k, c in sorted(terms, key=lambda term: abs(term[1]) != 1):
        if total is None:
            total = values[k] if c == 1 else values[k] * float(c)
        elif abs(c) == 1:
            total = _add(total, int(c), values[k])
        else:
            total = total + values[k] * float(c)
    return total


def _add(a: Any, sign: int, b: Any) -> Any:
    """A + sign * b, where either may be missing."""
    if b is None:
        return a
    if a is None:
        return b if sign > 0 else b * -1.0
    return a + b if sign > 0 else a - b


def _shared_rows(matrix: Matrix) -> list[tuple[Terms, Terms, int]]:
    """Each row as halves (a, b, sign), meaning a + sign * b; opposite points share both halves."""
    found: list[tuple[Terms, Terms, int]] = []
    for row in matrix:
        even = [(k, c) for k, c in enumerate(row) if c and k % 2 == 0]
        odd = [(k, c) for k, c in enumerate(row) if c and k % 2]
        before = found[-1] if found else ([], [], 1)
        if before == (even, _negated(odd), 1):
            found.append((even, before[1], -1))
        elif before == (_negated(even), odd, 1):
            found.append((odd, before[0], -1))
        else:
            found.append((even, odd, 1))
    return found


def _negated(terms: Terms) -> Terms:
    return [(k, -c) for k, c in terms]


def _shared_columns(matrix: Matrix) -> list[list[tuple[int, int, int, Fraction]]]:
    """Each row as terms (i, j, sign, c), meaning c * (v[i] + sign * v[j]); sign 0: c * v[i]."""
    columns = list(zip(*matrix, strict=True))
    rows: list[list[tuple[int, int, int, Fraction]]] = [[] for _ in matrix]
    k = 0
    while k < len(columns):
        paired = k + 1 < len(columns) and list(map(abs, columns[k])) == list(
            map(abs, columns[k + 1])
        )
        for terms, row in zip(rows, matrix, strict=True):
            if row[k]:
                sign = (1 if row[k] == row[k + 1] else -1) if paired else 0
                terms.append((k, k + 1 if paired else k, sign, row[k]))
        k += 2 if paired else 1
    return rows
