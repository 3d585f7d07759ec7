"""Declared inputs: how each is filled, checked and decoded, and the streams of a seed."""

import struct

import numpy as np
import pytest

from serving import UsageError, kinds, seeds
from serving.inputs import Input, Inputs, Port, decode_given
from serving.labels import several

SEEDS = np.array([0, 1, 7, 2**40, 2**63 - 1], np.int64)

LATENTS = Input("latents", "float32", (3,), "array", fill="normal")
LABELS = Input("labels", "int64", (), "label", {"num_classes": 4}, fill="class", stream=1)
NOISE = Input("noise", "float32", ("height", "width", 1), "array", fill="normal", stream=2)
STYLE = Input("style", "float32", (2,), "array", fill="uniform", stream=3, value=(-1.0, 1.0))
TRUNCATION = Input("truncation", "float32", (), "array", fill="constant", value=0.7)
PICTURE = Input("picture", "float32", ("height", "width", 3), "image", {"value_range": [-1, 1]})


def test_stream_0_is_the_latents_and_others_are_independent():
    np.testing.assert_array_equal(seeds.normals(SEEDS, 5, 0), seeds.latents_from_seeds(SEEDS, 5))
    drawn = [seeds.normals(np.arange(4000), 3, stream) for stream in (0, 1, 2, 2**31)]
    flat = np.stack([x.reshape(-1) for x in drawn])
    np.testing.assert_allclose(np.corrcoef(flat), np.eye(4), atol=0.04)
    np.testing.assert_allclose(flat.mean(axis=1), 0, atol=0.03)
    np.testing.assert_allclose(flat.std(axis=1), 1, atol=0.03)


def test_a_counter_of_a_stream_is_the_pair_and_the_stream():
    key = (np.array([7], np.uint32), np.array([256], np.uint32))
    seed = np.array([7 + 256 * 2**32], np.int64)
    for pair, stream in ((0, 3), (2, 9)):
        words = seeds.threefry_2x32(key, (np.array([pair]), np.array([stream])))
        counter = tuple(np.array([n], np.uint32) for n in (pair, stream))
        words = seeds.threefry_2x32(key, counter)
        u = [(int(w[0]) + 0.5) / 2**32 for w in words]
        z = np.sqrt(-2 * np.log(u[0])) * np.cos(2 * np.pi * u[1])
        np.testing.assert_allclose(seeds.normals(seed, 6, stream)[0, 2 * pair], z, rtol=1e-6)


def test_uniform_numbers_fill_their_limits():
    drawn = seeds.uniforms(np.arange(5000), 3, 1)
    assert drawn.dtype == np.float32
    assert 0 <= drawn.min() < 0.001
    assert 0.999 < drawn.max() < 1
    np.testing.assert_allclose(drawn.mean(), 0.5, atol=0.01)
    filled = Inputs([STYLE]).fill(np.arange(1000))["style"]
    assert filled.shape == (1000, 2)
    assert -1 <= filled.min() < -0.98
    assert 0.98 < filled.max() < 1


def test_classes_follow_the_seed_or_their_frequencies():
    assert seeds.classes_from_seeds(SEEDS, 4).tolist() == [0, 1, 3, 0, 3]
    drawn = seeds.classes_from_seeds(np.arange(20_000), 3, [1, 0, 3], stream=1)
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 20_000, [0.25, 0, 0.75], atol=0.01)


