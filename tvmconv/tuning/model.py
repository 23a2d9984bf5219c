"""The cost model: gradient-boosted trees that correct a template's analytic prediction.

One pair of boosters per template serves all its specs and targets:

* a regression of ``log(seconds / analytic cycles)``, whose answers are seconds, so that configs of
  different templates and algorithms compare;
* below RANKED_ROWS measurements a ranking by pairs within each spec (``rank:pairwise`` over the
  mean of all pairs; the default, the topmost pairs only, loses the order of the rest). Both correct
  the analytic prediction; from 8 to 64 of them the ranking's first pick was at 98 to 99 % of
  the best, the regression's at 95 to 98 %, with equal rank correlation.

Only this file imports xgboost, and only when a model is trained, loaded or asked.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvmconv.errors import EnvironmentProblem, RecordsError
from tvmconv.space import Config
from tvmconv.template import Task, Template
from tvmconv.tuning.dataset import Rows, key_of, rows_of
from tvmconv.tuning.features import Table, tabulate
from tvmconv.tuning.records import Record

Floats = NDArray[np.float64]

FORMAT = 1
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
        return self.margin(table, key) + _ask(self.regression, table)

    def margin(self, table: NDArray[np.float32], key: str) -> Floats:
        """What is known without this fit's own trees."""
        before = self.prior.log_ratio(table, key) if self.prior else np.zeros(len(table))
        return before + self.offsets.get(key, self.default_offset)


