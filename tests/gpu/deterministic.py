"""Resumes small games under TensorFlow's deterministic operations, as a process of its own.

    python tests/gpu/deterministic.py DEVICE FAMILY

Determinism cannot be disabled again, hence the process. For every game of a family it prints one
line of JSON: the name, whether 3 steps after loading end in the state of 6 uninterrupted ones bit
for bit, and the message of an operation that has no deterministic kernel.
"""

import json
import pathlib
import sys
import tempfile

import gpu_device
import gpu_games as games
import keras
import numpy as np
import tensorflow as tf
import test_gpu_precision as families


def state(gan):
    owners = (gan, *(getattr(gan, f"{player}_optimizer") for player in gan.players))
    skipped = {id(v) for v in gan.metrics_variables}
    return [v.value.numpy() for owner in owners for v in owner.variables if id(v) not in skipped]


def resumed(path, scale=1, **arguments):
    """Returns whether a loaded game continues as the one that was saved, bit for bit."""
    straight = games.make(**arguments)
    games.fit(straight, scale=scale)
    straight.save(path)
    games.fit(straight, scale=scale)
    loaded = keras.saving.load_model(path)
    before = state(loaded)
    games.fit(loaded, scale=scale)
    moved = any(not np.array_equal(a, b) for a, b in zip(before, state(loaded), strict=True))
    pairs = zip(state(straight), state(loaded), strict=True)
    return moved and all(np.array_equal(a, b) for a, b in pairs)


def cases(family):
    """Returns the arguments of every game of a family by its name."""
    if family == "architecture":
        return {name: families.arguments(name) for name in families.NAMES}
    return {
        str(component): component.arguments() | {"conditional": component.conditional}
        for component in games.components(family)
    }


def main(device, family):
    gpu_device.configure(device)
    tf.config.experimental.enable_op_determinism()
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in cases(family).items():
            row = {"name": name, "equal": False, "refused": ""}
            try:
                with tf.device(device):
                    row["equal"] = resumed(pathlib.Path(folder) / "game.keras", **arguments)
            except tf.errors.UnimplementedError as error:
                row["refused"] = " ".join(str(error).split())[:2000]
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
