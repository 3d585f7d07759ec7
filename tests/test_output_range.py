"""Ranges of generators' samples, read from their last layers, wherever samples become pictures."""

import json
import warnings

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from keras import layers, ops

import export
import keras_gan
from keras_gan import UsageError, building, network_checks
from keras_gan import recipe as recipes
from keras_gan.metrics.generators import Drawing, from_gan
from keras_gan.networks import output_range

SHAPE = (4, 4, 1)


def sequential(*parts, shape=(3,)):
    return keras.Sequential([keras.Input(shape), *parts])


def functional(function, shape=(3,)):
    x = keras.Input(shape)
    return keras.Model(x, function(layers.Dense(16, name="dense")(x)))


def ending(*last):
    return sequential(layers.Dense(16), *last, layers.Reshape(SHAPE))


class Maker(keras.Model):
    def __init__(self, last):
        super().__init__()
        self.dense, self.last = layers.Dense(16), last

    def call(self, latents, training=False):
        return self.last(tf.reshape(self.dense(latents), (-1, *SHAPE)))


def subclassed(last):
    model = Maker(last)
    model(np.zeros((1, 3), "float32"))
    return model


RANGES = {
    "linear": (lambda: ending(), None),
    "tanh": (lambda: ending(layers.Activation("tanh")), (-1, 1)),
    "sigmoid": (lambda: sequential(layers.Dense(16, "sigmoid"), layers.Reshape(SHAPE)), (0, 1)),
    "hard sigmoid": (lambda: ending(layers.Activation("hard_sigmoid")), (0, 1)),
    "relu6": (lambda: ending(layers.Activation("relu6")), (0, 6)),
    "bounded relu": (lambda: ending(layers.ReLU(max_value=1.0)), (0, 1)),
    "relu": (lambda: ending(layers.ReLU()), None),
    "softmax": (lambda: ending(layers.Softmax()), (0, 1)),
    "0..255": (lambda: ending(layers.Activation("sigmoid"), layers.Rescaling(255.0)), (0, 255)),
    "tanh to 0..255": (
        lambda: ending(layers.Activation("tanh"), layers.Rescaling(127.5, 127.5)),
        (0, 255),
    ),
    "falling": (lambda: ending(layers.Activation("tanh"), layers.Rescaling(-0.5)), (-0.5, 0.5)),
    "of each channel": (
        lambda: sequential(
            layers.Conv2D(3, 3, activation="sigmoid"),
            layers.Rescaling([2.0, 4.0, 1.0], [-1.0, 0.0, 0.0]),
            shape=(4, 4, 3),
        ),
        (-1, 4),
    ),
    "operations": (lambda: functional(lambda x: (ops.tanh(x) + 1) / 2), (0, 1)),
    "own sigmoid": (lambda: functional(lambda x: 1 / (1 + ops.exp(-x))), (0, 1)),
    "clip": (lambda: functional(lambda x: ops.clip(x, -1.0, 1.0)), (-1, 1)),
    "maximum": (lambda: functional(lambda x: ops.maximum(ops.minimum(x, 1.0), 0.0)), (0, 1)),
    "rounded": (lambda: functional(lambda x: ops.round(ops.sigmoid(x) * 255)), (0, 255)),
    "inverse": (lambda: functional(lambda x: 1 - ops.sigmoid(x)), (0, 1)),
    "concatenated": (
        lambda: functional(lambda x: ops.concatenate([ops.tanh(x), ops.sigmoid(x)], -1)),
        (-1, 1),
    ),
    "residual": (lambda: functional(lambda x: x + ops.tanh(x)), None),
    "padded": (
        lambda: sequential(
            layers.Conv2D(1, 3, activation="sigmoid"),
            layers.Rescaling(1.0, 1.0),
            layers.ZeroPadding2D(1),
            shape=SHAPE,
        ),
        (0, 2),
    ),
    "cropped and enlarged": (
        lambda: sequential(
            layers.Conv2DTranspose(1, 4, 2, activation="tanh"),
            layers.Cropping2D(1),
            layers.UpSampling2D(interpolation="bilinear"),
            shape=SHAPE,
        ),
        (-1, 1),
    ),
    "normalized afterward": (lambda: ending(layers.Dense(16, "tanh"), layers.Dense(16)), None),
    "nested": (
        lambda: sequential(
            layers.Dense(16, "sigmoid"), sequential(layers.Rescaling(2.0, -1.0), shape=(16,))
        ),
        (-1, 1),
    ),
    "float16": (
        lambda: sequential(
            layers.Dense(16, "tanh", dtype="mixed_float16"),
            layers.Activation("linear", dtype="float32"),
        ),
        (-1, 1),
    ),
    "cast": (lambda: functional(lambda x: ops.cast(ops.sigmoid(x), "float16")), (0, 1)),
    "Lambda": (lambda: ending(layers.Lambda(lambda x: tf.nn.tanh(x) * 127.5 + 127.5)), (0, 255)),
    "dictionary": (
        lambda: functional(lambda x: {"samples": ops.tanh(x), "depth": ops.sigmoid(x)}),
        (-1, 1),
    ),
    "subclassed": (lambda: subclassed(lambda x: 255 * tf.sigmoid(x)), (0, 255)),
    "subclassed function": (lambda: subclassed(tf.function(keras.activations.tanh)), (-1, 1)),
    "subclassed, linear": (lambda: subclassed(tf.identity), None),
}


