"""What manifest.json says of a bundle and of each kernel in it."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.runtime.objects import text_bytes
from tvmconv.toolchain import cc_version

from .answers import tensor_fills
from .checks import FORMAT, VERSION, manifest_digest

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel
    from tvmconv.target import Target


def kernel_entry(kernel: Kernel) -> dict[str, Any]:
    """One kernel: how it was made, its tensors, and where its test and weights lie."""
    spec, symbol = kernel.spec, kernel.symbol
    c_symbol = kernel.c_symbol
    shapes = {
        "x": spec.x_shape,
        "weight": spec.weight_shape,
        "bias": (spec.oc,),
        "scale": (spec.oc,),
        "shift": (spec.oc,),
        "packed": (kernel.packed_elems,),
        "residual": spec.out_shape,
        "offset": spec.offset_shape,
        "mask": spec.mask_shape,
        "y": spec.out_shape,
    }
    fills = tensor_fills(spec)
    used = dict.fromkeys((*c_symbol.pack_args, *c_symbol.run_args))
    tensors = {
        name: {"shape": list(shapes[name]), "dtype": "float32"}
        | ({"fill": list(fills[name])} if name in fills else {})
        for name in used
    }
    transposed = spec.op == "conv_transpose"
    return {
        "symbol": symbol,
        "spec": str(spec),
        "template": kernel.template_id,
        "config": str(kernel.config),
        "tier": kernel.tier,
        "threads": kernel.threads,
        "layouts": {"x": spec.in_layout, "weight": spec.weight_layout, "y": spec.out_layout},
        "tensors": tensors,
        "pack": [name for name in c_symbol.pack_args if name != "packed"],
        "run": [name for name in c_symbol.run_args if name != "y"],
        # Where batch norm finds the output channels of the weight.
        "fold": {
            "axis": 0 if spec.weight_layout == "OI" else 1,
            "groups": spec.groups if transposed else 1,
        },
        "macs": spec.macs,
        "text_bytes": text_bytes(kernel.object_bytes),
        "tolerance": {"algorithm": kernel.accuracy},
        "golden": f"golden/{symbol}.bin",
        "weights": None,
    }


def target_entry(target: Target) -> dict[str, Any]:
    """The machine that the code needs."""
    return {
        "id": target.id,
        "family": target.family,
        "isa": target.isa,
        "triple": target.triple,
        "mcpu": target.mcpu,
        "machine": target.machine,
        "system": target.system,
        "pointer_bits": target.pointer_bits,
        "cpu_features": list(target.cpu_features),
    }


def complete(
    folder: Path, name: str, target: Target, kernels: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The whole manifest of a folder whose other files are all written."""
    import tvmconv

    files = sorted(p for p in folder.rglob("*") if p.is_file())
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "made_with": {
            "tvmconv": tvmconv.__version__,
            "apache-tvm": metadata.version("apache-tvm"),
            "apache-tvm-ffi": metadata.version("apache-tvm-ffi"),
            "numpy": metadata.version("numpy"),
            "python": platform.python_version(),
            "platform": sys.platform,
            "c_compiler": cc_version(target),
        },
        "target": target_entry(target),
        "library": {"shared": f"lib/lib{name}.so", "static": f"lib/lib{name}.a"},
        "header": f"include/{name}.h",
        "kernels": list(kernels),
        "files": {
            path.relative_to(folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in files
        },
    }
    return manifest | {"sha256": manifest_digest(manifest)}
