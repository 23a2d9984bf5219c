"""Bundles for other machines: made here, proven under emulation, as small as they have to be."""

import json
import re
from pathlib import Path

import pytest

import tvmconv as tc
from tests.emulated.machines import runner_of
from tvmconv.bundle.loader import read
from tvmconv.cli import main
from tvmconv.compilers import find_compiler
from tvmconv.emulate.bundles import validate_variant, variants
from tvmconv.errors import EnvironmentProblem
from tvmconv.runtime import macho
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.template import families

pytestmark = pytest.mark.emulated

SPECS = [
    tc.conv2d((1, 8, 17, 15), 12, 3, padding=1, bias=True, activation="relu"),
    tc.conv2d((1, 12, 12, 16), 16, 3, groups=16, layout="NHWC", activation="gelu"),
    tc.conv_transpose2d((1, 6, 7, 7), 5, 4, stride=2, padding=1, residual=True),
]
KERNEL_BYTES, RUNTIME_BYTES = 20 << 10, 16 << 10


def exported(target_id: str, folder: Path, specs: list[ConvSpec] = SPECS) -> Path:
    tc.export([tc.compile(spec, target_id) for spec in specs], folder)
    return folder


@pytest.mark.parametrize("target_id", ["pi4", "armv7", "riscv64", "x86_64_v2"])
def test_bundle_is_right(
    target_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner_of(target_id)
    folder = exported(target_id, tmp_path / "out")
    capsys.readouterr()
    assert main(["validate", str(folder), "--emulate", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["bundles"]
    assert found["target"] == target_id
    assert [row["ok"] for row in found["selftest"]["rows"]] == [True] * len(SPECS)
    assert [all(c["ok"] for c in r["checks"]) for r in found["reports"]] == [True] * len(SPECS)


@pytest.mark.parametrize("target_id", ["pi4", "armv7", "x86_64_v2"])
def test_old_systems_have_the_c_library(
    target_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By zig, nothing newer than glibc 2.17 of 2012 is asked for."""
    monkeypatch.setenv("TVMCONV_TOOLCHAIN", "zig")
    runner_of(target_id)
    folder = exported(target_id, tmp_path / "out", SPECS[:1])
    data = (folder / "lib" / "libout.so").read_bytes()
    versions = {tuple(map(int, v.split(b"."))) for v in re.findall(rb"GLIBC_(2\.[\d.]*\d)\0", data)}
    assert versions
    assert max(versions) <= (2, 17)


def test_wrong_answers_are_found(tmp_path: Path) -> None:
    """A kernel in the place of another: both the self-test and the comparison say so."""
    runner_of("x86_64_v2")
    folder = tmp_path / "out"
    tc.export([tc.compile(SPECS[0], "x86_64_v2", algorithm="direct")], folder)
    (variant,) = variants(read(folder))
    (entry,) = variant.kernels
    entry["spec"] = str(tc.ConvSpec.parse(entry["spec"].replace("relu", "relu6")))  # type: ignore[index]
    golden = folder / entry["golden"]
    data = bytearray(golden.read_bytes())
    data[8] ^= 1  # the checksum
    golden.write_bytes(data)
    report = validate_variant(variant)
    assert not report.ok
    assert "not every output" in report.selftest.rows[0].text
    assert not report.reports[0].ok


@pytest.mark.parametrize("target_id", ["pi3", "pi4", "pi5", "armv7"])
@pytest.mark.parametrize("toolchain", ["zig", "gcc"])
def test_libraries_are_small(
    target_id: str, toolchain: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TVMCONV_TOOLCHAIN", toolchain)
    runner_of(target_id)
    specs = [
        tc.conv2d((1, 64, 56, 56), 64, 3, padding=1, bias=True, activation="relu"),
        tc.conv2d((1, 64, 56, 56), 256, 1, bias=True, residual=True),
        tc.conv2d((1, 96, 56, 56), 96, 3, padding=1, groups=96, activation="relu6"),
    ]
    for count in (1, len(specs)):
        folder = exported(target_id, tmp_path / f"of{count}", specs[:count])
        size = (folder / "lib" / f"libof{count}.so").stat().st_size
        assert size <= count * KERNEL_BYTES + RUNTIME_BYTES


def test_library_for_macos(tmp_path: Path) -> None:
    """Nothing here runs it; it links, and shows the public functions alone."""
    if "arm" not in families():
        pytest.skip("there are no templates for arm")
    try:
        find_compiler(load("apple_aarch64"))
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    folder = exported("apple_aarch64", tmp_path / "out", SPECS[:1])
    manifest = read(folder).manifest
    assert manifest["libraries"][0]["shared"] == "lib/libout.dylib"
    assert "`libout.dylib`" in (folder / "README.md").read_text()
    data = (folder / "lib" / "libout.dylib").read_bytes()
    assert b"@rpath/libout.dylib\0" in data
    symbol = manifest["kernels"][0]["symbol"]
    shown = {f"{symbol}_run", f"{symbol}_pack", "tvmconv_error_text", "tvmconv_cpu_missing"}
    shown |= {f"out_{name}" for name in ("target", "use_target", "cpu_missing")}
    assert macho.defined_symbols(data) - {"_mh_dylib_header", "__dso_handle"} == shown
    assert macho.text_bytes(tc.compile(SPECS[0], "apple_aarch64").object_bytes) > 500
