"""Just enough of the ar format to say what a static library needs from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tvmconv.errors import BuildFailed

from .objects import defined_symbols, undefined_symbols

_MAGIC: Final = b"!<arch>\n"
_HEADER_BYTES: Final = 60
# Tables of symbols and of long names, of GNU's and of BSD's archivers.
_TABLES: Final = ("/", "//", "/SYM64/", "__.SYMDEF", "__.SYMDEF SORTED")


def members(data: bytes) -> Iterator[bytes]:
    """The object files in an archive.

    Raises:
        BuildFailed: it is no archive.
    """
    if not data.startswith(_MAGIC):
        raise BuildFailed("archive", data[:8], "a static library")
    at = len(_MAGIC)
    while at + _HEADER_BYTES <= len(data):
        name = data[at : at + 16].decode().rstrip()
        size = int(data[at + 48 : at + 58])
        content = data[at + _HEADER_BYTES : at + _HEADER_BYTES + size]
        if name.startswith("#1/"):  # BSD: a long name stands before the content
            length = int(name[3:])
            name, content = content[:length].rstrip(b"\0").decode(), content[length:]
        if name not in _TABLES:
            yield content
        at += _HEADER_BYTES + size + size % 2


def needed_symbols(data: bytes) -> tuple[str, ...]:
    """Names that a static library needs from other libraries, sorted."""
    needed: set[str] = set()
    defined: set[str] = set()
    for member in members(data):
        needed |= undefined_symbols(member)
        defined |= defined_symbols(member)
    # What linkers themselves define.
    return tuple(sorted(needed - defined - {"_GLOBAL_OFFSET_TABLE_"}))
