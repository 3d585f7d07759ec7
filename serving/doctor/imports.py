"""Program of the probes: imports the packages of one part and prints what they report.

It runs in a process of its own, as an import may fail, crash or hang. A line of its output that
begins with `MARK` is a JSON object: the package that is imported next, or its values.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = "keras-gan-doctor: "
# A convolution of 1 x 1 pixel, so that a GPU's cuDNN is used as well.
_MODEL = (
    "CAg6YwoPCgF4CgF3EgF5IgRDb252EgFnKhMIAQgBCAEIARABQgF3SgQAAIA/WhsKAXgSFgoUCAESEAoCCAEK"
    "AggBCgIIBAoCCARiGwoBeRIWChQIARIQCgIIAQoCCAEKAggECgIIBEIECgAQDQ=="
)


def say(package: str, **values: Any) -> None:
    """Prints a line for the program that started this one."""
    print(MARK + json.dumps({"package": package, **values}), flush=True)


def load(name: str) -> Any:
    """Imports a package, after its name was printed."""
    say(name)
    return importlib.import_module(name)


def training() -> None:
    """Imports TensorFlow, Keras and keras_gan, and runs a convolution on the first GPU."""
    tf = load("tensorflow")
    gpus = tf.config.list_physical_devices("GPU")
    build = tf.sysconfig.get_build_info()
    say(
        "tensorflow",
        version=tf.__version__,
        cuda=build.get("cuda_version", ""),
        cudnn=build.get("cudnn_version", ""),
        devices=[device.name for device in tf.config.list_physical_devices()],
    )
    keras = load("keras")
    say("keras", version=keras.__version__, backend=keras.backend.backend())
    say("keras_gan", version=load("keras_gan").__version__)
    if gpus:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        say("a convolution on the GPU")
        with tf.device("GPU:0"):
            tf.nn.conv2d(tf.zeros((1, 8, 8, 1)), tf.zeros((3, 3, 1, 1)), 1, "SAME").numpy()


def serving() -> None:
    """Imports onnxruntime, and runs a small model as `keras-gan serve` would."""
    numpy = load("numpy")
    say("numpy", version=numpy.__version__)
    onnxruntime = load("onnxruntime")
    say(
        "onnxruntime",
        version=onnxruntime.__version__,
        providers=onnxruntime.get_available_providers(),
    )
    sys.path.append(str(Path(__file__).parents[2]))  # of `serving`, below all packages
    sessions = importlib.import_module("serving.sessions")
    say("a session of onnxruntime")
    model, path = base64.b64decode(_MODEL), Path("doctor.onnx")
    session = sessions.open_session(model, b"\0", path, threads=1, device="auto")
    (result,) = session.run(None, {"x": numpy.ones((1, 1, 4, 4), "float32")})
    if not (result == 1).all():
        raise ValueError("The model must return ones")
    say("a session of onnxruntime", provider=session.get_providers()[0])


def codecs() -> None:
    """Asks Pillow and PyAV for the codecs that files of samples and data need."""
    features = load("PIL.features")
    say("PIL.features", **{name: features.check(name) for name in ("jpg", "webp", "zlib")})
    try:
        av = importlib.import_module("av")
    except ModuleNotFoundError:  # the extra video
        return
    try:
        av.codec.Codec("libx264", "w")
    except Exception:  # PyAV has a class of its own for it
        say("av", libx264=False)
    else:
        say("av", libx264=True)


PARTS: dict[str, Callable[[], None]] = {"training": training, "serving": serving, "codecs": codecs}

if __name__ == "__main__":
    PARTS[sys.argv[1]]()
