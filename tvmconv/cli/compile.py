"""`tvmconv compile`: compile convolutions and show what was chosen."""

import argparse
from typing import TYPE_CHECKING, Any

from tvmconv.arithmetic import ITEM_BYTES
from tvmconv.bench.labels import kilobytes
from tvmconv.cli.arguments import add_compile, add_specs, chosen_layers, compile_layers
from tvmconv.cli.output import Output

if TYPE_CHECKING:
    from tvmconv.kernel import Kernel

EXAMPLES = """\
examples:
  tvmconv compile conv2d_n1c64s56x56_o64k3x3_p1_bias_relu
  tvmconv compile resnet50 --target x86_64_v3 --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_specs(parser)
    add_compile(parser)


def run(args: argparse.Namespace, output: Output) -> int:
    """Compile, then print one row per convolution."""
    layers = chosen_layers(args)
    with output.progress(len(layers) + 1, "compiling") as step:
        kernels = compile_layers(args, layers, step)
    if output.as_json:
        output.document("compile", True, {"kernels": [describe(kernel) for kernel in kernels]})
        return 0
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("spec", "template", "tier", "config"):
        table.add_column(title, overflow="fold")
    for title in ("code", "weights", "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for kernel in kernels:
        table.add_row(
            str(kernel.spec),
            kernel.template_id,
            kernel.tier,
            str(kernel.config).replace(",", " "),
            kilobytes(kernel.text_bytes),
            kilobytes(ITEM_BYTES[kernel.spec.dtype] * kernel.packed_elems),
            f"{kernel.compile_seconds:.2f}",
        )
    console = output.console()
    console.print(table)
    console.print(
        f"compiled for {kernels[0].target.id}; `tvmconv export` writes files", style="dim"
    )
    return 0


def describe(kernel: "Kernel") -> dict[str, Any]:
    """A kernel as plain values."""
    return {
        "spec": str(kernel.spec),
        "target": kernel.target.id,
        "template": kernel.template_id,
        "config": str(kernel.config),
        "tier": kernel.tier,
        "threads": kernel.threads,
        "symbol": kernel.symbol,
        "code_bytes": kernel.text_bytes,
        "packed_bytes": ITEM_BYTES[kernel.spec.dtype] * kernel.packed_elems,
        "compile_seconds": kernel.compile_seconds,
    }
