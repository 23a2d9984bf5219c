"""Static bundles: no threads, no malloc, no system; here they run in a program that has them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import tvmconv as tc
from tvmconv.bundle import loader
from tvmconv.bundle.checks import of_target
from tvmconv.cli import main
from tvmconv.compilers import find_cc
from tvmconv.emulate.bundles import validate_variant, variants
from tvmconv.kernel import Kernel

SPECS = (
    tc.conv2d((1, 4, 10, 11), 12, 3, padding=1, bias=True, activation="relu"),
    tc.conv2d((1, 24, 24, 24), 32, 3, padding=1),
    tc.conv1d((1, 6, 20), out_channels=12, kernel_size=5, groups=3, residual=True),
)
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
HARMLESS = {"memcpy", "memset", "memmove"}


@pytest.fixture(scope="module")
def kernels() -> list[Kernel]:
    """The second with Winograd, which takes workspace, as the others do not."""
    first, second, third = SPECS
    return [
        tc.compile(first, algorithm="direct"),
        tc.compile(second, algorithm="winograd"),
        tc.compile(third, algorithm="direct"),
    ]


@pytest.fixture(scope="module")
def exported(kernels: list[Kernel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "firmware"
    weight = np.random.default_rng(3).standard_normal(SPECS[0].weight_shape, np.float32)
    packed = kernels[0].pack(weight, np.ones(12, np.float32))
    tc.export(kernels, folder, weights={str(SPECS[0]): packed}, format="static")
    return folder


@pytest.fixture
def device(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "device"))


def build(folder: Path, *arguments: str) -> None:
    command = [*find_cc(), "-O2", *WARNINGS, "-Iinclude", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_folder_has_one_archive_and_no_loader(exported: Path) -> None:
    found = {p.relative_to(exported).as_posix() for p in exported.rglob("*") if p.is_file()}
    assert {"lib/libfirmware.a", "include/tvmconv_workspace.h", "selftest.c"} <= found
    assert not [path for path in found if path.endswith(".so") or "load" in path]
    with pytest.raises(tc.BundleError, match=r"a static bundle: .*link it into a C program"):
        tc.load(exported)


def test_it_needs_no_library(exported: Path) -> None:
    manifest = tc.bundle.read(exported).manifest
    assert manifest["kind"] == "static"
    assert set(manifest["libraries"][0]["needs"]) <= HARMLESS


def test_no_activation_needs_a_library(tmp_path: Path) -> None:
    names = ("silu", "gelu", "gelu_tanh", "sigmoid", "tanh", "hardswish")
    specs = [tc.conv1d((1, 4, 12), 8, 3, activation=name) for name in names]
    bundle = tc.export([tc.compile(spec) for spec in specs], tmp_path / "out", format="static")
    assert set(bundle.manifest["libraries"][0]["needs"]) <= HARMLESS


def test_programs_need_no_library(device: Path) -> None:
    """The self-test without a C library: what is missing when everything is linked."""
    build(device, "-ffreestanding", "-c", "selftest.c", "-o", "selftest.o")
    command = [*find_cc(), "-nostdlib", "-r", "-o", "all.o", "selftest.o", "lib/libfirmware.a"]
    subprocess.run(command, cwd=device, check=True)
    listing = subprocess.run(["nm", "-u", "all.o"], cwd=device, capture_output=True, text=True)
    missing = set(re.findall(r"U (\w+)", listing.stdout)) - {"_GLOBAL_OFFSET_TABLE_"}
    assert missing <= HARMLESS


@pytest.mark.parametrize("sanitizer", ["", "-fsanitize=undefined"])
def test_selftest_builds_and_passes(device: Path, sanitizer: str) -> None:
    flags = [sanitizer] if sanitizer else []
    build(device, *flags, "selftest.c", "lib/libfirmware.a", "-o", "selftest")
    done = subprocess.run([device / "selftest"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert [line[:5] for line in done.stdout.splitlines()] == ["ok   "] * len(SPECS)


def test_selftest_finds_wrong_answers(device: Path) -> None:
    text = (device / "selftest.c").read_text()
    (device / "selftest.c").write_text(text.replace("values->low +", "(i == 70) + values->low +"))
    build(device, "selftest.c", "lib/libfirmware.a", "-o", "selftest")
    done = subprocess.run([device / "selftest"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "FAIL" in done.stdout


def test_example_runs_on_the_weights_in_the_library(device: Path) -> None:
    build(device, "example.c", "lib/libfirmware.a", "-o", "example")
    subprocess.run([device / "example"], check=True)
    assert "KERNEL(packed)" in (device / "example.c").read_text()


def test_shipped_weights_are_constants(
    exported: Path, kernels: list[Kernel], tmp_path: Path
) -> None:
    symbol, spec = kernels[0].symbol, SPECS[0]
    x = np.random.default_rng(5).standard_normal(spec.x_shape, np.float32)
    weight = np.random.default_rng(3).standard_normal(spec.weight_shape, np.float32)
    expected = kernels[0](x, weight, np.ones(12, np.float32))
    program = tmp_path / "program.c"
    program.write_text(
        '#include <stdio.h>\n#include "firmware.h"\n'
        f"static float x[{x.size}], y[{expected.size}];\n"
        "int main(void) {\n"
        "  if (fread(x, sizeof x, 1, stdin) != 1) return 1;\n"
        f"  if ({symbol}_run(x, {symbol}_packed, NULL, NULL, NULL, y, 1) != 0) return 2;\n"
        "  return fwrite(y, sizeof y, 1, stdout) != 1;\n}\n"
    )
    build(exported, str(program), "lib/libfirmware.a", "-o", str(tmp_path / "program"))
    done = subprocess.run(
        [tmp_path / "program"], input=x.tobytes(), capture_output=True, check=True
    )
    assert np.array_equal(np.frombuffer(done.stdout, np.float32).reshape(expected.shape), expected)


def test_workspace_in_the_header_is_enough_and_no_less(
    exported: Path, kernels: list[Kernel], tmp_path: Path
) -> None:
    """The number is met exactly: one byte less is an error code."""
    manifest = tc.bundle.read(exported).manifest
    target = kernels[1].target.id
    sizes = [of_target(e, target)["workspace_bytes"] for e in manifest["kernels"]]
    assert sizes == [kernel.workspace_bytes for kernel in kernels]
    assert sizes[1] > 0
    header = (exported / "include" / "firmware.h").read_text()
    assert f"#define FIRMWARE_WORKSPACE_BYTES {max(sizes)}\n" in header
    spec, symbol = SPECS[1], kernels[1].symbol
    big = symbol.upper()
    program = tmp_path / "program.c"
    program.write_text(
        '#include "firmware.h"\n'
        f"static float x[{np.prod(spec.x_shape)}], y[{np.prod(spec.out_shape)}];\n"
        f"static float weight[{np.prod(spec.weight_shape)}], packed[{big}_PACKED_ELEMS];\n"
        f"_Alignas(64) static char memory[{big}_WORKSPACE_BYTES + 1];\n"
        "int main(void) {\n"
        f"  {symbol}_pack(weight, NULL, NULL, NULL, packed);\n"
        # Memory one past a cache line wastes the most.
        f"  if (tvmconv_set_workspace(memory + 1, {big}_WORKSPACE_BYTES) != 0) return 1;\n"
        f"  if ({symbol}_run(x, packed, NULL, NULL, NULL, y, 1) != TVMCONV_OK) return 2;\n"
        f"  if (tvmconv_set_workspace(memory + 1, {big}_WORKSPACE_BYTES - 1) != 0) return 3;\n"
        f"  if ({symbol}_run(x, packed, NULL, NULL, NULL, y, 1) != TVMCONV_WORKSPACE) return 4;\n"
        "  return 0;\n}\n"
    )
    build(exported, str(program), "lib/libfirmware.a", "-o", str(tmp_path / "program"))
    subprocess.run([tmp_path / "program"], check=True)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
@pytest.mark.parametrize("from_source", ["ON", "OFF"])
def test_cmake_builds_and_tests(device: Path, from_source: str) -> None:
    for command in (
        ("cmake", "-S", ".", "-B", "build", f"-DFIRMWARE_RUNTIME_FROM_SOURCE={from_source}"),
        ("cmake", "--build", "build"),
        ("ctest", "--test-dir", "build", "--output-on-failure"),
    ):
        done = subprocess.run(command, cwd=device, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "100% tests passed" in done.stdout


def test_it_is_proven_against_torch(exported: Path) -> None:
    (variant,) = variants(loader.read(exported))
    report = validate_variant(variant)
    assert report.ok
    assert report.library == "static"


def test_what_does_not_fit_is_refused(kernels: list[Kernel], tmp_path: Path) -> None:
    two = [tc.compile(SPECS[2], level) for level in ("x86_64_v2", "x86_64_v3")]
    with pytest.raises(tc.ArgumentError, match="static for one target"):
        tc.export(two, tmp_path / "out", format="static")
    with pytest.raises(tc.ArgumentError, match="format: got 'rom'; allowed: hosted or static"):
        tc.export(kernels, tmp_path / "out", format="rom")
    assert not (tmp_path / "out").exists()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["export", "conv1d_n1c3s20_o4k3", "--format", "static", "--output", str(out)]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["selftest"] is None
    assert (out / "lib" / "libout.a").is_file()
