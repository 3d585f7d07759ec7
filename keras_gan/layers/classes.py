"""Reductions over the logits of classes."""

from __future__ import annotations

from typing import Any

import keras

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class LogSumExp(keras.layers.Layer):
    """Layer that returns log(sum exp) over the last axis, in float32 under every policy.

    Of the logits of K classes, beside a class K + 1 whose logit is 0, it is the logit of the
    probability that an example is of any of the K classes (Salimans et al., 2016, section 5).

    Args:
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, classes)`. Output shape: `(batch, 1)`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, inputs):
        # The largest logit is taken out of the sum, so that no exponential overflows.
        return ops.logsumexp(inputs, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 1)
