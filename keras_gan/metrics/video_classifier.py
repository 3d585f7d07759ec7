"""Classifiers of videos: trained on labeled clips, they give features for metrics of sets."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from keras_gan.arguments import check_integer
from keras_gan.datasets import Source
from keras_gan.datasets.splits import Factor
from keras_gan.errors import UsageError
from keras_gan.metrics.classifier_files import ClassifierFiles, TrainedClassifier
from keras_gan.metrics.extractor import Extractor
from keras_gan.metrics.keras_extractor import from_keras, load_keras
from keras_gan.spec import Spec

NAME = "video_classifier"
EPOCHS = 5
_BATCH, _RATE = 32, 3e-3  # clips per step; learning rate
_PICKED = 2  # frames of each clip in a step that the network of frames sees
_FRAME_WIDTHS = (24, 48, 96)  # of the convolutions of frames
_MOTION_WIDTHS = (8, 12, 16, 24, 32)  # of those of clips, in space and along time
_FEATURES = 48  # of frames, and as many of motion
_LEAST_SIZE, _LEAST_FRAMES = 8, 2
_LABELS = "labels"  # name of the only output of a classifier without known factors
_FILES = ClassifierFiles(NAME, "video classifier", "keras-gan video-classifier DATA")


def train_video_classifier(
    source: Source,
    epochs: int = EPOCHS,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
) -> TrainedClassifier:
    """Trains a small classifier of a data set's videos and keeps it in the user's cache.

    One network sees single frames, by two-dimensional convolutions; their features are averaged. A
    second one, of few channels, sees motion, by convolutions in space and along time in turn. Both
    have 48 values, which together are the features. There is an output for each known factor of the
    data, the content and the motion of `moving-fashion`, and otherwise for the labels. The network
    of frames also classifies each frame by itself. Distances in these features compare with other
    distances in the features of the same file only; its hash is its name. The function sets the
    Keras seed.

    Args:
        source: clips of one shape with labels or known factors.
        epochs: passes over the training clips, from 1.
        seed: seed of the weights, and of the order of clips and frames.
        cache: folder of the file; by default the user's cache.

    Raises:
        UsageError: data without labels, of another kind, or of clips that are too small.

    Reference:
        - [Tran et al., 2017](https://arxiv.org/abs/1711.11248), for convolutions in space and along
          time in turn
    """
    check_integer("epochs", epochs)
    check_integer("seed", seed, 0)
    _check_data(source)
    spec, known = source.spec, _factors(source, "train")
    still = next((name for name, factor in known.items() if factor.in_frames), None)
    sizes = {name: len(factor.names) for name, factor in known.items()}
    keras.utils.set_random_seed(seed % 2**32)
    networks = _networks(spec.shape, sizes, sizes[still] if still else 0)
    _train(networks.training, source, known, still, epochs, seed)
    accuracies: dict[str, float] = dict.fromkeys(known, math.nan)
    if "held_out" in source.split_names and source.count("held_out"):
        accuracies = _accuracies(networks.whole, source, list(known))
    content: dict[str, Any] = {"data": source.description, "epochs": epochs, "seed": seed}
    content |= {"examples": source.count("train"), "shape": list(spec.shape), "still": still}
    content["outputs"] = {name: list(factor.names) for name, factor in known.items()}
    content["accuracies"] = {n: None if math.isnan(v) else v for n, v in accuracies.items()}
    path = _FILES.write(networks.whole, content, cache)
    return TrainedClassifier(path, next(iter(accuracies.values())), accuracies)


# ------------------------------------------------------------------------ data


def _check_data(source: Source) -> None:
    spec = source.spec
    if "frame_rate" not in spec.modality.meta:
        raise UsageError(
            f"A video classifier needs data of videos. Received: samples of kind {spec.kind!r}"
        )
    if not spec.num_classes and not source.factors():
        raise UsageError(
            "A video classifier needs data with labels, such as a folder with a folder for each "
            f"class. Received: {source.description}"
        )
    if any(size is None for size in spec.shape):
        raise UsageError(
            f"A video classifier needs clips of one shape. Received: shape={spec.shape}"
        )
    frames, height, width, _ = spec.shape
    if frames < _LEAST_FRAMES or min(height, width) < _LEAST_SIZE:
        raise UsageError(
            f"A video classifier needs clips of at least {_LEAST_FRAMES} frames of {_LEAST_SIZE} x "
            f"{_LEAST_SIZE} pixels. Received: shape={spec.shape}"
        )


def _factors(source: Source, split: str) -> dict[str, Factor]:
    """Returns what is known of the clips of a split: their factors, or else their labels."""
    found = source.factors(split)
    if found:
        return found
    labels: Any = source.rows(split, np.arange(source.count(split)))[1]
    names = tuple(source.spec.class_name(label) for label in range(source.spec.num_classes))
    return {_LABELS: Factor(np.asarray(labels), names, in_frames=True)}


def _read(source: Source, split: str, rows: np.ndarray) -> np.ndarray:
    return source.values(source.rows(split, rows)[0])


# ------------------------------------------------------------------------ networks


class _Networks(NamedTuple):
    """Networks that share their layers.

    Args:
        training: from picked frames and whole clips to the outputs.
        whole: from clips to the features and the logits of each output.
    """

    training: Any
    whole: Any


def _networks(shape: Sequence[int], sizes: Mapping[str, int], still: int) -> _Networks:
    """Builds the networks.

    Args:
        shape: frames, height, width and channels of a clip.
        sizes: number of classes of each output.
        still: number of classes of single frames; 0 for none.
    """
    of_frames, of_motion = _frame_network(shape[1:], still), _motion_network(shape)
    outputs = {name: layers.Dense(size, name=f"{name}_logits") for name, size in sizes.items()}
    clips = keras.Input(shape, name="clips")
    picked = keras.Input((_PICKED, *shape[1:]), name="picked")

    def describe(frames):
        count = frames.shape[1]
        found = of_frames(ops.reshape(frames, (-1, *shape[1:])))
        features = ops.reshape(found[0], (-1, count, _FEATURES))
        return ops.mean(features, axis=1), found[1:]

    motion = of_motion(clips)
    seen, classes = describe(picked)
    features = layers.Concatenate()([seen, motion])
    made = {name: layer(features) for name, layer in outputs.items()}
    if classes:
        made["frames"] = ops.reshape(classes[0], (-1, _PICKED, still))
    training = keras.Model([picked, clips], made, name="training")
    features = layers.Concatenate(name="features")([describe(clips)[0], motion])
    logits = {name: layer(features) for name, layer in outputs.items()}
    return _Networks(training, keras.Model(clips, {"features": features, **logits}, name=NAME))


def _convolve(x: Any, width: int, size: Any = 3, stride: int = 1) -> Any:
    x = layers.Conv2D(width, size, stride, "same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def _frame_network(shape: Sequence[int], classes: int) -> keras.Model:
    """Builds the network from frames to features and, if they have classes, logits."""
    frames = keras.Input(shape)
    first, second, last = _FRAME_WIDTHS
    x = _convolve(_convolve(frames, first, 5, 2), second)
    x = _convolve(layers.MaxPooling2D()(x), last)
    pools = (layers.GlobalAveragePooling2D(), layers.GlobalMaxPooling2D())
    x = layers.Dropout(0.2)(layers.Concatenate()([pool(x) for pool in pools]))
    features = layers.Dense(_FEATURES, "relu", name="features")(x)
    outputs = [features, *([layers.Dense(classes, name="classes")(features)] if classes else [])]
    return keras.Model(frames, outputs, name="frame_network")


def _motion_network(shape: Sequence[int]) -> keras.Model:
    """Builds the network from clips to features, by convolutions in space and along time."""
    frames, *size = shape
    first, second, third, fourth, last = _MOTION_WIDTHS
    clips = keras.Input(shape)
    x = _convolve(ops.reshape(clips, (-1, *size)), first, stride=2)
    x = _along_time(_convolve(x, second, stride=2), frames, third)
    x = _along_time(_convolve(x, fourth, stride=2), frames, last)
    x = ops.reshape(x, (-1, frames, x.shape[1] * x.shape[2], last))
    x = layers.Concatenate()([ops.mean(x, axis=2), ops.max(x, axis=2)])
    # Not pooled over time: which way something moves first is part of the motion.
    x = layers.Conv1D(last, 3, 2, "same", activation="relu")(x)
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    return keras.Model(clips, layers.Dense(_FEATURES, "relu")(x), name="motion_network")


def _along_time(x: Any, frames: int, width: int) -> Any:
    """Convolves pictures of the frames of clips along time, at each place by itself."""
    height, columns, channels = x.shape[1:]
    x = _convolve(ops.reshape(x, (-1, frames, height * columns, channels)), width, (3, 1))
    return ops.reshape(x, (-1, height, columns, width))


# ------------------------------------------------------------------------ training


def _train(
    model: Any,
    source: Source,
    known: Mapping[str, Factor],
    still: str | None,
    epochs: int,
    seed: int,
) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(_RATE), dict.fromkeys(model.output, loss), jit_compile=False
    )
    rng = np.random.default_rng(seed)
    usable = np.all([factor.ids >= 0 for factor in known.values()], axis=0)
    labeled = np.flatnonzero(usable)  # training examples may be unlabeled
    steps = math.ceil(len(labeled) / _BATCH)
    total, done = epochs * steps, 0
    for _ in range(epochs):
        # The order wraps around, so that all batches have one size.
        for rows in np.resize(rng.permutation(labeled), (steps, _BATCH)):
            clips = _read(source, "train", rows)
            chosen = rng.integers(clips.shape[1], size=(_BATCH, _PICKED))
            picked = clips[np.arange(_BATCH)[:, np.newaxis], chosen]
            targets = {name: factor.ids[rows] for name, factor in known.items()}
            if still is not None:
                targets["frames"] = np.repeat(targets[still][:, np.newaxis], _PICKED, axis=1)
            model.optimizer.learning_rate = _RATE * (1 - done / total)
            model.train_on_batch([picked, clips], targets)
            done += 1


def _accuracies(model: Any, source: Source, names: Sequence[str]) -> dict[str, float]:
    known = _factors(source, "held_out")
    hits: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for start in range(0, source.count("held_out"), 64):
        rows = np.arange(start, min(start + 64, source.count("held_out")))
        found = model.predict_on_batch(_read(source, "held_out", rows))
        for name in names:
            hits[name].append(found[name].argmax(axis=1) == known[name].ids[rows])
    return {name: float(np.concatenate(parts).mean()) for name, parts in hits.items()}


# ------------------------------------------------------------------------ features


def open_video_classifier(
    name: str, spec: Spec, cache: str | os.PathLike[str] | None = None
) -> Extractor:
    """Opens a classifier of the cache as the extractor of features of videos.

    Its classes are those of the output that has the data's classes; the first one's, such as the
    content, for data without labels.

    Args:
        name: the first digits of its hash; empty for the last one that was trained on videos of
            this shape and these classes.
        spec: description of the videos.
        cache: folder of the files; by default the user's cache.

    Raises:
        UsageError: no such classifier, or one of other videos.
    """
    wanted = f"{spec.modality.plural} of shape {spec.shape} with {spec.num_classes} classes"
    path, content = _FILES.find(name, lambda found: _output(found, spec) is not None, wanted, cache)
    model, output = load_keras(path), str(_output(content, spec))
    sha256 = content["sha256"]
    chosen = keras.Model(model.inputs, [model.output["features"], model.output[output]])
    of_frames = from_keras(model.get_layer("frame_network"), NAME, sha256)
    return dataclasses.replace(
        from_keras(chosen, NAME, sha256),
        name=f"{NAME}:{sha256[:8]}",
        shape=(None, None, None),
        class_names=tuple(content["outputs"][output]) if spec.class_names else (),
        still=dataclasses.replace(of_frames, in_bytes=False) if content["still"] else None,
    )


def _output(content: Mapping[str, Any], spec: Spec) -> str | None:
    """Returns the output of a classifier with the data's classes; `None` for other data."""
    outputs = content.get("outputs")
    if content.get("shape") != list(spec.shape) or not outputs:
        return None
    names = [spec.class_name(label) for label in range(spec.num_classes)]
    return next((name for name, own in outputs.items() if own == names or not names), None)
