"""Ways to a device: a command that runs a line of shell there."""

from pathlib import Path

import pytest

import tvmconv as tc
from tvmconv.tuning.transport import CommandTransport, ConnectionLost, open_transport

HERE = CommandTransport("here", ("sh", "-c", "{command}"))


def test_a_command_runs() -> None:
    done = HERE.run("echo out; echo err >&2; exit 3", 10.0)
    assert (done.status, done.out, done.err) == (3, b"out\n", "err")


def test_a_file_is_copied_whole(tmp_path: Path) -> None:
    data = bytes(range(256)) * 999
    (tmp_path / "a").write_bytes(data)
    done = HERE.copy(tmp_path / "a", str(tmp_path / "it's b"), 10.0)
    assert done.status == 0, done.err
    assert (tmp_path / "it's b").read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "it's b"]


def test_a_copy_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "there").write_text("old")
    assert HERE.copy(tmp_path / "a", str(tmp_path / "no" / "there"), 10.0).status != 0
    assert (tmp_path / "there").read_text() == "old"


def test_what_arrived_before_the_time_was_over_is_kept() -> None:
    with pytest.raises(ConnectionLost, match=r"here: no answer after 1 s") as lost:
        HERE.run("echo first; exec sleep 60", 0.7)
    assert lost.value.out == b"first\n"


def test_a_status_of_its_own_means_that_the_connection_failed() -> None:
    failing = CommandTransport("there", HERE.command, failed=255)
    assert failing.run("exit 254", 10.0).status == 254
    with pytest.raises(ConnectionLost, match="there: refused") as lost:
        failing.run("echo first; echo refused >&2; exit 255", 10.0)
    assert lost.value.out == b"first\n"
    assert HERE.run("exit 255", 10.0).status == 255


def test_what_stays_in_the_background_holds_nothing_up() -> None:
    """As ssh's shared connection does, with our stderr in its hands."""
    assert HERE.run("sleep 5 & exit 0", 2.0).status == 0


def test_a_command_that_is_not_there() -> None:
    absent = CommandTransport("there", ("/nowhere/ssh", "{command}"))
    with pytest.raises(tc.EnvironmentProblem, match="cannot start /nowhere/ssh"):
        absent.run("true", 1.0)


def test_ssh_never_asks_and_takes_a_port(tmp_path: Path) -> None:
    opened = open_transport("pi@board.local:2222", None, tmp_path / "socket")
    words = opened.command
    assert words[0] == "ssh"
    assert words[1:3] == ("-p", "2222")
    assert words[-2:] == ("pi@board.local", "{command}")
    assert "BatchMode=yes" in words
    assert f"ControlPath={tmp_path}/socket" in words
    assert opened.failed == 255
    assert opened.name == "pi@board.local:2222"


def test_another_command_in_place_of_ssh(tmp_path: Path) -> None:
    opened = open_transport("board", "ssh -F 'my conf' {host} {command}", tmp_path)
    assert opened.command == ("ssh", "-F", "my conf", "board", "{command}")
    assert opened.failed == 255
    assert open_transport("board", "sh -c {command}", tmp_path).failed is None


@pytest.mark.parametrize("host", ["", "-oProxyCommand=x", "a b", "board:", "board:port"])
def test_hosts_that_are_none(host: str, tmp_path: Path) -> None:
    with pytest.raises(tc.ArgumentError, match=r"\[user@\]host\[:port\]"):
        open_transport(host, None, tmp_path)


def test_a_template_needs_a_place_for_the_command(tmp_path: Path) -> None:
    with pytest.raises(tc.ArgumentError, match="command"):
        open_transport("board", "ssh board", tmp_path)
