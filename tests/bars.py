"""Videos of bars, wide or tall, that move to the right or to the left."""

import numpy as np

from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Factor, Split
from keras_gan.spec import Field, Spec, label_field

FRAMES, SIDE = 6, 16
CONTENTS, MOTIONS = ("wide", "tall"), ("right", "left")


def clips(contents, motions, seed=0):
    """Returns videos of bars, uint8 `(count, frames, side, side, 1)`."""
    rng = np.random.default_rng(seed)
    videos = np.zeros((len(contents), FRAMES, SIDE, SIDE, 1), np.uint8)
    for video, content, motion in zip(videos, contents, motions, strict=True):
        height, width = ((2, 6), (6, 2))[content]
        top, left = rng.integers(SIDE - height), rng.integers(SIDE - width - FRAMES + 1)
        gray = rng.integers(120, 256)
        for frame in range(FRAMES):
            column = left + (frame if motion == 0 else FRAMES - 1 - frame)
            video[frame, top : top + height, column : column + width] = gray
    return videos


def labeled(train=160, held_out=40, labels="content", factors=True):
    """Returns a data set of bars, with the content or the motion as class, or without classes."""
    splits = {}
    for seed, (name, count) in enumerate({"train": train, "held_out": held_out}.items()):
        ids = np.random.default_rng(10 + seed).integers(2, size=(2, count)).astype(np.int32)
        known = {"content": Factor(ids[0], CONTENTS, True), "motion": Factor(ids[1], MOTIONS)}
        own = None if labels is None else known[labels].ids
        splits[name] = Split(
            clips(*ids, seed), own, disjoint=True, factors=known if factors else {}
        )
    fields = {"samples": Field("video", (FRAMES, SIDE, SIDE, 1), meta={"frame_rate": 8})}
    if labels is not None:
        names = {"content": CONTENTS, "motion": MOTIONS}[labels]
        fields["labels"] = label_field(2, names)
    return Source(Spec(fields=fields), splits, "bars that move")
