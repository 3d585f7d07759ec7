"""The game: one step worked out by hand, averages, noise, saving, and errors."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tensorflow.python.eager import context

import keras_gan
from keras_gan import UsageError


def constant_generator(value, width=1):
    """G(z) = value for all latents: only its bias learns."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(width, kernel_initializer="zeros")])
    model.layers[-1].bias.assign([value] * width)
    return model


def linear_discriminator(weight, width=1):
    model = keras.Sequential([keras.Input((width,)), layers.Dense(1, use_bias=False)])
    model.layers[-1].kernel.assign([[weight]] * width)
    return model


def sgd_gan(generator, discriminator, g_rate=0.1, **arguments):
    gan = keras_gan.GAN(generator, discriminator, **arguments)
    gan.compile(keras.optimizers.SGD(g_rate), keras.optimizers.SGD(0.1))
    return gan


def numbers(gan):
    """The constant that G returns and the weight of D."""
    return float(gan.generator.layers[-1].bias[0]), float(gan.discriminator.layers[-1].kernel[0, 0])


def weights(*models):
    return [w.copy() for model in models for w in model.get_weights()]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


# ------------------------------------------------------------------------ one step worked out


def test_one_step_of_the_non_saturating_game():
    """D learns first, from D(x) = w x on real samples 2 and generated b; then G from the new D."""
    w, b, x, rate = 0.5, -1.0, 2.0, 0.1
    gan = sgd_gan(constant_generator(b), linear_discriminator(w), loss="non_saturating")
    logs = gan.fit(np.full((4, 1), x, "float32"), batch_size=4, verbose=0).history

    def sigmoid(t):
        return 1 / (1 + np.exp(-t))

    new_w = w - rate * (-x * sigmoid(-w * x) + b * sigmoid(w * b))
    new_b = b - rate * (-new_w * sigmoid(-new_w * b))
    assert numbers(gan) == pytest.approx((new_b, new_w), abs=1e-6)
    assert logs["d_loss"] == pytest.approx([np.logaddexp(0, -w * x) + np.logaddexp(0, w * b)])
    assert logs["g_loss"] == pytest.approx([np.logaddexp(0, -new_w * b)])
    assert logs["real_logits"] == pytest.approx([w * x])
    assert logs["fake_logits"] == pytest.approx([w * b])
    assert (logs["real_accuracy"], logs["fake_accuracy"]) == ([1.0], [1.0])


def test_every_discriminator_step_sees_its_own_real_samples():
    """A Wasserstein critic D(x) = w x moves by rate * (mean real - b) at each of its steps."""
    gan = sgd_gan(
        constant_generator(1.0),
        linear_discriminator(0.0),
        loss="wasserstein",
        discriminator_steps=2,
    )
    x = np.array([[1.0], [2.0], [5.0], [10.0]], "float32")
    gan.fit(tf.data.Dataset.from_tensors(x), verbose=0)
    w = 0.1 * (1.5 - 1.0) + 0.1 * (7.5 - 1.0)
    assert numbers(gan) == pytest.approx((1.0 + 0.1 * w, w), abs=1e-6)
    assert int(gan.iteration) == 1
    assert int(gan.examples_seen) == 4
    assert int(gan.discriminator_optimizer.iterations) == 2
    assert int(gan.generator_optimizer.iterations) == 1


def test_a_term_is_added_to_the_discriminators_loss_only():
    """R1 of D(x) = w x is w^2 / 2, so that gamma = 3 adds 3 w to the slope of w."""
    gan = sgd_gan(
        constant_generator(1.0),
        linear_discriminator(2.0),
        loss="wasserstein",
        terms=[keras_gan.terms.R1(3.0)],
    )
    logs = gan.fit(np.ones((4, 1), "float32"), batch_size=4, verbose=0).history
    w = 2.0 - 0.1 * (3 * 2.0)
    assert numbers(gan) == pytest.approx((1.0 + 0.1 * w, w), abs=1e-6)
    assert logs["r1"] == pytest.approx([2.0])
    assert logs["d_loss"] == pytest.approx([0.0])


def test_a_lazy_term_is_computed_every_interval_and_then_weighs_more():
    gan = sgd_gan(
        constant_generator(1.0),
        linear_discriminator(2.0),
        g_rate=0.0,
        loss="wasserstein",
        terms=[keras_gan.terms.R1(0.5, interval=4)],
    )
    w = 2.0
    for step in range(8):
        # Real samples equal the generated ones, so that only the term has a slope.
        logs = gan.fit(np.ones((4, 1), "float32"), batch_size=4, verbose=0).history
        if step % 4 == 0:
            assert logs["r1"] == pytest.approx([w**2 / 2], rel=1e-5)
            w -= 0.1 * 0.5 * 4 * w
        assert numbers(gan)[1] == pytest.approx(w, rel=1e-5)


