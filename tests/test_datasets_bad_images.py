"""Files that people have in folders of images: what is read, what is said, and what is refused."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_gan import UsageError, datasets

RNG = np.random.default_rng(0)


def picture(height=8, width=8, channels=3):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Image.fromarray(RNG.integers(256, size=shape, dtype=np.uint8))


def fill(folder, names=("a.png", "b.png", "c.png"), **size):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        picture(**size).save(folder / name)


def open_quietly(folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return datasets.open(folder, held_out=0, **options)


# ------------------------------------------------------------ forms that are all read


def rgba(path):
    picture(channels=4).save(path.with_suffix(".png"))


def gray_of_16_bits(path):
    values = RNG.integers(65536, size=(8, 8)).astype(np.uint16)
    values[0, 0] = 65535
    Image.fromarray(values).save(path.with_suffix(".png"))


def cmyk(path):
    picture(channels=4).convert("RGB").convert("CMYK").save(path.with_suffix(".jpg"))


def transparent_palette(path):
    image = picture().quantize(16)
    image.info["transparency"] = 0
    image.save(path.with_suffix(".png"))


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(8, 8).save(path.with_suffix(".jpg"), exif=exif)


def gray_with_alpha(path):
    picture(channels=4).convert("LA").save(path.with_suffix(".png"))


def jpeg_named_png(path):
    picture().save(path.with_suffix(".png"), "JPEG")


FORMS = (rgba, gray_of_16_bits, cmyk, transparent_palette, turned, gray_with_alpha, jpeg_named_png)


def test_all_forms_of_pixels_are_read_in_one_folder(tmp_path):
    for form in FORMS:
        form(tmp_path / form.__name__)
    source = open_quietly(tmp_path)
    assert source.count() == len(FORMS)
    assert source.spec.shape == (8, 8, 3)
    assert source.arrays()[0].std(axis=(1, 2, 3)).min() > 5  # none is blank
    assert source.skipped == []


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_each_form_is_read_alone(tmp_path, form):
    form(tmp_path / "first")
    form(tmp_path / "second")
    source = open_quietly(tmp_path)
    channels = 1 if form in (gray_of_16_bits, gray_with_alpha) else 3
    assert source.arrays()[0].shape == (2, 8, 8, channels)


def test_a_turned_picture_is_upright(tmp_path):
    fill(tmp_path, ["plain.png"], height=12, width=8)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: width and height change places
    picture(height=8, width=12).save(tmp_path / "turned.jpg", exif=exif)
    assert open_quietly(tmp_path).spec.shape == (12, 8, 3)


# --------------------------------------------------------------- files that are refused


def bomb(path):
    """A file of 70 bytes with a header of 60,000 x 60,000 pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body)


def truncated(path):
    picture(64, 64).save(path)
    path.write_bytes(path.read_bytes()[:-2000])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("no picture", "utf-8")


@pytest.mark.parametrize("kind", [bomb, truncated, empty, text], ids=lambda kind: kind.__name__)
def test_a_damaged_file_is_refused_in_one_line_or_skipped(tmp_path, kind):
    fill(tmp_path, height=64, width=64)
    bad = tmp_path / "bad.png"
    kind(bad)
    with pytest.raises(UsageError) as error:
        datasets.open(tmp_path)
    line = str(error.value)
    assert line.startswith("Every image must be whole and readable (skip_corrupt=true skips dam")
    assert f"Received: {bad}: " in line
    assert "\n" not in line
    source = open_quietly(tmp_path, skip_corrupt=True)
    assert source.count() == 3


# ------------------------------------------------------------------- resizing is said


def test_images_that_are_made_smaller_are_in_the_line(tmp_path):
    fill(tmp_path, height=128, width=128)
    source = open_quietly(tmp_path)
    assert source.description == f"folder: 3 images from {tmp_path}, as 64x64x3 (128x128 -> 64x64)"
    assert source.resized == "Lanczos, cropped to the aspect ratio"
    assert "->" not in open_quietly(tmp_path, size=128).description


def test_images_that_are_enlarged_are_named(tmp_path):
    fill(tmp_path, height=5, width=7)
    with pytest.warns(UserWarning, match="are enlarged") as got:
        source = datasets.open(tmp_path, held_out=0)
    assert [str(warning.message) for warning in got] == [
        "Images smaller than 64x64 are enlarged, which adds no detail; `size` sets another size. "
        "Received: 3 of 3 images, such as a.png of 5x7"
    ]
    assert source.description.endswith("as 64x64x3 (5x7 -> 64x64)")


def test_mixed_sizes_are_in_the_line(tmp_path):
    fill(tmp_path / "x", ["a.png"], height=100, width=80)
    fill(tmp_path / "x", ["b.png"], height=300, width=20)
    fill(tmp_path / "x", ["c.png"], height=5, width=7)
    with pytest.warns(UserWarning, match="2 of 3 images, such as b.png of 300x20$"):
        source = datasets.open(tmp_path, held_out=0)
    assert source.description.endswith("as 64x64x3 (5x7 to 100x80 -> 64x64)")


# ---------------------------------------------------------------- folders and suffixes


def test_hidden_folders_and_metadata_are_left_out_and_counted(tmp_path):
    fill(tmp_path / "cats")
    fill(tmp_path / "dogs")
    fill(tmp_path / "cats" / ".ipynb_checkpoints")
    fill(tmp_path / "__MACOSX" / "cats")
    (tmp_path / "cats" / "._a.png").write_bytes(b"\0\5\x16\7")  # macOS's attributes of a.png
    source = open_quietly(tmp_path)
    assert source.count() == 6
    assert source.spec.num_classes == 2
    assert source.description.endswith("left out: 1 hidden, 2 hidden folders")


def test_suffixes_in_other_cases_and_scripts(tmp_path):
    fill(tmp_path, ["a.JPG", "b.Tif", "c.PNG", "d.jPeG"])
    for name in ("\u00e9t\u00e9.PNG", "\u732b.png", "e.\uff30\uff2e\uff27"):
        picture().save(tmp_path / name, "PNG")
    assert open_quietly(tmp_path).count() == 7


def test_a_class_folder_without_images_is_named(tmp_path):
    fill(tmp_path / "cats")
    fill(tmp_path / "dogs")
    (tmp_path / "birds" / "deeper").mkdir(parents=True)
    (tmp_path / "fish").mkdir()
    (tmp_path / "fish" / "notes.txt").write_text("none yet", "utf-8")
    with pytest.warns(UserWarning, match="without images") as got:
        source = datasets.open(tmp_path, held_out=0)
    assert [str(warning.message) for warning in got] == [
        f"Folders without images are not classes. Received: 2 in {tmp_path}, such as birds, fish"
    ]
    assert source.spec.fields["labels"].meta["class_names"] == ("cats", "dogs")