class CostModel:
    """Predicted seconds of configs; see the module."""

    def __init__(self, fitted: Mapping[str, Fitted]) -> None:
        """Take the boosters of each template id."""
        self._fitted = dict(fitted)

    @property
    def templates(self) -> tuple[str, ...]:
        """Ids of the templates that it was trained for."""
        return tuple(sorted(self._fitted))

    @property
    def seconds_per_cycle(self) -> float:
        """What a predicted cycle takes on the whole; for templates that it does not know."""
        ratios = [fitted.log_seconds_per_cycle for fitted in self._fitted.values()]
        return float(np.exp(np.median(ratios))) if ratios else 1.0

    @classmethod
    def fit(
        cls,
        records: Sequence[Record],
        *,
        prior: CostModel | None = None,
        per_spec: bool = True,
        seed: int = 0,
        rounds: int = ROUNDS,
    ) -> CostModel:
        """Train on records of any specs and targets; those that no longer apply are left out.

        Args:
            records: measurements, failures included.
            prior: a model of other specs or targets, whose predictions this one corrects.
            per_spec: whether each spec is corrected by itself first, or all of them alike, which
                holds for specs that were not measured too.
            seed: of the sampling of rows and columns; the same gives the same model.
            rounds: most trees of a regression.

        Raises:
            EnvironmentProblem: xgboost is not installed.
        """
        rows = rows_of(records)
        return cls.fit_rows(rows, prior=prior, per_spec=per_spec, seed=seed, rounds=rounds)

    @classmethod
    def fit_rows(
        cls,
        rows: Mapping[str, Rows],
        *,
        prior: CostModel | None = None,
        per_spec: bool = True,
        seed: int = 0,
        rounds: int = ROUNDS,
    ) -> CostModel:
        """As ``fit``, on features that are there already, by template id."""
        fitted = dict(prior._fitted) if prior else {}
        for template_id, of_template in rows.items():
            before = prior._usable(template_id, of_template.names) if prior else None
            fitted[template_id] = _fit(of_template, before, per_spec, seed, rounds)
        return cls(fitted)

    def joined(self, other: CostModel) -> CostModel:
        """This model with the other's templates, which replace its own of the same id."""
        return CostModel(self._fitted | other._fitted)

    def seconds(self, template_id: str, rows: Rows) -> Floats:
        """Seconds of rows that are there already; NaN for a template that it does not know."""
        fitted = self._usable(template_id, rows.names)
        if fitted is None:
            return np.full(len(rows.groups), np.nan)
        ratio = np.empty(len(rows.groups))
        for group, key in enumerate(rows.keys):
            mine = rows.groups == group
            ratio[mine] = fitted.log_ratio(rows.features[mine], key)
        seconds: Floats = np.exp(ratio + rows.log_cycles)
        return seconds

    def knows(self, template_id: str) -> bool:
        """Whether there is anything to predict a template from."""
        return template_id in self._fitted

    def predict(self, task: Task, template: Template, configs: Sequence[Config]) -> Floats:
        """Seconds of each config.

        Raises:
            RecordsError: the model does not know the template, or knew it with other features.
        """
        if not configs:
            return np.zeros(0)
        table = tabulate(task, template, configs)
        fitted = self._require(template.id, table)
        seconds: Floats = np.exp(fitted.log_ratio(table.rows, key_of(task)) + table.log_cycles)
        return seconds

    def score(self, task: Task, template: Template, configs: Sequence[Config]) -> Floats:
        """A number per config that puts the fast ones first; comparable within this call alone.

        Raises:
            RecordsError: as ``predict``.
        """
        if not configs:
            return np.zeros(0)
        table = tabulate(task, template, configs)
        fitted = self._require(template.id, table)
        if fitted.ranking is None:
            return fitted.log_ratio(table.rows, key_of(task)) + table.log_cycles
        before = fitted.margin(table.rows, key_of(task)) + table.log_cycles
        return RANKING_SCALE * before - _ask(fitted.ranking, table.rows)

    def _usable(self, template_id: str, names: tuple[str, ...]) -> Fitted | None:
        fitted = self._fitted.get(template_id)
        return fitted if fitted and fitted.names == names else None

    def _require(self, template_id: str, table: Table) -> Fitted:
        fitted = self._fitted.get(template_id)
        if fitted is None:
            raise RecordsError("template", template_id, ", ".join(self.templates) or "none yet")
        if fitted.names != table.names:
            raise RecordsError(f"the model of {template_id} was trained on other features")
        return fitted

    def save(self, path: str | Path) -> None:
        """Write the model as compressed JSON; the same model gives the same bytes.

        Of a model that corrects a prior only the corrections are written.

        Raises:
            RecordsError: it corrects specs one by one, or the file cannot be written.
        """
        templates = {}
        corrections = {i: fitted for i, fitted in self._fitted.items() if fitted.prior}
        for template_id, fitted in sorted((corrections or self._fitted).items()):
            if fitted.offsets:
                raise RecordsError("a model that corrects specs one by one serves no others")
            templates[template_id] = {
                "names": list(fitted.names),
                "offset": fitted.default_offset,
                "booster": _without_statistics(bytes(fitted.regression.save_raw("json"))),
            }
        text = json.dumps({"format": FORMAT, "templates": templates})
        try:
            with Path(path).open("wb") as file, gzip.GzipFile("", "wb", 9, file, 0) as packed:
                packed.write(text.encode("utf-8"))
        except OSError as error:
            raise RecordsError(f"cannot write {path}: {error.strerror}") from error

    @classmethod
    def load(cls, path: str | Path, upon: CostModel | None = None) -> CostModel:
        """Read a saved model, or corrections of the model that they stand upon.

        Corrections of templates that have got other features since are left out.

        Raises:
            RecordsError: the file cannot be read, or is not a model of this format.
            EnvironmentProblem: xgboost is not installed.
        """
        package = xgboost()
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise RecordsError(f"cannot read {path}: {error.strerror}") from error
        try:
            data = json.loads(gzip.decompress(content))
            if data["format"] != FORMAT:
                raise RecordsError(f"format of {path}", data["format"], str(FORMAT))
            fitted = dict(upon._fitted) if upon else {}
            for template_id, saved in data["templates"].items():
                names = tuple(saved["names"])
                prior = upon._usable(template_id, names) if upon else None
                if upon is not None and prior is None:
                    continue
                booster = package.Booster({"nthread": 1})
                booster.load_model(bytearray(saved["booster"].encode("utf-8")))
                offset = float(saved["offset"])
                fitted[template_id] = Fitted(names, booster, default_offset=offset, prior=prior)
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordsError(f"{path} is no cost model: {error!r}") from error
        return cls(fitted)


def _without_statistics(booster: bytes) -> str:
    """A booster's JSON without what training left in its nodes; half of the size."""
    data = json.loads(booster)
    for tree in data["learner"]["gradient_booster"]["model"]["trees"]:
        for name in ("loss_changes", "sum_hessian"):
            tree[name] = [0.0] * len(tree[name])
    return json.dumps(data, separators=(",", ":"))


def _ask(booster: Any, table: NDArray[np.float32]) -> Floats:
    answer = booster.inplace_predict(table, predict_type="margin")
    return np.asarray(answer, dtype=np.float64)


def _offsets(rows: Rows, missing: Floats) -> Floats:
    """What a prior is off by of each spec, as far as so many measurements tell."""
    found = np.zeros(len(rows.keys))
    for group in range(len(rows.keys)):
        mine = rows.groups == group
        count = float(mine.sum())
        found[group] = np.median(missing[mine]) * count / (count + OFFSET_ROWS)
    return found


def _fit(rows: Rows, prior: Fitted | None, per_spec: bool, seed: int, rounds: int) -> Fitted:
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
