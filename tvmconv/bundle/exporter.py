"""Write kernels as a bundle: libraries, header, sources, tests and manifest in one folder."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.errors import ArgumentError
from tvmconv.runtime.archive import needed_symbols
from tvmconv.runtime.dispatch import dispatch_source
from tvmconv.runtime.sources import (
    CORE_SOURCES,
    INNER_HEADERS,
    PUBLIC_HEADERS,
    SOURCE_DIR,
    STATIC_HEADERS,
    STATIC_SOURCES,
)
from tvmconv.toolchain import link_shared, link_static

from . import cuda_export, manifest, static, texts
from .answers import write_answers
from .checks import FORMAT
from .contents import FORMATS, HOSTED, STATIC, Contents, Library, arrange
from .opening import AnyBundle, read
from .standalone import standalone_source
from .weights import Packed, packed_weights, write_weights

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel


def export(
    kernels: Sequence[Kernel],
    out_dir: str | Path,
    *,
    weights: Mapping[str, Any] | None = None,
    name: str | None = None,
    format: str = HOSTED,
    source: bool = False,
) -> AnyBundle:
    """Write `kernels` as a bundle; the folder appears whole or not at all.

    Args:
        kernels: compiled kernels, at least one. Those of several targets make one bundle, which
            picks the best target when it is loaded; every convolution then needs a kernel for each.
        out_dir: folder to make. A bundle that is there is replaced, anything else is left alone.
        weights: packed weights (`kernel.pack`) or layers (`kernel.bind`) to ship, by the kernel's
            symbol or spec text; `bundle.layer(name)` brings them back. For several targets, by spec
            text a mapping from target to weights.
        name: of the libraries and the header, a C identifier; default: made from the folder's name.
        format: "hosted": libraries for a system with a C library and threads. "static": an archive
            for firmware, without threads, malloc or system; for one target.
        source: whether a bundle for GPUs has the CUDA source of its code too, which nothing on the
            device needs: `tvmconv validate FOLDER --emulate` proves it without a GPU.

    Returns:
        The bundle; its library is opened when a kernel is first called.

    Raises:
        ArgumentError: no kernels, a kernel twice, a convolution that lacks a target, weights that
            fit no kernel, an unknown format or one that does not fit the targets, source of kernels
            for processors, or a folder that holds something else.
        BuildFailed: the C compiler or the linker refused.
        EnvironmentProblem: there is no C compiler.
    """
    out = Path(out_dir)
    contents = arrange(kernels)
    _check_format(format, contents)
    if source and not contents.is_cuda:
        ids = ", ".join(target.id for target in contents.targets)
        raise ArgumentError("source", source, f"False: {ids} has no CUDA source")
    write = _cuda_writer(source) if contents.is_cuda else _writer(format)
    _check_replaceable(out)
    chosen = name if name is not None else re.sub(r"\W+", "_", f"{out.resolve().name}")
    chosen = chosen if name is not None or chosen[:1].isalpha() else f"bundle_{chosen}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", chosen):
        raise ArgumentError("name", chosen, "a C identifier")
    packed = packed_weights(contents, weights or {})
    out.parent.mkdir(parents=True, exist_ok=True)
    making = out.parent / f".{out.name}.making-{uuid.uuid4().hex[:8]}"
    making.mkdir()
    try:
        write(making, chosen, contents, packed)
        _put_in_place(making, out)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return read(out)


def _writer(form: str) -> Callable[[Path, str, Contents, Packed], None]:
    return lambda folder, name, contents, packed: _write(folder, name, form, contents, packed)


def _cuda_writer(source: bool) -> Callable[[Path, str, Contents, Packed], None]:
    return lambda folder, name, contents, packed: cuda_export.write(
        folder, name, contents, packed, source=source
    )


def _check_format(form: str, contents: Contents) -> None:
    if form not in FORMATS:
        raise ArgumentError("format", form, " or ".join(FORMATS))
    ids = ", ".join(target.id for target in contents.targets)
    if any(target.gpu is not None for target in contents.targets):
        if not contents.is_cuda:
            raise ArgumentError("kernels", f"kernels for {ids}", "processors or GPUs, not both")
        if form == STATIC:
            raise ArgumentError("format", form, f"hosted: {ids} needs the GPU's driver")
        return
    firmware = [target.id for target in contents.targets if target.system == "none"]
    if form == HOSTED and firmware:
        allowed = f"static: {', '.join(firmware)} has no system to load libraries"
        raise ArgumentError("format", form, allowed)
    if form == STATIC and len(contents.targets) > 1:
        raise ArgumentError("format", f"static for {ids}", "static for one target")


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


def _write(folder: Path, name: str, form: str, contents: Contents, packed: Packed) -> None:
    for part in ("include", "lib", "src", "golden", *(["weights"] if packed else [])):
        (folder / part).mkdir()
    entries, answers = [], {}
    for convolution in contents.convolutions:
        entry = manifest.kernel_entry(convolution)
        answers[convolution.symbol] = write_answers(folder, convolution, entry)
        write_weights(folder, convolution, entry, packed)
        entries.append(entry)
    _write_sources(folder, name, form, contents)
    for library in contents.libraries:
        _write_library(folder, name, form, contents, library, packed)
    if form == STATIC:
        needs = needed_symbols((folder / "lib" / f"lib{name}.a").read_bytes())
        rendered = static.render(name, contents, entries, answers, needs)
    else:
        rendered = texts.render(name, contents, entries)
        rendered["tvmconv_load.py"] = standalone_source()
    for path, text in rendered.items():
        (folder / path).write_text(text, encoding="utf-8")
    content = manifest.complete(folder, name, form, contents, entries)
    text = json.dumps(content, indent=1) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def _write_sources(folder: Path, name: str, form: str, contents: Contents) -> None:
    for header in STATIC_HEADERS if form == STATIC else PUBLIC_HEADERS:
        shutil.copy(SOURCE_DIR / header, folder / "include")
    for source in (*(STATIC_SOURCES if form == STATIC else CORE_SOURCES), *INNER_HEADERS):
        shutil.copy(SOURCE_DIR / source, folder / "src")
    dispatched = [convolution.dispatched for convolution in contents.convolutions]
    wrappers = dispatch_source(name, contents.target_codes, dispatched)
    (folder / "src" / "kernels.c").write_text(wrappers, encoding="utf-8")


def _write_library(
    folder: Path, name: str, form: str, contents: Contents, library: Library, packed: Packed
) -> None:
    """The libraries of one kind of machine, with the code of all of its targets."""
    place = folder / library.folder
    place.mkdir(exist_ok=True)
    target = contents.targets[library.targets[0]]
    kernels = [c.kernels[i] for c in contents.convolutions for i in library.targets]
    sources: list[str | Path] = [folder / "src" / "kernels.c"]
    named = {f"{kernel.symbol}.o": kernel.object_bytes for kernel in kernels}
    bare = form == STATIC
    if not bare:
        objects = list(named.values())
        link_shared(objects, sources, folder / library.shared(name), target, own_runtime=True)
    else:
        named |= static.weight_objects(contents, packed)
    link_static(named, sources, place / f"lib{name}.a", target, bare=bare)


def _put_in_place(made: Path, out: Path) -> None:
    old = made.with_name(made.name + ".old")
    if out.exists():
        out.rename(old)
    made.rename(out)
    shutil.rmtree(old, ignore_errors=True)
