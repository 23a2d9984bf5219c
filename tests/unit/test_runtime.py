"""The C runtime: compiled without warnings, stressed under sanitizers, and its checks."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.fake_kernel import C_DIR, FAKE, fake_object
from tvmconv.errors import BuildFailed
from tvmconv.runtime import KernelSymbol, cpu_features, wrapper_source
from tvmconv.runtime.sources import CORE_SOURCES, PUBLIC_HEADERS, SOURCE_DIR
from tvmconv.runtime.wrapper import prototype
from tvmconv.toolchain import find_cc, link_shared

WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def build(tmp_path: Path, *flags: str) -> Path:
    program = tmp_path / "pool_stress"
    sources = [C_DIR / "pool_stress.c", *(SOURCE_DIR / name for name in CORE_SOURCES)]
    command = [*find_cc(), *WARNINGS, "-g", "-O1", *flags, f"-I{SOURCE_DIR}", *map(str, sources)]
    done = subprocess.run(
        [*command, "-lpthread", "-lm", "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    if flags and "fsanitize" in flags[0] and "cannot find" in done.stderr:
        pytest.skip(f"this compiler has no run-time library for {flags[0]}")
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize("source", CORE_SOURCES)
@pytest.mark.parametrize("define", ["-DSTATIC", "-DTVMCONV_SHARED_RUNTIME"])
def test_sources_compile_without_warnings(tmp_path: Path, source: str, define: str) -> None:
    out = str(tmp_path / "object.o")
    command = [*find_cc(), *WARNINGS, "-O2", define, "-c", str(SOURCE_DIR / source), "-o", out]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("language", ["c", "c++"])
def test_public_headers_stand_alone(tmp_path: Path, language: str) -> None:
    for header in PUBLIC_HEADERS:
        source = tmp_path / "source.c"
        source.write_text(f'#include "{header}"\n')
        command = [*find_cc(), "-x", language, "-Wall", "-Wextra", "-Werror", f"-I{SOURCE_DIR}"]
        subprocess.run([*command, "-c", str(source), "-o", str(tmp_path / "o.o")], check=True)


def test_pool_under_stress_and_fork(tmp_path: Path) -> None:
    program = build(tmp_path)
    for _ in range(3):
        done = subprocess.run([program, "fork"], capture_output=True, text=True, timeout=60)
        assert done.stdout == "ok\n", done.stderr


@pytest.mark.parametrize("sanitizer", ["thread", "address,undefined"])
def test_pool_under_sanitizers(tmp_path: Path, sanitizer: str) -> None:
    program = build(tmp_path, f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    done = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "ok\n", done.stderr


def load_fake(tmp_path: Path, kernel: KernelSymbol = FAKE, own_runtime: bool = True) -> Any:
    sources = [wrapper_source([kernel])]
    path = link_shared(
        [fake_object(tmp_path)], sources, tmp_path / "libfake.so", own_runtime=own_runtime
    )
    library = ctypes.CDLL(str(path))
    library.fake_run.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_int32]
    library.fake_pack.argtypes = [ctypes.c_void_p] * 5
    library.tvmconv_error_text.restype = ctypes.c_char_p
    return library


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., str]:
    """Run the fake kernel on addresses and give the text of its result."""
    library = load_fake(tmp_path)

    def run(x: int | None, packed: int | None, y: int | None, threads: int = 1) -> str:
        code = library.fake_run(x, packed, None, None, None, y, threads)
        text: bytes = library.tvmconv_error_text(code)
        return text.decode()

    return run


@pytest.mark.parametrize("own_runtime", [True, False])
@pytest.mark.parametrize("threads", [-1, 0, 1, 2, 3, 17, 1000])
def test_wrapped_kernel_computes(tmp_path: Path, own_runtime: bool, threads: int) -> None:
    library = load_fake(tmp_path, own_runtime=own_runtime)
    x = np.arange(1000, dtype=np.float32)
    weight = np.arange(1, 11, dtype=np.float32)
    packed, y = np.zeros(10, np.float32), np.zeros(1000, np.float32)
    assert library.fake_pack(weight.ctypes.data, None, None, None, packed.ctypes.data) == 0
    pointers = (x.ctypes.data, packed.ctypes.data, None, None, None, y.ctypes.data)
    assert library.fake_run(*pointers, threads) == 0
    assert np.array_equal(y, x * np.tile(weight, 100))


def test_wrapper_names_a_missing_pointer(call: Callable[..., str]) -> None:
    array = np.zeros(1000, np.float32)
    data = array.ctypes.data
    assert call(None, data, data) == "x must not be NULL"
    assert call(data, None, data) == "packed must not be NULL"
    assert call(data, data, None) == "y must not be NULL"


def test_wrapper_names_a_misaligned_pointer(call: Callable[..., str]) -> None:
    array = np.zeros(1002, np.float32)
    data = array.ctypes.data
    assert call(data, data, data + 4) == "ok"
    assert call(data, data, data + 2).startswith("y must point to float32 values")


def test_empty_batches_need_no_pointers(tmp_path: Path) -> None:
    kernel = KernelSymbol("fake", FAKE.run_args, FAKE.pack_args, empty=True)
    library = load_fake(tmp_path, kernel)
    assert library.fake_run(None, None, None, None, None, None, 2) == 0


def test_error_text_of_unknown_codes(tmp_path: Path) -> None:
    library = load_fake(tmp_path)
    for code in (1, -1, -100, -111, -200, -211, -(2**31), 2**31 - 1):
        assert library.tvmconv_error_text(code) == b"unknown tvmconv error code"


def test_cpu_without_the_features_is_refused(tmp_path: Path) -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    absent = [name for name in cpu_features() if name not in flags]
    if not absent:
        pytest.skip("this CPU has every instruction set that the runtime knows")
    kernel = KernelSymbol("fake", FAKE.run_args, FAKE.pack_args, tuple(absent))
    library = load_fake(tmp_path, kernel)
    array = np.zeros(1000, np.float32)
    data = array.ctypes.data
    code = library.fake_run(data, data, None, None, None, data, 1)
    assert library.tvmconv_error_text(code).startswith(b"this CPU lacks")
    names = ctypes.create_string_buffer(512)
    library.tvmconv_cpu_missing.argtypes = [ctypes.c_uint64, ctypes.c_char_p, ctypes.c_size_t]
    library.tvmconv_cpu_missing.restype = ctypes.c_uint64
    every = sum(1 << bit for bit in cpu_features().values())
    assert library.tvmconv_cpu_missing(every, names, 512) != 0
    assert sorted(names.value.decode().split()) == sorted(absent)
    assert library.tvmconv_cpu_missing(every, names, 2) != 0  # no room for any name
    assert names.value == b""


def test_signatures_do_not_depend_on_the_spec() -> None:
    other = KernelSymbol("fake", ("x", "packed", "residual", "y"), ("weight", "bias", "packed"))
    assert prototype(other, "run") == prototype(FAKE, "run")
    assert prototype(other, "pack") == prototype(FAKE, "pack")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("1x", ("x", "y"), ()), "symbol"),
        (("a", ("x", "x"), ()), "arguments of a"),
        (("a", ("weight",), ()), "arguments of a"),
        (("a", ("x",), ("packed",), ("avx1024",)), "cpu feature"),
    ],
)
def test_bad_symbols_are_refused(arguments: Any, what: str) -> None:
    with pytest.raises(BuildFailed, match=f"^{what}"):
        KernelSymbol(*arguments)
