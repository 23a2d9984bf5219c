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
VERSION = 1


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own "sha256" entry, whatever its white space."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of a folder, when it is whole and of a known version."""
    path = root / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BundleError(f"{path}: no bundle is here: {error.strerror}") from error
    except ValueError as error:
        raise BundleError(f"{path}: truncated or altered: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{path}: not the manifest of a {FORMAT}")
    if manifest.get("version") != VERSION:
        given = manifest.get("version")
        raise BundleError(f"{path}: format version", given, f"{VERSION}; use a matching tvmconv")
    if manifest.get("sha256") != manifest_digest(manifest):
        raise BundleError(f"{path}: altered: its content does not fit its own checksum")
    return manifest


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


def check_machine(manifest: Mapping[str, Any]) -> None:
    """Raise BundleError, with the reason, where this machine cannot run the bundle's code."""
    target = manifest["target"]
    here = platform.machine().lower()
    here = {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l"}.get(here, here)
    bits = ctypes.sizeof(ctypes.c_void_p) * 8
    if bits == 32 and here == "aarch64":
        here = "armv7l"  # a 32-bit process, which sees the name of the system's processor
    if (here, bits) != (target["machine"], target["pointer_bits"]):
        wanted = f"{target['machine']} with {target['pointer_bits']}-bit pointers"
        raise BundleError(f"made for {wanted}; this is {here} with {bits}-bit pointers")
    system = target.get("system", "linux")  # bundles of before name none
    if not sys.platform.startswith(system):
        raise BundleError(f"made for {system}; this is {sys.platform}")
    if system == "darwin":
        return  # every Mac of that machine has what the target asks for
    lacking = [f for f in target["cpu_features"] if f not in cpu_flags()]
    if lacking:
        raise BundleError(f"made for {target['id']}; this CPU lacks: {', '.join(lacking)}")


def cpu_flags() -> frozenset[str]:
    """What this CPU has and the system's kernel supports, as /proc/cpuinfo tells."""
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
        if key.strip() == "isa":  # RISC-V: rv64imafdc_zicsr_...
            letters = value.strip().removeprefix("rv64").partition("_")[0]
            return frozenset(f"rv_{letter}" for letter in letters.replace("g", "imafd"))
    return frozenset()
