"""The game in two stages: its steps, the border, both generators, resuming, export."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import DISCRIMINATOR, GENERATOR, check_kill, judge, pairs, translator, write

import keras_gan
import serving
from keras_gan import (
    Spec,
    UsageError,
    callbacks,
    datasets,
    metrics,
    recipe,
    schedules,
    terms,
    train,
)
from keras_gan.__main__ import main
from keras_gan.spec import Field

GAME = {
    "networks": {
        "generator": GENERATOR,
        "discriminator": {**DISCRIMINATOR, "condition": ["condition"]},
    },
    "game": {
        "name": "two_stage",
        "first_stage": 0.5,
        "loss": "relativistic",
        "terms": [{"name": "reconstruction", "weight": 1.0}],
        "ema_half_life": 50,
    },
}


def game(first_stage=64, norm="l1", **arguments):
    found = [terms.Reconstruction(1.0, norm=norm)]
    networks = translator(), judge(given=1)
    return keras_gan.TwoStage(*networks, first_stage=first_stage, terms=found, **arguments)


def compiled(gan, **arguments):
    gan.compile(*(keras.optimizers.Adam(2e-3, beta_1=0.5) for _ in range(2)), **arguments)
    return gan


def numbers(network):
    return [x.numpy() for x in network.weights]


def is_same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(numbers(one), numbers(other), strict=True))


BATCHES = tf.data.Dataset.from_tensor_slices(pairs(128)).batch(8)

# ------------------------------------------------------------------------ the stages


def test_the_first_stage_is_supervised_learning_by_keras():
    """The same steps as `fit` of the generator with a mean absolute error."""
    gan = compiled(game(10**6, ema_half_life=0))
    before = numbers(gan.discriminator)
    gan.fit(BATCHES, verbose=0)
    alone = translator()
    alone.compile(keras.optimizers.Adam(2e-3, beta_1=0.5), loss="mean_absolute_error")
    alone.fit(BATCHES.map(lambda batch: (batch["condition"], batch["samples"])), verbose=0)
    for a, b in zip(numbers(gan.generator), numbers(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for a, b in zip(numbers(gan.discriminator), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(gan.discriminator_optimizer.iterations.numpy()) == 0


def test_the_second_stage_is_a_gan_with_a_weighted_loss():
    """Steps of `GAN` with the term weighted by 4 are those with the loss weighted by 1/4."""
    rates = [keras.optimizers.SGD(0.04), keras.optimizers.SGD(0.01)]
    two = game(0, adversarial_weight=0.25, ema_half_life=0)
    two.compile(*rates)
    plain = keras_gan.GAN(
        translator(), judge(given=1), terms=[terms.Reconstruction(4.0)], ema_half_life=0
    )
    plain.compile(keras.optimizers.SGD(0.01), keras.optimizers.SGD(0.01))
    for gan in (two, plain):
        gan.fit(BATCHES.take(6), verbose=0)
    for name in ("generator", "discriminator"):
        for a, b in zip(numbers(getattr(two, name)), numbers(getattr(plain, name)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_border(jit_compile):
    """Batches of 8 to 60 examples: the eighth step, from 56 on, is the last of the first stage."""
    gan = compiled(game(60), jit_compile=jit_compile)
    gan.fit(BATCHES.take(7), verbose=0)
    assert gan.count("examples_seen") == 56
    assert is_same(gan.first_generator, gan.average_generator)
    first = numbers(gan.first_generator)
    gan.fit(BATCHES.skip(7).take(1), verbose=0)
    assert int(gan.discriminator_optimizer.iterations.numpy()) == 0
    assert is_same(gan.first_generator, gan.average_generator)
    assert not np.array_equal(first[0], numbers(gan.first_generator)[0])
    border = numbers(gan.first_generator)
    gan.fit(BATCHES.skip(8).take(3), verbose=0)
    assert int(gan.discriminator_optimizer.iterations.numpy()) == 3
    for a, b in zip(border, numbers(gan.first_generator), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not is_same(gan.first_generator, gan.average_generator)


def test_losses_of_the_second_stage_are_no_problem_in_the_first(tmp_path):
    gan = compiled(game(64))
    guard = callbacks.CollapseGuard(pairs(20)["samples"], fields=pairs(20))
    history = gan.fit(BATCHES.repeat(), steps_per_epoch=4, epochs=4, verbose=0, callbacks=[guard])
    assert guard.reason is None
    assert np.isnan(history.history["d_loss"]).tolist() == [True, True, False, False]
    assert np.isfinite(history.history["generator_reconstruction"]).all()
    assert gan.has_values("d_loss")
    gan.generator.weights[0].assign(gan.generator.weights[0] * np.nan)
    guard.on_epoch_end(5, {"d_loss": np.nan})
    assert "d_loss=nan" in guard.problem


def test_the_length_of_the_first_stage():
    assert game(0.25, training_examples=200).first_stage_examples == 50
    assert game(1.0, training_examples=200).first_stage_examples == 200
    assert game(300, training_examples=200).first_stage_examples == 300
    assert game(0).first_stage_examples == 0
    with pytest.raises(UsageError, match=r"`first_stage` must be a number of examples above 1"):
        game(0.5)
    for name in ("first_stage", "adversarial_weight"):
        with pytest.raises(UsageError, match=f"`{name}`"):
            game(**{name: -0.5})
    with pytest.raises(UsageError, match=r"`terms` must have a term .* such as reconstruction"):
        keras_gan.TwoStage(translator(), judge(given=1), first_stage=10)
    weight = schedules.Linear(0.0, 0.1, 100)
    assert game(adversarial_weight=weight).get_config()["adversarial_weight"]["config"]


def test_terms_that_read_the_discriminator_begin_with_the_second_stage():
    """Two of four batches of 8 are in the first stage, where the steps are those without it."""

    def make(*more):
        found = [terms.Reconstruction(1.0), *more]
        gan = keras_gan.TwoStage(translator(), judge(given=1), first_stage=16, terms=found)
        return compiled(gan)

    with_term, without = make(terms.FeatureMatching(1.0)), make()
    for gan in (with_term, without):
        gan.fit(BATCHES.take(2), verbose=0)
    assert is_same(with_term.generator, without.generator)
    assert not with_term.has_values("generator_feature_matching")
    assert with_term.has_values("generator_reconstruction")
    later = [gan.fit(BATCHES.skip(2).take(2), verbose=0).history for gan in (with_term, without)]
    assert not is_same(with_term.generator, without.generator)
    assert with_term.has_values("generator_feature_matching")
    assert later[0]["generator_feature_matching"][0] > 0
    assert "generator_feature_matching" not in later[1]
    # Those that read it in its own step alone are trained in the second stage.
    gan = make(terms.R1())
    gan.fit(BATCHES.take(3), verbose=0)
    assert gan.has_values("r1")
    assert terms.LatentConsistency().networks_read("generator") == ("generator",)


# ------------------------------------------------------------------------ both generators


def test_blend_interpolates_weights(tmp_path):
    gan = compiled(game(16))
    gan.fit(BATCHES, verbose=0)
    first, last = numbers(gan.first_generator), numbers(gan.average_generator)
    gan.save(tmp_path / "gan.keras")
    for share in (0, 0.25, 1):
        again = keras.saving.load_model(tmp_path / "gan.keras")
        again.blend(share)
        for a, b, c in zip(first, last, numbers(again.average_generator), strict=True):
            np.testing.assert_allclose(c, (1 - share) * a + share * b, rtol=1e-6, atol=1e-7)
        condition = pairs(2)["condition"]
        if share == 0:
            expected = gan.first_generator(condition)
            found = again.generate([0, 1], condition=condition)
            np.testing.assert_allclose(found, expected, atol=1e-6)
    for share in (-0.1, 1.5, True):
        with pytest.raises(UsageError, match="`share`"):
            gan.blend(share)
    with pytest.raises(UsageError, match="`ema_half_life` above 0"):
        compiled(game(16, ema_half_life=0)).blend(0.5)


def test_a_generator_with_noise_is_evaluated_with_that_of_the_first_stage():
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((8, 8, 1), name="condition"), keras.Input((64,), name="latents")]
    noise = keras.layers.Reshape((8, 8, 1))(inputs[1])
    x = keras.layers.Conv2D(4, 3, padding="same")(keras.layers.Concatenate()([inputs[0], noise]))
    generator = keras.Model(inputs, keras.layers.Conv2D(1, 3, padding="same")(x))
    gan = compiled(
        keras_gan.TwoStage(
            generator, judge(given=1), first_stage=16, terms=[terms.Reconstruction(1.0)]
        )
    )
    gan.fit(BATCHES.take(4), verbose=0)
    field = Field("image", (8, 8, 1))
    splits = {
        name: datasets.Split(data["samples"], others={"condition": data["condition"]})
        for name, data in (("train", pairs(10)), ("held_out", pairs(10, seed=1)))
    }
    source = datasets.Source(Spec(fields={"samples": field, "condition": field}), splits, "pairs")

    def evaluate(seed):
        given = {"metrics": "l1", "truncation": 0.5, "cache": False}
        return metrics.evaluate(gan, source, seed=seed, **given)

    found = evaluate(seed=5)
    first = found.controls["first stage"]["l1"]
    gan.blend(0)
    expected = evaluate(seed=5).values["l1"]
    assert first == pytest.approx(expected, rel=1e-4)
    assert first != pytest.approx(found.values["l1"], rel=1e-4)
    other = evaluate(seed=50)
    assert other.controls["first stage"]["l1"] != pytest.approx(first, rel=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_killed_in_both_stages_is_resumed_and_exported(tmp_path):
    """Kills at 64 of 160 examples, before the border at 80, and at 128, after it."""
    run = check_kill(write(tmp_path, GAME), tmp_path, kills=(2, 3))
    gan = run.load()
    assert gan.first_stage_examples == 80
    assert not is_same(gan.first_generator, gan.average_generator)
    rows = run.rows()
    assert ["d_loss" in row for row in rows] == [False, False, True, True, True]
    with pytest.raises(UsageError, match=r"except for training\.minutes"):
        train.resume(run.path, ("training.examples=320",))
    condition = pairs(2, 24)["condition"]
    for text, share in (("first", 0.0), ("0.5", 0.5), ("last", 1.0)):
        main(["export", str(run.path), "--to", str(tmp_path / text), "--weights", text])
        manifest = json.loads((tmp_path / text / "manifest.json").read_text())
        assert manifest["training"]["share_of_second_stage"] == share
        expected = run.load()
        expected.blend(share)
        expected = expected.generate([0, 1], condition=condition)
        found = serving.Bundle(tmp_path / text).generate(condition=condition)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_words_of_the_command(tmp_path, capsys):
    for text in ("second", "1.5", "nan"):
        with pytest.raises(SystemExit):
            main(["export", str(tmp_path), "--weights", text])
        assert "--weights must be first, last or a number from 0 to 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path), "--weights", "first", "--live"])
    assert "--weights is for the averaged generator" in capsys.readouterr().err


def test_weights_of_a_run_without_stages(tmp_path, capsys):
    game = {**GAME, "game": {"terms": ["reconstruction"]}}
    run = train.train(recipe.load(str(write(tmp_path, game, examples=32))), tmp_path / "run").run
    with pytest.raises(SystemExit):
        main(["export", str(run.path), "--weights", "0.5"])
    line = capsys.readouterr().err
    rule = "for a training in two stages, with game.name=two_stage or sequence_gan in its recipe."
    assert rule in line
    assert f"Received: --weights 0.5 for {run.path} with game.name=gan" in line


def test_a_recipe_without_a_second_stage(tmp_path):
    """The control: L1 only, whose generator is the first one."""
    path = write(tmp_path, GAME, examples=64)
    loaded = recipe.load(str(path), ["game.first_stage=1.0"])
    gan = train.train(loaded, tmp_path / "run").gan
    assert int(gan.discriminator_optimizer.iterations.numpy()) == 0
    assert is_same(gan.first_generator, gan.average_generator)
    fields = train.open_data(loaded).spec
    assert isinstance(fields, Spec)
    fixed = recipe.load(str(path), ["game.first_stage=20"])
    assert not recipe.depends_on_length(fixed)
    assert recipe.depends_on_length(loaded)


REPLICAS = """
import json, replicas
strategy = replicas.two_devices()
from test_two_stage import game
from keras_gan import UsageError
with strategy.scope():
    gan = game()
    try:
        gan.compile("adam", "adam")
    except UsageError as error:
        print(json.dumps(str(error)))
"""


def test_several_replicas_are_refused():
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS],
        cwd=__file__.rpartition("/")[0],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    line = json.loads(done.stdout.splitlines()[-1])
    assert line == "TwoStage can be trained on one device only. Received: 2 replicas"


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        gan = game(64)
    finally:
        keras.config.set_dtype_policy("float32")
    history = compiled(gan).fit(BATCHES, verbose=0).history
    assert np.isfinite(history["d_loss"]).all()
    assert int(gan.discriminator_optimizer.iterations.numpy()) == 8
