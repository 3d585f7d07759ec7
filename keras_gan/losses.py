"""Adversarial losses: one small class each, found by name.

Every loss defines two methods, `discriminator(real, fake)` and `generator(real, fake)`. Both take
the discriminator's logits on the real and on the generated batch and return one value per sample;
the game takes the mean over the batch. Logits of shape `(batch, ...)`, such as those of a patch
discriminator, are averaged over all but the first axis. Both methods get both batches, because a
relativistic generator is compared with the real samples. Where a discriminator returns a list of
logits, `values` averages the loss over the list.

Constants follow TF-GAN (least squares with its 1/2). All formulas are written on logits with
`softplus`, so that they stay finite wherever the logits are.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_gan import replicas
from keras_gan.networks import mean_over_outputs, mean_per_sample
from keras_gan.registry import find, registered

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

_CONFIDENT = (-2.0, 2.0)  # log-odds of the probabilities 0.12 and 0.88
_WIDEST = 2.0  # width of the range of tanh, the widest of the functions that return no logits


class Loss:
    """Base class of the adversarial losses.

    A subclass defines `discriminator` and `generator`; its name in recipes is the class name in
    snake case. Arguments of its constructor must be in `get_config`, and the class must be
    registered with `keras.saving.register_keras_serializable`, so that a game can be saved.

    Class attributes:
        reach: smallest and largest value that a discriminator must be able to return, such as
            (0, 1) for a loss of probabilities; None where only differences of logits count. A
            discriminator that ends in a sigmoid, softmax or tanh does not reach logits.
    """

    reach: tuple[float, float] | None = None

    def reached_by(self, low: float, high: float) -> bool:
        """Returns True if a discriminator whose values lie in a range can be trained.

        Without `reach` the range must be wider than that of a sigmoid or tanh.
        """
        if self.reach is None:
            return high - low > _WIDEST
        return low <= self.reach[0] and high >= self.reach[1]

    def discriminator(self, real, fake):
        """Returns the values that the discriminator minimizes.

        Args:
            real: logits of the real samples, `(batch, ...)`, any real number.
            fake: logits of the generated samples, the same shape.

        Returns:
            One value per sample, `(batch,)`.
        """
        raise NotImplementedError

    def generator(self, real, fake):
        """Returns the values that the generator minimizes; see `discriminator`."""
        raise NotImplementedError

    def decision_threshold(self, real, fake):
        """Returns the logit above which the discriminator counts as deciding for "real".

        It is 0 where logits are log-odds. Losses that leave the origin of the logits free return
        the middle between the mean logits of the two batches.
        """
        return ops.zeros((), dtype=real.dtype)

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config: dict) -> Loss:
        return cls(**config)


def _batch_mean(values):
    """Returns the mean over the whole batch, also where replicas divide it."""
    return replicas.mean(ops.mean(values, axis=0))


def _middle(real, fake):
    """Returns the middle between the mean logits of the two batches."""
    return (ops.mean(real) + ops.mean(fake)) / 2


@keras.saving.register_keras_serializable("keras_gan")
class Minimax(Loss):
    """The original zero-sum game on the value V(D, G).

    D minimizes -V = softplus(-D(x)) + softplus(D(G(z))), which is
    -log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))). G minimizes its part of V,
    log(1 - sigmoid(D(G(z)))) = -softplus(D(G(z))), whose gradient vanishes while D wins:
    use `NonSaturating` for training.

    Reference:
        - [Goodfellow et al., 2014](https://arxiv.org/abs/1406.2661), equation 1
    """

    reach = _CONFIDENT

    def discriminator(self, real, fake):
        return mean_per_sample(ops.softplus(-real)) + mean_per_sample(ops.softplus(fake))

    def generator(self, real, fake):
        return -mean_per_sample(ops.softplus(fake))


@keras.saving.register_keras_serializable("keras_gan")
class NonSaturating(Minimax):
    """The original game with a generator that maximizes log sigmoid(D(G(z))).

    D as in `Minimax`; G minimizes softplus(-D(G(z))) = -log sigmoid(D(G(z))), whose gradient is
    strongest where D wins.

    Reference:
        - [Goodfellow et al., 2014](https://arxiv.org/abs/1406.2661), section 3
    """

    also_called = ("nsgan", "bce")

    def generator(self, real, fake):
        return mean_per_sample(ops.softplus(-fake))


@keras.saving.register_keras_serializable("keras_gan")
class LeastSquares(Loss):
    """Least squares: D regresses real samples to 1 and generated ones to 0, G its samples to 1.

    D minimizes (D(x) - 1)^2 / 2 + D(G(z))^2 / 2; G minimizes (D(G(z)) - 1)^2 / 2.

    Reference:
        - [Mao et al., 2016](https://arxiv.org/abs/1611.04076), equation 9
    """

    also_called = ("lsgan", "mse")

    reach = (0.0, 1.0)

    def discriminator(self, real, fake):
        return mean_per_sample(ops.square(real - 1)) / 2 + mean_per_sample(ops.square(fake)) / 2

    def generator(self, real, fake):
        return mean_per_sample(ops.square(fake - 1)) / 2

    def decision_threshold(self, real, fake):
        return ops.full((), 0.5, dtype=real.dtype)  # halfway between the targets 0 and 1


@keras.saving.register_keras_serializable("keras_gan")
class Wasserstein(Loss):
    """Wasserstein distance between the two distributions, estimated by a Lipschitz critic.

    D minimizes D(G(z)) - D(x); G minimizes -D(G(z)). The critic must be kept Lipschitz,
    for instance by `terms.GradientPenalty`.

    Reference:
        - [Arjovsky et al., 2017](https://arxiv.org/abs/1701.07875), equation 2
    """

    also_called = ("wgan",)

    def discriminator(self, real, fake):
        return mean_per_sample(fake) - mean_per_sample(real)

    def generator(self, real, fake):
        return -mean_per_sample(fake)

    def decision_threshold(self, real, fake):
        return _middle(real, fake)


@keras.saving.register_keras_serializable("keras_gan")
class Hinge(Loss):
    """Hinge: D learns only from samples inside the margin.

    D minimizes relu(1 - D(x)) + relu(1 + D(G(z))); G minimizes -D(G(z)).

    Reference:
        - [Lim and Ye, 2017](https://arxiv.org/abs/1705.02894), section 3
    """

    reach = (-1.0, 1.0)

    def discriminator(self, real, fake):
        return mean_per_sample(ops.relu(1 - real)) + mean_per_sample(ops.relu(1 + fake))

    def generator(self, real, fake):
        return -mean_per_sample(fake)


@keras.saving.register_keras_serializable("keras_gan")
class Relativistic(Loss):
    """Relativistic pairing: D decides which sample of a pair is the real one.

    D minimizes softplus(-(D(x) - D(G(z)))) over the in-batch pairs, G the same with the roles
    exchanged. With `R1` and `R2` it is the loss of R3GAN, designed against mode dropping.

    Reference:
        - [Jolicoeur-Martineau, 2018](https://arxiv.org/abs/1807.00734), section 4.1
        - [Huang et al., 2024](https://arxiv.org/abs/2501.05441), section 2
    """

    also_called = ("rpgan", "rsgan", "r3gan")

    def discriminator(self, real, fake):
        return mean_per_sample(ops.softplus(fake - real))

    def generator(self, real, fake):
        return mean_per_sample(ops.softplus(real - fake))

    def decision_threshold(self, real, fake):
        return _middle(real, fake)


@keras.saving.register_keras_serializable("keras_gan")
class RelativisticAverage(Loss):
    """Relativistic against the average sample of the other batch.

    With real' = D(x) - mean D(G(z)) and fake' = D(G(z)) - mean D(x), D minimizes
    softplus(-real') + softplus(fake'), G the same with the roles exchanged. The means are those
    of the whole batch, also where it is divided among replicas.

    Reference:
        - [Jolicoeur-Martineau, 2018](https://arxiv.org/abs/1807.00734), section 4.2
    """

    also_called = ("ragan", "rasgan")

    def discriminator(self, real, fake):
        real, fake = real - _batch_mean(fake), fake - _batch_mean(real)
        return mean_per_sample(ops.softplus(-real)) + mean_per_sample(ops.softplus(fake))

    def generator(self, real, fake):
        return self.discriminator(fake, real)

    def decision_threshold(self, real, fake):
        return _middle(real, fake)


# ------------------------------------------------------------------------ lists of logits


def values(function: Any, real: Any, fake: Any) -> Any:
    """Returns a loss's values per sample, averaged over lists of logits.

    Args:
        function: a loss's method `discriminator` or `generator`.
        real: logits of the real samples: a tensor `(batch, ...)`, or a list of them.
        fake: logits of the generated samples, the same.
    """
    return mean_over_outputs(function, real, fake)


def score(logits: Any) -> Any:
    """Returns one logit per sample, `(batch,)`: means over positions, and over a list of logits."""
    return mean_over_outputs(mean_per_sample, logits)


def margins(loss: Loss, real: Any, fake: Any) -> Any:
    """Returns the logits of real samples minus the decision threshold: above 0 for "real"."""
    return _of_logits(lambda r, f: r - loss.decision_threshold(r, f), real, fake)


def accuracies(loss: Loss, real: Any, fake: Any) -> dict[str, Any]:
    """Returns logits and accuracies on real and on generated samples, as metrics average them.

    A tie counts 1/2. Of a list of logits, these are means for each sample over the list.

    Args:
        loss: the adversarial loss, for its decision threshold.
        real: logits of the real samples: a tensor `(batch, ...)`, or a list of them.
        fake: logits of the generated samples, the same.
    """

    def real_accuracy(real, fake):
        return (1 + ops.sign(real - loss.decision_threshold(real, fake))) / 2

    def fake_accuracy(real, fake):
        return (1 + ops.sign(loss.decision_threshold(real, fake) - fake)) / 2

    return {
        "real_logits": _of_logits(lambda real, fake: real, real, fake),
        "fake_logits": _of_logits(lambda real, fake: fake, real, fake),
        "real_accuracy": _of_logits(real_accuracy, real, fake),
        "fake_accuracy": _of_logits(fake_accuracy, real, fake),
    }


def _of_logits(function: Any, real: Any, fake: Any) -> Any:
    """Returns a function of logits; of lists, its means per sample, averaged over the list."""
    if not isinstance(real, (list, tuple)):
        return function(real, fake)
    return mean_over_outputs(lambda r, f: mean_per_sample(function(r, f)), real, fake)


def names() -> dict[str, str]:
    """Returns every loss's name with the first line of its description."""
    return registered(Loss)


def get(loss: str | dict | Loss) -> Loss:
    """Returns the loss of a name, of a `{"name": ..., **arguments}` dictionary, or itself.

    Raises:
        UsageError: no loss has that name.
    """
    return find(Loss, loss, "loss")
