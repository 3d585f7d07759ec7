"""Terms on the distance between generated samples and the real ones that they are to equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_gan.arguments import check_positive
from keras_gan.errors import UsageError
from keras_gan.networks import mean_per_sample
from keras_gan.schedules import Schedule
from keras_gan.terms._term import GameSpec, StepContext, Term, check_condition, widened

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class Reconstruction(Term):
    """Distance between each generated sample and its real sample, for supervised translation.

    With d = G(c) - x, where the condition c and the sample x belong together, the generator
    minimizes the mean over all values of |d| (`l1`), of d^2 (`l2`), or of sqrt(d^2 + epsilon^2)
    (`charbonnier`, a smooth |d|). pix2pix is the game `gan` with this term and a condition for
    both networks.

    Args:
        weight: from 0 up, or a schedule of it; 100 as in pix2pix.
        interval: see `Term`.
        norm: "l1", "l2" or "charbonnier".
        epsilon: of `charbonnier`, above 0, in the units of the samples; 0.001 by default.

    Raises:
        UsageError: an unknown norm, an argument out of range, or a generator that takes latents
            and labels only, which do not determine a real sample.

    Reference:
        - [Isola et al., 2016](https://arxiv.org/abs/1611.07004), equation 3
        - [Lai et al., 2017](https://arxiv.org/abs/1710.01992), section 3.3, for `charbonnier`
    """

    players = ("generator",)
    outputs = {"generator": ("samples",)}
    supervises = True

    def __init__(
        self,
        weight: float | Schedule = 100.0,
        interval: int = 1,
        norm: str = "l1",
        epsilon: float = 1e-3,
    ):
        super().__init__(weight, interval)
        if norm not in _NORMS:
            raise UsageError(f"`norm` must be one of {', '.join(_NORMS)}. Received: norm={norm!r}")
        check_positive("epsilon", epsilon)
        self.norm, self.epsilon = norm, float(epsilon)

    def check(self, game: GameSpec) -> None:
        check_condition(game, "Reconstruction")

    def values(self, context: StepContext):
        difference = widened(context.fake) - widened(context.real)
        return mean_per_sample(_NORMS[self.norm](difference, self.epsilon))

    def get_config(self) -> dict:
        return {**super().get_config(), "norm": self.norm, "epsilon": self.epsilon}


_NORMS: dict[str, Callable[[Any, float], Any]] = {
    "l1": lambda difference, epsilon: ops.abs(difference),
    "l2": lambda difference, epsilon: ops.square(difference),
    "charbonnier": lambda difference, epsilon: ops.sqrt(ops.square(difference) + epsilon**2),
}
