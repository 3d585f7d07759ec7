"""The numbers are those of TensorFlow's own functions, on which every seed depends."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from keras_gan import random_numbers
from keras_gan.games import _noise

# TensorFlow's type stubs lack it.
random: Any = tf.random
stateless_fold_in = random.experimental.stateless_fold_in

DRAWS = {
    "fold_in": (
        lambda seed, x: random_numbers.fold_in(seed, x),
        lambda seed, x: stateless_fold_in(seed, x, alg="philox"),
    ),
    "fold_in of an integer": (
        lambda seed, x: random_numbers.fold_in(seed, 7),
        lambda seed, x: stateless_fold_in(seed, 7, alg="philox"),
    ),
    "normal": (
        lambda seed, x: random_numbers.normal((3, 5), seed),
        lambda seed, x: tf.random.stateless_normal((3, 5), seed, alg="philox"),
    ),
    "uniform": (
        lambda seed, x: random_numbers.uniform((2, 9), seed, "float64"),
        lambda seed, x: tf.random.stateless_uniform((2, 9), seed, dtype="float64", alg="philox"),
    ),
    "integers": (
        lambda seed, x: random_numbers.integers((11,), seed, 2**24),
        lambda seed, x: tf.random.stateless_uniform(
            (11,), seed, 0, 2**24, dtype=tf.int32, alg="philox"
        ),
    ),
}


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
@pytest.mark.parametrize("name", DRAWS)
def test_the_numbers_equal_those_of_tensorflow(name, how):
    draw, expected = DRAWS[name]
    if how != "eager":  # XLA draws other floats from a seed, in either way
        draw, expected = (tf.function(f, jit_compile=how == "xla") for f in (draw, expected))
    rng = np.random.default_rng(0)
    for dtype in (np.int64, np.int32):
        limits = np.iinfo(dtype)
        for _ in range(3):
            seed = tf.constant(rng.integers(limits.min, limits.max, 2, dtype, endpoint=True))
            x = tf.constant(rng.integers(limits.max, dtype=np.int64))
            found = draw(seed, x)
            assert found.dtype == expected(seed, x).dtype
            np.testing.assert_array_equal(found, expected(seed, x))


def test_shapes_are_known_as_far_as_they_are_given():
    @tf.function(input_signature=[tf.TensorSpec([None, 2])])
    def drawn(x):
        shape = (tf.shape(x)[0], 7)
        assert random_numbers.normal(shape, (1, 2)).shape.as_list() == [None, 7]
        assert random_numbers.fold_in((1, 2), 3).shape.as_list() == [2]
        assert random_numbers.uniform((), (1, 2)).shape.as_list() == []
        return random_numbers.integers(shape, (1, 2), 3)

    assert drawn(tf.zeros([4, 2])).shape == (4, 7)


def test_a_seed_takes_a_third_of_the_operations():
    counts = []
    for fold in (
        random_numbers.fold_in,
        lambda *given: stateless_fold_in(*given, alg="philox"),
    ):
        with tf.Graph().as_default() as graph:
            fold(tf.constant([1, 2]), tf.constant(3))
            counts.append(len(graph.get_operations()))
    assert counts[0] < counts[1] / 2.5


def test_the_seed_of_a_game_is_folded_part_by_part():
    """Large seeds as well, in a graph that was built after another one."""
    for seed, purpose, number in ((5, "mix", 5), (2**40 + 3, "noise", 0)):
        expected = tf.constant([seed & 0x7FFFFFFF, seed >> 31], tf.int64)
        for part in (number, 0, 12, 3):
            part = tf.constant(part, tf.int64)
            expected = stateless_fold_in(expected, part, alg="philox")
        for _ in range(2):
            found = tf.function(lambda s=seed, p=purpose: _noise.seed_of(s, p, tf.constant(12), 3))
            np.testing.assert_array_equal(found(), expected)
