"""Decoding of the images in a folder, pixel by pixel, and the files that are refused."""

import io
import json
import os
import struct
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_gan import UsageError, datasets
from keras_gan.datasets import decoding, images

RNG = np.random.default_rng(0)


def picture(height=8, width=8, channels=3):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return RNG.integers(256, size=shape, dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def fill(folder, count=6, **options):
    pixels = [picture(**options) for _ in range(count)]
    for number, p in enumerate(pixels):
        save(folder / f"{number:02}.png", p)
    return pixels


def all_samples(folder, **options):
    return datasets.open(folder, held_out=0, **options).arrays()[0]


def decode(file, channels=3, size=(8, 8), **options):
    return images.decode(file, size, channels, **options)


def png16(values):
    """A PNG file of 16-bit RGB or gray values; Pillow cannot write color with 16 bits."""
    height, width = values.shape[:2]
    color = 2 if values.ndim == 3 else 0
    lines = values.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + line.tobytes() for line in lines)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)),
        (b"IDAT", zlib.compress(raw)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


# Pixels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_every_pixel(tmp_path, channels):
    pixels = fill(tmp_path, channels=channels)
    source = datasets.open(tmp_path, held_out=0)
    assert source.spec.shape == (8, 8, channels)
    np.testing.assert_array_equal(source.arrays()[0], np.reshape(pixels, (6, 8, 8, channels)))
    batch = next(iter(source.dataset(batch_size=6, shuffle=False)))
    np.testing.assert_array_equal(
        np.rint((batch + 1) * 127.5), np.reshape(pixels, (6, 8, 8, channels))
    )


@pytest.mark.parametrize("extension", ["jpg", "JPEG", "webp"])
def test_lossy_files_come_close(tmp_path, extension):
    y, x = np.mgrid[0:16, 0:16]
    smooth = np.stack([y * 16, x * 16, 255 - y * 8], axis=-1).astype(np.uint8)
    path = save(tmp_path / f"a.{extension}", smooth, quality=95)
    (pixels,) = decode(path, size=(16, 16))
    assert abs(pixels.astype(int) - smooth).mean() < 4


def test_sixteen_bits_are_scaled(tmp_path):
    gray = RNG.integers(256, size=(8, 8)).astype(np.uint16)
    (pixels,) = decode(png16(gray * 257), channels=1)
    np.testing.assert_array_equal(pixels[..., 0], gray)
    color = RNG.integers(256, size=(8, 8, 3)).astype(np.uint16)
    (pixels,) = decode(png16(color * 257))
    np.testing.assert_array_equal(pixels, color)


def test_palette():
    colors = np.array([[255, 0, 0], [0, 128, 0], [7, 8, 9]], np.uint8)
    index = RNG.integers(3, size=(8, 8), dtype=np.uint8)
    image = Image.fromarray(index, "L").convert("P")
    image.putdata(index.ravel().tolist())
    image.putpalette(colors.ravel().tolist())
    file = io.BytesIO()
    image.save(file, "PNG")
    (pixels,) = decode(file.getvalue())
    np.testing.assert_array_equal(pixels, colors[index])
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    colors[0] = 255  # what is transparent becomes white
    np.testing.assert_array_equal(decode(file.getvalue())[0], colors[index])
    assert decode(file.getvalue(), channels=4)[0][index == 0][:, 3].max() == 0


def test_alpha_is_put_on_white():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., 0], rgba[..., 3] = 200, 255
    rgba[0, 0] = [10, 20, 30, 0]
    rgba[0, 1] = [0, 0, 0, 128]
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "PNG")
    (pixels,) = decode(file.getvalue())
    assert list(pixels[0, 0]) == [255, 255, 255]
    assert list(pixels[0, 1]) == [127, 127, 127]
    assert list(pixels[5, 5]) == [200, 0, 0]
    np.testing.assert_array_equal(decode(file.getvalue(), channels=4)[0], rgba)
    assert decode(file.getvalue(), channels=1)[0][0, 0, 0] == 255


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # cyan absent: red
    file = io.BytesIO()
    image.save(file, "JPEG", quality=100)
    (pixels,) = decode(file.getvalue())
    assert pixels[..., 0].min() > 245
    assert pixels[..., 1:].max() < 10


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_exif_orientation(tmp_path, extension):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:, :16] = 255  # left half white; upright, the upper half
    path = save(tmp_path / f"a.{extension}", stored, exif=exif)
    header = images.read_header(path)
    assert (header.height, header.width) == (32, 16)
    (pixels,) = decode(path, size=(32, 16))
    assert pixels[:15].min() > 240
    assert pixels[17:].max() < 15


