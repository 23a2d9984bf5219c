"""Which exact answers are there, where they lie, and which may go."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.template import get_template

if TYPE_CHECKING:
    from tvmconv.tuning.measure import Trial

# Specs whose exact answers are kept.
MAX_ANSWERS = 32

Key = tuple[str, str]  # spec, accuracy


def answer_key(trial: Trial) -> Key:
    """Which answer and bound a trial is compared with."""
    template = get_template(trial.template_id)
    return str(trial.task.spec), template.accuracy(trial.task, trial.config)


class PreparedAnswers:
    """The answers that were asked for, by spec and accuracy."""

    def __init__(self, folder: Path) -> None:
        """Take the folder that their folders go into."""
        self._folder = folder
        self._ready: dict[Key, bool] = {}

    def __contains__(self, trial: Trial) -> bool:
        """Whether a trial's answer is there."""
        return self._ready.get(answer_key(trial), False)

    def folder(self, spec: str) -> Path:
        """Where the answers of a spec lie."""
        return self._folder / hashlib.sha256(spec.encode()).hexdigest()[:16]

    def ask(self, trial: Trial, used: Collection[str]) -> Key | None:
        """The key that has to be prepared for a trial, None when it was asked for before.

        The specs that were used longest ago are forgotten, except those in ``used``: large ones
        take 100 MB.
        """
        key = answer_key(trial)
        if key in self._ready:
            return None
        specs = list(dict.fromkeys(spec for spec, _ in self._ready))
        for spec in specs[: -MAX_ANSWERS or None]:
            if spec not in used:
                shutil.rmtree(self.folder(spec), ignore_errors=True)
                self._ready = {k: v for k, v in self._ready.items() if k[0] != spec}
        self._ready[key] = False
        return key

    def arrived(self, key: Key) -> None:
        """Note that an answer is there."""
        self._ready[key] = True

    def drop_pending(self) -> None:
        """Forget what was asked for and is not there."""
        self._ready = {key: True for key, ready in self._ready.items() if ready}
