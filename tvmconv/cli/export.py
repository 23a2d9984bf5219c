"""`tvmconv export`: write a bundle that runs without TVM, torch and Python."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.bench.labels import kilobytes
from tvmconv.cli.arguments import add_compile, add_specs, chosen_layers, compile_layers
from tvmconv.cli.output import Output, Step
from tvmconv.errors import ArgumentError
from tvmconv.workloads import Layer

if TYPE_CHECKING:
    from rich.console import Console

    from tvmconv.bundle import AnyBundle
    from tvmconv.bundle.golden import SelfTest
    from tvmconv.kernel import Kernel

EXAMPLES = """\
The folder holds a shared and a static library with plain C functions, a header, a CMake file, a C
example, golden vectors and a self-test; docs/bundle-format.md describes it. Several targets, with
commas between, make one bundle, which picks the best one for the CPU or GPU that it is loaded on.

examples:
  tvmconv export conv2d_n1c64s56x56_o64k3x3_p1_bias_relu --output out/layer
  tvmconv export resnet50 --fused --output out/resnet50
  tvmconv export lenet5 --target x86_64_v2,x86_64_v3,x86_64_v4 --output out/any-pc
  tvmconv export mobilenet_v2 --target pi3,pi4,pi5 --output out/raspberry
  tvmconv export resnet50 --target sm_80,sm_90 --output out/gpu
  tvmconv export lenet5 --target sm_90 --source --output out/proven
  tvmconv export lenet5 --target cortex_m7 --format static --output out/firmware
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_specs(parser)
    add_compile(parser)
    parser.add_argument(
        "--output", "-o", type=Path, required=True, metavar="FOLDER", help="where to write it"
    )
    parser.add_argument(
        "--format",
        choices=("hosted", "static"),
        default="hosted",
        help="static: an archive for firmware, without threads, malloc and system",
    )
    parser.add_argument(
        "--source",
        action="store_true",
        help="for GPUs: ship the CUDA source too, for `tvmconv validate FOLDER --emulate`",
    )
    parser.add_argument(
        "--no-selftest", action="store_true", help="do not run the bundle (for another machine)"
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Compile, write the bundle, and run its self-test where the target runs here."""
    from tvmconv.bundle import export

    layers = chosen_layers(args)
    targets = [target.strip() for target in args.target.split(",")]
    with output.progress((len(layers) + 1) * len(targets) + 2, "exporting") as step:
        kernels = compile_targets(args, targets, layers, step)
        step("writing")
        bundle = export(kernels, args.output, format=args.format, source=args.source)
        step("self-test")
        here = [] if args.no_selftest or args.format == "static" else runnable(kernels)
        tests = selftests(bundle, here)
    sizes = folder_sizes(args.output)
    ok = all(test.ok for test in tests.values())
    if output.as_json:
        content = {
            "folder": str(args.output),
            "kernels": list(bundle.kernels),
            "targets": list(bundle.targets),
            "sizes": sizes,
            "selftest": ok if tests else None,
            "selftests": {target: test.ok for target, test in tests.items()},
        }
        output.document("export", ok, content)
        return 0 if ok else 1
    console = output.console()
    total = kilobytes(sum(sizes.values()))
    console.print(
        f"wrote {len(bundle.kernels)} kernels for {', '.join(bundle.targets)} to {args.output}: "
        f"{total}",
        highlight=False,
        soft_wrap=True,
    )
    for kind, size in sizes.items():
        console.print(f"  {kind:26} {kilobytes(size):>10}", highlight=False)
    print_selftests(tests, bundle, console)
    return 0 if ok else 1


def compile_targets(
    args: argparse.Namespace, targets: Sequence[str], layers: Sequence[Layer], step: Step
) -> "list[Kernel]":
    """Every layer for every target.

    Raises:
        ArgumentError: a target that is named twice.
        TvmconvError: what `tvmconv.compile` raises.
    """
    if len(set(targets)) < len(targets):
        raise ArgumentError("--target", args.target, "each target once")
    kernels = []
    for target in targets:
        chosen = argparse.Namespace(**(vars(args) | {"target": target}))
        kernels += compile_layers(chosen, layers, step)
    return kernels


def runnable(kernels: "Sequence[Kernel]") -> list[str]:
    """Ids of the targets whose code this machine runs."""
    return list(dict.fromkeys(k.target.id for k in kernels if k.target.runs_here))


def selftests(bundle: "AnyBundle", targets: Sequence[str]) -> "dict[str, SelfTest]":
    """What the self-test says of each of these targets; of GPUs' the one that is used here."""
    from tvmconv.bundle import CudaBundle

    if isinstance(bundle, CudaBundle):
        return {bundle.target: bundle.selftest()} if targets else {}
    found = {}
    for target in targets:
        bundle.use_target(target)
        found[target] = bundle.selftest()
    return found


def print_selftests(
    tests: "Mapping[str, SelfTest]", bundle: "AnyBundle", console: "Console"
) -> None:
    """A line for each target, and every row of a self-test that failed."""
    from tvmconv.bundle import CudaBundle

    passed = [target for target, test in tests.items() if test.ok]
    if passed:
        console.print(f"self-test passed: {', '.join(passed)}", style="green")
    for target, test in tests.items():
        if not test.ok:
            text = f"self-test failed: {target}\n{test}"
            console.print(text, style="red", markup=False, highlight=False)
    others = [target for target in bundle.targets if target not in tests]
    if others:
        how = f"`tvmconv validate {bundle.folder} --emulate` runs it in an emulator"
        if isinstance(bundle, CudaBundle):
            how = f"`python3 {bundle.folder}/tvmconv_load.py` runs it on a machine with such a GPU"
            if any(path.endswith(".cu") for path in bundle.manifest["files"]):
                how += f"; `tvmconv validate {bundle.folder} --emulate` proves its source here"
        console.print(
            f"self-test not run: {', '.join(others)}; {how}",
            style="dim",
            soft_wrap=True,
        )


def folder_sizes(folder: Path) -> dict[str, int]:
    """Bytes of a bundle's files by kind, the largest first."""
    kinds = {
        ".so": "shared library",
        ".a": "static library",
        ".c": "C sources and headers",
        ".h": "C sources and headers",
        ".bin": "golden vectors and weights",
        ".cubin": "machine code (cubin)",
        ".ptx": "code for newer GPUs (PTX)",
        ".cu": "CUDA source",
    }
    sizes: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            kind = kinds.get(path.suffix, "manifest and other text")
            sizes[kind] = sizes.get(kind, 0) + path.stat().st_size
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))
