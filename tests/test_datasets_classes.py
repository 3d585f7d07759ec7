"""Class ids of the labels that people have: gaps, offsets, texts, floats, and names of folders."""

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from keras_gan import UsageError, data_record, datasets
from keras_gan.datasets import classes
from keras_gan.metrics import sources

IMAGES = np.random.default_rng(1).integers(256, size=(24, 8, 8, 1), dtype=np.uint8)
FOUR = np.arange(24) % 4


def labels_of(source, split="train"):
    return source.arrays(split)[1].tolist()


@pytest.mark.parametrize(
    ("labels", "names", "line"),
    [
        (np.arange(24) % 10 + 1, [str(n) for n in range(1, 11)], "Labels 1 to 10 became class ids"),
        (np.array([0, 5, 900])[FOUR % 3], ["0", "5", "900"], "Labels 0, 5, 900 became class ids"),
        (
            np.array([0, 10**9])[FOUR % 2],
            ["0", "1000000000"],
            "0, 1000000000 became class ids 0, 1",
        ),
        ((FOUR + 1).astype(np.float32), ["1", "2", "3", "4"], "Labels 1 to 4 became class ids 0"),
        (FOUR.astype(np.uint64) * 2, ["0", "2", "4", "6"], "Labels 0, 2, 4, 6 became class ids"),
        (np.full(24, 7), ["7"], "Labels 7 became class ids 0"),
        (FOUR.astype(np.float64), [], ""),
        (FOUR > 1, [], ""),
        (np.array(["b10", "b9", "a", "b9"])[FOUR], ["a", "b9", "b10"], ""),
        (np.array([b"1", b"10", b"2", b"2"])[FOUR], ["1", "2", "10"], ""),
        (np.array(["x", "y"], object)[FOUR % 2], ["x", "y"], ""),
    ],
)
def test_the_labels_that_occur_are_the_classes(labels, names, line):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        source = datasets.from_arrays(IMAGES, labels, held_out=0)
    assert [line in str(warning.message) for warning in said] == [True] * bool(line)
    found = labels_of(source)
    count = len(names) or len(set(labels.tolist()))
    assert source.spec.num_classes == count
    assert list(source.spec.class_names) == names
    assert sorted(set(found)) == list(range(count))
    if names:  # every sample keeps its label
        texts = [x.decode() if isinstance(x, bytes) else x for x in labels.tolist()]
        texts = [str(int(x)) if isinstance(x, float) else str(x) for x in texts]
        assert [names[label] for label in found] == texts


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (FOUR + 0.5, r"integers or texts.*float64 with the label 0\.5"),
        (np.where(FOUR == 1, np.nan, FOUR), r"integers or texts.*with the label nan"),
        (FOUR - 1, r"leave unlabeled samples \(-1\) out.*y from -1 to 2"),
        (FOUR - 5, r"integers of at least 0.*y from -5 to -2"),
        (FOUR.astype(np.uint64) + 2**63, r"below 2\*\*63.*uint64"),
        (FOUR.astype(np.complex64), r"integers below .* or texts.*complex64"),
        (FOUR.astype("datetime64[s]"), r"integers below .* or texts.*datetime64"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, message):
    with pytest.raises(UsageError, match=message):
        datasets.from_arrays(IMAGES, labels)


def test_ids_of_samples_are_not_classes():
    images = np.zeros((3000, 4, 4, 1), np.uint8)
    with pytest.raises(UsageError, match=r"classes with samples.*3,000 classes of 3,000 samples"):
        datasets.from_arrays(images, np.arange(3000))
    with pytest.raises(UsageError, match=r"3,000 classes of 3,000 samples"):
        datasets.from_arrays(images, np.arange(3000).astype(str))
    with pytest.raises(UsageError, match=r"below 100,000.*labels up to 1,000,000,000"):
        datasets.from_arrays(IMAGES, FOUR % 2 * 10**9, keep_ids=True)
    with pytest.raises(UsageError, match=r"below 100,000.*kind up to 1,000,000,000"):
        datasets.from_arrays(IMAGES, fields={"kind": FOUR % 2 * 10**9})
    with pytest.raises(UsageError, match=r"below 100,000.*samples up to 1,000,000,000"):
        datasets.from_arrays(FOUR.reshape(6, 4) % 2 * 10**9, kind="text")


