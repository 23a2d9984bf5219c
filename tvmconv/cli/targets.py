"""`tvmconv targets`: the devices that kernels can be compiled for, and what can be done here."""

import argparse
from dataclasses import asdict
from typing import Any

from tvmconv import target as targets
from tvmconv.abilities import Abilities, abilities
from tvmconv.cli.output import Output
from tvmconv.errors import TargetError

EXAMPLES = """\
compile: machine code of kernels; link: libraries and bundles; run: native (in this process),
emulated (`tvmconv validate --emulate`), rpc and ssh (`tvmconv tune --rpc` or `--ssh` with a
device). The JSON says by what, and what is missing.

examples:
  tvmconv targets
  tvmconv targets --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments of its own."""


def run(args: argparse.Namespace, output: Output) -> int:
    """Print every target, what this machine can do for it, and which one `host` is."""
    known = [targets.load(target_id) for target_id in targets.ids()]
    able = {target.id: abilities(target) for target in known}
    try:
        host = targets.host().id
    except TargetError:
        host = None
    if output.as_json:
        found = [_entry(target, able[target.id], host) for target in known]
        output.document("targets", True, {"host": host, "targets": found})
        return 0
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("id", "vectors", "compile", "link", "run", "description"):
        table.add_column(title, no_wrap=title != "description")
    for target in known:
        can = able[target.id]
        name = f"{target.id} (host)" if target.id == host else target.id
        compiles = "yes" if can.compile.able else "no"
        link = can.link.by if can.link.able else "no"
        table.add_row(name, target.isa, compiles, link, ", ".join(can.run) or "no",
                      target.description)  # fmt: skip
    console = output.console()
    console.print(table)
    for reason, names in _missing(able).items():
        console.print(f"{reason}: {', '.join(names)}", style="dim", highlight=False, markup=False)
    return 0


def _entry(target: targets.Target, can: Abilities, host: str | None) -> dict[str, Any]:
    return asdict(target) | {
        "runs_here": target.runs_here,
        "host": target.id == host,
        "run": list(can.run),
        "abilities": asdict(can),
    }


def _missing(able: dict[str, Abilities]) -> dict[str, list[str]]:
    """What could be installed, and for which targets."""
    found: dict[str, list[str]] = {}
    for target_id, can in able.items():
        if not can.compile.able:
            found.setdefault(f"to compile: {can.compile.by}", []).append(target_id)
        if not can.link.able:
            found.setdefault(f"to link: {can.link.by}", []).append(target_id)
        if not can.run:
            found.setdefault(f"to run: {can.emulated.by}", []).append(target_id)
    return found
