"""Prove a bundle for GPUs without a GPU, by its CUDA source: self-test, and checks against torch.

A cubin runs on a GPU alone. What runs here is the source that it was compiled from, if the bundle
has it, started by the launches that the manifest has, with weights that its own pack code packed.
Nothing is learnt of the cubin beside that its checksum fits.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tvmconv import target as targets
from tvmconv.bundle.cuda_loader import CudaBundle
from tvmconv.bundle.golden import Golden, SelfTest, SelfTestRow, digest, golden_inputs
from tvmconv.cuda.code import DeviceCode
from tvmconv.elements import numpy_dtype
from tvmconv.errors import BundleError, DeviceFault
from tvmconv.operands import Operands
from tvmconv.spec import ConvSpec
from tvmconv.validate import Check, Report, judge, proof_cases

from .calls import ORDERS, Answer, Call, Order, run_calls
from .program import Program, build_program
from .proof import CHUNK, PROOF_ORDERS

Array = NDArray[Any]
Step = Callable[[str], None]
_PACKED: Final = ("weight", "bias", "scale", "shift")
# The golden inputs' answer has to be right, and the same, in two orders of the threads.
_GOLDEN: Final = {"golden": ORDERS[0], "golden again": ORDERS[2]}


@dataclass(frozen=True)
class Code:
    """One kernel of a bundle for one target, by its source.

    Attributes:
        entry: the manifest's, of all targets.
        own: the target's part of it.
        spec: what it computes.
        run: its source and launches.
        pack: the same of packing.
        golden: the answer to the self-test's inputs.
        shipped: packed weights that came with the bundle, or None.
    """

    entry: Mapping[str, Any]
    own: Mapping[str, Any]
    spec: ConvSpec
    run: DeviceCode
    pack: DeviceCode
    golden: Golden
    shipped: Array | None


@dataclass(frozen=True)
class SourceReport:
    """What was found of the source for one target of a bundle.

    Attributes:
        target: its id.
        selftest: what the golden inputs gave, kernel by kernel.
        reports: every check against torch, in the same order.
    """

    target: str
    selftest: SelfTest
    reports: tuple[Report, ...]

    @property
    def ok(self) -> bool:
        """Whether everything passed."""
        return self.selftest.ok and all(report.ok for report in self.reports)


def validate_source(
    bundle: CudaBundle, target: str, *, seed: int = 0, step: Step = lambda text: None
) -> SourceReport:
    """Prove the source that a bundle has for one of its targets.

    Args:
        bundle: one that was exported with ``source=True``.
        target: id of one of its targets.
        seed: of the inputs that are compared with torch's answers.
        step: hears the spec of each kernel when its turn comes.

    Raises:
        BundleError: the bundle has no source, or is for a target that is not described here.
        EnvironmentProblem: no C++ compiler.
        EmulationGap: a kernel has what the emulator does not model.
        BuildFailed: the C++ compiler refused a source.
    """
    if target not in targets.ids():
        raise BundleError("target of the bundle", target, ", ".join(targets.ids()))
    codes = [_code(bundle, entry, target) for entry in bundle.manifest["kernels"]]
    again = f"tvmconv validate {bundle.folder} --emulate --seed {seed}"
    arch = targets.load(target).isa
    found: list[tuple[SelfTestRow, Report]] = []
    for first in range(0, len(codes), CHUNK):
        some = codes[first : first + CHUNK]
        for code in some:
            step(str(code.spec))
        found += _prove(some, arch, seed, again)
    rows, reports = zip(*found, strict=True)
    return SourceReport(target, SelfTest(rows), reports)


def _code(bundle: CudaBundle, entry: Mapping[str, Any], target: str) -> Code:
    own = entry["targets"][target]
    shipped = None
    if own["weights"] is not None:
        dtype = numpy_dtype(entry["dtype"])
        stored = np.frombuffer(bundle.content(own["weights"]), dtype.newbyteorder("<"))
        shipped = stored.astype(dtype)
    return Code(
        entry=entry,
        own=own,
        spec=ConvSpec.parse(entry["spec"]),
        run=_sourced(bundle, own["run"], target),
        pack=_sourced(bundle, own["pack"], target),
        golden=Golden.decode(bundle.content(own["golden"])),
        shipped=shipped,
    )


def _sourced(bundle: CudaBundle, part: Mapping[str, Any], target: str) -> DeviceCode:
    """Launches of the manifest, and the source beside the machine code."""
    code, path = DeviceCode.from_entry(part), part.get("source")
    if path is None and code.launches:
        allowed = "a bundle of `tvmconv export --source`, or tc.export(..., source=True)"
        given = f"none of {part['cubin']}"
        raise BundleError(f"{bundle.folder}: CUDA source for {target}", given, allowed)
    return replace(code, source=bundle.content(path).decode()) if path is not None else code


def _prove(
    codes: Sequence[Code], arch: str, seed: int, again: str
) -> Iterator[tuple[SelfTestRow, Report]]:
    """Self-test and report of each code, all of them in one program."""
    tests = [_cases(code, seed) for code in codes]
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        every = [part for code in codes for part in (code.run, code.pack)]
        program = build_program(every, Path(folder) / "bundle", arch=arch)
        packed = _packed(program, codes, tests)
        answers = _answers(program, codes, tests, packed)
    for code, cases, found in zip(codes, tests, answers, strict=True):
        golden = {name: found.pop(name) for name in (*_GOLDEN, "shipped") if name in found}
        yield _row(code, golden), _report(code, cases, found, again)


def _cases(code: Code, seed: int) -> dict[str, Operands]:
    """Operands of the proof, and of the self-test."""
    dtype = numpy_dtype(code.spec.dtype)
    golden = {name: value.astype(dtype) for name, value in golden_inputs(code.entry).items()}
    operands = Operands(**golden)
    accuracy = code.own["tolerance"]["algorithm"]
    return proof_cases(code.spec, accuracy, seed) | dict.fromkeys(_GOLDEN, operands)


def _packed(
    program: Program, codes: Sequence[Code], tests: Sequence[Mapping[str, Operands]]
) -> list[dict[str, Array | DeviceFault]]:
    """Weights of every case, as the bundle's own code packs them."""
    calls = []
    for number, (code, cases) in enumerate(zip(codes, tests, strict=True)):
        outputs = {"packed": ((code.own["packed_elems"],), numpy_dtype(code.spec.dtype))}
        for operands in cases.values():
            tensors = {name: getattr(operands, name) for name in code.entry["pack"]}
            calls.append(Call(2 * number + 1, tensors, outputs))
    answers = iter(run_calls(program, calls))
    return [{name: _tensor(next(answers), "packed") for name in cases} for cases in tests]


