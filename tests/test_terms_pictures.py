"""Terms of translated pictures against values worked out by hand and finite differences."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import judge, pairs, translator

import keras_gan
from keras_gan import UsageError, callbacks, networks, random_numbers, terms

RNG = np.random.default_rng(5)
SEED = (5, 6)


def context_of(generator, condition, real, seed=SEED):
    """The context of the generator's step, as a game makes it; to be made inside the tape."""
    network = networks.Network("generator", generator, ("condition",), "samples")
    fields = {"condition": condition, "samples": real}
    outputs = network(fields, training=True)
    return terms.StepContext(
        player="generator",
        networks={"generator": network},
        forward=None,
        generate=lambda latents: outputs["samples"],
        latents=tf.zeros((len(real), 0)),
        real=real,
        fake=outputs["samples"],
        seed=tf.constant(seed, tf.int64),
        fields=fields,
        outputs=outputs,
    )


# ------------------------------------------------------------------------ reconstruction


@pytest.mark.parametrize(
    ("norm", "values"),
    [
        ("l1", [(0.5 + 1.5) / 2, (0.0 + 0.25) / 2]),
        ("l2", [(0.25 + 2.25) / 2, 0.0625 / 2]),
        ("charbonnier", [(0.34**0.5 + 2.34**0.5) / 2, (0.3 + 0.1525**0.5) / 2]),
    ],
)
def test_reconstruction_is_the_mean_distance_of_each_sample(norm, values):
    fake = tf.reshape([0.5, -0.5, 0.25, 0.75], (2, 1, 2, 1))
    real = tf.reshape([0.0, 1.0, 0.25, 0.5], (2, 1, 2, 1))
    context = terms.StepContext("generator", {}, None, None, None, real, fake, None)
    term = terms.Reconstruction(norm=norm, epsilon=0.3)
    np.testing.assert_allclose(term.values(context), values, rtol=1e-6)
    assert term.weight == 100.0
    config = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(term))
    assert config.get_config() == term.get_config()


def test_reconstruction_refuses_what_it_cannot_compare():
    with pytest.raises(UsageError, match=r"`norm` must be one of l1, l2, charb.*norm='l3'"):
        terms.Reconstruction(norm="l3")
    with pytest.raises(UsageError, match=r"`epsilon`.*epsilon=0"):
        terms.Reconstruction(epsilon=0)
    latents = keras.Input((4,), name="latents")
    x = keras.layers.Reshape((8, 8, 1))(keras.layers.Dense(64)(latents))
    with pytest.raises(UsageError, match=r"needs a generator with a condition.*of latents"):
        keras_gan.GAN(keras.Model(latents, x), judge(), terms=["reconstruction"])


# ------------------------------------------------------------------------ contrastive patches


def unit(vectors):
    return vectors / np.sqrt((vectors**2).sum(axis=-1, keepdims=True) + 1e-6)


def contrast(queries, keys, temperature):
    """The loss of each picture, for features (batch, places, channels), in numpy."""
    queries, keys = unit(queries), unit(keys)
    losses = []
    for q, k in zip(queries, keys, strict=True):
        similar = np.exp(q @ k.T / temperature)
        losses.append(np.mean([-np.log(similar[s, s] / similar[s].sum()) for s in range(len(q))]))
    return np.array(losses)


def features_of(generator, pictures):
    found = generator(pictures)
    return [np.asarray(x).reshape(len(pictures), -1, x.shape[-1]) for x in found["features"]]


@pytest.mark.parametrize("identity", [0.0, 0.5])
@pytest.mark.parametrize("layers", [None, [1]])
def test_contrastive_patches_of_all_places(identity, layers):
    """With as many patches as places, their order does not count."""
    generator = translator(features=True)
    condition, real = (tf.constant(RNG.normal(size=(3, 8, 8, 1)), tf.float32) for _ in range(2))
    term = terms.ContrastivePatches(layers=layers, patches=64, temperature=0.3, identity=identity)
    values = term.values(context_of(generator, condition, real))
    expected = np.zeros(3)
    for pictures, factor in ((condition, 1.0), (real, identity)):
        keys = features_of(generator, pictures)
        queries = features_of(generator, generator(pictures)["samples"])
        for i in layers or (0, 1):
            expected += factor * contrast(queries[i], keys[i], 0.3) / len(layers or (0, 1))
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    assert terms.get({"name": "contrastive_patches", "patches": 64}).identity == 1.0


