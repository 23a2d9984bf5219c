#!/usr/bin/env python3
"""Tune networks on a fleet of devices behind an RPC tracker; this machine builds.

Start `python -m tvm.exec.rpc_tracker --port 9190` somewhere and on each device
`tvmconv device serve --tracker HOST:9190 --key edge`. A device that dies is tried again
for a while; the others go on.
"""

import argparse
import sys

import tvmconv as tc
from tvmconv import target as targets
from tvmconv import workloads
from tvmconv.tuning.remote import Address, RemoteMeasurer, check_rpc, tracked_devices
from tvmconv.tuning.result import Progress


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="+", help="spec texts, networks, or network:N")
    parser.add_argument("--tracker", required=True, metavar="HOST:PORT")
    parser.add_argument("--key", required=True, help="of the devices, all of one kind")
    parser.add_argument("--target", required=True, help="what the devices are")
    parser.add_argument("--trials", type=int, default=64, help="per convolution, on average")
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--records", default="tvmconv-records.jsonl")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    layers = [layer for text in args.workloads for layer in workloads.resolve(text)]
    check_rpc()
    tracker = Address.parse(args.tracker, args.key, is_tracker=True)
    devices = tracked_devices(tracker)
    if not devices:
        print(f"the tracker has no device of key {args.key}", file=sys.stderr)
        return 1
    print(f"{devices} devices", file=sys.stderr)
    target = targets.load(args.target)
    with RemoteMeasurer(target, [tracker] * devices, args.threads) as measurer:
        measurer.connect()
        result = tc.tune(
            [layer.spec for layer in layers],
            target,
            minutes=args.minutes,
            trials=args.trials,
            records=args.records,
            threads=args.threads,
            weights=[float(layer.repeats) for layer in layers],
            measurer=measurer,
            on_event=show,
        )
        left = len(measurer.devices)
    for tuned in result.layers:
        print(f"{1e6 * tuned.seconds:9.1f} us {tuned.gain:6.2f}x {tuned.template} {tuned.spec}")
    print(f"{result.gain:.2f}x after {result.trials} trials; {left} of {devices} devices left")
    return 0 if all(tuned.template for tuned in result.layers) else 1


def show(progress: Progress) -> None:
    if progress.outcome is not None and not progress.outcome.ok:
        print(f"{progress.outcome.status}: {progress.outcome.message}", file=sys.stderr)
    if progress.trials % 32 == 0:
        print(f"{progress.share:4.0%} {progress.trials} trials", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