def test_every_input_is_filled_by_its_declaration():
    inputs = Inputs([LATENTS, LABELS, NOISE, STYLE, TRUNCATION, PICTURE])
    picture = np.zeros((1, 4, 6, 3), np.float32)
    given = inputs.check_given({"picture": picture}, count=len(SEEDS))
    feeds = inputs.fill(SEEDS, truncation=0.5, given=given)
    assert list(feeds) == ["latents", "labels", "noise", "style", "truncation", "picture"]
    assert {name: x.shape for name, x in feeds.items()} == {
        "latents": (5, 3),
        "labels": (5,),
        "noise": (5, 4, 6, 1),  # of the size of the given picture
        "style": (5, 2),
        "truncation": (5,),
        "picture": (5, 4, 6, 3),
    }
    np.testing.assert_array_equal(feeds["latents"], seeds.normals(SEEDS, 3, 0))  # no factor
    np.testing.assert_array_equal(feeds["truncation"], np.full(5, 0.5, np.float32))
    np.testing.assert_array_equal(feeds["noise"].reshape(5, -1), seeds.normals(SEEDS, 24, 2))
    assert feeds["labels"].tolist() == [0, 1, 3, 0, 3]
    labeled = inputs.fill(SEEDS, labels=np.array([3] * 5), given=given)
    assert labeled["labels"].tolist() == [3] * 5


def test_truncation_is_a_factor_where_no_input_has_its_name():
    inputs = Inputs([LATENTS, STYLE])
    whole, half = inputs.fill(SEEDS), inputs.fill(SEEDS, truncation=0.5)
    np.testing.assert_allclose(half["latents"], whole["latents"] * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(half["style"], whole["style"])
    own = inputs.check_given({"latents": np.ones((5, 3))}, count=5)
    np.testing.assert_array_equal(inputs.fill(SEEDS, truncation=0.5, given=own)["latents"], 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"'picture' of kind 'image' must be given. Received: none"),
        ({"x": 1}, r"The inputs are latents, picture. Received: 'x'"),
        ({"picture": np.zeros((1, 4, 6, 1))}, r"\(batch, height, width, 3\).*shape=\(1, 4, 6, 1\)"),
        ({"picture": np.zeros((4, 6, 3))}, r"Received: shape=\(4, 6, 3\)"),
        ({"picture": np.full((1, 2, 2, 3), np.nan)}, r"must be finite. Received: NaN"),
        ({"picture": np.zeros((1, 2, 2, 3), "S1")}, r"of dtype float32. Received: \|S1"),
        ({"picture": np.zeros((2, 2, 2, 3))}, r"one for each of 5. Received: 2"),
    ],
)
def test_given_inputs_are_checked(given, message):
    with pytest.raises(UsageError, match=message):
        Inputs([LATENTS, PICTURE]).check_given(given, count=5)


VIDEO = Input("film", "float32", (2, 4, 4, 1), "video", {"value_range": [0.0, 1.0]})
SOUND = Input("sound", "float32", ("time", 1), "audio", {"value_range": [-1.0, 1.0]})
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("limits", [(-1, 1), (0, 1), (0, 255), (-0.5, 2.5)])
@pytest.mark.parametrize("form", ["png", "webp"])
def test_uint8_pixels_are_scaled_as_those_of_a_file(limits, form):
    port = PICTURE.replace(meta={"value_range": list(limits)})
    pixels = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    pixels[0, 0] = 0, 1, 255
    as_floats = pixels / 255 * (limits[1] - limits[0]) + limits[0]
    kind = kinds.get("image")
    content = kind.encode(as_floats.astype("f4"), form, port.meta)
    read = decode_given(port, content, f"image/{form}")
    for given in (pixels[np.newaxis], np.stack([pixels] * 2), pixels[np.newaxis].tobytes()):
        if isinstance(given, bytes):
            array = decode_given(port, kind.encode(pixels, "npy"), "application/x-npy")
        else:
            array = Inputs([port]).check_given({"picture": given})["picture"]
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.broadcast_to(read, array.shape))
    np.testing.assert_allclose(read[0], as_floats, rtol=1e-6, atol=1e-6)


