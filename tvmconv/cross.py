"""What makes and runs a target's programs on another machine: compilers of C, and an emulator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Toolchain:
    """What compiles and links C for a target, by each compiler's own names.

    Attributes:
        zig: triple for ``zig cc -target``, with the oldest glibc that has to do, such as
            "aarch64-linux-gnu.2.17"; empty when zig cannot.
        gcc: prefix of Debian's cross compiler, such as "aarch64-linux-gnu"; empty when there is
            none.
        zig_flags: further arguments of ``zig cc``.
        gcc_flags: further arguments of gcc.
    """

    zig: str = ""
    gcc: str = ""
    zig_flags: tuple[str, ...] = ()
    gcc_flags: tuple[str, ...] = ()

    @property
    def zig_static(self) -> str:
        """Triple for programs that need nothing on the device: musl in place of glibc."""
        return self.zig.partition(".")[0].replace("gnu", "musl")


@dataclass(frozen=True)
class Emulator:
    """What runs a target's programs on another machine.

    Attributes:
        program: QEMU's user-mode emulator, such as "qemu-aarch64".
        cpu: its ``-cpu``: a CPU that has what the target asks for and nothing more.
        sysroot: where Debian's cross packages put the target's C library.
    """

    program: str
    cpu: str
    sysroot: str = ""
