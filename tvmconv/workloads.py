"""Convolutions of well-known networks at their usual input size, batch 1.

data/workloads.json holds for each network its distinct convolutions as
``[name of the first such layer, how often it occurs, spec text, multiply-adds, what follows]``.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from tvmconv.errors import SpecError
from tvmconv.spec import ConvSpec

ALL = "all"


class Layer(NamedTuple):
    """A distinct convolution of a network: its first name, how often it occurs, and its spec."""

    name: str
    repeats: int
    spec: ConvSpec


def names() -> tuple[str, ...]:
    """Return the names of the networks."""
    return tuple(_table())


def load(network: str, *, fused: bool = False) -> tuple[Layer, ...]:
    """Return the distinct convolutions of a network, in the order in which data passes them.

    Args:
        network: one of `names()`.
        fused: give a spec the bias that a following batch norm folds into and the activation that
            comes next, as a deployed network has them; otherwise it is the convolution alone.

    Raises:
        SpecError: for an unknown network.
    """
    table = _table()
    if network not in table:
        raise SpecError("network", network, _suggest(network))
    layers = []
    for name, count, text, _, followed_by in table[network]:
        spec = ConvSpec.parse(text)
        layers.append(Layer(name, count, _fuse(spec, followed_by.split()) if fused else spec))
    return tuple(layers)


def everything(*, fused: bool = False) -> tuple[Layer, ...]:
    """Return the distinct convolutions of all networks, each named by the first that has it."""
    found: dict[ConvSpec, Layer] = {}
    for network in names():
        for layer in load(network, fused=fused):
            named = layer._replace(name=f"{network}:{layer.name}")
            known = found.setdefault(layer.spec, named._replace(repeats=0))
            found[layer.spec] = known._replace(repeats=known.repeats + layer.repeats)
    return tuple(found.values())


def resolve(text: str, *, fused: bool = False) -> tuple[Layer, ...]:
    """Return the layers that a text names; `fused` as in `load`, a single spec stays as it is.

    | text                        | gives                                            |
    | --------------------------- | ------------------------------------------------ |
    | conv2d_n1c3s8x8_o4k3x3      | that spec, named by its text                     |
    | resnet50                    | all distinct convolutions of the network         |
    | mobilenet_v2:3              | the fourth of them: they are counted from 0      |
    | resnet50:layer1.0.conv3     | the one of that name                             |
    | all                         | the distinct convolutions of all networks        |

    Raises:
        SpecError: for what is none of these.
    """
    network, _, which = text.strip().partition(":")
    if text.strip() == ALL:
        return everything(fused=fused)
    if network not in _table() and re.match(r"[a-z]+\dd_", network.lower()):
        spec = ConvSpec.parse(text)
        return (Layer(str(spec), 1, spec),)
    layers = load(network, fused=fused)
    if not which:
        return layers
    chosen = tuple(layer for index, layer in enumerate(layers) if which in (str(index), layer.name))
    if not chosen:
        allowed = f"{network}:0 to {network}:{len(layers) - 1}, or {network}:{layers[0].name} etc."
        raise SpecError("layer", text, allowed)
    return chosen


def listed(text: str) -> tuple[Layer, ...]:
    """Return the layers that a text names, as `resolve` does, or of @FILE those of its lines.

    Raises:
        SpecError: a text or a line that `resolve` does not take, or a file that cannot be read.
    """
    if not text.startswith("@"):
        return resolve(text)
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError("workloads", text, f"@ and a text file ({error})") from error
    return tuple(layer for line in lines if line.strip() for layer in resolve(line))


Row = tuple[str, int, str, int, str]


@cache
def _table() -> dict[str, list[Row]]:
    text = files("tvmconv").joinpath("data/workloads.json").read_text(encoding="utf-8")
    table: dict[str, list[Row]] = json.loads(text)
    return table


def _suggest(name: str) -> str:
    near = get_close_matches(name, names(), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    known = ", ".join((*names(), ALL))
    return f"a spec text such as conv2d_n1c3s8x8_o4k3x3_p1, or one of {known}{hint}"


_ACTIVATIONS = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "Hardswish": "hardswish",
    "GELU": "gelu",
    "Tanh": "tanh",
}


def _fuse(spec: ConvSpec, followed_by: list[str]) -> ConvSpec:
    if followed_by and followed_by[0].startswith("BatchNorm"):
        spec = replace(spec, bias=True)
        followed_by = followed_by[1:]
    activation = _ACTIVATIONS.get(followed_by[0]) if followed_by else None
    return replace(spec, activation=activation) if activation else spec
