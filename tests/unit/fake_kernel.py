"""A kernel object as TVM emits them, made from C: tests of the runtime need no TVM."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tvmconv.runtime import KernelSymbol
from tvmconv.target import Target
from tvmconv.toolchain import find_cc

C_DIR = Path(__file__).parent / "c"
FAKE = KernelSymbol("fake", ("x", "packed", "y"), ("weight", "packed"))


def fake_object(
    folder: Path, target: Target | None = None, *, symbol: str = "fake", factor: int = 1
) -> bytes:
    """Compile c/fake_kernel.c; default: for this machine."""
    out = folder / f"{symbol}.o"
    source = str(C_DIR / "fake_kernel.c")
    names = [f"-D__tvm_ffi_fake_{kind}=__tvm_ffi_{symbol}_{kind}" for kind in ("run", "pack")]
    flags = ["-O2", "-fPIC", *names, f"-DFACTOR={factor}.0f"]
    subprocess.run([*find_cc(target), *flags, "-c", source, "-o", str(out)], check=True)
    return out.read_bytes()


def fake_symbol(symbol: str, cpu_features: tuple[str, ...] = ()) -> KernelSymbol:
    """The kernel of `fake_object` under another name."""
    return KernelSymbol(symbol, FAKE.run_args, FAKE.pack_args, cpu_features)
