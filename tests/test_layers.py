"""Our own layers against numpy, and through the runtimes."""

import keras
import numpy as np
import pytest

from keras_gan import UsageError, layers


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_normalization_is_what_keras_computes(groups):
    rng = np.random.default_rng(0)
    x = (3 + 2 * rng.normal(size=(4, 5, 3, 6))).astype("float32")
    ours, theirs = layers.GroupNormalization(groups), keras.layers.GroupNormalization(groups)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.gamma.assign(np.arange(1.0, 7.0))
        layer.beta.assign(np.linspace(-1, 1, 6))
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)


def test_group_normalization_by_hand():
    """Two numbers become -1 and 1 over the root of 1 plus epsilon over their variance."""
    x = np.array([[1.0, 5.0], [0.0, 0.0]], "float32")
    expected = [[-2 / np.sqrt(4.001), 2 / np.sqrt(4.001)], [0.0, 0.0]]
    np.testing.assert_allclose(layers.GroupNormalization()(x), expected, atol=1e-6)


def test_half_precision_does_not_overflow():
    x = np.array([[3e4, -3e4]], "float16")
    y = layers.GroupNormalization(dtype="mixed_float16")(x)
    assert y.dtype == "float16"
    np.testing.assert_allclose(y, [[1.0, -1.0]], atol=1e-3)


def test_round_trip_and_refusal():
    layer = layers.GroupNormalization(3, epsilon=1e-5, name="norm")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    with pytest.raises(UsageError, match=r"4 channels, groups=3"):
        layer.build((None, 8, 8, 4))
