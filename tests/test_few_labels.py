"""Tests of training with few labels: the choice of the labels, the term, the game."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gan
from keras_gan import architectures, datasets, terms
from keras_gan.datasets import labeled
from keras_gan.errors import UsageError
from keras_gan.layers import LogSumExp
from keras_gan.networks import Network
from keras_gan.spec import Spec

CLASSES = 4


def toy(count=64, seed=0, classes=CLASSES):
    """Returns points in the plane around the corners of a square, and their classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % classes
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    x = corners[y % 4] * 0.5 + rng.normal(0, 0.05, (count, 2)).astype("float32")
    return x.astype("float32"), y.astype("int32")


def source(**options):
    x, y = toy()
    opened = datasets.from_arrays(x, y, held_out=0.25)
    return labeled.keep(opened, **options) if options else opened


def networks(classes=CLASSES):
    spec = Spec("points", (2,), num_classes=classes)
    keras.utils.set_random_seed(1)
    generator = architectures.build_network("generator", "mlp", spec, latent_dim=3, widths=[8])
    discriminator = architectures.build_network(
        "discriminator", "mlp", spec, widths=[8], classes_as_logits=True
    )
    return generator, discriminator


def game(**options):
    given = {"terms": ["supervised", "feature_matching"], "adversarial_weight": 0.0, **options}
    gan = keras_gan.GAN(*networks(), **given)
    gan.compile(keras.optimizers.Adam(1e-2), keras.optimizers.Adam(1e-2))
    return gan


def weights(gan):
    return [w.numpy() for w in gan.weights]


# ------------------------------------------------------------------------ the choice of the labels


def test_the_labels_kept_are_balanced_fixed_and_no_others_remain():
    few = source(labeled=10, labeled_seed=3)
    rows, whole = few.labeled_rows, source().labels()
    counts = np.bincount(whole[rows], minlength=CLASSES)
    assert sorted(counts) == [2, 2, 3, 3]
    np.testing.assert_array_equal(few.labels()[rows], whole[rows])
    assert (np.delete(few.labels(), rows) == -1).all()
    # No array of any split holds the label of another training example.
    train, held_out = few._splits["train"], few._splits["held_out"]
    others = np.setdiff1d(train.row_numbers, train.row_numbers[rows])
    assert len(others) == 38
    for part in (train, held_out):
        assert (part.labels[others] == -1).all()
    assert (few.arrays("held_out")[1] == source().arrays("held_out")[1]).all()
    assert (source(labeled=None).labels() == whole).all()
    # The choice is a function of the seed.
    np.testing.assert_array_equal(source(labeled=10, labeled_seed=3).labeled_rows, rows)
    assert (source(labeled=10, labeled_seed=4).labeled_rows != rows).any()
    assert "labels of 10 of 48 training examples, 2 to 3 of each of 4 classes" in few.description


def test_a_share_of_each_batch_is_labeled_and_the_stream_can_be_resumed():
    few = source(labeled=4)

    def batches(start, count, **options):
        stream = few.dataset("train", 16, repeat=True, start=start, labeled_share=0.25, **options)
        return [tuple(map(np.asarray, batch)) for batch in stream.take(count)]

    found = batches(0, 8)
    # 4 of 16 are drawn from the labeled ones, evenly spread, and each of them once in a batch.
    for _, y in found:
        np.testing.assert_array_equal(np.sort(y[3::4]), np.arange(CLASSES))
    for (x, y), (again, labels) in zip(found[5:], batches(5, 3), strict=True):
        np.testing.assert_array_equal(x, again)
        np.testing.assert_array_equal(y, labels)
    halves = [batches(2, 1, shard=(i, 2))[0][1] for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(halves), found[2][1])
    assert all((half[3::4] >= 0).all() for half in halves)
    # The rest is drawn from all examples.
    rest = np.concatenate([np.delete(x, np.s_[3::4], axis=0) for x, _ in found])
    assert len(np.unique(rest, axis=0)) == 48


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labeled": 3}, r"at least the number of classes, 4.*Received: labeled=3"),
        ({"labeled": 49}, r"at most that of the training examples, 48. Received: labeled=49"),
        ({"labeled": [1, 1]}, r"different positions from 0 to 47.*Received: 2 positions"),
        ({"labeled": [48]}, r"different positions from 0 to 47.*Received: 1 positions"),
        ({"labeled": 8, "labeled_share": 1.0}, r"`labeled_share` must be below 1"),
        ({"labeled": 8, "labeled_share": -0.5}, r"`labeled_share` must be"),
        ({"labeled": 8, "labeled_seed": -1}, r"`labeled_seed` must be"),
    ],
)
def test_labels_that_cannot_be_kept_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        source(**options)


