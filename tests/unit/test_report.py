"""The table and the report, made from invented figures."""

import io
import json
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tvmconv import workloads
from tvmconv.bench import Machine, Measured
from tvmconv.bench.curves import Curve
from tvmconv.bench.labels import kilobytes, label, microseconds
from tvmconv.bench.report import Card, write_report
from tvmconv.bench.roofline import Roofline
from tvmconv.bench.rows import Row
from tvmconv.bench.table import print_measured
from tvmconv.spec import ConvSpec


def invented(network: str = "resnet50") -> Measured:
    """Rows that look like those of a run; the third peer fails on the first layer."""
    draw = random.Random(1)
    rows = []
    for i, (_, _, spec) in enumerate(workloads.load(network, fused=True)):
        for contestant in ("tvmconv", "torch_nchw", "torch_channels_last", "torch_frozen"):
            ours = contestant == "tvmconv"
            failed = i == 0 and contestant == "torch_frozen"
            seconds = spec.flops / draw.uniform(*((180e9, 250e9) if ours else (90e9, 230e9)))
            rows.append(
                Row(
                    spec=str(spec),
                    contestant=contestant,
                    status="failed" if failed else "ok",
                    detail="RuntimeError: could not create a <primitive>" if failed else "",
                    threads=1,
                    flops=spec.flops,
                    bytes_moved=spec.bytes_moved,
                    min_seconds=None if failed else seconds,
                    median_seconds=None if failed else 1.05 * seconds,
                    samples=0 if failed else 200,
                    overhead_seconds=2e-6 if ours else 5e-6,
                    max_error=draw.uniform(1e-6, 9e-6),
                    bound=2e-5 if ours else 1e-1,
                    relative_error=draw.uniform(2e-7, 5e-6),
                    code_bytes=draw.randrange(4000, 30000) if ours else None,
                    packed_bytes=4 * spec.params if ours else None,
                    compile_seconds=0.2 if ours else None,
                    template="x86.direct" if ours else "",
                    config="tile_oc=32 tile_ow=14" if ours else "",
                    tier="analytic" if ours else "",
                )
            )
    return Measured(Machine.here(1), tuple(rows), Roofline(260.0, 180.0, 38.0))


def test_report_is_one_self_contained_file(tmp_path: Path) -> None:
    measured = invented()
    path = write_report(
        measured,
        tmp_path / "new" / "report.html",
        title="ResNet-50 <on this machine>",
        cards=(Card("23 of 23", "kernels proven"),),
        bundle={"shared library": 400_000, "golden vectors": 9_000_000},
    )
    html = path.read_text(encoding="utf-8")
    assert "ResNet-50 &lt;on this machine&gt;" in html
    assert "could not create a &lt;primitive&gt;" in html
    assert html.count('src="data:image/svg+xml;base64,') == 6
    assert html.count('<span class="bar fastest">') == 23
    assert not re.search(r'(src|href)="(?!data:)', html), "refers to another file"
    for row in measured.rows:
        assert row.spec in html
    assert "geometric mean" in html


def test_report_of_one_layer_without_peers(tmp_path: Path) -> None:
    measured = invented("lenet5")
    ours = tuple(row for row in measured.rows if row.contestant == "tvmconv")[:1]
    html = write_report(Measured(measured.machine, ours), tmp_path / "r.html").read_text()
    assert html.count("<img") == 3


def test_report_shows_the_course_of_tuning(tmp_path: Path) -> None:
    found = Curve("conv", np.array([0.5, 0.5, 1.0]), np.array([0.6, 0.8, 1.0]))
    html = write_report(invented("lenet5"), tmp_path / "r.html", curves=[found]).read_text()
    assert "<h2>Tuning</h2>" in html
    assert "1 tasks" in html


def test_report_of_a_hundred_layers_and_all_peers(tmp_path: Path) -> None:
    rows = []
    for network in ("googlenet", "mobilenet_v2", "resnet50"):
        for row in invented(network).rows:
            rows.append(row)
            if row.contestant == "tvmconv":
                others = ("onnxruntime", "openvino_nhwc", "ncnn", "metaschedule:32")
                rows += [replace(row, contestant=name, template="") for name in others]
    unique = {(row.spec, row.contestant): row for row in rows}
    measured = replace(invented(), rows=tuple(unique.values()))
    html = write_report(measured, tmp_path / "r.html").read_text(encoding="utf-8")
    assert html.count("<tr><td title=") > 100
    assert len(html) < 4_000_000


def test_rows_come_back_from_json() -> None:
    measured = invented()
    again = Measured.from_dict(json.loads(json.dumps(measured.as_dict())))
    assert again == measured


def test_table_fits_a_terminal_and_names_failures() -> None:
    text = io.StringIO()
    print_measured(invented(), Console(file=text, width=100))
    lines = text.getvalue().splitlines()
    assert any("7x7 3→64 @224x224 /2" in line for line in lines)
    assert any("torch_frozen on conv2d_n1c3s224x224" in line for line in lines)
    rows = [line for line in lines if "direct" in line]
    assert len(rows) == 23
    # Two ratios end each row, and nothing was cut off.
    assert all(re.search(r" \d+\.\d\d +\d+\.\d\d *$", line) for line in rows)
    assert not any("…" in line for line in rows)
    (every,) = [line for line in lines if line.startswith("all ")]
    assert every.split()[1] == "23"


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("conv2d_n1c3s224x224_o64k7x7_s2_p3", "7x7 3→64 @224x224 /2"),
        ("conv2d_n2c32s8x8_o32k3x3_g32", "3x3 32→32 @8x8 depthwise n2"),
        ("conv1d_n1c8s50_o16k3_g4_d2_nwc", "3 8→16 @50 d2 g4 NWC"),
        ("convt2d_n1c8s5x5_o4k4x4_s2x1", "4x4 8→4 @5x5 transposed /2x1"),
    ],
)
def test_labels(text: str, short: str) -> None:
    assert label(ConvSpec.parse(text)) == short


def test_units() -> None:
    assert [microseconds(s) for s in (1.234e-6, 455e-6, None)] == ["1.2", "455", "-"]
    assert [kilobytes(b) for b in (512, 40 << 10, 3 << 20, None)] == [
        "0.5 KB",
        "40.0 KB",
        "3.0 MB",
        "-",
    ]