# ------------------------------------------------------------------------ packs, top-k


def packed_gan(pac=2, width=1, **arguments):
    """G(z) = 1 and a discriminator of packs, linear with weights 0.1, 0.2, ... in their order."""
    judge = keras.Sequential([keras.Input((pac * width,)), layers.Dense(1, use_bias=False)])
    judge.layers[-1].kernel.assign(np.arange(1, pac * width + 1)[:, None] / 10)
    return sgd_gan(constant_generator(1.0, width), judge, pac=pac, **arguments)


def test_packs_hold_the_channels_of_neighboring_samples_in_order():
    gan = packed_gan(pac=2, width=3)
    samples = tf.reshape(tf.range(12.0), (4, 3))
    packed = gan.packing.pack(samples)
    np.testing.assert_array_equal(packed, [range(6), range(6, 12)])
    np.testing.assert_array_equal(gan.packing.unpack(packed), samples)
    gan.packing = gan.packing.of((1, 2, 2))
    images = tf.reshape(tf.range(16.0), (4, 1, 2, 2))
    packed = gan.packing.pack(images)
    # At each pixel the channels of the first, then those of the second.
    np.testing.assert_array_equal(packed[0], [[[0, 1, 4, 5], [2, 3, 6, 7]]])
    np.testing.assert_array_equal(packed[1], [[[8, 9, 12, 13], [10, 11, 14, 15]]])
    np.testing.assert_array_equal(gan.packing.unpack(packed), images)


def test_one_step_with_packs_of_two():
    """Packs (1, 2), (5, 10) against (1, 1): w moves by rate * (mean real - generated pack)."""
    gan = packed_gan(loss="wasserstein")
    x = np.array([[1.0], [2.0], [5.0], [10.0]], "float32")
    logs = gan.fit(tf.data.Dataset.from_tensors(x), verbose=0).history
    w = np.array([0.1 + 0.1 * (3 - 1), 0.2 + 0.1 * (6 - 1)])
    kernel = gan.discriminator.layers[-1].kernel.numpy()[:, 0]
    assert kernel == pytest.approx(w, abs=1e-6)
    # Both samples of a pack are the same constant.
    assert float(gan.generator.layers[-1].bias[0]) == pytest.approx(1 + 0.1 * w.sum(), abs=1e-6)
    assert logs["real_logits"] == pytest.approx([(0.1 * 1 + 0.2 * 2 + 0.1 * 5 + 0.2 * 10) / 2])
    assert int(gan.examples_seen) == 4
    assert gan.generate(range(3)).shape == (3, 1)


def test_each_sample_of_a_pack_is_augmented_separately():
    """An augmentation that adds 0, 1, 2, 3 to the samples of a batch sees four, not two."""

    def count_up(samples, seed):
        return samples + tf.range(4.0)[:, None]

    gan = packed_gan(loss="wasserstein", augment=count_up)
    logs = gan.fit(np.zeros((4, 1), "float32"), batch_size=4, verbose=0).history
    assert logs["real_logits"] == pytest.approx([(0.2 * 1 + 0.1 * 2 + 0.2 * 3) / 2])


def test_evaluation_uses_whole_packs():
    """5 samples make 2 packs; a last batch too small for one is repeated."""
    gan = packed_gan(loss="wasserstein")
    for batch, mean in (([1.0, 2.0, 3.0, 4.0, 9.0], 0.8), ([2.0], 0.6)):
        x = np.array(batch, "float32")[:, None]
        logs = gan.evaluate(x, batch_size=8, verbose=0, return_dict=True)
        assert logs["real_logits"] == pytest.approx(mean, abs=1e-6)
        assert np.isfinite(logs["d_loss"])


@pytest.mark.parametrize(
    ("share", "mean"),
    [(1.0, 2.5), (0.5, 1.5), (0.6, 2.0), (0.01, 1.0), (0.25, 1.0), (0.26, 1.5)],
)
def test_the_generator_learns_from_the_samples_that_look_most_real(share, mean):
    """Losses 4, 1, 3, 2 of logits in the opposite order: of 4, ceil(share * 4) count."""
    gan = sgd_gan(constant_generator(1.0), linear_discriminator(1.0), top_k=share)
    losses = tf.constant([4.0, 1.0, 3.0, 2.0])
    assert float(gan._mean_of_top(losses, -losses[:, None])) == pytest.approx(mean)


