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

from .checks import CUDA, check_files, library_here, of_target, read_manifest
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
    bundle.open()
    return bundle


def read(folder: str | Path) -> Bundle:
    """Check a bundle's files, on any machine, without opening its library."""
    root = Path(folder).absolute()
    manifest = read_manifest(root)
    if manifest["kind"] == CUDA:
        raise BundleError(f"{root}: for GPUs; its own tvmconv_load.py loads it")
    check_files(root, manifest)
    return Bundle(root, manifest)


class Bundle:
    """The kernels of one bundle.

    Attributes:
        folder: where it lies.
        manifest: the parsed manifest.json; docs/bundle-format.md describes it.
        targets: ids of the targets that it holds code for; those of one machine stand together,
            the most demanding first.
        kernels: by symbol.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Take a manifest whose files were checked; `read` and `load` do that."""
        self.folder = folder
        self.manifest = manifest
        self.targets: tuple[str, ...] = tuple(target["id"] for target in manifest["targets"])
        entries = manifest["kernels"]
        self.kernels = {entry["symbol"]: BundledKernel(entry, self) for entry in entries}
        self._library: ctypes.CDLL | None = None
        self._target: Any = None  # the library's function; those of version 1 have none

    @property
    def size(self) -> int:
        """Bytes of all files that the manifest lists."""
        return sum(entry["bytes"] for entry in self.manifest["files"].values())

    def open(self) -> ctypes.CDLL:
        """The shared library for this machine; opened at the first call."""
        if self._library is None:
            path = self.folder / library_here(self.manifest)["shared"]
            try:
                library = ctypes.CDLL(str(path.resolve()))
            except OSError as error:
                raise BundleError(f"{path}: the system's loader refused it: {error}") from error
            library.tvmconv_error_text.restype = ctypes.c_char_p
            library.tvmconv_error_text.argtypes = [ctypes.c_int32]
            if self.manifest["version"] > 1:
                self._ask_targets(library)
            self._library = library
        return self._library

    def _ask_targets(self, library: ctypes.CDLL) -> None:
        """Make sure that the library finds a target for this CPU."""
        name = self.manifest["name"]
        missing, target = library[f"{name}_cpu_missing"], library[f"{name}_target"]
        missing.restype, missing.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
        target.restype, target.argtypes = ctypes.c_char_p, []
        self._target = target
        names = ctypes.create_string_buffer(1024)
        if missing(names, len(names)):
            text = ", ".join(names.value.decode().split())
            raise BundleError(f"made for {', '.join(self.targets)}; this CPU lacks: {text}")

    @property
    def target(self) -> str:
        """Id of the target whose code runs: the library's choice, or what `use_target` said."""
        self.open()
        return self.targets[0] if self._target is None else self._target().decode()

    def use_target(self, target: str | None) -> None:
        """Run the code of this target from now on; None is the library's own choice.

        Every thread of the process sees it. Weights that were packed before do not fit any more.

        Raises:
            ArgumentError: the library for this machine holds no such target.
            BundleError: this CPU cannot run it.
        """
        library = self.open()
        known = library_here(self.manifest)["targets"]
        if target is not None and target not in known:
            raise ArgumentError("target", target, ", ".join(known))
        if self._target is not None:
            use = library[f"{self.manifest['name']}_use_target"]
            use.restype, use.argtypes = ctypes.c_int32, [ctypes.c_char_p]
            code = use(None if target is None else target.encode())
            if code != 0:
                raise BundleError(f"{target}: {library.tvmconv_error_text(code).decode()}")

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
        code = of_target(kernel.entry, self.target)
        if code["weights"] is None:
            raise ArgumentError("layer", name, "a kernel that was exported with weights")
        packed = aligned(kernel.packed_elems)
        stored = np.fromfile(self.folder / code["weights"], np.dtype("<f4"))
        packed[: stored.size] = stored
        return BundledLayer(kernel, packed, kernel.threads, self.target)

    def selftest(self, threads: Sequence[int] = (1, 2)) -> SelfTest:
        """Run every kernel on its golden inputs, with each of these numbers of threads."""
        return SelfTest(tuple(self._try(k, threads) for k in self.kernels.values()))

    def _try(self, kernel: BundledKernel, threads: Sequence[int]) -> SelfTestRow:
        tensors = golden_inputs(kernel.entry)
        packing: dict[str, Any] = {n: tensors.pop(n) for n in PACK_TENSORS if n in tensors}
        packed = kernel.pack(**packing)
        path = self.folder / of_target(kernel.entry, self.target)["golden"]
        golden = Golden.decode(path.read_bytes())
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
        bundle = load(folder)
        print(f"target: {bundle.target}")
        result = bundle.selftest()
    except BundleError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    print(result)
    return 0 if result.ok else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
