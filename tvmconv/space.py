"""Configs and the spaces they come from: small frozen values that print, parse and index."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from tvmconv.errors import InvalidConfig

Value = int | str
_INTEGER = re.compile(r"-?[0-9]+")


@dataclass(frozen=True)
class Config:
    """One point of a space: knob names and values, in the order of the space."""

    items: tuple[tuple[str, Value], ...]

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
        value = dict(self.items).get(name)
        if not isinstance(value, int):
            raise InvalidConfig(f"config {name}", value, "an int")
        return value

    def text(self, name: str) -> str:
        """Value of a knob that is a word.

        Raises:
            InvalidConfig: when the knob is missing or holds a number.
        """
        value = dict(self.items).get(name)
        if not isinstance(value, str):
            raise InvalidConfig(f"config {name}", value, "a word")
        return value


@dataclass(frozen=True)
class ConfigSpace:
    """All combinations of the knobs' choices that the filter accepts.

    ``valid`` returns None, or the reason why a config cannot be (registers, cache, divisibility).
    """

    knobs: Mapping[str, tuple[Value, ...]]
    valid: Callable[[Config], str | None]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Config]:
        for index in range(self.grid_size):
            config = self.at(index)
            if self.valid(config) is None:
                yield config

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