@keras.saving.register_keras_serializable("test_gan")
class AllThenHalf(keras_gan.schedules.Schedule):
    def at(self, examples):
        return tf.where(examples < 4, 1.0, 0.5)

    def get_config(self):
        return {}


def test_top_k_by_a_schedule_and_in_a_step(tmp_path):
    """G(z) = z b against D(x) = x: b learns from the mean of the chosen z."""
    generator = keras.Sequential(
        [keras.Input((1,)), layers.Dense(1, use_bias=False, kernel_initializer="ones")]
    )
    gan = keras_gan.GAN(
        generator, linear_discriminator(1.0), loss="wasserstein", top_k=AllThenHalf()
    )
    gan.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.0))
    b = 1.0
    for share in (1.0, 0.5, 0.5):
        z = (
            np.sort(
                gan.draw_latents(tf.zeros((4, 1)), gan.random_seed("noise", 0)).numpy()[:, 0] * b
            )
            / b
        )
        kept = z[round(4 - 4 * share) :]
        logs = gan.fit(np.zeros((4, 1), "float32"), batch_size=4, verbose=0).history
        assert logs["g_loss"] == pytest.approx([-b * kept.mean()], abs=1e-5)
        b += 0.1 * kept.mean()
        assert float(generator.layers[-1].kernel[0, 0]) == pytest.approx(b, abs=1e-5)
    gan.save(tmp_path / "game.keras")
    assert isinstance(keras.saving.load_model(tmp_path / "game.keras").top_k, AllThenHalf)


# ------------------------------------------------------------------------ the average


def test_the_average_has_its_half_life_and_includes_batch_statistics(make_gan, images):
    gan = make_gan(ema_half_life=40.0, ema_rampup=1e9)
    before = weights(gan.average_generator)
    assert same(before, weights(gan.generator))
    gan.fit(images.take(1), verbose=0)
    step = 1 - 0.5 ** (8 / 40)
    names = [w.path for w in gan.average_generator.weights]
    assert any("moving_variance" in name for name in names)
    for name, old, live, average in zip(
        names, before, weights(gan.generator), weights(gan.average_generator), strict=True
    ):
        assert not np.array_equal(old, live), name
        np.testing.assert_allclose(average, old + step * (live - old), atol=1e-6, err_msg=name)


def test_the_average_forgets_the_initial_weights_soon(make_gan, images):
    gan = make_gan(ema_half_life=1e6)
    gan.fit(images.take(1), verbose=0)
    for live, average in zip(weights(gan.generator), weights(gan.average_generator), strict=True):
        np.testing.assert_allclose(average, live, atol=1e-5)


def test_without_a_half_life_there_is_no_average(make_gan):
    gan = make_gan(ema_half_life=0)
    assert gan.average_generator is gan.generator


# ------------------------------------------------------------------------ noise and samples


def test_the_same_seed_trains_the_same_weights_and_another_does_not(make_gan, images):
    """In one call of fit or in two."""
    trained = []
    for seed, fits in ((3, 1), (3, 2), (4, 1)):
        gan = make_gan(seed=seed, terms=["gradient_penalty"])
        for _ in range(fits):
            gan.fit(images, epochs=2 // fits, verbose=0)
        trained.append(weights(gan))
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


def test_noise_differs_by_iteration_discriminator_step_and_purpose(make_gan):
    gan = make_gan(seed=2**40 + 1)
    seeds = set()
    for step in range(3):
        gan.iteration.assign(step)
        seeds |= {
            tuple(gan.random_seed(purpose, index).numpy())
            for purpose in ("noise", "augment", "of one's own")
            for index in range(3)
        }
    assert len(seeds) == 27


def test_a_seed_names_a_sample_in_any_batch_and_order(make_gan):
    gan = make_gan()
    samples = gan.generate([7, 2**62, 0, 7], batch_size=3)
    assert samples.shape == (4, 8, 12, 1)
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples[0], samples[3], atol=1e-6)
    assert not np.array_equal(samples[0], samples[1])
    np.testing.assert_allclose(gan.generate(range(7, 8)), samples[:1], atol=1e-6)
    assert gan.generate([]).shape == (0, 8, 12, 1)


def test_truncation_zero_leaves_one_sample(make_gan):
    samples = make_gan().generate(range(4), truncation=0.0)
    np.testing.assert_array_equal(samples, np.repeat(samples[:1], 4, 0))


