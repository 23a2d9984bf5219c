"""Calls of device code in a program of the emulator: arrays in, arrays or a fault out."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from tvmconv.cuda.code import DeviceCode
from tvmconv.errors import ArgumentError, DeviceFault, ProgramFailed

from .program import Program, build_program
from .source import launch_fault

Array = NDArray[Any]
_MAGIC: Final = b"TVCCUDA1"
_ORDERS: Final = {"forward": 0, "reverse": 1, "random": 2}


@dataclass(frozen=True)
class Order:
    """The order in which the threads of a block and the blocks of a grid run.

    Attributes:
        name: "forward", "reverse", or "random": shuffled each time that threads could go on.
        seed: of "random".
    """

    name: Literal["forward", "reverse", "random"] = "forward"
    seed: int = 0


ORDERS: Final = (Order(), Order("reverse"), Order("random", 1))


@dataclass(frozen=True)
class Call:
    """One run of a code of a program.

    Attributes:
        code: which of the program's codes.
        tensors: what it reads, by the names of its launches' arguments; nothing may write there.
        outputs: what it writes, by name, with shape and element type.
        order: of the threads.
    """

    code: int
    tensors: Mapping[str, Array]
    outputs: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
    order: Order = ORDERS[0]


Answer = dict[str, Array] | DeviceFault


def emulate(
    code: DeviceCode,
    tensors: Mapping[str, Array],
    outputs: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
    *,
    order: Order = ORDERS[0],
    arch: str = "sm_90",
) -> dict[str, Array]:
    """Compile device code and run it once; see `Call` for the arguments.

    Raises:
        DeviceFault: a GPU would refuse what the code does, or its answer would be chance.
        EmulationGap: it has what the emulator does not model.
        EnvironmentProblem: no C++ compiler.
    """
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        program = build_program([code], Path(folder) / "program", arch=arch)
        answer = run_calls(program, [Call(0, tensors, outputs, order)])[0]
    if isinstance(answer, DeviceFault):
        raise answer
    return answer


def run_calls(
    program: Program, calls: Sequence[Call], *, timeout: float | None = None
) -> list[Answer]:
    """What became of `calls`, all made in one process, one after the other.

    Args:
        program: with the codes.
        calls: whatever is to be run; a fault of one does not touch the others.
        timeout: seconds until the process is ended; None for no limit.

    Raises:
        ArgumentError: a launch has an argument that is neither tensor, output nor workspace.
        ProgramFailed: the process ended badly, or not in time.
    """
    refused = {i: fault for i, call in enumerate(calls) if (fault := _refused(call, program))}
    made = [call for i, call in enumerate(calls) if i not in refused]
    answers = iter(_run(program, made, timeout))
    return [refused[i] if i in refused else next(answers) for i in range(len(calls))]


def _refused(call: Call, program: Program) -> DeviceFault | None:
    code = program.codes[call.code]
    faults = (launch_fault(launch, code.source) for launch in code.launches)
    return next((fault for fault in faults if fault is not None), None)


def _run(program: Program, calls: Sequence[Call], timeout: float | None) -> list[Answer]:
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        given, answers = Path(folder) / "calls.bin", Path(folder) / "answers.bin"
        with given.open("wb") as file:
            file.write(_MAGIC + struct.pack("=I", len(calls)))
            for call in calls:
                _write(file, call, program)
        try:
            done = subprocess.run(
                [str(program.path), str(given), str(answers)],
                capture_output=True, text=True, errors="replace", timeout=timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ProgramFailed(f"emulated kernels did not end within {timeout} s") from error
        if done.returncode != 0:
            raise ProgramFailed(f"the emulator ended with {done.returncode}: {done.stderr.strip()}")
        with answers.open("rb") as file:
            return [_read(file, call, program) for call in calls]


def _write(file: BinaryIO, call: Call, program: Program) -> None:
    code = program.codes[call.code]
    names = [*call.tensors, *call.outputs, *(name for name, _ in code.workspace)]
    narrow = any(t.itemsize == 1 for t in call.tensors.values())
    file.write(struct.pack("=5I", _ORDERS[call.order.name], call.order.seed, 0 if narrow else 1,
                           len(names), len(code.launches)))  # fmt: skip
    for name, tensor in call.tensors.items():
        data = np.ascontiguousarray(tensor).tobytes()
        _write_buffer(file, name, len(data), data, writable=False)
    for name, (shape, dtype) in call.outputs.items():
        _write_buffer(file, name, prod(shape) * dtype.itemsize, b"", writable=True)
    for name, size in code.workspace:
        _write_buffer(file, name, size, b"", writable=True)
    for launch in code.launches:
        unknown = sorted(set(launch.args) - set(names))
        if unknown:
            raise ArgumentError(f"arguments of {launch.kernel}", unknown, ", ".join(names))
        numbers = [names.index(name) for name in launch.args]
        file.write(struct.pack("=9I", program.kernels[call.code, launch.kernel], *launch.grid,
                               *launch.block, launch.shared_bytes, len(numbers)))  # fmt: skip
        file.write(struct.pack(f"={len(numbers)}I", *numbers))


def _write_buffer(file: BinaryIO, name: str, size: int, data: bytes, *, writable: bool) -> None:
    encoded = name.encode()
    file.write(struct.pack("=I", len(encoded)) + encoded)
    file.write(struct.pack("=QQI", size, len(data), writable))
    file.write(data)


def _read(file: BinaryIO, call: Call, program: Program) -> Answer:
    (length,) = struct.unpack("=I", file.read(4))
    if length:
        kind, _, text = file.read(length).decode().partition("\n")
        return DeviceFault(kind, _with_line(text, program))
    found = {}
    for name, (shape, dtype) in call.outputs.items():
        data = file.read(prod(shape) * dtype.itemsize)
        found[name] = np.frombuffer(data, dtype).reshape(shape).copy()
    for _, size in program.codes[call.code].workspace:
        file.seek(size, 1)
    return found


def _with_line(text: str, program: Program) -> str:
    """Put the line of the kernel in the place of addresses of the program."""
    text, found, addresses = text.partition(" @")
    tool = shutil.which("addr2line")
    if not found or tool is None:
        return text
    command = [tool, "-i", "-e", str(program.path), *addresses.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # The outermost one: inside may be functions that only wrap an instruction.
    lines = re.findall(r"source\d+\.cu:(\d+)", done.stdout)
    return f"{text}, line {lines[-1]}" if lines else text
