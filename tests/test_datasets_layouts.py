"""Folders as people have them: splits under many names, wrapper folders, every kind of file."""

import os
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image, features

from keras_gan import UsageError, data_record, datasets

RNG = np.random.default_rng(0)


def fill(folder, count, suffix="png"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = RNG.integers(256, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.{suffix}")
    return folder


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return datasets.open(*arguments, **options)


def counts(source):
    """Class names, and the number of samples of each class in each split."""
    number = source.spec.num_classes
    return source.spec.class_names, [
        np.bincount(source.arrays(split)[1], minlength=number).tolist()
        for split in source.split_names
    ]


# Splits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "held_out"),
    [
        ("training", "testing"),
        ("Train", "Test"),
        ("train", "dev"),
        ("train", "eval"),
        ("train", "Validation"),
        ("TRAIN", "hold-out"),
        ("train", "Held Out"),
        ("Training_Set", "test set"),
        ("train_images", "val_images"),
        ("trainset", "testset"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train", "fotos"),  # known by the other's name and by the same subfolders
        ("pictures", "test"),
        ("data/v1/train", "data/v1/valid"),
        ("x_train", "x_test"),
        ("train-clean", "test-clean"),
        ("imgs_train", "imgs_val"),
        ("mnist_train", "mnist_test"),
        ("xTrain", "xTest"),
        ("xtrain", "xval"),
        ("flowers train 2017", "flowers val 2017"),
        ("Birds.TrainingSet", "birds-held-out"),
    ],
)
def test_folders_named_as_splits(tmp_path, train, held_out):
    for name, count in ((train, 3), (held_out, 2)):
        for label in ("cats", "dogs"):
            fill(tmp_path / name / label, count)
    source = quiet(tmp_path)
    assert counts(source) == (("cats", "dogs"), [[3, 3], [2, 2]])
    tops = [next(part for part in name.split("/") if part not in ("data", "v1"))
            for name in (train, held_out)]  # fmt: skip
    assert f"; splits: {tops[0]} (6), {tops[1]} (4)" in source.description
    with pytest.raises(UsageError, match="held-out samples of its own"):
        datasets.open(tmp_path, held_out=0.5)


def test_splits_without_classes(tmp_path):
    fill(tmp_path / "Training", 4)
    fill(tmp_path / "Validation", 2)
    source = quiet(tmp_path)
    assert (source.spec.num_classes, source.count(), source.count("test")) == (0, 4, 2)


@pytest.mark.parametrize("wrapper", ["dataset/dataset", "train", "images/all/v2"])
def test_a_folder_alone_in_its_folder_is_passed_through(tmp_path, wrapper):
    for label in ("cats", "dogs"):
        fill(tmp_path / wrapper / label, 3)
    source = quiet(tmp_path, held_out=0)
    assert counts(source) == (("cats", "dogs"), [[3, 3]])


@pytest.mark.parametrize("names", [("train", "bus", "car"), ("val", "vol"), ("testudo", "trainer")])
def test_classes_that_are_no_splits(tmp_path, names):
    for name in names:
        fill(tmp_path / name, 2)
    source = quiet(tmp_path, held_out=0)
    assert counts(source) == (tuple(sorted(names)), [[2] * len(names)])


@pytest.mark.parametrize(
    "names",
    [
        ("training shoes", "test tubes"),
        ("training shoes", "test tubes", "toys"),
        ("training shoes", "test shoes", "toys"),
        ("train_bullet", "train_steam"),
        ("trainer", "tester"),
        ("valve", "value", "training"),
        ("fold", "unfold"),
        ("part17", "part23"),
        ("chapter1", "chapter2"),
        ("0", "1", "2"),
        ("multipart1", "multipart2"),
    ],
)
def test_classes_with_words_of_splits_are_classes_without_a_word(tmp_path, names):
    for name in names:
        fill(tmp_path / name, 2)
    source = quiet(tmp_path, held_out=0)
    assert set(source.spec.class_names) == set(names)


@pytest.mark.parametrize(
    "names",
    [
        ("fold1", "fold2", "fold3"),
        ("split_0", "split_1"),
        ("images_part_1", "images_part_2"),
        ("test_easy", "test_hard", "train"),
        ("x_test", "x_train", "y_test", "y_train"),
        ("test_clean", "train_clean_100", "train_clean_360"),
        ("test", "train_100", "train_360"),
        ("Val", "train1", "train2"),
        ("flowers_test_1", "flowers_test_2", "flowers_train_1"),
        ("x-test-1", "x-test-2", "x-train-1", "x-train-2"),
    ],
)
def test_names_that_may_be_splits_are_said_to_be_classes(tmp_path, names):
    for name in names:
        fill(tmp_path / name, 2)
    line = f"If these are splits, .*Received: {len(names)} classes, {', '.join(names)}$"
    with pytest.warns(UserWarning, match=line) as said:
        source = datasets.open(tmp_path, held_out=0)
    assert len(said) == 1
    assert source.spec.class_names == names
    assert quiet(tmp_path, held_out=0, labels=False).spec.num_classes == 0


def test_folders_beside_splits_with_a_word_in_common(tmp_path):
    for name, count in (("x_train", 4), ("x_val", 3), ("x_test", 2)):
        fill(tmp_path / name, count)
    with pytest.warns(
        UserWarning, match=r"other folders than the splits are left out: x_val \(3\)"
    ):
        source = datasets.open(tmp_path)
    assert (source.count(), source.count("held_out")) == (4, 2)


def test_a_training_folder_without_a_number_is_used_beside_a_numbered_one(tmp_path):
    for name, count in (("train", 4), ("train_2", 3), ("test", 2)):
        fill(tmp_path / name, count)
    with pytest.warns(UserWarning, match=r"are left out: train_2 \(3\)"):
        source = datasets.open(tmp_path)
    assert (source.count(), source.count("held_out")) == (4, 2)


def test_classes_with_the_same_subfolders_stay_classes(tmp_path):
    for name in ("cats", "dogs"):
        for year in ("2019", "2020"):
            fill(tmp_path / name / year, 2)
    assert counts(quiet(tmp_path, held_out=0)) == (("cats", "dogs"), [[4, 4]])


@pytest.mark.parametrize("case", [str, str.lower])
def test_two_domains_are_named(tmp_path, case):
    names = [case(name) for name in ("testA", "testB", "trainA", "trainB")]
    for name in names:
        fill(tmp_path / name, 3)
    with pytest.warns(UserWarning, match="read as classes.*train pix2pix --data") as said:
        source = datasets.open(str(tmp_path))
    assert source.spec.num_classes == 4
    assert str(said[0].message).endswith("Received: 6 images of A and 6 images of B")
    (tmp_path / names[0] / "0.png").unlink()
    with pytest.warns(UserWarning, match=f"train cyclegan --data {tmp_path}`. Received: 5 images"):
        datasets.open(str(tmp_path))
    for name in names[::2]:
        shutil.rmtree(tmp_path / name)
    quiet(str(tmp_path))  # testB and trainB


def test_two_resolutions_are_named(tmp_path):
    for name in ("DIV2K_train_HR", "DIV2K_train_LR_bicubic/X4"):
        fill(tmp_path / name, 3)
    with pytest.warns(UserWarning, match="a high and a low resolution.*train super-resolution"):
        datasets.open(str(tmp_path))


def test_domains_below_splits_are_named(tmp_path):
    for name in ("train/A", "train/B", "test/A", "test/B"):
        fill(tmp_path / name, 3)
    with pytest.warns(UserWarning, match="train pix2pix --data"):
        source = datasets.open(str(tmp_path))
    assert source.split_names == ("train", "held_out")
    quiet(str(tmp_path), labels=False)


@pytest.mark.parametrize(
    "names",
    [("A", "B", "C"), ("A", "B", "."), ("cats", "dogs"), ("HR", "IT"), ("high", "low")],
)
def test_other_classes_are_no_domains(tmp_path, names):
    for name in names:
        fill(tmp_path / name, 3)
    if "." in names:
        with pytest.raises(UsageError, match="either all in class folders"):
            datasets.open(str(tmp_path))
    else:
        quiet(str(tmp_path))


def test_pairs_side_by_side_are_named(tmp_path):
    for number in range(8):
        edges = RNG.integers(2, size=(8, 8, 1), dtype=np.uint8).repeat(4, 0).repeat(4, 1) * 255
        pair = np.concatenate([edges, 255 - edges // 2], axis=1)[..., 0]
        Image.fromarray(pair).save(tmp_path / f"{number}.png")
    with pytest.warns(UserWarning, match="If they are pairs side by side.*train pix2pix --data"):
        datasets.open(str(tmp_path))
    for number in range(8):
        Image.fromarray(RNG.integers(256, size=(32, 64), dtype=np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    quiet(str(tmp_path))  # halves of noise


def test_held_out_classes_that_are_not_trained_on_are_named(tmp_path):
    for name in ("train/cats", "train/dogs", "test/dogs", "test/birds", "val/cats", "notes"):
        fill(tmp_path / name, 2)
    with pytest.warns(UserWarning, match="left out") as said:
        source = datasets.open(tmp_path)
    assert counts(source) == (("cats", "dogs"), [[2, 2], [0, 2]])
    lines = [str(warning.message) for warning in said]
    assert "other folders than the splits are left out: notes (2), val (2)" in lines[0]
    assert "2 of 4 images in test are left out" in lines[1]
    assert "birds (2)" in lines[1]


@pytest.mark.parametrize("below", ["unknown", "."])
def test_a_test_folder_without_classes_is_left_out(tmp_path, below):
    for name in ("train/cats", "train/dogs", f"test/{below}"):
        fill(tmp_path / name, 10)
    with pytest.warns(UserWarning, match=r"10 of 10 images in test are left out.*\(10\)"):
        source = datasets.open(tmp_path, held_out=0.2)
    assert sum(map(sum, counts(source)[1])) == 20
    assert source.count("held_out") == 4
    assert "splits: train (20)" in source.description


def test_numeric_names_are_in_the_order_of_their_values(tmp_path):
    for number in range(12):
        fill(tmp_path / str(number), 1)
    fill(tmp_path / "10", 3)
    names, (found,) = counts(quiet(tmp_path, held_out=0))
    assert names == tuple(map(str, range(12)))
    assert found == [1] * 10 + [3, 1]


# Files --------------------------------------------------------------------------------------------


def test_every_format_that_pillow_decodes_is_read(tmp_path):
    suffixes = ["png", "PNG", "bmp", "dib", "tif", "TIFF", "jpg", "JPG", "jpeg", "jpe", "jfif"]
    suffixes += ["ppm", "gif", "webp", "tga", "jp2", "pcx", "sgi", "ico", "qoi"]
    suffixes += ["avif"] if features.check("avif") else []
    for number, suffix in enumerate(suffixes):
        pixels = RNG.integers(256, size=(16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.{suffix}")
    source = quiet(tmp_path, held_out=0, size=16)
    assert source.count() == len(suffixes)
    assert "left out" not in source.description
    assert min(float(x.std()) for x in source.arrays()[0]) > 20  # no file is blank


def test_files_are_known_by_their_content(tmp_path):
    first = fill(tmp_path / "a", 3) / "0.png"
    Image.open(first).save(tmp_path / "a" / "photo", "JPEG")
    Image.open(first).save(tmp_path / "a" / "scan.001", "TIFF")
    Image.open(first).save(tmp_path / "a" / "camera.dat", "BMP")
    Image.open(first).save(tmp_path / "a" / "named.jpg", "PNG")
    assert quiet(tmp_path, held_out=0, size=8).count() == 7


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    fill(tmp_path, 4)
    for name in ("a.txt", "b.txt", "labels.csv", ".DS_Store", "._0.png", "README"):
        (tmp_path / name).write_text("text")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "0.png").write_text("text")
    source = quiet(tmp_path, held_out=0)
    assert source.count() == 4
    left_out = "2 .txt, 1 without suffix, 1 .csv, 2 hidden, 1 hidden folder"
    assert source.description.endswith(f"; left out: {left_out}")


@pytest.mark.parametrize("suffix", [".heic", ".SVG", ".cr2"])
def test_pictures_of_other_formats_are_named(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"\0\0\0\x18ftypheic")
    line = rf"1 {suffix.lower()}"
    with pytest.raises(UsageError, match=rf"format that Pillow decodes.*holds {line}"):
        datasets.open(tmp_path)
    fill(tmp_path, 3)
    with pytest.warns(UserWarning, match=rf"other formats than those of Pillow.*: {line}"):
        assert datasets.open(tmp_path, held_out=0).count() == 3


def test_a_folder_of_one_format(tmp_path):
    for suffix in ("tif", "bmp", "ppm"):
        folder = fill(tmp_path / suffix, 5, suffix)
        source = quiet(folder, held_out=0)
        with Image.open(folder / f"0.{suffix}") as image:
            np.testing.assert_array_equal(source.arrays()[0][0], np.asarray(image))


def test_pages_and_frames(tmp_path):
    frames = [Image.new("L", (8, 8), level) for level in (40, 80, 120)]
    fill(tmp_path, 2)
    for name in ("pages.tif", "moving.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    with pytest.warns(UserWarning, match=r"first is read\. Received: 2 in .*moving\.png"):
        source = datasets.open(tmp_path, held_out=0)
    assert [round(float(x.mean())) for x in source.arrays()[0][2:]] == [40, 40]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "pages.tif").unlink()
    (tmp_path / "moving.png").unlink()
    source = quiet(tmp_path, held_out=0)
    assert source.count() == 5
    assert "all 3 frames of 1 animations are samples" in source.description


def test_a_damaged_file_of_a_new_format_is_named(tmp_path):
    fill(tmp_path, 4)
    path = fill(tmp_path / "x", 1, "tif") / "0.tif"
    os.truncate(path, path.stat().st_size // 2)
    shutil.move(path, tmp_path / "half.tif")
    with pytest.raises(UsageError, match=r"skip_corrupt=true.*half\.tif"):
        datasets.open(tmp_path)
    source = datasets.open(tmp_path, skip_corrupt=True, held_out=0)
    assert (source.count(), len(source.skipped)) == (4, 1)


def test_programs_are_never_run_on_files(tmp_path):
    fill(tmp_path, 3)
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nquit\n")
    shutil.copy(tmp_path / "a.eps", tmp_path / "named.png")
    with pytest.raises(UsageError, match=r"named\.png: not a PNG, JPEG or other image"):
        datasets.open(tmp_path)


# Earlier runs -------------------------------------------------------------------------------------


def test_a_run_keeps_the_files_and_splits_with_which_it_began(tmp_path):
    for name in ("training/cats", "training/dogs", "testing/cats", "testing/dogs"):
        fill(tmp_path / name, 5)
        fill(tmp_path / name, 2, "bmp")
    source = datasets.open(tmp_path)
    assert counts(source) == (("cats", "dogs"), [[7, 7], [7, 7]])
    record = data_record.describe_data(source.earlier())
    assert record["spec"]["fields"]["labels"]["meta"]["class_names"] == ["testing", "training"]
    assert sum(record["counts"].values()) == 20  # .png alone
    del record["raw_ranges"]
    with pytest.warns(UserWarning, match=r"as keras_gan 0\.1\.0 read them"):
        before = data_record.as_recorded(record, source)
    assert data_record.data_differences(record, data_record.describe_data(before)) == []
    # A folder that both versions read alike needs no word.
    plain = tmp_path / "training" / "cats"
    for path in plain.glob("*.bmp"):
        path.unlink()
    source = datasets.open(plain)
    record = data_record.describe_data(source)
    del record["raw_ranges"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert data_record.as_recorded(record, source) is source
