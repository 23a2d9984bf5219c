"""`tvmconv validate`: prove compiled convolutions against torch."""

import argparse
from dataclasses import asdict

from tvmconv.cli.arguments import add_compile, add_specs, chosen_layers, compile_layers
from tvmconv.cli.output import Output

EXAMPLES = """\
examples:
  tvmconv validate conv2d_n1c64s56x56_o64k3x3_p1_bias_relu
  tvmconv validate mobilenet_v2 --fused --target x86_64_v3
  tvmconv validate conv1d_n1c8s50_o16k3_p1 --seed 7 --json
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_specs(parser)
    add_compile(parser)
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the inputs (default: 0)"
    )


def run(args: argparse.Namespace, output: Output) -> int:
    """Compile and validate; 0 only when every check of every convolution passed."""
    layers = chosen_layers(args)
    with output.progress(2 * len(layers) + 2, "validating") as step:
        kernels = compile_layers(args, layers, step)
        step("loading torch")
        from tvmconv.validate import validate

        reports = []
        for kernel, layer in zip(kernels, layers, strict=True):
            step(layer.name)
            reports.append(validate(kernel, seed=args.seed))
    ok = all(report.ok for report in reports)
    if output.as_json:
        found = [
            {
                "spec": str(kernel.spec),
                "ok": report.ok,
                "template": kernel.template_id,
                "reproducer": report.reproducer,
                "checks": [asdict(check) for check in report.checks],
            }
            for kernel, report in zip(kernels, reports, strict=True)
        ]
        output.document("validate", ok, {"reports": found})
        return 0 if ok else 1
    console = output.console()
    for kernel, report in zip(kernels, reports, strict=True):
        style, word = ("green", "ok") if report.ok else ("red", "FAIL")
        console.print(f"[{style}]{word:4}[/] {kernel.spec} [dim]{kernel.template_id}[/]")
        if len(reports) == 1 or not report.ok:
            console.print(str(report), markup=False, highlight=False, soft_wrap=True)
    if len(reports) > 1:
        passed = sum(report.ok for report in reports)
        console.print(f"{passed} of {len(reports)} convolutions passed every check")
    return 0 if ok else 1
