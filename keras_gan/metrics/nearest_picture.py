"""Picture of generated images beside their nearest training images."""

from __future__ import annotations

import pathlib

import numpy as np

from keras_gan import datasets
from keras_gan.errors import UsageError
from keras_gan.files import write_atomically
from keras_gan.metrics._metric import EvaluationInputs
from keras_gan.metrics.nearest import nearest
from keras_gan.spec import Spec
from serving import pictures

_ROWS, _NEIGHBORS = 8, 5


def check(spec: Spec, has_training: bool) -> None:
    """Checks that the picture can be drawn.

    Raises:
        UsageError: the samples are not images, or there is no training split to compare with.
    """
    if not spec.modality.has_pixels or not has_training:
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
    lines = train.reshape(len(closest), neighbors, *data.spec.shape)
    cells = np.concatenate([images[closest][:, np.newaxis], lines], axis=1)
    cells = cells.reshape(-1, *data.spec.shape)
    sheet = data.spec.modality.sheet(cells, {"value_range": (0.0, 255.0)}, 1 + neighbors)
    write_atomically(path, pictures.to_png(sheet))
