"""Pairs of pictures from folders: layouts, errors, crops of training, resuming."""

import json
import os
import re
import shutil
import struct
import unicodedata
import warnings
import zlib

import numpy as np
import pytest
import tensorflow as tf
import yaml
from picture_pairs import (
    are_negatives,
    batches,
    equal,
    fill,
    fill_partners,
    fill_side_by_side,
    negative,
    pixels,
    save,
)
from PIL import Image

from keras_gan import Spec, UsageError, building, data_record, datasets, train, workers
from keras_gan import recipe as recipes
from keras_gan.datasets import transforms
from keras_gan.metrics import training_data
from keras_gan.run import Run
from serving import uploads


def quiet(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return datasets.open("pairs", path=path, **options)


def counts(source):
    return [source.count(split) for split in source.split_names]


# ------------------------------------------------------------------------ layouts


def test_files_side_by_side_in_one_folder(tmp_path):
    source = quiet(fill_side_by_side(tmp_path, 20))
    assert counts(source) == [18, 2]
    assert source.paired
    assert {name: field.shape for name, field in source.spec.fields.items()} == {
        "samples": (16, 16, 3),
        "condition": (16, 16, 3),
    }
    for split in source.split_names:
        rows = source.field_arrays(split)
        assert np.array_equal(rows["samples"], negative(rows["condition"]))
    assert source.description == (
        f"pairs: 18 + 2 pairs from {tmp_path}, a_to_b (input: left half, target: right half), "
        "as 16x16x3"
    )
    assert "b_to_a (input: right half, target: left half)" in (
        quiet(tmp_path, direction="b_to_a").description
    )


@pytest.mark.parametrize("held", ["val", "test", "Validation"])
def test_files_side_by_side_in_splits(tmp_path, held):
    fill_side_by_side(tmp_path / "facades" / "train", 4)
    fill_side_by_side(tmp_path / "facades" / held, 3, seed=9)
    assert counts(quiet(tmp_path)) == [4, 3]


def test_of_two_held_out_splits_the_test_is_used_and_the_other_named(tmp_path):
    for number, name in enumerate(("train", "val", "test")):
        fill_side_by_side(tmp_path / name, 3 + number, seed=20 * number)
    with pytest.warns(UserWarning, match=r"Images of other splits .* are left out: val \(4\)"):
        assert counts(datasets.open("pairs", path=tmp_path)) == [3, 5]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("A/{}", "B/{}"),
        ("{}A", "{}B"),
        ("{}/A", "{}/B"),
        ("{}_a", "{}_b"),
        ("data/{}A", "data/{}B"),
    ],
)
def test_domains_in_folders(tmp_path, first, second):
    for seed, split in enumerate(("train", "test")):
        fill_partners(
            tmp_path / first.format(split), tmp_path / second.format(split), 3, seed=9 * seed
        )
    source = quiet(tmp_path)
    assert counts(source) == [3, 3]
    rows = source.field_arrays("held_out")
    assert np.array_equal(rows["samples"], negative(rows["condition"]))


def test_domains_without_splits_are_divided(tmp_path):
    fill_partners(tmp_path / "A", tmp_path / "B", 10)
    assert counts(quiet(tmp_path, held_out=0.3)) == [7, 3]
    assert counts(quiet(tmp_path, held_out=0)) == [10]


def test_partners_match_whatever_their_suffix(tmp_path):
    """phillipi/pix2pix #114, junyanz/pytorch-CycleGAN-and-pix2pix #1121: pairs were dropped."""
    fill_partners(tmp_path / "trainA", tmp_path / "trainB", 3, ("jpg", "bmp"))
    fill_partners(tmp_path / "trainA" / "more", tmp_path / "trainB" / "more", 2, ("PNG", "Tif"))
    assert counts(quiet(tmp_path, held_out=0)) == [5]


def test_names_of_macos_match_those_of_other_systems(tmp_path):
    for number in range(4):
        name = f"Größe-é-ガ-{number}.png"
        array = pixels(number)
        save(tmp_path / "A" / "Fuß-ü" / unicodedata.normalize("NFC", name), array)
        folder = unicodedata.normalize("NFD", "Fuß-ü")
        save(tmp_path / "B" / folder / unicodedata.normalize("NFD", name), negative(array))
    source = quiet(tmp_path, held_out=0, flip=False)
    assert counts(source) == [4]
    rows = source.field_arrays()
    assert np.array_equal(rows["samples"], negative(rows["condition"]))
    assert "a_to_b (input: A, target: B)" in source.description


