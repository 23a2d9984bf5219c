"""Tuning on boards that have nothing but a way in: programs for them are copied and emulated."""

import json
from collections import Counter
from pathlib import Path

import pytest

import tvmconv as tc
from tests.emulated.machines import runner_of
from tests.tuning import broken
from tests.tuning.flaky import HERE
from tvmconv.cli import main
from tvmconv.compilers import find_compiler
from tvmconv.errors import EnvironmentProblem
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning.boards import BoardMeasurer, Host
from tvmconv.tuning.measure import Trial
from tvmconv.tuning.records import read_records

pytestmark = pytest.mark.emulated

# 0.3 M and 0.06 M multiply-adds: emulation makes half a GFLOP a second.
SPECS = [
    tc.conv2d((1, 16, 12, 12), 16, 3, padding=1),
    tc.conv2d((1, 14, 14, 16), 16, 3, padding=1, groups=16, layout="NHWC"),
]


def emulated(target_id: str, folder: Path, *, cpu: str = "") -> Host:
    """An emulated board; skips the test where it cannot be."""
    runner = runner_of(target_id)
    try:
        find_compiler(load(target_id), static=True)
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))
    command = [*runner.command[:2], cpu or runner.command[2]]  # without -L: programs are static
    return Host("emulated", HERE, " ".join(command), str(folder))


@pytest.mark.slow
@pytest.mark.parametrize("target_id", ["pi4", "armv7"])
def test_two_layers_are_tuned(target_id: str, tmp_path: Path) -> None:
    board, path = emulated(target_id, tmp_path), tmp_path / "records.jsonl"
    result = tc.tune(SPECS, target_id, trials=4, records=path, ssh=board, algorithm="direct")
    assert result.stopped == "budget"
    assert all(layer.final for layer in result.layers)
    records, problems = read_records(path)
    assert not problems
    trials = [record for record in records if record.stage == "trial"]
    assert [record.status for record in trials] == ["ok"] * len(trials)
    assert {record.target for record in records} == {target_id}
    assert all(1e-6 < second < 10 for record in records for second in record.seconds)
    for spec in SPECS:
        assert tc.compile(spec, target_id, records=path).tier == "tuned"
    again = tc.tune(SPECS, target_id, trials=1, records=path, ssh=board, algorithm="direct")
    assert again.layers[0].trials + again.layers[1].trials == len(trials) + again.trials


@pytest.mark.slow
def test_the_command_line_goes_on_after_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The board stops in its first batch, when little more than one answer has gone out."""
    board = emulated("pi4", tmp_path / "board")
    (tmp_path / "board").mkdir()
    wrapper, path = tmp_path / "wrapper", tmp_path / "records.jsonl"
    wrapper.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = ./batch ] && mkdir {tmp_path}/died 2>/dev/null; then\n'
        f'  {board.wrapper} "$@" | head -c 12000; rm -rf {tmp_path}/board/*; exit 1\n'
        f'fi\nexec {board.wrapper} "$@"\n'
    )
    wrapper.chmod(0o700)
    way = ["--ssh", board.name, "--transport", HERE, "--folder", str(tmp_path / "board")]
    arguments = [str(SPECS[0]), "--target", "pi4", "--trials", "5", "--records", str(path)]
    assert main(["tune", *arguments, *way, "--wrapper", str(wrapper), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (tmp_path / "died").is_dir()
    assert found["trials"] == 5
    trials = [record for record in read_records(path)[0] if record.stage == "trial"]
    assert Counter(record.status for record in trials) == {"ok": 5}


@pytest.mark.slow
@pytest.mark.parametrize("target_id", ["pi4", "armv7"])
def test_wrong_answers_and_crashes_are_found(
    target_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, target = emulated(target_id, tmp_path), load(target_id)
    broken.register(monkeypatch, "arm")
    task, direct = Task(SPECS[0], target), get_template("arm.direct")
    names = ("arm.wrong", "arm.direct", "arm.crashing")
    with BoardMeasurer(target, [board]) as measurer:
        outcomes = measurer.measure([Trial(task, n, direct.default(task)) for n in names])
    assert [outcome.status for outcome in outcomes] == ["wrong_answer", "ok", "crashed"]
    assert "elements wrong" in outcomes[0].message


def test_another_machine_is_refused(tmp_path: Path) -> None:
    other = emulated("armv7", tmp_path)
    emulated("pi4", tmp_path)
    refused = pytest.raises(tc.WrongDevice, match=r"pi4 needs aarch64.* did not start: ")
    with BoardMeasurer(load("pi4"), [other]) as measurer, refused:
        measurer.connect()


def test_a_board_that_lacks_something_is_refused(tmp_path: Path) -> None:
    older = emulated("pi5", tmp_path, cpu="cortex-a72")
    refused = pytest.raises(tc.WrongDevice, match=r"lacks fphp, asimdhp, asimddp, which pi5 needs")
    with BoardMeasurer(load("pi5"), [older]) as measurer, refused:
        measurer.connect()
