"""Pairs that are made from installed packages: edges of clothes, letters, reduced photographs."""

import re

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from keras_gan import UsageError, automatic, data_record, datasets
from keras_gan import recipe as recipes
from keras_gan.datasets import edges2fashion, fashion_mnist, glyphs

needs_fashion = pytest.mark.skipif(
    not fashion_mnist.DEBIAN_FOLDER.is_dir(), reason="needs Debian's dataset-fashion-mnist"
)
FONTS = ("dejavu/DejaVuSans.ttf", "dejavu/DejaVuSansCondensed.ttf", "liberation")
needs_fonts = pytest.mark.skipif(
    not all((glyphs.ROOT / name).exists() for name in FONTS),
    reason="needs Debian's fonts-dejavu-core, fonts-dejavu-extra and fonts-liberation",
)


# ------------------------------------------------------------------------ edges2fashion


def test_edges_are_where_the_sobel_filter_exceeds_200():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 9, 11, 1), dtype=np.uint8)
    pictures = ndimage.uniform_filter(pictures, (1, 3, 3, 1))
    found = edges2fashion.edges(pictures)
    gray = pictures[..., 0].astype(float)
    magnitude = [np.hypot(ndimage.sobel(one, 0), ndimage.sobel(one, 1)) for one in gray]
    expected = (np.array(magnitude) > 200)[:, 1:-1, 1:-1]
    assert np.array_equal(found[:, 1:-1, 1:-1, 0] == 255, expected)
    assert 0 < expected.mean() < 1
    assert set(np.unique(found)) == {0, 255}
    assert not found[:, [0, -1]].any()
    assert not found[:, :, [0, -1]].any()


@pytest.fixture(scope="module")
def fashion():
    if not fashion_mnist.DEBIAN_FOLDER.is_dir():
        pytest.skip("needs Debian's dataset-fashion-mnist")
    return datasets.open("edges2fashion")


def test_all_clothes_are_pairs(fashion):
    assert [fashion.count(name) for name in fashion.split_names] == [60_000, 10_000]
    assert fashion.spec.shape == fashion.spec.fields["condition"].shape == (32, 32, 1)
    assert fashion.paired
    assert fashion.transform is None
    rows = fashion.field_arrays("held_out")
    own = fashion_mnist.open(labels=False).arrays("held_out")[0]
    assert np.array_equal(rows["samples"][:, 2:-2, 2:-2], own)
    assert not rows["samples"][:, [0, 1, -2, -1]].any()
    assert abs((rows["condition"] > 0).mean() - 0.242) < 0.001
    # The edges as they are, compared with the clothes: the row "identity" of the measurements.
    errors = (rows["condition"].astype(np.float32) - rows["samples"]) / 255
    assert abs(np.abs(errors).mean() - 0.274) < 0.001
    psnr = -10 * np.log10((errors**2).mean(axis=(1, 2, 3)))
    assert abs(psnr.mean() - 6.97) < 0.01


@needs_fashion
def test_edges_on_the_left_of_files_are_recognized(fashion, tmp_path):
    """A folder of pairs side by side, without a recipe: a warning names the right one."""
    rows = fashion.field_rows("train", np.arange(60))
    for number, pair in enumerate(zip(rows["condition"], rows["samples"], strict=True)):
        Image.fromarray(np.concatenate(pair, axis=1)[..., 0]).save(tmp_path / f"{number}.png")
    with pytest.warns(UserWarning, match=r"60 files, such as 0\.png"):
        automatic.look(datasets.open(tmp_path))
    source = datasets.open("pairs", path=tmp_path, held_out=0, near_duplicates=False)
    stored = {row.tobytes() for row in source.field_arrays()["condition"]}
    assert stored == {row.tobytes() for row in rows["condition"]}


@pytest.mark.parametrize(
    ("recipe", "source"),
    [("edges2fashion", "pairs"), ("glyphs-bold", "unpaired"), ("photos-x4", "degraded")],
)
def test_a_folder_takes_the_place_of_data_that_are_made(recipe, source, tmp_path):
    loaded = recipes.load(recipe, data=str(tmp_path))
    assert loaded.data.source == source
    assert loaded.data.model_dump()["path"] == str(tmp_path)
    assert recipes.load(recipe, data="pairs").data.source == "pairs"
    section = {"source": "glyphs", "direction": "b_to_a"}
    assert datasets.with_folder(section, str(tmp_path))["source"] == "pairs"


# ------------------------------------------------------------------------ glyphs


@pytest.fixture(scope="module")
def letters():
    if not all((glyphs.ROOT / name).exists() for name in FONTS):
        pytest.skip("needs Debian's fonts-dejavu-core, fonts-dejavu-extra and fonts-liberation")
    return datasets.open("glyphs")


