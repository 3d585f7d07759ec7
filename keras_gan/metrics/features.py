"""Feature extractors: the networks in whose features samples are compared."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import PIL.Image
import tensorflow as tf

from keras_gan.datasets.fashion_mnist_10k import CLASS_NAMES
from keras_gan.errors import UsageError
from keras_gan.games.gan import GAN
from keras_gan.metrics import inception
from keras_gan.spec import Spec

NAMES = {
    "fashion_mnist": "the classifier of Fashion-MNIST that comes with the package",
    "fashion_mnist_stacked": "the same, on each channel of an image by itself",
    "inception": "the standard FID network, from a local file: inception:PATH",
    "pixels": "the samples' own values",
}
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's mode L
_BATCH = 256  # samples in one run of a network
BICUBIC = "antialiased bicubic"
NO_RESIZE = "none"
_TENSORFLOW = f"tensorflow {tf.__version__}"

Outputs = tuple[np.ndarray, np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Extractor:
    """A network that turns samples into features, and into class probabilities if it has classes.

    Images are rounded to 8 bits first, as a picture file would hold them, so that a run, a bundle
    and a folder of PNGs of the same samples measure the same.

    Args:
        name: what results call it.
        run: function from float32 samples `(count, ...)`, in the network's own range and size, to
            features `(count, dim)` and probabilities `(count, classes)` or `None`.
        sha256: of the network's file or weights; `None` where it cannot be known.
        shape: height, width and channels that the network takes; `None` where it takes any.
        value_range: values of black and white that the network takes.
        resize: name of the filter by which images come to its size.
        dim: number of features.
        classes: number of classes, 0 without.
        class_names: their names, in the order of the ids, where they are known.
        standard: whether it is the network of the FID's definition.
        uniform: whether its classes are equally likely in the data that it is for, by definition.
        runtime: name and version of what computes it; of onnxruntime, the provider as well;
            `None` where it cannot be known.
        kept: whether the hash tells all that the features depend on, so that they may be kept: a
            layer of one's own is code, which no file of weights holds.
    """

    name: str
    run: Callable[[np.ndarray], Outputs]
    sha256: str | None = None
    shape: tuple[int | None, int | None, int | None] = (None, None, None)
    value_range: tuple[float, float] = (-1.0, 1.0)
    resize: str = NO_RESIZE
    dim: int = 0
    classes: int = 0
    class_names: tuple[str, ...] = ()
    standard: bool = False
    uniform: bool = False
    runtime: str | None = None
    kept: bool = True

    def __call__(self, samples: np.ndarray) -> Outputs:
        """Features float32 `(count, dim)`, and probabilities float32 `(count, classes)` or `None`.

        Args:
            samples: `(count, ...)`: images as uint8, or floating point in [-1, 1]; or points.

        Raises:
            UsageError: the network gives something else than a row of real numbers for each
                sample, or probabilities that are no finite numbers.
        """
        features, probabilities = [], []
        for start in range(0, len(samples), _BATCH):
            batch = samples[start : start + _BATCH]
            found, judged = self.run(self._prepare(batch))
            features.append(self._checked("features", found, len(batch)))
            if judged is not None:
                probabilities.append(self._checked("probabilities", judged, len(batch)))
        return (
            np.concatenate(features).astype(np.float32, copy=False),
            np.concatenate(probabilities).astype(np.float32, copy=False) if probabilities else None,
        )

    def _checked(self, what: str, array: np.ndarray, count: int) -> np.ndarray:
        if array.ndim != 2 or len(array) != count or np.iscomplexobj(array):
            kind = " complex numbers" if np.iscomplexobj(array) else ""
            raise UsageError(
                f"An extractor gives {what} of shape (count, number). "
                f"Received: {array.shape}{kind} for {count} samples, from {self.name!r}"
            )
        if what == "probabilities" and not np.isfinite(array).all():
            raise UsageError(
                f"Probabilities must be finite numbers. Received: NaN or infinity of {self.name!r}"
            )
        return array

    def _prepare(self, samples: np.ndarray) -> np.ndarray:
        if samples.ndim != 4:
            return np.asarray(samples, np.float32)
        height, width, channels = self.shape
        pixels = to_channels(to_bytes(samples).astype(np.float32), channels)
        if self.resize == BICUBIC:
            pixels = resize(pixels, (height or pixels.shape[1], width or pixels.shape[2]))
        low, high = self.value_range
        return pixels * np.float32((high - low) / 255) + np.float32(low)

    @property
    def identity(self) -> str | None:
        """What tells it from all others, if anything does: a function's code may change."""
        if self.run is _flat:
            return "pixels"
        if self.sha256 is None or not self.kept:
            return None
        return f"{self.name} {self.sha256} {self.runtime}"

    @property
    def protocol(self) -> dict[str, Any]:
        """What a result says of it."""
        height, width, channels = self.shape
        return {
            "extractor": self.name,
            "extractor_sha256": self.sha256,
            "features": self.dim,
            "classes": self.classes,
            "input": [height, width, channels],
            "resize": self.resize,
            "runtime": self.runtime,
        }


