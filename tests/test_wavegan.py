"""WaveGAN: networks of several lengths, phase shuffle, noise of layers, training, the export."""

import itertools
import pathlib
import re
import subprocess
import sys
import textwrap

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf

import export
import keras_gan
from keras_gan import Spec, UsageError, architectures, precision, recipe, terms
from keras_gan.layers import PhaseShuffle, layer_noise, noise

RNG = np.random.default_rng(0)
CLASSES = 3
SMALL = {"width": 2, "kernel": 5}


def sound(length=64, channels=1, num_classes=0):
    return Spec("audio", (length, channels), (-1.0, 1.0), num_classes=num_classes)


def networks(conditional=True, length=128, channels=1, generator=(), discriminator=()):
    keras.utils.set_random_seed(3)
    spec = sound(length, channels, CLASSES if conditional else 0)
    small = SMALL | {"latent_dim": 4} | dict(generator)
    return architectures.build("wavegan", spec, conditional, small, SMALL | dict(discriminator))


def build(role="generator", length=64, **options):
    return architectures.build_network(role, "wavegan", sound(length), **SMALL | options)


def seed(number=7):
    return lambda: tf.constant([number, 1], tf.int64)


# ------------------------------------------------------------------------ networks


@pytest.mark.parametrize(("length", "channels"), [(32, 1), (128, 2), (250, 1), (512, 1)])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("upsampling", ["transposed", "sub_pixel"])
def test_sounds_of_several_lengths(length, channels, conditional, upsampling):
    options = {"upsampling": upsampling}
    g, d = networks(conditional, length, channels, options)
    latents, labels = RNG.normal(size=(3, 4)), np.array([0, 2, 1])
    samples = g([latents, labels] if conditional else latents)
    assert samples.shape == (3, length, channels)
    assert (samples.dtype, g.output_names) == ("float32", ["samples"])
    assert 0 < np.abs(samples).max() <= 1
    logits = d([samples.numpy(), labels] if conditional else samples)
    assert (logits.shape, logits.dtype) == ((3, 1), "float32")
    assert [i.name for i in g.inputs] == (["latents", "labels"] if conditional else ["latents"])
    assert [i.name for i in d.inputs] == (["samples", "labels"] if conditional else ["samples"])


@pytest.mark.parametrize(
    ("length", "strides", "base"),
    [
        (8192, [4, 4, 4, 4, 2], 16),
        (16384, [4, 4, 4, 4, 4], 16),
        (32, [2], 16),
        (64, [4], 16),
        (63 * 2, [2], 63),
        (8000, [4, 4, 4], 125),
        (62 * 4, [4, 2], 31),
    ],
)
def test_the_last_stride_is_smaller_where_4_does_not_divide(length, strides, base):
    g, d = build(length=length), build("discriminator", length=length)
    of_g = [x for x in g.layers if isinstance(x, keras.layers.Conv1DTranspose)]
    of_d = [x for x in d.layers if isinstance(x, keras.layers.Conv1D)]
    assert [x.strides for x in of_g] == [x.strides for x in of_d] == [(n,) for n in strides]
    channels = [2 * 2**i for i in range(len(strides))]
    assert g.get_layer("reshape").output.shape == (None, base, channels[-1])
    assert [x.filters for x in of_g] == [*channels[-2::-1], 1]
    assert [x.filters for x in of_d] == channels
    assert d.get_layer("features").output.shape == (None, base * channels[-1])


def test_the_parameters_of_the_anchor():
    """Width 16 at 8,192 samples, by hand: 1.50 and 1.09 million (256, 128, ... channels)."""
    g, d = (build(role, 8192, width=16, kernel=25) for role in ("generator", "discriminator"))
    channels = [256, 128, 64, 32, 16, 1]
    kernels = [25 * a * b for a, b in itertools.pairwise(channels)]
    assert g.count_params() == 101 * 16 * 256 + sum(kernels) + sum(channels[1:])
    assert d.count_params() == sum(kernels) + sum(channels[:-1]) + 16 * 256 + 1
    assert [round(x.count_params() / 1e6, 2) for x in (g, d)] == [1.5, 1.09]


