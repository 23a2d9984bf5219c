"""Programs that check and time a batch of candidates on a device that has nothing but its kernel.

The candidates' objects, the runtime and batch.c are linked into one static program. It writes
frames to stdout, which become outcomes here; answers are compared here, like local ones.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from tvmconv.compilers import Compiler, run
from tvmconv.runtime.sources import SOURCE_DIR, feature_mask
from tvmconv.toolchain import CFLAGS, runtime_objects
from tvmconv.tuning.answers import read_operands
from tvmconv.tuning.artifact import SYMBOL
from tvmconv.tuning.candidate import CONVENTION
from tvmconv.tuning.measure import (
    CPU_SAMPLES,
    HOPELESS,
    MAX_CALLS,
    SAMPLE_SECONDS,
    WALL_SAMPLES,
    Outcome,
)
from tvmconv.tuning.processes import signal_name
from tvmconv.tuning.runner import NUMBERS, outcome_of

if TYPE_CHECKING:
    from tvmconv.target import Target
    from tvmconv.tuning.artifact import Artifact
    from tvmconv.tuning.runner import Request

Array = NDArray[Any]
SOURCES: Final = ("batch.c", "probe.c")
HERE: Final = Path(__file__).parent
# Work before the first sample of a program, so that a governor which raises the clock on demand
# has done so; Linux's `ondemand` looks every 10 to 100 ms.
WARM_SECONDS: Final = 0.2
# Candidates of a program, as in batch.c.
MOST: Final = 64
MAGIC: Final = b"TVCR"
MACHINE, BEGUN, ANSWER, SAME, TIMES, FAILED, END = range(1, 8)
TIMED_OUT, REFUSED = -1, -2
_FRAME: Final = struct.Struct("<4siiiQ")
_WRONG: Final = "it wrote outside its result or its packed weights"


@dataclass(frozen=True)
class Programs:
    """Links programs for a target; made by ``make_programs``.

    Attributes:
        target: whose programs.
        compiler: of static programs.
        parts: objects that every program takes.
        probe: a program without candidates, which only says where it runs.
    """

    target: Target
    compiler: Compiler
    parts: tuple[Path, ...]
    probe: Path

    def link(self, artifacts: Sequence[Artifact], y_elems: int, out: Path) -> Path:
        """Link candidates into the program `out`.

        Args:
            artifacts: objects of candidates of one task.
            y_elems: float32 values of their result.
            out: where the program goes; what it is made of lies beside it until the next one.

        Raises:
            BuildFailed: the linker refused.
        """
        objects: list[Path] = []
        for number, artifact in enumerate(artifacts):
            for path in filter(None, (artifact.path, artifact.pack_path)):
                objects.append(out.parent / f"{len(objects)}.o")
                objects[-1].write_bytes(_renamed(Path(path).read_bytes(), number))
        table = out.parent / "table.c"
        table.write_text(_table(artifacts, y_elems, self.target), encoding="utf-8")
        inputs = map(str, [table, *objects, *self.parts])
        run([*self.compiler.command, *CFLAGS, f"-I{SOURCE_DIR}", f"-I{HERE}", *inputs, "-s",
             "-lpthread", "-lm", "-o", str(out)])  # fmt: skip
        return out


def make_programs(folder: Path, target: Target, compiler: Compiler) -> Programs:
    """Compile what every program takes, into a folder. zig makes its C library first, once.

    Raises:
        BuildFailed: the compiler refused.
    """
    parts = []
    for name in SOURCES:
        parts.append(folder / f"{Path(name).stem}.o")
        run([*compiler.command, *CFLAGS, f"-I{SOURCE_DIR}", "-c", str(HERE / name),
             "-o", str(parts[-1])])  # fmt: skip
    made = Programs(target, compiler, (*parts, *runtime_objects(compiler)), folder / "probe")
    made.link((), 1, made.probe)
    return made


def _symbol(number: int) -> str:
    """As long as SYMBOL, so that it can take its place in an object."""
    return f"c{number:0{len(SYMBOL) - 1}d}"


def _renamed(data: bytes, number: int) -> bytes:
    """An object with functions of a name of its own: all candidates have the same."""
    return data.replace(f"__tvm_ffi_{SYMBOL}_".encode(), f"__tvm_ffi_{_symbol(number)}_".encode())


def _table(artifacts: Sequence[Artifact], y_elems: int, target: Target) -> str:
    """C text of batch.h's table."""
    lines = ['#include "batch.h"', "TVMCONV_DEFINE_HOOKS", ""]
    rows = []
    for number, artifact in enumerate(artifacts):
        entries = []
        for kind, args in (("run", artifact.run_args), ("pack", artifact.pack_args)):
            name = f"__tvm_ffi_{_symbol(number)}_{kind}" if args else "NULL"
            entries.append(name)
            if args:
                lines.append(f"int32_t {name}{CONVENTION};")
        run_args, pack_args = (
            "{" + ", ".join(str(NUMBERS[name]) for name in args or ("y",)) + "}"
            for args in (artifact.run_args, artifact.pack_args)
        )
        counts = f"{len(artifact.run_args)}, {len(artifact.pack_args)}"
        rows.append(f"  {{{', '.join(entries)}, {counts}, {run_args}, {pack_args}, "
                    f"{max(1, artifact.packed_elems)}}},")  # fmt: skip
    rules = f"{CPU_SAMPLES}, {WALL_SAMPLES}, {MAX_CALLS}, {SAMPLE_SECONDS}, {HOPELESS}"
    return "\n".join([
        *lines,
        "const batch_candidate batch_candidates[] = {",
        *(rows or ["  {0}"]),
        "};",
        f"const int32_t batch_count = {len(artifacts)};",
        f"const uint64_t batch_y = {y_elems};",
        f"const uint64_t batch_cpu = UINT64_C({feature_mask(target.cpu_features)});",
        f"const uint32_t batch_core = {target.core};",
        f"const batch_protocol batch_rules = {{{rules}, {WARM_SECONDS}}};",
        "",
    ])  # fmt: skip


