"""Bundles: kernels in a folder that runs without TVM, torch or Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .cuda_loader import CudaBundle
from .loader import Bundle
from .opening import AnyBundle, load, read

if TYPE_CHECKING:
    from .exporter import export

__all__ = ["AnyBundle", "Bundle", "CudaBundle", "export", "load", "read"]


def __getattr__(name: str) -> Any:
    """Export is imported when it is used: whoever only loads needs numpy alone."""
    if name != "export":
        raise AttributeError(f"module 'tvmconv.bundle' has no attribute {name!r}")
    from .exporter import export

    return export
