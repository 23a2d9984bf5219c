"""Transforms as stages, one per level of a ring; lanes hold independent transforms.

Stage ``<name>_<level>`` of the way there has the axes (lead, digits of the node, digit, inner,
part, tail), on the way back (lead, digits of the node, multiple, inner, part, tail). A node is the
path of digits from the whole ring down to a factor of it. Each element is one output of a
butterfly, chosen by its digit and part; schedules unroll these two, and equal parts of a
butterfly's outputs are then computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import te

from tvmconv.declare.roots import Complex, Ring, butterfly, chosen, times, times_conjugate

Expr = Any
Index = Sequence[Expr]
# (level, digits of the node, m) -> the m-th power of the node's root.
Powers = Callable[[int, Index, int], Complex]
# (lead, digits of the node, inner or position, part, tail) -> value.
NodeReader = Callable[[Index, Index, Expr, Expr, Index], Expr]
# (lead, digits or position, part, tail) -> value.
Reader = Callable[[Index, Any, Expr, Index], Expr]


def transform(
    ring: Ring,
    lead: tuple[int, ...],
    tail: tuple[int, ...],
    read: Reader,
    powers: Powers,
    name: str,
) -> Reader:
    """Samples by position to values by digits."""

    def sample(at: Index, node: Index, n: Expr, part: Expr, rest: Index) -> Expr:
        return read(at, n, part, rest)

    source: NodeReader = sample
    for level in range(len(ring.radices)):
        stage = _split(ring, level, lead, tail, source, powers, f"{name}_{level}")
        source = _read_node(stage)
    return lambda at, digits, part, rest: source(at, digits, 0, part, rest)


def _read_node(stage: te.Tensor) -> NodeReader:
    return lambda at, node, n, part, rest: stage[(*at, *node, n, part, *rest)]


def _split(
    ring: Ring,
    level: int,
    lead: tuple[int, ...],
    tail: tuple[int, ...],
    source: NodeReader,
    powers: Powers,
    name: str,
) -> te.Tensor:
    """Replace a polynomial by its remainders modulo the r factors of its ring."""
    radix, inner = ring.radices[level], ring.inner(level)
    cases = [(j, part) for j in range(radix) for part in range(2)]

    shape = (*lead, *ring.radices[:level], radix, inner, 2, *tail)

    def point(*index: Expr) -> Expr:
        at, node, (m, n, part), rest = _parts(index, len(lead), level, 3)
        if not ring.has_twiddles(level):
            return source(at, node, n + m * inner, part, rest)
        value = (source(at, node, n + m * inner, 0, rest), source(at, node, n + m * inner, 1, rest))
        turned = [value, *(times(value, powers(level, node, i)) for i in range(1, radix))]
        return chosen((m, part), cases, [turned[c][p] for c, p in cases])

    points = te.compute(shape, point, name=f"{name}_points")

    def value(*index: Expr) -> Expr:
        at, node, (j, n, part), rest = _parts(index, len(lead), level, 3)
        found = butterfly(_column(points, radix, (*at, *node), (n,), rest), 1)
        return chosen((j, part), cases, [found[c][p] for c, p in cases])

    return te.compute(shape, value, name=name)


def _column(
    points: te.Tensor, radix: int, before: Index, between: Index, rest: Index
) -> list[Complex]:
    return [
        (points[(*before, i, *between, 0, *rest)], points[(*before, i, *between, 1, *rest)])
        for i in range(radix)
    ]


def transform_back(
    ring: Ring,
    lead: tuple[int, ...],
    tail: tuple[int, ...],
    read: Reader,
    powers: Powers,
    name: str,
) -> Reader:
    """Values by digits to samples by position, times the number of points.

    A real ring's last stage has the axes (lead, part, multiple, inner, tail): samples in order.
    """
    if not ring.radices:
        return lambda at, position, part, rest: read(at, (), part, rest)

    def remainder(at: Index, node: Index, n: Expr, part: Expr, rest: Index) -> Expr:
        return read(at, node, part, rest)

    source: NodeReader = remainder
    for level in reversed(range(len(ring.radices))):
        stage = _join(ring, level, lead, tail, source, powers, f"{name}_{level}")
        source = _read_position(stage, ring.inner(level), ring.real and level == 0)
    return lambda at, position, part, rest: source(at, (), position, part, rest)


def _read_position(stage: te.Tensor, inner: int, part_first: bool) -> NodeReader:
    def read(at: Index, node: Index, n: Expr, part: Expr, rest: Index) -> Expr:
        if part_first:
            return stage[(*at, *node, part, n // inner, n % inner, *rest)]
        return stage[(*at, *node, n // inner, n % inner, part, *rest)]

    return read


def _join(
    ring: Ring,
    level: int,
    lead: tuple[int, ...],
    tail: tuple[int, ...],
    source: NodeReader,
    powers: Powers,
    name: str,
) -> te.Tensor:
    """The polynomial of given remainders, times r."""
    radix, inner = ring.radices[level], ring.inner(level)
    cases = [(m, part) for m in range(radix) for part in range(2)]
    part_first = ring.real and level == 0

    shape = (*lead, *ring.radices[:level], radix, inner, 2, *tail)

    def point(*index: Expr) -> Expr:
        at, node, (j, n, part), rest = _parts(index, len(lead), level, 3)
        return source(at, (*node, j), n, part, rest)

    points = te.compute(shape, point, name=f"{name}_points")

    def joined(*index: Expr) -> Expr:
        at, node, (m, n, part), rest = _parts(index, len(lead), level, 3)
        found = butterfly(_column(points, radix, (*at, *node), (n,), rest), -1)
        return chosen((m, part), cases, [found[c][p] for c, p in cases])

    still = te.compute(shape, joined, name=f"{name}_joined")

    def value(*index: Expr) -> Expr:
        at, node, axes, rest = _parts(index, len(lead), level, 3)
        part, m, n = axes if part_first else (axes[2], axes[0], axes[1])
        if not ring.has_twiddles(level):
            return still[(*at, *node, m, n, part, *rest)]
        value = (still[(*at, *node, m, n, 0, *rest)], still[(*at, *node, m, n, 1, *rest)])
        turned = [value]
        turned += [times_conjugate(value, powers(level, node, i)) for i in range(1, radix)]
        return chosen((m, part), cases, [turned[c][p] for c, p in cases])

    order = (2, radix, inner) if part_first else (radix, inner, 2)
    return te.compute((*lead, *ring.radices[:level], *order, *tail), value, name=name)


def _parts(index: Index, lead: int, nodes: int, own: int) -> tuple[Index, Index, Index, Index]:
    """Cut an index into lead, node, the stage's own axes, and tail."""
    first, second, third = lead, lead + nodes, lead + nodes + own
    return index[:first], index[first:second], index[second:third], index[third:]
