"""Calls of kernels in another process: tensors to a file, the program, answers from a file."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from tvmconv.errors import ProgramFailed

if TYPE_CHECKING:
    from tvmconv.emulate.runner import Runner
    from tvmconv.operands import Operands

Array = NDArray[Any]
_MAGIC: Final = b"TVCCALL1"
_ORDER: Final = ("weight", "bias", "scale", "shift", "x", "residual", "offset", "mask")
_HEADER: Final = struct.Struct(f"<Ii{len(_ORDER)}Q")
_RESULT: Final = struct.Struct("<ii")
_WRONG: Final = {1: "packed weights", 2: "y", 3: "packed weights and y"}


@dataclass(frozen=True)
class Call:
    """One call of a kernel of a program.

    Attributes:
        kernel: which of the program's kernels.
        operands: its tensors.
        shape: of y, in memory order.
        threads: threads to use.
    """

    kernel: int
    operands: Operands
    shape: tuple[int, ...]
    threads: int = 1


def run_calls(
    program: Path, runner: Runner, calls: Sequence[Call], *, timeout: float | None = None
) -> list[Array]:
    """The answers of `calls`, all made in one process.

    Raises:
        ProgramFailed: the program was ended by a signal or the time limit, the CPU lacks something,
            a kernel returned an error or wrote beyond its output.
        EnvironmentProblem: the program cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        given, answers = Path(folder) / "calls.bin", Path(folder) / "answers.bin"
        with given.open("wb") as file:
            file.write(_MAGIC)
            for call in calls:
                _write(file, call)
        done = runner.run(program, str(given), str(answers), timeout=timeout)
        if done.returncode != 0:
            raise ProgramFailed(f"{program.name} on {runner.label}: {done.stderr.strip()}")
        with answers.open("rb") as file:
            return [_read(file, call, done.stderr.strip()) for call in calls]


def _write(file: BinaryIO, call: Call) -> None:
    tensors = [getattr(call.operands, name) for name in _ORDER]
    sizes = [0 if tensor is None else tensor.size for tensor in tensors]
    file.write(_HEADER.pack(call.kernel, call.threads, *sizes))
    for tensor in tensors:
        if tensor is not None:
            file.write(np.ascontiguousarray(tensor, "<f4").tobytes())


def _read(file: BinaryIO, call: Call, said: str) -> Array:
    code, wrong = _RESULT.unpack(file.read(_RESULT.size))
    if code != 0:
        raise ProgramFailed(f"error {code}: {said}")
    if wrong:
        raise ProgramFailed(f"kernel {call.kernel} wrote beyond its {_WRONG[wrong]}")
    size = prod(call.shape)
    values = np.frombuffer(file.read(4 * size), "<f4")
    return values.astype(np.float32).reshape(call.shape)
