#!/usr/bin/env python
"""What each CUDA template takes of a GPU, by the compiler's own figures, and docs/cuda-figures.md.

    scripts/cuda_report.py
    scripts/cuda_report.py --target sm_90 --only cuda.winograd --print
    scripts/cuda_report.py conv2d_n1c64s56x56_o64k3x3_p1 --print
    scripts/cuda_report.py conv2d_n1c64s56x56_o64k3x3_p1_f16 --max-error 1e-3 --print

Every template compiles its default config for every layer that it takes. The table has a row per
launch. No GPU is needed: registers, spills and shared memory are the compiler's, blocks per SM and
the time follow from the target's facts.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tvmconv as tc  # noqa: E402 - found through the line above in a bare clone
from tvmconv.choose import consider  # noqa: E402
from tvmconv.cuda.code import Launch  # noqa: E402
from tvmconv.cuda.compiler import Image  # noqa: E402
from tvmconv.elements import SHORT_FLOATS  # noqa: E402
from tvmconv.space import Config  # noqa: E402
from tvmconv.spec import ConvSpec  # noqa: E402
from tvmconv.target import Target, load  # noqa: E402
from tvmconv.template import Task  # noqa: E402
from tvmconv.tolerance import DEFAULT_MAX_ERROR  # noqa: E402

DOCUMENT = ROOT / "docs" / "cuda-figures.md"
TARGETS = ("sm_80", "sm_90")

LAYERS: tuple[ConvSpec, ...] = (
    tc.conv2d((32, 64, 56, 56), 64, 3, padding=1, bias=True, activation="relu"),
    tc.conv2d((32, 14, 14, 256), 256, 3, padding=1, bias=True, activation="relu", layout="NHWC"),
    tc.conv2d((1, 512, 7, 7), 512, 3, padding=1, bias=True, activation="relu"),
    tc.conv2d((1, 3, 224, 224), 64, 7, stride=2, padding=3, bias=True, activation="relu"),
    tc.conv2d((32, 56, 56, 256), 64, 1, bias=True, residual=True, layout="NHWC"),
    tc.conv2d((1, 96, 28, 28), 24, 1, bias=True),
    tc.conv2d((1, 32, 112, 112), 32, 3, padding=1, groups=32, bias=True, activation="relu6"),
    tc.conv2d((32, 56, 56, 144), 144, 3, stride=2, padding=1, groups=144, layout="NHWC"),
    tc.conv2d((1, 96, 56, 56), 96, 7, padding=3, groups=96, bias=True),
    tc.conv2d((8, 128, 56, 56), 128, 3, padding=1, groups=32, bias=True),
    tc.conv2d((1, 64, 28, 28), 64, 3, padding=4, dilation=4, bias=True, activation="gelu"),
    tc.conv_transpose2d((1, 64, 16, 16), 32, 4, stride=2, padding=1, bias=True),
    tc.deform_conv2d((1, 64, 28, 28), 64, 3, padding=1, mask=True),
    tc.conv1d((1, 64, 1600), 64, 5, padding=2, bias=True),
    tc.conv3d((1, 32, 8, 14, 14), 32, 3, padding=1, bias=True),
)


@dataclass(frozen=True)
class Row:
    """One launch of one kernel."""

    spec: ConvSpec
    target: Target
    template_id: str
    launch: Launch
    image: Image

    @property
    def registers(self) -> int:
        """Registers of a thread."""
        return next(u.registers for u in self.image.usage if u.kernel == self.launch.kernel)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block, static and dynamic."""
        static = next(u.shared_bytes for u in self.image.usage if u.kernel == self.launch.kernel)
        return static + self.launch.shared_bytes

    @property
    def spilled_bytes(self) -> int:
        """Bytes that a thread stores to its stack for want of registers."""
        spills = dict(self.image.spills)
        return spills[self.launch.kernel].store_bytes if self.launch.kernel in spills else 0

    @property
    def blocks_per_sm(self) -> int:
        """Blocks that an SM holds at once."""
        gpu = self.target.gpu
        assert gpu is not None
        warps = -(-self.launch.threads // 32)
        registers = -(-self.registers // 8) * 8 * 32 * warps
        shared = -(-(self.shared_bytes + 1024) // 1024) * 1024
        return min(
            gpu.blocks_per_sm,
            gpu.threads_per_sm // (32 * warps),
            gpu.registers_per_sm // registers,
            gpu.shared_bytes_per_sm // shared,
        )

    def __str__(self) -> str:
        cells = (
            f"`{self.template_id}`",
            f"`{self.spec}`",
            self.target.id,
            str(self.launch.grid[0] * self.launch.grid[1] * self.launch.grid[2]),
            str(self.launch.threads),
            str(self.registers),
            str(self.spilled_bytes),
            f"{self.shared_bytes / 1024:.1f}",
            str(self.blocks_per_sm),
            f"{len(self.image.cubin) / 1024:.0f}",
            f"{self.image.seconds:.2f}",
        )
        return f"| {' | '.join(cells)} |"


COLUMNS = (
    "template", "layer", "target", "blocks", "threads", "registers", "spilled bytes", "shared KB",
    "blocks per SM", "cubin KB", "compiled in s",
)  # fmt: skip


def measure(tasks: Iterable[Task], only: str) -> Iterator[Row]:
    """Compile what the templates take, task by task."""
    for task in tasks:
        for candidate in consider(task):
            if candidate.config is not None and only in ("", candidate.template.id):
                yield from rows(task, candidate.template.id, candidate.config)


def rows(task: Task, template_id: str, config: Config) -> Iterator[Row]:
    """The launches of one kernel."""
    spec, target, error = task.spec, task.target, task.max_error
    kernel = tc.compile(spec, target, algorithm=template_id, config=config, max_error=error)
    device = kernel.built.device
    assert device is not None
    for launch in device.launches:
        yield Row(spec, target, template_id, launch, kernel.image)


def summary(found: Sequence[Row]) -> str:
    """What the whole table says, in one paragraph."""
    images = {id(row.image): row.image for row in found}.values()
    spilling = sorted({row.template_id for row in found if row.spilled_bytes})
    times = sorted(image.seconds for image in images)
    sizes = sorted(len(image.cubin) / 1024 for image in images)
    spills = len([row for row in found if row.spilled_bytes])
    whose = f" ({', '.join(spilling)})" if spilling else ""
    return (
        f"{len(images)} kernels of {len(found)} launches, by {found[0].image.compiler}. "
        f"{spills} launches spill{whose}. The compiler took "
        f"{times[len(times) // 2]:.2f} s in the middle and {times[-1]:.2f} s at most; a cubin has "
        f"{sizes[len(sizes) // 2]:.0f} KB in the middle and {sizes[-1]:.0f} KB at most."
    )


def main() -> int:
    """Print the table, or write it into the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("specs", nargs="*", help="layers in place of the usual ones")
    parser.add_argument(
        "--target", action="append", help=f"one or several; {' and '.join(TARGETS)}"
    )
    parser.add_argument("--only", default="", help="one template's id")
    parser.add_argument(
        "--max-error", type=float, default=DEFAULT_MAX_ERROR, metavar="E", help="as of `compile`"
    )
    parser.add_argument("--print", action="store_true", help="do not write the document")
    args = parser.parse_args()
    given = [ConvSpec.parse(text) for text in args.specs]
    short = [replace(spec, dtype=dtype) for dtype in SHORT_FLOATS for spec in LAYERS[::3]]
    targets = [load(target_id) for target_id in args.target or TARGETS]
    specs = given or [*LAYERS, *short]
    tasks = [Task(s, t, max_error=args.max_error) for s in specs for t in targets]
    found = []
    for row in measure(tasks, args.only):
        print(row, flush=True)
        found.append(row)
    if not found:
        print("no template takes these layers", file=sys.stderr)
        return 1
    print(summary(found))
    if not args.print:
        text = DOCUMENT.read_text(encoding="utf-8")
        head = text[: text.index("<!-- begin -->")]
        lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
        table = "\n".join([*(f"| {line} |" for line in lines), *map(str, found)])
        DOCUMENT.write_text(
            f"{head}<!-- begin -->\n\n{summary(found)}\n\n{table}\n", encoding="utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
