#!/usr/bin/env python3
"""Make an emulated ARM board: a folder of Debian's arm64 packages and aarch64 wheels from PyPI.

    scripts/make_board.py board numpy ncnn
    qemu-aarch64 -L board/root -E PYTHONPATH=board/site board/root/usr/bin/python3 -c 'import ncnn'

Needs apt-get and dpkg-deb and, to run it, qemu-user; no root, and nothing of this machine's package
lists is touched. A folder that was made before with the same packages is left as it is.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# The interpreter, its standard library, and what wheels of C++ with OpenMP are linked to.
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgomp1")
# PyPI's tags of what that C library can load.
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to make it")
    parser.add_argument("wheels", nargs="*", help="requirements to install from PyPI, without pins")
    given = parser.parse_args()
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        print(f"make_board.py: needs {' and '.join(missing)}, which Debian has", file=sys.stderr)
        return 1
    try:
        make_board(given.folder, given.wheels)
    except subprocess.CalledProcessError as error:
        print(f"make_board.py: {' '.join(error.cmd[:2])} failed:\n{error.stderr}", file=sys.stderr)
        return 1
    print(given.folder / "root" / "usr" / "bin" / "python3")
    return 0


def make_board(folder: Path, wheels: list[str]) -> None:
    """Unpack the packages into ``folder/root`` and the wheels into ``folder/site``.

    Raises:
        CalledProcessError: apt-get, dpkg-deb or pip failed, for want of a network for instance.
    """
    folder = folder.resolve()
    made, contents = folder / "made.txt", " ".join((SUITE, *PACKAGES, *sorted(wheels)))
    if made.is_file() and made.read_text() == contents:
        return
    if not (folder / "root" / "usr" / "bin" / "python3").exists():
        _unpack_packages(folder)
    _unpack_wheels(folder, wheels)
    made.write_text(contents)


def _unpack_packages(folder: Path) -> None:
    """Let apt-get resolve and fetch them into a state of its own, where nothing is installed."""
    state = folder / "apt"
    for part in ("lists/partial", "archives/partial"):
        (state / part).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {SUITE} main\n")
    options = {
        "Dir::Etc::SourceList": state / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": state,
        "Dir::State::Status": state / "status",
        "Dir::Cache": state,
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "3",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    _run([*apt, "update"])
    _run([*apt, "--yes", "--no-install-recommends", "--download-only", "install", *PACKAGES])
    for package in sorted((state / "archives").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(folder / "root")])
    shutil.rmtree(state)


def _unpack_wheels(folder: Path, wheels: list[str]) -> None:
    if not wheels:
        return
    version = (folder / "root" / "usr" / "bin" / "python3").readlink().name.removeprefix("python")
    abi = f"cp{version.replace('.', '')}"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--upgrade", "--target", str(folder / "site"), "--no-input"]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    command += [f"--platform={name}" for name in PLATFORMS]
    command += [f"--abi={name}" for name in (abi, "abi3", "none")]
    _run([*command, *wheels])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
