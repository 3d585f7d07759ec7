"""Evaluation of an exported generator by torch-fidelity, with this library's feature extractor.

    fidelity/bin/python benchmarks/torch_fidelity_generator.py --cpu --json --no-cache \\
        --input1 runs/fm/bundle/model.onnx --input1-model-z-size 64 \\
        --input1-model-num-samples 10000 --input2 npy --datasets-root real \\
        --feature-extractor onnx \\
        --feature-extractor-weights-path keras_gan/metrics/networks/fashion_mnist.onnx \\
        --fid --kid --prc --isc

An independent check of `keras-gan evaluate`: torch-fidelity loads `model.onnx`, generates samples,
extracts features and computes the metrics. Its command line is unchanged; this file adds three
things to it:

- the extractor `onnx`: any network whose input is images in [-1, 1], `(batch, height, width,
  channels)`, and whose outputs are `features` and, for the score, `logits`. Images are rounded to
  8 bits first and features are returned in float64, as in this library;
- the data set `npy`: the images of `images.npy` in the folder given by --datasets-root, uint8,
  `(count, height, width, channels)`;
- the latents of seeds 0, 1, 2, ... instead of its own normal random numbers, so that the samples
  are those that `keras-gan evaluate` measures.

For unconditional generators of images. Needs torch-fidelity, torchvision and onnxruntime.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

import numpy as np
import onnxruntime
import torch  # pyright: ignore[reportMissingImports]
import torch_fidelity.fidelity as program  # pyright: ignore[reportMissingImports]
import torch_fidelity.registry as registry  # pyright: ignore[reportMissingImports]
from torch_fidelity.feature_extractor_base import (  # pyright: ignore[reportMissingImports]
    FeatureExtractorBase,
)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from serving.seeds import latents_from_seeds  # needs only numpy


class Network(FeatureExtractorBase):
    """Feature extractor of torch-fidelity that runs an ONNX file in onnxruntime."""

    def __init__(self, name: str, features_list: list[str], **settings: Any):
        super().__init__(name, features_list)
        path = settings.get("feature_extractor_weights_path")
        if not path:
            raise SystemExit("Give --feature-extractor-weights-path, the extractor's ONNX file")
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return "features", "logits"

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "features"

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: Any) -> tuple[Any, ...]:
        x = images.cpu().numpy()
        if x.dtype != np.uint8:  # samples of the generator, not rounded yet
            x = np.clip(np.round((x.astype(np.float64) + 1) * 127.5), 0, 255)
        x = (x.astype(np.float32) / 127.5 - 1).astype(np.float32)
        name = self.session.get_inputs()[0].name
        outputs = self.session.run(self.features_list, {name: x})
        return tuple(torch.from_numpy(np.asarray(output, np.float64)) for output in outputs)


class Images(torch.utils.data.Dataset):
    """The images of a .npy file."""

    def __init__(self, path: pathlib.Path):
        self.images = np.load(path)
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise SystemExit(
                f"{path} must hold uint8 images, (count, height, width, channels). "
                f"Received: {self.images.dtype} of shape {self.images.shape}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return torch.from_numpy(self.images[index])


class Latents:
    """Noise source of torch-fidelity that returns the latents of consecutive seeds."""

    def __init__(self) -> None:
        self.seed = 0

    def __call__(self, rng: Any, shape: tuple[int, int]) -> Any:
        seeds = np.arange(self.seed, self.seed + shape[0])
        self.seed += shape[0]
        return torch.from_numpy(latents_from_seeds(seeds, shape[1]))


def main() -> None:
    registry.register_feature_extractor("onnx", Network)
    registry.register_dataset(
        "npy", lambda root, download: Images(pathlib.Path(root) / "images.npy")
    )
    registry.NOISE_SOURCE_REGISTRY["normal"] = Latents()
    program.main()


if __name__ == "__main__":
    main()
