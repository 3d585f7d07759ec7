"""Terms by which a generator's codes get a meaning."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_gan.arguments import check_number, check_positive
from keras_gan.errors import UsageError
from keras_gan.layers import LatentCodes, find_codes
from keras_gan.networks import mean_over_outputs
from keras_gan.schedules import Schedule
from keras_gan.terms._term import GameSpec, PairTerm, StepContext

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class MutualInformation(PairTerm):
    """The term of InfoGAN: -log Q(c | G(z, c)), how well the codes can be read from samples.

    The generator's codes c are those of its layer `LatentCodes`. The discriminator's output
    `codes`, `(batch, width)`, holds Q: logits over the categories of each categorical code, and
    the mean of a Gaussian of a fixed standard deviation for each continuous code. Both networks
    minimize the term on generated samples. The entropy of the codes minus the term is a lower
    bound of the mutual information of codes and samples.

    Args:
        weight: on the discriminator, from 0 up, or a schedule of it.
        interval: see `Term`.
        generator_weight: on the generator, from 0 up, or a schedule of it.
        continuous: factor of the continuous codes' part, from 0 up. The paper weights them less
            than the categorical ones, so that both parts are on the same scale.
        std: standard deviation of the Gaussians, above 0.

    Raises:
        UsageError: a weight, factor or deviation out of range, a generator without codes, a
            discriminator whose output `codes` is missing or of another width, or packs of samples.

    Reference:
        - [Chen et al., 2016](https://arxiv.org/abs/1606.03657), equations 4 and 5
    """

    also_called = ("infogan",)

    outputs = {"discriminator": ("codes",)}

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        interval: int = 1,
        generator_weight: float | Schedule = 1.0,
        continuous: float = 1.0,
        std: float = 0.5,
    ):
        super().__init__(weight, interval, generator_weight)
        check_number("continuous", continuous, minimum=0)
        check_positive("std", std)
        self.continuous, self.std = float(continuous), float(std)

    def check(self, game: GameSpec) -> None:
        layer = find_codes(game.networks["generator"].model)
        if layer is None:
            raise UsageError(
                "The term 'mutual_information' needs a generator with codes: set its option "
                "`codes`, or use keras_gan.layers.LatentCodes. Received: a generator without"
            )
        for predicted in keras.tree.flatten(game.outputs["discriminator"]["codes"]):
            if tuple(predicted.shape[1:]) != (layer.width,):
                raise UsageError(
                    "The discriminator's output 'codes' must have the shape "
                    f"('batch', {layer.width}), as the generator's codes. "
                    f"Received: {tuple(predicted.shape)}"
                )
        seen = getattr(game.networks["discriminator"].model, "input_shape", None)
        if isinstance(seen, tuple) and tuple(seen[1:]) != tuple(game.sample_shape):
            raise UsageError(
                "Packs of samples have no codes of their own, as 'mutual_information' needs them. "
                f"Received: a discriminator of {seen[1:]} for samples of {game.sample_shape}"
            )

    def values(self, context: StepContext):
        layer: Any = find_codes(context.generator)
        codes = layer.codes(context.latents)
        return mean_over_outputs(
            lambda predicted: self._negative_log_likelihood(layer, codes, predicted),
            context.forward(context.fake)["codes"],
        )

    def _negative_log_likelihood(self, layer: LatentCodes, codes, predicted):
        """Returns -log Q(c | x) of each sample, `(batch,)`."""
        total, start = 0.0, 0
        for index, count in enumerate(layer.categorical):
            logits = predicted[:, start : start + count]
            category = ops.cast(codes[:, index], "int32")
            total += ops.sparse_categorical_crossentropy(category, logits, from_logits=True)
            start += count
        if layer.continuous:
            errors = (codes[:, len(layer.categorical) :] - predicted[:, start:]) / self.std
            constant = math.log(self.std) + 0.5 * math.log(2 * math.pi)
            gaussians = ops.sum(0.5 * ops.square(errors) + constant, axis=1)
            total += self.continuous * gaussians
        return total

    def get_config(self) -> dict:
        return {**super().get_config(), "continuous": self.continuous, "std": self.std}
