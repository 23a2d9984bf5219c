#!/usr/bin/env python
"""Measure how exact each algorithm is, torch's own float32 beside it, and write docs/accuracy.md.

    scripts/accuracy_table.py
    scripts/accuracy_table.py --target x86_64_v3 --only fft --print
    scripts/accuracy_table.py conv2d_n1c8s20x20_o8k5x5_p2 --print

Inputs are standard normal. Errors are those against torch in float64: the largest relative to the
largest result, and the root of the mean square relative to that of the results.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tvmconv as tc  # noqa: E402 - found through the line above in a bare clone
from tvmconv import fills  # noqa: E402
from tvmconv.errors import TvmconvError  # noqa: E402
from tvmconv.reference import reference  # noqa: E402
from tvmconv.space import Config  # noqa: E402
from tvmconv.spec import ConvSpec  # noqa: E402
from tvmconv.target import load  # noqa: E402
from tvmconv.template import Task, Template, templates  # noqa: E402
from tvmconv.tolerance import ACCURACIES  # noqa: E402
from tvmconv.validate import call  # noqa: E402

DOCUMENT = ROOT / "docs" / "accuracy.md"
BEGIN, END = "<!-- begin table -->", "<!-- end table -->"
# Nothing is left out for being inexact.
ANY_ERROR = 1.0
Array = NDArray[Any]

SPECS: tuple[ConvSpec, ...] = (
    tc.conv2d((1, 16, 28, 28), 16, 3, padding=1),
    tc.conv2d((1, 64, 56, 56), 64, 3, padding=1),
    tc.conv2d((1, 256, 14, 14), 256, 3, padding=1),
    tc.conv2d((1, 512, 7, 7), 512, 3, padding=1),
    tc.conv2d((1, 32, 28, 28), 96, 5, padding=2),
    tc.conv2d((1, 64, 28, 28), 64, 9, padding=4),
    tc.conv2d((1, 3, 112, 112), 64, 7, stride=2, padding=3),
    tc.conv2d((1, 96, 56, 56), 96, 7, padding=3, groups=96),
    tc.conv2d((1, 64, 28, 28), 64, 31, padding=15, groups=64),
    tc.conv2d((1, 64, 28, 28), 256, 1),
    tc.conv2d((1, 1024, 14, 14), 256, 1),
    tc.conv2d((1, 128, 56, 56), 128, 3, stride=2, padding=1),
    tc.conv1d((1, 64, 1600), 64, 3, padding=1),
    tc.conv1d((1, 64, 1600), 64, 5, padding=2),
    tc.conv1d((1, 1, 16000), 32, 1024),
    tc.conv3d((1, 32, 8, 14, 14), 32, 3, padding=1),
    tc.conv_transpose2d((1, 64, 16, 16), 32, 4, stride=2, padding=1),
)


@dataclass(frozen=True)
class Error:
    """Of one answer, against float64."""

    largest: float
    rms: float

    @classmethod
    def of(cls, answer: Array, exact: Array) -> "Error":
        difference = answer.astype(np.float64) - exact
        scale = float(np.sqrt(np.mean(exact**2)))
        rms = float(np.sqrt(np.mean(difference**2))) / scale
        return cls(float(np.abs(difference).max() / np.abs(exact).max()), rms)

    def __str__(self) -> str:
        return f"{self.largest:.1e} | {self.rms:.1e}"


@dataclass(frozen=True)
class Row:
    """One algorithm's answer to one spec."""

    accuracy: str
    kernel: tc.Kernel
    error: Error
    own: Error

    def __str__(self) -> str:
        limit = ACCURACIES[self.accuracy].relative_error
        kind = self.accuracy if self.accuracy != "direct" else self.kernel.algorithm
        return f"| `{self.kernel.spec}` | {kind} | {self.error} | {self.own} | {limit:.0e} |"


def configs(task: Task) -> Iterator[tuple[Template, Config, str]]:
    """The first config of each accuracy class of each algorithm, in the order of prediction."""
    seen = set()
    for template in templates(task.target.family):
        if template.supports(task) is not None or template.id.endswith(".general"):
            continue
        try:
            listed = (template.default(task), *template.shortlist(task))
        except TvmconvError:
            continue
        for config in listed:
            accuracy = template.accuracy(task, config)
            if (template.algorithm, accuracy) not in seen:
                seen.add((template.algorithm, accuracy))
                yield template, config, accuracy


def measure(spec: ConvSpec, target: str, only: str | None) -> Iterator[Row]:
    """One row per accuracy class."""
    operands = fills.normal(spec)
    exact = reference(spec, operands)
    own = Error.of(reference(spec, operands, "float32"), exact)
    for template, config, accuracy in configs(Task(spec, load(target), max_error=ANY_ERROR)):
        if only not in (None, accuracy, template.algorithm):
            continue
        kernel = tc.compile(spec, target, algorithm=template.id, config=config, max_error=ANY_ERROR)
        yield Row(accuracy, kernel, Error.of(call(kernel, operands), exact), own)


def table(specs: Iterable[ConvSpec], target: str, only: str | None) -> Iterator[str]:
    """Lines of markdown."""
    yield "| spec | algorithm | max | rms | torch max | torch rms | ceiling of max |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for spec in specs:
        for row in sorted(measure(spec, target, only), key=lambda row: row.error.rms):
            yield str(row)


def main(arguments: list[str] | None = None) -> int:
    """Write the table between the document's markers, or print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("specs", nargs="*", help="specs to measure instead of the document's")
    parser.add_argument("--target", default="host", help="a target that runs here")
    parser.add_argument("--only", help="an algorithm or an accuracy class")
    parser.add_argument("--print", action="store_true", help="print, and leave the document")
    args = parser.parse_args(arguments)
    if not args.print and (args.specs or args.only):
        parser.error("the document holds the whole table; add --print")
    specs = [ConvSpec.parse(text) for text in args.specs] or SPECS
    lines = []
    for line in table(specs, args.target, args.only):
        print(line, flush=True)
        lines.append(line)
    if not args.print:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        DOCUMENT.write_text("\n".join([before + BEGIN, *lines, END + after]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
