"""Latents of seeds: published vectors, and the two implementations against each other."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from keras_gan import UsageError, latents
from serving import seeds as numpy_latents
from serving.seeds import check_seeds

ALL_ONES = 0xFFFFFFFF
DOC = Path(__file__).parents[1] / "docs" / "seeds.md"

# Random123's kat_vectors: counter, key, words of threefry2x32 with 20 rounds.
KNOWN_ANSWERS = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((ALL_ONES, ALL_ONES), (ALL_ONES, ALL_ONES), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


def many_seeds() -> np.ndarray:
    random = np.random.default_rng(0).integers(0, 2**63 - 1, 1000)
    edges = [0, 1, 2**32 - 1, 2**32, 2**62, 2**63 - 1]
    return np.concatenate([np.arange(200), random, np.array(edges, np.int64)])


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_threefry_returns_the_published_words(counter, key, words):
    as_tf = [tuple(tf.constant([word], tf.int64) for word in pair) for pair in (key, counter)]
    as_numpy = [tuple(np.array([word], np.uint32) for word in pair) for pair in (key, counter)]
    assert tuple(int(x[0]) for x in latents.threefry_2x32(*as_tf)) == words
    assert tuple(int(x[0]) for x in numpy_latents.threefry_2x32(*as_numpy)) == words


def test_both_return_the_latents_of_the_documentation():
    rows = re.findall(r"^\| (\d+) \|((?: -?[\d.]+ \|){5})$", DOC.read_text(), re.MULTILINE)
    assert len(rows) == 4
    for seed, columns in rows:
        expected = np.array([float(x) for x in columns.split("|")[:5]], np.float32)
        for draw in (latents.latents_from_seeds, numpy_latents.latents_from_seeds):
            np.testing.assert_array_max_ulp(np.asarray(draw([int(seed)], 5))[0], expected, 1)


@pytest.mark.parametrize("jit", [False, True])
def test_tensorflow_and_numpy_agree(jit):
    seeds = many_seeds()
    draw = tf.function(lambda s: latents.latents_from_seeds(s, 65), jit_compile=jit)
    in_tf, in_numpy = draw(seeds).numpy(), numpy_latents.latents_from_seeds(seeds, 65)
    assert in_tf.dtype == in_numpy.dtype == np.float32
    # They agree bit for bit with present libraries; 1e-6 allows the last bit of another libm.
    np.testing.assert_allclose(in_tf, in_numpy, rtol=1e-6, atol=1e-6)


def test_a_sample_does_not_depend_on_batch_or_length():
    together = numpy_latents.latents_from_seeds(range(64), 33)
    alone = numpy_latents.latents_from_seeds([17], 7)
    np.testing.assert_array_equal(together[17, :7], alone[0])
    np.testing.assert_array_equal(latents.latents_from_seeds([17], 7).numpy(), alone)


@pytest.mark.parametrize("latent_dim", [1, 2, 7, 64])
def test_a_few_seeds_are_drawn_by_other_code_to_the_same_bits(latent_dim):
    seeds = many_seeds()
    together = numpy_latents.latents_from_seeds(seeds, latent_dim)
    pairs = (latent_dim + 1) // 2
    assert len(seeds) * pairs > numpy_latents._FEW >= 5 * pairs
    for first in (0, 199, 1196, len(seeds) - 5):
        few = numpy_latents.latents_from_seeds(seeds[first : first + 5], latent_dim)
        np.testing.assert_array_equal(few, together[first : first + 5])
        one = numpy_latents.latents_from_seeds(seeds[first], latent_dim)
        np.testing.assert_array_equal(one, together[first : first + 1])
        assert few.dtype == np.float32
        assert few.flags.c_contiguous


def test_latents_are_standard_normal_and_independent():
    drawn = numpy_latents.latents_from_seeds(range(20_000), 8)
    for column in drawn.T:
        assert stats.kstest(column, "norm").pvalue > 1e-4
    correlation = np.corrcoef(drawn.T) - np.eye(8)
    neighbors = np.corrcoef(drawn[:-1, 0], drawn[1:, 0])[0, 1]
    assert np.abs(correlation).max() < 0.04
    assert abs(neighbors) < 0.04


def test_different_seeds_have_different_latents():
    drawn = numpy_latents.latents_from_seeds(many_seeds(), 4)
    assert len(np.unique(drawn, axis=0)) == len(np.unique(many_seeds()))


def test_labels_are_the_seed_modulo_the_classes():
    seeds = [0, 9, 10, 2**63 - 1]
    expected = [0, 9, 0, (2**63 - 1) % 10]
    assert latents.labels_from_seeds(seeds, 10).numpy().tolist() == expected
    labels = numpy_latents.labels_from_seeds(seeds, 10)
    assert labels.tolist() == expected
    assert labels.dtype == np.int64


@pytest.mark.parametrize(
    "seeds", [[-1], [2**63], 0.5, [1.5], "7", [[1]], [2**70], [True], None, [True, 2**70]]
)
def test_other_values_than_seeds_are_refused(seeds):
    with pytest.raises(UsageError, match="Received: seeds="):
        check_seeds(seeds)
    with pytest.raises(UsageError, match="Received: seeds="):
        numpy_latents.latents_from_seeds(seeds, 4)


@pytest.mark.parametrize(
    "seeds",
    [
        -1,
        [3, 2**63],
        [-1, 2**63],
        [0, 2**64],
        2**70,
        range(-1, 2),
        [0, 10**5000],
        [np.int8(-1), 2**64],
    ],
)
def test_an_integer_out_of_range_is_refused(seeds):
    rule = r"A seed must be at least 0 and below 2\*\*63\. Received: seeds="
    with pytest.raises(UsageError, match=rule):
        check_seeds(seeds)


def test_seeds_may_be_an_integer_a_range_or_any_integer_array():
    for seeds in (3, range(3, 4), [3], np.array([3], np.uint8), np.array([3], object)):
        assert check_seeds(seeds).tolist() == [3]
    mixed = [np.int8(3), np.uint64(2**63 - 1)]  # which numpy turns into float64
    for seeds in (mixed, np.array(mixed, object)):
        assert check_seeds(seeds).tolist() == [3, 2**63 - 1]
    assert numpy_latents.latents_from_seeds([], 4).shape == (0, 4)


@pytest.mark.parametrize("stream", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_streams_agree_in_tensorflow_and_numpy(size, stream):
    seeds = many_seeds()
    for name in ("normals", "uniforms"):
        in_tf = getattr(latents, name)(seeds, size, stream).numpy()
        in_numpy = getattr(numpy_latents, name)(seeds, size, stream)
        assert in_tf.dtype == in_numpy.dtype == np.float32
        np.testing.assert_allclose(in_tf, in_numpy, rtol=1e-6, atol=1e-6)
        # The size may be a tensor, as that of a picture that is given.
        np.testing.assert_array_equal(
            getattr(latents, name)(seeds, tf.constant(size), stream), in_tf
        )
    assert numpy_latents.uniforms(seeds, 1, 0).max() < 1


def test_both_give_the_streams_of_the_documentation():
    rows = re.findall(r"^\| (\d+) \|((?: -?[\d.]+ \|){6})$", DOC.read_text(), re.MULTILINE)
    assert len(rows) == 4
    for seed, columns in rows:
        expected = np.array([float(x) for x in columns.split("|")[:6]], np.float32)
        for module in (latents, numpy_latents):
            drawn = module.normals(np.array([int(seed)]), 3, 1)
            np.testing.assert_array_max_ulp(np.asarray(drawn)[0], expected[:3], 1)
            drawn = module.uniforms(np.array([int(seed)]), 3, 0)
            np.testing.assert_array_equal(np.asarray(drawn)[0], expected[3:])


def test_streams_share_no_numbers():
    drawn = np.concatenate([numpy_latents.normals(np.arange(50), 20, s) for s in range(3)])
    assert len(np.unique(drawn)) == drawn.size


def test_classes_by_frequency_agree():
    seeds = many_seeds()
    for frequencies in (None, [1, 2, 1], [0.0, 0.1, 0.7], [5, 0, 0]):
        in_tf = latents.classes_from_seeds(seeds, 3, frequencies, 4).numpy()
        in_numpy = numpy_latents.classes_from_seeds(seeds, 3, frequencies, 4)
        assert in_tf.dtype == in_numpy.dtype == np.int64
        np.testing.assert_array_equal(in_tf, in_numpy)
    shares = np.bincount(in_numpy, minlength=3)
    assert shares.tolist() == [len(seeds), 0, 0]
