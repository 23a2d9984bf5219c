"""Load a bundle of compiled convolutions: every check first, then ctypes. Needs numpy alone.

This module and those that it imports stand in every bundle as one file, ``tvmconv_load.py``, which
works by itself::

    import tvmconv_load

    bundle = tvmconv_load.load("path/of/the/bundle")
    kernel = bundle.kernel("conv2d_n1c64s56x56_o64k3x3_p1")  # by spec or by symbol
    layer = kernel.bind(weight, bias)  # packs the weights once
    y = layer(x)

As a program it checks its bundle and runs the self-test: ``python tvmconv_load.py [folder]``.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tvmconv.errors import ArgumentError, BundleError

from .checks import check_files, check_machine, read_manifest
from .golden import Golden, SelfTest, SelfTestRow, digest, golden_inputs
from .kernels import PACK_TENSORS, BundledKernel, BundledLayer
from .tensors import aligned


def load(folder: str | Path) -> Bundle:
    """Check a bundle and open its library; no code of it runs before all checks passed.

    Raises:
        BundleError: a file is missing, truncated or altered (named in the message), the format is
            unknown, or this machine cannot run the code (and why).
    """
    bundle = read(folder)
    check_machine(bundle.manifest)
    bundle.open()
    return bundle


def read(folder: str | Path) -> Bundle:
    """Check a bundle's files, on any machine, without opening its library."""
    root = Path(folder).absolute()
    manifest = read_manifest(root)
    check_files(root, manifest)
    return Bundle(root, manifest)


class Bundle:
    """The kernels of one bundle.

    Attributes:
        folder: where it lies.
        manifest: the parsed manifest.json; docs/bundle-format.md describes it.
        kernels: by symbol.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Take a manifest whose files were checked; `read` and `load` do that."""
        self.folder = folder
        self.manifest = manifest
        entries = manifest["kernels"]
        self.kernels = {entry["symbol"]: BundledKernel(entry, self.open) for entry in entries}
        self._library: ctypes.CDLL | None = None

    @property
    def size(self) -> int:
        """Bytes of all files that the manifest lists."""
        return sum(entry["bytes"] for entry in self.manifest["files"].values())

    def open(self) -> ctypes.CDLL:
        """The shared library; opened at the first call."""
        if self._library is None:
            check_machine(self.manifest)
            path = self.folder / self.manifest["library"]["shared"]
            try:
                library = ctypes.CDLL(str(path.resolve()))
            except OSError as error:
                raise BundleError(f"{path}: the system's loader refused it: {error}") from error
            library.tvmconv_error_text.restype = ctypes.c_char_p
            library.tvmconv_error_text.argtypes = [ctypes.c_int32]
            self._library = library
        return self._library

    def kernel(self, name: str) -> BundledKernel:
        """The kernel of a symbol or of a spec's text."""
        for kernel in self.kernels.values():
            if name in (kernel.symbol, kernel.spec):
                return kernel
        known = ", ".join(kernel.spec for kernel in self.kernels.values())
        raise ArgumentError("kernel", name, known)

    def layer(self, name: str) -> BundledLayer:
        """A kernel with the weights that were exported with it."""
        kernel = self.kernel(name)
        path = kernel.entry["weights"]
        if path is None:
            raise ArgumentError("layer", name, "a kernel that was exported with weights")
        packed = aligned(kernel.packed_elems)
        packed[...] = np.fromfile(self.folder / path, np.dtype("<f4"))
        return BundledLayer(kernel, packed, kernel.threads)

    def selftest(self, threads: Sequence[int] = (1, 2)) -> SelfTest:
        """Run every kernel on its golden inputs, with each of these numbers of threads."""
        return SelfTest(tuple(self._try(k, threads) for k in self.kernels.values()))

    def _try(self, kernel: BundledKernel, threads: Sequence[int]) -> SelfTestRow:
        tensors = golden_inputs(kernel.entry)
        packing: dict[str, Any] = {n: tensors.pop(n) for n in PACK_TENSORS if n in tensors}
        packed = kernel.pack(**packing)
        golden = Golden.decode((self.folder / kernel.entry["golden"]).read_bytes())
        answers = [kernel.run(**tensors, packed=packed, threads=count) for count in threads]
        problem = golden.problem(answers[0])
        if problem is None and len({digest(y) for y in answers}) > 1:
            problem = f"the answers of {', '.join(map(str, threads))} threads differ"
        passed = "every output bit-equal" if golden.exact else "samples within the bound"
        return SelfTestRow(kernel.symbol, problem is None, problem or passed)

    def __repr__(self) -> str:
        return f"<Bundle {self.manifest['name']}: {len(self.kernels)} kernels, {self.size} bytes>"


def main(arguments: Sequence[str]) -> int:
    """Check the bundle in the given folder (default: this file's own) and run its self-test."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    try:
        result = load(folder).selftest()
    except BundleError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    print(result)
    return 0 if result.ok else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