def test_the_published_sizes_are_the_defaults():
    """The stages of table 3 and 4 of the paper, d = 64."""
    g, d = architectures.build("wavegan", sound(16384))
    assert g.input_shape == (None, 100)
    assert g.get_layer("reshape").output.shape == (None, 16, 1024)
    assert [g.get_layer(f"stage_{i}_up").output.shape[1:] for i in range(1, 6)] == [
        (64, 512),
        (256, 256),
        (1024, 128),
        (4096, 64),
        (16384, 1),
    ]
    assert d.get_layer("stage_5_down").output.shape[1:] == (16, 1024)
    shuffled = [x for x in d.layers if isinstance(x, PhaseShuffle)]
    assert [(x.name, x.radius) for x in shuffled] == [
        (f"stage_{i}_shuffle", 2) for i in range(1, 5)
    ]
    assert d.get_layer("stage_1_activation").negative_slope == pytest.approx(0.2)


def test_sub_pixel_positions_are_those_of_the_channels():
    """A kernel of one tap: output 4 t + j of channel c is value 4 j + c of position t."""
    g = build(length=64 * 4, upsampling="sub_pixel", width=2, kernel=4)
    convolved, positions = g.get_layer("stage_1_up"), g.get_layer("stage_1_up_positions")
    x = RNG.normal(size=(2, *convolved.output.shape[1:])).astype("float32")
    assert x.shape == (2, 16, 2 * 4)
    found = positions(x).numpy()
    assert found.shape == (2, 64, 2)
    np.testing.assert_array_equal(found[:, 4 * 3 + 2], x[:, 3, 4:6])
    assert convolved.kernel.shape == (1, 4, 8)


def test_the_label_channel_is_a_learned_sound_of_the_class():
    _, d = networks(discriminator={"conditioning": "concatenation"})
    assert d.get_layer("sound_and_label").output.shape == (None, 128, 2)
    channel = keras.Model(d.inputs, d.get_layer("label_channel").output)
    samples = np.zeros((2, 128, 1), "float32")
    table = d.get_layer("label_embedding").get_weights()[0]
    found = channel([samples, np.array([2, 0])]).numpy()
    np.testing.assert_array_equal(found[..., 0], table[[2, 0]])


def test_a_label_changes_only_its_own_sample():
    for network in (*networks(), networks(discriminator={"conditioning": "concatenation"})[1]):
        first = RNG.normal(size=(4, *network.inputs[0].shape[1:])).astype("float32")
        before, after = (
            np.asarray(network([first, np.array(y)])) for y in ([0, 1, 2, 0], [0, 2, 2, 0])
        )
        changed = np.abs(before - after).reshape(4, -1).max(1) > 0
        assert changed.tolist() == [False, True, False, False]


def test_weights_and_samples_are_those_of_the_seed():
    one, other = (networks()[0] for _ in range(2))
    latents, labels = RNG.normal(size=(2, 4)).astype("float32"), np.array([0, 1])
    np.testing.assert_array_equal(one([latents, labels]), other([latents, labels]))


def test_samples_and_logits_are_float32_in_half_precision():
    with precision.layers("mixed_bfloat16"):
        pairs = [networks(generator={"upsampling": u}) for u in ("transposed", "sub_pixel")]
    for g, d in pairs:
        samples = g([np.ones((2, 4), "float32"), np.array([0, 1])])
        assert samples.dtype == "float32"
        with layer_noise(seed()):
            assert d([samples.numpy(), np.array([0, 1])], training=True).dtype == "float32"
        assert d.get_layer("stage_1_down").compute_dtype == "bfloat16"


@pytest.mark.parametrize("role", ["generator", "discriminator"])
@pytest.mark.parametrize("length", [16, 31, 8191, 10000, 1])
def test_a_length_that_the_strides_do_not_divide_is_refused(role, length):
    line = (
        r"^The architecture 'wavegan' takes sounds whose length is 16 to 127 times a power of 2 "
        rf"\(at least 2\), such as 8192. Received: shape=\({length}, 1\)$"
    )
    with pytest.raises(UsageError, match=line):
        build(role, length)
    with pytest.raises(UsageError, match=r"16 to 127 times .* Received: shape=\(None, 1\)$"):
        build(role, None)


