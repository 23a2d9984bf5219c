"""The stand-in for libcuda, and kernels for it: programs of the emulator, by the hash of an image.

Beside each program lies a table of its kernels: number, number of arguments, name.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tvmconv.cuda.code import DeviceCode
from tvmconv.emulate.cuda import Program, build_program

HERE = Path(__file__).parent


def build_driver(folder: Path) -> Path:
    """The stand-in as libcuda.so.1, which loaders find by LD_LIBRARY_PATH."""
    out = folder / "libcuda.so.1"
    sources = sorted(str(path) for path in (HERE / "libcuda").glob("*.c"))
    subprocess.run(
        ["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
         "-Wl,-soname,libcuda.so.1,-Bsymbolic", *sources, "-o", str(out), "-lpthread"],
        check=True,
    )  # fmt: skip
    return out


@dataclass(frozen=True)
class StandIn:
    """The stand-in on this machine, steered by the environment.

    Attributes:
        library: the compiled stand-in.
        kernels: folder of the kernels that it runs.
        log: file of the calls that it was given.
        monkeypatch: of the test.
    """

    library: Path
    kernels: Path
    log: Path
    monkeypatch: pytest.MonkeyPatch

    def __post_init__(self) -> None:
        """One GPU, nothing going wrong."""
        self.monkeypatch.delenv("STAND_IN_FAIL", raising=False)
        self.monkeypatch.delenv("STAND_IN_MEMORY", raising=False)
        for name, value in self.environment.items():
            self.monkeypatch.setenv(name, value)

    @property
    def environment(self) -> dict[str, str]:
        """What programs that are started need to find it."""
        return {
            "STAND_IN_GPUS": "9.0",
            "STAND_IN_KERNELS": str(self.kernels),
            "STAND_IN_LOG": str(self.log),
            "LD_LIBRARY_PATH": str(self.library.parent),
        }

    def gpus(self, text: str) -> None:
        """Have these GPUs: "8.0,9.0"."""
        self.monkeypatch.setenv("STAND_IN_GPUS", text)

    def fail(self, plan: str) -> None:
        """Let a function fail: "cuLaunchKernel=719"."""
        self.monkeypatch.setenv("STAND_IN_FAIL", plan)

    def calls(self, name: str) -> list[str]:
        """The logged calls of a function, in order."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.split(" ")[0] == name]


def image_hash(image: bytes) -> str:
    """FNV-1a of 64 bits, as the stand-in computes it."""
    value = 0xCBF29CE484222325
    for byte in image:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def add_kernels(code: DeviceCode, images: Iterable[bytes], folder: Path) -> None:
    """Let the stand-in run device code when it is given one of these images of it."""
    program = _program(code)
    places = [f"{number} {len(launch.args)} {launch.kernel}\n"
              for launch in code.launches
              for number in [program.kernels[0, launch.kernel]]]  # fmt: skip
    for image in images:
        out = folder / image_hash(image)
        if not out.exists():
            out.symlink_to(program.path)
            out.with_suffix(".kernels").write_text("".join(places))


@cache
def _program(code: DeviceCode) -> Program:
    """The emulator with this code, compiled once in this process."""
    folder = Path(tempfile.mkdtemp(prefix="tvmconv-stand-in-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build_program([code], folder / "program")
