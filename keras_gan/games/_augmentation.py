"""The augmentation of a game, with its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_gan import augment as augments
from keras_gan.games import _states

_ANY_SIZE = 64  # stands for a height and width that are not known before the first batch


class _Identity(augments.Augment):
    """No augmentation."""

    def __call__(self, samples, seed):
        return samples


class _Function(augments.Augment):
    """An augmentation that is a plain callable."""

    def __init__(self, function: Callable):
        self.function = function

    def __call__(self, samples, seed):
        return self.function(samples, seed)


class Augmentation:
    """An augmentation of a game with the variables of its state.

    Args:
        augment: an augmentation, a callable, or None.
        sample_shape: shape of a sample.
        examples_seen: the variable that counts examples.

    Raises:
        UsageError: samples that it cannot augment.
    """

    def __init__(self, augment: Any, sample_shape: tuple, examples_seen: Any):
        if augment is None:
            augment = _Identity()
        elif not isinstance(augment, augments.Augment):
            augment = _Function(augment)
        # Networks may leave the height and width open that each batch has.
        augment.check(tuple(_ANY_SIZE if n is None else n for n in sample_shape))
        self.augment: augments.Augment = augment
        self.examples_seen = examples_seen
        self.variables: dict[str, Any] = {}
        start = augment.initial_state() | {"examples_seen": 0.0}
        self.metric_names = [f"augment_{name}" for name in augment.measures(start)]

    def state(self) -> dict[str, Any]:
        """Returns the present state and the number of examples seen."""
        seen = tf.cast(self.examples_seen.value, "float32")
        return _states.values(self.variables) | {"examples_seen": seen}

    def __call__(self, samples, seed):
        if None in samples.shape[1:]:
            self.augment.check(tuple(samples.shape[1:]))
        return self.augment.apply(samples, seed, self.state())

    def mix(self, real, fake, seed):
        """Returns the samples that the discriminator is shown as real."""
        return self.augment.mix(real, fake, seed, self.state())

    def observe(self, real_margins) -> dict[str, Any]:
        """Updates the state by the discriminator's margins on real samples; returns metrics."""
        state = self.state()
        new = self.augment.observe(real_margins, state)
        _states.assign(self.variables, new)
        measured = self.augment.measures(state | new)
        return {f"augment_{name}": value for name, value in measured.items()}
