"""Run the classical image kernels over a photo through compiled convolutions, at its own size.

Writes one labelled PNG sheet with the photo and every filtered picture.
"""

import argparse
import sys
from dataclasses import dataclass
from math import ceil, exp
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

import tvmconv as tc

Picture = NDArray[np.floating[Any]]
Taps = list[list[float]]
SOBEL_X: Taps = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
PREWITT_X: Taps = [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]
BOX: Taps = [[1 / 25] * 5] * 5
SIGMA = 1.5
RADIUS = 4
MARGIN, CAPTION = 12, 26


@dataclass(frozen=True)
class Filter:
    """A kernel and how its result becomes visible: as it is, around grey, or its magnitude."""

    name: str
    taps: Taps
    show: str = "clip"


def gaussian() -> Taps:
    row = [exp(-(i**2) / (2 * SIGMA**2)) for i in range(-RADIUS, RADIUS + 1)]
    total = sum(row) ** 2
    return [[a * b / total for b in row] for a in row]


def transposed(taps: Taps) -> Taps:
    return [list(row) for row in zip(*taps, strict=True)]


FILTERS = (
    Filter("identity", [[0, 0, 0], [0, 1, 0], [0, 0, 0]]),
    Filter("Sobel X", SOBEL_X, "grey"),
    Filter("Sobel Y", transposed(SOBEL_X), "grey"),
    Filter("Prewitt X", PREWITT_X, "grey"),
    Filter("Prewitt Y", transposed(PREWITT_X), "grey"),
    Filter("Laplacian", [[0, 1, 0], [1, -4, 1], [0, 1, 0]], "grey"),
    Filter("sharpen", [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]),
    Filter("emboss", [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]),
    Filter("box blur 5x5", BOX),
    Filter("Gaussian blur 9x9", gaussian()),
)


def apply(picture: Picture, taps: Taps) -> Picture:
    """Filter each color by itself: a depthwise convolution over [1, h, w, 3], edges replicated."""
    h, w, colors = picture.shape
    size = len(taps)
    spec = tc.conv2d(
        (1, h, w, colors),
        colors,
        size,
        padding=size // 2,
        padding_mode="replicate",
        groups=colors,
        layout="NHWC",
    )
    weight = np.broadcast_to(np.array(taps, np.float32), spec.weight_shape).copy()
    result: Any = tc.compile(spec)(picture[None], weight)
    return np.asarray(result[0], np.float32)


def visible(picture: Picture, show: str) -> Picture:
    """Bring a filtered picture back to 0..1."""
    return np.clip(picture / 4 + 0.5 if show == "grey" else picture, 0, 1)


def filtered(picture: Picture) -> dict[str, Picture]:
    """Every filter's visible result by name, the magnitude of Sobel's gradient among them."""
    raw = {one.name: apply(picture, one.taps) for one in FILTERS}
    found = {one.name: visible(raw[one.name], one.show) for one in FILTERS}
    magnitude = np.hypot(raw["Sobel X"], raw["Sobel Y"])
    return {"photo": picture, "Sobel magnitude": np.clip(magnitude / 2, 0, 1), **found}


def sheet(pictures: dict[str, Picture], columns: int) -> Image.Image:
    """Set the pictures in rows, each under its name."""
    h, w, _ = next(iter(pictures.values())).shape
    rows = ceil(len(pictures) / columns)
    cell_w, cell_h = w + MARGIN, h + CAPTION + MARGIN
    canvas = Image.new("RGB", (columns * cell_w + MARGIN, rows * cell_h + MARGIN), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(16)
    for i, (name, picture) in enumerate(pictures.items()):
        x, y = MARGIN + i % columns * cell_w, MARGIN + i // columns * cell_h
        draw.text((x, y), name, fill="black", font=font)
        pixels = (picture * 255 + 0.5).astype(np.uint8)
        canvas.paste(Image.fromarray(pixels), (x, y + CAPTION))
    return canvas


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path, help="any picture that Pillow can read")
    parser.add_argument("--output", type=Path, help="default: out/<photo>-filters.png")
    parser.add_argument("--columns", type=int, default=4, help="pictures in a row (default: 4)")
    args = parser.parse_args()
    try:
        with Image.open(args.photo) as photo:
            picture = np.asarray(
                ImageOps.exif_transpose(photo).convert("RGB"), np.float32
            ) / np.float32(255)
    except OSError as error:
        print(f"filter_image: cannot read {args.photo}: {error}", file=sys.stderr)
        return 1
    output = args.output or Path("out", f"{args.photo.stem}-filters.png")
    output.parent.mkdir(parents=True, exist_ok=True)
    pictures = filtered(picture)
    sheet(pictures, max(1, args.columns)).save(output)
    h, w, _ = picture.shape
    print(f"{output}: {len(pictures) - 1} filters of {args.photo} at {w}x{h}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
