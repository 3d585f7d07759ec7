"""Games of other data than pictures, which train on the device as on the CPU."""

import gpu_games as games
import numpy as np
import pytest
import tensorflow as tf
import test_imitation
import test_sequence_game

from keras_gan import BehaviorCloning


def sequences():
    """Trains a step of each stage, and returns the game and its metrics."""
    game = test_sequence_game.compiled(test_sequence_game.game(first_stage=16))
    data = test_sequence_game.texts(32)
    return game, game.fit(data, batch_size=16, shuffle=False, verbose=0).history


def imitations():
    """Trains two rounds; which actions are drawn may depend on the device from the second on."""
    game = test_imitation.imitation()
    batches = test_imitation.batches()
    return game, game.fit(batches, steps_per_epoch=2, verbose=0).history


def clones():
    """Trains four steps on the expert's pairs."""
    found = test_imitation.networks(test_imitation.POLE, "policy")
    game = BehaviorCloning(**found, environment="CartPole-v1", ema_half_life=0)
    game.compile()
    batches = test_imitation.batches()
    return game, game.fit(batches, steps_per_epoch=4, verbose=0).history


OTHERS = {"sequence_gan": sequences, "imitation": imitations, "behavior_cloning": clones}


def test_every_game_has_a_case():
    assert OTHERS.keys() == games.OF_OTHER_DATA


@pytest.mark.parametrize("name", OTHERS)
def test_a_game_trains_on_the_device(name, device):
    with tf.device(device):
        game, logs = OTHERS[name]()
        games.assert_placed(game, device)
    assert game.count("iteration") > 0
    for network in game.networks:
        assert np.isfinite(games.weights(game, network)).all()
    with tf.device("CPU:0"):
        _, wanted = OTHERS[name]()
    assert logs.keys() == wanted.keys()
    for key in ("nll", "cloning_loss", "loss"):  # what the first steps of both have in common
        if key in logs:
            np.testing.assert_allclose(logs[key], wanted[key], rtol=0.05)