def test_the_direction_swaps_condition_and_samples(tmp_path):
    fill_side_by_side(tmp_path, 4)
    one, other = (
        datasets.open("pairs", path=tmp_path, held_out=0, direction=direction).field_arrays()
        for direction in ("a_to_b", "b_to_a")
    )
    assert np.array_equal(one["condition"], other["samples"])
    assert np.array_equal(one["condition"][0], pixels(0))
    with pytest.raises(UsageError, match=r"a_to_b or b_to_a.*'ab'"):
        datasets.open("pairs", path=tmp_path, direction="ab")


def test_channels_may_differ(tmp_path):
    for number in range(4):
        save(tmp_path / "A" / f"{number}.png", pixels(number, channels=1))
        save(tmp_path / "B" / f"{number}.png", pixels(number, channels=3))
    source = quiet(tmp_path, held_out=0)
    assert source.spec.fields["condition"].shape == (16, 16, 1)
    assert source.spec.shape == (16, 16, 3)
    assert "as 16x16x1 -> 16x16x3" in source.description
    source = quiet(tmp_path, held_out=0, channels=[3, 1])
    assert source.spec.fields["condition"].shape == (16, 16, 3)
    assert source.spec.shape == (16, 16, 1)


def test_the_range_of_16_bits_is_recorded_for_later_pictures(tmp_path):
    deep = np.random.default_rng(0).integers(0, 4096, (4, 16, 16), np.uint16)
    deep[:, 0, 0] = 4095
    for number, picture in enumerate(deep):
        save(tmp_path / "A" / f"{number}.png", picture[..., np.newaxis])
        save(tmp_path / "B" / f"{number}.png", pixels(number, channels=1))
    with pytest.warns(UserWarning, match="read from 0 to 4095"):
        source = datasets.open("pairs", path=tmp_path, held_out=0)
    assert source.spec.fields["condition"].meta["stored_range"] == (0, 4095)
    assert "stored_range" not in source.spec.samples.meta
    stated = quiet(tmp_path, held_out=0, value_range=[[100, 2000], None])
    assert stated.spec.fields["condition"].meta["stored_range"] == (100, 2000)
    assert Spec.from_json(json.loads(json.dumps(stated.spec.to_json()))) == stated.spec
    # A picture that is translated later becomes the pixels that were trained on.
    limits = stated.spec.fields["condition"].meta["stored_range"]
    for number, trained_on in enumerate(stated.field_arrays()["condition"]):
        content = (tmp_path / "A" / f"{number}.png").read_bytes()
        read = uploads.read(content, limits=limits).pixels
        assert np.array_equal(read[..., :1], trained_on)


def test_gray_color_and_alpha_in_one_folder(tmp_path):
    """stylegan2-ada-pytorch #270, lucidrains/stylegan2-pytorch #39: mixed pictures were refused."""
    for number, mode in enumerate(("L", "RGB", "RGBA", "LA", "CMYK", "P")):
        for folder, seed in (("A", 0), ("B", 50)):
            suffix = "jpg" if mode == "CMYK" else "png"
            (tmp_path / folder).mkdir(exist_ok=True)
            picture = Image.fromarray(pixels(seed + number)).convert(mode)
            picture.save(tmp_path / folder / f"{number}.{suffix}")
    source = quiet(tmp_path, held_out=0)
    assert source.field_arrays()["samples"].shape == (6, 16, 16, 3)


def test_turned_pictures_are_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(3):
        upright = pixels(number, height=8, width=12)
        save(tmp_path / "B" / f"{number}.png", upright)
        (tmp_path / "A").mkdir(exist_ok=True)
        turned = Image.fromarray(upright).rotate(90, expand=True)
        turned.save(tmp_path / "A" / f"{number}.png", exif=exif)
    rows = quiet(tmp_path, held_out=0).field_arrays()
    assert np.array_equal(rows["condition"], rows["samples"])