def test_letters_in_two_weights(letters):
    # The numbers are those of version 2.37 of DejaVu and 1.07.4 of Liberation.
    assert abs(letters.count() - 7067) < 300
    assert abs(letters.count("held_out") - 810) < 50
    assert letters.spec.shape == letters.spec.fields["condition"].shape == (32, 32, 1)
    assert letters.paired
    for split in letters.split_names:
        rows = letters.field_arrays(split)
        ink = {name: (255 - array.astype(float)).sum() for name, array in rows.items()}
        assert 0.6 < ink["condition"] / ink["samples"] < 0.7  # regular has less ink than bold
        assert (rows["samples"].min(axis=(1, 2, 3)) < 255).all()
        assert (rows["samples"] != rows["condition"]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("paired", [True, False])
def test_no_letter_to_train_on_looks_like_one_held_out(letters, paired):
    """The A of Latin, Greek and Cyrillic is one picture."""
    source = letters if paired else datasets.open("glyphs", paired=False)
    train, held_out = source.field_arrays(), source.field_arrays("held_out")
    for name in ("condition", "samples"):
        seen = {row.tobytes() for row in train[name]}
        assert not any(row.tobytes() in seen for row in held_out[name])
    left_out = re.search(r"; (\d+) that look like a held-out letter left out", source.description)
    assert left_out
    assert abs(int(left_out[1]) - 160) < 30


def test_unpaired_letters_are_of_different_characters(letters):
    source = datasets.open("glyphs", paired=False)
    counts = source.field_counts()
    assert counts["condition"] + counts["samples"] == letters.count()
    assert source.paired  # the held-out pairs are those of the other form
    one, other = (of.field_arrays("held_out") for of in (source, letters))
    assert all(np.array_equal(one[name], other[name]) for name in other)
    whole, parts = letters.field_arrays(), source.field_arrays()
    rows = {
        name: {row.tobytes(): number for number, row in enumerate(whole[name])} for name in whole
    }
    taken = {name: {rows[name][row.tobytes()] for row in parts[name]} for name in parts}
    # Letters that look alike, such as Latin and Cyrillic A, may stand for each other.
    assert len(taken["condition"] & taken["samples"]) < 0.1 * letters.count()


def test_the_direction_swaps_the_weights(letters):
    source = datasets.open("glyphs", direction="b_to_a")
    one, other = source.field_arrays(), letters.field_arrays()
    assert np.array_equal(one["samples"], other["condition"])
    assert (
        data_record.describe_data(source)["digest"] != data_record.describe_data(letters)["digest"]
    )


@needs_fonts
def test_pairs_can_be_prepared_and_read_again(letters, tmp_path):
    small = datasets.Source(
        letters.spec,
        {
            name: datasets.Split(rows.pop("samples"), others=rows)
            for name in letters.split_names
            if (rows := letters.field_rows(name, np.arange(5)))
        },
        "five letters",
    )
    datasets.prepare(small, "tfds:letters", data_dir=tmp_path)
    again = datasets.open("tfds:letters", data_dir=tmp_path)
    assert again.spec == letters.spec
    for name in letters.split_names:
        rows = again.field_arrays(name)
        assert all(
            np.array_equal(rows[n], array[:5]) for n, array in letters.field_arrays(name).items()
        )


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("glyphs", "fonts-dejavu-core fonts-dejavu-extra fonts-liberation"),
        ("photos-x4", "mate-backgrounds"),
    ],
)
def test_missing_packages_are_named(tmp_path, name, packages):
    with pytest.raises(UsageError, match=f"`apt install {packages}.*Received: no file {tmp_path}"):
        datasets.open(name, root=tmp_path)


# ------------------------------------------------------------------------ photos-x4


@pytest.fixture(scope="module")
def photographs():
    try:
        return datasets.open("photos-x4")
    except UsageError:
        pytest.skip("needs Debian's mate-backgrounds and others, see `photos`")


def test_photographs_are_reduced_by_four(photographs):
    photos = datasets.open("photos")
    assert photographs.spec.shape == (None, None, 3)
    for split in photographs.split_names:
        rows = photographs.field_arrays(split)
        known = {crop.tobytes() for crop in photos.arrays(split)[0]}
        assert {sample.tobytes() for sample in rows["samples"]} <= known
        assert rows["condition"].shape == (len(rows["samples"]), 32, 32, 3)
        image = Image.fromarray(rows["samples"][7]).resize((32, 32), Image.Resampling.BICUBIC)
        assert np.array_equal(rows["condition"][7], np.asarray(image))


def test_crops_of_photographs_are_reduced_crops(photographs):
    batch = next(iter(photographs.dataset("train", 16, 1, repeat=True, augmented=True)))
    assert batch["samples"].shape == (16, 64, 64, 3)
    assert batch["condition"].shape == (16, 16, 16, 3)
    means = batch["samples"].numpy().reshape(16, 16, 4, 16, 4, 3).mean(axis=(2, 4))
    low = batch["condition"].numpy()
    assert np.abs(means - low).mean() < 0.03  # a bicubic filter is near the mean of a block
    assert np.abs(means - low[:, ::-1]).mean() > 0.1
