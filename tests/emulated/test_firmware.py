"""Static bundles for a Cortex-M7: linked against nothing, run on a board that QEMU emulates."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import tvmconv as tc
from tvmconv.bundle.loader import Bundle, read
from tvmconv.compilers import find_compiler
from tvmconv.emulate.bundles import validate_variant, variants
from tvmconv.errors import EnvironmentProblem
from tvmconv.target import load
from tvmconv.template import families

pytestmark = pytest.mark.emulated

C_DIR = Path(__file__).parent / "c"
SPECS = [
    tc.conv2d((1, 4, 12, 12), 8, 3, padding=1, bias=True, activation="relu"),
    tc.conv2d((1, 10, 10, 8), 8, 3, padding=1, groups=8, layout="NHWC", activation="relu6"),
    tc.conv2d((1, 16, 8, 8), 24, 1, residual=True),
    tc.conv_transpose2d((1, 4, 6, 6), 3, 4, stride=2, padding=1),
    tc.conv1d((1, 3, 100), out_channels=4, kernel_size=9, stride=2, bias=True),
]
# The C library's memory functions, under their own names and those of ARM's ABI.
HARMLESS = re.compile(r"memcpy|memset|memmove|__aeabi_mem(cpy|set|clr|move)[48]?")
KERNEL_BYTES, RUNTIME_BYTES = 20 << 10, 16 << 10


def skip_unless_built(target_id: str) -> None:
    if load(target_id).family not in families():
        pytest.skip(f"there are no templates for {load(target_id).family}")
    try:
        find_compiler(load(target_id))
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    skip_unless_built("cortex_m7")
    folder = tmp_path_factory.mktemp("bundles") / "firmware"
    kernels = [tc.compile(spec, "cortex_m7") for spec in SPECS]
    tc.export(kernels, folder, format="static")
    return read(folder)


@pytest.fixture(scope="module")
def image(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The self-test as firmware, linked with start-up code and without any library."""
    folder = bundle.folder
    out = tmp_path_factory.mktemp("image") / "firmware.elf"
    floats = re.search(r"FIRMWARE_SELFTEST_FLOATS = (\d+)", (folder / "selftest.c").read_text())
    assert floats is not None
    compiler = find_compiler(load("cortex_m7"))
    flags = ["-std=c11", "-O2", "-ffreestanding", "-nostdlib", "-fno-sanitize=all", "-Wall",
             "-Wextra", "-Werror",
             f"-DMEMORY_FLOATS={floats[1]}", f"-I{folder}/include"]  # fmt: skip
    inputs = [C_DIR / "firmware.c", folder / "selftest.c", folder / "lib" / "libfirmware.a"]
    command = [*compiler.command, *flags, *map(str, inputs), f"-Wl,-T,{C_DIR / 'firmware.ld'}",
               "-Wl,--gc-sections", "-o", str(out)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_it_needs_memory_functions_alone(bundle: Bundle) -> None:
    (library,) = bundle.manifest["libraries"]
    assert [name for name in library["needs"] if not HARMLESS.fullmatch(name)] == []


def test_it_links_and_is_small(bundle: Bundle, image: Path) -> None:
    text = sum(kernel.text_bytes for kernel in bundle.kernels.values())
    assert text <= len(SPECS) * KERNEL_BYTES
    assert image.stat().st_size > text


def test_it_runs_on_the_board(image: Path) -> None:
    qemu = shutil.which("qemu-system-arm")
    if qemu is None:
        pytest.skip("qemu-system-arm is not installed (Debian: apt install qemu-system-arm)")
    command = [qemu, "-M", "mps2-an500", "-nographic", "-monitor", "none", "-serial", "none",
               "-semihosting-config", "enable=on,target=native", "-kernel", str(image)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count("ok   ") == len(SPECS), said


def test_firmware_has_no_shared_library(tmp_path: Path) -> None:
    skip_unless_built("cortex_m7")
    with pytest.raises(tc.ArgumentError, match="format: got 'hosted'; allowed: static: cortex_m7"):
        tc.export([tc.compile(SPECS[0], "cortex_m7")], tmp_path / "out")


@pytest.mark.parametrize("target_id", ["pi4", "armv7"])
def test_the_same_sources_run_as_a_linux_program(target_id: str, tmp_path: Path) -> None:
    """What the board shows, where the answers are compared with torch's as well."""
    skip_unless_built(target_id)
    kernels = [tc.compile(spec, target_id) for spec in SPECS[:2]]
    tc.export(kernels, tmp_path / "out", format="static")
    (variant,) = variants(read(tmp_path / "out"))
    try:
        report = validate_variant(variant)
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    assert report.ok
    assert report.library == "static"