def test_pictures_of_several_sizes_are_resized_and_it_is_said(tmp_path):
    for number, side in enumerate((40, 48, 56, 64)):
        array = pixels(number, side, side + 8)
        save(tmp_path / "A" / f"{number}.png", array)
        save(tmp_path / "B" / f"{number}.png", negative(array))
    source = quiet(tmp_path, held_out=0)
    assert source.spec.shape == (32, 32, 3)
    assert "resized 40x48 to 64x72 -> 32x32" in source.description
    assert source.resized is not None
    with pytest.warns(UserWarning, match="smaller than 48x50 are enlarged"):
        source = datasets.open("pairs", path=tmp_path, held_out=0, size=[48, 50])
    assert source.spec.shape == (48, 50, 3)
    assert quiet(fill_side_by_side(tmp_path / "one", 3, height=20), held_out=0).resized is None


def test_halves_do_not_bleed_into_each_other(tmp_path):
    for number in range(3):
        black = np.full((32, 32, 1), number, np.uint8)
        save(tmp_path / f"{number}.png", np.concatenate([black, negative(black)], axis=1))
    rows = datasets.open("pairs", path=tmp_path, size=8, held_out=0).field_arrays()
    assert rows["condition"].max() == 2
    assert rows["samples"].min() == 253


def test_hidden_folders_and_metadata_are_left_out(tmp_path):
    fill_side_by_side(tmp_path, 4)
    for name in (".ipynb_checkpoints", "__MACOSX"):
        fill(tmp_path / name, 1)
    (tmp_path / "notes.txt").write_text("x")
    source = quiet(tmp_path, held_out=0)
    assert counts(source) == [4]
    assert "left out: 1 .txt, 2 hidden folders" in source.description


def test_held_out_copies_of_training_pairs_are_left_out(tmp_path):
    fill_side_by_side(tmp_path / "train", 4)
    fill_side_by_side(tmp_path / "test", 3, seed=3)  # the first of them is the last of the others
    source = quiet(tmp_path)
    assert counts(source) == [4, 2]
    assert "1 held-out copies of training pairs left out" in source.description
    shutil.rmtree(tmp_path / "test")
    fill_side_by_side(tmp_path / "test", 3)
    with pytest.raises(
        UsageError, match=r"must not be training pairs\. Received: 3 held-out pairs"
    ):
        quiet(tmp_path)
    with pytest.raises(UsageError, match="must not be given for pairs with held-out samples"):
        datasets.open("pairs", path=tmp_path, held_out=0.2)


def test_one_target_of_several_conditions_is_not_a_copy(tmp_path):
    target = pixels(99)
    for split, seed in (("train", 0), ("test", 9)):
        for number in range(3):
            pair = [pixels(seed + number), target]
            save(tmp_path / split / f"{number}.png", np.concatenate(pair, axis=1))
    assert counts(quiet(tmp_path)) == [3, 3]


# ------------------------------------------------------------------------ mistakes


def refused(match, path, **options):
    with pytest.raises(UsageError, match=match):
        datasets.open("pairs", path=path, **options)


def test_no_folder(tmp_path):
    refused(
        "needs a folder: `--data FOLDER`, or data.path in the recipe. Received: path=None", None
    )
    refused("must exist", tmp_path / "none")
    refused("Received: none in", tmp_path)


def test_odd_widths_are_named(tmp_path):
    fill_side_by_side(tmp_path, 4)
    for number in range(4):
        save(tmp_path / f"odd{number}.png", pixels(number, width=31))
    refused(
        "even width.*Received: 4 of 8 files of odd width: odd0.png of width 31, "
        r"odd1.png of width 31, odd2.png of width 31, \.\.\.",
        tmp_path,
    )


def test_pictures_without_partners_are_named(tmp_path):
    fill_partners(tmp_path / "trainA", tmp_path / "trainB", 3)
    fill(tmp_path / "trainA", 4, first=10)
    refused(
        "must have a partner.*use the recipe cyclegan. Received: 4 of 10 without one: "
        r"trainA/10.png, trainA/11.png, trainA/12.png, \.\.\.",
        tmp_path,
    )


def test_partners_of_other_sizes_are_named(tmp_path):
    fill_partners(tmp_path / "A", tmp_path / "B", 3)
    save(tmp_path / "B" / "1.png", pixels(1, height=17))
    refused("Received: 1 of 3 pairs that differ: A/1.png of 16x16 and B/1.png of 17x16", tmp_path)


def test_a_domain_without_pictures(tmp_path):
    fill(tmp_path / "trainA", 3)
    refused("Received: 3 of A and 0 of B in train", tmp_path)
    fill(tmp_path / "trainB", 3)
    fill(tmp_path / "testB", 3)
    refused("Received: 0 of A and 3 of B in test", tmp_path)


