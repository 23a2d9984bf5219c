"""Which of a library's targets runs: the choice itself, and libraries with two targets."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.fake_kernel import fake_object, fake_symbol
from tvmconv import host_cpu, target
from tvmconv.bundle.contents import best_first
from tvmconv.errors import BuildFailed
from tvmconv.runtime import KernelSymbol, cpu_features
from tvmconv.runtime.dispatch import Dispatched, TargetCode, dispatch_source
from tvmconv.toolchain import link_shared, shared_runtime

A53, A72, A76, A73 = 0x41_0D03, 0x41_0D08, 0x41_0D0B, 0x41_0D09
ZEN4, ZEN5 = ord("A") << 16 | 25, ord("A") << 16 | 26
NEON, DOTPROD = ("fp", "asimd"), ("fp", "asimd", "fphp", "asimdhp", "asimddp")


class CTarget(ctypes.Structure):
    """tvmconv_target of runtime.h."""

    _fields_ = (("id", ctypes.c_char_p), ("cpu", ctypes.c_uint64), ("core", ctypes.c_uint32))


def mask(features: tuple[str, ...]) -> int:
    return sum(1 << cpu_features()[name] for name in features)


def pick(targets: tuple[str, ...], features: tuple[str, ...], core: int) -> str | None:
    """What the C code takes of these targets on a CPU that does not exist."""
    chosen = _ordered(targets)
    rows = [CTarget(t.id.encode(), mask(t.cpu_features), t.core) for t in chosen]
    table = (CTarget * len(rows))(*rows)
    library = ctypes.CDLL(str(shared_runtime()))
    library.tvmconv_pick.argtypes = [
        ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint64, ctypes.c_uint32
    ]  # fmt: skip
    index = library.tvmconv_pick(ctypes.byref(table), len(table), mask(features), core)
    return None if index < 0 else chosen[index].id


def _ordered(ids: tuple[str, ...]) -> tuple[target.Target, ...]:
    return best_first([target.load(name) for name in ids])


V2, V3, V4 = (target.load(f"x86_64_v{n}").cpu_features for n in (2, 3, 4))
LEVELS = ("x86_64_v3", "x86_64_v2", "x86_64_v4")


@pytest.mark.parametrize(
    ("targets", "features", "core", "picked"),
    [
        # Its own core first, although pi3 and pi4 need the same.
        (("pi3", "pi4", "pi5"), NEON, A53, "pi3"),
        (("pi3", "pi4", "pi5"), NEON, A72, "pi4"),
        (("pi3", "pi4", "pi5"), DOTPROD, A76, "pi5"),
        # Another core: what has the most features, then the one that was named first.
        (("pi3", "pi4", "pi5"), NEON, A73, "pi3"),
        (("pi4", "pi3", "pi5"), NEON, A73, "pi4"),
        (("pi3", "pi4", "pi5"), DOTPROD, 0, "pi5"),
        # Code for any core before code for another one.
        (("pi3", "pi4", "aarch64"), NEON, A73, "aarch64"),
        (("pi3", "pi4", "aarch64"), NEON, A72, "pi4"),
        # A core that the target was made for, without its features (an old system's kernel).
        (("pi4", "pi5"), NEON, A76, "pi4"),
        (("pi5",), NEON, A76, None),
        (("pi3", "pi4"), (), A72, None),
        (LEVELS, V3, 0, "x86_64_v3"),
        (LEVELS, V4, 0, "x86_64_v4"),
        (LEVELS, V2, 0, "x86_64_v2"),
        (("x86_64_v3", "x86_64_v4"), V2, 0, None),
        (("zen4", "x86_64_v4", "x86_64_v3"), V4, ZEN4, "zen4"),
        (("zen4", "x86_64_v4", "x86_64_v3"), V4, ZEN5, "x86_64_v4"),
        (("zen4", "x86_64_v3"), V4, ZEN5, "zen4"),
        # Zen 3 has Zen 4's number and no AVX-512.
        (("zen4", "x86_64_v3"), V3, ZEN4, "x86_64_v3"),
    ],
)
def test_pick(
    targets: tuple[str, ...], features: tuple[str, ...], core: int, picked: str | None
) -> None:
    assert pick(targets, features, core) == picked


def test_targets_of_one_machine_stand_together() -> None:
    ids = [t.id for t in _ordered(("pi3", "x86_64_v2", "pi5", "x86_64_v4", "armv7"))]
    assert ids == ["pi5", "pi3", "x86_64_v4", "x86_64_v2", "armv7"]


HERE = target.host()
# Two kernels that this machine runs and one that it cannot; packing tells which one ran.
KERNELS = {"wide": 2, "narrow": 3, "foreign": 5}


@pytest.fixture
def library(tmp_path: Path) -> Any:
    absent = tuple(n for n in cpu_features() if n not in host_cpu.host_features())
    if not absent:
        pytest.skip("this CPU has every instruction set that the runtime knows")
    features = {"wide": HERE.cpu_features, "narrow": (), "foreign": absent}
    order = ("foreign", "wide", "narrow")
    targets = [TargetCode(n, HERE.machine, HERE.system, features[n]) for n in order]
    kernels = tuple(fake_symbol(name, features[name]) for name in order)
    source = dispatch_source("two", targets, [Dispatched("fake", kernels)])
    objects = [fake_object(tmp_path, symbol=n, factor=KERNELS[n]) for n in order]
    path = link_shared(objects, [source], tmp_path / "libtwo.so", own_runtime=True)
    library = ctypes.CDLL(str(path))
    library.two_target.restype = library.tvmconv_error_text.restype = ctypes.c_char_p
    library.two_use_target.argtypes = [ctypes.c_char_p]
    library.two_cpu_missing.restype = ctypes.c_uint64
    library.two_cpu_missing.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.fake_run.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_int32]
    library.fake_pack.argtypes = [ctypes.c_void_p] * 5
    return library


def ran(library: Any) -> int:
    """The factor of the kernel that the library runs."""
    x, y = np.ones(1000, np.float32), np.zeros(1000, np.float32)
    weight, packed = np.ones(10, np.float32), np.zeros(10, np.float32)
    pack = (weight.ctypes.data, None, None, None, packed.ctypes.data)
    assert library.fake_pack(*pack) == 0
    run = (x.ctypes.data, packed.ctypes.data, None, None, None, y.ctypes.data)
    assert library.fake_run(*run, 2) == 0
    assert len(set(y)) == 1
    return int(y[0])


def test_the_most_demanding_that_runs_is_taken(library: Any) -> None:
    assert ran(library) == KERNELS["wide"]
    assert library.two_target() == b"wide"
    names = ctypes.create_string_buffer(b"x" * 64)
    assert library.two_cpu_missing(names, 64) == 0
    assert names.value == b""


def test_another_target_can_be_asked_for(library: Any) -> None:
    assert library.two_use_target(b"narrow") == 0
    assert (library.two_target(), ran(library)) == (b"narrow", KERNELS["narrow"])
    for name, text in ((b"foreign", b"lacks an instruction set"), (b"narro", b"no target of this")):
        code = library.two_use_target(name)
        assert text in library.tvmconv_error_text(code)
        assert library.two_target() == b"narrow"
    assert library.two_use_target(None) == 0
    assert ran(library) == KERNELS["wide"]


def test_pointers_are_checked_before_a_kernel_runs(library: Any) -> None:
    array = np.zeros(1002, np.float32)
    data = array.ctypes.data
    for y, text in ((None, b"y must not be NULL"), (data + 2, b"y must point to float32")):
        code = library.fake_run(data, data, None, None, None, y, 1)
        assert library.tvmconv_error_text(code).startswith(text)


def test_no_target_fits(tmp_path: Path) -> None:
    absent = tuple(n for n in cpu_features() if n not in host_cpu.host_features())
    if len(absent) < 2:
        pytest.skip("this CPU has every instruction set that the runtime knows")
    features = {"more": absent, "less": absent[:1]}
    targets = [TargetCode(n, HERE.machine, HERE.system, f) for n, f in features.items()]
    kernels = tuple(fake_symbol(name, f) for name, f in features.items())
    source = dispatch_source("none", targets, [Dispatched("fake", kernels)])
    objects = [fake_object(tmp_path, symbol=name) for name in features]
    path = link_shared(objects, [source], tmp_path / "libnone.so", own_runtime=True)
    library = ctypes.CDLL(str(path))
    library.none_target.restype = ctypes.c_char_p
    library.tvmconv_error_text.restype = ctypes.c_char_p
    library.none_cpu_missing.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.none_cpu_missing.restype = ctypes.c_uint64
    array = np.zeros(1000, np.float32)
    library.fake_run.argtypes = [ctypes.c_void_p] * 6 + [ctypes.c_int32]
    code = library.fake_run(array.ctypes.data, array.ctypes.data, None, None, None, None, 1)
    assert b"lacks an instruction set" in library.tvmconv_error_text(code)
    assert library.none_target() is None
    names = ctypes.create_string_buffer(64)
    assert library.none_cpu_missing(names, 64) == mask(absent[:1])
    assert names.value.decode() == absent[0]  # of the least demanding


def test_source_for_another_machine_does_not_compile(tmp_path: Path) -> None:
    other = target.load("armv7" if HERE.machine != "armv7l" else "pi4")
    code = TargetCode(other.id, other.machine, other.system, ())
    source = dispatch_source("other", [code], [Dispatched("fake", (fake_symbol("fake"),))])
    with pytest.raises(BuildFailed, match="holds no code for this machine"):
        link_shared([fake_object(tmp_path)], [source], tmp_path / "lib.so", own_runtime=True)


def test_targets_must_be_called_alike() -> None:
    other = KernelSymbol("other", ("x", "packed", "residual", "y"), ("weight", "packed"))
    with pytest.raises(BuildFailed, match="arguments of fake"):
        Dispatched("fake", (fake_symbol("a"), other))
