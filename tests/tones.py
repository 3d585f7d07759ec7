"""Clips of synthetic tones: labeled by their timbre, or paired with their mel spectrograms."""

import numpy as np

from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split
from keras_gan.spec import Field, Spec, label_field
from serving.mel import Mel

RATE, LENGTH = 8_000, 4_096
MEL = Mel()
CLASSES = ("hum", "reed", "bell", "hiss")


def clips(labels, seed=0):
    """Returns clips of classes with random pitch, phase and level, float32 `(count, time, 1)`."""
    rng = np.random.default_rng(seed)
    times = np.arange(LENGTH) / RATE
    found = []
    for label in labels:
        pitch, phase = rng.uniform(120, 180), rng.uniform(0, 6)
        below = {0: (1, 2), 1: range(1, 20), 2: (1, 5.4, 8.9), 3: ()}[int(label)]
        wave = sum((np.sin(2 * np.pi * pitch * k * times + phase * k) for k in below), times * 0)
        wave = wave * np.exp(-6 * times) if label == 2 else wave
        wave = wave + (2 if label == 3 else 0.01) * rng.standard_normal(LENGTH)
        found.append(rng.uniform(0.2, 0.6) * wave / np.abs(wave).max())
    return np.array(found, np.float32)[..., np.newaxis]


def labeled(train=160, held_out=40):
    """Returns a data set of tones with their classes."""
    counts = {"train": train, "held_out": held_out}
    splits = {}
    for seed, (name, count) in enumerate(counts.items()):
        labels = (np.arange(count) % len(CLASSES)).astype(np.int32)
        splits[name] = Split(clips(labels, seed), labels)
    fields = {
        "samples": Field("audio", (LENGTH, 1), meta={"sample_rate": RATE}),
        "labels": label_field(len(CLASSES), CLASSES),
    }
    return Source(Spec(fields=fields), splits, "tones of four timbres")


def paired(train=8, held_out=6):
    """Returns a data set of tones with their mel spectrograms."""
    splits = {}
    for seed, (name, count) in enumerate({"train": train, "held_out": held_out}.items()):
        waves = clips(np.arange(count) % 3, seed)
        splits[name] = Split(waves, others={"mel": MEL(waves[..., 0])})
    fields = {
        "samples": Field("audio", (LENGTH, 1), meta={"sample_rate": RATE}),
        "mel": Field("mel", (LENGTH // MEL.hop, MEL.mels), meta={"mel": MEL.to_meta()}),
    }
    return Source(Spec(fields=fields), splits, "tones and their spectrograms")
