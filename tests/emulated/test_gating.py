"""Instruction sets that a processor lacks: an error text before the first such instruction."""

from dataclasses import replace
from pathlib import Path

import pytest

import tvmconv as tc
from tests.emulated.machines import runner_of
from tvmconv.bundle.loader import read
from tvmconv.emulate import Call, Part, find_runner, run_calls
from tvmconv.emulate.bundles import validate_variant, variants
from tvmconv.emulate.program import link_program, program_compiler
from tvmconv.emulate.proof import validate_kernels
from tvmconv.errors import BundleError, ProgramFailed, TargetError
from tvmconv.fills import normal
from tvmconv.kernel import Kernel
from tvmconv.runtime import wrapper_source
from tvmconv.target import load
from tvmconv.toolchain import runtime_objects

pytestmark = pytest.mark.emulated

SPEC = tc.conv2d((1, 8, 9, 9), 12, 3, padding=1, bias=True, activation="relu")
# A target, an older processor of its kind, and what that one lacks.
OLDER = {
    "pi5": ("cortex-a72", "fphp asimdhp asimddp"),
    "neoverse_v1": ("cortex-a76", "fcma sve i8mm bf16 svei8mm svebf16 sve256"),
    "armv7": ("cortex-a9", "vfpv4 idiva"),
    "riscv64_v": ("rv64", "rv_v"),
    "x86_64_v3": ("Nehalem", "avx avx2 bmi1 bmi2 f16c fma abm movbe"),
}


def compiled(target_id: str) -> Kernel:
    """A kernel of a target whose emulator is here."""
    if runner_of(target_id).how != "emulated":
        pytest.skip(f"there is no emulator for {target_id}")
    kernel: Kernel = tc.compile(SPEC, target_id)
    return kernel


@pytest.mark.parametrize("target_id", OLDER)
def test_older_processor_is_told_what_it_lacks(target_id: str) -> None:
    cpu, missing = OLDER[target_id]
    kernel = compiled(target_id)
    with pytest.raises(ProgramFailed, match=f"this CPU lacks: {missing}$"):
        validate_kernels([kernel], runner=find_runner(load(target_id), cpu=cpu))
    validate_kernels([kernel])[0].require()


# Processors whose vectors have another length, and what those that are too short lack.
LENGTHS = [
    ("neoverse_v1", "max,sve128=on,sve256=off", "sve256"),
    ("neoverse_v1", "max,sve512=on", ""),
    ("riscv64_v", "rv64,v=true,vlen=256,vext_spec=v1.0", ""),
]


@pytest.mark.parametrize(("target_id", "cpu", "missing"), LENGTHS)
def test_vectors_of_other_lengths(target_id: str, cpu: str, missing: str) -> None:
    kernel, runner = compiled(target_id), find_runner(load(target_id), cpu=cpu)
    if not missing:
        validate_kernels([kernel], runner=runner)[0].require()
        return
    with pytest.raises(ProgramFailed, match=f"this CPU lacks: {missing}$"):
        validate_kernels([kernel], runner=runner)


@pytest.mark.parametrize("target_id", OLDER)
def test_every_call_checks(target_id: str, tmp_path: Path) -> None:
    """A program that does not ask first gets the error code from the kernel's function."""
    kernel, target = compiled(target_id), load(target_id)
    runner = find_runner(target, cpu=OLDER[target_id][0])
    compiler = program_compiler(target, static=not runner.dynamic)
    wrappers, code = tmp_path / "wrappers.c", tmp_path / "kernel.o"
    wrappers.write_text(wrapper_source([kernel.c_symbol]))
    code.write_bytes(kernel.object_bytes)
    unasked = replace(kernel.c_symbol, cpu_features=())
    part = Part(unasked, kernel.packed_elems, 12 * 81)
    inputs = [*runtime_objects(compiler), code, wrappers]
    program = link_program(inputs, [part], tmp_path / "program", compiler)
    call = Call(0, normal(SPEC), SPEC.out_shape)
    with pytest.raises(ProgramFailed, match="error -300: kernel 0: this CPU lacks an instruction"):
        run_calls(program, runner, [call])


def test_bundle_refuses_an_older_processor(tmp_path: Path) -> None:
    tc.export([compiled("pi5")], tmp_path / "bundle")
    (variant,) = variants(read(tmp_path / "bundle"))
    with pytest.raises(ProgramFailed, match="made for pi5; this CPU lacks: fphp asimdhp asimddp"):
        validate_variant(variant, runner=find_runner(load("pi5"), cpu="cortex-a72"))


def test_wrong_machine_is_told(tmp_path: Path) -> None:
    kernel = compiled("pi4")
    with pytest.raises(
        TargetError, match=r"pi4 does not run on this machine.*emulate=True"
    ) as error:
        kernel(*(normal(SPEC).x, normal(SPEC).weight), bias=normal(SPEC).bias)
    assert "aarch64" in str(error.value)
    bundle = tc.export([kernel], tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"made for aarch64, linux, 64 bits\. This is x86_64"):
        tc.load(tmp_path / "bundle")
    assert bundle.manifest["libraries"][0]["machine"] == "aarch64"
