"""What the bundles of these tests hold, and how their programs are built and run."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np

import tvmconv as tc
from tvmconv.bundle import CudaBundle

SPECS = (
    "conv2d_n1c6s5x7_o8k3x3_g2_s2_p1_bias_scale_res_relu_nhwc",
    "convt2d_n1c3s5x6_o7k2x3_s3x1_d2_a2x0",
    "deform2d_n1c4s5x6_o4k3x3_p1_mask",
    "conv2d_n0c3s7x9_o5k3x3",
    "conv2d_n1c6s5x7_o8k3x3_p1_bias_f16",
    "conv2d_n2c32s8x8_o32k3x3_p1_f16_nhwc",  # in tensor cores
    "conv2d_n1c6s5x7_o8k3x3_p1_bias_bf16",
    "conv2d_n2c32s8x8_o32k3x3_p1_res_bf16_nhwc",  # in tensor cores
)
# Not exact, and three launches with workspace between them.
WINOGRAD = "conv2d_n1c8s8x8_o8k3x3_p1_nhwc"
COUNT = len(SPECS) + 1
SPEC = SPECS[0]
TARGETS = ("sm_80", "sm_90")


def random_weights(spec: tc.ConvSpec, generator: np.random.Generator) -> dict[str, Any]:
    shapes = {"weight": spec.weight_shape}
    shapes |= {"bias": (spec.oc,)} if spec.bias else {}
    shapes |= {"scale": (spec.oc,), "shift": (spec.oc,)} if spec.scale_shift else {}
    return {n: generator.integers(-4, 5, s).astype(np.float32) for n, s in shapes.items()}


def build(folder: Path, program: str) -> Path:
    out = folder.parent / program
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-Iinclude", "-Isrc",
         f"{program}.c", "src/kernels.c", "-ldl", "-lpthread", "-lm", "-o", str(out)],
        cwd=folder, check=True,
    )  # fmt: skip
    return out


def run(command: list[str | Path]) -> tuple[int, str]:
    """Run a program, which finds the stand-in where the test has one, and give status and text."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def loaded_from(folder: Path) -> CudaBundle:
    loaded = tc.load(folder)
    assert isinstance(loaded, CudaBundle)
    return loaded
