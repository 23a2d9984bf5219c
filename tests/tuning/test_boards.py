"""Boards without anything on them; here this machine is the board, and sh the way to it."""

import fcntl
import logging
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import tvmconv as tc
from tests.tuning import broken
from tests.tuning.flaky import HERE, Death, FlakyHost
from tvmconv.target import load
from tvmconv.template import Task, get_template
from tvmconv.tuning import boards
from tvmconv.tuning.artifact import Artifact
from tvmconv.tuning.batch import Programs
from tvmconv.tuning.boards import BoardMeasurer, Host
from tvmconv.tuning.measure import Outcome, Trial
from tvmconv.tuning.records import read_records
from tvmconv.tuning.space_points import sample_valid

SPEC = tc.conv2d((1, 16, 12, 12), 16, 3, padding=1)
TARGET = load("x86_64_v2")
TASK = Task(SPEC, TARGET)
DIRECT = get_template("x86.direct")


def some(count: int) -> list[Trial]:
    drawn = sample_valid(DIRECT.space(TASK), count, np.random.default_rng(0))
    return [Trial(TASK, DIRECT.id, config) for config in drawn]


def begun(log: Path) -> int:
    return len(log.read_text().splitlines())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the board keeps its files."""
    made = tmp_path / "board"
    made.mkdir()
    return made


@pytest.fixture(scope="module")
def measurer() -> Iterator[BoardMeasurer]:
    with BoardMeasurer(TARGET, [Host("here", HERE)]) as opened:
        opened.connect()
        yield opened


def test_candidates_are_timed_and_checked(measurer: BoardMeasurer) -> None:
    outcomes = measurer.measure(some(6))
    for outcome in outcomes:
        assert outcome.status == "ok", outcome.message
        assert len(outcome.seconds) in (2, 3)
        assert len(outcome.wall) == len(outcome.seconds)
        assert 1e-8 < outcome.score < 1e-2
        assert 0 < outcome.error < 1e-5
    again = measurer.remeasure(some(3), 5)
    assert [len(outcome.seconds) for outcome in again] == [5, 5, 5]


def test_epilogues_and_other_operators(measurer: BoardMeasurer) -> None:
    specs = (
        tc.conv2d((2, 8, 9, 9), 8, 3, bias=True, residual=True, activation="gelu"),
        tc.conv_transpose2d((1, 8, 5, 5), 8, 4, stride=2, layout="NHWC"),
        tc.deform_conv2d((1, 8, 9, 9), 8, 3, mask=True),
        tc.conv1d((1, 8, 40), 8, 3, scale_shift=True),
    )
    trials = []
    for spec in specs:
        name = "x86.deformable" if spec.op == "deform_conv" else "x86.general"
        task = Task(spec, TARGET)
        trials.append(Trial(task, name, get_template(name).default(task)))
    outcomes = measurer.measure(trials)
    assert [o.status for o in outcomes] == ["ok"] * 4, [o.message for o in outcomes]


def test_several_threads_are_timed_by_the_wall() -> None:
    task = Task(SPEC, TARGET, threads=2)
    with BoardMeasurer(TARGET, [Host("here", HERE)], 2) as measurer:
        (outcome,) = measurer.measure([Trial(task, DIRECT.id, DIRECT.default(task))])
    assert outcome.seconds == outcome.wall
    assert len(outcome.seconds) == 10


def test_what_goes_wrong_costs_only_itself(
    monkeypatch: pytest.MonkeyPatch, measurer: BoardMeasurer
) -> None:
    broken.register(monkeypatch)
    good = some(3)
    trials = [
        good[0],
        Trial(TASK, "x86.crashing", good[0].config),
        good[1],
        Trial(TASK, "x86.wrong", good[0].config),
        good[2],
    ]
    with BoardMeasurer(TARGET, [Host("here", HERE)]) as measurer:
        outcomes = measurer.measure(trials)
    statuses = [outcome.status for outcome in outcomes]
    assert statuses == ["ok", "crashed", "ok", "wrong_answer", "ok"]
    assert outcomes[1].message in ("SIGSEGV", "SIGBUS")
    assert "elements wrong" in outcomes[3].message
    assert not outcomes[1].seconds
    assert not outcomes[3].seconds


def test_a_candidate_that_takes_too_long_is_given_up() -> None:
    with BoardMeasurer(TARGET, [Host("here", HERE)], run_timeout=1e-6) as measurer:
        (outcome,) = measurer.measure(some(1))
    assert (outcome.status, outcome.message) == ("timed_out", "no result in time")


@pytest.mark.slow
def test_a_board_that_dies_costs_one_candidate(folder: Path, tmp_path: Path) -> None:
    """It restarts while a batch runs; what it had said counts, and the rest is measured later."""
    log, heard = tmp_path / "log", Counter[int]()
    host = FlakyHost("flaky", HERE, folder=str(folder), deaths={0: Death(begun=2, away=1)}, log=log)
    with BoardMeasurer(TARGET, [host]) as measurer:
        outcomes = measurer.measure(some(8), lambda index, outcome: heard.update([index]))
    assert [outcome.status for outcome in outcomes] == ["ok"] * 8
    assert set(heard.values()) == {1}
    assert begun(log) == 8 + 1


@pytest.mark.slow
def test_a_candidate_that_takes_the_board_along_is_given_up(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, deaths = tmp_path / "log", {number: Death(begun=1) for number in range(3)}
    host = FlakyHost("flaky", HERE, folder=str(folder), deaths=deaths, log=log)
    heard: dict[int, Outcome] = {}
    with caplog.at_level(logging.WARNING), BoardMeasurer(TARGET, [host]) as measurer:
        (outcome,) = measurer.measure(some(1), heard.__setitem__)
        (after,) = measurer.measure(some(2)[1:])
    assert outcome.status == "device_lost"
    assert "broken pipe" in outcome.message
    assert after.ok
    assert "lost flaky" in caplog.text
    assert "again in 1 s" in caplog.text


@pytest.mark.slow
def test_measuring_again_waits_for_a_board(folder: Path, tmp_path: Path) -> None:
    """The first batch is the trials', the second the measurement against each other."""
    host = FlakyHost("flaky", HERE, folder=str(folder), deaths={1: Death(begun=1, away=1)})
    with BoardMeasurer(TARGET, [host]) as measurer:
        measurer.measure(some(2))
        outcomes = measurer.remeasure(some(2), 3)
    assert [len(outcome.seconds) for outcome in outcomes] == [3, 3]


