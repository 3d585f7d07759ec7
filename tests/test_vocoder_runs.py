"""Vocoders by recipe: training from arrays, preview, evaluation, export, kills in both stages."""

import json

import numpy as np
import pytest
from pictures import check_kill
from sounds import MEL, NETWORKS, tones

from export.manifest import Manifest
from keras_gan import recipe, train
from keras_gan.__main__ import main

TREE = {
    "networks": NETWORKS,
    "game": {
        "name": "two_stage",
        "first_stage": 0.5,
        "adversarial_weight": 1.0,
        "loss": "least_squares",
        "terms": [
            {"name": "mel_reconstruction", "weight": 15.0},
            {"name": "spectral", "windows": [64]},
            {"name": "feature_matching", "distance": "l1"},
        ],
        "ema_half_life": 50,
    },
    "evaluation": {"count": 6, "others": []},
    "samples": {"count": 4},
}


def write(folder, examples):
    with (folder / "clips.npz").open("wb") as file:
        np.savez(file, **tones(60))
    data = {
        "source": str(folder / "clips.npz"),
        "kind": {"samples": "audio", "mel": "mel"},
        "sample_rate": 8000,
        "mel": {"mel": MEL.to_meta()},
    }
    training = {"examples": examples, "batch_size": 8, "tick_examples": 32, "checkpoint_seconds": 0}
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({"data": data, **TREE, "training": training}))
    return path


def test_a_recipe_is_trained_and_exported(tmp_path):
    path = write(tmp_path, examples=64)
    run = train.train(recipe.load(str(path)), tmp_path / "run").run
    rows = run.rows()
    assert ["d_loss" in row for row in rows] == [False, True]
    assert ["generator_feature_matching" in row for row in rows] == [False, True]
    main(["export", str(run.path)])
    manifest = Manifest.load(run.path / "bundle")
    assert manifest.role == "vocoder"
    assert manifest.audio == {"context": 8}
    assert manifest.inputs[0].meta["mel"] == MEL.to_meta()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_training_killed_in_both_stages_is_resumed(tmp_path):
    """Kills at 64 of 160 examples, before the border at 80, and at 128, after it."""
    run = check_kill(write(tmp_path, examples=160), tmp_path, kills=(2, 3))
    rows = run.rows()
    assert ["d_loss" in row for row in rows] == [False, False, True, True, True]
