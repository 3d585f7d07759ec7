"""Images that look alike, or whose names match, are all held out or all trained on."""

import numpy as np
import pytest
from PIL import Image

from keras_gan import UsageError, datasets
from keras_gan.datasets import near_duplicates
from keras_gan.datasets.splits import join_groups

RNG = np.random.default_rng(0)


def scene(rng=RNG, size=64):
    """A smooth random picture with gray levels around 100."""
    coarse = Image.fromarray(rng.integers(40, 160, (7, 7, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def variants(pixels):
    """The picture brighter, with less contrast, and with another tint."""
    x = pixels.astype(np.float32)
    changed = (x * 1.2, x * 0.8 + 30, x * [1.03, 1.0, 0.97])
    return [pixels, *(np.clip(v, 0, 255).astype(np.uint8) for v in changed)]


def save_all(folder, names_and_pixels):
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in names_and_pixels:
        Image.fromarray(pixels).save(folder / name)


def test_the_hash_of_a_ramp_is_known():
    ramp = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[None, :, None], (64, 64, 3))
    hashes = near_duplicates.difference_hash(np.stack([ramp, ramp.transpose(1, 0, 2), 255 - ramp]))
    ones, zeros = [2**64 - 1] * 4, [0] * 4  # 256 differences across, and 256 down
    np.testing.assert_array_equal(hashes, np.array([ones + zeros, zeros + ones, zeros * 2], "u8"))


def test_a_plain_picture_has_no_differences():
    plain = np.full((1, 50, 70, 3), 255, np.uint8)  # parts of 70 / 16 pixels are rounded
    plain[0, ::2] = 254
    assert not near_duplicates.difference_hash(plain).any()


def test_variants_of_a_picture_are_one_group_and_pictures_are_not():
    images = np.stack([v for _ in range(60) for v in variants(scene())])
    groups = near_duplicates.groups(images)
    assert len(set(groups)) == 60
    assert (groups.reshape(60, 4) == groups[::4, None]).all()
    order = RNG.permutation(len(images))
    np.testing.assert_array_equal(
        near_duplicates.groups(images[order])[:, None] == near_duplicates.groups(images[order]),
        groups[order][:, None] == groups[order],
    )


def test_size_and_compression_do_not_matter(tmp_path):
    pixels = scene(size=128)
    Image.fromarray(pixels).save(tmp_path / "x.jpg", quality=60)
    smaller = Image.fromarray(pixels).resize((96, 96), Image.Resampling.LANCZOS)
    hashes = [
        near_duplicates.difference_hash(np.asarray(image)[None])[0]
        for image in (pixels, smaller, Image.open(tmp_path / "x.jpg"))
    ]
    for other in hashes[1:]:
        assert np.bitwise_count(hashes[0] ^ other).sum() <= 24


def test_one_picture_and_none_are_groups():
    assert near_duplicates.groups(np.zeros((1, 8, 8, 1), np.uint8)).tolist() == [0]
    assert near_duplicates.groups(np.zeros((0, 8, 8, 1), np.uint8)).tolist() == []


def test_groups_are_joined():
    first = np.array([0, 0, 1, 1, 2, 3])
    second = np.array(["a", "b", "b", "c", "d", "e"])
    assert join_groups(first, second).tolist() == [0, 0, 0, 0, 1, 2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """30 pictures, of which 10 have 3 variants."""
    root = tmp_path_factory.mktemp("alike") / "pictures"
    rng = np.random.default_rng(1)
    pictures = [variants(scene(rng)) for _ in range(30)]
    save_all(
        root,
        [
            (f"{number:02}_{letter}.png", pixels)
            for number, those in enumerate(pictures)
            for letter, pixels in zip("abcd", those[: 4 if number < 10 else 1], strict=False)
        ],
    )
    return root


def hashes(source, split):
    found = near_duplicates.difference_hash(source.arrays(split)[0])
    return np.unique(found, axis=0)


def test_pictures_that_look_alike_are_kept_together(folder):
    source = datasets.open(folder, held_out=0.25)
    assert (source.count("train"), source.count("held_out")) == (45, 15)
    assert source.description == (
        f"folder: 45 + 15 images from {folder}, as 64x64x3; "
        "40 images that look alike are kept together"
    )
    train, held_out = hashes(source, "train"), hashes(source, "held_out")
    distances = np.bitwise_count(train[:, None] ^ held_out[None]).sum(axis=-1)
    assert distances.min() > near_duplicates._LARGEST_DISTANCE
    again = datasets.open(folder, held_out=0.25)
    np.testing.assert_array_equal(again.arrays("held_out")[0], source.arrays("held_out")[0])


def test_the_choice_can_be_by_content_alone_as_in_version_0_1_0(folder):
    source = datasets.open(folder, held_out=0.25, near_duplicates=False)
    assert source.count("held_out") == 15
    assert "look alike" not in source.description
    train, held_out = hashes(source, "train"), hashes(source, "held_out")
    distances = np.bitwise_count(train[:, None] ^ held_out[None]).sum(axis=-1)
    assert distances.min() <= near_duplicates._LARGEST_DISTANCE
    earlier = datasets.open(folder, held_out=0.25).earlier()
    np.testing.assert_array_equal(earlier.arrays("held_out")[0], source.arrays("held_out")[0])


def test_without_pictures_that_look_alike_the_choice_stays(tmp_path):
    save_all(tmp_path, [(f"{number}.png", scene()) for number in range(20)])
    Image.open(tmp_path / "3.png").save(tmp_path / "copy.png")
    together = datasets.open(tmp_path, held_out=0.3)
    alone = datasets.open(tmp_path, held_out=0.3, near_duplicates=False)
    np.testing.assert_array_equal(together.arrays("held_out")[0], alone.arrays("held_out")[0])


@pytest.mark.parametrize("ramp", [0, 12])
def test_pictures_that_the_hash_does_not_tell_apart_are_not_kept_together(tmp_path, ramp):
    """Plain pictures of several colors, and gradients that differ in brightness."""
    slope = ramp * np.arange(16, dtype=np.uint8)[:, None]
    pictures = [np.full((16, 16), 3 * number, np.uint8) + slope for number in range(20)]
    save_all(tmp_path, [(f"{number}.png", x) for number, x in enumerate(pictures)])
    source = datasets.open(tmp_path, held_out=0.25)
    assert (source.count("train"), source.count("held_out")) == (15, 5)
    assert "look alike" not in source.description


@pytest.mark.parametrize("pattern", [r"^\d+", r"(\d+)_"])
def test_a_pattern_of_the_names_keeps_files_together(tmp_path, pattern):
    names = [f"{number // 4:02}_{number % 4}.png" for number in range(40)]
    gray = [np.full((8, 8, 3), number * 6, np.uint8) for number in range(40)]
    save_all(tmp_path / "x", zip(names, gray, strict=True))
    source = datasets.open(tmp_path, held_out=0.2, near_duplicates=False, group_pattern=pattern)
    held = source.arrays("held_out")[0][:, 0, 0, 0] // 6
    assert len(held) == 8
    assert np.bincount(held // 4, minlength=10).max() == 4
    assert source.description.endswith(
        "40 images that look alike or match in name are kept together"
    )


def test_files_without_a_match_are_on_their_own(tmp_path):
    save_all(tmp_path, [(f"{number}.png", scene()) for number in range(10)])
    source = datasets.open(tmp_path, held_out=0.3, group_pattern="person(.*)")
    assert source.count("held_out") == 3
    assert "kept together" not in source.description


def test_frames_of_an_animation_are_kept_together(tmp_path):
    for number in range(6):
        frames = [Image.fromarray(scene()).quantize(32) for _ in range(3)]
        frames[0].save(tmp_path / f"{number}.gif", save_all=True, append_images=frames[1:])
    source = datasets.open("folder", path=tmp_path, held_out=0.34)
    rows = source._splits["held_out"].row_numbers
    assert len(rows) == 6
    assert np.bincount(rows // 3, minlength=6).max() == 3


def test_wrong_patterns_are_refused(folder, tmp_path):
    with pytest.raises(UsageError, match=r"^`group_pattern` must be a regular .*Received: .*='\('"):
        datasets.open(folder, group_pattern="(")
    with pytest.raises(UsageError, match=r"^`group_pattern` must be a regular .*Received: .*=3"):
        datasets.open(folder, group_pattern=3)
    for split in ("train", "test"):
        save_all(tmp_path / split, [(f"{number}.png", scene()) for number in range(3)])
    with pytest.raises(
        UsageError, match=r"^`group_pattern` must not be given for a folder with held"
    ):
        datasets.open(tmp_path, group_pattern="x")
