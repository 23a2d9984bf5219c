"""How good a prior is for layers that it has not seen: leave one network out, train, predict.

What is asked is what compile asks: of all measured configs of a spec, whatever their template, the
model picks one without measuring. Its share is the best measured time over the picked one's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tvmconv import workloads
from tvmconv.tuning.boosters import ROUNDS
from tvmconv.tuning.dataset import Rows, rows_of
from tvmconv.tuning.model import CostModel
from tvmconv.tuning.records import Record, tuning_key

# Fewer configs of a template and spec say nothing about an order.
ORDERED = 8


@dataclass(frozen=True)
class Held:
    """What a model that never saw a network's layers says of them.

    Attributes:
        network: which one was left out.
        specs: how many of its specs, targets and thread counts were measured.
        correlation: mean rank correlation within a spec and template.
        share: geometric mean of the picks' speed against the best measured one's.
        worst: the smallest.
        worst_key: of which spec.
        analytic_share: ``share`` when predicted cycles alone pick.
    """

    network: str
    specs: int
    correlation: float
    share: float
    worst: float
    worst_key: str
    analytic_share: float


def leave_one_network_out(
    records: Sequence[Record],
    *,
    prior: CostModel | None = None,
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Iterator[Held]:
    """Evaluate each network of the workloads that was measured, one after the other.

    With a prior, its corrections by the other networks' measurements are evaluated.
    """
    rows = rows_of(records)
    measured = {key for of_template in rows.values() for key in of_template.keys}
    for network in workloads.names():
        specs = keys_of_network(network)
        out = {key for key in measured if key.split(" ")[0] in specs}
        if out and out != measured:
            rest = _part(rows, measured - out)
            model = CostModel.fit_rows(rest, prior=prior, per_spec=False, seed=seed, rounds=rounds)
            yield judge(network, model, _part(rows, out))


def keys_of_network(network: str) -> set[str]:
    """Tuning keys of a network's layers, in both layouts."""
    specs = [layer.spec for layer in workloads.load(network)]
    return {tuning_key(spec.laid_out(layout)) for spec in specs for layout in ("NCHW", "NHWC")}


def judge(network: str, model: CostModel, rows: Mapping[str, Rows]) -> Held:
    """What a model says of measurements that it has not seen."""
    correlations: list[float] = []
    by_key: dict[str, list[tuple[NDArray[np.float64], ...]]] = {}
    for template_id, of_template in rows.items():
        predicted = np.log(model.seconds(template_id, of_template))
        unknown = np.isnan(predicted)
        guess = of_template.log_cycles + np.log(model.seconds_per_cycle)
        predicted = np.where(unknown, guess, predicted)
        for group, key in enumerate(of_template.keys):
            mine = of_template.groups == group
            seconds = of_template.log_seconds[mine]
            if len(seconds) >= ORDERED and np.ptp(seconds) > 0:
                correlations.append(rank_correlation(predicted[mine], seconds))
            part = (predicted[mine], seconds, of_template.log_cycles[mine])
            by_key.setdefault(key, []).append(part)
    shares, analytic = {}, []
    for key, parts in by_key.items():
        guess, seconds, cycles = (np.concatenate(column) for column in zip(*parts, strict=True))
        shares[key] = float(seconds.min() - seconds[guess.argmin()])
        analytic.append(float(seconds.min() - seconds[cycles.argmin()]))
    worst = min(shares, key=lambda key: shares[key])
    return Held(
        network,
        len(by_key),
        float(np.mean(correlations)) if correlations else float("nan"),
        float(np.exp(np.mean(list(shares.values())))),
        float(np.exp(shares[worst])),
        worst,
        float(np.exp(np.mean(analytic))),
    )


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's: the correlation of the ranks, ties by order."""
    first, second = (np.argsort(np.argsort(v, kind="stable")).astype(float) for v in (one, other))
    return float(np.corrcoef(first, second)[0, 1])


def _part(rows: Mapping[str, Rows], keys: set[str]) -> dict[str, Rows]:
    found = {}
    for template_id, of_template in rows.items():
        keep = [group for group, key in enumerate(of_template.keys) if key in keys]
        if keep:
            found[template_id] = of_template.of_groups(keep)
    return found
