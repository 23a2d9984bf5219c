"""Pieces of a bundle that need no compiler: golden answers, tensors, checks, the single file."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tvmconv.bundle import checks, golden, tensors
from tvmconv.bundle.golden import Golden, digest, fill
from tvmconv.bundle.standalone import standalone_source
from tvmconv.errors import ArgumentError, BundleError


def test_fill_is_fixed_and_within_its_range() -> None:
    values = fill(101, 9, -4.0, 1.0, 1000)
    assert values.dtype == np.float32
    assert set(values) == set(range(-4, 5))
    assert values[:8].tolist() == [2.0, 2.0, -3.0, 0.0, -4.0, -2.0, 2.0, 3.0]
    assert not np.array_equal(values, fill(102, 9, -4.0, 1.0, 1000))
    assert fill(1, 3, 0.0, 0.5, 0).shape == (0,)


def test_digest_sees_every_place_and_no_sign_of_zero() -> None:
    y = fill(5, 100, 0.0, 1.0, 500)
    for i in (0, 250, 499):
        other = y.copy()
        other[i] += 1
        assert digest(other) != digest(y)
    assert digest(y[::-1]) != digest(y)
    assert digest(np.array([-0.0, 1.0])) == digest(np.array([0.0, 1.0]))


@pytest.mark.parametrize("size", [0, 1, 2, 63, 64, 65, 100_000])
def test_golden_survives_its_file(size: int) -> None:
    y = fill(7, 1000, -1.0, 0.25, size)
    for tolerance in (0.0, 0.5):
        kept = Golden.decode(Golden.of(y, tolerance, 64).encode())
        assert kept.exact == (tolerance == 0.0)
        assert kept.at.size == min(size, 64)
        assert kept.problem(y) is None
        assert size == 0 or kept.problem(np.full_like(y, np.nan)) is not None
        assert size == 0 or {0, size - 1} <= set(kept.at.tolist())
        assert size < 10 or kept.problem(y + np.float32(0.25)) is None or tolerance == 0.0


def test_golden_finds_what_is_between_the_samples() -> None:
    y = fill(7, 1000, -1.0, 0.25, 10_000)
    kept = Golden.of(y, 0.0, 64)
    between = next(i for i in range(10_000) if i not in set(kept.at.tolist()))
    wrong = y.copy()
    wrong[between] += 1
    assert "checksum" in (kept.problem(wrong) or "")


def test_strided_and_misaligned_tensors_are_copied_and_plain_ones_are_not() -> None:
    plain = np.zeros((4, 6), np.float32)
    assert tensors.plain("x", plain, (4, 6)) is plain
    strided = np.zeros((6, 4), np.float32).T
    assert tensors.plain("x", strided, (4, 6)).flags.c_contiguous
    misaligned = np.frombuffer(bytearray(4 * 24 + 1), np.float32, 24, 1).reshape(4, 6)
    assert tensors.plain("x", misaligned, (4, 6)).flags.aligned


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((2, 2)), "x: dtype: got 'float64'; allowed: float32"),
        (np.zeros((2, 2), ">f4"), "x: dtype: got '>f4'"),
        (np.zeros((2, 3), np.float32), r"x: shape: got \(2, 3\); allowed: \(2, 2\)"),
        ([[1.0, 2.0], [3.0, 4.0]], "x: dtype"),
        (object(), "x: dtype"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(value: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        tensors.plain("x", value, (2, 2))


def test_output_that_lies_over_an_input_is_written_aside() -> None:
    x = np.zeros(10, np.float32)
    assert tensors.output(x, (10,), [x]) is not x
    assert tensors.output(x, (10,), [x.copy()]) is x
    assert tensors.output(None, (3, 5), []).ctypes.data % 64 == 0
    x.flags.writeable = False
    with pytest.raises(ArgumentError, match="read-only"):
        tensors.output(x, (10,), [])


def write_manifest(folder: Path, **changes: object) -> None:
    manifest = {"format": checks.FORMAT, "version": checks.VERSION, "files": {}} | changes
    manifest = {"sha256": checks.manifest_digest(manifest)} | manifest
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_manifests_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle is here"):
        checks.read_manifest(tmp_path)
    for text in ("", "{", "[1]", "\x00"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(BundleError, match=r"manifest\.json"):
            checks.read_manifest(tmp_path)
    write_manifest(tmp_path, version=99)
    with pytest.raises(BundleError, match="format version: got 99; allowed: 1 or 2"):
        checks.read_manifest(tmp_path)
    write_manifest(tmp_path, sha256="0")
    with pytest.raises(BundleError, match="altered"):
        checks.read_manifest(tmp_path)
    write_manifest(tmp_path)
    assert checks.read_manifest(tmp_path)["version"] == 2


def test_manifests_of_version_1_are_still_read(tmp_path: Path) -> None:
    """As tvmconv 0.1 wrote them: one target, one library, everything of a kernel in one level."""
    kernel = {
        "symbol": "k_1234",
        "spec": "conv1d_n1c1s5_o1k3",
        "template": "x86.direct",
        "config": "",
        "tier": "analytic",
        "threads": 1,
        "tensors": {"packed": {"shape": [7], "dtype": "float32"}},
        "text_bytes": 900,
        "tolerance": {"algorithm": "direct", "exact": True, "absolute": 0.0},
        "golden": "golden/k_1234.bin",
        "weights": None,
    }
    target = {"id": "x86_64_v2", "machine": "x86_64", "pointer_bits": 64, "cpu_features": ["pni"]}
    library = {"shared": "lib/libk.so", "static": "lib/libk.a"}
    write_manifest(tmp_path, version=1, name="k", target=target, library=library, kernels=[kernel])
    found = checks.read_manifest(tmp_path)
    assert found["version"] == 1
    assert [t["id"] for t in found["targets"]] == ["x86_64_v2"]
    (entry,) = found["libraries"]
    assert entry == {"machine": "x86_64", "system": "linux", "pointer_bits": 64,
                     "targets": ["x86_64_v2"], **library}  # fmt: skip
    (upgraded,) = found["kernels"]
    assert "golden" not in upgraded
    code = checks.of_target(upgraded, "x86_64_v2")
    assert {key: code[key] for key in kernel} == kernel
    assert code["packed_elems"] == 7


HERE = {"machine": checks._this_machine()[0], "system": checks._this_system()}


def manifest_for(*targets: tuple[str, list[str]], **library: object) -> dict[str, object]:
    """Of a bundle with one library, for these targets and their features."""
    return {
        "targets": [{"id": name, "cpu_features": features} for name, features in targets],
        "libraries": [
            {"pointer_bits": 64, "shared": "lib/libk.so", **HERE, **library}
            | {"targets": [name for name, _ in targets]}
        ],
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"machine": "sparc64"}, "made for sparc64, linux, 64 bits. This is "),
        ({"pointer_bits": 32}, "32 bits. This is .* 64 bits"),
        ({"system": "darwin"}, "made for .*, darwin"),
        ({"shared": None}, "a static bundle: .*link it into a C program"),
    ],
)
def test_foreign_machines_are_refused(change: dict[str, object], reason: str) -> None:
    checks.library_here(manifest_for(("t", [])))
    with pytest.raises(BundleError, match=reason):
        checks.library_here(manifest_for(("t", []), **change))


def test_one_target_that_fits_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "cpu_flags", lambda: frozenset({"asimd", "fp"}))
    wide, narrow = ("pi5", ["asimd", "asimddp"]), ("pi4", ["asimd"])
    found = checks.library_here(manifest_for(wide, narrow))
    assert found["targets"] == ["pi5", "pi4"]
    with pytest.raises(BundleError, match="made for pi5; this CPU lacks: asimddp"):
        checks.library_here(manifest_for(wide))
    monkeypatch.setattr(checks, "cpu_flags", lambda: frozenset({"fp"}))
    with pytest.raises(BundleError, match=r"made for pi5, pi4; this CPU lacks: asimd$"):
        checks.library_here(manifest_for(wide, narrow))


@pytest.mark.parametrize(
    ("machine", "text", "flags"),
    [
        ("x86_64", "flags\t\t: fpu sse avx\n", {"fpu", "sse", "avx"}),
        ("aarch64", "Features\t: fp asimd\nCPU part\t: 0xd08\n", {"fp", "asimd"}),
        ("riscv64", "isa\t: rv64imac_zicsr\n", {"rv_i", "rv_m", "rv_a", "rv_c"}),
        ("aarch64", "flags\t\t: fpu sse avx\n", None),  # the host's, under an emulator
        ("x86_64", "", None),
    ],
)
def test_flags_are_those_of_this_kind_of_processor(
    machine: str, text: str, flags: set[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_this_machine", lambda: (machine, 64))
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    assert checks.cpu_flags() == flags


def test_single_file_needs_numpy_alone() -> None:
    tree = ast.parse(standalone_source())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    third_party = {n.split(".")[0] for n in names} - set(sys.stdlib_module_names)
    assert third_party == {"numpy"}
    assert golden.__doc__ is not None
    assert golden.__doc__ not in standalone_source()


def test_single_file_runs_alone(tmp_path: Path) -> None:
    program = tmp_path / "tvmconv_load.py"
    program.write_text(standalone_source())
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no bundle is here" in done.stderr
