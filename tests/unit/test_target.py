"""Targets are data: what ships is consistent, and what is wrong with a file is said."""

import dataclasses
import platform
from itertools import pairwise

import pytest

from tvmconv import target
from tvmconv.errors import TargetError
from tvmconv.target import Target, from_toml, host, ids, load

TEXT = """
description = "a device for tests"
family = "x86"
isa = "AVX2"
triple = "x86_64-linux-gnu"
mcpu = "x86-64-v3"
cpu_features = ["avx2", "fma"]
lanes = 8
registers = 16
fma = true
l1_bytes = 32768
l2_bytes = 524288
cores = 2
"""


@pytest.mark.parametrize("target_id", ids())
def test_shipped_target_loads(target_id: str) -> None:
    loaded = load(target_id)
    assert loaded.id == target_id
    assert loaded.l1_bytes < loaded.l2_bytes
    assert loaded.description
    assert load(loaded) is loaded


def test_levels_widen() -> None:
    levels = [load(f"x86_64_v{i}") for i in (2, 3, 4)]
    assert [level.lanes for level in levels] == [4, 8, 16]
    for narrow, wide in pairwise(levels):
        assert set(narrow.cpu_features) < set(wide.cpu_features)
        assert narrow.l2_bytes <= wide.l2_bytes


@pytest.mark.parametrize("target_id", [i for i in ids() if load(i).family == "x86"])
def test_tvm_agrees_on_lanes_and_triple(target_id: str) -> None:
    import tvm

    loaded = load(target_id)
    built = tvm.target.Target(loaded.tvm())
    assert built.attrs["mtriple"] == loaded.triple
    assert built.attrs["mcpu"] == loaded.mcpu
    features = tvm.get_global_func("target.target_has_feature")
    has = {name: bool(features(name, built)) for name in ("fma", "avx2", "avx512f")}
    assert has["fma"] == loaded.fma
    assert loaded.lanes == (16 if has["avx512f"] else 8 if has["avx2"] else 4)


def test_a_text_becomes_a_target() -> None:
    made = from_toml("test", TEXT)
    assert made == Target(
        id="test",
        family="x86",
        isa="AVX2",
        triple="x86_64-linux-gnu",
        mcpu="x86-64-v3",
        cpu_features=("avx2", "fma"),
        lanes=8,
        registers=16,
        fma=True,
        l1_bytes=32768,
        l2_bytes=524288,
        cores=2,
        description="a device for tests",
    )
    assert hash(made) == hash(dataclasses.replace(made))


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        ("lanes = 8", "lanes = 12", "target test: lanes: got 12; allowed: a power of two"),
        ("lanes = 8", "lanes = 0", "target test: lanes: got 0; allowed: an int >= 1"),
        ("lanes = 8", 'lanes = "8"', "target test: lanes: got '8'; allowed: an int >= 1"),
        ("cores = 2", "cores = 2.5", "target test: cores: got 2.5; allowed: an int >= 1"),
        ("cores = 2", "cores = true", "target test: cores: got True; allowed: an int >= 1"),
        ("fma = true", 'fma = "no"', "target test: fma: got 'no'; allowed: true or false"),
        ('isa = "AVX2"', "isa = 2", "target test: isa: got 2; allowed: a text"),
        ('["avx2", "fma"]', '"avx2"', "target test: cpu_features: got 'avx2'; allowed: a list"),
        ('["avx2", "fma"]', "[2]", "target test: cpu_features: got (2,); allowed: texts"),
        ("registers = 16", "registers = -1", "target test: registers: got -1"),
        ('family = "x86"', 'family = "z80"', "target test: family: got 'z80'; allowed: x86, arm"),
        ("cores = 2", "", "target test: keys: got"),
        ("cores = 2", "cores = 2\nclock = 3", "target test: keys: got"),
        ("cores = 2", "cores =", "target test: not valid TOML"),
    ],
)
def test_wrong_files_say_what_is_wrong(line: str, replacement: str, message: str) -> None:
    assert line in TEXT
    with pytest.raises(TargetError) as error:
        from_toml("test", TEXT.replace(line, replacement))
    assert str(error.value).startswith(message)


def test_missing_key_is_told_by_the_list_of_keys() -> None:
    with pytest.raises(TargetError) as error:
        from_toml("test", TEXT.replace("fma = true", "fmaa = true"))
    assert "'fmaa'" in str(error.value)
    assert " fma," in error.value.allowed


def test_unknown_target_lists_the_known() -> None:
    with pytest.raises(TargetError) as error:
        load("pentium")
    assert str(error.value) == f"target: got 'pentium'; allowed: {', '.join(('host', *ids()))}"


def test_features_that_are_missing_are_named() -> None:
    made = from_toml("test", TEXT.replace('"fma"', '"avx9000"'))
    assert "avx9000" in made.missing_features
    assert not made.runs_here


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 machine")
def test_host_is_the_widest_that_runs_here() -> None:
    best = host()
    assert load("host") is best
    assert best.runs_here
    runnable = [load(i) for i in ids() if load(i).runs_here]
    assert best.lanes == max(t.lanes for t in runnable)


def test_host_of_an_unknown_machine_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "_is_x86", lambda: False)
    host.cache_clear()
    try:
        with pytest.raises(TargetError, match="host"):
            host()
    finally:
        host.cache_clear()


def test_another_family_does_not_run_here() -> None:
    made = from_toml("test", TEXT.replace('family = "x86"', 'family = "arm"'))
    assert not made.runs_here
