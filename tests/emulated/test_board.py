"""The board that scripts/make_board.py makes is an aarch64 machine with a working Python."""

from pathlib import Path

import pytest

from tests.emulated.board import board_python

pytestmark = pytest.mark.emulated


def test_board_is_of_another_machine(plain_board: Path) -> None:
    done = board_python(plain_board, "import platform; print(platform.machine())")
    assert done.stdout.split() == ["aarch64"], done.stderr


def test_board_computes_with_numpy(plain_board: Path) -> None:
    code = "import numpy as np; print(np.arange(5, dtype='f4') @ np.arange(5, dtype='f4'))"
    done = board_python(plain_board, code)
    assert done.stdout.split() == ["30.0"], done.stderr
