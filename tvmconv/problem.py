"""The canonical form of a convolution: five axes, flat strides, and taps that walk forward.

Every variant that a :class:`~tvmconv.spec.ConvSpec` can describe becomes the same sum here::

    y[n, g, oc, o_d, o_h, o_w] = sum over ic and taps j of
        w[g, oc, ic, tap(p, j)] * x[n, g, ic, q * stride + origin[p] + j * step]
    with  o = q * phases + p   on each axis.

A forward convolution has one phase. A transposed one with stride s has s phases, each an ordinary
stride-1 convolution over its own slice of the kernel (Dumoulin and Visin 2016, section 4; the
"sub-pixel" form of Shi et al. 2016). Ranks 1 and 2 are rank 3 with leading axes of extent one, and
neighbouring axes without taps are merged, so a pointwise layer is a matrix product here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd, prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvmconv.spec import ConvSpec


@dataclass(frozen=True)
class Axis:
    """One spatial axis. All numbers are in elements; ``taps`` is the maximum over the phases."""

    in_extent: int
    out_extent: int
    phases: int = 1
    stride: int = 1
    step: int = 1
    origins: tuple[int, ...] = (0,)
    tap_counts: tuple[int, ...] = (1,)
    first_taps: tuple[int, ...] = (0,)
    tap_stride: int = 1

    @property
    def taps(self) -> int:
        """Most taps of any phase, at least one so that the nest always has a body."""
        return max(1, *self.tap_counts)

    @property
    def residues(self) -> int:
        """Residues of taps modulo the stride; those of one read every stride-th input alone."""
        return min(self.stride, self.taps)

    @property
    def residue_taps(self) -> int:
        """Most taps of one residue."""
        return -(-self.taps // self.stride)

    @property
    def full_residues(self) -> int:
        """Residues that have so many taps; the others have one fewer."""
        return self.taps - (self.residue_taps - 1) * self.stride

    @property
    def quotients(self) -> int:
        """How many q a phase has: outputs per phase, rounded up."""
        return -(-self.out_extent // self.phases)

    @property
    def is_plain(self) -> bool:
        """True when o reads exactly x at o: no taps, stride, padding or phases."""
        return self == Axis(self.in_extent, self.in_extent)

    @property
    def low(self) -> int:
        """Smallest input coordinate that any output reads."""
        return min(self.origins)

    @property
    def high(self) -> int:
        """One past the largest input coordinate that any output reads."""
        return self.window(self.quotients)

    def window(self, quotients: int) -> int:
        """One past the largest coordinate that the first ``quotients`` q read."""
        return (quotients - 1) * self.stride + max(self.origins) + (self.taps - 1) * self.step + 1

    @property
    def is_beyond(self) -> bool:
        """True when all taps of the first or of the last outputs lie in the padding."""
        last = (self.quotients - 1) * self.stride + self.low
        return last >= self.in_extent or max(self.origins) + (self.taps - 1) * self.step < 0

    def rows(self, quotients: int) -> int:
        """Rows that taps of the first ``quotients`` q read: theirs alone where they lie far apart.

        A row of outputs of three taps at dilation 12 reads 3 rows of a window of 25.
        """
        whole = self.window(quotients) - self.low
        return min(whole, self.taps * quotients) if self.is_dilated else whole

    @property
    def is_dilated(self) -> bool:
        """True when the taps of neighbouring outputs lie apart from each other."""
        return self.step > 1 and self.stride == 1 and self.phases == 1

    @property
    def is_uneven(self) -> bool:
        """True when some phase has fewer taps than another, or none."""
        return any(count < self.taps for count in self.tap_counts)

    @property
    def is_padded(self) -> bool:
        """True when some output reads outside the input."""
        return self.low < 0 or self.high > self.in_extent


@dataclass(frozen=True)
class Strides:
    """Element strides of a tensor in the axes n, g, c (within the group), d, h, w."""

    n: int
    g: int
    c: int
    space: tuple[int, int, int]

    def offset(self, n: Any, g: Any, c: Any, space: tuple[Any, ...]) -> Any:
        """Flat offset of an element; works on ints and on TVM expressions alike."""
        terms = ((n, self.n), (g, self.g), (c, self.c), *zip(space, self.space, strict=True))
        return sum(i * s for i, s in terms if not (isinstance(i, int) and i == 0))


@dataclass(frozen=True)
class Problem:
    """A convolution in canonical form. ``icg`` and ``ocg`` count channels within one group."""

    n: int
    g: int
    icg: int
    ocg: int
    axes: tuple[Axis, Axis, Axis]
    x: Strides
    y: Strides
    x_elems: int
    y_elems: int
    padding_mode: str
    pad_value: float

    @property
    def macs(self) -> int:
        """Multiply-adds with every tap counted, padding included."""
        taps = prod(a.out_extent * a.taps for a in self.axes)
        return self.n * self.g * self.ocg * self.icg * taps

    @property
    def reduction(self) -> int:
        """Terms summed into one output, K."""
        return self.icg * prod(a.taps for a in self.axes)

    @property
    def channels_last(self) -> bool:
        """True when the channels of one input pixel are contiguous."""
        return (self.x.c == 1 and self.icg * self.g > 1) or self.x.space[2] != 1

    @property
    def output_channels_last(self) -> bool:
        """True when the channels of one output pixel are contiguous."""
        return (self.y.c == 1 and self.y.space[2] != 1) or self.axes[2].out_extent == 1

    @property
    def is_padded(self) -> bool:
        """True when some tap may fall outside the input."""
        return any(a.is_padded for a in self.axes)


def canonical(spec: ConvSpec) -> Problem:
    """The canonical problem of a forward, transposed or deformable spec."""
    make = _transposed_axis if spec.op == "conv_transpose" else _forward_axis
    lead = (Axis(1, 1),) * (3 - spec.rank)
    d, h, w = (*lead, *(make(spec, i) for i in range(spec.rank)))
    icg, ocg = spec.ic // spec.groups, spec.oc // spec.groups
    x = _strides(spec.in_layout, spec.n, spec.groups, icg, spec.in_size)
    y = _strides(spec.out_layout, spec.n, spec.groups, ocg, spec.out_size)
    problem = Problem(
        n=spec.n,
        g=spec.groups,
        icg=icg,
        ocg=ocg,
        axes=(d, h, w),
        x=x,
        y=y,
        x_elems=spec.n * spec.ic * prod(spec.in_size),
        y_elems=spec.n * spec.oc * prod(spec.out_size),
        padding_mode=spec.padding_mode,
        pad_value=spec.pad_value if spec.padding_mode == "constant" else 0.0,
    )
    return problem if spec.op == "deform_conv" else _merge_plain_axes(_skip_unread(problem))


def _forward_axis(spec: ConvSpec, i: int) -> Axis:
    return Axis(
        in_extent=spec.in_size[i],
        out_extent=spec.out_size[i],
        stride=spec.stride[i],
        step=spec.dilation[i],
        origins=(-spec.pads_begin[i],),
        tap_counts=(spec.kernel[i],),
    )


def _transposed_axis(spec: ConvSpec, i: int) -> Axis:
    """Solve o + pad = i * s + k * d for each phase p = o mod s; taps in rising order of i."""
    s, d, pad = spec.stride[i], spec.dilation[i], spec.pads_begin[i]
    common = gcd(s, d)
    tap_stride = s // common
    origins, counts, firsts = [], [], []
    for p in range(min(s, max(1, spec.out_size[i]))):
        taps = [k for k in range(spec.kernel[i]) if (p + pad - k * d) % s == 0]
        last = taps[-1] if taps else 0
        origins.append((p + pad - last * d) // s)
        counts.append(len(taps))
        firsts.append(last)
    return Axis(
        in_extent=spec.in_size[i],
        out_extent=spec.out_size[i],
        phases=s if spec.out_size[i] >= s else max(1, spec.out_size[i]),
        step=d // common,
        origins=tuple(origins),
        tap_counts=tuple(counts),
        first_taps=tuple(firsts),
        tap_stride=-tap_stride,
    )


def _strides(layout: str, n: int, g: int, c: int, size: tuple[int, ...]) -> Strides:
    """Strides from a layout's letters; a C without a G stands for group and channel together."""
    letters = layout if "G" in layout else layout.replace("C", "GC")
    space = "DHW"[3 - len(size) :] if "L" not in layout else "L"
    extent = {"N": n, "G": g, "C": c, **dict(zip(space, size, strict=True))}
    stride, running = {}, 1
    for letter in reversed(letters):
        stride[letter] = running
        running *= max(1, extent[letter])
    spatial = tuple(stride[s] for s in space)
    lead = (spatial[0] * size[0],) * (3 - len(size))
    d, h, w = (*lead, *spatial)
    return Strides(stride["N"], stride["G"], stride["C"], (d, h, w))


