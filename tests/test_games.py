"""Games: one of a user's own, fields and outputs by name, lists of logits, auxiliary tasks."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from own_game import ClippedWasserstein

import keras_gan
from keras_gan import UsageError, terms

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(16, 2)).astype("float32")
LABELS = np.arange(16) % 3


def sgd(gan, rate=0.1):
    gan.compile(*(keras.optimizers.SGD(rate) for _ in gan.players))
    return gan


def mlp(inputs, *outputs):
    """Inputs and outputs of a network with one hidden layer: an output for each width."""
    joined = [layers.Flatten()(x) for x in inputs]
    hidden = layers.Dense(8, "tanh")(layers.Concatenate()(joined) if len(joined) > 1 else joined[0])
    made = [layers.Dense(width)(hidden) for width in outputs]
    return inputs, made[0] if len(made) == 1 else made


def field(name, width=2):
    return keras.Input((width,), name=name)


def labels_input():
    return keras.Input((), dtype="int32", name="labels")


def one_hot(labels):
    return layers.CategoryEncoding(3, "one_hot")(layers.Reshape((1,))(labels))


# ------------------------------------------------------------------------ a game of one's own


def own_game():
    keras.utils.set_random_seed(1)
    generator = keras.Sequential([keras.Input((4,)), layers.Dense(8, "tanh"), layers.Dense(2)])
    critic = keras.Sequential([keras.Input((2,)), layers.Dense(8, "tanh"), layers.Dense(1)])
    game = ClippedWasserstein(generator, critic, limit=0.05, ema_half_life=100, seed=3)
    game.compile(critic_optimizer="rmsprop", generator_optimizer=keras.optimizers.RMSprop(5e-3))
    return game


def test_a_custom_game_trains_saves_loads_and_generates(tmp_path):
    data = tf.data.Dataset.from_tensor_slices(POINTS).batch(8)
    straight, stopped = own_game(), own_game()
    before = straight.generate(range(5), average=False)
    history = straight.fit(data, verbose=0).history
    assert np.isfinite([history["critic_loss"], history["generator_loss"]]).all()
    assert (straight.count("iteration"), straight.count("examples_seen")) == (2, 16)
    assert all(np.abs(w).max() <= 0.05 for w in straight.critic.get_weights())
    assert np.abs(straight.generate(range(5), average=False) - before).min() > 0
    stopped.fit(data, verbose=0)
    stopped.save(tmp_path / "game.keras")
    resumed = keras.saving.load_model(tmp_path / "game.keras")
    assert type(resumed) is ClippedWasserstein
    assert (resumed.limit, resumed.seed, resumed.ema_half_life) == (0.05, 3, 100)
    np.testing.assert_array_equal(resumed.generate(range(5)), straight.generate(range(5)))
    for game in (straight, resumed):
        game.fit(data, verbose=0)
    assert resumed.generate(range(5)).shape == (5, 2)
    for a, b in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_missing_parts_of_a_custom_game_are_named():
    game = own_game()
    with pytest.raises(UsageError, match="ClippedWasserstein has no evaluation"):
        game.evaluate(POINTS, verbose=0)
    with pytest.raises(UsageError, match=r"takes critic_optimizer, generator_optimizer, jit_com"):
        game.compile(discriminator_optimizer="adam")
    with pytest.raises(UsageError, match=r"takes critic_optimizer.* Received: 3 optimizers"):
        game.compile("adam", "adam", "adam")
    networks = game.generator, game.critic
    with pytest.raises(UsageError, match=r"network named 'generator'. Received: networks critic"):
        keras_gan.Game({"critic": game.critic})
    with pytest.raises(UsageError, match=r"'r1' is for the player 'discriminator'.*critic, gener"):
        ClippedWasserstein(*networks, terms=["r1"])


# ------------------------------------------------------------------------ fields


def translator(fields=("latents", "condition")):
    """A generator that makes points of latents and of a condition, in any order of its inputs."""
    return keras.Model(*mlp([field(name) for name in fields], 2))


def judge(*fields):
    return keras.Model(*mlp([field(name) for name in fields], 1))


def test_networks_get_the_fields_that_their_inputs_name():
    generator, discriminator = translator(("condition", "latents")), judge("condition", "samples")
    gan = sgd(keras_gan.GAN(generator, discriminator, terms=["r1", "path_length"], ema_half_life=0))
    condition = POINTS[:, ::-1] + 1
    fields = {"samples": POINTS, "condition": condition, "unused": POINTS}
    data = tf.data.Dataset.from_tensor_slices(fields).batch(8)
    logs = gan.fit(data, validation_data=data, verbose=0).history
    assert np.isfinite([logs["d_loss"], logs["r1"], logs["val_d_loss"]]).all()
    gan.fit(fields, batch_size=8, verbose=0)
    seeds = range(16)
    samples = gan.generate(seeds, condition=condition, batch_size=5)
    z = keras_gan.latents.latents_from_seeds(np.arange(16), 2)
    np.testing.assert_allclose(samples, generator([tf.constant(condition), z]), atol=1e-6)


def test_a_generator_may_map_a_condition_alone():
    gan = sgd(keras_gan.GAN(translator(("condition",)), judge("condition", "samples")))
    gan.fit({"samples": POINTS, "condition": POINTS}, batch_size=8, verbose=0)
    assert gan.latent_dim == 0
    samples = gan.generate(range(16), condition=POINTS)
    np.testing.assert_allclose(samples, gan.average_generator([POINTS]), atol=1e-6)
    with pytest.raises(UsageError, match=r"of packs can take samples only. Received: pac=2"):
        keras_gan.GAN(translator(("condition",)), judge("condition", "samples"), pac=2)


def test_fields_that_are_missing_are_refused_before_the_first_step():
    gan = sgd(keras_gan.GAN(translator(), judge("samples")))
    asks = r"The generator asks for the field 'condition', which the data does not have. Received: "
    with pytest.raises(UsageError, match=asks + "samples"):
        gan.fit(POINTS, verbose=0)
    with pytest.raises(UsageError, match=asks + "samples, mask"):
        gan.fit(tf.data.Dataset.from_tensors({"samples": POINTS, "mask": POINTS}), verbose=0)
    bad = np.where(POINTS > 1, np.nan, POINTS)
    with pytest.raises(UsageError, match="Values of 'condition' must be finite"):
        gan.fit({"samples": POINTS, "condition": bad}, verbose=0)
    assert gan.count("iteration") == 0
    with pytest.raises(UsageError, match=r"field 'condition': pass condition=.* Received: no"):
        gan.generate(range(3))
    with pytest.raises(UsageError, match=r"`condition` must have one row for each of the 3 seeds"):
        gan.generate(range(3), condition=POINTS)
    with pytest.raises(UsageError, match=r"takes these fields: .*mask="):
        gan.generate(range(16), condition=POINTS, mask=POINTS)
    with pytest.raises(UsageError, match=r"for a conditional game give num_classes"):
        keras_gan.GAN(translator(("latents", "labels")), judge("samples"))


# ------------------------------------------------------------------------ outputs


def class_networks():
    """A generator of points by class, and a discriminator that predicts the class."""
    latents, labels = field("latents"), labels_input()
    hidden = layers.Dense(32, "relu")(layers.Concatenate()([latents, one_hot(labels)]))
    hidden = layers.Dense(32, "relu")(hidden)
    generator = keras.Model([latents, labels], layers.Dense(2)(hidden))
    samples = field("samples")
    hidden = layers.Dense(32, "relu")(samples)
    hidden = layers.Dense(32, "relu")(hidden)
    outputs = {"logits": layers.Dense(1)(hidden), "classes": layers.Dense(3)(hidden)}
    return generator, keras.Model(samples, outputs)


def test_one_step_with_an_auxiliary_classifier():
    """D(x) = 0 with class logits (c x, 0): cross-entropies of sigmoids, worked out by hand."""
    dense = layers.Dense
    latents, labels = field("latents", 1), labels_input()
    made = dense(1, kernel_initializer="zeros", name="made")(latents)
    zero = layers.Dense(1, "linear", False, "zeros")(layers.Reshape((1,))(labels))
    generator = keras.Model([latents, labels], layers.Add()([made, zero]))
    generator.get_layer("made").bias.assign([3.0])  # G(z) = b = 3
    samples = field("samples", 1)
    kernel = keras.initializers.Constant([[0.5, 0.0]])
    classes = dense(2, use_bias=False, kernel_initializer=kernel, name="classes")(samples)
    logits = dense(1, use_bias=False, kernel_initializer="zeros", trainable=False)(samples)
    discriminator = keras.Model(samples, {"logits": logits, "classes": classes})
    term = terms.AuxiliaryClassifier(2.0, generator_weight=0.5, real=1.0, fake=0.25)
    gan = sgd(
        keras_gan.GAN(generator, discriminator, loss="wasserstein", terms=[term], num_classes=2)
    )
    x, y = np.array([[2.0], [2.0]], "float32"), np.array([0, 0])
    logs = gan.fit(x, y, batch_size=2, verbose=0).history

    def sigmoid(t):
        return 1 / (1 + np.exp(-t))

    # -log softmax(c x, 0)[0] = softplus(-c x); on c, of both class logits with opposite signs.
    on_real, on_fake = np.logaddexp(0, -0.5 * 2), np.logaddexp(0, -0.5 * 3)
    assert logs["auxiliary_classifier"] == pytest.approx([on_real + 0.25 * on_fake], rel=1e-5)
    slope = -2 * sigmoid(-0.5 * 2) - 0.25 * 3 * sigmoid(-0.5 * 3)
    first, second = 0.5 - 0.1 * 2.0 * slope, 0.0 + 0.1 * 2.0 * slope
    found = gan.discriminator.get_layer("classes").kernel.numpy()[0]
    np.testing.assert_allclose(found, [first, second], rtol=1e-5)
    margin = first - second
    assert logs["generator_auxiliary_classifier"] == pytest.approx([np.logaddexp(0, -margin * 3)])
    b = 3.0 - 0.1 * 0.5 * (-margin * sigmoid(-margin * 3))
    assert float(generator.get_layer("made").bias[0]) == pytest.approx(b, rel=1e-5)


def test_an_auxiliary_classifier_game_learns_the_classes(tmp_path):
    """Three clusters of points: after a short training the generator obeys its labels."""
    keras.utils.set_random_seed(1)
    gan = keras_gan.GAN(
        *class_networks(), terms=["auxiliary_classifier", "r1"], num_classes=3, ema_half_life=2000
    )
    gan.compile(keras.optimizers.Adam(3e-3, beta_1=0.0), keras.optimizers.Adam(3e-3, beta_1=0.0))
    centers = 2 * np.array([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]])
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 25_600)
    x = (centers[y] + 0.1 * rng.normal(size=(len(y), 2))).astype("float32")
    gan.fit(x, y, batch_size=64, verbose=0)
    gan.save(tmp_path / "game.keras")
    gan = keras.saving.load_model(tmp_path / "game.keras")
    for label, center in enumerate(centers):
        samples = gan.generate(range(200), labels=label)
        np.testing.assert_allclose(samples.mean(axis=0), center, atol=0.5)


def test_terms_whose_outputs_the_game_lacks_are_refused():
    generator, discriminator = class_networks()
    reads = r"'auxiliary_classifier' reads the output 'classes' of the discriminator. Received: "
    with pytest.raises(UsageError, match=reads + ".*with the outputs logits"):
        keras_gan.GAN(translator(("latents",)), judge("samples"), terms=["auxiliary_classifier"])
    with pytest.raises(UsageError, match=r"'auxiliary_classifier' needs labels; give num_classes"):
        keras_gan.GAN(translator(("latents",)), discriminator, terms=["auxiliary_classifier"])
    with pytest.raises(UsageError, match=r"shape \('batch', 4\). Received: \(None, 3\)"):
        keras_gan.GAN(generator, discriminator, terms=["auxiliary_classifier"], num_classes=4)
    headless = keras.Model(discriminator.inputs, {"classes": discriminator.output["classes"]})
    with pytest.raises(UsageError, match=r"one named logits. Received: outputs classes"):
        keras_gan.GAN(generator, headless, num_classes=3)


def two_scales(weights=(1.0, 2.0)):
    """Linear discriminators of the whole image and of the image at half its size, in one model."""
    image = keras.Input((4, 4, 1), name="samples")
    half = layers.AveragePooling2D(2)(image)
    logits = []
    for part, weight in zip((image, half), weights, strict=True):
        kernel = keras.initializers.Constant(weight)
        logits.append(layers.Conv2D(1, 1, use_bias=False, kernel_initializer=kernel)(part))
    return keras.Model(image, logits)


def image_generator():
    return keras.Sequential(
        [keras.Input((2,)), layers.Dense(16, kernel_initializer="zeros"), layers.Reshape((4, 4, 1))]
    )


def test_a_game_with_a_list_of_logits_and_r1():
    """D_1 = w_1 x at each pixel and D_2 = w_2 x at each mean of 4: values for each, then means."""
    gan = sgd(
        keras_gan.GAN(image_generator(), two_scales(), loss="wasserstein", terms=["r1", "le_cam"])
    )
    gan.fit(np.full((4, 4, 4, 1), 0.5, "float32"), batch_size=4, verbose=0)
    gan = sgd(keras_gan.GAN(image_generator(), two_scales(), loss="wasserstein", terms=["r1"]))
    x = np.full((4, 4, 4, 1), 0.5, "float32")
    logs = gan.fit(x, batch_size=4, verbose=0).history
    # The loss of each scale is -w_k 0.5; the gradient of D_1 is w_1 at 16 pixels, that of D_2,
    # a sum over 4 positions, w_2 / 4 at 16 pixels.
    assert logs["d_loss"] == pytest.approx([-(1.0 * 0.5 + 2.0 * 0.5) / 2])
    assert logs["real_logits"] == pytest.approx([0.75])
    assert (logs["real_accuracy"], logs["fake_accuracy"]) == ([1.0], [1.0])
    assert logs["r1"] == pytest.approx([(16 * 1.0 / 2 + 16 * (2.0 / 4) ** 2 / 2) / 2])
    slopes = (-0.5 + 16 * 1.0) / 2, (-0.5 + 2.0) / 2
    found = [float(w[0, 0, 0, 0]) for w in gan.discriminator.get_weights()]
    np.testing.assert_allclose(found, [1.0 - 0.1 * slopes[0], 2.0 - 0.1 * slopes[1]], rtol=1e-5)


def test_a_list_of_logits_with_everything_that_reads_them():
    others = ("feature_matching", "mutual_information", "pseudo_labels", "supervised")
    every = [terms.get(name) for name in terms.names() if name not in others]
    # Other tests define terms too.
    shipped = [term for term in every if type(term).__module__.startswith("keras_gan.")]
    listed = [term for term in shipped if not (term.supervises or "labels" in term.fields)]
    x = np.tanh(RNG.normal(size=(8, 4, 4, 1))).astype("float32")
    keras.utils.set_random_seed(0)
    gan = sgd(
        keras_gan.GAN(
            image_generator(),
            two_scales(),
            loss="relativistic_average",
            terms=listed,
            top_k=0.5,
            augment="adaptive",
        ),
        1e-3,
    )
    logs = gan.fit(x, batch_size=4, validation_data=(x,), verbose=0).history
    assert np.isfinite([values[0] for values in logs.values()]).all()


def test_feature_matching_reads_the_output_features():
    """Features 3 x of one network and x, -x of another, as a list: means over the list."""
    samples = field("samples", 1)
    kernel = keras.initializers.Constant(3.0)
    triple = layers.Dense(1, use_bias=False, kernel_initializer=kernel)(samples)
    logits = layers.Dense(1, kernel_initializer="zeros")(samples)
    for features, value in ((triple, 9.0), ([triple, samples], 5.0)):
        discriminator = keras.Model(samples, {"logits": logits, "features": features})
        zero = layers.Dense(1, kernel_initializer="zeros")
        generator = keras.Sequential([keras.Input((2,)), zero])
        gan = sgd(keras_gan.GAN(generator, discriminator, terms=["feature_matching"]), 0.0)
        logs = gan.fit(np.ones((4, 1), "float32"), batch_size=4, verbose=0).history
        assert logs["generator_feature_matching"] == pytest.approx([value])  # G(z) = 0, x = 1


@keras.saving.register_keras_serializable("test_games")
class _Histogram(terms.Term):
    """Counts the signs of the logits, and keeps the last logits: states of other types."""

    def initial_state(self):
        return {"signs": np.zeros(2, "int64"), "last": np.zeros((4, 1), "float32")}

    def __call__(self, context, state):
        logits = context.logits(context.real)
        positive = tf.reduce_sum(tf.cast(logits > 0, "int64"))
        signs = state["signs"] + tf.stack([positive, tf.size(logits, "int64") - positive])
        return tf.zeros(1), {"signs": signs, "last": logits}


@pytest.mark.parametrize("interval", [1, 2])
def test_a_term_keeps_arrays_of_any_type(tmp_path, interval):
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    discriminator = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    gan = sgd(keras_gan.GAN(generator, discriminator, terms=[_Histogram(interval=interval)]), 0.0)
    gan.fit(POINTS, batch_size=4, shuffle=False, verbose=0)
    gan.save(tmp_path / "game.keras")
    for game in (gan, keras.saving.load_model(tmp_path / "game.keras")):
        state = {name: v.value.numpy() for name, v in game.states["_histogram"].items()}
        seen = POINTS.reshape(4, 4, 2)[::interval]
        logits = np.concatenate([np.asarray(discriminator(x)) for x in seen])
        assert state["signs"].dtype == np.int64
        assert state["signs"].tolist() == [(logits > 0).sum(), (logits <= 0).sum()]
        np.testing.assert_allclose(state["last"], logits[-4:], rtol=1e-5)


# ------------------------------------------------------------------------ two devices


@pytest.mark.slow
def test_two_devices_train_auxiliary_classifiers_and_games_of_ones_own():
    """In a process of its own, as devices are chosen before anything else."""
    program = """
        import keras, numpy as np, replicas, tensorflow as tf
        strategy = replicas.two_devices()
        import keras_gan, test_games

        def make(cls):
            keras.utils.set_random_seed(3)
            terms = ["auxiliary_classifier", "r1"]
            gan = cls(*test_games.class_networks(), terms=terms, num_classes=3)
            return test_games.sgd(gan, 0.05)

        def fit(game, *data):
            stream = tf.data.Dataset.from_tensors(data).repeat()
            game.fit(stream, steps_per_epoch=3, verbose=0)

        points, labels = test_games.POINTS[:8], test_games.LABELS[:8]
        with replicas.as_two():
            one = make(replicas.OnOneDevice)
            before = replicas.state(one)
            fit(one, points, labels)
        with strategy.scope():
            two = make(keras_gan.GAN)
        fit(two, points, labels)
        replicas.assert_moved(before, replicas.state(one), "weights")
        replicas.assert_equal(replicas.state(one), replicas.state(two), "states")
        with strategy.scope():
            own = test_games.own_game()
        fit(own, points)
        print(own.count("iteration"), own.count("examples_seen"))
        """
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, os.path.dirname(here), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout == "3 24\n", done.stderr[-3000:]
