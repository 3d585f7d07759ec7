"""Measures of how far the generated samples are from the real ones."""

from keras_gan.metrics.sliced_wasserstein import sliced_wasserstein

__all__ = ["sliced_wasserstein"]
