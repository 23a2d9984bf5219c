#!/usr/bin/env python3
"""Executed instructions per call on an emulated ARM core, beside ncnn in the same emulator.

    scripts/count_instructions.py --board board --output docs/arm-instructions.md

The board is what scripts/make_board.py makes; without one, ncnn's column stays empty. Needs QEMU's
dynamic user-mode emulator and a cross compiler (Debian: qemu-user, gcc-aarch64-linux-gnu).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tvmconv as tc
from tvmconv.bench import ncnn_model
from tvmconv.bench.plain import Plain
from tvmconv.emulate import find_runner
from tvmconv.emulate.counting import build_plugin, count_instructions, per_call
from tvmconv.errors import TvmconvError
from tvmconv.spec import ConvSpec
from tvmconv.target import Target, load

# One thread each: those of OpenBLAS and OpenMP spin, and Python's hashes differ from run to run.
# Without, a program took up to 14 M instructions more or less: twenty calls of a small layer.
ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
# Calls of ncnn's layer: the first ones allocate, so they are left out, and a few do not tell much.
PEER_TIMES = (2, 32)
CALLS = Path(__file__).with_name("ncnn_calls.py")
Layer = tuple[str, str, str | None]
# A name, the layer, and the algorithm to stay with; ncnn's Winograd is off where that is "direct".
LAYERS: tuple[Layer, ...] = (
    ("3x3 direct", "conv2d_n1c64s56x56_o64k3x3_p1", "direct"),
    ("3x3 Winograd", "conv2d_n1c64s56x56_o64k3x3_p1", "winograd"),
    ("3x3, 512@7", "conv2d_n1c512s7x7_o512k3x3_p1", None),
    ("3x3 stride 2", "conv2d_n1c128s56x56_o128k3x3_s2_p1", None),
    ("1x1, 64@56", "conv2d_n1c64s56x56_o256k1x1", None),
    ("1x1, 256@14", "conv2d_n1c256s14x14_o1024k1x1", None),
    ("1x1, 32@112", "conv2d_n1c32s112x112_o16k1x1", None),
    ("depthwise 3x3, 32@112", "conv2d_n1c32s112x112_o32k3x3_g32_p1", None),
    ("depthwise 3x3 stride 2, 96@112", "conv2d_n1c96s112x112_o96k3x3_g96_s2_p1", None),
    ("depthwise 3x3, 576@14", "conv2d_n1c576s14x14_o576k3x3_g576_p1", None),
    ("depthwise 5x5, 240@14", "conv2d_n1c240s14x14_o240k5x5_g240_p2", None),
    ("depthwise 5x5 stride 2, 96@28", "conv2d_n1c96s28x28_o96k5x5_g96_s2_p2", None),
    ("depthwise 7x7, 96@56", "conv2d_n1c96s56x56_o96k7x7_g96_p3", None),
    ("stem 7x7 stride 2", "conv2d_n1c3s224x224_o64k7x7_s2_p3", None),
    ("stem 3x3 stride 2", "conv2d_n1c3s224x224_o32k3x3_s2_p1", None),
    ("grouped 3x3, 32 groups of 4", "conv2d_n1c128s56x56_o128k3x3_g32_p1", None),
)


@dataclass(frozen=True)
class Row:
    """Millions of instructions of one layer."""

    name: str
    spec: ConvSpec
    products: float
    ours: float
    template: str
    last: float
    last_template: str
    ncnn: float | None
    packed: float | None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="pi4", help="default: %(default)s")
    parser.add_argument("--board", type=Path, help="folder of scripts/make_board.py, with ncnn")
    parser.add_argument("--layers", default="", help="only those whose name has this in it")
    parser.add_argument("--output", type=Path, help="file for the table; default: print it")
    given = parser.parse_args()
    target = load(given.target)
    rows = []
    with tempfile.TemporaryDirectory(prefix="tvmconv-count-") as folder:
        try:
            plugin = build_plugin(Path(folder), find_runner(target))
            for layer in LAYERS:
                if given.layers in layer[0]:
                    rows.append(count(layer, target, plugin, given.board))
                    print(line(rows[-1]), file=sys.stderr, flush=True)
        except TvmconvError as error:
            print(f"count_instructions.py: {error}", file=sys.stderr)
            return 1
    text = page(rows, target, given.board)
    if given.output is None:
        print(text)
    else:
        given.output.write_text(text, encoding="utf-8")
    return 0


def count(layer: Layer, target: Target, plugin: Path, board: Path | None) -> Row:
    """Ours in both layouts, and ncnn's from channels-first tensors and from packed ones."""
    name, text, algorithm = layer
    spec = ConvSpec.parse(text)
    counts, ids = [], []
    for layout in ("", "_nhwc"):
        kernel = tc.compile(ConvSpec.parse(text + layout), target, algorithm=algorithm)
        counts.append(count_instructions(kernel, plugin) / 1e6)
        ids.append(kernel.template_id)
    peers = [
        None if board is None else ncnn(spec, pack, algorithm != "direct", target, plugin, board)
        for pack in (1, 4)
    ]
    products = spec.macs / target.lanes / 1e6
    return Row(name, spec, products, counts[0], ids[0], counts[1], ids[1], *peers)


