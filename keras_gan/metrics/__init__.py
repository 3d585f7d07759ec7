"""Measures of the generated samples against the real ones, and of the discriminator."""

from keras_gan.metrics.balanced_accuracy import balanced_accuracy
from keras_gan.metrics.diversity import Diversity
from keras_gan.metrics.sliced_wasserstein import sliced_wasserstein

__all__ = ["Diversity", "balanced_accuracy", "sliced_wasserstein"]