def open_features(features: Any, spec: Spec) -> Extractor:
    """Opens a feature extractor for samples of a kind.

    Args:
        features: one of

            - a name: `"fashion_mnist"`, `"fashion_mnist_stacked"`, `"inception:PATH"` (or
              `"inception"`, with the path in the environment as `KERAS_GAN_INCEPTION`), `"pixels"`;
            - the path of an ONNX file with one input of images. The output called `features`, or
              the first, holds the features; one called `probabilities` or `logits` the classes.
              The range of its input is [-1, 1], or what its metadata says under `value_range`
              (as `0,255`);
            - a Keras model, or the path of a `.keras` file. Of a classifier (its last layer ends in
              a softmax) the features are what the last layer with weights is given, and the output
              is the probabilities; of another model the features are its output, and the second
              output, if it has one, the logits. Its input is in [-1, 1];
            - a callable: samples in [-1, 1] (points as they are) to features, or to features and
              probabilities.

            Images are resized and brought to the network's channels where it asks for others.
        spec: what the samples are.

    Raises:
        UsageError: there is no such extractor, its file is missing or not what it must be, or it
            does not fit the samples.
    """
    if isinstance(features, Extractor):
        return features
    if isinstance(features, str | os.PathLike):
        return _open_named(os.fspath(features), spec)
    if isinstance(features, keras.Model):
        sha256 = _hash_model(features) if _is_keras_alone(features) else None
        return _probed(_from_keras(features, features.name, sha256), spec)
    if callable(features):
        return _probed(_from_callable(features), spec)
    raise UsageError(f"{_RULE}. Received: features={features!r:.80}")


_RULE = f"features must be {', '.join(NAMES)}, an ONNX or .keras file, a Keras model or a function"


def _open_named(text: str, spec: Spec) -> Extractor:
    name, _, path = text.partition(":")
    name = name.replace("-", "_")
    if name == "pixels":
        return _probed(Extractor("pixels", _flat, runtime=f"numpy {np.__version__}"), spec)
    if name == "inception":
        _check_kind(text, spec)
        return _inception(path or os.environ.get("KERAS_GAN_INCEPTION", ""))
    if name.startswith("fashion_mnist") and name in NAMES:
        file = pathlib.Path(__file__).parent / "networks" / "fashion_mnist.onnx"
        found = _from_onnx(file, "fashion_mnist", spec)
        found = dataclasses.replace(found, class_names=CLASS_NAMES)
        return _probed(_stacked(found, spec) if name.endswith("stacked") else found, spec)
    file = pathlib.Path(os.path.expanduser(text))
    if file.suffix not in (".onnx", ".keras"):
        raise UsageError(f"{_RULE}. Received: features={text!r}")
    if not file.is_file():
        raise UsageError(f"The file of an extractor must exist. Received: features={text!r}")
    if file.suffix == ".onnx":
        return _probed(_from_onnx(file, file.stem, spec), spec)
    model = _load_keras(file)
    found = _from_keras(model, file.stem, _sha256(file))
    return _probed(dataclasses.replace(found, kept=_is_keras_alone(model)), spec)