def test_gif_frames_are_samples(tmp_path):
    levels = (0, 100, 200)
    frames = [Image.new("L", (8, 8), level) for level in levels]
    save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    save(tmp_path / "b.png", Image.new("L", (8, 8), 50))
    samples = all_samples(tmp_path)
    assert samples.shape == (4, 8, 8, 1)
    assert [int(s.mean()) for s in samples] == [0, 100, 200, 50]
    assert len(decode(tmp_path / "a.gif", frames=False)) == 1


def test_downsizing_does_not_alias():
    y, x = np.mgrid[0:256, 0:256]
    board = ((y + x) % 2 * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(board).save(file, "PNG")
    for size in ((64, 64), (50, 50), (37, 37)):
        (pixels,) = decode(file.getvalue(), channels=1, size=size)
        assert abs(pixels.astype(int) - 127.5).max() <= 6


def test_images_are_cropped_around_their_center():
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = picture(channels=1)
    file = io.BytesIO()
    Image.fromarray(wide).save(file, "PNG")
    np.testing.assert_array_equal(decode(file.getvalue(), channels=1)[0][..., 0], wide[:, 8:16])
    tall = io.BytesIO()
    Image.fromarray(wide.T.copy()).save(tall, "PNG")
    np.testing.assert_array_equal(decode(tall.getvalue(), channels=1)[0][..., 0], wide[:, 8:16].T)


def test_large_jpeg_is_near_the_exact_result():
    y, x = np.mgrid[0:640, 0:960]
    photo = np.stack([y % 256, x % 256, (y * x // 512) % 256], axis=-1).astype(np.uint8)
    photo = np.asarray(Image.fromarray(photo).resize((960, 640)).reduce(4).resize((960, 640)))
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", quality=95)
    (pixels,) = decode(file.getvalue(), size=(32, 32))
    with Image.open(file) as image:
        exact = image.crop((160, 0, 800, 640)).resize((32, 32), Image.Resampling.LANCZOS)
    assert abs(pixels.astype(int) - np.asarray(exact)).mean() < 2


# Size and channels ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(32, 48), (32, 48)], (32, 48)),
        ([(32, 48), (32, 40)], (64, 64)),
        ([(30, 30), (30, 30)], (64, 64)),
        ([(128, 128), (128, 128)], (64, 64)),
    ],
)
def test_default_size(tmp_path, sizes, expected):
    for number, (height, width) in enumerate(sizes):
        save(tmp_path / f"{number}.png", picture(height, width))
    assert datasets.spec(tmp_path, held_out=0).shape == (*expected, 3)
    assert datasets.spec(tmp_path, held_out=0, size=20).shape == (20, 20, 3)
    assert datasets.spec(tmp_path, held_out=0, size=[20, 12]).shape == (20, 12, 3)


def test_default_channels(tmp_path):
    fill(tmp_path, 2, channels=1)
    save(tmp_path / "2.png", Image.new("1", (8, 8)))
    (tmp_path / "3.png").write_bytes(png16(np.zeros((8, 8), np.uint16)))
    assert datasets.spec(tmp_path, held_out=0).shape == (8, 8, 1)
    save(tmp_path / "4.png", picture(channels=4))
    assert datasets.spec(tmp_path, held_out=0).shape == (8, 8, 3)
    assert datasets.spec(tmp_path, held_out=0, channels=4).shape == (8, 8, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"`size` must be a positive integer.*size=0"),
        ({"size": [1, 2, 3]}, r"size=\[1, 2, 3\]"),
        ({"size": "large"}, r"size='large'"),
        ({"channels": 2}, r"`channels` must be 1 .*channels=2"),
        ({"held_out": 2}, r"`held_out` must be the share.*held_out=2"),
        ({"memory_limit": -1}, r"`memory_limit` must be a number of bytes.*=-1"),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    fill(tmp_path, 2)
    with pytest.raises(UsageError, match=message):
        datasets.open(tmp_path, **options)


# Classes and splits -----------------------------------------------------------------------------


def test_subfolders_are_classes(tmp_path):
    for label, name in enumerate(["b", "a", "c"]):
        for number in range(3 + label):
            save(tmp_path / name / "deeper" / f"{number}.png", picture())
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("ignored")
    source = datasets.open(tmp_path, held_out=0)
    assert source.spec.class_names == ("a", "b", "c")
    assert list(np.bincount(source.arrays()[1])) == [4, 3, 5]
    assert datasets.spec(tmp_path, labels=False, held_out=0).num_classes == 0


def test_a_single_subfolder_is_not_a_class(tmp_path):
    fill(tmp_path / "images")
    save(tmp_path / "loose.png", picture())
    source = datasets.open(tmp_path, held_out=0)
    assert (source.spec.num_classes, source.count()) == (0, 7)


def test_images_beside_classes_are_refused(tmp_path):
    fill(tmp_path / "a", 2)
    fill(tmp_path / "b", 2)
    save(tmp_path / "loose.png", picture())
    with pytest.raises(UsageError, match=r"labels=false.*2 folders of images and 1 .*loose\.png"):
        datasets.open(tmp_path)
    assert datasets.open(tmp_path, labels=False, held_out=0).count() == 5


def test_train_and_test_folders_are_splits(tmp_path):
    for split, count in (("train", 4), ("test", 2), ("val", 1)):
        for name in ("cat", "dog"):
            fill(tmp_path / split / name, count)
    source = datasets.open(tmp_path)
    assert source.spec.class_names == ("cat", "dog")
    assert (source.count("train"), source.count("held_out")) == (8, 4)
    assert list(source.arrays("held_out")[1]) == [0, 0, 1, 1]
    with pytest.raises(UsageError, match=r"held-out samples of its own.*held_out=0\.5"):
        datasets.open(tmp_path, held_out=0.5)


def test_held_out_images_are_not_trained_on(tmp_path):
    pixels = fill(tmp_path, 20)
    save(tmp_path / "copy.png", pixels[3])
    source = datasets.open(tmp_path, held_out=0.3)
    train, held_out = (
        {e["samples"].tobytes() for e in source.examples(split)} for split in ("train", "held_out")
    )
    assert not train & held_out
    assert len(train | held_out) == 20
    assert source.count("train") + source.count("held_out") == 21


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_link_loops_end(tmp_path):
    fill(tmp_path / "a", 3)
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    (tmp_path / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    assert datasets.open(tmp_path, held_out=0).count() == 3


# Files that are refused -------------------------------------------------------------------------


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def write_bad(path, kind):
    if kind == "text":
        path.write_text("not an image")
    elif kind == "empty":
        path.touch()
    elif kind == "bomb":
        content = png16(np.zeros((1, 1), np.uint16))
        rest = content[33:]
        content = content[:16] + struct.pack(">II", 50_000, 50_000) + content[24:29]
        path.write_bytes(content + struct.pack(">I", zlib.crc32(content[12:])) + rest)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to(path.parent / "nowhere.png")
    else:
        save(path, picture(64, 64), format=kind)
        truncate(path)


BAD = [
    ("text", r"not a PNG, JPEG or other image"),
    ("empty", r"not a PNG"),
    ("PNG", r""),
    ("JPEG", r"truncated"),
    ("WEBP", r""),
    ("GIF", r""),
    ("bomb", r"pixels"),
    ("pipe", r"not a regular file"),
    ("dangling", r"No such file"),
]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links differ there")
@pytest.mark.parametrize(("kind", "reason"), BAD)
def test_damaged_files_are_named(tmp_path, kind, reason):
    fill(tmp_path, 4)
    bad = tmp_path / "bad one.png"
    write_bad(bad, kind)
    with pytest.raises(UsageError, match=rf"skip_corrupt=true.*bad one\.png: .*{reason}"):
        datasets.open(tmp_path, size=8)
    source = datasets.open(tmp_path, size=8, held_out=0, skip_corrupt=True)
    assert source.count() == 4
    assert len(source.skipped) == 1
    assert str(bad) in source.skipped[0]
    assert "1 damaged files skipped" in source.description
    assert str(bad) in source.description


def test_an_image_of_many_pixels_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", picture(20, 30))
    monkeypatch.setattr(images, "MAX_PIXELS", 500)
    with pytest.raises(images.CorruptImage, match=r"30x20 pixels, more than 500"):
        decode(path)


def test_folders_without_images(tmp_path):
    with pytest.raises(UsageError, match=r"at least 2 files .*\.png.*none in"):
        datasets.open(tmp_path)
    save(tmp_path / "a.png", picture())
    with pytest.raises(UsageError, match=r"at least 2 samples to train on.*Received: 1"):
        datasets.open(tmp_path)
    (tmp_path / "a.png").write_text("")
    with pytest.raises(UsageError, match=r"1 damaged files, such as .*a\.png"):
        datasets.open(tmp_path, skip_corrupt=True)
    with pytest.raises(UsageError, match=r"must exist.*path='.*none'"):
        datasets.folder.open(tmp_path / "none")


# Large folders ----------------------------------------------------------------------------------


def test_a_large_folder_is_kept_in_the_cache(tmp_path):
    pixels = fill(tmp_path / "images", 20)
    (tmp_path / "images" / "bad.png").write_text("")
    options = {"memory_limit": 100, "cache": tmp_path / "cache", "skip_corrupt": True}
    source = datasets.open(tmp_path / "images", held_out=0, **options)
    assert isinstance(source.arrays()[0], np.memmap)
    np.testing.assert_array_equal(source.arrays()[0], pixels)
    assert "kept in the cache folder" in source.description
    memory = datasets.open(tmp_path / "images", held_out=0, skip_corrupt=True)
    for a, b in zip(
        source.dataset(batch_size=7, repeat=True).take(5),
        memory.dataset(batch_size=7, repeat=True).take(5),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)

    (entry,) = (tmp_path / "cache").iterdir()
    written = (entry / "samples.npy").stat().st_mtime_ns
    again = datasets.open(tmp_path / "images", held_out=0, **options)
    assert again.skipped == source.skipped
    assert (entry / "samples.npy").stat().st_mtime_ns == written
    save(tmp_path / "images" / "new.png", picture())
    assert datasets.open(tmp_path / "images", held_out=0, **options).count() == 21
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_damaged_cache_is_written_again(tmp_path):
    pixels = fill(tmp_path / "images", 5)
    options = {"memory_limit": 0, "cache": tmp_path / "cache", "held_out": 0}
    datasets.open(tmp_path / "images", **options)
    (entry,) = (tmp_path / "cache").iterdir()
    truncate(entry / "samples.npy")
    np.testing.assert_array_equal(
        all_samples(tmp_path / "images", memory_limit=0, cache=tmp_path / "cache"), pixels
    )


def test_an_interrupted_decode_leaves_nothing(tmp_path):
    fill(tmp_path / "images", 3)
    bad = save(tmp_path / "images" / "bad.png", picture(64, 64))
    truncate(bad)
    with pytest.raises(UsageError, match=r"bad\.png"):
        datasets.open(tmp_path / "images", size=8, memory_limit=0, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_is_reported_before_decoding(tmp_path, monkeypatch):
    fill(tmp_path / "images", 5)
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(decoding.shutil, "disk_usage", lambda _: FullDisk)
    with pytest.raises(UsageError, match=r"need 960 bytes in .*cache.*900 bytes of free space"):
        datasets.open(tmp_path / "images", memory_limit=0, cache=tmp_path / "cache")


class FullDisk:
    free = 900


def test_a_cache_that_cannot_be_written(tmp_path):
    fill(tmp_path / "images", 5)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UsageError, match=r"cache=\.\.\.*.*Received: .*cache"):
        datasets.open(tmp_path / "images", memory_limit=0, cache=tmp_path / "cache")


def test_prepared_folder_reads_back(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / "images" / name, 5)
    source = datasets.open(tmp_path / "images", held_out=0.2)
    path = datasets.prepare(source, "tfds:pets", tmp_path / "tfds")
    back = datasets.open("tfds:pets", data_dir=tmp_path / "tfds")
    assert back.spec == source.spec
    for split in ("train", "held_out"):
        for ours, theirs in zip(source.arrays(split), back.arrays(split), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert json.loads((path / "dataset_info.json").read_text())["name"] == "pets"


def test_reading_that_stops_in_the_middle_leaves_no_threads():
    """Garbage collection inside `Thread.start` could otherwise wait for them forever."""
    threads, filters = threading.active_count(), list(warnings.filters)
    results = decoding.in_threads(lambda number: 2 * number, range(10), chunk=4)
    assert next(iter(results)) == 0
    assert threading.active_count() == threads
    assert warnings.filters == filters
    assert list(results) == [2, 4, 6, 8, 10, 12, 14, 16, 18]
