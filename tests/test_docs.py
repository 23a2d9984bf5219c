"""Every command, template, target and public name is documented, and links lead somewhere."""

import re
from pathlib import Path

import pytest

import tvmconv as tc
from tvmconv import target
from tvmconv.cli import COMMANDS, build_parser
from tvmconv.template import families, templates

ROOT = Path(__file__).resolve().parent.parent
DOCS = {path: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
README = (ROOT / "README.md").read_text(encoding="utf-8")
EVERYTHING = "\n".join([README, *DOCS.values()])


@pytest.mark.parametrize("command", COMMANDS)
def test_command_is_in_the_readme_and_has_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"`tvmconv {command}" in README
    with pytest.raises(SystemExit) as stopped:
        build_parser().parse_args([command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"  tvmconv {command}" in text
    assert "--json" in text


def test_every_template_is_documented() -> None:
    every = [one.id for family in families() for one in templates(family)]
    missing = [one for one in every if f"`{one}`" not in EVERYTHING]
    assert missing == []


def test_every_target_is_documented() -> None:
    missing = [one for one in target.ids() if f"`{one}`" not in EVERYTHING]
    assert missing == []


def test_every_public_function_is_documented() -> None:
    functions = [n for n in tc.__all__ if n[0].islower()]
    assert [n for n in functions if not re.search(rf"\b{n}\b", EVERYTHING)] == []


def test_links_between_documents_work() -> None:
    for path, text in {ROOT / "README.md": README, **DOCS}.items():
        for link in re.findall(r"\]\(([^)#\s]+)", text):
            if not link.startswith("http"):
                assert (path.parent / link).exists(), f"{path.name} links to {link}"


def test_changelog_names_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[(Unreleased|{re.escape(tc.__version__)})\]", changelog, re.M)
