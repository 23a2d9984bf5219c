"""What devices say of themselves, and which are refused."""

from dataclasses import replace

import pytest

import tvmconv as tc
from tvmconv.host_cpu import cores_of
from tvmconv.target import load
from tvmconv.tuning.facts import Facts, check_alike, of_another_machine

TEXT = """machine aarch64
system Linux 6.6.31+rpt-rpi-v8
model Raspberry Pi 4 Model B Rev 1.4
cores 4
core 0x41d08
missing asimdhp asimddp
"""
PI4 = Facts.parse(TEXT.replace("asimdhp asimddp", ""))


def test_facts_are_read() -> None:
    assert Facts.parse(TEXT) == Facts(
        machine="aarch64",
        system="Linux 6.6.31+rpt-rpi-v8",
        model="Raspberry Pi 4 Model B Rev 1.4",
        cores=4,
        core=0x41D08,
        missing=("asimdhp", "asimddp"),
    )
    assert PI4.label == "Raspberry Pi 4 Model B"
    assert replace(PI4, model="").label == "aarch64 0x41d08"


def test_a_missing_instruction_set_is_named_with_what_would_do() -> None:
    PI4.check("board", load("pi4"))
    with pytest.raises(tc.WrongDevice) as refused:
        Facts.parse(TEXT).check("board", load("pi5"))
    text = str(refused.value)
    assert "board (Raspberry Pi 4 Model B) lacks asimdhp, asimddp" in text
    assert "which pi5 needs (targets for it: aarch64, pi3, pi4)" in text


def test_another_machine_is_named_with_what_would_do() -> None:
    text = str(of_another_machine("board", "armv7l", load("pi4")))
    assert text == "board is armv7l; pi4 needs aarch64 (targets for it: armv7)"


def test_times_of_unlike_boards_do_not_compare() -> None:
    newer = replace(PI4, model="Raspberry Pi 4 Model B Rev 1.5")
    assert check_alike([PI4, newer], ["a", "b"]) == PI4.label
    with pytest.raises(tc.WrongDevice, match=r"a is 'Raspberry Pi 4.* and b is 'Odroid'"):
        check_alike([PI4, replace(PI4, model="Odroid")], ["a", "b"])


def test_cores_of_a_board() -> None:
    core = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: {}\nCPU revision\t: 3\n\n"
    assert cores_of(core.format("0xd03") + core.format("0xd09")) == {"0x41:0xd03", "0x41:0xd09"}
