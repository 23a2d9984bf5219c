"""Linking kernels with the runtime, for this process and for shipping, on any target.

A kernel compiled for use in this process is linked against one shared copy of the runtime, so all
kernels share one thread pool. A bundle carries its own copy inside its library. Either way the
runtime is compiled once per compiler and kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tvmconv.compilers import Compiler, find_cc, find_compiler, run
from tvmconv.errors import EnvironmentProblem, TargetError
from tvmconv.runtime.objects import hide_symbols
from tvmconv.runtime.sources import (
    CORE_SOURCES,
    FREESTANDING,
    SOURCE_DIR,
    STATIC_SOURCES,
    runtime_sources,
)
from tvmconv.target import Target

__all__ = ["cache_folder", "cc_version", "compile_object", "data_object", "find_cc", "link_open",
           "link_shared", "link_static", "shared_runtime"]  # fmt: skip

# `-g0`: zig would add debug information, nine tenths of an archive. Sections, so that a program
# takes only the kernels that it calls: their tables are data.
CFLAGS: Final = (
    "-std=c11", "-O2", "-g0", "-fPIC", "-fvisibility=hidden", "-ffunction-sections",
    "-fdata-sections",
)  # fmt: skip
# Of static bundles. Without a C library a stack protector or a sanitizer would miss its support;
# zig puts one of undefined behaviour into everything.
BARE: Final = (
    f"-D{FREESTANDING}", "-ffreestanding", "-fno-stack-protector", "-fno-sanitize=all",
)  # fmt: skip
# `defs`: a symbol that nobody defines fails here, by name, and not when the library is opened.
# macOS refuses those unasked.
LDFLAGS: Final = {
    "linux": ("-Wl,-s", "-Wl,--gc-sections", "-Wl,-z,defs"),
    "darwin": ("-Wl,-s", "-Wl,-dead_strip"),
}
# Headers, code and constants in one segment: 8 KiB less padding. ziglang does it unasked, and
# refuses the flag.
DENSE: Final = "-Wl,-z,noseparate-code"
# Says that the runtime's inner functions come from another library (runtime.h).
SHARED: Final = "TVMCONV_SHARED_RUNTIME"
LIBRARIES: Final = ("-lpthread", "-lm")

_LOG = logging.getLogger(__name__)


def cc_version(target: Target | None = None) -> str:
    """First line of the compiler's own version text."""
    return find_compiler(target).version


def link_shared(
    objects: Sequence[bytes | Path],
    c_sources: Sequence[str | Path],
    out: Path,
    target: Target | None = None,
    *,
    own_runtime: bool = False,
) -> Path:
    """Link TVM's objects and C sources into the shared library `out`, and return its path.

    Only functions marked TVMCONV_API are visible in it.

    Args:
        objects: object files (or their bytes) as TVM emits them.
        c_sources: C text (str) or files (Path); the runtime's headers are found.
        out: where the library goes; replaced atomically.
        target: picks the compiler; default: this machine.
        own_runtime: put a private copy of the runtime into the library, for shipping. Otherwise the
            library needs this machine's shared runtime.

    Raises:
        EnvironmentProblem: no C compiler.
        BuildFailed: it refused; carries its message.
        TargetError: the target is firmware, which has no shared libraries.
    """
    compiler = find_compiler(target)
    if compiler.system not in LDFLAGS:
        raise TargetError(f"{target.id if target else 'target'} has static libraries alone")
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        work = Path(folder)
        inputs = [str(p) for p in _object_files(objects, work)]
        inputs += [str(p) for p in _source_files(c_sources, work)]
        shared: tuple[str, ...] = ()
        if own_runtime:
            inputs += map(str, runtime_objects(compiler))
        else:
            library = shared_runtime(target)
            shared = (f"-D{SHARED}", str(library), f"-Wl,-rpath,{library.parent}")
        built = work / out.name
        run([*compiler.command, *CFLAGS, f"-I{SOURCE_DIR}", "-shared", *inputs, *shared,
             *_ldflags(compiler, out.name), "-o", str(built)])  # fmt: skip
        _move(built, out)
    return out


def compile_object(source: str, out: Path, target: Target | None = None) -> Path:
    """Compile C text to the object `out`, for libraries that need the shared runtime.

    Raises:
        EnvironmentProblem: no C compiler.
        BuildFailed: it refused; carries its message.
    """
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        text = _source_files([source], Path(folder))[0]
        run([*find_cc(target), *CFLAGS, f"-D{SHARED}", f"-I{SOURCE_DIR}", "-c", str(text),
             "-o", str(out)])  # fmt: skip
    return out


def link_open(objects: Sequence[Path], out: Path, target: Target | None = None) -> Path:
    """Link objects as they are, every symbol visible, against this machine's shared runtime.

    For candidates of a tuner: nothing is compiled, copied or stripped, which takes a fifth of
    `link_shared`'s time.

    Raises:
        EnvironmentProblem: no C compiler.
        BuildFailed: it refused; carries its message.
    """
    library = shared_runtime(target)
    run([*find_cc(target), "-shared", *map(str, objects), str(library),
         f"-Wl,-rpath,{library.parent}", *LIBRARIES, "-o", str(out)])  # fmt: skip
    return out


