"""Where the C runtime lies, and what its files say about CPU features."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SOURCE_DIR: Final = Path(__file__).parent / "c"

PUBLIC_HEADERS: Final = ("tvmconv.h", "tvmconv_cpu.h")
INNER_HEADERS: Final = ("runtime.h", "arch.h")
_EVERYWHERE: Final = ("invoke.c", "dispatch.c", "cpu.c", "cpu_x86.c", "cpu_arm.c")
CORE_SOURCES: Final = ("pool.c", "workspace.c", *_EVERYWHERE)

# Of static bundles, which start no thread and call no malloc. They are compiled with this macro.
FREESTANDING: Final = "TVMCONV_FREESTANDING"
STATIC_SOURCES: Final = ("static.c", *_EVERYWHERE)
STATIC_HEADERS: Final = (*PUBLIC_HEADERS, "tvmconv_workspace.h")

# Of bundles for GPUs: what loads and launches their code.
CUDA_SOURCE_DIR: Final = Path(__file__).parent / "cuda"
CUDA_HEADERS: Final = ("tvmconv_cuda.h",)
CUDA_SOURCES: Final = ("driver.h", "launch.h")


def runtime_sources() -> dict[str, str]:
    """Every file of the runtime, name to text."""
    names = dict.fromkeys((*STATIC_HEADERS, *INNER_HEADERS, *CORE_SOURCES, *STATIC_SOURCES))
    return {name: (SOURCE_DIR / name).read_text(encoding="utf-8") for name in names}


@functools.cache
def cpu_features() -> dict[str, int]:
    """Instruction sets that a kernel may require, spelled as in /proc/cpuinfo, and their bits."""
    text = (SOURCE_DIR / "tvmconv_cpu.h").read_text(encoding="utf-8")
    return {name: int(bit) for bit, name in re.findall(r"X\((\d+), (\w+)\)", text)}


def feature_mask(features: Iterable[str]) -> int:
    """A set of CPU features as a number; in C the names of the bits are no constants."""
    return sum(1 << cpu_features()[name] for name in set(features))
