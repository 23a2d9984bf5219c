"""The plots of the report; each function returns an SVG document as text."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tvmconv.bench.labels import label
from tvmconv.bench.roofline import Roofline
from tvmconv.bench.rows import Layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, PEER, SLOWER, LIMIT, GRID = "#1f6feb", "#e8963a", "#c93c37", "#57606a", "#d8dee4"
PEERS = (PEER, "#2da44e", "#8250df", "#bf3989")
WIDTH_INCHES = 9.5
CODE_AIM_KB = 40

Point = tuple[float | None, float | None]


def ratios(compared: Sequence[Layer]) -> str:
    """How many times faster than the best peer each layer is."""
    figure, axes = _bars([label(layer.spec) for layer in compared])
    values = [layer.ratio or 0.0 for layer in compared]
    colors = [OURS if value >= 1 else SLOWER for value in values]
    axes.barh(range(len(values)), values, color=colors, height=0.7)
    axes.axvline(1, color=LIMIT, linewidth=1, linestyle="--")
    for i, layer in enumerate(compared):
        text = f"{values[i]:.2f}  {layer.best_peer.contestant}" if layer.best_peer else "no peer"
        _beside(axes, values[i], i, text)
    axes.set_xlim(0, 1.3 * max([1.0, *values]))
    axes.set_xlabel("speed relative to the best peer (1 = equal)")
    return _svg(figure)


def throughput(compared: Sequence[Layer], roofline: Roofline | None) -> str:
    """GFLOP/s of every contestant, layer by layer."""
    figure, axes = _bars([label(layer.spec) for layer in compared])
    ours = [layer.ours.gflops or 0.0 for layer in compared]
    axes.barh(range(len(ours)), ours, color=OURS, height=0.7, alpha=0.85, label="tvmconv")
    names = list(dict.fromkeys(row.contestant for layer in compared for row in layer.peers))
    for i, name in enumerate(names):
        points = [
            (row.gflops, y)
            for y, layer in enumerate(compared)
            for row in layer.peers
            if row.contestant == name and row.ok
        ]
        _dots(axes, points, PEERS[i % len(PEERS)], name)
    if roofline is not None:
        axes.axvline(roofline.gflops, color=LIMIT, linewidth=1, linestyle="--", label="peak")
    axes.set_xlabel("GFLOP/s (twice the multiply-adds of the direct algorithm, per second)")
    _legend(axes, columns=len(names) + 2)
    return _svg(figure)


def roofline_plot(compared: Sequence[Layer], roofline: Roofline) -> str:
    """Each layer's speed over its arithmetic intensity, under the limits of the machine."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    figure, axes = _figure(4.6)
    timed = [layer for layer in compared if layer.ours.gflops]
    intensities = [layer.spec.arithmetic_intensity for layer in timed]
    ridge = roofline.ridge
    low, high = min([*intensities, ridge]) / 2, max([*intensities, ridge]) * 2
    for bandwidth, style, name in (
        (roofline.memory_gbytes, "-", "memory"),
        (roofline.cache_gbytes, ":", "second-level cache"),
    ):
        xs = [low, max(low, roofline.gflops / bandwidth), high]
        ys = [min(roofline.gflops, x * bandwidth) for x in xs]
        text = f"limit of {name}, {bandwidth:.0f} GB/s"
        axes.plot(xs, ys, style, color=LIMIT, linewidth=1.2, label=text)
    best = [layer.best_peer for layer in timed]
    speeds = [peer.gflops if peer else None for peer in best]
    _dots(axes, list(zip(intensities, speeds, strict=True)), PEER, "best peer")
    speeds = [layer.ours.gflops for layer in timed]
    _dots(axes, list(zip(intensities, speeds, strict=True)), OURS, "tvmconv")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("operations per byte moved (input, weights and output once)")
    axes.set_ylabel("GFLOP/s")
    axes.grid(color=GRID, linewidth=0.6)
    _legend(axes, columns=4)
    return _svg(figure)


def errors(compared: Sequence[Layer]) -> str:
    """Difference to torch in float64 of the kernel and its best peer, and the kernel's bound."""
    figure, axes = _bars([label(layer.spec) for layer in compared])
    for y, layer in enumerate(compared):
        if layer.ours.bound:
            axes.plot([layer.ours.bound] * 2, [y - 0.35, y + 0.35], color=LIMIT, linewidth=2)
    best = [layer.best_peer for layer in compared]
    axes.plot([], [], color=LIMIT, linewidth=2, label="stated bound")
    _dots(axes, [(p.max_error if p else None, y) for y, p in enumerate(best)], PEER, "best peer")
    ours = [(layer.ours.max_error, y) for y, layer in enumerate(compared)]
    _dots(axes, ours, OURS, "tvmconv")
    axes.set_xscale("log")
    axes.set_xlabel("absolute error against float64, inputs and weights of unit variance")
    _legend(axes, columns=3)
    return _svg(figure)


def code_sizes(compared: Sequence[Layer]) -> str:
    """Machine code per kernel."""
    figure, axes = _bars([label(layer.spec) for layer in compared])
    sizes = [(layer.ours.code_bytes or 0) / 1024 for layer in compared]
    axes.barh(range(len(sizes)), sizes, color=OURS, height=0.7)
    for i, size in enumerate(sizes):
        _beside(axes, size, i, f"{size:.1f}")
    axes.axvline(CODE_AIM_KB, color=LIMIT, linewidth=1, linestyle="--")
    axes.set_xlim(0, 1.12 * max([CODE_AIM_KB, *sizes]))
    axes.set_xlabel(f"KB of machine code, without weights (dashed: the aim, {CODE_AIM_KB} KB)")
    return _svg(figure)


def bundle_sizes(sizes: Mapping[str, int]) -> str:
    """What the files of a bundle weigh, in MB, by kind."""
    kinds = sorted(sizes, key=lambda kind: sizes[kind], reverse=True)
    figure, axes = _bars(kinds)
    values = [sizes[kind] / (1 << 20) for kind in kinds]
    axes.barh(range(len(values)), values, color=OURS, height=0.7)
    for i, value in enumerate(values):
        _beside(axes, value, i, f"{value:.2f} MB")
    axes.set_xlim(0, 1.2 * max([1e-3, *values]))
    axes.set_xlabel("MB")
    return _svg(figure)


def _beside(axes: "Axes", x: float, y: float, text: str) -> None:
    """Write a small text to the right of a bar's end."""
    axes.annotate(
        text,
        (x, y),
        (4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=LIMIT,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )


def _dots(axes: "Axes", points: Sequence[Point], color: str, name: str) -> None:
    """Scatter the points that have both numbers."""
    known = [(x, y) for x, y in points if x and y is not None]
    # Peers are larger and drawn first, so that one just below ours still shows.
    size, order = (20, 4) if color == OURS else (34, 3)
    xs, ys = [x for x, _ in known], [y for _, y in known]
    axes.scatter(xs, ys, size, color, label=name, zorder=order)


def _bars(names: Sequence[str]) -> "tuple[Figure, Axes]":
    """A figure with one named row per bar, the first on top."""
    figure, axes = _figure(0.9 + 0.235 * max(2, len(names)))
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    return figure, axes


def _figure(height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    axes = figure.subplots()
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)
    return figure, axes


def _legend(axes: "Axes", columns: int) -> None:
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0,
    )


def _svg(figure: "Figure") -> str:
    text = io.StringIO()
    # No date: the same figures give the same file.
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
