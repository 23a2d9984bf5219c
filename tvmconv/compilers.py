"""Finding the C compiler for a target: this machine's own, zig from PyPI, or Debian's cross gcc."""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tvmconv.cross import Toolchain
from tvmconv.errors import BuildFailed, EnvironmentProblem
from tvmconv.target import Target

# Which of the two compiles for a target: "zig", "gcc", or, unset, what is there.
CHOICE: Final = "TVMCONV_TOOLCHAIN"
_CHOICES: Final = ("", "zig", "gcc")
_ZIGS: Final = ("cc", "c++")


@dataclass(frozen=True)
class Compiler:
    """A C compiler for one target.

    Attributes:
        command: what starts it, with the flags that choose the target.
        is_zig: whether it is zig, whose linker and archiver are parts of itself.
        system: operating system of what it makes, as ``Target.system`` names it.
        label: for people: "zig cc, aarch64-linux-gnu.2.17".
    """

    command: tuple[str, ...]
    is_zig: bool
    system: str
    label: str

    @property
    def version(self) -> str:
        """First line of its own version text."""
        if self.is_zig:  # whose `cc --version` refuses triples with a version of glibc
            return f"zig {_version((*self._zig, 'version'))}"
        return _version((*self.command, "--version"))

    @property
    def _zig(self) -> tuple[str, ...]:
        """What starts zig itself, whose compilers are commands of it."""
        return self.command[: min(self.command.index(c) for c in _ZIGS if c in self.command)]

    def tool(self, name: str) -> tuple[str, ...] | None:
        """A program that goes with the compiler ("ar", "strip"), None when it is not there."""
        if self.is_zig:
            # zig has an archiver; it leaves nothing to strip unless told to.
            return (*self._zig, name) if name == "ar" else None
        program = self.command[0]
        beside = program.removesuffix("gcc") + name if program.endswith("-gcc") else name
        found = shutil.which(beside) or shutil.which(f"llvm-{name}")
        return None if found is None else (found,)


def find_cc(target: Target | None = None) -> tuple[str, ...]:
    """The command of `find_compiler`."""
    return find_compiler(target).command


def find_compiler(target: Target | None = None, *, static: bool = False) -> Compiler:
    """The C compiler for `target` (default: this machine).

    For this machine $CC is taken first, then cc, gcc and clang, then zig. For another one zig, then
    the cross compiler of Debian. The variable TVMCONV_TOOLCHAIN decides: "zig" also takes it for
    this machine, with the target's oldest glibc; "gcc" never takes it.

    Args:
        target: what to compile for.
        static: for programs that need nothing on the device; zig then takes musl's C library.

    Raises:
        EnvironmentProblem: there is none; says what to install.
    """
    choice = os.environ.get(CHOICE, "")
    if choice not in _CHOICES:
        raise EnvironmentProblem(CHOICE, choice, "zig, gcc, or unset")
    if target is None:
        return _native(Toolchain(), choice, os.environ.get("CC", ""))
    toolchain = target.toolchain
    static = static and target.system == "linux"
    if static:
        flags = (*toolchain.gcc_flags, "-static")
        toolchain = replace(toolchain, zig=toolchain.zig_static, gcc_flags=flags)
    if target.is_this_machine:
        native = _native(toolchain, choice, os.environ.get("CC", ""))
        if not static:
            return native
        if native.is_zig:
            return _zig_for(native.command[: native.command.index("cc")], toolchain, target.system)
        return replace(native, command=(*native.command, "-static"))
    return _cross(target.id, toolchain, target.system, choice)


def find_cxx() -> Compiler:
    """A C++ compiler for this machine: $CXX, then c++, g++ and clang++, then zig.

    Raises:
        EnvironmentProblem: there is none; says what to install.
    """
    return _native_cxx(os.environ.get(CHOICE, ""), os.environ.get("CXX", ""))


