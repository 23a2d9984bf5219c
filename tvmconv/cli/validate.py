"""`tvmconv validate`: prove compiled convolutions, or a bundle, against torch."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.cli.arguments import add_compile, add_specs, chosen_layers, compile_layers
from tvmconv.cli.output import Output
from tvmconv.cli.validate_source import validate_sources
from tvmconv.errors import ArgumentError

if TYPE_CHECKING:
    from rich.console import Console

    from tvmconv.emulate.bundles import VariantReport
    from tvmconv.kernel import Kernel
    from tvmconv.validate import Report

EXAMPLES = """\
With --emulate the kernels run in a program of their own under the target's emulator (QEMU), which
proves targets that this machine is not; `tvmconv targets` says which emulators are here. Kernels of
GPUs run on this processor, thread by thread, and races and accesses out of bounds are found.
In place of SPEC the folder of a bundle: its C self-test runs for every target that it holds, and
its kernels' answers are compared with torch's. A bundle for GPUs is self-tested on this machine's
GPU; with --emulate, one of `export --source` is proven by its CUDA source and launches, while its
machine code is not run.

examples:
  tvmconv validate conv2d_n1c64s56x56_o64k3x3_p1_bias_relu
  tvmconv validate mobilenet_v2 --fused --target x86_64_v3
  tvmconv validate conv1d_n1c8s50_o16k3_p1 --seed 7 --json
  tvmconv validate conv1d_n1c8s50_o16k3_p1 --target pi4 --emulate
  tvmconv validate conv1d_n1c8s50_o16k3_p1 --target sm_90 --emulate
  tvmconv validate out/ --emulate
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_specs(parser)
    add_compile(parser)
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the inputs (default: 0)"
    )
    parser.add_argument("--emulate", action="store_true", help="run under the target's emulator")


def run(args: argparse.Namespace, output: Output) -> int:
    """Compile and validate; 0 only when every check of every convolution passed."""
    folders = [text for text in args.specs if (Path(text) / "manifest.json").is_file()]
    if folders:
        if len(folders) != len(args.specs):
            raise ArgumentError("SPEC", args.specs, "specs, or folders of bundles, not both")
        return _bundles(args, folders, output)
    layers = chosen_layers(args)
    with output.progress(2 * len(layers) + 2, "validating") as step:
        kernels = compile_layers(args, layers, step)
        step("loading torch")
        from tvmconv.emulate.proof import validate_kernels
        from tvmconv.validate import validate

        reports: list[Report] = []
        if args.emulate:
            reports = validate_kernels(kernels, seed=args.seed, step=step)
        else:
            for kernel, layer in zip(kernels, layers, strict=True):
                step(layer.name)
                reports.append(validate(kernel, seed=args.seed))
    ok = all(report.ok for report in reports)
    if output.as_json:
        output.document("validate", ok, {"reports": _rows(kernels, reports)})
        return 0 if ok else 1
    console = output.console()
    for kernel, report in zip(kernels, reports, strict=True):
        _print(f"{kernel.spec} [dim]{kernel.template_id}[/]", report, len(reports) == 1, console)
    if len(reports) > 1:
        passed = sum(report.ok for report in reports)
        console.print(f"{passed} of {len(reports)} convolutions passed every check")
    return 0 if ok else 1


def _rows(kernels: "Sequence[Kernel]", reports: "Sequence[Report]") -> list[dict[str, Any]]:
    return [
        {
            "spec": str(kernel.spec),
            "ok": report.ok,
            "template": kernel.template_id,
            "reproducer": report.reproducer,
            "checks": [asdict(check) for check in report.checks],
        }
        for kernel, report in zip(kernels, reports, strict=True)
    ]


def _print(name: str, report: "Report", whole: bool, console: "Console") -> None:
    style, word = ("green", "ok") if report.ok else ("red", "FAIL")
    console.print(f"[{style}]{word:4}[/] {name}")
    if whole or not report.ok:
        console.print(str(report), markup=False, highlight=False, soft_wrap=True)


def _bundles(args: argparse.Namespace, folders: Sequence[str], output: Output) -> int:
    """Self-test and proof of every target of every bundle."""
    from tvmconv.bundle import Bundle, CudaBundle, read
    from tvmconv.emulate.bundles import validate_variant, variants
    from tvmconv.emulate.runner import find_runner

    bundles = [(folder, read(folder)) for folder in folders]
    gpus = [folder for folder, bundle in bundles if isinstance(bundle, CudaBundle)]
    if gpus and len(gpus) < len(folders):
        raise ArgumentError("FOLDER", folders, "bundles for processors or for GPUs, not both")
    if gpus and args.emulate:
        return validate_sources(gpus, args.seed, output)
    if gpus:
        return _gpu_bundles(gpus, output)
    held = [(f, v) for f, b in bundles if isinstance(b, Bundle) for v in variants(b)]
    steps = sum(len(variant.kernels) + 1 for _, variant in held) + 1
    found: list[tuple[str, VariantReport]] = []
    with output.progress(steps, "validating") as step:
        for folder, variant in held:
            runner = find_runner(variant.target, native=not args.emulate)
            report = validate_variant(variant, seed=args.seed, runner=runner, step=step)
            found.append((folder, report))
    ok = all(report.ok for _, report in found)
    if output.as_json:
        rows = [{"bundle": folder, "ok": r.ok, **asdict(r)} for folder, r in found]
        output.document("validate", ok, {"bundles": rows})
        return 0 if ok else 1
    console = output.console()
    for folder, report in found:
        _print_variant(folder, report, console)
    return 0 if ok else 1


def _gpu_bundles(folders: Sequence[str], output: Output) -> int:
    """Self-tests of bundles on this machine's GPU."""
    from tvmconv.bundle import load

    with output.progress(len(folders) + 1, "validating") as step:
        tests = []
        for folder in folders:
            step(folder)
            tests.append(load(folder).selftest())
    ok = all(test.ok for test in tests)
    if output.as_json:
        rows = [{"bundle": f, "ok": t.ok, "rows": [asdict(row) for row in t.rows]}
                for f, t in zip(folders, tests, strict=True)]  # fmt: skip
        output.document("validate", ok, {"bundles": rows})
        return 0 if ok else 1
    for folder, test in zip(folders, tests, strict=True):
        output.console().print(f"{folder}\n{test}", markup=False, highlight=False)
    return 0 if ok else 1


def _print_variant(folder: str, report: "VariantReport", console: "Console") -> None:
    passed = sum(row.ok for row in report.selftest.rows)
    count = len(report.selftest.rows)
    console.print(f"{folder}: {report.target}, {report.library} library, on {report.runner}",
                  highlight=False)  # fmt: skip
    style = "green" if report.selftest.ok else "red"
    console.print(f"  [{style}]self-test: {passed} of {count} kernels right[/]", highlight=False)
    for row in report.selftest.rows:
        if not row.ok:
            console.print(f"  FAIL {row.symbol}: {row.text}", markup=False, highlight=False)
    good = sum(one.ok for one in report.reports)
    style = "green" if good == count else "red"
    console.print(f"  [{style}]against torch: {good} of {count} passed every check[/]",
                  highlight=False)  # fmt: skip
    for row, one in zip(report.selftest.rows, report.reports, strict=True):
        if not one.ok:
            _print(row.symbol, one, True, console)
