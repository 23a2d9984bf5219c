"""Short names for convolutions, for tables and plots whose rows have little room."""

from math import prod

from tvmconv.spec import ConvSpec


def label(spec: ConvSpec) -> str:
    """Name a convolution for people: `3x3 64→128 @56x56 /2`.

    Only the canonical text of the spec is complete; this leaves out what most layers share.
    """
    parts = ["x".join(map(str, spec.kernel)), f"{spec.ic}→{spec.oc}"]
    parts.append("@" + "x".join(map(str, spec.in_size)))
    kinds = {"conv": "", "conv_transpose": "transposed", "deform_conv": "deformable"}
    extras = (
        (kinds[spec.op], spec.op != "conv"),
        (f"/{_common(spec.stride)}", prod(spec.stride) > 1),
        (f"d{_common(spec.dilation)}", prod(spec.dilation) > 1),
        ("depthwise", spec.is_depthwise),
        (f"g{spec.groups}", spec.groups > 1 and not spec.is_depthwise),
        (f"n{spec.n}", spec.n != 1),
        (spec.padding_mode, spec.padding_mode != "zeros"),
        (spec.in_layout, spec.in_layout not in ("NCW", "NCHW", "NCDHW")),
    )
    return " ".join([*parts, *(text for text, present in extras if present)])


def _common(values: tuple[int, ...]) -> str:
    """One number when all axes agree, else all of them."""
    return str(values[0]) if len(set(values)) == 1 else "x".join(map(str, values))


def microseconds(seconds: float | None) -> str:
    """A time with about three digits, in microseconds."""
    if seconds is None:
        return "-"
    value = seconds * 1e6
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def kilobytes(size: float | None) -> str:
    """A size in units of 1024 bytes, or 1024 times that."""
    if size is None:
        return "-"
    if size >= 1 << 20:
        return f"{size / (1 << 20):.1f} MB"
    return f"{size / 1024:.1f} KB"
