"""Data sets that are made from installed packages: emoji of a font, crops of photographs."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image

from keras_gan import UsageError, datasets
from keras_gan.datasets import emoji, photos
from keras_gan.datasets.splits import Split, hold_out

needs_the_font = pytest.mark.skipif(
    not (emoji.FONT.is_file() and emoji.LIST.is_file()),
    reason="needs Debian's fonts-noto-color-emoji and unicode-data",
)
LINES = """\
# group: Smileys & Emotion
1F600    ; fully-qualified     # \U0001f600 E1.0 grinning face
263A FE0F ; fully-qualified    # \u263a\ufe0f E0.6 smiling face
263A     ; unqualified         # \u263a E0.6 smiling face
# group: People & Body
1F44B 1F3FB ; fully-qualified  # \U0001f44b\U0001f3fb E1.0 waving hand: light skin tone
"""


# --------------------------------------------------------------------------- emoji


@pytest.fixture(scope="module")
def rendered():
    if not emoji.FONT.is_file():
        pytest.skip("needs Debian's fonts-noto-color-emoji")
    return datasets.open("emoji", size=32)


@needs_the_font
def test_emoji_have_the_unicode_groups_as_classes(rendered):
    assert rendered.spec.shape == (32, 32, 3)
    assert rendered.spec.num_classes == 9
    assert rendered.spec.fields["labels"].meta["class_names"][0] == "Smileys & Emotion"
    counts = [rendered.count(name) for name in ("train", "held_out")]
    # The count is that of version 2.042 of the font with Unicode 15.0.
    total = sum(counts)
    assert abs(total - 3641) < 500
    assert counts[1] == round(0.1 * total)
    assert re.match(rf"emoji: {counts[0]:,} \+ {counts[1]:,} pictures of /", rendered.description)
    assert rendered.resized == "Lanczos"


@needs_the_font
def test_emoji_are_on_white_and_no_picture_is_drawn_twice(rendered):
    samples = np.concatenate([rendered.arrays(name)[0] for name in ("train", "held_out")])
    corners = samples[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(len(samples), -1)
    assert ((corners >= 250).all(axis=1)).mean() > 0.9  # some flags and symbols fill the square
    assert len(np.unique(samples.reshape(len(samples), -1), axis=0)) == len(samples)
    # The first emoji, a grinning face, is yellow in its middle column and white beside the face.
    face = rendered.arrays("held_out")[0][0].astype(int)
    assert face[4, 16, 0] - face[4, 16, 2] > 100


@needs_the_font
def test_skin_tones_of_an_emoji_are_not_separated():
    listed = emoji._read_list(emoji.LIST)
    hands = {e.base for e in listed if e.name.startswith("waving hand")}
    assert hands == {"waving hand"}
    couple = {e.base for e in listed if e.name.startswith("kiss: person")}
    assert couple == {"kiss"}
    assert {e.base for e in listed if e.name.startswith("man: ") and "beard" in e.name} == {
        "man: beard"
    }


@needs_the_font
def test_emoji_without_skin_tones(tmp_path):
    path = tmp_path / "emoji-test.txt"
    path.write_text(LINES, "utf-8")
    tones = datasets.open("emoji", emoji_list=path, held_out=0)
    assert (tones.count(), tones.spec.num_classes) == (3, 2)
    plain = datasets.open("emoji", emoji_list=path, held_out=0, skin_tones=False, labels=False)
    assert (plain.count(), plain.arrays()[1]) == (2, None)
    np.testing.assert_array_equal(plain.arrays()[0], tones.arrays()[0][:2])


def test_the_list_of_emoji_is_read_without_selectors(tmp_path):
    path = tmp_path / "emoji-test.txt"
    path.write_text(LINES, "utf-8")
    found = emoji._read_list(path)
    assert [(e.points, e.group) for e in found] == [
        ((0x1F600,), "Smileys & Emotion"),
        ((0x263A,), "Smileys & Emotion"),
        ((0x1F44B, 0x1F3FB), "People & Body"),
    ]
    assert [e.base for e in found] == ["grinning face", "smiling face", "waving hand"]


def test_errors_of_emoji_are_one_line(tmp_path):
    listed, font = tmp_path / "emoji-test.txt", tmp_path / "font.ttf"
    with pytest.raises(UsageError, match=r"apt install fonts-noto-color-emoji unicode-data`\. Rec"):
        datasets.open("emoji", font=font)
    listed.write_text(LINES, "utf-8")
    font.write_bytes(b"\0\1\0\0 no font")
    with pytest.raises(UsageError, match=r"`font` must be a font with color bitmaps .*font\.ttf"):
        datasets.open("emoji", font=font, emoji_list=listed)
    with pytest.raises(
        UsageError, match=r"`size` of emoji must be at most 136\. Received: size=256"
    ):
        datasets.open("emoji", font=font, emoji_list=listed, size=256)
    listed.write_text("nothing", "utf-8")
    with pytest.raises(
        UsageError, match=r"must be Unicode's emoji-test\.txt. Received: .* without"
    ):
        datasets.open("emoji", font=font, emoji_list=listed)


# -------------------------------------------------------------------------- photos


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with the files of the packages: noise in five of them, the others gray."""
    root = tmp_path_factory.mktemp("share")
    rng = np.random.default_rng(0)
    for number, file in enumerate(
        root / form.format(name)
        for form, names in photos._PACKAGES.values()
        for name in names.split()
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        gray = np.full((48, 48), 128, np.uint8)
        if number % 8 == 0:  # 5 of the 37
            gray = rng.integers(256, size=(48, 48), dtype=np.uint8)
        Image.fromarray(gray).save(file, quality=95)
    return root


def test_photos_are_cut_into_crops_and_divided_by_photograph(pictures, tmp_path):
    source = datasets.open("photos", root=pictures, cache=tmp_path, size=64)
    # 48x48 becomes 768x768, of which 6x6 crops are cut; 5 of the 37 files are not flat.
    assert (source.count("train"), source.count("held_out")) == (144, 36)
    assert source.spec.shape == (64, 64, 3)
    assert source.description == (
        f"photos: 144 + 36 crops of 5 photographs in {pictures}, as 64x64x3"
    )
    held_out = source.arrays("held_out")[0]
    again = datasets.open("photos", root=pictures, cache=tmp_path, size=64)
    np.testing.assert_array_equal(again.arrays("held_out")[0], held_out)
    assert len(list(tmp_path.iterdir())) == 1  # the crops, which the second reading found


def test_photos_need_their_packages(tmp_path):
    with pytest.raises(
        UsageError, match=r"`apt install mate-backgrounds lomiri-wallpapers-16\.04 pl"
    ):
        datasets.open("photos", root=tmp_path)


# ------------------------------------------------------------------ groups held out


def rows_of(count):
    return Split(np.arange(count, dtype=np.float32).reshape(count, 1))


def held_rows(splits):
    return splits["held_out"].row_numbers.tolist()


def test_groups_are_held_out_whole_and_up_to_the_share():
    groups = np.repeat(np.arange(20), 5)
    splits = hold_out(rows_of(100), 0.23, groups)
    held = held_rows(splits)
    assert len(held) == 20  # a fifth group would be more than 23
    assert sorted(np.bincount(groups[held], minlength=20)) == [0] * 16 + [5] * 4
    assert sorted(held + splits["train"].row_numbers.tolist()) == list(range(100))


def test_the_choice_of_groups_does_not_depend_on_the_order_of_the_samples():
    groups = np.repeat(np.arange(20), 5)
    order = np.random.default_rng(1).permutation(100)
    shuffled = Split(rows_of(100).samples[order])
    first = rows_of(100).samples[held_rows(hold_out(rows_of(100), 0.2, groups))]
    second = shuffled.samples[held_rows(hold_out(shuffled, 0.2, groups[order]))]
    np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(second, axis=0))


