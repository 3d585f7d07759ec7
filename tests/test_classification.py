"""Tests of `Bundle.classify`: forms of pictures, sizes, notes, and wrong input."""

import numpy as np
import pytest
import tiny
from PIL import Image

from serving import Bundle, NotFiniteError, UsageError
from serving.classification import Classification

SIZE = (4, 6)  # height and width


def write(to, channels=3, names=tiny.NAMES, shape=None, scale=1.0, name="colors"):
    """Writes a classifier whose probabilities are the softmax of the means of three rows.

    The logit of class n is the sum of the values of row n.
    """
    shape = (*SIZE, channels) if shape is None else shape
    kernel = np.zeros((*shape, 3), np.float32)
    for number in range(3):
        kernel[number, ..., number] = scale
    return tiny.linear_classifier(to, name, shape, kernel.reshape(-1, 3), names)


def expected(values, scale=1.0):
    """Returns the probabilities and the novelty of one sample of floats."""
    logits = scale * np.float64(values).reshape(len(values), -1).sum(1)[:3]
    exponents = np.exp(logits)
    return exponents / exponents.sum(), float(np.log(exponents.sum()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture(scope="module")
def color(folder):
    return Bundle(write(folder / "color"))


@pytest.fixture(scope="module")
def gray(folder):
    return Bundle(write(folder / "gray", channels=1, names=()))


def pixels(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def values(array):
    return np.float64(array) / 127.5 - 1


def same(found, other):
    np.testing.assert_allclose(found.probabilities, other.probabilities, rtol=0, atol=1e-6)
    assert found.novelty == pytest.approx(other.novelty, abs=1e-4)


def test_the_probabilities_and_the_novelty_of_a_picture(color):
    picture = pixels(*SIZE)
    found = color.classify(picture)
    probabilities, novelty = expected(values(picture))
    assert isinstance(found, Classification)
    np.testing.assert_allclose(found.probabilities, probabilities, atol=1e-5)
    assert found.novelty == pytest.approx(novelty, abs=1e-4)
    best = int(probabilities.argmax())
    assert found.label == tiny.NAMES[best]
    (first,) = found.top(1)
    assert (first.id, first.name) == (best, tiny.NAMES[best])
    assert first.probability == pytest.approx(probabilities[best], abs=1e-5)
    assert [x.id for x in found.top()] == np.argsort(-probabilities).tolist()
    assert found.notes == ()
    assert found.size == SIZE


def test_all_forms_of_a_picture_have_one_answer(color, tmp_path):
    picture = pixels(*SIZE)
    wanted = color.classify(picture)
    Image.fromarray(picture).save(tmp_path / "a.png")
    opaque = np.concatenate([picture, np.full((*SIZE, 1), 255, np.uint8)], -1)
    forms = [tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(picture), opaque]
    forms.append(np.float32(values(picture)))
    for found in [*map(color.classify, forms), *color.classify(forms, batch_size=2)]:
        np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-6)
    other = pixels(*SIZE, seed=1)
    for batch in (
        np.stack([picture, other]),
        [picture, other],
        np.float32(values([picture, other])),
    ):
        first, second = color.classify(batch)
        np.testing.assert_allclose(first.probabilities, wanted.probabilities, atol=1e-6)
        np.testing.assert_allclose(second.probabilities, expected(values(other))[0], atol=1e-5)
    assert color.classify([]) == []
    assert color.classify(np.zeros((0, *SIZE, 3), np.uint8)) == []


def test_gray_pictures_without_an_axis_of_channels(gray):
    batch = pixels(5, SIZE[0] * SIZE[1], 1).reshape(5, *SIZE)
    found = gray.classify(batch)
    assert len(found) == 5
    for one, picture in zip(found, batch, strict=True):
        same(gray.classify(picture), one)
        same(gray.classify(picture[..., np.newaxis]), one)
        same(gray.classify(np.float32(values(picture))), one)
        np.testing.assert_allclose(one.probabilities, expected(values(picture))[0], atol=1e-5)
    assert found[0].label == str(int(found[0].probabilities.argmax()))  # classes without names


def test_a_picture_is_cropped_and_resized_and_a_note_says_so(color, gray):
    wide = np.full((8, 40, 3), (255, 0, 0), np.uint8)
    wide[:, 14:26] = 255  # the center of the shape 4 x 6, in white
    found = color.classify(wide)
    note = "The picture was cropped around its center and resized from 40 x 8 to 6 x 4 pixels."
    assert found.notes == (note,)
    assert found.size == (8, 40)
    same(found, color.classify(np.full((*SIZE, 3), 255, np.uint8)))
    (note,) = color.classify(np.full((40, 60, 3), 9, np.uint8)).notes
    assert note == "The picture was resized from 60 x 40 to 6 x 4 pixels."
    red = gray.classify(np.full((*SIZE, 3), (255, 0, 0), np.uint8))
    assert red.notes == ("The colors were reduced to gray.",)
    same(red, gray.classify(np.full(SIZE, 76, np.uint8)))  # the luma of ITU-R BT.601
    clear = np.zeros((*SIZE, 4), np.uint8)
    found = color.classify(clear)
    assert found.notes == ("Transparent parts are shown over white.",)
    same(found, color.classify(np.full((*SIZE, 3), 255, np.uint8)))
    tall = color.classify(np.full((300, 1, 3), 255, np.uint8))
    assert "cropped" in tall.notes[0]


def test_an_image_is_turned_upright(color, tmp_path):
    picture = pixels(*SIZE)
    image = Image.fromarray(np.rot90(picture))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=exif)
    found = color.classify(tmp_path / "turned.png")
    assert found.notes == ("The picture was turned upright by its EXIF orientation.",)
    same(found, color.classify(picture))


def test_a_classifier_of_points_takes_arrays(folder):
    bundle = Bundle(write(folder / "points", shape=(5,), name="points"))
    rows = np.float32([[0.5, -0.5, 0.2, 0, 1], [1, 1, 1, 0, 0]])
    first, second = bundle.classify(rows)
    np.testing.assert_allclose(first.probabilities, expected(rows[0][:3, None])[0], atol=1e-6)
    np.testing.assert_allclose(second.probabilities, 1 / 3, atol=1e-6)
    same(bundle.classify(rows[0]), first)
    with pytest.raises(UsageError, match=r"takes arrays of floats .* of kind 'points'"):
        bundle.classify("picture.png")
    assert bundle.classifier.describe() is None


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("missing.png", r"must be a readable file. Received: 'missing.png'"),
        (3, r"a path, an image of Pillow, or an array .* Received: int 3"),
        (None, r"Received: NoneType None"),
        (np.zeros((4, 6, 3), np.int64), r"a path, an image of Pillow, or an array"),
        (np.zeros((4, 6, 2), np.uint8), r"must be of the shape .* Received: shape=\(4, 6, 2\)"),
        (np.zeros((0, 6, 3), np.uint8), r"a path, an image of Pillow, or an array"),
        (np.zeros((5, 6, 3), np.float32), r"must have the shape \(batch, 4, 6, 3\)"),
        (np.full((4, 6, 3), 255.0), r"values in \[-1, 1\]"),
        (np.full((4, 6, 3), np.nan), r"must be finite"),
        ([np.zeros((4, 6, 3), np.uint8), "missing.png"], r"must be a readable file"),
    ],
)
def test_wrong_pictures_are_refused_in_one_line(color, given, error):
    with pytest.raises(UsageError, match=error) as caught:
        color.classify(given)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_format(color, tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(UsageError, match=r"must be a readable PNG.* Received: 7 bytes of another"):
        color.classify(tmp_path / "a.png")


def test_a_bundle_of_another_role_is_refused(folder):
    bundle = Bundle(tiny.clothes(folder / "clothes"))
    with pytest.raises(UsageError, match=r"A classifier has the role 'classifier'") as caught:
        bundle.classify(pixels(8, 8))
    assert str(caught.value).endswith(
        "Received: bundle 'clothes' of role 'generator', with samples of kind image"
    )
    assert bundle.classifier is None


def test_outputs_that_are_not_finite_are_an_error(folder):
    bundle = Bundle(write(folder / "overflow", scale=3e38, name="overflow"))
    with pytest.raises(NotFiniteError, match=r"must be finite numbers. Received: NaN or infinity"):
        bundle.classify(np.full((*SIZE, 3), 255, np.uint8))
