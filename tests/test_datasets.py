"""Order, splits, ranges and errors of the data sets that are not folders of images."""

import gzip
import hashlib
import math
import os
import pickle
import re
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf

from keras_gan import Field, Spec, UsageError, datasets
from keras_gan.datasets import gaussians
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split, hold_out


def numbered(count, **options):
    """Images whose only pixel states their number, so that batches tell the order."""
    x = np.zeros((count, 1, 2, 1), np.uint8)
    x[:, 0, 0, 0] = np.arange(count) % 256
    x[:, 0, 1, 0] = np.arange(count) // 256
    return datasets.from_arrays(x, held_out=0, **options)


def numbers(batch):
    pixels = np.rint((np.asarray(batch) + 1) * 127.5).astype(int)
    return pixels[:, 0, 0, 0] + 256 * pixels[:, 0, 1, 0]


def take(dataset, count):
    return [numbers(batch) for batch in dataset.take(count)]


# Order ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "batch_size"), [(12, 5), (300, 64), (300, 300)])
def test_endless_stream_is_a_permutation_per_epoch(count, batch_size):
    stream = numbered(count).dataset(batch_size=batch_size, repeat=True, seed=3)
    order = np.concatenate(take(stream, math.ceil(4 * count / batch_size)))
    epochs = [order[i * count : (i + 1) * count] for i in range(4)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_endless_stream_follows_its_seed():
    source = numbered(300)

    def first(seed):
        return np.concatenate(take(source.dataset(batch_size=50, repeat=True, seed=seed), 6))

    assert (first(1) == first(1)).all()
    assert (first(1) != first(2)).mean() > 0.9


def test_endless_stream_is_uniform():
    """Each row comes to each place of an epoch equally often (chi-squared, 49 degrees)."""
    epochs = np.concatenate(take(numbered(8).dataset(batch_size=8, repeat=True), 4000))
    places = np.zeros((8, 8))
    np.add.at(places, (np.tile(np.arange(8), 4000), epochs), 1)
    assert ((places - 500) ** 2 / 500).sum() < 100  # p = 2e-5
    assert len({tuple(e) for e in epochs.reshape(-1, 8)}) > 3500  # of 40,320


@pytest.mark.parametrize("start", [1, 2, 7, 1000])
@pytest.mark.parametrize("shuffle", [True, False])
def test_start_leaves_out_batches_and_changes_nothing_else(start, shuffle):
    source = numbered(30)
    whole = source.dataset(batch_size=7, repeat=True, seed=5, shuffle=shuffle)
    rest = source.dataset(batch_size=7, repeat=True, seed=5, shuffle=shuffle, start=start)
    for expected, got in zip(take(whole.skip(start), 6), take(rest, 6), strict=True):
        np.testing.assert_array_equal(expected, got)


def test_endless_stream_is_known_to_be_endless():
    stream = numbered(10).dataset(batch_size=3, repeat=True)
    assert stream.cardinality().numpy() == tf.data.INFINITE_CARDINALITY
    assert stream.element_spec.shape == (3, 1, 2, 1)


def test_one_epoch_is_a_fresh_permutation_each_time():
    dataset = numbered(100).dataset(batch_size=10, seed=1)
    assert len(dataset) == 10
    first, second = (np.concatenate([numbers(b) for b in dataset]) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(100))
    assert (first != second).any()
    again = np.concatenate([numbers(b) for b in numbered(100).dataset(batch_size=10, seed=1)])
    np.testing.assert_array_equal(first, again)


def test_remainder():
    source = numbered(10)
    kept = source.dataset(batch_size=4, shuffle=False, drop_remainder=False)
    assert [list(numbers(b)) for b in kept] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [len(b) for b in source.dataset(batch_size=4, shuffle=False)] == [4, 4]
    late = source.dataset(batch_size=4, shuffle=False, drop_remainder=False, start=2)
    assert [list(numbers(b)) for b in late] == [[8, 9]]


def test_dataset_trains_under_a_distribution_strategy():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    stream = numbered(10).dataset(batch_size=4, repeat=True)
    batch = next(iter(strategy.experimental_distribute_dataset(stream)))
    assert batch.shape == (4, 1, 2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 11}, r"at most .* 10 in 'train'\. Received: batch_size=11"),
        ({"batch_size": "8"}, r"`batch_size` must be an integer.*='8'"),
        ({"batch_size": 0}, r"`batch_size` must be an integer of at least 1.*=0"),
        ({"batch_size": 2, "seed": -1}, r"`seed` must be an integer of at least 0.*=-1"),
        ({"batch_size": 2, "split": "all"}, r"`split` must be .*Received: split='all'"),
        ({"batch_size": 2, "split": "test"}, r"opened without held-out.*split='test'"),
    ],
)
def test_dataset_refuses(options, message):
    with pytest.raises(UsageError, match=message):
        numbered(10).dataset(**options)


# Values -----------------------------------------------------------------------------------------


def test_images_come_in_minus_one_to_one():
    x = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    batch = next(iter(datasets.from_arrays(x, held_out=0).dataset(batch_size=4, shuffle=False)))
    expected = x.astype(np.float32)[..., np.newaxis] / np.float32(127.5) - 1
    np.testing.assert_array_equal(batch, expected)
    assert (batch.dtype, float(np.min(batch)), float(np.max(batch))) == (tf.float32, -1.0, 1.0)


def test_a_stated_range_is_mapped():
    x = np.linspace(0, 1, 32, dtype=np.float32).reshape(2, 4, 4)
    source = datasets.from_arrays(x, kind="image", value_range=[0, 1], held_out=0)
    batch = next(iter(source.dataset(batch_size=2, shuffle=False)))
    np.testing.assert_allclose(batch, 2 * x[..., np.newaxis] - 1, atol=1e-6)