def test_a_class_with_too_few_examples_is_named():
    x, y = toy()
    y[y == 2] = 1
    y[0] = 2
    opened = datasets.from_arrays(x, y, class_names=list("abcd"), held_out=0)
    with pytest.raises(UsageError, match=r"asks for 3 examples of each class.*1 of class 'c'"):
        labeled.keep(opened, labeled=12)
    with pytest.raises(UsageError, match=r"`labeled` needs data with labels"):
        labeled.keep(datasets.from_arrays(x, held_out=0), labeled=12)


# ------------------------------------------------------------------------ the term and the network


def test_the_logit_of_any_class_is_the_log_of_the_summed_exponentials():
    x = np.array([[0.0, math.log(3.0)], [1e4, 1e4]], "float32")
    found = np.asarray(LogSumExp()(x))
    np.testing.assert_allclose(found, [[math.log(4.0)], [1e4 + math.log(2.0)]], rtol=1e-6)


@pytest.mark.parametrize("family", ["mlp", "dcgan", "resnet"])
def test_classes_as_logits(family):
    spec = Spec("image", (8, 8, 1), (-1.0, 1.0), num_classes=3)
    options = {"mlp": {"widths": [5]}, "dcgan": {"width": 4}, "resnet": {"width": 4}}[family]
    options = {**options, "classes_as_logits": True}
    model = architectures.build_network("discriminator", family, spec, **options)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 1)).astype("float32")
    found = {name: np.asarray(value) for name, value in model(x).items()}
    assert sorted(found) == ["classes", "features", "logits"]
    assert (found["classes"].shape, found["logits"].shape) == ((2, 3), (2, 1))
    expected = np.log(np.exp(found["classes"].astype("float64")).sum(1, keepdims=True))
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-5)
    assert len(found["features"].shape) == 2
    with pytest.raises(UsageError, match=r"`classes_as_logits` needs data with labels"):
        architectures.build_network("discriminator", family, spec.with_classes(0), **options)
    with pytest.raises(UsageError, match=r"given no labels.*condition=\[labels\]"):
        architectures.build_network("discriminator", family, spec, True, **options)


def context(classes, labels):
    network = Network("discriminator", networks()[1], ("samples",), "logits")
    classes = tf.constant(classes, "float32")
    shared = terms.SharedForward(lambda samples: {"classes": classes})
    x = tf.zeros((len(labels), 2))
    return terms.StepContext(
        "discriminator", {"discriminator": network}, shared, None, None, x, x, None,
        fields={"labels": tf.constant(labels, "int64")},
    )  # fmt: skip


def test_the_supervised_term_is_the_mean_over_the_labeled_examples():
    logits = [[0.0, 0.0], [math.log(3.0), 0.0], [5.0, -5.0], [0.0, math.log(7.0)]]
    # -log 1/2 and -log 1/8; the others are unlabeled.
    found = terms.Supervised().values(context(logits, [1, -1, -1, 0]))
    np.testing.assert_allclose(found, [(math.log(2) + math.log(8)) / 2], rtol=1e-6)
    np.testing.assert_array_equal(terms.Supervised().values(context(logits, [-1] * 4)), [0.0])


