"""Print measured rows in a terminal, with rich."""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tvmconv.bench import Measured
from tvmconv.bench.labels import label, microseconds
from tvmconv.bench.rows import OURS, Layer, Row, layers
from tvmconv.bench.summary import Summary, by_kind
from tvmconv.spec import ConvSpec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

OVERHEAD_MATTERS_BELOW_SECONDS = 50e-6
TOO_MANY_PREEMPTED = 0.2
FIGURES = r"\d[\d.e+-]{3,}"


def print_measured(measured: Measured, console: "Console") -> None:
    """Print the tables, then what is to be known about them.

    The columns `call` are what a call costs by itself, `ratio` and `torch` the times of the best
    peer and of the best of torch divided by ours.
    """
    compared = layers(measured.rows)
    if not measured.complete:
        console.print(f"interrupted after {len(compared)} layers", style="yellow")
    if not compared:
        return
    console.print(_table(compared))
    kinds = by_kind(compared)
    if len(compared) > 1 and any(layer.ratio for layer in compared):
        console.print(_kinds([*kinds, Summary.of("all", compared)]))
    for note in notes(measured, compared):
        console.print(note, style="yellow", markup=False, highlight=False)
    console.print(str(measured.machine), style="dim", markup=False, highlight=False)


def notes(measured: Measured, compared: list[Layer]) -> list[str]:
    """What a reader of the figures must know: failures, doubts, and overheads that matter."""
    found = _problems(measured.rows)
    found += measured.machine.warnings
    doubtful = max((row.preempted for row in measured.rows), default=0.0)
    if doubtful > TOO_MANY_PREEMPTED:
        found.append(f"up to {doubtful:.0%} of the samples lost the CPU; trust the minimum only")
    if any(_is_short(layer.ours) for layer in compared):
        overheads = {
            row.contestant: microseconds(row.overhead_seconds)
            for row in measured.rows
            if row.overhead_seconds
        }
        if overheads:
            listed = ", ".join(f"{name} {us} us" for name, us in overheads.items())
            found.append(f"short layers contain the cost of a call itself: {listed}")
    return found


def _problems(rows: Iterable[Row]) -> list[str]:
    """One line per contestant and reason, with the first spec and the number of others."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if not row.ok:
            reason = row.detail
            if row.contestant != OURS:
                reason = re.sub(FIGURES, "…", reason)  # they differ, the reason does not
            grouped.setdefault((row.contestant, row.status, reason), []).append(row.spec)
    lines = []
    for (name, status, reason), specs in grouped.items():
        others = f" and {len(specs) - 1} others" if len(specs) > 1 else ""
        where = "" if status == "not installed" else f" on {specs[0]}{others}"
        lines.append(f"{name}{where}: {status}: {reason}")
    return lines


def _is_short(row: Row) -> bool:
    return row.min_seconds is not None and row.min_seconds < OVERHEAD_MATTERS_BELOW_SECONDS


def _table(compared: list[Layer]) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False, collapse_padding=True)
    table.add_column("layer", no_wrap=True)
    table.add_column("template", no_wrap=True)
    for title in ("us", "call", "GF/s", "error"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("best peer", no_wrap=True)
    for title in ("us", "call", "ratio", "torch"):
        table.add_column(title, justify="right", no_wrap=True)
    for layer in compared:
        table.add_row(*_cells(layer))
    return table


def _cells(layer: Layer) -> list[str]:
    ours, best = layer.ours, layer.best_peer
    return [
        label(layer.spec),
        ours.template.partition(".")[2],
        microseconds(ours.min_seconds),
        microseconds(ours.overhead_seconds),
        "-" if ours.gflops is None else f"{ours.gflops:.0f}",
        _error(ours),
        "-" if best is None else best.contestant.removeprefix("torch_"),
        microseconds(best.min_seconds if best else None),
        microseconds(best.overhead_seconds if best else None),
        _ratio(layer.ratio),
        _ratio(layer.ratio_to(layer.best_of("torch"))),
    ]


def _error(row: Row) -> str:
    """The error as a share of its bound, or what became of the kernel."""
    if not row.ok:
        return f"[red]{row.status.partition(' ')[0]}[/]"
    return f"{row.max_error / row.bound:.2f}" if row.bound and row.max_error is not None else "-"


def _kinds(summaries: Sequence[Summary]) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("kind of layer", no_wrap=True)
    for title in ("layers", "won", "to best peer", "to torch", "worst"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("worst layer", no_wrap=True)
    for one in summaries:
        table.add_row(
            one.kind,
            str(one.layers),
            str(one.won),
            _ratio(one.to_best),
            _ratio(one.to_torch),
            _ratio(one.worst),
            label(ConvSpec.parse(one.worst_spec)) if one.worst_spec else "-",
        )
    return table


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"[{'green' if ratio >= 1 else 'red'}]{ratio:.2f}[/]"