@pytest.mark.parametrize(
    ("role", "options", "line"),
    [
        ("generator", {"latent_dim": 0}, r"^`latent_dim` must be an integer of at least 1. Rec"),
        (
            "generator",
            {"width": 0},
            r"^`width` must be an integer of at least 1. Rec.*width=0",
        ),
        ("discriminator", {"kernel": 2.5}, r"^`kernel` must be an integer of .* kernel=2.5"),
        (
            "discriminator",
            {"shuffle": -1},
            r"^`shuffle` must be an integer of at least 0. Received",
        ),
        ("discriminator", {"shuffle": 16}, r"^`shuffle` must be at most 15. Received: shuffle=16$"),
        ("generator", {"upsampling": "nearest"}, r"^`upsampling` must be one of transposed, sub_p"),
        ("discriminator", {"conditioning": "projection"}, r"^`conditioning` is for networks that"),
        (
            "generator",
            {"shuffle": 2},
            r"^`shuffle` is not an option of the generator 'wavegan'",
        ),
    ],
)
def test_options_out_of_range_are_refused(role, options, line):
    with pytest.raises(UsageError, match=line):
        build(role, **options)
    other = r"^`conditioning` must be one of projection, concatenation. Received: conditioning='x'"
    with pytest.raises(UsageError, match=other):
        networks(discriminator={"conditioning": "x"})


@pytest.mark.parametrize("role", ["generator", "discriminator"])
@pytest.mark.parametrize(("kind", "shape"), [("image", (32, 32, 1)), ("series", (64, 1))])
def test_other_data_is_refused(role, kind, shape):
    line = r"^The architecture 'wavegan' is for audio only \(time, channels\). Received: kind="
    with pytest.raises(UsageError, match=line + f"'{kind}'"):
        architectures.build_network(role, "wavegan", Spec(kind, shape))


# ------------------------------------------------------------------------ phase shuffle


def test_shifts_by_hand():
    features = np.arange(5.0)[None, :, None] + np.array([0, 10, 20, 30, 40])[:, None, None]
    found = noise.shift_time(features, np.array([0, 1, 2, -1, -2], "int32")).numpy()[..., 0]
    expected = [
        [0, 1, 2, 3, 4],
        [11, 10, 11, 12, 13],  # to the right; the start is the reflection of what follows it
        [22, 21, 20, 21, 22],
        [31, 32, 33, 34, 33],
        [42, 43, 44, 43, 42],
    ]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shift", [-4, -3, 0, 4])
def test_shifts_are_those_of_padding_by_reflection(shift):
    """As the published code: reflect on one side, then cut."""
    features = RNG.normal(size=(2, 9, 3))
    ends = ((0, 0), (max(shift, 0), max(-shift, 0)), (0, 0))
    padded = np.pad(features, ends, mode="reflect")[:, max(-shift, 0) :][:, :9]
    found = noise.shift_time(features, np.full(2, shift, "int32"))
    np.testing.assert_array_equal(found, padded)


def test_the_gradient_reaches_every_position_that_is_read():
    """By hand: shifted by 2, position 1 is read twice, and the last two not at all."""
    features = tf.Variable(np.zeros((2, 5, 1), "float32"))
    weights = tf.reshape(tf.constant([1.0, 2, 4, 8, 16]), (1, 5, 1))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(weights * noise.shift_time(features, tf.constant([2, -1])))
    gradient = tf.convert_to_tensor(tape.gradient(total, features)).numpy()[..., 0]
    # Shifted by 2: positions 2, 1, 0, 1, 2. By -1: positions 1, 2, 3, 4, 3.
    np.testing.assert_array_equal(gradient, [[4, 2 + 8, 1 + 16, 0, 0], [0, 1, 2, 4 + 16, 8]])


