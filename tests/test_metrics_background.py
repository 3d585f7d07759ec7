"""The metric of plain backgrounds, with values worked out by hand."""

import importlib

import numpy as np
import pytest
import scipy.ndimage

from keras_gan import UsageError, datasets, metrics, recipe
from keras_gan.metrics.background import plain_backgrounds

FRAME = """
......
.####.
.#..#.
.#..#.
.####.
......"""


def drawn(text, ink=0, paper=255):
    """One gray picture of ink on paper."""
    rows = [[ink if sign == "#" else paper for sign in line] for line in text.split()]
    return np.array(rows, "uint8")[np.newaxis, ..., np.newaxis]


def flat(level, channels=1, size=6):
    return np.full((1, size, size, channels), level, "uint8")


NOISE = np.random.default_rng(0).integers(0, 256, (1, 6, 6, 1)).astype("uint8")


def test_a_background_is_what_is_connected_with_a_plain_border():
    # The inside of the frame is white as well, and beside white pixels of the next picture.
    frame, white, noise = plain_backgrounds(np.concatenate([drawn(FRAME), flat(255), NOISE]))
    np.testing.assert_array_equal(frame, drawn(FRAME.replace("#..#", "####"))[0, ..., 0] == 255)
    assert (frame.sum(), white.sum(), noise.sum()) == (20, 36, 0)


def test_a_plain_border_is_of_one_color_but_for_a_tenth():
    picture = flat(100)
    picture[0, 0, :2, 0] = 109, 91  # 2 of 20 pixels are off by more than 8 levels
    picture[0, 5, :2, 0] = 108, 92
    found = plain_backgrounds(picture)
    assert found.sum() == 34
    assert not found[0, 0, :2].any()
    picture[0, 3, 0] = 109
    assert not plain_backgrounds(picture).any()
    color = np.concatenate([flat(100), flat(100), flat(100)], axis=-1)
    color[0, 0, :3, 2] = 109  # in one channel
    assert not plain_backgrounds(color).any()


def test_the_difference_from_the_partner_by_hand():
    conditions = np.concatenate([drawn(FRAME), NOISE, drawn(FRAME, 255, 0)])
    real = np.concatenate([flat(255), flat(7), flat(0)])
    answers = np.concatenate([flat(250), flat(200), flat(255)])  # the last one is inverted
    answers[0, 0, 0] = 0  # the level is a median
    answers[0, 2:4, 2:4] = 9  # within the frame
    found = metrics.background(real, answers, conditions)
    assert found == ((5 + 255) / 2, (250 + 255) / 2, (255 + 0) / 2, 2)
    assert metrics.background(real, real, conditions).difference == 0


def test_without_pairs_the_real_level_is_that_of_most_real_pictures():
    conditions = np.concatenate([drawn(FRAME), flat(30), NOISE, flat(60)])
    real = np.concatenate([drawn(FRAME), flat(250), flat(10), NOISE])
    answers = np.concatenate([flat(250), flat(245), flat(99), flat(255)])
    found = metrics.background(real, answers, conditions, paired=False)
    # Levels of the real ones are 255, 250, 10; of the answers 250, 245, 255.
    assert found == (pytest.approx(10 / 3), 250, 250, 3)


def test_channels_and_sizes_of_the_conditions_may_differ():
    conditions = drawn(FRAME)
    answers = np.full((1, 12, 12, 3), (240, 250, 255), "uint8")
    answers[0, 2:10, 2:10] = 0  # more than half of the pixels, none of them in the background
    real = np.full((1, 12, 12, 3), 255, "uint8")
    assert metrics.background(real, answers, conditions).difference == pytest.approx(20 / 3)
    small = metrics.background(real[:, ::3, ::3], answers[:, :4, :4], conditions)
    assert small.pictures == 1


def test_nothing_is_compared_without_plain_backgrounds():
    found = metrics.background(NOISE, NOISE, NOISE)
    assert np.isnan(found[:3]).all()
    assert found.pictures == 0
    found = metrics.background(NOISE, flat(255), flat(255), paired=False)
    assert np.isnan(found.difference)
    assert found.pictures == 1


def test_many_pictures_are_processed_in_parts(monkeypatch):
    rng = np.random.default_rng(1)
    pictures = np.concatenate([drawn(FRAME), flat(3), NOISE] * 5)[rng.permutation(15)]
    whole = plain_backgrounds(pictures)
    monkeypatch.setattr(importlib.import_module(metrics.Background.__module__), "_VALUES", 72)
    np.testing.assert_array_equal(plain_backgrounds(pictures), whole)
    assert (whole.sum(axis=(1, 2)) == 20).sum() == 5


def test_wrong_arguments_are_one_line():
    with pytest.raises(UsageError, match=r"`conditions` must be 2 pictures.*\(1, 6, 6, 1\) uint8"):
        metrics.background(*[np.concatenate([NOISE, NOISE])] * 2, NOISE)
    with pytest.raises(UsageError, match=r"`conditions` must be 1 pictures.*float64"):
        metrics.background(NOISE, NOISE, NOISE / 255)
    with pytest.raises(UsageError, match=r"height and width from 4\. Received: \(1, 3, 6, 1\)"):
        metrics.background(NOISE[:, :3], NOISE[:, :3], NOISE)


@pytest.fixture
def letters():
    """Shapes on white as samples, and their outlines on white as conditions, in [-1, 1]."""
    shapes = np.ones((24, 16, 16), bool)
    for number, shape in enumerate(shapes):
        y, x = 3 + number // 5, 3 + number % 5
        shape[y : y + 5, x : x + 5] = False
    outlines = np.array([shape | ~scipy.ndimage.binary_dilation(shape) for shape in shapes])
    samples, conditions = (x[..., np.newaxis].astype("float32") * 2 - 1 for x in (shapes, outlines))
    return samples, conditions


def test_a_training_compares_backgrounds(letters):
    samples, conditions = letters
    answers = metrics.Answers(conditions)
    compare = metrics.Comparison(samples, "l1", ["background"], answers=answers)
    assert compare.names == ("l1", "background")
    assert compare(samples)["background"] == 0
    assert compare(-samples)["background"] == 255
    assert compare(samples - 0.2)["background"] == pytest.approx(25.5, abs=0.5)
    assert compare.protocol["controls"]["identity"]["background"] == 0
    unpaired = metrics.Answers(conditions, paired=False)
    compare = metrics.Comparison(samples[::-1], others=["background"], answers=unpaired)
    assert compare(-samples)["background"] == 255
    with pytest.raises(UsageError, match="background needs samples that answer pictures"):
        metrics.Comparison(samples, "patch_distance", ["background"])


def test_an_evaluation_reports_both_levels(letters, tmp_path):
    pictures = [((x + 1) * 127.5).astype("uint8") for x in letters]
    samples, conditions = pictures
    data = datasets.from_arrays(
        samples[:4],
        x_test=samples[4:],
        fields={"condition": conditions[:4]},
        fields_test={"condition": conditions[4:]},
    )
    np.save(tmp_path / "answers.npy", samples[4:] // 255 * np.uint8(200))
    found = metrics.evaluate(
        tmp_path / "answers.npy", data, metrics="background", cache=False, progress=False
    )
    assert found.values == {
        "background": 55,
        "background_level": 200,
        "background_level_real": 255,
    }
    assert found.controls["identity"]["background"] == 0
    assert found.protocol["background"]["plain_conditions"] == 20


@pytest.mark.parametrize("name", ["cyclegan", "cut", "glyphs-bold", "edges2fashion"])
def test_recipes_between_domains_report_backgrounds(name):
    assert recipe.load(name).evaluation.others == ["background"]
