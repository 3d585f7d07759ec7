"""Spec: the kinds of samples and the shapes that fit them."""

import pytest

from keras_gan import Spec, UsageError


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("image", (28, 28, 1)),
        ("points", (2,)),
        ("audio", (16000, 1)),
        ("sequence", (24, 6)),
        ("video", (16, 64, 64, 3)),
        ("array", (7,)),
        ("array", (3, 2, 5, 4, 1)),
    ],
)
def test_a_shape_that_fits_its_kind(kind, shape):
    assert Spec(kind, shape).shape == shape


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("sound", (8, 1), "kind must be one of ('image', 'points', 'audio', 'sequence', 'video', "),
        ("audio", (8,), "'audio' must have 2 positive dimensions (time, channels)"),
        ("sequence", (8, 0), "'sequence' must have 2 positive dimensions (time, features)"),
        ("video", (8, 8, 3), "must have 4 positive dimensions (frames, height, width, channels)"),
        ("array", (), "'array' must have any number of positive dimensions (at least one)"),
        ("image", (8, 8, 2), "Images must have 1 (gray), 3 (RGB) or 4 (RGBA) channels"),
    ],
)
def test_a_shape_that_does_not_fit_is_told(kind, shape, message):
    with pytest.raises(UsageError) as caught:
        Spec(kind, shape)
    assert message in str(caught.value)
    assert "Received: " in str(caught.value)
