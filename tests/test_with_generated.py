"""Tests of generated examples in a pipeline of tf.data."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import serving
from keras_gan import UsageError, datasets

CLASSES = len(tiny.NAMES)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of 8 x 8 images in the classes shirt, shoe and bag."""
    path = tiny.clothes(tmp_path_factory.mktemp("clothes") / "bundle")
    return serving.Bundle(path, threads=1, device="cpu")


def real(count=40, dtype="uint8", high=255):
    """Images whose pixels all have the value 7/255 of the range, and labels 0, 1, 2, 0, ..."""
    x = np.full((count, 8, 8, 3), 7 * high / 255, dtype)
    return x, np.arange(count) % CLASSES


def pipeline(count=40, batch=8, **options):
    return tf.data.Dataset.from_tensor_slices(real(count, **options)).batch(batch)


def rows(dataset):
    return [tuple(map(np.asarray, batch)) for batch in dataset]


def is_generated(x, value=7):
    return np.abs(x.astype(float) - value).max(axis=(1, 2, 3)) > 1e-6


def test_a_share_is_replaced_and_the_rest_stays(bundle):
    data = pipeline(count=44)
    mixed = datasets.with_generated(data, bundle, share=0.25)
    assert mixed.cardinality() == 6
    assert mixed.element_spec == data.element_spec
    found = rows(mixed)
    assert [len(x) for x, _ in found] == [8] * 5 + [4]
    assert [is_generated(x).sum() for x, _ in found] == [2] * 5 + [1]
    np.testing.assert_array_equal(np.concatenate([y for _, y in found]), real(44)[1])
    positions = {tuple(np.flatnonzero(is_generated(x))) for x, _ in found}
    assert len(positions) > 2


def test_a_fraction_of_an_example_is_rounded_at_random_to_the_mean(bundle):
    mixed = datasets.with_generated(pipeline(count=400, batch=1), bundle, share=0.3)
    counts = [is_generated(x).sum() for x, _ in rows(mixed)]
    assert set(counts) == {0, 1}
    assert 90 < sum(counts) < 150  # 120 expected, with a standard deviation of 9


def test_two_runs_are_equal_and_two_epochs_are_not(bundle):
    first, second = (datasets.with_generated(pipeline(), bundle, seed=5) for _ in range(2))
    epochs = [np.concatenate([x for x, _ in rows(first)]) for _ in range(2)]
    for epoch in epochs:
        np.testing.assert_array_equal(epoch, np.concatenate([x for x, _ in rows(second)]))
    assert (epochs[0] != epochs[1]).mean() > 0.2
    other = datasets.with_generated(pipeline(), bundle, seed=6)
    assert (np.concatenate([x for x, _ in rows(other)]) != epochs[0]).mean() > 0.2


@pytest.mark.parametrize(
    ("dtype", "limits"),
    [("uint8", (0, 255)), ("float32", (0, 1)), ("float64", (-1, 1)), ("float16", (0, 255))],
)
def test_samples_have_the_range_and_the_type_of_the_pipeline(bundle, dtype, limits):
    given = None if dtype == "uint8" else limits
    x, y = np.full((64, 8, 8, 3), limits[1], dtype), np.full(64, 1)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(64)
    ((found, _),) = rows(datasets.with_generated(data, bundle, share=1.0, value_range=given))
    assert found.dtype == dtype
    wanted = bundle.generate(range(2000), labels=1)
    unit = (found.astype(float) - limits[0]) / (limits[1] - limits[0]) * 2 - 1
    np.testing.assert_allclose(unit.mean(axis=0), wanted.mean(axis=0), atol=0.5)
    assert unit.mean() == pytest.approx(wanted.mean(), abs=0.03)
    assert unit.std() == pytest.approx(wanted.std(), abs=0.03)
    assert limits[0] <= found.min() < found.max() <= limits[1]


def test_the_class_of_a_sample_is_that_of_the_example_it_replaces(bundle):
    """Ids, columns of ids, one-hot vectors and names in another order mean the same classes."""
    x, y = real(24)
    names = ("bag", "shirt", "shoe")  # the order of folders; the bundle's is shirt, shoe, bag
    seen = {}
    for form, labels, order in (
        ("ids", y, None),
        ("column", y[:, np.newaxis].astype("float32"), None),
        ("one-hot", np.eye(3, dtype="float32")[y], None),
        ("names", (y + 1) % 3, names),
    ):
        data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(24)
        mixed = datasets.with_generated(data, bundle, share=1.0, class_names=order)
        ((found, kept),) = rows(mixed)
        np.testing.assert_array_equal(kept, labels)
        seen[form] = found
    for found in seen.values():
        np.testing.assert_array_equal(found, seen["ids"])
    other = datasets.with_generated(
        tf.data.Dataset.from_tensor_slices((x, (y + 1) % 3)).batch(24), bundle, share=1.0
    )
    assert (rows(other)[0][0] != seen["ids"]).any(axis=(1, 2, 3)).all()


