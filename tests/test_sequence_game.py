"""The game of texts: likelihood, border, resuming, controls, architectures, recipes, errors."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import check_kill
from scipy import special

import keras_gan
from keras_gan import UsageError, architectures, datasets, losses, metrics, recipe, schedules
from keras_gan.spec import Field, Spec

TOKENS = ("", "a", "b", "c", "d")
LENGTH = 6


def spec(tokens=TOKENS, classes=0):
    fields = {"samples": Field("text", (LENGTH, len(tokens)), meta={"vocabulary": tokens})}
    if classes:
        fields["labels"] = Field("label", (), meta={"num_classes": classes})
    return Spec(fields=fields)


def networks(family="text_lstm", classes=0, tokens=TOKENS, **options):
    keras.utils.set_random_seed(0)
    module = architectures.module(family)
    sizes = {"width": 8, "embedding": 4} if family == "text_lstm" else {"width": 8, "blocks": 1}
    other = {"representations": 3, "embedding": 2, "kernels": [2, 3], "width": 4, "hidden": 6}
    other = other if family == "text_lstm" else sizes
    data = spec(tokens, classes)
    return (
        module.generator(data, conditional=bool(classes), **sizes),
        module.discriminator(data, conditional=bool(classes), **{**other, **options}),
    )


def game(first_stage=16, classes=0, **arguments):
    arguments = {"loss": "relativistic", "num_classes": classes, **arguments}
    return keras_gan.SequenceGAN(*networks(classes=classes), first_stage=first_stage, **arguments)


def compiled(gan):
    gan.compile(*(keras.optimizers.Adam(1e-2) for _ in range(3)))
    return gan


def texts(count=64, seed=0):
    """Returns one-hot texts that end after 1 to 5 letters."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 5, (count, LENGTH))
    ids[np.arange(LENGTH) >= rng.integers(1, 6, (count, 1))] = 0
    return np.eye(5, dtype="float32")[ids]


def numbers(network):
    return [x.numpy() for x in network.weights]


DATA = tf.data.Dataset.from_tensor_slices(texts()).batch(8)


# ------------------------------------------------------------------ the stages


def test_the_likelihood_by_hand():
    """The mean over the tokens up to the end, each by its softmax; what follows does not count."""
    gan, batch = game(), texts(10)
    ids = batch.argmax(-1)
    logits = np.asarray(gan.text_sampler.token_logits(ids))
    logs = special.log_softmax(logits, axis=-1)
    expected = []
    for row, log in zip(ids, logs, strict=True):
        count = min(LENGTH, int((row > 0).sum()) + 1)
        expected.append(-np.mean([log[t, row[t]] for t in range(count)]))
    found = gan.negative_log_likelihood({"samples": batch})
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    longer = batch.copy()
    longer[:, -1] = np.eye(5)[2]  # behind the end of each text
    longer[ids[:, -2] > 0] = batch[ids[:, -2] > 0]
    np.testing.assert_allclose(
        gan.negative_log_likelihood({"samples": longer}), expected, rtol=1e-5
    )


