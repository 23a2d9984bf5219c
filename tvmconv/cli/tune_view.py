"""How `tvmconv tune` looks: a bar and a table while it runs, a table and a summary at its end."""

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tvmconv.bench.labels import label, microseconds
from tvmconv.spec import ConvSpec
from tvmconv.tuning.records import tuning_key
from tvmconv.workloads import Layer

if TYPE_CHECKING:
    from tvmconv.tuning.result import Progress as State
    from tvmconv.tuning.result import Tuned, TuneResult

# Lines of the terminal that the bar, the heading and the prompt need.
OTHER_LINES = 6
# How often a run says where it is when there is no terminal.
PLAIN_EVERY_SECONDS = 10.0


def names_by_key(layers: Sequence[Layer]) -> dict[str, str]:
    """What to call a spec: its name in a network, or what it looks like."""
    names: dict[str, str] = {}
    for layer in layers:
        own = layer.name != str(layer.spec)
        names.setdefault(tuning_key(layer.spec), layer.name if own else label(layer.spec))
    return names


class LiveTable:
    """Shows a run on stderr: live in a terminal, a line now and then elsewhere."""

    def __init__(self, names: Mapping[str, str], *, hidden: bool) -> None:
        """Take the names of the specs; ``hidden`` shows nothing."""
        self._names, self._hidden = names, hidden
        self._console = Console(stderr=True)
        self._plain = hidden or not self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._task = self._bar.add_task("searching", total=1.0, note="")
        # Redirected streams would be inherited by the builders, locks and all.
        self._live = Live(
            self._bar,
            console=self._console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._said = 0.0

    def __enter__(self) -> "LiveTable":
        if not self._plain:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._plain:
            self._live.stop()

    def update(self, state: "State") -> None:
        """Show a new state."""
        note = f"{state.trials} trials, {total_text(state.layers)}"
        if self._plain:
            now = time.monotonic()
            if not self._hidden and now >= self._said + PLAIN_EVERY_SECONDS:
                self._said = now
                print(f"{state.phase} {state.share:.0%}: {note}", file=sys.stderr, flush=True)
            return
        self._bar.update(self._task, completed=state.share, description=state.phase, note=note)
        rows = max(3, self._console.size.height - OTHER_LINES)
        self._live.update(Group(self._bar, table(state.layers, self._names, state.changed, rows)))


def total_text(layers: "Sequence[Tuned]") -> str:
    """The sum over all occurrences, before and after, in one phrase."""
    known = [t for t in layers if t.seconds < float("inf") > t.default_seconds]
    if not known:
        return "nothing measured yet"
    before = sum(t.weight * t.default_seconds for t in known)
    after = sum(t.weight * t.seconds for t in known)
    return f"{_time(before)} → {_time(after)} ({before / after:.2f}x)"


def table(
    layers: "Sequence[Tuned]",
    names: Mapping[str, str],
    changed: int | None = None,
    most: int | None = None,
) -> Table:
    """A row per spec; where they do not all fit, those that take the longest."""
    found = Table(box=None, header_style="bold", pad_edge=False)
    found.add_column("layer", no_wrap=True, max_width=34, overflow="ellipsis")
    for title in ("times", "us", "GF/s", "gain", "trials"):
        found.add_column(title, justify="right", no_wrap=True)
    found.add_column("template", no_wrap=True)
    found.add_column("config", no_wrap=True, overflow="ellipsis", ratio=1)
    order = list(range(len(layers)))
    if most is not None and len(order) > most:
        by_share = sorted(order, key=lambda i: -_share(layers[i]))
        order = sorted(by_share[: most - 1])
    for index in order:
        style = "bold" if index == changed else ""
        found.add_row(*_cells(layers[index], names), style=style)
    if len(order) < len(layers):
        found.add_row(f"… and {len(layers) - len(order)} that take less time", style="dim")
    return found


def _share(tuned: "Tuned") -> float:
    return tuned.weight * (tuned.seconds if tuned.seconds < float("inf") else 0.0)


def _cells(tuned: "Tuned", names: Mapping[str, str]) -> tuple[str | Text, ...]:
    name = names.get(tuning_key(tuned.spec), tuned.spec)
    trials = str(tuned.trials)
    if tuned.failures:
        trials += f" ({tuned.failures} failed)"
    if tuned.template is None:
        state = "none worked" if tuned.trials else ""
        return name, f"{tuned.weight:g}", "-", "-", "-", trials, Text(state, style="red"), ""
    spec = ConvSpec.parse(tuned.spec)
    gain = f"{tuned.gain:.2f}x" if tuned.default_seconds < float("inf") else "-"
    return (
        name,
        f"{tuned.weight:g}",
        microseconds(tuned.seconds),
        f"{spec.flops / tuned.seconds / 1e9:.0f}",
        Text(gain, style="green" if tuned.gain >= 1.005 else ""),
        trials,
        tuned.template,
        (tuned.config or "").replace(",", " "),
    )


def print_result(result: "TuneResult", layers: Sequence[Layer], console: Console) -> None:
    """The table of a finished run, the sum, and what to do with it."""
    names = names_by_key(layers)
    console.print(table(result.layers, names))
    for warning in result.warnings:
        console.print(warning, style="yellow", markup=False, highlight=False)
    took = _time(result.elapsed)
    text = f"{total_text(result.layers)} after {result.trials} trials in {took}"
    console.print(text, style="bold", highlight=False)
    if result.stopped == "interrupted":
        hint = "interrupted; the same command goes on from here"
        console.print(f"{hint} ({result.records})", style="yellow", highlight=False)
        return
    if result.stopped == "device lost":
        hint = "no device is left; the same command goes on from here"
        console.print(f"{hint} ({result.records})", style="yellow", highlight=False)
        return
    if result.stopped == "early stop":
        console.print("stopped early: nothing improved any more", style="dim")
    console.print(f"records: {result.records}", highlight=False, soft_wrap=True)
    hint = f"use them: tvmconv compile SPEC --records {result.records}"
    console.print(hint, style="dim", highlight=False, soft_wrap=True)


def _time(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min"