def test_large_groups_are_not_preferred():
    # Half of the samples are in groups of 10. Over many data sets, half of those held out are.
    groups = np.concatenate([np.repeat(np.arange(50), 10), 50 + np.arange(500)])
    shares = []
    for seed in range(8):
        samples = np.random.default_rng(seed).normal(size=(1000, 1))
        held = held_rows(hold_out(Split(samples), 0.2, groups))
        shares.append(np.mean(np.array(held) < 500))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.12)


def test_copies_in_two_groups_join_them():
    samples = np.arange(40.0).reshape(40, 1)
    samples[39] = samples[0]
    groups = np.repeat(np.arange(20), 2)
    for fraction in (0.1, 0.3, 0.5):
        held = set(held_rows(hold_out(Split(samples), fraction, groups)))
        assert len(held & {0, 1, 38, 39}) in (0, 4)


def test_the_smallest_group_is_held_out_if_all_are_too_large():
    assert held_rows(hold_out(rows_of(10), 0.1, np.array([0] * 6 + [1] * 4))) == [6, 7, 8, 9]
    with pytest.raises(UsageError, match="Samples can be held out only if at least two differ"):
        hold_out(rows_of(4), 0.1, np.zeros(4, int))


def test_names_of_groups_fix_the_choice():
    names = np.array([f"photo {number // 5}" for number in range(50)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held = held_rows(hold_out(rows_of(50), 0.2, names))
    others = Split(-rows_of(50).samples)
    assert held_rows(hold_out(others, 0.2, names)) == held
    assert len(held) == 10
