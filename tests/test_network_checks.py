"""Networks that cannot be trained are refused before the first step, and others are not."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_gan
from keras_gan import UsageError
from keras_gan.losses import Loss

SHAPE = (4, 4, 1)


def sequential(*parts, shape=SHAPE):
    return keras.Sequential([keras.Input(shape), *parts])


def generator(*last, latents=3):
    last = last or (layers.Dense(16, "tanh"), layers.Reshape(SHAPE))
    return sequential(*last, shape=(latents,))


def judge(*last):
    return sequential(layers.Flatten(), *(last or (layers.Dense(1),)))


def functional(function, shape=SHAPE):
    x = keras.Input(shape)
    return keras.Model(x, function(layers.Flatten()(x)))


class Judge(keras.Model):
    """A subclassed discriminator with a last function."""

    def __init__(self, last):
        super().__init__()
        self.flatten, self.dense, self.last = layers.Flatten(), layers.Dense(1), last

    def call(self, samples, training=False):
        return self.last(self.dense(self.flatten(samples)))


class Gate(layers.Layer):
    """A layer of a user's own with a sigmoid at its end."""

    def __init__(self):
        super().__init__(name="gate")
        self.dense = layers.Dense(1, name="inner")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return tf.nn.sigmoid(self.dense(x))


def subclassed(last):
    model = Judge(last)
    model(np.zeros((1, *SHAPE), "float32"))
    return model


def recurrent(*last):
    return sequential(layers.Reshape((4, 4)), *last)


class Recurrent(keras.Model):
    """A subclassed discriminator that ends in a recurrent layer."""

    def __init__(self, *last):
        super().__init__()
        self.last = last

    def call(self, samples, training=False):
        x = tf.reshape(samples, (-1, 4, 4))
        for layer in self.last:
            x = layer(x)
        return x


def subclassed_recurrent(*last):
    model = Recurrent(*last)
    model(np.zeros((1, *SHAPE), "float32"))
    return model


class Wide(layers.SimpleRNNCell):
    """A cell of a user's own whose outputs have no bounds."""

    def call(self, x, states, training=False):
        output, states = super().call(x, states)
        return 100 * output, states


@pytest.fixture(autouse=True)
def warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


# ------------------------------------------------------------------------ logits

