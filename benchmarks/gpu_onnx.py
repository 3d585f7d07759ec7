"""Child of `gpu.py` that computes a generator in one provider of onnxruntime.

It needs numpy and onnxruntime only, so that it also runs in an environment that serves.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from gpu_cells import PROVIDERS
from inference import serve
from inference_variants import drawn


def make(path: str, provider: str) -> Callable[[int], Any]:
    """Returns a function that computes a batch of a model, from and to the host's memory.

    Args:
        path: of the ONNX model.
        provider: one of PROVIDERS.

    Raises:
        RuntimeError: onnxruntime does not have the provider, or cannot load it.
    """
    import onnxruntime

    wanted = PROVIDERS[provider]
    if wanted not in onnxruntime.get_available_providers():
        built = ", ".join(onnxruntime.get_available_providers())
        raise RuntimeError(f"onnxruntime {onnxruntime.__version__} is built for {built}")
    if provider != "cpu" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries from the packages of NVIDIA
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    providers = [wanted] if provider == "cpu" else [wanted, PROVIDERS["cpu"]]
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    # A provider whose libraries are missing is left out without an error.
    if session.get_providers()[0] != wanted:
        raise RuntimeError(
            f"onnxruntime {onnxruntime.__version__} cannot load {wanted}: CUDA, cuDNN or TensorRT "
            "of its version is missing"
        )
    ports = session.get_inputs()

    def run(batch: int) -> Any:
        feeds = {port.name: drawn(port.type, batch, tuple(port.shape[1:])) for port in ports}
        return session.run(None, feeds)

    return run


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--path", required=True)
    parser.add_argument("--provider", choices=tuple(PROVIDERS), required=True)
    given = parser.parse_args()
    serve(lambda: make(given.path, given.provider))
