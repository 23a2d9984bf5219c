"""The shared library of one kernel: linked with the runtime, loaded, and called by address."""

from __future__ import annotations

import ctypes
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmconv.errors import TargetError, TvmconvError
from tvmconv.runtime import KernelSymbol, wrapper_source
from tvmconv.target import Target
from tvmconv.toolchain import link_shared


@dataclass(frozen=True, eq=False)
class Library:
    """The loaded shared library of one kernel."""

    symbol: str
    run: Any
    pack: Any
    error_text: Any

    def check(self, status: int) -> None:
        """Raise the error that a C function reported."""
        if status:
            text = self.error_text(status)
            raise TvmconvError(f"{self.symbol}: {text.decode() if text else f'error {status}'}")

    def call_pack(self, addresses: dict[str, int]) -> None:
        """Run the pack function on addresses by argument name."""
        order = ("weight", "bias", "scale", "shift", "packed")
        self.check(self.pack(*(addresses.get(name) for name in order)))


def open_library(object_bytes: bytes, kernel: KernelSymbol, target: Target) -> Library:
    """Link the kernel with the runtime and load it.

    Raises:
        TargetError: this machine cannot run code for the kernel's target.
    """
    if not target.runs_here:
        raise TargetError(_elsewhere(target))
    # The mapping outlives the file, so nothing stays behind on disk.
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        path = Path(folder) / f"{kernel.symbol}.so"
        wrappers = wrapper_source([kernel])
        link_shared([object_bytes], [wrappers], path, target)
        library = ctypes.CDLL(str(path))
    run, pack = (getattr(library, f"{kernel.symbol}_{kind}") for kind in ("run", "pack"))
    run.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_int32]
    pack.argtypes = [ctypes.c_void_p] * 5
    run.restype = pack.restype = ctypes.c_int32
    library.tvmconv_error_text.restype = ctypes.c_char_p
    library.tvmconv_error_text.argtypes = [ctypes.c_int32]
    return Library(kernel.symbol, run, pack, library.tvmconv_error_text)


def _elsewhere(target: Target) -> str:
    """Why a target does not run in this process, and where its kernels do."""
    wanted = f"{target.machine}, {target.system}" if target.system != "none" else target.machine
    missing = ", ".join(target.missing_features) if target.is_this_machine else wanted
    return (
        f"{target.id} does not run on this machine (missing: {missing}). tc.validate(kernel, "
        "emulate=True) proves the kernel in an emulator; tc.export(kernels, folder) makes a bundle "
        "to copy to the device; tc.tune(..., rpc=...) measures there"
    )
