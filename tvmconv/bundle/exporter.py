"""Write kernels as a bundle: libraries, header, sources, tests and manifest in one folder."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.errors import ArgumentError
from tvmconv.runtime.sources import CORE_SOURCES, INNER_HEADERS, PUBLIC_HEADERS, SOURCE_DIR
from tvmconv.runtime.wrapper import wrapper_source
from tvmconv.toolchain import link_shared, link_static

from . import manifest, texts
from .answers import golden_answer
from .checks import FORMAT
from .loader import Bundle, read
from .standalone import standalone_source

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel


def export(
    kernels: Sequence[Kernel],
    out_dir: str | Path,
    *,
    weights: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Bundle:
    """Write `kernels` as a bundle; the folder appears whole or not at all.

    Args:
        kernels: compiled kernels, at least one, all for the same target.
        out_dir: folder to make. A bundle that is there is replaced, anything else is left alone.
        weights: packed weights (`kernel.pack`) or layers (`kernel.bind`) to ship, by the kernel's
            symbol or spec text; `bundle.layer(name)` brings them back.
        name: of the libraries and the header, a C identifier; default: made from the folder's name.

    Returns:
        The bundle; its library is opened when a kernel is first called.

    Raises:
        ArgumentError: no kernels, several targets, a kernel twice, weights that fit no kernel, or a
            folder that holds something else.
        BuildFailed: the C compiler or the linker refused.
        EnvironmentProblem: there is no C compiler.
    """
    out = Path(out_dir)
    _check_kernels(kernels)
    _check_replaceable(out)
    chosen = name if name is not None else re.sub(r"\W+", "_", f"{out.resolve().name}")
    chosen = chosen if name is not None or chosen[:1].isalpha() else f"bundle_{chosen}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", chosen):
        raise ArgumentError("name", chosen, "a C identifier")
    packed = _packed_weights(kernels, weights or {})
    out.parent.mkdir(parents=True, exist_ok=True)
    making = out.parent / f".{out.name}.making-{uuid.uuid4().hex[:8]}"
    making.mkdir()
    try:
        _write(making, chosen, kernels, packed)
        _put_in_place(making, out)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return read(out)


def _check_kernels(kernels: Sequence[Kernel]) -> None:
    if not kernels:
        raise ArgumentError("kernels", [], "at least one kernel")
    targets = sorted({kernel.target.id for kernel in kernels})
    if len(targets) > 1:
        raise ArgumentError("kernels", f"targets {', '.join(targets)}", "one target per bundle")
    symbols = [kernel.symbol for kernel in kernels]
    for symbol in symbols:
        if symbols.count(symbol) > 1:
            raise ArgumentError("kernels", f"{symbol} twice", "each kernel once")


def _check_replaceable(out: Path) -> None:
    allowed = "a new or empty folder, or a bundle to replace"
    if not out.exists():
        return
    if not out.is_dir():
        raise ArgumentError("out_dir", str(out), allowed)
    if any(out.iterdir()):
        try:
            found = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ArgumentError("out_dir", str(out), allowed)


def _packed_weights(kernels: Sequence[Kernel], weights: Mapping[str, Any]) -> dict[str, Any]:
    """The given weights by symbol, as little-endian float32."""
    packed = {}
    for name, value in weights.items():
        kernel = next((k for k in kernels if name in (k.symbol, str(k.spec))), None)
        if kernel is None:
            known = ", ".join(str(k.spec) for k in kernels)
            raise ArgumentError("weights", name, f"the spec or symbol of a kernel: {known}")
        array = np.asarray(getattr(value, "packed", value))
        if array.dtype != np.float32 or array.shape != (kernel.packed_elems,):
            given = f"{array.dtype} of shape {array.shape}"
            allowed = f"what kernel.pack returns: float32 of shape ({kernel.packed_elems},)"
            raise ArgumentError(f"weights of {name}", given, allowed)
        packed[kernel.symbol] = array.astype("<f4")
    return packed


def _write(folder: Path, name: str, kernels: Sequence[Kernel], packed: Mapping[str, Any]) -> None:
    for part in ("include", "lib", "src", "golden", *(["weights"] if packed else [])):
        (folder / part).mkdir()
    entries = [manifest.kernel_entry(kernel) for kernel in kernels]
    for kernel, entry in zip(kernels, entries, strict=True):
        golden = golden_answer(kernel)
        (folder / entry["golden"]).write_bytes(golden.encode())
        entry["tolerance"] |= {"exact": golden.exact, "absolute": golden.tolerance}
        if kernel.symbol in packed:
            entry["weights"] = f"weights/{kernel.symbol}.bin"
            (folder / entry["weights"]).write_bytes(packed[kernel.symbol].tobytes())
    for header in PUBLIC_HEADERS:
        shutil.copy(SOURCE_DIR / header, folder / "include")
    for source in (*CORE_SOURCES, *INNER_HEADERS):
        shutil.copy(SOURCE_DIR / source, folder / "src")
    target = kernels[0].target
    c_symbols = [kernel.c_symbol for kernel in kernels]
    wrappers = folder / "src" / "kernels.c"
    wrappers.write_text(wrapper_source(c_symbols), encoding="utf-8")
    for path, text in texts.render(name, target, entries, c_symbols).items():
        (folder / path).write_text(text, encoding="utf-8")
    (folder / "tvmconv_load.py").write_text(standalone_source(), encoding="utf-8")
    objects = [kernel.object_bytes for kernel in kernels]
    library = folder / "lib" / f"lib{name}.so"
    link_shared(objects, [wrappers], library, target, own_runtime=True)
    named = {f"{kernel.symbol}.o": kernel.object_bytes for kernel in kernels}
    link_static(named, [wrappers], library.with_suffix(".a"), target)
    content = manifest.complete(folder, name, target, entries)
    text = json.dumps(content, indent=1) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def _put_in_place(made: Path, out: Path) -> None:
    old = made.with_name(made.name + ".old")
    if out.exists():
        out.rename(old)
    made.rename(out)
    shutil.rmtree(old, ignore_errors=True)
