"""How programs of other machines run here: what is found, and what is said when nothing is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.fake_kernel import FAKE, fake_object
from tvmconv.abilities import abilities
from tvmconv.compilers import find_compiler
from tvmconv.emulate import Call, Part, Runner, find_runner, run_calls
from tvmconv.emulate.program import link_program, table_source
from tvmconv.errors import EnvironmentProblem, ProgramFailed
from tvmconv.operands import Operands
from tvmconv.runtime import wrapper_source
from tvmconv.target import load
from tvmconv.toolchain import runtime_objects

HERE = Runner("native", (), True, "this machine")


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    """Make a program of shell text."""

    def make(text: str) -> Path:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return make


def test_illegal_instruction_is_named(script: Callable[[str], Path]) -> None:
    with pytest.raises(ProgramFailed, match="program ended with SIGILL: uncaught target signal 4"):
        HERE.run(script("echo uncaught target signal 4 >&2; kill -ILL $$"))


def test_program_that_hangs_is_ended(script: Callable[[str], Path]) -> None:
    with pytest.raises(ProgramFailed, match=r"did not end within 0\.2 seconds"):
        HERE.run(script("exec sleep 60"), timeout=0.2)


def test_exit_status_is_the_callers_to_judge(script: Callable[[str], Path]) -> None:
    assert HERE.run(script("exit 3")).returncode == 3


def test_program_that_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot start"):
        HERE.run(tmp_path / "nothing")


def test_emulator_is_told_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    emulator = tmp_path / "qemu-test-static"
    emulator.write_text("#!/bin/sh\necho qemu-test version 7.2.1\n")
    emulator.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    target = load("pi4")
    assert target.emulator is not None
    (tmp_path / "lib").mkdir()
    for sysroot, dynamic in ((tmp_path, True), (tmp_path / "none", False)):
        described = replace(target.emulator, program="qemu-test", sysroot=str(sysroot))
        runner = find_runner(replace(target, emulator=described))
        assert runner.how == "emulated"
        assert runner.dynamic == dynamic
        assert runner.command[:3] == (str(emulator), "-cpu", "cortex-a72")
        assert runner.command[3:] == (("-L", str(sysroot)) if dynamic else ())
        assert runner.label == "qemu-test-static 7.2.1, cortex-a72"
    older = find_runner(replace(target, emulator=described), cpu="cortex-a53")
    assert older.command[2] == "cortex-a53"


REASONS = {
    "pi4": "qemu-aarch64 is not installed (Debian: apt install qemu-user); this is another machine",
    "apple_aarch64": "the target names no emulator; this is another machine",
    "cortex_m7": "it is firmware, which needs a board",
}


@pytest.mark.parametrize("target_id", REASONS)
def test_no_way_to_run_says_why(target_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(EnvironmentProblem) as error:
        find_runner(load(target_id))
    assert str(error.value) == f"{target_id} does not run here: {REASONS[target_id]}"
    found = abilities(load(target_id))
    assert not found.native.able
    assert not found.emulated.able
    assert found.emulated.by == REASONS[target_id]


def test_machine_that_fits_needs_no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvmconv.target.host_features", lambda: frozenset({"fp", "asimd"}))
    monkeypatch.setattr("tvmconv.target.this_machine", lambda: "aarch64")
    assert find_runner(load("pi4"), native=True).how == "native"
    assert "native" in abilities(load("pi4")).run
    with pytest.raises(EnvironmentProblem, match="this CPU lacks fphp"):
        find_runner(replace(load("pi5"), emulator=None))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake kernel as a program, y = x * packed, for this machine."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "fake.o").write_bytes(fake_object(folder))
    (folder / "wrappers.c").write_text(wrapper_source([FAKE]))
    compiler = find_compiler()
    inputs = [*runtime_objects(compiler), folder / "fake.o", folder / "wrappers.c"]
    return link_program(inputs, [Part(FAKE, 10, 1000)], folder / "program", compiler)


def operands(scale: float = 1.0) -> Operands:
    x = np.arange(1000, dtype=np.float32).reshape(10, 100)
    return Operands(x, np.full(10, scale, np.float32))


def test_calls_come_back_in_order(program: Path) -> None:
    calls = [Call(0, operands(scale), (10, 100), threads) for scale, threads in ((2, 1), (-3, 4))]
    first, second = run_calls(program, HERE, calls)
    assert np.array_equal(first, operands().x * 2)
    assert np.array_equal(second, operands().x * -3)
    assert run_calls(program, HERE, []) == []


def test_strided_tensors_are_copied(program: Path) -> None:
    turned = np.asfortranarray(operands().x)
    (y,) = run_calls(program, HERE, [Call(0, replace(operands(2), x=turned), (10, 100))])
    assert np.array_equal(y, turned * 2)


def test_missing_tensor_is_the_kernels_error(program: Path) -> None:
    call = Call(0, replace(operands(), x=np.zeros(0, np.float32)), (10, 100))
    with pytest.raises(ProgramFailed, match="error -101: kernel 0: x must not be NULL"):
        run_calls(program, HERE, [call])


def test_kernel_that_is_not_there(program: Path) -> None:
    with pytest.raises(ProgramFailed, match="the calls are not whole"):
        run_calls(program, HERE, [Call(1, operands(), (10, 100))])


def test_writing_beyond_the_output_is_found(tmp_path: Path, program: Path) -> None:
    """A table that says that y is shorter than the kernel makes it."""
    compiler = find_compiler()
    inputs = [program.parent / "fake.o", program.parent / "wrappers.c"]
    short = link_program(
        [*runtime_objects(compiler), *inputs], [Part(FAKE, 10, 990)], tmp_path / "short", compiler
    )
    with pytest.raises(ProgramFailed, match="kernel 0 wrote beyond its y"):
        run_calls(short, HERE, [Call(0, operands(), (990,))])


def test_table_names_functions_and_features() -> None:
    run_alone = replace(FAKE, symbol="other", pack_args=(), cpu_features=("pni", "asimd"))
    text = table_source([Part(FAKE, 10, 1000), Part(run_alone, 0, 5)])
    assert "{fake_pack, fake_run, 10u, 1000u}" in text
    assert "{0, other_run, 0u, 5u}" in text
    assert f"UINT64_C({1 | 1 << 28})" in text