def _check_kind(name: str, spec: Spec) -> None:
    if spec.kind != "image":
        raise UsageError(
            f"The extractor {name!r} takes images; features='pixels' takes any samples. "
            f"Received: samples of kind {spec.kind!r}"
        )


def _probed(extractor: Extractor, spec: Spec) -> Extractor:
    """The extractor with what running it once tells; the one place where a misfit is told."""
    height, width, _ = extractor.shape
    resized = spec.kind == "image" and (
        (height or spec.shape[0]) != spec.shape[0] or (width or spec.shape[1]) != spec.shape[1]
    )
    extractor = dataclasses.replace(extractor, resize=BICUBIC if resized else NO_RESIZE)
    try:
        features, probabilities = extractor(np.zeros((2, *spec.shape), np.float32))
    except UsageError:
        raise
    except Exception as error:  # of the user's network or function, of any class
        line = " ".join(str(error).split())[:200]
        raise UsageError(
            f"The extractor {extractor.name!r} must take samples of shape {spec.shape}. "
            f"Received: {type(error).__name__}: {line}"
        ) from error
    classes = 0 if probabilities is None else probabilities.shape[1]
    return dataclasses.replace(extractor, dim=features.shape[1], classes=classes)


# ------------------------------------------------------------------------ networks


def _flat(samples: np.ndarray) -> Outputs:
    return samples.reshape(len(samples), -1), None


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
        runtime=_TENSORFLOW,
    )


def _from_callable(function: Callable) -> Extractor:
    def run(samples: np.ndarray) -> Outputs:
        given = function(samples)
        features, probabilities = given if isinstance(given, tuple) else (given, None)
        features = np.asarray(features)
        return (
            features.reshape(len(features), -1),
            None if probabilities is None else np.asarray(probabilities),
        )

    return Extractor(getattr(function, "__name__", type(function).__name__), run)


def _from_onnx(file: pathlib.Path, name: str, spec: Spec) -> Extractor:
    _check_kind(name, spec)
    session = open_session(file)
    ports = session.get_inputs()
    if len(ports) != 1 or len(ports[0].shape) != 4 or ports[0].type != "tensor(float)":
        told = ", ".join(f"{port.name} {port.type} {port.shape}" for port in ports)
        raise UsageError(
            "The ONNX file of an extractor must have one input, float32 images of 4 dimensions. "
            f"Received: {file} with {told}"
        )
    sizes = [size if isinstance(size, int) and size > 0 else None for size in ports[0].shape]
    first = sizes[1] in (1, 3, 4) and sizes[3] not in (1, 3, 4)  # channels: as PyTorch exports
    shape = (sizes[2], sizes[3], sizes[1]) if first else (sizes[1], sizes[2], sizes[3])
    outputs = [port.name for port in session.get_outputs()]
    feature = "features" if "features" in outputs else outputs[0]
    classes = next((n for n in ("probabilities", "logits") if n in outputs and n != feature), None)
    wanted = [feature] if classes is None else [feature, classes]

    def run(samples: np.ndarray) -> Outputs:
        x = np.ascontiguousarray(samples.transpose(0, 3, 1, 2)) if first else samples
        given = session.run(wanted, {ports[0].name: x})
        features = given[0].reshape(len(given[0]), -1)
        if classes is None:
            return features, None
        return features, softmax(given[1]) if classes == "logits" else given[1]

    return Extractor(
        name, run, _sha256_onnx(file), shape, _range_of(session, file), runtime=runtime_of(session)
    )