def test_a_board_that_stays_away(folder: Path, tmp_path: Path) -> None:
    host = FlakyHost("flaky", HERE, folder=str(folder), deaths={0: Death(begun=2, away=10**6)})
    path = tmp_path / "records.jsonl"
    with BoardMeasurer(TARGET, [host], absence=0.0) as measurer:
        result = tc.tune(SPEC, TARGET, trials=12, records=path, measurer=measurer, prior=None)
    assert result.stopped == "device lost"
    assert result.layers[0].seconds < 1.0
    counted = Counter(record.status for record in read_records(path)[0])
    assert counted["ok"] == 1
    assert counted["device_lost"] == sum(counted.values()) - 1 > 0


@pytest.mark.slow
def test_two_boards_share_the_work(folder: Path, tmp_path: Path) -> None:
    logs = [tmp_path / "first", tmp_path / "second"]
    hosts = [
        FlakyHost("first", HERE, folder=str(folder), log=logs[0]),
        FlakyHost("second", HERE, folder=str(folder), deaths={0: Death(1, 10**6)}, log=logs[1]),
    ]
    with BoardMeasurer(TARGET, hosts, absence=0.0, batch=2) as measurer:
        measurer.connect()
        outcomes = measurer.measure(some(12))
        assert [device.name for device in measurer.devices] == ["first"]
    assert [outcome.status for outcome in outcomes] == ["ok"] * 12
    assert (begun(logs[0]), begun(logs[1])) == (12, 1)


def test_tuning_resumes_and_serves_compile(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    board = Host("here", HERE, folder=str(folder))
    first = tc.tune(SPEC, TARGET, trials=3, records=path, ssh=board)
    second = tc.tune(SPEC, TARGET, trials=3, records=path, ssh=[board])
    assert (first.stopped, first.trials, second.trials) == ("budget", 3, 3)
    assert second.layers[0].trials == 6
    records, problems = read_records(path)
    assert not problems
    trials = [(r.template, r.config) for r in records if r.stage == "trial"]
    assert len(trials) == len(set(trials)) == 6
    assert len({record.cpu for record in records}) == 1
    assert tc.compile(SPEC, TARGET, records=path).tier == "tuned"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("limit", "kept"), [(boards.KEPT_BYTES, 2), (1, 1)])
def test_tensors_stay_while_there_is_room(
    limit: int, kept: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "KEPT_BYTES", limit)
    other = Task(tc.conv1d((1, 8, 40), 8, 3), TARGET)
    general = get_template("x86.general")
    with BoardMeasurer(TARGET, [Host("here", HERE, folder=str(folder))]) as measurer:
        for trial in (*some(1), Trial(other, general.id, general.default(other))):
            assert measurer.measure([trial])[0].ok
        assert len(list(folder.glob("*/*.operands"))) == kept


