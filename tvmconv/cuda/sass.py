"""Listings of a cubin's machine code, by NVIDIA's disassemblers where they are installed."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path

from tvmconv.compilers import run
from tvmconv.cuda.places import program
from tvmconv.errors import EnvironmentProblem

_INSTALL = "`pip install 'tvmconv[cuda]'` (nvdisasm, cuobjdump), or a CUDA toolkit"


def listing(cubin: bytes) -> str:
    """Assembly text of all kernels of a cubin, without the instructions' encodings.

    Raises:
        EnvironmentProblem: neither nvdisasm nor cuobjdump is installed.
        BuildFailed: it refused the file; carries its text.
    """
    for name, arguments in (("nvdisasm", ("-c",)), ("cuobjdump", ("-sass",))):
        path = program(name)
        if path is None:
            continue
        with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
            file = Path(folder) / "kernel.cubin"
            file.write_bytes(cubin)
            text = run([path, *arguments, str(file)])
        return re.sub(r" */\* 0x[0-9a-f]{16} \*/\n?", "\n", text).replace("\n\n\n", "\n")
    raise EnvironmentProblem("disassembler", None, _INSTALL)


def instructions(listing: str) -> Counter[str]:
    """How often each instruction stands in a listing, modifiers and predicates left out."""
    found = re.findall(
        r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)", listing, re.M
    )
    return Counter(found)
