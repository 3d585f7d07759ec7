"""Parts of imitation: the step of PPO, and environments that end their episodes themselves."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gan import (
    Imitation,
    Spec,
    UsageError,
    architectures,
    building,
    layers,
    recipe,
    schedules,
)
from keras_gan.control.spaces import spaces_of
from keras_gan.control.vector import State, Vector
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


def test_data_of_another_environment_is_refused():
    for data, wanted in (("CartPole-v0", "CartPole-v1"), ("Acrobot-v1", "CartPole-v1")):
        found = recipe.load("cartpole-imitation")
        with pytest.raises(UsageError, match="of the game's environment") as error:
            building.build(found, Spec(fields=spaces_of(data).fields))
        assert str(error.value) == (
            f"The trajectories must be of the game's environment {wanted}. Received: data of {data}"
        )


# ------------------------------------------------------------------------ environments


class Cut(gymnasium.Env):
    """Counts its steps, truncates itself after the third one, and ends at the action 1."""

    observation_space = gymnasium.spaces.Box(0, 10, (1,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return np.float32([0]), {}

    def step(self, action):
        self.count += 1
        return np.float32([self.count]), 2.0, bool(action), self.count == 3, {}


@pytest.fixture
def cut():
    gymnasium.register("Cut-v0", Cut, max_episode_steps=5)
    yield spaces_of("Cut-v0")
    gymnasium.registry.pop("Cut-v0")
    spaces_of.cache_clear()


def steps_of(vector, actions):
    """Returns what follows, what is seen, terminated and truncated of steps of one copy."""
    found = [vector.step(vector.spaces.encode([action])) for action in actions]
    names = ("following", "observation", "terminated", "truncated")
    return [[int(getattr(step, name).reshape(())) for step in found] for name in names]


@pytest.mark.parametrize("restart", [True, False])
def test_an_environment_may_truncate_its_episodes_itself(cut, restart):
    vector = Vector(cut, 1, seed=0, restart=restart)
    following, seen, terminated, truncated = steps_of(vector, [0] * 7)
    assert following == [1, 2, 3, 1, 2, 3, 1]  # the value of the cut episode is that of its end
    assert seen == [1, 2, 0, 1, 2, 0, 1]
    assert (terminated, truncated) == ([0] * 7, [0, 0, 1, 0, 0, 1, 0])
    state = vector.state
    assert (state.finished[0], state.returns[0], state.resets[0]) == (2, 6.0, 3)
    assert (state.since[0], state.clock[0], state.progress[0]) == (1, 1, 2.0)
    other = Vector(cut, 1, seed=0, restart=restart)
    other.restore(State(*(array.copy() for array in state.arrays())))
    assert steps_of(other, [0] * 4) == steps_of(vector, [0] * 4)


def test_a_truncation_by_the_environment_ends_an_episode_that_was_restarted(cut):
    vector = Vector(cut, 1, seed=0)
    # The end at the second step is hidden, and the horizon of 5 comes with the third one after it.
    following, seen, terminated, truncated = steps_of(vector, [0, 1, 0, 0, 0, 0])
    assert (following, seen) == ([1, 0, 1, 2, 3, 1], [1, 0, 1, 2, 0, 1])
    assert (terminated, truncated) == ([0] * 6, [0, 0, 0, 0, 1, 0])
    assert (vector.state.finished[0], vector.state.returns[0]) == (2, 6.0)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_observations_are_normalized_in_float32_under_every_policy(policy):
    """Halves would round 4096.5 to 4096, and the mean to one of both."""
    layer = layers.ObservationNormalization(dtype=policy)
    given = np.float32([[4096.5, 0.0], [4097.5, 2.0]])
    layer.build(given.shape)
    layer.update_statistics(given)
    found = layer(given)
    assert found.dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(np.float32(found), [[-1, -1], [1, 1]], atol=0.01)
