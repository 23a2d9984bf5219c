"""Just enough of Mach-O, Apple's object format, to do what elf.py does: 64-bit objects."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"\xcf\xfa\xed\xfe"
_HEADER_BYTES: Final = 32
_SEGMENT: Final = 0x19  # LC_SEGMENT_64
_SYMTAB: Final = 0x2  # LC_SYMTAB
_SECTION: Final = struct.Struct("<16s16sQQIIIIIIII")
_SYMBOL: Final = struct.Struct("<IBBHQ")
_EXTERNAL, _PRIVATE, _KIND = 0x01, 0x10, 0x0E  # bits of n_type
_CODE: Final = 0x80000000  # S_ATTR_PURE_INSTRUCTIONS


@dataclass(frozen=True)
class _Symbol:
    name: str
    at: int  # file offset of n_type
    kind: int

    @property
    def defined(self) -> bool:
        return self.kind & _KIND != 0

    @property
    def external(self) -> bool:
        return self.kind & _EXTERNAL != 0


def _commands(data: bytes) -> Iterator[tuple[int, int]]:
    """Kind and file offset of every load command."""
    (count,) = struct.unpack_from("<I", data, 16)
    at = _HEADER_BYTES
    for _ in range(count):
        kind, size = struct.unpack_from("<II", data, at)
        yield kind, at
        at += size


def _symbols(data: bytes) -> Iterator[_Symbol]:
    for kind, at in _commands(data):
        if kind == _SYMTAB:
            symbols, count, strings = struct.unpack_from("<III", data, at + 8)
            for i in range(symbols, symbols + count * _SYMBOL.size, _SYMBOL.size):
                name, n_type, *_ = _SYMBOL.unpack_from(data, i)
                start = strings + name
                text = data[start : data.index(b"\0", start)].decode().removeprefix("_")
                yield _Symbol(text, i + 4, n_type)


def hide_symbols(data: bytes) -> bytes:
    """The object with every symbol that it defines made private to the library it goes into."""
    out = bytearray(data)
    for symbol in _symbols(data):
        if symbol.external and symbol.defined:
            out[symbol.at] |= _PRIVATE
    return bytes(out)


def undefined_symbols(data: bytes) -> frozenset[str]:
    """Names that the object needs from elsewhere, as C spells them."""
    return frozenset(s.name for s in _symbols(data) if s.external and not s.defined)


def defined_symbols(data: bytes) -> frozenset[str]:
    """Global names that the object defines, as C spells them."""
    return frozenset(s.name for s in _symbols(data) if s.external and s.defined)


def text_bytes(data: bytes) -> int:
    """Bytes of machine code in the object."""
    total = 0
    for kind, at in _commands(data):
        if kind == _SEGMENT:
            (count,) = struct.unpack_from("<I", data, at + 64)
            for i in range(count):
                fields = _SECTION.unpack_from(data, at + 72 + i * _SECTION.size)
                total += fields[3] if fields[8] & _CODE else 0
    return total