def test_an_interrupted_run_leaves_nothing_behind(folder: Path) -> None:
    def interrupt(index: int, outcome: Outcome) -> None:
        raise KeyboardInterrupt

    interrupted = pytest.raises(KeyboardInterrupt)
    with BoardMeasurer(TARGET, [Host("here", HERE, folder=str(folder))]) as measurer:
        with interrupted:
            measurer.measure(some(2), interrupt)
        assert len(list(folder.iterdir())) == 1
    assert list(folder.iterdir()) == []


def test_a_program_that_was_left_behind_is_ended(folder: Path) -> None:
    """It holds the lock; with it running, times would be wrong."""
    with BoardMeasurer(TARGET, [Host("here", HERE, folder=str(folder))]) as measurer:
        measurer.connect()
        (place,) = folder.iterdir()
        with (place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            left = subprocess.Popen(["sleep", "600"], pass_fds=(lock.fileno(),))
            lock.write(f"{left.pid}\n")
        (outcome,) = measurer.measure(some(1))
    assert outcome.ok
    assert left.wait(10) == -signal.SIGKILL


def test_two_names_for_one_road_only(tmp_path: Path) -> None:
    with pytest.raises(tc.ArgumentError, match="either ssh, or rpc and tracker"):
        tc.tune(SPEC, TARGET, ssh="a", rpc="b:1")
    with pytest.raises(tc.ArgumentError, match="key: got None"):
        tc.tune(SPEC, TARGET, tracker="b:1")
    with pytest.raises(tc.ArgumentError, match="key: got 'k'"):
        tc.tune(SPEC, TARGET, ssh="a", key="k")
    with pytest.raises(tc.ArgumentError, match="target: got 'host'"):
        tc.tune(SPEC, ssh="a", records=tmp_path / "r.jsonl")
    with pytest.raises(tc.TargetError, match="cortex_m7 has no Linux"):
        BoardMeasurer(load("cortex_m7"), [Host("here", HERE)])


def test_a_board_that_is_not_there() -> None:
    refused = pytest.raises(tc.DeviceUnreachable, match="nobody: no folder can be made")
    host = Host("nobody", "sh -c 'exit 1' {command}")
    with BoardMeasurer(TARGET, [host]) as measurer, refused:
        measurer.connect()


def test_a_board_without_space(folder: Path, tmp_path: Path) -> None:
    """Copying is `cat`, which is replaced by one that finds the disk full."""
    cat = tmp_path / "bin" / "cat"
    cat.parent.mkdir()
    cat.write_text("#!/bin/sh\necho 'cat: write error: No space left on device' >&2\nexit 1\n")
    cat.chmod(0o700)
    transport = f"env PATH={cat.parent}:/usr/bin:/bin sh -c {{command}}"
    refused = pytest.raises(tc.DeviceFull, match="full: probe cannot be copied")
    with BoardMeasurer(TARGET, [Host("full", transport, folder=str(folder))]) as measurer, refused:
        measurer.connect()


def test_a_board_that_forbids_programs(folder: Path, tmp_path: Path) -> None:
    wrapper = tmp_path / "wrapper"
    wrapper.write_text("#!/bin/sh\necho 'sh: ./probe: Permission denied' >&2\nexit 126\n")
    wrapper.chmod(0o700)
    refused = pytest.raises(tc.DeviceError, match=r"no place for programs: .*--folder")
    host = Host("locked", HERE, str(wrapper), str(folder))
    with BoardMeasurer(TARGET, [host]) as measurer, refused:
        measurer.connect()


def test_a_candidate_that_does_not_link_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    link = Programs.link

    def refuse(self: Programs, artifacts: Sequence[Artifact], y_elems: int, out: Path) -> Path:
        if any(Path(artifact.path).name == "2.o" for artifact in artifacts):
            raise tc.BuildFailed("undefined symbol: expf")
        return link(self, artifacts, y_elems, out)

    monkeypatch.setattr(Programs, "link", refuse)
    with BoardMeasurer(TARGET, [Host("here", HERE)]) as measurer:
        outcomes = measurer.measure(some(4))
    assert [outcome.status for outcome in outcomes] == ["ok", "build_failed", "ok", "ok"]
    assert outcomes[1].message == "undefined symbol: expf"


def test_nothing_here_links_for_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVMCONV_TOOLCHAIN", "gcc")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(tc.EnvironmentProblem, match="C compiler for pi4: got None"):
        BoardMeasurer(load("pi4"), [Host("here", HERE)])
