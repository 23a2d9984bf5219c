"""The plots of the report; each function returns an SVG document as text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tvmconv.bench.curves import Curve, median_curve
from tvmconv.bench.drawing import (
    BAND,
    BEST_PEER,
    GRID,
    LIMIT,
    OURS,
    SLOWER,
    WIDTH_INCHES,
    beside,
    color_of,
    dots,
    figure,
    legend,
    plain,
    row_figure,
    svg,
)
from tvmconv.bench.labels import label
from tvmconv.bench.roofline import Roofline
from tvmconv.bench.rows import OURS as THIS
from tvmconv.bench.rows import Layer, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CODE_AIM_KB = 40
BINS_PER_DECADE = 6
LEAST_ERROR = 1e-9  # exact answers stand here


def ratios(compared: Sequence[Layer]) -> str:
    """How many times faster than the best peer each layer is."""
    fig, axes = row_figure([label(layer.spec) for layer in compared])
    values = [layer.ratio or 0.0 for layer in compared]
    colors = [OURS if value >= 1 else SLOWER for value in values]
    axes.barh(range(len(values)), values, color=colors, height=0.7)
    axes.axvline(1, color=LIMIT, linewidth=1, linestyle="--")
    for i, layer in enumerate(compared):
        text = f"{values[i]:.2f}  {layer.best_peer.contestant}" if layer.best_peer else "no peer"
        beside(axes, values[i], i, text)
    axes.set_xlim(0, 1.3 * max([1.0, *values]))
    axes.set_xlabel("speed relative to the best peer (1 = equal)")
    return svg(fig)


def throughput(compared: Sequence[Layer], roofline: Roofline | None) -> str:
    """GFLOP/s of every contestant, layer by layer."""
    fig, axes = row_figure([label(layer.spec) for layer in compared])
    for y in range(0, len(compared), 2):
        axes.axhspan(y - 0.5, y + 0.5, color=BAND, linewidth=0)
    ours = [layer.ours.gflops or 0.0 for layer in compared]
    axes.barh(range(len(ours)), ours, color=OURS, height=0.7, alpha=0.85, label="tvmconv")
    names = list(dict.fromkeys(row.contestant for layer in compared for row in layer.peers))
    for name in names:
        points = [
            (row.gflops, y)
            for y, layer in enumerate(compared)
            for row in layer.peers
            if row.contestant == name and row.ok
        ]
        dots(axes, points, color_of(name), name)
    if roofline is not None:
        axes.axvline(roofline.gflops, color=LIMIT, linewidth=1, linestyle="--", label="peak")
    axes.set_xlim(left=0)
    axes.set_xlabel("GFLOP/s (twice the multiply-adds of the direct algorithm, per second)")
    legend(axes, columns=6)
    return svg(fig)


def roofline_plot(compared: Sequence[Layer], roofline: Roofline) -> str:
    """Each layer's speed over its arithmetic intensity, under the limits of the machine."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    fig, axes = figure(4.6)
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
    dots(axes, list(zip(intensities, speeds, strict=True)), BEST_PEER, "best peer")
    speeds = [layer.ours.gflops for layer in timed]
    dots(axes, list(zip(intensities, speeds, strict=True)), OURS, "tvmconv")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("operations per byte moved (input, weights and output once)")
    axes.set_ylabel("GFLOP/s")
    axes.grid(color=GRID, linewidth=0.6)
    legend(axes, columns=4)
    return svg(fig)


def errors(rows: Sequence[Row]) -> str:
    """One histogram of relative errors per contestant, and ours as shares of the bound."""
    from matplotlib.figure import Figure

    values: dict[str, list[float]] = {}
    for row in rows:
        if row.relative_error is not None:
            values.setdefault(row.contestant, []).append(max(row.relative_error, LEAST_ERROR))
    names = list(values)
    every = np.concatenate([*values.values(), [1e-7]])
    low, high = np.floor(np.log10(every.min())), np.ceil(np.log10(every.max()))
    edges = np.logspace(low, high, int(max(1, high - low) * BINS_PER_DECADE) + 1)
    fig = Figure(figsize=(WIDTH_INCHES, 1.1 + 0.36 * max(3, len(names))), layout="constrained")
    left, right = fig.subplots(1, 2, width_ratios=(2, 1))
    for y, name in enumerate(names):
        counts, _ = np.histogram(values[name], edges)
        heights = 0.85 * counts / max(1, counts.max())
        left.stairs(y - heights, edges, baseline=y, fill=True, color=color_of(name), alpha=0.9)
        median = float(np.median(values[name]))
        left.plot([median] * 2, [y, y - 0.85], color="white", linewidth=1.4)
    plain(left)
    left.set_xscale("log")
    left.set_yticks([y - 0.4 for y in range(len(names))], names, fontsize=8)
    left.set_ylim(max(1, len(names)) - 0.9, -1)
    left.tick_params(axis="y", length=0)
    left.grid(axis="x", color=GRID, linewidth=0.6)
    left.set_xlabel("largest error / largest value of the output (white: the median layer)")
    _shares(right, rows)
    return svg(fig)