def test_labels_stay_with_their_samples():
    x = np.arange(40, dtype=np.uint8).reshape(40, 1, 1).repeat(5, 1).repeat(5, 2)
    source = datasets.from_arrays(x, np.arange(40) % 7, held_out=0.25)
    assert (source.spec.num_classes, source.count("train"), source.count("test")) == (7, 30, 10)
    for split in ("train", "held_out"):
        for images, labels in source.dataset(split, batch_size=5):
            assert labels.dtype == tf.int32
            ids = np.rint((images.numpy()[:, 0, 0, 0] + 1) * 127.5)
            np.testing.assert_array_equal(ids % 7, labels)


def test_points_come_as_they_are():
    x = np.random.default_rng(0).normal(scale=100, size=(20, 3)).astype(np.float32)
    source = datasets.from_arrays(x, held_out=0)
    assert source.spec == Spec("points", (3,))
    np.testing.assert_array_equal(next(iter(source.dataset(batch_size=20, shuffle=False))), x)


# Splits -----------------------------------------------------------------------------------------


def content(source, split):
    return {hashlib.sha256(e["samples"].tobytes()).digest() for e in source.examples(split)}


@pytest.mark.parametrize("name", ["fashion-mnist-10k", "gaussians"])
def test_splits_do_not_overlap(name):
    source = datasets.open(name)
    assert not content(source, "train") & content(source, "held_out")


def test_copies_are_held_out_together():
    x = np.random.default_rng(0).integers(256, size=(50, 4, 4), dtype=np.uint8)
    source = datasets.from_arrays(np.concatenate([x, x, x]), held_out=0.2)
    assert not content(source, "train") & content(source, "held_out")
    assert source.count("train") + source.count("held_out") == 150
    assert source.count("held_out") == 30


def test_held_out_does_not_depend_on_the_order():
    x = np.random.default_rng(0).integers(256, size=(50, 4, 4), dtype=np.uint8)
    held_out = content(datasets.from_arrays(x), "held_out")
    assert len(held_out) == 5
    assert content(datasets.from_arrays(x[::-1].copy()), "held_out") == held_out


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, math.nan, True, "0.1"])
def test_held_out_must_be_a_fraction(fraction):
    with pytest.raises(UsageError, match=r"`held_out` must be the share .*Received: held_out="):
        hold_out(Split(np.zeros((10, 4, 4, 1), np.uint8)), fraction)


def test_samples_that_are_all_the_same_cannot_be_held_out():
    with pytest.raises(UsageError, match=r"Received: 10 samples that are all the same"):
        datasets.from_arrays(np.zeros((10, 8, 8), np.uint8))
    assert datasets.from_arrays(np.zeros((10, 8, 8), np.uint8), held_out=0).count() == 10


# Registry ---------------------------------------------------------------------------------------


def test_names_are_described():
    names = datasets.names()
    assert {
        *("arrays", "fashion-mnist", "fashion-mnist-10k", "folder", "gaussians"),
        *("emoji", "photos", "sprites", "stacked-fashion", "tfds"),
        *("pairs", "unpaired", "degraded", "edges2fashion", "glyphs", "photos-x4"),
        *("audio", "spoken-digits", "asterisk-sounds", "sonic-pi-samples"),
        "trajectories",
    } == {*names}
    assert all(20 < len(line) < 100 and "\n" not in line for line in names.values())


def test_every_data_set_is_opened_by_its_module():
    for name in datasets.names():
        module = getattr(datasets, name.replace("-", "_"))
        assert callable(module.open)


@pytest.mark.parametrize("name", ["fashion-mnist-10k", "fashion_mnist_10k"])
def test_embedded_data(name):
    source = datasets.open(name)
    assert source.spec.shape == (28, 28, 1)
    assert source.spec.class_names[9] == "Ankle boot"
    assert (source.count("train"), source.count("test")) == (9_000, 1_000)
    x, y = next(iter(source.dataset("test", 10)))
    assert x.shape == (10, 28, 28, 1)
    assert y.shape == (10,)
    assert datasets.spec(name, labels=False).num_classes == 0


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("fashon-mnist", {}, r"did you mean 'fashion-mnist'\?.*'fashon-mnist'.*does not exist"),
        ("no/such.npz", {}, r"folder of images.*'no/such.npz', which as a path does not exist"),
        ("no/such.csv", {}, r"the path of a \.npz, \.npy or \.csv file, .*tfds:NAME.*not exist"),
        (
            "gaussians",
            {"mode": 8},
            r"^`mode` is not an option .*: mode=8. Did you mean 'modes'",
        ),
        ("gaussians", {"modes": 9}, r"`modes` must be 8 .*or 25 .*Received: modes=9"),
        ("gaussians", {"count": 1}, r"`count` must be an integer of at least 2"),
        ("folder", {}, r"^`path` is missing: the data set 'folder' needs it. Received: no opt"),
        ("arrays", {"labels": False}, r"^`path` is missing.*'arrays'.*Rec.*{'labels': False}"),
        ("tfds:no_such", {"data_dir": "nowhere"}, r"download=true.*no_such.*not in nowhere"),
        ("tfds:no_such", {"data_dir": "nowhere", "download": True}, r"able to prepare.*no_such"),
        ("tfds:a b", {}, r"called tfds:NAME.*Received: 'a b'"),
    ],
)
def test_open_refuses(source, options, message):
    with pytest.raises(UsageError, match=message):
        datasets.open(source, **options)


def test_the_error_for_an_unknown_source_names_every_kind_of_source():
    with pytest.raises(UsageError, match=r"must be one of ") as caught:
        datasets.open("nowhere")
    modules = [datasets.find(name)[0] for name in datasets.names()]
    forms = [module.FORM for module in modules if hasattr(module, "parse")]
    assert len(forms) == 4
    assert all(part in str(caught.value) for part in (*forms, *datasets.names()))


# Fashion-MNIST ----------------------------------------------------------------------------------


