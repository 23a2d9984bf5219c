"""Bundles for several boards: each processor takes the code that was made for it."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import tvmconv as tc
from tests.emulated.board import board_python
from tests.emulated.machines import runner_of
from tvmconv.bundle import read
from tvmconv.cli import main
from tvmconv.emulate import find_runner
from tvmconv.emulate.program import compile_program, program_compiler
from tvmconv.target import load

pytestmark = pytest.mark.emulated

SPECS = [
    tc.conv2d((1, 16, 14, 14), 16, 3, padding=1, bias=True, activation="relu"),
    tc.conv2d((1, 12, 12, 16), 16, 3, groups=16, layout="NHWC", activation="relu6"),
]
BOARDS = ("pi3", "pi4", "pi5")
KERNEL_BYTES, RUNTIME_BYTES = 20 << 10, 16 << 10


def exported(folder: Path, *target_ids: str) -> Path:
    for target_id in target_ids:
        runner_of(target_id)
    tc.export([tc.compile(spec, name) for name in target_ids for spec in SPECS], folder)
    return folder


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("bundles") / "boards", *BOARDS)


@pytest.fixture(scope="module")
def selftest(boards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = program_compiler(load("pi4"), static=not find_runner(load("pi4")).dynamic)
    program = tmp_path_factory.mktemp("program") / "selftest"
    inputs = [boards / "selftest.c", boards / "lib" / "libboards.a"]
    return compile_program(inputs, program, compiler, boards / "include")


@pytest.mark.parametrize(
    ("cpu", "picked"),
    [
        ("cortex-a53", "pi3"),
        ("cortex-a72", "pi4"),
        ("cortex-a76", "pi5"),
        ("cortex-a57", "pi3"),  # nobody's core: the first of those that it can run
        ("neoverse-n1", "pi5"),
    ],
)
def test_each_core_takes_its_own_code(cpu: str, picked: str, boards: Path, selftest: Path) -> None:
    """Cortex-A53 and A72 have the same features: the core's number tells them apart."""
    done = find_runner(load("pi4"), cpu=cpu).run(selftest, str(boards))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"target: {picked}\n")


def test_code_for_a_newer_core_is_refused(boards: Path, selftest: Path) -> None:
    runner = find_runner(load("pi4"), cpu="cortex-a72")
    done = runner.run(selftest, str(boards), "2", "pi5")
    assert done.returncode == 2
    assert done.stdout.startswith("refused: target pi5: this CPU lacks an instruction set")
    done = runner.run(selftest, str(boards), "2", "all")
    assert done.returncode == 0
    assert "skipped target pi5" in done.stdout
    assert done.stdout.count("of 2 kernels right") == 2


def test_every_target_is_proven(boards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["validate", str(boards), "--emulate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["bundles"]
    assert [one["target"] for one in found] == ["pi5", "pi3", "pi4"]
    assert [one["library"] for one in found] == ["shared"] * 3 or not runner_of("pi4").dynamic


@pytest.mark.parametrize(("cpu", "picked"), [("cortex-a72", "pi4"), ("cortex-a76", "pi5")])
def test_python_on_the_board_needs_numpy_alone(
    cpu: str, picked: str, boards: Path, plain_board: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QEMU_CPU", cpu)
    code = (
        f"import sys; sys.path.insert(0, {str(boards)!r})\n"
        "import tvmconv_load\n"
        f"sys.exit(tvmconv_load.main([{str(boards)!r}]))\n"
    )
    done = board_python(plain_board, code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"target: {picked}\n")
    assert done.stdout.count("ok  ") == len(SPECS)


def test_python_on_the_wrong_board_is_told(
    plain_board: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU shows the /proc/cpuinfo of this machine; the library itself says what is missing."""
    folder = exported(tmp_path / "new", "pi5")
    monkeypatch.setenv("QEMU_CPU", "cortex-a72")
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "import tvmconv_load\n"
        f"sys.exit(tvmconv_load.main([{str(folder)!r}]))\n"
    )
    done = board_python(plain_board, code)
    assert done.returncode == 2, done.stdout
    assert "refused: made for pi5; this CPU lacks: fphp, asimdhp, asimddp" in done.stderr


def test_library_is_small(boards: Path) -> None:
    size = (boards / "lib" / "libboards.so").stat().st_size
    assert size <= len(BOARDS) * len(SPECS) * KERNEL_BYTES + RUNTIME_BYTES


def test_libraries_of_several_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One header, a library per machine, and each is proven."""
    folder = exported(tmp_path / "any", "x86_64_v2", "armv7", "pi4")
    libraries = {each["machine"]: each["shared"] for each in read(folder).manifest["libraries"]}
    assert libraries == {
        machine: f"lib/{machine}-linux/libany.so" for machine in ("x86_64", "armv7l", "aarch64")
    }
    if load("x86_64_v2").runs_here:
        bundle = tc.load(folder)
        assert bundle.target == "x86_64_v2"
        assert bundle.selftest().ok
    capsys.readouterr()
    assert main(["validate", str(folder), "--emulate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["bundles"]
    assert [one["target"] for one in found] == ["x86_64_v2", "armv7", "pi4"]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
@pytest.mark.parametrize("target_id", ["pi4", "armv7"])
def test_cmake_builds_for_another_machine(target_id: str, tmp_path: Path) -> None:
    """The cross compiler and the emulator on the command line, as the bundle's README says."""
    runner, target = runner_of(target_id), load(target_id)
    gcc = f"{target.toolchain.gcc}-gcc"
    if shutil.which(gcc) is None or not runner.dynamic:
        pytest.skip(f"needs {gcc} and its C library")
    folder = exported(tmp_path / "out", "pi4", "armv7")
    (given,) = re.findall(rf"^    cmake (.*{gcc}.*)$", (folder / "README.md").read_text(), re.M)
    emulator = f"-DCMAKE_CROSSCOMPILING_EMULATOR={';'.join(runner.command)}"
    for command in (
        ["cmake", *shlex.split(given), emulator],
        ["cmake", "--build", "build"],
        ["ctest", "--test-dir", "build", "--output-on-failure"],
    ):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "100% tests passed" in done.stdout


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_commands_of_the_readme_build_the_selftest(compiler: str, tmp_path: Path) -> None:
    """Word for word, as somebody would copy them."""
    runner = runner_of("pi4")
    if not runner.dynamic:
        pytest.skip("needs the C library of the board")
    folder = exported(tmp_path / "out", "pi4")
    text = (folder / "README.md").read_text()
    (command,) = re.findall(rf"^    (\S*{compiler} .*selftest.c.*)$", text, re.M)
    words = shlex.split(command)
    if compiler == "zig":
        words[:1] = find_zig()
    elif shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    subprocess.run(words, cwd=folder, check=True)
    done = runner.run(folder / "selftest", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def find_zig() -> list[str]:
    """The command of zig, as the wheel has it."""
    compiler = program_compiler(load("pi4"), static=False)
    if not compiler.is_zig:
        pytest.skip("needs zig")
    return list(compiler.command[: compiler.command.index("cc")])
