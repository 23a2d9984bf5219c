"""The emulated ARM board, made once per test run; whoever lacks what it takes skips."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def board(tmp_path_factory: pytest.TempPathFactory, *wheels: str) -> Path:
    """Folder of a board with these wheels; skips where it cannot be made or run."""
    for tool in ("qemu-aarch64", "apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("board")
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
    emulator = ["qemu-aarch64", "-L", str(folder / "root")]
    command = [*emulator, "-E", f"PYTHONPATH={folder / 'site'}"]
    return subprocess.run(
        [*command, str(folder / "root" / "usr" / "bin" / "python3"), "-c", code],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


@pytest.fixture(scope="session")
def plain_board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board with numpy."""
    return board(tmp_path_factory, "numpy")
