"""The game of one generator and one discriminator."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_gan import augment as augmentations
from keras_gan import constraints, data_spec, losses, network_checks, schedules, terms
from keras_gan.arguments import check_integer, check_number, check_share
from keras_gan.errors import UsageError
from keras_gan.games import _checks, _gradients, _step
from keras_gan.games._game import Game
from keras_gan.games._packing import Packing
from keras_gan.networks import as_float32, stop_gradient, update_power_iteration
from keras_gan.spec import Spec

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class GAN(Game):
    """A generator and a discriminator that are trained against each other by `fit`.

    The generator maps latents to samples, and the discriminator maps samples to logits, which are
    high for samples that look real. A training step takes one batch of real samples. The
    discriminator learns to distinguish it from an equal batch of generated ones; then the
    generator learns from the updated discriminator.

    ```python
    gan = keras_gan.GAN(generator, discriminator, loss="relativistic",
                        terms=[keras_gan.terms.R1(1.0), keras_gan.terms.R2(1.0)])
    gan.compile(keras.optimizers.Adam(2e-4, beta_1=0.0), keras.optimizers.Adam(2e-4, beta_1=0.0))
    gan.fit(dataset, epochs=10)
    samples = gan.generate(seeds=range(16))
    ```

    A generator may take other fields of the data instead of latents, such as a `condition`: with
    `terms.Reconstruction` the game is pix2pix, and with `terms.ContrastivePatches` it is CUT.

    The data is a tf.data data set, or anything else that `fit` takes, of `x`, `(x, y)` or a
    dictionary of fields by name: x, the field `samples`, float32 `(batch, ...)`, images with
    values in [-1, 1]; y, the field `labels`, integer class ids `(batch,)`, which only a
    conditional game uses. Every batch is checked before its step. Samples of rank 3 (height,
    width, channels) are taken for images, and their range is checked; `gan.sample_kind` states
    another kind.

    Args:
        generator: built Keras model from latents `(batch, latent_dim)`, standard normal, to
            samples `(batch, ...)`; in a conditional game from `[latents, labels]`, the labels
            being int32 class ids `(batch,)`. Inputs named after fields get the fields of these
            names.
        discriminator: built Keras model from samples, or `[samples, labels]`, to logits
            `(batch, ...)`, any real numbers: a sigmoid, softmax or tanh at the end is refused,
            unless the loss is for it (`Loss.reach`). A list of logits (multi-scale) is averaged. A
            dictionary has the logits as `logits`, beside outputs that terms read.
        loss: name or instance of an adversarial loss, see `keras_gan.losses`.
        terms: names or instances of terms of either network, see `keras_gan.terms`.
        augment: None, name or instance of an augmentation, see `keras_gan.augment`, or any
            callable `augment(samples, seed)` that returns samples of the same shape,
            differentiable, where seed is a tensor of 2 integers for stateless random operations.
            It is applied to everything that the discriminator sees. To be loaded from a `.keras`
            file it must be registered: `keras.saving.register_keras_serializable`.
        constraint: None, name or instance of a constraint on the discriminator's weights, see
            `keras_gan.constraints`.
        discriminator_steps: steps of the discriminator for each step of the generator, at least 1.
            Each sees its own part of the batch.
        pac: number of samples that the discriminator judges together, at least 1 (PacGAN); they
            are stacked along the last axis, and the batch must divide by it.
        top_k: share of the batch, above 0 and at most 1, that the generator learns from: those
            of its samples that look most real to the discriminator; or a schedule of it.
        adversarial_weight: weight of the adversarial loss in that of the generator, from 0 up, or
            a schedule of it. With 0 the generator learns from its terms alone, such as feature
            matching.
        average_discriminator: if True, the discriminator has a moving average too, which is saved
            and exported. Where it is a classifier, the average is the better one.
        ema_half_life: half-life of the averaged generator in examples, or a schedule of it: after
            so many examples an old weight counts 1/2. Its batch statistics are averaged as well.
            0 for no average.
        ema_rampup: the half-life is at most this share of the examples seen so far, so that the
            initial weights are soon forgotten.
        average_deviations: standard deviations of power-function averages that are kept beside
            it, as shares of the training, each from 0.001 up and below 0.28; with two of them,
            `keras_gan.averages` finds that of any other afterward.
        num_classes: number of classes of a conditional game; 0 for an unconditional one.
        latent_dim: length of the latents; needed only for a subclassed generator, from whose
            inputs it cannot be read.
        seed: seed of all noise in training. Noise is a function of the seed, the replica and the
            step, so that no state needs saving.
        **kwargs: `name`, `dtype` and other arguments of `keras.Model`.

    Raises:
        UsageError: networks that do not fit each other, the classes or the loss, or an argument out
            of range.

    Reference:
        - [Goodfellow et al., 2014](https://arxiv.org/abs/1406.2661)
        - [Lin et al., 2017](https://arxiv.org/abs/1712.04086), for `pac`
        - [Sinha et al., 2020](https://arxiv.org/abs/2002.06224), for `top_k`
        - [Karras et al., 2024](https://arxiv.org/abs/2312.02696), for `average_deviations`
    """

    players = {"generator": ("generator",), "discriminator": ("discriminator",)}
    metric_names = (
        *("d_loss", "g_loss", "real_accuracy", "fake_accuracy"),
        *("real_logits", "fake_logits"),
    )

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        loss: str | dict | losses.Loss = "non_saturating",
        terms: Iterable[str | dict | terms.Term] = (),
        augment: str | dict | augmentations.Augment | Callable | None = None,
        constraint: str | dict | constraints.Constraint | None = None,
        discriminator_steps: int = 1,
        pac: int = 1,
        top_k: float | schedules.Schedule = 1.0,
        adversarial_weight: float | schedules.Schedule = 1.0,
        average_discriminator: bool = False,
        ema_half_life: float | schedules.Schedule = 10_000,
        ema_rampup: float = 0.05,
        average_deviations: Sequence[float] = (),
        num_classes: int = 0,
        latent_dim: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        check_integer("discriminator_steps", discriminator_steps)
        check_integer("pac", pac)
        check_share("top_k", top_k, schedule=True)
        check_number("adversarial_weight", adversarial_weight, minimum=0, schedule=True)
        _check_average(average_discriminator, ema_half_life)
        if average_discriminator:
            self.averaged = (*self.averaged, "discriminator")
        super().__init__(
            {"generator": generator, "discriminator": discriminator},
            terms=terms,
            augment=augment,
            packing=Packing(int(pac), name="pac"),
            ema_half_life=ema_half_life,
            ema_rampup=ema_rampup,
            average_deviations=average_deviations,
            num_classes=num_classes,
            latent_dim=latent_dim,
            seed=seed,
            **kwargs,
        )
        self.adversarial_loss = losses.get(loss)  # `self.loss` belongs to keras.Model
        network_checks.logits(self.networks["discriminator"], self.adversarial_loss)
        self.constraint = constraints.get(constraint)
        self.discriminator_steps = int(discriminator_steps)
        self.pac = int(pac)
        self.top_k, self.adversarial_weight = top_k, adversarial_weight

    @property
    def exports(self) -> str:
        # A game that learns from few labels is played for its classifier.
        few = any(term.allows_unlabeled for term in self.terms.values())
        return "discriminator" if few else super().exports

    def argument(self, name: str) -> Any:
        if name == "average_discriminator":  # the attribute of this name is the average itself
            return "discriminator" in self.averaged
        return self.adversarial_loss if name == "loss" else super().argument(name)

    def check_networks(self, outputs: Mapping[str, Mapping[str, Any]]) -> None:
        _checks.pair(self.networks, outputs, self.packing, self.num_classes)

    def check_gradients(self) -> None:
        _gradients.check(self)

    @classmethod
    def network_spec(cls, name: str, spec: Spec, options: Mapping[str, Any]) -> Spec:
        # The constructor refuses a size below 1.
        return spec.packed(max(1, options.get("pac", 1))) if name == "discriminator" else spec

    @classmethod
    def batch_factors(cls, options: Mapping[str, Any]) -> dict[str, int]:
        return {name: options.get(name, 1) for name in ("discriminator_steps", "pac")}

    @property
    def data_spec(self) -> data_spec.DataSpec:
        parts = self.discriminator_steps * self.packing.size
        return super().data_spec.dividing(parts, "discriminator_steps * pac")

    # ---------------------------------------------------------------- the algorithm

    def step(self, batch: dict[str, Any]) -> None:
        """Trains the discriminator, in one or more steps, and then the generator."""
        parts = _step.split(batch, self.discriminator_steps, self.sample_shape)
        update_power_iteration(self.generator)

        # The discriminator's steps but the last, each with fresh noise on its own real samples.
        for index, part in enumerate(parts[:-1]):
            with self.layer_noise(index):
                latents, made = _step.generate(self, part, index)
                self._train_discriminator(part, latents, made["samples"], index)

        # The samples of the last step are recorded on the generator's tape, for both networks.
        index, part = len(parts) - 1, parts[-1]
        with self.layer_noise(index), tf.GradientTape() as tape:
            latents, made = _step.generate(self, part, index)
            fake = made["samples"]
            with tape.stop_recording():
                self._train_discriminator(part, latents, tf.stop_gradient(fake), index)

            # The generator's step, against the updated discriminator. Most losses do not need the
            # logits of the real samples, whose pass is then pruned from the graph.
            real = part["samples"]
            context = _step.context(self, "generator", part, latents, real, fake, index, made)
            fake_logits = context.logits(context.fake)
            real_logits = stop_gradient(context.logits(context.real))
            values = losses.values(self.adversarial_loss.generator, real_logits, fake_logits)
            loss = self._mean_of_top(values, fake_logits)
            weight = schedules.now(self.adversarial_weight, self.examples_seen.value)
            objective = weight * loss + self.sum_of_terms(context)
        self.minimize("generator", objective, tape)
        self.track(g_loss=loss)

    def _train_discriminator(self, batch, latents, fake, index: int) -> None:
        """Trains the discriminator on a real and a generated batch of the same size."""
        update_power_iteration(self.discriminator)
        real = _step.mixed(self, batch["samples"], fake, index)
        with tf.GradientTape() as tape:
            context = _step.context(self, "discriminator", batch, latents, real, fake, index)
            real_logits = context.logits(context.real)
            fake_logits = context.logits(context.fake)
            values = losses.values(self.adversarial_loss.discriminator, real_logits, fake_logits)
            loss = ops.mean(values)
            objective = loss + self.sum_of_terms(context)
        self.minimize("discriminator", objective, tape)
        if self.constraint is not None:
            for weight in self.discriminator.trainable_variables:
                weight.assign(self.constraint(weight))

        # An adaptive augmentation follows the discriminator's margins on real samples.
        margins = losses.margins(self.adversarial_loss, real_logits, fake_logits)
        self.track(**self.augmentation.observe(margins))
        accuracies = losses.accuracies(self.adversarial_loss, real_logits, fake_logits)
        self.track(d_loss=loss, **accuracies)

    def _mean_of_top(self, values, fake_logits):
        """Returns the mean of the generator's loss over the samples that look most real."""
        if self.top_k == 1.0:
            return ops.mean(values)
        count = tf.shape(values)[0]
        share = schedules.now(self.top_k, self.examples_seen.value)
        kept = tf.maximum(1.0, tf.math.ceil(share * tf.cast(count, tf.float32) - 1e-4))
        rank = tf.argsort(tf.argsort(losses.score(fake_logits), direction="DESCENDING"))
        chosen = tf.cast(tf.cast(rank, tf.float32) < kept, values.dtype)
        return ops.sum(values * chosen) / ops.cast(kept, values.dtype)

    def evaluation(self, batch: dict[str, Any]) -> None:
        """Updates the metrics with the averaged generator, both networks in inference mode."""
        loss, real = self.adversarial_loss, self.packing.whole(batch["samples"])
        seed = self.random_seed("evaluation", self.evaluation_step.value)
        latents = self.draw_latents(real, seed)
        fake = self.average("generator")(batch | {"latents": latents}, training=False)["samples"]
        real_logits, fake_logits = self.logits(real, batch), self.logits(fake, batch)
        d_loss = ops.mean(losses.values(loss.discriminator, real_logits, fake_logits))
        g_loss = ops.mean(losses.values(loss.generator, real_logits, fake_logits))
        accuracies = losses.accuracies(loss, real_logits, fake_logits)
        self.track(d_loss=d_loss, g_loss=g_loss, **accuracies)

    def logits(self, samples: Any, fields: Mapping[str, Any] | None = None) -> Any:
        """Returns the discriminator's float32 logits in inference mode, for samples or packs.

        Args:
            samples: `(batch, ...)`, in whole packs.
            fields: other fields that the discriminator asks for, such as `labels`.
        """
        inputs = {**(fields or {}), "samples": self.packing.pack(samples)}
        return as_float32(self.networks["discriminator"](inputs, training=False))["logits"]


def _check_average(average_discriminator: Any, ema_half_life: Any) -> None:
    """Checks the argument `average_discriminator`.

    Raises:
        UsageError: not a bool, or True for a game without averages.
    """
    if not isinstance(average_discriminator, bool):
        raise UsageError(
            "`average_discriminator` must be True or False. "
            f"Received: average_discriminator={average_discriminator!r}"
        )
    if average_discriminator and not ema_half_life:
        raise UsageError(
            "`average_discriminator` needs a moving average: `ema_half_life` above 0. "
            "Received: average_discriminator=True, ema_half_life=0"
        )