def test_stored_integers_of_other_kinds_are_scaled_too():
    frames = RNG.integers(0, 256, (1, 2, 4, 4, 1), dtype=np.uint8)
    film = Inputs([VIDEO]).check_given({"film": frames})["film"]
    np.testing.assert_allclose(film, frames / 255, rtol=1e-6)
    waves = np.array([[[-(2**15)], [-1], [0], [12345], [2**15 - 1]]], np.int16)
    sound = Inputs([SOUND]).check_given({"sound": waves})["sound"]
    np.testing.assert_array_equal(sound, waves / 2.0**15)
    wav = b"RIFF\x2e\0\0\0WAVEfmt \x10\0\0\0" + struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    wav += b"data\x0a\0\0\0" + waves.astype("<i2").tobytes()
    np.testing.assert_array_equal(decode_given(SOUND, wav, "audio/wav"), sound)
    # uint8 is a dtype of numbers where a kind is not stored in it, and int64 everywhere.
    plain = Inputs([Input("x", "float32", (2,), "points")]).check_given(
        {"x": np.array([[7, 255]], np.uint8)}
    )
    assert plain["x"].tolist() == [[7, 255]]
    whole = Inputs([PICTURE]).check_given({"picture": np.full((1, 2, 2, 3), -1, np.int64)})
    assert set(whole["picture"].ravel()) == {-1}
    levels = Input("picture", "uint8", (2, 2, 3), "image", {"value_range": [-1, 1]})
    kept = Inputs([levels]).check_given({"picture": np.full((1, 2, 2, 3), 9, np.uint8)})
    assert (kept["picture"].dtype, kept["picture"].max()) == (np.uint8, 9)


def low_high(low, high, shape=(1, 2, 2, 3), dtype="float32"):
    values = np.full(shape, low, dtype)
    values.flat[-1] = high
    return values


@pytest.mark.parametrize(
    ("port", "values", "rule"),
    [
        (PICTURE, low_high(0, 255), r"\[-1, 1\] \(from 0..255: x / 127.5 - 1\).*from 0 to 255"),
        (PICTURE, low_high(0, 255, dtype="int64"), r"\[-1, 1\] .*values from 0 to 255"),
        (PICTURE, low_high(-1, 1.01), r"values in \[-1, 1\]. Received: values from -1 to 1.01"),
        (PICTURE, low_high(-3.5, 0, dtype="float16"), r"values from -3.5 to 0"),
        (PICTURE, low_high(0, 1e9, (3, 2, 2, 3)), r"values from 0 to 1e\+09"),
        (PICTURE, low_high(0, np.inf), r"'picture' must be finite. Received: NaN or infinity"),
        (PICTURE, low_high(-np.inf, 300), r"'picture' must be finite. Received: NaN or infinity"),
        (PICTURE, low_high(300, np.nan), r"'picture' must be finite. Received: NaN or infinity"),
        (VIDEO, low_high(-1, 1, (1, 2, 4, 4, 1)), r"'film' must .* \[0, 1\]. .*from -1 to 1"),
        (VIDEO, low_high(0, 255, (1, 2, 4, 4, 1)), r"\(from 0..255: x / 255\)"),
        (SOUND, low_high(-32768, 9, (1, 5, 1)), r"'sound' must .*values from -32768 to 9"),
        (
            Input("x", "float64", (2,), "points", {"value_range": [-4.0, 4.0]}),
            [[0.5, -4.5]],
            r"'x' must have values in \[-4, 4\]. Received: values from -4.5 to 0.5",
        ),
    ],
)
@pytest.mark.filterwarnings("error::UserWarning")
def test_values_outside_the_range_of_an_input_are_refused(port, values, rule):
    with pytest.raises(UsageError, match=rule) as caught:
        Inputs([port]).check_given({port.name: values})
    assert "\n" not in str(caught.value)


def test_rounding_is_a_share_of_the_range():
    wide = Input("x", "float32", (1,), "points", {"value_range": [0.0, 1e6 / 3]})
    assert Inputs([wide]).check_given({"x": [[1e6 / 3]]})["x"] == np.float32(1e6 / 3)
    narrow = Input("x", "float32", (1,), "points", {"value_range": [-1e-4, 1e-4]})
    with pytest.raises(UsageError, match=r"values from 0\.001 to 0\.001"):
        Inputs([narrow]).check_given({"x": [[1e-3]]})