def _shares(axes: "Axes", rows: Sequence[Row]) -> None:
    """Our errors as shares of what they may be."""
    from matplotlib.ticker import MaxNLocator

    ours = [row for row in rows if row.contestant == THIS]
    shares = [row.max_error / row.bound for row in ours if row.bound and row.max_error is not None]
    plain(axes)
    axes.hist(shares, np.linspace(0, max([1.0, *shares]), 21).tolist(), color=OURS, alpha=0.9)
    axes.axvline(1, color=LIMIT, linewidth=1, linestyle="--")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("tvmconv: error / stated bound")
    axes.set_ylabel("layers")
    axes.grid(axis="y", color=GRID, linewidth=0.6)


def tuning(found: Sequence[Curve]) -> str:
    """Best so far against trials: every task thin, the median bold, and the shuffled median."""
    from matplotlib.ticker import FormatStrFormatter, PercentFormatter

    fig, axes = figure(4.2)
    for curve in found:
        axes.step(_counts(curve.found), curve.found, color=OURS, alpha=0.18, linewidth=0.8)
    shuffled = median_curve(curve.shuffled for curve in found)
    text = "same trials, random order"
    axes.plot(_counts(shuffled), shuffled, "--", color=LIMIT, linewidth=1.6, label=text)
    middle = median_curve(curve.found for curve in found)
    text = "median of the tasks"
    axes.step(_counts(middle), middle, where="post", color=OURS, linewidth=2.2, label=text)
    axes.axhline(0.95, color=BEST_PEER, linewidth=0.9, linestyle=":", label="95 %")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FormatStrFormatter("%d"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    lowest = min(0.5, float(middle[0]), float(shuffled[0]))
    axes.set_ylim(max(0.0, lowest - 0.05), 1.02)
    axes.set_xlabel("trials")
    axes.set_ylabel("speed, share of the best found")
    axes.grid(color=GRID, linewidth=0.6)
    legend(axes, columns=3)
    return svg(fig)


def _counts(curve: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> range:
    return range(1, len(curve) + 1)


def code_sizes(compared: Sequence[Layer]) -> str:
    """Machine code per kernel."""
    fig, axes = row_figure([label(layer.spec) for layer in compared])
    sizes = [(layer.ours.code_bytes or 0) / 1024 for layer in compared]
    axes.barh(range(len(sizes)), sizes, color=OURS, height=0.7)
    for i, size in enumerate(sizes):
        beside(axes, size, i, f"{size:.1f}")
    axes.axvline(CODE_AIM_KB, color=LIMIT, linewidth=1, linestyle="--")
    axes.set_xlim(0, 1.12 * max([CODE_AIM_KB, *sizes]))
    axes.set_xlabel(f"KB of machine code, without weights (dashed: the aim, {CODE_AIM_KB} KB)")
    return svg(fig)


def bundle_sizes(sizes: Mapping[str, int]) -> str:
    """What the files of a bundle weigh, in MB, by kind."""
    kinds = sorted(sizes, key=lambda kind: sizes[kind], reverse=True)
    fig, axes = row_figure(kinds)
    values = [sizes[kind] / (1 << 20) for kind in kinds]
    axes.barh(range(len(values)), values, color=OURS, height=0.7)
    for i, value in enumerate(values):
        beside(axes, value, i, f"{value:.2f} MB")
    axes.set_xlim(0, 1.2 * max([1e-3, *values]))
    axes.set_xlabel("MB")
    return svg(fig)
