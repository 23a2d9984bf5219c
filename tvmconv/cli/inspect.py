"""`tvmconv inspect`: arithmetic, roofline, why this template, loop nest, hot loop."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tvmconv.bench.labels import kilobytes, microseconds
from tvmconv.cli.arguments import add_compile, add_specs, chosen_layers, compile_layers
from tvmconv.cli.output import Output
from tvmconv.errors import ArgumentError
from tvmconv.hot_loop import HotLoop, find_hot_loop
from tvmconv.loop_nest import loop_nest
from tvmconv.spec import ConvSpec

if TYPE_CHECKING:
    from rich.console import Console

    from tvmconv.choose import Candidate
    from tvmconv.kernel import Kernel

SECTIONS = (
    "arithmetic", "choice", "roofline", "usage", "loops", "hot", "tir", "trace", "asm", "cuda",
    "ptx", "sass",
)  # fmt: skip
USUAL = ("arithmetic", "choice", "roofline", "loops", "hot")
USUAL_OF_GPUS = ("arithmetic", "choice", "usage", "loops")
OF_PROCESSORS = ("roofline", "hot", "asm")
OF_GPUS = ("usage", "cuda", "ptx", "sass")
LANGUAGES = {"asm": "gas", "cuda": "cuda", "loops": "text", "ptx": "gas", "sass": "gas"}
MEASURE_SECONDS = 0.1
EXAMPLES = """\
sections: arithmetic, choice (which templates were considered and why), roofline (measured, where
the target runs here), loops (the nest, abridged), hot (assembly of the innermost loop), tir (the
whole nest), trace (the schedule's steps), asm (everything); the first five are shown unless --show
says otherwise. Of a GPU: usage (registers, memory, spills), cuda (source), ptx, sass (its code).

examples:
  tvmconv inspect conv2d_n1c64s56x56_o64k3x3_p1_bias_relu
  tvmconv inspect resnet50:2 --show hot roofline
  tvmconv inspect resnet50:2 --show asm --target x86_64_v2 > layer.s
  tvmconv inspect resnet50:2 --show usage sass --target sm_90
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_specs(parser)
    add_compile(parser)
    parser.add_argument(
        "--show", nargs="+", choices=SECTIONS, default=None, metavar="SECTION", help="see below"
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Compile and show what is known of each kernel."""
    layers = chosen_layers(args)
    with output.progress(2 * len(layers) + 1, "inspecting") as step:
        kernels = compile_layers(args, layers, step)
        found = []
        for kernel, layer in zip(kernels, layers, strict=True):
            step(layer.name)
            found.append(examine(kernel, args))
    if output.as_json:
        output.document("inspect", True, {"kernels": found})
        return 0
    console = output.console()
    for kernel, sections in zip(kernels, found, strict=True):
        _print(kernel, sections, console)
    return 0


def examine(kernel: "Kernel", args: argparse.Namespace) -> dict[str, Any]:
    """Collect the sections of one kernel as plain values."""
    found: dict[str, Any] = {
        "spec": str(kernel.spec),
        "target": kernel.target.id,
        "template": kernel.template_id,
        "config": str(kernel.config),
        "tier": kernel.tier,
        "code_bytes": kernel.text_bytes,
    }
    for section in _shown(kernel, args.show):
        if section == "arithmetic":
            found[section] = arithmetic(kernel.spec)
        elif section == "choice":
            found[section] = choice(kernel, args)
        elif section == "roofline":
            found[section] = roofline(kernel) if kernel.target.runs_here else None
        elif section == "hot":
            loop = find_hot_loop(kernel.inspect("asm"))
            found[section] = asdict(loop) if loop else None
        elif section == "loops":
            found[section] = loop_nest(kernel.inspect("tir"))
        elif section == "usage":
            found[section] = usage(kernel)
        else:
            found[section] = kernel.inspect(section)
    return found


def _shown(kernel: "Kernel", asked: Sequence[str] | None) -> list[str]:
    """The sections in their order.

    Raises:
        ArgumentError: one that processors have was asked of a GPU, or the other way round.
    """
    on_gpu = kernel.target.gpu is not None
    others = OF_PROCESSORS if on_gpu else OF_GPUS
    for section in asked or ():
        if section in others:
            allowed = ", ".join(one for one in SECTIONS if one not in others)
            raise ArgumentError(f"--show for {kernel.target.id}", section, allowed)
    wanted = asked or (USUAL_OF_GPUS if on_gpu else USUAL)
    # Source that a template writes itself comes of no schedule.
    unscheduled = ("loops",) if not asked and not kernel.built.trace else ()
    return [s for s in SECTIONS if s in wanted and s not in unscheduled]


def usage(kernel: "Kernel") -> dict[str, Any]:
    """What each function on the GPU needs, and who compiled it."""
    device = kernel.built.device
    if device is None or not device.launches:
        return {"compiler": "", "flags": [], "functions": []}
    image = kernel.image
    spills = dict(image.spills)
    launched = {launch.kernel: launch for launch in device.launches}
    functions = []
    for one in image.usage:
        launch, spilled = launched.get(one.kernel), spills.get(one.kernel)
        functions.append(
            asdict(one)
            | {"spill_bytes": spilled.store_bytes + spilled.load_bytes if spilled else None}
            | {"dynamic_shared_bytes": launch.shared_bytes if launch else 0}
            | {"grid": launch.grid if launch else (), "block": launch.block if launch else ()}
        )
    return {"compiler": image.compiler, "flags": list(image.flags), "functions": functions}


def arithmetic(spec: ConvSpec) -> dict[str, Any]:
    """The numbers of a spec that need no compiler."""
    return {
        "input": list(spec.x_shape),
        "weight": list(spec.weight_shape),
        "output": list(spec.out_shape),
        "parameters": spec.params,
        "multiply-adds": spec.macs,
        "operations": spec.flops,
        "bytes moved": spec.bytes_moved,
        "operations per byte": round(spec.arithmetic_intensity, 2),
        "receptive field": list(spec.receptive_field),
    }


def choice(kernel: "Kernel", args: argparse.Namespace) -> dict[str, Any]:
    """Every template with what is expected of it, or the reason why it does not apply."""
    from tvmconv.choose import decide
    from tvmconv.template import Task

    task = Task(kernel.spec, kernel.target, kernel.threads, args.max_error)
    if kernel.tier == "forced":
        return {"forced": f"{kernel.template_id} {kernel.config}", "candidates": [], "notes": []}
    decision = decide(task, args.algorithm, args.records)
    return {
        "candidates": [
            {
                "template": candidate.template.id,
                "fits": candidate.fits,
                "chosen": candidate == decision.best,
                "tier": candidate.tier,
                "config": None if candidate.config is None else str(candidate.config),
                "seconds": candidate.seconds,
                "reason": _why(candidate, decision.best),
            }
            for candidate in decision.candidates
        ],
        "notes": list(decision.notes),
    }


def _why(candidate: "Candidate", best: "Candidate") -> str:
    """What is expected of a candidate, and how much worse that is than the best."""
    if candidate == best or not candidate.fits:
        return candidate.reason
    if candidate.seconds is None or best.seconds is None:
        times, unit = candidate.cycles / best.cycles, "predicted cycles"
    else:
        times, unit = candidate.seconds / best.seconds, "time"
    if times < 1 and best.tier in ("tuned", "static"):
        return f"{candidate.reason}; what was measured comes first"
    if times < 1:
        return f"{candidate.reason}; too near to the chosen, which is more exact"
    return f"{candidate.reason}: {times:.2f} times the {unit} of the chosen"


def roofline(kernel: "Kernel") -> dict[str, Any]:
    """Measure the machine's limits and, for a tenth of a second, the kernel itself."""
    from tvmconv import fills
    from tvmconv.bench.contest import bound_call
    from tvmconv.bench.roofline import measure_roofline
    from tvmconv.bench.rows import OURS
    from tvmconv.bench.timing import Timer, interleave

    limits = measure_roofline(kernel.target.lanes, kernel.threads)
    call = bound_call(kernel, fills.normal(kernel.spec))
    slices = {OURS: Timer(one_thread=kernel.threads == 1).slice(call)}
    seconds = interleave(slices, MEASURE_SECONDS).timed[OURS].min_seconds
    gflops = kernel.spec.flops / seconds / 1e9
    attainable = limits.attainable(kernel.spec.arithmetic_intensity)
    return {
        **limits.as_dict(),
        "ridge": limits.ridge,
        "bound_by": "memory" if attainable < limits.gflops else "arithmetic",
        "attainable_gflops": attainable,
        "measured_seconds": seconds,
        "measured_gflops": gflops,
        "share_of_attainable": gflops / attainable if attainable else None,
    }


def _print(kernel: "Kernel", found: dict[str, Any], console: "Console") -> None:
    console.print(f"[bold]{kernel.spec}[/] on {kernel.target.id}", highlight=False)
    console.print(
        f"{kernel.template_id}  {str(kernel.config).replace(',', ' ')}  "
        f"({kernel.tier}, {kilobytes(kernel.text_bytes)} of code)",
        highlight=False,
    )
    for section in SECTIONS:
        if section not in found:
            continue
        value = found[section]
        _heading(section, console)
        if section == "arithmetic":
            _print_arithmetic(value, console)
        elif section == "choice":
            _print_choice(value, console)
        elif section == "roofline":
            _print_roofline(value, console)
        elif section == "hot":
            _print_hot(value, console)
        elif section == "usage":
            _print_usage(value, console)
        else:
            _print_code(value, LANGUAGES.get(section, "python"), console)
    console.print()


def _heading(section: str, console: "Console") -> None:
    titles = {
        "arithmetic": "Arithmetic",
        "choice": "Why this template",
        "roofline": "Roofline",
        "loops": "Loop nest",
        "hot": "Hot loop",
        "tir": "Whole loop nest",
        "trace": "Schedule",
        "asm": "Assembly",
        "usage": "What it needs of the GPU",
        "cuda": "CUDA source",
        "ptx": "PTX",
        "sass": "Machine code",
    }
    console.print(f"\n[bold]{titles[section]}[/]")


def _print_arithmetic(values: dict[str, Any], console: "Console") -> None:
    for name, value in values.items():
        text = " x ".join(map(str, value)) if isinstance(value, list) else f"{value:,}"
        console.print(f"  {name:20} {text}", highlight=False)


def _print_choice(values: dict[str, Any], console: "Console") -> None:
    if "forced" in values:
        console.print(f"  {values['forced'].replace(',', ' ')} was asked for", highlight=False)
    for candidate in values["candidates"]:
        style = "green" if candidate["chosen"] else "" if candidate["fits"] else "dim"
        line = f"  {candidate['template']:19} {candidate['tier']:10} {candidate['reason']}"
        console.print(line, style=style, highlight=False, markup=False)
    for note in values["notes"]:
        console.print(f"  {note}", style="dim", highlight=False, markup=False)


def _print_roofline(values: dict[str, Any] | None, console: "Console") -> None:
    if values is None:
        console.print("  the target does not run on this machine", style="dim")
        return
    rows = {
        "limits": f"{values['gflops']:.0f} GFLOP/s, memory {values['memory_gbytes']:.0f} GB/s, "
        f"second-level cache {values['cache_gbytes']:.0f} GB/s (measured)",
        "bound by": f"{values['bound_by']}: {values['ridge']:.1f} operations per byte are enough "
        "to keep the arithmetic busy",
        "attainable": f"{values['attainable_gflops']:.0f} GFLOP/s",
        "measured": f"{values['measured_gflops']:.0f} GFLOP/s, "
        f"{values['share_of_attainable'] or 0:.0%} of it, "
        f"{microseconds(values['measured_seconds'])} us a call",
    }
    for name, text in rows.items():
        console.print(f"  {name:20} {text}", highlight=False)


def _print_hot(values: dict[str, Any] | None, console: "Console") -> None:
    if values is None:
        console.print("  no loop with arithmetic: it was unrolled completely", style="dim")
        return
    loop = HotLoop(**values)
    console.print(f"  {loop.summary}", highlight=False)
    _print_code(loop.text, "gas", console)


def _print_usage(values: dict[str, Any], console: "Console") -> None:
    console.print(f"  {values['compiler']} {' '.join(values['flags'])}", highlight=False)
    for one in values["functions"]:
        shared = one["shared_bytes"] + one["dynamic_shared_bytes"]
        rows = {
            "grid, block": f"{one['grid']}, {one['block']}",
            "registers": str(one["registers"]),
            "shared memory": f"{shared:,} bytes a block",
            "stack": f"{one['stack_bytes']} bytes a thread, spilled: {one['spill_bytes']}",
            "code": f"{one['code_bytes']:,} bytes",
        }
        console.print(f"  {one['kernel']}", highlight=False)
        for name, text in rows.items():
            console.print(f"    {name:18} {text}", highlight=False)


def _print_code(text: str, language: str, console: "Console") -> None:
    """Highlight code in a terminal; a pipe gets it as it is."""
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.syntax import Syntax

    code = Syntax(text, language, theme="ansi_dark", background_color="default", word_wrap=True)
    console.print(code)
