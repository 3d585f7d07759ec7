"""High-resolution pictures and low-resolution ones made of them: windows, layouts, degradations."""

import warnings

import numpy as np
import pytest
from picture_pairs import batches, equal, fill, save
from PIL import Image
from scipy import ndimage

from keras_gan import UsageError, datasets
from keras_gan.datasets import degradations

SMALL = {"window": 32, "crop": 16}


def smooth(seed, height, width, channels=3):
    noise = np.random.default_rng(seed).normal(size=(height, width, channels))
    blurred = ndimage.gaussian_filter(noise, (2, 2, 0))
    low, high = blurred.min(), blurred.max()
    return ((blurred - low) / (high - low) * 255).astype(np.uint8)


def fill_smooth(folder, count, height=66, width=102, seed=0, **options):
    for number in range(count):
        save(folder / f"{number:04}.png", smooth(seed + number, height, width, **options))
    return folder


def reduced(array, scale=4):
    """Reduces a picture that is cropped to a multiple of the scale, as Pillow does."""
    height, width = (length - length % scale for length in array.shape[:2])
    image = Image.fromarray(array[:height, :width])
    size = (width // scale, height // scale)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC))


def quiet(path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return datasets.open("degraded", path=path, **{**SMALL, **options})


def find(whole, window):
    """Returns top and left of a window in a picture, in multiples of two; `None` if not in it."""
    side = len(window)
    for top in range(0, whole.shape[0] - side + 1, 2):
        for left in range(0, whole.shape[1] - side + 1, 2):
            if np.array_equal(whole[top : top + side, left : left + side], window):
                return top, left
    return None


def test_windows_are_parts_of_the_picture_and_of_the_reduced_picture(tmp_path):
    """xinntao/Real-ESRGAN #409, #630: pictures are cropped to a multiple, never resized."""
    fill_smooth(tmp_path, 3)
    source = quiet(tmp_path, held_out=0)
    rows = source.field_arrays()
    pictures = [smooth(number, 66, 102) for number in range(3)]
    assert rows["samples"].shape == (18, 32, 32, 3)
    assert rows["condition"].shape == (18, 8, 8, 3)
    for number, whole in enumerate(pictures):
        places = []
        for row in range(6 * number, 6 * number + 6):
            place = find(whole, rows["samples"][row])
            top, left = place[0] // 4, place[1] // 4
            low = reduced(whole)[top : top + 8, left : left + 8]
            assert np.array_equal(rows["condition"][row], low)
            places.append(place)
        # 64 of 66 rows and 100 of 102 columns, from one end to the other
        assert places == [(top, left) for top in (0, 32) for left in (0, 32, 68)]
    assert source.description == (
        f"degraded: 18 windows of 3 pictures in {tmp_path}, as 8x8x3 -> 32x32x3; low resolution "
        "reduced by 4 with Pillow's antialiased bicubic filter"
    )


def test_all_windows_of_a_picture_are_held_out_or_none(tmp_path):
    fill_smooth(tmp_path, 6)
    source = quiet(tmp_path, held_out=0.2)
    assert [source.count(name) for name in source.split_names] == [30, 6]
    held = source.field_arrays("held_out")["samples"]
    inside = [
        number
        for number in range(6)
        if all(find(smooth(number, 66, 102), window) is not None for window in held)
    ]
    assert len(inside) == 1
    assert source.paired


def test_crops_are_at_corresponding_places(tmp_path):
    # Every block of 4x4 pixels has the color of one pixel of the low resolution.
    for number in range(3):
        blocks = np.random.default_rng(number).integers(0, 256, (16, 16, 1), dtype=np.uint8)
        save(tmp_path / "HR" / f"{number}.png", blocks.repeat(4, axis=0).repeat(4, axis=1))
        save(tmp_path / "LR" / "X4" / f"{number}x4.png", blocks)
    source = quiet(tmp_path, held_out=0)
    assert source.spec.shape == source.spec.fields["condition"].shape == (None, None, 1)
    for batch in batches(source, 20, 8):
        assert batch["condition"].shape == (8, 4, 4, 1)
        low = batch["condition"].numpy().repeat(4, axis=1).repeat(4, axis=2)
        assert np.array_equal(low, batch["samples"])
    whole = batches(source, 6, 8, seed=5)
    assert equal(whole[4:], batches(quiet(tmp_path, held_out=0), 2, 8, seed=5, start=4))
    full = quiet(tmp_path, held_out=0, crop=None)
    assert full.spec.shape == (32, 32, 1)
    assert full.spec.fields["condition"].shape == (8, 8, 1)


def test_folders_as_div2k_has_them(tmp_path):
    for split, count in (("train", 3), ("valid", 2)):
        folder = tmp_path / "DIV2K" / f"DIV2K_{split}_HR"
        fill_smooth(folder, count, height=69, width=100, seed=10 * count)
        for scale in (2, 4):
            low = tmp_path / "DIV2K" / f"DIV2K_{split}_LR_bicubic" / f"X{scale}"
            for file in folder.iterdir():
                array = reduced(np.asarray(Image.open(file)), scale)
                save(low / f"{file.stem}x{scale}.png", array)
    source = quiet(tmp_path)
    assert [source.count(name) for name in source.split_names] == [18, 12]
    assert "low resolution of the folder; splits: train, valid" in source.description
    assert "low resolutions of other scales left out: 2" in source.description
    halves = quiet(tmp_path, scale=2, window=32, crop=16)
    assert halves.field_arrays()["condition"].shape == (18, 16, 16, 3)


@pytest.mark.parametrize(
    ("high", "low"),
    [
        ("hr/{}.png", "lr/{}_LR.png"),
        ("HR/{}_HR.png", "LR/{}x4.png"),
        ("hr/{}.png", "lr/{}LRx4.png"),
        ("high/{}.png", "low/{}-lr-x4.png"),
        ("train/high-res/{}.png", "train/LowRes/{}.png"),
        ("High_Resolution/{}HR.png", "Low_Resolution/{}x4_LR.png"),
    ],
)
def test_usual_names_of_high_and_low_resolution(tmp_path, high, low):
    for number in range(3):
        picture = smooth(number, 64, 64)
        save(tmp_path / high.format(f"000{number}"), picture)
        save(tmp_path / low.format(f"000{number}"), reduced(picture))
    source = quiet(tmp_path, held_out=0, crop=None)
    assert "low resolution of the folder" in source.description
    rows = source.field_arrays()
    for whole, small in zip(rows["samples"], rows["condition"], strict=True):
        np.testing.assert_array_equal(reduced(whole)[2:-2, 2:-2], small[2:-2, 2:-2])


def test_names_that_differ_in_the_scale_have_no_partner(tmp_path):
    fill_smooth(tmp_path / "HR", 2)
    for number in range(2):
        save(tmp_path / "LR" / f"000{number}x2.png", reduced(smooth(number, 66, 102), 2))
    with pytest.raises(UsageError, match=r"4 of 4 without one: HR/0000\.png"):
        quiet(tmp_path)


def test_low_resolution_of_another_size_is_refused_with_both_sizes(tmp_path):
    """xinntao/ESRGAN #92, #101: high resolution that is not 4 times the low one."""
    fill_smooth(tmp_path / "HR", 4)
    for number in range(4):
        save(tmp_path / "LR" / f"{number:04}.png", reduced(smooth(number, 66, 102)))
    assert quiet(tmp_path).count() > 2
    save(tmp_path / "LR" / "0002.png", smooth(1, 17, 25))
    with pytest.raises(
        UsageError,
        match=r"Received: scale=4 and 1 of 4 that do not: HR/0002.png of 66x102 with 0002.png of "
        "17x25 instead of 16x25",
    ):
        quiet(tmp_path)
    (tmp_path / "LR" / "0002.png").unlink()
    with pytest.raises(UsageError, match=r"1 of 7 without one: HR/0002\.png"):
        quiet(tmp_path)
    with pytest.raises(UsageError, match="needs high-resolution pictures"):
        quiet(fill_smooth(tmp_path / "x" / "LR", 2).parent)


def test_small_pictures_are_named(tmp_path):
    fill_smooth(tmp_path, 4, height=31)
    fill(tmp_path, 1, "bmp", height=64, width=64)
    with pytest.raises(
        UsageError,
        match=r"`window` sets another size. Received: window=32 and 4 of 5 smaller pictures: "
        r"0000.png of 31x102, 0001.png of 31x102, 0002.png of 31x102, \.\.\.",
    ):
        quiet(tmp_path)
    assert quiet(tmp_path, window=28, crop=None, held_out=0).spec.shape == (28, 28, 3)


def test_flat_windows_are_left_out_and_it_is_said(tmp_path):
    for number in range(3):
        picture = smooth(number, 64, 64)
        picture[:32] = 200  # two of four windows
        save(tmp_path / f"{number}.png", picture)
    source = quiet(tmp_path, held_out=0)
    assert source.count() == 6
    assert "6 flat windows left out" in source.description
    assert quiet(tmp_path, held_out=0, least_deviation=0).count() == 12
    with pytest.raises(UsageError, match="windows that are not flat"):
        quiet(tmp_path, held_out=0, least_deviation=200)


def test_gray_pictures_stay_gray(tmp_path):
    fill_smooth(tmp_path, 2, channels=1)
    assert quiet(tmp_path, held_out=0, crop=None).spec.shape == (32, 32, 1)
    assert quiet(tmp_path, held_out=0, crop=None, channels=3).spec.shape == (32, 32, 3)
    with pytest.raises(UsageError, match="`channels` must be 1 or 3"):
        quiet(tmp_path, channels=4)


def test_a_damaged_picture_is_refused_or_skipped(tmp_path):
    fill_smooth(tmp_path, 4)
    first = tmp_path / "0001.png"
    first.write_bytes(first.read_bytes()[:3000])
    with pytest.raises(UsageError, match=r"must be whole and readable.*0001\.png"):
        quiet(tmp_path)
    source = datasets.open("degraded", path=tmp_path, held_out=0, skip_corrupt=True, **SMALL)
    assert source.count() == 18
    assert "18 windows of 3 pictures" in source.description
    assert "flat" not in source.description
    rows = source.field_arrays()
    assert np.array_equal(rows["condition"][6], reduced(smooth(2, 66, 102))[:8, :8])


def test_large_data_are_kept_in_the_cache(tmp_path):
    fill_smooth(tmp_path / "data", 3)
    options = {**SMALL, "held_out": 0, "memory_limit": 1000, "cache": tmp_path / "cache"}
    first = datasets.open("degraded", path=tmp_path / "data", **options)
    again = datasets.open("degraded", path=tmp_path / "data", **options)
    assert len(list((tmp_path / "cache").iterdir())) == 2
    plain = quiet(tmp_path / "data", held_out=0).field_arrays()
    for source in (first, again):
        rows = source.field_arrays()
        assert all(np.array_equal(plain[name], rows[name]) for name in plain)
        assert source.description == first.description
    noisy = datasets.open("degraded", path=tmp_path / "data", degradation="noise", **options)
    assert not np.array_equal(noisy.field_arrays()["condition"], plain["condition"])


# ------------------------------------------------------------------------ degradations


def test_noise_and_blur_have_the_strength_that_is_stated():
    gray = np.full((64, 64, 1), 128, np.uint8)
    noisy = degradations.make(1, {"noise": 10}).apply(gray, np.random.default_rng(0))
    assert abs(noisy.astype(float).std() - 10) < 0.5
    point = np.zeros((65, 65, 1), np.uint8)
    point[32, 32] = 255
    wide = degradations.make(1, {"blur": [1.0, 1.0]}).apply(point, np.random.default_rng(0))
    assert wide[32, 32, 0] == round(255 / (2 * np.pi))  # the peak of a Gaussian of deviation 1


def test_jpeg_is_worse_at_a_lower_quality():
    picture = smooth(0, 64, 64)
    losses = [
        np.abs(degradations.make(1, {"jpeg": q}).apply(picture, generator()).astype(int) - picture)
        for q in (90, 10)
    ]
    assert losses[0].mean() * 2 < losses[1].mean()
    assert degradations.make(2, "jpeg").apply(picture, generator()).shape == (32, 32, 3)


def generator():
    return np.random.default_rng(0)


def test_strengths_differ_by_window_and_are_fixed_by_the_seed(tmp_path):
    fill_smooth(tmp_path, 3)
    options = {"held_out": 0, "scale": 1, "degradation": {"noise": [0, 40]}}
    source, again, other = (quiet(tmp_path, **options, degradation_seed=seed) for seed in (0, 0, 1))
    rows = source.field_arrays()
    assert rows["condition"].shape == rows["samples"].shape
    noise = (rows["condition"].astype(float) - rows["samples"]).std(axis=(1, 2, 3))
    assert len(set(noise.round(3))) == 18
    assert noise.max() > 2 * noise.min()
    assert np.array_equal(rows["condition"], again.field_arrays()["condition"])
    assert not np.array_equal(rows["condition"], other.field_arrays()["condition"])
    assert "low resolution noise 0 to 40" in source.description


def test_borders_of_windows_are_those_of_the_whole_picture(tmp_path):
    picture = smooth(0, 128, 128)
    degradation = degradations.make(4, {"blur": 2.0})
    whole = degradation.apply(picture, generator())
    save(tmp_path / "a.png", picture)
    save(tmp_path / "b.png", smooth(1, 128, 128))
    rows = quiet(tmp_path, held_out=0, degradation={"blur": 2.0}).field_arrays()
    for row in range(16):
        top, left = 8 * (row // 4), 8 * (row % 4)
        assert np.array_equal(rows["condition"][row], whole[top : top + 8, left : left + 8])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"scale": 0}, "`scale` must be an integer of at least 1"),
        ({"scale": 1}, "needs a degradation other than bicubic"),
        ({"degradation": "rain"}, "must be bicubic, one of blur, noise, jpeg"),
        ({"degradation": {"noise": [5, 1]}}, "from 0 to 100 for noise. Received: noise="),
        ({"degradation": {"jpeg": 101}}, "from 1 to 100 for jpeg. Received: jpeg=101"),
        ({"window": 30}, "`window` must be a multiple of the scale, 4. Received: window=30"),
        ({"crop": 18}, "must be a multiple of the scale, 4"),
        ({"crop": 36}, "at most the size of the pictures, 32x32"),
        ({"least_deviation": -1}, "`least_deviation` must"),
    ],
)
def test_options_out_of_range(tmp_path, options, match):
    fill_smooth(tmp_path, 2)
    with pytest.raises(UsageError, match=match):
        quiet(tmp_path, held_out=0, **options)


def test_a_degradation_and_low_resolution_pictures(tmp_path):
    fill_smooth(tmp_path / "HR", 2)
    for number in range(2):
        save(tmp_path / "LR" / f"{number:04}.png", reduced(smooth(number, 66, 102)))
    with pytest.raises(UsageError, match="must not be given for a folder with low-resolution"):
        quiet(tmp_path, degradation="noise")
