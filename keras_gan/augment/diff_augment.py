"""DiffAugment, and the augmentation of consistency regularization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_gan import random_numbers, schedules
from keras_gan.augment import images
from keras_gan.augment.base import Augment, check_images, checked_probability
from keras_gan.augment.random import draw_unit_floats
from keras_gan.errors import UsageError
from keras_gan.registry import nearest
from keras_gan.schedules import Schedule

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops

_OPERATIONS: dict[str, tuple[Callable, ...]] = {
    "color": (images.brightness, images.saturation, images.contrast),
    "translation": (images.translation,),
    "cutout": (images.cutout,),
}


@keras.saving.register_keras_serializable("keras_gan")
class DiffAugment(Augment):
    """Differentiable color changes, translation and cutout, for training on few images.

    Each image gets its own random numbers:

    - color: brightness is shifted by U(-0.5, 0.5), where black is -1 and white 1. Then each
      channel's distance from the pixel's mean is multiplied by U(0, 2) (saturation; without
      effect on a single channel). Then each value's distance from the image's mean is multiplied
      by U(0.5, 1.5) (contrast).
    - translation: by whole pixels, up to 1/8 of the height and width in either direction; filled
      with zeros.
    - cutout: a rectangle of half the height and half the width is set to 0. Its center is
      anywhere in the image; the part beyond the border is cut off.

    Args:
        policy: any of the three names, separated by commas, in the order of application.
        probability: probability that an image is augmented, 0 to 1, or a schedule of it.

    Raises:
        UsageError: the policy has an unknown name, the probability is out of range, or the
            samples are not images.

    Reference:
        - [Zhao et al., 2020](https://arxiv.org/abs/2006.10738), section 3
    """

    also_called = ("diffaug",)

    def __init__(
        self, policy: str = "color,translation,cutout", probability: float | Schedule = 1.0
    ):
        parts = [part.strip() for part in policy.split(",")]
        for part in parts:
            if part not in _OPERATIONS:
                raise UsageError(
                    f"`policy` must consist of {', '.join(_OPERATIONS)}, separated by commas. "
                    f"Received: {part!r}. {nearest(part, _OPERATIONS)}"
                )
        self.policy = ",".join(parts)
        self.probability = checked_probability(probability)

    def __call__(self, samples, seed):
        return self.apply(samples, seed, {"examples_seen": 0.0})

    def apply(self, samples, seed, state: dict[str, Any]):
        operations = [f for part in self.policy.split(",") for f in _OPERATIONS[part]]
        changed = samples
        for i, operation in enumerate(operations):
            # The seed of an operation depends on its position in the policy.
            changed = operation(changed, random_numbers.fold_in(seed, i))
        if self.probability == 1.0:
            return changed
        probability = schedules.now(self.probability, state["examples_seen"])
        numbers = draw_unit_floats(samples, random_numbers.fold_in(seed, len(operations)), 1)[:, 0]
        return ops.where((numbers < probability)[:, None, None, None], changed, samples)

    def measures(self, state: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(self.probability, Schedule):
            return {}
        return {"probability": schedules.now(self.probability, state["examples_seen"])}

    def check(self, sample_shape: tuple) -> None:
        check_images(self, sample_shape)

    def get_config(self) -> dict:
        probability = keras.saving.serialize_keras_object(self.probability)
        return {"policy": self.policy, "probability": probability}


@keras.saving.register_keras_serializable("keras_gan")
class FlipTranslation(Augment):
    """Random horizontal flip, followed by a translation by whole pixels.

    Images are flipped left to right with probability 1/2 and translated by up to 1/8 of the
    height and width in either direction, 4 pixels at 32x32; zeros fill the gap. Consistency terms
    compare an image with this transformation of it. Each image gets its own random numbers.

    Raises:
        UsageError: the samples are not images.

    Reference:
        - [Zhang et al., 2020](https://arxiv.org/abs/1910.12027), section 3
    """

    def __call__(self, samples, seed):
        first, second = (random_numbers.fold_in(seed, i) for i in range(2))
        return images.translation(images.flip(samples, first), second)

    def check(self, sample_shape: tuple) -> None:
        check_images(self, sample_shape)