@pytest.mark.parametrize("name", RANGES)
def test_the_range_follows_from_the_last_layers_and_samples_lie_in_it(name):
    build, expected = RANGES[name]
    model = build()
    found = output_range(model)
    assert found == (None if expected is None else pytest.approx(expected))
    shape = getattr(model, "input_shape", None) or (None, 3)
    samples = model(np.random.default_rng(0).normal(0, 100, (8, *shape[1:])).astype("float32"))
    samples = np.asarray(samples["samples"] if isinstance(samples, dict) else samples)
    if expected is not None:
        width = expected[1] - expected[0]
        assert expected[0] <= samples.min() < expected[0] + 0.02 * width
        assert expected[1] >= samples.max() > expected[1] - 0.02 * width


def test_the_look_changes_no_state():
    model = ending(layers.Dropout(0.5), layers.BatchNormalization(), layers.Activation("tanh"))
    states = [*model.weights, *(g.state for layer in model.layers for g in layer._seed_generators)]
    before = [ops.convert_to_numpy(state) for state in states]
    assert output_range(model) == (-1, 1)
    for old, new in zip(before, states, strict=True):
        np.testing.assert_array_equal(old, new)
    assert not model.losses


# ------------------------------------------------------------------------ doors


def gan_of(generator):
    judge = sequential(layers.Flatten(), layers.Dense(1), shape=SHAPE)
    return keras_gan.GAN(generator, judge, ema_half_life=0)


def constant(value, *last):
    """A generator of one value in front of its last layers."""
    model = ending(*last)
    model.layers[0].kernel.assign(np.zeros((3, 16)))
    model.layers[0].bias.assign(np.full(16, value))
    return model


BLACK = {
    "sigmoid": (lambda: constant(-50.0, layers.Activation("sigmoid")), (0.0, 1.0)),
    "0..255": (
        lambda: constant(-50.0, layers.Activation("sigmoid"), layers.Rescaling(255.0)),
        (0.0, 255.0),
    ),
    "tanh": (lambda: constant(-50.0, layers.Activation("tanh")), (-1.0, 1.0)),
}


@pytest.mark.parametrize("name", BLACK)
def test_black_is_black_in_previews_evaluations_and_bundles(name, tmp_path):
    build, limits = BLACK[name]
    gan = gan_of(build())
    preview = keras_gan.callbacks.Preview(tmp_path / "samples", seeds=range(1))
    preview.set_model(gan)
    preview.on_train_begin()
    (path,) = (tmp_path / "samples").iterdir()
    assert np.asarray(PIL.Image.open(path)).min() == 0
    pictures, _ = next(iter(from_gan(gan, Drawing(), {}).read(2)))
    assert (pictures == 0).all()
    draft = export.draft.open_draft(gan)[1]
    assert tuple(draft.first.meta["value_range"]) == limits


def test_a_preview_refuses_a_field_of_another_range(tmp_path):
    preview = keras_gan.callbacks.Preview(tmp_path, field=keras_gan.Field("image", SHAPE))
    preview.set_model(gan_of(BLACK["sigmoid"][0]()))
    with pytest.raises(UsageError, match=r"field must be that .*\[0, 1\] by .*value_range=\[-1, 1"):
        preview.on_train_begin()


