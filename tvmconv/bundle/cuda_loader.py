"""Load a bundle of convolutions for NVIDIA GPUs: every check first.

It needs numpy and the driver; for kernels of bfloat16 ml_dtypes too, whose arrays they take.
This module and those that it imports stand in every bundle as one file, ``tvmconv_load.py``, which
works by itself::

    import tvmconv_load

    bundle = tvmconv_load.load("path/of/the/bundle")
    kernel = bundle.kernel("conv2d_n1c64s56x56_o64k3x3_p1")  # by spec or by symbol
    layer = kernel.bind(weight, bias)  # packs the weights once
    y = layer(x)  # torch CUDA tensors in place, numpy arrays by way of copies

As a program it checks its bundle and runs the self-test: ``python tvmconv_load.py [folder]``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tvmconv.cuda.arch import pick_code
from tvmconv.cuda.driver import Device, driver
from tvmconv.elements import numpy_dtype
from tvmconv.errors import ArgumentError, BundleError, DeviceError, EnvironmentProblem

from .checks import CUDA, check_files, of_target, read_manifest
from .cuda_kernels import CudaKernel, CudaLayer
from .golden import Golden, SelfTest, SelfTestRow, digest, golden_inputs

_PACKED = ("weight", "bias", "scale", "shift")


def load(folder: str | Path) -> CudaBundle:
    """Check a bundle, and that the first GPU runs its code.

    Raises:
        BundleError: a file is missing, truncated or altered (named in the message), or the format
            is unknown.
        DeviceError: there is no GPU, or none that runs the code.
    """
    bundle = read(folder)
    bundle.pick(driver().device(0))
    return bundle


def read(folder: str | Path) -> CudaBundle:
    """Check a bundle's files, on any machine."""
    root = Path(folder).absolute()
    manifest = read_manifest(root)
    if manifest["kind"] != CUDA:
        raise BundleError(f"{root}: not for GPUs; its own tvmconv_load.py loads it")
    check_files(root, manifest)
    return CudaBundle(root, manifest)


class CudaBundle:
    """The kernels of one bundle.

    Attributes:
        folder: where it lies.
        manifest: the parsed manifest.json; docs/bundle-format.md describes it.
        targets: ids of the targets that it holds code for, the newest first.
        kernels: by symbol.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Take a manifest whose files were checked; `read` and `load` do that."""
        self.folder = folder
        self.manifest = manifest
        self.targets: tuple[str, ...] = tuple(target["id"] for target in manifest["targets"])
        entries = manifest["kernels"]
        self.kernels = {entry["symbol"]: CudaKernel(entry, self) for entry in entries}

    @property
    def size(self) -> int:
        """Bytes of all files that the manifest lists."""
        return sum(entry["bytes"] for entry in self.manifest["files"].values())

    @property
    def target(self) -> str:
        """Id of the target whose code the first GPU runs; packed weights are in its order."""
        return self.pick(driver().device(0))[0]

    def pick(self, device: Device) -> tuple[str, str]:
        """Target and kind of code ("cubin", "ptx") that a GPU runs.

        Raises:
            DeviceError: the bundle has no code for it.
        """
        known = {target["isa"]: target["id"] for target in self.manifest["targets"]}
        picked = pick_code(known, device.capability)
        if picked is not None and picked[1] == "ptx":
            # Of one target there is PTX; others are older, and this GPU newer than all of them.
            portable = {isa: id_ for isa, id_ in known.items() if id_ == self.manifest["ptx"]}
            picked = pick_code(portable, device.capability)
        if picked is None:
            allowed = f"one that runs code for {', '.join(self.targets)}"
            raise DeviceError("GPU", str(device), allowed)
        return known[picked[0]], picked[1]

    def content(self, path: str) -> bytes:
        """A file of the bundle."""
        return (self.folder / path).read_bytes()

    def kernel(self, name: str) -> CudaKernel:
        """The kernel of a symbol or of a spec's text."""
        for kernel in self.kernels.values():
            if name in (kernel.symbol, kernel.spec):
                return kernel
        known = ", ".join(kernel.spec for kernel in self.kernels.values())
        raise ArgumentError("kernel", name, known)

    def layer(self, name: str) -> CudaLayer:
        """A kernel with the weights that were exported with it."""
        kernel = self.kernel(name)
        code = of_target(kernel.entry, self.target)
        if code["weights"] is None:
            raise ArgumentError("layer", name, "a kernel that was exported with weights")
        dtype = numpy_dtype(kernel.dtype)
        packed = np.zeros(kernel.packed_elems, dtype)
        stored = np.fromfile(self.folder / code["weights"], dtype.newbyteorder("<"))
        packed[: stored.size] = stored
        return CudaLayer(kernel, packed)

    def selftest(self) -> SelfTest:
        """Run every kernel twice on its golden inputs, on the first GPU."""
        return SelfTest(tuple(map(self.test, self.kernels.values())))

    def test(self, kernel: CudaKernel) -> SelfTestRow:
        """What the self-test finds of one kernel; a launch that fails is a row, too."""
        try:
            problem, exact = self._problem(kernel)
        except DeviceError as error:
            return SelfTestRow(kernel.symbol, False, str(error))
        passed = "every output bit-equal" if exact else "samples within the bound"
        return SelfTestRow(kernel.symbol, problem is None, problem or passed)

    def _problem(self, kernel: CudaKernel) -> tuple[str | None, bool]:
        inputs, dtype = golden_inputs(kernel.entry), numpy_dtype(kernel.dtype)
        tensors = {name: value.astype(dtype) for name, value in inputs.items()}
        packing: dict[str, Any] = {name: tensors.pop(name) for name in _PACKED if name in tensors}
        layer = CudaLayer(kernel, kernel.pack(**packing))
        path = self.folder / of_target(kernel.entry, self.target)["golden"]
        golden = Golden.decode(path.read_bytes())
        answers = [layer(**tensors).astype(np.float32) for _ in range(2)]
        problem = golden.problem(answers[0])
        if problem is None and len({digest(y) for y in answers}) > 1:
            problem = "the second answer has other bits than the first"
        return problem, golden.exact

    def __repr__(self) -> str:
        return f"<CudaBundle {self.manifest['name']}: {len(self.kernels)} kernels>"


def main(arguments: Sequence[str]) -> int:
    """Check the bundle in the given folder (default: this file's own) and run its self-test."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    try:
        bundle = load(folder)
        print(f"target: {bundle.target}, on {driver().device(0)}")
        result = bundle.selftest()
    except (BundleError, DeviceError, EnvironmentProblem) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    print(result)
    return 0 if result.ok else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
