"""`tvmconv validate FOLDER --emulate` of bundles for GPUs: their CUDA source is proven."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from tvmconv.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

    from tvmconv.emulate.cuda.bundles import SourceReport

# What a reader of the output must not take for more than it is.
PROVEN = "source and launches on this processor; the machine code was not run"


def validate_sources(folders: Sequence[str], seed: int, output: Output) -> int:
    """Self-test and proof of the source of every target; 0 only when all of it passed.

    Raises:
        BundleError: a bundle without its source.
    """
    from tvmconv.bundle.cuda_loader import read
    from tvmconv.emulate.cuda.bundles import validate_source

    held = [(bundle, target) for bundle in map(read, folders) for target in bundle.targets]
    steps = sum(len(bundle.kernels) for bundle, _ in held) + 1
    with output.progress(steps, "validating") as step:
        found = [
            (str(bundle.folder), validate_source(bundle, target, seed=seed, step=step))
            for bundle, target in held
        ]
    ok = all(report.ok for _, report in found)
    if output.as_json:
        rows = [{"bundle": f, "proven": PROVEN, "ok": r.ok, **asdict(r)} for f, r in found]
        output.document("validate", ok, {"bundles": rows})
        return 0 if ok else 1
    console = output.console()
    for folder, report in found:
        _print(folder, report, console)
    return 0 if ok else 1


def _print(folder: str, report: "SourceReport", console: "Console") -> None:
    rows, count = report.selftest.rows, len(report.reports)
    console.print(f"{folder}: {report.target}, {PROVEN}", highlight=False, soft_wrap=True)
    passed, good = sum(row.ok for row in rows), sum(one.ok for one in report.reports)
    style = "green" if passed == count else "red"
    console.print(f"  [{style}]self-test: {passed} of {count} kernels right[/]", highlight=False)
    style = "green" if good == count else "red"
    console.print(f"  [{style}]against torch: {good} of {count} passed every check[/]",
                  highlight=False)  # fmt: skip
    for row, one in zip(rows, report.reports, strict=True):
        if not row.ok:
            console.print(f"  FAIL {row.symbol}: {row.text}", markup=False, highlight=False)
        if not one.ok:
            console.print(f"  FAIL {row.symbol}\n{one}", markup=False, highlight=False)
