"""What a program on a board says, and what becomes of it when half of it arrived."""

import struct
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tvmconv.tuning.batch import (
    ANSWER,
    BEGUN,
    END,
    FAILED,
    MACHINE,
    REFUSED,
    SAME,
    TIMED_OUT,
    TIMES,
    frames,
    outcomes_of,
)

Y = np.array([1.0, 2.0], "<f4")


def frame(kind: int, candidate: int, value: int = 0, content: bytes = b"") -> bytes:
    return struct.pack("<4siiiQ", b"TVCR", kind, candidate, value, len(content)) + content


def timed(candidate: int, *pairs: tuple[float, float], y: NDArray[Any] = Y) -> bytes:
    content = np.array(pairs, "<f8").tobytes()
    answer = frame(ANSWER, candidate, 0, y.tobytes())
    return frame(BEGUN, candidate) + answer + frame(TIMES, candidate, len(pairs), content)


def judge(number: int, y: NDArray[Any]) -> tuple[str | None, float]:
    right = np.array_equal(y, Y)
    return (None, 0.25) if right else (f"answer {number} is wrong", 9.0)


GOOD = timed(0, (2e-3, 1e-3), (1e-3, 1e-3))


def test_frames_come_back_whole_or_not_at_all() -> None:
    data = b"Welcome to the board!\n" + frame(MACHINE, 0, 0, b"machine x") + GOOD
    whole = list(frames(data))
    assert [f.kind for f in whole] == [MACHINE, BEGUN, ANSWER, TIMES]
    assert whole[0].content == b"machine x"
    for length in range(len(data)):
        some = list(frames(data[:length]))
        assert some == whole[: len(some)]
    assert list(frames(b"nothing of ours")) == []


def test_times_count_on_the_clock_of_the_thread() -> None:
    (outcome,), begun = outcomes_of(list(frames(GOOD)), 1, 1, judge)
    assert outcome.ok
    assert not begun
    assert outcome.seconds == (1e-3, 1e-3)
    assert outcome.wall == (2e-3, 1e-3)
    assert (outcome.preempted, outcome.error) == (0.5, 0.25)
    (outcome,), _ = outcomes_of(list(frames(GOOD)), 1, 2, judge)
    assert outcome.seconds == (2e-3, 1e-3)


def test_an_answer_that_was_sent_before_is_judged_again() -> None:
    same = frame(BEGUN, 1) + frame(SAME, 1, 0)
    data = GOOD + same + frame(TIMES, 1, 1, np.array([1e-3, 1e-3]).tobytes())
    outcomes, _ = outcomes_of(list(frames(data)), 2, 1, judge)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]


def test_wrong_answers_and_wrong_writes() -> None:
    wrong = timed(0, (1e-3, 1e-3), y=Y + 1)
    beyond = frame(BEGUN, 1) + frame(ANSWER, 1, 2, Y.tobytes())
    data = wrong + beyond + frame(TIMES, 1, 1, np.array([1e-3, 1e-3]).tobytes())
    outcomes, _ = outcomes_of(list(frames(data)), 2, 1, judge)
    assert [outcome.status for outcome in outcomes] == ["wrong_answer"] * 2
    assert outcomes[0].message == "answer 0 is wrong"
    assert "outside its result" in outcomes[1].message
    assert not any(outcome.seconds for outcome in outcomes)


@pytest.mark.parametrize(
    ("value", "content", "status", "message"),
    [
        (11, b"", "crashed", "SIGSEGV"),
        (0, b"", "crashed", "ended by itself"),
        (TIMED_OUT, b"", "timed_out", "no result in time"),
        (REFUSED, b"no memory", "crashed", "the kernel returned an error: no memory"),
    ],
)
def test_failures(value: int, content: bytes, status: str, message: str) -> None:
    data = frame(BEGUN, 0) + frame(FAILED, 0, value, content) + frame(END, 0)
    (outcome,), _ = outcomes_of(list(frames(data)), 1, 1, judge)
    assert (outcome.status, outcome.message) == (status, message)


def test_the_rest_of_a_broken_batch_is_left_out() -> None:
    for data, done, expected in (
        (b"", 0, False),
        (frame(BEGUN, 0), 0, True),
        (GOOD, 1, False),
        (GOOD + frame(BEGUN, 1) + frame(ANSWER, 1, 0, Y.tobytes()), 1, True),
    ):
        outcomes, begun = outcomes_of(list(frames(data)), 3, 1, judge)
        assert (len(outcomes), begun) == (done, expected)
