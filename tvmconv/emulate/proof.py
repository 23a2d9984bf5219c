"""Every check of tvmconv.validate for kernels that run in another process, many at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from numpy.typing import NDArray

from tvmconv.validate import Report, judge, proof_cases, reproducer

from .calls import Call, run_calls
from .program import build_program
from .runner import Runner, find_runner

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel
    from tvmconv.operands import Operands
    from tvmconv.spec import ConvSpec

Array = NDArray[Any]
# Tensors of one process; they are in memory here and there at once.
CHUNK_BYTES: Final = 128 << 20


@dataclass(frozen=True)
class Subject:
    """One kernel to be proven.

    Attributes:
        spec: what it has to compute.
        accuracy: whose bound its answers have to keep.
        threads: of its calls; "repeat" takes one more, which may not change a bit.
        reproducer: the command line that repeats the proof.
    """

    spec: ConvSpec
    accuracy: str
    threads: int
    reproducer: str


def validate_kernels(
    kernels: Sequence[Kernel],
    *,
    seed: int = 0,
    runner: Runner | None = None,
    step: Callable[[str], None] = lambda text: None,
) -> list[Report]:
    """Prove compiled kernels, all of one target, in one program; CUDA's as cuda/proof.py does.

    Args:
        kernels: at least one.
        seed: of the inputs.
        runner: how programs of their target run here; default: ``find_runner``.
        step: hears the spec of each kernel when its turn comes.

    Raises:
        EnvironmentProblem: no emulator, or no compiler for the target.
        ProgramFailed: the program ended badly.
    """
    target = kernels[0].target
    if target.gpu is not None:
        from .cuda import proof

        return proof.validate_kernels(kernels, seed=seed, step=step)
    chosen = runner or find_runner(target)
    subjects = [
        Subject(k.spec, k.accuracy, k.threads, reproducer(k, seed, emulate=True)) for k in kernels
    ]
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        path, static = Path(folder) / "kernels", not chosen.dynamic
        program = build_program(kernels, path, target, static=static)
        return list(prove(subjects, program, chosen, seed, step))


def prove(
    subjects: Sequence[Subject],
    program: Path,
    runner: Runner,
    seed: int,
    step: Callable[[str], None] = lambda text: None,
) -> Iterator[Report]:
    """Reports on the kernels of a program, in its order."""
    waiting: list[tuple[Subject, Mapping[str, Operands]]] = []
    first = size = 0
    for i, subject in enumerate(subjects):
        step(str(subject.spec))
        waiting.append((subject, proof_cases(subject.spec, subject.accuracy, seed)))
        size += sum(map(_bytes, waiting[-1][1].values()))
        if size >= CHUNK_BYTES or i == len(subjects) - 1:
            yield from _prove_some(waiting, first, program, runner)
            first, size, waiting = i + 1, 0, []


def _prove_some(
    waiting: Sequence[tuple[Subject, Mapping[str, Operands]]],
    first: int,
    program: Path,
    runner: Runner,
) -> Iterator[Report]:
    calls = [
        Call(first + i, operands, subject.spec.out_shape, subject.threads + (name == "repeat"))
        for i, (subject, cases) in enumerate(waiting)
        for name, operands in cases.items()
    ]
    answers = iter(run_calls(program, runner, calls))
    for subject, cases in waiting:
        found = {name: next(answers) for name in cases}
        checks = judge(subject.spec, subject.accuracy, cases, found)
        yield Report(checks, subject.reproducer)


def _bytes(operands: Operands) -> int:
    tensors = [getattr(operands, field.name) for field in fields(operands)]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