def test_the_first_stage_learns_and_leaves_the_discriminator():
    gan = compiled(game(10**6))
    before = numbers(gan.discriminator)
    history = gan.fit(DATA.repeat(), steps_per_epoch=40, epochs=3, verbose=0).history
    assert history["nll"][-1] < history["nll"][0] - 0.05
    assert np.isnan(history["d_loss"]).all()
    for a, b in zip(numbers(gan.discriminator), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(gan.pretraining_optimizer.iterations.numpy()) == 120
    assert int(gan.generator_optimizer.iterations.numpy()) == 0


def test_the_border():
    """Batches of 8 to 16 examples: the second step is the last of the first stage."""
    gan = compiled(game(16))
    gan.fit(DATA.take(2), verbose=0)
    border = numbers(gan.average_generator)
    counts = [int(getattr(gan, f"{p}_optimizer").iterations.numpy()) for p in gan.players]
    assert counts == [0, 0, 2]
    history = gan.fit(DATA.skip(2).take(3), verbose=0).history
    counts = [int(getattr(gan, f"{p}_optimizer").iterations.numpy()) for p in gan.players]
    assert counts == [3, 3, 2]
    for a, b in zip(border, numbers(gan.first_generator), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isfinite(history["d_loss"]).all()
    assert not np.array_equal(border[0], numbers(gan.average_generator)[0])


def test_the_inverse_temperature_begins_with_the_second_stage():
    factor = schedules.Exponential(1.0, 16.0, examples=32)
    assert [float(factor.at(tf.constant(n, tf.float32))) for n in (0, 8, 16, 32, 99)] == (
        pytest.approx([1, 2, 4, 16, 16])
    )
    gan = compiled(game(16, inverse_temperature=factor))
    gan.fit(DATA.take(5), verbose=0)  # the last step begins after 16 of the 32 examples
    assert float(gan.text_sampler.inverse_temperature.numpy()) == pytest.approx(4.0)
    for wrong in ({"start": 0.0, "end": 1.0}, {"start": 1.0, "end": -1.0}):
        with pytest.raises(UsageError, match=r"must be .*above 0"):
            schedules.Exponential(**wrong, examples=10)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_killed_in_both_stages_is_resumed_bit_for_bit(tmp_path):
    """Kills at 64 of 160 examples, before the border at 80, and at 128, after it."""
    lines = ["".join(TOKENS[i] for i in row) for row in texts(200).argmax(-1)]
    (tmp_path / "data.txt").write_text("\n".join(lines))
    tree = {
        "data": {"source": str(tmp_path / "data.txt"), "length": LENGTH},
        "networks": {
            "generator": {"architecture": "text_lstm", "width": 8, "embedding": 4},
            "discriminator": {"architecture": "text_lstm", "representations": 2, "width": 4},
        },
        "game": {
            "name": "sequence_gan",
            "first_stage": 0.5,
            "inverse_temperature": {"name": "exponential", "start": 1.0, "end": 4.0},
            "loss": "relativistic",
            "ema_half_life": 50,
        },
        "optimizers": {"pretraining": {"name": "adam", "learning_rate": 0.01}},
        "training": {
            "examples": 160,
            "batch_size": 8,
            "tick_examples": 32,
            "checkpoint_seconds": 0,
        },
        "evaluation": {"count": 6, "others": []},
        "samples": {"count": 4},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(tree))
    run = check_kill(path, tmp_path, kills=(2, 3))
    gan = run.load()
    assert gan.first_stage_examples == 80
    rows = run.rows()
    assert ["d_loss" in row for row in rows] == [False, False, True, True, True]
    assert ["nll" in row for row in rows] == [True, True, True, False, False]
    gan.blend(0)
    np.testing.assert_array_equal(gan.generate(range(4)), gan.first_sampler()(*_latents(gan, 4)))


def _latents(gan, count):
    from keras_gan import latents

    return [latents.latents_from_seeds(np.arange(count), gan.latent_dim)]


@pytest.mark.parametrize("saved", [1, 3])
def test_a_loaded_game_goes_on_bit_for_bit_across_the_border(tmp_path, saved):
    """Saved after one or three of four steps, of which two are in the first stage."""
    factor = schedules.Exponential(1.0, 4.0, examples=32)
    gan = compiled(game(16, classes=2, inverse_temperature=factor))
    batches = tf.data.Dataset.from_tensor_slices((texts(), np.arange(64) % 2)).batch(8)
    gan.fit(batches.take(saved), verbose=0)
    gan.save(tmp_path / "gan.keras")
    again = keras.saving.load_model(tmp_path / "gan.keras")
    options = {"labels": 1, "temperature": 0.5, "prefix": [1, 2]}
    one, other = (x.generate(range(9), **options) for x in (gan, again))
    np.testing.assert_array_equal(one, other)
    for each in (gan, again):
        each.fit(batches.skip(saved).take(4 - saved), verbose=0)
    for a, b in zip(numbers(gan), numbers(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert gan.count("examples_seen") == again.count("examples_seen") == 32


def test_the_first_stage_is_evaluated_beside_the_game():
    gan = compiled(game(16))
    gan.fit(DATA.take(5), verbose=0)
    parts = (("train", 0), ("held_out", 1))
    splits = {
        name: datasets.Split(texts(32, seed).argmax(-1).astype("uint8")) for name, seed in parts
    }
    data = datasets.Source(spec(), splits, "texts")
    names = ["unique_texts", "nll_gen"]
    found = metrics.evaluate(gan, data, count=20, metrics=names, cache=False)
    assert found.protocol["controls"]["first stage"]["weights"] == "first stage"
    gan.blend(0)
    again = metrics.evaluate(gan, data, count=20, metrics=names, cache=False)
    assert found.controls["first stage"] == again.values
    assert found.values["nll_gen"] != again.values["nll_gen"]


# ------------------------------------------------------------------ controls


def test_controls_of_generate():
    gan = game()
    plain = gan.generate(range(20))
    assert plain.shape == (20, LENGTH, 5)
    np.testing.assert_array_equal(plain, gan.sampler(average=True)(*_latents(gan, 20)))
    greedy = gan.generate(range(20), temperature=0).argmax(-1)
    assert (greedy == greedy[0]).all()
    found = gan.generate(range(20), prefix=[3, 1], mask=[1, 1, 0, 0, 1]).argmax(-1)
    assert (found[:, :2] == (3, 1)).all()
    assert {*np.unique(found[:, 2:])} <= {0, 1, 4}
    each = [[1], [2]]
    assert gan.generate([5, 5], prefix=each).argmax(-1)[:, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"temperature": -1}, "`temperature` must be a number from 0.0 to 100.0. Received"),
        ({"prefix": [1] * 7}, "`prefix` must have at most 6 tokens, as many as a text. Received"),
        ({"prefix": [5]}, "`prefix` must have token ids below 5"),
        ({"prefix": [-2]}, "`prefix` must have token ids below 5"),
        ({"prefix": "ab"}, "`prefix` must be a list of token ids"),
        ({"prefix": [0.5]}, "`prefix` must be a list of token ids"),
        ({"mask": [1, 0]}, r"`mask` must be numbers of shape \(5,\)"),
        ({"mask": [0] * 5}, "`mask` must be 0 and 1, with a 1"),
        ({"mask": [2, 1, 1, 1, 1]}, "`mask` must be 0 and 1"),
        ({"labels": 1}, "labels"),
        ({"condition": [[1.0]]}, "The generator takes these fields"),
    ],
)
def test_controls_out_of_range(options, reason):
    with pytest.raises(UsageError, match=reason):
        game().generate([1], **options)


# ------------------------------------------------------------------ architectures


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("family", ["text_lstm", "text_resnet"])
def test_architectures_train_as_plain_games(family, classes):
    generator, discriminator = networks(family, classes)
    gan = keras_gan.GAN(
        generator,
        discriminator,
        loss="wasserstein",
        terms=["gradient_penalty"],
        num_classes=classes,
    )
    gan.compile()
    data = (texts(), np.arange(64) % 3) if classes else texts()
    history = gan.fit(tf.data.Dataset.from_tensor_slices(data).batch(16), verbose=0).history
    assert np.isfinite(history["d_loss"]).all()
    samples = gan.generate(range(5), labels=1 if classes else None)
    assert samples.shape == (5, LENGTH, 5)
    np.testing.assert_allclose(samples.sum(-1), 1.0, atol=1e-5)


def test_the_discriminator_has_a_logit_for_each_representation():
    _, judge = networks()
    soft = tf.constant(
        np.random.default_rng(0).dirichlet(np.ones(5), (4, LENGTH)).astype("float32")
    )
    assert judge(soft).shape == (4, 3)
    # The convolutions see one representation each: the others' embeddings do not matter.
    embeddings = judge.get_layer("embeddings")
    before, kernel = judge(soft).numpy(), embeddings.get_weights()[0]
    kernel[:, 2:4] += 1.0
    embeddings.set_weights([kernel])
    changed = np.abs(judge(soft).numpy() - before).max(0) > 1e-6
    assert changed.tolist() == [False, True, False]
    assert losses.get("relativistic").generator(judge(soft), judge(soft)).shape == (4,)


def test_the_resnet_by_hand():
    """A residual branch counts 0.3."""
    generator, _ = networks("text_resnet")
    x = np.random.default_rng(0).normal(size=(2, LENGTH, 8)).astype("float32")
    inner = np.asarray(generator.get_layer("block_1_conv_1")(np.maximum(x, 0)))
    outer = np.asarray(generator.get_layer("block_1_conv_2")(np.maximum(inner, 0)))
    block = keras.Model(
        generator.get_layer("reshape").output, generator.get_layer("block_1").output
    )
    np.testing.assert_allclose(block(x), x + 0.3 * outer, atol=1e-5)


@pytest.mark.parametrize("family", ["text_lstm", "text_resnet"])
def test_architectures_refuse_other_data(family):
    module = architectures.module(family)
    for data in (Spec("image", (8, 8, 1)), Spec("text", (None, 5)), Spec("text", (5,))):
        for build in (module.generator, module.discriminator):
            with pytest.raises(
                UsageError, match=f"{family!r} is for texts of one length.*Received: "
            ):
                build(data)
    with pytest.raises(UsageError, match=r"`kernels` must be different integers from 1 to the"):
        architectures.module("text_lstm").discriminator(spec(), kernels=[2, 7])


def test_names_that_others_use():
    for name, right in (
        ("relgan", "text_lstm"),
        ("seqgan", "text_lstm"),
        ("textgan", "text_resnet"),
    ):
        with pytest.raises(UsageError, match=f"Did you mean '{right}'"):
            architectures.build(name, spec())


def test_a_generator_without_a_sampler_is_refused():
    with pytest.raises(UsageError, match="needs a generator with a layer TextSampler"):
        keras_gan.SequenceGAN(*networks("text_resnet"), first_stage=0)
    generator, discriminator = networks()
    scaled = keras.layers.Rescaling(1.0, name="after")(generator.output)
    other = keras.Model(generator.input, scaled, name="scaled")
    with pytest.raises(UsageError, match=r"only layer is its TextSampler.* 'scaled' with the") as e:
        keras_gan.SequenceGAN(other, discriminator, first_stage=0)
    assert "\n" not in str(e.value)
    for value in (-1.0, 0, 0.0):
        with pytest.raises(UsageError, match="`inverse_temperature`"):
            game(inverse_temperature=value)
    with pytest.raises(UsageError, match="`first_stage` must be a number of examples above 1"):
        game(0.5)


@pytest.mark.parametrize("name", ["words", "words-resnet", "verses", "oracle"])
def test_recipes_are_valid(name):
    found = recipe.load(name)
    assert found is not None
