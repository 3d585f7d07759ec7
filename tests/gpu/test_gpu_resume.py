"""Resuming on the device: bit for bit under deterministic operations, else within a tolerance."""

import functools
import json
import pathlib
import re
import subprocess
import sys

import deterministic
import gpu_games as games
import keras
import numpy as np
import pytest

# Operations without a deterministic kernel on a GPU, for each game that needs one, as
# TensorFlow's error names them. docs/gpu.md has the same table. Empty until the suite has run on
# a GPU: the first run fails for every game that belongs here and prints its line.
WITHOUT_DETERMINISM: dict[str, str] = {}
FAMILIES = ("term", "augment", "game", "architecture")
CASES = [(family, name) for family in FAMILIES for name in deterministic.cases(family)]
PROGRAM = pathlib.Path(deterministic.__file__)


@functools.cache
def outcomes(device, family):
    """Returns what the program prints for a family; it runs once in a process."""
    path = [str(PROGRAM.parent), str(PROGRAM.parents[1]), str(PROGRAM.parents[2])]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\nimport deterministic\n"
         "deterministic.main(*sys.argv[1:])", device, family],
        capture_output=True,
        text=True,
        timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {row["name"]: row for row in rows}


@pytest.mark.timeout(520)  # the first of a family waits for all of it
@pytest.mark.parametrize(("family", "name"), CASES, ids=[name for _, name in CASES])
def test_a_resumed_game_ends_in_the_same_bits_or_names_the_operation(family, name, device):
    row = outcomes(device, family)[name]
    documented = WITHOUT_DETERMINISM.get(name, "") if device.startswith("GPU") else ""
    found = operation(row["refused"])
    assert found == documented, (
        f"write it into WITHOUT_DETERMINISM and docs/gpu.md: {name!r}: {found!r}. {row['refused']}"
    )
    assert row["equal"] is not bool(found)


def operation(message):
    """Returns the operation that TensorFlow's error of a missing deterministic kernel names."""
    if not message:
        return ""
    named = re.search(r"implementation of (\w+)|(\w+) is not .*determini|for (\w+)", message)
    return next((n for n in named.groups() if n), message[:200]) if named else message[:200]


def test_the_name_of_an_operation_is_found_in_an_error():
    """In the words of TensorFlow 2.21."""
    for message, name in {
        "A deterministic GPU implementation of CropAndResizeBackpropImage is not currently "
        "available.": "CropAndResizeBackpropImage",
        "Determinism is not yet supported in GPU implementation of FusedBatchNormGradGrad.": (
            "FusedBatchNormGradGrad"
        ),
        "": "",
    }.items():
        assert operation(message) == name


@pytest.mark.parametrize("precision", games.PRECISIONS)
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_a_resumed_game_continues_within_the_tolerance(precision, jit_compile, on_device, tmp_path):
    """With the device's usual operations, whose sums may have another order each time."""
    arguments = {"terms": ["r1", "le_cam"], "augment": "diff_augment"}
    straight = games.make(precision, jit_compile, **arguments)
    games.fit(straight)
    straight.save(tmp_path / "game.keras")
    games.fit(straight)
    loaded = keras.saving.load_model(tmp_path / "game.keras")
    games.assert_placed(loaded, on_device)
    assert loaded.jit_compile is jit_compile
    before = {name: games.weights(loaded, name) for name in loaded.networks}
    games.fit(loaded)
    assert loaded.count("iteration") == straight.count("iteration") == 2 * games.STEPS
    for name, values in before.items():
        update = games.weights(straight, name) - values
        error = games.weights(loaded, name) - games.weights(straight, name)
        assert np.linalg.norm(error) <= games.TOLERANCES[precision] * np.linalg.norm(update), name
