"""docs/spec.md: its examples parse, and its tables have every part and keyword."""

import re
from pathlib import Path

import pytest

import tvmconv as tc
from tvmconv import make
from tvmconv.legality import ACTIVATIONS
from tvmconv.spec import ConvSpec

TEXT = (Path(__file__).parents[2] / "docs" / "spec.md").read_text()
EXAMPLES = re.findall(r"^    ((?:conv|deform)\w+_n\S+)  ", TEXT, re.M)


def test_examples_are_there() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_are_canonical(text: str) -> None:
    assert str(ConvSpec.parse(text)) == text


def test_the_first_example_is_true() -> None:
    spec = tc.conv2d((1, 64, 56, 56), 64, 3, padding=1, bias=True, activation="relu")
    assert f"# {spec}" in TEXT
    assert f"# {spec.output_shape}" in TEXT
    assert f"# ({spec.macs}, {spec.params})" in TEXT


def test_every_keyword_is_told() -> None:
    keywords = {*make.TransposeOptions.__annotations__, *make.DeformOptions.__annotations__}
    missing = {name for name in keywords if f"`{name}" not in TEXT}
    assert not missing
    assert not {name for name in ACTIVATIONS if name != "none" and f"`{name}`" not in TEXT}
