"""What a run says as a whole: ratios over all layers and over each kind of layer."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from tvmconv.bench.rows import Layer, geometric_mean
from tvmconv.spec import ConvSpec

WIDE = 64  # channels from which on a 3x3 layer is dominated by its products, not its transforms


@dataclass(frozen=True)
class Summary:
    """Ratios over several layers; above 1 the kernels are faster.

    Attributes:
        kind: what the layers have in common, or "all".
        layers: how many there are.
        compared: how many of them have a right answer of ours and of a peer.
        to_best: geometric mean against each layer's best peer.
        to_torch: the same against the best of torch.
        worst: the smallest ratio to the best peer.
        worst_spec: where that is.
        won: layers on which the kernel is at least as fast as every peer.
    """

    kind: str
    layers: int
    compared: int
    to_best: float | None
    to_torch: float | None
    worst: float | None
    worst_spec: str
    won: int

    @classmethod
    def of(cls, kind: str, compared: Sequence[Layer]) -> "Summary":
        """Summarise layers."""
        ratios = {layer.ours.spec: layer.ratio for layer in compared if layer.ratio}
        worst = min(ratios, key=lambda spec: ratios[spec] or 0.0, default="")
        return cls(
            kind=kind,
            layers=len(compared),
            compared=len(ratios),
            to_best=geometric_mean(ratios.values()),
            to_torch=geometric_mean(layer.ratio_to(layer.best_of("torch")) for layer in compared),
            worst=ratios.get(worst),
            worst_spec=worst,
            won=sum(ratio is not None and ratio >= 1 for ratio in ratios.values()),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def by_kind(compared: Iterable[Layer]) -> list[Summary]:
    """One summary for each kind of layer that occurs, the most frequent first."""
    grouped: dict[str, list[Layer]] = {}
    for layer in compared:
        grouped.setdefault(kind_of(layer.spec), []).append(layer)
    found = [Summary.of(kind, group) for kind, group in grouped.items()]
    return sorted(found, key=lambda one: -one.layers)


def kind_of(spec: ConvSpec) -> str:
    """The kind of layer that a spec is, as people group them: "3x3 s1, C >= 64"."""
    if spec.op == "deform_conv":
        return "deformable"
    if spec.op == "conv_transpose":
        return "transposed"
    depthwise = "depthwise " if spec.is_depthwise else ""
    if spec.rank != 2:
        return f"{depthwise}{spec.rank}-D"
    stride = "s1" if prod(spec.stride) == 1 else "s2 and more"
    if depthwise:
        return f"depthwise {stride}"
    if spec.groups > 1:
        return "grouped"
    if prod(spec.dilation) > 1:
        return "dilated"
    if prod(spec.kernel) == 1:
        return f"1x1 {stride}"
    if spec.kernel == (3, 3):
        if stride == "s1":
            return f"3x3 s1, C {'>=' if min(spec.ic, spec.oc) >= WIDE else '<'} {WIDE}"
        return f"3x3 {stride}"
    return "other kernels"