def test_contrastive_patches_of_some_places():
    """The places are those of the smallest of uniform numbers, the same for input and output."""
    generator = translator(features=True)
    condition = tf.constant(RNG.normal(size=(2, 8, 8, 1)), tf.float32)
    term = terms.ContrastivePatches(layers=[1], patches=10, temperature=0.5, identity=0)
    values = term.values(context_of(generator, condition, condition))
    seed = random_numbers.fold_in(tf.constant(SEED, tf.int64), tf.constant(1, tf.int64))
    places = np.argsort(random_numbers.uniform((64,), seed).numpy())[:10]
    keys = features_of(generator, condition)[1][:, places]
    queries = features_of(generator, generator(condition)["samples"])[1][:, places]
    np.testing.assert_allclose(values, contrast(queries, keys, 0.5), rtol=1e-4)
    other = term.values(context_of(generator, condition, condition, seed=(5, 7)))
    assert not np.allclose(values, other)


def test_gradients_of_contrastive_patches_treat_keys_as_constants():
    """By differences with the keys of the unmoved generator."""
    keras.config.set_dtype_policy("float64")
    try:
        generator = translator(features=True, dtype="float64")
    finally:
        keras.config.set_dtype_policy("float32")
    condition = tf.constant(RNG.normal(size=(2, 8, 8, 1)))
    term = terms.ContrastivePatches(patches=12, temperature=0.4, identity=0)
    keys = [tf.identity(x) for x in generator(condition)["features"]]
    variables = generator.trainable_variables
    directions = [RNG.normal(size=v.shape) for v in variables]

    def value():
        context = context_of(generator, condition, condition)
        constant = {**context.outputs, "features": keys}
        return float(tf.reduce_mean(term.values(dataclasses.replace(context, outputs=constant))))

    with tf.GradientTape() as tape:
        result = tf.reduce_mean(term.values(context_of(generator, condition, condition)))
    gradients = tape.gradient(result, variables)
    slope = sum(float(tf.reduce_sum(g * d)) for g, d in zip(gradients, directions, strict=True))
    step, found = 1e-6, []
    for sign in (1, -2):  # forward, and back over the start
        for v, d in zip(variables, directions, strict=True):
            v.assign_add(sign * step * d)
        found.append(value())
    assert slope == pytest.approx((found[0] - found[1]) / (2 * step), rel=1e-5)


def test_contrastive_patches_refuse_what_they_cannot_compare():
    def game(term, **arguments):
        generator = translator(**{"features": True, **arguments})
        return keras_gan.GAN(generator, judge(arguments.get("channels", 1)), terms=[term])

    with pytest.raises(UsageError, match=r"reads the output 'features' of the generator"):
        game("contrastive_patches", features=False)
    with pytest.raises(UsageError, match=r"`layers` must number.* 2 features.*layers=\[0, 2\]"):
        game(terms.ContrastivePatches(layers=[0, 2]))
    with pytest.raises(UsageError, match=r"`identity` must be 0.*identity=1, samples of shape"):
        game("contrastive_patches", channels=3)
    game(terms.ContrastivePatches(identity=0), channels=3)
    with pytest.raises(UsageError, match=r"`source` must be the picture.*source='sketch'"):
        game(terms.ContrastivePatches(source="sketch"))
    for bad in ({"patches": 1}, {"temperature": 0}, {"identity": -1}, {"layers": [-1]}):
        (name,) = bad
        with pytest.raises(UsageError, match=name):
            terms.ContrastivePatches(**bad)


# ------------------------------------------------------------------------ in a game


def compiled(game, **arguments):
    rates = [keras.optimizers.Adam(5e-3, beta_1=0.5) for _ in game.players]
    game.compile(*rates, **arguments)
    return game


