"""The C side of a kernel: its runtime library and the generated plain-C functions."""

from __future__ import annotations

from .sources import SOURCE_DIR, cpu_features, runtime_sources
from .wrapper import KernelSymbol, wrapper_source

__all__ = ["SOURCE_DIR", "KernelSymbol", "cpu_features", "runtime_sources", "wrapper_source"]
