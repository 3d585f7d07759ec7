"""Class shares and diversity of the generated images of a Fashion-MNIST bundle.

    python benchmarks/classes.py runs/quickstart/bundle

Trains a small classifier on the 9,000 training images included in the package, prints its accuracy
on the 1,000 held-out images, and classifies the bundle's samples (made by onnxruntime). As a check
for duplicates, compares the smallest distance between any two of 64 samples with that of 64 real
images.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from typing import Any

import keras
import numpy as np
from keras import layers

import serving
from keras_gan import datasets


def classifier(source: datasets.Source) -> tuple[Any, float]:
    """Returns a small convolutional classifier and its accuracy on the held-out images."""
    keras.utils.set_random_seed(0)
    model: Any = keras.Sequential(
        [
            keras.Input(source.spec.shape),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(128, activation="relu"),
            layers.Dense(source.spec.num_classes),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    model.fit(source.dataset("train", batch_size=64), epochs=8, verbose=0, shuffle=False)
    held_out = source.dataset("held_out", batch_size=100, shuffle=False)
    return model, float(model.evaluate(held_out, verbose=0)[1])


def smallest_distance(images: np.ndarray) -> float:
    """Returns the root mean square difference of the two most similar images."""
    flat = images.reshape(len(images), -1).astype("float64")
    square = ((flat[:, None] - flat[None]) ** 2).mean(axis=2)
    square[np.diag_indices(len(flat))] = np.inf
    return float(np.sqrt(square.min()))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--json", type=pathlib.Path, help="write the results there")
    options = parser.parse_args()
    source = datasets.open("fashion-mnist-10k")
    model, accuracy = classifier(source)
    samples = serving.Bundle(options.bundle).generate(range(options.count))
    labels = model.predict(samples, batch_size=100, verbose=0).argmax(axis=1)
    shares = np.bincount(labels, minlength=source.spec.num_classes) / len(labels)
    print(f"classifier: {accuracy:.1%} of the held-out images classified correctly")
    for name, share in zip(source.spec.class_names, shares, strict=True):
        print(f"{name:<12} {share:6.1%}  {'#' * round(100 * share)}")
    print(f"smallest share: {shares.min():.1%}")
    real, _ = source.arrays("held_out")
    ours, theirs = smallest_distance(samples[:64]), smallest_distance(real[:64] / 127.5 - 1)
    print(f"smallest distance of 64 samples: {ours:.3f}; of 64 real images: {theirs:.3f}")
    if options.json:
        result = {"accuracy": accuracy, "shares": shares.tolist(), "alike": [ours, theirs]}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
