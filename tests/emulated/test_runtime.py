"""The C runtime on other machines: no warnings, no lost tasks, errors in place of faults."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import cpu_flags
from tests.emulated.machines import runner_of
from tests.unit.fake_kernel import C_DIR, FAKE, fake_object
from tvmconv.compilers import find_cc
from tvmconv.emulate.program import compile_program, program_compiler
from tvmconv.emulate.runner import Runner
from tvmconv.errors import EnvironmentProblem
from tvmconv.runtime import wrapper_source
from tvmconv.runtime.sources import CORE_SOURCES, SOURCE_DIR
from tvmconv.runtime.wrapper import KernelSymbol
from tvmconv.target import load

pytestmark = pytest.mark.emulated

MACHINES = ("aarch64", "armv7", "riscv64", "x86_64_v2")
WARNINGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


@pytest.mark.parametrize("target_id", [*MACHINES, "apple_aarch64"])
def test_sources_compile_without_warnings(target_id: str, tmp_path: Path) -> None:
    try:
        cc = find_cc(load(target_id))
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    for source in CORE_SOURCES:
        command = [*cc, *WARNINGS, "-c", str(SOURCE_DIR / source), "-o", str(tmp_path / "o.o")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def program(target_id: str, source: Path, tmp_path: Path, *inputs: Path) -> tuple[Path, Runner]:
    """A program of the runtime and `source` for a target, and how it runs."""
    runner = runner_of(target_id, kernels=False)
    compiler = program_compiler(load(target_id), static=not runner.dynamic)
    sources = [source, *inputs, *(SOURCE_DIR / name for name in CORE_SOURCES)]
    return compile_program(sources, tmp_path / "program", compiler), runner


@pytest.mark.parametrize("target_id", MACHINES)
def test_pool_under_stress(target_id: str, tmp_path: Path) -> None:
    """Without its fork: QEMU 7.2 itself fails when a process with threads forks."""
    stress, runner = program(target_id, C_DIR / "pool_stress.c", tmp_path)
    done = runner.run(stress, timeout=200)
    assert done.stdout == "ok\n", done.stderr


@pytest.mark.parametrize("target_id", MACHINES)
def test_bad_pointers_are_errors(target_id: str, tmp_path: Path) -> None:
    """32-bit ARM would fault; a kernel never gets as far."""
    target = load(target_id)
    runner_of(target_id, kernels=False)
    kernel, wrappers = tmp_path / "fake.o", tmp_path / "wrappers.c"
    kernel.write_bytes(fake_object(tmp_path, target))
    symbol = KernelSymbol("fake", FAKE.run_args, FAKE.pack_args, target.cpu_features)
    wrappers.write_text(wrapper_source([symbol]))
    main = Path(__file__).parent / "c" / "pointers.c"
    pointers, runner = program(target_id, main, tmp_path, kernel, wrappers)
    done = runner.run(pointers, timeout=60)
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    wrong = "must point to float32 values, so be a multiple of 4 bytes"
    assert said["null"] == "-101 x must not be NULL"
    assert said["one byte"] == f"-201 x {wrong}"
    assert said["two bytes"] == f"-202 packed {wrong}"
    assert said["three bytes"] == f"-206 y {wrong}"
    assert said["a float off"] == "0 ok"
    assert said["last"] == "2997"
    has = runner.how == "native" and target.family == "x86" and "avx512_bf16" in cpu_flags()
    assert said["missing"] == ("0" if has else "1")
    assert done.stdout.splitlines()[-1] == ("" if has else "avx512_bf16")