def test_held_out_pictures_alone(tmp_path):
    fill_side_by_side(tmp_path / "x" / "val", 3)
    fill_side_by_side(tmp_path / "x" / "test", 3)
    refused("must be in a folder named train.*3 of test, 3 of val", tmp_path)


def bomb(path):
    """Writes a PNG that says it has 3,600 megapixels."""

    def chunk(name, data):
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)


def test_a_bomb_is_refused_by_its_header(tmp_path):
    fill_partners(tmp_path / "A", tmp_path / "B", 4)
    bomb(tmp_path / "B" / "2.png")
    refused(r"must be whole and readable.*B/2\.png: Image size .3600000000 pixels", tmp_path)
    assert counts(datasets.open("pairs", path=tmp_path, held_out=0, skip_corrupt=True)) == [3]


def test_a_file_of_another_format_than_its_name_says(tmp_path):
    fill_partners(tmp_path / "A", tmp_path / "B", 4)
    picture = Image.open(tmp_path / "B" / "2.png")
    picture.save(tmp_path / "B" / "2.png", "JPEG", quality=95)
    assert counts(quiet(tmp_path, held_out=0)) == [4]


def test_two_files_of_one_stem(tmp_path):
    fill_partners(tmp_path / "A", tmp_path / "B", 3)
    fill(tmp_path / "A", 1, "bmp")
    refused("must differ in more than their suffix. Received: 2 that do not: A/0.bmp", tmp_path)


def test_files_that_are_not_wider_than_high_are_questioned(tmp_path):
    fill(tmp_path, 4)
    advice = "If they are whole pictures, put them into folders named A and B"
    with pytest.warns(UserWarning, match=f"not wider than high. {advice}.* Received: 4 of 4 files"):
        datasets.open("pairs", path=tmp_path, held_out=0)


def test_a_damaged_partner_is_refused_or_its_pair_skipped(tmp_path):
    fill_partners(tmp_path / "A", tmp_path / "B", 6, ("png", "jpg"))
    first = tmp_path / "A" / "0.png"
    first.write_bytes(first.read_bytes()[:200])  # the header is whole
    (tmp_path / "B" / "3.jpg").write_bytes(b"")
    refused(r"must be whole and readable.*Received: .*3.jpg", tmp_path)
    source = datasets.open("pairs", path=tmp_path, held_out=0, skip_corrupt=True)
    assert counts(source) == [4]
    assert len(source.skipped) == 2
    assert "2 damaged files skipped" in source.description
    rows = source.field_arrays()
    loss = np.abs(rows["condition"].astype(int) + rows["samples"] - 255).mean(axis=(1, 2, 3))
    assert (loss < 80).all()  # JPEG of noise; another partner is 85 away on average
    assert [tuple(x) for x in rows["condition"][:, 0, 0]] == [
        tuple(pixels(number)[0, 0]) for number in (1, 2, 4, 5)
    ]


# ------------------------------------------------------------------------ crops, flips, rotations


@pytest.fixture(scope="module")
def negatives(tmp_path_factory):
    return fill_side_by_side(tmp_path_factory.mktemp("negatives"), 12)


def test_both_pictures_are_transformed_alike(negatives):
    """junyanz/pytorch-CycleGAN-and-pix2pix #474, #1061, #1346: unequal crops and flips."""
    source = datasets.open("pairs", path=negatives, crop=8, rotate=True, held_out=0)
    assert source.spec.shape == (None, None, 3)
    assert source.spec.fields["condition"].shape == (None, None, 3)
    found = batches(source, 8, 12)
    assert all(batch["samples"].shape == (12, 8, 8, 3) for batch in found)
    assert all(map(are_negatives, found))
    whole = batches(datasets.open("pairs", path=negatives, crop=16, held_out=0), 1, 12)[0]
    assert whole["samples"].shape == (12, 16, 16, 3)
    assert are_negatives(whole)


