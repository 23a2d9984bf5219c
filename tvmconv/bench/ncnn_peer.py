"""ncnn as a peer: one layer with Winograd, matrix products and packing on, float32 all through.

| name        | how                                                                             |
|-------------|---------------------------------------------------------------------------------|
| ncnn        | input and output channels first; ncnn packs and unpacks 16 channels itself      |
| ncnn_packed | both stay packed, as between two layers of a network; where the channels divide |
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tvmconv.bench import ncnn_model
from tvmconv.bench.peers import Ready
from tvmconv.bench.plain import Array, Plain
from tvmconv.spec import ConvSpec

NAMES = ("ncnn", "ncnn_packed")
PACK = 16  # channels; 16 floats are an AVX-512 register, and ncnn takes 8 or 4 as well
HALF_PRECISION = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
)


def names_for(spec: ConvSpec) -> tuple[str, ...]:
    """Both ways, where the channels fill packs."""
    return NAMES if spec.ic % PACK == 0 and spec.oc % PACK == 0 else NAMES[:1]


def prepare(name: str, plain: Plain, threads: int) -> Ready:
    """Load the layer; see tvmconv.bench.peers."""
    import ncnn

    text, weights = ncnn_model.files(plain)
    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    for option in HALF_PRECISION:
        setattr(net.opt, option, False)
    # Blobs are kept between calls instead of being freed and allocated anew.
    allocators = ncnn.PoolAllocator(), ncnn.PoolAllocator()
    net.opt.blob_allocator, net.opt.workspace_allocator = allocators
    with tempfile.TemporaryDirectory(prefix="tvmconv-ncnn-") as folder:
        param, model = Path(folder, "layer.param"), Path(folder, "layer.bin")
        param.write_text(text)
        model.write_bytes(weights)
        if net.load_param(str(param)) or net.load_model(str(model)):
            raise RuntimeError("ncnn could not load its own description of the layer")
    packed = name == "ncnn_packed"
    mats = {
        key: _mat(array[0], PACK if packed and array.shape[1] % PACK == 0 else 1)
        for key, array in _inputs(plain).items()
    }
    # Freed from the last to the first: the allocators must outlive what they gave.
    held = (allocators, mats, net)
    as_it_is = int(packed)

    def call() -> Any:
        _, mats, net = held
        extractor = net.create_extractor()
        for key, mat in mats.items():
            extractor.input(key, mat)
        status, result = extractor.extract("y", as_it_is)
        if status:
            raise RuntimeError(f"ncnn gave error {status}")
        return result

    return Ready(call, _read)


def _inputs(plain: Plain) -> dict[str, Array]:
    named = {"x": plain.x, "offset": plain.offset, "mask": plain.mask, "residual": plain.residual}
    return {name: array for name, array in named.items() if array is not None}


def _mat(array: Array, pack: int) -> Any:
    """A Mat that owns its memory: one made of an array points at memory that Python frees."""
    import ncnn

    return _repacked(ncnn.Mat(np.ascontiguousarray(array)).clone(), pack)


def _repacked(mat: Any, pack: int) -> Any:
    import ncnn

    if mat.elempack == pack:
        return mat
    changed = ncnn.Mat()
    ncnn.convert_packing(mat, changed, pack)
    return changed


def _read(result: Any) -> Array:
    return np.array(_repacked(result, 1))[None]
