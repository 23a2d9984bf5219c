"""Which GPU runs which machine code."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tvmconv.errors import DeviceError


def parse_arch(arch: str) -> tuple[tuple[int, int], str]:
    """Capability and suffix of an architecture's name: "sm_90a" is ((9, 0), "a").

    Raises:
        DeviceError: it is none.
    """
    found = re.fullmatch(r"sm_(\d+)(\d)([af]?)", arch)
    if found is None:
        raise DeviceError("arch", arch, '"sm_" and a number, as in sm_90')
    return (int(found[1]), int(found[2])), found[3]


def pick_code(archs: Iterable[str], capability: tuple[int, int]) -> tuple[str, str] | None:
    """Which of some architectures' code a GPU runs: ("sm_80", "cubin") or ("sm_80", "ptx").

    A cubin runs on GPUs of its generation that are as new or newer: of those the newest is taken.
    Otherwise the driver compiles the newest PTX that is no newer than the GPU. "sm_90a" and its
    like use what only that very GPU has.
    """
    parsed = [(*parse_arch(arch), arch) for arch in archs]
    same = [
        (version, bool(special), arch)
        for version, special, arch in parsed
        if version == capability
        or (not special and version[0] == capability[0] and version[1] <= capability[1])
    ]
    if same:
        return max(same)[2], "cubin"
    older = [(version, arch) for version, special, arch in parsed
             if not special and version <= capability]  # fmt: skip
    return (max(older)[1], "ptx") if older else None
