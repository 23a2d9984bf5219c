"""Open a bundle of either kind: for processors, or for GPUs."""

from __future__ import annotations

from pathlib import Path

from . import cuda_loader, loader
from .checks import CUDA, read_manifest
from .cuda_loader import CudaBundle
from .loader import Bundle

AnyBundle = Bundle | CudaBundle


def load(folder: str | Path) -> AnyBundle:
    """Check a bundle and make sure that this machine runs it; none of its code runs before.

    Raises:
        BundleError: a file is missing, truncated or altered (named in the message), the format is
            unknown, or this machine cannot run the code (and why).
        DeviceError: it is for GPUs, and there is none, or none that runs it.
    """
    return cuda_loader.load(folder) if _is_cuda(folder) else loader.load(folder)


def read(folder: str | Path) -> AnyBundle:
    """Check a bundle's files, on any machine, without opening its library or asking for a GPU."""
    return cuda_loader.read(folder) if _is_cuda(folder) else loader.read(folder)


def _is_cuda(folder: str | Path) -> bool:
    return bool(read_manifest(Path(folder).absolute())["kind"] == CUDA)
