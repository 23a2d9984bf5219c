"""`tvmconv bench`: time compiled convolutions beside their peers, with every answer checked."""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.cli.arguments import (
    add_compile,
    add_specs,
    chosen_layers,
    compile_layer,
    load_tvm,
)
from tvmconv.cli.output import Output, Step
from tvmconv.errors import ArgumentError, BuildFailed, UnsupportedSpec

if TYPE_CHECKING:
    from tvmconv.bench import Measured, Row
    from tvmconv.kernel import Kernel
    from tvmconv.workloads import Layer

WRITE_EVERY_SECONDS = 5.0  # a document of 300 layers takes 0.1 s to write
INTERRUPTED = 130
OWN_JSON = True  # the one command whose document can also go to a file

EXAMPLES = """\
Peers: torch, onnxruntime, openvino, ncnn; `all` is these four, metaschedule:TRIALS must be named:
it tunes each layer for minutes. `none` times tvmconv alone. A ratio above 1 means that tvmconv is
faster. Ctrl-C ends the run; what was measured is printed and written.

examples:
  tvmconv bench conv2d_n1c64s56x56_o64k3x3_p1 --seconds 1 --peers all
  tvmconv bench resnet50 --fused --layout last --peers torch,ncnn --report out/resnet50.html
  tvmconv bench all --peers all --seconds 0.1 --json out/all.json
  tvmconv bench mobilenet_v2:3 --threads 2 --cold --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_specs(parser)
    add_compile(parser)
    parser.add_argument(
        "--peers", nargs="*", default=["torch"], metavar="NAME", help="what to compare with"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.25,
        metavar="S",
        help="measuring time per convolution and contestant (default: 0.25)",
    )
    parser.add_argument(
        "--cold", action="store_true", help="touch 64 MB of other memory before each timed call"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="write an HTML report as well; with --records also the course of their tuning",
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const=True,
        default=False,
        type=Path,
        metavar="FILE",
        help="print one JSON document, or write it to FILE while the run goes on",
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Compile, measure, print; 0 only when all ran and all answers were right."""
    from tvmconv.bench import measure
    from tvmconv.bench.peers import chosen
    from tvmconv.bench.table import print_measured

    layers = chosen_layers(args)
    chosen(args.peers)
    document = _Document(args.json) if isinstance(args.json, Path) else None
    with output.progress(len(layers) + 1, "measuring") as step:
        measured = measure(
            _compiled(args, layers, step),
            args.peers,
            threads=args.threads,
            seconds=args.seconds,
            cold=args.cold,
            on_layer=document.update if document else lambda measured: None,
        )
    written = [document.write(measured)] if document else []
    if args.report is not None and measured.rows:
        from tvmconv.bench.curves import curves
        from tvmconv.bench.report import write_report
        from tvmconv.tuning.records import read_records

        title = f"tvmconv: {' '.join(args.specs)}"
        found = curves(record for path in args.records or () for record in read_records(path)[0])
        written.append(write_report(measured, args.report, title=title, curves=found))
    if output.as_json:
        output.document("bench", measured.ok, content(measured, args.report))
    else:
        console = output.console()
        print_measured(measured, console)
        for path in written:
            console.print(f"written: {path}", highlight=False, soft_wrap=True)
    if not measured.complete:
        return INTERRUPTED
    return 0 if measured.ok else 1


def content(measured: "Measured", report: Path | None = None) -> dict[str, Any]:
    """What the document says beside its command."""
    return measured.as_dict() | {"report": str(report) if report else None}


def _compiled(
    args: argparse.Namespace, layers: "list[Layer]", step: Step
) -> "Iterator[Kernel | Row]":
    """Compile each layer when it is its turn; one that cannot be compiled is a row that says so."""
    from tvmconv.bench.rows import OURS, Row

    step("loading TVM")
    load_tvm()
    for layer in layers:
        step(layer.name)
        try:
            yield compile_layer(args, layer)
        except (UnsupportedSpec, BuildFailed) as error:
            yield Row(
                spec=str(layer.spec),
                contestant=OURS,
                status="failed",
                detail=str(error),
                threads=args.threads,
                flops=layer.spec.flops,
                bytes_moved=layer.spec.bytes_moved,
            )


@dataclass
class _Document:
    """The JSON file of a run, written anew now and then: what is in it is always whole."""

    path: Path
    written: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Find out before the run, not after it, whether the file can be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()
        except OSError as error:
            raise ArgumentError(
                "--json", str(self.path), f"a file to write ({error.strerror})"
            ) from None

    @property
    def _partial(self) -> Path:
        return self.path.with_name(f"{self.path.name}.partial")

    def update(self, measured: "Measured") -> None:
        """Write what is known when the last time was long ago."""
        if time.monotonic() - self.written > WRITE_EVERY_SECONDS:
            self.write(measured)

    def write(self, measured: "Measured") -> Path:
        """Write what is known."""
        whole = {"command": "bench", "ok": measured.ok, **content(measured)}
        self._partial.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        self._partial.replace(self.path)
        self.written = time.monotonic()
        return self.path
