"""The template and the target that the documentation builds work as they stand there."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tvmconv as tc
from tests.schedules.cases import LEVELS
from tvmconv import template as registry
from tvmconv.build import schedule
from tvmconv.choose import choose
from tvmconv.spec import ConvSpec
from tvmconv.target import Target, from_toml, load
from tvmconv.template import Task, Template, get_template

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """Fenced code of a language, at the margin."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture(scope="module")
def matvec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """The documented template, as a file in the folder that the registry walks."""
    (source,) = blocks("adding-a-template.md", "python")
    folder = tmp_path_factory.mktemp("schedules")
    (folder / "matvec.py").write_text(source, encoding="utf-8")
    family = importlib.import_module("tvmconv.schedules.x86")
    family.__path__.append(str(folder))
    registry._load_family.cache_clear()
    yield get_template("x86.matvec")
    family.__path__.remove(str(folder))
    del registry._REGISTRY["x86.matvec"], sys.modules["tvmconv.schedules.x86.matvec"]


HEAD = tc.conv2d((1, 96, 6, 6), 100, 6, bias=True, activation="relu")
SPECS = {
    "head": HEAD,
    "excite": tc.conv2d((2, 1, 1, 40), 24, 1, layout="NHWC"),
    "groups": tc.conv3d((2, 6, 2, 3, 4), 10, (2, 3, 4), groups=2, residual=True),
    "padded_input_is_another": tc.conv1d((1, 3, 4), 5, 4, stride=2),
}


@pytest.mark.parametrize("name", SPECS)
def test_documented_template_is_right(name: str, matvec: Template) -> None:
    kernel = tc.compile(SPECS[name], algorithm=matvec.id)
    tc.validate(kernel).require()


@pytest.mark.parametrize("level", LEVELS)
def test_documented_template_keeps_its_promises(level: str, matvec: Template) -> None:
    task = Task(HEAD, load(level))
    space = matvec.space(task)
    default = matvec.default(task)
    space.check(default)
    assert all(matvec.cycles(task, default) <= matvec.cycles(task, config) for config in space)
    for config in space:
        _, _, sch = schedule(task, matvec, config)
        assert "decompose_reduction" in str(sch.trace)
    assert choose(task, matvec.id).config == default


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (tc.conv2d((1, 8, 7, 7), 8, 6), "one output position"),
        (tc.conv2d((1, 8, 4, 4), 8, 6, padding=1), "one output position"),
        (tc.conv_transpose2d((1, 8, 1, 1), 8, 1), "only for forward"),
    ],
    ids=["two_positions", "padded", "transposed"],
)
def test_documented_template_declines_the_rest(
    spec: ConvSpec, reason: str, matvec: Template
) -> None:
    declined = matvec.supports(Task(spec, load("x86_64_v3")))
    assert declined is not None
    assert reason in declined


@pytest.fixture(scope="module")
def n100() -> Target:
    (text,) = blocks("adding-a-target.md", "toml")
    return from_toml("n100", text)


def test_documented_target_compiles_and_is_right_where_it_runs(n100: Target) -> None:
    spec = tc.conv2d((1, 5, 9, 10), 11, 3, padding=1, bias=True)
    kernel = tc.compile(spec, n100)
    assert "ymm" in kernel.inspect("asm")
    if n100.runs_here:
        tc.validate(kernel).require()


def test_documented_target_is_of_the_level_it_names(n100: Target) -> None:
    level = load("x86_64_v3")
    assert set(n100.cpu_features) == set(level.cpu_features)
    assert (n100.lanes, n100.registers, n100.fma) == (level.lanes, level.registers, level.fma)


def test_pages_name_every_key_of_a_target(n100: Target) -> None:
    text = (DOCS / "adding-a-target.md").read_text(encoding="utf-8")
    for key in n100.__dataclass_fields__:
        assert key == "id" or f"`{key}`" in text


def test_pages_name_every_part_of_a_template() -> None:
    text = (DOCS / "adding-a-template.md").read_text(encoding="utf-8")
    for part in Template.__dataclass_fields__:
        assert part == "id" or f"`{part}" in text


@pytest.mark.parametrize("page", ["adding-a-template.md", "adding-a-target.md"])
def test_command_lines_of_the_pages_are_accepted(page: str) -> None:
    from tvmconv.cli import build_parser

    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert lines
    for line in lines:
        words = line.split()
        assert words[0] == "tvmconv"
        build_parser().parse_args(words[1:])


def test_files_that_the_architecture_names_exist() -> None:
    root = DOCS.parent
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:tvmconv|schedules|targets|tests)/[\w/.]*)`", text)
    assert len(paths) > 10
    assert [path for path in paths if not (root / path).exists()] == []
