"""Generative adversarial networks as ordinary Keras models."""

from keras_gan._version import __version__
from keras_gan.errors import UsageError
from keras_gan.spec import Spec

__all__ = ["Spec", "UsageError", "__version__"]
