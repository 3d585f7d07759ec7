"""Generative adversarial networks as ordinary Keras models.

Imports are eager: loading a `.keras` file finds every class that one may hold.
"""

from keras_gan._start import silence  # leaves the current folder, so it comes first

# isort: split
from keras_gan._backend import keras_on_tensorflow

with keras_on_tensorflow(), silence():
    import tensorflow as _tensorflow  # noqa: F401

    from keras_gan import sums as _sums

    _sums.keep_order()

from keras_gan import (
    architectures,
    augment,
    callbacks,
    constraints,
    datasets,
    layers,
    losses,
    metrics,
    optimizers,
    rewards,
    schedules,
    terms,
    theory,
)
from keras_gan._version import __version__
from keras_gan.errors import UsageError
from keras_gan.games import GAN, BehaviorCloning, Cycle, Game, Imitation, SequenceGAN, TwoStage
from keras_gan.spec import Field, Spec

__all__ = [
    "GAN",
    "BehaviorCloning",
    "Cycle",
    "Field",
    "Game",
    "Imitation",
    "SequenceGAN",
    "Spec",
    "TwoStage",
    "UsageError",
    "__version__",
    "architectures",
    "augment",
    "callbacks",
    "constraints",
    "datasets",
    "layers",
    "losses",
    "metrics",
    "optimizers",
    "rewards",
    "schedules",
    "terms",
    "theory",
]
