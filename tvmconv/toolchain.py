"""The C compiler: finding it, and linking kernels with the runtime.

A kernel compiled for use in this process is linked against one shared copy of the runtime, so all
kernels share one thread pool; it is compiled once per compiler and kept in the user's cache folder.
A bundle carries its own copy inside its library.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from tvmconv.errors import BuildFailed, EnvironmentProblem
from tvmconv.runtime.elf import hide_symbols
from tvmconv.runtime.sources import CORE_SOURCES, SOURCE_DIR, runtime_sources

CFLAGS: Final = ("-std=c11", "-O2", "-fPIC", "-fvisibility=hidden", "-ffunction-sections")
# `defs`: a symbol that nobody defines fails here, by name, and not when the library is opened.
LDFLAGS: Final = ("-Wl,-s", "-Wl,--gc-sections", "-Wl,-z,defs")
# Headers, code and constants in one segment: 8 KiB less padding. ziglang does it unasked, and
# refuses the flag.
DENSE: Final = "-Wl,-z,noseparate-code"
# Says that the runtime's inner functions come from another library (runtime.h).
SHARED: Final = "TVMCONV_SHARED_RUNTIME"
LIBRARIES: Final = ("-lpthread", "-lm")


class HasTriple(Protocol):
    """What is read of a target."""

    @property
    def triple(self) -> str:
        """LLVM's target triple, such as "x86_64-linux-gnu"."""


def find_cc(target: HasTriple | None = None) -> tuple[str, ...]:
    """The command that starts a C compiler for `target` (default: this machine).

    $CC is taken first, then cc, gcc and clang, then the `ziglang` package from PyPI. For another
    architecture: `<triple>-gcc`, then ziglang.

    Raises:
        EnvironmentProblem: there is none; says what to install.
    """
    triple = target.triple if target is not None else None
    return _find_cc(triple, os.environ.get("CC", ""))


@functools.cache
def _find_cc(triple: str | None, chosen: str) -> tuple[str, ...]:
    foreign = triple is not None and triple.split("-")[0] != platform.machine()
    if not foreign and chosen:
        return tuple(shlex.split(chosen))
    for name in (f"{triple}-gcc",) if foreign else ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found is not None:
            return (found,)
    if importlib.util.find_spec("ziglang") is not None:
        zig = (sys.executable, "-m", "ziglang", "cc")
        return (*zig, "-target", str(triple)) if foreign else zig
    wanted = f"{triple}-gcc" if foreign else "gcc or clang"
    raise EnvironmentProblem(
        "C compiler", None, f"{wanted}, or `pip install ziglang`, or the variable CC"
    )


def cc_version(target: HasTriple | None = None) -> str:
    """First line of the compiler's own version text."""
    return _cc_version(find_cc(target))


@functools.cache
def _cc_version(cc: tuple[str, ...]) -> str:
    return _run([*cc, "--version"]).splitlines()[0]


def link_shared(
    objects: Sequence[bytes | Path],
    c_sources: Sequence[str | Path],
    out: Path,
    target: HasTriple | None = None,
    *,
    own_runtime: bool = False,
) -> Path:
    """Link TVM's objects and C sources into the shared library `out`, and return its path.

    Only functions marked TVMCONV_API are visible in it.

    Args:
        objects: object files (or their bytes) as TVM emits them.
        c_sources: C text (str) or files (Path); the runtime's headers are found.
        out: where the library goes; replaced atomically.
        target: whose triple picks the compiler; default: this machine.
        own_runtime: put a private copy of the runtime into the library, for shipping. Otherwise the
            library needs this machine's shared runtime.

    Raises:
        EnvironmentProblem: no C compiler.
        BuildFailed: it refused; carries its message.
    """
    cc = find_cc(target)
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        work = Path(folder)
        inputs = [str(p) for p in _object_files(objects, work)]
        inputs += [str(p) for p in _source_files(c_sources, work)]
        shared: tuple[str, ...] = ()
        if own_runtime:
            inputs += [str(SOURCE_DIR / name) for name in CORE_SOURCES]
        else:
            library = shared_runtime(target)
            shared = (f"-D{SHARED}", str(library), f"-Wl,-rpath,{library.parent}")
        built = work / out.name
        _run([*cc, *CFLAGS, f"-I{SOURCE_DIR}", "-shared", *inputs, *shared, *_ldflags(cc),
              f"-Wl,-soname,{out.name}", "-o", str(built)])  # fmt: skip
        _move(built, out)
    return out


def compile_object(source: str, out: Path, target: HasTriple | None = None) -> Path:
    """Compile C text to the object `out`, for libraries that need the shared runtime.

    Raises:
        EnvironmentProblem: no C compiler.
        BuildFailed: it refused; carries its message.
    """
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        text = _source_files([source], Path(folder))[0]
        _run([*find_cc(target), *CFLAGS, f"-D{SHARED}", f"-I{SOURCE_DIR}", "-c", str(text),
              "-o", str(out)])  # fmt: skip
    return out


