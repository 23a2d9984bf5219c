"""Write measured rows as one HTML file that needs nothing else: plots and style are inside it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmconv.bench import Measured, plots
from tvmconv.bench.curves import Curve
from tvmconv.bench.labels import kilobytes, label, microseconds
from tvmconv.bench.matrix import contestants, matrix
from tvmconv.bench.rows import Layer, Row, layers
from tvmconv.bench.summary import Summary, by_kind
from tvmconv.bench.table import notes
from tvmconv.spec import ConvSpec


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
    curves: Sequence[Curve] = (),
) -> Path:
    """Write the report.

    Args:
        measured: what to show; it must have at least one row.
        path: the HTML file; missing folders are made.
        title: its heading.
        cards: numbers to show at the top beside the report's own.
        bundle: bytes of a bundle's files by kind, for one more plot.
        curves: of the tuning that gave the kernels, for one more plot.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(measured, title, cards, bundle or {}, curves), encoding="utf-8")
    return path


def render(
    measured: Measured,
    title: str,
    cards: tuple[Card, ...],
    bundle: Mapping[str, int],
    curves: Sequence[Curve],
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
        plots=_plots(measured, compared, bundle, curves),
        contestants=contestants(compared),
        matrix=matrix(compared),
        kinds=_kinds(compared),
        table=[_layer_cells(layer) for layer in compared],
        rows=[_row_cells(row) for row in measured.rows],
        environment=_environment(measured),
    )


def _cards(compared: list[Layer]) -> list[Card]:
    found = []
    every = Summary.of("all", compared)
    if every.to_best is not None and every.worst is not None:
        found.append(
            Card(f"{every.to_best:.2f}×", "geometric mean to the best peer", _style(every.to_best))
        )
        if every.to_torch is not None:
            text = "geometric mean to the best of torch"
            found.append(Card(f"{every.to_torch:.2f}×", text, _style(every.to_torch)))
        found.append(Card(f"{every.won} of {every.compared}", "layers not slower than any peer"))
        worst = label(ConvSpec.parse(every.worst_spec))
        found.append(Card(f"{every.worst:.2f}×", f"worst layer: {worst}", _style(every.worst)))
    right = sum(layer.ours.ok for layer in compared)
    style = "good" if right == len(compared) else "bad"
    found.append(Card(f"{right} of {len(compared)}", "answers within the stated bound", style))
    sizes = [layer.ours.code_bytes or 0 for layer in compared]
    found.append(Card(kilobytes(sum(sizes) / len(sizes)), "mean machine code per kernel"))
    return found


def _style(ratio: float | None) -> str:
    return "" if ratio is None else "good" if ratio >= 1 else "bad"


def _kinds(compared: list[Layer]) -> list[dict[str, Any]]:
    """The ratios of each kind of layer, and of all when there is more than one kind."""
    found = by_kind(compared)
    if len(found) > 1:
        found.append(Summary.of("all", compared))
    return [
        {
            "kind": one.kind,
            "layers": one.layers,
            "won": one.won,
            "worst_label": label(ConvSpec.parse(one.worst_spec)) if one.worst_spec else "",
            "worst_spec": one.worst_spec,
        }
        | {
            name: ("-" if value is None else f"{value:.2f}", _style(value))
            for name, value in (
                ("to_best", one.to_best),
                ("to_torch", one.to_torch),
                ("worst", one.worst),
            )
        }
        for one in found
        if one.compared
    ]


def _plots(
    measured: Measured,
    compared: list[Layer],
    bundle: Mapping[str, int],
    curves: Sequence[Curve],
) -> list[Plot]:
    """Every plot that there is something to show in, as (heading, text, drawing)."""
    found: list[tuple[str, str, str]] = []
    if any(layer.ratio for layer in compared):
        text = "Bars beyond the dashed line are faster than every peer of the run."
        found.append(("Speed against the best peer", text, plots.ratios(compared)))
    cores = "one core's" if measured.machine.threads == 1 else "the cores'"
    text = f"Bars are tvmconv, dots the peers; the dashed line is {cores} measured peak. "
    text += "Winograd and FFT do less work than the direct algorithm and may pass it."
    found.append(("Throughput", text, plots.throughput(compared, measured.roofline)))
    if measured.roofline is not None:
        text = "Dots above the memory line have data that stays in the caches between calls."
        drawing = plots.roofline_plot(compared, measured.roofline)
        found.append(("Roofline", text, drawing))
    if curves:
        text = f"{len(curves)} tasks: the best config so far, against the number of trials."
        found.append(("Tuning", text, plots.tuning(curves)))
    text = "Difference to torch in float64, layer by layer; on the right the bound it is held to."
    found.append(("Errors", text, plots.errors(measured.rows)))
    found.append(("Code size", "Machine code of each kernel.", plots.code_sizes(compared)))
    if bundle:
        total = kilobytes(sum(bundle.values()))
        text = f"What the files of the bundle weigh; {total} together."
        found.append(("Bundle", text, plots.bundle_sizes(bundle)))
    return [Plot.of(*one) for one in found]


def _layer_cells(layer: Layer) -> dict[str, Any]:
    ours, best = layer.ours, layer.best_peer
    return {
        "spec": ours.spec,
        "label": label(layer.spec),
        "config": f"{ours.tier}: {ours.config}",
        "template": ours.template,
        "min": microseconds(ours.min_seconds),
        "median": microseconds(ours.median_seconds),
        "overhead": microseconds(ours.overhead_seconds),
        "gflops": "-" if ours.gflops is None else f"{ours.gflops:.0f}",
        "peer": "-" if best is None else best.contestant,
        "peer_min": microseconds(best.min_seconds if best else None),
        "peer_median": microseconds(best.median_seconds if best else None),
        "ratio": "-" if layer.ratio is None else f"{layer.ratio:.2f}",
        "style": _style(layer.ratio),
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
        ("caches", "emptied before each timed call" if measured.cold else "warm"),
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
