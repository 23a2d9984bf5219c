"""A kernel object as TVM emits them, made from C: tests of the runtime need no TVM."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tvmconv.runtime import KernelSymbol
from tvmconv.target import Target
from tvmconv.toolchain import find_cc

C_DIR = Path(__file__).parent / "c"
FAKE = KernelSymbol("fake", ("x", "packed", "y"), ("weight", "packed"))


def fake_object(folder: Path, target: Target | None = None) -> bytes:
    """Compile c/fake_kernel.c; default: for this machine."""
    out = folder / "fake.o"
    source = str(C_DIR / "fake_kernel.c")
    subprocess.run([*find_cc(target), "-O2", "-fPIC", "-c", source, "-o", str(out)], check=True)
    return out.read_bytes()
