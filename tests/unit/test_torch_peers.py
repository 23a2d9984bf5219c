import numpy as np
import pytest
import torch

import tvmconv as tc
from tvmconv.bench import torch_peers
from tvmconv.bench.plain import Plain
from tvmconv.fills import normal
from tvmconv.reference import from_canonical, reference

SPECS = [
    tc.conv2d((2, 4, 9, 8), 6, 3, padding=1, bias=True, activation="relu"),
    tc.conv2d((1, 9, 8, 4), 6, 3, padding=(1, 2), stride=2, layout="NHWC", residual=True),
    tc.conv2d((1, 4, 9, 8), 6, 3, padding=((0, 1), (2, 1)), scale_shift=True, bias=True),
    tc.conv2d((1, 4, 9, 8), 8, 3, padding=2, padding_mode="reflect", groups=2, dilation=2),
    tc.conv2d((1, 4, 9, 8), 6, 3, flip=True, scale_shift=True, activation="hardswish"),
    tc.conv1d((2, 4, 19), 6, 5, padding="causal", dilation=2, activation="gelu"),
    tc.conv3d((1, 3, 5, 6, 7), 4, 3, padding=1, bias=True),
    tc.conv_transpose2d(
        (1, 4, 5, 6), 6, 4, stride=2, padding=1, groups=2, scale_shift=True, residual=True
    ),
    tc.conv_transpose1d((1, 4, 9), 6, 3, stride=3, output_padding=1, dilation=2, bias=True),
    tc.deform_conv2d((2, 4, 9, 8), 6, 3, padding=1, offset_groups=2, mask=True, bias=True),
    tc.deform_conv2d((1, 9, 8, 4), 6, 3, stride=2, groups=2, layout="NHWC", residual=True),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_peer_computes_the_layer(spec: tc.ConvSpec) -> None:
    operands = normal(spec)
    expected = reference(spec, operands)
    plain = Plain.of(spec, operands)
    for name in set(torch_peers.names_for(spec)) - {"torch_inductor"}:
        ready = torch_peers.prepare(name, plain, threads=torch.get_num_threads())
        ready.call()
        found = from_canonical(ready.read(ready.call()), spec.out_layout)
        assert found.shape == spec.out_shape, name
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4, err_msg=name)
