"""The run folder: complete at any instant; other folders are refused."""

import hashlib
import json
import os

import keras
import numpy as np
import pytest

import keras_gan
from keras_gan import UsageError, recipe
from keras_gan import run as runs


def test_a_new_run_has_its_recipe_and_environment(run):
    assert run.recipe == recipe.load("quickstart")
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["keras"] == keras.__version__
    assert {"tensorflow", "numpy", "python", "platform", "cores", "devices"} <= set(environment)
    assert runs.Run.open(run.path).recipe == run.recipe == run.trained_recipe()
    assert run.spec == keras_gan.Spec("points", (2,))
    assert sum(run.data["counts"].values()) == 40


def test_a_new_run_needs_a_new_or_empty_folder(run, tmp_path):
    with pytest.raises(UsageError, match=r"which exists; continue it with --resume"):
        runs.Run.create(run.path, run.recipe, run.data)
    (tmp_path / "other").mkdir()
    runs.Run.create(tmp_path / "other", run.recipe, run.data)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(UsageError, match="new or empty folder"):
        runs.Run.create(tmp_path / "full", run.recipe, run.data)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="which is a file"):
        runs.Run.create(tmp_path / "file", run.recipe, run.data)
    with pytest.raises(UsageError, match=r"cannot be written: (Not a directory|File exists)"):
        runs.Run.create(tmp_path / "file" / "run", run.recipe, run.data)
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="which does not exist"):
        runs.Run.open(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"which has no recipe.yaml"):
        runs.Run.open(tmp_path)


def test_only_a_run_can_be_replaced(run, tmp_path):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "recipe.yaml").touch()
    with pytest.raises(UsageError, match=r"Only a run folder can be replaced"):
        runs.Run.create(thesis, run.recipe, run.data, replace=True)
    assert (thesis / "recipe.yaml").is_file()
    (run.path / "samples" / "old.png").touch()
    runs.Run.create(run.path, run.recipe, run.data, replace=True)
    assert not (run.path / "samples" / "old.png").exists()
    (run.path / "thesis.txt").touch()
    with pytest.raises(UsageError, match=r"with thesis.txt"):
        runs.Run.create(run.path, run.recipe, run.data, replace=True)
    assert (run.path / "thesis.txt").is_file()


def test_the_last_two_checkpoints_are_kept_and_can_be_loaded(run, make_gan, images):
    gan = make_gan()
    with pytest.raises(UsageError, match="has no checkpoint"):
        run.load()
    for _ in range(3):
        gan.fit(images.take(1), verbose=0)
        run.save(gan)
    names = sorted(path.name for path in run.checkpoints.glob("*.keras"))
    assert names == ["examples-000000016.keras", "examples-000000024.keras"]
    again = run.load()
    assert again.count("examples_seen") == 24
    np.testing.assert_array_equal(again.generate(range(3)), gan.generate(range(3)))
    with pytest.raises(
        UsageError, match=r"last, best, averaged, or a .keras file. Received: 'best'"
    ):
        run.load("best")
    run.save_best(gan, {"sliced_wasserstein": 0.5})
    assert run.load("best").count("examples_seen") == 24
    assert run.best_record == {"sliced_wasserstein": 0.5, "file": "examples-000000024.keras"}


def test_a_damaged_checkpoint_is_named_and_the_previous_one_used(run, make_gan, images):
    gan = make_gan()
    first = run.save(gan)
    gan.fit(images, verbose=0)
    last = run.save(gan)
    last.write_bytes(last.read_bytes()[:5000])
    with pytest.warns(UserWarning, match=r"000032.keras is damaged.* Using examples-000000000"):
        assert run.load().count("examples_seen") == 0
    middle = bytearray(first.read_bytes())
    middle[len(middle) // 2 : len(middle) // 2 + 2000] = bytes(2000)
    last.unlink()
    first.write_bytes(middle)
    with pytest.raises(UsageError, match=r"examples-000000000.keras is damaged"):
        run.load()


def test_a_checkpoint_after_a_roll_back_deletes_those_with_more_examples(run, make_gan, images):
    gan = make_gan()
    for seen in (100, 200, 300):
        gan.examples_seen.assign(seen)
        run.save(gan)
    gan.examples_seen.assign(250)  # rolled back
    run.save(gan)
    names = sorted(path.name for path in run.checkpoints.glob("*.keras"))
    assert names == ["examples-000000200.keras", "examples-000000250.keras"]
    assert run.load().count("examples_seen") == 250


def test_half_written_files_of_a_killed_process_are_deleted(run, make_gan):
    for folder in (run.path, run.samples):
        folder.mkdir(exist_ok=True)
        (folder / ".abc.tmp").write_bytes(b"half")
    (run.path / ".mine").write_text("kept")
    with pytest.raises(UsageError, match=r"Only a run folder can be replaced.*with \.mine"):
        runs.check_new(run.path, replace=True)
    (run.path / ".mine").unlink()
    runs.check_new(run.path, replace=True)
    run.save(make_gan())
    assert not list(run.path.glob("**/.*"))


def test_repeated_saves_create_no_optimizers(run, make_gan, monkeypatch):
    """Keras would create one at every save to list its attributes, and never free it."""
    gan = make_gan()
    run.save(gan)
    made, begin = [], keras.optimizers.Optimizer.__init__

    def counted(self, *args, **kwargs):
        made.append(type(self).__name__)
        begin(self, *args, **kwargs)

    monkeypatch.setattr(keras.optimizers.Optimizer, "__init__", counted)
    for _ in range(3):
        run.save(gan)
    assert made == []


def test_a_single_changed_bit_of_a_checkpoint_is_detected(run, make_gan, images):
    """At any position: the checksums of a zip archive cover only the content of its members."""
    path = run.save(make_gan())
    whole = path.read_bytes()
    body = bytearray(whole[:-71])
    body[-2:] = bytes(2)
    assert whole[-71:] == b"sha256:" + hashlib.sha256(body).hexdigest().encode()
    for place in np.random.default_rng(0).integers(0, len(whole) - 71, 30):
        path.write_bytes(whole)
        with path.open("rb+") as file:
            file.seek(place)
            file.write(bytes([whole[place] ^ 1]))
        with pytest.raises(UsageError, match=r"is damaged|cannot be read"):
            run.load()
    path.write_bytes(whole)
    (run.checkpoints / ".tmpabc.keras").write_bytes(b"half")
    gan = run.load()
    gan.fit(images.take(1), verbose=0)
    run.save(gan, keep=1)
    assert {p.name for p in run.checkpoints.iterdir()} == {
        "recipe.yaml",
        "examples-000000008.keras",
    }


def test_damaged_records_are_named(run):
    run.metrics.write_text("abc,def\nx,y\n")
    with pytest.raises(UsageError, match=r"must hold numbers. Received: .*metrics.csv"):
        run.rows()
    (run.path / "best").mkdir()
    (run.path / "best" / "best.json").write_text("{")
    with pytest.raises(UsageError, match=r"must be readable JSON. Received: .*best.json"):
        run.best_record  # noqa: B018


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
    rows = [{"examples_seen": 10.0, "d_loss": 0.1}, {"examples_seen": 20.0, "val_d_loss": 1e-7}]
    run.write_rows(rows)
    assert run.rows() == rows
