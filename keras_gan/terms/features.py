"""Terms on the features of the discriminator."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan import replicas
from keras_gan.errors import UsageError
from keras_gan.networks import mean_over_outputs, mean_per_sample
from keras_gan.schedules import Schedule
from keras_gan.terms import _layers
from keras_gan.terms._term import GameSpec, StepContext, Term, check_condition, widened

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class FeatureMatching(Term):
    """Feature matching, on the generator: |mean f(x) - mean f(G(z))|^2 over the batch.

    f are features of the discriminator, means are those of the batch (of the replica's batch if
    the term is lazy). One value for the whole batch. With `distance="l1"` it is the mean of
    |f(x) - f(G(c))| instead, where the sample x belongs to the condition c: one value per sample.

    Args:
        weight: see `Term`.
        interval: see `Term`.
        layer: name of the discriminator's layer whose output the features are. By default, the
            discriminator's output `features`, a tensor or a list over which values are averaged;
            if it has none, the input of its last layer with a kernel, which usually computes the
            logits. To look at its layers, the discriminator must be Functional or Sequential.
        distance: "means", of the means over the batch, or "l1", of each sample and its real one.

    Raises:
        UsageError: no such layer, an unknown distance, a subclassed discriminator without an output
            `features`, or "l1" with a generator without a condition.

    Reference:
        - [Salimans et al., 2016](https://arxiv.org/abs/1606.03498), section 3.1
        - [Wang et al., 2017](https://arxiv.org/abs/1711.11585), equation 4, for "l1"
    """

    players = ("generator",)
    outputs = {}

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        interval: int = 1,
        layer: str | None = None,
        distance: str = "means",
    ):
        super().__init__(weight, interval)
        if distance not in ("means", "l1"):
            raise UsageError(f"`distance` must be means or l1. Received: distance={distance!r}")
        self.layer, self.distance = layer, distance

    def check(self, game: GameSpec) -> None:
        if self.distance == "l1":
            check_condition(game, "FeatureMatching with distance='l1'")
        self._features(game.networks["discriminator"])

    def networks_read(self, player: str) -> tuple[str, ...]:
        return ("discriminator",)  # an output or a layer

    def values(self, context: StepContext):
        features = self._features(context.networks["discriminator"])
        distance = _distance_l1 if self.distance == "l1" else self._distance
        return mean_over_outputs(
            distance, features(context, context.fake), features(context, context.real)
        )

    def _distance(self, fake, real):
        fake, real = ops.mean(widened(fake), axis=0), ops.mean(widened(real), axis=0)
        difference = fake - ops.stop_gradient(real)
        if self.interval == 1:  # a lazy one is in a branch of the graph: replicas cannot meet there
            difference = replicas.mean(difference)
        return ops.sum(ops.square(difference))[None]

    def _features(self, network):
        """Returns a callable from the context and samples to the features."""
        if self.layer is None and "features" in network.output_names:
            return lambda context, samples: context.forward(samples)["features"]
        discriminator = network.model
        if self.layer is not None:
            output = _layers.layer_of(discriminator, self.layer, "discriminator").output
        else:
            last = _layers.last_with_kernel(discriminator)
            if last is None:
                raise UsageError(
                    "FeatureMatching needs a Functional or Sequential discriminator with a kernel, "
                    "or one with an output `features`. "
                    f"Received: layer=None, a discriminator of type {type(discriminator).__name__}"
                )
            output = last.input
        part = keras.Model(discriminator.inputs, output)

        def features(context: StepContext, samples):
            inputs = context.inputs("discriminator", samples=context.augmented(samples))
            return part(inputs, training=True)

        return features

    def get_config(self) -> dict:
        return {**super().get_config(), "layer": self.layer, "distance": self.distance}


def _distance_l1(fake, real):
    return mean_per_sample(ops.abs(widened(fake) - ops.stop_gradient(widened(real))))
