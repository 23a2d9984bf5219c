"""How commands speak: text for people, one JSON document for machines, progress on stderr."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160  # rich would fold tables at 80 columns where there is no terminal

Step = Callable[[str], None]


@dataclass(frozen=True)
class Output:
    """Where a command's results go."""

    as_json: bool

    def console(self) -> "Console":
        """A rich console on stdout; commands use it only when they print for people."""
        from rich.console import Console

        return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)

    def document(self, command: str, ok: bool, content: dict[str, Any]) -> None:
        """Print the one JSON document of a command."""
        print(json.dumps({"command": command, "ok": ok, **content}, indent=2))

    @contextmanager
    def progress(self, steps: int, what: str) -> Iterator[Step]:
        """Show a bar with an estimate on stderr while `steps` steps are done.

        The function that is given says which step begins; the bar appears only in a terminal.
        """
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[step]}"),
            console=Console(stderr=True),
            transient=True,
            disable=self.as_json or not sys.stderr.isatty(),
        )
        with bar:
            task = bar.add_task(what, total=steps, step="")
            begun = 0

            def begin(step: str) -> None:
                nonlocal begun
                bar.update(task, completed=begun, step=step)
                begun += 1

            yield begin