@functools.cache
def _native_cxx(choice: str, chosen: str) -> Compiler:
    if choice != "zig":
        if chosen:
            command = tuple(shlex.split(chosen))
            return Compiler(command, "ziglang" in command, sys.platform, chosen)
        for name in ("c++", "g++", "clang++"):
            found = shutil.which(name)
            if found is not None:
                return Compiler((found,), False, sys.platform, name)
    zig = _zig()
    if zig is not None and choice != "gcc":
        return Compiler((*zig, "c++"), True, sys.platform, "zig c++")
    allowed = "g++ or clang++, or `pip install ziglang`, or the variable CXX"
    raise EnvironmentProblem("C++ compiler", None, allowed)


@functools.cache
def _native(toolchain: Toolchain, choice: str, chosen: str) -> Compiler:
    if choice != "zig":
        if chosen:
            command = tuple(shlex.split(chosen))
            return Compiler(command, _is_zig(command), sys.platform, chosen)
        for name in ("cc", "gcc", "clang"):
            found = shutil.which(name)
            if found is not None:
                return Compiler((found,), False, sys.platform, name)
    zig = _zig()
    if zig is not None and choice != "gcc":
        if choice == "zig":
            return _zig_for(zig, toolchain, sys.platform)
        return Compiler((*zig, "cc"), True, sys.platform, "zig cc")
    wanted = "`pip install ziglang`" if choice == "zig" else "gcc or clang"
    other = "" if choice else ", or `pip install ziglang`"
    raise EnvironmentProblem("C compiler", None, f"{wanted}{other}, or the variable CC")


@functools.cache
def _cross(target_id: str, toolchain: Toolchain, system: str, choice: str) -> Compiler:
    zig = _zig() if toolchain.zig and choice != "gcc" else None
    if zig is not None:
        return _zig_for(zig, toolchain, system)
    if toolchain.gcc and choice != "zig":
        found = shutil.which(f"{toolchain.gcc}-gcc")
        if found is not None:
            command = (found, *toolchain.gcc_flags)
            return Compiler(command, False, system, f"{toolchain.gcc}-gcc")
    ways = []
    if toolchain.zig and choice != "gcc":
        ways.append("`pip install 'tvmconv[cross]'` (the ziglang wheel)")
    if toolchain.gcc and choice != "zig":
        ways.append(f"`{toolchain.gcc}-gcc` (Debian: gcc-{toolchain.gcc})")
    allowed = " or ".join(ways) or f"another value of {CHOICE}"
    raise EnvironmentProblem(f"C compiler for {target_id}", None, allowed)


def _zig_for(zig: tuple[str, ...], toolchain: Toolchain, system: str) -> Compiler:
    for_target = ("-target", toolchain.zig, *toolchain.zig_flags) if toolchain.zig else ()
    label = ", ".join(["zig cc", *for_target[1:2]])
    return Compiler((*zig, "cc", *for_target), True, system, label)


def _zig() -> tuple[str, ...] | None:
    if importlib.util.find_spec("ziglang") is not None:
        return (sys.executable, "-m", "ziglang")
    found = shutil.which("zig")
    return None if found is None else (found,)


def _is_zig(command: tuple[str, ...]) -> bool:
    return "cc" in command and ("ziglang" in command or command[0].endswith("zig"))


@functools.cache
def _version(command: tuple[str, ...]) -> str:
    return run(command).splitlines()[0]


def run(command: Sequence[str], *, both: bool = False) -> str:
    """Run a tool and return what it printed, with `both` what it reported on stderr as well.

    Raises:
        EnvironmentProblem: it cannot be started.
        BuildFailed: it refused; carries the end of its message.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise EnvironmentProblem(f"cannot start {shlex.join(command[:3])}: {error}") from error
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-30:])
        raise BuildFailed(f"{shlex.join(command)} failed:\n{tail}")
    return done.stdout + done.stderr if both else done.stdout
