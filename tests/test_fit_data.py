"""Data of `fit` and `evaluate`: the same mistakes are refused in every form of data."""

import dataclasses
import functools
import itertools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_gan
from keras_gan import UsageError, data_spec, data_streams
from keras_gan.data_spec import BatchCheck, DataSpec

RNG = np.random.default_rng(0)
X = np.tanh(RNG.normal(size=(16, 4, 4, 1))).astype("float32")
Y = np.arange(16) % 3
slices = tf.data.Dataset.from_tensor_slices


class Batches(keras.utils.PyDataset):
    """A PyDataset of batches in a list."""

    def __init__(self, batches, **arguments):
        super().__init__(**arguments)
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


class Loader:
    """Batches that can be read repeatedly, as lists, as a DataLoader gives them."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return ([*batch] if isinstance(batch, tuple) else [batch] for batch in self.batches)


def from_generator(batches):
    """A tf.data set of unknown length and of batches of unknown sizes."""
    signature = tf.nest.map_structure(
        lambda value: tf.TensorSpec((None, *np.shape(value)[1:]), np.asarray(value).dtype),
        batches[0],
    )
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=signature)


DOORS = {
    "tf.data": from_generator,
    "PyDataset": Batches,
    "generator": lambda batches: (batch for batch in batches),
    "iterator": iter,
    "loader": Loader,
}
every_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


def game(num_classes=0, run_eagerly=True, **arguments):
    """A tiny game of 4 x 4 pictures, whose generator ends with tanh."""
    keras.utils.set_random_seed(0)
    networks = []
    for name, shape, outputs in (("latents", (2,), (4, 4, 1)), ("samples", (4, 4, 1), (1,))):
        inputs = [keras.Input(shape, name=name)]
        hidden = layers.Flatten()(inputs[0])
        if num_classes:
            inputs.append(keras.Input((), dtype="int32", name="labels"))
            embedded = layers.Embedding(num_classes, 2)(inputs[1])
            hidden = layers.Concatenate()([hidden, embedded])
        hidden = layers.Dense(int(np.prod(outputs)), "tanh" if name == "latents" else None)(hidden)
        networks.append(keras.Model(inputs, layers.Reshape(outputs)(hidden)))
    gan = keras_gan.GAN(*networks, num_classes=num_classes, **arguments)
    gan.compile("sgd", "sgd", run_eagerly=run_eagerly)
    return gan


@functools.cache
def refusing(num_classes, **arguments):
    """A game that is given mistakes only, and so is never changed."""
    return game(num_classes, **arguments)


@functools.cache
def two_steps():
    """The weights after two steps on halves of the pictures."""
    return trained(game(), X, batch_size=8, shuffle=False).get_weights()


def trained(gan, *data, **arguments):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Your input ran out of data")  # Keras, of its own guess
        gan.fit(*data, verbose=0, **arguments)
    return gan


# ------------------------------------------------------------------------ what is taken


@every_door
@pytest.mark.parametrize("form", [lambda x: x, lambda x: (x,), lambda x: {"samples": x}])
def test_every_door_takes_samples_alone(door, form):
    gan = trained(game(), door([form(X[:8]), form(X[8:])]), shuffle=False)
    assert gan.count("iteration") == 2
    for a, b in zip(gan.get_weights(), two_steps(), strict=True):
        np.testing.assert_array_equal(a, b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = gan.evaluate(door([form(X)]), verbose=0)
    np.testing.assert_allclose(measured, gan.evaluate(X, verbose=0), rtol=1e-6)


@every_door
def test_batches_may_differ_in_size_and_none_is_lost(door):
    parts = [(X[:7], Y[:7]), (X[7:9], Y[7:9]), (X[9:], Y[9:])]
    gan = trained(game(3), door(parts))
    assert (gan.count("iteration"), gan.count("examples_seen")) == (3, 16)


@pytest.mark.parametrize("rank", [None, 4])
def test_a_data_set_may_declare_no_shapes(rank):
    shape = tf.TensorShape(None if rank is None else (None,) * rank)
    data = tf.data.Dataset.from_generator(
        lambda: iter([X, X[:5]]), output_signature=tf.TensorSpec(shape)
    )
    gan = trained(game(run_eagerly=False), data)
    assert gan.count("examples_seen") == 21


def test_an_endless_generator_goes_on_after_the_batches_that_were_looked_at():
    given = []

    def endless():
        while True:
            given.append(len(given))
            yield X[:4] * np.float32(0.9 ** len(given))

    gan = game()
    gan.fit(endless(), steps_per_epoch=6, verbose=0)
    expected = game()
    expected.fit(slices([X[:4] * np.float32(0.9**k) for k in range(1, 7)]), verbose=0)
    for a, b in zip(gan.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_epoch_of_unknown_length_leaves_no_trace_of_a_step_after_its_end():
    gan = trained(game(run_eagerly=False), from_generator([X, X, X]), epochs=2)
    assert gan.count("iteration") == 6
    assert int(gan.generator_optimizer.iterations) == 6


# ------------------------------------------------------------------------ what is refused

MISTAKES = {
    "uint8": ((X * 127 + 127).astype("uint8"), None, r"float32 \(uint8 images: x / 127.5 - 1\)"),
    "float64": (X.astype("float64"), None, r'float32 \(x.astype\("float32"\)\)'),
    "0..255": (X * 127 + 128, None, r"in \[-1, 1\] \(from 0..255: x / 127.5 - 1\)"),
    "0..1": (abs(X), None, r"with negative ones \(from 0..1: x \* 2 - 1\).*from 0.0\d+ to 0.9"),
    "twice": (X * 2, None, r"in \[-1, 1\]; rescale them, .*Received: values from -1.9"),
    "NaN": (np.where(X > 0.9, np.nan, X).astype("float32"), None, "finite.*: 18 NaN or inf"),
    "infinite": (np.where(X > 0.9, np.inf, X).astype("float32"), None, "finite.*: 18 NaN or inf"),
    "shape": (X[:, :2], None, r"\('batch', 4, 4, 1\).*Received: \((16|None), 2, 4, 1\)"),
    "one-hot": (X, np.eye(3)[Y], r"one-hot \(y.argmax\(axis=1\)\). Received: float64 of shape"),
    "column": (X, Y[:, None], r"\(y\[:, 0\]\). Received: int64 of shape \((16|None), 1\)"),
    "floats": (X, Y.astype("float32"), r'whole numbers: y.astype\("int32"\).*float32'),
    "from 1": (X, Y + 1, r"0 to 2 \(ids that start at 1: y - 1\). Received: ids from 1 to 3"),
    "negative": (X, Y - 1, "ids from 0 to 2, without -1.*Received: ids from -1 to 1"),
    "no labels": (X, ..., "needs .x, y., with y class ids. Received: x alone"),
}
every_mistake = pytest.mark.parametrize(("x", "y", "message"), MISTAKES.values(), ids=MISTAKES)


def data_of(x, y):
    return (x,) if y is None or y is ... else (x, y)


@every_mistake
def test_arrays_are_refused_by_fit_evaluate_and_single_batches(x, y, message):
    gan, data = refusing(0 if y is None else 3), data_of(x, y)
    for method in (gan.fit, gan.evaluate, gan.train_on_batch, gan.test_on_batch):
        with pytest.raises(UsageError, match=message):
            method(*data)
    good = (X,) if y is None else (X, Y)
    with pytest.raises(UsageError, match=message):
        gan.fit(*good, validation_data=data if len(data) > 1 else x)
    with pytest.raises(UsageError, match=message):
        gan.fit(*good, validation_data=from_generator([data]))
    assert gan.count("iteration") == 0


@every_door
@every_mistake
def test_the_first_batches_of_a_stream_are_refused(door, x, y, message):
    gan, batch = refusing(0 if y is None else 3), data_of(x, y)
    for method in (gan.fit, gan.evaluate):
        with pytest.raises(UsageError, match=message) as caught:
            method(door([batch, batch]), verbose=0)
        assert "\n" not in str(caught.value)
    assert gan.count("iteration") == 0


@pytest.mark.parametrize(
    ("door", "run_eagerly"),
    [*((door, True) for door in DOORS.values()), (from_generator, False), (iter, False)],
)
def test_a_later_batch_ends_the_training_in_the_state_before_it(door, run_eagerly):
    batches = [X, X, X * 127, X]
    gan = game(run_eagerly=run_eagerly)
    message = r"Received: values from -126.* to 1\d\d.*, in (batch 3|dataset\[2\])$"
    with pytest.raises(UsageError, match=message):
        trained(gan, door(batches), shuffle=False)
    expected = trained(game(), slices(np.stack(batches[:2])))
    assert gan.count("iteration") == int(gan.generator_optimizer.iterations) == 2
    for a, b in zip(gan.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("how", [{"steps_per_execution": 2}, {"jit_compile": True}])
def test_other_ways_of_running_end_in_the_state_before_the_batch_as_well(how):
    gan = game()
    gan.compile("sgd", "sgd", **how)
    batches = np.stack([X, X, X, X * 127, X, X])
    with pytest.raises(UsageError, match=r"in batch 4$"):
        gan.fit(slices(batches), verbose=0)
    assert gan.count("iteration") == int(gan.discriminator_optimizer.iterations) == 3


def test_batches_are_numbered_from_one_in_each_epoch():
    passes = itertools.count()  # the look before the first step, then the epochs

    def batches():
        is_second_epoch = next(passes) == 2
        yield X
        yield X * 9 if is_second_epoch else X

    signature = tf.TensorSpec(X.shape, tf.float32)
    data = tf.data.Dataset.from_generator(batches, output_signature=signature)
    gan = game()
    with pytest.raises(UsageError, match=r"in batch 2$"):
        gan.fit(data.apply(tf.data.experimental.assert_cardinality(2)), epochs=3, verbose=0)
    assert gan.count("iteration") == 3


@pytest.mark.parametrize("arguments", [{"workers": 2}, {"workers": 2, "use_multiprocessing": True}])
def test_batches_that_workers_read_are_checked_where_they_are_read(arguments):
    gan = game()
    data = Batches([X, X, X, X * 9], **arguments)
    with pytest.raises(UsageError, match=r"in dataset\[3\]$"):
        gan.fit(data, shuffle=False, verbose=0)
    assert gan.count("iteration") == 3


@every_door
def test_streams_without_batches_or_without_samples_are_refused(door):
    gan = game()
    if door is not from_generator:
        with pytest.raises(UsageError, match=r"at least one batch. Received: none"):
            gan.fit(door([]), verbose=0)
    with pytest.raises(UsageError, match=r"a sample for each replica.*a batch of 0, in"):
        gan.fit(door([X, X[:0]]), shuffle=False, verbose=0)


@every_door
def test_batches_that_do_not_divide_into_steps_are_refused(door):
    gan = refusing(0, discriminator_steps=2)
    message = "known size.*of unknown size" if door is from_generator else "2.*a batch of 3, in"
    with pytest.raises(UsageError, match=message):
        gan.fit(door([X[:3]]), verbose=0)


def test_the_rest_of_a_validation_split_must_divide_as_well():
    gan = game(discriminator_steps=2)
    with pytest.raises(UsageError, match="a batch of 3"):
        gan.fit(X, batch_size=8, validation_split=0.3)
    gan.fit(X, batch_size=8, validation_split=0.25, verbose=0)
    assert gan.count("examples_seen") == 12


def test_weights_of_samples_and_classes_are_refused():
    gan, weights = game(3), np.ones(16, "float32")
    message = "`{}` cannot be used.*sample_from_datasets. Received: {} of type"
    for name, value in (("sample_weight", weights), ("class_weight", {0: 2.0})):
        with pytest.raises(UsageError, match=message.format(name, name)):
            gan.fit(X, Y, **{name: value})
        with pytest.raises(UsageError, match=message.format(name, name)):
            gan.train_on_batch(X, Y, **{name: value})
    weighted = message.format("sample_weight", "sample_weight")
    for door in DOORS.values():
        with pytest.raises(UsageError, match=weighted):
            gan.fit(door([(X, Y, weights)]))
        with pytest.raises(UsageError, match=weighted):
            gan.evaluate(door([(X, Y, weights)]))
    with pytest.raises(UsageError, match=weighted):
        gan.fit(X, Y, validation_data=(X, Y, weights))
    with pytest.raises(UsageError, match=weighted):
        gan.evaluate(X, Y, sample_weight=weights)
    with pytest.raises(UsageError, match=weighted):
        gan.train_step((tf.constant(X), tf.constant(Y), tf.constant(weights)))
    trained(gan, DOORS["generator"]([(X, Y, None)]))
    assert gan.count("iteration") == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            (X.tolist(),),
            r"`x` must be an array: np.asarray.*labels go in y. Received: x of type list",
        ),
        ((X, Y.tolist()), r"`y` must be an array.*y of type list"),
        (((X, Y),), "`x` must be an array.*of type tuple"),
        (("pictures",), "`x` must be an array.*of type str"),
        ((X, Y[:8]), "one value of `labels` for each sample. Received: 16 samples and 8 values"),
        (({"samples": X, "labels": Y}, Y), "Labels must be given once.*both"),
        ((slices(X).batch(8), Y), "`y` goes with arrays.*_BatchDataset, and y"),
        ((slices((X, Y, Y, Y)).batch(8),), r"Batches must be x, \(x, y\).*Received: \(TensorSpec"),
        ((Batches([None]),), "Batches must be x.*Received: None"),
        ((Batches([(X[:8], Y[:8]), X]),), "first one, samples, labels. Received: samples, in "),
        ((iter([X.tolist()]),), r"Batches must be x, \(x, y\), .*of tensors"),
        ((tf.data.Dataset.from_tensors(tf.sparse.eye(4)),), "of tensors. Received: SparseTensorSp"),
    ],
)
def test_other_forms_of_data_are_refused_in_one_line(data, message):
    with pytest.raises(UsageError, match=message) as caught:
        refusing(3).fit(*data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


# ------------------------------------------------------------------------ range


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_values_without_negative_ones_are_judged_by_sixteen_samples(door):
    bright, dark = abs(X[:4]), -abs(X[:4])
    gan = trained(game(), door([bright, bright, bright, dark]), shuffle=False)
    assert gan.count("iteration") == 4
    with pytest.raises(UsageError, match="with negative ones"):
        game().fit(door([bright, bright, bright, bright]), shuffle=False, verbose=0)


def test_a_stated_kind_vouches_for_the_range():
    gan = game()
    gan.sample_kind = "image"
    trained(gan, abs(X))
    with pytest.raises(UsageError, match=r"\[-1, 1\]"):
        gan.fit(X * 2)
    gan.sample_kind = "array"
    trained(gan, X * 2)


def fits(x, **needs):
    data_spec.check_arrays({"samples": x}, DataSpec(x.shape[1:], **needs))


def test_the_range_follows_the_generator_and_other_kinds_have_none():
    fits(abs(X), output_range=None)  # a linear generator
    fits(abs(X), output_range=(0.0, 1.0))
    fits(np.zeros_like(X))  # no evidence of any range
    with pytest.raises(UsageError, match=r"generator's output, \[0, 1\]. Received: values from -"):
        fits(X, output_range=(0.0, 1.0))
    with pytest.raises(UsageError, match="with negative ones"):
        fits(abs(X), output_range=(-1.0, 1.0))
    with pytest.raises(UsageError, match=r"values in \[-1, 1\]; rescale them.* to [34]\d\d\d"):
        fits(abs(X) * 4000)  # of 12 bits, or of 16: no range to rescale from is named
    points, series = abs(X[:, 0, :, 0]) * 9, abs(X[..., 0]) * 9
    fits(points)
    fits(series)
    fits(series, kind="series")
    with pytest.raises(UsageError, match=r"Audio.* must have values in \[-1, 1\]"):
        fits(series, kind="audio")


def test_files_and_fit_share_the_rule():
    bright = np.tile(abs(X), (2, 1, 1, 1))
    with pytest.raises(UsageError, match="with negative values"):
        keras_gan.datasets.from_arrays(bright)
    source = keras_gan.datasets.from_arrays(bright, value_range=(0, 1))
    trained(game(), source.dataset("train", batch_size=4))


# ------------------------------------------------------------------------ classes


def test_classes_without_examples_are_named_once():
    shifted = Y % 2 + 1
    message = "give y - 1. Received: no examples of the class ids 0, num_classes=3$"
    with pytest.warns(UserWarning, match=message) as caught:
        game(3).fit(X, shifted, verbose=0)
    assert len(caught) == 1
    for door in DOORS.values():
        with pytest.warns(UserWarning, match=message) as caught:
            trained(game(3), door([(X, shifted)]))
        assert len(caught) == 1
    with pytest.warns(UserWarning, match="the class ids 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, ..., num"):
        game(20).fit(X, Y, verbose=0)
    with pytest.raises(UsageError, match=r"ids with gaps: np.unique\(y, return_inverse=True\)"):
        game(3).fit(X, Y * 5)


def test_complete_classes_and_evaluations_of_some_of_them_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gan = game(3)
        gan.fit(slices((X, Y)).batch(4, drop_remainder=True), epochs=2, verbose=0)
        gan.fit(X, Y, validation_data=(X[:2], Y[:2]), verbose=0)
        gan.evaluate(X[:1], Y[:1], verbose=0)
        # Part of an endless set says nothing of the classes that have not come yet.
        gan.fit(slices((X[:1], Y[:1])).batch(1).repeat(), steps_per_epoch=2, verbose=0)


# ------------------------------------------------------------------------ other fields, replicas


def test_other_fields_must_have_the_shape_that_a_network_takes():
    condition = keras.Input((3,), name="condition")
    samples = keras.Input((2,), name="samples")
    generator = keras.Model(condition, layers.Dense(2)(condition))
    gan = keras_gan.GAN(generator, keras.Model(samples, layers.Dense(1)(samples)))
    gan.compile(run_eagerly=True)
    points, wide = X[:, 0, :2, 0], X[:, 0, :, 0]
    for data in ({"samples": points, "condition": wide},):
        for form in (data, slices(data).batch(8), iter([data])):
            with pytest.raises(UsageError, match=r"'condition' must have the shape .*generator"):
                gan.fit(form)
        texts = data | {"condition": np.full((16, 3), "a")}
        for form in (texts, slices(texts).batch(8), iter([texts])):
            with pytest.raises(
                UsageError, match=r"'condition' must be numbers. Received: dtype st"
            ):
                gan.fit(form)


def test_a_batch_smaller_than_the_replicas_is_refused():
    check = BatchCheck(dataclasses.replace(DataSpec((4, 4, 1)), replicas=2))
    check({"samples": X[:2]})
    with pytest.raises(UsageError, match=r"each replica \(2\).*drop_remainder.*batch of 1, in bat"):
        check({"samples": X[:1]})


def test_a_distributed_set_is_checked_by_its_first_batch():
    strategy = tf.distribute.get_strategy()
    gan = game()

    def distributed(x):
        return tf.distribute.MirroredStrategy(["CPU:0"]).experimental_distribute_dataset(
            slices(x).batch(8)
        )

    with pytest.raises(UsageError, match=r"values from -1.9.*in the first batch"):
        gan.fit(distributed(X * 2))
    watch = data_streams.Watch(strategy)
    good = distributed(X)
    assert watch.stream(good, BatchCheck(gan.data_spec)) is good
    with pytest.raises(UsageError, match="at least one batch"):
        gan.fit(distributed(X[:0]))


def test_batches_all_have_the_fields_of_the_first_one():
    gan = game()
    with pytest.raises(
        UsageError, match=r"first one, samples. Received: samples, labels, in batch 2"
    ):
        trained(gan, iter([X, (X, Y)]))


def test_advice_is_for_the_range_of_the_generator():
    gan = keras_gan.GAN(
        keras.Sequential(
            [keras.Input((2,)), layers.Dense(16, "sigmoid"), layers.Reshape((4, 4, 1))]
        ),
        keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(1)]),
    )
    gan.compile("sgd", "sgd", run_eagerly=True)
    x = (X + 1) * 127.5
    with pytest.raises(UsageError, match=r"values in \[0, 1\] \(from 0..255: x / 255\)"):
        gan.fit(x, verbose=0)
    trained(gan, x / 255)


def test_sizes_and_counts_are_numbers_that_can_be_meant():
    gan = game()
    for name, value in (
        *(("batch_size", n) for n in (0, -1, 2.5, "8", True, [8])),
        *(("epochs", n) for n in (-1, 1.5, "3")),
        *(("steps_per_epoch", n) for n in (-1, 1.5)),
        *(("validation_freq", 0), ("validation_batch_size", 0), ("initial_epoch", -1)),
    ):
        with pytest.raises(UsageError, match=rf"`{name}` must be an integer of at .*{name}="):
            gan.fit(X, verbose=0, **{name: value})
    for split in (1.5, -0.1, 1.0, "a"):
        with pytest.raises(UsageError, match=r"`validation_split` must be a number from 0 up and"):
            gan.fit(X, verbose=0, validation_split=split)
    with pytest.raises(UsageError, match=r"leave at least one sample.* Received: .*=0.99, 16 sam"):
        gan.fit(X, verbose=0, validation_split=0.99)
    for name, value in (("batch_size", 0), ("batch_size", 2.5), ("steps", -1)):
        with pytest.raises(UsageError, match=rf"`{name}` must be an integer"):
            gan.evaluate(X, verbose=0, **{name: value})
    assert gan.count("iteration") == 0


def test_no_epochs_and_no_steps_are_as_for_keras():
    gan = game()
    assert gan.fit(X, epochs=0, verbose=0).epoch == []
    gan.fit(X, batch_size=np.int64(8), steps_per_epoch=0, verbose=0)  # as None
    assert gan.count("iteration") == 2
    gan.fit(X, batch_size=8, validation_data=X, validation_freq=[1], validation_steps=0, verbose=0)
    assert gan.count("iteration") == 4


MASKED = np.ma.masked_array(X, X > 0.5)


@pytest.mark.parametrize("door", [DOORS[n] for n in ("PyDataset", "generator", "loader")])
def test_masked_values_of_a_stream_are_refused(door):
    with pytest.raises(UsageError, match=r"`samples` must have no masked values.*, in "):
        trained(game(), door([MASKED]))
    trained(game(), door([np.ma.masked_array(X, X > 5)]))  # none of them is masked


def test_masked_values_of_arrays_are_refused():
    hidden = int((X > 0.5).sum())
    labels = np.ma.masked_array(Y, Y == 2)
    for train in (
        lambda gan: gan.fit(MASKED, verbose=0),
        lambda gan: gan.evaluate(MASKED, verbose=0),
        lambda gan: gan.train_on_batch(MASKED),
        lambda gan: gan.fit(X, verbose=0, validation_data=MASKED),
    ):
        with pytest.raises(UsageError, match=rf"filled\(0\).* Received: {hidden} masked .* 256"):
            train(game())
    for train in (
        lambda gan: gan.fit(X, labels, verbose=0),
        lambda gan: gan.generate(range(16), labels=labels),
    ):
        with pytest.raises(UsageError, match="`labels` must have no masked values"):
            train(game(3))
    trained(game(), np.ma.masked_array(X, X > 5))


@every_door
def test_values_that_a_generator_cannot_return_are_named(door):
    gan = keras_gan.GAN(
        keras.Sequential([keras.Input((2,)), layers.Dense(3, "tanh")]),
        keras.Sequential([keras.Input((3,)), layers.Dense(1)]),
    )
    gan.compile("sgd", "sgd", run_eagerly=True)
    x = RNG.normal(size=(16, 3)).astype("float32")
    with pytest.warns(UserWarning, match=r"generator's output, \[-1, 1\].*Received: values from -"):
        gan.fit(door([4 * x]), verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "Your input ran out of data")
        gan.fit(door([x / 5]), verbose=0)
