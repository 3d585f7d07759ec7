"""Estimate of the memory that training needs, and the advice when there is too little."""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_gan.errors import UsageError
from keras_gan.games import Game
from keras_gan.optimizers import optimizers_of
from serving import main_memory

# Bytes of TensorFlow, Keras and the data pipeline: the measured peak of a process with small
# networks.
_BASE = 770 * 2**20
# Copies of a network's layer outputs that are in memory together, for each sample of a batch: one
# for the forward and the backward pass, which share much memory, and one more for the second
# derivative of a penalty. With these figures, the estimate was 2 to 10 % above the peak measured
# on a CPU: quickstart at batch sizes 32 and 256, gaussians-8 at 256 and 8192.
_PASSES, _PASSES_WITH_TERMS = 1, 2
_FULL_DISK = 2**20  # bytes that are free on a disk that counts as full
_FREE_SIDE = 64  # assumed height and width of samples where networks leave them open


def estimate(gan: Game, batch_size: int) -> list[str]:
    """Estimates the memory of the weights, of a batch, and of the whole process.

    Args:
        gan: a compiled game.
        batch_size: examples in a training batch.

    Returns:
        One line of text for each of the three, in MiB. Where the networks leave the height and
        width of pictures open, samples of 64 x 64 are assumed.
    """
    weights = sum(_bytes(v) for v in gan.variables)
    optimizers = optimizers_of(gan).values()
    moments = sum(_bytes(v) for optimizer in optimizers for v in optimizer.variables)
    activations = batch_bytes(gan, batch_size)
    total = _BASE + weights + moments + activations
    return [
        f"memory of weights, average and moments: {_mib(weights + moments)}",
        f"memory of a batch of {batch_size}, estimated: {_mib(activations)}",
        f"memory of the process without its data, estimated: {_mib(total)}",
    ]


def batch_bytes(gan: Game, batch_size: int) -> float:
    """Returns the estimated bytes of the layer outputs of one training step."""
    # A discriminator with packing computes one set of activations for each pack of samples.
    packs = batch_size / gan.data_spec.multiple
    passes = 2 * (_PASSES_WITH_TERMS if gan.terms else _PASSES)  # real and generated
    activations = 0.0
    for name, network in gan.networks.items():
        if name == gan.sampled:
            activations += packs * gan.packing.size * _PASSES * _activations(network.model)
        else:
            activations += packs * passes * _activations(network.model)
    return activations


# ------------------------------------------------------------------------ out of memory


@contextlib.contextmanager
def advising(gan: Game, batch_size: int, replicas: int, resumed: bool) -> Iterator[None]:
    """Turns an error of the allocator within the context into one line with a batch size to try.

    Args:
        gan: the compiled game that is trained within the context.
        batch_size: examples in a training batch, on all replicas together.
        replicas: number of devices that divide a batch.
        resumed: True if the training continues a run, which keeps its batch size.

    Raises:
        UsageError: TensorFlow or numpy could not allocate memory.
    """
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        if _disk_is_full():  # TensorFlow reports it by the same exception
            raise
        available = _available()
        smaller = smaller_batch(
            gan, batch_size, gan.data_spec.multiple * replicas, available and available * replicas
        )
        raise UsageError(
            "A training step must fit into memory. Received: "
            f"training.batch_size={batch_size}, out of memory. {_advice(smaller, resumed)}"
        ) from error


def smaller_batch(
    gan: Game, batch_size: int, multiple: int, available: float | None = None
) -> int | None:
    """Returns the largest of half, a quarter, ... of a batch size that is estimated to fit.

    Args:
        gan: the compiled game.
        batch_size: the size that does not fit.
        multiple: the size must be a multiple of it.
        available: bytes of memory of all replicas together; None if unknown, which halves once.

    Returns:
        At least `multiple`; None if the batch size cannot be halved.
    """
    size = batch_size // 2 // multiple * multiple
    while available is not None and size > multiple and batch_bytes(gan, size) > available:
        size = size // 2 // multiple * multiple
    return max(size, multiple) if batch_size > multiple else None


def _advice(smaller: int | None, resumed: bool) -> str:
    if smaller is None:
        return "No smaller batch can be divided; use smaller networks"
    new = "A run keeps its batch size; start a new one with" if resumed else "Try"
    return (
        f"{new} --set training.batch_size={smaller} and a new --run; if that does not fit either, "
        "halve it again"
    )


def _disk_is_full() -> bool:
    folders = (os.getcwd(), tempfile.gettempdir())
    return any(shutil.disk_usage(folder).free < _FULL_DISK for folder in folders)


def _available() -> float | None:
    """Returns the bytes that a batch may take on one device; None if unknown.

    A GPU does not report its size. The most that was allocated on it is known to fit.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if gpus:
        name = gpus[0].name.removeprefix("/device:")
        return tf.config.experimental.get_memory_info(name)["peak"]
    return main_memory.read(pathlib.Path("/"))[1]


def _bytes(variable) -> int:
    return math.prod(variable.shape) * tf.as_dtype(variable.dtype).size


def _activations(network: keras.Model, side: int = _FREE_SIDE) -> int:
    """Returns the bytes of all layer outputs for one sample, those of nested models included.

    Args:
        network: the network.
        side: height and width of its inputs where it leaves them open.
    """
    total = 0
    shapes: dict[int, tuple] = {}
    made: tuple = ()
    layers: list[Any] = network.layers
    for layer in layers:
        # Layers of a subclassed model that were never called symbolically have no output.
        with contextlib.suppress(AttributeError):
            made = shapes[id(layer.output)] = _output_shape(layer, shapes, side)
            total += math.prod(n for n in made if n) * 4
        if isinstance(layer, keras.Model):
            total += _activations(layer)
    # A network that enlarges pictures gets smaller ones.
    is_free = len(made) == 4 and None in layers[-1].output.shape[1:]
    if is_free and made[1] > _FREE_SIDE:
        smaller = _FREE_SIDE * side // made[1]
        return _activations(network, smaller) if 0 < smaller < side else total
    return total


def _output_shape(layer: Any, shapes: dict[int, tuple], side: int) -> tuple:
    """Returns the shape of a layer's output; open lengths follow from those of its inputs."""
    shape = tuple(layer.output.shape)
    if None not in shape[1:]:
        return shape
    assumed = (shape[0], *(side if n is None else n for n in shape[1:]))
    if isinstance(layer, keras.layers.InputLayer):
        return assumed
    with contextlib.suppress(AttributeError, KeyError, NotImplementedError):
        given = keras.tree.map_structure(lambda x: shapes[id(x)], layer.input)
        return tuple(layer.compute_output_shape(given))
    return assumed


def _mib(size: float) -> str:
    return f"{size / 2**20:,.0f} MiB"
