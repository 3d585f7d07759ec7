"""Tests of uploaded pictures: formats, orientation, color profiles, alpha, bounds, damage."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from serving import uploads
from serving.errors import UsageError

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (6, 9, 3), np.uint8)


def encode(image, form="PNG", **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(width, height, depth, color_type, rows):
    """Writes a PNG by hand, of forms that Pillow does not write."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    data = b"".join(b"\0" + row for row in rows)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF"])
def test_lossless_formats(form):
    options = {"lossless": True} if form == "WEBP" else {}
    found = uploads.read(encode(COLOR, form, **options))
    assert found.pixels.dtype == np.uint8
    np.testing.assert_array_equal(found.pixels, COLOR)
    assert (found.alpha, found.gray, found.notes) == (None, False, ())


def test_jpeg_is_near():
    smooth = np.add.outer(np.arange(32) * 4, np.arange(48) * 2).astype(np.uint8)
    found = uploads.read(encode(np.stack([smooth] * 3, -1), "JPEG", quality=95, subsampling=0))
    assert found.pixels.shape == (32, 48, 3)
    assert np.abs(found.pixels[..., 0].astype(int) - smooth).max() < 12


def test_a_png_that_is_a_jpeg_is_read_by_its_content():
    assert uploads.read(encode(COLOR, "JPEG")).pixels.shape == (6, 9, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    transposes = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, -1),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: lambda x: np.rot90(x),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = uploads.read(encode(COLOR, exif=exif.tobytes()))
    np.testing.assert_array_equal(found.pixels, transposes[orientation](COLOR))


def test_damaged_exif_is_ignored():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff\0"
    found = uploads.read(encode(COLOR, exif=exif))
    np.testing.assert_array_equal(found.pixels, COLOR)


# ------------------------------------------------------------------------ alpha and gray