def test_generate_uses_the_average_or_the_live_generator(make_gan, images):
    gan = make_gan(ema_half_life=1e9, ema_rampup=1e9)
    first = gan.generate(range(3))
    gan.fit(images, verbose=0)
    np.testing.assert_allclose(gan.generate(range(3)), first, atol=1e-5)
    assert np.abs(gan.generate(range(3), average=False) - first).max() > 1e-3
    # The same through the plain Keras call, which takes the average.
    latents = keras_gan.latents.latents_from_seeds(np.arange(3), 4)
    np.testing.assert_allclose(gan.predict(latents, verbose=0), first, atol=1e-5)


# ------------------------------------------------------------------------ conditional


def test_labels_reach_both_networks(make_gan, images):
    gan = make_gan(num_classes=3, terms=["r1"])
    before = [gan.get_layer("generator").get_layer("label_embedding").get_weights()[0]]
    before.append(gan.discriminator.get_layer("label_embedding").get_weights()[0])
    gan.fit(images, epochs=2, verbose=0)
    after = [gan.generator.get_layer("label_embedding").get_weights()[0]]
    after.append(gan.discriminator.get_layer("label_embedding").get_weights()[0])
    for old, new in zip(before, after, strict=True):
        assert (np.abs(new - old).max(axis=1) > 1e-4).all()  # every class's row has learned
    samples = [gan.generate([5], labels=label) for label in range(3)]
    assert np.abs(samples[0] - samples[1]).max() > 1e-4
    # Without labels a seed names its class too: 5 modulo 3.
    np.testing.assert_array_equal(gan.generate([5]), samples[2])
    np.testing.assert_allclose(gan.generate([5, 5], labels=[0, 1])[1:], samples[1], atol=1e-6)


def test_a_conditional_game_learns_its_labels():
    """Class 0 lies at -2, class 1 at +2: after a short training G puts each there."""
    keras.utils.set_random_seed(1)
    spec = keras_gan.Spec("points", (1,), num_classes=2)
    options = {"widths": [16, 16]}
    networks = keras_gan.architectures.build("mlp", spec, True, options, options)
    gan = keras_gan.GAN(
        *networks, loss="relativistic", terms=["r1", "r2"], num_classes=2, ema_half_life=2000
    )
    gan.compile(keras.optimizers.Adam(3e-3, beta_1=0.0), keras.optimizers.Adam(3e-3, beta_1=0.0))
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 25_600).astype("int32")
    x = (4.0 * y - 2 + 0.1 * rng.normal(size=y.shape)).astype("float32")[:, None]
    gan.fit(x, y, batch_size=64, verbose=0)
    means = [float(gan.generate(range(500), labels=label).mean()) for label in (0, 1)]
    assert means == pytest.approx([-2.0, 2.0], abs=0.4)


# ------------------------------------------------------------------------ metrics, evaluation


def test_ties_count_half(make_gan):
    gan = sgd_gan(constant_generator(1.0), linear_discriminator(0.0))
    logs = gan.evaluate(np.ones((4, 1), "float32"), verbose=0, return_dict=True)
    assert (logs["real_accuracy"], logs["fake_accuracy"]) == (0.5, 0.5)


def test_evaluation_changes_nothing_and_repeats_itself(make_gan, images):
    gan = make_gan(terms=["r1"])
    gan.fit(images, verbose=0)
    networks = (gan.generator, gan.discriminator, gan.average_generator)
    before = weights(*networks)
    results = [gan.evaluate(images, verbose=0, return_dict=True) for _ in range(2)]
    assert results[0] == results[1]
    assert set(results[0]) == {
        "d_loss",
        "g_loss",
        "real_accuracy",
        "fake_accuracy",
        "real_logits",
        "fake_logits",
    }
    assert same(before, weights(*networks))


def test_evaluations_differ_only_by_the_networks_and_use_the_average(make_gan, images):
    gan = make_gan()
    first = gan.evaluate(images, verbose=0, return_dict=True)
    gan.iteration.assign(100)
    live = gan.generator.get_weights()
    gan.generator.set_weights([0 * w for w in live])
    assert gan.evaluate(images, verbose=0, return_dict=True) == first


def test_the_metric_of_a_lazy_term_that_was_not_computed_is_nan(make_gan, images):
    gan = make_gan(terms=[keras_gan.terms.R1(1.0, interval=8)])
    values = gan.fit(images, epochs=3, verbose=0).history["r1"]  # 4 steps each
    assert [np.isnan(v) for v in values] == [False, True, False]


def test_validation_has_its_own_metrics(make_gan, images):
    gan = make_gan(terms=["le_cam", {"name": "le_cam", "decay": 0.5}])
    history = gan.fit(images, validation_data=images, verbose=0).history
    terms = {"le_cam", "le_cam_2"}
    assert {"d_loss", "g_loss", *terms, "val_d_loss", "val_g_loss"} <= set(history)
    assert "val_le_cam" not in history