@pytest.mark.parametrize(
    ("own", "stated", "agree"),
    [
        ((-1, 1), (-1, 1), True),
        ((-1.1, 1.1), (-1, 1), True),
        ((-2, 2), (-1, 1), True),
        ((0, 255), (0, 256), True),
        ((0, 1), (-1, 1), False),
        ((-1, 1), (0, 1), False),
        ((0, 255), (-1, 1), False),
        ((0, 255), (0, 1), False),
        ((0, 1), (0, 255), False),
        ((-0.5, 0.5), (-1, 1), False),
    ],
)
def test_ranges_that_agree(own, stated, agree):
    assert network_checks.agree(own, stated) is agree


def test_a_recipes_network_must_return_the_range_and_the_shape_of_its_data(monkeypatch):
    spec = keras_gan.Spec("image", SHAPE, (-1.0, 1.0))
    recipe = recipes.load("gaussians-8")
    gan = building.build(recipe, spec)
    assert gan.networks["generator"].output_range() == (-1, 1)
    build = keras_gan.architectures.build_network

    def with_generator(model, judge=None):
        def network(role, *arguments, **options):
            given = model if role == "generator" else judge
            return given or build(role, *arguments, **options)

        monkeypatch.setattr(keras_gan.architectures, "build_network", network)
        building.build(recipe, spec)

    with_generator(ending())  # a linear generator may be of any range
    with pytest.raises(UsageError, match=r"the data must be .*\[0, 1\] by its last.*=\[-1, 1\]"):
        with_generator(ending(layers.Activation("sigmoid")))
    flat = sequential(layers.Dense(16, "tanh"), layers.Reshape((2, 8, 1)))
    with pytest.raises(UsageError, match=r"shape of the data's, \(4, 4, 1\). Received: \(2, 8, 1"):
        with_generator(flat, sequential(layers.Flatten(), layers.Dense(1), shape=(2, 8, 1)))


# ------------------------------------------------------------------------ data

BRIGHT = np.random.default_rng(0).uniform(0, 1, (16, *SHAPE)).astype("float32")
OPEN = {
    "linear": lambda: ending(),
    "relu": lambda: ending(layers.ReLU()),
    "softplus": lambda: sequential(layers.Dense(16, "softplus"), layers.Reshape(SHAPE)),
    "exponential": lambda: ending(layers.Activation("exponential")),
    "leaky": lambda: ending(layers.LeakyReLU()),
    "gelu": lambda: ending(layers.Activation("gelu")),
    "relu6": lambda: ending(layers.Activation("relu6")),
}


def trained(generator, x, kind=None):
    gan = gan_of(generator)
    gan.compile("sgd", "sgd", run_eagerly=True)
    gan.sample_kind = kind
    gan.fit(x, batch_size=16, verbose=0)
    return gan


TAKEN = r"of output 'samples' is taken from the training data, \[0, 1\]; state `value_range`"