def open_session(model: pathlib.Path | bytes) -> Any:
    """An onnxruntime session on the GPU if TensorFlow sees one and onnxruntime can use it.

    Raises:
        UsageError: onnxruntime cannot load it.
    """
    import onnxruntime

    providers = ["CPUExecutionProvider"]
    if (
        "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        and tf.config.list_physical_devices("GPU")
    ):
        onnxruntime.preload_dlls()
        providers.insert(0, "CUDAExecutionProvider")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # onnxruntime has a class for each failure
        line = " ".join(str(error).split())[:200]
        what = "model.onnx" if isinstance(model, bytes) else str(model)
        raise UsageError(f"onnxruntime must load the model. Received: {what}: {line}") from error


def runtime_of(session: Any) -> str:
    """onnxruntime's version, and the provider that computes what it can."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}, {session.get_providers()[0]}"


def _range_of(session: Any, file: pathlib.Path) -> tuple[float, float]:
    text = session.get_modelmeta().custom_metadata_map.get("value_range", "-1,1")
    try:
        low, high = (float(part) for part in text.strip("[]()").split(","))
    except ValueError:
        raise UsageError(
            "value_range in the metadata of an extractor's file must be two numbers, as -1,1. "
            f"Received: {text!r} in {file}"
        ) from None
    return low, high


def _load_keras(file: pathlib.Path) -> Any:
    try:
        return keras.saving.load_model(file, compile=False)
    except Exception as error:  # of Keras, of any class
        line = " ".join(str(error).split())[:200]
        raise UsageError(f"Keras must load the extractor. Received: {file}: {line}") from error


def _from_keras(model: Any, name: str, sha256: str | None) -> Extractor:
    if isinstance(model, GAN):
        raise UsageError(
            "A game is no extractor: give one model, as gan.discriminator. "
            f"Received: the game {model.name!r}"
        )
    if not model.built:
        raise UsageError(
            "A Keras model for features must be built: begin it with keras.Input, or call it once "
            f"on a batch. Received: {name!r} without weights"
        )
    shape = getattr(model, "input_shape", ())  # a subclassed model has none
    if isinstance(shape, list | dict) or shape is None:
        raise UsageError(
            f"A Keras model for features has one input. Received: {name!r} with {shape}"
        )
    of_classifier = _is_classifier(model)
    if of_classifier:
        last = [layer for layer in model.layers if layer.weights][-1]
        model = keras.Model(model.inputs, [last.input, *model.outputs])
    call = tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    def run(samples: np.ndarray) -> Outputs:
        given = call(tf.constant(samples))
        if isinstance(given, dict):
            given = [given["features"], *(given[k] for k in ("logits",) if k in given)]
        outputs = [np.asarray(x, np.float32) for x in tf.nest.flatten(given)]
        features = outputs[0].reshape(len(outputs[0]), -1)
        if len(outputs) == 1:
            return features, None
        return features, outputs[1] if of_classifier else softmax(outputs[1])

    sizes = tuple(shape[1:]) if len(shape) == 4 else (None, None, None)
    return Extractor(name, run, sha256, sizes, runtime=_TENSORFLOW)  # pyright: ignore[reportArgumentType]


def _is_classifier(model: Any) -> bool:
    """Whether the one output is probabilities: its layer is a softmax or ends in one."""
    outputs = getattr(model, "outputs", None)  # a subclassed model has none
    if not isinstance(outputs, list) or len(outputs) != 1:
        return False
    if not any(layer.weights for layer in model.layers):
        return False
    last = model.layers[-1]
    activation = getattr(last, "activation", None)
    return isinstance(last, keras.layers.Softmax) or activation is keras.activations.softmax


def _stacked(extractor: Extractor, spec: Spec) -> Extractor:
    """Judges each of an image's 3 channels by itself: there are classes^3 classes."""
    if spec.shape[-1] != 3:
        raise UsageError(
            "fashion_mnist_stacked takes images with a garment in each of 3 channels. "
            f"Received: samples of shape {spec.shape}"
        )

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
        extractor, name=name, run=run, shape=shape, class_names=(), uniform=True
    )