def test_pseudo_labels_teach_the_classes_of_augmented_samples_and_not_their_own_source():
    shift = tf.Variable([[0.0, 0.0], [3.0, 0.0], [0.0, 0.2]])  # logits of the samples as they are
    moved = tf.Variable([[1.0, 0.0], [0.0, math.log(7.0)], [1.0, 0.0]])
    x = tf.zeros((3, 2))

    def forward(samples):
        return {"classes": tf.identity(shift if samples is x else moved)}

    step = dataclasses.replace(context([[0.0, 0.0]] * 3, [-1] * 3), real=x)
    term = terms.PseudoLabels(augment=lambda samples, seed: samples + 1, threshold=0.9)
    with tf.GradientTape(persistent=True) as tape:
        values = term.values(dataclasses.replace(step, forward=terms.SharedForward(forward)))
    # Only the second sample is certain: class 0 with 1 / (1 + exp(-3)) = 0.95.
    np.testing.assert_allclose(values, [0.0, math.log(8.0), 0.0], rtol=1e-6)
    assert tape.gradient(values, shift) is None
    np.testing.assert_allclose(tape.gradient(values, moved)[1], [-7 / 8, 7 / 8], rtol=1e-6)
    with pytest.raises(UsageError, match=r"`threshold`.*Received: threshold=1.5"):
        terms.PseudoLabels(threshold=1.5)
    saved = keras.saving.serialize_keras_object(terms.PseudoLabels(threshold=0.7))
    assert keras.saving.deserialize_keras_object(saved).threshold == 0.7


def test_the_discriminator_minimizes_the_loss_of_k_plus_1_classes():
    """d_loss + supervised, against the log-probabilities of a softmax over K + 1 classes."""
    gan = game(augment=None, adversarial_weight=1.0, terms=["supervised"])
    x, y = toy(16)
    y[5:] = -1
    _, discriminator = networks()
    batch = {"samples": tf.constant(x), "labels": tf.constant(y)}
    latents = gan.draw_latents(batch["samples"], gan.random_seed("noise", 0))
    fake = gan.generator(latents, training=True)

    def log_probabilities(samples):
        logits = np.asarray(discriminator(samples)["classes"], "float64")
        logits = np.concatenate([logits, np.zeros((len(logits), 1))], axis=1)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    real, made = log_probabilities(x), log_probabilities(fake)
    is_real = -np.log1p(-np.exp(real[:, -1])).mean()
    of_class = real[np.arange(5), y[:5]] - np.log1p(-np.exp(real[:5, -1]))
    results = gan.train_on_batch(x, y, return_dict=True)
    assert results["d_loss"] == pytest.approx(is_real - made[:, -1].mean(), rel=1e-4)
    assert results["supervised"] == pytest.approx(-of_class.mean(), rel=1e-4)


# ------------------------------------------------------------------------ the game


def test_no_other_label_is_read():
    """Relabeling the unlabeled examples at random changes not one bit of the training."""
    x, y = toy()
    rows = labeled.choose(y, 8, CLASSES, 0)
    relabeled = np.random.default_rng(1).integers(0, CLASSES, len(y)).astype("int32")
    relabeled[rows] = y[rows]
    assert (relabeled != y).sum() > 20
    trained = []
    for labels in (y, relabeled):
        data = datasets.from_arrays(x, labels, held_out=0, keep_ids=True)
        few = labeled.keep(data, labeled=rows.tolist())
        gan = game()
        gan.fit(few.dataset("train", 16, repeat=True, labeled_share=0.25).take(3), verbose=0)
        assert gan.count("iteration") == 3
        trained.append(weights(gan))
    for one, other in zip(*trained, strict=True):
        np.testing.assert_array_equal(one, other)
    # With the labels of the relabeled examples, the training is another one.
    gan = game()
    gan.fit(datasets.from_arrays(x, relabeled, held_out=0).dataset("train", 16).take(3), verbose=0)
    assert any((a != b).any() for a, b in zip(trained[0], weights(gan), strict=True))