def test_pix2pix_learns_the_negatives(tmp_path):
    data, new = pairs(), pairs(seed=1)
    gan = compiled(keras_gan.GAN(translator(), judge(given=1), terms=["reconstruction"]))
    gan.ema_half_life = 0
    history = gan.fit(data, batch_size=8, epochs=30, verbose=0).history
    before, after = (history["generator_reconstruction"][i] for i in (0, -1))
    assert after < before / 4
    found = gan.generate(range(32), condition=new["condition"])
    assert np.abs(found - new["samples"]).mean() < np.abs(new["samples"]).mean() / 3
    # The seeds do not count, and one condition has one answer.
    same = gan.generate(range(7, 39), condition=new["condition"])
    np.testing.assert_array_equal(found, same)
    gan.save(tmp_path / "gan.keras")
    again = keras.saving.load_model(tmp_path / "gan.keras")
    np.testing.assert_array_equal(again.generate(range(32), condition=new["condition"]), found)
    measured = gan.evaluate(new, batch_size=8, verbose=0, return_dict=True)
    assert set(measured) >= {"d_loss", "g_loss", "real_accuracy", "fake_accuracy"}


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_cut_trains_and_generates(jit_compile):
    generator = translator(features=True)
    term = terms.ContrastivePatches(patches=16)
    gan = compiled(keras_gan.GAN(generator, judge(), terms=[term]), jit_compile=jit_compile)
    history = gan.fit(pairs(), batch_size=8, epochs=6, verbose=0).history
    losses = history["generator_contrastive_patches"]
    assert losses[-1] < losses[0]
    assert gan.generate([0], condition=pairs()["condition"][:1]).shape == (1, 8, 8, 1)


def test_mixed_precision_of_a_translator():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        gan = keras_gan.GAN(translator(), judge(given=1), terms=["reconstruction"])
    finally:
        keras.config.set_dtype_policy("float32")
    history = compiled(gan).fit(pairs(), batch_size=8, epochs=6, verbose=0).history
    losses = history["generator_reconstruction"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


# ------------------------------------------------------------------------ the guard


def logs_of(gan, held_out, step_logs=(), **arguments):
    """Diversity and problem of a guard at the end of an epoch."""
    guard = callbacks.CollapseGuard(
        held_out["samples"], fields={"condition": held_out["condition"]}, every_steps=1,
        **arguments,
    )  # fmt: skip
    gan.fit(pairs(), batch_size=8, epochs=1, verbose=0)
    guard.set_model(gan)
    guard.on_train_begin()
    logs = dict(step_logs)
    gan.iteration.assign_add(1)
    guard.on_epoch_end(0, logs)
    return guard, logs


def test_the_guard_compares_different_conditions_only():
    """A translator that returns its input is as diverse as the data, however often one recurs."""
    held_out = pairs(20)
    picture = keras.Input((8, 8, 1), name="condition")
    scale = keras.layers.Conv2D(1, 1, use_bias=False)
    generator = keras.Model(picture, scale(picture))
    scale.kernel.assign(-tf.ones((1, 1, 1, 1)))
    gan = keras_gan.GAN(generator, judge(given=1), ema_half_life=0)
    gan.compile(*(keras.optimizers.SGD(1e-9) for _ in range(2)))
    _, logs = logs_of(gan, held_out)
    assert logs["diversity"] == pytest.approx(1.0, abs=1e-3)
    # Other pictures with the same condition are no reproach to a translator.
    repeated = {
        "condition": held_out["condition"].repeat(3, axis=0),
        "samples": pairs(60)["samples"],
    }
    repeated["samples"][::3] = held_out["samples"]
    _, logs = logs_of(gan, repeated)
    assert logs["diversity"] == pytest.approx(1.0, abs=1e-3)
    few = {name: values[:8].repeat(8, axis=0) for name, values in held_out.items()}
    _, logs = logs_of(gan, few)
    assert "diversity" not in logs


def test_a_supervised_generator_learns_from_a_discriminator_that_wins():
    won = {"real_accuracy": 1.0, "fake_accuracy": 1.0, "d_loss": 0.001}
    for found, expected in (([], True), (["reconstruction"], False)):
        gan = compiled(keras_gan.GAN(translator(), judge(given=1), terms=found))
        guard, _ = logs_of(gan, pairs(20), won, winning=1)
        assert bool(guard.problem and "wins outright" in guard.problem) == expected