def _answers(
    program: Program,
    codes: Sequence[Code],
    tests: Sequence[Mapping[str, Operands]],
    packed: Sequence[Mapping[str, Array | DeviceFault]],
) -> list[dict[str, Array | DeviceFault]]:
    """Answers to every case, each in an order of threads of its own; faults of packing stay."""
    orders: Mapping[str, Order] = {**PROOF_ORDERS, **_GOLDEN, "shipped": ORDERS[1]}
    found: list[dict[str, Array | DeviceFault]] = []
    calls, places = [], []
    for number, (code, cases, weights) in enumerate(zip(codes, tests, packed, strict=True)):
        made: dict[str, Array | DeviceFault] = dict(weights)
        given = dict(cases)
        if code.shipped is not None:
            made["shipped"], given["shipped"] = code.shipped, cases["golden"]
        found.append({n: w for n, w in made.items() if isinstance(w, DeviceFault)})
        outputs = {"y": (code.spec.out_shape, numpy_dtype(code.spec.dtype))}
        for name, operands in given.items():
            own = made[name]
            if isinstance(own, DeviceFault):
                continue
            others = (n for n in code.entry["run"] if n != "packed")
            tensors = {"packed": own, **{n: getattr(operands, n) for n in others}}
            calls.append(Call(2 * number, tensors, outputs, orders[name]))
            places.append((number, name))
    for (number, name), answer in zip(places, run_calls(program, calls), strict=True):
        found[number][name] = _tensor(answer, "y")
    return found


def _tensor(answer: Answer, name: str) -> Array | DeviceFault:
    return answer if isinstance(answer, DeviceFault) else answer[name]


def _row(code: Code, answers: Mapping[str, Array | DeviceFault]) -> SelfTestRow:
    """What the golden inputs say, and that shipped weights make no fault."""
    symbol, arrays = code.entry["symbol"], []
    for name, answer in answers.items():
        if isinstance(answer, DeviceFault):
            return SelfTestRow(symbol, False, f"{name}: {answer.kind}: {answer}")
        arrays.append(answer.astype(np.float32))
    problem = code.golden.problem(arrays[0])
    if problem is None and digest(arrays[0]) != digest(arrays[1]):
        problem = "another order of the threads gives other bits"
    passed = "every output bit-equal" if code.golden.exact else "samples within the bound"
    return SelfTestRow(symbol, problem is None, problem or passed)


def _report(
    code: Code,
    cases: Mapping[str, Operands],
    answers: Mapping[str, Array | DeviceFault],
    again: str,
) -> Report:
    """The checks of `tvmconv.validate`; a fault is a check that failed."""
    faults = {name: a for name, a in answers.items() if isinstance(a, DeviceFault)}
    if faults:
        texts = ((name, f"{name}: {fault.kind}: {fault}") for name, fault in faults.items())
        return Report(tuple(Check(n, False, nan, 0.0, None, text) for n, text in texts), again)
    arrays = {name: a for name, a in answers.items() if not isinstance(a, DeviceFault)}
    proof = {name: operands for name, operands in cases.items() if name not in _GOLDEN}
    return Report(judge(code.spec, code.own["tolerance"]["algorithm"], proof, arrays), again)
