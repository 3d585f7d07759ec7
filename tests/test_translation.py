"""Tests of translation: padding, tiles, measured facts, bundles that translate pictures."""

import json
import re
import shutil
import subprocess
import sys
import tracemalloc

import bundles
import keras
import numpy as np
import picture_networks
import pytest
import tiny
from PIL import Image

import export
from export.draft import open_draft
from export.examples import read_examples, write_examples
from export.golden import check_golden
from export.network import open_network
from export.translation import measure_translation
from keras_gan import Spec
from keras_gan.commands.exporting import with_stored_ranges
from keras_gan.spec import Field
from serving import Bundle, uploads
from serving.errors import NotFiniteError, UsageError
from serving.inputs import Input, Port
from serving.translation import Plan, Translation, choose_tile

L = keras.layers
EXAMPLES = [np.random.default_rng(1).integers(0, 256, (9, n, 3), np.uint8) for n in (5, 8)]
RNG = np.random.default_rng(0)
SIZES = [(1, 1), (4, 4), (16, 256), (193, 193), (432, 107), (54, 337), (7, 300), (64, 64)]


def facts(scale=1, multiple_of=1, min_side=1, radius=0, tileable=True, **more):
    return {
        "input": "condition",
        "output": "samples",
        "scale": scale,
        "multiple_of": multiple_of,
        "min_side": min_side,
        "radius": radius if tileable else None,
        "tileable": tileable,
        **more,
    }


