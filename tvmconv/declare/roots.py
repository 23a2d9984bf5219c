"""Fourier transforms as repeated remainders: rings, their roots, and butterflies as expressions.

A transform of M points evaluates a polynomial at the M roots of ``z^M = exp(2 pi i turn)``. Level
by level the polynomial is replaced by its remainders: with r a factor of M and S = M / r,

    z^M - exp(2 pi i turn)  =  product over j < r of  z^S - exp(2 pi i (turn + j) / r)
    a_j[n] = sum over m < r of a[m S + n] * root_j^m,   root_j = exp(2 pi i (turn + j) / r)

which is one butterfly of r points per n. The values end in digit-reversed order; the inverse walks
back, so nothing is ever reordered (Bernstein, "Multidigit multiplication for mathematicians",
2001). ``turn = 1/4`` makes a real signal of 2 M samples one complex one of M: modulo ``z^M - i``
the sample n + M is i times the sample n, and its conjugate half of the roots needs no computing.
The product is then negacyclic, which costs overlap-save nothing: outputs that wrap are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, factorial, pi, prod, sin
from typing import Any

from tvm import tirx

Expr = Any
Complex = tuple[Expr, Expr]
# Terms of the Taylor series of sine and cosine; up to pi / 2 the next one is below 1e-17.
TAYLOR_TERMS = 12


@dataclass(frozen=True)
class Ring:
    """A transform: its radices in the order of splitting, and whether a real signal is folded.

    ``radices == ()`` is the transform of one point, which does nothing.
    """

    radices: tuple[int, ...]
    real: bool

    @property
    def points(self) -> int:
        """Complex values, M."""
        return prod(self.radices)

    @property
    def samples(self) -> int:
        """Positions along the axis: 2 M real ones, or M complex ones."""
        return 2 * self.points if self.real else self.points

    def inner(self, level: int) -> int:
        """S of a level: values that one butterfly position walks over."""
        return prod(self.radices[level + 1 :])

    def has_twiddles(self, level: int) -> bool:
        """The first level of a cyclic ring has root 1."""
        return level > 0 or self.real

    def twiddle_shape(self, level: int) -> tuple[int, ...]:
        """Nodes of the level, powers 1 to r - 1, real and imaginary part."""
        return (*self.radices[:level], self.radices[level] - 1, 2)

    def twiddle(self, level: int, node: Sequence[Expr], power: Expr) -> tuple[Expr, int]:
        """``power * turn(node) / r`` as a fraction: numerator, denominator."""
        number: Expr = 1 if self.real else 0
        weight = 4
        for digit, radix in zip(node, self.radices[:level], strict=True):
            number = number + digit * weight
            weight *= radix
        return number * power, weight * self.radices[level]


def unit(number: Expr, whole: int) -> Complex:
    """``exp(2 pi i number / whole)`` in float64, from integers: right to the last bits."""
    quarter = (number * 4 // whole) % 4
    angle = (number * 4 % whole).astype("float64") * tirx.const(pi / 2 / whole, "float64")
    square = angle * angle

    def series(first: int) -> Expr:
        terms = [(-1) ** i / factorial(2 * i + first) for i in range(TAYLOR_TERMS)]
        total: Expr = tirx.const(terms[-1], "float64")
        for term in reversed(terms[:-1]):
            total = total * square + tirx.const(term, "float64")
        return total

    c, s = series(0), series(1) * angle
    zero = tirx.const(0.0, "float64")

    def turned(values: Sequence[Expr]) -> Expr:
        return chosen([quarter], [(i,) for i in range(4)], values)

    return turned([c, zero - s, zero - c, s]), turned([s, c, zero - s, zero - c])


def chosen(index: Sequence[Expr], cases: Sequence[Sequence[int]], values: Sequence[Expr]) -> Expr:
    """The value whose case is the index; folds to straight-line code where loops are unrolled."""
    chain = values[-1]
    for case, value in zip(reversed(cases[:-1]), reversed(values[:-1]), strict=True):
        tests = [i == j for i, j in zip(index, case, strict=True)]
        chain = tirx.Select(tirx.all(*tests), value, chain)
    return chain


def times(a: Complex, b: Complex) -> Complex:
    """``a b``."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def times_conjugate(a: Complex, b: Complex) -> Complex:
    """``a`` times the conjugate of ``b``."""
    return a[0] * b[0] + a[1] * b[1], a[1] * b[0] - a[0] * b[1]


def butterfly(a: Sequence[Complex], sign: int) -> list[Complex]:
    """``sum over m of a[m] exp(2 pi i sign j m / r)`` for all j, r = len(a)."""
    r = len(a)
    if r == 1:
        return list(a)
    if r % 2:
        return _odd(a, sign)
    even, odd = butterfly(a[0::2], sign), butterfly(a[1::2], sign)
    pairs = [
        _sum_and_difference(e, o, sign * j, r)
        for j, (e, o) in enumerate(zip(even, odd, strict=True))
    ]
    return [total for total, _ in pairs] + [difference for _, difference in pairs]


def _sum_and_difference(e: Complex, o: Complex, number: int, whole: int) -> tuple[Complex, Complex]:
    """``e + t o`` and ``e - t o`` for t = exp(2 pi i number / whole); quarter turns are free."""
    quarters, rest = divmod(4 * number % (4 * whole), whole)
    if 2 * rest == whole:
        o = (_scaled(o[0] - o[1], 0.5**0.5), _scaled(o[0] + o[1], 0.5**0.5))
    elif rest:
        angle = pi / 2 * rest / whole
        o = times(o, (_constant(cos(angle)), _constant(sin(angle))))
    plus, minus = (e[0] + o[0], e[1] + o[1]), (e[0] - o[0], e[1] - o[1])
    ahead, behind = (e[0] - o[1], e[1] + o[0]), (e[0] + o[1], e[1] - o[0])
    turned = (plus, ahead, minus, behind)
    return turned[quarters], turned[(quarters + 2) % 4]


def _odd(a: Sequence[Complex], sign: int) -> list[Complex]:
    """An odd number of points: a[m] and a[r - m] share their products."""
    r = len(a)
    half = range(1, (r + 1) // 2)
    sums = [(a[m][0] + a[r - m][0], a[m][1] + a[r - m][1]) for m in half]
    differences = [(a[m][0] - a[r - m][0], a[m][1] - a[r - m][1]) for m in half]
    total = a[0]
    for value in sums:
        total = (total[0] + value[0], total[1] + value[1])
    found: list[Complex] = [total] * r
    for j in half:
        plain, crossed = a[0], None
        for m, s, d in zip(half, sums, differences, strict=True):
            c, i = cos(2 * pi * j * m / r), sign * sin(2 * pi * j * m / r)
            plain = (plain[0] + _scaled(s[0], c), plain[1] + _scaled(s[1], c))
            own = (_scaled(d[1], i), _scaled(d[0], i))
            crossed = own if crossed is None else (crossed[0] + own[0], crossed[1] + own[1])
        assert crossed is not None
        found[j] = (plain[0] - crossed[0], plain[1] + crossed[1])
        found[r - j] = (plain[0] + crossed[0], plain[1] - crossed[1])
    return found


def _scaled(value: Expr, factor: float) -> Expr:
    return value * _constant(factor)


def _constant(value: float) -> Expr:
    return tirx.const(value, "float32")
