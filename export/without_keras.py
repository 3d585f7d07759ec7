"""Program that runs SavedModels as a server does, and LiteRT models, without Keras.

`export/isolated.py` starts it. Each line of its input is the JSON text of a file's path, and it
answers each with the line `done`. The file is JSON as well:

    [{"saved_model" and "signature", or "litert"; "inputs", "batch", "output"}, ...]

Each run feeds the first `batch` rows of the inputs, repeated as needed, and writes its outputs
by name. PNG images and WAV files are decoded. It ends at the end of its input, or after a minute
without a line, as it holds much memory.
"""

import os

_ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print, even while they are imported, is not an answer

import json  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
import warnings  # noqa: E402
from importlib.abc import Loader, MetaPathFinder  # noqa: E402
from importlib.machinery import ModuleSpec  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402


class _NoKeras(MetaPathFinder, Loader):
    """Import hook that makes every import of Keras fail, including that of `import tensorflow`."""

    def find_spec(self, fullname, path=None, target=None):
        # TensorFlow handles a failing import of Keras, but not a missing spec.
        blocked = fullname.partition(".")[0] in ("keras", "tf_keras")
        return ModuleSpec(fullname, self) if blocked else None

    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name)


sys.meta_path.insert(0, _NoKeras())

import tensorflow as tf  # noqa: E402

_IDLE = 60  # seconds


def main() -> None:
    while line := _next_line():
        _run(json.loads(line))
        print("done", file=_ANSWERS, flush=True)


def _next_line() -> bytes:
    """Returns a line, empty at the end of the input; ends the process after a time without any."""
    timer = threading.Timer(_IDLE, os._exit, [0])
    timer.start()
    try:
        return sys.stdin.buffer.readline()
    finally:
        timer.cancel()


def _run(runs_file: str) -> None:
    with open(runs_file, encoding="utf-8") as file:
        runs = json.load(file)
    paths = {run["saved_model"] for run in runs if "saved_model" in run}
    models = {path: tf.saved_model.load(path) for path in paths}
    for run in runs:
        with np.load(run["inputs"]) as inputs:
            golden = dict(inputs)
        rows = np.resize(np.arange(len(next(iter(golden.values())))), run["batch"])
        inputs = {name: values[rows] for name, values in golden.items()}
        if "litert" in run:
            outputs = _run_litert(run["litert"], inputs)
        else:
            outputs = _run_signature(
                models[run["saved_model"]].signatures[run["signature"]], inputs
            )
        np.savez(run["output"], **outputs)
    if "keras" in sys.modules:
        sys.exit("keras was imported")


def _run_signature(call: Any, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    names = call.structured_input_signature[1]
    outputs = call(**{name: tf.constant(inputs[name]) for name in names})
    return {name: _to_numpy(name, x) for name, x in outputs.items()}


def _run_litert(path: str, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """Runs a LiteRT model in the interpreter that TensorFlow includes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its move to another package
        interpreter = tf.lite.Interpreter(model_path=path)
    run = interpreter.get_signature_runner("serving_default")  # resizes its inputs itself
    return run(**{name: inputs[name] for name in run.get_input_details()})


def _to_numpy(name: str, tensor: tf.Tensor) -> np.ndarray:
    decode = _DECODERS.get(name)
    return tensor.numpy() if decode is None else np.stack([decode(file) for file in tensor])


_DECODERS = {
    "png_bytes": lambda file: tf.io.decode_png(file).numpy(),
    "wav_bytes": lambda file: tf.audio.decode_wav(file).audio.numpy(),
}


if __name__ == "__main__":
    main()
