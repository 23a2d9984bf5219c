"""Where CUDA's tools may lie: toolkits of the system, and NVIDIA's wheels from PyPI."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_USUAL: Final = Path("/usr/local/cuda")


def toolkits() -> Iterator[Path]:
    """Root folders of toolkits: $CUDA_HOME, $CUDA_PATH, of the nvcc on PATH, /usr/local/cuda."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    found = shutil.which("nvcc")
    if found is not None:
        yield Path(found).resolve().parent.parent
    yield _USUAL


def wheel_folders(part: str) -> Iterator[Path]:
    """Folders named `part` ("lib", "include", "bin") of NVIDIA's wheels.

    Since CUDA 13 all wheels share one folder, nvidia/cu13; before, each had its own.
    """
    spec = importlib.util.find_spec("nvidia")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for folder in sorted(Path(root).glob(f"*/{part}"), reverse=True):
            if folder.is_dir():
                yield folder


def program(name: str) -> str | None:
    """A program of the wheels or of a toolkit, or on PATH: "cuobjdump", "nvdisasm", "nvcc".

    A toolkit that a variable names goes before PATH, where nvcc may be a wrapper of another one.
    """
    folders = [*wheel_folders("bin"), *(root / "bin" for root in toolkits())]
    for folder in folders:
        if os.access(folder / name, os.X_OK):
            return str(folder / name)
    return shutil.which(name)
