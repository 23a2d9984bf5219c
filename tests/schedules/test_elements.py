"""Broadcasts of neighbours become lanes of one load, and nothing is read that was not."""

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from tvmconv.lower.elements import share_elements

LANES = 4


def buffer(name: str) -> tirx.Buffer:
    return tirx.decl_buffer((64,), "float32", name=name)


def broadcast(source: tirx.Buffer, at: Any) -> Any:
    return tirx.Broadcast(tirx.BufferLoad(source, [at]), LANES)


def line(target: tirx.Buffer, values: Sequence[Any]) -> tirx.SeqStmt:
    stores = [
        tirx.BufferStore(target, value, [tirx.Ramp(LANES * i, 1, LANES)])
        for i, value in enumerate(values)
    ]
    return tirx.SeqStmt(stores)


def shared(target: tirx.Buffer, values: Sequence[Any], *others: tirx.Buffer) -> str:
    func = tirx.PrimFunc([target, *others], line(target, values))
    return str(share_elements(func).script())


def test_four_neighbours_share_a_load() -> None:
    x, y = buffer("x"), buffer("y")
    text = shared(y, [broadcast(x, i) for i in range(4)], x)
    assert text.count("x[T.Ramp(0, 1, 4)]") == 4
    assert "Broadcast" not in text


def test_order_and_repetition_do_not_matter() -> None:
    x, y = buffer("x"), buffer("y")
    text = shared(y, [broadcast(x, i) for i in (10, 8, 9, 11, 8)], x)
    assert text.count("x[T.Ramp(8, 1, 4)]") == 5


def test_six_are_four_and_two_and_a_rest_stays() -> None:
    x, y = buffer("x"), buffer("y")
    text = shared(y, [broadcast(x, i) for i in range(7)], x)
    assert text.count("x[T.Ramp(0, 1, 4)]") == 4
    assert text.count("x[T.Ramp(4, 1, 2)]") == 4  # twice per broadcast
    assert text.count("T.Broadcast(x[6], 4)") == 1


def test_gaps_are_not_read() -> None:
    x, y = buffer("x"), buffer("y")
    text = shared(y, [broadcast(x, i) for i in (0, 2, 4, 6)], x)
    assert text.count("T.Broadcast(x[") == 4


def test_buffers_are_told_apart() -> None:
    x, other, y = buffer("x"), buffer("other"), buffer("y")
    values = [broadcast(x if i % 2 else other, i) for i in range(4)]
    assert shared(y, values, x, other).count("T.Broadcast(") == 4


def test_what_the_line_writes_is_read_in_its_turn() -> None:
    y = buffer("y")
    text = shared(y, [broadcast(y, i) for i in range(4)])
    assert text.count("T.Broadcast(y[") == 4


def test_what_is_read_under_a_test_is_left_alone() -> None:
    """Its neighbours may lie outside of the tensor."""
    x, y = buffer("x"), buffer("y")
    test = tirx.LT(tirx.BufferLoad(y, [0]), tirx.const(0.0, "float32"))
    guarded = tirx.if_then_else(test, broadcast(x, 3), broadcast(x, 0))
    values = [*(broadcast(x, i) for i in range(3)), guarded]
    assert shared(y, values, x).count("T.Broadcast(x[") == 5
