"""The emulated ARM board, made once per test run; whoever lacks what it takes skips."""

import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


# What TVM's RPC server imports; the versions are those of this machine.
RPC_WHEELS = ("apache-tvm", "apache-tvm-ffi", "cloudpickle", "ml_dtypes", "numpy", "psutil",
              "tornado", "typing_extensions")  # fmt: skip


def board(folder: Path, *wheels: str) -> Path:
    """Make a board with these wheels in a folder; skips where it cannot be made or run."""
    for tool in ("qemu-aarch64", "apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_board.py"), str(folder), *wheels],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        pytest.skip(f"no board could be made: {done.stderr.strip().splitlines()[-1]}")
    return folder


def board_python(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in the board's Python."""
    return subprocess.run(
        [*interpreter(folder), "-c", code],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def interpreter(folder: Path, *paths: Path) -> list[str]:
    """The board's Python as a command; it finds modules in ``paths`` too."""
    found = ":".join(map(str, (folder / "site", *paths)))
    emulator = ["qemu-aarch64", "-L", str(folder / "root"), "-E", f"PYTHONPATH={found}"]
    return [*emulator, str(folder / "root" / "usr" / "bin" / "python3")]


@pytest.fixture(scope="session")
def plain_board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board with numpy."""
    return board(tmp_path_factory.mktemp("board"), "numpy")


@pytest.fixture(scope="session")
def rpc_board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board with TVM."""
    try:
        wheels = [f"{name}=={version(name)}" for name in RPC_WHEELS]
    except PackageNotFoundError as missing:
        pytest.skip(f"{missing.name} is not installed: `pip install 'tvmconv[rpc]'`")
    return board(tmp_path_factory.mktemp("board"), *wheels)