# ------------------------------------------------------------------------ saving


@pytest.fixture
def float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.usefixtures("float16")
@pytest.mark.slow
def test_loss_scales_and_states_are_saved(make_gan, images, tmp_path):
    """In float16, after a step that overflowed, which halves the scale of the discriminator."""

    def new():
        return make_gan(terms=["le_cam"], seed=3)

    def overflow(gan):
        x = np.concatenate([np.asarray(x) for x, _ in images])[:8]
        # Not by train_on_batch, which refuses infinity.
        gan.train_step(tf.where(np.arange(8)[:, None, None, None] == 0, np.inf, x))

    def state(gan):
        owners = (gan.generator_optimizer, gan.discriminator_optimizer)
        return weights(gan) + [v.numpy() for owner in owners for v in owner.variables]

    straight, stopped = new(), new()
    for gan in (straight, stopped):
        gan.fit(images, epochs=1, verbose=0)
        overflow(gan)
        assert all(np.isfinite(w).all() for w in weights(gan))
    scaled = stopped.discriminator_optimizer
    assert float(scaled.dynamic_scale.numpy()) == scaled.initial_scale / 2
    stopped.save(tmp_path / "game.keras")
    resumed = keras.saving.load_model(tmp_path / "game.keras")
    assert same(state(resumed), state(stopped))
    for gan in (straight, resumed):
        gan.fit(images, epochs=1, verbose=0)
    assert same(state(resumed), state(straight))


@pytest.mark.parametrize("num_classes", [pytest.param(0, marks=pytest.mark.slow), 3])
def test_a_saved_game_continues_bit_for_bit(make_gan, images, tmp_path, num_classes):
    straight = make_gan(
        num_classes=num_classes,
        loss="relativistic_average",
        terms=[keras_gan.terms.R1(2.0, interval=2), "gradient_penalty"],
        discriminator_steps=2,
        ema_half_life=50.0,
        seed=9,
    )
    straight.fit(images, epochs=1, verbose=0)
    straight.save(tmp_path / "game.keras")
    resumed = keras.saving.load_model(tmp_path / "game.keras")
    for name, value in straight.get_config().items():
        if name not in ("generator", "discriminator"):  # Keras renumbers their layers
            assert resumed.get_config()[name] == value
    assert same(weights(resumed), weights(straight))
    for name in ("generator_optimizer", "discriminator_optimizer"):
        for a, b in zip(
            getattr(resumed, name).variables, getattr(straight, name).variables, strict=True
        ):
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    np.testing.assert_array_equal(resumed.generate(range(3)), straight.generate(range(3)))
    for gan in (straight, resumed):
        gan.fit(images, epochs=1, verbose=0)
    assert same(weights(resumed), weights(straight))
    assert int(resumed.iteration) == int(straight.iteration) == 8


def test_layers_that_draw_random_numbers_continue_bit_for_bit(tmp_path):
    keras.utils.set_random_seed(2)
    network = keras.Sequential([keras.Input((1,)), layers.Dense(8), layers.Dropout(0.5)])
    network.add(layers.Dense(1))
    straight = sgd_gan(constant_generator(1.0), network, terms=["r1"])
    x = tf.data.Dataset.from_tensor_slices(np.ones((32, 1), "float32")).batch(8)
    straight.fit(x, verbose=0)
    straight.save(tmp_path / "game.keras")
    resumed = keras.saving.load_model(tmp_path / "game.keras")
    for gan in (straight, resumed):
        gan.fit(x, verbose=0)
    assert same(weights(resumed), weights(straight))


def test_an_augmentation_may_be_a_callable(make_gan, images):
    seen = []

    def shift(samples, seed):
        seen.append(seed)
        return tf.roll(samples, tf.random.stateless_uniform((), seed, -2, 3, tf.int32), axis=2)

    gan = make_gan(augment=shift, terms=["r1"])
    gan.fit(images, verbose=0)
    assert seen
    plain = make_gan(terms=["r1"])
    plain.fit(images, verbose=0)
    assert not same(weights(gan.discriminator), weights(plain.discriminator))


# ------------------------------------------------------------------------ ways of running


