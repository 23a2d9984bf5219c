"""What is checked of a bundle before any of its code runs."""

from __future__ import annotations

import ctypes
import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvmconv.errors import BundleError

FORMAT = "tvmconv-bundle"
VERSION = 2
CUDA_VERSION = 3  # of bundles for GPUs, which loaders of version 2 would not understand
VERSIONS = (1, VERSION, CUDA_VERSION)
CUDA = "cuda"

# What version 1 said of a kernel that version 2 says of each of its targets.
_OF_TARGET = ("template", "config", "tier", "text_bytes", "tolerance", "golden", "weights")


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own "sha256" entry, whatever its white space."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a folder, when it is whole and of a known version.

    Those of version 1 are given in the form of version 2.
    """
    path = root / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path}: no bundle is here: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"{path}: truncated or altered: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path}: not the manifest of a {FORMAT}")
    if manifest.get("version") not in VERSIONS:
        given, known = manifest.get("version"), " or ".join(map(str, VERSIONS))
        raise BundleError(f"{path}: format version", given, f"{known}; use a matching tvmconv")
    if manifest.get("sha256") != manifest_digest(manifest):
        raise BundleError(f"{path}: altered: its content does not fit its own checksum")
    return manifest if manifest["version"] >= VERSION else _upgraded(manifest)


def _upgraded(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest of version 1, which knew one target, in the form of version 2."""
    target = {"system": "linux", "cpu_part": "", **manifest["target"]}
    library = {key: target[key] for key in ("machine", "system", "pointer_bits")}
    kernels = []
    for entry in manifest["kernels"]:
        code = {key: entry[key] for key in _OF_TARGET}
        code |= {
            "packed_elems": entry["tensors"]["packed"]["shape"][0],
            "workspace_bytes": None,  # version 1 did not say
            "pack_workspace_bytes": None,
        }
        shared = {key: value for key, value in entry.items() if key not in _OF_TARGET}
        kernels.append({**shared, "targets": {target["id"]: code}})
    rest = {key: value for key, value in manifest.items() if key not in ("target", "library")}
    return {
        **rest,
        "kind": "hosted",
        "targets": [target],
        "libraries": [{**library, "targets": [target["id"]], **manifest["library"]}],
        "kernels": kernels,
    }


def of_target(entry: Mapping[str, Any], target: str) -> dict[str, Any]:
    """The manifest's entry of a kernel with what one of its targets says beside, in one level."""
    return {**entry, **entry["targets"][target]}


def check_files(root: Path, manifest: Mapping[str, Any]) -> None:
    """Compare size and checksum of every file that the manifest lists."""
    for name, entry in manifest["files"].items():
        path = root / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BundleError(f"{path}: cannot be read: {error.strerror}") from error
        if len(data) != entry["bytes"]:
            how = "truncated" if len(data) < entry["bytes"] else "altered"
            wanted = f"the manifest says {entry['bytes']}"
            raise BundleError(f"{path}: {how}: it has {len(data)} bytes, {wanted}")
        if hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise BundleError(f"{path}: altered: its SHA-256 is not the one in the manifest")


def library_here(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of the library whose code runs on this machine.

    Raises:
        BundleError: there is none, or this CPU lacks what all of its targets need; says which.
    """
    here, system = _this_machine(), _this_system()
    for library in manifest["libraries"]:
        if (library["machine"], library["pointer_bits"]) != here or library["system"] != system:
            continue
        if library["shared"] is None:
            raise BundleError("a static bundle", "no shared library", "link it into a C program")
        if system == "darwin":
            return dict(library)  # every Mac of that machine has what the targets ask for
        _check_features(manifest, library)
        return dict(library)
    made = [f"{lib['machine']}, {lib['system']}, {_bits(lib)}" for lib in manifest["libraries"]]
    raise BundleError(f"made for {'; '.join(made)}. This is {here[0]}, {system}, {here[1]} bits")


def _check_features(manifest: Mapping[str, Any], library: Mapping[str, Any]) -> None:
    flags = cpu_flags()
    if flags is None:
        return  # the library itself is asked when it is open
    targets = [t for t in manifest["targets"] if t["id"] in library["targets"]]
    lacking = [[f for f in target["cpu_features"] if f not in flags] for target in targets]
    if all(lacking):
        names = ", ".join(target["id"] for target in targets)
        raise BundleError(f"made for {names}; this CPU lacks: {', '.join(lacking[-1])}")


def _bits(library: Mapping[str, Any]) -> str:
    return f"{library['pointer_bits']} bits"


def _this_machine() -> tuple[str, int]:
    here = platform.machine().lower()
    here = {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l"}.get(here, here)
    bits = ctypes.sizeof(ctypes.c_void_p) * 8
    if bits == 32 and here == "aarch64":
        here = "armv7l"  # a 32-bit process, which sees the name of the system's processor
    return here, bits


def _this_system() -> str:
    return "linux" if sys.platform.startswith("linux") else sys.platform


def cpu_flags() -> frozenset[str] | None:
    """What this CPU has and the system's kernel supports, as /proc/cpuinfo tells.

    None where it tells nothing, or speaks of another processor, as it does under an emulator.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    machine = _this_machine()[0]
    key_here = "flags" if machine == "x86_64" else "isa" if machine == "riscv64" else "Features"
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() != key_here:
            continue
        if key_here != "isa":
            return frozenset(value.split())
        letters = value.strip().removeprefix("rv64").partition("_")[0]  # rv64imafdc_zicsr_...
        return frozenset(f"rv_{letter}" for letter in letters.replace("g", "imafd"))
    return None
