"""`tune`: measure many configs of many specs within a budget, and keep all that was learnt.

A run begins with the default and the model's first picks of every spec in turn. Then each next
batch goes to the spec where it is expected to save most; the model is trained again as results come
in. Every 32 trials and at the end the best are measured against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tvmconv.errors import ArgumentError
from tvmconv.target import load
from tvmconv.template import Task
from tvmconv.tolerance import DEFAULT_MAX_ERROR
from tvmconv.tuning import knowledge
from tvmconv.tuning.boosters import xgboost
from tvmconv.tuning.devices import Named
from tvmconv.tuning.layer import open_layer
from tvmconv.tuning.log import Log, of_task, read_existing
from tvmconv.tuning.measure import Measurer
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.no_device import StaticMeasurer
from tvmconv.tuning.records import tuning_key
from tvmconv.tuning.result import OnEvent, TuneResult, ignore_event
from tvmconv.tuning.session import Budget, Session

if TYPE_CHECKING:
    from tvmconv.spec import ConvSpec
    from tvmconv.target import Target
    from tvmconv.tuning.boards import Host
    from tvmconv.tuning.pool import Pool

DEFAULT_RECORDS = "tvmconv-records.jsonl"
DEFAULT_TRIALS = 64
ESTIMATED = "no device was asked: times are estimated from the code, and compare with no measured"
PATIENCE = 96


def tune(
    specs: Sequence[ConvSpec] | ConvSpec,
    target: str | Target = "host",
    *,
    minutes: float | None = None,
    trials: int | None = None,
    records: str | Path = DEFAULT_RECORDS,
    resume: bool = True,
    seed: int = 0,
    threads: int = 1,
    algorithm: str | None = None,
    max_error: float = DEFAULT_MAX_ERROR,
    weights: Sequence[float] | None = None,
    prior: CostModel | Literal["shipped"] | None = "shipped",
    patience: int = PATIENCE,
    measurer: Measurer | None = None,
    rpc: str | Sequence[str] | None = None,
    tracker: str | None = None,
    key: str | None = None,
    ssh: str | Host | Sequence[str | Host] | None = None,
    on_event: OnEvent = ignore_event,
) -> TuneResult:
    """Find fast configs by measuring; `tvmconv.compile(..., records=...)` then uses them.

    Args:
        specs: what to tune; those that differ in their epilogue alone are tuned once.
        target: must run here, unless other machines measure; then it is theirs.
        minutes: budget of time; with both, whichever ends first.
        trials: budget of measurements, per spec on average (default: 64 without ``minutes``).
        records: JSON-lines file to add to; what it holds is not measured again.
        resume: False measures again what the file holds, and adds to it.
        seed: of the search.
        threads: of the kernels.
        algorithm: an algorithm or template id to stay with.
        max_error: largest relative error that an algorithm may have.
        weights: how often each spec occurs; default: once.
        prior: a cost model of other specs, None for none; default: the one that ships.
        patience: trials of a spec without an improvement of 1 % after which it is left alone.
        measurer: who measures; default: the machines that are named below, or this one.
        rpc: HOST:PORT of a server of TVM's RPC, or of several.
        tracker: HOST:PORT of a tracker of such servers.
        key: which of the tracker's servers, or what the servers were given as theirs.
        ssh: a board that is reached by ssh, or several: "user@host", or a boards.Host.
        on_event: hears of each trial.

    Raises:
        ArgumentError: an argument that makes no sense.
        UnsupportedSpec: a spec that no template takes.
        EnvironmentProblem: xgboost, torch or a C compiler is missing.
        DeviceError: a named machine does not answer, is not the target, or has no space.
        RecordsError: the records cannot be written; what was measured before is in the file.
    """
    given = [specs] if not isinstance(specs, Sequence) else list(specs)
    counts = _check(given, minutes, trials, weights, patience)
    if minutes is None and trials is None:
        trials = DEFAULT_TRIALS
    xgboost()
    chosen = load(target)
    known_before = knowledge.prior(chosen)[0] if prior == "shipped" else prior
    known, problems = read_existing(records) if resume else ((), ())
    named = Named.of(rpc, tracker, key, ssh)
    with ExitStack() as stack:
        if named:
            if measurer is not None or target == "host":
                wrong = "measurer" if measurer is not None else "target"
                allowed = "no measurer, and the id of their target, with rpc, tracker or ssh"
                raise ArgumentError(wrong, measurer or target, allowed)
            measurer = stack.enter_context(named.connected(chosen, threads))
        elif measurer is None:
            measurer = stack.enter_context(_local(chosen, threads))
        static = isinstance(measurer, StaticMeasurer)
        log = stack.enter_context(Log(records, threads, measurer.machine, static=static))
        weighed = _distinct(given, counts)
        tasks = [Task(spec, chosen, threads, max_error) for spec in weighed]
        layers = [
            open_layer(
                task,
                algorithm,
                log.comparable(of_task(known, task)),
                weight=weighed[task.spec],
                patience=patience,
                seed=seed + number,
                informed=known_before is not None,
            )
            for number, task in enumerate(tasks)
        ]
        budget = Budget(minutes, trials * len(layers) if trials is not None else None)
        session = Session(layers, measurer, log, budget, known_before, on_event, seed)
        stopped = session.run()
    return TuneResult(
        layers=tuple(layer.tuned for layer in layers),
        records=str(records),
        trials=session.trials,
        elapsed=budget.elapsed,
        stopped=stopped,
        warnings=(*problems, *session.warnings, *((ESTIMATED,) if static else ())),
    )


def _local(target: Target, threads: int) -> Pool:
    """The measurer of this machine, or of its GPU."""
    if target.gpu is not None:
        from tvmconv.tuning.gpu_local import GpuMeasurer

        return GpuMeasurer(target)
    from tvmconv.tuning.local import LocalMeasurer

    return LocalMeasurer(target, threads)


def _distinct(specs: Sequence[ConvSpec], weights: Sequence[float]) -> dict[ConvSpec, float]:
    """The specs that differ in more than their epilogue, with the sum of their weights."""
    kept: dict[str, ConvSpec] = {}
    found: dict[ConvSpec, float] = {}
    for spec, weight in zip(specs, weights, strict=True):
        first = kept.setdefault(tuning_key(spec), spec)
        found[first] = found.get(first, 0.0) + weight
    return found


def _check(
    specs: Sequence[ConvSpec],
    minutes: float | None,
    trials: int | None,
    weights: Sequence[float] | None,
    patience: int,
) -> Sequence[float]:
    if not specs:
        raise ArgumentError("specs", (), "at least one")
    if minutes is not None and not minutes > 0:
        raise ArgumentError("minutes", minutes, "more than 0")
    if trials is not None and trials < 1:
        raise ArgumentError("trials", trials, "at least 1")
    if patience < 1:
        raise ArgumentError("patience", patience, "at least 1")
    if weights is not None and len(weights) != len(specs):
        raise ArgumentError("weights", len(weights), f"one per spec ({len(specs)})")
    return weights if weights is not None else [1.0] * len(specs)