@pytest.mark.parametrize(
    "how",
    [{"run_eagerly": True}, {"steps_per_execution": 2}],
    ids=lambda how: next(iter(how)),
)
def test_ways_of_running_agree(make_gan, images, how):
    trained = []
    for arguments in ({}, how):
        gan = make_gan(
            compiled=False, terms=["gradient_penalty", keras_gan.terms.R1(1.0, interval=2)]
        )
        gan.compile(keras.optimizers.SGD(1e-2), keras.optimizers.SGD(1e-2), **arguments)
        gan.fit(images, verbose=0)
        trained.append(weights(gan))
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_xla_trains_the_same_weights(make_gan, images):
    """XLA draws other normal numbers, so both generators are made to ignore their latents."""
    trained = []
    for jit_compile in (False, True):
        gan = make_gan(compiled=False, terms=["r1", keras_gan.terms.R2(1.0, interval=2)], seed=1)
        kernel = gan.generator.get_layer("project").kernel
        kernel.assign(keras.ops.zeros_like(kernel))
        gan.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1), jit_compile=jit_compile)
        gan.fit(images.take(1), verbose=0)
        assert gan.jit_compile is jit_compile
        trained.append(weights(gan.discriminator))
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(make_gan, images, policy):
    keras.config.set_dtype_policy(policy)
    try:
        gan = make_gan(terms=["r1", "r2"], loss="relativistic")
    finally:
        keras.config.set_dtype_policy("float32")
    scaled = isinstance(gan.generator_optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    before = weights(gan.generator, gan.discriminator)
    logs = gan.fit(images, epochs=2, verbose=0).history
    assert np.isfinite(logs["d_loss"] + logs["g_loss"] + logs["r1"]).all()
    assert not same(before, weights(gan.generator, gan.discriminator))
    assert gan.generate(range(2)).dtype == np.float32


# ------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((8, 8, 12, 1), "uint8"), r"must be float32 \(uint8 images: x / 127.5 - 1\)"),
        (np.zeros((8, 12, 8, 1), "float32"), r"\('batch', 8, 12, 1\).*Received: \(8, 12, 8, 1\)"),
        (np.full((8, 8, 12, 1), 255, "float32"), r"\[-1, 1\].*Received: values from 255 to 255"),
        (np.full((8, 8, 12, 1), np.nan, "float32"), r"finite numbers. Received: 768 NaN"),
    ],
)
@pytest.mark.parametrize("as_dataset", [False, True])
def test_bad_samples_are_refused_before_the_first_step(make_gan, x, message, as_dataset):
    gan = make_gan()
    data = tf.data.Dataset.from_tensors(x) if as_dataset else x
    with pytest.raises(UsageError, match=message):
        gan.fit(data, verbose=0)
    assert int(gan.iteration) == 0


def test_bad_batches_and_labels_are_refused(make_gan):
    x = np.zeros((8, 8, 12, 1), "float32")
    datasets = tf.data.Dataset.from_tensor_slices
    three = make_gan(discriminator_steps=3)
    with pytest.raises(
        UsageError, match=r"multiple of discriminator_steps \* pac = 3.*a batch of 8"
    ):
        three.fit(datasets(x).batch(8, drop_remainder=True))
    with pytest.raises(UsageError, match=r"drop_remainder=True.*unknown size"):
        three.fit(datasets(x).batch(6))
    with pytest.raises(
        UsageError, match=r"multiple of discriminator_steps \* pac = 3.*a batch of 8"
    ):
        three.fit(x, batch_size=8)
    with pytest.raises(
        UsageError, match=r"multiple of discriminator_steps \* pac = 3.*a batch of 2"
    ):
        three.fit(x, batch_size=6)
    with pytest.raises(UsageError, match="an array of none"):
        make_gan().fit(x[:0])
    with pytest.raises(UsageError, match="x=None"):
        make_gan().fit(None)
    with pytest.raises(UsageError, match="with `samples`, of tensors"):
        make_gan().fit(datasets({"x": x}).batch(8))
    with pytest.raises(UsageError, match="must be float32"):
        make_gan().fit(x, validation_data=(x.astype("float64"),))
    with pytest.raises(UsageError, match="the data set is not batched"):
        make_gan().fit(datasets(x))
    with pytest.raises(UsageError, match=r"at least one batch. Received: none"):
        make_gan().fit(datasets(x).batch(16, drop_remainder=True))
    conditional = make_gan(num_classes=3)
    with pytest.raises(UsageError, match=r"3 classes needs .* Received: x alone"):
        conditional.fit(datasets(x).batch(8))
    with pytest.raises(
        UsageError, match=r"not one-hot \(y.argmax\(axis=1\)\). Received: float32 of"
    ):
        conditional.fit(datasets((x, np.zeros((8, 3), "float32"))).batch(8))
    with pytest.raises(UsageError, match=r"ids from 0 to 2. Received: ids from 0 to 3"):
        conditional.fit(datasets((x, np.array([0, 1, 2, 3] * 2))).batch(8))


