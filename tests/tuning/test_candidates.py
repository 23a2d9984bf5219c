"""Which candidate of a spec ships: by warm calls and by cold ones."""

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import tvmconv as tc
from tvmconv.bench import candidates
from tvmconv.bench.candidates import Entry, contest, likely, winners
from tvmconv.kernel import Kernel
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning.knowledge import prior
from tvmconv.tuning.records import read_records

ROOT = Path(__file__).resolve().parents[2]
SPEC = tc.conv2d((1, 8, 9, 7), 16, 3, padding=1)
HOST = load("host")
needs_host = pytest.mark.skipif(HOST.family != "x86", reason="the prior of x86 is looked at")


def entry(name: str, warm: float, cold: float, accuracy: str = "direct") -> Entry:
    kernel = SimpleNamespace(template_id=name, accuracy=accuracy)
    return Entry(cast(Kernel, kernel), warm, cold)


def names(entries: list[Entry]) -> list[str]:
    return [one.kernel.template_id for one in entries]


def test_a_little_more_when_warm_is_paid_for_by_cold_calls() -> None:
    quick, steady = entry("quick", 1.0, 2.0), entry("steady", 1.01, 1.5)
    assert names(winners([quick, steady])) == ["steady"]
    assert names(winners([quick, entry("slow", 1.03, 1.0)])) == ["quick"]
    assert names(winners([quick, entry("hardly", 1.01, 1.99)])) == ["quick"]
    assert winners([]) == []


def test_the_best_exact_one_ships_beside_a_transform() -> None:
    fast = entry("winograd", 1.0, 1.0, "winograd_f4_3")
    exact = [entry("a", 3.0, 3.0), entry("b", 2.0, 2.0)]
    assert names(winners([fast, *exact])) == ["winograd", "b"]
    assert names(winners([fast, entry("fft", 1.5, 1.5, "fft")])) == ["winograd"]
    assert names(winners([entry("a", 0.9, 0.9), fast])) == ["a"]


@needs_host
def test_what_the_model_likes_has_each_likely_template_once_before_others() -> None:
    model, _ = prior(load("x86_64_v4"))
    assert model is not None
    task = Task(SPEC, HOST)
    some = likely(task, model, 6)
    assert 2 <= len(some) == len(set(some)) <= 6
    templates = [template for template, _ in some]
    assert len(set(templates)) == len(dict.fromkeys(templates[: len(set(templates))]))
    assert all(get_template(template).supports(task) is None for template in templates)


@needs_host
def test_a_contest_keeps_who_is_within_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking turns is real; the second to take them has seconds that another clock read."""
    task = Task(SPEC, HOST)
    given = [
        (id_, str(get_template(id_).default(task)))
        for id_ in ("x86.direct", "x86.winograd", "x86.general")
    ]
    take_turns, seen = candidates._take_turns, []

    def turns(task: Task, calls: dict[int, Any], seconds: float, seed: int) -> Any:
        assert min(min(pair) for pair in take_turns(task, calls, seconds, seed).values()) > 0
        seen.append(list(calls))
        return {n: ((2e-6, 3e-6), (1e-6, 1e-6), (9e-6, 9e-6))[n] for n in calls}

    monkeypatch.setattr(candidates, "_take_turns", turns)
    entries = contest(task, [*given, given[0], ("x86.depthwise", "tile_oc=1")], seconds=0.01)
    assert seen == [[0, 1, 2], [0, 1]]
    assert names(entries) == ["x86.winograd", "x86.direct"]
    assert [one.cold for one in entries] == [1e-6, 3e-6]
    assert not entries[0].is_exact
    assert names(winners(entries)) == ["x86.winograd", "x86.direct"]


@needs_host
def test_the_script_records_winners_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "contest.jsonl"
    main = runpy.run_path(str(ROOT / "scripts" / "contest_records.py"))["main"]
    arguments = [str(SPEC), "--layout", "last", "--records", str(path)]
    arguments += ["--configs", "3", "--seconds", "0.01"]
    assert main(arguments) == 0
    assert f"1/1 {SPEC}_nhwc: x86." in capsys.readouterr().out
    records, problems = read_records(path)
    assert problems == ()
    assert {r.spec for r in records} == {f"{SPEC}_nhwc"}
    assert {(r.stage, r.status) for r in records} == {("final", "ok")}
    assert main(arguments) == 0
    assert read_records(path)[0] == records
    assert main(["conv2d_nonsense"]) == 1
    assert "contest_records: " in capsys.readouterr().err
