"""Records: lines parse back, what cannot be read costs its line alone, and nothing is ever lost."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvmconv.errors import RecordsError
from tvmconv.tuning.records import (
    FORMAT,
    STAGES,
    STATUSES,
    Journal,
    Record,
    best_records,
    read_records,
    tuning_key,
)

SPEC = "conv2d_n1c64s56x56_o64k3x3_p1"
RECORD = Record(
    SPEC, "x86_64_v3", "x86.direct", "tile_oc=16,stage=pixels", 1, "ok", seconds=(2e-3, 1e-3)
)
SAMPLES = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=4).map(tuple)


@given(
    st.sampled_from(STATUSES),
    st.sampled_from(STAGES),
    st.text(),
    SAMPLES,
    st.dictionaries(st.text(), st.text()),
    st.integers(1, 64),
)
def test_line_parses_back(
    status: str,
    stage: str,
    message: str,
    seconds: tuple[float, ...],
    versions: dict[str, str],
    threads: int,
) -> None:
    record = replace(
        RECORD,
        status=status,
        stage=stage,
        message=message,
        seconds=seconds,
        versions=versions,
        threads=threads,
    )
    assert "\n" not in record.line
    assert Record.from_line(record.line) == record
    assert record.score == min(seconds)


def test_failures_score_infinite_and_keep_their_text() -> None:
    failed = replace(RECORD, status="crashed", seconds=(), message="signal 11\nin conv")
    assert Record.from_line(failed.line) == failed
    assert failed.score == float("inf")


def test_now_fills_in_machine_and_moment() -> None:
    record = Record.now(**{k: v for k, v in asdict(RECORD).items() if k in REQUIRED})
    assert record.cpu
    assert record.versions["tvmconv"]
    assert record.time.endswith("+00:00")
    assert record.format == FORMAT


REQUIRED = ("spec", "target", "template", "config", "threads", "status", "seconds")


def test_key_leaves_the_epilogue_out() -> None:
    key = (SPEC, "x86_64_v3", 1)
    assert replace(RECORD, spec=SPEC + "_bias_scale_res_relu").key == RECORD.key == key
    assert tuning_key(SPEC + "_nhwc") != tuning_key(SPEC)


WRONG = {
    "": "not JSON",
    "[1]": "not a JSON object",
    '{"format": 99}': "format: got 99; allowed: at most 1",
    '{"format": true}': "format: got True",
    "{}": "format: got None",
    '{"format": 1, "spec": "conv"}': r"missing \['target', 'template', 'config', 'threads'",
}


@pytest.mark.parametrize("text", WRONG)
def test_lines_that_are_no_record_say_why(text: str) -> None:
    with pytest.raises(RecordsError, match=WRONG[text]):
        Record.from_line(text)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("spec", "conv2d_nonsense", "spec: "),
        ("spec", 3, "spec: got 3; allowed: a text"),
        ("threads", 0, "threads: got 0"),
        ("threads", True, "threads: got True"),
        ("status", "fine", "status: got 'fine'; allowed: ok, "),
        ("stage", "last", "stage: got 'last'"),
        ("seconds", [], "at least one sample"),
        ("seconds", [-1.0], "positive seconds"),
        ("seconds", [1e999], "positive seconds"),
        ("seconds", 1.0, "positive seconds"),
        ("versions", {"a": 1}, "versions: "),
        ("colour", "red", "fields: "),
    ],
)
def test_wrong_fields_are_named(name: str, value: object, message: str) -> None:
    data = json.loads(RECORD.line) | {name: value}
    with pytest.raises(RecordsError, match=message):
        Record.from_line(json.dumps(data))


def test_unreadable_lines_are_reported_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    good = RECORD.line.encode()
    path.write_bytes(b"\n".join([good, b"\xff\xfe", b"", good[:40], good, b'{"format": 2}', b""]))
    records, problems = read_records(path)
    assert records == (RECORD, RECORD)
    assert [p.line for p in problems] == [2, 4, 6]
    assert str(problems[0]) == f"{path}:2: not UTF-8"
    assert "not JSON" in str(problems[1])
    assert "at most 1" in str(problems[2])


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="No such file"):
        read_records(tmp_path / "none.jsonl")
    with pytest.raises(RecordsError, match="cannot read"):
        read_records(tmp_path)


def test_journal_appends_and_opens_lazily(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        assert not path.exists()
        journal.append(RECORD)
        assert read_records(path) == ((RECORD,), ())
        journal.append(replace(RECORD, threads=2))
    with Journal(path) as journal:
        journal.append(replace(RECORD, threads=3))
    assert [r.threads for r in read_records(path)[0]] == [1, 2, 3]


@given(st.integers(1, len(RECORD.line)))
def test_a_torn_last_line_costs_itself_alone(length: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        path.write_text(f"{RECORD.line}\n{RECORD.line[:length]}", encoding="utf-8")
        with Journal(path) as journal:
            journal.append(replace(RECORD, threads=2))
        records, problems = read_records(path)
        whole = length == len(RECORD.line)
        assert [r.threads for r in records] == ([1, 1, 2] if whole else [1, 2])
        assert [p.line for p in problems] == ([] if whole else [2])


def test_a_killed_writer_loses_at_most_the_line_in_flight(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    code = (
        "import sys; from dataclasses import replace\n"
        "from tvmconv.tuning.records import Journal, Record\n"
        f"record, journal = Record.from_line({RECORD.line!r}), Journal({str(path)!r})\n"
        "for n in range(1, 10**6):\n"
        "    journal.append(replace(record, threads=n)); print(n, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(20):
        told = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    told = max([told, *map(int, writer.stdout.read().split())])
    writer.wait()
    writer.stdout.close()
    records, problems = read_records(path)
    assert told <= len(records) <= told + 1
    assert [r.threads for r in records] == list(range(1, len(records) + 1))
    assert len(problems) <= 1


def test_two_writers_keep_their_lines_apart(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    code = (
        "from tvmconv.tuning.records import Journal, Record\n"
        f"record, journal = Record.from_line({RECORD.line!r}), Journal({str(path)!r})\n"
        "for _ in range(50): journal.append(record)\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert read_records(path) == ((RECORD,) * 100, ())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told() -> None:
    with pytest.raises(RecordsError, match="No space left on device; its earlier records are"):
        Journal("/dev/full").append(RECORD)


def test_a_line_that_fits_half_is_cut_off_again(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    with Journal(path) as journal:
        journal.append(RECORD)
    before = path.read_bytes()
    code = (
        "import resource, signal; from tvmconv.errors import RecordsError\n"
        "from tvmconv.tuning.records import Journal, Record\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 50}, {len(before) + 50}))\n"
        f"record = Record.from_line({RECORD.line!r})\n"
        "try: Journal({0!r}).append(record)\n"
        "except RecordsError as error: print(error)\n"
    ).replace("{0!r}", repr(str(path)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"cannot write .*none/records\.jsonl: No such file"):
        Journal(tmp_path / "none" / "records.jsonl").append(RECORD)
    with pytest.raises(RecordsError, match="Is a directory"):
        Journal(tmp_path).append(RECORD)


def test_a_read_only_folder_is_told() -> None:
    me, nobody = os.geteuid(), 65534
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        if me == 0:  # root may write anywhere
            os.seteuid(nobody)
        try:
            with pytest.raises(RecordsError, match="Permission denied"):
                Journal(Path(folder) / "records.jsonl").append(RECORD)
        finally:
            if me == 0:
                os.seteuid(me)
            Path(folder).chmod(0o755)


def made(config: str, seconds: float, stage: str = "trial", status: str = "ok") -> Record:
    made = replace(RECORD, config=f"tile={config}", seconds=(seconds,))
    return replace(made, stage=stage, status=status)


def configs(records: tuple[Record, ...]) -> list[str]:
    return [record.config.removeprefix("tile=") for record in records]


def test_best_is_the_fastest_trial_of_those_that_worked() -> None:
    trials = [made("a", 3), made("b", 2), made("b", 4), made("c", 1, status="wrong_answer")]
    found = best_records(trials)
    assert configs(found) == ["b", "a"]
    assert found[0].score == 2


def test_final_measurements_overrule_trials() -> None:
    lucky = [made("a", 1), made("b", 2), made("c", 3), made("b", 2.5, "final")]
    assert configs(best_records([*lucky, made("c", 2.4, "final")])) == ["c", "b"]
    again = replace(made("c", 2.6, "final"), time="2030")
    assert configs(best_records([again, *lucky, made("c", 2.4, "final")])) == ["b", "c"]


def test_the_default_alone_measured_again_overrules_nothing() -> None:
    records = [made("a", 1), made("default", 2, "final")]
    assert configs(best_records(records, lambda r: r.config == "tile=default")) == ["a", "default"]
    slower = [*records, made("a", 3, "final")]
    assert configs(best_records(slower, lambda r: r.config == "tile=default")) == ["default", "a"]
