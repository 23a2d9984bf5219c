"""NVRTC, NVIDIA's compiler in a library, through ctypes: found in PyPI's wheels or in a toolkit.

One call gives machine code, PTX and what ptxas -v says, in a sixth of nvcc's time: no process is
started and no host compiler runs.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvmconv.cuda.places import toolkits, wheel_folders
from tvmconv.errors import BuildFailed, EnvironmentProblem

# The header that every half-precision kernel includes tells an include folder from another.
_HEADER = "cuda_fp16.h"
# In place of CCCL, NVIDIA's standard library for devices.
_OWN_HEADERS = Path(__file__).parent / "include"


@dataclass(frozen=True)
class Nvrtc:
    """A copy of NVRTC.

    Attributes:
        library: its file.
        include: folder with the device headers.
    """

    library: Path
    include: Path

    @property
    def version(self) -> str:
        """Release, as "13.0".

        Raises:
            EnvironmentProblem: the library cannot be loaded.
        """
        major, minor = ctypes.c_int(), ctypes.c_int()
        _loaded(self.library).nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    def compile(self, source: str, flags: Sequence[str]) -> tuple[bytes, str, str]:
        """Machine code, PTX, and the compiler's text.

        Raises:
            BuildFailed: the source was refused; carries the compiler's text.
            EnvironmentProblem: the library cannot be loaded.
        """
        library = _loaded(self.library)
        program = ctypes.c_void_p()
        text = source.encode()
        library.nvrtcCreateProgram(ctypes.byref(program), text, b"kernel.cu", 0, None, None)
        try:
            include = (f"-I{_OWN_HEADERS}", f"-I{self.include}")
            all_flags = [f.encode() for f in (*flags, "-default-device", *include)]
            array = (ctypes.c_char_p * len(all_flags))(*all_flags)
            status = library.nvrtcCompileProgram(program, len(all_flags), array)
            log = _take(library, program, "ProgramLog").rstrip(b"\0").decode("utf-8", "replace")
            if status != 0:
                name = library.nvrtcGetErrorString(status).decode()
                raise BuildFailed(f"NVRTC refused the source ({name}):\n{_end(log)}")
            ptx = _take(library, program, "PTX").rstrip(b"\0").decode("ascii")
            return _take(library, program, "CUBIN"), ptx, log
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))


def _take(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    library[f"nvrtcGet{what}Size"](program, ctypes.byref(size))
    data = ctypes.create_string_buffer(size.value)
    library[f"nvrtcGet{what}"](program, data)
    return data.raw


def _end(log: str) -> str:
    return "\n".join(log.strip().splitlines()[-30:])


@functools.cache
def _loaded(path: Path) -> ctypes.CDLL:
    try:
        # NVRTC looks for its built-in functions by name alone: they must be loaded before.
        for builtins in sorted(path.parent.glob("libnvrtc-builtins.so.*")):
            ctypes.CDLL(str(builtins))
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise EnvironmentProblem(f"{path} cannot be loaded: {error}") from error
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def find_nvrtc() -> Nvrtc | None:
    """The NVRTC of the wheels, or else of a toolkit; None where library or headers are missing."""
    include = next((f for f in _include_folders() if (f / _HEADER).is_file()), None)
    library = next(_libraries(), None)
    return None if include is None or library is None else Nvrtc(library, include)


def _libraries() -> Iterator[Path]:
    folders = [*wheel_folders("lib"), *(root / "lib64" for root in toolkits())]
    for folder in folders:
        yield from (p for p in sorted(folder.glob("libnvrtc.so.*")) if ".alt." not in p.name)


def _include_folders() -> Iterator[Path]:
    yield from wheel_folders("include")
    yield from (root / "include" for root in toolkits())
