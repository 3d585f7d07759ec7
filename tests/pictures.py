"""Small games of pictures, their data and their recipes, shared by the tests."""

import json
import os
import signal
import subprocess
import sys

import keras
import numpy as np

from keras_gan import recipe, train
from keras_gan import run as runs

layers = keras.layers


def translator(channels=1, given=1, size=8, features=False, seed=0, dtype="float32"):
    """A translator of two layers; its last one has no bias."""
    keras.utils.set_random_seed(seed)
    picture = keras.Input((size, size, given), name="condition", dtype=dtype)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(picture)
    samples = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
    outputs = samples
    if features:
        heads = [layers.Conv2D(4, 1)(x), layers.Conv2D(5, 1)(samples)]
        outputs = {"samples": samples, "features": heads}
    return keras.Model(picture, outputs)


def judge(channels=1, given=0, size=8, seed=1):
    """A patch discriminator, beside a condition if it has channels."""
    keras.utils.set_random_seed(seed)
    inputs = [keras.Input((size, size, channels), name="samples")]
    if given:
        inputs.append(keras.Input((size, size, given), name="condition"))
    x = layers.Concatenate()(inputs) if given else inputs[0]
    x = layers.Conv2D(6, 3, 2, "same", activation="leaky_relu")(x)
    return keras.Model(inputs, layers.Conv2D(1, 3, padding="same")(x))


def pairs(count=32, size=8, seed=0):
    """Smooth random pictures, and their negatives as the samples to be learned."""
    rng = np.random.default_rng(seed)
    coarse = np.clip(rng.normal(0, 0.5, (count, size // 4, size // 4, 1)), -1, 1)
    condition = coarse.repeat(4, axis=1).repeat(4, axis=2).astype("float32")
    return {"condition": condition, "samples": -condition}


def write(folder, game, **changes):
    """Writes data and a recipe; returns the path of the recipe.

    Args:
        folder: where they are written.
        game: sections `networks` and `game`, as YAML can hold them.
        **changes: further keys of the section `training`.
    """
    with (folder / "pairs.npz").open("wb") as file:
        np.savez(file, **pairs(60, 16))
    training = {"examples": 160, "batch_size": 8, "tick_examples": 32, "checkpoint_seconds": 0}
    tree = {
        "data": {"source": str(folder / "pairs.npz")},
        **game,
        "training": training | changes,
        "evaluation": {"count": 6, "others": []},
        "samples": {"count": 4},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(tree))  # JSON is YAML
    return path


GENERATOR = {"architecture": "unet", "widths": [4, 4], "condition": ["condition"]}
DISCRIMINATOR = {"architecture": "patch", "width": 4, "layers": 1}

KILLED = """
import os, signal, sys
from keras_gan.__main__ import main
replace, count = os.replace, 0
def killed(source, target):
    global count
    count += str(target).endswith(".keras")
    if count == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killed
main(sys.argv[2:])
"""


def check_kill(path, folder, kills):
    """Kills a training while it writes a checkpoint, resumes it, and compares it with a whole one.

    Args:
        path: the recipe.
        folder: an empty folder.
        kills: number of the checkpoint that is being written at each kill.

    Returns:
        The resumed run.
    """
    whole = train.train(recipe.load(str(path)), folder / "whole").run
    run = folder / "killed"
    for number, kill in enumerate(kills):
        given = ["--resume", str(run)] if number else [str(path), "--run", str(run)]
        program = [sys.executable, "-c", KILLED, str(kill), "train", *given]
        done = subprocess.run(program, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    train.resume(run)
    found = [_state(each) for each in (runs.Run.open(run), whole)]
    for (name, a), (_, b) in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert os.listdir(run / "checkpoints") == os.listdir(whole.checkpoints)
    return runs.Run.open(run)


def _state(run):
    """Returns all variables of the last checkpoint, and the rows without times, by name."""
    gan = run.load()
    players = [getattr(gan, f"{player}_optimizer") for player in gan.players]
    found = [(v.path, v.value.numpy()) for owner in (gan, *players) for v in owner.variables]
    timing = ("seconds", "examples_per_second")
    rows = [{k: v for k, v in row.items() if k not in timing} for row in run.rows()]
    return [*found, ("rows", json.dumps(rows, sort_keys=True))]
