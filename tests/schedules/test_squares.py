"""Squares of values are transposed in registers, whatever the width of a vector."""

from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.lower.squares import SQUARES, turn_squares

# Values of a row that exist; the others are padding, and nothing of them may be read.
KEPT = 13
PAD = -7.0


def transposition(
    rows: int, columns: int, lanes: int, tested: bool = False, across: int = 1, room: int = 0
) -> tirx.PrimFunc:
    """``y[column][row] = x[row][column]``; with tests ``column < KEPT``, or else PAD."""
    stored = KEPT if tested else columns
    x = tirx.decl_buffer((rows, stored), "float32", name="x")
    strides = [room, 1] if room else None
    y = tirx.decl_buffer((columns, rows * across), "float32", name="y", strides=strides)
    row, column = (tirx.Var(name, "int32") for name in ("row", "column"))
    value: Any = tirx.BufferLoad(x, [row, column])
    if tested:
        value = tirx.if_then_else(column < KEPT, value, tirx.const(PAD, "float32"))
    store = tirx.BufferStore(y, value, [column, row * across])
    inner = tirx.For(column, 0, columns, tirx.ForKind.SERIAL, store)
    marks = {SQUARES: lanes}
    body = tirx.For(row, 0, rows, tirx.ForKind.SERIAL, inner, None, marks)
    return tirx.PrimFunc([x, y], body).with_attr("global_symbol", "turn")


def run(func: tirx.PrimFunc, x: np.ndarray, shape: tuple[int, int], room: int = 0) -> np.ndarray:
    """The result; with columns ``room`` values apart, spare ones as well."""
    whole = np.full((shape[0], room or shape[1]), np.nan, np.float32)
    # As in tvmconv's own pipeline: TVM fails on a repeated mask of constants.
    with tvm.transform.PassContext(config={"tirx.disable_cse_tir": True}):
        compiled = tvm.compile(tvm.IRModule({"turn": func}), target="llvm")
    compiled["turn"](tvm.runtime.tensor(x), tvm_ffi.from_dlpack(whole[:, : shape[1]]))
    return whole


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (16, 32), (32, 16)])
def test_every_value_lands_where_it_belongs(lanes: int, rows: int, columns: int) -> None:
    turned = turn_squares(transposition(rows, columns, lanes))
    assert turned is not None
    x = np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
    np.testing.assert_array_equal(run(turned, x, (columns, rows)), x.T)


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("rows", [5, 14, 20])
def test_spare_columns_are_filled_where_there_is_room(lanes: int, rows: int) -> None:
    room = -(-rows // lanes) * lanes
    turned = turn_squares(transposition(rows, 16, lanes, room=room))
    assert turned is not None
    assert "T.Shuffle(" in turned.script()
    x = np.random.default_rng(0).standard_normal((rows, 16), dtype=np.float32)
    whole = run(turned, x, (16, rows), room)
    np.testing.assert_array_equal(whole[:, :rows], x.T)
    np.testing.assert_array_equal(whole[:, rows:], 0)


@pytest.mark.parametrize(("lanes", "stages"), [(4, 2), (8, 3), (16, 4)])
def test_a_vector_is_shuffled_once_per_doubling(lanes: int, stages: int) -> None:
    turned = turn_squares(transposition(lanes, lanes, lanes))
    assert turned is not None
    text = turned.script()
    assert text.count("T.Shuffle(") == stages * lanes
    assert text.count("y[") == lanes


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_tests_become_masks(lanes: int) -> None:
    turned = turn_squares(transposition(16, 16, lanes, tested=True))
    assert turned is not None
    # Rows lie close together: a read past one's end would be the next one's values.
    x = np.random.default_rng(0).standard_normal((16, KEPT), dtype=np.float32)
    expected = np.full((16, 16), PAD, np.float32)
    expected[:, :KEPT] = x
    np.testing.assert_array_equal(run(turned, x, (16, 16)), expected.T)
    assert "masked_load" in turned.script()


@pytest.mark.parametrize(
    "func",
    [
        pytest.param(transposition(12, 16, 16), id="too few rows"),
        pytest.param(transposition(16, 24, 16), id="columns left over"),
        pytest.param(transposition(16, 16, 16, across=2), id="rows apart in the destination"),
    ],
)
def test_other_shapes_stay_loops(func: tirx.PrimFunc) -> None:
    turned = turn_squares(func)
    assert turned is not None
    assert "T.Shuffle(" not in turned.script()
    assert SQUARES not in turned.script()


def test_functions_without_squares_stay() -> None:
    x = tirx.decl_buffer((4,), "float32", name="x")
    body = tirx.BufferStore(x, tirx.const(0.0, "float32"), [0])
    assert turn_squares(tirx.PrimFunc([x], body)) is None
