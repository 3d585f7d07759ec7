"""Fashion-MNIST, 60,000 + 10,000 images: 28x28, gray, 10 classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from keras_gan.datasets import idx, tfds, tfds_folders
from keras_gan.datasets.fashion_mnist_10k import image_spec
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split
from keras_gan.errors import UsageError

SHAPE = (28, 28, 1)  # of a sample

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_FILES = {"train": ("train", 60_000), "held_out": ("t10k", 10_000)}


def open(
    *,
    folder: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = False,
    labels: bool = True,
) -> Source:
    """Opens Fashion-MNIST from the first place that has it.

    The places are `folder`, the folder of Debian's package dataset-fashion-mnist, a copy that
    TensorFlow Datasets prepared, and, only if `download` is true, its download.

    Args:
        folder: a folder with the four published IDX files (`train-images-idx3-ubyte.gz`, ...).
        data_dir: where TensorFlow Datasets keeps its data; `TFDS_DATA_DIR` from the
            environment or `~/tensorflow_datasets` by default.
        download: whether TensorFlow Datasets may download the data set.
        labels: whether batches come with class ids.

    Raises:
        UsageError: Fashion-MNIST is in none of the places, or a file is damaged.
    """
    if folder is not None:
        return _from_idx(Path(os.path.expanduser(folder)), labels, "")
    if DEBIAN_FOLDER.is_dir():
        return _from_idx(DEBIAN_FOLDER, labels, "Debian's dataset-fashion-mnist, ")
    if not download and tfds_folders.find("fashion_mnist", data_dir) is None:
        raise UsageError(
            "Fashion-MNIST must be on this machine: install it with `apt install "
            "dataset-fashion-mnist`, or name a folder with its IDX files with "
            "`--set data.folder=...`, or let TensorFlow Datasets download it with "
            "`--set data.download=true`; fashion-mnist-10k comes with the package. "
            f"Received: folder=None, data_dir={data_dir!r}, download=False"
        )
    source = tfds.open(
        name="fashion_mnist", data_dir=data_dir, download=download, labels=labels, keep_ids=True
    )
    splits = {name: Split(*source.arrays(name)) for name in ("train", "held_out")}
    return Source(image_spec(labels), splits, f"fashion-mnist: {source.description}")


def _from_idx(folder: Path, labels: bool, origin: str) -> Source:
    splits = {}
    for split, (prefix, count) in _FILES.items():
        images = idx.read(folder / f"{prefix}-images-idx3-ubyte.gz", 3)
        if images.shape != (count, 28, 28):
            raise UsageError(
                f"Fashion-MNIST has {count} {split} images of 28x28. "
                f"Received: an array of shape {images.shape} in {folder}"
            )
        ids = idx.read(folder / f"{prefix}-labels-idx1-ubyte.gz", 1) if labels else None
        ids = None if ids is None else ids.astype(np.int32)
        # No test image is a training image; this was checked for the published files.
        splits[split] = Split(images[..., np.newaxis], ids, disjoint=True)
    description = f"fashion-mnist: 60,000 + 10,000 images from {origin}{folder}"
    return Source(image_spec(labels), splits, description)