def write_idx(path, array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(
        f">{array.ndim}I", *array.shape
    )
    path.write_bytes(gzip.compress(header + array.tobytes(), 1))


def test_fashion_mnist_from_a_folder(tmp_path):
    for prefix, count in (("train", 60_000), ("t10k", 10_000)):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", np.zeros((count, 28, 28), np.uint8))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", np.full(count, 9, np.uint8))
    source = datasets.open("fashion-mnist", folder=tmp_path)
    assert (source.count("train"), source.count("test")) == (60_000, 10_000)
    assert source.description.endswith(str(tmp_path))
    whole = (tmp_path / "t10k-images-idx3-ubyte.gz").read_bytes()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(whole[:-20])
    with pytest.raises(UsageError, match=r"must be whole.*t10k-images"):
        datasets.open("fashion-mnist", folder=tmp_path)
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", np.zeros((10, 28, 28), np.uint8))
    with pytest.raises(UsageError, match=r"10000 held_out images of 28x28.*\(10, 28, 28\)"):
        datasets.open("fashion-mnist", folder=tmp_path)


def test_fashion_mnist_is_not_downloaded_silently(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.fashion_mnist, "DEBIAN_FOLDER", tmp_path / "none")
    with pytest.raises(UsageError, match=r"apt install dataset-fashion-mnist.*data\.download=true"):
        datasets.open("fashion-mnist", data_dir=tmp_path)


@pytest.mark.skipif(
    not datasets.fashion_mnist.DEBIAN_FOLDER.is_dir(), reason="needs Debian's dataset-fashion-mnist"
)
def test_fashion_mnist_from_debian():
    source = datasets.open("fashion-mnist")
    assert "Debian's dataset-fashion-mnist, /usr/share" in source.description
    x, y = source.arrays("train")
    assert (x.shape, x.dtype, list(y[:5])) == ((60_000, 28, 28, 1), np.uint8, [9, 0, 0, 3, 0])
    # The embedded images are the test images.
    np.testing.assert_array_equal(
        source.arrays("test")[0][:9000], datasets.open("fashion-mnist-10k").arrays("train")[0]
    )


# Gaussians --------------------------------------------------------------------------------------


def test_centers():
    ring, grid = gaussians.centers(8), gaussians.centers(25)
    np.testing.assert_allclose(np.linalg.norm(ring, axis=1), 2)
    np.testing.assert_allclose(ring[:3], [[2, 0], [2**0.5, 2**0.5], [0, 2]], atol=1e-12)
    assert {tuple(c) for c in grid} == {
        (float(a), float(b)) for a in (-4, -2, 0, 2, 4) for b in (-4, -2, 0, 2, 4)
    }
    assert (gaussians.std(8), gaussians.std(25)) == (0.02, 0.05)


