"""Codes in the latents, for generators that find factors by themselves (InfoGAN)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_gan.arguments import check_integer, is_integer
from keras_gan.errors import UsageError
from serving.kinds.codes import FROM_SEED

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops

INPUT = "codes"  # name of the optional input of an exported generator
_BOUND = (FROM_SEED - 1) / 2  # codes below it are those of the seed


@keras.saving.register_keras_serializable("keras_gan")
class LatentCodes(keras.layers.Layer):
    """Layer that turns the first latents into categorical and continuous codes.

    The latents stay standard normal, so that seeds and their numbers do not change. A categorical
    code of K categories is the one-hot argmax of the next K latents, and all categories are
    equally likely. A continuous code is erf(z / sqrt(2)) of the next latent z, which is uniform
    in [-1, 1]. The remaining latents are passed on as they are.

    The layer takes latents, or `[latents, codes]`, where `codes` has one number for each code:
    first the category of each categorical code, then the continuous ones. Where it is -2, the
    latents determine the code.

    Args:
        categorical: number of categories of each categorical code, each at least 2.
        continuous: number of continuous codes, from 0 up.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, latent_dim)`, or this and `(batch, codes)`. Output shape:
    `(batch, latent_dim)`.

    Raises:
        UsageError: no codes, a number out of range, or fewer latents than the codes need.

    Reference:
        - [Chen et al., 2016](https://arxiv.org/abs/1606.03657)
    """

    def __init__(self, categorical: Sequence[int] = (), continuous: int = 0, **kwargs: Any):
        # float32 under every policy: rounded latents could tie, and change the category.
        super().__init__(**{"dtype": "float32", **kwargs})
        is_list = isinstance(categorical, list | tuple)
        if not is_list or not all(is_integer(count, 2) for count in categorical):
            raise UsageError(
                "`categorical` must be a list of integers of at least 2, the categories of each "
                f"code. Received: categorical={categorical!r}"
            )
        check_integer("continuous", continuous, 0)
        if not categorical and not continuous:
            raise UsageError(
                "There must be a categorical or a continuous code. "
                f"Received: categorical={categorical!r}, continuous={continuous}"
            )
        self.categorical = tuple(int(count) for count in categorical)
        self.continuous = int(continuous)

    @property
    def count(self) -> int:
        """Number of codes."""
        return len(self.categorical) + self.continuous

    @property
    def width(self) -> int:
        """Number of latents that become codes."""
        return sum(self.categorical) + self.continuous

    def check_latents(self, latent_dim: int) -> None:
        """Checks that there are enough latents.

        Raises:
            UsageError: fewer than the codes need.
        """
        if latent_dim < self.width:
            raise UsageError(
                "`latent_dim` must be at least the number of latents that become codes, "
                f"{self.width}. Received: latent_dim={latent_dim}"
            )

    def build(self, input_shape: Any) -> None:
        both = isinstance(input_shape[0], list | tuple)
        self.check_latents((input_shape[0] if both else input_shape)[-1])
        self.built = True

    def codes(self, latents: Any) -> Any:
        """Returns the codes of latents, `(batch, count)`: categories, then continuous codes."""
        parts, start = [], 0
        for count in self.categorical:
            # Not Keras's argmax, whose handling of -0 exceeds the range of float16.
            category = tf.argmax(latents[:, start : start + count], axis=-1)
            parts.append(ops.expand_dims(ops.cast(category, "float32"), 1))
            start += count
        if self.continuous:
            z = ops.cast(latents[:, start : start + self.continuous], "float32")
            parts.append(ops.erf(z / math.sqrt(2.0)))
        return ops.concatenate(parts, axis=1)

    def encoded(self, codes: Any) -> Any:
        """Returns codes with categories as one-hot vectors, `(batch, width)`."""
        parts = [
            ops.cast(ops.equal(codes[:, i : i + 1], ops.arange(count, dtype="float32")), "float32")
            for i, count in enumerate(self.categorical)
        ]
        return ops.concatenate([*parts, codes[:, len(self.categorical) :]], axis=1)

    def call(self, inputs):
        latents, given = inputs if isinstance(inputs, list | tuple) else (inputs, None)
        codes = self.codes(latents)
        if given is not None:
            codes = ops.where(given < _BOUND, codes, given)
        rest = ops.cast(latents[:, self.width :], "float32")
        return ops.concatenate([self.encoded(codes), rest], axis=1)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        both = isinstance(input_shape[0], list | tuple)
        return tuple(input_shape[0] if both else input_shape)

    def get_config(self) -> dict[str, Any]:
        config = {"categorical": list(self.categorical), "continuous": self.continuous}
        return {**super().get_config(), **config}


def find_codes(model: keras.Model) -> LatentCodes | None:
    """Returns the layer that makes the codes of a generator; `None` if it has no codes."""
    every: Iterable[Any] = model._flatten_layers()
    return next((layer for layer in every if isinstance(layer, LatentCodes)), None)


def with_codes_input(model: keras.Model) -> keras.Model:
    """Returns a generator that also takes codes, with the same weights.

    The input `codes` holds one number for each code, see `LatentCodes`; -2 leaves a code to the
    latents.

    Args:
        model: a Functional generator whose latents go into a layer `LatentCodes`; any other model
            is returned as it is.
    """
    layer = next((each for each in model.layers if isinstance(each, LatentCodes)), None)
    if layer is None or not isinstance(layer.input, keras.KerasTensor):
        return model
    others = [tensor for tensor in model.inputs if tensor is not layer.input]
    if len(others) == len(model.inputs):  # the latents are computed by other layers
        return model
    rest = keras.Model([layer.output, *others], model.output)
    latents, *own = [
        keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=tensor.name)
        for tensor in (layer.input, *others)
    ]
    codes = keras.Input((layer.count,), name=INPUT)
    # `call` applies the layers themselves, where `rest(...)` would be one layer of its own.
    outputs = rest.call([layer([latents, codes]), *own])
    return keras.Model([latents, *own, codes], outputs, name=model.name)
