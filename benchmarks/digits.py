"""Spoken digits from seeds beside real clips, mixtures of them, and noise.

    apt-get install espeak-ng
    keras-gan train digits --run runs/digits
    keras-gan train digits-vocoder --run runs/digits-vocoder
    keras-gan export runs/digits --vocoder runs/digits-vocoder --to digits
    taskset -c 0 python benchmarks/digits.py digits --count 1000

Each row is compared with the clips of the voices that are held out, in the features of a classifier
of the real clips, which is trained first if there is none. Its hash is printed: distances compare
with others of the same hash only.

The rows:

- each bundle of a generator with a vocoder, and each run of the recipe digits-wavegan;
- real: as many clips of the training voices, the best values that there can be;
- griffin-lim: the same clips by way of their spectrograms, as the recipe `digits` defines them,
  and the Griffin-Lim algorithm: what is lost without a generator;
- vocoder: the same by way of the vocoder of --vocoder;
- mixture: the means of two clips of different digits, labeled by the louder one, which hold all
  sounds of speech and no digit;
- noise: white noise.
"""

from __future__ import annotations

import argparse
import pathlib
from typing import Any

import numpy as np

from keras_gan import datasets, metrics, recipe
from keras_gan import run as runs
from keras_gan.environment import processor
from keras_gan.errors import UsageError
from serving.griffin_lim import griffin_lim
from serving.mel import Mel

DATA, FEATURES = "spoken-digits", "sound_classifier"
VALUES = {
    "label_accuracy": "label",
    "class_score": "class score",
    "frechet_distance": "frechet",
    "coverage": "coverage",
    "nearest_ratio": "nearest",
    "nearest_close": "copies",
}
LOUDER = 2.0  # amplitude of the clip that labels a mixture, over that of the other one


def real_clips(source: datasets.Source, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns clips of the training voices with their digits, chosen by a fixed seed."""
    clips, labels = source.arrays("train")
    rows = np.sort(np.random.default_rng(0).permutation(len(clips))[:count])
    return source.values(np.asarray(clips[rows])), np.asarray(labels)[rows]


def mixtures(clips: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns each clip with one of another digit under it, scaled to the peak of the clip."""
    rng = np.random.default_rng(1)
    others = np.array([rng.choice(np.flatnonzero(labels != label)) for label in labels])
    mixed = LOUDER * clips + clips[others]
    peaks = [np.abs(x).max(axis=1, keepdims=True) for x in (clips, mixed)]
    return (mixed * peaks[0] / peaks[1]).astype(np.float32)


def definition() -> Mel:
    """Returns the spectrogram of the recipe `digits`."""
    options = recipe.load("digits").data.options["mel"]
    return Mel(sample_rate=8_000, **options)


def controls(source: datasets.Source, count: int, vocoder: pathlib.Path | None) -> dict[str, Any]:
    """Returns the rows without a generator, samples with labels by name."""
    clips, labels = real_clips(source, count)
    mel = definition()
    mels = mel(clips[..., 0])
    noise = np.random.default_rng(2).normal(0, 0.1, clips.shape).astype(np.float32)
    found = {
        "real": clips,
        "griffin-lim": griffin_lim(mels, mel)[..., np.newaxis],
        "mixture": mixtures(clips, labels),
        "noise": noise,
    }
    if vocoder is not None:
        network = runs.Run.open(vocoder).load().exported()
        found["vocoder"] = network.predict(mels, batch_size=64, verbose=0)  # pyright: ignore
    return {name: (np.clip(waves, -1, 1), labels) for name, waves in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sources", nargs="*", type=pathlib.Path, help="bundles and runs")
    parser.add_argument("--vocoder", type=pathlib.Path, help="run of a vocoder, as a control")
    parser.add_argument("--count", type=int, default=1_000, help="clips of each row")
    arguments = parser.parse_args()
    source = datasets.open(DATA)
    try:
        features = metrics.open_features(FEATURES, source.spec)
    except UsageError:
        trained = metrics.train_sound_classifier(source)
        features = metrics.open_features(FEATURES, source.spec)
        print(f"{features.name} names {trained.accuracy:.1%} of the held-out clips")
    used = f"features {features.name}, {arguments.count:,} clips, {processor()}"
    print(f"{source.description}\n{used}\n")
    print("".join([f"{'':16}", *(f"{title:>13}" for title in VALUES.values())]))
    rows: dict[str, Any] = {path.name: path for path in arguments.sources}
    rows |= controls(source, arguments.count, arguments.vocoder)
    for name, samples in rows.items():
        found = metrics.evaluate(
            samples, source, features, arguments.count, progress=False, cache=False
        )
        cells = [f"{found.values.get(value, float('nan')):13.3f}" for value in VALUES]
        print("".join([f"{name:16}", *cells]), flush=True)


if __name__ == "__main__":
    main()
