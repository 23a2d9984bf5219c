"""Every peer computes what the spec says: its own best way, compared with torch in float64."""

import shutil

import numpy as np
import pytest

import tvmconv as tc
from tvmconv.bench import metaschedule_peer, torch_peers
from tvmconv.bench.peers import FAMILIES
from tvmconv.bench.plain import Plain
from tvmconv.errors import UnsupportedSpec
from tvmconv.fills import normal
from tvmconv.reference import from_canonical, reference

SPECS = [
    tc.conv2d((1, 16, 9, 8), 32, 3, padding=1, bias=True, activation="relu"),
    tc.conv2d((1, 9, 8, 4), 6, 3, padding=(1, 2), stride=2, layout="NHWC", residual=True),
    tc.conv2d((1, 4, 9, 8), 6, 3, padding=((0, 1), (2, 1)), scale_shift=True, bias=True),
    tc.conv2d((1, 4, 9, 8), 8, 3, padding=2, padding_mode="reflect", groups=2, dilation=2),
    tc.conv2d((1, 4, 9, 8), 8, 3, padding=1, padding_mode="constant", pad_value=0.5),
    tc.conv2d((1, 32, 9, 8), 32, 3, padding=1, groups=32, bias=True, activation="relu6"),
    tc.conv2d((1, 4, 9, 8), 6, 3, flip=True, scale_shift=True, activation="hardswish"),
    tc.conv2d((1, 16, 9, 8), 16, 1, residual=True, activation="leaky_relu", activation_args=(0.1,)),
    tc.conv2d((2, 4, 9, 8), 6, 3, padding=1),
    tc.conv1d((1, 4, 19), 6, 5, padding="causal", dilation=2, activation="gelu"),
    tc.conv1d((1, 16, 50), 16, 3, padding=1, groups=16),
    tc.conv3d((1, 3, 5, 6, 7), 4, 3, padding=1, bias=True, activation="sigmoid"),
    tc.conv_transpose2d((1, 4, 5, 6), 6, 4, stride=2, padding=1, groups=2, scale_shift=True),
    tc.conv_transpose2d((1, 16, 5, 6), 16, 3, stride=2, padding=1, output_padding=1, bias=True),
    tc.conv_transpose1d((1, 4, 9), 6, 3, stride=3, output_padding=1, dilation=2, bias=True),
    tc.deform_conv2d((1, 16, 9, 8), 16, 3, padding=1, mask=True, bias=True),
]
# What a peer may decline; everything else it must compute.
DECLINED: dict[str, set[str]] = {
    "onnxruntime": set(),
    "openvino_nchw": {"deform2d"},
    "openvino_nhwc": {"deform2d"},
    "ncnn": {"conv2d_n2"},
    "ncnn_packed": {"conv2d_n2"},
}


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("family", ["onnxruntime", "openvino", "ncnn"])
def test_every_peer_computes_the_layer(family: str, spec: tc.ConvSpec) -> None:
    for package in FAMILIES[family].packages:
        pytest.importorskip(package)
    operands = normal(spec)
    expected = reference(spec, operands)
    plain = Plain.of(spec, operands)
    file = FAMILIES[family].file
    for name in file.names_for(spec):
        if any(str(spec).startswith(text) for text in DECLINED[name]):
            with pytest.raises(UnsupportedSpec):
                file.prepare(name, plain, threads=1)
            continue
        ready = file.prepare(name, plain, threads=1)
        ready.call()
        found = from_canonical(ready.read(ready.call()), spec.out_layout)
        assert found.shape == spec.out_shape, name
        np.testing.assert_allclose(found, expected, rtol=0, atol=3e-4, err_msg=name)


@pytest.mark.parametrize("spec", [SPECS[0], SPECS[8]], ids=str)
def test_inductor_computes_the_layer(spec: tc.ConvSpec) -> None:
    if shutil.which("g++") is None:
        pytest.skip("inductor compiles with g++")
    ready = torch_peers.prepare("torch_inductor", Plain.of(spec, normal(spec)), threads=1)
    ready.call()
    found = from_canonical(ready.read(ready.call()), spec.out_layout)
    np.testing.assert_allclose(found, reference(spec, normal(spec)), rtol=0, atol=3e-4)


FOR_METASCHEDULE = [
    spec
    for spec in SPECS
    if spec.op == "conv"
    and spec.padding_mode in ("zeros", "constant")
    and spec.activation in metaschedule_peer.ACTIVATIONS
]


@pytest.mark.parametrize("spec", FOR_METASCHEDULE, ids=str)
def test_what_metaschedule_tunes_is_the_layer(spec: tc.ConvSpec) -> None:
    import tvm

    operands = normal(spec)
    plain = Plain.of(spec, operands)
    built = tvm.compile(metaschedule_peer.declaration(plain), target={"kind": "llvm"})["main"]
    arguments = metaschedule_peer.arguments(plain)
    built(*arguments)
    found = from_canonical(np.moveaxis(arguments[-1].numpy(), -1, 1), spec.out_layout)
    np.testing.assert_allclose(found, reference(spec, operands), rtol=0, atol=3e-4)


def test_metaschedule_declines_what_it_has_no_compute_for() -> None:
    declined = [spec for spec in SPECS if spec not in FOR_METASCHEDULE]
    assert len(declined) >= 6
    for spec in declined:
        with pytest.raises(UnsupportedSpec):
            metaschedule_peer.prepare("metaschedule:1", Plain.of(spec, normal(spec)), 1)
