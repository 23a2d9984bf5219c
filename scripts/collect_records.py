#!/usr/bin/env python3
"""Measure a spread of configs of many convolutions, as training data for the cost model."""

import argparse
import sys
import time

from tvmconv import target as targets
from tvmconv import workloads
from tvmconv.tolerance import DEFAULT_MAX_ERROR
from tvmconv.tuning.collect import collect
from tvmconv.tuning.local import LocalMeasurer
from tvmconv.tuning.measure import Outcome, Trial

EVERY_SECONDS = 10.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "workloads", nargs="+", help="spec texts, networks, network:N, or @FILE of spec texts"
    )
    parser.add_argument("--configs", type=int, default=24, help="per spec and likely template")
    parser.add_argument("--records", default="tvmconv-records.jsonl", help="file to add to")
    parser.add_argument("--target", default="host")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--max-error", type=float, default=DEFAULT_MAX_ERROR)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--algorithm", help="stay with an algorithm or template id")
    args = parser.parse_args()
    target = targets.load(args.target)
    specs = [layer.spec for text in args.workloads for layer in workloads.listed(text)]
    report = Report()
    with LocalMeasurer(target, args.threads) as measurer:
        done = collect(
            specs,
            target,
            measurer,
            args.records,
            configs=args.configs,
            threads=args.threads,
            max_error=args.max_error,
            seed=args.seed,
            algorithm=args.algorithm,
            on_trial=report.trial,
        )
    for problem in done.problems:
        print(f"skipped {problem}", file=sys.stderr)
    print(f"{done.trials} trials, {done.failures} failed, in {args.records}")
    if done.preempted > 0.2:
        print(f"the machine was busy: {done.preempted:.0%} of the samples lost the CPU")
    return 0


class Report:
    """A line every ten seconds: enough for a log file, and for a person."""

    def __init__(self) -> None:
        self.start = self.last = time.monotonic()

    def trial(self, done: int, total: int, trial: Trial, outcome: Outcome) -> None:
        now = time.monotonic()
        if not outcome.ok:
            what = f"{trial.task.spec} {trial.template_id} {trial.config}"
            print(f"{outcome.status}: {what}: {outcome.message}", file=sys.stderr, flush=True)
        if now - self.last < EVERY_SECONDS and done < total:
            return
        self.last = now
        rate = done / (now - self.start)
        left = (total - done) / rate / 60
        print(f"{done}/{total} trials, {rate:.1f}/s, {left:.1f} min left", flush=True)


if __name__ == "__main__":
    sys.exit(main())
