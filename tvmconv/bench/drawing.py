"""What the plots of the report share: colours, figures, bars, dots, and SVG as text."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, SLOWER, LIMIT, GRID, BAND = "#1f6feb", "#c93c37", "#57606a", "#d8dee4", "#f6f8fa"
# One hue per library, one shade per way of running it.
COLORS = {
    "tvmconv": OURS,
    "torch_nchw": "#f2b880",
    "torch_channels_last": "#e8863a",
    "torch_frozen": "#b3560d",
    "torch_inductor": "#6e3606",
    "torch_grid_sample": "#f2b880",
    "torch_grid_sample_frozen": "#b3560d",
    "onnxruntime": "#2da44e",
    "openvino_nchw": "#b79be8",
    "openvino_nhwc": "#8250df",
    "ncnn": "#ee9fca",
    "ncnn_packed": "#bf3989",
    "metaschedule": "#57606a",
}
BEST_PEER = "#e8863a"
WIDTH_INCHES = 9.5
MANY_ROWS = 40  # from there on rows are lower and their names smaller

Point = tuple[float | None, float | None]


def color_of(contestant: str) -> str:
    """The colour of a contestant in every plot; a number of trials does not change it."""
    return COLORS.get(contestant.partition(":")[0], LIMIT)


def row_figure(names: Sequence[str]) -> "tuple[Figure, Axes]":
    """A figure with one named row per entry, the first on top."""
    many = len(names) > MANY_ROWS
    fig, axes = figure(0.9 + (0.165 if many else 0.235) * max(2, len(names)))
    axes.set_yticks(range(len(names)), names, fontsize=6.5 if many else 8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    # Where there are many rows, the scale is needed at both ends.
    axes.tick_params(axis="x", top=many, labeltop=many)
    return fig, axes


def figure(height: float) -> "tuple[Figure, Axes]":
    """A figure of the report's width."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    axes = fig.subplots()
    plain(axes)
    return fig, axes


def plain(axes: "Axes") -> None:
    """No frame but two thin lines, small letters."""
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)


def beside(axes: "Axes", x: float, y: float, text: str) -> None:
    """Write a small text to the right of a bar's end."""
    axes.annotate(
        text,
        (x, y),
        (4, 0),
        textcoords="offset points",
        va="center",
        fontsize=6.5 if axes.get_ylim()[0] > MANY_ROWS else 8,
        color=LIMIT,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
    )


def dots(axes: "Axes", points: Sequence[Point], color: str, name: str) -> None:
    """Scatter the points that have both numbers."""
    known = [(x, y) for x, y in points if x and y is not None]
    # Peers are larger and drawn first, so that one just below ours still shows.
    size, order = (20, 4) if color == OURS else (26, 3)
    xs, ys = [x for x, _ in known], [y for _, y in known]
    axes.scatter(xs, ys, size, color, label=name, zorder=order, linewidths=0.4, edgecolors="white")


def legend(axes: "Axes", columns: int) -> None:
    """A legend above the axes."""
    axes.legend(
        frameon=False,
        fontsize=8,
        ncols=columns,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.3,
        columnspacing=1.2,
        handletextpad=0.3,
    )


def svg(fig: "Figure") -> str:
    """The figure as an SVG document."""
    text = io.StringIO()
    # No date: the same figures give the same file.
    fig.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
