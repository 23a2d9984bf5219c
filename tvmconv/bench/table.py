"""Print measured rows in a terminal, with rich."""

from typing import TYPE_CHECKING

from tvmconv.bench import Measured
from tvmconv.bench.labels import kilobytes, label, microseconds
from tvmconv.bench.rows import Layer, Row, geometric_mean, layers

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

OVERHEAD_MATTERS_BELOW_SECONDS = 50e-6
TOO_MANY_PREEMPTED = 0.2


def print_measured(measured: Measured, console: "Console") -> None:
    """Print the table, then what is to be known about it."""
    compared = layers(measured.rows)
    console.print(_table(compared))
    mean = geometric_mean(layer.ratio for layer in compared)
    if mean is not None and len(compared) > 1:
        won = sum((layer.ratio or 0) >= 1 for layer in compared)
        console.print(
            f"geometric mean {mean:.2f} times the best peer; "
            f"not slower on {won} of {len(compared)} layers"
        )
    for note in notes(measured, compared):
        console.print(note, style="yellow", markup=False, highlight=False)
    console.print(str(measured.machine), style="dim", markup=False, highlight=False)


def notes(measured: Measured, compared: list[Layer]) -> list[str]:
    """What a reader of the figures must know: failures, doubts, and overheads that matter."""
    found = [f"{row.contestant} on {row.spec}: {row.detail}" for row in measured.rows if not row.ok]
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


def _is_short(row: Row) -> bool:
    return row.min_seconds is not None and row.min_seconds < OVERHEAD_MATTERS_BELOW_SECONDS


def _table(compared: list[Layer]) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("layer", no_wrap=True)
    table.add_column("template", no_wrap=True)
    for title in ("us", "GF/s"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("best peer", no_wrap=True)
    for title in ("us", "ratio", "error/bound", "code"):
        table.add_column(title, justify="right", no_wrap=True)
    for layer in compared:
        table.add_row(*_cells(layer))
    return table


def _cells(layer: Layer) -> list[str]:
    ours, best = layer.ours, layer.best_peer
    error = ours.max_error / ours.bound if ours.bound and ours.max_error is not None else None
    return [
        label(layer.spec),
        ours.template.partition(".")[2],
        microseconds(ours.min_seconds),
        "-" if ours.gflops is None else f"{ours.gflops:.0f}",
        "-" if best is None else best.contestant.removeprefix("torch_"),
        microseconds(best.min_seconds if best else None),
        _ratio(layer.ratio),
        "[red]WRONG[/]" if not ours.ok else "-" if error is None else f"{error:.2f}",
        kilobytes(ours.code_bytes),
    ]


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"[{'green' if ratio >= 1 else 'red'}]{ratio:.2f}[/]"