def test_crops_are_windows_in_all_eight_orientations(negatives):
    source = datasets.open("pairs", path=negatives, crop=8, rotate=True, held_out=0)
    stored = source.values(source.field_arrays()["samples"])
    windows = {}
    for row, picture in enumerate(stored):
        for turns in range(4):
            for mirrored in (False, True):
                changed = np.rot90(picture[:, ::-1] if mirrored else picture, turns)
                for top in range(9):
                    for left in range(9):
                        cut = changed[top : top + 8, left : left + 8]
                        windows[cut.tobytes()] = (row, turns, mirrored, top, left)
    found = [
        windows[sample.numpy().tobytes()]
        for batch in batches(source, 40, 12)
        for sample in batch["samples"]
    ]
    assert {(turns, mirrored) for _, turns, mirrored, _, _ in found} == {
        (turns, mirrored) for turns in range(4) for mirrored in (False, True)
    }
    assert {place[3] for place in found} == {place[4] for place in found} == set(range(9))
    share = np.mean([mirrored for _, _, mirrored, _, _ in found])
    assert 0.4 < share < 0.6


def test_without_options_pictures_stay_as_they_are(negatives):
    source = datasets.open("pairs", path=negatives, flip=False, held_out=0)
    assert source.transform is None
    plain = list(source.dataset("train", 4, 0, repeat=True).take(3))
    assert equal(plain, batches(source, 3))
    flipped = datasets.open("pairs", path=negatives, held_out=0)
    assert equal(plain, flipped.dataset("train", 4, 0, repeat=True).take(3))
    assert not equal(plain, batches(flipped, 3))


def test_batches_are_a_function_of_the_seed_and_their_number(negatives):
    source = datasets.open("pairs", path=negatives, crop=8, rotate=True, held_out=0)
    whole = batches(source, 9, 5, seed=3)
    again = datasets.open("pairs", path=negatives, crop=8, rotate=True, held_out=0)
    for start in (1, 4, 7):
        assert equal(whole[start:], batches(again, 9 - start, 5, seed=3, start=start))
    assert not equal(whole, batches(source, 9, 5, seed=4))
    numbers = [source.transform.draw(3, np.int64(k), 5).numpy() for k in range(9)]
    assert len({tuple(row) for rows in numbers for row in rows}) == 45


def test_workers_see_parts_of_the_same_batches(negatives):
    source = datasets.open("pairs", path=negatives, crop=8, rotate=True, held_out=0)
    whole = batches(source, 4, 6)
    for index in range(3):
        part = batches(source, 4, 6, shard=(index, 3))
        rows = slice(2 * index, 2 * index + 2)
        assert equal([{k: v[rows] for k, v in batch.items()} for batch in whole], part)


def test_a_last_batch_that_is_not_full(negatives):
    source = datasets.open("pairs", path=negatives, crop=8, held_out=0)
    sizes = [
        batch["samples"].shape
        for batch in source.dataset("train", 5, drop_remainder=False, augmented=True)
    ]
    assert sizes == [(5, 8, 8, 3), (5, 8, 8, 3), (2, 8, 8, 3)]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"crop": 17}, "at most the size of the pictures, 16x16. Received: crop=17"),
        ({"crop": 0}, "must be a positive integer"),
        ({"crop": [8, 12], "rotate": True}, "needs square pictures or square crops"),
    ],
)
def test_crops_that_do_not_fit(negatives, options, match):
    refused(match, negatives, **options)


def test_crops_that_are_not_square(negatives):
    source = datasets.open("pairs", path=negatives, crop=[4, 12], held_out=0)
    assert batches(source, 1)[0]["condition"].shape == (4, 4, 12, 3)


def test_scales_keep_corresponding_places():
    small = np.arange(2 * 6 * 5 * 1, dtype=np.float32).reshape(2, 6, 5, 1)
    large = small.repeat(3, axis=1).repeat(3, axis=2)
    sizes = {"condition": (6, 5), "samples": (18, 15)}
    found = transforms.make(sizes, 9, True, True)
    for batch in range(20):
        numbers = found.draw(1, np.int64(batch), 2)
        one = found.apply(small, numbers, "condition").numpy()
        other = found.apply(large, numbers, "samples").numpy()
        assert one.shape == (2, 3, 3, 1)
        assert np.array_equal(one.repeat(3, axis=1).repeat(3, axis=2), other)
    with pytest.raises(UsageError, match="multiple of the scale, 3"):
        transforms.make(sizes, 8, True, True)


# ------------------------------------------------------------------------ records, recipes, runs


def test_the_digest_is_of_both_pictures(tmp_path):
    fill_partners(tmp_path / "A", tmp_path / "B", 4)
    first = data_record.describe_data(quiet(tmp_path, held_out=0))
    again = data_record.describe_data(quiet(tmp_path, held_out=0))
    assert not data_record.data_differences(first, again)
    save(tmp_path / "A" / "2.png", pixels(77))
    changed = data_record.describe_data(quiet(tmp_path, held_out=0))
    assert "content" in data_record.data_differences(first, changed)[0]


