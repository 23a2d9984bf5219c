"""The runtime of static bundles: what it needs, and that too little workspace is an error code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.unit.fake_kernel import C_DIR, FAKE, fake_object
from tvmconv.errors import BuildFailed
from tvmconv.runtime import wrapper_source
from tvmconv.runtime.archive import members, needed_symbols
from tvmconv.runtime.objects import defined_symbols
from tvmconv.runtime.sources import FREESTANDING, SOURCE_DIR, STATIC_HEADERS, STATIC_SOURCES
from tvmconv.target import load
from tvmconv.toolchain import data_object, find_cc, link_static

WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    objects = {"fake.o": fake_object(tmp_path)}
    return link_static(objects, [wrapper_source([FAKE])], tmp_path / "libfake.a", bare=True)


@pytest.mark.parametrize("source", STATIC_SOURCES)
def test_sources_compile_without_warnings(tmp_path: Path, source: str) -> None:
    flags = [*WARNINGS, "-O2", f"-D{FREESTANDING}", "-ffreestanding"]
    command = [*find_cc(), *flags, "-c", str(SOURCE_DIR / source), "-o", str(tmp_path / "o.o")]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("language", ["c", "c++"])
def test_headers_stand_alone(tmp_path: Path, language: str) -> None:
    for header in STATIC_HEADERS:
        source = tmp_path / "source.c"
        source.write_text(f'#include "{header}"\n')
        command = [*find_cc(), "-x", language, "-Wall", "-Wextra", "-Werror", f"-I{SOURCE_DIR}"]
        subprocess.run([*command, "-c", str(source), "-o", str(tmp_path / "o.o")], check=True)


def test_it_needs_no_more_than_memcpy(library: Path) -> None:
    assert set(needed_symbols(library.read_bytes())) <= {"memcpy", "memset"}
    assert len(list(members(library.read_bytes()))) == len(STATIC_SOURCES) + 2


@pytest.mark.parametrize("sanitizer", ["", "-fsanitize=address,undefined"])
def test_workspace_that_is_short_is_an_error_code(
    library: Path, tmp_path: Path, sanitizer: str
) -> None:
    program = tmp_path / "program"
    flags = [*WARNINGS, f"-I{SOURCE_DIR}", *([sanitizer] if sanitizer else [])]
    inputs = [str(C_DIR / "static_runtime.c"), str(library)]
    built = subprocess.run(
        [*find_cc(), *flags, *inputs, "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    if sanitizer and "cannot find" in built.stderr:
        pytest.skip(f"this compiler has no run-time library for {sanitizer}")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.stdout == "ok\n", done.stderr


def test_data_becomes_a_constant(tmp_path: Path) -> None:
    data = tmp_path / "some data.bin"
    data.write_bytes(bytes(range(256)))
    found = data_object("table", data, load("host"))
    assert defined_symbols(found) == {"table"}
    assert bytes(range(256)) in found


def test_what_is_no_archive_is_refused() -> None:
    with pytest.raises(BuildFailed, match="a static library"):
        needed_symbols(b"\x7fELF")
