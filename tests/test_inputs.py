"""Declared inputs: how each is filled, checked and decoded, and the streams of a seed."""

import numpy as np
import pytest

from serving import UsageError, kinds, seeds
from serving.inputs import Input, Inputs, Port, decode_given

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
