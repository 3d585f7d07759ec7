"""Contrastive terms between the patches of a picture and of its translation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_gan import random_numbers
from keras_gan.arguments import check_integer, check_number, check_positive
from keras_gan.errors import UsageError
from keras_gan.networks import mean_per_sample
from keras_gan.schedules import Schedule
from keras_gan.terms._term import GameSpec, StepContext, Term, widened

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

_TINY = 1e-6  # added to squared lengths: vectors near 0 must not have infinite slopes


@keras.saving.register_keras_serializable("keras_gan")
class ContrastivePatches(Term):
    """Patchwise contrastive loss of CUT, for unpaired translation with one generator.

    A patch of the translated picture is to be recognized among the patches of the input by the
    one at its own place. The generator's output `features` is a list of projected features
    `(batch, height, width, channels)`, one for each layer. At random places, with unit vectors q
    of the translation and k of the input (constants for the gradient), each place s adds

        -log(exp(q_s.k_s / temperature) / sum over places t of exp(q_s.k_t / temperature)),

    and the term is the mean over places and layers. The same loss on the real samples and their
    translation is added `identity` times, which keeps the generator from changing them.

    Args:
        weight: the paper's lambda_X, from 0 up, or a schedule of it; 1 for CUT, 10 for FastCUT.
        interval: see `Term`.
        layers: numbers of the entries of `features` that are compared, from 0 up; by default all.
        patches: number of places in each layer, from 2 up; all places where there are fewer.
        temperature: above 0.
        identity: factor of the loss on the real samples, from 0 up; 1 for CUT, 0 for FastCUT.
            It needs a condition and samples of the same shape.
        source: name of the field that the generator translates.

    Raises:
        UsageError: an argument out of range, a generator without features, layers that it does
            not have, or an identity loss between domains of different channels.

    Reference:
        - [Park et al., 2020](https://arxiv.org/abs/2007.15651), equations 3 to 5
    """

    also_called = ("patchnce", "cut")

    players = ("generator",)
    outputs = {"generator": ("samples", "features")}
    supervises = True

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        interval: int = 1,
        layers: Sequence[int] | None = None,
        patches: int = 256,
        temperature: float = 0.07,
        identity: float = 1.0,
        source: str = "condition",
    ):
        super().__init__(weight, interval)
        check_integer("patches", patches, 2)
        check_positive("temperature", temperature)
        check_number("identity", identity, minimum=0)
        for number in layers or ():
            check_integer("layers", number, 0)
        self.layers = None if layers is None else [int(number) for number in layers]
        self.patches, self.temperature = int(patches), float(temperature)
        self.identity, self.source = float(identity), source

    def check(self, game: GameSpec) -> None:
        found, network = game.outputs["generator"]["features"], game.networks["generator"]
        if self.source not in network.fields:
            raise UsageError(
                "`source` must be the picture that the generator translates, one of "
                f"{', '.join(network.fields)}. Received: source={self.source!r}"
            )
        count = len(found) if isinstance(found, (list, tuple)) else 0
        if not count or any(len(x.shape) != 4 for x in found):
            raise UsageError(
                "The generator's output `features` must be a list of tensors (batch, height, "
                f"width, channels). Received: {found}"
            )
        if self.layers is not None and (not self.layers or max(self.layers) >= count):
            raise UsageError(
                f"`layers` must number entries of the generator's {count} features, from 0. "
                f"Received: layers={self.layers}"
            )
        taken = tuple(network.field_specs()[self.source].shape[1:])
        if self.identity and not tf.TensorShape(taken).is_compatible_with(game.sample_shape):
            raise UsageError(
                "`identity` must be 0 if samples differ in shape from the pictures that are "
                f"translated. Received: identity={self.identity:g}, samples of shape "
                f"{game.sample_shape}, {self.source} of shape {taken}"
            )

    def values(self, context: StepContext):
        seed = tf.cast(context.seed, tf.int64)
        made = context.outputs
        total = self._contrast(context, made["features"], made["samples"], seed)
        if self.identity:
            outputs = self._generate(context, context.fields["samples"])
            seed = random_numbers.fold_in(seed, tf.constant(-1, tf.int64))
            same = self._contrast(context, outputs["features"], outputs["samples"], seed)
            total += self.identity * same
        return total

    def _generate(self, context: StepContext, pictures: Any) -> dict[str, Any]:
        """Returns the generator's outputs for pictures in place of those that it translates."""
        network = context.networks["generator"]
        fields = {**context.fields, "latents": context.latents, self.source: pictures}
        return network(fields, training=True)

    def _contrast(self, context: StepContext, keys: Any, translated: Any, seed: Any):
        """Returns the loss of each picture, averaged over its places and layers.

        Args:
            context: what the term sees of the step.
            keys: features of the pictures that were translated.
            translated: their translations.
            seed: two integers.
        """
        queries = self._generate(context, translated)["features"]
        chosen = range(len(keys)) if self.layers is None else self.layers
        values = [
            self._of_layer(
                queries[i], keys[i], random_numbers.fold_in(seed, tf.constant(i, tf.int64))
            )
            for i in chosen
        ]
        return sum(values[1:], values[0]) / len(values)

    def _of_layer(self, queries: Any, keys: Any, seed: Any):
        """Returns the cross-entropy of finding each place's key, averaged over the places."""
        queries = self._at_places(queries, seed)
        keys = ops.stop_gradient(self._at_places(keys, seed))
        logits = ops.matmul(queries, ops.swapaxes(keys, 1, 2)) / self.temperature
        return mean_per_sample(ops.logsumexp(logits, axis=-1) - tf.linalg.diag_part(logits))

    def _at_places(self, features: Any, seed: Any):
        """Returns unit vectors at random places, the same for all pictures: (batch, places, c)."""
        features = widened(features)
        shape = tf.shape(features)
        flat = tf.reshape(features, (shape[0], shape[1] * shape[2], features.shape[-1]))
        places = shape[1] * shape[2]
        order = tf.argsort(random_numbers.uniform((places,), seed))
        vectors = tf.gather(flat, order[: tf.minimum(self.patches, places)], axis=1)
        lengths = ops.sqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True) + _TINY)
        return vectors / lengths

    def get_config(self) -> dict:
        names = ("layers", "patches", "temperature", "identity", "source")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
