"""The wheel holds everything that the checkout does."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import tvmconv

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def folders_with_code() -> dict[str, Path]:
    """Installed package name -> folder, for every folder that holds Python files."""
    found = {}
    for package, folder in SETUPTOOLS["package-dir"].items():
        top = ROOT / folder
        for path in {file.parent for file in top.rglob("*.py")}:
            dotted = ".".join((package, *path.relative_to(top).parts))
            found[dotted] = path
    return found


def test_every_folder_is_listed() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(folders_with_code())


def test_every_data_file_is_covered() -> None:
    covered = {
        file
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for file in folders_with_code()[package].glob(pattern)
    }
    data = {
        file
        for folder in SETUPTOOLS["package-dir"].values()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    }
    assert sorted(data - covered) == []


def test_pins_agree() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = [one for one in PROJECT["project"]["dependencies"] if "==" in one]
    assert len(exact) == 2
    assert set(exact) <= set(pins)
    from tvmconv.environment import FFI_VERSIONS, TVM_VERSION

    assert exact == [f"apache-tvm=={TVM_VERSION}", f"apache-tvm-ffi=={FFI_VERSIONS[0]}"]


@pytest.mark.slow
def test_wheel_holds_schedules_targets_and_data(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--quiet"]
    options = ["--disable-pip-version-check", "--wheel-dir", str(tmp_path)]
    # A copy, so that setuptools leaves no build/ in the checkout.
    source = tmp_path / "source"
    source.mkdir()
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build[build.index(str(ROOT))] = str(source)
    isolation = ["--no-build-isolation"]  # setuptools is here: torch depends on it
    subprocess.run([*build, *options, *isolation], check=True, stdin=subprocess.DEVNULL)
    (wheel,) = tmp_path.glob("*.whl")
    assert tvmconv.__version__ in wheel.name
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        "/".join((*package.split("."), file.relative_to(folder).as_posix()))
        for package, folder in folders_with_code().items()
        for file in folder.iterdir()
        if file.is_file() and file.suffix != ".pyc"
    } | {
        "/".join((*package.split("."), file.relative_to(folders_with_code()[package]).as_posix()))
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for file in folders_with_code()[package].glob(pattern)
        if file.relative_to(ROOT).as_posix() in listed.stdout.splitlines()
    }
    assert sorted(expected - names) == []
    outside = {name for name in names if not name.startswith(("tvmconv/", "tvmconv-"))}
    assert outside == set()
