"""What a cubin says of its kernels: registers, stack, shared memory, constants, code.

A cubin is an ELF file with a section of code, of shared memory and of constants for each kernel.
The section ``.nv.info`` is a list of attributes, each four bytes (format, attribute, size) and a
value; some of them have a kernel's symbol and a count. NVIDIA documents the sections (CUDA Binary
Utilities) but not the numbers; those here were compared with what ptxas -v prints for six
architectures (tests/unit/test_cuda_compiler.py).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tvmconv.runtime.elf import Section, sections, symbols

_INFO: Final = ".nv.info"
_HAS_SIZE: Final = 0x04  # the attribute's value follows, of the size in its last two bytes
_FRAME: Final = 0x11
_REGISTERS: Final = 0x2F
# From sm_90 on every block has so many bytes of shared memory before the kernel's own, and the
# kernel's section counts them. The limit of a block is stated without them.
_RESERVED_SECTION: Final = ".nv.shared.reserved.0"
_RESERVED_BYTES: Final = 1024
_TOOLS: Final = b"Cuda compilation tools, release "


@dataclass(frozen=True)
class Usage:
    """What one kernel needs of a multiprocessor.

    Attributes:
        kernel: name of the function.
        registers: per thread.
        stack_bytes: local memory per thread: arrays that are no registers, and spills.
        shared_bytes: static shared memory per block; dynamic is added by the launch.
        constant_bytes: of the constant bank with the arguments.
        code_bytes: of machine code.
    """

    kernel: str
    registers: int
    stack_bytes: int
    shared_bytes: int
    constant_bytes: int
    code_bytes: int


def usage(cubin: bytes) -> tuple[Usage, ...]:
    """The kernels of a cubin, by name.

    Raises:
        BuildFailed: no ELF file.
    """
    found = {section.name: section for section in sections(cubin)}
    names = [symbol.name for symbol in symbols(cubin)]
    registers, frames = dict[str, int](), dict[str, int]()
    if _INFO in found:
        for attribute, at, count in _attributes(cubin, found[_INFO]):
            if attribute in (_REGISTERS, _FRAME):
                (registers if attribute == _REGISTERS else frames)[names[at]] = count
    reserved = _RESERVED_BYTES if _RESERVED_SECTION in found else 0

    def size(prefix: str, kernel: str) -> int:
        section = found.get(f"{prefix}.{kernel}")
        return section.size if section else 0

    kernels = sorted(n.removeprefix(".text.") for n in found if n.startswith(".text."))
    return tuple(
        Usage(
            kernel=kernel,
            registers=registers.get(kernel, 0),
            stack_bytes=frames.get(kernel, 0),
            shared_bytes=max(0, size(".nv.shared", kernel) - reserved),
            constant_bytes=size(".nv.constant0", kernel),
            code_bytes=size(".text", kernel),
        )
        for kernel in kernels
    )


def _attributes(cubin: bytes, section: Section) -> Iterator[tuple[int, int, int]]:
    """Attributes of two words: number, the index of a symbol, and a count."""
    at, end = section.offset, section.offset + section.size
    while at + 4 <= end:
        form, attribute, size = struct.unpack_from("<BBH", cubin, at)
        at += 4
        if form == _HAS_SIZE:
            if size == 8:
                yield (attribute, *struct.unpack_from("<II", cubin, at))
            at += size


def architecture(cubin: bytes) -> str:
    """What a cubin was compiled for, as "sm_90"."""
    (flags,) = struct.unpack_from("<I", cubin, 48)
    # Since CUDA 13 (ABI version 8) the number is in the second byte for all but old layouts.
    number = flags >> 8 & 0xFF if cubin[8] >= 8 else flags & 0xFF
    return f"sm_{number}"


def assembler_version(cubin: bytes) -> str:
    """Version of the ptxas that made a cubin, as "13.0.88"; empty where it does not say."""
    start = cubin.find(_TOOLS)
    if start < 0:
        return ""
    text = cubin[start : cubin.index(b"\0", start)].decode("ascii", "replace")
    return text.rpartition("V")[2]