def test_derivatives_of_every_shift():
    """A shift is a matrix, the one of unit vectors. Its gradient is linear, by the transpose."""
    units = tf.eye(9)[None]
    for shift in range(-8, 9):
        with tf.GradientTape() as outer, tf.GradientTape() as tape:
            outer.watch(units)
            tape.watch(units)
            matrix = noise.shift_time(units, tf.constant([shift]))
            slopes = tape.gradient(matrix, units, output_gradients=units)
        np.testing.assert_array_equal(slopes[0], tf.transpose(matrix[0]))
        second = outer.gradient(slopes, units, output_gradients=units)
        np.testing.assert_array_equal(second, matrix)


def test_every_shift_is_drawn_equally_often():
    layer = PhaseShuffle(2, name="shuffle")
    ramp = np.broadcast_to(np.arange(9.0, dtype="float32")[:, None], (4000, 9, 1))
    with layer_noise(seed()):
        shifts = 4 - layer(ramp, training=True).numpy()[:, 4, 0]
    counts = np.unique(shifts, return_counts=True)
    np.testing.assert_array_equal(counts[0], [-2, -1, 0, 1, 2])
    assert counts[1].min() > 700  # of 800, with a standard deviation of 25
    assert counts[1].max() < 900


def test_shifts_follow_from_the_seed_and_the_name():
    def shuffled(number=7, name="a"):
        layer = PhaseShuffle(3, name=name)
        with layer_noise(seed(number)):
            ramp = np.arange(32.0 * 20).reshape(32, 20, 1)
            return tuple(layer(ramp, training=True).numpy()[:, 10, 0])

    assert shuffled() == shuffled()
    assert len({shuffled(), shuffled(number=8), shuffled(name="b")}) == 3


def test_it_shifts_only_in_training_and_within_the_context():
    layer, x = PhaseShuffle(3), RNG.normal(size=(8, 20, 2)).astype("float32")
    np.testing.assert_array_equal(layer(x, training=True), x)
    with layer_noise(seed()):
        np.testing.assert_array_equal(layer(x), x)
        np.testing.assert_array_equal(PhaseShuffle(0)(x, training=True), x)
        assert np.abs(layer(x, training=True) - x).max() > 0
        with pytest.raises(RuntimeError), layer_noise(seed(8)):
            raise RuntimeError  # the outer seed applies again
        first = layer(x, training=True)
        with layer_noise(seed(8)):
            assert np.abs(layer(x, training=True) - first).max() > 0
        np.testing.assert_array_equal(layer(x, training=True), first)
    np.testing.assert_array_equal(layer(x, training=True), x)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_shapes_are_static_in_a_graph(jit_compile):
    layer, shapes = PhaseShuffle(2, name="shuffle"), []

    @tf.function(jit_compile=jit_compile, input_signature=[tf.TensorSpec((None, 20, 3))])
    def shuffled(x):
        with layer_noise(seed()), tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            total = tf.reduce_sum(tf.square(y))
        shapes.append(y.shape)
        return y, tape.gradient(total, x)

    x = RNG.normal(size=(6, 20, 3)).astype("float32")
    found, gradient = shuffled(x)
    assert shapes[0].as_list() == [None, 20, 3]
    with layer_noise(seed()):
        np.testing.assert_array_equal(found, layer(x, training=True))
    assert np.isfinite(gradient).all()


def test_a_radius_out_of_range_is_refused():
    with pytest.raises(UsageError, match=r"^`radius` must be an integer of at least 0. Received"):
        PhaseShuffle(-1)
    line = r"^`radius` must be below the length of the features, which must be known. Received: "
    with pytest.raises(UsageError, match=line + r"radius=4, features of shape \(None, 4, 1\)$"):
        PhaseShuffle(4)(keras.Input((4, 1)))
    with pytest.raises(UsageError, match=line + r"radius=2, features of shape \(None, None, 1\)$"):
        PhaseShuffle(2)(keras.Input((None, 1)))


def test_the_layer_is_saved_with_its_radius():
    layer = PhaseShuffle(5, name="shuffle")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (again.radius, again.name) == (5, "shuffle")
    assert layer.compute_output_shape((None, 8, 2)) == (None, 8, 2)
    assert layer.weights == []