def write_operands(answers: Path, out: Path) -> None:
    """Write the tensors of a spec as batch.c reads them."""
    tensors = {NUMBERS[name]: array for name, array in read_operands(answers).items()}
    sizes = [tensors[n].size if n in tensors else 0 for n in range(1, len(NUMBERS) + 1)]
    with out.open("wb") as file:
        file.write((b"TVCOPER1" + struct.pack(f"<{len(sizes)}Q", *sizes)).ljust(128, b"\0"))
        for number in sorted(tensors):
            data = np.ascontiguousarray(tensors[number], "<f4").tobytes()
            file.write(data.ljust(-len(data) % 64 + len(data), b"\0"))


def arguments(operands: str, request: Request) -> list[str]:
    """What a program is told for a request."""
    turns = [",".join(map(str, request.turns))] if request.rounds else []
    return [operands, str(request.threads), f"{request.timeout:g}", f"{request.best:g}", *turns]


@dataclass(frozen=True)
class Frame:
    """One message of a program; batch.c has the kinds."""

    kind: int
    candidate: int
    value: int
    content: bytes


def frames(data: bytes) -> Iterator[Frame]:
    """The whole frames in what a program wrote; before the first may be what a shell said."""
    at = data.find(MAGIC)
    while 0 <= at <= len(data) - _FRAME.size:
        magic, kind, candidate, value, size = _FRAME.unpack_from(data, at)
        content = data[at + _FRAME.size : at + _FRAME.size + size]
        if magic != MAGIC or len(content) < size:
            return
        yield Frame(kind, candidate, value, content)
        at += _FRAME.size + size


# What is wrong with an answer, or None; and its error: answers.compare with what is expected.
Judge = Callable[[int, Array], tuple[str | None, float]]


def outcomes_of(
    told: Sequence[Frame], count: int, threads: int, judge: Judge
) -> tuple[list[Outcome], bool]:
    """The outcomes of a batch's first candidates, and whether the next was begun.

    Args:
        told: frames of the program.
        count: how many candidates it has.
        threads: of their calls.
        judge: compares a candidate's answer.
    """
    of_kind = {kind: {f.candidate: f for f in told if f.kind == kind} for kind in range(8)}
    outcomes: list[Outcome] = []
    for number in range(count):
        if failed := of_kind[FAILED].get(number):
            outcomes.append(_failure(failed))
        elif times := of_kind[TIMES].get(number):
            first = of_kind[SAME][number].value if number in of_kind[SAME] else number
            answer = of_kind[ANSWER][first]
            reason, error = judge(number, np.frombuffer(answer.content, "<f4"))
            reason = _WRONG if reason is None and answer.value else reason
            if reason is not None:
                outcomes.append(Outcome("wrong_answer", reason, error=error))
            else:
                pairs = [tuple(map(float, p)) for p in np.frombuffer(times.content).reshape(-1, 2)]
                outcomes.append(outcome_of([(wall, cpu) for wall, cpu in pairs], error, threads))
        else:
            return outcomes, number in of_kind[BEGUN]
    return outcomes, False


def _failure(failed: Frame) -> Outcome:
    if failed.value == TIMED_OUT:
        return Outcome("timed_out", "no result in time")
    if failed.value == REFUSED:
        return Outcome("crashed", f"the kernel returned an error: {failed.content.decode()}")
    how = signal_name(-failed.value) if failed.value else "ended by itself"
    return Outcome("crashed", how)


def judge_of(folder: Path, artifacts: Sequence[Artifact]) -> Judge:
    """Compares answers with what answers.write_answer wrote into a folder."""
    from tvmconv.tuning.answers import compare

    expected = np.load(folder / "expected.npy")
    bounds: Mapping[str, Array] = {
        name: np.load(folder / f"bound-{name}.npy")
        for name in dict.fromkeys(artifact.accuracy for artifact in artifacts)
    }

    def judge(number: int, y: Array) -> tuple[str | None, float]:
        return compare(y.reshape(expected.shape), expected, bounds[artifacts[number].accuracy])

    return judge


def result_elems(folder: Path) -> int:
    """Float32 values of a spec's result."""
    return prod(np.load(folder / "expected.npy", mmap_mode="r").shape)
