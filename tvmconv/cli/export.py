"""`tvmconv export`: write a bundle that runs without TVM, torch and Python."""

import argparse
from pathlib import Path

from tvmconv.bench.labels import kilobytes
from tvmconv.cli.arguments import add_compile, add_specs, chosen_layers, compile_layers
from tvmconv.cli.output import Output

EXAMPLES = """\
The folder holds a shared and a static library with plain C functions, a header, a CMake file, a C
example, golden vectors and a self-test; docs/bundle-format.md describes it.

examples:
  tvmconv export conv2d_n1c64s56x56_o64k3x3_p1_bias_relu --output out/layer
  tvmconv export resnet50 --fused --output out/resnet50
  tvmconv export lenet5 --target x86_64_v2 --output out/old-cpu --no-selftest
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_specs(parser)
    add_compile(parser)
    parser.add_argument(
        "--output", "-o", type=Path, required=True, metavar="FOLDER", help="where to write it"
    )
    parser.add_argument(
        "--no-selftest", action="store_true", help="do not run the bundle (for another machine)"
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Compile, write the bundle, and run its self-test where the target runs here."""
    from tvmconv.bundle import export, load

    layers = chosen_layers(args)
    with output.progress(len(layers) + 3, "exporting") as step:
        kernels = compile_layers(args, layers, step)
        step("writing")
        export(kernels, args.output)
        step("self-test")
        here = kernels[0].target.runs_here and not args.no_selftest
        selftest = load(args.output).selftest() if here else None
    sizes = folder_sizes(args.output)
    ok = selftest is None or selftest.ok
    if output.as_json:
        content = {
            "folder": str(args.output),
            "kernels": [kernel.symbol for kernel in kernels],
            "sizes": sizes,
            "selftest": None if selftest is None else selftest.ok,
        }
        output.document("export", ok, content)
        return 0 if ok else 1
    console = output.console()
    total = kilobytes(sum(sizes.values()))
    console.print(
        f"wrote {len(kernels)} kernels to {args.output}: {total}", highlight=False, soft_wrap=True
    )
    for kind, size in sizes.items():
        console.print(f"  {kind:26} {kilobytes(size):>10}", highlight=False)
    if selftest is None:
        console.print(
            "self-test not run: the target is not this machine's; "
            f"`tvmconv validate {args.output} --emulate` runs it in an emulator",
            style="dim",
            soft_wrap=True,
        )
    elif selftest.ok:
        console.print("self-test passed", style="green")
    else:
        console.print(str(selftest), style="red", markup=False, highlight=False)
    return 0 if ok else 1


def folder_sizes(folder: Path) -> dict[str, int]:
    """Bytes of a bundle's files by kind, the largest first."""
    kinds = {
        ".so": "shared library",
        ".a": "static library",
        ".c": "C sources and headers",
        ".h": "C sources and headers",
        ".bin": "golden vectors and weights",
    }
    sizes: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            kind = kinds.get(path.suffix, "manifest and other text")
            sizes[kind] = sizes.get(kind, 0) + path.stat().st_size
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))