def blur(x):
    """Mean of 3 x 3 pixels, with zeros beyond the border."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    parts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.sum(parts, axis=0) / 9


class Pyramid:
    """A small network: blurred blocks of `multiple` pixels plus blurred pixels, enlarged."""

    def __init__(self, multiple=1, scale=1, min_side=1):
        self.facts = facts(scale, multiple, min_side, 2 * multiple - 1 if multiple > 1 else 1)
        self.shapes = []

    def __call__(self, x):
        m, scale = self.facts["multiple_of"], self.facts["scale"]
        batch, height, width, channels = x.shape
        self.shapes.append(x.shape)
        assert height % m == width % m == 0
        assert min(height, width) >= self.facts["min_side"]
        blocks = x.reshape(batch, height // m, m, width // m, m, channels).mean(axis=(2, 4))
        y = blur(x) + 2 * blur(blocks).repeat(m, 1).repeat(m, 2)
        return y.repeat(scale, 1).repeat(scale, 2)


NETWORKS = [Pyramid(), Pyramid(8), Pyramid(1, 4), Pyramid(4, 2, 16), Pyramid(32, 3, 20)]


# ------------------------------------------------------------------------ plans


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: str(n.facts["multiple_of"]))
@pytest.mark.parametrize("size", SIZES)
def test_any_size_is_answered_exactly(network, size):
    picture = RNG.normal(size=(*size, 2))
    plan = Plan(network.facts, *size)
    answer = plan.assemble(map(network, plan.inputs(picture)))
    scale = network.facts["scale"]
    assert len(plan.tiles) == 1
    assert answer.shape == (size[0] * scale, size[1] * scale, 2)
    inputs = next(iter(plan.inputs(picture)))[0]
    np.testing.assert_array_equal(inputs[: size[0], : size[1]], picture)
    # Padded by the edge, at the bottom and on the right.
    np.testing.assert_array_equal(inputs[-1, : size[1]], picture[-1])
    np.testing.assert_array_equal(inputs[: size[0], -1], picture[:, -1])


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: str(n.facts["multiple_of"]))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tile", [1, 24, 50, 500])
def test_tiles_are_exact(network, size, tile):
    if tile == 1:
        size = tuple(min(n, 40) for n in size)
    picture = RNG.normal(size=(*size, 2))
    network.shapes.clear()
    whole, tiled = Plan(network.facts, *size), Plan(network.facts, *size, tile=tile)
    expected = whole.assemble(map(network, whole.inputs(picture)))
    network.shapes.clear()
    answer = tiled.assemble(map(network, tiled.inputs(picture)))
    np.testing.assert_allclose(answer, expected, atol=1e-12)
    assert len(set(network.shapes)) == 1  # so that tiles can share a batch


def structured(name, height, width):
    """Returns a picture that is not noise, in which a wrong place or border shows."""
    y, x = np.mgrid[:height, :width].astype(float)
    return {
        "ramps that wrap around": np.stack([(7 * x + 3 * y) % 256, (5 * y) % 64], -1),
        "checkerboard": np.stack([(x + y) % 2, (x // 8 + y // 8) % 2], -1),
        "bright border": np.stack([(y == 0) | (x == width - 1), (x == 0) | (y == height - 1)], -1),
        "one pixel": np.stack([(x == width // 2) & (y == height // 3), 0 * x], -1),
    }[name].astype(float)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: str(n.facts["multiple_of"]))
@pytest.mark.parametrize("size", [(193, 193), (54, 337)])
@pytest.mark.parametrize(
    "name", ["ramps that wrap around", "checkerboard", "bright border", "one pixel"]
)
def test_tiles_of_structured_pictures_are_exact(network, size, name):
    picture = structured(name, *size)
    whole = Plan(network.facts, *size)
    expected = whole.assemble(map(network, whole.inputs(picture)))
    assert np.ptp(expected) > 0
    for tile in (24, 50):
        tiled = Plan(network.facts, *size, tile=tile)
        answer = tiled.assemble(map(network, tiled.inputs(picture)))
        np.testing.assert_allclose(answer, expected, atol=1e-10)


def test_one_pixel_less_of_margin_is_not_enough():
    network = Pyramid(8)
    short = network.facts | {"radius": 0}
    picture = RNG.normal(size=(64, 64, 1))
    whole, tiled = Plan(network.facts, 64, 64), Plan(short, 64, 64, 16)
    expected = whole.assemble(map(network, whole.inputs(picture)))
    assert np.abs(tiled.assemble(map(network, tiled.inputs(picture))) - expected).max() > 1e-3


def test_tiles_cover_the_answer_once():
    plan = Plan(facts(2, 4, 1, 9), 61, 130, 24)
    count = np.zeros(plan.size, int)
    for tile in plan.tiles:
        assert tile.rows.start % 4 == tile.columns.start % 4 == 0
        count[tile.place] += 1
    assert (count == 1).all()


def test_tiles_are_made_as_they_are_asked_for():
    made = []

    class Counting(Plan):
        def cut(self, picture, tile):
            made.append(1)
            return super().cut(picture, tile)

    inputs = Counting(facts(1, 1, 1, 1), 64, 64, 16).inputs(np.zeros((64, 64, 3)))
    assert not made
    next(inputs)
    assert len(made) == 1


def test_a_network_that_cannot_be_tiled():
    whole = facts(tileable=False, multiple_of=4)
    assert len(Plan(whole, 30, 50).tiles) == 1
    with pytest.raises(UsageError, match=r"cannot be tiled, .*leave `tile` out. Received: tile=16"):
        Plan(whole, 30, 50, 16)
    with pytest.raises(UsageError, match=r"at most 1000 pixels. Received: 50 x 30"):
        Plan(whole, 30, 50, max_whole=1000)


@pytest.mark.parametrize("tile", [0, -1, 1.5, True, "large"])
def test_tiles_must_be_an_integer(tile):
    with pytest.raises(UsageError, match="`tile` must be"):
        choose_tile(facts(), 8, 8, tile)
    with pytest.raises(UsageError, match="`height` must be"):
        Plan(facts(), 0, 8)


def test_the_automatic_tile():
    assert choose_tile(facts(radius=15), 1024, 1024) is None
    assert choose_tile(facts(radius=15), 1025, 1024) == 512
    assert choose_tile(facts(radius=400), 4096, 4096) == 800
    assert choose_tile(facts(tileable=False), 4096, 4096) is None
    assert choose_tile(facts(), 4096, 4096, None) is None


def test_an_output_of_another_size_is_refused():
    plan = Plan(facts(2), 5, 6)
    with pytest.raises(UsageError, match=r"2 times the height and width of its input, \(1, 10, 12"):
        plan.assemble([np.zeros((1, 5, 6, 3))])


def test_random_sizes_from_1_to_300():
    network = Pyramid(16, 2)
    for height, width, tile in RNG.integers(1, 301, (40, 3)):
        picture = RNG.normal(size=(height, width, 1))
        whole, tiled = (
            Plan(network.facts, int(height), int(width), size) for size in (None, int(tile))
        )
        expected = whole.assemble(map(network, whole.inputs(picture)))
        assert expected.shape == (2 * height, 2 * width, 1)
        if tile > 20:
            answer = tiled.assemble(map(network, tiled.inputs(picture)))
            np.testing.assert_allclose(answer, expected, atol=1e-12)


# ------------------------------------------------------------------------ whole translations


PORT = Input("condition", "float32", ("height", "width", 3), "image", {"value_range": [-1, 1]})
RESULT = Port("samples", "float32", ("height", "width", 3), "image", {"value_range": [0, 1]})


def translate(picture, network, source=PORT, target=RESULT, tile=None, **more):
    translation = Translation(network.facts | more, source, target, picture, tile)
    return translation.answer(map(network, translation.inputs()))


class Invert(Pyramid):
    """From [-1, 1] to its negative in [0, 1], with a tint."""

    def __call__(self, x):
        scale = self.facts["scale"]
        y = np.float32(0.5) - x * np.float32(0.5) + np.array([0, 0.2, 0], np.float32)
        return y.repeat(scale, 1).repeat(scale, 2)


def test_value_ranges_are_those_of_the_ports():
    pixels = RNG.integers(60, 256, (5, 7, 3), np.uint8)
    answer = translate(uploads.Picture(pixels, None, False, ("a note",)), Invert())
    np.testing.assert_array_equal(answer.pixels, 255 - pixels + np.array([0, 51, 0], np.uint8))
    assert answer.notes == ("a note",)
    assert answer.alpha is None
    assert not answer.gray


def test_gray_stays_gray_only_where_color_keeps_its_meaning():
    pixels = np.full((4, 5, 3), 155, np.uint8)
    gray = uploads.Picture(pixels, None, True)
    tinted = translate(gray, Invert())
    assert not tinted.gray
    np.testing.assert_array_equal(tinted.pixels[0, 0], [100, 151, 100])
    kept = translate(gray, Invert(), gray="keep")
    assert kept.gray
    np.testing.assert_array_equal(kept.pixels[0, 0], [117, 117, 117])
    color = uploads.Picture(pixels, None, False)
    assert not translate(color, Invert(), gray="keep").gray


def test_alpha_is_resized_and_kept():
    pixels = np.full((4, 5, 3), 155, np.uint8)
    alpha = np.full((4, 5), 255, np.uint8)
    answer = translate(uploads.Picture(pixels, alpha, False), Invert(scale=4))
    assert answer.alpha is not None
    assert answer.alpha.shape == (16, 20)
    assert (answer.alpha == 255).all()


def test_one_channel_in_and_out():
    port = PORT.replace(shape=("height", "width", 1))

    def network(x):
        assert x.shape[-1] == 1
        return x * 0.5 + 0.5

    network.facts = facts()
    pixels = np.full((4, 5, 3), [255, 0, 0], np.uint8)
    answer = translate(uploads.Picture(pixels, None, False), network, port)
    assert answer.gray
    assert answer.pixels.shape == (4, 5, 3)
    assert np.abs(answer.pixels.astype(int) - 76).max() <= 1  # luma of pure red


def test_nan_is_refused():
    network = lambda x: np.full_like(x, np.nan)  # noqa: E731
    network.facts = facts()
    with pytest.raises(NotFiniteError, match="`samples` must be finite"):
        translate(uploads.Picture(np.zeros((2, 2, 3), np.uint8), None, False), network)


def test_a_large_picture_needs_little_memory():
    """4,096 x 4,096 pixels: the picture, its answer, and one tile at a time."""
    network = lambda x: x  # noqa: E731
    network.facts = facts(radius=16)
    pixels = np.broadcast_to(np.arange(4096, dtype=np.uint8)[:, None, None], (4096, 4096, 3))
    tracemalloc.start()
    answer = translate(uploads.Picture(pixels, None, False), network, target=PORT, tile="auto")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(answer.pixels, pixels)
    assert peak < 4096 * 4096 * 3 + 40e6  # bytes; floats of the whole picture would take 200e6


# ------------------------------------------------------------------------ measured facts


def measured(model, **options):
    found = measure_translation(open_network(model, **options))
    assert found is not None
    return found


def translates(model):
    return measure_translation(open_network(model)) is not None


def reach_of_all_phases(model, multiple, size=48):
    """The largest distance at which NaN has an effect, from all places of two multiples."""
    found = 0
    for row in range(multiple):
        for column in range(multiple):
            picture = np.zeros((1, size, size, 3), np.float32)
            at = (size // 2 // multiple * multiple + row, size // 2 // multiple * multiple + column)
            picture[0][at] = np.nan
            answer = np.isnan(model(picture)).any(axis=-1)[0]
            places = np.argwhere(answer) // (len(answer) // size)
            assert places.min() > 0
            assert places.max() < size - 1
            found = max(found, int(np.abs(places - at).max()))
    return found


def test_a_unet_with_stored_statistics():
    model = picture_networks.unet()
    before = [v.numpy() for v in model.variables]
    found = measured(model)
    assert found == facts(1, 4, 4, 10, input_channels="RGB", output_channels="RGB")
    assert reach_of_all_phases(model, 4) == 10
    for value, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())


def test_instance_normalization_cannot_be_tiled():
    found = measured(picture_networks.residual())
    assert found == facts(1, 2, 4, tileable=False, input_channels="RGB", output_channels="RGB")
    without = measured(picture_networks.residual(norm=False))
    assert without["tileable"]
    assert without["radius"] == reach_of_all_phases(picture_networks.residual(norm=False), 2)


def test_zero_weights_hide_nothing():
    """The last layers of a network for super-resolution begin at zero."""
    found = measured(picture_networks.enlarger())
    assert found == facts(4, 1, 1, 6, input_channels="RGB", output_channels="RGB", gray="keep")


def test_a_bicubic_skip_has_a_radius():
    x = picture_networks.condition()
    found = measured(keras.Model(x, picture_networks.Enlarge(3)(x)))
    assert (found["scale"], found["radius"], found["tileable"]) == (3, 2, True)


def test_maxima_that_drop_nan():
    picture = picture_networks.condition()
    x = L.Conv2D(4, 3, padding="same")(picture)
    x = L.MaxPooling2D(2, padding="same")(x)
    x = L.UpSampling2D(2)(L.Conv2D(4, 3, padding="same")(x))
    found = measured(keras.Model(picture, L.Conv2D(3, 1)(x)))
    # One pixel of the first convolution, one block of the second: from 2k + 1 to 2k + 5.
    assert (found["multiple_of"], found["radius"]) == (2, 4)


def test_a_network_that_knows_the_position_cannot_be_tiled():
    picture = picture_networks.condition()
    x = picture_networks.AddRows()(picture)
    found = measured(keras.Model(picture, L.Conv2D(3, 3, padding="same")(x)))
    assert (found["tileable"], found["radius"]) == (False, None)


def test_gray_is_kept_by_networks_that_keep_the_meaning_of_color():
    assert "gray" not in measured(picture_networks.unet())
    assert measured(picture_networks.unet(), role="restoration")["gray"] == "keep"
    colorizing = measured(picture_networks.unet(channels=(1, 3)), role="restoration")
    assert "gray" not in colorizing
    assert (colorizing["input_channels"], colorizing["output_channels"]) == ("L", "RGB")


def test_other_networks_do_not_translate():
    z = keras.Input((8,), name="latents")
    assert not translates(keras.Model(z, L.Reshape((2, 2, 3))(L.Dense(12)(z))))
    fixed = keras.Input((16, 16, 3), name="condition")
    assert not translates(keras.Model(fixed, L.Conv2D(3, 3, padding="same")(fixed)))
    two = [keras.Input((None, None, 3), name=name) for name in ("condition", "mask")]
    assert not translates(keras.Model(two, L.Add()(two)))
    x = picture_networks.condition()
    assert not translates(keras.Model(x, L.Conv2D(3, 3)(x)))  # 2 pixels smaller
    assert not translates(keras.Model(x, L.AveragePooling2D(2)(x)))  # half as large


# ------------------------------------------------------------------------ bundles


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bundles")


@pytest.fixture(scope="module")
def unet(folder):
    model = picture_networks.unet(features=True)
    bundles.unverified(model, folder / "unet")
    return Bundle(folder / "unet")


@pytest.fixture(scope="module")
def residual(folder):
    bundles.unverified(picture_networks.residual(), folder / "residual")
    return Bundle(folder / "residual")


@pytest.fixture(scope="module")
def enlarger(folder):
    """A complete export, compared with Keras at five sizes and three batch sizes."""
    model = picture_networks.enlarger(last="random_normal")
    export.export_bundle(model, folder / "enlarger", examples=EXAMPLES)
    return Bundle(folder / "enlarger")


def test_an_export_is_compared_at_five_sizes_and_three_batch_sizes(enlarger):
    manifest = export.Manifest.load(enlarger.path)
    assert manifest.translation == enlarger.manifest["translation"]
    assert len(manifest.sizes) == 5
    assert {"height": 1, "width": 1, "samples_height": 4, "samples_width": 4} in manifest.sizes
    for runtime in ("onnx", "saved_model"):
        rows = [r for r in manifest.parity["figures"] if re.fullmatch(f"{runtime}(, other.*)?", r)]
        assert len(rows) == 5
        for row in rows:
            figures = manifest.parity["figures"][row]
            assert figures.keys() == {"1", "5", "64"}
            assert max(figures.values()) <= 1e-5
    files = [f"golden{end}.npz" for end in ("", "_sizes", "_sizes_2", "_sizes_3", "_sizes_4")]
    shapes = set()
    for name in files:
        with np.load(enlarger.path / name) as golden:
            assert golden["samples"].shape[1:3] == tuple(
                4 * n for n in golden["condition"].shape[1:3]
            )
            shapes.add(golden["condition"].shape[1:])
    assert len(shapes) == 5
    assert export.verify_bundle(enlarger.path).ok


def test_the_input_has_the_range_of_stored_pictures_of_16_bits():
    field = Field("image", (None, None, 3))
    ranges = {"condition": [0, 4095], "samples": [0, 255]}
    spec = with_stored_ranges(Spec(fields={"samples": field, "condition": field}), ranges)
    _, draft = open_draft(picture_networks.enlarger(), spec=spec)
    assert draft.inputs[0].meta["stored_range"] == [0, 4095]
    assert "stored_range" not in draft.first.meta


def test_examples_are_in_the_bundle(enlarger):
    for number, example in enumerate(EXAMPLES):
        name = f"examples/{number}.png"
        assert name in enlarger.manifest["files"]
        with Image.open(enlarger.path / name) as image:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(example))
            assert not image.info.keys() & {"exif", "icc_profile"}


def test_examples_that_do_not_fit(tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "a.png").write_text("no picture")
    z = keras.Input((8,), name="latents")
    model = keras.Model(z, L.Reshape((2, 2, 3))(L.Dense(12)(z)))
    cases = {
        "1 to 16 pictures. Received: 17": [EXAMPLES[0]] * 17,
        "Received: 0 pictures": tmp_path / "none",
        "a folder of pictures": tmp_path / "nowhere",
        "must be a picture": [tmp_path / "a.png"],
        "a uint8 array": [np.zeros((2, 2, 3))],
    }
    for line, examples in cases.items():
        with pytest.raises(UsageError, match=line):
            export.export_bundle(model, tmp_path / "bundle", examples=examples)
    assert read_examples(EXAMPLES[:1]) == read_examples([Image.fromarray(EXAMPLES[0])])
    _, draft = open_draft(model)
    with pytest.raises(UsageError, match="for a network that translates pictures"):
        write_examples([b"png"], tmp_path, draft)


def test_outputs_that_only_terms_read_are_left_out(unet):
    assert [port.name for port in unet.outputs] == ["samples"]
    assert unet.manifest["translation"]["multiple_of"] == 4


ODD_SIZES = [(1, 1), (4, 4), (16, 256), (193, 193), (432, 1072), (543, 337)]


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("name", ["unet", "residual", "enlarger"])
def test_any_size_through_a_bundle(name, size, request):
    bundle = request.getfixturevalue(name)
    scale = bundle.manifest["translation"]["scale"]
    if scale > 1 and size[0] * size[1] > 10**5:
        size = (size[0] // 2, size[1] // 2)  # a quarter of the time
    pixels = RNG.integers(0, 256, (*size, 3), np.uint8)
    answer = bundle.translate(pixels)
    assert answer.shape == (size[0] * scale, size[1] * scale, 3)
    assert answer.dtype == np.uint8


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (64, 64), (193, 193), (130, 271)])
@pytest.mark.parametrize("name", ["unet", "enlarger"])
def test_tiles_equal_the_whole_picture(name, size, request):
    bundle = request.getfixturevalue(name)
    pixels = RNG.integers(0, 256, (*size, 3), np.uint8)
    whole = bundle.translate(pixels, tile=None)
    tiled = bundle.translate(pixels, tile=40)
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    values = RNG.uniform(-1, 1, (*size, 3)).astype(np.float32)
    whole, tiled = bundle.translate(values, None), bundle.translate(values, 40)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(tiled, whole, atol=2e-5)


def test_tiles_of_a_network_that_cannot_be_tiled(residual):
    pixels = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UsageError, match="cannot be tiled"):
        residual.translate(pixels, tile=64)
    with pytest.raises(UsageError, match=r"at most 4194304 pixels. Received: 3000 x 3000"):
        residual.translate(np.zeros((3000, 3000, 3), np.uint8))


def test_a_picture_is_not_split(unet):
    """A picture twice as wide as high is one picture, not a pair (pix2pix's test script)."""
    pixels = RNG.integers(0, 256, (20, 40, 3), np.uint8)
    assert unet.translate(pixels).shape == (20, 40, 3)


def test_each_form_is_answered_in_its_own(enlarger, tmp_path):
    pixels = RNG.integers(0, 256, (9, 7, 3), np.uint8)
    expected = enlarger.translate(pixels)
    image = enlarger.translate(Image.fromarray(pixels))
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), expected)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    for path in (tmp_path / "in.png", str(tmp_path / "in.png")):
        np.testing.assert_array_equal(np.asarray(enlarger.translate(path)), expected)
    values = pixels.astype(np.float32) / 127.5 - 1
    answer = enlarger.translate(values)
    floats = np.clip(np.rint((answer + 1) * 127.5), 0, 255).astype(int)
    assert np.abs(floats - expected).max() <= 1


