#!/usr/bin/env python3
"""Runs on an emulated board: calls of one ncnn layer, for scripts/count_instructions.py.

    ncnn_calls.py FOLDER PACK WINOGRAD TIMES

FOLDER holds layer.param, layer.bin and x.npy. PACK is how many channels of x and y lie together,
WINOGRAD whether ncnn may choose that algorithm: both 0 or more. float32 all through, one thread.
"""

import os
import sys
from pathlib import Path

HALF_PRECISION = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
)


def main() -> None:
    import ncnn
    import numpy as np

    folder, (pack, winograd, times) = Path(sys.argv[1]), map(int, sys.argv[2:5])
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = False
    net.opt.use_winograd_convolution = bool(winograd)
    for option in HALF_PRECISION:
        setattr(net.opt, option, False)
    allocators = ncnn.PoolAllocator(), ncnn.PoolAllocator()
    net.opt.blob_allocator, net.opt.workspace_allocator = allocators
    if net.load_param(str(folder / "layer.param")) or net.load_model(str(folder / "layer.bin")):
        sys.exit("ncnn could not load the layer")
    x = np.load(folder / "x.npy")[0]
    mat = ncnn.Mat(x).clone()
    if pack > 1 and x.shape[0] % pack == 0:
        packed = ncnn.Mat()
        ncnn.convert_packing(mat, packed, pack)
        mat = packed
    for _ in range(times):
        extractor = net.create_extractor()
        extractor.input("x", mat)
        status, _ = extractor.extract("y", int(pack > 1))
        if status:
            sys.exit(f"ncnn gave error {status}")
    # Its allocators must not end before what they gave; the process may.
    os._exit(0)


if __name__ == "__main__":
    if "--help" in sys.argv:
        print(f"usage:{__doc__}")
    elif len(sys.argv) != 5:
        sys.exit(__doc__)
    else:
        main()