def test_networks_that_do_not_fit_are_refused(make_gan, image_spec):
    generator, discriminator = keras_gan.architectures.build("dcgan", image_spec)
    other = keras_gan.architectures.build_network(
        "discriminator", "dcgan", keras_gan.Spec("image", (8, 8, 1), (-1.0, 1.0))
    )
    with pytest.raises(UsageError, match=r"samples \(8, 8, 1\) and a generator of samples \(8, 12"):
        keras_gan.GAN(generator, other)
    with pytest.raises(UsageError, match=r"2 inputs .latents, labels.. Received: 1 .latents"):
        keras_gan.GAN(generator, discriminator, num_classes=3)
    with pytest.raises(UsageError, match="must be built"):
        keras_gan.GAN(generator, keras.Sequential([layers.Dense(1)]))
    with pytest.raises(UsageError, match=r"must be a keras.Model. Received: str"):
        keras_gan.GAN("dcgan", discriminator)
    resizing = keras.Sequential(
        [
            keras.Input((8, 12, 1)),
            layers.UpSampling2D(interpolation="bilinear", name="enlarge"),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    keras_gan.GAN(generator, resizing)
    with pytest.raises(UsageError, match=r"resizing layer.*Received: layer 'enlarge'"):
        keras_gan.GAN(generator, resizing, terms=["r1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"discriminator_steps": 0}, "`discriminator_steps` must be an integer of at least 1"),
        ({"pac": 0}, "`pac` must be an integer of at least 1"),
        ({"pac": 2}, r"samples \(8, 12, 1\) and .* of which pac=2 make \(8, 12, 2\)"),
        ({"pac": 2, "num_classes": 3}, "must have pac=1. Received: pac=2, num_classes=3"),
        ({"top_k": 0}, "`top_k` must be a number above 0 and at most 1. Received: top_k=0"),
        ({"top_k": 1.5}, "`top_k` must be a number above 0 and at most 1. Received: top_k=1.5"),
        ({"constraint": "clip"}, "No constraint has that name. Received: 'clip'"),
        ({"ema_half_life": -1}, "`ema_half_life` must be a number from 0 up. Received: .*=-1"),
        ({"seed": 1.5}, "`seed` must be an integer"),
        ({"loss": "gan"}, "No loss has that name. Received: 'gan'"),
        ({"terms": ["r9"]}, "No term has that name. Received: 'r9'"),
    ],
)
def test_arguments_out_of_range_are_refused(make_gan, arguments, message):
    with pytest.raises(UsageError, match=message):
        make_gan(**arguments)


ORTHOGONAL = {"name": "orthogonal", "player": "generator"}


@pytest.mark.parametrize(
    ("terms", "received"),
    [
        (["r1", "r1"], "'r1' twice for the discriminator"),
        ([{"name": "r1", "weight": 1.0}, {"name": "r1", "weight": 2.0}], "'r1' twice for the d"),
        ([keras_gan.terms.R1(1.0, interval=4), "r2", "r1"], "'r1' twice for the discriminator"),
        ([ORTHOGONAL, {"name": "orthogonal", "player": "both"}], "'orthogonal' twice for the gen"),
        (["consistency", "consistency"], "'consistency' twice for the discriminator"),
    ],
)
def test_a_term_is_refused_twice_for_one_player(make_gan, terms, received):
    rule = "`terms` must have each term once for a player; give one the sum of the weights"
    with pytest.raises(UsageError, match=f"^{rule}. Received: {received}"):
        make_gan(terms=terms)


def test_terms_of_one_class_may_differ_in_what_they_compute(make_gan):
    discriminator = {"name": "orthogonal", "player": "discriminator"}
    assert list(make_gan(terms=[ORTHOGONAL, discriminator]).terms) == ["orthogonal", "orthogonal_2"]
    decays = [{"name": "le_cam", "decay": decay} for decay in (0.9, 0.99)]
    assert list(make_gan(terms=decays).terms) == ["le_cam", "le_cam_2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta_1": 2}, "`beta_1` must be a number from 0 up and below 1. Received: beta_1=2"),
        ({"epsilon": 0.0}, "`epsilon` must be a number above 0. Received: epsilon=0.0"),
        ({"learning_rate": -1e-3}, "`learning_rate` must be a number from 0 up. Received: .*=-0"),
        ({"weight_decay": -1.0}, "`weight_decay` must be a number from 0 up. Received: .*=-1.0"),
        (
            {"learning_rate": keras_gan.schedules.Linear(1.0, -1.0, 10)},
            r"`learning_rate` must be a number from 0 up. Received: learning_rate=Linear\(",
        ),
    ],
)
def test_optimizers_out_of_range_are_refused(make_gan, arguments, message):
    gan, good = make_gan(), keras.optimizers.Adam()
    for optimizers, player in (
        ((keras.optimizers.Adam(**arguments), good), "generator"),
        ((good, keras.optimizers.Adam(**arguments)), "discriminator"),
    ):
        with pytest.raises(UsageError, match=f"^{player}_optimizer: {message}"):
            gan.compile(*optimizers)


