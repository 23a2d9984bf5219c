"""Write measured rows as one HTML file that needs nothing else: plots and style are inside it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmconv.bench import Measured, plots
from tvmconv.bench.labels import kilobytes, label, microseconds
from tvmconv.bench.rows import Layer, Row, geometric_mean, layers
from tvmconv.bench.table import notes


@dataclass(frozen=True)
class Card:
    """One number at the top of the report."""

    value: str
    text: str
    style: str = ""


@dataclass(frozen=True)
class Plot:
    """A plot with its heading; `data` is SVG in base64."""

    title: str
    text: str
    data: str

    @classmethod
    def of(cls, title: str, text: str, svg: str) -> "Plot":
        """Encode an SVG document so that it can stand in an img element."""
        return cls(title, text, base64.b64encode(svg.encode()).decode())


def write_report(
    measured: Measured,
    path: Path,
    *,
    title: str = "tvmconv benchmark",
    cards: tuple[Card, ...] = (),
    bundle: Mapping[str, int] | None = None,
) -> Path:
    """Write the report.

    Args:
        measured: what to show; it must have at least one row.
        path: the HTML file; missing folders are made.
        title: its heading.
        cards: numbers to show at the top beside the report's own.
        bundle: bytes of a bundle's files by kind, for one more plot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(measured, title, cards, bundle or {}), encoding="utf-8")
    return path


def render(
    measured: Measured, title: str, cards: tuple[Card, ...], bundle: Mapping[str, int]
) -> str:
    """Return the report as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("tvmconv.bench", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    compared = layers(measured.rows)
    return templates.get_template("report.html.jinja").render(
        title=title,
        machine=measured.machine,
        cards=(*_cards(compared), *cards),
        notes=notes(measured, compared),
        plots=_plots(measured, compared, bundle),
        table=[_layer_cells(layer) for layer in compared],
        rows=[_row_cells(row) for row in measured.rows],
        environment=_environment(measured),
    )


def _cards(compared: list[Layer]) -> list[Card]:
    found = []
    mean = geometric_mean(layer.ratio for layer in compared)
    if mean is not None:
        style = "good" if mean >= 1 else "bad"
        found.append(Card(f"{mean:.2f}×", "geometric mean against the best peer", style))
        won = sum((layer.ratio or 0) >= 1 for layer in compared)
        found.append(Card(f"{won} of {len(compared)}", "layers not slower than the best peer"))
    right = sum(layer.ours.ok for layer in compared)
    style = "good" if right == len(compared) else "bad"
    found.append(Card(f"{right} of {len(compared)}", "answers within the stated bound", style))
    sizes = [layer.ours.code_bytes or 0 for layer in compared]
    found.append(Card(kilobytes(sum(sizes) / len(sizes)), "mean machine code per kernel"))
    return found


def _plots(measured: Measured, compared: list[Layer], bundle: Mapping[str, int]) -> list[Plot]:
    found = []
    if any(layer.ratio for layer in compared):
        found.append(
            Plot.of(
                "Speed against the best peer",
                "Bars beyond the dashed line are faster than every torch variant of the run.",
                plots.ratios(compared),
            )
        )
    found.append(
        Plot.of(
            "Throughput",
            "Bars are tvmconv, dots the peers; the dashed line is one core's measured peak."
            if measured.machine.threads == 1
            else "Bars are tvmconv, dots the peers; the dashed line is the cores' measured peak.",
            plots.throughput(compared, measured.roofline),
        )
    )
    if measured.roofline is not None:
        found.append(
            Plot.of(
                "Roofline",
                "Dots above the memory line have data that stays in the caches between calls.",
                plots.roofline_plot(compared, measured.roofline),
            )
        )
    found.append(
        Plot.of(
            "Error",
            "Difference to torch in float64 at the worst element, and the bound it is held to.",
            plots.errors(compared),
        )
    )
    found.append(Plot.of("Code size", "Machine code of each kernel.", plots.code_sizes(compared)))
    if bundle:
        total = kilobytes(sum(bundle.values()))
        text = f"What the files of the bundle weigh; {total} together."
        found.append(Plot.of("Bundle", text, plots.bundle_sizes(bundle)))
    return found


def _layer_cells(layer: Layer) -> dict[str, Any]:
    ours, best = layer.ours, layer.best_peer
    return {
        "spec": ours.spec,
        "label": label(layer.spec),
        "config": f"{ours.tier}: {ours.config}",
        "template": ours.template,
        "min": microseconds(ours.min_seconds),
        "median": microseconds(ours.median_seconds),
        "gflops": "-" if ours.gflops is None else f"{ours.gflops:.0f}",
        "peer": "-" if best is None else best.contestant,
        "peer_min": microseconds(best.min_seconds if best else None),
        "peer_median": microseconds(best.median_seconds if best else None),
        "ratio": "-" if layer.ratio is None else f"{layer.ratio:.2f}",
        "style": "" if layer.ratio is None else "good" if layer.ratio >= 1 else "bad",
        "right": ours.ok,
        "error": _small(ours.max_error),
        "bound": _small(ours.bound),
        "code": kilobytes(ours.code_bytes),
        "packed": kilobytes(ours.packed_bytes),
        "compile": "-" if ours.compile_seconds is None else f"{ours.compile_seconds:.2f}",
    }


def _row_cells(row: Row) -> dict[str, Any]:
    return {
        "spec": row.spec,
        "contestant": row.contestant,
        "ok": row.ok,
        "status": row.status,
        "detail": row.detail,
        "min": microseconds(row.min_seconds),
        "median": microseconds(row.median_seconds),
        "overhead": microseconds(row.overhead_seconds),
        "samples": row.samples,
        "preempted": f"{row.preempted:.0%}",
    }


def _environment(measured: Measured) -> list[tuple[str, str]]:
    machine, roofline = measured.machine, measured.roofline
    found = [
        ("CPU", f"{machine.cpu}, {machine.cores} cores, {machine.isa}"),
        ("threads", str(machine.threads)),
        ("governor", machine.governor),
        ("load before the run", str(machine.load)),
        ("system", f"{machine.system}, Python {machine.python}"),
        ("versions", ", ".join(f"{name} {number}" for name, number in machine.versions)),
    ]
    if roofline is not None:
        limits = (
            f"{roofline.gflops:.0f} GFLOP/s, second-level cache {roofline.cache_gbytes:.0f} GB/s, "
            f"memory {roofline.memory_gbytes:.0f} GB/s"
        )
        found.append(("measured limits", limits))
    return found


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
