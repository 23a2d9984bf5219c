"""Write the folder of a bundle for GPUs: machine code, C sources, tests, loader and manifest."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.cuda.code import DeviceCode
from tvmconv.cuda.compiler import Image, compile_source
from tvmconv.cuda.packing import device_packing
from tvmconv.runtime.sources import CUDA_HEADERS, CUDA_SOURCE_DIR, CUDA_SOURCES

from . import cuda_texts, manifest
from .answers import write_answers
from .checks import CUDA, CUDA_VERSION, FORMAT
from .contents import Contents
from .standalone import standalone_source
from .weights import Packed, write_weights

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel
    from tvmconv.target import Target


def write(
    folder: Path, name: str, contents: Contents, packed: Packed, *, source: bool = False
) -> None:
    """Write everything into an empty folder.

    Args:
        folder: where to.
        name: of the bundle.
        contents: convolutions and targets.
        packed: weights to ship.
        source: whether CUDA source goes beside machine code.

    Raises:
        EnvironmentProblem: there is no CUDA compiler.
        BuildFailed: it, or TVM, refused a kernel.
    """
    for part in ("include", "src", "code", "golden", *(["weights"] if packed else [])):
        (folder / part).mkdir()
    portable = newest(contents.targets).id
    entries = []
    for convolution in contents.convolutions:
        codes = {
            kernel.target.id: _write_code(folder, convolution.symbol, kernel, portable)
            for kernel in convolution.kernels
        }
        if source:
            for kernel in convolution.kernels:
                _write_source(folder, convolution.symbol, kernel, codes[kernel.target.id])
        entry = manifest.kernel_entry(convolution, lambda k, codes=codes: codes[k.target.id])  # type: ignore[misc]
        entry["dtype"] = convolution.kernels[0].spec.dtype
        write_answers(folder, convolution, entry)
        write_weights(folder, convolution, entry, packed)
        entries.append(entry)
    for header in CUDA_HEADERS:
        shutil.copy(CUDA_SOURCE_DIR / header, folder / "include")
    for runtime in CUDA_SOURCES:
        shutil.copy(CUDA_SOURCE_DIR / runtime, folder / "src")
    rendered = cuda_texts.render(folder, name, contents.targets, portable, entries)
    rendered["tvmconv_load.py"] = standalone_source(cuda=True)
    for path, text in rendered.items():
        (folder / path).write_text(text, encoding="utf-8")
    content = manifest.sealed(
        folder,
        {
            "format": FORMAT,
            "version": CUDA_VERSION,
            "kind": CUDA,
            "name": name,
            "made_with": manifest.made_with(),
            "targets": [_target_entry(target) for target in contents.targets],
            "ptx": portable,
            "header": f"include/{name}.h",
            "kernels": entries,
        },
    )
    text = json.dumps(content, indent=1) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def newest(targets: Sequence[Target]) -> Target:
    """The target whose PTX is shipped for GPUs newer than all."""
    return max(targets, key=lambda target: int(re.sub(r"\D", "", target.isa)))


def _target_entry(target: Target) -> dict[str, Any]:
    return {"id": target.id, "family": target.family, "isa": target.isa,
            "description": target.description}  # fmt: skip


def _write_code(folder: Path, symbol: str, kernel: Kernel, portable: str) -> dict[str, Any]:
    """Files of one kernel for one target; what the manifest says of them."""
    device = kernel.built.device
    assert device is not None, f"{kernel.target.id} has no device code"
    pack, isa = device_packing(kernel), kernel.target.isa
    images = {
        "run": (device, kernel.image if device.launches else None),
        "pack": (pack, compile_source(pack.source, isa) if pack.launches else None),
    }
    parts = {}
    for kind, (code, image) in images.items():
        stem = f"code/{symbol}_{kind}-{kernel.target.id}"
        parts[kind] = _part(code, image)
        if image is not None:
            parts[kind]["cubin"] = f"{stem}.cubin"
            (folder / f"{stem}.cubin").write_bytes(image.cubin)
            if kernel.target.id == portable and not code.arch_suffix:
                parts[kind]["ptx"] = f"{stem}.ptx"
                (folder / f"{stem}.ptx").write_text(image.ptx, encoding="ascii")
    return {
        **manifest.origin_entry(kernel),
        "workspace_bytes": device.workspace_bytes,
        "pack_workspace_bytes": pack.workspace_bytes,
        "text_bytes": sum(one.code_bytes for _, i in images.values() if i for one in i.usage),
        **parts,
    }


def _write_source(folder: Path, symbol: str, kernel: Kernel, entry: dict[str, Any]) -> None:
    """CUDA source of one kernel for one target, and where the manifest finds it."""
    device = kernel.built.device
    assert device is not None, f"{kernel.target.id} has no device code"
    for kind, code in (("run", device), ("pack", device_packing(kernel))):
        if code.launches:
            path = f"code/{symbol}_{kind}-{kernel.target.id}.cu"
            (folder / path).write_text(code.source, encoding="utf-8")
            entry[kind]["source"] = path


def _part(code: DeviceCode, image: Image | None) -> dict[str, Any]:
    """Launches, and what each kernel needs of a multiprocessor."""
    none = dict.fromkeys(("cubin", "ptx", "source"))
    found = code.entry() | none | {"compiler": "", "flags": [], "usage": {}}
    if image is None:
        return found
    spills = dict(image.spills)
    usage = {
        one.kernel: {
            "registers": one.registers,
            "stack_bytes": one.stack_bytes,
            "shared_bytes": one.shared_bytes,
            "code_bytes": one.code_bytes,
            "spill_store_bytes": spills[one.kernel].store_bytes if one.kernel in spills else None,
            "spill_load_bytes": spills[one.kernel].load_bytes if one.kernel in spills else None,
        }
        for one in image.usage
    }
    return found | {"compiler": image.compiler, "flags": list(image.flags), "usage": usage}