def test_names_of_classes_stay_with_their_labels():
    with pytest.warns(UserWarning, match=r"left out: b, d, f.*0, 2, 4, 6 became class ids 0 to 3"):
        source = datasets.from_arrays(IMAGES, FOUR * 2, class_names="abcdefg", held_out=0)
    assert source.spec.class_names == ("a", "c", "e", "g")
    assert labels_of(source) == FOUR.tolist()
    with pytest.warns(UserWarning, match=r"1 to 4 .* 0 to 3, which are named w, x, y, z"):
        source = datasets.from_arrays(IMAGES, FOUR + 1, class_names="wxyz", held_out=0)
    assert (source.spec.class_names, labels_of(source)) == (("w", "x", "y", "z"), FOUR.tolist())
    with pytest.raises(UsageError, match=r"from 0 to 2.*4 different labels from 1 to 4 and 3 cl"):
        datasets.from_arrays(IMAGES, FOUR + 1, class_names="abc")
    with pytest.raises(UsageError, match=r"among the class_names, a, b\. Received: c"):
        datasets.from_arrays(IMAGES, np.array(["a", "c"])[FOUR % 2], class_names="ab")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = datasets.from_arrays(IMAGES, FOUR + 1, keep_ids=True, held_out=0)
    assert (kept.spec.num_classes, labels_of(kept)) == (5, (FOUR + 1).tolist())


def test_the_training_split_numbers_the_classes():
    test = np.array([3, 9, 1, 9, 12, 2])
    line = "3 of 6 held-out samples have labels that no training sample has: 9, 12"
    with pytest.warns(UserWarning, match=line):
        source = datasets.from_arrays(IMAGES[:18], FOUR[:18] + 1, x_test=IMAGES[18:], y_test=test)
    assert source.spec.class_names == ("1", "2", "3", "4")
    assert labels_of(source, "held_out") == [2, 0, 1]
    np.testing.assert_array_equal(source.arrays("held_out")[0], IMAGES[18:][[0, 2, 5]])
    with pytest.raises(UsageError, match=r"of the training's classes.*6 of 6 .* has: 8"):
        datasets.from_arrays(IMAGES[:18], FOUR[:18], x_test=IMAGES[18:], y_test=np.full(6, 8))
    with pytest.raises(UsageError, match=r"one type in all splits.*train of int64, held_out of <U"):
        datasets.from_arrays(IMAGES[:18], FOUR[:18], x_test=IMAGES[18:], y_test=np.full(6, "a"))


def test_a_plain_function_numbers_arrays_of_labels():
    found = classes.find_classes(np.array([3, 1, 3, 7]))
    assert (len(found), found.names) == (3, ("1", "3", "7"))
    assert found.ids(np.array([7, 1, 2, 3, 900])).tolist() == [2, 0, -1, 1, -1]
    whole = classes.find_classes(np.array([1, 0, 2]))
    assert (whole.names, whole.line) == ((), "")


def test_names_are_sorted_by_the_numbers_in_them():
    names = ["10", "9", "b10", "b9", "a", "1", "01", "-1"]
    ordered = sorted(names, key=classes.natural_key)
    assert ordered == ["01", "1", "9", "10", "-1", "a", "b9", "b10"]


def test_tfds_classes_without_training_samples(tmp_path):
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(8, 8, 1)),
        "label": tfds.features.ClassLabel(names=["zero", "one", "two", "three"]),
    }
    examples = [{"image": x, "label": 1 + i % 2 * 2} for i, x in enumerate(IMAGES)]
    held_out = [{"image": 255 - x, "label": i} for i, x in enumerate(IMAGES[:4])]
    tfds.dataset_builders.store_as_tfds_dataset(
        name="odd",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": list(enumerate(examples)), "test": list(enumerate(held_out))},
        data_dir=str(tmp_path),
        disable_shuffling=True,
    )
    with pytest.warns(UserWarning, match=r"left out: zero, two|that no training sample has: 0, 2"):
        source = datasets.open("tfds:odd", data_dir=tmp_path)
    assert source.spec.class_names == ("one", "three")
    assert labels_of(source)[:4] == [0, 1, 0, 1]
    assert labels_of(source, "held_out") == [0, 1]
    kept = datasets.open("tfds:odd", data_dir=tmp_path, keep_ids=True)
    assert (kept.spec.num_classes, labels_of(kept)[:2]) == (4, [1, 3])
    assert source.earlier().spec == kept.spec


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0]).save(path)


