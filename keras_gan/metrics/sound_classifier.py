"""Classifiers of sounds: trained on labeled clips, they give features for metrics of sets."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import keras
import numpy as np

from keras_gan.arguments import check_integer
from keras_gan.datasets import Source
from keras_gan.errors import UsageError
from keras_gan.metrics.classifier_files import ClassifierFiles, TrainedClassifier
from keras_gan.metrics.extractor import Extractor, Outputs
from keras_gan.metrics.keras_extractor import from_keras, load_keras
from keras_gan.metrics.real_data import from_data
from keras_gan.metrics.samples import Samples
from keras_gan.metrics.waves import standard_mel
from keras_gan.spec import Spec
from serving.kinds.audio import rate_of
from serving.mel import Mel

NAME = "sound_classifier"
EPOCHS = 6
_BATCH, _RATE = 64, 2e-3  # examples per step; learning rate
_WIDTHS = (16, 32, 64, 96)  # of the convolutions, each of stride 2
_FEATURES = 64
_SHIFT, _GAIN = 0.1, 0.7  # largest shift, as a share of the frames; largest gain, in ln
_LEAST_FRAMES = 8
_FILES = ClassifierFiles(NAME, "sound classifier", "keras-gan sound-classifier DATA")


def train_sound_classifier(
    source: Source,
    epochs: int = EPOCHS,
    seed: int = 0,
    cache: str | os.PathLike[str] | None = None,
) -> TrainedClassifier:
    """Trains a small classifier of a data set's sounds and keeps it in the user's cache.

    The network has four convolutions of stride 2 on log-mel spectrograms, and a layer of 64 values
    that are its features. Clips are shifted by up to a tenth of their length and changed in level
    by up to 6 dB. Distances in these features compare with other distances in the features of the
    same file only; its hash is its name. The function sets the Keras seed.

    Args:
        source: labeled clips of one length.
        epochs: passes over the training clips, from 1.
        seed: seed of the weights and of the order of clips.
        cache: folder of the file; by default the user's cache.

    Raises:
        UsageError: data without labels, without sound, or of clips that are too short.
    """
    check_integer("epochs", epochs)
    check_integer("seed", seed, 0)
    spec = source.spec
    _check_data(source)
    definition = _definition(spec)
    train = from_data(source, "train")
    mels, labels = _read(train, definition)
    keras.utils.set_random_seed(seed % 2**32)
    model: Any = _network(mels.shape[1:], spec.num_classes)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(_RATE), loss, jit_compile=False)
    rng = np.random.default_rng(seed)
    steps = math.ceil(len(mels) / _BATCH)
    total, done = epochs * steps, 0
    for _ in range(epochs):
        # The order wraps around, so that all batches have one size.
        order = np.resize(rng.permutation(len(mels)), (steps, _BATCH))
        for rows in order:
            model.optimizer.learning_rate = _RATE * (1 - done / total)
            model.train_on_batch(_varied(mels[rows], rng, definition), labels[rows])
            done += 1
    accuracy = math.nan
    if "held_out" in source.split_names and source.count("held_out"):
        held_out, own = _read(from_data(source, "held_out"), definition)
        found = model.predict(held_out, batch_size=256, verbose=0).argmax(axis=1)
        accuracy = float((found == own).mean())
    content = {"data": source.description, "examples": len(mels), "epochs": epochs, "seed": seed}
    content |= {"accuracy": None if math.isnan(accuracy) else accuracy}
    content |= {"length": spec.shape[0], "channels": spec.shape[1], "mel": definition.to_meta()}
    content |= {"classes": [spec.class_name(label) for label in range(spec.num_classes)]}
    return TrainedClassifier(_FILES.write(model, content, cache), accuracy)


def _check_data(source: Source) -> None:
    spec = source.spec
    if "sample_rate" not in spec.modality.meta:
        raise UsageError(
            f"A sound classifier needs data of sounds. Received: samples of kind {spec.kind!r}"
        )
    if not spec.num_classes:
        raise UsageError(
            "A sound classifier needs data with labels, such as a folder with a folder for each "
            f"class. Received: {source.description}"
        )
    if spec.shape[0] is None:
        raise UsageError(
            "A sound classifier needs clips of one length. Received: clips of any length"
        )
    frames = _definition(spec).frames(spec.shape[0])
    if frames < _LEAST_FRAMES:
        raise UsageError(
            f"A sound classifier needs clips of at least {_LEAST_FRAMES} frames. "
            f"Received: {spec.shape[0]} samples, {frames} frames"
        )


def _definition(spec: Spec) -> Mel:
    """Returns the standard spectrogram with every second frame."""
    mel = standard_mel(rate_of(spec.samples.meta))
    return dataclasses.replace(mel, hop=2 * mel.hop)


def _to_mels(samples: np.ndarray, definition: Mel) -> np.ndarray:
    """Returns clips `(count, time, channels)` as pictures `(count, frames, mels, channels)`."""
    return np.moveaxis(definition(np.moveaxis(samples, 2, 1)), 1, 3)


def _read(samples: Samples, definition: Mel) -> tuple[np.ndarray, np.ndarray]:
    """Returns the spectrograms and the labels of all labeled clips."""
    mels, labels = [], []
    for batch, own in samples.read(samples.count or 0):
        known = np.asarray(own) >= 0
        mels.append(_to_mels(np.asarray(batch)[known], definition))
        labels.append(np.asarray(own)[known])
    return np.concatenate(mels), np.concatenate(labels)


def _varied(mels: np.ndarray, rng: np.random.Generator, definition: Mel) -> np.ndarray:
    """Returns spectrograms that are shifted in time, and changed in level."""
    count, frames = mels.shape[:2]
    most, floor = round(_SHIFT * frames), np.float32(np.log(definition.floor))
    padded = np.pad(mels, [(0, 0), (most, most), (0, 0), (0, 0)], constant_values=floor)
    starts = rng.integers(2 * most + 1, size=(count, 1))
    shifted = padded[np.arange(count)[:, np.newaxis], starts + np.arange(frames)]
    gains = rng.uniform(-_GAIN, _GAIN, (count, 1, 1, 1)).astype(np.float32)
    return np.maximum(shifted + gains, floor)


def _network(shape: tuple[int, ...], classes: int) -> keras.Model:
    mels = keras.Input(shape, name="mel")
    x = keras.layers.Rescaling(0.25, 1.0)(mels)
    for width in _WIDTHS:
        x = keras.layers.Conv2D(width, 3, 2, "same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    pools = (keras.layers.GlobalAveragePooling2D(), keras.layers.GlobalMaxPooling2D())
    x = keras.layers.Concatenate()([pool(x) for pool in pools])
    x = keras.layers.Dense(_FEATURES, "relu", name="features")(keras.layers.Dropout(0.2)(x))
    return keras.Model(mels, keras.layers.Dense(classes, "softmax", name="classes")(x), name=NAME)


# ------------------------------------------------------------------------ features


def open_sound_classifier(
    name: str, spec: Spec, cache: str | os.PathLike[str] | None = None
) -> Extractor:
    """Opens a classifier of the cache as the extractor of features of clips.

    Args:
        name: the first digits of its hash; empty for the last one that was trained on clips of
            this sampling rate, length and classes.
        spec: description of the clips.
        cache: folder of the files; by default the user's cache.

    Raises:
        UsageError: no such classifier, or one of other clips.
    """
    wanted = f"{_described(spec)} with {spec.num_classes} classes"
    path, content = _FILES.find(name, lambda found: _fits(found, spec), wanted, cache)
    sha256, definition = content["sha256"], Mel.from_meta(content["mel"])
    network = from_keras(load_keras(path), NAME, sha256)

    def run(samples: np.ndarray) -> Outputs:
        waves = spec.modality.to_sound(samples, spec.samples.meta)
        return network.run(_to_mels(waves, definition))

    names = tuple(content["classes"])
    return dataclasses.replace(
        network,
        name=f"{NAME}:{sha256[:8]}",
        run=run,
        shape=(None, None, None),
        class_names=names if spec.class_names else (),
    )


def _described(spec: Spec) -> str:
    """Returns a phrase for the clips of a data set."""
    found = spec.modality.as_sound(spec.shape, spec.samples.meta)
    if found is None:
        return f"samples of kind {spec.kind!r}"
    time, channels, rate = found
    return f"clips of ({time}, {channels}) at {rate} Hz"


def _fits(content: dict[str, Any], spec: Spec) -> bool:
    """Returns whether a classifier is one of such clips, and of these classes if there are any."""
    rate = content.get("mel", {}).get("sample_rate")
    clips = content.get("length"), content.get("channels"), rate
    if clips != spec.modality.as_sound(spec.shape, spec.samples.meta):
        return False
    names = [spec.class_name(label) for label in range(spec.num_classes)]
    return not names or content.get("classes") == names
