"""Sampling from the generator of a game."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import checks, latents
from keras_gan.arguments import check_integer, check_number
from keras_gan.layers import DivisibleSize2D
from keras_gan.networks import Network

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


class Sampler:
    """A generator in inference mode, as a graph for any batch size.

    Called with tensors in the order of `fields`, it returns float32 samples.

    Args:
        network: the generator.
        latent_dim: length of the latents.
        num_classes: number of classes of the labels.
        sample_shape: shape of a sample.
    """

    def __init__(self, network: Network, latent_dim: int, num_classes: int, sample_shape: tuple):
        self.latent_dim, self.sample_shape = latent_dim, sample_shape
        first = tuple(name for name in ("latents", "labels") if name in network.fields)
        self.fields = (*first, *(name for name in network.fields if name not in first))
        self.num_classes = num_classes if "labels" in self.fields else 0
        layers = network.model._flatten_layers()
        self._of_size = [layer for layer in layers if isinstance(layer, DivisibleSize2D)]
        self._stated = network.stated_fields()
        signature = self._signature(network)
        self._specs = dict(zip(self.fields, signature, strict=True))

        @tf.function(input_signature=signature, autograph=False)
        def sample(*inputs):
            outputs = network(dict(zip(self.fields, inputs, strict=True)), training=False)
            return ops.cast(outputs["samples"], "float32")

        self._graph = sample

    def _signature(self, network: Network) -> list[tf.TensorSpec]:
        """Returns the specs of the fields in their order."""
        specs = {
            "latents": tf.TensorSpec((None, self.latent_dim), tf.float32),
            "labels": tf.TensorSpec((None,), tf.int32),
        }
        tensors = getattr(network.model, "inputs", None) or ()
        for name, tensor in zip(network.fields, tensors, strict=False):
            specs.setdefault(name, tf.TensorSpec(tensor.shape, tensor.dtype))
        return [specs[name] for name in self.fields]

    def __call__(self, *inputs: Any) -> Any:
        return self._graph(*inputs)

    def generate(
        self, seeds: np.ndarray, labels: Any, truncation: float, batch_size: int, given: dict
    ) -> np.ndarray:
        """Returns the samples that seeds name; arguments as of `Game.generate`."""
        check_number("truncation", truncation, minimum=0)
        check_integer("batch_size", batch_size)
        classes = checks.labels(labels, seeds, self.num_classes)
        asked = {n: s for n, s in self._specs.items() if n not in ("latents", "labels")}
        fields = checks.given_fields(given, asked, len(seeds), self._stated)
        for layer, picture in itertools.product(self._of_size, fields.values()):
            if picture.ndim == 4:  # the graph itself would fail without a line, or round it up
                layer.check_size(*picture.shape[1:3])
        if classes is not None:
            fields["labels"] = classes.astype("int32")
        samples = []
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            now = {name: tf.constant(field[part]) for name, field in fields.items()}
            if "latents" in self.fields:
                z = latents.latents_from_seeds(seeds[part], self.latent_dim)
                now["latents"] = z * truncation
            samples.append(self._graph(*(now[name] for name in self.fields)).numpy())
        if not samples:
            return np.zeros((0, *(n or 0 for n in self.sample_shape)), "float32")
        return np.concatenate(samples)
