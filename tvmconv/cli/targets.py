"""`tvmconv targets`: list the devices that kernels can be compiled for."""

import argparse
from dataclasses import asdict

from tvmconv import target as targets
from tvmconv.cli.output import Output
from tvmconv.errors import TargetError

EXAMPLES = """\
examples:
  tvmconv targets
  tvmconv targets --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments of its own."""


def run(args: argparse.Namespace, output: Output) -> int:
    """Print what is known of every target, and which one `host` is."""
    known = [targets.load(target_id) for target_id in targets.ids()]
    try:
        host = targets.host().id
    except TargetError:
        host = None
    if output.as_json:
        found = [asdict(t) | {"runs_here": t.runs_here, "host": t.id == host} for t in known]
        output.document("targets", True, {"host": host, "targets": found})
        return 0
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("id", "vectors", "lanes", "registers", "runs here", "description"):
        table.add_column(title, justify="right" if title in ("lanes", "registers") else "left")
    for t in known:
        here = "yes, as host" if t.id == host else "yes" if t.runs_here else "no"
        table.add_row(t.id, t.isa, str(t.lanes), str(t.registers), here, t.description)
    output.console().print(table)
    return 0