def test_spectral_normalization_of_keras_is_refused(make_gan, image_spec):
    generator, _ = keras_gan.architectures.build("dcgan", image_spec)
    convolution = layers.SpectralNormalization(layers.Conv2D(2, 3), name="norm")
    network = keras.Sequential([keras.Input((8, 12, 1)), convolution, layers.Flatten()])
    with pytest.raises(UsageError, match=r"rewrites its kernel.*Received: layer 'norm'"):
        keras_gan.GAN(generator, network)


def test_compile_refuses_arguments_that_a_game_cannot_use(make_gan):
    gan = make_gan(compiled=False)
    adam = keras.optimizers.Adam()
    with pytest.raises(UsageError, match="the same instance for generator and discriminator"):
        gan.compile(adam, adam)
    assert not gan.compiled
    gan.compile("adam", "adam")
    assert gan.generator_optimizer is not gan.discriminator_optimizer
    with pytest.raises(UsageError, match="Received: loss, metrics"):
        gan.compile(adam, loss="mse", metrics=[])


def test_generate_refuses_bad_seeds_and_labels(make_gan):
    gan = make_gan()
    for seeds, message in (
        ([-1], "Received"),
        ([1.5], "integers|whole"),
        ([[1, 2]], "sequence"),
        ([2**63], "2\\*\\*63"),
    ):
        with pytest.raises(UsageError, match=message):
            gan.generate(seeds)
    with pytest.raises(UsageError, match="the generator has no classes"):
        gan.generate([1], labels=[0])
    with pytest.raises(UsageError, match="`truncation` must be a number from 0 up"):
        gan.generate([1], truncation=float("nan"))
    conditional = make_gan(num_classes=3)
    with pytest.raises(UsageError, match=r"from 0 to 2. Received: ids from 3 to 3"):
        conditional.generate([1], labels=[3])
    with pytest.raises(UsageError, match="each of the 2 seeds"):
        conditional.generate([1, 2], labels=[0, 1, 2])


def test_a_subclassed_generator_can_be_trained():
    @keras.saving.register_keras_serializable("test")
    class Doubling(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(1)

        def call(self, latents, training=False):
            return 2 * self.dense(latents)

    generator = Doubling()
    generator(np.zeros((1, 3), "float32"))
    with pytest.raises(UsageError, match="give `latent_dim`"):
        keras_gan.GAN(generator, linear_discriminator(1.0))
    gan = sgd_gan(generator, linear_discriminator(1.0), latent_dim=3)
    gan.fit(np.ones((8, 1), "float32"), batch_size=4, verbose=0)
    assert gan.generate(range(5)).shape == (5, 1)
    assert not same(weights(gan.average_generator), [np.zeros((3, 1)), np.zeros(1)])


# ------------------------------------------------------------------------ order of the graph


def unordered_reads(graph) -> list[tuple[str, str]]:
    """Pairs of a read and an update of one weight without an order between them."""
    nodes = {node.name: node for node in graph.node}
    followers = {name: set() for name in nodes}
    for node in nodes.values():
        for source in node.input:
            followers[source.lstrip("^").split(":")[0]].add(node.name)

    def after(name):
        found, left = set(), [name]
        while left:
            new = followers[left.pop()] - found
            found |= new
            left += new
        return found

    def weight(node):
        return node.input[0].split(":")[0]

    reads = [n for n in nodes.values() if n.op == "ReadVariableOp"]
    updates = [n for n in nodes.values() if re.fullmatch("Assign.*VariableOp", n.op)]
    assert reads
    assert updates
    return [
        (read.name, update.name)
        for update in updates
        for read in reads
        if weight(read) == weight(update)
        and read.name not in after(update.name)
        and update.name not in after(read.name)
    ]


@pytest.mark.parametrize("term", ["gradient_penalty", "r1"])
def test_no_forward_pass_can_see_weights_that_have_been_updated(make_gan, images, term):
    """Grappler loses such an order; the same seed then sometimes trains other weights."""
    gan = make_gan(terms=[term], augment="diff_augment")
    step = tf.function(gan.train_step, autograph=False)
    batch = next(iter(images))
    with context.collect_graphs(optimized=True) as graphs:
        step(batch)
    assert [pair for graph in graphs for pair in unordered_reads(graph)] == []
