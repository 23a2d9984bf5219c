"""Finding compilers, linking, and the ELF reader."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.fake_kernel import FAKE, fake_object
from tvmconv import toolchain
from tvmconv.errors import BuildFailed, EnvironmentProblem
from tvmconv.runtime import wrapper_source
from tvmconv.runtime.elf import defined_symbols, hide_symbols, text_bytes, undefined_symbols
from tvmconv.toolchain import find_cc, link_shared, link_static


@dataclass(frozen=True)
class Machine:
    triple: str


def test_cc_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "some-cc --flag")
    assert find_cc() == ("some-cc", "--flag")


def test_cross_compiler_goes_by_the_triple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "host-cc")
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert find_cc(Machine("sparc64-linux-gnu")) == ("/bin/sparc64-linux-gnu-gcc",)


def test_no_compiler_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="pip install ziglang"):
        find_cc(Machine("m68k-linux-gnu"))


def test_compiler_that_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", "/nonexistent/cc")
    with pytest.raises(EnvironmentProblem, match="nonexistent"):
        link_shared([], ["int a;"], tmp_path / "a.so", own_runtime=True)


def exported(library: Path) -> set[str]:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True
    )
    return {line.split()[-1] for line in listing.stdout.splitlines()}


def test_shared_library_shows_the_public_functions_alone(tmp_path: Path) -> None:
    objects = [fake_object(tmp_path)]
    path = link_shared(objects, [wrapper_source([FAKE])], tmp_path / "a.so", own_runtime=True)
    shown = {"fake_pack", "fake_run", "tvmconv_cpu_missing", "tvmconv_error_text"}
    assert exported(path) == shown


def test_kernels_of_a_process_share_one_runtime(tmp_path: Path) -> None:
    runtime = toolchain.shared_runtime()
    stamp = runtime.stat().st_mtime_ns
    path = link_shared([fake_object(tmp_path)], [wrapper_source([FAKE])], tmp_path / "a.so")
    assert exported(path) == {"fake_pack", "fake_run"}
    assert toolchain.shared_runtime() == runtime
    assert runtime.stat().st_mtime_ns == stamp


def test_missing_entry_point_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="__tvm_ffi_fake_pack"):
        link_shared([], [wrapper_source([FAKE])], tmp_path / "a.so", own_runtime=True)
    assert not (tmp_path / "a.so").exists()


def test_static_library_links_by_itself(tmp_path: Path) -> None:
    members = {"fake.o": fake_object(tmp_path)}
    archive = link_static(members, [wrapper_source([FAKE])], tmp_path / "libfake.a")
    program = tmp_path / "program.c"
    program.write_text(
        "#include <stdint.h>\n"
        "int32_t fake_run(const float *, const float *, const float *, const float *,\n"
        "                 const float *, float *, int32_t);\n"
        "static float x[1000], packed[10], y[1000];\n"
        "int main(void) {\n"
        "  for (int i = 0; i < 10; ++i) packed[i] = 2;\n"
        "  for (int i = 0; i < 1000; ++i) x[i] = i;\n"
        "  if (fake_run(x, packed, 0, 0, 0, y, 3) != 0) return 1;\n"
        "  return y[999] == 1998 ? 0 : 2;\n"
        "}\n"
    )
    command = [*find_cc(), str(program), str(archive), "-lpthread", "-lm"]
    subprocess.run([*command, "-o", str(tmp_path / "program")], check=True)
    subprocess.run([tmp_path / "program"], check=True)


def test_static_library_is_reproducible(tmp_path: Path) -> None:
    members = {"fake.o": fake_object(tmp_path)}
    one, two = (
        link_static(members, [wrapper_source([FAKE])], tmp_path / name).read_bytes()
        for name in ("one.a", "two.a")
    )
    assert one == two


def test_elf_reader(tmp_path: Path) -> None:
    data = fake_object(tmp_path)
    assert {"__tvm_ffi_fake_run", "__tvm_ffi_main"} <= defined_symbols(data)
    assert undefined_symbols(data) <= {"_GLOBAL_OFFSET_TABLE_", "memcpy"}
    assert 100 < text_bytes(data) < 5000
    hidden = hide_symbols(data)
    assert len(hidden) == len(data)
    assert defined_symbols(hidden) == defined_symbols(data)
    assert hide_symbols(hidden) == hidden


def test_elf_reader_refuses_other_files() -> None:
    with pytest.raises(BuildFailed, match="ELF"):
        text_bytes(b"MZ" + bytes(100))
