"""The bundle on a device: a C compiler, no Python, no TVM."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

import tvmconv as tc
from tvmconv import host_cpu, target
from tvmconv.runtime import cpu_features
from tvmconv.toolchain import find_cc

SPECS = (
    tc.conv2d((1, 3, 9, 9), out_channels=7, kernel_size=3, stride=2, bias=True, activation="gelu"),
    tc.conv1d((2, 6, 20), out_channels=12, kernel_size=5, groups=3, residual=True),
    tc.conv1d((0, 3, 7), out_channels=2, kernel_size=2),
)
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "device"
    tc.export([tc.compile(spec) for spec in SPECS], folder)
    return folder


@pytest.fixture
def device(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "device"))


def run(*command: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run where only the system's own programs are found; zig keeps its C library at home."""
    return subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        check=False,
    )


def compile_program(folder: Path, name: str, *flags: str) -> None:
    """The plain command of the bundle's README, with all warnings."""
    libraries = ("lib/libdevice.a", "-lpthread", "-lm")
    sources = ("-Iinclude", f"{name}.c")
    done = run(
        *find_cc(), "-O2", *WARNINGS, *flags, *sources, *libraries, "-o", name, folder=folder
    )
    assert done.returncode == 0, done.stderr


def test_selftest_builds_and_passes(device: Path) -> None:
    compile_program(device, "selftest")
    done = run(device / "selftest", folder=device)
    assert done.returncode == 0, done.stdout
    first, *lines = done.stdout.splitlines()
    assert first == f"target: {target.host().id}"
    assert [line[:5] for line in lines[:-1]] == ["ok   "] * len(SPECS)
    assert lines[-1] == "3 of 3 kernels right"
    elsewhere = run(device / "selftest", device, "7", folder=device.parent)
    assert elsewhere.returncode == 0, elsewhere.stdout


def test_selftest_finds_wrong_answers_and_missing_files(device: Path) -> None:
    compile_program(device, "selftest")
    golden = sorted(p for p in (device / "golden").iterdir() if "n0" not in p.name)
    data = bytearray(golden[0].read_bytes())
    data[-1] ^= 0x40
    golden[0].write_bytes(data)
    golden[1].write_bytes(golden[1].read_bytes()[:-1])
    done = run(device / "selftest", folder=device)
    assert done.returncode == 1
    assert "expected" in done.stdout
    assert "missing or truncated" in done.stdout
    assert "1 of 3 kernels right" in done.stdout


def test_selftest_sees_wrong_machine_code(device: Path) -> None:
    """Another kernel under the same name: what the checksum over all outputs is for."""
    header = (device / "selftest.c").read_text()
    wrong = header.replace("data[i] = values->low +", "data[i] = (i == 70) + values->low +")
    (device / "selftest.c").write_text(wrong)
    compile_program(device, "selftest")
    done = run(device / "selftest", folder=device)
    assert done.returncode == 1
    assert "FAIL" in done.stdout


def test_example_builds_and_runs_with_both_libraries(device: Path) -> None:
    compile_program(device, "example")
    outputs = run(device / "example", folder=device).stdout
    assert outputs.startswith("112 outputs")
    shared = (*find_cc(), "-Iinclude", "example.c", "-Llib", "-ldevice", "-o", "shared")
    assert run(*shared, f"-Wl,-rpath,{device}/lib", folder=device).returncode == 0
    assert run(device / "shared", folder=device).stdout == outputs


def test_programs_take_only_the_kernels_they_call(device: Path) -> None:
    compile_program(device, "example", "-Wl,--gc-sections")
    listing = run("nm", "example", folder=device).stdout
    assert "conv2d_n1c3" in listing
    assert "conv1d_n2" not in listing


def test_sanitizers_find_nothing(device: Path) -> None:
    if "ziglang" in find_cc():
        pytest.skip("zig brings no AddressSanitizer")
    runtime = [str(path.relative_to(device)) for path in sorted((device / "src").glob("*.c"))]
    compile_program(device, "selftest", "-fsanitize=address,undefined", *runtime)
    done = run(device / "selftest", ".", "4", folder=device)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
@pytest.mark.parametrize("from_source", ["ON", "OFF"])
def test_cmake_builds_and_tests(device: Path, from_source: str) -> None:
    option = f"-DDEVICE_RUNTIME_FROM_SOURCE={from_source}"
    for command in (
        ("cmake", "-S", ".", "-B", "build", option),
        ("cmake", "--build", "build"),
        ("ctest", "--test-dir", "build", "--output-on-failure"),
    ):
        done = run(*command, folder=device)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "100% tests passed" in done.stdout


def test_foreign_cpu_is_refused_in_c_and_in_python(tmp_path: Path) -> None:
    flags = host_cpu.host_features()
    absent = [name for name in cpu_features() if name not in flags]
    if not absent:
        pytest.skip("this CPU has every instruction set that the runtime knows")
    kernel = tc.compile(SPECS[0])
    needs_more = dataclasses.replace(
        kernel.target, cpu_features=(*kernel.target.cpu_features, *absent)
    )
    folder = tmp_path / "device"
    tc.export([dataclasses.replace(kernel, target=needs_more)], folder)
    with pytest.raises(tc.BundleError, match=f"this CPU lacks: {', '.join(absent)}"):
        tc.load(folder)
    compile_program(folder, "selftest")
    done = run(folder / "selftest", folder=folder)
    assert done.returncode == 2
    assert done.stdout.startswith("refused: made for")
    assert absent[0] in done.stdout
    compile_program(folder, "example")
    done = run(folder / "example", folder=folder)
    assert done.returncode == 1
    assert "this CPU lacks an instruction set" in done.stderr