def ncnn(
    spec: ConvSpec, pack: int, winograd: bool, target: Target, plugin: Path, board: Path
) -> float:
    """Millions of instructions of one call of ncnn's layer."""
    runner, board = find_runner(target), board.resolve()
    rng = np.random.default_rng(0)
    x, weight = (
        rng.standard_normal(shape).astype(np.float32) for shape in (spec.x_shape, spec.weight_shape)
    )
    text, weights = ncnn_model.files(Plain(spec, x, weight))
    # Its own C library in place of the cross packages'.
    command = [runner.command[0], *runner.command[1:3], "-L", str(board / "root")]
    for name, value in {"PYTHONPATH": str(board / "site"), **ENVIRONMENT}.items():
        command += ["-E", f"{name}={value}"]
    with tempfile.TemporaryDirectory(prefix="tvmconv-ncnn-") as folder:
        Path(folder, "layer.param").write_text(text)
        Path(folder, "layer.bin").write_bytes(weights)
        np.save(Path(folder, "x.npy"), x)
        python = str(board / "root" / "usr" / "bin" / "python3")
        before = [python, str(CALLS), folder, str(pack), str(int(winograd))]
        return per_call(command, plugin, before, times=PEER_TIMES) / 1e6


def line(row: Row) -> str:
    """One line of the table."""
    peers = [f"{v:.2f}" if v is not None else "" for v in (row.ncnn, row.packed)]
    ratio = f"{row.ours / row.ncnn:.2f}" if row.ncnn else ""
    return (
        f"| {row.name} | `{row.spec}` | {row.products:.2f} | {row.ours:.2f} (`{row.template}`) "
        f"| {peers[0]} | {ratio} | {row.last:.2f} (`{row.last_template}`) | {peers[1]} |"
    )


def page(rows: list[Row], target: Target, board: Path | None) -> str:
    """The document."""
    emulator = find_runner(target).label
    wheels = [] if board is None else sorted((board / "site").glob("ncnn-*.dist-info"))
    peer = wheels[0].name.removesuffix(".dist-info") if wheels else "ncnn"
    lines = "\n".join(map(line, rows))
    return f"""\
# Instructions on ARM

How many instructions a call executes, in millions, counted exactly by a plugin of the emulator
({emulator}): half the difference of three calls and one, one thread, float32; of the peer, the
aarch64 wheel of {peer}, a thirtieth of 30 calls more. What a core makes of them is another
matter, but without a board it is what can be counted. Kernels are the untuned choice for
`{target.id}` ({target.mcpu}).

"products" are the vector multiply-adds of the direct sum: a floor for direct kernels, not for
Winograd. "NCHW" and "ncnn" take and give channels-first tensors, and "ratio" compares those two;
"NHWC" and "ncnn, packed" take and give channels together, as between two layers of a network.

| layer | spec | products | NCHW | ncnn | ratio | NHWC | ncnn, packed |
| --- | --- | --- | --- | --- | --- | --- | --- |
{lines}

With "ncnn" its own conversions count: it packs four channels of a channels-first tensor, and
unpacks them, where a layer's kernel wants that. The stem's x, of three channels, is never packed.

Made by `scripts/make_board.py board numpy ncnn` and
`scripts/count_instructions.py --board board --output docs/arm-instructions.md`.
"""


if __name__ == "__main__":
    sys.exit(main())
