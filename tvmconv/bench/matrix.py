"""The report's table of all contestants on all layers: a bar per cell, as long as it is fast."""

from collections.abc import Sequence
from dataclasses import dataclass

from tvmconv.bench.drawing import color_of
from tvmconv.bench.labels import label, microseconds
from tvmconv.bench.rows import OURS, Layer, Row


@dataclass(frozen=True)
class Cell:
    """One contestant on one layer.

    Attributes:
        text: its time in microseconds, or what became of it.
        share: speed as a share of the layer's fastest, in percent; the length of the bar.
        color: of the bar.
        fastest: whether it won the layer.
        title: what a reader sees who stops at the cell.
    """

    text: str
    share: int
    color: str
    fastest: bool
    title: str


@dataclass(frozen=True)
class MatrixRow:
    """One layer: its name, its spec and one cell per contestant."""

    name: str
    spec: str
    cells: tuple[Cell, ...]


def contestants(compared: Sequence[Layer]) -> list[str]:
    """Ours, then every peer that occurs."""
    return list(dict.fromkeys([OURS, *(r.contestant for one in compared for r in one.peers)]))


def matrix(compared: Sequence[Layer]) -> list[MatrixRow]:
    """One row per layer, with a cell for each of `contestants`."""
    names = contestants(compared)
    return [
        MatrixRow(label(layer.spec), layer.ours.spec, tuple(_cells(layer, names)))
        for layer in compared
    ]


def _cells(layer: Layer, names: Sequence[str]) -> list[Cell]:
    rows = {row.contestant: row for row in (layer.ours, *layer.peers)}
    times = [row.min_seconds for row in rows.values() if row.ok and row.min_seconds]
    fastest = min(times, default=0.0)
    return [_cell(rows.get(name), name, fastest) for name in names]


def _cell(row: Row | None, name: str, fastest: float) -> Cell:
    if row is None:
        return Cell("", 0, "", False, f"{name} has no such way to run this layer")
    if not row.ok or not row.min_seconds:
        short = {"unsupported": "–", "not installed": "–"}.get(row.status, row.status)
        return Cell(short, 0, "", False, f"{name}: {row.status}: {row.detail}")
    title = (
        f"{name}: {microseconds(row.min_seconds)} µs, median {microseconds(row.median_seconds)}, "
        f"an empty call {microseconds(row.overhead_seconds)}; {row.gflops or 0:.0f} GFLOP/s"
    )
    share = round(100 * fastest / row.min_seconds)
    won = row.min_seconds == fastest
    return Cell(microseconds(row.min_seconds), share, color_of(name), won, title)
