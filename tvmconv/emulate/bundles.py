"""Prove a bundle without its device: its own C self-test, and every check against torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv import target as targets
from tvmconv.bundle.checks import of_target
from tvmconv.bundle.golden import SelfTest, SelfTestRow
from tvmconv.bundle.loader import Bundle
from tvmconv.compilers import Compiler
from tvmconv.errors import BundleError, ProgramFailed
from tvmconv.runtime.wrapper import KernelSymbol
from tvmconv.spec import ConvSpec
from tvmconv.validate import Report

from .program import Part, compile_program, link_program, program_compiler
from .proof import Subject, prove
from .runner import Runner, find_runner

if TYPE_CHECKING:
    from tvmconv.target import Target

Step = Callable[[str], None]


@dataclass(frozen=True)
class Variant:
    """What a bundle holds for one target.

    Attributes:
        target: whom it is for.
        name: of the bundle.
        version: of its format.
        kernels: the manifest's entries of its kernels, with those of the target in one level.
        shared: its shared library; None in a static bundle.
        static: its static library.
        selftest: source of its self-test.
        sources: C sources of the runtime and the wrappers inside both libraries.
        include: folder of the headers.
        folder: of the bundle.
    """

    target: Target
    name: str
    version: int
    kernels: tuple[Mapping[str, Any], ...]
    shared: Path | None
    static: Path
    selftest: Path
    sources: tuple[Path, ...]
    include: Path
    folder: Path


@dataclass(frozen=True)
class VariantReport:
    """What was found of one target of a bundle.

    Attributes:
        target: its id.
        runner: how its programs ran: "qemu-aarch64 7.2.22, cortex-a72".
        library: which library was linked, "shared" or "static".
        selftest: what the C self-test said of every kernel.
        reports: every check against torch, kernel by kernel.
    """

    target: str
    runner: str
    library: str
    selftest: SelfTest
    reports: tuple[Report, ...]

    @property
    def ok(self) -> bool:
        """Whether everything passed."""
        return self.selftest.ok and all(report.ok for report in self.reports)


def variants(bundle: Bundle) -> list[Variant]:
    """What a bundle holds, target by target.

    Raises:
        BundleError: it is for a target that is not described here.
    """
    unknown = sorted(set(bundle.targets) - set(targets.ids()))
    if unknown:
        raise BundleError("target of the bundle", ", ".join(unknown), ", ".join(targets.ids()))
    return [_variant(bundle, target) for target in bundle.targets]


def _variant(bundle: Bundle, target: str) -> Variant:
    manifest, folder = bundle.manifest, bundle.folder
    library = next(each for each in manifest["libraries"] if target in each["targets"])
    return Variant(
        target=targets.load(target),
        name=manifest["name"],
        version=manifest["version"],
        kernels=tuple(of_target(entry, target) for entry in manifest["kernels"]),
        shared=folder / library["shared"] if library["shared"] is not None else None,
        static=folder / library["static"],
        selftest=folder / "selftest.c",
        sources=tuple(sorted((folder / "src").glob("*.c"))),
        include=folder / "include",
        folder=folder,
    )


def validate_variant(
    variant: Variant,
    *,
    seed: int = 0,
    runner: Runner | None = None,
    step: Step = lambda text: None,
) -> VariantReport:
    """Run the self-test of a target of a bundle, then prove its kernels against torch.

    Args:
        variant: which.
        seed: of the inputs of the proof.
        runner: how programs run here; default: ``find_runner``.
        step: hears what is done next.

    Raises:
        EnvironmentProblem: no emulator or no compiler.
        ProgramFailed: a program ended badly, such as for an instruction that the CPU has not.
    """
    chosen = runner or find_runner(variant.target)
    compiler = program_compiler(variant.target, static=not chosen.dynamic)
    # The shared library is what most people deploy, but it needs the device's C library to run.
    library = "shared" if chosen.dynamic and variant.shared is not None else "static"
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        step("self-test")
        selftest = run_selftest(variant, chosen, compiler, Path(folder))
        program = Path(folder) / "kernels"
        parts = [_part(entry, variant.target) for entry in variant.kernels]
        inputs, prepare = _inputs(variant, chosen), _prepare(variant)
        link_program(inputs, parts, program, compiler, include=variant.include, prepare=prepare)
        subjects = [_subject(entry, variant) for entry in variant.kernels]
        reports = tuple(prove(subjects, program, chosen, seed, step))
    return VariantReport(variant.target.id, chosen.label, library, selftest, reports)


def run_selftest(variant: Variant, runner: Runner, compiler: Compiler, work: Path) -> SelfTest:
    """Compile a bundle's C self-test with its library, and run it.

    Raises:
        ProgramFailed: it ended badly, or refused the CPU.
    """
    program = work / "selftest"
    inputs = [variant.selftest, *_inputs(variant, runner)]
    compile_program(inputs, program, compiler, variant.include)
    only = (variant.target.id,) if variant.version > 1 and variant.shared is not None else ()
    done = runner.run(program, str(variant.folder), "2", *only)
    if done.returncode not in (0, 1):
        raise ProgramFailed(f"selftest on {runner.label}: {(done.stdout + done.stderr).strip()}")
    rows = []
    for line in done.stdout.splitlines():
        state, _, rest = line.partition(" ")
        symbol, colon, text = rest.strip().partition(": ")
        if state in ("ok", "FAIL") and colon:
            rows.append(SelfTestRow(symbol, state == "ok", text))
    missing = {entry["symbol"] for entry in variant.kernels} - {row.symbol for row in rows}
    if missing or (done.returncode == 0) != all(row.ok for row in rows):
        raise ProgramFailed(f"selftest on {runner.label} said: {done.stdout}{done.stderr}")
    return SelfTest(tuple(rows))


def _inputs(variant: Variant, runner: Runner) -> Sequence[Path]:
    """What a program links.

    Statically that is another C library than the archive was made for, so the runtime comes from
    its source; the kernels themselves need none, nor does the archive of a static bundle.
    """
    if variant.shared is None:
        return [variant.static]
    return [variant.shared] if runner.dynamic else [*variant.sources, variant.static]


def _prepare(variant: Variant) -> str:
    """C statements before the first call; they return a code."""
    if variant.version == 1:
        return "return TVMCONV_OK;"
    if variant.shared is None:
        kinds_of_bytes = ("workspace_bytes", "pack_workspace_bytes")
        size = max(int(entry[kind]) for entry in variant.kernels for kind in kinds_of_bytes)
        declared = "int32_t tvmconv_set_workspace(void *, size_t);"
        return (
            f"{declared} static char memory[{size} + 1];"
            f" return tvmconv_set_workspace(memory, {size});"
        )
    use = f"{variant.name}_use_target"
    return f'int32_t {use}(const char *); return {use}("{variant.target.id}");'


def _part(entry: Mapping[str, Any], target: Target) -> Part:
    symbol = KernelSymbol(
        entry["symbol"],
        (*entry["run"], "y"),
        (*entry["pack"], "packed") if entry["pack"] else (),
        target.cpu_features,
    )
    tensors = entry["tensors"]
    packed = prod(tensors["packed"]["shape"]) if "packed" in tensors else 0
    return Part(symbol, packed, prod(tensors["y"]["shape"]))


def _subject(entry: Mapping[str, Any], variant: Variant) -> Subject:
    again = f"tvmconv validate {variant.folder} --emulate"
    accuracy = entry["tolerance"]["algorithm"]
    return Subject(ConvSpec.parse(entry["spec"]), accuracy, entry["threads"], again)
