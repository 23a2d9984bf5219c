"""Boosters of one template: gradient-boosted trees that correct its analytic prediction.

* A regression of ``log(seconds / analytic cycles)``, whose answers are seconds, so that configs of
  different templates and algorithms compare;
* below RANKED_ROWS measurements a ranking by pairs within each spec (``rank:pairwise`` over the
  mean of all pairs; the default, the topmost pairs only, loses the order of the rest). Both correct
  the analytic prediction; from 8 to 64 of them the ranking's first pick was at 98 to 99 % of
  the best, the regression's at 95 to 98 %, with equal rank correlation.

Only this file imports xgboost, and only when boosters are trained, read or asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.errors import EnvironmentProblem
from tvmconv.tuning.dataset import Rows

Floats = NDArray[np.float64]

RANKED_ROWS = 64
# Regressions on few rows get as many trees as rows, within these limits.
FEWEST_ROUNDS = 40
RANKING_ROUNDS = 100
# The ranking's loss takes a difference of one for a fairly sure order, which 7 % of time are. On
# plain logarithms its trees first blow up the differences, noise included: picks at 90 %.
RANKING_SCALE = 15.0
ROUNDS = 200
# With as many own measurements of a spec, its own offset counts as much as the prior's.
OFFSET_ROWS = 3.0
SHAPE: dict[str, Any] = {
    "tree_method": "hist",
    "max_depth": 6,
    "eta": 0.06,
    "subsample": 0.8,
    "colsample_bytree": 0.4,
    "min_child_weight": 2.0,
    "lambda": 2.0,
    "nthread": 1,
    "verbosity": 0,
}
REGRESSION = {"objective": "reg:squarederror", "base_score": 0.0}
RANKING = {
    "objective": "rank:pairwise",
    "lambdarank_pair_method": "mean",
    "lambdarank_num_pair_per_sample": 8,
    "base_score": 0.0,
}


def xgboost() -> Any:
    """The package.

    Raises:
        EnvironmentProblem: it is not installed.
    """
    try:
        import xgboost as package
    except ImportError as error:
        raise EnvironmentProblem(
            "xgboost", f"not installed ({error})", "any since 3.0; run: pip install xgboost-cpu"
        ) from None
    return package


@dataclass(frozen=True, eq=False)
class Fitted:
    """Boosters of one template, upon those of a prior where there is one.

    Attributes:
        names: the feature columns that the boosters expect.
        regression: of log(seconds / cycles) less what the prior says.
        ranking: of the order within a group, less fast first; None when there is data for scale.
        offsets: of the specs that were measured, to add to the prior.
        default_offset: of all others.
        prior: what was known before.
    """

    names: tuple[str, ...]
    regression: Any
    ranking: Any = None
    offsets: Mapping[str, float] = field(default_factory=dict)
    default_offset: float = 0.0
    prior: Fitted | None = None

    @property
    def log_seconds_per_cycle(self) -> float:
        """On the whole, of specs that were not measured."""
        return self.default_offset + (self.prior.log_seconds_per_cycle if self.prior else 0.0)

    def log_ratio(self, table: NDArray[np.float32], key: str) -> Floats:
        """log(seconds / cycles) of each row."""
        return self.margin(table, key) + ask(self.regression, table)

    def margin(self, table: NDArray[np.float32], key: str) -> Floats:
        """What is known without this fit's own trees."""
        before = self.prior.log_ratio(table, key) if self.prior else np.zeros(len(table))
        return before + self.offsets.get(key, self.default_offset)


def fit(rows: Rows, prior: Fitted | None, per_spec: bool, seed: int, rounds: int) -> Fitted:
    """Train on rows of one template; see CostModel.fit.

    Raises:
        EnvironmentProblem: xgboost is not installed.
    """
    target = rows.log_seconds - rows.log_cycles
    before = np.zeros(len(rows.groups))
    if prior is not None:
        for group, key in enumerate(rows.keys):
            mine = rows.groups == group
            before[mine] = prior.log_ratio(rows.features[mine], key)
    one_by_one = prior is not None and per_spec
    default = 0.0 if one_by_one else float(np.median(target - before))
    offsets = _offsets(rows, target - before) if one_by_one else np.full(len(rows.keys), default)
    margin = before + offsets[rows.groups]
    # Fast configs are what is looked for: a slow one counts by how near it is to the best.
    best = np.full(len(rows.keys), np.inf)
    np.minimum.at(best, rows.groups, rows.log_seconds)
    weights = np.maximum(0.1, np.exp(best[rows.groups] - rows.log_seconds))
    parameters = SHAPE | {"seed": seed}
    package = xgboost()
    matrix = package.DMatrix(rows.features, label=target - margin, weight=weights)
    count = min(rounds, max(FEWEST_ROUNDS, len(rows.groups)))
    regression = package.train(parameters | REGRESSION, matrix, count)
    ranking = None
    if len(rows.groups) < RANKED_ROWS:
        faster = rows.log_seconds.max() - rows.log_seconds
        matrix = package.DMatrix(rows.features, label=faster, qid=rows.groups)
        matrix.set_base_margin(-RANKING_SCALE * (margin + rows.log_cycles))
        ranking = package.train(parameters | RANKING, matrix, RANKING_ROUNDS)
    return Fitted(
        rows.names,
        regression,
        ranking,
        dict(zip(rows.keys, offsets.tolist(), strict=True)) if one_by_one else {},
        default,
        prior,
    )


def _offsets(rows: Rows, missing: Floats) -> Floats:
    """What a prior is off by of each spec, as far as so many measurements tell."""
    found = np.zeros(len(rows.keys))
    for group in range(len(rows.keys)):
        mine = rows.groups == group
        count = float(mine.sum())
        found[group] = np.median(missing[mine]) * count / (count + OFFSET_ROWS)
    return found


def ask(booster: Any, table: NDArray[np.float32]) -> Floats:
    """What a booster adds to each row's margin."""
    answer = booster.inplace_predict(table, predict_type="margin")
    return np.asarray(answer, dtype=np.float64)


def text_of(booster: Any) -> str:
    """A booster's JSON without what training left in its nodes; half of the size."""
    data = json.loads(bytes(booster.save_raw("json")))
    for tree in data["learner"]["gradient_booster"]["model"]["trees"]:
        for name in ("loss_changes", "sum_hessian"):
            tree[name] = [0.0] * len(tree[name])
    return json.dumps(data, separators=(",", ":"))


def parse(text: str) -> Any:
    """A booster from its JSON.

    Raises:
        EnvironmentProblem: xgboost is not installed.
    """
    booster = xgboost().Booster({"nthread": 1})
    booster.load_model(bytearray(text.encode("utf-8")))
    return booster
