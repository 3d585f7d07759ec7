"""The run folder: whole at any instant, and what is not one is refused."""

import json
import os

import keras
import numpy as np
import pytest

from keras_gan import UsageError, recipe
from keras_gan import run as runs


@pytest.fixture
def run(tmp_path):
    return runs.Run.create(tmp_path / "run", recipe.load("quickstart"))


def test_a_new_run_has_its_recipe_and_environment(run):
    assert run.recipe == recipe.load("quickstart")
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["keras"] == keras.__version__
    assert {"tensorflow", "numpy", "python", "platform", "cores", "devices"} <= set(environment)
    assert runs.Run.open(run.path).recipe == run.recipe


def test_only_new_or_empty_folders_are_taken(run, tmp_path):
    with pytest.raises(UsageError, match=r"which exists; go on with --resume"):
        runs.Run.create(run.path, run.recipe)
    (tmp_path / "other").mkdir()
    runs.Run.create(tmp_path / "other", run.recipe)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(UsageError, match="new or empty folder"):
        runs.Run.create(tmp_path / "full", run.recipe)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="which is a file"):
        runs.Run.create(tmp_path / "file", run.recipe)
    with pytest.raises(UsageError, match="cannot be written: Not a directory"):
        runs.Run.create(tmp_path / "file" / "run", run.recipe)


def test_what_is_no_run_is_told(tmp_path):
    with pytest.raises(UsageError, match="which does not exist"):
        runs.Run.open(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"which has no recipe.yaml"):
        runs.Run.open(tmp_path)


def test_removing_spares_what_is_no_run(run, tmp_path):
    (tmp_path / "thesis").mkdir()
    with pytest.raises(UsageError, match=r"without recipe.yaml"):
        runs.remove(tmp_path / "thesis")
    assert (tmp_path / "thesis").is_dir()
    runs.remove(run.path)
    assert not run.path.exists()
    runs.remove(run.path)


def test_checkpoints_keep_the_last_two_and_come_back_whole(run, make_gan, images):
    gan = make_gan()
    with pytest.raises(UsageError, match="no checkpoint yet"):
        run.load()
    for _ in range(3):
        gan.fit(images.take(1), verbose=0)
        run.save(gan)
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert names == ["images-000000016.keras", "images-000000024.keras"]
    again = run.load()
    assert again.count("images_seen") == 24
    np.testing.assert_array_equal(again.generate(range(3)), gan.generate(range(3)))
    with pytest.raises(UsageError, match=r"last, best, or a .keras file. Received: 'best'"):
        run.load("best")
    run.save_best(gan, {"sliced_wasserstein": 0.5})
    assert run.load("best").count("images_seen") == 24
    assert run.best_record == {"sliced_wasserstein": 0.5}


def test_a_damaged_checkpoint_is_named(run, make_gan):
    path = run.save(make_gan())
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UsageError, match=r"images-000000000.keras cannot be read"):
        run.load()


def test_a_failed_write_leaves_the_old_file(run, monkeypatch):
    path = run.path / "metrics.csv"
    runs.write_atomically(path, b"old")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match=r"metrics.csv cannot be written: No space left"):
        runs.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert not [p for p in run.path.iterdir() if p.name.startswith(".")]


def test_rows_round_trip_with_gaps(run):
    rows = [{"images_seen": 10.0, "d_loss": 0.1}, {"images_seen": 20.0, "val_d_loss": 1e-7}]
    run.write_rows(rows)
    assert run.rows() == rows
