"""The cost model: what boosters of all templates (boosters.py) say of configs.

One pair of boosters per template serves all its specs and targets.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tvmconv.errors import RecordsError
from tvmconv.space import Config
from tvmconv.template import Task, Template
from tvmconv.tuning.boosters import (
    RANKING_SCALE,
    ROUNDS,
    Fitted,
    Floats,
    ask,
    fit,
    parse,
    text_of,
    xgboost,
)
from tvmconv.tuning.dataset import Rows, key_of, rows_of
from tvmconv.tuning.features import Table, tabulate
from tvmconv.tuning.records import Record

FORMAT = 1


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
            fitted[template_id] = fit(of_template, before, per_spec, seed, rounds)
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
        return RANKING_SCALE * before - ask(fitted.ranking, table.rows)

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
                "booster": text_of(fitted.regression),
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
        xgboost()
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
                booster = parse(saved["booster"])
                offset = float(saved["offset"])
                fitted[template_id] = Fitted(names, booster, default_offset=offset, prior=prior)
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RecordsError(f"{path} is no cost model: {error!r}") from error
        return cls(fitted)
