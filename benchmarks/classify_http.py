"""Time that HTTP adds to a classification: the model alone, and POST /v1/classify.

Exports a small convolutional classifier to a temporary folder, serves it in a process of its own,
and classifies one picture by each way in turn, so that all of them see the same load of the
machine. The fastest round and the processor time depend least on that load:

    python -m benchmarks.classify_http --size 28 --rounds 200
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import serving
from benchmarks.translate_http import (
    ALONE,
    Calls,
    Server,
    measure,
    parse,
    photo,
    processor_time,
    report,
)

HTTP = "HTTP"
PYTHON = "classify"  # Bundle.classify of the file
SIZE = 28  # height and width of the network's pictures


def network(size: int = SIZE):
    """Returns a small convolutional classifier of gray pictures into ten classes."""
    import keras

    layers = keras.layers
    inputs = keras.Input((size, size, 1), name="samples")
    x = inputs
    for width in (32, 64, 128):
        x = layers.Conv2D(width, 3, 2, padding="same", activation="leaky_relu")(x)
    logits = layers.Dense(10)(layers.Flatten()(x))
    outputs = {
        "classes": layers.Softmax(name="classes")(logits),
        "novelty": layers.Dense(1, name="novelty")(logits),
    }
    return keras.Model(inputs, outputs, name="digits")


def main() -> None:
    """Prints a table of medians."""
    options = parse("classification", "a classifier (default: a small one)", SIZE, 200)
    with tempfile.TemporaryDirectory() as folder:
        path = options.bundle
        if path is None:
            import export

            path = Path(folder) / "digits"
            export.export_bundle(network(), path, role="classifier")
        file = Path(folder) / f"picture.{options.upload}"
        buffer = io.BytesIO()
        Image.fromarray(photo(options.size)).save(buffer, options.upload, quality=90)
        file.write_bytes(buffer.getvalue())
        bundle = serving.Bundle(path, threads=1, device="cpu")
        source = bundle.require_classifier().source
        shape = [n or options.size for n in source.sizes]
        given = {source.name: np.zeros((1, *shape), np.float32)}
        with Server(path, options.workers) as server:
            calls: Calls = {
                ALONE: lambda: bundle.run(given),
                PYTHON: lambda: bundle.classify(file),
                HTTP: lambda: server.post("/v1/classify", buffer.getvalue()),
            }
            found = measure(calls, options.rounds)
            used = {
                name: processor_time(server, calls, name, options.rounds) for name in (ALONE, HTTP)
            }
    used[PYTHON] = float("nan")
    report(options, found, used)


if __name__ == "__main__":
    main()