def test_few_labels_are_enough_where_the_others_show_the_classes():
    x, y = toy(256)
    few = labeled.keep(datasets.from_arrays(x, y, held_out=0), labeled=4)
    gan = game(average_discriminator=True, ema_half_life=200)
    stream = few.dataset("train", 32, repeat=True, labeled_share=0.25)
    gan.fit(stream.take(150), verbose=0)
    classes = np.asarray(gan.average("discriminator").model(x)["classes"])
    assert (classes.argmax(axis=1) == y).mean() > 0.97


def test_labels_that_the_game_cannot_use_are_refused():
    x, y = toy(16)
    with pytest.raises(UsageError, match=r"from 0 to 3, or -1 for an unlabeled.*from 0 to 4"):
        game().fit(x, np.where(y == 3, 4, y), verbose=0)
    with pytest.raises(UsageError, match=r"from -2 to 3"):
        game().fit(x, np.where(y == 1, -2, y), verbose=0)
    with pytest.raises(UsageError, match=r"At least one example must have a label"):
        game().fit(x, np.full(16, -1), verbose=0)
    with pytest.raises(UsageError, match=r"asks for the field 'labels'"):
        game().fit(x, verbose=0)
    with pytest.warns(UserWarning, match=r"labels of 1 of 4 classes"):
        game().fit(x, np.where(y == 1, 1, -1), verbose=0)
    # A batch without labels is valid, and its term is 0.
    assert game().train_on_batch(x, np.full(16, -1), return_dict=True)["supervised"] == 0


def test_other_readers_of_labels_refuse_unlabeled_examples():
    spec = Spec("points", (2,), num_classes=CLASSES)
    pair = [
        architectures.build_network(role, "mlp", spec, True, widths=[4])
        for role in ("generator", "discriminator")
    ]
    gan = keras_gan.GAN(*pair, num_classes=CLASSES)
    gan.compile()
    x, y = toy(16)
    with pytest.raises(UsageError, match=r"class ids from 0 to 3, without -1.*from -1 to 3"):
        gan.fit(x, np.where(y == 0, -1, y), verbose=0)
    conditional = architectures.build_network("generator", "mlp", spec, True, widths=[4])
    with pytest.raises(UsageError, match=r"given no labels, with num_classes=0.*num_classes=4"):
        keras_gan.GAN(conditional, networks()[1], terms=["supervised"], num_classes=CLASSES)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_average_discriminator_is_a_bool(value):
    with pytest.raises(UsageError, match=r"`average_discriminator` must be True or False"):
        game(average_discriminator=value)


def test_the_averaged_discriminator_moves_toward_the_live_one():
    with pytest.raises(UsageError, match=r"needs a moving average"):
        game(average_discriminator=True, ema_half_life=0)
    plain = game()
    assert plain.average("discriminator").model is plain.discriminator
    gan = game(average_discriminator=True, ema_half_life=16.0, ema_rampup=1e9)
    before = [w.numpy() for w in gan.average_discriminator.weights]
    x, y = toy(16)
    gan.train_on_batch(x, y)
    live = [w.numpy() for w in gan.discriminator.weights]
    after = [w.numpy() for w in gan.average_discriminator.weights]
    for old, new, now in zip(before, live, after, strict=True):
        # After one half-life the average is halfway.
        np.testing.assert_allclose(now, (old + new) / 2, atol=1e-6)


def test_saving_restores_both_averages(tmp_path):
    gan = game(average_discriminator=True)
    x, y = toy(16)
    gan.fit(x, y, batch_size=8, verbose=0)
    gan.save(tmp_path / "gan.keras")
    again = keras.models.load_model(tmp_path / "gan.keras")
    for one, other in zip(weights(gan), weights(again), strict=True):
        np.testing.assert_array_equal(one, other)
    gan.fit(x, y, batch_size=8, verbose=0, shuffle=False)
    again.fit(x, y, batch_size=8, verbose=0, shuffle=False)
    for one, other in zip(weights(gan), weights(again), strict=True):
        np.testing.assert_array_equal(one, other)