BOUNDED = {
    "sigmoid": lambda: judge(layers.Dense(1, "sigmoid", name="last")),
    "softmax": lambda: judge(layers.Dense(2, "softmax", name="last")),
    "softmax of one": lambda: judge(layers.Dense(1), layers.Softmax(name="last")),
    "tanh": lambda: judge(layers.Dense(1, "tanh", name="last")),
    "hard sigmoid": lambda: judge(layers.Dense(1, "hard_sigmoid", name="last")),
    "softsign": lambda: judge(layers.Dense(1), layers.Activation("softsign", name="last")),
    "clip": lambda: functional(
        lambda x: layers.Lambda(lambda y: ops.clip(y, 0, 1), name="last")(layers.Dense(1)(x))
    ),
    "activation": lambda: judge(layers.Dense(1), layers.Activation("sigmoid", name="last")),
    "operation": lambda: functional(lambda x: ops.sigmoid(layers.Dense(1, name="last")(x))),
    "reshaped": lambda: judge(layers.Dense(1, "sigmoid", name="last"), layers.Reshape((1, 1))),
    "dropout": lambda: judge(layers.Dense(1, "sigmoid", name="last"), layers.Dropout(0.1)),
    "mean": lambda: sequential(
        layers.Conv2D(1, 3, activation="sigmoid", name="last"), layers.GlobalAveragePooling2D()
    ),
    "float16": lambda: judge(
        layers.Dense(1, "sigmoid", dtype="mixed_float16", name="last"),
        layers.Activation("linear", dtype="float32"),
    ),
    "nested": lambda: judge(
        layers.Dense(2), sequential(layers.Dense(1, "sigmoid", name="last"), shape=(2,))
    ),
    "wrapped": lambda: judge(
        keras_gan.layers.SpectralNormalization(layers.Dense(1, activation="sigmoid", name="last"))
    ),
    "in a list": lambda: functional(
        lambda x: [layers.Dense(1)(x), layers.Dense(1, "sigmoid", name="last")(x)]
    ),
    "in a dictionary": lambda: functional(
        lambda x: {"logits": layers.Dense(1, "sigmoid", name="last")(x)}
    ),
    "Lambda": lambda: judge(layers.Dense(1), layers.Lambda(tf.sigmoid, name="last")),
    "a layer of one's own": lambda: judge(layers.Dense(2), Gate()),
    "LSTM": lambda: recurrent(layers.LSTM(1, name="last")),
    "GRU": lambda: recurrent(layers.GRU(1, name="last")),
    "RNN": lambda: recurrent(layers.SimpleRNN(1, name="last")),
    "LSTM of each step": lambda: recurrent(layers.LSTM(1, return_sequences=True, name="last")),
    "unrolled": lambda: recurrent(layers.LSTM(1, unroll=True, name="last")),
    "both directions": lambda: recurrent(layers.Bidirectional(layers.LSTM(1), name="last")),
    "cells": lambda: recurrent(layers.RNN([layers.GRUCell(2), layers.LSTMCell(1)], name="last")),
    "masked": lambda: recurrent(layers.Masking(), layers.GRU(1, name="last")),
    "ConvLSTM": lambda: sequential(
        layers.Reshape((1, 4, 4, 1)), layers.ConvLSTM2D(1, 3, name="last")
    ),
    "LSTM of sigmoid": lambda: recurrent(layers.LSTM(1, activation="sigmoid", name="last")),
    "time distributed": lambda: recurrent(
        layers.TimeDistributed(layers.Dense(1, activation="sigmoid"), name="last")
    ),
    "sparse sigmoid": lambda: judge(layers.Dense(1, "sparse_sigmoid", name="last")),
    "of length 1": lambda: judge(layers.Dense(4), layers.UnitNormalization(name="last")),
    "functional in sequential": lambda: judge(
        functional(lambda x: ops.sigmoid(layers.Dense(1)(x)), (16,))
    ),
    "subclassed": lambda: subclassed(tf.sigmoid),
    "subclassed recurrent": lambda: subclassed_recurrent(layers.LSTM(1, name="last")),
    "subclassed both directions": lambda: subclassed_recurrent(
        layers.Bidirectional(layers.GRU(1), name="last")
    ),
    "subclassed with keras": lambda: subclassed(keras.activations.tanh),
    "subclassed with a layer": lambda: subclassed(layers.Activation("sigmoid", name="last")),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_a_discriminator_must_return_logits(name):
    network = BOUNDED[name]()
    names = r"last|sigmoid(_\d+)?|gate|judge.*|forward_.*|.*lstm_cell"
    bounds = rf"values from (0|-1|-0.99\d+) to (1|0.99\d+), by layer '({names})' \("
    with pytest.raises(UsageError, match=rf"must return logits, any real numbers.*{bounds}") as e:
        keras_gan.GAN(generator(), network)
    assert "\n" not in str(e.value)


FREE = {
    "linear": lambda: judge(),
    "reshaped": lambda: judge(layers.Dense(4), layers.Reshape((2, 2)), layers.Flatten()),
    "Lambda": lambda: judge(layers.Dense(1), layers.Lambda(lambda x: x * 2)),
    "float32": lambda: judge(layers.Dense(1), layers.Activation("linear", dtype="float32")),
    "leaky": lambda: judge(layers.Dense(1), layers.LeakyReLU()),
    "silu": lambda: judge(layers.Dense(1, "silu")),
    "normalized": lambda: judge(layers.Dense(1, "sigmoid"), layers.BatchNormalization()),
    "soft clip": lambda: functional(lambda x: 10 * ops.tanh(layers.Dense(1)(x) / 10)),
    "clip": lambda: functional(lambda x: ops.clip(layers.Dense(1)(x), -20, 20)),
    "features": lambda: functional(
        lambda x: {"logits": layers.Dense(1)(x), "features": layers.Dense(2, "sigmoid")(x)}
    ),
    "hidden": lambda: judge(layers.Dense(8, "tanh"), layers.Dense(1)),
    "attention": lambda: functional(
        lambda x: layers.Dense(1)(x) * layers.Dense(1, "sigmoid")(x) + layers.Dense(1)(x)
    ),
    "LSTM": lambda: recurrent(layers.LSTM(4), layers.Dense(1)),
    "linear LSTM": lambda: recurrent(layers.LSTM(1, activation="linear")),
    "linear gates": lambda: recurrent(layers.GRU(1, recurrent_activation="linear")),
    "a cell of one's own": lambda: recurrent(layers.RNN(Wide(1))),
    "state": lambda: functional(
        lambda x: layers.LSTM(1, return_state=True)(layers.Reshape((4, 4))(x))[2]
    ),
    "subclassed recurrent": lambda: subclassed_recurrent(layers.LSTM(4), layers.Dense(1)),
    "initial state": lambda: functional(
        lambda x: layers.SimpleRNN(1, activation="linear")(
            layers.Reshape((4, 4))(x), initial_state=layers.Dense(1)(x)
        )
    ),
    "subclassed": lambda: subclassed(lambda x: tf.reshape(x, (-1, 1))),
}


@pytest.mark.parametrize("name", FREE)
def test_logits_are_not_taken_for_probabilities(name):
    for loss in ("non_saturating", "wasserstein", "hinge"):
        keras_gan.GAN(generator(), FREE[name](), loss=loss, ema_half_life=0)


@keras.saving.register_keras_serializable("test_network_checks")
class OfProbabilities(Loss):
    """Binary cross-entropy on probabilities."""

    reach = (0.0, 1.0)

    def discriminator(self, real, fake):
        return -ops.log(real[:, 0]) - ops.log(1 - fake[:, 0])

    def generator(self, real, fake):
        return -ops.log(fake[:, 0])


@pytest.mark.parametrize(
    ("activation", "fits", "fails"),
    [
        ("sigmoid", ("least_squares", OfProbabilities()), ("hinge", "wasserstein", "relativistic")),
        ("tanh", ("least_squares", "hinge"), ("non_saturating", "minimax", "wasserstein")),
        ("softplus", ("wasserstein", "relativistic", "least_squares"), ("non_saturating", "hinge")),
        ("relu", ("wasserstein", "relativistic_average"), ("minimax",)),
    ],
)
def test_the_loss_decides_which_values_it_can_learn_from(activation, fits, fails):
    network = judge(layers.Dense(1, activation))
    for loss in fits:
        keras_gan.GAN(generator(), network, loss=loss, ema_half_life=0)
    for loss in fails:
        with pytest.raises(UsageError, match="must return logits"):
            keras_gan.GAN(generator(), network, loss=loss, ema_half_life=0)


# ------------------------------------------------------------------------ gradients


@pytest.mark.parametrize(
    ("last", "dtype"),
    [
        (lambda x: ops.argmax(layers.Dense(3)(x), axis=-1, keepdims=True), "int32"),
        (lambda x: layers.Dense(1)(x) > 0, "bool"),
        (lambda x: ops.cast(layers.Dense(1)(x), "int64"), "int64"),
    ],
)
def test_logits_that_are_no_real_numbers_are_refused(last, dtype):
    rule = f"logits of the discriminator must be floating-point numbers.*Received: {dtype}"
    with pytest.raises(UsageError, match=rule):
        keras_gan.GAN(generator(), functional(last))


@pytest.mark.parametrize("block", [ops.stop_gradient, ops.round, ops.floor])
@pytest.mark.parametrize("blocked", ["discriminator", "generator"])
def test_a_network_without_gradients_is_refused_before_a_step(block, blocked):
    made, judged = generator(), judge()
    if blocked == "generator":
        made = keras.Model(made.inputs, block(made.outputs[0]))
    else:
        judged = functional(lambda x: block(layers.Dense(1)(x)))
    gan = keras_gan.GAN(made, judged)
    gan.compile()
    before = gan.get_weights()
    with pytest.raises(UsageError, match=r"must depend on its weights.*Received: '.*kernel' and"):
        gan.fit(np.zeros((4, *SHAPE), "float32"), verbose=0)
    for a, b in zip(gan.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@tf.custom_gradient
def blocked_custom(x):
    return 1 * x, lambda upstream: 0 * upstream


ZERO = {
    "sign": ops.sign,
    "tf.sign": lambda x: tf.sign(x),
    "times 0": lambda x: 0 * x,
    "sign of some": lambda x: 0.1 * ops.sign(x) + ops.round(x),
    "of one's own": lambda x: blocked_custom(x),
}


class Blocked(layers.Layer):
    """A layer of a user's own whose gradient is 0."""

    def call(self, x):
        return ops.sign(x)


@pytest.mark.parametrize(
    "build",
    [
        lambda: generator(layers.Dense(16, activation=ops.sign), layers.Reshape(SHAPE)),
        lambda: generator(layers.Dense(16), layers.Activation(tf.sign), layers.Reshape(SHAPE)),
        lambda: generator(layers.Dense(16), Blocked(), layers.Reshape(SHAPE)),
        lambda: functional(
            lambda x: ops.reshape(ops.sign(layers.Dense(16)(x)), (-1, *SHAPE)), (3,)
        ),
        lambda: generator(
            functional(lambda x: ops.sign(layers.Dense(16)(x)), (3,)), layers.Reshape(SHAPE)
        ),
    ],
)
def test_zero_gradients_are_found_wherever_they_are_written(build):
    gan = keras_gan.GAN(build(), judge(), ema_half_life=0)
    with pytest.raises(UsageError, match=r"gradients of 0 for '.*kernel' and 1 more weights of"):
        gan.check_gradients()


def of_zero(where, function):
    """Networks with a function whose gradient is 0: in the generator, the discriminator or both."""
    blocked = layers.Lambda(function)
    flat = layers.Flatten()
    return {
        "at the end": (generator(layers.Dense(16), blocked, layers.Reshape(SHAPE)), judge()),
        "in front of the discriminator": (
            generator(),
            sequential(flat, blocked, layers.Dense(1)),
        ),
        "discriminator": (
            generator(),
            judge(layers.Dense(4), blocked, layers.Rescaling(30.0), layers.Flatten()),
        ),
    }[where]


# Logits that are all 0 are refused by their range.
PLACES = [
    (where, name) for where in ("at the end", "in front of the discriminator") for name in ZERO
]
PLACES += [("discriminator", name) for name in ZERO if name != "times 0"]


@pytest.mark.parametrize(("where", "name"), PLACES)
def test_gradients_of_zero_everywhere_are_refused_before_a_step(where, name):
    gan = keras_gan.GAN(*of_zero(where, ZERO[name]), ema_half_life=0)
    gan.compile()
    before = gan.get_weights()
    who = "discriminator" if where == "discriminator" else "generator"
    rule = (
        rf"unlike argmax, round, sign.*gradients of 0 for '.*' and \d more weights of the {who}, "
    )
    for train in (
        lambda x: gan.fit(x, verbose=0),
        lambda x: gan.train_on_batch(x),
    ):
        with pytest.raises(UsageError, match=rule):
            train(np.zeros((4, *SHAPE), "float32"))
    for a, b in zip(gan.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


class ResidualOfZero(layers.Layer):
    """A residual branch that starts at 0, in two factors of which each gets no gradient alone."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(), initializer="zeros")
        self.inner = layers.Dense(shape[-1], use_bias=False, kernel_initializer="zeros")
        self.inner.build(shape)

    def call(self, x):
        return self.gain * self.inner(x)


ALIVE = {
    "zeros at the end": lambda: (generator(layers.Dense(16, kernel_initializer="zeros")), judge()),
    "all zeros": lambda: (
        generator(
            layers.Dense(8, "relu", kernel_initializer="zeros"),
            layers.Dense(16, use_bias=False, kernel_initializer="zeros"),
        ),
        judge(),
    ),
    "a discriminator of zeros": lambda: (
        generator(layers.Dense(16)),
        judge(layers.Dense(1, kernel_initializer="zeros")),
    ),
    "a branch of zeros": lambda: (generator(ResidualOfZero(), latents=16), judge()),
    "a dead relu": lambda: (
        generator(layers.Dense(16, "relu", bias_initializer=keras.initializers.Constant(-50.0))),
        judge(),
    ),
    "saturated": lambda: (
        generator(layers.Dense(16, "tanh", bias_initializer=keras.initializers.Constant(50.0))),
        judge(),
    ),
    "one number": lambda: (
        generator(layers.Dense(1, "relu"), layers.Dense(16, use_bias=False)),
        judge(layers.Dense(1, "relu"), layers.Dense(1)),
    ),
    "straight through": lambda: (
        generator(
            layers.Dense(16),
            layers.Lambda(lambda x: x + ops.stop_gradient(ops.sign(x) - x)),
        ),
        judge(),
    ),
}


@pytest.mark.parametrize("name", ALIVE)
def test_gradients_that_are_zero_at_first_are_no_reason_to_refuse(name):
    made, judged = ALIVE[name]()
    made = keras.Model(made.inputs, ops.reshape(made.outputs[0], (-1, *SHAPE)))  # asks for a look
    gan = keras_gan.GAN(made, judged, ema_half_life=0)
    gan.compile(run_eagerly=True)
    x = np.random.default_rng(0).uniform(-1, 1, (32, *SHAPE)).astype("float32")
    x = abs(x) if "relu" in name else x
    before = gan.get_weights()
    gan.check_gradients()
    for a, b in zip(gan.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    gan.train_on_batch(x)
    assert gan.count("iteration") == 1


def test_other_fields_and_packs_are_looked_at_and_no_state_changes():
    condition, latents = keras.Input((None, 2), name="condition"), keras.Input((3,), name="latents")
    pooled = layers.Concatenate()([layers.GlobalAveragePooling1D()(condition), latents])
    x = layers.Dropout(0.5)(layers.BatchNormalization()(layers.Dense(16)(pooled)))

    def game(last):
        made = keras.Model([condition, latents], layers.Reshape(SHAPE)(layers.Lambda(last)(x)))
        return keras_gan.GAN(
            made,
            sequential(layers.Flatten(), layers.Dense(1), shape=(4, 4, 2)),
            pac=2,
            ema_half_life=0,
        )

    gan = game(lambda x: 2 * x)
    before = [keras.ops.convert_to_numpy(v.value) for v in (*gan.variables, *gan.noise_states())]
    gan.check_gradients()
    for variable, old in zip((*gan.variables, *gan.noise_states()), before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable.value), old)
    with pytest.raises(UsageError, match=r"gradients of 0 for '.*' and 3 more weights of the gen"):
        game(lambda x: tf.sign(x)).check_gradients()
    made = conditional_generator()
    made = keras.Model(made.inputs, layers.Lambda(lambda x: tf.sign(x))(made.outputs[0]))
    with pytest.raises(UsageError, match=r"gradients of 0 for '.*table.*' and \d more weights"):
        keras_gan.GAN(made, conditional_judge(), num_classes=3, ema_half_life=0).check_gradients()


# ------------------------------------------------------------------------ frozen networks


def frozen(model):
    model.trainable = False
    return model


def test_a_frozen_network_is_refused_wherever_it_is_frozen():
    x = np.zeros((8, *SHAPE), "float32")
    hint = "leave out `trainable = False`, as each step trains one player alone. Received: "
    with pytest.raises(UsageError, match=f"discriminator must have trainable weights; {hint}"):
        keras_gan.GAN(generator(), frozen(judge())).compile()
    with pytest.raises(UsageError, match=f"generator must have trainable weights; {hint}"):
        keras_gan.GAN(frozen(generator()), judge()).compile()
    with pytest.raises(UsageError, match=r"generator must have trainable weights. Received: none"):
        keras_gan.GAN(generator(layers.Reshape(SHAPE), latents=16), judge()).compile()
    network = judge()
    for layer in network.layers:
        frozen(layer)
    with pytest.raises(UsageError, match=f"{hint}'dense.*' with trainable=False"):
        keras_gan.GAN(generator(), network).compile()
    gan = keras_gan.GAN(generator(), judge())
    frozen(gan.discriminator)
    with pytest.raises(UsageError, match="discriminator must have trainable weights"):
        gan.compile()
    gan.discriminator.trainable = True
    gan.compile()
    frozen(gan.generator)
    for train in (lambda: gan.fit(x, verbose=0), lambda: gan.train_on_batch(x)):
        with pytest.raises(UsageError, match="generator must have trainable weights"):
            train()
    assert gan.count("iteration") == 0
    assert gan.generate([1]).shape == (1, *SHAPE)  # samples need no training


def test_a_callback_that_freezes_a_network_ends_the_training():
    gan = keras_gan.GAN(generator(), judge())
    gan.compile()
    freeze = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(gan.discriminator, "trainable", epoch != 1)
    )
    x = np.zeros((4, *SHAPE), "float32")
    with pytest.raises(UsageError, match="discriminator must have trainable weights; leave out"):
        gan.fit(x, epochs=4, callbacks=[freeze], verbose=0)
    assert gan.count("iteration") == 2
    gan.discriminator.trainable = True
    several = keras.callbacks.CallbackList([freeze], model=gan)
    for _ in range(2):  # a list of one's own is used as it is
        with pytest.raises(UsageError, match="discriminator must have trainable weights"):
            gan.fit(x, epochs=4, callbacks=several, verbose=0)
        gan.discriminator.trainable = True
    assert gan.count("iteration") == 6
    assert len(several.callbacks) == 2


def test_a_game_of_frozen_networks_is_loaded_for_its_samples(tmp_path):
    gan = keras_gan.GAN(generator(), judge(), ema_half_life=0)
    samples = gan.generate([3])
    gan.trainable = False
    gan.save(tmp_path / "game.keras")
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "game.keras").generate([3]), samples
    )


def test_single_frozen_layers_are_trained_around_and_do_not_change_after_compile():
    network = judge(layers.Dense(4, name="borrowed"), layers.Dense(1))
    frozen(network.get_layer("borrowed"))
    gan = keras_gan.GAN(generator(), network)
    gan.compile(run_eagerly=True)
    before = network.get_layer("borrowed").kernel.numpy()
    gan.fit(np.zeros((2, *SHAPE), "float32"), batch_size=2, verbose=0)
    np.testing.assert_array_equal(network.get_layer("borrowed").kernel, before)
    network.get_layer("borrowed").trainable = True
    with pytest.raises(UsageError, match=r"compile again. Received: 4 trainable weights, 2 at"):
        gan.fit(np.zeros((2, *SHAPE), "float32"), batch_size=2, verbose=0)


def test_weights_that_both_players_train_are_named():
    table = layers.Embedding(3, 3, name="table")

    def model(shape, last):
        x, labels = keras.Input(shape), keras.Input((), dtype="int32")
        return keras.Model([x, labels], last(layers.Flatten()(x), table(labels)))

    networks = (
        model((3,), lambda x, y: layers.Reshape(SHAPE)(layers.Dense(16)(x + y))),
        model(SHAPE, lambda x, y: layers.Dense(1)(layers.Concatenate()([x, y]))),
    )
    with pytest.warns(UserWarning, match=r"not share weights.*1 shared by generator and disc"):
        keras_gan.GAN(*networks, num_classes=3)


# ------------------------------------------------------------------------ inputs and outputs


def conditional(shape, last, labels=(), rows=3, order=(0, 1), dtype="int32", encode=None):
    """A network of a vector or picture and labels, called by position."""
    encode = encode or layers.Embedding(rows, 2, name="table")
    x, y = keras.Input(shape), keras.Input(labels, dtype=dtype)
    features = layers.Concatenate()([layers.Flatten()(x), layers.Flatten()(encode(y))])
    return keras.Model([(x, y)[i] for i in order], last(features))


def conditional_generator(**options):
    last = keras.Sequential([layers.Dense(16), layers.Reshape(SHAPE)])
    return conditional((5,), last, **options)


def conditional_judge(**options):
    return conditional(SHAPE, layers.Dense(1), **options)


ONE_HOT = {"labels": (3,), "dtype": "float32", "encode": layers.Flatten()}
ORDER = r"; inputs must be in the order latents, labels, or have these names\. Received: input"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ONE_HOT, r"class ids \(batch,\).*not one-hot: encode .*CategoryEncoding\(3.*\(batch, 3\)"),
        ({"order": (1, 0)}, rf"latents of the generator must be floating-point numbers{ORDER}"),
        ({"order": (1, 0), "dtype": "float32"}, rf"labels of the gen.*{ORDER}.*\(batch, 5\)"),
        ({"order": (1, 0), "labels": (1,), "dtype": "float32"}, rf"labels of.*{ORDER}"),
        ({"rows": 2}, r"a row for each of the 3 classes.* up to 2 in layer 'table'. Received: 2"),
        (
            {"encode": layers.CategoryEncoding(2, output_mode="one_hot", name="code")},
            "in layer 'code'. Received: 2 rows",
        ),
        (
            {"encode": layers.Lambda(lambda y: tf.one_hot(tf.cast(y, "int32"), 2), name="code")},
            "in layer 'code'. Received: 2 rows",
        ),
        (
            {"encode": sequential(layers.Reshape((1,)), layers.Embedding(2, 4), shape=())},
            r"in layer 'embedding.*'. Received: 2 rows",
        ),
    ],
)
def test_labels_that_a_network_cannot_take_are_refused(options, message):
    with pytest.raises(UsageError, match=message) as error:
        keras_gan.GAN(conditional_generator(**options), conditional_judge(), num_classes=3)
    assert "\n" not in str(error.value)


def test_the_discriminators_labels_are_checked_as_well():
    for options, message in (
        (ONE_HOT, "labels of the discriminator must be class ids"),
        ({"rows": 2}, "discriminator must have a row for each of the 3 classes"),
        ({"order": (1, 0)}, "in the order samples, labels"),
    ):
        with pytest.raises(UsageError, match=message):
            keras_gan.GAN(conditional_generator(), conditional_judge(**options), num_classes=3)


class Plus(keras.Model):
    """A subclassed conditional generator that looks up a class id plus a number."""

    def __init__(self, rows, plus=0):
        super().__init__()
        self.table, self.dense, self.plus = layers.Embedding(rows, 2), layers.Dense(16), plus

    def call(self, inputs, training=False):
        latents, labels = inputs
        features = ops.concatenate([latents, self.table(labels + self.plus)], -1)
        return ops.reshape(self.dense(features), (-1, *SHAPE))


class Columns(layers.Layer):
    """A layer that looks up class ids along the second axis of its weights."""

    def build(self, shape):
        self.table = self.add_weight(shape=(2, 3))

    def call(self, labels):
        return ops.transpose(ops.take(self.table, labels, axis=1))


def test_rows_for_ids_that_the_network_shifts():
    def gan(model):
        model([np.zeros((1, 5), "float32"), np.zeros(1, "int32")])
        return keras_gan.GAN(
            model, conditional_judge(), num_classes=3, latent_dim=5, ema_half_life=0
        )

    gan(Plus(3))
    gan(Plus(4, plus=1))
    with pytest.raises(UsageError, match=r"reach up to 3 in layer 'embedding.*'. Received: 3 rows"):
        gan(Plus(3, plus=1))
    shifted = keras.Sequential([keras.Input(()), layers.Lambda(lambda y: y + 1)])
    shifted.add(layers.Embedding(3, 2, name="table"))
    with pytest.raises(UsageError, match="reach up to 3 in layer 'table'"):
        keras_gan.GAN(conditional_generator(encode=shifted), conditional_judge(), num_classes=3)


@pytest.mark.parametrize(
    ("encode", "reached"),
    [
        (lambda y: ops.where(y >= 2, 1, y), None),
        (lambda y: ops.where(ops.greater(2, y), y, 1), None),
        (lambda y: ops.where(y <= 1, y, 1), None),
        (lambda y: ops.where(y < 3, 1, y), None),  # always 1
        (lambda y: ops.where(y > 2, 1, y), 2),
        (lambda y: ops.where(y < 1, y, 2), 2),
    ],
)
def test_ids_that_a_choice_keeps_within_a_table_are_taken(encode, reached):
    choice = keras.Sequential([keras.Input((), dtype="int32"), layers.Lambda(encode)])
    choice.add(layers.Embedding(2, 2, name="table"))
    networks = conditional_generator(encode=choice), conditional_judge()
    if reached is None:
        keras_gan.GAN(*networks, num_classes=3, ema_half_life=0)
    else:
        with pytest.raises(UsageError, match=f"reach up to {reached} in layer 'table'"):
            keras_gan.GAN(*networks, num_classes=3, ema_half_life=0)


@pytest.mark.parametrize(
    "options",
    [
        {"labels": (1,)},
        {"dtype": "float32"},
        {"rows": 7},
        {"encode": Columns()},
        {"encode": layers.CategoryEncoding(3, output_mode="one_hot")},
        {"encode": layers.Lambda(lambda y: ops.one_hot(ops.cast(y, "int32"), 3))},
    ],
)
def test_usual_ways_to_take_labels_are_accepted_and_run(options):
    gan = keras_gan.GAN(
        conditional_generator(**options), conditional_judge(), num_classes=3, ema_half_life=0
    )
    gan.compile(run_eagerly=True)
    x, y = np.zeros((3, *SHAPE), "float32"), np.arange(3, dtype="int32")
    gan.fit(x, y, batch_size=3, verbose=0)
    assert gan.generate([1], labels=2).shape == (1, *SHAPE)


def two_outputs(x):
    return [layers.Dense(1)(x), layers.Dense(3)(x)]


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        (
            lambda: (functional(two_outputs, (3,)), judge()),
            r"generator must return a tensor.*2 outputs, of shapes \[\(None, 1\), \(None, 3\)\]",
        ),
        (
            lambda: (generator(), functional(two_outputs)),
            r"name other outputs by a dictionary.*list of shapes \[\(None, 1\), \(None, 3\)\]",
        ),
        (
            lambda: (generator(), functional(lambda x: ops.mean(layers.Dense(1)(x)))),
            r"logits of the discriminator must have one row for each.*shape \(\) for 2 examples",
        ),
        (
            lambda: (generator(), functional(lambda x: ops.reshape(layers.Dense(4)(x), (-1, 1)))),
            r"one row for each example.*shape \(8, 1\) for 2 examples",
        ),
        (
            lambda: (
                generator(),
                keras.Sequential([keras.Input(batch_shape=(8, *SHAPE)), layers.Flatten()]),
            ),
            r"one row for each example of a batch of any size. Received: shape \(8, 16\)$",
        ),
        (
            lambda: (generator(layers.Dense(1), layers.Reshape(())), judge()),
            r"at least one axis besides the batch",
        ),
        (
            lambda: (functional(lambda x: ops.cast(layers.Dense(1)(x), "uint8"), (3,)), judge()),
            "must be floating-point numbers, through which it learns. Received: uint8",
        ),
        (
            lambda: (generator(), functional(lambda x: {"validity": layers.Dense(1)(x)})),
            "a dictionary with one named logits. Received: outputs validity",
        ),
    ],
)
def test_outputs_that_cannot_be_used_are_refused(networks, message):
    with pytest.raises(UsageError, match=message):
        keras_gan.GAN(*networks())


def test_a_network_that_fails_is_named_with_its_error():
    class Separate(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(16)

        def call(self, latents, labels, training=False):
            return self.dense(latents)

    model = Separate()
    model(np.zeros((1, 5), "float32"), np.zeros(1, "int32"))
    with pytest.raises(UsageError, match="generator must run on a batch of latents, labels") as e:
        keras_gan.GAN(model, conditional_judge(), num_classes=3, latent_dim=5)
    assert "\n" not in str(e.value)
    assert e.value.__cause__ is not None


# ------------------------------------------------------------------------ published networks


def dcgan():
    """Layers of keras.io/examples/generative/dcgan_overriding_train_step, fewer channels."""
    judge = [keras.Input((64, 64, 3))]
    for width in (4, 8, 8):
        judge += [layers.Conv2D(width, 4, 2, "same"), layers.LeakyReLU(negative_slope=0.2)]
    judge += [layers.Flatten(), layers.Dropout(0.2), layers.Dense(1)]
    maker = [keras.Input((128,)), layers.Dense(8 * 8 * 8), layers.Reshape((8, 8, 8))]
    for width in (8, 16, 16):
        maker += [layers.Conv2DTranspose(width, 4, 2, "same"), layers.LeakyReLU(negative_slope=0.2)]
    maker += [layers.Conv2D(3, 5, padding="same", activation="sigmoid")]
    return keras.Sequential(maker), keras.Sequential(judge), {}


def conditional_gan():
    """Layers of keras.io/examples/generative/conditional_gan, the labels encoded inside."""

    def planes(labels):
        encoded = ops.one_hot(labels, 10)
        return ops.repeat(ops.repeat(encoded[:, None, None, :], 28, axis=1), 28, axis=2)

    samples, labels = keras.Input((28, 28, 1)), keras.Input((), dtype="int32")
    x = layers.Concatenate()([samples, layers.Lambda(planes, (28, 28, 10))(labels)])
    for width in (8, 16):
        x = layers.LeakyReLU(negative_slope=0.2)(layers.Conv2D(width, 3, 2, "same")(x))
    judge = keras.Model([samples, labels], layers.Dense(1)(layers.GlobalMaxPooling2D()(x)))
    latents, labels = keras.Input((128,)), keras.Input((), dtype="int32")
    x = layers.Concatenate()([latents, layers.CategoryEncoding(10, "one_hot")(labels)])
    x = layers.Reshape((7, 7, 8))(layers.LeakyReLU(negative_slope=0.2)(layers.Dense(7 * 7 * 8)(x)))
    for width in (8, 8):
        x = layers.Conv2DTranspose(width, 4, 2, "same")(x)
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Conv2D(1, 7, padding="same", activation="sigmoid")(x)
    return keras.Model([latents, labels], x), judge, {"num_classes": 10}


def wgan_gp():
    """Layers of keras.io/examples/generative/wgan_gp, fewer channels."""
    judge = [keras.Input((28, 28, 1)), layers.ZeroPadding2D(2)]
    for width, rate in ((4, 0.0), (8, 0.3), (8, 0.3), (8, 0.0)):
        judge += [layers.Conv2D(width, 5, 2, "same"), layers.LeakyReLU(negative_slope=0.2)]
        judge += [layers.Dropout(rate)] if rate else []
    judge += [layers.Flatten(), layers.Dropout(0.2), layers.Dense(1)]
    maker = [keras.Input((128,)), layers.Dense(4 * 4 * 8, use_bias=False)]
    maker += [layers.BatchNormalization(), layers.LeakyReLU(0.2), layers.Reshape((4, 4, 8))]
    for width in (8, 4, 1):
        maker += [layers.UpSampling2D(2), layers.Conv2D(width, 3, 1, "same", use_bias=False)]
        maker += [layers.BatchNormalization()]
        maker += [layers.Activation("tanh") if width == 1 else layers.LeakyReLU(0.2)]
    maker += [layers.Cropping2D(2)]
    options = {"loss": "wasserstein", "terms": ["gradient_penalty"], "discriminator_steps": 3}
    return keras.Sequential(maker), keras.Sequential(judge), options


@pytest.mark.parametrize("networks", [dcgan, conditional_gan, wgan_gp])
def test_published_networks_with_logits_pass_without_a_word(networks):
    *pair, options = networks()
    gan = keras_gan.GAN(*pair, ema_half_life=0, **options)
    gan.compile()
    limits = (-1, 1) if networks is wgan_gp else (0, 1)
    assert gan.networks["generator"].output_range() == limits


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("name", ["dcgan", "mlp", "multi_scale", "r3gan", "resnet"])
def test_our_architectures_pass_without_a_word(name, conditional):
    spec = keras_gan.Spec("image", (16, 16, 3), (-1.0, 1.0), num_classes=3)
    parts = [("generator", "dcgan" if name == "multi_scale" else name), ("discriminator", name)]
    sizes = {
        "mlp": {"widths": [4]},
        "resnet": {"widths": [4, 4]},
        "r3gan": {"widths": [4, 4]},
    }
    networks = [
        keras_gan.architectures.build_network(
            role, family, spec, conditional, **sizes.get(family, {})
        )
        for role, family in parts
    ]
    gan = keras_gan.GAN(*networks, num_classes=3 * conditional, ema_half_life=0)
    gan.compile()
    bounded = name != "r3gan"
    assert gan.networks["generator"].output_range() == ((-1, 1) if bounded else None)


# ------------------------------------------------------------------------ networks as people write


def test_inputs_in_a_dictionary_have_its_names_in_any_order():
    latents, samples = keras.Input((4,), name="latents"), keras.Input(SHAPE, name="samples")
    labels = keras.Input((), dtype="int32", name="labels")
    table = layers.Embedding(3, 4)
    joined = layers.Concatenate()([latents, table(labels)])
    made = layers.Reshape(SHAPE)(layers.Dense(16, "tanh")(joined))
    seen = layers.Concatenate()([layers.Flatten()(samples), layers.Embedding(3, 4)(labels)])
    gan = keras_gan.GAN(
        keras.Model({"latents": latents, "labels": labels}, made),
        keras.Model({"samples": samples, "labels": labels}, layers.Dense(1)(seen)),
        num_classes=3,
    )
    gan.compile()
    x, y = np.zeros((6, *SHAPE), "float32"), np.arange(6) % 3
    gan.fit(x, y, verbose=0)
    one, other = gan.generate([5, 5], labels=[0, 1])
    assert np.abs(one - other).max() > 1e-3


def test_the_average_of_a_network_with_a_lambda_layer_is_a_copy():
    gan = keras_gan.GAN(
        generator(layers.Lambda(lambda x: 2 * x), layers.Dense(16, "tanh"), layers.Reshape(SHAPE)),
        judge(),
        ema_half_life=10,
        ema_rampup=10,
    )
    gan.compile("sgd", "sgd", run_eagerly=True)
    before = gan.average_generator.get_weights()
    gan.fit(np.zeros((8, *SHAPE), "float32"), verbose=0)
    live, average = gan.generator.get_weights()[0], gan.average_generator.get_weights()[0]
    assert np.abs(live - average).max() > 0
    assert np.abs(before[0] - average).max() > 0


class Plain(layers.Layer):
    """A layer of one's own whose arguments Keras does not know."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, x):
        return self.factor * x


def test_a_layer_that_cannot_be_copied_is_one_line():
    made = generator(Plain(1.0), layers.Dense(16, "tanh"), layers.Reshape(SHAPE))
    with pytest.raises(UsageError, match=r"or give ema_half_life=0. Received: Sequential: ") as one:
        keras_gan.GAN(made, judge())
    assert "\n" not in str(one.value)
    keras_gan.GAN(made, judge(), ema_half_life=0)


@pytest.mark.parametrize("name", ["kernel_regularizer", "bias_regularizer", "activity_regularizer"])
def test_regularizers_of_layers_are_named(name):
    last = layers.Dense(1, name="last", **{name: keras.regularizers.L2(0.1)})
    with pytest.warns(UserWarning, match="Regularizers.*layer 'last' of the discriminator"):
        keras_gan.GAN(generator(), judge(last))


class Sparse(layers.Layer):
    """A layer that adds a loss when it is called."""

    def call(self, x):
        self.add_loss(ops.mean(ops.abs(x)))
        return x


class Committed(layers.Layer):
    """A layer that adds a loss in a method of its own, as a quantizer does."""

    def call(self, x):
        return self.quantized(x)

    def quantized(self, x):
        def commit():
            self.add_loss(ops.mean(x**2))

        commit()
        return x


class LossyJudge(Judge):
    """A subclassed discriminator that adds a loss."""

    def call(self, samples, training=False):
        self.add_loss(ops.mean(samples))
        return super().call(samples)


def lossy_judge():
    model = LossyJudge(tf.identity)
    model(np.zeros((1, *SHAPE), "float32"))
    return model


@pytest.mark.parametrize(
    "build",
    [
        lambda: judge(Sparse(name="last"), layers.Dense(1)),
        lambda: judge(sequential(Committed(name="last"), shape=(16,)), layers.Dense(1)),
        lambda: judge(layers.ActivityRegularization(l2=0.1, name="last"), layers.Dense(1)),
        lossy_judge,
    ],
)
def test_losses_that_layers_add_are_named(build):
    named = r"Received: (add_loss|a regularizer) of layer '(last|lossy_judge.*)' of the discrim"
    with pytest.warns(UserWarning, match=rf"add_loss are not part of .* {named}") as caught:
        keras_gan.GAN(generator(), build(), ema_half_life=0)
    assert len(caught) == 1
