"""Regularization of logits by their moving averages, and of kernels."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_gan.arguments import check_number
from keras_gan.errors import UsageError
from keras_gan.networks import mean_over_outputs, mean_per_sample
from keras_gan.schedules import Schedule
from keras_gan.terms import _layers
from keras_gan.terms._term import StepContext, Term

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class LeCam(Term):
    """LeCam regularization: logits of each batch near the other batch's moving average.

    |D(x) - a_fake|^2 + |D(G(z)) - a_real|^2, where a_real and a_fake are moving averages of the
    discriminator's logits, in which each step weighs `decay` times as much as the next. It is
    meant for training on few samples, and keeps logits bounded where the loss does not.

    The averages are those of the previous steps, without bias to their start, so that the term of
    the first step is 0. Logits are noise for some thousand samples: delay the term with a schedule
    of its weight.

    Args:
        weight: the paper's lambda; 0.3 by default.
        interval: see `Term`.
        decay: of the averages at each step in which the term is computed, above 0 and below 1.

    Raises:
        UsageError: a decay out of range.

    Reference:
        - [Tseng et al., 2021](https://arxiv.org/abs/2104.03310), equation 6
    """

    def __init__(self, weight: float | Schedule = 0.3, interval: int = 1, decay: float = 0.99):
        super().__init__(weight, interval)
        check_number("decay", decay, above=0, below=1)
        self.decay = float(decay)

    def initial_state(self) -> dict[str, Any]:
        return {"real": 0.0, "fake": 0.0, "mass": 0.0}

    def __call__(self, context: StepContext, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        real, fake = context.logits(context.real), context.logits(context.fake)
        # Sums of the weighted logits and of the weights: their ratio has no bias to the start.
        mass = tf.maximum(state["mass"], 1 - self.decay)

        def values(real, fake):
            begun = ops.cast(state["mass"] > 0, real.dtype)
            real_average = ops.cast(state["real"] / mass, real.dtype)
            fake_average = ops.cast(state["fake"] / mass, fake.dtype)
            distances = mean_per_sample(ops.square(real - fake_average))
            distances += mean_per_sample(ops.square(fake - real_average))
            return begun * distances

        seen = {
            "real": mean_over_outputs(ops.mean, real),
            "fake": mean_over_outputs(ops.mean, fake),
            "mass": ops.ones(()),
        }
        new = {name: self._averaged(state[name], now) for name, now in seen.items()}
        return mean_over_outputs(values, real, fake), new

    def _averaged(self, average, now):
        return average + (1 - self.decay) * (ops.cast(ops.stop_gradient(now), "float32") - average)

    def get_config(self) -> dict:
        return {**super().get_config(), "decay": self.decay}


@keras.saving.register_keras_serializable("keras_gan")
class Orthogonal(Term):
    """Orthogonal regularization of BigGAN: |W^T W * (1 - I)|^2, of every kernel W of a network.

    W has a column for each output channel. The columns are kept orthogonal to each other, and
    their lengths are free, as are biases, scales and embeddings. One value for the whole batch.

    Args:
        weight: the paper's beta, 1e-4 there.
        interval: see `Term`.
        player: network that it regularizes: "generator", as in the paper, where it makes
            truncation work, "discriminator", or "both".

    Raises:
        UsageError: a network of another name.

    Reference:
        - [Brock et al., 2018](https://arxiv.org/abs/1809.11096), equation 3
    """

    outputs = {}

    def __init__(
        self, weight: float | Schedule = 1e-4, interval: int = 1, player: str = "generator"
    ):
        super().__init__(weight, interval)
        if player not in ("generator", "discriminator", "both"):
            raise UsageError(
                f"`player` must be generator, discriminator or both. Received: player={player!r}"
            )
        self.player = player
        self.players = ("discriminator", "generator") if player == "both" else (player,)

    def values(self, context: StepContext):
        total = tf.zeros((1,))
        for matrix in _layers.kernels(context.networks[context.player].model):
            products = ops.matmul(ops.transpose(matrix), matrix)
            off = products * (1 - ops.eye(matrix.shape[-1], dtype=matrix.dtype))
            total = ops.cast(total, matrix.dtype) + ops.sum(ops.square(off))
        return total

    def get_config(self) -> dict:
        return {**super().get_config(), "player": self.player}
