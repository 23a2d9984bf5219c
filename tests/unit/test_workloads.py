"""The layers of well-known networks."""

import json
from collections import Counter
from pathlib import Path

import pytest

import tvmconv as tc
from tvmconv import workloads
from tvmconv.errors import SpecError

TABLE = json.loads((Path(workloads.__file__).parent / "data" / "workloads.json").read_text())


def test_all_layers() -> None:
    layers = [layer for name in workloads.names() for layer in workloads.load(name)]
    assert (len(workloads.names()), len(layers)) == (20, 355)
    assert Counter(f"{layer.spec.op}{layer.spec.rank}" for layer in layers) == {
        "conv2": 303,
        "conv1": 25,
        "conv3": 18,
        "conv_transpose2": 9,
    }


@pytest.mark.parametrize("network", workloads.names())
def test_facts(network: str) -> None:
    layers = workloads.load(network)
    for (name, repeats, spec), row in zip(layers, TABLE[network], strict=True):
        assert [name, repeats, str(spec), spec.macs] == row[:4]
    assert len({layer.spec for layer in layers}) == len({layer.name for layer in layers})


def test_resnet50() -> None:
    layers = workloads.load("resnet50")
    assert len(layers) == 23
    assert sum(repeats for _, repeats, _ in layers) == 53
    assert sum(repeats * spec.macs for _, repeats, spec in layers) == 4_087_136_256
    assert str(layers[0].spec) == "conv2d_n1c3s224x224_o64k7x7_s2_p3"


def test_fused() -> None:
    plain, fused = workloads.load("mobilenet_v2"), workloads.load("mobilenet_v2", fused=True)
    assert str(fused[0].spec) == f"{plain[0].spec}_bias_relu6"
    assert {spec.activation for _, _, spec in fused} == {"relu6", "none"}
    assert not any(spec.bias for _, _, spec in plain)


def test_resolve() -> None:
    layers = workloads.load("mobilenet_v2")
    assert workloads.resolve("mobilenet_v2") == layers
    assert workloads.resolve(" mobilenet_v2:3 ") == layers[3:4]
    assert workloads.resolve(f"mobilenet_v2:{layers[3].name}") == layers[3:4]
    spec = tc.conv2d((1, 3, 8, 8), 4, 3)
    assert workloads.resolve(str(spec)) == ((str(spec), 1, spec),)
    assert workloads.resolve("c3d") == workloads.load("c3d")
    assert workloads.resolve("r3d_18:0") == workloads.load("r3d_18")[:1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resnet5", "did you mean resnet50"),
        ("", "vgg16"),
        ("resnet50:23", "resnet50:22"),
        ("resnet50:-1", "resnet50:22"),
        ("resnet50:conv9", "resnet50:conv1"),
        ("conv2d_n1c3s8_o4k9", "kernel"),
        ("conv5d_n1c3s8_o4k3", "then 1d, 2d or 3d"),
        ("conf2d_n1c3s8_o4k3", "conv, convt or deform"),
    ],
)
def test_unknown(text: str, message: str) -> None:
    with pytest.raises(tc.SpecError, match=message):
        workloads.resolve(text)


def test_all_is_every_network_without_repetition() -> None:
    every = workloads.resolve("all")
    specs = [layer.spec for layer in every]
    assert len(set(specs)) == len(specs) == 327
    networks = [layer for name in workloads.names() for layer in workloads.load(name)]
    assert set(specs) == {layer.spec for layer in networks}
    assert sum(layer.repeats for layer in every) == sum(layer.repeats for layer in networks)
    assert every[0].name == f"vgg16:{workloads.load('vgg16')[0].name}"
    assert all(layer.spec.bias for layer in workloads.resolve("resnet18:0", fused=True))


def test_a_file_lists_what_its_lines_name(tmp_path: Path) -> None:
    path = tmp_path / "specs.txt"
    path.write_text("conv2d_n1c3s8x8_o4k3x3\n\n resnet18:0\n", encoding="utf-8")
    named = workloads.resolve("conv2d_n1c3s8x8_o4k3x3") + workloads.resolve("resnet18:0")
    assert workloads.listed(f"@{path}") == named
    assert workloads.listed("resnet18") == workloads.resolve("resnet18")
    with pytest.raises(SpecError, match="No such file"):
        workloads.listed(f"@{tmp_path}/none")
    path.write_text("resnet1\n", encoding="utf-8")
    with pytest.raises(SpecError, match="network: got 'resnet1'"):
        workloads.listed(f"@{path}")


def test_a_layer_laid_out_anew_has_one_order_on_both_sides() -> None:
    for network, layout, wanted in (("resnet18:0", "NHWC", "NHWC"), ("c3d:0", "NHWC", "NDHWC")):
        spec = workloads.resolve(network)[0].spec
        turned = spec.laid_out(layout)
        assert (turned.in_layout, turned.out_layout) == (wanted, wanted)
        assert turned.laid_out("NCHW") == spec
