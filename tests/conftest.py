"""Small real players and data, shared by the tests."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gan
from keras_gan import data_record, recipe
from keras_gan import run as runs

pytest_plugins = ["gpu_device"]  # the option --device


@pytest.fixture(scope="session")
def clothes(tmp_path_factory):
    """A bundle of pictures in three classes, to be read and copied, never changed."""
    import bundles  # export is for the tests that need it

    return bundles.write(tmp_path_factory.mktemp("clothes") / "bundle")


@pytest.fixture
def image_spec():
    return keras_gan.Spec("image", (8, 12, 1), (-1.0, 1.0), num_classes=3)


@pytest.fixture
def make_gan(image_spec):
    """Builds a small convolutional game; keyword arguments go to `GAN`."""

    def make(compiled=True, **arguments):
        keras.utils.set_random_seed(5)
        conditional = bool(arguments.get("num_classes"))
        players = keras_gan.architectures.build(
            "dcgan",
            image_spec,
            conditional,
            generator={"latent_dim": 4, "widths": [8, 4, 4]},
            discriminator={"widths": [8, 4, 4]},
        )
        gan = keras_gan.GAN(*players, **arguments)
        if compiled:
            gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
        return gan

    return make


@pytest.fixture
def run(tmp_path):
    """A new run folder of the quickstart recipe, on 40 points."""
    points = np.random.default_rng(0).normal(size=(40, 2))
    data = data_record.describe_data(keras_gan.datasets.from_arrays(points.astype("float32")))
    return runs.Run.create(tmp_path / "run", recipe.load("quickstart"), data)


@pytest.fixture
def images():
    """32 smooth images with labels, as a data set of batches of 8 in a fixed order."""
    rng = np.random.default_rng(0)
    x = np.tanh(rng.normal(size=(32, 8, 12, 1))).astype("float32")
    y = rng.integers(0, 3, 32).astype("int32")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8, drop_remainder=True)
