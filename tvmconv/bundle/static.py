"""Static bundles: what firmware needs in place of a hosted bundle's texts and loader."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Final

from tvmconv.toolchain import data_object

from .contents import Contents
from .golden import Golden
from .texts import FILLED, fill_in, values
from .weights import Packed

_TEMPLATES: Final = {
    "include/{name}.h": "header.h.jinja",
    "CMakeLists.txt": "static/CMakeLists.txt.jinja",
    "example.c": "static/example.c.jinja",
    "selftest.c": "static/selftest.c.jinja",
    "README.md": "static/README.md.jinja",
}
# Floats before and after a tensor that nobody may touch, as in selftest.c.
GUARD: Final = 17


def render(
    name: str,
    contents: Contents,
    entries: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Mapping[str, Golden]],
    needs: Sequence[str],
) -> dict[str, str]:
    """Path in the bundle to text.

    Args:
        name: of the bundle.
        contents: of the bundle, for one target.
        entries: of the manifest, one per convolution.
        answers: golden answers by symbol and target; the self-test has them as constants.
        needs: what the library needs from the C library.
    """
    target = contents.targets[0]
    given = values(name, contents, entries)
    given |= {
        "static": True,
        "target": target,
        "needs": needs,
        "guard": GUARD,
        "golden": [_constants(answers[entry["symbol"]][target.id]) for entry in entries],
        "floats": max(_floats(kernel) for kernel in given["kernels"]),
    }
    return fill_in(_TEMPLATES, given)


def weight_objects(contents: Contents, packed: Packed) -> dict[str, bytes]:
    """Object files with the packed weights as constants ``<symbol>_packed``, by member name."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        for convolution in contents.convolutions:
            kernel = convolution.kernels[0]
            if kernel.symbol in packed:
                data = Path(folder) / "weights.bin"
                data.write_bytes(packed[kernel.symbol].tobytes())
                symbol = f"{convolution.symbol}_packed"
                found[f"{symbol}.o"] = data_object(symbol, data, kernel.target)
    return found


def _constants(golden: Golden) -> dict[str, Any]:
    """A golden answer as C initialisers: the samples' places, and the bits of their values."""
    return {
        "checksum": f"UINT64_C({golden.checksum:#x})",
        "exact": int(golden.exact),
        "tolerance": f"{golden.tolerance:.9e}f",
        "at": [int(i) for i in golden.at],
        "bits": [f"{bits:#010x}" for bits in golden.values.astype("<f4").view("<u4")],
    }


def _workspace_floats(kernel: Mapping[str, Any]) -> int:
    return (int(max(kernel["workspace_bytes"], kernel["pack_workspace_bytes"])) + 3) // 4


def _floats(kernel: Mapping[str, Any]) -> int:
    """Floats that the self-test of a kernel takes: every tensor, between guards, and workspace."""
    tensors = kernel["tensors"]
    sizes: list[int] = [
        prod(tensors[name]["shape"]) for name in FILLED if "fill" in tensors.get(name, {})
    ]
    sizes += [kernel["packed_elems"], prod(tensors["y"]["shape"])]
    return sum(size + 2 * GUARD for size in sizes) + _workspace_floats(kernel)
