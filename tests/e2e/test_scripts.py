"""The scripts do what they say, on small inputs."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit.test_report import invented

ROOT = Path(__file__).resolve().parents[2]


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture with a slope, an edge and a dot, of a size that is no multiple of anything."""
    h, w = 37, 53
    pixels = np.zeros((h, w, 3), np.uint8)
    pixels[..., 0] = np.arange(w) * 4
    pixels[10:25, 20:40] = (200, 120, 40)
    pixels[30, 5] = 255
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda p: p.name)
def test_every_script_has_help(path: Path) -> None:
    done = script(path.name, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_quickstart_does_every_step(tmp_path: Path) -> None:
    arguments = ("--network", "lenet5", "--seconds", "0.01", "--output", str(tmp_path))
    done = script("quickstart.py", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 agree with torch in every check" in done.stdout
    assert "in a process without TVM and torch: ok" in done.stdout
    assert (tmp_path / "lenet5" / "manifest.json").is_file()
    assert "self-test of the bundle" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_figures_become_tables(tmp_path: Path) -> None:
    measured = invented()
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(measured.as_dict()))
    done = script("figures_table.py", str(file), "--worst", "3", "--every")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("| `conv2d_") for line in lines) == 3 + 23
    (every,) = [line for line in lines if line.startswith("| all |")]
    assert every.startswith("| all | 23 |")
    (frozen,) = [line for line in lines if line.startswith("| torch_frozen |")]
    assert frozen.split(" | ")[1] == "22", "it failed on one layer"
    assert frozen.split(" | ")[4] == "1"
    assert all(line.count("|") == lines[2].count("|") for line in lines[2:5])


def test_figures_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text('{"rows": []}')
    done = script("figures_table.py", str(file))
    assert done.returncode == 1
    assert "not the JSON of a benchmark" in done.stderr


def test_filters_are_what_they_are_called(tmp_path: Path, photo: Path) -> None:
    output = tmp_path / "sheet.png"
    done = script("filter_image.py", str(photo), "--output", str(output))
    assert done.returncode == 0, done.stderr
    with Image.open(photo) as image, Image.open(output) as sheet:
        original, pixels = np.asarray(image), np.asarray(sheet)
    h, w, _ = original.shape
    first = pixels[12 + 26 : 12 + 26 + h, 12 : 12 + w]
    np.testing.assert_array_equal(first, original)


def test_filter_values_match_numpy(photo: Path) -> None:
    filter_image = runpy.run_path(str(ROOT / "scripts" / "filter_image.py"))
    apply, sobel, identity = (filter_image[name] for name in ("apply", "SOBEL_X", "FILTERS"))
    with Image.open(photo) as image:
        picture = np.asarray(image, np.float32) / np.float32(255)
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    h, w, _ = picture.shape
    expected = sum(
        tap * padded[i : i + h, j : j + w]
        for i, row in enumerate(sobel)
        for j, tap in enumerate(row)
    )
    np.testing.assert_allclose(apply(picture, sobel), expected, atol=1e-5)
    np.testing.assert_array_equal(apply(picture, identity[0].taps), picture)


def test_a_file_that_is_no_picture_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    done = script("filter_image.py", str(tmp_path / "text.png"))
    assert done.returncode == 1
    assert "cannot read" in done.stderr
    assert "Traceback" not in done.stderr


def test_accuracy_table_has_a_row_per_accuracy_class() -> None:
    done = script("accuracy_table.py", "conv2d_n1c4s12x12_o4k3x3_p1", "--print")
    assert done.returncode == 0, done.stderr
    head, _, *rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines()]
    kinds = [row[1] for row in rows]
    assert len(set(kinds)) == len(kinds)
    assert {"direct", "im2col", "fft"} <= set(kinds)
    for row in rows:
        errors = dict(zip(head[2:], map(float, row[2:]), strict=True))
        assert 0 < errors["max"] < errors["ceiling of max"]
        assert 0 < errors["torch max"] < 1e-5


def test_accuracy_table_leaves_the_document_whole() -> None:
    done = script("accuracy_table.py", "--only", "fft")
    assert done.returncode == 2
    assert "add --print" in done.stderr