@pytest.mark.parametrize("modes", [8, 25])
def test_points_are_drawn_around_the_centers(modes):
    source = datasets.open("gaussians", modes=modes, labels=True)
    x, y = source.arrays("train")
    assert (x.shape, x.dtype) == ((100_000, 2), np.float32)
    assert source.count("held_out") == 10_000
    assert source.spec == Spec("points", (2,), None, modes)
    offsets = x - gaussians.centers(modes)[y]
    np.testing.assert_allclose(offsets.std(axis=0), gaussians.std(modes), rtol=0.02)
    np.testing.assert_allclose(np.bincount(y) / len(y), 1 / modes, rtol=0.1)
    score = gaussians.score(x, modes)
    assert score["modes"] == modes
    assert score["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=1e-3)  # Rayleigh, 3 sigma
    assert score["reverse_kl"] == pytest.approx(0, abs=1e-3)


def test_points_follow_the_data_seed():
    def first(**options):
        return datasets.open("gaussians", count=100, **options).arrays()[0]

    np.testing.assert_array_equal(first(), first())
    assert (first() != first(data_seed=1)).all()


def test_score_by_hand():
    # Two points at (2, 0), one at (0, 2), one 0.061 from it, one nowhere: 3 of 5 of high quality.
    points = np.array([[2, 0.059], [2.01, 0], [0, 2], [0, 2.061], [0, 0]])
    score = gaussians.score(points, 8)
    assert (score["modes"], score["high_quality"]) == (2, 0.6)
    expected = 2 / 3 * math.log(8 * 2 / 3) + 1 / 3 * math.log(8 / 3)
    assert score["reverse_kl"] == pytest.approx(expected, abs=1e-12)


def test_score_of_lost_points():
    score = gaussians.score(np.array([[np.nan, 0], [100, 100]]), 25)
    assert score == {"modes": 0, "high_quality": 0.0, "reverse_kl": math.inf}
    with pytest.raises(UsageError, match=r"\(count, 2\)\. Received: shape=\(3,\)"):
        gaussians.score(np.zeros(3), 8)


# Arrays -----------------------------------------------------------------------------------------

IMAGES = np.random.default_rng(1).integers(256, size=(20, 8, 8, 3), dtype=np.uint8)
IDS = np.arange(20) % 4


@pytest.mark.parametrize(
    ("arrays", "shape", "classes", "held_out"),
    [
        ({"x": IMAGES}, (8, 8, 3), 0, 2),
        ({"images": IMAGES, "labels": IDS}, (8, 8, 3), 4, 2),
        ({"anything": IMAGES[..., 0], "y": IDS[:, np.newaxis]}, (8, 8, 1), 4, 2),
        ({"x_train": IMAGES[:15], "x_test": IMAGES[15:]}, (8, 8, 3), 0, 5),
        (
            {
                "x_train": IMAGES[:15],
                "y_train": IDS[:15],
                "x_test": IMAGES[15:],
                "y_test": IDS[15:],
            },
            (8, 8, 3),
            4,
            5,
        ),
    ],
)
def test_npz(tmp_path, arrays, shape, classes, held_out):
    np.savez(tmp_path / "a.npz", **arrays)
    source = datasets.open(tmp_path / "a.npz")
    assert (source.spec.shape, source.spec.num_classes) == (shape, classes)
    assert (source.count("train"), source.count("held_out")) == (20 - held_out, held_out)
    assert str(tmp_path / "a.npz") in source.description


def test_npy_stays_on_disk_if_large(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    memory = datasets.open(tmp_path / "a.npy", held_out=0.2)
    disk = datasets.open(str(tmp_path / "a.npy"), held_out=0.2, memory_limit=100)
    assert isinstance(disk._splits["train"].samples, np.memmap)
    assert not isinstance(memory._splits["train"].samples, np.memmap)
    for split in ("train", "held_out"):
        np.testing.assert_array_equal(memory.arrays(split)[0], disk.arrays(split)[0])
        streams = [s.dataset(split, 4, 0, repeat=True).take(9) for s in (memory, disk)]
        assert streams[0].element_spec == streams[1].element_spec
        for a, b in zip(*streams, strict=True):
            np.testing.assert_array_equal(a, b)


def test_channels_first():
    first = np.moveaxis(IMAGES, -1, 1)
    with pytest.raises(UsageError, match=r'layout: "NCHW".*x\.shape=\(20, 3, 8, 8\)'):
        datasets.from_arrays(first)
    source = datasets.from_arrays(first, layout="NCHW", held_out=0)
    np.testing.assert_array_equal(source.arrays()[0], IMAGES)


FLOATS = np.random.default_rng(2).uniform(-1, 1, size=(6, 8, 8, 1)).astype(np.float32)


def with_value(value):
    array = FLOATS.copy()
    array[3, 2, 1, 0] = value
    return array


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (with_value(np.nan), {}, r"finite.*nan in train at index \(3, 2, 1, 0\)"),
        (with_value(-np.inf), {}, r"finite.*-inf in train at index \(3, 2, 1, 0\)"),
        (abs(FLOATS), {}, r"value_range: \[0, 1\].*Received: values from"),
        (abs(FLOATS) * 255, {}, r"value_range: \[0, 255\]"),
        (FLOATS * 3, {}, r"value_range: \[smallest, largest\]"),
        (FLOATS, {"value_range": [0, 1]}, r"within value_range=\[0\.0, 1\.0\].*values from -0\.9"),
        (FLOATS, {"value_range": [1, 0]}, r"ascending order.*value_range=\[1, 0\]"),
        (FLOATS, {"value_range": "0, 1"}, r"two numbers"),
        (IMAGES.astype(np.int64) * 300, {}, r"range stated.*of int64 with values from 0 to 76500"),
        (IMAGES.astype(np.complex64), {}, r"integers, floating point or Boolean.*=complex64"),
        (IMAGES[0], {}, r"x\[np\.newaxis\].*x\.shape=\(8, 8, 3\)"),
        (IMAGES.reshape(20, -1), {}, r"\(count, height, width\).*x\.shape=\(20, 192\)"),
        (IMAGES[..., :2], {}, r"1 \(gray\), 3 \(RGB\).*\(8, 8, 2\)"),
        (IMAGES, {"y": IDS[:-1]}, r"one label for each sample.*20 samples and 19 labels"),
        (IMAGES, {"y": np.eye(4)[IDS]}, r"y\.argmax\(axis=1\).*y\.shape=\(20, 4\)"),
        (IMAGES, {"y": IDS - 1}, r"leave unlabeled.*y from -1 to 2"),
        (IMAGES, {"y": IDS + 0.5}, r"Labels must be integers.*float64"),
        (IMAGES, {"y": IDS, "class_names": ["a", "b"]}, r"from 0 to 1\. Received.*from 0 to 3"),
        (IMAGES, {"layout": "CHWN"}, r'"NHWC" or "NCHW".*CHWN'),
        (IMAGES[:1], {}, r"at least 2 samples to train on.*Received: 1"),
        (IMAGES[:0], {"held_out": 0}, r"at least 2 samples to train on.*Received: 0"),
        (
            np.zeros((5, 2), np.float32),
            {"value_range": [0, 1]},
            r"for audio, image, text, video only",
        ),
        ([1, 2], {}, r"must be a numpy array"),
    ],
)
def test_arrays_refuse(x, options, message):
    with pytest.raises(UsageError, match=message):
        datasets.from_arrays(x, **options)


def test_pickles_are_refused(tmp_path):
    objects = np.array([{"a": 1}, None], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "b.npz", x=objects)
    (tmp_path / "c.npy").write_bytes(pickle.dumps(objects))
    for name in ("a.npy", "b.npz", "c.npy"):
        with pytest.raises(UsageError, match=rf"never loaded.*{name}"):
            datasets.open(tmp_path / name)


def test_damaged_files_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", IMAGES)
    np.savez_compressed(tmp_path / "b.npz", x=IMAGES)
    for name in ("a.npy", "b.npz"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UsageError, match=rf"whole and readable.*{name}"):
            datasets.open(tmp_path / name)
    np.savez(tmp_path / "c.npz", a=IMAGES, b=IMAGES)
    with pytest.raises(UsageError, match=r"one array of samples.*c\.npz with a, b"):
        datasets.open(tmp_path / "c.npz")
    with pytest.raises(UsageError, match=r"must exist.*none\.npy"):
        datasets.arrays.open(tmp_path / "none.npy")


def test_a_source_checks_what_it_is_given():
    spec = Spec("image", (8, 8, 3), (-1.0, 1.0), num_classes=3)
    with pytest.raises(UsageError, match=r"labels from 0 to 3"):
        Source(spec, {"train": Split(IMAGES, IDS)}, "test")
    with pytest.raises(UsageError, match=r"in all of its splits or in none"):
        Source(spec, {"train": Split(IMAGES)}, "test")
    with pytest.raises(UsageError, match=r"the field's shape, \(8, 8, 3\)"):
        Source(spec, {"train": Split(IMAGES[..., :1], IDS)}, "test")


# TensorFlow Datasets ----------------------------------------------------------------------------

