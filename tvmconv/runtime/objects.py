"""Object files of whatever format: hide their symbols, list them, measure their code."""

from __future__ import annotations

from types import ModuleType

from . import elf, macho


def hide_symbols(data: bytes) -> bytes:
    """The object with every symbol that it defines made hidden: linked by name, never exported."""
    hidden: bytes = _format(data).hide_symbols(data)
    return hidden


def undefined_symbols(data: bytes) -> frozenset[str]:
    """Names that the object needs from elsewhere."""
    names: frozenset[str] = _format(data).undefined_symbols(data)
    return names


def defined_symbols(data: bytes) -> frozenset[str]:
    """Global names that the object defines, weak ones included."""
    names: frozenset[str] = _format(data).defined_symbols(data)
    return names


def text_bytes(data: bytes) -> int:
    """Bytes of machine code of the kernel in the object.

    Raises:
        BuildFailed: it is neither ELF nor Mach-O.
    """
    size: int = _format(data).text_bytes(data)
    return size


def _format(data: bytes) -> ModuleType:
    """elf.py says what is wrong with anything else."""
    return macho if data[:4] == macho.MAGIC else elf
