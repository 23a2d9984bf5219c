"""The registry of peers: which libraries a kernel is compared with, and how each one is set up.

A family is a library; its file offers, without importing the library,

    NAMES                            the ways in which it can run a layer, each a contestant
    names_for(spec)                  those that make sense for a spec, best known first
    prepare(name, plain, threads)    a Ready; raises UnsupportedSpec with the reason when it has
                                     no such layer, ImportError when it is not installed

and is used in a process of its own (process.py).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from tvmconv.bench.plain import Plain
from tvmconv.bench.timing import Slice
from tvmconv.errors import ArgumentError
from tvmconv.spec import ConvSpec

Array = NDArray[Any]


@dataclass(frozen=True)
class Ready:
    """A peer's layer, set up with its data.

    Attributes:
        call: what is timed: the layer alone, input and weights in the peer's own order.
        read: gives [n, oc, *out] from what a call returned.
    """

    call: Callable[[], Any]
    read: Callable[[Any], Array]


class PeerFile(Protocol):
    """What the file of a family offers."""

    NAMES: tuple[str, ...]

    def names_for(self, spec: ConvSpec) -> tuple[str, ...]:
        """The contestants that make sense for a spec."""

    def prepare(self, name: str, plain: Plain, threads: int) -> Ready:
        """Set one contestant up."""


@dataclass(frozen=True)
class Family:
    """A library that computes convolutions.

    Attributes:
        module: dotted name of its file.
        packages: the distributions whose versions a result names.
        in_all: whether "all" includes it.
        prepare_seconds: after so long without an answer a set-up is given up.
    """

    module: str
    packages: tuple[str, ...]
    in_all: bool = True
    prepare_seconds: float = 60.0

    @property
    def file(self) -> PeerFile:
        """The family's module, imported."""
        return cast("PeerFile", import_module(self.module))


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "torch": Family("tvmconv.bench.torch_peers", ("torch",), prepare_seconds=180.0),
        # For kernels of GPUs, where it takes the place of torch.
        "torch_cuda": Family(
            "tvmconv.bench.torch_cuda_peers", ("torch",), in_all=False, prepare_seconds=180.0
        ),
        "onnxruntime": Family("tvmconv.bench.onnxruntime_peer", ("onnxruntime", "onnx")),
        "openvino": Family("tvmconv.bench.openvino_peer", ("openvino", "onnx")),
        "ncnn": Family("tvmconv.bench.ncnn_peer", ("ncnn",)),
        "metaschedule": Family(
            "tvmconv.bench.metaschedule_peer",
            ("apache-tvm", "cloudpickle", "psutil", "tornado"),
            in_all=False,
            prepare_seconds=600.0,
        ),
    }
)


@dataclass(frozen=True)
class Prepared:
    """A peer that is ready to be timed on one spec, or the reason why it is not.

    Attributes:
        name: the contestant.
        answer: [n, oc, *out].
        slice: times it, see timing.py; raises ContestantLost when its process dies.
        status: "ok", or "failed", "unsupported" or "not installed".
        problem: the reason, in one line.
    """

    name: str
    answer: Array | None = None
    slice: Slice | None = None
    status: str = "ok"
    problem: str = ""


class Peers(Protocol):
    """Something that holds peers and times slices of them."""

    def prepare(self, names: Sequence[str], plain: Plain) -> list[Prepared]:
        """Set the named peers up for a layer and compute each one's answer."""


def family_of(name: str, families: Mapping[str, Family] = FAMILIES) -> str:
    """The family of a contestant ("torch_frozen", "metaschedule:32") or of a family's own name.

    Raises:
        ArgumentError: neither.
    """
    plain, _, number = name.partition(":")
    for id_, family in families.items():
        if plain in (id_, *family.file.NAMES) and (not number or takes_number(id_, number)):
            return id_
    raise ArgumentError("peers", name, ", ".join(("all", "none", *_all_names(families))))


def takes_number(family: str, number: str) -> bool:
    """Whether a family can be named with this number: trials, for a peer that tunes."""
    return family == "metaschedule" and number.isdecimal() and int(number) > 0


def chosen(peers: Sequence[str], families: Mapping[str, Family] = FAMILIES) -> list[str]:
    """Read what a user asked for: "all", "none", names apart or joined by commas.

    Raises:
        ArgumentError: a name that is neither a family nor a contestant.
    """
    names: list[str] = []
    for name in (part.strip() for text in peers for part in text.split(",")):
        if name == "all":
            names += [id_ for id_, family in families.items() if family.in_all]
        elif name and name != "none":
            family_of(name, families)
            names.append(name)
    return list(dict.fromkeys(names))


def names_for(
    peers: Sequence[str], spec: ConvSpec, families: Mapping[str, Family] = FAMILIES
) -> list[str]:
    """Expand families ("torch") into the contestants that make sense for a spec.

    Raises:
        ArgumentError: see `chosen`.
    """
    names: list[str] = []
    for name in chosen(peers, families):
        sensible = families[family_of(name, families)].file.names_for(spec)
        if name in families:
            names += sensible
        elif name.partition(":")[0] in sensible:
            names.append(name)
    return list(dict.fromkeys(names))


def _all_names(families: Mapping[str, Family]) -> Iterator[str]:
    for id_, family in families.items():
        yield from dict.fromkeys((id_, *family.file.NAMES))