READ_WITHOUT_US = """
import sys
import numpy as np
import tensorflow_datasets as tfds
data, info = tfds.load("our_set", data_dir=sys.argv[1], with_info=True)
assert "keras_gan" not in sys.modules
x, y = zip(*((e["image"], e["label"]) for e in data["test"].as_numpy_iterator()))
np.savez(sys.argv[2], x=np.stack(x), y=np.array(y), names=info.features["label"].names,
         count=info.splits["train"].num_examples)
"""


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_prepare_and_read_back(tmp_path, channels):
    x = np.random.default_rng(0).integers(256, size=(30, 6, 10, channels), dtype=np.uint8)
    source = datasets.from_arrays(x, IDS[np.arange(30) % 20], class_names=["a", "b", "c d", "e"])
    calls = []
    path = datasets.prepare(
        source, "tfds:our_set", tmp_path, progress=lambda *args: calls.append(args)
    )
    assert path == tmp_path / "our_set" / "1.0.0"
    assert calls == [("train", 27, 27), ("held_out", 3, 3)]
    assert os.listdir(tmp_path) == ["our_set"]
    back = datasets.open("tfds:our_set", data_dir=tmp_path)
    assert back.spec == source.spec
    for split in ("train", "held_out"):
        for ours, theirs in zip(source.arrays(split), back.arrays(split), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert datasets.spec("tfds:our_set", data_dir=tmp_path, labels=False).num_classes == 0
    with pytest.raises(UsageError, match=r"never overwritten.*our_set"):
        datasets.prepare(source, "tfds:our_set", tmp_path)
    if channels == 3:  # a process takes seconds
        check_without_us(tmp_path, source)


def check_without_us(tmp_path, source):
    command = [sys.executable, "-c", READ_WITHOUT_US, str(tmp_path), str(tmp_path / "out.npz")]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    with np.load(tmp_path / "out.npz") as out:
        np.testing.assert_array_equal(out["x"], source.arrays("test")[0])
        np.testing.assert_array_equal(out["y"], source.arrays("test")[1])
        assert list(out["names"]) == ["a", "b", "c d", "e"]
        assert out["count"] == 27


def test_prepare_points(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    source = datasets.open("gaussians", count=50, held_out_count=10, labels=True)
    path = datasets.prepare(source, "tfds:ring:2.0.0")
    assert path == tmp_path / "ring" / "2.0.0"
    back = datasets.open("tfds:ring")
    assert back.spec == source.spec
    np.testing.assert_array_equal(back.arrays("train")[0], source.arrays("train")[0])
    np.testing.assert_array_equal(back.arrays("test")[1], source.arrays("test")[1])
    with pytest.raises(UsageError, match=r"must be prepared on this machine.*ring:3\.0\.0"):
        datasets.open("tfds:ring:3.0.0")


def test_prepare_leaves_nothing_behind_if_it_fails(tmp_path):
    source = datasets.from_arrays(IMAGES)

    def fail(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        datasets.prepare(source, "tfds:our_set", tmp_path, progress=fail)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("x", "to", "message"),
    [
        (IMAGES, "our_set", r"to tfds:NAME.*to='our_set'"),
        (IMAGES, "tfds:Our", r"lower-case.*tfds:Our"),
        (IMAGES, "tfds:our/config", r"no /config"),
        (IMAGES, "tfds:mnist", r"must not be that of a data set of TensorFlow Datasets"),
    ],
)
def test_prepare_refuses(tmp_path, x, to, message):
    with pytest.raises(UsageError, match=message):
        datasets.prepare(datasets.from_arrays(x), to, tmp_path)


def store(tmp_path, name, features, examples, test=()):
    import tensorflow_datasets as tfds

    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            split: list(enumerate(given))
            for split, given in (("train", examples), ("test", test))
            if given
        },
        data_dir=str(tmp_path),
        disable_shuffling=True,
    )


