"""Feature extractors by name, file, model or function."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_gan.datasets import Source, sprites
from keras_gan.datasets.fashion_mnist_10k import CLASS_NAMES
from keras_gan.errors import UsageError, one_line
from keras_gan.metrics import inception
from keras_gan.metrics.extractor import (
    BICUBIC,
    NO_RESIZE,
    Extractor,
    Outputs,
    file_sha256,
    flatten,
)
from keras_gan.metrics.images import resize
from keras_gan.metrics.keras_extractor import (
    RUNTIME,
    from_keras,
    has_only_keras_code,
    hash_model,
    load_keras,
)
from keras_gan.metrics.ngram_features import hashed_ngrams
from keras_gan.metrics.onnx_extractor import from_onnx
from keras_gan.metrics.sound_classifier import open_sound_classifier
from keras_gan.metrics.spectrum import spectrum
from keras_gan.metrics.video_classifier import open_video_classifier
from keras_gan.spec import Spec

NAMES = {
    "fashion_mnist": "the Fashion-MNIST classifier that comes with the package",
    "fashion_mnist_stacked": "the same classifier on each of an image's three channels",
    "inception": "the standard FID network, from a local file: inception:PATH",
    "ngrams": "shares of the 1-, 2- and 3-grams of a text, by a hash",
    "pixels": "the samples' own values",
    "reduced_pixels": "the own values of images and videos, at most 4,096 after resizing",
    "sprites": "the factors of the data set sprites, read from the nearest sprite",
    "sound_classifier": "a classifier of sounds, trained by keras-gan sound-classifier",
    "video_classifier": "a classifier of videos, trained by keras-gan video-classifier",
    "spectrum": "mean and deviation over time of the log spectrum, of samples over time",
}
_RULE = f"features must be {', '.join(NAMES)}, an ONNX or .keras file, a Keras model or a function"
_GARMENT, _STACK = (28, 28, 1), (28, 28, 3)  # shapes of the images of the packaged classifier
_FASHION_MNIST, _STACKED = "Fashion-MNIST", "stacks of Fashion-MNIST"
_ORIGINS = {  # beginnings of the descriptions of the data sets
    _FASHION_MNIST: "fashion-mnist",
    _STACKED: "stacked-fashion",
}
_LEAST_SIDE = 8  # pixels of the frames of a video, below which some of them are left out instead
_MAX_VALUES = 4096  # of a sample whose features are its values: their covariance is this wide


def open_features(features: Any, spec: Spec) -> Extractor:
    """Opens a feature extractor for samples of a kind.

    Images are resized and converted to the network's channels where these differ.

    Args:
        features: one of

            - a name: `"fashion_mnist"` (images of 28x28x1), `"fashion_mnist_stacked"` (28x28x3),
              `"inception:PATH"` (or `"inception"`, with the path in the environment as
              `KERAS_GAN_INCEPTION`), `"pixels"`, `"reduced_pixels"` (images and videos),
              `"spectrum"` (samples over time, such as audio), `"ngrams"` (texts),
              `"sound_classifier"` or `"sound_classifier:HASH"` (see `train_sound_classifier`), and
              likewise `"video_classifier"` (see `train_video_classifier`);
            - the path of an ONNX file with one input of images. The features are the output
              called `features`, or the first; the classes those of `probabilities` or `logits`.
              The range of its input is [-1, 1], or `value_range` in its metadata (as `0,255`);
            - a Keras model, or the path of a `.keras` file, with its input in [-1, 1]. Of a
              classifier (its last layer ends in a softmax) the features are the input of the last
              layer with weights, and the output is the probabilities. Of another model the
              features are its output, and the second output, if any, the logits;
            - a callable from samples in [-1, 1] (points as they are) to features, or to features
              and probabilities.
        spec: description of the samples.

    Raises:
        UsageError: an unknown extractor, a missing or invalid file, or an extractor that does
            not fit the samples.
    """
    if isinstance(features, Extractor):
        return features
    if isinstance(features, str | os.PathLike):
        return _open_named(os.fspath(features), spec)
    if isinstance(features, keras.Model):
        sha256 = hash_model(features) if has_only_keras_code(features) else None
        return _probe(from_keras(features, features.name, sha256), spec)
    if callable(features):
        return _probe(_from_callable(features), spec)
    raise UsageError(f"{_RULE}. Received: features={features!r:.80}")


def default_features(data: Source, spec: Spec | None = None) -> str:
    """Returns the name of the default extractor for samples: by data set, kind and size.

    Args:
        data: the data of the samples.
        spec: description of the samples, with their sizes; by default the data's.

    Raises:
        UsageError: samples of more than 4,096 values that are not pictures, which have no default.
    """
    spec = spec or data.spec
    if spec.shape == _GARMENT and _is_of(_FASHION_MNIST, data):
        return "fashion_mnist"
    if spec.modality.features is not None:
        return spec.modality.features
    if np.prod(spec.shape) <= _MAX_VALUES:
        return "pixels"
    if not _has_frames(spec):
        raise UsageError(
            f"Samples of more than {_MAX_VALUES:,} values are compared by a network's features: "
            "name one with --features or features=..., or pixels for the values themselves. "
            f"Received: samples of shape {spec.shape}, features=None"
        )
    return "reduced_pixels"


def origin_note(extractor: Extractor, data: Source) -> str | None:
    """Returns a line for features of a classifier that data may be foreign to, or `None`."""
    if not extractor.trained_on or _is_of(extractor.trained_on, data):
        return None
    return (
        f"{extractor.name} are the features of a classifier of {extractor.trained_on}, which these "
        f"data are not known to be ({data.description}): patch_distance needs no classifier"
    )


def _is_of(data_set: str, data: Source) -> bool:
    """Returns whether data are those of a data set, by their description or their classes."""
    named = data.description.startswith(_ORIGINS[data_set])
    return named or (data_set == _FASHION_MNIST and data.spec.class_names == CLASS_NAMES)


def _open_named(text: str, spec: Spec) -> Extractor:
    name, _, path = text.partition(":")
    name = name.replace("-", "_")
    if name == "pixels":
        return _probe(Extractor("pixels", flatten, runtime=f"numpy {np.__version__}"), spec)
    if name == "reduced_pixels":
        if not _has_frames(spec):
            _check_kind(name, spec)
        return _probe(_reduced_pixels(spec), spec)
    if name == "spectrum":
        if spec.modality.axes[:1] != ("time",):
            raise UsageError(
                "The extractor 'spectrum' takes samples over time, such as audio and series. "
                f"Received: samples of kind {spec.kind!r}"
            )
        return _probe(Extractor("spectrum", spectrum, runtime=f"numpy {np.__version__}"), spec)
    if name == "ngrams":
        if not spec.modality.is_distribution:
            raise UsageError(
                f"The extractor 'ngrams' takes texts. Received: samples of kind {spec.kind!r}"
            )
        return _probe(Extractor("ngrams", hashed_ngrams, runtime=f"numpy {np.__version__}"), spec)
    if name == "sound_classifier":
        return _probe(open_sound_classifier(path, spec), spec)
    if name == "video_classifier":
        return _probe(open_video_classifier(path, spec), spec)
    if name == "sprites":
        return _probe(_sprites(spec), spec)
    if name == "inception":
        _check_kind(text, spec)
        return _inception(path or os.environ.get("KERAS_GAN_INCEPTION", ""))
    if name.startswith("fashion_mnist") and name in NAMES:
        return _probe(_fashion_mnist(name, spec), spec)
    file = pathlib.Path(os.path.expanduser(text))
    if file.suffix not in (".onnx", ".keras"):
        raise UsageError(f"{_RULE}. Received: features={text!r}")
    if not file.is_file():
        raise UsageError(f"The file of an extractor must exist. Received: features={text!r}")
    if file.suffix == ".onnx":
        _check_kind(file.stem, spec)
        return _probe(from_onnx(file, file.stem), spec)
    model = load_keras(file)
    extractor = from_keras(model, file.stem, file_sha256(file))
    return _probe(dataclasses.replace(extractor, kept=has_only_keras_code(model)), spec)


def _check_kind(name: str, spec: Spec) -> None:
    if not spec.modality.has_pixels:
        raise UsageError(
            f"The extractor {name!r} takes images; features='pixels' takes any samples. "
            f"Received: samples of kind {spec.kind!r}"
        )


def _probe(extractor: Extractor, spec: Spec) -> Extractor:
    """Runs the extractor once to set its dimensions; the only place that reports a misfit."""
    height, width, _ = extractor.shape
    is_image = spec.modality.has_pixels
    resized = is_image and (
        (height or spec.shape[0]) != spec.shape[0] or (width or spec.shape[1]) != spec.shape[1]
    )
    filter_name = BICUBIC if resized else extractor.resize
    extractor = dataclasses.replace(extractor, resize=filter_name, in_bytes=is_image)
    try:
        features, probabilities = extractor(np.zeros((2, *spec.shape), np.float32))
    except UsageError:
        raise
    except Exception as error:  # the user's network or function may raise any class
        line = one_line(error)
        raise UsageError(
            f"The extractor {extractor.name!r} must take samples of shape {spec.shape}. "
            f"Received: {type(error).__name__}: {line}"
        ) from error
    classes = 0 if probabilities is None else probabilities.shape[1]
    return dataclasses.replace(extractor, dim=features.shape[1], classes=classes)


def _inception(path: str) -> Extractor:
    network, sha256 = inception.load(path)
    return Extractor(
        "inception-2015-12-05",
        network,
        sha256,
        (None, None, 3),
        (0.0, 255.0),
        inception.RESIZE,
        inception.DIM,
        inception.CLASSES,
        standard=True,
        runtime=RUNTIME,
    )


def _sprites(spec: Spec) -> Extractor:
    """Returns the extractor of the levels of the sprites' factors, whose classes are the shapes."""
    if spec.shape != sprites.SHAPE:
        raise UsageError(
            "The extractor 'sprites' takes pictures of 32x32x1. "
            f"Received: samples of shape {spec.shape}"
        )

    def run(samples: np.ndarray) -> Outputs:
        levels = sprites.read_factors(samples)
        shapes = np.eye(len(sprites.SHAPES), dtype=np.float32)[levels[:, 0]]
        return levels.astype(np.float32), shapes

    return Extractor(
        "sprites",
        run,
        class_names=sprites.SHAPES,
        uniform=True,
        runtime=f"numpy {np.__version__}",
        kept=False,
        factors=tuple(sprites.FACTORS),
    )


