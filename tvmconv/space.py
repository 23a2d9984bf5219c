"""Configs and the spaces they come from: small frozen values that print, parse and index.

A template says its space knob by knob, as AutoTVM's do::

    ConfigSpace().define_knob("stage", ("none", "pixels")).define_split("block", 56, 16).where(...)

Whole spaces are handled as columns, one array per knob: a hundred thousand configs are filtered and
scored in a fraction of a second, and only those that are looked at become ``Config`` values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from tvmconv.errors import ArgumentError, InvalidConfig

Value = int | str
Columns = Mapping[str, NDArray[Any]]
# Points that are handled as one array.
AT_ONCE = 1 << 16
_INTEGER = re.compile(r"-?[0-9]+")


@dataclass(frozen=True)
class Config:
    """One point of a space: knob names and values, in the order of the space."""

    items: tuple[tuple[str, Value], ...]

    @cached_property
    def _values(self) -> dict[str, Value]:
        # Predictions of thousands of configs ask each for every knob, several times.
        return dict(self.items)

    @classmethod
    def of(cls, **knobs: Value) -> Config:
        """A config from keywords."""
        return cls(tuple(knobs.items()))

    @classmethod
    def parse(cls, text: str) -> Config:
        """Invert ``str``: "tile_oc=32,stage=pixels".

        Raises:
            InvalidConfig: when a part is not ``knob=value``.
        """
        items: list[tuple[str, Value]] = []
        for part in filter(None, text.split(",")):
            name, equals, value = part.partition("=")
            if not (name and equals and value):
                raise InvalidConfig(
                    "config", part, "parts of the form knob=value, joined by commas"
                )
            items.append((name, int(value) if _INTEGER.fullmatch(value) else value))
        return cls(tuple(items))

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.items)

    def integer(self, name: str) -> int:
        """Value of an integer knob.

        Raises:
            InvalidConfig: when the knob is missing or holds text.
        """
        value = self._values.get(name)
        if not isinstance(value, int):
            raise InvalidConfig(f"config {name}", value, "an int")
        return value

    def text(self, name: str) -> str:
        """Value of a knob that is a word.

        Raises:
            InvalidConfig: when the knob is missing or holds a number.
        """
        value = self._values.get(name)
        if not isinstance(value, str):
            raise InvalidConfig(f"config {name}", value, "a word")
        return value


def even_splits(extent: int, most: int) -> tuple[int, ...]:
    """Sizes of parts that split an extent evenly, into at most `most`; smallest first, and one."""
    counts = {*range(1, 17), *(1 << k for k in range(5, 11)), *(3 << k for k in range(3, 9))}
    return tuple(sorted({1, *(-(-extent // k) for k in counts if k <= min(most, extent))}))


@dataclass(frozen=True)
class ConfigSpace:
    """All combinations of the knobs' choices that the filter accepts.

    Attributes:
        knobs: choices by name.
        valid: None, or the reason why a config cannot be (registers, cache, divisibility).
        valid_rows: the same of many configs at once, as truth values; without it, ``valid`` is
            asked one by one.
    """

    knobs: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    valid: Callable[[Config], str | None] = lambda config: None
    valid_rows: Callable[[Columns], NDArray[np.bool_]] | None = None

    def define_knob(self, name: str, choices: Sequence[Value]) -> ConfigSpace:
        """The space with one more knob.

        Raises:
            ArgumentError: a knob without choices, with one twice, or of a name that is there.
        """
        if name in self.knobs:
            raise ArgumentError("knob", name, f"a name beside {', '.join(self.knobs)}")
        if not choices or len(set(choices)) != len(choices):
            raise ArgumentError(f"choices of {name}", tuple(choices), "distinct values")
        return replace(self, knobs={**self.knobs, name: tuple(choices)})

    def define_split(self, name: str, extent: int, most: int) -> ConfigSpace:
        """The space with a knob for the parts of an axis: sizes that split it evenly."""
        return self.define_knob(name, even_splits(extent, most))

    def where(
        self,
        valid: Callable[[Config], str | None],
        valid_rows: Callable[[Columns], NDArray[np.bool_]] | None = None,
    ) -> ConfigSpace:
        """The space with this filter."""
        return replace(self, valid=valid, valid_rows=valid_rows)

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts())

    def __iter__(self) -> Iterator[Config]:
        for part in self._parts():
            yield from part

    def configs(self, indices: NDArray[np.int64] | None = None) -> Configs:
        """The valid ones among these grid indices, or of the whole grid, in order."""
        parts = self._parts() if indices is None else [self._valid(indices)]
        return Configs(self, np.concatenate([part.indices for part in parts]))

    def _parts(self) -> Iterator[Configs]:
        """The valid points of the whole grid, some at a time: columns of 1e8 would not fit."""
        for start in range(0, max(1, self.grid_size), AT_ONCE):
            yield self._valid(np.arange(start, min(self.grid_size, start + AT_ONCE)))

    def _valid(self, indices: NDArray[np.int64]) -> Configs:
        points = Configs(self, indices)
        if self.valid_rows is not None:
            return Configs(self, indices[self.valid_rows(points.columns)])
        keep = [self.valid(config) is None for config in points]
        return Configs(self, indices[np.array(keep, dtype=bool)])

    @property
    def grid_size(self) -> int:
        """Points before the filter."""
        return prod(len(choices) for choices in self.knobs.values())

    def at(self, index: int) -> Config:
        """The config at a grid index, valid or not; the last knob runs fastest."""
        items: list[tuple[str, Value]] = []
        for name, choices in reversed(list(self.knobs.items())):
            index, at = divmod(index, len(choices))
            items.append((name, choices[at]))
        return Config(tuple(reversed(items)))

    def index(self, config: Config) -> int:
        """Grid index of a config; inverts ``at``."""
        self.check(config)
        total = 0
        for (name, choices), (_, value) in zip(self.knobs.items(), config.items, strict=True):
            del name
            total = total * len(choices) + choices.index(value)
        return total

    def check(self, config: Config) -> None:
        """Accept a config of this space.

        Raises:
            InvalidConfig: an unknown knob, a value that is no choice, or the filter's reason.
        """
        names = [name for name, _ in config.items]
        if names != list(self.knobs):
            raise InvalidConfig("config knobs", ",".join(names), ",".join(self.knobs))
        for name, value in config.items:
            if value not in self.knobs[name]:
                allowed = ", ".join(map(str, self.knobs[name]))
                raise InvalidConfig(f"config {name}", value, f"one of {allowed}")
        reason = self.valid(config)
        if reason is not None:
            raise InvalidConfig(f"config {config}: {reason}")


@dataclass(frozen=True, eq=False)
class Configs(Sequence[Config]):
    """Points of a space, kept as grid indices: a sequence of Config, and its columns."""

    space: ConfigSpace
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, at: int) -> Config: ...

    @overload
    def __getitem__(self, at: slice) -> Configs: ...

    def __getitem__(self, at: int | slice) -> Config | Configs:
        if isinstance(at, slice):
            return Configs(self.space, self.indices[at])
        return self.space.at(int(self.indices[at]))

    @cached_property
    def columns(self) -> Columns:
        """Values of each knob: integers, or objects where a choice is a word."""
        found, rest = {}, self.indices
        for name, choices in reversed(list(self.space.knobs.items())):
            rest, digit = np.divmod(rest, len(choices))
            found[name] = _column(choices)[digit]
        return dict(reversed(found.items()))


def columns_of(configs: Sequence[Config]) -> Columns:
    """Values of each knob of configs that all have the same knobs."""
    if isinstance(configs, Configs):
        return configs.columns
    if not configs:
        return {}
    names = [name for name, _ in configs[0].items]
    values = zip(*([value for _, value in config.items] for config in configs), strict=True)
    return {name: _column(column) for name, column in zip(names, values, strict=True)}


def _column(values: Sequence[Value]) -> NDArray[Any]:
    whole = all(isinstance(value, int) for value in values)
    return np.array(values, dtype=np.int64 if whole else object)
