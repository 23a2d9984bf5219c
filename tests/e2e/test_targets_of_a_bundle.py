"""One bundle for several targets: which one runs, in C and in Python, and what it weighs."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tvmconv as tc
from tvmconv import target
from tvmconv.bundle import Bundle, loader
from tvmconv.bundle.checks import of_target
from tvmconv.cli import main
from tvmconv.compilers import find_cc
from tvmconv.emulate.bundles import validate_variant, variants
from tvmconv.emulate.runner import NATIVE, find_runner
from tvmconv.kernel import Kernel

LEVELS = ("x86_64_v4", "x86_64_v3", "x86_64_v2")  # best first
SPECS = (
    # Winograd is taken for wide vectors, another algorithm for narrow ones: two golden files.
    tc.conv2d((1, 32, 28, 28), 32, 3, padding=1, bias=True, activation="relu"),
    tc.conv2d((1, 16, 9, 9), 24, 1, activation="silu"),
    tc.conv1d((0, 3, 7), out_channels=2, kernel_size=2),
)
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
KERNEL_BYTES, RUNTIME_BYTES = 20 << 10, 16 << 10

pytestmark = pytest.mark.skipif(
    target.host().family != "x86", reason="the targets are levels of x86-64"
)


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.fixture(scope="module")
def kernels() -> list[Kernel]:
    """In an order that the bundle has to change."""
    return [tc.compile(spec, level) for level in ("x86_64_v3", "x86_64_v4", "x86_64_v2")
            for spec in SPECS]  # fmt: skip


@pytest.fixture(scope="module")
def exported(kernels: list[Kernel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "levels"
    tc.export(kernels, folder)
    return folder


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Bundle:
    """A library of its own: which target is in use is a state of the whole process."""
    return loader.load(shutil.copytree(exported, tmp_path / "levels"))


def here() -> list[str]:
    """The levels that this machine runs, best first."""
    return [level for level in LEVELS if target.load(level).runs_here]


@pytest.fixture(scope="module")
def selftest(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("program") / "selftest"
    inputs = ("-Iinclude", "selftest.c", "lib/liblevels.a", "-lpthread", "-lm")
    command = [*find_cc(), "-O2", *WARNINGS, *inputs, "-o", str(program)]
    subprocess.run(command, cwd=exported, check=True)
    return program


def test_one_folder_holds_every_level(exported: Path, bundle: Bundle) -> None:
    assert bundle.targets == LEVELS
    assert sorted(p.name for p in (exported / "lib").iterdir()) == ["liblevels.a", "liblevels.so"]
    assert [entry["spec"] for entry in bundle.manifest["kernels"]] == list(map(str, SPECS))
    for entry in bundle.manifest["kernels"]:
        packed = [of_target(entry, level)["packed_elems"] for level in LEVELS]
        assert entry["tensors"]["packed"]["shape"] == [max(packed)]
        assert bundle.kernel(entry["spec"]).packed_elems == max(packed)


def test_library_is_small(exported: Path) -> None:
    size = (exported / "lib" / "liblevels.so").stat().st_size
    assert size <= len(SPECS) * len(LEVELS) * KERNEL_BYTES + RUNTIME_BYTES


def test_python_takes_the_best_that_runs(bundle: Bundle) -> None:
    assert bundle.target == here()[0]
    assert bundle.selftest().ok


def test_every_level_gives_the_bits_of_its_own_kernel(
    bundle: Bundle, kernels: list[Kernel]
) -> None:
    spec = SPECS[1]
    x, weight = random(spec.x_shape), random(spec.weight_shape, 1)
    for level in here():
        bundle.use_target(level)
        assert bundle.target == level
        own = next(k for k in kernels if (k.spec, k.target.id) == (spec, level))
        assert np.array_equal(bundle.kernel(str(spec))(x, weight), own(x, weight))
        assert bundle.selftest().ok
    bundle.use_target(None)
    assert bundle.target == here()[0]


def test_weights_of_another_target_are_refused(bundle: Bundle) -> None:
    levels = here()
    if len(levels) < 2:
        pytest.skip("this machine runs one level")
    spec = SPECS[1]
    layer = bundle.kernel(str(spec)).bind(random(spec.weight_shape, 1))
    bundle.use_target(levels[1])
    with pytest.raises(tc.ArgumentError, match=f"weights packed for {levels[0]}"):
        layer(random(spec.x_shape))
    with pytest.raises(tc.ArgumentError, match="target: got 'pi4'; allowed: x86_64_v4"):
        bundle.use_target("pi4")


def test_weights_are_shipped_for_every_target(kernels: list[Kernel], tmp_path: Path) -> None:
    spec = SPECS[1]
    own = [k for k in kernels if k.spec == spec and k.target.runs_here]
    weight, x = random(spec.weight_shape, 1), random(spec.x_shape)
    packed = {kernel.target.id: kernel.pack(weight) for kernel in own}
    bundle = tc.export(own, tmp_path / "out", weights={str(spec): packed})
    assert isinstance(bundle, Bundle)
    for kernel in own:
        bundle.use_target(kernel.target.id)
        assert np.array_equal(bundle.layer(str(spec))(x), kernel(x, weight))
    if len(own) > 1:
        with pytest.raises(tc.ArgumentError, match="a mapping with the weights of each target"):
            tc.export(own, tmp_path / "out", weights={str(spec): packed[own[0].target.id]})


def test_c_selftest_takes_the_best_and_tests_all(exported: Path, selftest: Path) -> None:
    done = subprocess.run([selftest, exported], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(f"target: {here()[0]}\n")
    done = subprocess.run(
        [selftest, exported, "2", "all"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert [line[8:] for line in done.stdout.splitlines() if line.startswith("target:")] == here()
    assert done.stdout.count("ok   ") == len(SPECS) * len(here())
    done = subprocess.run(
        [selftest, exported, "2", "pi4"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "refused: target pi4: the library holds no target of this name" in done.stdout


@pytest.mark.parametrize(("cpu", "picked"), [("Nehalem", "x86_64_v2"), ("Haswell", "x86_64_v3")])
def test_older_processor_takes_what_it_can(
    cpu: str, picked: str, exported: Path, selftest: Path
) -> None:
    runner = find_runner(target.load("x86_64_v2"), cpu=cpu)
    if runner.how == NATIVE:
        pytest.skip("there is no emulator for x86-64")
    done = runner.run(selftest, str(exported))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"target: {picked}\n")
    done = runner.run(selftest, str(exported), "2", "x86_64_v4")
    assert done.returncode == 2
    assert done.stdout.startswith("refused: target x86_64_v4: this CPU lacks")


def test_processor_that_is_too_old_is_told(exported: Path, selftest: Path) -> None:
    runner = find_runner(target.load("x86_64_v2"), cpu="qemu64")
    if runner.how == NATIVE:
        pytest.skip("there is no emulator for x86-64")
    done = runner.run(selftest, str(exported))
    assert done.returncode == 2
    # What the least demanding target wants.
    assert done.stdout.startswith("refused: made for x86_64_v4, x86_64_v3, x86_64_v2; this CPU")
    assert "sse4_2" in done.stdout
    assert "avx" not in done.stdout


def test_every_target_is_proven_against_torch(exported: Path) -> None:
    found = {each.target.id: each for each in variants(loader.read(exported))}
    assert list(found) == list(LEVELS)
    report = validate_variant(found["x86_64_v2"])
    assert report.ok


def test_a_convolution_must_have_every_target(kernels: list[Kernel], tmp_path: Path) -> None:
    with pytest.raises(tc.ArgumentError, match="one kernel for each of x86_64_v4, x86_64_v3"):
        tc.export(kernels[:-1], tmp_path / "out")
    with pytest.raises(tc.ArgumentError, match="twice"):
        tc.export([*kernels, kernels[0]], tmp_path / "out")
    more = replace(kernels[0], threads=4)
    with pytest.raises(tc.ArgumentError, match="threads of conv2d"):
        tc.export([more, *kernels[1:]], tmp_path / "out")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["export", "conv1d_n1c3s20_o4k3", "--target", "x86_64_v2,x86_64_v3", "--json"]
    assert main([*arguments, "--output", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["targets"] == ["x86_64_v3", "x86_64_v2"]
    levels = [level for level in LEVELS[1:] if target.load(level).runs_here]
    assert found["selftests"] == dict.fromkeys(levels, True)
    twice = ["export", "conv1d_n1c3s20_o4k3", "--target", "x86_64_v2,x86_64_v2"]
    assert main([*twice, "--output", str(tmp_path / "no")]) == 1
    assert "--target: got 'x86_64_v2,x86_64_v2'; allowed: each target once" in (
        capsys.readouterr().err
    )
