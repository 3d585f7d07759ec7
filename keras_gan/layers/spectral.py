"""Spectral normalization of a layer's kernel."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.layers.dtypes import at_least_float32

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops

# Axis of the output channels in each kind of kernel.
_OUTPUT_AXIS = {
    keras.layers.Dense: -1,
    keras.layers.Embedding: -1,
    keras.layers.Conv1D: -1,
    keras.layers.Conv2D: -1,
    keras.layers.Conv3D: -1,
    keras.layers.Conv1DTranspose: -2,
    keras.layers.Conv2DTranspose: -2,
    keras.layers.Conv3DTranspose: -2,
}


@keras.saving.register_keras_serializable("keras_gan")
class SpectralNormalization(keras.layers.Wrapper):
    """Wrapper that applies a layer with the kernel W / sigma(W), whose spectral norm is 1.

    sigma(W) is estimated as u W v. The vector u is the power iteration's current estimate of the
    first left singular vector, v = u W / |u W|. The gradient flows through sigma with u and v
    held constant. The stored, trained kernel is W.

    A call changes no state: training, inference and an exported model compute with the same
    weights, however often a training step calls the discriminator. `update_power_iteration`
    advances u. `GAN` calls it once at the start of each network's update; a custom training loop
    calls it once in each step. Keras's layer of the same name divides the stored kernel in each
    training call, and not in inference.

    Args:
        layer: a Dense, Conv1D, Conv2D, Conv3D, Conv1DTranspose, Conv2DTranspose, Conv3DTranspose
            or Embedding layer.
        iterations: power iterations in each update, at least 1.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`; the default
            dtype policy is the layer's.

    Input and output shapes: those of the layer.

    Raises:
        UsageError: the layer is of another kind, or `iterations` is out of range.

    Reference:
        - [Miyato et al., 2018](https://arxiv.org/abs/1802.05957), algorithm 1
    """

    def __init__(self, layer: Any, iterations: int = 1, **kwargs: Any):
        axes = [axis for kind, axis in _OUTPUT_AXIS.items() if isinstance(layer, kind)]
        if not axes:
            raise UsageError(
                "`layer` must have one kernel and be one of "
                f"{', '.join(kind.__name__ for kind in _OUTPUT_AXIS)}. "
                f"Received: layer={type(layer).__name__}"
            )
        check_integer("iterations", iterations)
        kwargs.setdefault("dtype", layer.dtype_policy)
        # Without autocasting, the power iteration sees the kernel at full precision. The wrapped
        # layer casts its own inputs and weights.
        super().__init__(layer, autocast=False, **kwargs)
        self.iterations = int(iterations)
        self._output_axis = axes[0]

    def build(self, input_shape=None):
        super().build(input_shape)
        self.u = self.add_weight(
            name="u",
            shape=(self._kernel.shape[self._output_axis],),
            initializer="random_normal",
            trainable=False,
            dtype=at_least_float32(self.variable_dtype),
        )

    def update_power_iteration(self) -> None:
        """Updates u by `iterations` power iterations on the current kernel."""
        matrix, u = self._matrix(), _normalize(self.u.value)
        for _ in range(self.iterations):
            v = _normalize(ops.matmul(u, matrix))
            # A kernel of zeros has no singular direction: u stays as it is.
            u = ops.where(ops.any(v != 0), _normalize(ops.matmul(matrix, v)), u)
        self.u.assign(u)

    def sigma(self):
        """Returns the estimate of the kernel's largest singular value.

        Returns:
            Scalar of at least float32.
        """
        # u is not of unit length when it is new, or when it is a moving average.
        u = _normalize(self.u.value)
        projected = ops.matmul(u, self._matrix())
        v = ops.stop_gradient(_normalize(projected))
        return ops.sum(projected * v)

    def call(self, inputs):
        kernel, sigma = self._kernel, self.sigma()
        # A kernel of zeros is used as it is, so that it can still be trained.
        sigma = ops.where(sigma > 0, sigma, ops.ones_like(sigma))
        normalized = ops.cast(ops.convert_to_tensor(kernel), sigma.dtype) / sigma
        # Keras's stateless scope replaces the values of the layer's weights. It must hold all of
        # them, because it hides a scope that may surround it.
        values = [(v, v.value) for v in self.layer.variables if v is not kernel]
        values.append((kernel, ops.cast(normalized, kernel.dtype)))
        with keras.StatelessScope(values, initialize_variables=False):
            return self.layer(inputs)

    @property
    def _kernel(self) -> Any:
        layer: Any = self.layer
        return layer.embeddings if isinstance(layer, keras.layers.Embedding) else layer.kernel

    def _matrix(self):
        """Returns the kernel as a matrix with one row for each output channel."""
        dtype = at_least_float32(self.variable_dtype)
        kernel = ops.cast(ops.convert_to_tensor(self._kernel), dtype)
        rows = ops.moveaxis(kernel, self._output_axis, 0)
        return ops.reshape(rows, (rows.shape[0], -1))

    def compute_output_shape(self, input_shape):
        layer: Any = self.layer
        return layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "iterations": self.iterations}


def _normalize(vector):
    """Scales a vector to unit length; a vector of zeros stays zero."""
    square = ops.sum(ops.square(vector))
    return vector * ops.rsqrt(ops.where(square > 0, square, ops.ones_like(square)))
