"""Augmentations of the discriminator's inputs, one class each, found by name.

An augmentation maps samples and a seed to samples of the same shape. It is applied to real and to
generated samples. It is differentiable: the generator is trained through it, and gradient penalties
are taken with respect to the samples before it. Augmentation keeps a discriminator from memorizing
a small data set, because it sees no sample twice. The generator does not learn the augmentations,
because its samples are judged only after they have been augmented.
"""

from __future__ import annotations

from keras_gan.augment.adaptive import Adaptive, Apa
from keras_gan.augment.base import Augment, get, names
from keras_gan.augment.diff_augment import DiffAugment, FlipTranslation
from keras_gan.augment.images import brightness, contrast, cutout, flip, saturation, translation
from keras_gan.augment.pipeline import Pipeline
from keras_gan.augment.resampling import resample

__all__ = [
    "Adaptive",
    "Apa",
    "Augment",
    "DiffAugment",
    "FlipTranslation",
    "Pipeline",
    "brightness",
    "contrast",
    "cutout",
    "flip",
    "get",
    "names",
    "resample",
    "saturation",
    "translation",
]