def recorded_earlier(source):
    """Returns what version 0.1.0 recorded: its own reading, without the stored ranges."""
    content = json.loads(json.dumps(data_record.describe_data(source.earlier())))
    del content["raw_ranges"]
    return content


def test_a_run_keeps_the_class_ids_with_which_it_began(tmp_path):
    np.savez(tmp_path / "a.npz", x=IMAGES, y=np.arange(24) % 10 + 1)
    for number in range(24):
        save(tmp_path / "numbers" / str(number % 12) / f"{number}.png", IMAGES[number])
    source = datasets.open(tmp_path / "a.npz")
    with pytest.warns(UserWarning, match=r"as keras_gan 0\.1\.0 read them"):
        before = data_record.as_recorded(recorded_earlier(source), source)
    assert (before.spec.num_classes, before.spec.class_names) == (11, ())
    assert sorted(set(labels_of(before))) == list(range(1, 11))
    folder = datasets.open(tmp_path / "numbers")
    assert folder.spec.class_names == tuple(map(str, range(12)))
    record = recorded_earlier(folder)
    before = data_record.as_recorded(record, folder)
    assert before.spec.class_names[:4] == ("0", "1", "10", "11")
    assert data_record.data_differences(record, data_record.describe_data(before)) == []
    # A run of today keeps today's reading.
    assert data_record.as_recorded(data_record.describe_data(source), source) is source
    assert data_record.as_recorded(data_record.describe_data(folder), folder) is folder
    # Other data are neither: they are returned as they are, and refused.
    np.savez(tmp_path / "b.npz", x=255 - IMAGES, y=np.arange(24) % 10 + 1)
    other = datasets.open(tmp_path / "b.npz")
    assert data_record.as_recorded(record, other) is other
    found = data_record.data_differences(record, data_record.describe_data(other))
    assert [each.split()[0] for each in found] == ["classes", "content"]


def test_labels_of_generated_samples_stay_class_ids(tmp_path):
    """Files of samples hold class ids, of which some may be missing."""
    x, ids = IMAGES[:12], np.array([3, 7])[np.arange(12) % 2]
    np.savez(tmp_path / "made.npz", samples=x, labels=ids)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = sources.open_samples(tmp_path / "made.npz")
        pair = sources.open_samples((x, ids))
    for samples in (made, pair):
        (_, labels), *_ = samples.read(12)
        assert samples.spec.num_classes == 8
        assert sorted(set(labels.tolist())) == [3, 7]


def test_csv_columns_have_names_of_their_own(tmp_path):
    (tmp_path / "a.csv").write_text("age,height,age\n1,2,3\n4,5,6\n")
    with pytest.raises(UsageError, match=r"a name of its own.*columns of the same name, age"):
        datasets.open(tmp_path / "a.csv")


def test_arrays_that_are_guessed_or_ignored_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", pictures=IMAGES, y=FOUR)
    with pytest.warns(UserWarning, match=r"'pictures' of .*a\.npz is read as the samples"):
        datasets.open(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=IMAGES, y=FOUR, weights=FOUR, extra=FOUR)
    with pytest.warns(UserWarning, match=r"Ignored in .*b\.npz: weights, extra"):
        datasets.open(tmp_path / "b.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.savez(tmp_path / "c.npz", x=IMAGES, y=FOUR)
        datasets.open(tmp_path / "c.npz")


@pytest.mark.parametrize("names", [["a", "a", "b", "c"], ["a", "b", "", "c"]])
def test_class_names_that_are_no_names_are_refused(names):
    with pytest.raises(UsageError, match="`class_names` must be different texts, none of them em"):
        datasets.from_arrays(IMAGES, FOUR, class_names=names, held_out=0)