def test_gray_and_alpha_of_each_form(enlarger):
    gray = RNG.integers(0, 256, (6, 5), np.uint8)
    flat = enlarger.translate(gray)
    assert flat.shape == (24, 20)
    assert enlarger.translate(gray[..., None]).shape == (24, 20, 1)
    colored = enlarger.translate(np.repeat(gray[..., None], 3, axis=-1))
    assert (colored == colored[..., :1]).all()
    np.testing.assert_array_equal(colored[..., 0], flat)
    assert enlarger.translate(Image.fromarray(gray)).mode == "L"
    assert enlarger.translate(Image.fromarray(gray).convert("RGB")).mode == "RGB"
    opaque = np.dstack([np.repeat(gray[..., None], 3, axis=-1), np.full((6, 5), 255, np.uint8)])
    answer = enlarger.translate(opaque)
    assert answer.shape == (24, 20, 4)
    assert (answer[..., 3] == 255).all()


def test_gray_drawings_may_have_answers_of_color(unet):
    answer = unet.translate(RNG.integers(0, 256, (8, 8), np.uint8))
    assert answer.shape == (8, 8, 3)
    assert (answer != answer[..., :1]).any()


def test_values_that_are_not_pictures(unet, tmp_path):
    for wrong in (np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3), np.int64), None, []):
        with pytest.raises(UsageError, match="must be"):
            unet.translate(wrong)
    with pytest.raises(UsageError, match=r"readable file. Received: .*none.png"):
        unet.translate(tmp_path / "none.png")
    with pytest.raises(UsageError, match=r"values in \[-1, 1\]"):
        unet.translate(np.full((4, 4, 3), 7.0))


