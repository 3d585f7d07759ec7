"""Parts of imitation: the step of PPO, and environments that end their episodes themselves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gan import Imitation, Spec, architectures, layers, schedules
from keras_gan.control.spaces import spaces_of
from keras_gan.games import _ppo

gymnasium = pytest.importorskip("gymnasium")

POLE = spaces_of("CartPole-v1")
SMALL = {"environments": 4, "minibatches": 4, "discriminator_steps": 2, "epochs": 2}


def imitation(spaces=POLE, **options):
    keras.utils.set_random_seed(0)
    spec = Spec(fields=spaces.fields)
    names = ("policy", "value", "discriminator")
    found = {name: architectures.build_network(name, "policy", spec, widths=[8]) for name in names}
    given = SMALL | {"evaluation_episodes": 2, "ema_half_life": 0, "expert_return": 1.0} | options
    game = Imitation(**found, environment=spaces.environment, **given)
    game.compile()
    return game


# ------------------------------------------------------------------------ PPO


def rows_of(log_probs, advantages):
    observations, actions = tf.zeros((4, 4)), tf.one_hot([0, 1, 0, 1], 2)
    given = (tf.constant(each, tf.float32) for each in (log_probs, advantages))
    return _ppo.Targets(observations, actions, *given, tf.zeros(4))


def test_the_weight_of_the_entropy_may_be_a_schedule():
    game = imitation(entropy=schedules.Linear(0.0, 1.0, 1000))
    game.examples_seen.assign(250)
    _ppo.update(game, rows_of([0.0] * 4, [0.0] * 4), 4)  # the objective is 0
    found = game.get_metrics_result()
    assert float(found["entropy"]) > 0.6
    assert float(found["policy_loss"]) == pytest.approx(-float(found["entropy"]) / 4, rel=1e-5)


def test_a_change_of_a_probability_beyond_floats_trains_with_finite_numbers():
    game = imitation()
    rows = rows_of([-500.0, -500, 500, 500], [1.0, -1, 1, -1])
    _ppo.update(game, rows, 4)
    for weight in (*game.policy.weights, *game.value.weights):
        assert np.isfinite(weight.numpy()).all(), weight.path


def test_a_standard_deviation_outside_of_its_range_comes_back():
    layer = layers.LogStd(initial=1.0)
    layer.build((None, 2))
    layer.values.assign([1.0, -0.1])
    with tf.GradientTape() as tape:
        found = layer(tf.zeros((1, 2)))
        total = tf.reduce_sum(found * [3.0, 5.0])
    np.testing.assert_array_equal(found, np.float32([[0.0, -0.1]]))
    np.testing.assert_array_equal(tape.gradient(total, layer.values.value), [3, 5])
