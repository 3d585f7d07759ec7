"""Stacks of three garments: modes, seeds, and the images of held-out stacks."""

import numpy as np
import pytest

from keras_gan import UsageError, datasets
from keras_gan.datasets import fashion_mnist, stacked_fashion

needs_the_images = pytest.mark.skipif(
    not fashion_mnist.DEBIAN_FOLDER.is_dir(), reason="needs Debian's dataset-fashion-mnist"
)


@pytest.fixture(scope="module")
def garments():
    """Both splits as images with their classes."""
    source = fashion_mnist.open()
    return {split: source.arrays(split) for split in ("train", "held_out")}


@pytest.fixture(scope="module")
def stacked():
    return stacked_fashion.open(count=40, held_out_count=30, data_seed=7, labels=True)


def test_the_class_of_the_first_channel_is_the_first_digit_of_a_mode():
    classes = np.array([[1, 2, 3], [0, 0, 9], [9, 9, 9], [5, 0, 0]])
    assert stacked_fashion.mode_of(classes).tolist() == [123, 9, 999, 500]
    assert stacked_fashion.mode_of(classes).dtype == np.int32


@needs_the_images
def test_every_channel_is_a_garment_of_its_split_and_the_label_names_all_three(stacked, garments):
    """Checks that held-out stacks consist of test images only."""
    for split, count in (("train", 40), ("held_out", 30)):
        images, classes = garments[split]
        class_of_image = {bytes(np.asarray(x)): c for x, c in zip(images, classes, strict=True)}
        stacks, modes = stacked.arrays(split)
        assert stacks.shape == (count, 28, 28, 3)
        for stack, mode in zip(stacks, modes, strict=True):
            channels = [bytes(np.ascontiguousarray(stack[..., i])) for i in range(3)]
            found = [int(class_of_image[channel]) for channel in channels]
            assert mode == 100 * found[0] + 10 * found[1] + found[2]
        assert len(set(modes)) > count / 2


@needs_the_images
def test_the_seed_of_the_data_fixes_the_stacks(stacked):
    options = {"count": 40, "held_out_count": 30}
    again = stacked_fashion.open(**options, data_seed=7, labels=True)
    other = stacked_fashion.open(**options, data_seed=8)
    for split in ("train", "held_out"):
        for a, b in zip(again.arrays(split), stacked.arrays(split), strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(other.arrays(split)[0], stacked.arrays(split)[0])
    assert (stacked.spec.num_classes, other.spec.num_classes) == (1000, 0)
    assert stacked.spec.shape == (28, 28, 3)
    assert other.arrays("train")[1] is None
    batch = next(iter(stacked.dataset("train", 8, seed=0)))
    assert (batch[0].shape, batch[0].dtype.name) == ((8, 28, 28, 3), "float32")
    assert float(np.abs(batch[0]).max()) <= 1
    assert "40 + 30 stacks" in stacked.description
    assert "data_seed=7" in stacked.description


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 1}, r"`count` must be an integer of at least 2. Received: count=1"),
        ({"count": 2.5}, r"Received: count=2.5"),
        ({"held_out_count": 0}, r"`held_out_count` must be .* at least 1. Received: .*=0"),
        ({"data_seed": -1}, r"`data_seed` must be .* at least 0. Received: data_seed=-1"),
        ({"data_seed": True}, r"Received: data_seed=True"),
        ({"folder": "nowhere"}, r"nowhere"),
    ],
)
def test_options_out_of_range_are_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        datasets.open("stacked-fashion", **options)