# ------------------------------------------------------------------------ in a game


def data(count=24):
    samples = np.tanh(RNG.normal(size=(count, 128, 1))).astype("float32")
    return tf.data.Dataset.from_tensor_slices((samples, np.arange(count) % CLASSES)).batch(
        8, drop_remainder=True
    )


def game(shuffle=2, jit_compile=False, loss="hinge", terms=("r1",), **options):
    g, d = networks(discriminator={"shuffle": shuffle})
    gan = keras_gan.GAN(g, d, loss=loss, terms=list(terms), num_classes=CLASSES, **options)
    gan.compile(keras.optimizers.SGD(1e-2), keras.optimizers.SGD(1e-2), jit_compile=jit_compile)
    return gan


def weights(gan, name="discriminator"):
    return np.concatenate([np.ravel(w) for w in getattr(gan, name).get_weights()])


LAZY = {"name": "r1", "weight": 1.0, "interval": 2}


@pytest.mark.parametrize(
    "options",
    [
        {"terms": [LAZY]},
        {"loss": "wasserstein", "terms": ["gradient_penalty"], "discriminator_steps": 2},
        {"loss": "relativistic", "terms": [LAZY, {**LAZY, "name": "r2"}], "augment": None},
    ],
)
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_both_networks_are_trained(options, jit_compile):
    gan = game(jit_compile=jit_compile, **options)
    before = {name: weights(gan, name) for name in gan.networks}
    logs = gan.fit(data(), verbose=0).history
    assert np.isfinite([values[-1] for values in logs.values()]).all()
    for name, old in before.items():
        new = weights(gan, name)
        assert np.isfinite(new).all()
        assert 0 < np.abs(new - old).max() < 10


def test_shifts_of_a_training_follow_from_its_seed():
    """Also those of its own kind: without shuffle, the training is another one."""
    found = {}
    for name, options in {"a": {}, "same": {}, "off": {"shuffle": 0}, "b": {"seed": 1}}.items():
        rng_state = RNG.bit_generator.state
        gan = game(**options)
        gan.fit(data(), verbose=0)
        RNG.bit_generator.state = rng_state
        found[name] = weights(gan)
    np.testing.assert_array_equal(found["a"], found["same"])
    assert np.abs(found["a"] - found["off"]).max() > 1e-5
    assert np.abs(found["a"] - found["b"]).max() > 1e-5


class Recorder(keras.layers.Layer):
    """Keeps the seed of the noise of each call."""

    def __init__(self):
        super().__init__()
        self.seeds = []

    def call(self, inputs, training=False):
        found = noise.layer_seed("recorder")
        if found is not None and training:
            self.seeds.append(found.numpy().tolist())
        return inputs


def test_each_discriminator_step_has_shifts_of_its_own():
    """Which its real and its generated samples share, and the generator's step with the last."""
    recorder = Recorder()
    judge = [keras.Input((3,)), recorder, keras.layers.Dense(1)]
    generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    gan = keras_gan.GAN(generator, keras.Sequential(judge), discriminator_steps=3)
    gan.compile(run_eagerly=True)
    gan.fit(np.zeros((12, 3), "float32"), batch_size=6, verbose=0)
    steps = [recorder.seeds[:8], recorder.seeds[8:]]
    assert [len(seeds) for seeds in steps] == [8, 8]  # 2 of each of 3 steps, 2 of the generator
    for seeds in steps:
        pairs = [seeds[i : i + 2] for i in range(0, 8, 2)]
        assert all(a == b for a, b in pairs)
        assert pairs[2] == pairs[3]
        assert len({str(a) for a, _ in pairs}) == 3
    assert steps[0][0] != steps[1][0]
    recorder.seeds.clear()
    gan.evaluate(np.zeros((4, 3), "float32"), verbose=0)
    assert recorder.seeds == []


def test_an_evaluation_does_not_shift():
    gan = game()
    samples = np.tanh(RNG.normal(size=(4, 128, 1))).astype("float32")
    given = {"labels": np.array([0, 1, 2, 0])}
    with gan.layer_noise():
        found = gan.logits(samples, given)
    np.testing.assert_array_equal(found, gan.discriminator([samples, given["labels"]]))


