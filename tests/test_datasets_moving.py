"""Moving garments: known contents and motions, exact bounces, separate garments held out."""

import numpy as np
import pytest

from keras_gan import datasets
from keras_gan.datasets import fashion_mnist_10k, moving_fashion
from keras_gan.errors import UsageError


def _open(**options):
    return datasets.open("moving-fashion", **{"count": 300, "held_out_count": 40, **options})


def test_kind_and_shape_are_known_without_opening_and_batches_agree():
    assert datasets.kind_of("moving_fashion") == "video"
    assert datasets.known_shape("moving-fashion", {}) == (None, 32, 32, 1)
    source = _open(frames=8)
    assert (source.spec.kind, source.spec.shape) == ("video", (8, 32, 32, 1))
    assert source.spec.samples.meta["frame_rate"] == 8.0
    assert source.spec.samples.meta["bouncing_objects"] == 1
    assert source.spec.class_names == fashion_mnist_10k.CLASS_NAMES
    x, y = next(iter(source.dataset("train", 16)))
    assert x.shape == (16, 8, 32, 32, 1)
    assert (x.numpy().min(), x.dtype, y.dtype) == (-1.0, "float32", "int32")


def test_videos_follow_from_the_seed():
    first, again, other = (_open(data_seed=seed).arrays()[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert not np.array_equal(*(_open(data_seed=3).arrays(s)[0][:40] for s in ("train", "test")))


@pytest.mark.parametrize("garments", [1, 2])
def test_motions_are_the_labels(garments):
    videos, labels = _open(labels="motion", garments=garments).arrays()
    np.testing.assert_array_equal(moving_fashion.motions(videos), labels)
    assert set(labels) == set(range(16))
    names = dict(zip(moving_fashion.MOTIONS, moving_fashion.VELOCITIES.tolist(), strict=True))
    assert names["right slow"] == [0, 1]
    assert names["up left fast"] == [-2, -2]


def test_each_step_is_the_velocity_and_edges_turn_one_component():
    videos, labels = _open(labels="motion", frames=24).arrays()
    steps = np.diff(moving_fashion.track(videos), axis=1)
    np.testing.assert_allclose(
        np.abs(steps),
        np.broadcast_to(np.abs(moving_fashion.VELOCITIES[labels])[:, np.newaxis], steps.shape),
        atol=1e-9,
    )
    lit = videos[..., 0] > 0
    rows, columns = lit.any(axis=3), lit.any(axis=2)
    # The box of a garment has even sizes, so that one far edge may be a pixel away.
    near = [rows[..., 0], rows[..., -2:].any(-1), columns[..., 0], columns[..., -2:].any(-1)]
    turned = steps[:, 1:] * steps[:, :-1] < -0.5
    assert turned.any(axis=(0, 1)).all()
    for axis in (0, 1):
        touches = (near[2 * axis] | near[2 * axis + 1])[:, 1:-1]
        assert touches[turned[..., axis]].all()


def test_held_out_videos_show_other_garments():
    pictures = {s: fashion_mnist_10k.open().arrays(s)[0] for s in ("train", "held_out")}
    known = {p.tobytes() for p in moving_fashion.shrink(pictures["train"])[0]}
    foreign = {p.tobytes() for p in moving_fashion.shrink(pictures["held_out"])[0]}
    assert len(known & foreign) == 0
    for split, patches in (("train", known), ("held_out", foreign)):
        for frame in _open().arrays(split)[0][:40, 0, ..., 0]:
            top = np.flatnonzero(frame.any(axis=1))[0]
            left = np.flatnonzero(frame.any(axis=0))[0]
            patch = np.pad(frame, 14)[14 + top : 28 + top, 14 + left : 28 + left]
            assert patch.tobytes() in patches


def test_a_video_of_four_frames_worked_by_hand():
    # A box of 8 x 4 pixels has 24 rows and 28 columns of room.
    sizes, velocity = np.array([[8, 4]]), np.array([[-2, 1]])

    class Fixed:
        def integers(self, low, high):
            np.testing.assert_array_equal((low, high), ([[1, 0]], [[13, 28]]))
            return np.array([[1, 27]])

    places = moving_fashion.places_of(sizes, velocity, 4, Fixed())
    np.testing.assert_array_equal(places, [[[2, 27], [0, 28], [2, 27], [4, 26]]])


def test_two_garments_are_of_one_class_and_differ():
    one, two = _open().arrays()[0], _open(garments=2).arrays()[0]
    assert ((two > 0).sum() / (one > 0).sum()) > 1.5
    np.testing.assert_array_equal(np.maximum(one, two), two)


def test_a_dark_frame_has_no_place_and_no_motion():
    videos = _open().arrays()[0][:2].copy()
    videos[0, 1] = 0
    assert np.isnan(moving_fashion.track(videos)[0, 1]).all()
    assert moving_fashion.motions(videos)[0] == -1
    as_floats = videos / np.float32(127.5) - 1
    np.testing.assert_allclose(
        moving_fashion.track(as_floats), moving_fashion.track(videos), atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"frames": 1}, r"`frames` must be .*Received: frames=1"),
        ({"garments": 3}, r"`garments` must be 1 or 2\. Received: garments=3"),
        ({"garments": True}, r"`garments` must be 1 or 2\. Received: garments=True"),
        ({"labels": "speed"}, r"content, motion or none\. Received: labels='speed'"),
        ({"count": 1_000_000}, r"must fit in 1,073,741,824 bytes .*Received: 1,000,040 of 16"),
    ],
)
def test_wrong_options_are_refused(options, line):
    with pytest.raises(UsageError, match=line):
        _open(**options)
