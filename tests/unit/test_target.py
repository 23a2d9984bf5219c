"""Targets are data: what ships is consistent, and what is wrong with a file is said."""

import dataclasses
import platform
from itertools import pairwise

import pytest

from tvmconv import target
from tvmconv.cross import Emulator, Toolchain
from tvmconv.errors import TargetError
from tvmconv.gpu import closest
from tvmconv.host_cpu import features_of
from tvmconv.runtime import cpu_features
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
    assert bool(loaded.toolchain.zig) == (loaded.gpu is None)
    assert set(loaded.cpu_features) <= set(cpu_features())


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
        toolchain=Toolchain(zig="x86_64-linux-gnu", gcc="x86_64-linux-gnu"),
    )
    assert hash(made) == hash(dataclasses.replace(made))


@pytest.mark.parametrize(
    ("line", "replacement", "message"),
    [
        ("lanes = 8", "lanes = 12", "target test: lanes: got 12; allowed: a power of two"),
        (
            "lanes = 8",
            "lanes = 8\nsve_bits = 128",
            "target test: sve_bits: got 128; allowed: 0 or 256",
        ),
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
        (
            "cores = 2",
            "cores = 2\nmattr = ['neon']",
            "target test: mattr: got ('neon',); allowed: e",
        ),
        (
            "cores = 2",
            "cores = 2\nmattr = '+neon'",
            "target test: mattr: got '+neon'; allowed: a l",
        ),
        ("cores = 2", "cores = 2\nmabi = 64", "target test: mabi: got 64; allowed: a text"),
        ("cores = 2", "cores = 2\nfloat_abi = 'softfp'", "target test: float_abi: got 'softfp'"),
        ("cores = 2", "cores = 2\nemulator = 'qemu'", "target test: emulator: got 'qemu'; allowed"),
        ("cores = 2", "cores = 2\n[emulator]\ncpu = 'max'", "target test: emulator.keys: got"),
        ("cores = 2", "cores = 2\n[toolchain]\nzig = 2", "target test: toolchain.zig: got 2"),
        ("cores = 2", "cores = 2\n[toolchain]\nzig = ['a']", "target test: toolchain.zig: got"),
        ("cores = 2", "cores = 2\n[toolchain]\nclang = 'a'", "target test: toolchain.keys: got"),
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
    assert (
        str(error.value) == f"target: got 'pentium'; allowed: {', '.join(('host', 'cuda', *ids()))}"
    )


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
    monkeypatch.setattr(target, "this_machine", lambda: "vax")
    host.cache_clear()
    try:
        with pytest.raises(TargetError, match="host"):
            host()
    finally:
        host.cache_clear()


def test_another_machine_does_not_run_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load("cortex_m7").runs_here
    assert not load("apple_aarch64").runs_here
    monkeypatch.setattr(target, "this_machine", lambda: "aarch64")
    assert not load("x86_64_v2").runs_here


BOARDS = {
    "pi3": ("aarch64", "fp asimd evtstrm crc32 cpuid", "pi3"),
    "pi5": (
        "aarch64",
        "fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm asimddp",
        "",
    ),
    "visionfive": ("riscv64", None, "riscv64"),
}


@pytest.mark.parametrize("board", BOARDS)
def test_host_of_a_board(board: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `host` is on a board, from what its /proc/cpuinfo says."""
    machine, flags, target_id = BOARDS[board]
    text = f"Features\t: {flags}\n" if flags else "hart\t: 0\nisa\t: rv64imafdc_zicntr_zicsr\n"
    monkeypatch.setattr(target, "this_machine", lambda: machine)
    monkeypatch.setattr(target, "host_features", lambda: features_of(text))
    host.cache_clear()
    try:
        found = host()
    finally:
        host.cache_clear()
    assert found.machine == machine
    assert ("asimddp" in found.cpu_features) == (board == "pi5")
    if target_id:
        assert not load(target_id).missing_features


def test_same_kind_of_machine_as_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 32-bit process on a 64-bit ARM system hears the system's name, and has 4-byte pointers."""
    monkeypatch.setattr(target, "this_machine", lambda: "aarch64")
    monkeypatch.setattr(target, "host_features", lambda: frozenset(load("armv7").cpu_features))
    monkeypatch.setattr("ctypes.sizeof", lambda kind: 4)
    assert load("armv7").runs_here
    assert not load("aarch64").runs_here


MACHINES = {
    "pi4": ("aarch64", 64, "linux"),
    "armv7": ("armv7l", 32, "linux"),
    "riscv64": ("riscv64", 64, "linux"),
    "apple_aarch64": ("aarch64", 64, "darwin"),
    "cortex_m7": ("thumbv7em", 32, "none"),
    "x86_64_v2": ("x86_64", 64, "linux"),
}


@pytest.mark.parametrize("target_id", MACHINES)
def test_triple_tells_the_machine(target_id: str) -> None:
    loaded = load(target_id)
    assert (loaded.machine, loaded.pointer_bits, loaded.system) == MACHINES[target_id]


def test_what_a_foreign_target_needs_reaches_the_compilers() -> None:
    armv7, riscv = load("armv7"), load("riscv64")
    assert (armv7.tvm()["mattr"], armv7.tvm()["mfloat-abi"]) == (["+neon"], "hard")
    assert (riscv.tvm()["mattr"], riscv.tvm()["mabi"]) == (["+m", "+a", "+f", "+d", "+c"], "lp64d")
    assert load("pi4").toolchain.zig == "aarch64-linux-gnu.2.17"
    assert load("pi4").toolchain.zig_static == "aarch64-linux-musl"
    assert armv7.toolchain.zig_static == "arm-linux-musleabihf"
    assert load("pi4").emulator == Emulator("qemu-aarch64", "cortex-a72", "/usr/aarch64-linux-gnu")
    assert load("apple_aarch64").emulator is None


@pytest.mark.parametrize("target_id", [i for i in ids() if not i.startswith(("x86", "sm"))])
def test_llvm_knows_the_cpu(target_id: str) -> None:
    """A name that LLVM does not know is a warning there, and code for the oldest CPU."""
    import tvm

    loaded = load(target_id)
    cpus = tvm.get_global_func("target.llvm_get_cpu_archlist")(tvm.target.Target(loaded.tvm()))
    assert loaded.mcpu in set(map(str, cpus))


GPUS = [i for i in ids() if i.startswith("sm_")]


@pytest.mark.parametrize("target_id", GPUS)
def test_tvm_takes_a_gpu_with_its_limits(target_id: str) -> None:
    import tvm

    loaded = load(target_id)
    assert loaded.gpu is not None
    attrs = tvm.target.Target(loaded.tvm()).attrs
    assert attrs["arch"] == target_id
    assert attrs["max_threads_per_block"] == loaded.gpu.threads_per_block
    assert attrs["max_shared_memory_per_block"] == loaded.gpu.shared_bytes_per_block_optin
    assert not loaded.runs_here
    assert loaded.pointer_bits == 64


@pytest.mark.parametrize("target_id", GPUS)
def test_facts_of_a_gpu_fit_together(target_id: str) -> None:
    gpu = load(target_id).gpu
    assert gpu is not None
    assert (
        gpu.shared_bytes_per_block < gpu.shared_bytes_per_block_optin < gpu.shared_bytes_per_sm + 1
    )
    assert gpu.shared_bytes_per_sm <= load(target_id).l1_bytes
    assert gpu.threads_per_block <= gpu.threads_per_sm
    assert 1.3e9 < gpu.cycles_per_s < 2.6e9
    assert gpu.tensor_fp16_gflops > 1.9 * gpu.fp32_gflops


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        ((8, 0), "sm_80"),
        ((8, 7), "sm_86"),
        ((9, 0), "sm_90"),
        ((9, 1), "sm_90"),
        ((12, 0), "sm_100"),
    ],
)
def test_cuda_is_the_newest_target_that_the_gpu_runs(here: tuple[int, int], expected: str) -> None:
    assert closest(here, tuple(GPUS)) == expected


def test_without_a_gpu_cuda_says_what_can_be_compiled() -> None:
    with pytest.raises(TargetError, match=r"an NVIDIA GPU and its driver.*sm_100, sm_75, sm_80"):
        closest(None, tuple(GPUS))
    with pytest.raises(TargetError, match=r"cuda \(sm_61\)"):
        closest((6, 1), tuple(GPUS))


def test_facts_of_a_gpu_are_counts_and_belong_to_gpus() -> None:
    gpu = load("sm_80").gpu
    assert gpu is not None
    with pytest.raises(TargetError, match=r"gpu.sms: got 0; allowed: an int >= 1"):
        dataclasses.replace(gpu, sms=0)
    with pytest.raises(TargetError, match="gpu"):
        dataclasses.replace(load("sm_80"), gpu=None)
    with pytest.raises(TargetError, match=r"gpu.keys"):
        from_toml("test", TEXT + "[gpu]\nsms = 3")


def test_host_is_the_target_of_its_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """pi3, pi4 and aarch64 ask for the same instruction sets."""
    monkeypatch.setattr("tvmconv.target.host_features", lambda: frozenset({"fp", "asimd"}))
    monkeypatch.setattr("tvmconv.target.this_machine", lambda: "aarch64")
    for cores, expected in (({"0x41:0xd08"}, "pi4"), ({"0x41:0xd03"}, "pi3"), ((), "aarch64")):
        monkeypatch.setattr("tvmconv.target.host_cores", lambda cores=cores: frozenset(cores))
        assert host.__wrapped__().id == expected
