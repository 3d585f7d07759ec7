"""PyTorch variants of `inference.py`, run by it in a Python that has torch."""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from inference import serve
from train_step_torch import build


def make(variant: str, net: str, threads: int) -> Callable[[int], Any]:
    """Returns a function that generates a batch of NHWC images in evaluation mode."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    generator, _, _, latent_dim = build(net)
    generator.eval()
    if variant.endswith("last"):
        generator.to(memory_format=torch.channels_last)
    function = torch.compile(generator) if "compile" in variant else generator

    def run(batch: int) -> Any:
        with torch.inference_mode():
            samples = function(torch.randn(batch, latent_dim))
            return samples.permute(0, 2, 3, 1).contiguous().numpy()

    return run


def export(net: str, path: str) -> None:
    torch.manual_seed(0)
    generator, _, _, latent_dim = build(net)
    generator.eval()
    latents = (torch.randn(2, latent_dim),)
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        generator, latents, path, input_names=["latents"], dynamic_shapes=({0: batch},)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("--child", "--once", "--export"):
        parser.add_argument(name)
    parser.add_argument("--path", required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.export:
        export(options.path, options.export)
    elif options.once:
        make(options.once, options.path, options.threads)(1)
        print("sample", flush=True)
    else:
        serve(lambda: make(options.child, options.path, options.threads))
