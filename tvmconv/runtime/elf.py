"""Just enough of ELF to hide the symbols of objects, and to measure their code and that of cubins.

Plain Python, so it works for objects of any target without that target's binutils.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tvmconv.errors import BuildFailed

_EXECUTABLE: Final = 0x4  # SHF_EXECINSTR
_SYMTAB: Final = 2
_LOCAL: Final = 0  # STB_LOCAL
_HIDDEN: Final = 2  # STV_HIDDEN
# TVM puts the same half-float conversions into every object; unused ones are dropped when linked.
_SHARED_HELPERS: Final = ".text.tvm.fp16.conv"


@dataclass(frozen=True)
class Section:
    """An entry of the section table; `kind` is ELF's type."""

    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True)
class Symbol:
    """An entry of the symbol table."""

    name: str
    at: int  # file offset of the entry's st_other byte
    binding: int
    section: int


@dataclass(frozen=True)
class _Layout:
    """Where the fields lie, for one of the two word sizes and one byte order."""

    order: str
    header: str  # e_shoff, and the last three half-words e_shentsize, e_shnum, e_shstrndx
    header_at: int
    counts_at: int
    section: str
    symbol: str
    wide: bool


def _layout(data: bytes) -> _Layout:
    if data[:4] != b"\x7fELF" or len(data) < 52:
        raise BuildFailed("object", data[:4], "an ELF file")
    order = "<" if data[5] == 1 else ">"
    if data[4] == 2:
        return _Layout(order, order + "Q", 40, 58, order + "IIQQQQIIQQ", order + "IBBHQQ", True)
    return _Layout(order, order + "I", 32, 46, order + "10I", order + "IIIBBH", False)


def sections(data: bytes) -> list[Section]:
    """The section table, in order.

    Raises:
        BuildFailed: no ELF file.
    """
    layout = _layout(data)
    (start,) = struct.unpack_from(layout.header, data, layout.header_at)
    size, count, names = struct.unpack_from(layout.order + "HHH", data, layout.counts_at)
    raw = [struct.unpack_from(layout.section, data, start + i * size) for i in range(count)]
    strings = raw[names][4]
    return [Section(_text(data, strings + r[0]), r[1], r[2], r[4], r[5], r[6]) for r in raw]


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def symbols(data: bytes) -> Iterator[Symbol]:
    """The symbols, in order."""
    layout = _layout(data)
    found = sections(data)
    step = struct.calcsize(layout.symbol)
    for table in (s for s in found if s.kind == _SYMTAB):
        strings = found[table.link].offset
        for at in range(table.offset, table.offset + table.size, step):
            fields = struct.unpack_from(layout.symbol, data, at)
            info, section = (fields[1], fields[3]) if layout.wide else (fields[3], fields[5])
            other_at = at + (5 if layout.wide else 13)
            yield Symbol(_text(data, strings + fields[0]), other_at, info >> 4, section)


def hide_symbols(data: bytes) -> bytes:
    """The object with every symbol that it defines made hidden: linked by name, never exported.

    What it needs from elsewhere (LLVM calls memset and memcpy) must stay visible.
    """
    out = bytearray(data)
    for symbol in symbols(data):
        if symbol.binding != _LOCAL and symbol.section != 0:
            out[symbol.at] = out[symbol.at] & ~3 | _HIDDEN
    return bytes(out)


def undefined_symbols(data: bytes) -> frozenset[str]:
    """Names that the object needs from elsewhere."""
    return frozenset(s.name for s in symbols(data) if s.section == 0 and s.name)


def defined_symbols(data: bytes) -> frozenset[str]:
    """Global names that the object defines, weak ones included."""
    return frozenset(s.name for s in symbols(data) if s.section != 0 and s.binding != _LOCAL)


def text_bytes(data: bytes) -> int:
    """Bytes of machine code of the kernel in the object, TVM's shared helpers apart."""
    code = (s for s in sections(data) if s.flags & _EXECUTABLE and s.name != _SHARED_HELPERS)
    return sum(s.size for s in code)
