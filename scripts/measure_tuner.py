#!/usr/bin/env python3
"""Measure the tuner itself: how many trials it needs, and what a short run leaves on the table.

    scripts/measure_tuner.py table SPEC... --records table.jsonl    again until it is full
    scripts/measure_tuner.py trials SPEC... --records table.jsonl --train other.jsonl
    scripts/measure_tuner.py compare resnet50 --records short.jsonl long.jsonl
    scripts/measure_tuner.py untuned all --records tuned.jsonl

`table` is a search of many trials that begins with nothing. `trials` repeats short searches of
several seeds on what it measured, with and without a cost model of other layers' records. `compare`
times the winners of two tuning runs in turn, `untuned` what is compiled from a prediction beside
the winners of a run, or beside the records that ship.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from math import exp, log
from pathlib import Path

from tvmconv import workloads
from tvmconv.choose import Choice, decide
from tvmconv.target import load
from tvmconv.template import Task
from tvmconv.tuning.evaluate import keys_of_network
from tvmconv.tuning.layer import open_layer
from tvmconv.tuning.local import LocalMeasurer
from tvmconv.tuning.log import Log, measured, of_task, read_existing
from tvmconv.tuning.measure import Trial
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.records import Record, read_records, tuning_key
from tvmconv.tuning.replay import Table, replay
from tvmconv.tuning.result import ignore_event
from tvmconv.tuning.session import Budget, Session

NEVER = 10**6
ROUNDS = 12


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("table", "trials", "compare", "untuned"))
    parser.add_argument("workloads", nargs="+", help="spec texts, networks, or network:N")
    parser.add_argument("--records", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--target", default="host")
    parser.add_argument("--trials", type=int, help="of a table (1000), of a replayed search (96)")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which a table is left")
    parser.add_argument("--seeds", type=int, default=3, help="replayed searches per layer and kind")
    parser.add_argument("--share", type=float, default=0.95, help="of the best speed to reach")
    parser.add_argument("--train", nargs="*", type=Path, default=(), metavar="FILE")
    parser.add_argument(
        "--leave-out", nargs="*", default=(), metavar="NETWORK", help="not trained on either"
    )
    args = parser.parse_args(argv)
    specs = [
        (one.spec.linear(), one.repeats) for w in args.workloads for one in workloads.resolve(w)
    ]
    tasks = {Task(spec, load(args.target)): count for spec, count in specs}
    commands = {"table": fill_tables, "trials": count_trials}
    commands |= {"compare": compare_files, "untuned": compare_predictions}
    return commands[args.what](tasks, args)


def fill_tables(tasks: dict[Task, int], args: argparse.Namespace) -> int:
    """Go on with each spec's search until it has its trials; 1 while there is something left."""
    end = time.monotonic() + 60 * args.minutes
    wanted = args.trials or 1000
    left = 0
    for task in tasks:
        known = of_task(read_existing(args.records[0])[0], task)
        missing = wanted - len(measured(known))
        minutes = (end - time.monotonic()) / 60
        if missing > 0 and minutes > 0:
            with Log(args.records[0], 1) as log, LocalMeasurer(task.target) as measurer:
                layer = open_layer(
                    task, None, known, weight=1.0, patience=NEVER, seed=missing, informed=False
                )
                budget = Budget(minutes, missing)
                session = Session([layer], measurer, log, budget, None, ignore_event, missing)
                session.run()
            missing -= session.trials
        left += max(0, missing)
        print(f"{task.spec}: {wanted - missing} of {wanted} trials", flush=True)
    return 1 if left else 0


def count_trials(tasks: dict[Task, int], args: argparse.Namespace) -> int:
    """Trials to a share of the best, with nothing to begin with and with a model of others."""
    records = read_existing(args.records[0])[0]
    prior = model_of_others(tasks, records, args)
    kinds = {"cold": None, "prior": prior}
    every: dict[str, list[int]] = {kind: [] for kind in kinds}
    with (
        tempfile.TemporaryDirectory() as folder,
        Log(args.records[0], 1) as log,
        LocalMeasurer(load(args.target)) as measurer,
    ):
        for task in tasks:
            table = Table(task, of_task(records, task), measurer, log)
            goal = table.best / args.share
            configs, found = len(table), {}
            for kind, model in kinds.items():
                runs = [
                    replay(
                        task,
                        table,
                        model,
                        Path(folder) / "replay.jsonl",
                        trials=args.trials or 96,
                        seed=seed,
                        goal=goal,
                    )
                    for seed in range(args.seeds)
                ]
                found[kind] = [one.trials_to(goal) or NEVER for one in runs]
                every[kind] += found[kind]
            shown = "  ".join(f"{kind} {', '.join(map(text, n))}" for kind, n in found.items())
            print(f"{1e6 * table.best:9.1f} us of {configs}  {shown}  {task.spec}", flush=True)
    for kind, numbers in every.items():
        median = statistics.median(numbers)
        print(f"{kind}: median {text(median)} trials to {args.share:.0%} of the best")
    return 0


def model_of_others(
    tasks: dict[Task, int], records: Sequence[Record], args: argparse.Namespace
) -> CostModel:
    """A model of the training files and tables without the tasks and the networks left out."""
    out = {tuning_key(task.spec) for task in tasks}
    out |= {key for network in args.leave_out for key in keys_of_network(network)}
    train = [record for path in args.train for record in read_records(path)[0]]
    kept = [record for record in train if tuning_key(record.spec) not in out]
    specs = {record.key for record in kept}
    print(f"the prior: {len(kept)} records of {len(specs)} layers, none of those below")
    return CostModel.fit(kept)


def compare_files(tasks: dict[Task, int], args: argparse.Namespace) -> int:
    """Time each layer's winners of two files in turn; how fast the first file's are."""
    first, second = args.records[:2]
    return compare(tasks, args, lambda task: decide(task, None, first), second)


def compare_predictions(tasks: dict[Task, int], args: argparse.Namespace) -> int:
    """Time what is predicted beside a file's winners, in turn; how fast predictions are."""
    return compare(tasks, args, lambda task: decide(task, shipped=False), args.records[0])


def compare(
    tasks: dict[Task, int],
    args: argparse.Namespace,
    judged: Callable[[Task], Choice],
    reference: Path,
) -> int:
    """Time two choices of each layer in turn: the judged, and that of a records file."""
    total = [0.0, 0.0]
    shares = []
    with LocalMeasurer(load(args.target)) as measurer:
        for task, repeats in tasks.items():
            best = [judged(task).best, decide(task, None, reference).best]
            trials = [Trial(task, one.template.id, one.config) for one in best if one.config]
            outcomes = measurer.remeasure(list(dict.fromkeys(trials)), ROUNDS)
            seconds = [outcomes[0].score, outcomes[-1].score]
            total = [t + repeats * s for t, s in zip(total, seconds, strict=True)]
            shares.append(seconds[1] / seconds[0])
            print(f"{shares[-1]:6.1%} {1e6 * seconds[0]:9.1f} us  {task.spec}", flush=True)
    mean = exp(statistics.mean(map(log, shares)))
    print(f"geometric mean {mean:.1%}, worst {min(shares):.1%}, sum {total[1] / total[0]:.1%}")
    return 0


def text(trials: float) -> str:
    return f"{trials:g}" if trials < NEVER else "never"


if __name__ == "__main__":
    sys.exit(main())