def test_a_saved_game_continues_bit_for_bit(tmp_path):
    batches = list(data(40).as_numpy_iterator())
    straight = game(terms=[LAZY])
    for batch in batches[:2]:
        straight.train_on_batch(*batch)
    straight.save(tmp_path / "game.keras")
    resumed = keras.saving.load_model(tmp_path / "game.keras")
    for batch in batches[2:]:
        straight.train_on_batch(*batch)
        resumed.train_on_batch(*batch)
    assert straight.noise_states() == []
    for name in straight.networks:
        np.testing.assert_array_equal(weights(resumed, name), weights(straight, name))


@pytest.mark.slow
def test_two_devices_draw_shifts_of_their_own():
    """Both devices are given the same samples; only their shifts differ."""
    program = """
        import replicas
        strategy = replicas.two_devices()
        import keras, numpy as np, tensorflow as tf, test_wavegan
        with strategy.scope():
            gan = test_wavegan.game(terms=[test_wavegan.LAZY])
        half = np.tanh(np.random.default_rng(0).normal(size=(4, 128, 1))).astype("float32")
        gan.fit(np.concatenate([half, half]), np.arange(8) % 4 % 3, batch_size=8, verbose=0)
        assert np.isfinite(test_wavegan.weights(gan)).all()
        x = tf.constant(half)

        def shifted():
            with gan.layer_noise():
                return gan.discriminator.get_layer("stage_1_shuffle")(
                    tf.broadcast_to(tf.range(32.0)[:, None], (16, 32, 1)), training=True
                )

        one, other = strategy.experimental_local_results(strategy.run(tf.function(shifted)))
        assert np.abs(one.numpy() - other.numpy()).max() >= 1
    """
    path = f"import sys; sys.path[:0] = {sys.path!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", path + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr[-3000:]


# ------------------------------------------------------------------------ export, recipe


@pytest.mark.parametrize("upsampling", ["transposed", "sub_pixel"])
def test_an_exported_generator_makes_the_same_sound(upsampling, tmp_path):
    options = {"upsampling": upsampling, "width": 4, "kernel": 25}
    generator, _ = networks(length=512, generator=options)
    for weight in generator.trainable_weights:
        weight.assign(3 * weight)  # not silent, up to the bounds of tanh
    export.export_bundle(generator, tmp_path / "bundle", spec=sound(512, 1, CLASSES))
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / "model.onnx")
    for count in (1, 5):
        latents = RNG.normal(size=(count, 4)).astype("float32")
        labels = np.arange(count) % CLASSES
        (found,) = session.run(["samples"], {"latents": latents, "labels": labels})
        expected = generator([latents, labels]).numpy()
        assert np.abs(expected).max() > 0.5
        assert found.shape == (count, 512, 1)
        assert np.abs(found - expected).max() <= 1e-5


def test_the_recipe_states_the_published_rule():
    """The settings of its comment are those of the paper's appendix, and are accepted."""
    folder = pathlib.Path(recipe.__file__).parents[1] / "recipes"
    comment = (folder / "digits-wavegan.yaml").read_text().partition("data:\n")[0]
    settings = [
        quoted or plain for quoted, plain in re.findall(r'--set (?:"(.*?)"|(\S+))', comment)
    ]
    assert len(settings) == 9
    loaded = recipe.load("digits-wavegan", settings)
    assert (loaded.game.loss, loaded.game.terms) == ("wasserstein", ["gradient_penalty"])
    steps = loaded.game.discriminator_steps
    assert (steps, loaded.training.batch_size / steps) == (5, 64)
    assert terms.get("gradient_penalty").weight == 10
    for player in ("generator", "discriminator"):
        assert loaded.networks[player].options["width"] == 64
        optimizer = loaded.optimizers[player]
        assert (optimizer.learning_rate, optimizer.options["beta_1"]) == (1e-4, 0.5)
        assert optimizer.options["beta_2"] == 0.9
