"""10,000 Fashion-MNIST images included in the package: 28x28, gray, 10 classes."""

from __future__ import annotations

from importlib import resources

import numpy as np

from keras_gan.datasets import idx
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split
from keras_gan.spec import Spec

SHAPE = (28, 28, 1)  # of a sample

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_TRAIN = 9_000  # the other 1,000 are held out; all images differ
_IMAGES_SHA256 = "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
_LABELS_SHA256 = "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"


def open(*, labels: bool = True) -> Source:
    """Opens the included images: 9,000 to train on, 1,000 held out.

    They are the test images of Fashion-MNIST, so a model that was trained on them must not be
    evaluated on those.

    Args:
        labels: whether batches come with class ids.
    """
    folder = resources.files("keras_gan.datasets") / "data"
    with (
        resources.as_file(folder / "t10k-images-idx3-ubyte.gz") as images_path,
        resources.as_file(folder / "t10k-labels-idx1-ubyte.gz") as labels_path,
    ):
        images = idx.read(images_path, 3, _IMAGES_SHA256)[..., np.newaxis]
        ids = idx.read(labels_path, 1, _LABELS_SHA256).astype(np.int32) if labels else None
    splits = {
        "train": Split(images[:_TRAIN], None if ids is None else ids[:_TRAIN]),
        "held_out": Split(images[_TRAIN:], None if ids is None else ids[_TRAIN:]),
    }
    description = "fashion-mnist-10k: 9,000 + 1,000 images that come with keras_gan"
    return Source(image_spec(labels), splits, description)


def image_spec(labels: bool) -> Spec:
    """Returns the spec of Fashion-MNIST, with or without its classes."""
    if not labels:
        return Spec("image", (28, 28, 1), (-1.0, 1.0))
    return Spec("image", (28, 28, 1), (-1.0, 1.0), len(CLASS_NAMES), CLASS_NAMES)
