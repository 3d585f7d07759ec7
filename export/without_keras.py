"""Runs signatures of SavedModels the way a server does: with TensorFlow, without Keras.

A program of its own, started by `export/verify.py` with the name of a JSON file:

    [{"saved_model", "inputs", "signature", "batch", "output"}, ...]

Each run feeds the first `batch` rows of the inputs, repeated as needed, and writes its outputs
by name. Pictures in PNG are decoded.
"""

import json
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

import numpy as np


class _NoKeras(MetaPathFinder, Loader):
    """Makes every import of Keras fail, also the one that `import tensorflow` tries by itself."""

    def find_spec(self, fullname, path=None, target=None):
        # TensorFlow looks for the spec unguarded, and guards the import: so find, then refuse.
        blocked = fullname.partition(".")[0] in ("keras", "tf_keras")
        return ModuleSpec(fullname, self) if blocked else None

    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name)


sys.meta_path.insert(0, _NoKeras())

import tensorflow as tf  # noqa: E402


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        runs = json.load(file)
    models = {path: tf.saved_model.load(path) for path in {run["saved_model"] for run in runs}}
    for run in runs:
        with np.load(run["inputs"]) as inputs:
            golden = dict(inputs)
        call = models[run["saved_model"]].signatures[run["signature"]]
        rows = np.resize(np.arange(len(golden["seeds"])), run["batch"])
        names = call.structured_input_signature[1]
        outputs = call(**{name: tf.constant(golden[name][rows]) for name in names})
        arrays: dict[str, Any] = {name: _to_numpy(name, x) for name, x in outputs.items()}
        np.savez(run["output"], **arrays)
    if "keras" in sys.modules:
        sys.exit("keras was imported")


def _to_numpy(name: str, tensor: tf.Tensor) -> np.ndarray:
    if name == "png_bytes":
        return np.stack([tf.io.decode_png(png).numpy() for png in tensor])
    return tensor.numpy()


if __name__ == "__main__":
    main()