RECIPE = """
data: {{source: pairs, path: {path}, crop: null, channels: 1}}
networks:
  generator: {{architecture: mlp, condition: [condition], latent_dim: 2, widths: [4]}}
  discriminator: {{architecture: mlp, condition: [condition], widths: [4]}}
training: {{examples: 32, batch_size: 8, precision: float32, tick_examples: 16}}
evaluation: {{every_examples: 32, count: 4}}
"""


def test_a_folder_takes_the_place_of_the_path_and_other_options_stay(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(path="somewhere"))
    fill_side_by_side(tmp_path / "mine", 4)
    loaded = recipes.load(str(path), data=os.path.relpath(tmp_path / "mine"))
    assert loaded.data.source == "pairs"
    assert loaded.data.options == {"path": str(tmp_path / "mine"), "crop": None, "channels": 1}
    assert recipes.load(str(path), data="gaussians").data.options == {}
    with pytest.raises(UsageError, match="must be one of"):
        recipes.load(str(path), data=str(tmp_path / "missing"))


def test_trainings_transform_their_batches(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(path=fill_side_by_side(tmp_path / "data", 12)))
    recipe = recipes.load(str(path), ["data.rotate=true", "training.seed=5"])
    source = datasets.open("pairs", **recipe.data.options)
    alone = workers.Team(tf.distribute.get_strategy(), [""], 0)
    found = list(building.batches(recipe, source, 3, alone).take(2))
    assert equal(found, batches(source, 2, 8, seed=5, start=3))
    assert not equal(found, source.dataset("train", 8, 5, repeat=True, start=3).take(2))


def test_a_run_records_the_place_and_resumes_where_the_data_moved(tmp_path):
    for split, seed in (("train", 0), ("test", 50)):
        fill_side_by_side(tmp_path / "data" / split, 12, seed=seed, height=4, width=4, channels=1)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(path="none"))
    run = tmp_path / "run"
    train.train(recipes.load(str(path), data=str(tmp_path / "data")), run)
    assert Run.open(run).data_place == ("path", str(tmp_path / "data"))
    shutil.move(tmp_path / "data", tmp_path / "moved")
    more = ("training.examples=64",)
    with pytest.raises(UsageError, match=r"data\.path='.*data', which does not exist"):
        train.resume(run, more)
    outcome = train.resume(run, more, data=tmp_path / "moved")
    assert outcome.gan.count("examples_seen") == 64
    assert Run.open(run).data_place == ("path", str(tmp_path / "moved"))
    # An evaluation reads another folder as the run read its own.
    source, options = training_data.data_to_compare(str(run), str(tmp_path), {"flip": False})
    assert source == "pairs"
    assert options == {"path": str(tmp_path), "crop": None, "channels": 1, "flip": False}
    fill_side_by_side(tmp_path / "other" / "train", 12, height=4, width=4, channels=1)
    with pytest.raises(UsageError, match=r"original data.*counts"):
        train.resume(run, ("training.examples=96",), data=tmp_path / "other")


@pytest.mark.parametrize("direction", ["a_to_b", "b_to_a"])
def test_the_range_of_one_domain_is_not_advised_for_both(tmp_path, direction):
    classes = np.random.default_rng(0).integers(0, 11, (10, 8, 8), np.uint8)
    for number, rows in enumerate(classes):
        save(tmp_path / "trainA" / f"{number}.png", rows)
        save(tmp_path / "trainB" / f"{number}.png", pixels(number, 8, 8))
    with pytest.warns(UserWarning, match="nearly black") as caught:
        plain = datasets.open("pairs", path=tmp_path, direction=direction, held_out=0)
    advice = re.search(r"--set 'data\.value_range=(.*?)'", str(caught[0].message))
    assert advice, caught[0].message
    stated = yaml.safe_load(advice[1])
    assert stated == ([[0, 10], None] if direction == "a_to_b" else [None, [0, 10]])
    found = datasets.open(
        "pairs", path=tmp_path, direction=direction, held_out=0, value_range=stated
    )
    ours, others = ("condition", "samples")[:: 1 if direction == "a_to_b" else -1]
    before, after = plain.field_arrays("train"), found.field_arrays("train")
    assert after[ours].max() == 255
    np.testing.assert_array_equal(after[others], before[others])