def test_fashion_mnist_from_tfds(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(datasets.fashion_mnist, "DEBIAN_FOLDER", tmp_path / "none")
    features = {
        "image": tfds.features.Image(shape=(28, 28, 1)),
        "label": tfds.features.ClassLabel(num_classes=10),
    }
    examples = [{"image": np.full((28, 28, 1), i, np.uint8), "label": i} for i in range(10)]
    store(tmp_path, "fashion_mnist", features, examples[:7], examples[7:])
    source = datasets.open("fashion-mnist", data_dir=tmp_path)
    assert source.spec == datasets.spec("fashion-mnist-10k")
    assert [int(e["samples"].max()) for e in source.examples("train")] == list(range(7))
    assert list(source.arrays("test")[1]) == [7, 8, 9]
    assert source.description.startswith("fashion-mnist: 7 + 3 images from the TFDS data set in")


def test_tfds_without_images_is_refused(tmp_path):
    import tensorflow_datasets as tfds

    features = {"age": tfds.features.Scalar(np.int64), "name": tfds.features.Text()}
    store(tmp_path, "table", features, [{"age": 3, "name": "a"}] * 3)
    with pytest.raises(UsageError, match=r"image_key.*age \(Scalar\), name \(Text\)"):
        datasets.open("tfds:table", data_dir=tmp_path)


def test_tfds_images_of_any_size(tmp_path):
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    blank = np.zeros((4, 4, 1), np.uint8)
    shapes = [(20 + i, 30 + 2 * i, 3) for i in range(12)]
    examples = [
        {
            "a": rng.integers(256, size=s, dtype=np.uint8),
            "b": blank,
            "id": i % 3,
        }
        for i, s in enumerate(shapes)
    ]
    features = {
        "a": tfds.features.Image(),
        "b": tfds.features.Image(shape=(4, 4, 1)),
        "id": tfds.features.ClassLabel(num_classes=3),
    }
    store(tmp_path, "photos", features, examples)
    with pytest.raises(UsageError, match=r"`image_key` must name.*one of a, b.*image_key=None"):
        datasets.open("tfds:photos", data_dir=tmp_path)
    with pytest.warns(UserWarning, match="Received: 12 of 12 images, such as photos.*of 20x30$"):
        source = datasets.open("tfds:photos", data_dir=tmp_path, image_key="a", held_out=0.25)
    assert source.description.endswith(", as 64x64x3 (20x30 to 31x52 -> 64x64)")
    assert source.resized == datasets.images.FILTER
    assert source.spec == Spec("image", (64, 64, 3), (-1.0, 1.0), 3)
    assert (source.count("train"), source.count("test")) == (9, 3)
    options = {"data_dir": tmp_path, "held_out": 0, "labels": False}
    kept = datasets.open("tfds:photos", image_key="b", **options)
    assert (kept.resized, "->" in kept.description) == (None, False)
    halved = datasets.open("tfds:photos", image_key="b", size=2, **options)
    assert halved.description.endswith(", as 2x2x1 (4x4 -> 2x2)")
    with pytest.warns(UserWarning, match="Received: 12 of 12 images, such as all of photos of 4x4"):
        datasets.open("tfds:photos", image_key="b", size=8, **options)
    small = datasets.open("tfds:photos", image_key="a", size=[20, 30], **options)
    np.testing.assert_array_equal(small.arrays()[0][0], examples[0]["a"])


def test_a_damaged_tfds_is_refused(tmp_path):
    path = datasets.prepare(datasets.from_arrays(IMAGES), "tfds:our_set", tmp_path)
    record = path / "our_set-train.tfrecord-00000-of-00001"
    whole = bytearray(record.read_bytes())
    whole[200] ^= 255
    record.write_bytes(whole)
    with pytest.raises(UsageError, match=r"whole and readable.*our_set"):
        datasets.open("tfds:our_set", data_dir=tmp_path)


# Kinds and fields -------------------------------------------------------------------------------

RANDOM = np.random.default_rng(3)
WAVES = RANDOM.uniform(-1, 1, size=(20, 16, 1)).astype(np.float32)
SERIES = RANDOM.normal(size=(20, 8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("x", "options", "field"),
    [
        (
            WAVES,
            {"kind": "audio", "sample_rate": 8000},
            Field("audio", (16, 1), meta={"value_range": (-1.0, 1.0), "sample_rate": 8000}),
        ),
        (
            np.round(WAVES * 32767).astype(np.int16),
            {"kind": "audio"},
            Field("audio", (16, 1), meta={"value_range": (-1.0, 1.0), "sample_rate": 16000}),
        ),
        (SERIES, {"kind": "series"}, Field("series", (8, 3))),
        (
            RANDOM.integers(256, size=(20, 5, 4, 4, 3), dtype=np.uint8),
            {"kind": "video", "frame_rate": 25},
            Field("video", (5, 4, 4, 3), meta={"value_range": (-1.0, 1.0), "frame_rate": 25}),
        ),
        (
            RANDOM.integers(3, size=(20, 6)),
            {"kind": "text", "vocabulary": ["a", "b", "c"]},
            Field("text", (6, 3), meta={"value_range": (0.0, 1.0), "vocabulary": ("a", "b", "c")}),
        ),
        (
            RANDOM.normal(size=(20, 2)),
            {"kind": "table", "columns": ["age", "height"]},
            Field("table", (2,), meta={"columns": ("age", "height")}),
        ),
        (RANDOM.normal(size=(20, 2, 2, 2, 2)), {"kind": "array"}, Field("array", (2, 2, 2, 2))),
    ],
)
def test_arrays_of_every_kind(tmp_path, x, options, field):
    np.save(tmp_path / "a.npy", x)
    source = datasets.open(tmp_path / "a.npy", **options)
    assert source.spec == Spec(fields={"samples": field})
    assert source.description.startswith(f"arrays: 18 + 2 {field.modality.plural} from ")
    batch = next(iter(source.dataset(batch_size=4)))
    assert batch.shape == (4, *field.shape)
    assert batch.dtype.name == field.dtype
    if field.kind_range is not None:
        assert np.abs(batch).max() <= 1
    path = datasets.prepare(source, "tfds:any_kind", tmp_path)
    assert (path / "fields.json").is_file()
    back = datasets.open("tfds:any_kind", data_dir=tmp_path)
    assert back.spec == source.spec
    for split in ("train", "held_out"):
        streams = [s.dataset(split, 2, shuffle=False) for s in (source, back)]
        for ours, theirs in zip(*streams, strict=True):
            np.testing.assert_array_equal(ours, theirs)


PIXELS = RANDOM.integers(256, size=(20, 5, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("x", "kind", "shape"),
    [
        (SERIES[:, 0], "points", (3,)),
        (PIXELS[:, 0, :, :, 0], "image", (8, 8, 1)),
        (PIXELS[:, 0], "image", (8, 8, 3)),
        (WAVES[:, :, np.newaxis], "image", (16, 1, 1)),
    ],
)
def test_a_kind_that_follows_from_the_shape_is_reported(x, kind, shape):
    source = datasets.from_arrays(x, fields={"given": SERIES, "mask": PIXELS[:, 0, :, :, 0] > 9})
    assert (source.spec.kind, source.spec.shape) == (kind, shape)
    with_fields = f"{source.spec.modality.plural} from memory, with given (series), mask (array)"
    assert source.description == f"arrays: 18 + 2 {with_fields}"


def test_video_is_found_by_its_shape():
    with pytest.warns(UserWarning, match=r"'samples' of kind 'video' has no frame_rate"):
        source = datasets.from_arrays(PIXELS)
    assert source.spec.samples.shape == (5, 8, 8, 3)
    assert source.description == "arrays: 18 + 2 videos from memory"


@pytest.mark.parametrize(
    ("x", "valid"),
    [
        (SERIES, "array, audio, image, mel, series, text"),
        (np.zeros((20, 28, 28), np.float64), "array, audio, image, mel, series, text"),
        (np.zeros((20, 5, 8, 8, 2), np.float32), "array"),
        (np.zeros((20, 2, 2, 2, 2, 3), np.float32), "array"),
        (PIXELS[:, 0, 0, :, 0], "action, array, points, table, text"),
        (np.zeros(20, np.float32), "array"),
    ],
)
def test_a_kind_that_does_not_follow_from_the_shape_is_asked_for(x, valid):
    shape = re.escape(f"{x.shape[1:]} need the option kind (--set data.kind=KIND), one of {valid};")
    received = re.escape(f"Received: x.shape={x.shape}, dtype={x.dtype}")
    with pytest.raises(UsageError, match=f"{shape}.*{received}$") as caught:
        datasets.from_arrays(x)
    assert "\n" not in str(caught.value)


def test_gray_images_without_channels_may_be_floats_if_the_kind_is_stated():
    source = datasets.from_arrays(WAVES[:, :, 0].reshape(20, 4, 4), kind="image")
    assert source.spec == Spec("image", (4, 4, 1), (-1.0, 1.0))


def test_token_ids_become_one_hot():
    ids = RANDOM.integers(4, size=(20, 6))
    source = datasets.from_arrays(ids, kind="text", held_out=0)
    assert source.spec.shape == (6, ids.max() + 1)
    batch = next(iter(source.dataset(batch_size=20, shuffle=False)))
    np.testing.assert_array_equal(np.argmax(batch, axis=-1), ids)
    np.testing.assert_array_equal(batch, source.values(source.arrays()[0]))
    as_given = datasets.from_arrays(np.asarray(batch), kind="text", held_out=0)
    assert as_given.spec == source.spec
    np.testing.assert_array_equal(next(iter(as_given.dataset(batch_size=20, shuffle=False))), batch)


def test_a_csv_file_is_a_table_with_its_columns(tmp_path):
    rows = RANDOM.normal(size=(20, 2)).astype(np.float32)
    lines = [f"{a!r},{b!r}" for a, b in rows.tolist()]
    (tmp_path / "a.csv").write_text("\n".join(["age,height", *lines]) + "\n\n")
    source = datasets.open(str(tmp_path / "a.csv"), held_out=0)
    assert source.spec.fields == {
        "samples": Field("table", (2,), meta={"columns": ["age", "height"]})
    }
    np.testing.assert_array_equal(source.arrays()[0], rows)
    (tmp_path / "a.csv").write_text("\n".join(lines))
    plain = datasets.open(str(tmp_path / "a.csv"), kind="points", held_out=0)
    assert plain.spec == Spec("points", (2,))
    np.testing.assert_array_equal(plain.arrays()[0], rows)


def test_texts_and_notes_beside_samples_are_no_fields(tmp_path):
    x = RANDOM.integers(0, 256, (20, 8, 8)).astype("uint8")
    files = np.array([f"{i}.png" for i in range(20)])
    np.savez(tmp_path / "a.npz", samples=x, note=np.array("mine"), files=files, age=np.ones(20))
    with pytest.warns(UserWarning, match=r"numbers for each sample.*Ignored in .*: note, files"):
        source = datasets.open(str(tmp_path / "a.npz"))
    assert set(source.spec.fields) == {"samples", "age"}


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_the_row_numbers_of_a_csv_file_are_left_out(tmp_path, name):
    table = "\n".join(f"{row},{row / 7},1.5" for row in range(9))
    (tmp_path / "a.csv").write_text(f"{name},age,height\n{table}")
    with pytest.warns(UserWarning, match="first column without a name that counts the rows"):
        source = datasets.open(str(tmp_path / "a.csv"), held_out=0)
    assert source.spec.samples.meta == {"columns": ("age", "height")}
    np.testing.assert_allclose(source.arrays()[0][:, 0], np.arange(9) / 7, rtol=1e-6)
    (tmp_path / "a.csv").write_text(f"{name},age,height\n2,1,1.5\n1,3,2.5\n")
    assert datasets.open(str(tmp_path / "a.csv"), held_out=0).spec.shape == (3,)


@pytest.mark.parametrize("name", ["", "  "])
def test_a_source_without_a_name_is_not_the_current_folder(name):
    with pytest.raises(UsageError, match=f"The data must be named. Received: '{name}'"):
        datasets.open(name)


@pytest.mark.parametrize("content", ["", "a,b\n", "a,b\n1,2\n3\n", "a,b\n1,two\n", "\xff"])
def test_a_damaged_csv_file_is_refused(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=r"rows of as many numbers.*Received: .*a\.csv"):
        datasets.open(str(tmp_path / "a.csv"))


def test_sixteen_bit_audio_is_mapped_to_minus_one_to_one():
    x = np.array([[-32768], [0], [16384], [32767]], np.int16)[np.newaxis].repeat(2, 0)
    source = datasets.from_arrays(x, kind="audio", held_out=0)
    batch = next(iter(source.dataset(batch_size=2)))
    np.testing.assert_array_equal(batch[0, :, 0], [-1, 0, 0.5, 32767 / 32768])


FIELDS = {
    "samples": WAVES,
    "labels": np.arange(20) % 3,
    "condition": SERIES,
    "mask": RANDOM.integers(2, size=(20, 4)).astype(bool),
    "image": RANDOM.integers(256, size=(20, 4, 4, 3), dtype=np.uint8),
    "speaker": np.arange(20) % 5,
}
FIELD_OPTIONS = {
    "kind": {"samples": "audio", "condition": "series"},
    "sample_rate": {"samples": 8000},
    "columns": {"condition": ["a", "b", "c"]},
    "class_names": ["a", "b", "c"],
}


def test_a_file_whose_arrays_are_named_by_fields(tmp_path):
    np.savez(tmp_path / "a.npz", **FIELDS)
    source = datasets.open(tmp_path / "a.npz", held_out=0, **FIELD_OPTIONS)
    fields = source.spec.fields
    assert list(fields) == ["samples", "labels", "condition", "image", "mask", "speaker"]
    assert fields["condition"] == Field("series", (8, 3), meta={"columns": ["a", "b", "c"]})
    assert fields["samples"].meta["sample_rate"] == 8000
    assert (fields["mask"].kind, fields["mask"].dtype) == ("array", "bool")
    assert fields["image"].kind == "image"
    assert (fields["speaker"].kind, fields["speaker"].meta["num_classes"]) == ("label", 5)
    batch = next(iter(source.dataset(batch_size=20, shuffle=False)))
    assert list(batch) == list(fields)
    assert {name: x.dtype.name for name, x in batch.items()} == {
        name: field.dtype for name, field in fields.items()
    }
    for name in ("samples", "labels", "condition", "mask", "speaker"):
        np.testing.assert_array_equal(batch[name], FIELDS[name])
    np.testing.assert_allclose(batch["image"], FIELDS["image"] / 127.5 - 1, atol=1e-6)


def test_fields_stay_with_their_samples(tmp_path):
    number = np.arange(20, dtype=np.float32)[:, np.newaxis]
    source = datasets.from_arrays(number, fields={"twice": 2 * number}, held_out=0.25)
    for split, count in (("train", 15), ("held_out", 5)):
        (batch,) = source.dataset(split, count)
        np.testing.assert_array_equal(batch["twice"], 2 * batch["samples"])
        assert len(source.field_arrays(split)["twice"]) == count


def test_prepared_fields_are_read_back(tmp_path):
    np.savez(tmp_path / "a.npz", **FIELDS)
    source = datasets.open(tmp_path / "a.npz", **FIELD_OPTIONS)
    datasets.prepare(source, "tfds:fields", tmp_path)
    back = datasets.open("tfds:fields", data_dir=tmp_path)
    assert back.spec == source.spec
    for split in ("train", "held_out"):
        ours, theirs = source.field_arrays(split), back.field_arrays(split)
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name])
    plain = datasets.open("tfds:fields", data_dir=tmp_path, labels=False)
    assert "labels" not in plain.spec.fields
    with pytest.raises(UsageError, match=r"`size` is only for .*size=8"):
        datasets.open("tfds:fields", data_dir=tmp_path, size=8)
    record = tmp_path / "fields" / "1.0.0" / "fields.json"
    record.write_text(record.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    with pytest.raises(UsageError, match=r"whole and of schema_version 1.*fields\.json"):
        datasets.open("tfds:fields", data_dir=tmp_path)


def test_test_arrays_of_fields_are_held_out(tmp_path):
    arrays = {"samples": SERIES[:15], "condition": WAVES[:15]}
    test = {"samples_test": SERIES[15:], "condition_test": WAVES[15:]}
    np.savez(tmp_path / "a.npz", **arrays, **test)
    kinds = {"samples": "series", "condition": "audio"}
    source = datasets.open(tmp_path / "a.npz", kind=kinds)
    assert (source.count("train"), source.count("held_out")) == (15, 5)
    np.testing.assert_array_equal(source.field_arrays("held_out")["condition"], WAVES[15:])


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (WAVES, {"kind": "sound"}, r"`kind` must be one of .*kind='sound'"),
        (WAVES, {"kin": "audio"}, r"^`kin` is not an option .* kin='audio'. Did you mean 'kind'"),
        (WAVES[..., 0], {"kind": "audio"}, r"2 positive dimensions \(time, channels\)"),
        (WAVES * 2, {"kind": "audio"}, r"audio clips must be in \[-1, 1\]"),
        (WAVES, {"kind": "series", "frame_rate": 5}, r"'series' may have .*Received: frame_rate"),
        (WAVES, {"kind": {"sample": "audio"}}, r"`kind` must name fields .*'sample'"),
        (SERIES.astype(int), {"kind": "series"}, r"floating point.*dtype=int64"),
        (WAVES[..., np.newaxis], {"kind": "text"}, r"positive dimensions \(time, vocabulary\)"),
        (WAVES[..., 0], {"kind": "text"}, r"dtypes int32, int64\. Received: dtype='float32'"),
        (WAVES, {"kind": "text"}, r"texts must be in \[0, 1\].*Received: values from -"),
        (np.arange(20), {"kind": "label"}, r"can be generated, action, .*kind='label'"),
        (
            np.arange(60).reshape(20, 3),
            {"kind": "text", "vocabulary": ["a", "b"]},
            r"from 0 to 1\. Received: train samples from 0 to 59",
        ),
        (
            SERIES,
            {"kind": "series", "fields": {"condition": WAVES[:5]}},
            r"20 samples and 5 values",
        ),
        (
            SERIES,
            {"kind": "series", "fields": {"condition": np.full((20, 2), np.nan, np.float32)}},
            r"`condition` must be finite.*nan in train at index \(0, 0\)",
        ),
        (SERIES, {"kind": "series", "fields": {"c": [1]}}, r"numpy array.*c of type"),
        (
            SERIES[:15],
            {"kind": "series", "x_test": SERIES[15:], "fields": {"mask": WAVES[:15]}},
            r"must have the fields samples, mask\. Received: held_out with samples",
        ),
    ],
)
def test_fields_that_do_not_fit_are_refused(x, options, message):
    with pytest.raises(UsageError, match=message):
        datasets.from_arrays(x, **options)


def test_a_rate_that_is_not_stated_is_assumed_with_a_warning(tmp_path):
    np.savez(
        tmp_path / "clips.npz",
        samples=np.random.default_rng(0).uniform(-1, 1, (20, 30, 1)).astype("float32"),
    )
    with pytest.warns(UserWarning, match=r"no sample_rate: 16000 Hz is assumed"):
        source = datasets.open(tmp_path / "clips.npz", kind="audio")
    assert source.spec.samples.meta["sample_rate"] == 16000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stated = datasets.open(tmp_path / "clips.npz", kind="audio", sample_rate=8000)
    assert stated.spec.samples.meta["sample_rate"] == 8000
