"""Tests of translation: padding, tiles, measured facts, bundles that translate pictures."""

import numpy as np
import pytest

from serving import uploads
from serving.errors import NotFiniteError, UsageError
from serving.inputs import Input, Port
from serving.translation import Plan, Translation, choose_tile

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
    plan = Plan(facts(1, 1, 1, 1), 64, 64, 16)
    made = []
    inputs = plan.inputs(np.zeros((64, 64, 3)), lambda x: made.append(1) or x)
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