def test_uniform_classes_balance_a_pipeline(bundle):
    x = np.zeros((600, 8, 8, 3), "uint8")
    for labels in (np.zeros(600, int), np.eye(3, dtype="float32")[np.zeros(600, int)]):
        data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(100)
        mixed = datasets.with_generated(data, bundle, share=0.5, labels="uniform")
        assert mixed.element_spec == data.element_spec
        found = np.concatenate([y for _, y in rows(mixed)])
        ids = found if found.ndim == 1 else found.argmax(axis=1)
        counts = np.bincount(ids, minlength=3)
        assert counts.sum() == 600
        assert 370 < counts[0] < 430  # 400 expected
        assert min(counts[1:]) > 70  # 100 expected


def test_single_examples_dicts_and_weights(bundle):
    x, y = real(150)
    single = tf.data.Dataset.from_tensor_slices({"image": x, "label": y})
    mixed = datasets.with_generated(single, bundle, share=0.5)
    assert mixed.cardinality() == 150
    assert mixed.element_spec == single.element_spec
    found = list(mixed.as_numpy_iterator())
    assert [row["label"] for row in found] == y.tolist()
    assert is_generated(np.stack([row["image"] for row in found])).sum() in (75, 76)
    endless = datasets.with_generated(single.repeat(), bundle)
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
    weighted = tf.data.Dataset.from_tensor_slices((x, y, np.arange(150.0))).batch(50)
    parts = rows(datasets.with_generated(weighted, bundle))
    np.testing.assert_array_equal(np.concatenate([w for *_, w in parts]), np.arange(150.0))


def test_a_classifier_trains_on_it(bundle):
    """Of generated examples alone a linear classifier learns the classes of the generator."""
    x, y = np.zeros((600, 8, 8, 3), "float32"), np.arange(600) % 3
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(60)
    mixed = datasets.with_generated(data, bundle, share=1.0, value_range=(-1, 1))
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-2), loss, metrics=["accuracy"])
    model.fit(mixed, epochs=3, verbose=0)
    test = bundle.generate(range(10_000, 10_300), labels=np.arange(300) % 3)
    assert model.evaluate(test, np.arange(300) % 3, verbose=0)[1] > 0.9


def test_the_names_of_a_folder_are_used_and_stay(bundle, tmp_path):
    for name in ("bag", "shirt", "shoe"):
        (tmp_path / name).mkdir()
        keras.utils.save_img(tmp_path / name / "x.png", np.zeros((8, 8, 3)), scale=False)
    data = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(8, 8), batch_size=3, verbose=False, shuffle=False
    )
    mixed = datasets.with_generated(data, bundle, share=1.0, value_range=(0, 255))
    assert mixed.class_names == ["bag", "shirt", "shoe"]
    ((x, y),) = rows(mixed)
    assert y.tolist() == [0, 1, 2]
    plain = tf.data.Dataset.from_tensor_slices((x, np.array([2, 0, 1]))).batch(3)
    ((wanted, _),) = rows(datasets.with_generated(plain, bundle, share=1.0, value_range=(0, 255)))
    np.testing.assert_array_equal(x, wanted)


def test_mistakes(bundle, tmp_path):
    def line(data, other=bundle, **options):
        with pytest.raises(UsageError) as caught:
            datasets.with_generated(data, other, **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    data, floats = pipeline(), pipeline(dtype="float32")
    assert "serving.Bundle(path). Received: bundle='runs/x'" in line(data, "runs/x")
    points = serving.Bundle(tiny.points(tmp_path / "points"))
    assert "Received: bundle 'points' without classes" in line(data, points)
    translator = serving.Bundle(tiny.translator(tmp_path / "translator"))
    assert "whose input 'picture' must be given" in line(data, translator)
    other = tf.data.Dataset.from_tensor_slices((np.zeros((4, 9, 8, 3)), np.zeros(4))).batch(2)
    assert "the bundle's, (8, 8, 3), which" in line(other)
    assert "Received: (None, 9, 8, 3)" in line(other)
    assert "float32 from 7 to 7 in the first batch" in line(floats)
    assert "the smaller first. Received: (1, 0)" in line(floats, value_range=(1, 0))
    assert "Received: 'hat'" in line(data, class_names=("bag", "hat"))
    assert "Received: share=1.5" in line(data, share=1.5)
    assert "Received: labels='balanced'" in line(data, labels="balanced")
    assert "one of them `label`" in line(data.map(lambda x, y: x))
    assert "Received: ['image', 'y']" in line(data.map(lambda x, y: {"image": x, "y": y}))
    assert "Received: string of shape" in line(data.map(lambda x, y: (x, tf.strings.as_string(y))))
    wide = data.map(lambda x, y: (x, tf.one_hot(y, 4)))
    assert "each of 3 classes. Received: 4 columns" in line(wide)
    assert "must be a tf.data.Dataset. Received: tuple" in line(real())


def test_labels_and_values_outside_their_range_end_the_iteration(bundle):
    strange = pipeline().map(lambda x, y: (x, y - 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="class ids from 0 to 2"):
        rows(datasets.with_generated(strange, bundle))
    bright = pipeline(dtype="float32")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"`value_range`, \[0, 1\]"):
        rows(datasets.with_generated(bright, bundle, value_range=(0, 1)))
