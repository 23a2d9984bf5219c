"""What manifest.json says of a bundle and of each convolution in it."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.runtime.archive import needed_symbols
from tvmconv.runtime.objects import text_bytes
from tvmconv.toolchain import cc_version

from .answers import tensor_fills
from .checks import FORMAT, VERSION, manifest_digest
from .contents import HOSTED, STATIC, Contents, Convolution

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel
    from tvmconv.target import Target


def kernel_entry(
    convolution: Convolution, code_entry: Callable[[Kernel], dict[str, Any]] | None = None
) -> dict[str, Any]:
    """One convolution: its tensors, and for each target how it was made and what belongs to it.

    Args:
        convolution: of a bundle.
        code_entry: what the manifest says of a kernel for one target; default: of a processor's.
    """
    code_of = _code_entry if code_entry is None else code_entry
    kernel = convolution.kernels[0]
    spec, c_symbol = kernel.spec, kernel.c_symbol
    shapes = {
        "x": spec.x_shape,
        "weight": spec.weight_shape,
        "bias": (spec.oc,),
        "scale": (spec.oc,),
        "shift": (spec.oc,),
        "packed": (convolution.packed_elems,),
        "residual": spec.out_shape,
        "offset": spec.offset_shape,
        "mask": spec.mask_shape,
        "y": spec.out_shape,
    }
    fills = tensor_fills(spec)
    used = dict.fromkeys((*c_symbol.pack_args, *c_symbol.run_args))
    tensors = {
        name: {"shape": list(shapes[name]), "dtype": spec.dtype}
        | ({"fill": list(fills[name])} if name in fills else {})
        for name in used
    }
    transposed = spec.op == "conv_transpose"
    return {
        "symbol": convolution.symbol,
        "spec": str(spec),
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
        "targets": {each.target.id: code_of(each) for each in convolution.kernels},
    }


def _code_entry(kernel: Kernel) -> dict[str, Any]:
    """What belongs to one target."""
    return {
        **origin_entry(kernel),
        "workspace_bytes": kernel.workspace_bytes,
        "pack_workspace_bytes": kernel.built.pack_workspace_bytes,
        "text_bytes": text_bytes(kernel.object_bytes),
    }


def origin_entry(kernel: Kernel) -> dict[str, Any]:
    """How a kernel was made, and its packed weights; golden answer and weights come later."""
    return {
        "template": kernel.template_id,
        "config": str(kernel.config),
        "tier": kernel.tier,
        "packed_elems": kernel.packed_elems,
        "tolerance": {"algorithm": kernel.accuracy},
        "golden": None,
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
        "cpu_part": target.cpu_part,
    }


def library_entries(folder: Path, name: str, contents: Contents, form: str) -> list[dict[str, Any]]:
    """Where the libraries of each machine lie, what they hold, and what firmware has to provide."""

    def needs(path: str) -> list[str] | None:
        return list(needed_symbols((folder / path).read_bytes())) if form == STATIC else None

    return [
        {
            "machine": library.machine,
            "system": library.system,
            "pointer_bits": contents.targets[library.targets[0]].pointer_bits,
            "targets": [contents.targets[i].id for i in library.targets],
            "shared": library.shared(name) if form == HOSTED else None,
            "static": f"{library.folder}/lib{name}.a",
            "needs": needs(f"{library.folder}/lib{name}.a"),
            "c_compiler": cc_version(contents.targets[library.targets[0]]),
        }
        for library in contents.libraries
    ]


def complete(
    folder: Path, name: str, form: str, contents: Contents, kernels: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The whole manifest of a folder whose other files are all written."""
    return sealed(
        folder,
        {
            "format": FORMAT,
            "version": VERSION,
            "kind": form,
            "name": name,
            "made_with": made_with(),
            "targets": [target_entry(target) for target in contents.targets],
            "libraries": library_entries(folder, name, contents, form),
            "header": f"include/{name}.h",
            "kernels": list(kernels),
        },
    )


def made_with() -> dict[str, str]:
    """Versions of what makes bundles."""
    import tvmconv

    return {
        "tvmconv": tvmconv.__version__,
        "apache-tvm": metadata.version("apache-tvm"),
        "apache-tvm-ffi": metadata.version("apache-tvm-ffi"),
        "numpy": metadata.version("numpy"),
        "python": platform.python_version(),
        "platform": sys.platform,
    }


def sealed(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with size and checksum of every file of the folder, and of itself."""
    manifest = manifest | {
        "files": {
            path.relative_to(folder).as_posix(): {
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for path in sorted(p for p in folder.rglob("*") if p.is_file())
        }
    }
    return manifest | {"sha256": manifest_digest(manifest)}