def test_a_bundle_that_does_not_translate(tmp_path):
    bundle = Bundle(tiny.clothes(tmp_path / "clothes"))
    assert "translation" not in bundle.manifest
    with pytest.raises(UsageError, match=r"pictures of any height|needs a network from pictures"):
        bundle.translate(np.zeros((8, 8, 3), np.uint8))


def test_the_script_of_the_model_card(enlarger, tmp_path):
    """Exactly the text that a bundle's README shows, in a process without this project."""
    card = (enlarger.path / "README.md").read_text()
    scripts = re.findall(r"```python\n(.*?)\n```", card, re.DOTALL)
    script = next(text for text in scripts if "PIL.Image" in text)
    assert script.count("\n") <= 11
    for name in ("manifest.json", "model.onnx"):
        shutil.copy(enlarger.path / name, tmp_path)
    pixels = RNG.integers(0, 256, (11, 6, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    upright = enlarger.translate(np.rot90(pixels, -1))
    for given, expected in ((None, enlarger.translate(pixels)), (exif, upright)):
        Image.fromarray(pixels).save(tmp_path / "in.png", exif=given)
        subprocess.run([sys.executable, "-I", "-c", script], cwd=tmp_path, check=True, timeout=120)
        with Image.open(tmp_path / "out.png") as image:
            difference = np.asarray(image).astype(int) - expected
        assert np.abs(difference).max() <= 1


# ------------------------------------------------------------------------ manifests


def change_facts(bundle, to, **change):
    folder = shutil.copytree(bundle.path, to)
    found = bundle.manifest["translation"] | change
    found = {key: value for key, value in found.items() if value is not None or key == "radius"}
    bundles.edit(folder, translation=found)
    return folder


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"scale": 0}, r"`translation.scale` in manifest.json must be an integer from 1 to 4096"),
        ({"scale": None}, r"translation.scale=nothing"),
        ({"multiple_of": 2.0}, r"translation.multiple_of=2.0"),
        ({"min_side": True}, r"translation.min_side=True"),
        ({"tileable": 1}, r"`translation.tileable` in manifest.json must be true or false"),
        ({"radius": None}, r"`translation.radius`"),
        ({"tileable": False}, r"`translation.radius`"),
        ({"gray": "drop"}, r"`translation.gray` in manifest.json must be 'keep', or absent"),
        ({"input": "nothing"}, r"one of `inputs` that holds pictures of any size"),
        ({"output": 7}, r"`translation.output`"),
        ({"blend": 3}, r"`translation` in manifest.json must be an object with input, output"),
        ({"input_channels": "BGR"}, r"must be 'L' or 'RGB'"),
    ],
    ids=str,
)
def test_forged_facts_are_refused(unet, tmp_path, change, line):
    with pytest.raises(UsageError, match=line):
        Bundle(change_facts(unet, tmp_path / "forged", **change))


def test_a_network_that_breaks_its_facts(unet, tmp_path):
    bundle = Bundle(change_facts(unet, tmp_path / "forged", scale=3))
    with pytest.raises(UsageError, match="must return 3 times the height and width"):
        bundle.translate(np.zeros((8, 8, 3), np.uint8))


def test_bundles_without_facts_are_read(unet, tmp_path):
    """As earlier versions wrote them: without `translation`, with two tested sizes."""
    folder = shutil.copytree(unet.path, tmp_path / "old")
    content = json.loads((folder / "manifest.json").read_text())
    del content["translation"], content["parity"]["picture_sizes"]
    for number in (2, 3, 4):
        name = f"golden_sizes_{number}.npz"
        (folder / name).unlink(missing_ok=True)
        content["files"].pop(name, None)
    bundles.reseal(folder, content)
    manifest = export.Manifest.load(folder)
    assert manifest.translation is None
    assert len(manifest.sizes) == 2
    pictures = np.zeros((2, 8, 8, 3), np.float32)
    assert Bundle(folder).generate(condition=pictures).shape == (2, 8, 8, 3)
    assert check_golden(folder, manifest) == []