def test_values_within_the_range_of_an_input_are_kept():
    for low, high in ((-1, 1), (0, 1), (0, 0), (-1.0009, 1.0009)):
        values = low_high(low, high)
        kept = Inputs([PICTURE]).check_given({"picture": values})["picture"]
        np.testing.assert_array_equal(kept, values)
    for port in (LATENTS, Input("x", "float32", (2,), "points"), STYLE):
        far = np.full((1, *port.shape), 1e6)
        assert Inputs([port]).check_given({port.name: far})[port.name].max() == 1e6
    # Token ids have no range, though the weights of tokens do.
    ids = Input("text", "int64", ("time",), "text", {"value_range": [0.0, 1.0]})
    assert Inputs([ids]).check_given({"text": [[4, 9]]})["text"].tolist() == [[4, 9]]
    assert Inputs([PICTURE]).check_given({"picture": np.ones((0, 2, 2, 3))})["picture"].size == 0


def test_labels_and_integers_are_checked():
    inputs = Inputs([LABELS])
    with pytest.raises(UsageError, match=r"A label must be 0 to 3. Received: 4"):
        inputs.check_given({"labels": [0, 4]})
    with pytest.raises(UsageError, match=r"of dtype int64. Received: float64"):
        inputs.check_given({"labels": [0.5]})
    small = Inputs([Input("ids", "uint8", (2,))])
    with pytest.raises(UsageError, match=r"must fit uint8. Received: values from 0 to 300"):
        small.check_given({"ids": [[0, 300]]})


def test_two_inputs_of_one_named_size_must_agree():
    mask = Input("mask", "float32", ("height", "width", 1))
    given = {"picture": np.zeros((1, 4, 6, 3)), "mask": np.zeros((1, 4, 5, 1))}
    inputs = Inputs([PICTURE, mask, NOISE])
    with pytest.raises(UsageError, match=r"one size 'width'. Received: 6 and 5"):
        inputs.fill(SEEDS[:1], given=inputs.check_given(given))
    with pytest.raises(UsageError, match=r"'height' of the input 'noise' follows a given input"):
        Inputs([NOISE]).fill(SEEDS)


def test_a_port_survives_json():
    for port in (LATENTS, LABELS, NOISE, STYLE, TRUNCATION, PICTURE):
        assert Input.from_json(port.to_json()) == port
    output = Port("samples", "float32", (8, 8, 1), "image", {"value_range": [-1, 1]})
    assert Port.from_json(output.to_json()) == output
    assert NOISE.to_json()["shape"] == ["batch", "height", "width", 1]
    assert NOISE.is_dynamic
    assert NOISE.sizes == (None, None, 1)


def test_a_file_of_the_kind_becomes_an_array():
    sample = np.random.default_rng(0).uniform(-1, 1, (4, 6, 3)).astype("float32")
    content = kinds.get("image").encode(sample, "png")
    read = decode_given(PICTURE, content, "image/png")
    assert read.shape == (1, 4, 6, 3)
    np.testing.assert_allclose(read[0], sample, atol=1 / 255)
    with pytest.raises(UsageError, match=r"takes files of image/png.*Received: 'audio/wav'"):
        decode_given(PICTURE, content, "audio/wav")


@pytest.mark.parametrize(
    ("labels", "listed"),
    [
        ("shoe", None),
        (b"shoe", None),
        (np.array(1), None),
        (np.int64(1), None),
        (["shoe"], ["shoe"]),
        (np.array([1, 2]), [1, 2]),
        (range(2), [0, 1]),
    ],
    ids=repr,
)
def test_one_label_and_several(labels, listed):
    assert several(labels) == listed