# ------------------------------------------------------------------------ images


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Images in 8 bits, as a picture file holds them, from [-1, 1] or as they are.

    Raises:
        UsageError: a value is NaN or infinite, which no picture file could hold.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    if not np.isfinite(images).all():
        raise UsageError("Images must be finite numbers. Received: NaN or infinity")
    # In float64: near the middle between two bytes, float32 rounds to the other one.
    return np.clip(np.round((images.astype(np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)


def to_channels(pixels: np.ndarray, channels: int | None) -> np.ndarray:
    """Images of values 0 to 255 with other channels: gray is repeated, alpha laid on white."""
    if channels is None or pixels.shape[-1] == channels:
        return pixels
    if channels not in (1, 3, 4):
        raise ValueError(f"Images have no {channels} channels")
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:] / np.float32(255)
        pixels = pixels[..., :3] * alpha + 255 * (1 - alpha)
    if pixels.shape[-1] == 3 and channels == 1:
        return (pixels @ _GREY)[..., None]
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    if channels == 4:
        return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)
    return pixels


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Float images by Pillow's bicubic filter, whose support widens in shrinking (antialiasing).

    Channels are resized in floating point and not rounded after, as
    [Parmar et al., 2022](https://arxiv.org/abs/2104.11222) found right.
    """
    height, width = size
    resized = np.empty((len(pixels), height, width, pixels.shape[-1]), np.float32)
    for row, image in enumerate(pixels):
        for channel in range(image.shape[-1]):
            plane = PIL.Image.fromarray(np.ascontiguousarray(image[..., channel]))
            plane = plane.resize((width, height), PIL.Image.Resampling.BICUBIC)
            resized[row, ..., channel] = np.asarray(plane)
    return resized


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits `(count, classes)`."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _sha256(file: pathlib.Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sha256_onnx(file: pathlib.Path) -> str:
    """Of the file, and with it of those that hold its weights where they are outside of it."""
    import onnx

    outside = sorted(
        {
            entry.value
            for tensor in _tensors(onnx.load(str(file), load_external_data=False).graph)
            if tensor.data_location == onnx.TensorProto.EXTERNAL
            for entry in tensor.external_data
            if entry.key == "location"
        }
    )
    if not outside:
        return _sha256(file)
    hashes = [_sha256(path) for path in (file, *(file.parent / name for name in outside))]
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def _tensors(graph: Any) -> Iterator[Any]:
    """All tensors of an ONNX graph, those of its nodes and of graphs in them included."""
    yield from graph.initializer
    for attribute in (a for node in graph.node for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            yield from _tensors(inner)


def _is_keras_alone(model: Any) -> bool:
    """Whether a model is made of Keras's own layers and functions, without code of anyone's."""
    flatten = getattr(model, "_flatten_layers", None)
    layers = [model] if flatten is None else list(flatten())
    if any(not type(layer).__module__.startswith("keras.") for layer in layers):
        return False
    return not any(isinstance(layer, keras.layers.Lambda) for layer in layers) and _is_plain(
        [layer.get_config() for layer in layers]
    )


def _is_plain(config: Any) -> bool:
    """Whether nothing in a configuration is a function or class from outside of Keras."""
    if isinstance(config, dict):
        module = config.get("module") if "class_name" in config else None
        if module is not None and not str(module).startswith("keras"):
            return False
        return all(_is_plain(value) for value in config.values())
    if isinstance(config, list | tuple):
        return all(_is_plain(value) for value in config)
    return config is None or isinstance(config, str | int | float | bool | np.generic)


def _hash_model(model: keras.Model) -> str:
    digest = hashlib.sha256(json.dumps(model.get_config(), default=str, sort_keys=True).encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()
