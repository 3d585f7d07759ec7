"""Picture of generated images beside their nearest training images."""

from __future__ import annotations

import pathlib

import numpy as np
import PIL.Image

from keras_gan import datasets, pictures
from keras_gan import run as runs
from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs
from keras_gan.metrics.nearest import nearest
from keras_gan.spec import Spec

_ROWS, _NEIGHBORS = 8, 5


def check(spec: Spec, has_training: bool) -> None:
    """Checks that the picture can be drawn.

    Raises:
        UsageError: the samples are not images, or there is no training split to compare with.
    """
    if spec.kind != "image" or not has_training:
        split = "with" if has_training else "without"
        raise UsageError(
            "A picture of nearest neighbors needs images with a training split, and "
            f"split='held_out'. Received: {spec.kind} data {split} a training split"
        )


def draw(
    path: pathlib.Path, inputs: EvaluationInputs, images: np.ndarray, data: datasets.Source
) -> None:
    """Writes rows of a generated image and its nearest training images, nearest first.

    The rows are the generated images that are closest to a training image, so that memorized
    images are among them.

    Args:
        path: path of the PNG file.
        inputs: inputs with the training split.
        images: generated images.
        data: data set with the training images.
    """
    features = inputs.extractor(images)[0]
    neighbors = min(_NEIGHBORS, data.count("train"))
    found = nearest(features, inputs.training_features, neighbors)
    closest = np.argsort(found.distances[:, 0], kind="stable")[:_ROWS]
    rows = found.indices[closest]
    train = data.to_uint8(data.rows("train", rows.reshape(-1))[0])
    height, width, channels = data.spec.shape
    gap = max(2, width // 8)
    sheet = np.full((len(closest) * height, (1 + neighbors) * width + gap, channels), 255, "uint8")
    for row, (sample, line) in enumerate(zip(closest, np.split(train, len(closest)), strict=True)):
        part = sheet[row * height : (row + 1) * height]
        part[:, :width] = images[sample]
        part[:, width + gap :] = np.concatenate(list(line), axis=1)
    picture = PIL.Image.fromarray(sheet[..., 0] if channels == 1 else sheet)
    runs.write_atomically(path, pictures.png(picture))
