"""Adaptive augmentation: ADA and APA, whose probability follows the discriminator's overfitting."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_gan.arguments import check_integer, check_number, check_positive
from keras_gan.augment.base import Augment, checked_probability, get, names
from keras_gan.augment.pipeline import Pipeline
from keras_gan.augment.random import draw_unit_floats
from keras_gan.errors import UsageError


class _Adapting(Augment):
    """Base class for a probability that follows the discriminator's overfitting.

    r = E[sign(D(x))] over `interval` discriminator steps. The probability rises while r is above
    the target and falls while it is below, by 1 in `examples` examples.
    """

    target: float
    interval: int
    examples: float
    probability: Any

    def _set_adaptation(self, target: Any, interval: Any, examples: Any, probability: Any) -> None:
        check_number("target", target, above=-1, below=1)
        check_integer("interval", interval)
        check_positive("examples", examples)
        self.target, self.interval, self.examples = float(target), interval, float(examples)
        self.probability = checked_probability(probability)

    def initial_state(self) -> dict[str, float]:
        start = {"probability": self.probability, "overfitting": 0.0}
        return {**start, "signs": 0.0, "steps": 0.0, "adapted_at": 0.0}

    def observe(self, real_margins, state: dict[str, Any]) -> dict[str, Any]:
        # Signs are accumulated in one step and used in a later one. In between, the state becomes
        # the mean over the replicas, so that all of them adapt by the same number.
        full = state["steps"] > self.interval - 0.5  # a mean over replicas may be rounded
        overfitting = state["signs"] / tf.maximum(state["steps"], 1.0)
        change = tf.sign(overfitting - self.target)
        change *= (state["examples_seen"] - state["adapted_at"]) / self.examples
        probability = tf.clip_by_value(state["probability"] + change, 0.0, 1.0)
        new = {
            "probability": tf.where(full, probability, state["probability"]),
            "overfitting": tf.where(full, overfitting, state["overfitting"]),
            "adapted_at": tf.where(full, state["examples_seen"], state["adapted_at"]),
            "signs": tf.where(full, 0.0, state["signs"]) + tf.reduce_mean(tf.sign(real_margins)),
            "steps": tf.where(full, 0.0, state["steps"]) + 1.0,
        }
        return {**state, **new}

    def measures(self, state: dict[str, Any]) -> dict[str, Any]:
        return {name: state[name] for name in ("probability", "overfitting")}

    def get_config(self) -> dict:
        arguments = ("target", "interval", "examples", "probability")
        return {name: getattr(self, name) for name in arguments}


@keras.saving.register_keras_serializable("keras_gan")
class Adaptive(_Adapting, Pipeline):
    """ADA: the operations of `Pipeline`, with a probability that follows overfitting.

    r = E[sign(D(x))], the mean over `interval` discriminator steps, is near 0 while the
    discriminator cannot recognize the real training images, and 1 when it recognizes all of them.
    While r is above the target, the probability rises; below it, it falls. It goes from 0 to 1 in
    `examples` examples.

    Some losses leave the origin of the logits undetermined, as relativistic and Wasserstein losses
    do. For these, the sign is taken relative to the midpoint between the mean logits of the real
    and of the generated batch (the replica's batch, under a distribution strategy); r is then
    2 `real_accuracy` - 1. The probability and r are part of every checkpoint and of the metrics,
    as `augment_probability` and `augment_overfitting`.

    Args:
        target: target of r, between -1 and 1.
        interval: discriminator steps between two adjustments, at least 1.
        examples: number of examples in which the probability can go from 0 to 1, above 0.
        probability: initial probability, 0 to 1.
        blit: factor on the probability for the operations of this group, 0 to 1; see `Pipeline`.
        geometry: likewise.
        color: likewise.
        cutout: likewise; 0 by default.

    Raises:
        UsageError: a number is out of range, or the samples are not images.

    Reference:
        - [Karras et al., 2020](https://arxiv.org/abs/2006.06676), section 3
    """

    also_called = ("ada", "stylegan2ada")

    def __init__(
        self,
        target: float = 0.6,
        interval: int = 4,
        examples: float = 500_000,
        probability: float = 0.0,
        blit: float = 1.0,
        geometry: float = 1.0,
        color: float = 1.0,
        cutout: float = 0.0,
    ):
        Pipeline.__init__(self, 0.0, blit, geometry, color, cutout)
        self._set_adaptation(target, interval, examples, probability)

    def apply(self, samples, seed, state: dict[str, Any]):
        return self.transform(samples, seed, state["probability"])

    def get_config(self) -> dict:
        return Pipeline.get_config(self) | _Adapting.get_config(self)


@keras.saving.register_keras_serializable("keras_gan")
class Apa(_Adapting):
    """APA: generated samples presented as real ones, the more often the discriminator overfits.

    Each sample that the discriminator gets as real is replaced, with the probability, by a
    generated sample of the same batch: by the next one or, in a conditional game, by the one at
    the same position, which has the class of the real sample. The probability follows
    r = E[sign(D(x))] as in `Adaptive`, where x are the samples presented as real. The metrics
    `augment_probability` and `augment_overfitting` hold the probability and r. APA works on data
    of any kind.

    Args:
        augment: another augmentation of all discriminator inputs, by name, dictionary or
            instance; `None` for none.
        target: target of r, between -1 and 1.
        interval: discriminator steps between two adjustments, at least 1.
        examples: number of examples in which the probability can go from 0 to 1, above 0.
        probability: initial probability, 0 to 1.

    Raises:
        UsageError: a number is out of range, or the augmentation is unknown.

    Reference:
        - [Jiang et al., 2021](https://arxiv.org/abs/2111.06849), section 3.2
    """

    def __init__(
        self,
        augment: str | dict[str, Any] | Augment | None = None,
        target: float = 0.6,
        interval: int = 4,
        examples: float = 500_000,
        probability: float = 0.0,
    ):
        self.augment = get(augment)
        if self.augment is not None and not isinstance(self.augment, Augment):
            raise UsageError(
                f"`augment` must be one of {', '.join(names())}. Received: augment={augment!r}"
            )
        self._set_adaptation(target, interval, examples, probability)

    def __call__(self, samples, seed):
        return samples if self.augment is None else self.augment(samples, seed)

    def initial_state(self) -> dict[str, float]:
        inner = self.augment.initial_state() if self.augment is not None else {}
        return super().initial_state() | {f"inner_{name}": value for name, value in inner.items()}

    def apply(self, samples, seed, state: dict[str, Any]):
        if self.augment is None:
            return samples
        return self.augment.apply(samples, seed, self._inner_state(state))

    def mix(self, real, fake, seed, state: dict[str, Any]):
        replaced = draw_unit_floats(real, seed, 1)[:, 0] < state["probability"]
        shape = (-1,) + (1,) * (len(real.shape) - 1)
        return tf.where(tf.reshape(replaced, shape), fake, real)

    def observe(self, real_margins, state: dict[str, Any]) -> dict[str, Any]:
        new = super().observe(real_margins, state)
        if self.augment is None:
            return new
        inner = self.augment.observe(real_margins, self._inner_state(state))
        return new | {f"inner_{name}": inner[name] for name in self.augment.initial_state()}

    def measures(self, state: dict[str, Any]) -> dict[str, Any]:
        measures = super().measures(state)
        if self.augment is None:
            return measures
        inner = self.augment.measures(self._inner_state(state))
        return measures | {f"inner_{name}": value for name, value in inner.items()}

    def _inner_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """Returns the state of the inner augmentation, without the prefix of its names."""
        inner = {
            name.removeprefix("inner_"): value
            for name, value in state.items()
            if name.startswith("inner_")
        }
        return inner | {"examples_seen": state["examples_seen"]}

    def check(self, sample_shape: tuple) -> None:
        if self.augment is not None:
            self.augment.check(sample_shape)

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        augment = None if self.augment is None else serialize(self.augment)
        return {"augment": augment, **super().get_config()}
