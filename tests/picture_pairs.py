"""Files of pictures for the tests of pairs, domains and degraded pictures."""

import numpy as np
from PIL import Image


def pixels(seed, height=16, width=16, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(path)
    return path


def fill(folder, count, suffix="png", seed=0, first=0, **size):
    """Writes pictures named by their number."""
    for number in range(first, first + count):
        save(folder / f"{number}.{suffix}", pixels(seed + number, **size))
    return folder


def negative(array):
    return 255 - array


def fill_side_by_side(folder, count, seed=0, **size):
    """Writes files with a picture on the left and its negative on the right."""
    for number in range(count):
        left = pixels(seed + number, **size)
        save(folder / f"{number}.png", np.concatenate([left, negative(left)], axis=1))
    return folder


def fill_partners(first, second, count, suffixes=("png", "png"), seed=0, **size):
    """Writes pictures into one folder and their negatives into another."""
    for number in range(count):
        array = pixels(seed + number, **size)
        save(first / f"{number}.{suffixes[0]}", array)
        save(second / f"{number}.{suffixes[1]}", negative(array))


def are_negatives(batch):
    """Checks that the condition is the negative of the samples at every pixel of a batch."""
    return bool(np.allclose(batch["condition"], -batch["samples"].numpy(), atol=1e-6))


def equal(first, second):
    """Checks that batches are bitwise the same."""
    return all(
        np.array_equal(one[name], other[name])
        for one, other in zip(first, second, strict=True)
        for name in one
    )


def batches(source, count, size=4, seed=0, **options):
    stream = source.dataset("train", size, seed, repeat=True, augmented=True, **options)
    return list(stream.take(count))
