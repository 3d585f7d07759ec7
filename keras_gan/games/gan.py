"""The game: two players, one value, as a Keras model that is trained with `fit`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import augment as augments
from keras_gan import checks, constraints, latents, losses, schedules, terms
from keras_gan.errors import UsageError
from serving.seeds import check_seeds

# Keras and TensorFlow are not annotated, and what a type checker infers of them is wrong.
ops: Any = keras.ops
random: Any = tf.random

# What a random number is for; folded into its seed, so that no two purposes share numbers.
_NOISE, _PENALTY, _AUGMENT, _EVALUATION, _GENERATOR_PENALTY, _MIX = range(6)

_SCALED = keras.optimizers.LossScaleOptimizer


@keras.saving.register_keras_serializable("keras_gan")
class GAN(keras.Model):
    """A generator and a discriminator playing a game, trained by `fit` on real samples.

    The generator turns latents into samples, the discriminator gives logits: how real a sample
    looks. A step of training takes one batch of real samples; the discriminator learns to tell
    it from an equal batch of generated ones, then the generator learns from its verdict.

    ```python
    gan = keras_gan.GAN(generator, discriminator, loss="relativistic",
                        terms=[keras_gan.terms.R1(1.0), keras_gan.terms.R2(1.0)])
    gan.compile(keras.optimizers.Adam(2e-4, beta_1=0.0), keras.optimizers.Adam(2e-4, beta_1=0.0))
    gan.fit(dataset, epochs=10)
    pictures = gan.generate(seeds=range(16))
    ```

    The data is a tf.data data set, or whatever else `fit` takes, of `x` or `(x, y)`: x float32
    `(batch, ...)`, images with values in [-1, 1]; y integer class ids `(batch,)`, which a
    conditional game needs and any other ignores. Samples of rank 3 (height, width, channels) are
    taken for images, and their range is checked.

    Args:
        generator: built Keras model from latents `(batch, latent_dim)`, standard normal, to
            samples `(batch, ...)`; in a conditional game from `[latents, labels]`, labels being
            int32 class ids `(batch,)`.
        discriminator: built Keras model from samples, or `[samples, labels]`, to logits
            `(batch, ...)`, any real numbers: no sigmoid at the end.
        loss: name or instance of an adversarial loss, see `keras_gan.losses`.
        terms: names or instances of terms of either player, see `keras_gan.terms`.
        augment: `None`, name or instance of an augmentation, see `keras_gan.augment`, or any
            callable `augment(samples, seed)` that gives samples of the same shape,
            differentiable, where seed is a tensor of 2 integers for the stateless random
            operations; applied to all that the discriminator sees. To be found again in a
            `.keras` file it must be registered: `keras.saving.register_keras_serializable`.
        constraint: `None`, name or instance of a constraint on the discriminator's weights, see
            `keras_gan.constraints`.
        discriminator_steps: how many times the discriminator learns for each step of the
            generator, from 1 up. Each time sees its own share of the batch.
        pac: how many samples the discriminator judges at once, from 1 up (PacGAN); they are
            stacked along the last axis, and the batch must divide by it.
        top_k: share of the batch, above 0 and at most 1, that the generator learns from: those
            of its samples that look most real to the discriminator; or a schedule of it.
        ema_half_life: half-life of the averaged generator in images, or a schedule of it: after
            so many images an old weight counts half. Its batch statistics are averaged as well.
            0 for no average.
        ema_rampup: the half-life is at most this share of the images seen so far, so that the
            initial weights are soon forgotten.
        num_classes: number of classes of a conditional game; 0 for an unconditional one.
        latent_dim: length of a latent vector; needed only for a subclassed generator, from
            whose inputs it cannot be read.
        seed: the seed of all noise in training. Noise is a function of the seed, the replica
            and the step: no state, nothing to lose.
        **kwargs: `name`, `dtype` and the like of `keras.Model`.

    Raises:
        UsageError: players that do not fit each other, or an argument out of range.

    Reference:
        - [Goodfellow et al., 2014](https://arxiv.org/abs/1406.2661)
        - [Lin et al., 2017](https://arxiv.org/abs/1712.04086), for `pac`
        - [Sinha et al., 2020](https://arxiv.org/abs/2002.06224), for `top_k`
    """

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        loss: str | dict | losses.Loss = "non_saturating",
        terms: Iterable[str | dict | terms.Term] = (),
        augment: str | dict | augments.Augment | Callable | None = None,
        constraint: str | dict | constraints.Constraint | None = None,
        discriminator_steps: int = 1,
        pac: int = 1,
        top_k: float | schedules.Schedule = 1.0,
        ema_half_life: float | schedules.Schedule = 10_000,
        ema_rampup: float = 0.05,
        num_classes: int = 0,
        latent_dim: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        checks.whole_number("discriminator_steps", discriminator_steps, least=1)
        checks.whole_number("num_classes", num_classes, least=0)
        checks.whole_number("seed", seed, least=0)
        checks.whole_number("pac", pac, least=1)
        checks.share("top_k", top_k)
        checks.number("ema_half_life", ema_half_life, least=0)
        checks.number("ema_rampup", ema_rampup, least=0, above=True)
        self.generator = generator
        self.discriminator = discriminator
        self.adversarial_loss = losses.get(loss)  # `self.loss` belongs to keras.Model
        self.terms = _named_terms(terms)
        self.augment = augments.get(augment)
        self.constraint = constraints.get(constraint)
        self.discriminator_steps = int(discriminator_steps)
        self.pac = int(pac)
        self.top_k = top_k
        self.ema_half_life = ema_half_life
        self.ema_rampup = float(ema_rampup)
        self.num_classes = int(num_classes)
        self.seed = int(seed)
        self.latent_dim, self.sample_shape = checks.players(
            generator, discriminator, num_classes, latent_dim, self.terms, self.pac
        )
        if isinstance(self.augment, augments.Augment):
            self.augment.check(self.sample_shape)
        for penalty in self.terms.values():
            penalty.check(generator, discriminator, self.sample_shape)

        self.average_generator = _copy(generator) if ema_half_life else generator
        # Own counters: an optimizer's stands still when a loss scale is halved.
        self.iteration = self._counter("iteration")
        self.examples_seen = self._counter("examples_seen")
        self.evaluation_step = self._counter("evaluation_step")
        # What penalties and the augmentation remember from step to step.
        self._memories = {n: self._memory(n, p.initial_state()) for n, p in self.terms.items()}
        if isinstance(self.augment, augments.Augment):
            self._memories["augment"] = self._memory("augment", self.augment.initial_state())
        measured = ["d_loss", "g_loss", "real_accuracy", "fake_accuracy"]
        measured += ["real_logits", "fake_logits"]
        self._penalty_metrics = [_metric(n, w) for n, p in self.terms.items() for w in p.players]
        self._augment_metrics = []
        if isinstance(self.augment, augments.Augment):
            start = self.augment.initial_state() | {"examples_seen": 0.0}
            self._augment_metrics = [f"augment_{name}" for name in self.augment.measures(start)]
        measured += [*self._penalty_metrics, *self._augment_metrics]
        self._trackers = {name: _Mean(name) for name in measured}
        self._samplers: dict[bool, Any] = {}
        self.built = True  # both players are: nothing is left for the first batch to build

    def _counter(self, name: str):
        return self.add_weight(
            name=name,
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def _memory(self, owner: str, state: dict[str, float]) -> dict[str, Any]:
        """A weight for each number of a state; replicas hold the mean of what they assign."""
        return {
            name: self.add_weight(
                name=f"{owner}_{name}",
                shape=(),
                dtype="float32",
                initializer=keras.initializers.Constant(value),
                trainable=False,
                aggregation="mean",
            )
            for name, value in state.items()
        }

    def count(self, name: str) -> int:
        """Value of a counter, "iteration" or "examples_seen"; under a strategy as well."""
        return int(getattr(self, name).value.numpy())

    def compile(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        generator_optimizer: Any = None,
        discriminator_optimizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Gives each player its optimizer.

        Args:
            generator_optimizer: a Keras optimizer, its name or its config; by default
                `Adam(2e-4, beta_1=0.5)`.
            discriminator_optimizer: another one; the same default.
            **kwargs: `jit_compile`, `steps_per_execution` and `run_eagerly` of
                `keras.Model.compile`.

        Raises:
            UsageError: one optimizer for both players, an argument that a game has no use for,
                or one that Keras cannot run under the distribution strategy.
        """
        unused = set(kwargs) - {"jit_compile", "steps_per_execution", "run_eagerly"}
        if unused:
            raise UsageError(
                "GAN.compile takes generator_optimizer, discriminator_optimizer, jit_compile, "
                f"steps_per_execution and run_eagerly. Received: {', '.join(sorted(unused))}"
            )
        optimizers = [
            _optimizer(given, player)
            for given, player in (
                (generator_optimizer, self.generator),
                (discriminator_optimizer, self.discriminator),
            )
        ]
        checks.optimizers(*optimizers, arguments=kwargs)
        super().compile(optimizer=None, **kwargs)
        self.generator_optimizer, self.discriminator_optimizer = optimizers
        for optimizer, player in zip(optimizers, (self.generator, self.discriminator), strict=True):
            # Before the first step: strategies, XLA and loading cannot create moments later.
            optimizer.build(player.trainable_variables)
            for name, schedule in _schedules(optimizer).items():
                setattr(checks.inner(optimizer), name, schedule.bind(self.examples_seen.value))
            _take_summed_gradients(optimizer)
        self._compile_arguments = kwargs

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        # Keras would build, under a strategy, what is built already, from a first batch of its
        # own that it cannot make on several workers (keras issue 20585).
        return

    # ---------------------------------------------------------------- the game

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of the game on one batch of real samples; gives the metrics."""
        shares = self._shares(data)
        _move(self.generator)

        # The discriminator's turns but the last: each with fresh noise on its own reals.
        for turn, (real, labels) in enumerate(shares[:-1]):
            z, fake = self._generate_fakes(real, labels, turn)
            self._train_discriminator(real, fake, z, labels, turn)

        # The last turn's fakes are made under the generator's tape: both players use them.
        turn = len(shares) - 1
        real, labels = shares[turn]
        with tf.GradientTape() as tape:
            z, fake = self._generate_fakes(real, labels, turn)
            with tape.stop_recording():
                self._train_discriminator(real, tf.stop_gradient(fake), z, labels, turn)

            # The generator's turn, before the discriminator that has just learned. Without need
            # for the real logits, as in most losses, their pass is pruned from the graph.
            discriminate = self._discriminate(labels, turn)
            real, fake = self._packed(real), self._packed(fake)
            fake_logits = discriminate(fake)
            real_logits = tf.stop_gradient(discriminate(real))
            values = self.adversarial_loss.generator(real_logits, fake_logits)
            loss = self._mean_of_top(values, fake_logits)
            play = self._play("generator", discriminate, real, fake, z, labels, turn)
            penalized = loss + self._terms_of(play, turn)
            scaled = self._scaled(penalized, self.generator_optimizer)
        _apply(self.generator_optimizer, tape, scaled, self.generator.trainable_variables)
        self._trackers["g_loss"].update_state(loss)

        # The average follows, and the clock moves on.
        self.examples_seen.assign_add(self._global_size(data))
        self._update_average(self._global_size(data))
        self.iteration.assign_add(1)
        return self._results()

    def _train_discriminator(self, real, fake, z, labels, turn: int) -> None:
        """One step of the discriminator on a real and a generated batch of the same size."""
        _move(self.discriminator)
        real, fake = self._packed(self._mixed(real, fake, turn)), self._packed(fake)
        with tf.GradientTape() as tape:
            discriminate = terms.SharedForward(self._discriminate(labels, turn))
            real_logits = discriminate(real)
            fake_logits = discriminate(fake)
            loss = ops.mean(self.adversarial_loss.discriminator(real_logits, fake_logits))
            play = self._play("discriminator", discriminate, real, fake, z, labels, turn)
            penalized = loss + self._terms_of(play, turn)
            scaled = self._scaled(penalized, self.discriminator_optimizer)
        weights = self.discriminator.trainable_variables
        _apply(self.discriminator_optimizer, tape, scaled, weights)
        if self.constraint is not None:
            for weight in weights:
                weight.assign(self.constraint(weight))
        self._observe(real_logits, fake_logits)
        self._track_verdicts(loss, real_logits, fake_logits)

    # ---------------------------------------------------------------- penalties, augmentation

    def _play(self, player: str, discriminate, real, fake, z, labels, turn: int):
        """What the penalties on a player may look at in its turn."""
        purpose = _PENALTY if player == "discriminator" else _GENERATOR_PENALTY
        return terms.StepContext(
            player=player,
            generator=self.generator,
            discriminator=self.discriminator,
            discriminate=discriminate,
            generate=lambda z: self._packed(self._generate(z, labels, real.dtype)),
            latents=z,
            real=real,
            fake=fake,
            seed=self._random_seed(purpose, turn),
            labels=labels,
            augmented=lambda x: self._augmented(x, self._random_seed(_AUGMENT, turn)),
            per_sample=lambda function, x: self._packed(function(self._unpacked(x))),
        )

    def _terms_of(self, play: terms.StepContext, turn: int):
        """Sum of the penalties on the player whose turn it is, each times its weight."""
        total = 0.0
        for name, penalty in self.terms.items():
            if play.player not in penalty.players:
                continue
            memory = self._memories[name]
            values = {key: weight.value for key, weight in memory.items()}
            value, values, due = self._penalty(penalty, play, values, turn)
            _remember(memory, values)
            strength = schedules.now(penalty.weight_on(play.player), self.examples_seen.value)
            total += strength * penalty.interval * value
            self._trackers[_metric(name, play.player)].update_state(value, sample_weight=due)
        return total

    def _penalty(self, penalty, play: terms.StepContext, state: dict, turn: int):
        """Mean value of a penalty, its new state, and whether (1.0 or 0.0) it is due."""
        if penalty.interval == 1:
            values, state = penalty.of_context(play, state)
            return ops.mean(values), state, 1.0
        step = self.iteration.value
        if play.player == "discriminator":
            step = step * self.discriminator_steps + turn
        due = tf.equal(step % penalty.interval, 0)

        def penalize():
            # A pass of its own inside the branch: nothing is computed when it is not due.
            values, new = penalty.of_context(play.alone(), state)
            return ops.mean(values), new

        value, state = tf.cond(due, penalize, lambda: (tf.zeros(()), state))
        return value, state, tf.cast(due, "float32")

    def _augment_state(self) -> dict[str, Any]:
        state = {name: weight.value for name, weight in self._memories["augment"].items()}
        return state | {"examples_seen": tf.cast(self.examples_seen.value, "float32")}

    def _mixed(self, real, fake, turn: int):
        """What the discriminator is shown as real: with `Apa`, generated samples among it."""
        if not isinstance(self.augment, augments.Augment):
            return real
        if not self.num_classes:
            fake = tf.roll(fake, 1, axis=0)  # in a pair, no sample is set against itself
        seed = self._random_seed(_MIX, turn)
        return self.augment.mix(real, fake, seed, self._augment_state())

    def _observe(self, real_logits, fake_logits) -> None:
        """Lets an adaptive augmentation see how sure the discriminator is."""
        if not isinstance(self.augment, augments.Augment):
            return
        threshold = self.adversarial_loss.decision_threshold(real_logits, fake_logits)
        state = self._augment_state()
        new = self.augment.observe(real_logits - threshold, state)
        _remember(self._memories["augment"], new)
        for name, value in self.augment.measures(state | new).items():
            self._trackers[f"augment_{name}"].update_state(value)

    def _augmented(self, samples, seed):
        """Samples as the discriminator is to see them; each of a pack by itself."""
        if self.augment is None:
            return samples
        samples = self._unpacked(samples)
        if isinstance(self.augment, augments.Augment):
            samples = self.augment.apply(samples, seed, self._augment_state())
        else:
            samples = self.augment(samples, seed)
        return self._packed(samples)

    def _packed(self, samples):
        """`(batch, ..., channels)` -> `(batch / pac, ..., pac * channels)`: packs of neighbors."""
        if self.pac == 1:
            return samples
        *inner, channels = self.sample_shape
        parts = tf.reshape(samples, (-1, self.pac, *inner, channels))
        parts = tf.stack(tf.unstack(parts, self.pac, axis=1), axis=-2)
        return tf.reshape(parts, (-1, *inner, self.pac * channels))

    def _unpacked(self, samples):
        """The samples of the packs, in the order in which `_packed` got them."""
        if self.pac == 1:
            return samples
        *inner, channels = self.sample_shape
        parts = tf.reshape(samples, (-1, *inner, self.pac, channels))
        parts = tf.stack(tf.unstack(parts, self.pac, axis=-2), axis=1)
        return tf.reshape(parts, (-1, *inner, channels))

    def _mean_of_top(self, values, fake_logits):
        """Mean of the generator's loss over the share of samples that look most real."""
        if self.top_k == 1.0:
            return ops.mean(values)
        count = tf.shape(values)[0]
        share = schedules.now(self.top_k, self.examples_seen.value)
        kept = tf.maximum(1.0, tf.math.ceil(share * tf.cast(count, tf.float32) - 1e-4))
        rank = tf.argsort(tf.argsort(losses.per_sample(fake_logits), direction="DESCENDING"))
        chosen = tf.cast(tf.cast(rank, tf.float32) < kept, values.dtype)
        return ops.sum(values * chosen) / ops.cast(kept, values.dtype)

    def test_step(self, data: Any) -> dict[str, Any]:
        """The averaged generator plays one batch, both in inference mode; gives the metrics."""
        real, labels = self._unpack(data)
        if self.pac > 1:  # whole packs; too few for one are repeated
            count = tf.shape(real)[0]
            whole = tf.maximum(count // self.pac, 1) * self.pac
            real = tf.gather(real, tf.range(whole) % count)
        noise = self._noise(real, self._random_seed(_EVALUATION, self.evaluation_step.value))
        fake = self.average_generator(_inputs(noise, labels), training=False)
        real, fake = self._packed(real), self._packed(fake)

        def discriminate(samples):
            logits = self.discriminator(_inputs(samples, labels), training=False)
            return ops.cast(logits, "float32")

        real_logits, fake_logits = discriminate(real), discriminate(fake)
        loss = ops.mean(self.adversarial_loss.discriminator(real_logits, fake_logits))
        self._track_verdicts(loss, real_logits, fake_logits)
        g_loss = ops.mean(self.adversarial_loss.generator(real_logits, fake_logits))
        self._trackers["g_loss"].update_state(g_loss)
        self.evaluation_step.assign_add(1)
        # Penalties are for training; a 0.0 beside a validation loss would be read as a value.
        return self._results(without=[*self._penalty_metrics, *self._augment_metrics])

    def _results(self, without: Iterable[str] = ()) -> dict[str, Any]:
        """The metrics so far, as Keras wants them of a step."""
        results = self.get_metrics_result()
        results = {name: value for name, value in results.items() if name not in without}
        if not _on_workers():
            return results
        # Keras averages each result over the workers, along a first axis that a scalar has not
        # and by two messages: they go as one vector, which `_by_name` takes apart again.
        vector = ops.stack([ops.cast(value, "float32") for value in results.values()])
        return {"/".join(results): ops.expand_dims(vector, 0)}

    def make_train_function(self, force: bool = False):
        old = None if force else self.train_function
        super().make_train_function(force)
        if self.train_function is not old and _on_workers(self.distribute_strategy):
            self.train_function = _by_name(self.train_function)

    def make_test_function(self, force: bool = False):
        old = None if force else self.test_function
        super().make_test_function(force)
        if self.test_function is not old and _on_workers(self.distribute_strategy):
            self.test_function = _by_name(self.test_function)

    def _generate_fakes(self, real, labels, turn: int):
        """Latents, and the samples that the generator makes of them."""
        z = self._noise(real, self._random_seed(_NOISE, turn))
        return z, self._generate(z, labels, real.dtype)

    def _generate(self, z, labels, dtype):
        return ops.cast(self.generator(_inputs(z, labels), training=True), dtype)

    def _discriminate(self, labels, turn: int):
        """The discriminator in training, behind the augmentation: samples -> float32 logits."""
        seed = self._random_seed(_AUGMENT, turn)

        def discriminate(samples):
            samples = self._augmented(samples, seed)
            return ops.cast(self.discriminator(_inputs(samples, labels), training=True), "float32")

        return discriminate

    # ------------------------------------------------------- noise, scale, average, metrics

    def _random_seed(self, purpose: int, turn: int):
        """Two integers, a function of (seed, purpose, replica, step): no state to save."""
        replica = tf.distribute.get_replica_context()
        seed = tf.constant([self.seed & 0x7FFFFFFF, self.seed >> 31], dtype=tf.int64)
        # Evaluations draw the same noise whenever they are: two differ by the players alone.
        step = 0 if purpose == _EVALUATION else self.iteration.value
        for part in (purpose, replica.replica_id_in_sync_group if replica else 0, step, turn):
            seed = random.experimental.stateless_fold_in(
                seed, ops.cast(part, "int64"), alg="philox"
            )
        return seed

    def _noise(self, real, seed):
        shape = (tf.shape(real)[0], self.latent_dim)
        # By name, as "auto" chooses another algorithm, and so other noise, on other devices.
        return random.stateless_normal(shape, seed=seed, alg="philox")

    def _scaled(self, loss, optimizer: Any):
        """The loss as its optimizer wants it: over all replicas, times the loss scale."""
        # Gradients of the replicas are summed, each replica's loss is the mean of its batch.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return optimizer.scale_loss(loss / replicas)

    def _global_size(self, data):
        real = data[0] if isinstance(data, tuple) else data
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return tf.cast(tf.shape(real)[0], "int64") * replicas

    def _update_average(self, images) -> None:
        """Moves the averaged generator, batch statistics included, towards the live one."""
        if self.average_generator is self.generator:
            return
        images = tf.cast(images, "float32")
        seen = tf.cast(self.examples_seen.value, "float32")
        half_life = schedules.now(self.ema_half_life, self.examples_seen.value)
        half_life = tf.minimum(half_life, seen * self.ema_rampup)
        # 1 - 0.5 ** (images / half_life), without the cancellation at a long half-life.
        step = -tf.math.expm1(-math.log(2.0) * images / tf.maximum(half_life, 1e-8))
        for average, live in zip(
            self.average_generator.weights, self.generator.weights, strict=True
        ):
            if keras.backend.is_float_dtype(average.dtype):
                average.assign_add(ops.cast(step, average.dtype) * (live - average))
            else:
                average.assign(live)
        _move(self.average_generator)

    def _track_verdicts(self, loss, real_logits, fake_logits) -> None:
        """Loss, mean logits, and how often each side is told rightly (a tie counts half)."""
        threshold = self.adversarial_loss.decision_threshold(real_logits, fake_logits)
        self._trackers["d_loss"].update_state(loss)
        self._trackers["real_logits"].update_state(real_logits)
        self._trackers["fake_logits"].update_state(fake_logits)
        self._trackers["real_accuracy"].update_state((1 + ops.sign(real_logits - threshold)) / 2)
        self._trackers["fake_accuracy"].update_state((1 + ops.sign(threshold - fake_logits)) / 2)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._trackers.values())

    def reset_metrics(self) -> None:
        self.evaluation_step.assign(0)  # every evaluation begins with the same noise
        super().reset_metrics()

    # ---------------------------------------------------------------- data

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any):
        """`keras.Model.fit`, after a look at the first batch, for which a data set is begun once.

        Raises:
            UsageError: samples of a wrong type, shape or range, NaN among them, labels missing
                or out of range, or batches that do not divide by `discriminator_steps * pac`.
        """
        game: dict[str, Any] = {"shape": self.sample_shape, "num_classes": self.num_classes}
        batch_size: Any = kwargs.get("batch_size") or (args[0] if args else None) or 32
        parts = self.discriminator_steps * self.pac
        checks.data(x, y, parts=parts, batch_size=batch_size, **game)
        validation = kwargs.get("validation_data")
        if validation is not None:
            pair = validation if isinstance(validation, tuple) else (validation, None)
            checks.data(pair[0], pair[1] if len(pair) > 1 else None, **game)
        streams = (tf.data.Dataset, tf.distribute.DistributedDataset)
        if isinstance(x, streams) and len(args) < 7:
            kwargs.setdefault("shuffle", False)  # Keras warns of its own default otherwise
        return super().fit(x, y, *args, **kwargs)

    def _unpack(self, data):
        """A batch as (real, labels); labels are None unless the game is conditional."""
        real, labels = (data[0], data[1]) if isinstance(data, tuple) else (data, None)
        if self.num_classes and labels is None:
            raise UsageError(
                f"A conditional game of {self.num_classes} classes needs batches (x, y). "
                "Received: x alone"
            )
        return real, ops.cast(labels, "int32") if self.num_classes else None

    def _shares(self, data):
        """The batch in `discriminator_steps` equal parts, each (real, labels)."""
        real, labels = self._unpack(data)
        k = self.discriminator_steps
        if k == 1:
            return [(real, labels)]
        size = tf.shape(real)[0] // k
        with tf.control_dependencies(
            [
                tf.debugging.assert_equal(
                    size * k,
                    tf.shape(real)[0],
                    f"A batch must divide by discriminator_steps={k}",
                )
            ]
        ):
            parts = tf.reshape(real, tf.concat([[k, size], tf.shape(real)[1:]], 0))
        parts.set_shape((k, None, *self.sample_shape))
        classes = [None] * k
        if labels is not None:
            classes = tf.unstack(tf.reshape(labels, (k, size)), num=k)
        return list(zip(tf.unstack(parts, num=k), classes, strict=True))

    # ---------------------------------------------------------------- samples

    def call(self, inputs: Any, training: bool = False):
        """Samples of the averaged generator from latents, or from `[latents, labels]`."""
        return self.average_generator(inputs, training=training)

    def generate(
        self,
        seeds: Sequence[int] | range | np.ndarray,
        labels: Sequence[int] | int | np.ndarray | None = None,
        truncation: float = 1.0,
        average: bool = True,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Makes the samples that the seeds name.

        A seed names the same sample here, in an exported SavedModel, in onnxruntime, and in a
        batch of any size (see docs/seeds.md).

        Args:
            seeds: whole numbers from 0 to 2^63 - 1, one for each sample.
            labels: class ids, one for each sample or one for all. By default, in a conditional
                game, the seed modulo the number of classes.
            truncation: factor on the latents, from 0 up. Below 1 samples are more typical and
                less varied.
            average: take the averaged generator rather than the live one.
            batch_size: how many samples are computed at once.

        Returns:
            Samples as a float32 array `(len(seeds), ...)`, of the kind and range of the data. Where
            nothing bounds the generator (`r3gan` ends without tanh) they may leave the range;
            clip them: `np.clip(samples, -1, 1)`.

        Raises:
            UsageError: a seed, label, or truncation out of range, or labels without classes.
        """
        seeds = check_seeds(seeds)
        classes = checks.labels(labels, seeds, self.num_classes)
        checks.number("truncation", truncation, least=0)
        checks.whole_number("batch_size", batch_size, least=1)
        sampler = self._sampler(average)
        samples = [np.zeros((0, *self.sample_shape), "float32")]
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            z = latents.latents_from_seeds(seeds[part], self.latent_dim) * truncation
            y = [] if classes is None else [tf.constant(classes[part], "int32")]
            samples.append(sampler(z, *y).numpy())
        return np.concatenate(samples)

    def _sampler(self, average: bool):
        """The graph of one of the generators in inference mode, for any batch size."""
        if average not in self._samplers:
            network = self.average_generator if average else self.generator
            signature = [tf.TensorSpec((None, self.latent_dim), tf.float32)]
            if self.num_classes:
                signature.append(tf.TensorSpec((None,), tf.int32))

            @tf.function(input_signature=signature, autograph=False)
            def sample(*inputs):
                inputs = inputs[0] if len(inputs) == 1 else list(inputs)
                return ops.cast(network(inputs, training=False), "float32")

            self._samplers[average] = sample
        return self._samplers[average]

    # ---------------------------------------------------------------- saving

    def _noise_states(self) -> list[Any]:
        """States of the layers that draw numbers of their own, as Dropout: Keras saves none."""
        return [
            generator.state
            for player in (self.generator, self.discriminator, self.average_generator)
            for layer in player._flatten_layers()
            for generator in getattr(layer, "_seed_generators", ())
        ]

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for i, state in enumerate(self._noise_states()):
            store[f"noise_{i}"] = ops.convert_to_numpy(state)

    def load_own_variables(self, store: Any) -> None:
        states = self._noise_states()
        for i, state in enumerate(states):
            state.assign(store[f"noise_{i}"])
        names = list(store.keys())  # of an HDF5 group, which is no dictionary
        super().load_own_variables({n: store[n] for n in names if not n.startswith("noise_")})

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,
            "generator": serialize(self.generator),
            "discriminator": serialize(self.discriminator),
            "loss": serialize(self.adversarial_loss),
            "terms": [serialize(p) for p in self.terms.values()],
            "augment": None if self.augment is None else serialize(self.augment),
            "constraint": None if self.constraint is None else serialize(self.constraint),
            "discriminator_steps": self.discriminator_steps,
            "pac": self.pac,
            "top_k": serialize(self.top_k),
            "ema_half_life": serialize(self.ema_half_life),
            "ema_rampup": self.ema_rampup,
            "num_classes": self.num_classes,
            "latent_dim": self.latent_dim,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> GAN:
        config = dict(config)
        serialized = ["generator", "discriminator", "loss", "augment", "constraint", "top_k"]
        for name in [*serialized, "ema_half_life"]:
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        config["terms"] = [
            keras.saving.deserialize_keras_object(p, custom_objects) for p in config["terms"]
        ]
        return cls(**config)

    def get_compile_config(self) -> dict[str, Any]:
        serialize = keras.optimizers.serialize
        return {
            "generator_optimizer": serialize(self.generator_optimizer),
            "discriminator_optimizer": serialize(self.discriminator_optimizer),
            **self._compile_arguments,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        # Optimizers are built by compile, so that their saved moments find their places.
        self.compile(**config)


class _Mean(keras.metrics.Mean):
    """A mean that is NaN while there is nothing to average: a lazy penalty was not due."""

    def result(self):
        return ops.where(ops.equal(self.count, 0), math.nan, super().result())


def _remember(memory: dict[str, Any], values: dict[str, Any]) -> None:
    """Assigns what is finite: a step that is no number must not be remembered for ever."""
    for key, weight in memory.items():
        new = tf.cast(values[key], weight.dtype)
        if new.dtype.is_floating:
            new = tf.where(tf.math.is_finite(new), new, weight.value)
        weight.assign(new)


def _inputs(first, labels):
    """What a player is called with: the tensor alone, or with the labels of a conditional game."""
    return first if labels is None else [first, labels]


def _named_terms(given: Any) -> dict[str, terms.Term]:
    """Penalties by the names of their metrics; a second of a kind is called `r1_2`."""
    if not isinstance(given, (list, tuple)):
        raise UsageError(f"terms must be a list. Received: terms={given!r}")
    named: dict[str, terms.Term] = {}
    for penalty in map(terms.get, given):
        base = name = terms.name_of(penalty)
        count = 1
        while name in named:
            count += 1
            name = f"{base}_{count}"
        named[name] = penalty
    return named


def _move(player: keras.Model) -> None:
    """Moves, once a turn, what the player's calls only read.

    A layer with such a state has a method `update_power_iteration()`, see
    `keras_gan.layers.SpectralNormalization`.
    """
    for layer in player._flatten_layers():
        update = getattr(layer, "update_power_iteration", None)
        if update is not None:
            update()


def _copy(generator: keras.Model) -> keras.Model:
    """A generator of the same weights that is not trained: the average at the start."""
    try:
        copy = keras.models.clone_model(generator)
    except NotImplementedError:
        raise UsageError(
            "The averaged generator is a copy made by get_config and from_config, which a "
            "subclassed generator must have; or give ema_half_life=0. "
            f"Received: {type(generator).__name__}"
        ) from None
    if not copy.built:
        copy.build(generator.input_shape)
    copy.set_weights(generator.get_weights())
    copy.trainable = False
    return copy


def _optimizer(identifier, player: keras.Model) -> Any:
    """The player's optimizer, with a loss scale where the player computes in float16."""
    if identifier is None:
        identifier = keras.optimizers.Adam(2e-4, beta_1=0.5)
    if isinstance(identifier, dict):
        identifier = _deserialized(identifier)
    optimizer: Any = keras.optimizers.get(identifier)
    scaled = isinstance(optimizer, _SCALED)
    half = any(layer.compute_dtype == "float16" for layer in player._flatten_layers())
    if half and not scaled:  # Keras wraps the one optimizer of Model.compile only
        optimizer = _SCALED(optimizer)
    return optimizer


def _metric(name: str, player: str) -> str:
    """Name of a penalty's metric; `name` is the discriminator's unless it is told otherwise."""
    return name if player == "discriminator" else f"generator_{name}"


def _deserialized(config: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's config with schedules as objects: Keras makes the learning rate's alone."""
    arguments = dict(config.get("config") or {})
    for name, value in arguments.items():
        if isinstance(value, dict) and name == "inner_optimizer":
            arguments[name] = _deserialized(value)
        elif isinstance(value, dict) and "class_name" in value:
            arguments[name] = keras.saving.deserialize_keras_object(value)
    return {**config, "config": arguments}


def _schedules(optimizer) -> dict[str, Any]:
    """The optimizer's numbers that follow a schedule, by the names of their attributes."""
    attributes = vars(checks.inner(optimizer)).items()
    return {name: value for name, value in attributes if hasattr(value, "bind")}


def _apply(optimizer, tape: tf.GradientTape, loss, variables) -> None:
    """One step of an optimizer, at what its schedules say now."""
    inner = checks.inner(optimizer)
    planned = _schedules(optimizer)
    planned.pop("_learning_rate", None)  # Keras asks this one itself
    for name, schedule in planned.items():
        setattr(inner, name, schedule(None))
    gradients = tape.gradient(loss, variables)
    computed = [g for g in tf.nest.flatten(gradients, expand_composites=True) if g is not None]
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        gradients = _over_replicas(gradients, isinstance(optimizer, _SCALED))
    try:
        # Grappler's remapper loses the order between reading a convolution's bias and the update
        # of it (TF 2.21): a pass would see, now and then, weights that have already moved.
        with tf.control_dependencies([loss, *computed]):
            optimizer.apply(gradients, variables)
    finally:
        for name, schedule in planned.items():
            setattr(inner, name, schedule)


def _over_replicas(gradients, scaled: bool):
    """The sum of the replicas' gradients, the same on each, and finite.

    Before the optimizer looks at them, so that it clips what one device would clip, and so that
    an overflow on one replica is seen by the loss scales of all. Without a loss scale, a step
    that is not finite on some replica counts as one with a gradient of zero.
    """
    present: list[Any] = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    # As one vector: a message between machines costs the same for one number as for thousands.
    flat = tf.concat([tf.reshape(tf.cast(g, "float32"), [-1]) for g in present], 0)
    replica: Any = tf.distribute.get_replica_context()
    total = replica.all_reduce(tf.distribute.ReduceOp.SUM, flat)
    if not scaled:  # a loss scale has to see it as it is, to be halved
        total = tf.where(ops.all(ops.isfinite(total)), total, tf.zeros_like(total))
    parts = tf.split(total, [math.prod(g.shape) for g in present])
    left = (tf.cast(tf.reshape(t, g.shape), g.dtype) for t, g in zip(parts, present, strict=True))
    return [None if g is None else next(left) for g in gradients]


def _on_workers(strategy: Any = None) -> bool:
    """Whether several processes play the game together."""
    strategy = strategy or tf.distribute.get_strategy()
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _by_name(function):
    """A step of Keras's whose results come as one vector, giving them by their names again."""

    def step(iterator):
        ((names, vector),) = function(iterator).items()
        return dict(zip(names.split("/"), tf.unstack(vector), strict=True))

    return step


def _take_summed_gradients(optimizer) -> None:
    """Keeps an optimizer from summing over the replicas what `_over_replicas` has summed."""
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        inner = checks.inner(optimizer)
        inner._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars
