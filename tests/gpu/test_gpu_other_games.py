"""Games of other data than pictures: texts, and an expert's episodes in an environment."""

import functools

import gpu_games as games
import keras
import numpy as np
import pytest
import tensorflow as tf
import test_imitation
import test_sequence_game

from keras_gan import BehaviorCloning, Imitation, UsageError
from keras_gan import precision as precisions

# Relative differences of a loss after one step. Which actions an environment gets depends on the
# last bits of a policy, so that of a discriminator differs more.
CLOSE = {"float32": 0.01, "mixed_float16": 0.05, "mixed_bfloat16": 0.1}


def sequence_gan(precision, jit_compile):
    """Trains a step of each stage; returns the game and its metrics."""
    game = test_sequence_game.game(first_stage=16)
    game.compile(*(games.optimizer(precision) for _ in range(3)), jit_compile=jit_compile)
    data = test_sequence_game.texts(32)
    return game, game.fit(data, batch_size=16, shuffle=False, verbose=0).history


def imitation(precision, jit_compile):
    """Trains two rounds; returns the game and its metrics."""
    keras.utils.set_random_seed(0)
    pole = test_imitation.POLE
    found = test_imitation.networks(pole, "policy", "value", "discriminator")
    game = Imitation(**found, environment=pole.environment, ema_half_life=0, **test_imitation.SMALL)
    game.compile(*(games.optimizer(precision) for _ in game.players), jit_compile=jit_compile)
    return game, game.fit(test_imitation.batches(), steps_per_epoch=2, verbose=0).history


def behavior_cloning(precision, jit_compile):
    """Trains two steps on the expert's pairs; returns the game and its metrics."""
    keras.utils.set_random_seed(0)
    found = test_imitation.networks(test_imitation.POLE, "policy")
    game = BehaviorCloning(**found, environment="CartPole-v1", ema_half_life=0)
    game.compile(games.optimizer(precision), jit_compile=jit_compile)
    return game, game.fit(test_imitation.batches(), steps_per_epoch=2, verbose=0).history


# Each game, and a metric that every device and precision has alike.
OTHERS = {
    "sequence_gan": (sequence_gan, "nll"),
    "imitation": (imitation, "d_loss"),
    "behavior_cloning": (behavior_cloning, "cloning_loss"),
}


@functools.cache
def reference(name):
    """Returns the metric of a game in float32 on the CPU; once in a process."""
    train, metric = OTHERS[name]
    with tf.device("CPU:0"):
        return train("float32", False)[1][metric][0]


def test_every_game_has_a_case():
    assert OTHERS.keys() == games.OF_OTHER_DATA


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("precision", games.PRECISIONS)
@pytest.mark.parametrize("name", OTHERS, ids="game-{}".format)
def test_a_game_trains_as_on_the_cpu_in_float32(name, precision, jit_compile, device):
    train, metric = OTHERS[name]
    with tf.device(device), precisions.layers(precision):
        if jit_compile and name == "imitation":  # its environments are in Python
            with pytest.raises(UsageError, match="jit_compile=True"):
                train(precision, jit_compile)
            return
        game, logs = train(precision, jit_compile)
        games.assert_placed(game, device)
    assert game.count("iteration") == 2
    for network in game.networks:
        assert np.isfinite(games.weights(game, network)).all()
    np.testing.assert_allclose(logs[metric][0], reference(name), rtol=CLOSE[precision])