def _skip_unread(problem: Problem) -> Problem:
    """Drop the slices and rows that a stride passes over where a single tap reads none of them.

    They are a matter of strides then: a strided 1x1 layer copies half of its rows, and of its
    slices, instead of all. Columns keep their stride, since neighbours in memory are read together.
    """
    axes, space = list(problem.axes), list(problem.x.space)
    for i in (0, 1):
        axis = axes[i]
        if axis.stride > 1 and axis.taps == 1 and axis.origins == (0,) and not axis.is_padded:
            axes[i] = replace(axis, in_extent=axis.quotients, stride=1)
            space[i] *= axis.stride
    x = replace(problem.x, space=(space[0], space[1], space[2]))
    return replace(problem, axes=(axes[0], axes[1], axes[2]), x=x)


def _merge_plain_axes(problem: Problem) -> Problem:
    """Fold neighbouring axes without taps into one, innermost last: 56x56 pointwise -> 1x1x3136."""
    for outer, inner in ((0, 1), (1, 2), (0, 1)):
        a, b = problem.axes[outer], problem.axes[inner]
        contiguous = all(
            t.space[outer] == t.space[inner] * b.in_extent for t in (problem.x, problem.y)
        )
        if a.in_extent == 1 or not (a.is_plain and b.is_plain and contiguous):
            continue
        axes = list(problem.axes)
        axes[inner] = Axis(a.in_extent * b.in_extent, a.in_extent * b.in_extent)
        axes[outer] = Axis(1, 1)
        problem = replace(problem, axes=(axes[0], axes[1], axes[2]))
    return problem
