"""Physics of videos: velocities, bounces, contents that stay, worked by hand and on real data."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

import keras_gan
from keras_gan import datasets, metrics
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split
from keras_gan.errors import UsageError
from keras_gan.metrics import tracks
from keras_gan.metrics.stills import Stills
from keras_gan.spec import Field, Spec

FRAMES, SIDE = 5, 12


def block(rows, columns):
    """Returns a video of a white block of 2 x 2 pixels at these places, in [-1, 1]."""
    video = -np.ones((len(rows), SIDE, SIDE, 1), np.float32)
    for frame, row, column in zip(video, rows, columns, strict=True):
        frame[row : row + 2, column : column + 2] = 1
    return video[np.newaxis]


@pytest.fixture(scope="module")
def source():
    return datasets.open("moving-fashion", count=100, held_out_count=400)


@pytest.fixture(scope="module")
def real(source):
    return source.arrays("held_out")[0]


# ------------------------------------------------------------------------ velocity


@pytest.mark.parametrize(
    ("rows", "columns", "error"),
    [
        ([3] * 5, [2, 3, 4, 5, 6], 0.0),
        ([4, 2, 0, 2, 4], [6, 8, 10, 8, 6], 0.0),  # both components turn in a corner
        ([4] * 5, [2, 3, 4, 8, 9], 0.75),  # one step of 4 in place of 1, of 4 steps
        ([4] * 5, [4, 6, 4, 6, 4], 2.0),  # turns in the open: half of the steps are 4 away
        ([5, 8, 5, 8, 5], [2, 6, 2, 6, 2], 5.0),  # 3 and 4 pixels: half of the steps are 10 away
    ],
)
def test_velocity_error_by_hand(rows, columns, error):
    assert metrics.velocity_error(block(rows, columns)) == pytest.approx(error, abs=1e-6)


def test_motion_that_is_fitted_by_hand():
    found = tracks.measure(block([4, 2, 0, 2, 4], [5, 6, 7, 8, 9]))
    np.testing.assert_allclose(found.places[0, :, 0], [4.5, 2.5, 0.5, 2.5, 4.5])
    np.testing.assert_array_equal(found.gaps[0, 2], [[0, 10], [7, 3]])
    speeds, velocities = tracks.fit(found)
    np.testing.assert_allclose(speeds, [[2, 1]])
    np.testing.assert_allclose(velocities[0], [[-2, 1], [-2, 1], [2, 1], [2, 1]])


def test_real_videos_move_uniformly_and_bounce(real):
    assert metrics.velocity_error(real) < 1e-9
    found = metrics.bounce_accuracy(real)
    assert found.accuracy == 1.0
    assert found.contacts > 400
    backward = real[:, ::-1]  # is a motion of the same kind
    assert metrics.velocity_error(backward) < 1e-9
    assert metrics.bounce_accuracy(backward).accuracy == 1.0


def test_broken_videos_are_far_from_uniform_motion(real):
    order = np.random.default_rng(0).permutation(real.shape[1])
    assert metrics.velocity_error(real[:, order]) > 3
    assert metrics.bounce_accuracy(real[:, order]).accuracy < 0.6
    joined = np.concatenate([real[:, :8], real[::-1, 8:]], axis=1)  # jumps to another place
    assert 0.5 < metrics.velocity_error(joined) < 3


def test_missing_motion_is_seen_in_the_speed(source, real):
    still = np.repeat(source.values(real[:200, :1]), 16, axis=1)
    for videos in (still, still * 0 - 1):
        found = metrics.evaluate(videos, source, "pixels", metrics="velocity_error", cache=False)
        assert found["velocity_error"] == pytest.approx(0, abs=1e-9)
        assert found["speed"] == pytest.approx(0, abs=1e-9)
        # Speeds are 1 or 2 along an axis or both; the mean of 1, 2, sqrt(2) and sqrt(8) is 1.81.
        assert found["speed_real"] == pytest.approx(1.81, abs=0.15)
    assert tracks.measure(block([3] * 5, [2, 3, 4, 5, 7])).speed == pytest.approx(1.25)


def test_dark_frames_are_in_the_middle():
    videos = block([3] * 5, [2, 3, 4, 5, 6])
    videos[0, 2] = -1
    np.testing.assert_allclose(tracks.measure(videos).places[0, 2], 5.5)
    assert 0 < metrics.velocity_error(videos) < 5
    np.testing.assert_allclose(metrics.velocity_error(videos * 0 - 1), 0.0)


@pytest.mark.parametrize("shape", [(4, 8, 8, 1), (0, 4, 8, 8, 1), (2, 2, 8, 8, 1)])
def test_tracks_need_videos_of_three_frames(shape):
    with pytest.raises(UsageError, match=r"at least 3 frames\. Received: shape=\("):
        metrics.velocity_error(np.zeros(shape, np.float32))


# ------------------------------------------------------------------------ bounces


@pytest.mark.parametrize(
    ("rows", "columns", "accuracy", "contacts"),
    [
        ([4] * 5, [6, 8, 10, 8, 6], 1.0, 1),
        ([4, 2, 0, 2, 4], [6, 8, 10, 8, 6], 1.0, 2),  # a corner
        ([4] * 5, [6, 8, 10, 10, 10], 0.0, 1),  # sticks
        ([4, 4, 4, 6, 8], [6, 8, 10, 8, 6], 0.0, 1),  # is deflected along the edge
        ([4] * 5, [2, 3, 4, 5, 6], None, 0),
        ([1, 0, 1, 2, 3], [10, 10, 10, 10, 10], 1.0, 1),  # slides along the other edge
    ],
)
def test_bounce_accuracy_by_hand(rows, columns, accuracy, contacts):
    found = metrics.bounce_accuracy(block(rows, columns))
    assert found.contacts == contacts
    assert np.isnan(float(found)) if accuracy is None else float(found) == accuracy


# ------------------------------------------------------------------------ contents


def test_class_constancy_by_hand():
    classes = np.array([[1, 1, 1, 1], [1, 2, 1, 1], [0, 0, 3, 3], [2, 2, 2, 2]])
    assert metrics.class_constancy(classes) == 0.5
    assert metrics.frame_constancy(classes) == pytest.approx((4 + 3 + 2 + 4) / 16)
    with pytest.raises(UsageError, match=r"must be integers \(videos, frames\)\. Received: shape"):
        metrics.class_constancy(classes / 2)


def test_content_drift_by_hand():
    features = np.array([[[0.0, 0], [0, 1], [0, 3]], [[4, 0], [4, 0], [4, 2]]])
    # Within: 1, 3, 0 and 2; between the first frames: 4.
    assert metrics.content_drift(features) == pytest.approx(1.5 / 4)
    assert np.isnan(metrics.content_drift(np.zeros((2, 2, 1))))
    with pytest.raises(UsageError, match=r"at least 2 videos and 2 frames\. Received: shape="):
        metrics.content_drift(features[:1])


def test_stills_are_the_frames_in_order():
    videos = np.arange(12.0, dtype=np.float32).reshape(2, 3, 2, 1, 1)

    def still(frames):
        means = frames.mean(axis=(1, 2, 3))
        return means[:, np.newaxis], np.stack([means < 5, means >= 5], 1).astype(np.float32)

    found = Stills.of(videos, still)
    np.testing.assert_array_equal(found.features[..., 0], [[0.5, 2.5, 4.5], [6.5, 8.5, 10.5]])
    np.testing.assert_array_equal(found.classes, [[0, 0, 0], [1, 1, 1]])


# ------------------------------------------------------------------------ evaluation


def test_evaluate_prints_them_beside_the_real_values(source, real):
    half = np.concatenate([real[:200, :8], real[200:, 8:]], axis=1)
    broken = half / np.float32(127.5) - 1
    chosen = ["velocity_error", "bounce_accuracy"]
    found = metrics.evaluate(broken, source, "pixels", metrics=chosen, cache=False)
    assert found["velocity_error"] == pytest.approx(metrics.velocity_error(broken))
    assert found["velocity_error_real"] < 1e-6
    assert found["bounce_accuracy_real"] == 1.0
    assert found["bounce_accuracy"] < 1.0
    contacts, of_real = found.details["contacts"]
    assert min(contacts, of_real) > 100


def test_they_are_refused_for_videos_of_unknown_content(real):
    spec = Spec(fields={"samples": Field("video", real.shape[1:])})
    unknown = Source(spec, {"train": Split(real)}, "some videos")
    videos = real[:50] / np.float32(127.5) - 1
    with pytest.raises(UsageError, match=r"such as moving-fashion.*with bouncing_objects=None"):
        metrics.evaluate(videos, unknown, "pixels", metrics="velocity_error", split="train")
    two = datasets.open("moving-fashion", count=10, held_out_count=4, garments=2)
    assert "bouncing_objects=2" in tracks.unfit(two.spec).received
    assert tracks.unfit(keras_gan.Spec("image", (8, 8, 1))).received.startswith("kind 'image'")


def test_a_comparison_during_training_has_them(source, real):
    values = source.values(real[:64])
    compare = metrics.Comparison(
        values, "sliced_wasserstein", ["velocity_error", "bounce_accuracy"], spec=source.spec
    )
    found = compare(values[:, ::-1])
    assert found["velocity_error"] < 1e-6
    assert found["bounce_accuracy"] == 1.0
    assert 0 < found["sliced_wasserstein"] < 0.2


def test_videos_without_named_features_are_compared_without_a_network(source, real):
    videos = source.values(real[:120, ::-1])
    found = metrics.evaluate(videos, source, cache=False)
    assert {"feature_sliced_wasserstein", "velocity_error_real"} <= {*found.values}
    assert found["velocity_error"] < 1e-6
    assert found["bounce_accuracy"] == 1.0
    assert not {"frechet_distance", "patch_distance", "class_constancy"} & {*found.values}
    assert found.protocol["extractor"] == "reduced_pixels"
    assert found.protocol["features"] == 4096
    assert found.protocol["resize"] == "antialiased bicubic"
    usual = metrics.comparison.default_metrics(source.spec, 100)
    assert usual == ("sliced_wasserstein", "velocity_error")
    other = Spec(fields={"samples": Field("video", (16, 32, 32, 1))})
    assert metrics.comparison.default_metrics(other, 100) == ("sliced_wasserstein",)


@pytest.mark.parametrize(
    ("shape", "number"),
    [
        ((16, 32, 32, 1), 4096),
        ((4, 8, 8, 1), 256),
        ((8, 64, 64, 3), 4056),
        ((200, 16, 16, 3), 4032),
    ],
)
def test_values_of_videos_are_reduced_to_at_most_4096(shape, number):
    extractor = metrics.open_features("reduced_pixels", keras_gan.Spec("video", shape))
    assert extractor.dim == number
    gray = np.full((2, *shape), 0.25, np.float32)
    np.testing.assert_allclose(extractor(gray)[0], 0.25, atol=1e-5)


# ------------------------------------------------------------------------ swap test


def still_of_brightness(frames):
    """Takes frames whose brightest pixel is above 0.5 as class 1, others as class 0."""
    is_bright = frames.max(axis=(1, 2, 3)) > 0.5
    return is_bright[:, np.newaxis].astype(np.float32), np.stack([~is_bright, is_bright], 1)


def test_content_swap_by_hand():
    right, left = block([4] * 5, [2, 3, 4, 5, 6]), block([4] * 5, [6, 5, 4, 3, 2])
    dark = np.where(right > 0, 0.0, -1.0).astype(np.float32)
    first = np.concatenate([right, right, dark, dark])
    second = np.concatenate([left, right, dark, left])
    found = metrics.content_swap(first, second, still_of_brightness)
    assert found.kept == 0.75  # all but the last
    assert found.kept_by_chance == pytest.approx(1 / 3)  # 2 of 6 pairs
    assert found.changed == 0.5  # the first and the last
    assert found.changed_by_chance == 0.0
    without = metrics.content_swap(first, second, still_of_brightness, moves=False)
    assert (without.kept, np.isnan(without.changed)) == (0.75, True)
    with pytest.raises(UsageError, match=r"at least 2 videos, .*Received: \(1, 5"):
        metrics.content_swap(right, left, still_of_brightness)


@keras.saving.register_keras_serializable("test_metrics_video")
class Content(keras.layers.Layer):
    """Draws a block whose brightness is the sign of the first latent, moving by the second one."""

    content_dim = 1

    def call(self, latents):
        bright, turned = latents[:, 0] > 0, latents[:, 1] > 0
        clip = ops.convert_to_tensor(block([4] * 5, [2, 3, 4, 5, 6])[0])
        video = ops.where(turned[:, None, None, None, None], clip, ops.flip(clip, axis=0))
        level = ops.where(bright, 1.0, 0.4)[:, None, None, None, None]
        return ops.where(video > 0, level, -1.0)


def test_the_swap_test_of_a_generator_that_draws_them_apart():
    latents = keras.Input((2,), name="latents")
    samples = keras.layers.Identity(name="samples")(Content(name="content")(latents))
    generator = keras.Model(latents, samples)
    shape = (FRAMES, SIDE, SIDE, 1)
    discriminator = keras.Sequential(
        [keras.Input(shape, name="samples"), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    gan = keras_gan.GAN(generator, discriminator)
    meta = {"bouncing_objects": 1, "frame_rate": 8}
    spec = Spec(fields={"samples": Field("video", shape, meta=meta)})
    videos = np.concatenate([block([4] * 5, [2, 3, 4, 5, 6])] * 8)
    data = Source(spec, {"train": Split(videos)}, "blocks")
    extractor = dataclasses.replace(
        metrics.open_features("pixels", spec), still=still_of_brightness
    )
    names = ["content_swap", "velocity_error"]
    found = metrics.evaluate(gan, data, extractor, count=8, metrics=names, split="train")
    assert found["content_swap"] == 1.0
    assert 0.4 < found["content_by_chance"] < 0.6
    assert 0.3 < found["motion_changed"] < 0.7
    assert found["velocity_error"] == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(UsageError, match=r"content_swap needs a run or a game whose generator"):
        metrics.evaluate(videos, data, extractor, metrics="content_swap", split="train")
