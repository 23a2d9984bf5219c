"""Tests that a loop's bounds answer are dropped; others stay."""

from typing import Any

import pytest
import tvm_ffi
from tvm import tirx

from tvmconv.lower.certain import without_certain_tests

SQUARE = 16
COLUMNS = 49
Expr = Any


def ragged(limit: int, step: int = 1, other: Expr = None) -> tirx.PrimFunc:
    """``for s in 4: for i in columns of s: if column < limit: y[column] = 1``.

    Square s has the columns from 16 s to 16 s + 15, of 49 the last has one.
    """
    y = tirx.decl_buffer((64 * step,), "float32", name="y")
    s, i = (tirx.Var(name, "int32") for name in "si")
    low = tirx.min(s * SQUARE, COLUMNS - 1)
    high = tirx.min(s * SQUARE + SQUARE - 1, COLUMNS - 1)
    column = low + i * step
    store = tirx.BufferStore(y, tirx.const(1.0, "float32"), [column])
    test = column < limit if other is None else tirx.And(column < limit, other(i))
    guarded = tirx.IfThenElse(test, store, None)
    inner = tirx.For(i, 0, tirx.max(high, low) + 1 - low, tirx.ForKind.SERIAL, guarded)
    return tirx.PrimFunc([y], tirx.For(s, 0, 4, tirx.ForKind.SERIAL, inner))


def guards(func: tirx.PrimFunc) -> list[str]:
    found: list[str] = []
    tvm_ffi.structural_walk(
        func.body, (tirx.IfThenElse, lambda node: found.append(str(node.condition)))
    )
    return found


def test_what_the_last_trip_passes_is_dropped() -> None:
    assert guards(ragged(COLUMNS)) != []
    assert guards(without_certain_tests(ragged(COLUMNS))) == []


@pytest.mark.parametrize(("limit", "step"), [(COLUMNS - 1, 1), (COLUMNS, 2)])
def test_what_the_last_trip_fails_stays(limit: int, step: int) -> None:
    func = ragged(limit, step)
    assert guards(without_certain_tests(func)) == guards(func)


def test_of_two_tests_the_other_stays() -> None:
    (left,) = guards(without_certain_tests(ragged(COLUMNS, other=lambda i: i < 7)))
    assert "7" in left
    assert str(COLUMNS) not in left


def test_what_neither_rises_nor_falls_stays() -> None:
    """``i % 16 < 1`` holds in the first trip, and in the last of the last square."""
    func = ragged(COLUMNS, other=lambda i: tirx.floormod(i, 16) < 1)
    (left,) = guards(without_certain_tests(func))
    assert "16" in left