def test_alpha_is_composited_over_white():
    alpha = np.linspace(0, 255, 54).astype(np.uint8).reshape(6, 9)
    found = uploads.read(encode(np.dstack([COLOR, alpha])))
    np.testing.assert_array_equal(found.alpha, alpha)
    share = alpha[..., None] / 255
    expected = COLOR * share + 255 * (1 - share)
    assert np.abs(found.pixels - expected).max() <= 1
    np.testing.assert_array_equal(found.pixels[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(found.pixels[-1, -1], COLOR[-1, -1])


def test_an_opaque_alpha_is_kept():
    found = uploads.read(encode(np.dstack([COLOR, np.full((6, 9), 255, np.uint8)])))
    assert found.alpha is not None
    assert (found.alpha == 255).all()
    np.testing.assert_array_equal(found.pixels, COLOR)


def test_a_palette_with_transparency():
    image = Image.new("P", (4, 3), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 1), 1)
    found = uploads.read(encode(image, transparency=1))
    np.testing.assert_array_equal(found.pixels[0, 0], [10, 20, 30])
    assert found.alpha is not None
    assert found.alpha[1, 1] == 0
    assert found.alpha.sum() == 11 * 255
    np.testing.assert_array_equal(found.pixels[1, 1], [255, 255, 255])


def test_a_transparent_color():
    found = uploads.read(encode(COLOR, transparency=tuple(map(int, COLOR[2, 3]))))
    assert found.alpha is not None
    assert found.alpha[2, 3] == 0
    assert found.alpha[0, 0] == 255


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_gray_pictures(mode):
    image = Image.fromarray(COLOR).convert("L").convert(mode)
    found = uploads.read(encode(image))
    assert found.gray
    assert found.pixels.shape == (6, 9, 3)
    expected = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(found.pixels, np.stack([expected] * 3, -1))
    assert (found.alpha is None) == (mode != "LA")


def test_equal_channels_are_gray():
    assert uploads.read(encode(np.repeat(COLOR[..., :1], 3, axis=-1))).gray


def test_cmyk_becomes_rgb():
    image = Image.fromarray(np.full((8, 8, 3), [200, 40, 90], np.uint8)).convert("CMYK")
    found = uploads.read(encode(image, "JPEG", quality=100))
    assert np.abs(found.pixels.astype(int) - [200, 40, 90]).max() <= 3


# ------------------------------------------------------------------------ depth and profiles


def test_16_bits_of_gray_are_reduced():
    values = np.arange(0, 65536, 1214, dtype=np.uint16).reshape(6, 9)
    found = uploads.read(encode(values))
    np.testing.assert_array_equal(found.pixels[..., 0], values >> 8)
    assert found.gray
    assert any("16 bits" in note for note in found.notes)


def test_16_bits_of_color_are_reduced():
    values = RNG.integers(0, 65536, (3, 4, 3)).astype(">u2")
    found = uploads.read(png(4, 3, 16, 2, [row.tobytes() for row in values]))
    np.testing.assert_array_equal(found.pixels, values >> 8)
    assert any("16 bits" in note for note in found.notes)


def test_floats_are_refused():
    with pytest.raises(UsageError, match=r"8 or 16 bits per channel. Received: F"):
        uploads.read(encode(Image.new("F", (3, 3)), "TIFF"))


def test_an_srgb_profile_changes_nothing():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = uploads.read(encode(COLOR, icc_profile=profile))
    np.testing.assert_array_equal(found.pixels, COLOR)
    assert found.notes == ()


def swapped_profile():
    """An sRGB profile whose red and green primaries are exchanged."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.find(b"rXYZ"), data.find(b"gXYZ")
    data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


def test_a_profile_is_converted_to_srgb():
    found = uploads.read(encode(COLOR, icc_profile=swapped_profile()))
    swapped = COLOR[..., [1, 0, 2]].astype(int)
    assert np.abs(found.pixels - swapped).max() <= 2
    assert any("sRGB" in note for note in found.notes)


@pytest.mark.parametrize("profile", [b"no profile at all", b"\0" * 200])
def test_a_broken_profile_is_ignored(profile):
    found = uploads.read(encode(COLOR, icc_profile=profile))
    np.testing.assert_array_equal(found.pixels, COLOR)
    assert any("ignored" in note for note in found.notes)


def test_a_profile_of_other_channels_is_ignored():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    gray = Image.fromarray(COLOR).convert("L")
    found = uploads.read(encode(gray, icc_profile=profile))
    np.testing.assert_array_equal(found.pixels[..., 0], np.asarray(gray))
    assert found.gray
    assert any("ignored" in note for note in found.notes)


# ------------------------------------------------------------------------ bounds, damage


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation(form):
    frames = [Image.new("RGB", (8, 8), color) for color in ("#ff0000", "#0000ff")]
    options = {"lossless": True} if form == "WEBP" else {}
    content = encode(frames[0], form, save_all=True, append_images=frames[1:], **options)
    found = uploads.read(content)
    np.testing.assert_array_equal(found.pixels[0, 0], [255, 0, 0])
    assert found.notes == ("Of an animation, the first frame is used.",)


def test_one_pixel():
    assert uploads.read(encode(np.zeros((1, 1, 3), np.uint8))).pixels.shape == (1, 1, 3)
    assert uploads.read(encode(np.zeros((300, 1, 3), np.uint8))).pixels.shape == (300, 1, 3)


def test_the_header_decides_before_decoding():
    bomb = png(6000, 6000, 8, 2, [])  # no pixels at all: decoding it would fail in another way
    with pytest.raises(UsageError, match=r"at most 1000000 pixels. Received: 6000 x 6000"):
        uploads.read(bomb, 10**6)
    with pytest.raises(UsageError, match=r"at most 1000000 pixels\. Received"):
        uploads.read(png(60_000, 60_000, 8, 2, []), 10**6)
    assert uploads.read(encode(COLOR), 54).pixels.size
    with pytest.raises(UsageError, match=r"at most 53 pixels. Received: 9 x 6"):
        uploads.read(encode(COLOR), 53)


def test_damaged_files_are_one_line():
    whole = encode(RNG.integers(0, 256, (64, 64, 3), np.uint8))
    jpeg = encode(RNG.integers(0, 256, (64, 64, 3), np.uint8), "JPEG")
    webp = encode(RNG.integers(0, 256, (64, 64, 3), np.uint8), "WEBP")
    cases = [b"", b"\x89PNG", b"hello" * 100, whole[: len(whole) // 2], jpeg[: len(jpeg) // 2]]
    cases += [webp[: len(webp) // 2], b"<svg/>", b"%PDF-1.7", whole[:40]]
    for content in cases:
        with pytest.raises(UsageError) as caught:
            uploads.read(content)
        assert "\n" not in str(caught.value)
        assert "Received: " in str(caught.value)
        assert len(str(caught.value)) < 250
        assert "object at 0x" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_random_damage_never_raises_anything_else():
    contents = [encode(COLOR), encode(COLOR, "JPEG"), encode(COLOR, "WEBP"), encode(COLOR, "GIF")]
    contents += [encode(COLOR, "TIFF"), encode(COLOR, icc_profile=swapped_profile())]
    for content in contents:
        for _ in range(60):
            damaged = bytearray(content)
            for at in RNG.integers(0, len(damaged), 3):
                damaged[at] = RNG.integers(0, 256)
            try:
                found = uploads.read(bytes(damaged), 10**6)
            except UsageError:
                continue
            assert found.pixels.ndim == 3
            assert found.pixels.shape[-1] == 3


# ------------------------------------------------------------------------ writing


def test_written_pictures_are_read_again():
    alpha = RNG.integers(0, 256, (6, 9), np.uint8)
    for form in ("png", "webp"):
        np.testing.assert_array_equal(uploads.read(uploads.write(COLOR, format=form)).pixels, COLOR)
        with Image.open(io.BytesIO(uploads.write(COLOR, alpha, format=form))) as image:
            np.testing.assert_array_equal(np.asarray(image), np.dstack([COLOR, alpha]))


def test_gray_is_the_mean_of_the_channels():
    mean = np.rint(COLOR.mean(axis=-1)).astype(np.uint8)
    with Image.open(io.BytesIO(uploads.write(COLOR, gray=True))) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), mean)
    alpha = np.full((6, 9), 255, np.uint8)
    with Image.open(io.BytesIO(uploads.write(COLOR, alpha, gray=True))) as image:
        assert image.mode == "LA"
        np.testing.assert_array_equal(np.asarray(image), np.dstack([mean, alpha]))
    for form in ("jpeg", "webp"):
        assert uploads.read(uploads.write(COLOR, alpha, True, form)).gray


def test_jpeg_has_alpha_over_white():
    alpha = np.zeros((16, 16), np.uint8)
    found = uploads.read(uploads.write(np.zeros((16, 16, 3), np.uint8), alpha, format="jpeg"))
    assert found.alpha is None
    assert found.pixels.min() >= 254


def test_texts_are_in_the_png():
    with Image.open(io.BytesIO(uploads.write(COLOR, texts={"Model": "x"}))) as image:
        assert isinstance(image, PngImagePlugin.PngImageFile)
        assert image.text["Model"] == "x"


def test_what_cannot_be_written():
    with pytest.raises(UsageError, match=r"one of png, jpeg, webp\. Received: format='gif'"):
        uploads.write(COLOR, format="gif")
    with pytest.raises(UsageError, match="at most 16383 pixels high and wide; choose png"):
        uploads.write(np.zeros((1, 20_000, 3), np.uint8), format="webp")


def test_alpha_is_resized():
    full = np.full((3, 5), 255, np.uint8)
    assert (uploads.resize_alpha(full, 4) == 255).all()
    assert uploads.resize_alpha(full, 1) is full
    ramp = np.repeat(np.array([[0, 0, 0, 255, 255, 255]], np.uint8), 6, axis=0)
    large = uploads.resize_alpha(ramp, 4)
    assert large.shape == (24, 24)
    assert (large[:, :6] == 0).all()
    assert (large[:, -6:] == 255).all()
    assert (np.diff(large[10, 6:18].astype(int)) >= 0).all()
