"""Stored values that are black and white: masks, 10 to 14 bits in 16, every dtype and loader."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_gan import UsageError, data_record, datasets

RNG = np.random.default_rng(0)
BITS = RNG.integers(2, size=(12, 8, 8))


def batch_of(source, split="train"):
    return source.values(source.arrays(split)[0])


def quiet(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return function(*arguments, **options)


def up_to(white, dtype, count=12):
    """Pixels that reach a value."""
    pixels = RNG.integers(white + 1, size=(count, 8, 8))
    pixels[0, 0, 0] = white
    return pixels.astype(dtype)


def png16(values):
    """A PNG file of 16-bit RGB or gray values; Pillow cannot write color with 16 bits."""
    height, width = values.shape[:2]
    lines = values.astype(">u2").reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if values.ndim == 3 else 0, 0, 0, 0)
    raw = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    chunks = [(b"IHDR", header), (b"IDAT", raw), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def save_all(folder, arrays, suffix="png", **options):
    folder.mkdir()
    for number, pixels in enumerate(arrays):
        path = folder / f"{number:02}.{suffix}"
        if suffix == "png16":
            path.with_suffix(".png").write_bytes(png16(pixels))
        else:
            Image.fromarray(pixels).save(path, **options)
    return folder


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
)
def test_arrays_of_0_and_1_are_masks(dtype):
    with pytest.warns(UserWarning, match=rf"0 or 1 are read as masks.*of {dtype} with values from"):
        source = datasets.from_arrays(BITS.astype(dtype), held_out=0)
    np.testing.assert_array_equal(batch_of(source)[..., 0], BITS * 2.0 - 1)
    np.testing.assert_array_equal(source.to_uint8(source.arrays()[0])[..., 0], BITS * 255)
    assert next(iter(source.dataset("train", 12))).numpy().max() == 1


def test_boolean_arrays_are_masks_without_a_word():
    source = quiet(datasets.from_arrays, BITS > 0, x_test=BITS[:3] < 1)
    for split, bits in (("train", BITS), ("held_out", 1 - BITS[:3])):
        np.testing.assert_array_equal(batch_of(source, split)[..., 0], bits * 2.0 - 1)
    clips = quiet(
        datasets.from_arrays, BITS[..., None, None] > 0, kind="video", frame_rate=2, held_out=0
    )
    assert (batch_of(clips).min(), batch_of(clips).max()) == (-1, 1)


def test_another_split_must_hold_masks_too():
    with (
        pytest.warns(UserWarning, match="masks"),
        pytest.raises(UsageError, match=r"within value_range=\[0\.0, 1\.0\].*held_out"),
    ):
        datasets.from_arrays(BITS.astype("uint8"), x_test=up_to(255, "uint8"))


@pytest.mark.parametrize("dtype", ["uint16", "int64"])
@pytest.mark.parametrize("white", [1023, 4095, 16383])
def test_arrays_that_reach_fewer_bits_are_read_on_them(white, dtype):
    pixels = up_to(white, dtype)
    with pytest.warns(UserWarning, match=rf"read from 0 to {white}, as 1[024] bits.*{dtype}"):
        source = datasets.from_arrays(pixels, held_out=0)
    np.testing.assert_allclose(batch_of(source)[..., 0], pixels / (white / 2) - 1, atol=1e-6)


def test_arrays_of_8_or_16_bits():
    pixels = up_to(255, "uint8")
    for dtype in ("uint8", "int32", "int64"):
        source = quiet(datasets.from_arrays, pixels.astype(dtype), held_out=0)
        assert source.dtype == np.uint8
        np.testing.assert_array_equal(source.arrays()[0][..., 0], pixels)
    with pytest.warns(UserWarning, match="from 0 to 255, as 8 bits"):
        source = datasets.from_arrays(pixels.astype("uint16"), held_out=0)
    np.testing.assert_array_equal(source.arrays()[0][..., 0], pixels)
    wide = quiet(datasets.from_arrays, up_to(65535, "uint16"), held_out=0)
    assert (wide.raw_ranges["samples"], batch_of(wide).max()) == ((0, 65535), 1)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (up_to(4000, "uint16"), r"or use 16 bits, or have .*uint16 with values from \d+ to 4000"),
        (up_to(700, "int32"), r"value_range=\[black, white\].*int32 with values from \d+ to 700"),
        (up_to(90_000, "int64"), r"int64 with values from \d+ to 90000"),
        (up_to(200, "int16") - 30, r"start at 0, or their range be stated.*int16.*from -"),
    ],
)
def test_arrays_whose_range_is_unclear_are_refused(pixels, message):
    with pytest.raises(UsageError, match=message):
        datasets.from_arrays(pixels)
    limits = [float(pixels.min()), float(pixels.max())]
    source = quiet(datasets.from_arrays, pixels, value_range=limits, held_out=0)
    found = batch_of(source)
    assert (found.min(), found.max()) == pytest.approx((-1, 1), abs=1e-6)


def test_dark_pictures_are_no_masks():
    assert quiet(datasets.from_arrays, up_to(40, "uint8")).raw_ranges["samples"] == (0, 255)
    black = np.zeros((6, 8, 8), np.uint8)
    assert quiet(datasets.from_arrays, black, held_out=0).raw_ranges["samples"] == (0, 255)
    one_bright = black.copy()
    one_bright[5, 3, 3] = 200
    source = quiet(datasets.from_arrays, one_bright, held_out=0)
    assert source.raw_ranges["samples"] == (0, 255)
    with pytest.warns(UserWarning, match=r"nearly black are kept.*to 9\..*value_range=\[0,9\]"):
        assert datasets.from_arrays(up_to(9, "uint8")).raw_ranges["samples"] == (0, 255)


def test_conditions_have_levels_of_their_own():
    pictures = up_to(255, "uint8")
    masks = BITS[..., None].astype("uint8")
    with pytest.warns(UserWarning, match="masks.*`condition` of uint8"):
        source = datasets.from_arrays(pictures, fields={"condition": masks}, held_out=0)
    assert source.raw_ranges == {"samples": (0, 255), "condition": (0, 1)}
    np.testing.assert_array_equal(source.values(masks, "condition"), masks * 2.0 - 1)


def test_an_array_on_disk_is_read_on_its_levels(tmp_path):
    pixels = up_to(1023, "uint16", 200)
    np.save(tmp_path / "a.npy", pixels)
    with pytest.warns(UserWarning, match="10 bits"):
        source = datasets.open(tmp_path / "a.npy", memory_limit=10, held_out=0)
    assert isinstance(source.arrays()[0], np.memmap)
    (first,) = source.dataset("train", 200, shuffle=False)
    np.testing.assert_allclose(first[..., 0], pixels / 511.5 - 1, atol=1e-6)


# Files of images ----------------------------------------------------------------------------------


@pytest.mark.parametrize("white", [1, 255, 1023, 4095, 16383])
@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_16_bits_is_read_on_its_levels(tmp_path, white, channels):
    pixels = RNG.integers(white + 1, size=(4, 8, 8, 3)).astype(np.uint16)
    pixels[:, 0, 0] = white
    pixels = pixels if channels == 3 else pixels[..., 0]
    folder = save_all(tmp_path / "a", pixels, "png16")
    with pytest.warns(UserWarning, match=r"of more than 8 bits in .*with values from"):
        source = datasets.open(folder, held_out=0)
    found = source.arrays()[0].reshape(pixels.shape)
    np.testing.assert_array_equal(found, np.rint(pixels / (white / 255)))


def test_png_of_16_bits_that_uses_them(tmp_path):
    pixels = up_to(65535, np.uint16, 4)
    source = quiet(datasets.open, save_all(tmp_path / "a", pixels, "png16"), held_out=0)
    np.testing.assert_array_equal(source.arrays()[0][..., 0], np.rint(pixels / 257))
    dark = save_all(tmp_path / "b", up_to(9000, np.uint16, 4), "png16")
    with pytest.warns(UserWarning, match=r"0 to 65535, though dark.*value_range=\[0,9000\]"):
        assert datasets.open(dark, held_out=0).arrays()[0].max() == 35
    assert quiet(datasets.open, dark, held_out=0, value_range=[0, 9000]).arrays()[0].max() == 255


@pytest.mark.parametrize(("suffix", "channels"), [("png", 1), ("bmp", 3), ("jpg", 1), ("tif", 1)])
def test_files_of_0_and_1_are_masks(tmp_path, suffix, channels):
    bits = np.repeat(np.repeat(BITS[:4, :2, :2], 8, 1), 8, 2).astype(np.uint8)
    pixels = bits if channels == 1 else np.stack([bits] * 3, -1)
    options = {"quality": 100} if suffix == "jpg" else {}
    folder = save_all(tmp_path / "a", pixels, suffix, **options)
    with pytest.warns(UserWarning, match=r"0 or 1 are read as masks.*images in .*from 0 to 1"):
        source = datasets.open(folder, held_out=0)
    found = source.arrays()[0]
    np.testing.assert_array_equal(found, pixels.reshape(found.shape) * 255)
    assert quiet(datasets.open, folder, held_out=0, value_range=[0, 255]).arrays()[0].max() == 1
    if suffix in ("bmp", "tif"):
        return
    record = data_record.describe_data(source.earlier())
    del record["raw_ranges"]  # a run of version 0.1.0 goes on with what it saw
    with pytest.warns(UserWarning, match=r"0\.1\.0"):
        assert data_record.as_recorded(record, source).arrays()[0].max() == 1


def test_masks_among_pictures_stay_dark(tmp_path):
    pixels = np.concatenate([BITS[:6].astype(np.uint8), up_to(255, np.uint8, 6)])
    source = quiet(datasets.open, save_all(tmp_path / "a", pixels), held_out=0)
    np.testing.assert_array_equal(source.arrays()[0][..., 0], pixels)
    palettes = tmp_path / "palettes"
    palettes.mkdir()
    for number, bits in enumerate(BITS[:3].astype(np.uint8)):
        image = Image.fromarray(bits).convert("P")
        image.putpalette([10, 20, 30, 200, 100, 0])
        image.putdata(bits.ravel().tolist())
        image.save(palettes / f"{number}.png")
        Image.fromarray(bits > 0).save(palettes / f"one bit {number}.png")
    found = quiet(datasets.open, palettes, held_out=0, channels=3).arrays()[0]
    assert sorted({tuple(p) for p in found[:3].reshape(-1, 3)}) == [(10, 20, 30), (200, 100, 0)]
    assert set(found[3:].ravel().tolist()) == {0, 255}


def test_floating_point_files(tmp_path):
    pixels = RNG.random((4, 8, 8)).astype(np.float32)
    folder = save_all(tmp_path / "a", pixels, "tif")
    with pytest.warns(UserWarning, match="Floating-point pixels are read from 0 to 1"):
        found = datasets.open(folder, held_out=0).arrays()[0]
    np.testing.assert_array_equal(found[..., 0], np.rint(pixels * 255))
    depth = save_all(tmp_path / "b", pixels * 900 - 300, "tif")
    with pytest.raises(UsageError, match=r"range stated as value_range=\[black, white\].*from -"):
        datasets.open(depth)
    found = datasets.open(depth, held_out=0, value_range=[-300, 600]).arrays()[0]
    np.testing.assert_allclose(found[..., 0], pixels * 255, atol=1)


@pytest.mark.parametrize(("white", "dtype"), [(1, np.uint8), (4095, np.uint16)])
def test_tfds_images_are_read_on_their_levels(tmp_path, white, dtype):
    import tensorflow_datasets as tfds

    pixels = up_to(white, dtype, 20)[..., np.newaxis]
    if dtype == np.uint8:
        encoded = [io.BytesIO() for _ in pixels]
        for file, image in zip(encoded, pixels, strict=True):
            Image.fromarray(image[..., 0]).save(file, "PNG")
        files = [file.getvalue() for file in encoded]
    else:
        files = [png16(image[..., 0]) for image in pixels]
    feature = tfds.features.Image(shape=(8, 8, 1), dtype=dtype, encoding_format="png")
    tfds.dataset_builders.store_as_tfds_dataset(
        name="deep",
        version="1.0.0",
        features=tfds.features.FeaturesDict({"image": feature}),
        split_datasets={"train": [(n, {"image": io.BytesIO(x)}) for n, x in enumerate(files)]},
        data_dir=str(tmp_path),
        disable_shuffling=True,
    )
    with pytest.warns(UserWarning, match=rf"with values from 0 to {white}|as 12 bits"):
        source = datasets.open("tfds:deep", data_dir=tmp_path, held_out=0)
    np.testing.assert_array_equal(source.arrays()[0], np.rint(pixels / (white / 255)))
    whole = [0, 255] if dtype == np.uint8 else [0, 65535]
    dark = datasets.open("tfds:deep", data_dir=tmp_path, held_out=0, value_range=whole)
    assert dark.arrays()[0].max() == (1 if dtype == np.uint8 else 16)
    np.testing.assert_array_equal(source.earlier().arrays()[0], dark.arrays()[0])


def test_prepared_masks_are_read_back(tmp_path):
    with pytest.warns(UserWarning, match="masks"):
        source = datasets.from_arrays(BITS.astype("uint8"), held_out=0)
    datasets.prepare(source, "tfds:our_masks", tmp_path)
    back = quiet(datasets.open, "tfds:our_masks", data_dir=tmp_path, held_out=0)
    np.testing.assert_array_equal(batch_of(back), batch_of(source))


def test_a_run_on_masks_keeps_the_range_with_which_it_began(tmp_path):
    np.savez(tmp_path / "a.npz", x=BITS.astype("uint8"))
    with pytest.warns(UserWarning, match="masks"):
        source = datasets.open(tmp_path / "a.npz")
    record = data_record.describe_data(source.earlier())
    assert record["raw_ranges"]["samples"] == [0, 255]
    now = data_record.describe_data(source)
    line = "stored ranges (samples from 0 to 255; now samples from 0 to 1)"
    assert data_record.data_differences(record, now) == [line]
    for ranges, words in (
        ({"samples": None}, "samples unbounded"),
        ({"samples": [-0.5, 9], "mask": [0, 1]}, "samples from -0.5 to 9, mask from 0 to 1"),
    ):
        (line,) = data_record.data_differences(now, now | {"raw_ranges": ranges})
        assert line == f"stored ranges (samples from 0 to 1; now {words})"
    del record["raw_ranges"]  # as version 0.1.0 wrote it
    with pytest.warns(UserWarning, match=r"0\.1\.0"):
        before = data_record.as_recorded(record, source)
    assert batch_of(before).max() == np.float32(1 / 127.5 - 1)


@pytest.mark.parametrize("dtype", ["int64", "uint16", "uint8"])
def test_the_range_that_a_warning_suggests_is_that_of_the_values(dtype):
    """The digits of scikit-learn are from 0 to 16."""
    with pytest.warns(UserWarning, match=r"data.value_range=\[0,16\]"):
        datasets.from_arrays(up_to(16, dtype))
    source = quiet(datasets.from_arrays, up_to(16, dtype), value_range=[0, 16])
    assert batch_of(source).max() == 1


def test_the_range_that_an_error_suggests_is_that_of_the_values():
    x = up_to(16, "float32")[..., np.newaxis]
    with pytest.raises(UsageError, match=r"write value_range: \[0, 16\]. Received: .* 0 to 16"):
        datasets.from_arrays(x)
    with pytest.raises(UsageError, match=r"write value_range: \[0, 255\]"):
        datasets.from_arrays(15 * x)
