"""Layers of text: Gumbel noise, sampling, teacher forcing, gradients, loops, config."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

from keras_gan import UsageError, layers
from keras_gan.layers.text import gumbel

LENGTH, VOCABULARY = 6, 5


def sampler(scale=3.0, seed=0, **options):
    """Returns a built sampler with random weights."""
    found = layers.TextSampler(LENGTH, VOCABULARY, width=7, embedding=4, **options)
    found.build()
    rng = np.random.default_rng(seed)
    found.set_weights(
        [
            w if not w.ndim else (scale * rng.normal(size=w.shape) / w.shape[0] ** 0.5)
            for w in found.get_weights()
        ]
    )
    return found


def noise(count, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, LENGTH * VOCABULARY)).astype("float32")


def ids_of(samples):
    return np.asarray(samples).argmax(-1)


def test_gumbel_of_normal_numbers_by_hand():
    """-log(-log(u)) with u = 1/2, and at both clips, in float64."""
    found = np.asarray(gumbel(tf.constant([0.0, -10.0, 10.0])))
    expected = [-np.log(np.log(2)), -np.log(-np.log(1e-7)), -np.log(-np.log1p(-1e-7))]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_gumbel_is_exact_in_both_tails():
    x = np.linspace(-5.0, 5.0, 10_001).astype("float32")
    upper = special.ndtr(-x.astype("float64"))
    expected = -np.log(-np.log1p(-upper))
    np.testing.assert_allclose(np.asarray(gumbel(tf.constant(x))), expected, atol=4e-6)


def test_gumbel_of_normal_numbers_has_its_distribution():
    x = np.random.default_rng(0).normal(size=100_000).astype("float32")
    found = np.asarray(gumbel(tf.constant(x)), np.float64)
    assert stats.kstest(found, stats.gumbel_r.cdf).pvalue > 0.05
    assert abs(found.mean() - np.euler_gamma) < 0.01


def test_tokens_have_the_probabilities_of_the_softmax():
    layer = sampler(ends=False)
    first = ids_of(layer(noise(20_000)))[:, 0]
    logits = np.asarray(layer.token_logits(np.zeros((1, LENGTH))))[0, 0]
    shares = np.bincount(first, minlength=VOCABULARY) / len(first)
    np.testing.assert_allclose(shares, special.softmax(logits), atol=0.01)


def test_teacher_forcing_is_the_step_by_hand():
    layer, ids = sampler(), np.array([[1, 2, 0, 4, 3, 1], [4, 4, 4, 1, 0, 0]])
    found = np.asarray(layer.token_logits(ids))
    table, kernel, recurrent, bias, out, out_bias = layer.get_weights()[:6]
    hidden, cell = np.zeros((2, 7)), np.zeros((2, 7))
    for t in range(LENGTH):
        previous = np.full(2, VOCABULARY) if t == 0 else ids[:, t - 1]
        gates = table[previous] @ kernel + bias + hidden @ recurrent
        write, keep, new, read = np.split(gates, 4, axis=1)
        cell = special.expit(keep + 1) * cell + special.expit(write) * np.tanh(new)
        hidden = special.expit(read) * np.tanh(cell)
        np.testing.assert_allclose(found[:, t], hidden @ out + out_bias, atol=1e-5)


@pytest.mark.parametrize("ends", [True, False])
def test_samples_are_the_argmax_of_scores_under_teacher_forcing(ends):
    layer, z = sampler(ends=ends), noise(30)
    samples = np.asarray(layer(z))
    ids = ids_of(samples)
    np.testing.assert_array_equal(samples, np.eye(VOCABULARY)[ids])
    scores = np.asarray(layer.token_logits(ids)) + np.asarray(gumbel(z)).reshape(
        -1, LENGTH, VOCABULARY
    )
    ended = np.cumsum(ids == 0, axis=1) - (ids == 0) > 0 if ends else np.zeros(ids.shape, bool)
    np.testing.assert_array_equal(ids[~ended], scores.argmax(-1)[~ended])
    assert (ids[ended] == 0).all()
    assert ended.any() == ends


def test_temperature_prefix_and_mask():
    layer, z = sampler(ends=False), noise(20)
    ones = np.ones(20, "float32")
    np.testing.assert_array_equal(layer(z, temperature=ones), layer(z))
    greedy = ids_of(layer(z, temperature=0 * ones))
    assert (greedy == greedy[0]).all()
    np.testing.assert_array_equal(ids_of(layer.token_logits(greedy[:1]))[0], greedy[0])
    prefix = np.full((20, LENGTH), -1)
    prefix[:, :2], prefix[3, 4] = (3, 1), 2
    found = ids_of(layer(z, prefix=prefix))
    assert (found[:, :2] == (3, 1)).all()
    assert found[3, 4] == 2
    whole = np.broadcast_to(np.arange(LENGTH) % VOCABULARY, (20, LENGTH))
    np.testing.assert_array_equal(ids_of(layer(z, prefix=whole)), whole)
    allowed = np.broadcast_to(np.array([0, 1, 0, 1, 0], "float32"), (20, VOCABULARY))
    assert set(np.unique(ids_of(layer(z, allowed=allowed)))) == {1, 3}


@pytest.mark.parametrize("num_classes", [0, 3])
def test_the_loop_equals_the_steps_written_out(num_classes):
    labels = np.arange(10) % 3
    given = (noise(10), labels) if num_classes else (noise(10),)
    one, other = (sampler(num_classes=num_classes, unroll=unroll) for unroll in (True, False))
    for training in (False, True):
        np.testing.assert_allclose(
            one(*given, training=training), other(*given, training=training), atol=1e-6
        )
    ids = ids_of(one(*given))
    a, b = (np.asarray(x.token_logits(ids, *given[1:])) for x in (one, other))
    np.testing.assert_allclose(a, b, atol=1e-6)
    if num_classes:
        assert not np.allclose(a, np.asarray(one.token_logits(ids, (labels + 1) % 3)), atol=1e-3)


def test_samples_in_training_are_soft_and_have_a_gradient():
    layer, z = sampler(), noise(8)
    hard = np.asarray(layer(z))
    layer.inverse_temperature.assign(1e4)
    np.testing.assert_allclose(layer(z, training=True), hard, atol=1e-3)
    layer.inverse_temperature.assign(1.0)
    with tf.GradientTape() as tape:
        soft = layer(z, training=True)
        loss = tf.reduce_sum(tf.square(soft))
    np.testing.assert_allclose(np.sum(soft, -1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(ids_of(soft), ids_of(hard))
    gradients = tape.gradient(loss, layer.trainable_weights)
    assert all(float(np.abs(g).max()) > 0 for g in gradients)
    assert all(isinstance(g, tf.Tensor) for g in gradients)  # none is sparse


def test_straight_through_samples_are_hard_with_the_soft_gradient():
    z, target = noise(8), np.random.default_rng(0).normal(size=(8, LENGTH, VOCABULARY))
    found = []
    for relaxation in ("soft", "straight_through"):
        layer = sampler(relaxation=relaxation)
        with tf.GradientTape() as tape:
            samples = layer(z, training=True)
            loss = tf.reduce_sum(samples * target.astype("float32"))
        found.append([np.asarray(g) for g in tape.gradient(loss, layer.trainable_weights)])
    np.testing.assert_allclose(samples, layer(z), atol=1e-6)
    for soft, straight in zip(*found, strict=True):
        np.testing.assert_allclose(straight, soft, rtol=1e-4, atol=1e-6)
    with pytest.raises(UsageError, match="`relaxation` must be one of soft, straight_through"):
        layers.TextSampler(4, 3, relaxation="hard")


def test_the_gradient_of_the_likelihood_against_finite_differences():
    layer = sampler(scale=1.0)
    ids = np.array([[1, 2, 3, 4, 0, 0], [2, 2, 1, 3, 4, 1]])

    def loss():
        logits = layer.token_logits(ids, training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(ids, logits)
        return tf.reduce_mean(losses)

    with tf.GradientTape() as tape:
        value = loss()
    for weight, gradient in zip(
        layer.trainable_weights, tape.gradient(value, layer.trainable_weights), strict=True
    ):
        direction = np.random.default_rng(2).normal(size=weight.shape)
        direction /= np.linalg.norm(direction)
        before, ends = weight.numpy(), []
        for step in (1e-2, -1e-2):
            weight.assign(before + step * direction)
            ends.append(float(loss()))
        weight.assign(before)
        slope = float(np.sum(np.asarray(gradient) * direction))
        assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(slope, abs=2e-4)


def test_the_step_model_makes_the_samples():
    layer, z = sampler(num_classes=2), noise(12)
    labels = np.arange(12, dtype="int32") % 2
    model = layers.step_model(layer)
    assert [x.name for x in model.inputs][-1] == "labels"
    expected = ids_of(layer(z, labels))
    states = [np.zeros((12, 7), "float32")] * 2
    previous, running = np.full(12, -1, "int32"), np.ones(12, bool)
    fixed = np.ones(12, "float32"), np.ones((12, VOCABULARY), "float32"), labels
    logits = np.asarray(layer.token_logits(expected, labels))
    for t in range(LENGTH):
        row = z.reshape(12, LENGTH, VOCABULARY)[:, t]
        found = model([previous, *states, row, *fixed])
        states = [np.asarray(found[f"next_{name}"]) for name in ("hidden", "cell")]
        previous = np.asarray(found["token"])
        np.testing.assert_array_equal(previous[running], expected[running, t])
        wanted = special.log_softmax(logits[:, t], axis=-1)[np.arange(12), previous]
        np.testing.assert_allclose(
            np.asarray(found["log_probability"])[running], wanted[running], atol=1e-5
        )
        running &= previous != 0


def test_config_controls_and_arguments():
    layer = sampler(num_classes=3, ends=False, name="samples")
    again = layers.TextSampler.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert layer.dtype_policy.name == "float32"
    latents = keras.Input((LENGTH * VOCABULARY,), name="latents")
    model = keras.Model(latents, sampler(name="samples")(latents), name="generator")
    found = layers.with_controls(model)
    assert [x.name for x in found.inputs] == ["latents", "temperature", "prefix", "mask"]
    assert layers.find_sampler(found) is layers.find_sampler(model)
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    assert layers.with_controls(other) is other
    for x, y in ((2 * latents, 1.0), (latents, 2.0)):  # a layer before or after the sampler
        other = keras.Model(latents, y * sampler(name="samples")(x))
        assert layers.with_controls(other) is other
    for name in ("length", "vocabulary", "width", "embedding"):
        sizes = {"length": 4, "vocabulary": 3, name: 0}
        with pytest.raises(UsageError, match=f"`{name}` must be .* Received: {name}=0"):
            layers.TextSampler(**sizes)
