"""Constraints on the critic's weights: after a step, in mixed precision, saved and loaded."""

from typing import Any

import keras
import numpy as np
import pytest

import keras_gan
from keras_gan import UsageError, constraints, recipe, train


def critic_game(constraint, discriminator_steps=1, policy="float32"):
    """G(z) = 1 against a linear critic of two weights and a bias."""
    keras.config.set_dtype_policy(policy)
    try:
        dense = keras.layers.Dense
        generator = keras.Sequential([keras.Input((2,)), dense(2, kernel_initializer="zeros")])
        critic = keras.Sequential([keras.Input((2,)), dense(1, kernel_initializer="zeros")])
    finally:
        keras.config.set_dtype_policy("float32")
    generator.layers[-1].bias.assign([1.0, 1.0])
    gan = keras_gan.GAN(
        generator,
        critic,
        loss="wasserstein",
        constraint=constraint,
        discriminator_steps=discriminator_steps,
    )
    critic_optimizer: Any = keras.optimizers.SGD(0.1)
    if policy == "mixed_float16":  # the first scale by default is one that overflows
        critic_optimizer = keras.optimizers.LossScaleOptimizer(critic_optimizer, initial_scale=8.0)
    gan.compile(keras.optimizers.SGD(0.0), critic_optimizer)
    return gan


REALS = np.array([[4.0, 0.5], [6.0, 0.5]], "float32")


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_weights_are_clipped_after_every_step_of_the_critic(policy):
    """The critic's weights move by 0.1 (mean real - 1): 0.4 and -0.05, clipped at 0.1."""
    gan = critic_game({"name": "weight_clipping", "limit": 0.1}, policy=policy)
    gan.fit(REALS, batch_size=2, verbose=0)
    kernel, bias = gan.discriminator.get_weights()
    assert kernel.dtype == "float32"  # at full precision whatever the policy
    assert kernel[:, 0] == pytest.approx([0.1, -0.05], abs=1e-6)
    assert bias == pytest.approx([0.0], abs=1e-6)
    np.testing.assert_array_equal(gan.generator.get_weights()[1], [1.0, 1.0])  # not clipped


def test_each_of_several_steps_is_clipped():
    """On reals 4, then -6: from the clipped 0.1 down by 0.7 to the other limit."""
    gan = critic_game(constraints.WeightClipping(0.1), discriminator_steps=2)
    gan.fit(np.array([[4.0, 1.0], [0.5, 1.0]], "float32"), batch_size=2, verbose=0, shuffle=False)
    kernel = gan.discriminator.get_weights()[0]
    assert kernel[:, 0] == pytest.approx([0.1 - 0.05, 0.0], abs=1e-6)


def test_a_saved_game_keeps_its_constraint(tmp_path):
    gan = critic_game(constraints.WeightClipping(0.2))
    gan.save(tmp_path / "game.keras")
    again = keras.saving.load_model(tmp_path / "game.keras")
    assert type(again.constraint) is constraints.WeightClipping
    assert again.constraint.get_config() == {"limit": 0.2}
    again.fit(REALS, batch_size=2, verbose=0)
    assert again.discriminator.get_weights()[0][:, 0] == pytest.approx([0.2, -0.05], abs=1e-6)
    assert critic_game(None).get_config()["constraint"] is None


@pytest.mark.parametrize("name", constraints.names())
def test_names_and_round_trip(name):
    found = constraints.get(name)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(found))
    assert type(again) is type(found)
    assert again.get_config() == found.get_config()
    assert constraints.names()[name].endswith(".")
    assert constraints.get(found) is found
    assert constraints.get(None) is None


def test_errors():
    with pytest.raises(UsageError, match=r"above 0. Received: limit=0"):
        constraints.WeightClipping(0)
    with pytest.raises(UsageError, match=r"No constraint .* 'clipping'. Did you mean 'weight_cl"):
        constraints.get("clipping")
    with pytest.raises(UsageError, match=r"`most` is not an option.*most=1. Valid: limit"):
        constraints.get({"name": "weight_clipping", "most": 1})


def test_a_recipe_names_a_constraint():
    settings = ["game.constraint={name: weight_clipping, limit: 0.03}", "game.loss=wasserstein"]
    resolved = recipe.load("gaussians-8", settings)
    assert recipe.parse(resolved.model_dump()) == resolved
    gan = train.build(resolved, keras_gan.Spec("points", (2,)))
    assert gan.constraint.limit == 0.03
    assert recipe.load("gaussians-8").game.constraint is None
    for setting, message in (
        ("game.constraint=clip", "game.constraint must name a constraint. Received: 'clip'"),
        ("game.constraint={name: weight_clipping, limit: 0}", "game.constraint: `limit` .*limit=0"),
    ):
        with pytest.raises(UsageError, match=message):
            recipe.load("gaussians-8", [setting])