def link_static(
    objects: Mapping[str, bytes],
    c_sources: Sequence[str | Path],
    out: Path,
    target: Target | None = None,
    *,
    bare: bool = False,
) -> Path:
    """Put TVM's objects, C sources and the runtime into the archive `out`, and return its path.

    Args:
        objects: member name to object file.
        c_sources: C text (str) or files (Path); the runtime's headers are found.
        out: where the archive goes; replaced atomically.
        target: picks the compiler; default: this machine.
        bare: take the runtime of static bundles, which needs no C library, threads or system.

    Raises:
        EnvironmentProblem: no C compiler or no archiver.
        BuildFailed: one of them refused; carries its message.
    """
    compiler = find_compiler(target)
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        work = Path(folder)
        sources = _source_files(c_sources, work)
        flags = BARE if bare else ()
        members = [
            _compile(compiler, source, work / f"{source.stem}.o", *flags) for source in sources
        ]
        runtime = runtime_objects(compiler, bare=bare)
        members += [Path(shutil.copy(path, work)) for path in runtime]
        for name, data in objects.items():
            members.append(work / name)
            members[-1].write_bytes(hide_symbols(data))
        archive(members, out, compiler)
    return out


def data_object(symbol: str, data: Path, target: Target) -> bytes:
    """An object file with the bytes of a file as the constant `symbol`, 64-byte aligned.

    By the assembler, which reads them as they are: as C text they would be five times as long.

    Raises:
        EnvironmentProblem: no C compiler.
        BuildFailed: it refused; carries its message.
    """
    apple = target.system == "darwin"
    name = f"_{symbol}" if apple else symbol
    section = "__TEXT,__const" if apple else f'.rodata.{symbol},\\"a\\"'
    lines = [f".section {section}", ".balign 64", f".globl {name}", f"{name}:",
             f'.incbin \\"{data.resolve()}\\"']  # fmt: skip
    if not apple:
        lines += [f".type {name}, %object", f".size {name}, . - {name}"]
    text = "".join(f'"{line}\\n"\n' for line in lines)
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        source, out = Path(folder) / "data.c", Path(folder) / "data.o"
        source.write_text(f"__asm__({text});\n", encoding="utf-8")
        _compile(find_compiler(target), source, out, *BARE)
        return out.read_bytes()


def archive(members: Sequence[Path], out: Path, compiler: Compiler) -> Path:
    """Put object files into the static library `out`, replaced atomically, without debug symbols.

    Raises:
        EnvironmentProblem: no archiver.
        BuildFailed: a tool refused; carries its message.
    """
    strip = compiler.tool("strip")
    if strip is not None:
        run([*strip, "--strip-debug", *map(str, members)])
    ar = compiler.tool("ar")
    if ar is None:
        raise EnvironmentProblem("ar", None, "binutils, or `pip install ziglang`")
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        built = Path(folder) / out.name
        run([*ar, "rcsD", str(built), *map(str, members)])
        _move(built, out)
    return out


def _compile(compiler: Compiler, source: Path, out: Path, *flags: str) -> Path:
    run([*compiler.command, *CFLAGS, *flags, f"-I{SOURCE_DIR}", "-c", str(source), "-o", str(out)])
    return out


def _ldflags(compiler: Compiler, name: str) -> tuple[str, ...]:
    """Flags of the linker for a library that others know as `name`."""
    if compiler.system == "darwin":
        return (*LDFLAGS["darwin"], f"-Wl,-install_name,@rpath/{name}")
    dense = () if compiler.is_zig else (DENSE,)
    return (*LDFLAGS[compiler.system], *dense, *LIBRARIES, f"-Wl,-soname,{name}")


def shared_runtime(target: Target | None = None) -> Path:
    """The runtime as a shared library in the user's cache folder, or in $TVMCONV_CACHE."""
    compiler = find_compiler(target)
    folder = cache_folder()
    library = folder / f"libtvmconv_runtime-{_runtime_key(compiler)}.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    sources = [str(SOURCE_DIR / name) for name in CORE_SOURCES]
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as work:
        built = Path(work) / library.name
        run([*compiler.command, *CFLAGS, f"-D{SHARED}", f"-I{SOURCE_DIR}", "-shared", *sources,
             *_ldflags(compiler, library.name), "-o", str(built)])  # fmt: skip
        _move(built, library)
    return library


def runtime_objects(compiler: Compiler, *, bare: bool = False) -> tuple[Path, ...]:
    """The runtime's object files for linking into a library, from the user's cache folder."""
    folder = cache_folder() / f"{'bare' if bare else 'runtime'}-{_runtime_key(compiler)}"
    sources = STATIC_SOURCES if bare else CORE_SOURCES
    found = tuple(folder / f"{Path(name).stem}.o" for name in sources)
    if folder.is_dir():
        return found
    cache_folder().mkdir(parents=True, exist_ok=True)
    if compiler.is_zig:
        _LOG.info("compiling the C runtime with %s: up to a minute, once", compiler.label)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=cache_folder()) as work:
        making = Path(work) / folder.name
        making.mkdir()
        for name, path in zip(sources, found, strict=True):
            _compile(compiler, SOURCE_DIR / name, making / path.name, *(BARE if bare else ()))
        if compiler.is_zig and not bare:
            # Linking makes zig build its C library, which is most of the minute.
            run([*compiler.command, "-shared", *(str(making / p.name) for p in found),
                 *_ldflags(compiler, "first"), "-o", str(Path(work) / "first")])  # fmt: skip
        # Another process may have been faster; its files are the same.
        with contextlib.suppress(OSError):
            making.rename(folder)
    return found


@functools.cache
def _runtime_key(compiler: Compiler) -> str:
    parts = (sorted(runtime_sources().items()), compiler, compiler.version, CFLAGS, LDFLAGS,
             DENSE, BARE)  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def cache_folder() -> Path:
    """Where compiled runtimes are kept: $TVMCONV_CACHE, or a folder of the user's."""
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