def _has_frames(spec: Spec) -> bool:
    """Returns whether a sample is a picture, or several that follow each other."""
    return spec.modality.axes[-3:] == ("height", "width", "channels")


def _reduced_videos(spec: Spec) -> Extractor:
    """Returns the extractor of a video's values, of fewer and smaller frames if they are many."""
    frames, height, width, channels = spec.shape
    kept = min(frames, max(1, _MAX_VALUES // (channels * _LEAST_SIDE**2)))
    picked = np.linspace(0, frames - 1, kept).round().astype(int)
    factor = min(1.0, (_MAX_VALUES / (kept * height * width * channels)) ** 0.5)
    rows, columns = (max(1, int(size * factor)) for size in (height, width))
    columns = min(columns, max(1, _MAX_VALUES // (kept * channels)))
    rows = min(rows, max(1, _MAX_VALUES // (kept * channels * columns)))

    def run(samples: np.ndarray) -> Outputs:
        chosen = samples[:, picked]
        if (rows, columns) == (height, width):
            return flatten(chosen)
        small = resize(chosen.reshape(-1, height, width, channels), (rows, columns))
        return small.reshape(len(samples), -1), None

    filter_name = NO_RESIZE if (rows, columns) == (height, width) else BICUBIC
    runtime = f"numpy {np.__version__}"
    return Extractor("reduced_pixels", run, resize=filter_name, runtime=runtime, kept=False)


def _reduced_pixels(spec: Spec) -> Extractor:
    """Returns the extractor of the values of pictures, resized so that there are at most 4,096."""
    if not spec.modality.has_pixels:
        return _reduced_videos(spec)
    height, width, channels = spec.shape
    factor = min(1.0, (_MAX_VALUES / (height * width * channels)) ** 0.5)
    rows, columns = (max(1, int(size * factor)) for size in (height, width))
    columns = min(columns, _MAX_VALUES // channels)  # long strips keep at least one row or column
    rows = min(rows, _MAX_VALUES // (columns * channels))
    runtime = f"numpy {np.__version__}"
    shape = (rows, columns, None)
    return Extractor("reduced_pixels", flatten, shape=shape, runtime=runtime, kept=False)


def _fashion_mnist(name: str, spec: Spec) -> Extractor:
    _check_kind("fashion_mnist", spec)
    stacked = name.endswith("stacked")
    wanted = _STACK if stacked else _GARMENT
    if spec.shape != wanted:
        raise UsageError(
            f"{name} is a classifier of images of {wanted[0]}x{wanted[1]}x{wanted[2]}; other "
            "images are compared by patch_distance, without features (evaluation.metric="
            "patch_distance in a recipe; keras-gan train --data FOLDER chooses a recipe). "
            f"Received: images of shape {spec.shape}"
        )
    file = pathlib.Path(__file__).parent / "networks" / "fashion_mnist.onnx"
    single = dataclasses.replace(
        from_onnx(file, "fashion_mnist"), class_names=CLASS_NAMES, trained_on=_FASHION_MNIST
    )
    return _stacked(single) if stacked else single


def _from_callable(function: Callable) -> Extractor:
    def run(samples: np.ndarray) -> Outputs:
        result = function(samples)
        features, probabilities = result if isinstance(result, tuple) else (result, None)
        features = np.asarray(features)
        return (
            features.reshape(len(features), -1),
            None if probabilities is None else np.asarray(probabilities),
        )

    return Extractor(getattr(function, "__name__", type(function).__name__), run)


def _stacked(extractor: Extractor) -> Extractor:
    """Applies an extractor to each of an image's three channels: there are classes^3 classes."""

    def run(samples: np.ndarray) -> Outputs:
        count, height, width, channels = samples.shape
        single = samples.transpose(0, 3, 1, 2).reshape(-1, height, width, 1)
        features, probabilities = extractor.run(single)
        if probabilities is None:
            return features.reshape(count, -1), None
        each = probabilities.reshape(count, channels, -1)
        joint = each[:, 0]
        for channel in range(1, channels):  # the first channel is the leading digit
            joint = (joint[:, :, None] * each[:, channel, None, :]).reshape(count, -1)
        return features.reshape(count, -1), joint

    shape = (*extractor.shape[:2], None)
    name = f"{extractor.name}_stacked"
    return dataclasses.replace(
        extractor,
        name=name,
        run=run,
        shape=shape,
        class_names=(),
        uniform=True,
        trained_on=_STACKED,
    )
