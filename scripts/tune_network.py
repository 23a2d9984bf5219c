#!/usr/bin/env python3
"""Tune one network on this machine, and print what each layer gained."""

import argparse
import sys

import tvmconv as tc
from tvmconv import workloads
from tvmconv.tuning.result import Progress


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", help=f"one of {', '.join(workloads.names())}")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--records", default="tvmconv-records.jsonl")
    parser.add_argument("--target", default="host")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    layers = workloads.load(args.network, fused=True)
    result = tc.tune(
        [layer.spec for layer in layers],
        args.target,
        minutes=args.minutes,
        records=args.records,
        threads=args.threads,
        weights=[float(layer.repeats) for layer in layers],
        on_event=show,
    )
    for tuned in result.layers:
        print(f"{1e6 * tuned.seconds:9.1f} us {tuned.gain:6.2f}x {tuned.template} {tuned.spec}")
    for warning in result.warnings:
        print(warning, file=sys.stderr)
    print(f"{args.network}: {result.gain:.2f}x after {result.trials} trials, {result.stopped}")
    return 0 if all(tuned.template for tuned in result.layers) else 1


def show(progress: Progress) -> None:
    if progress.trials % 32 == 0:
        print(f"{progress.share:4.0%} {progress.trials} trials", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
