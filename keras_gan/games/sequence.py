"""The game of a generator that samples texts: maximum likelihood first, then adversarial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import schedules
from keras_gan.arguments import check_number
from keras_gan.errors import UsageError
from keras_gan.games._sampling import Sampler
from keras_gan.games.two_stage import TwoStage
from keras_gan.layers import TextSampler, find_sampler, with_controls
from keras_gan.networks import Network
from serving.seeds import check_seeds
from serving.texts import check_controls

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class SequenceGAN(TwoStage):
    """A GAN of texts whose generator is a language model first, as in RelGAN and SeqGAN.

    In the first stage the generator minimizes the negative log-likelihood of the real texts, each
    token given those before it, and the discriminator is not computed. At its end the averaged
    generator is copied into `first_generator`, which stays as it is. In the second stage the
    generator samples by Gumbel noise, and both networks are trained as in `keras_gan.GAN`.

    The stages have optimizers of their own for the generator: that of the player `pretraining`,
    and that of the player `generator`.

    Args:
        generator: built Keras model whose only layer is a `TextSampler`, from latents
            `(batch, length * vocabulary)` [and labels] to samples `(batch, length, vocabulary)`.
        discriminator: as of `keras_gan.GAN`.
        first_stage: length of the first stage: a number of examples above 1, or a share of the
            training from 0 to 1. With 1 there is no second stage.
        inverse_temperature: factor of the scores in the softmax of generated samples, above 0, or
            a schedule of it, which begins with the second stage. The larger it is, the nearer are
            the samples to one-hot tokens, and the smaller is the gradient that passes.
        adversarial_weight: weight of the adversarial loss in the second stage, from 0 up, or a
            schedule of it.
        training_examples: length of the training in examples, which a share refers to. Recipes
            supply it.
        **kwargs: the other arguments of `keras_gan.GAN`.

    Raises:
        UsageError: an argument out of range, a share of a training of unknown length, or a
            generator that is not one `TextSampler`; at `compile`, several replicas.

    Reference:
        - [Nie et al., 2019](https://openreview.net/forum?id=rJedV3R5tm), for the second stage
        - [Yu et al., 2016](https://arxiv.org/abs/1609.05473), for the first stage
    """

    players = {**TwoStage.players, "pretraining": ("generator",)}
    metric_names = (*TwoStage.metric_names, "nll")

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        first_stage: float = 0.5,
        inverse_temperature: float | schedules.Schedule = 1.0,
        adversarial_weight: float | schedules.Schedule = 1.0,
        training_examples: int | None = None,
        **kwargs: Any,
    ):
        check_number("inverse_temperature", inverse_temperature, above=0, schedule=True)
        super().__init__(
            generator,
            discriminator,
            first_stage=first_stage,
            adversarial_weight=adversarial_weight,
            training_examples=training_examples,
            **kwargs,
        )
        self.inverse_temperature = inverse_temperature
        self._controlled: dict[bool, Sampler] = {}

    @property
    def text_sampler(self) -> TextSampler:
        """The layer of the generator that samples."""
        found = find_sampler(self.generator)
        if found is None:
            raise UsageError(
                "SequenceGAN needs a generator with a layer TextSampler, such as that of the "
                f"architecture text_lstm. Received: generator {self.generator.name!r}"
            )
        return found

    def check_networks(self, outputs: Mapping[str, Mapping[str, Any]]) -> None:
        super().check_networks(outputs)
        sampler = self.text_sampler
        if with_controls(self.generator) is self.generator:
            raise UsageError(
                "SequenceGAN needs a generator whose only layer is its TextSampler, with the "
                "inputs latents [and labels]. Received: generator "
                f"{self.generator.name!r} with the layer {sampler.name!r} and others"
            )

    def _check_first_stage(self) -> None:
        """Does nothing: the likelihood supervises the generator."""

    @property
    def is_supervised(self) -> bool:
        return True

    def has_values(self, metric: str) -> bool:
        began = self.count("examples_seen") > 0
        return began if metric == "nll" else super().has_values(metric)

    # ---------------------------------------------------------------- the algorithm

    def _second_step(self, batch: dict[str, Any]) -> Any:
        seen = self.examples_seen.value - self.first_stage_examples
        factor = schedules.now(self.inverse_temperature, seen)
        self.text_sampler.inverse_temperature.assign(factor)
        return super()._second_step(batch)

    def _first_step(self, batch: dict[str, Any]) -> Any:
        with tf.GradientTape() as tape:
            loss = ops.mean(self.negative_log_likelihood(batch, training=True))
        self.minimize("pretraining", loss, tape)
        self.track(nll=loss)
        return tf.zeros(())

    def negative_log_likelihood(self, batch: Mapping[str, Any], training: bool = False) -> Any:
        """Returns the negative log-likelihood of each token of real texts, the mean of each text.

        Tokens after the end of a text do not count.

        Args:
            batch: `samples`, one-hot tokens `(batch, length, vocabulary)`, and `labels` in a
                conditional game.
            training: as of `TextSampler.token_logits`.

        Returns:
            float32 `(batch,)`, in nats.
        """
        layer = self.text_sampler
        ids = tf.argmax(batch["samples"], axis=-1, output_type=tf.int32)
        labels = batch["labels"] if layer.num_classes else None
        logits = layer.token_logits(ids, labels, training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(ids, logits)
        counted = tf.ones_like(losses)
        if layer.ends:  # the first end token is the last that counts
            ended = tf.cast(tf.equal(ids, 0), tf.int32)
            counted = tf.cast(tf.equal(tf.cumsum(ended, axis=1, exclusive=True), 0), tf.float32)
        return ops.sum(losses * counted, axis=1) / ops.sum(counted, axis=1)

    # ---------------------------------------------------------------- samples

    def generate(
        self,
        seeds: Any,
        labels: Any = None,
        truncation: float = 1.0,
        average: bool = True,
        batch_size: int = 64,
        temperature: float = 1.0,
        prefix: Any = None,
        mask: Any = None,
        **given: Any,
    ) -> np.ndarray:
        """Generates the texts that seeds name; see `Game.generate` for the other arguments.

        Args:
            seeds: whole numbers, one for each text.
            labels: class ids, one for each text or one for all.
            truncation: factor of the latents; see `temperature` for the usual control.
            average: use the averaged generator rather than the live one.
            batch_size: number of texts that are computed together.
            temperature: factor of the noise, from 0 up. With 0, each token is the most probable.
            prefix: token ids with which the texts begin: one list for all, or one for each.
            mask: weights `(vocabulary,)`, or for each text `(batch, vocabulary)`; 0 for tokens
                that may not be chosen, otherwise 1.
            **given: no other fields exist.

        Returns:
            One-hot tokens, float32 `(len(seeds), length, vocabulary)`.

        Raises:
            UsageError: as of `Game.generate`; a control out of range, or a prefix that is longer
                than the texts.
        """
        layer, checked = self.text_sampler, check_seeds(seeds)
        sizes = (layer.length, layer.vocabulary)
        controls = check_controls(sizes, len(checked), temperature, prefix, mask)
        if average not in self._controlled:
            network = self.average("generator") if average else self.networks["generator"]
            model = with_controls(network.model)
            fields = Network("generator", model, ("latents", "labels"), "samples")
            self._controlled[average] = Sampler(
                fields, self.latent_dim, self.num_classes, self.sample_shape
            )
        sampler = self._controlled[average]
        found = {**given, **controls}
        return sampler.generate(checked, labels, truncation, batch_size, found)
