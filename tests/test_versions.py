"""Versions of a model: numbered, complete, with a `latest` that is never half-written."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import bundles
import pytest
import tensorflow as tf

import export.tf_serving
import serving
from export import versions
from export.staging import staging
from keras_gan import UsageError
from keras_gan.__main__ import main


@pytest.fixture
def whole(clothes):
    return clothes.path


def add(whole, folder, version="next", name="clothes"):
    """Publishes a copy of a bundle, as an export does after it has verified a bundle."""
    versions.check_folder(folder, version, name)
    with staging(versions.stage_beside(folder)) as staged:
        staged.rmdir()
        shutil.copytree(whole, staged)
        return versions.publish(staged, folder, version, name)


def test_an_export_adds_the_next_version(tmp_path):
    folder = tmp_path / "models" / "clothes"
    first = bundles.write(folder, version="next")
    assert first.path == folder / "1"
    assert sorted(os.listdir(folder)) == ["1", "latest", "saved_model", "tf_serving"]
    assert serving.Bundle(folder).path == first.path
    with pytest.raises(UsageError, match="never replaced"):
        bundles.write(folder, version=1)
    with pytest.raises(UsageError, match="overwrite=True, version='next'"):
        bundles.write(folder, version="next", overwrite=True)
    with pytest.raises(UsageError, match=r"holds versions: pass version='next'"):
        bundles.write(folder)


def test_versions_are_numbered_and_latest_is_the_highest(whole, tmp_path):
    folder = tmp_path / "clothes"
    assert add(whole, folder).name == "1"
    assert add(whole, folder).name == "2"
    assert add(whole, folder, 7).name == "7"
    assert add(whole, folder, 4).name == "4"
    assert add(whole, folder).name == "8"
    assert versions.numbers(folder) == [1, 2, 4, 7, 8]
    assert os.readlink(folder / "latest") == "8"
    assert serving.Bundle(folder).path == folder / "8"
    assert sorted(os.listdir(folder / "saved_model" / "clothes"), key=int) == list("12478")
    for name, content in export.tf_serving.configuration("clothes").items():
        assert (folder / "tf_serving" / name).read_text() == content


def test_tf_serving_finds_every_version_under_its_base_path(whole, tmp_path):
    """Also if the folder is mounted under another name, as in a container."""
    add(whole, tmp_path / "clothes")
    (tmp_path / "clothes").rename(tmp_path / "mounted")
    folder = tmp_path / "mounted" / "saved_model" / "clothes" / "1"
    assert tf.io.gfile.isdir(str(folder))
    assert tf.saved_model.contains_saved_model(str(folder))
    assert tf.io.gfile.exists(str(folder / "assets.extra" / "tf_serving_warmup_requests"))


def test_readers_of_latest_always_find_a_bundle(whole, tmp_path):
    folder = tmp_path / "clothes"
    add(whole, folder)
    missing, stop = [], threading.Event()

    def look():
        while not stop.is_set():
            if not os.path.isfile(folder / "latest" / "manifest.json"):
                missing.append(1)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(30):
        add(whole, folder)
    stop.set()
    reader.join()
    assert versions.numbers(folder) == list(range(1, 32))
    assert missing == []


def test_simultaneous_exports_get_different_numbers(whole, tmp_path):
    folder = tmp_path / "clothes"
    threads = [threading.Thread(target=add, args=(whole, folder)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert versions.numbers(folder) == list(range(1, 9))
    assert os.readlink(folder / "latest") == "8"
    assert len(os.listdir(folder / "saved_model" / "clothes")) == 8
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


def test_the_next_export_finishes_what_a_killed_one_has_left(whole, tmp_path):
    folder = tmp_path / "clothes"
    add(whole, folder)
    shutil.copytree(whole, folder / "2")  # moved there, then killed before the links
    (folder / ".latest.new").symlink_to("2")
    (folder / ".version.export-abcdefgh").mkdir()
    assert serving.Bundle(folder).path == folder / "1"
    assert add(whole, folder).name == "3"
    assert os.readlink(folder / "latest") == "3"
    assert sorted(os.listdir(folder / "saved_model" / "clothes")) == ["1", "2", "3"]
    assert not [name for name in os.listdir(folder) if name.startswith(".")]


@pytest.mark.parametrize(
    ("version", "rule"),
    [(0, "from 1. Received: version=0"), (True, "from 1"), ("latest", "must be next"), (1.0, "1")],
)
def test_a_version_is_next_or_a_number(version, rule, tmp_path):
    with pytest.raises(UsageError) as caught:
        versions.check_folder(tmp_path / "x", version, "clothes")
    assert rule in str(caught.value)


def test_a_folder_of_something_else_is_refused(whole, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("")
    with pytest.raises(UsageError, match=r"which holds thesis\.txt"):
        versions.check_folder(tmp_path / "home", "next", "clothes")
    with pytest.raises(UsageError, match="hold only versions"):
        versions.check_folder(whole, "next", "clothes")
    with pytest.raises(UsageError, match="must be a folder"):
        versions.check_folder(tmp_path / "home" / "thesis.txt", "next", "clothes")
    add(whole, tmp_path / "clothes")
    with pytest.raises(UsageError, match="Received: 'shoes', and 'clothes'"):
        versions.check_folder(tmp_path / "clothes", "next", "shoes")


# ------------------------------------------------------------------------------ the command line


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "export takes a run, or --check BUNDLE. Received: neither"),
        (["x", "--check", "y"], "Received: both"),
        (["x", "--version", "0"], "--version must be next, or a number from 1"),
        (["x", "--version", "new", "--to", "y"], "Received: --version new"),
        (["x", "--version", "next"], "--version needs --to"),
        (["x", "--layout", "torch"], "must be bundle or triton. Received: --layout torch"),
        (["x", "--layout", "triton", "--overwrite"], "gets a new version"),
        (["--check", "nowhere"], "A bundle must exist. Received: 'nowhere'"),
    ],
)
def test_a_mistake_is_one_line(command, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", *command])
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_check_and_verify_take_the_latest_version(whole, tmp_path, capsys):
    """`export --check` is the same as `verify`; a damaged file suffices for the comparison."""
    add(whole, tmp_path / "clothes")
    bundles.flip(tmp_path / "clothes" / "1" / "model.onnx")
    said = []
    for command in (["export", "--check"], ["verify"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, str(tmp_path / "clothes")])
        assert ended.value.code == 1
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "clothes/1: NOT OK" in said[0]
    assert "model.onnx was changed" in said[0]


@pytest.mark.slow
def test_the_command_line_adds_versions_of_a_run(tmp_path):
    """From a run folder, each command in a process, as users run them."""
    program = [sys.executable, "-m", "keras_gan"]
    root = Path(__file__).parents[1]
    train = [*program, "train", "quickstart", "--set", "training.examples=64", "--run", "runs/q"]
    again = [*program, "export", "runs/q", "--to", "models/q", "--version", "next"]
    env = os.environ | {"PYTHONPATH": str(root)}
    for command in (train, again, again, [*program, "export", "--check", "models/q"]):
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "models/q/2: ok" in done.stdout
    assert versions.numbers(tmp_path / "models" / "q") == [1, 2]
