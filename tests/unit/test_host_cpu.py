"""What a machine tells of its processor, in Python and in the C runtime."""

from __future__ import annotations

import ctypes
import dataclasses

import pytest

from tvmconv.cores import FAMILIES, core_of
from tvmconv.errors import TargetError
from tvmconv.host_cpu import cores_of, features_of, host_cores, host_features, machine_name
from tvmconv.target import host, load
from tvmconv.toolchain import shared_runtime

X86 = """\
processor\t: 0
vendor_id\t: {}
cpu family\t: {}
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: {}
"""
V4 = load("x86_64_v4").cpu_features


def test_the_core_of_an_x86_processor() -> None:
    text = X86.format("AuthenticAMD", 25, "fpu avx2")
    assert cores_of(text + "\n" + text) == {"AuthenticAMD:25"}
    assert features_of(text) == {"fpu", "avx2"}
    assert cores_of("model name : AMD EPYC\n") == frozenset()


def test_one_name_for_a_processor() -> None:
    assert [machine_name(n) for n in ("amd64", "arm64", "riscv64")] == [
        "x86_64",
        "aarch64",
        "riscv64",
    ]


@pytest.mark.parametrize(
    ("vendor", "family", "features", "expected"),
    [
        ("AuthenticAMD", 25, V4, "zen4"),
        ("AuthenticAMD", 26, V4, "x86_64_v4"),
        ("GenuineIntel", 6, V4, "x86_64_v4"),
        # Zen 3 has the same number and no AVX-512.
        ("AuthenticAMD", 25, load("x86_64_v3").cpu_features, "x86_64_v3"),
    ],
)
def test_host_is_the_target_of_its_core(
    vendor: str,
    family: int,
    features: tuple[str, ...],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = X86.format(vendor, family, " ".join(features))
    monkeypatch.setattr("tvmconv.target.this_machine", lambda: "x86_64")
    monkeypatch.setattr("tvmconv.target.host_features", lambda: features_of(text))
    monkeypatch.setattr("tvmconv.target.host_cores", lambda: cores_of(text))
    assert host.__wrapped__().id == expected


def test_the_c_runtime_says_the_same_core() -> None:
    library = ctypes.CDLL(str(shared_runtime()))
    library.tvmconv_cpu_core.restype = ctypes.c_uint32
    told = library.tvmconv_cpu_core()
    if not host_cores() or told == 0:
        pytest.skip("this system does not tell programs what its cores are")
    assert told in {dataclasses.replace(host(), cpu_part=part).core for part in host_cores()}


def test_a_core_has_bounds_of_its_own() -> None:
    """Zen 4 makes two of each vector of 512 bits; its target has the same instruction sets."""
    zen4, generic = load("zen4"), load("x86_64_v4")
    assert (zen4.cpu_features, zen4.mcpu) == (generic.cpu_features, generic.mcpu)
    assert core_of(generic) == FAMILIES["x86"]
    assert 2 * core_of(zen4).fma_per_cycle == core_of(generic).fma_per_cycle


def test_numbers_of_cores() -> None:
    assert load("pi4").core == 0x41_0D08
    assert load("zen4").core == ord("A") << 16 | 25
    assert load("x86_64_v4").core == 0


@pytest.mark.parametrize("part", ["0x41", "AuthenticAMD", "AuthenticAMD:", "AMD:zen4", "0x041:1"])
def test_a_core_is_named_as_cpuinfo_names_it(part: str) -> None:
    with pytest.raises(TargetError, match="cpu_part: got") as raised:
        dataclasses.replace(load("zen4"), cpu_part=part)
    assert "AuthenticAMD:25" in str(raised.value)


def test_records_come_from_targets_that_exist() -> None:
    assert load("zen4").record_ids == ("zen4", "x86_64_v4")
    assert load("x86_64_v4").record_ids == ("x86_64_v4",)
    with pytest.raises(TargetError, match=r"records_from: got 4; allowed: a text"):
        dataclasses.replace(load("zen4"), records_from=4)  # type: ignore[arg-type]
    assert host_features() >= set(host().cpu_features)
