"""The convolutions of ResNet-50: compile, prove, time beside torch, export, self-test, report.

Started by scripts/quickstart, which sets the environment up first.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

import tvmconv as tc
from tvmconv import workloads
from tvmconv.bench import layers as by_layer
from tvmconv.bench import measure
from tvmconv.bench.labels import kilobytes
from tvmconv.bench.report import Card, write_report
from tvmconv.bench.table import print_measured
from tvmconv.cli.arguments import load_tvm
from tvmconv.cli.export import folder_sizes
from tvmconv.cli.output import Output, Step
from tvmconv.kernel import Kernel

SELFTEST = """
import sys
from tvmconv.bundle import load
result = load(sys.argv[1]).selftest()
foreign = {"tvm", "tvm_ffi", "torch"} & set(sys.modules)
assert not foreign, f"the bundle's loader imported {foreign}"
print(result)
sys.exit(not result.ok)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet50", help="see `tvmconv workloads`")
    parser.add_argument("--seconds", type=float, default=0.25, help="per layer and contestant")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for results")
    args = parser.parse_args()
    started = time.perf_counter()
    console = Console(width=None if sys.stdout.isatty() else 120)
    layers = workloads.load(args.network, fused=True)
    output = Output(as_json=False)

    with output.progress(len(layers) + 1, "compiling") as step:
        step("loading TVM")
        load_tvm()
        kernels = []
        for layer in layers:
            step(layer.name)
            kernels.append(tc.compile(layer.spec))
    seconds = sum(kernel.compile_seconds for kernel in kernels)
    say(console, f"compiled {len(kernels)} convolutions of {args.network} in {seconds:.1f} s")

    with output.progress(len(layers), "proving") as step:
        reports = []
        for kernel, layer in zip(kernels, layers, strict=True):
            step(layer.name)
            reports.append(tc.validate(kernel))
    failed = [report for report in reports if not report.ok]
    say(console, f"{len(reports) - len(failed)} of {len(reports)} agree with torch in every check")
    for report in failed:
        console.print(str(report), style="red", markup=False, highlight=False)

    with output.progress(len(layers), "timing") as step:
        measured = measure(announced(kernels, step), seconds=args.seconds)
    print_measured(measured, console)

    folder = args.output / args.network
    tc.export(kernels, folder)
    sizes = folder_sizes(folder)
    say(console, f"exported {folder}: {kilobytes(sum(sizes.values()))}, no TVM or torch in it")
    selftest = subprocess.run(
        [sys.executable, "-c", SELFTEST, str(folder)], capture_output=True, text=True, check=False
    )
    passed = selftest.returncode == 0
    say(console, f"its self-test, in a process without TVM and torch: {'ok' if passed else 'FAIL'}")
    if not passed:
        console.print(selftest.stdout + selftest.stderr, style="red", markup=False)

    whole = sum(
        layer.repeats * (row.ours.min_seconds or 0)
        for layer, row in zip(layers, by_layer(measured.rows), strict=True)
    )
    cards = (
        Card(f"{len(reports) - len(failed)} of {len(reports)}", "kernels agree with torch"),
        Card(f"{whole * 1e3:.1f} ms", f"all {sum(one.repeats for one in layers)} convolutions"),
        Card("passed" if passed else "FAILED", "self-test of the bundle"),
        Card(f"{seconds:.1f} s", "to compile"),
    )
    title = f"The convolutions of {args.network}"
    path = args.output / "report.html"
    report_at = write_report(measured, path, title=title, cards=cards, bundle=sizes)
    say(console, f"report: {report_at.resolve()}  ({time.perf_counter() - started:.0f} s in all)")
    return 0 if passed and measured.ok and not failed else 1


def announced(kernels: list[Kernel], step: Step) -> Iterator[Kernel]:
    for kernel in kernels:
        step(str(kernel.spec))
        yield kernel


def say(console: Console, text: str) -> None:
    console.print(text, style="bold", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