def test_a_stated_range_that_is_not_that_of_the_data_is_warned_of():
    gan = trained(ending(), BRIGHT)
    line = r"should be that of the training data, \[0, 1\]. Received: value_range=\[-1, 1\]"
    with pytest.warns(UserWarning, match=line):
        assert open_draft(gan, value_range=(-1, 1)) == [-1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_draft(gan, value_range=(0, 1)) == [0, 1]


@pytest.mark.parametrize("name", OPEN)
def test_where_the_last_layers_give_no_range_it_is_that_of_the_data(name, tmp_path):
    gan = trained(OPEN[name](), BRIGHT)
    assert gan.data_range == gan.samples_range == (0, 1)
    with pytest.warns(UserWarning, match=TAKEN) as found:
        assert open_draft(gan) == [0, 1]
    assert len(found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_draft(gan, value_range=(0, 1)) == [0, 1]
    preview = keras_gan.callbacks.Preview(tmp_path, seeds=range(1))
    preview.set_model(gan)
    gan.generator.layers[0].set_weights([np.zeros((3, 16)), np.full(16, -50.0)])
    preview.on_train_begin()
    low = np.asarray(PIL.Image.open(next(tmp_path.iterdir()))).min()
    assert low == 0  # black, where [-1, 1] would be gray


@pytest.mark.parametrize("kind", [None, "image"])
def test_data_in_the_usual_range_is_exported_without_a_word(kind):
    signed = BRIGHT * 2 - 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for generator in (ending(), ending(layers.Activation("tanh")), OPEN["gelu"]()):
            assert open_draft(trained(generator, signed, kind)) == [-1, 1]
        assert open_draft(trained(ending(), BRIGHT, "image")) == [-1, 1]  # as stated
        overshooting = ending(layers.Activation("tanh"), layers.Rescaling(1.1))
        assert open_draft(trained(overshooting, signed)) == [-1, 1]
        for dark in (0 * BRIGHT, BRIGHT):
            assert open_draft(trained(ending(layers.Activation("sigmoid")), dark)) == [0, 1]


def test_the_range_of_the_data_is_the_widest_of_all_and_is_saved(tmp_path):
    gan = gan_of(ending())
    gan.compile("sgd", "sgd", run_eagerly=True)
    assert gan.data_range is None
    gan.save(tmp_path / "untrained.keras")
    gan.train_on_batch(BRIGHT)
    gan.evaluate(BRIGHT * 2 - 1, verbose=0)
    assert gan.data_range == (0, 1)
    gan.save(tmp_path / "game.keras")
    gan.save_weights(tmp_path / "game.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "game.keras")
    assert loaded.data_range == (0, 1)
    other = gan_of(ending())
    other.compile("sgd", "sgd")
    other.load_weights(tmp_path / "game.weights.h5")
    assert other.data_range == (0, 1)
    signed = tf.data.Dataset.from_tensor_slices(np.concatenate([BRIGHT, -BRIGHT])).batch(8)
    loaded.compile("sgd", "sgd", run_eagerly=True)
    loaded.fit(signed, verbose=0)  # the negative values come after the first look
    assert loaded.data_range == (-1, 1)
    with pytest.raises(UsageError, match="rescale them"):
        other.fit(BRIGHT * 3 - 1)
    assert other.data_range == (0, 1)
    other.load_weights(tmp_path / "untrained.keras")
    assert other.data_range is None


def test_data_that_is_not_pictures_has_its_own_range():
    gan = trained(ending(), 4 * BRIGHT - 2, "array")
    assert gan.data_range == pytest.approx((-2, 2), abs=0.1)
    assert trained(ending(), 5 * BRIGHT, "array").data_range == pytest.approx((0, 5), abs=0.2)
    points = keras_gan.GAN(
        sequential(layers.Dense(2)), sequential(layers.Dense(1), shape=(2,)), ema_half_life=0
    )
    points.compile("sgd", "sgd", run_eagerly=True)
    points.fit(np.ones((4, 2), "float32"), verbose=0)
    assert points.data_range is None


@pytest.mark.parametrize(
    ("last", "scale", "shift", "message"),
    [
        (("relu",), 2, -1, r"lie in the range of the generator's output, \[0, inf\). Received: "),
        (("softplus",), 2, -1, r"generator's output, \[0, inf\). Received: values from -0"),
        (("tanh", 127.5), 1, 0, r"fill .* output, \[0, 255\] \(from 0..1: x \* 255\). Received: "),
        (("tanh", 127.5), 2, -1, r"in \[0, 255\] \(from -1..1: \(x \+ 1\) \* 127.5\). Received"),
        (("relu",), 255, 0, r"in \[0, 1\] \(from 0..255: x / 255\). Received: "),
        (("tanh",), 2.1, -1.05, r"in \[-1, 1\]; clip what resizing has added: np.clip\(x, -1, 1"),
        (("sigmoid",), 1.1, -0.05, r"in \[0, 1\]; clip .*: np.clip\(x, 0, 1\). Received: "),
        (("tanh",), 6, -3, r"rescale them, or state gan.sample_kind = 'array' if they are not pic"),
        (("tanh", 10), 1, 0, r"fill .* \[0, 20\], or the generator end in a sigmoid. Received: "),
        (("linear",), 4000, -2000, r"rescale them, or state gan.sample_kind = 'array'"),
    ],
)
def test_data_out_of_the_generators_reach_is_refused_with_what_to_do(last, scale, shift, message):
    name, *factor = last
    rescaling = [layers.Rescaling(*factor, *factor)] if factor else []
    with pytest.raises(UsageError, match=message) as error:
        trained(ending(layers.Activation(name), *rescaling), BRIGHT * scale + shift)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_a_generator_of_0_to_255_is_trained_on_0_to_255_and_exported_so(name):
    half = 255.0 if name == "sigmoid" else 127.5
    last = layers.Activation(name), layers.Rescaling(half, 255 - half)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gan = trained(ending(*last), BRIGHT * 255)
        assert gan.data_range == (0, 255)
        assert open_draft(gan) == [0, 255]
    assert trained(ending(*last), 0 * BRIGHT).count("iteration") == 1  # black shows no range


# ------------------------------------------------------------------------ bundles


def open_draft(model, **description):
    return export.draft.open_draft(model, **description)[1].first.meta["value_range"]


def test_a_bundle_has_the_networks_range_and_refuses_another():
    sigmoid = ending(layers.Activation("sigmoid"))
    assert open_draft(sigmoid) == [0, 1]
    assert open_draft(sigmoid, value_range=(0, 1)) == [0, 1]
    assert open_draft(ending()) == [-1, 1]
    assert open_draft(ending(), value_range=(0, 255)) == [0, 255]
    assert open_draft(OPEN["relu"](), value_range=(0, 255)) == [0, 255]
    assert open_draft(ending(layers.Activation("elu"))) == [-1, 1]
    message = r"samples' must be that of its last layers, \[0, 1\]. Received: .*=\[-1, 1\]"
    for description in (
        {"value_range": (-1, 1)},
        {"outputs": {"samples": {"meta": {"value_range": (-1, 1)}}}},
    ):
        with pytest.raises(UsageError, match=message):
            open_draft(sigmoid, **description)
    spec = keras_gan.Spec("image", SHAPE, (-1.0, 1.0))
    with pytest.warns(UserWarning, match=f"in the data's spec .*{message}"):
        assert open_draft(sigmoid, spec=spec) == [-1, 1]


@pytest.mark.parametrize("name", ["relu", "softplus", "exponential"])
def test_a_range_without_an_upper_limit_must_be_stated_and_reach_the_lower_one(name):
    with pytest.raises(UsageError, match=r"`value_range` must be stated .*\[0, inf\).*\[-1, 1\]"):
        open_draft(OPEN[name]())
    with pytest.raises(UsageError, match=r"must be that of its last layers, \[0, inf\)"):
        open_draft(OPEN[name](), value_range=(-1, 1))


@pytest.mark.parametrize(
    ("value", "last", "limits", "message"),
    [
        (
            200.0,
            (),
            None,
            r"should fill .*Received: samples from 200 to 200, value_range=\[-1, 1\]",
        ),
        (0.3, (), (0, 255), r"samples from 0.3 to 0.3, value_range=\[0, 255\]"),
        (1.7, (), None, None),
        (-6.0, (), None, None),
        (0.0, (layers.Activation("tanh"),), None, None),
        (100.0, (), (0, 255), None),
    ],
)
def test_golden_samples_far_outside_the_range_are_named(value, last, limits, message):
    model = ending(*last)
    model.layers[0].bias.assign(np.full(16, value))
    if limits and message is None:
        model.layers[0].kernel.assign(50 * np.ones((3, 16)))
    elif message:
        model.layers[0].kernel.assign(np.zeros((3, 16)))
    network, _ = export.draft.open_draft(model, **({"value_range": limits} if limits else {}))
    latents = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    samples = network.run({"latents": latents})["samples"].numpy()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export.output_ranges.check_sample_range(samples, network.outputs[0])
    lines = [str(warning.message) for warning in caught]
    assert len(lines) == (message is not None)
    if message:
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(lines[0])


def test_an_exported_bundle_warns_of_its_golden_samples_once(tmp_path):
    model = ending()
    model.layers[0].bias.assign(np.full(16, 200.0))
    with pytest.warns(UserWarning, match="should fill the range of its output 'samples'") as found:
        export.export_bundle(model, tmp_path / "bundle")
    assert sum("should fill" in str(warning.message) for warning in found) == 1
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["outputs"][0]["meta"]["value_range"] == [-1, 1]
