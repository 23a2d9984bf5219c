"""Every check of tvmconv.validate for CUDA kernels, on the emulator and in three thread orders."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from tvmconv.cuda.code import DeviceCode
from tvmconv.elements import numpy_dtype
from tvmconv.errors import DeviceFault
from tvmconv.validate import Check, Report, judge, proof_cases, reproducer

from .calls import Call, Order, run_calls
from .program import build_program

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel
    from tvmconv.operands import Operands

Array = NDArray[Any]
# Kernels of one program: its compiler then takes seconds, and its tensors fit into memory.
CHUNK: Final = 16
# "repeat" has the inputs of "normal" and has to give its very bits, in another order.
PROOF_ORDERS: Final[Mapping[str, Order]] = {
    "integers": Order("forward"),
    "impulses": Order("reverse"),
    "borders": Order("random", 1),
    "normal": Order("forward"),
    "repeat": Order("random", 2),
    "nonfinite": Order("reverse"),
}


@dataclass(frozen=True)
class Subject:
    """A kernel, its device code, and what it is called with."""

    kernel: Kernel
    code: DeviceCode
    cases: Mapping[str, Operands]


def validate_kernels(
    kernels: Sequence[Kernel],
    *,
    seed: int = 0,
    step: Callable[[str], None] = lambda text: None,
) -> list[Report]:
    """Prove compiled CUDA kernels, all of one target.

    A fault is a failed check of the call that it happened in.

    Args:
        kernels: at least one.
        seed: of the inputs.
        step: hears the spec of each kernel when its turn comes.

    Raises:
        EnvironmentProblem: no C++ compiler.
        EmulationGap: a kernel has what the emulator does not model.
        BuildFailed: the C++ compiler refused a kernel's source.
    """
    reports: list[Report] = []
    for first in range(0, len(kernels), CHUNK):
        chunk = kernels[first : first + CHUNK]
        subjects = []
        for kernel in chunk:
            step(str(kernel.spec))
            code = kernel.built.device
            assert code is not None, f"{kernel.target.id} has no device code"
            subjects.append(Subject(kernel, code, proof_cases(kernel.spec, kernel.accuracy, seed)))
        reports += prove(subjects, seed)
    return reports


def prove(subjects: Sequence[Subject], seed: int) -> list[Report]:
    """Reports on kernels of one program, in their order."""
    calls = [
        _call(number, subject, name)
        for number, subject in enumerate(subjects)
        for name in subject.cases
    ]
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        path = Path(folder) / "kernels"
        arch = subjects[0].kernel.target.isa
        program = build_program([subject.code for subject in subjects], path, arch=arch)
        answers = iter(run_calls(program, calls))
    reports = []
    for subject in subjects:
        kernel, found = subject.kernel, {name: next(answers) for name in subject.cases}
        faults = {name: a for name, a in found.items() if isinstance(a, DeviceFault)}
        arrays = {name: a["y"] for name, a in found.items() if not isinstance(a, DeviceFault)}
        checks = tuple(
            Check(name, False, nan, 0.0, None, f"{name}: {fault.kind}: {fault}")
            for name, fault in faults.items()
        )
        if not faults:
            checks = judge(kernel.spec, kernel.accuracy, subject.cases, arrays)
        reports.append(Report(checks, reproducer(kernel, seed, emulate=True)))
    return reports


def _call(number: int, subject: Subject, name: str) -> Call:
    kernel, operands = subject.kernel, subject.cases[name]
    packed = kernel.pack(operands.weight, operands.bias, scale=operands.scale, shift=operands.shift)
    given = {"x": operands.x, "packed": packed, "residual": operands.residual,
             "offset": operands.offset, "mask": operands.mask}  # fmt: skip
    tensors = {key: np.asarray(value) for key, value in given.items() if value is not None}
    spec = kernel.spec
    outputs = {"y": (spec.out_shape, numpy_dtype(spec.dtype))}
    return Call(number, tensors, outputs, PROOF_ORDERS[name])