def link_open(objects: Sequence[Path], out: Path, target: HasTriple | None = None) -> Path:
    """Link objects as they are, every symbol visible, against this machine's shared runtime.

    For candidates of a tuner: nothing is compiled, copied or stripped, which takes a fifth of
    `link_shared`'s time.

    Raises:
        EnvironmentProblem: no C compiler.
        BuildFailed: it refused; carries its message.
    """
    library = shared_runtime(target)
    _run([*find_cc(target), "-shared", *map(str, objects), str(library),
          f"-Wl,-rpath,{library.parent}", *LIBRARIES, "-o", str(out)])  # fmt: skip
    return out


def link_static(
    objects: Mapping[str, bytes],
    c_sources: Sequence[str | Path],
    out: Path,
    target: HasTriple | None = None,
) -> Path:
    """Put TVM's objects, C sources and the runtime into the archive `out`, and return its path.

    Args:
        objects: member name to object file.
        c_sources: C text (str) or files (Path); the runtime's headers are found.
        out: where the archive goes; replaced atomically.
        target: whose triple picks the compiler; default: this machine.

    Raises:
        EnvironmentProblem: no C compiler or no archiver.
        BuildFailed: one of them refused; carries its message.
    """
    cc = find_cc(target)
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        work = Path(folder)
        members = []
        sources = [*_source_files(c_sources, work), *(SOURCE_DIR / n for n in CORE_SOURCES)]
        for source in sources:
            members.append(work / f"{source.stem}.o")
            _run([*cc, *CFLAGS, f"-I{SOURCE_DIR}", "-c", str(source), "-o", str(members[-1])])
        for name, data in objects.items():
            members.append(work / name)
            members[-1].write_bytes(hide_symbols(data))
        strip = _find_tool("strip", target)
        if strip is not None:
            _run([*strip, "--strip-debug", *map(str, members)])
        ar = _find_tool("ar", target)
        if ar is None:
            raise EnvironmentProblem("ar", None, "binutils, or `pip install ziglang`")
        built = work / out.name
        _run([*ar, "rcsD", str(built), *map(str, members)])
        _move(built, out)
    return out


def _is_zig(cc: tuple[str, ...]) -> bool:
    return "ziglang" in cc


def _ldflags(cc: tuple[str, ...]) -> tuple[str, ...]:
    return (*LDFLAGS, *(() if _is_zig(cc) else (DENSE,)), *LIBRARIES)


def _find_tool(name: str, target: HasTriple | None) -> tuple[str, ...] | None:
    """A program that goes with the compiler; ziglang has `ar` alone."""
    cc = find_cc(target)
    if _is_zig(cc):
        return (*cc[:3], name) if name == "ar" else None
    beside = cc[0].removesuffix("gcc") + name if cc[0].endswith("-gcc") else name
    found = shutil.which(beside) or shutil.which(f"llvm-{name}")
    return None if found is None else (found,)


def shared_runtime(target: HasTriple | None = None) -> Path:
    """The runtime as a shared library in the user's cache folder, or in $TVMCONV_CACHE."""
    cc = find_cc(target)
    folder = _cache_folder()
    library = folder / f"libtvmconv_runtime-{_runtime_key(cc)}.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    sources = [str(SOURCE_DIR / name) for name in CORE_SOURCES]
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as work:
        built = Path(work) / library.name
        _run([*cc, *CFLAGS, f"-D{SHARED}", f"-I{SOURCE_DIR}", "-shared", *sources, *_ldflags(cc),
              f"-Wl,-soname,{library.name}", "-o", str(built)])  # fmt: skip
        _move(built, library)
    return library


@functools.cache
def _runtime_key(cc: tuple[str, ...]) -> str:
    text = repr((sorted(runtime_sources().items()), cc, _cc_version(cc), CFLAGS, _ldflags(cc)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cache_folder() -> Path:
    import platformdirs

    return Path(os.environ.get("TVMCONV_CACHE") or platformdirs.user_cache_dir("tvmconv"))


def _object_files(objects: Sequence[bytes | Path], work: Path) -> list[Path]:
    files = []
    for i, item in enumerate(objects):
        data = item if isinstance(item, bytes) else item.read_bytes()
        files.append(work / f"kernel{i}.o")
        files[-1].write_bytes(hide_symbols(data))
    return files


def _source_files(c_sources: Sequence[str | Path], work: Path) -> list[Path]:
    files = []
    for i, item in enumerate(c_sources):
        if isinstance(item, Path):
            files.append(item)
            continue
        files.append(work / f"source{i}.c")
        files[-1].write_text(item, encoding="utf-8")
    return files


def _move(built: Path, out: Path) -> None:
    """Rename within one file system: another process may be making or opening the same."""
    with tempfile.TemporaryDirectory(prefix=".making-", dir=out.parent) as beside:
        Path(shutil.copy(built, beside)).replace(out)


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EnvironmentProblem(f"cannot start {shlex.join(command[:3])}: {error}") from error
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-30:])
        raise BuildFailed(f"{shlex.join(command)} failed:\n{tail}")
    return done.stdout
