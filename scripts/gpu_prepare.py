#!/usr/bin/env python3
"""Compile bundles and candidates for GPUs, on a machine that need not have one.

    scripts/gpu_prepare.py                                     the layers that docs/cuda.md lists
    scripts/gpu_prepare.py resnet50 vgg16 --candidates 32
    scripts/gpu_prepare.py --target sm_80,sm_90 --batch 1 -o out/

Copy this checkout with the folder to the machine with the GPU and run scripts/gpu_check.py there;
it needs Python, numpy and torch. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tvmconv import workloads
from tvmconv.errors import TvmconvError
from tvmconv.spec import ConvSpec
from tvmconv.target import load
from tvmconv.tuning.gpu_prepare import prepare

NETWORKS = ("resnet50",)
# Kinds of layers that resnet50 has none of, at batch 1.
OTHERS = (
    "conv2d_n1c64s112x112_o64k3x3_g64_p1",
    "conv2d_n1c384s14x14_o384k3x3_g384_p1",
    "conv2d_n1c256s28x28_o256k3x3_g32_p1",
    "conv2d_n1c256s28x28_o256k3x3_p2_d2",
    "convt2d_n1c64s32x32_o32k4x4_s2_p1",
    "conv3d_n1c32s16x28x28_o32k3x3x3_p1",
    "conv1d_n1c128s1024_o128k3_p1",
    "deform2d_n1c64s56x56_o64k3x3_p1_mask",
)
DTYPES = ("float32", "float16")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layers", nargs="*", help="spec texts, networks, network:N")
    parser.add_argument("--target", default="sm_90", help="with commas between (default: sm_90)")
    parser.add_argument("--batch", default="1,32", help="batch sizes of networks' layers")
    parser.add_argument("--dtype", default=",".join(DTYPES), help="of networks' layers")
    parser.add_argument("--candidates", type=int, default=16, help="per layer and likely template")
    parser.add_argument(
        "--max-error", type=float, default=1e-3, help="of candidates (default: 1e-3, TF32)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", "-o", type=Path, default=Path("out"), metavar="FOLDER")
    args = parser.parse_args(argv)
    try:
        specs = list(dict.fromkeys(chosen(args)))
        targets = [load(name) for name in args.target.split(",")]
        prepare(
            specs,
            targets,
            args.output,
            candidates=args.candidates,
            max_error=args.max_error,
            seed=args.seed,
            on_step=lambda done, total, text: print(f"{done}/{total} {text}", flush=True),
        )
    except TvmconvError as error:
        print(f"gpu_prepare: {error}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in args.output.rglob("*") if path.is_file())
    print(f"{args.output}: {len(specs)} layers, {size / 1e6:.1f} MB")
    return 0


def chosen(args: argparse.Namespace) -> Iterator[ConvSpec]:
    """Layers of networks in every batch size and type, 16 bits with channels last; texts as given.

    Tensor cores read channels that lie beside each other; float32 comes channels first.
    """
    for text in args.layers or (*NETWORKS, *OTHERS):
        given = [layer.spec for layer in workloads.resolve(text)]
        if text.partition(":")[0] not in workloads.names():
            yield from given
            continue
        for spec in given:
            for dtype in args.dtype.split(","):
                laid_out = spec.laid_out("NCHW" if dtype == "float32" else "NHWC")
                for batch in args.batch.split(","):
                    yield replace(laid_out, n=int(batch), dtype=dtype)


if __name__ == "__main__":
    sys.exit(main())
