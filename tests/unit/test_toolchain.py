"""Finding compilers, linking, and the ELF reader."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.fake_kernel import FAKE, fake_object
from tvmconv import compilers, toolchain
from tvmconv.compilers import CHOICE
from tvmconv.cross import Toolchain
from tvmconv.errors import BuildFailed, EnvironmentProblem, TargetError
from tvmconv.runtime import wrapper_source
from tvmconv.runtime.objects import defined_symbols, hide_symbols, text_bytes, undefined_symbols
from tvmconv.target import Target, load
from tvmconv.toolchain import find_cc, link_shared, link_static


def foreign(zig: str = "", gcc: str = "") -> Target:
    """A machine that this one is not, with these names of compilers."""
    return replace(load("pi4"), triple="m68k-linux-gnu", toolchain=Toolchain(zig, gcc))


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Set TVMCONV_TOOLCHAIN."""
    monkeypatch.delenv(CHOICE, raising=False)
    return lambda choice: monkeypatch.setenv(CHOICE, choice)


@pytest.fixture
def no_zig(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine without zig, and with every other program."""
    monkeypatch.setattr("shutil.which", lambda name: None if name == "zig" else f"/bin/{name}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for cached in (compilers._native, compilers._cross):
        cached.cache_clear()
    yield
    for cached in (compilers._native, compilers._cross):
        cached.cache_clear()


@pytest.fixture
def no_compiler(no_zig: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)


def test_cc_variable_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "some-cc --flag")
    assert find_cc() == ("some-cc", "--flag")


@pytest.mark.usefixtures("no_zig", "choose")
def test_cross_compiler_goes_by_its_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "host-cc")
    assert find_cc(foreign(gcc="m68k-linux-gnu")) == ("/bin/m68k-linux-gnu-gcc",)


def test_zig_comes_first_for_another_machine(
    choose: Callable[[str], None], no_zig: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    target = foreign(zig="m68k-linux-gnu.2.17", gcc="m68k-linux-gnu")
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", "m68k-linux-gnu.2.17")
    assert find_cc(target) == zig
    choose("gcc")
    assert find_cc(target) == ("/bin/m68k-linux-gnu-gcc",)
    choose("zig")
    assert find_cc(target) == zig
    assert find_cc(foreign(zig="m68k-linux-gnu")) == (*zig[:-1], "m68k-linux-gnu")


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("", "pip install 'tvmconv[cross]'` (the ziglang wheel) or `m68k-gcc` (Debian: gcc-m68k)"),
        ("gcc", "allowed: `m68k-gcc`"),
        ("zig", "allowed: `pip install"),
        ("clang", f"{CHOICE}: got 'clang'; allowed: zig, gcc, or unset"),
    ],
)
@pytest.mark.usefixtures("no_compiler")
def test_no_compiler_says_what_to_install(
    choice: str, words: str, choose: Callable[[str], None]
) -> None:
    if choice:
        choose(choice)
    with pytest.raises(EnvironmentProblem) as error:
        find_cc(foreign(zig="m68k", gcc="m68k"))
    assert words in str(error.value)


@pytest.mark.usefixtures("no_compiler", "choose")
def test_no_compiler_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(EnvironmentProblem, match="gcc or clang, or `pip install ziglang`"):
        find_cc()


def test_firmware_has_no_shared_libraries(tmp_path: Path) -> None:
    try:
        find_cc(load("cortex_m7"))
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    with pytest.raises(TargetError, match="static libraries alone"):
        link_shared([], [], tmp_path / "a.so", load("cortex_m7"), own_runtime=True)


def test_runtime_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVMCONV_CACHE", str(tmp_path))
    made = toolchain.runtime_objects(compilers.find_compiler())
    stamps = [path.stat().st_mtime_ns for path in made]
    assert toolchain.runtime_objects(compilers.find_compiler()) == made
    assert [path.stat().st_mtime_ns for path in made] == stamps
    assert [path.name for path in tmp_path.iterdir()] == [made[0].parent.name]


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
