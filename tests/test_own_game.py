"""docs/your-own-game.md runs as it is written, and modules of a user's own are found again."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

from keras_gan import UsageError, imports

PAGE = (pathlib.Path(__file__).parents[1] / "docs/your-own-game.md").read_text("utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


PROGRAM = """
import contextlib, io, json, shlex, sys
from keras_gan.__main__ import main
for line in sys.argv[1:]:
    out, status = io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(shlex.split(line.removeprefix("keras-gan ")))
        except SystemExit as end:
            status = end.code or 0
    print(json.dumps([status, out.getvalue()]))
"""


def python(arguments, folder):
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=400
    )


def run(commands, folder):
    """Runs commands in one new process, as TensorFlow takes seconds to start.

    Returns the status and the output of each.
    """
    done = python(["-c", PROGRAM, *commands], folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def works(commands, folder):
    """Runs commands that must succeed, in one new process."""
    for command, (status, output) in zip(commands, run(commands, folder), strict=True):
        assert status == 0, f"{command}\n{output}"


def fails(commands, folder):
    """Returns the lines of commands that must fail by a user's mistake, in one new process."""
    lines = []
    for command, (status, output) in zip(commands, run(commands, folder), strict=True):
        assert status == 2, f"{command}\n{output}"
        (line,) = [line for line in output.splitlines() if line.startswith("keras-gan: error: ")]
        lines.append(line)
    return lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the whole page has been followed."""
    folder = tmp_path_factory.mktemp("own_game")
    game, program = blocks("python")
    (text,) = blocks("yaml")
    (commands,) = blocks("bash")
    assert len(game.splitlines()) < 40
    (folder / "my_game.py").write_text(game)
    (folder / "my_recipe.yaml").write_text(text)
    *library, sample = commands.splitlines()
    works(library[:2], folder)
    works(library[2:], folder)  # finds the module again by itself
    done = python(["-m", "serving.cli", *shlex.split(sample)[1:]], folder)
    assert done.returncode == 0, done.stderr
    (folder / "program.py").write_text(program + "assert points.shape == (16, 2)\n")
    done = python(["program.py"], folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.timeout(600)
def test_the_page_trains_resumes_evaluates_and_exports_a_game(folder):
    run_folder = folder / "runs/clipped"
    rows = (run_folder / "metrics.csv").read_text().splitlines()
    assert {"critic_loss", "generator_loss"} <= set(rows[0].split(","))
    assert rows[-1].startswith("12800,")
    assert "critic_loss" in (run_folder / "report.html").read_text()
    (recorded,) = json.loads((run_folder / "imports.json").read_text())["modules"]
    assert recorded["path"] == str(folder / "my_game.py")
    manifest = json.loads((run_folder / "bundle/manifest.json").read_text())
    assert manifest["training"]["examples_seen"] == 12800
    with np.load(folder / "points.npz") as points:
        assert points["samples"].shape == (16, 2)


@pytest.mark.timeout(600)
def test_a_module_that_is_missing_or_has_changed_is_named(folder):
    resume = "keras-gan train --resume runs/clipped --set training.examples=13000"
    game = folder / "my_game.py"
    source = game.read_text()
    game.write_text(source + "# another line\n")
    (changed,) = fails([resume], folder)
    assert f"trained with --import {game}, which has changed since" in changed
    game.rename(folder / "elsewhere.py")
    (missing,) = fails(["keras-gan export runs/clipped --to other"], folder)
    assert f"trained with --import {game}, which does not exist" in missing
    assert not (folder / "other").exists()
    game.write_text(source + "# another line\n")
    works([f"{resume} --import my_game.py"], folder)
    works(["keras-gan evaluate runs/clipped --count 100"], folder)  # recorded as it is now
    game.write_text(source)


@pytest.mark.timeout(600)
def test_a_mistake_in_names_leaves_no_run_folder(folder):
    """Nothing is imported from the current folder by itself; players and networks are checked."""
    train = "keras-gan train my_recipe.yaml --run runs/none"
    given = f"{train} --import my_game.py"
    name, player, network, term, option = fails(
        [
            train,
            f"{given} --set 'optimizers.discriminator={{}}'",
            f"{given} --set 'networks.judge={{architecture: mlp}}'",
            f"{given} --set 'game.terms=[r1]'",
            f"{given} --set game.limt=1",
        ],
        folder,
    )
    assert "game.name must name a game. Received: 'clipped_wasserstein'" in name
    unknown = "optimizers.discriminator is not a key of the recipe. Valid: critic, generator"
    assert unknown in player
    assert "networks.judge is not a key of the recipe" in network
    assert "'r1' is for the player 'discriminator'" in term
    assert "game.limt is not an option of the game" in option
    assert not (folder / "runs/none").exists()


def test_a_module_that_cannot_be_imported_is_one_line(tmp_path):
    broken = tmp_path / "broken_game.py"
    broken.write_text("import keras\n\n1 / 0\n")
    with pytest.raises(UsageError, match=r"broken_game.py, which fails in line 3: ZeroDivision"):
        imports.load([str(broken)])
    broken.write_text("def (:\n")
    with pytest.raises(UsageError, match=r"which fails in line 1: SyntaxError"):
        imports.load([str(broken)])
    with pytest.raises(UsageError, match=r"does not exist. Did you mean 'broken_game.py'"):
        imports.load([str(tmp_path / "broken_games.py")])
    with pytest.raises(UsageError, match=r"'no_such_module', which is neither installed nor"):
        imports.load(["no_such_module"])
    (tmp_path / "json.py").write_text("")
    with pytest.raises(UsageError, match=r"but a module 'json' is imported"):
        imports.load([str(tmp_path / "json.py")])


@pytest.fixture(scope="module")
def few_classes(tmp_path_factory):
    """Points of three classes."""
    path = tmp_path_factory.mktemp("data") / "points.npz"
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    points = rng.normal(size=(400, 2)) + labels[:, None]
    np.savez(path, samples=points.astype("float32"), labels=labels)
    return path


ACGAN = """
data: {source: DATA}
networks:
  generator: {architecture: mlp, condition: [labels], widths: [16]}
  discriminator: {architecture: mlp, widths: [16], auxiliary_classes: true}
game: {terms: [auxiliary_classifier]}
training: {examples: 128, batch_size: 32}
evaluation: {count: 16}
"""


@pytest.mark.timeout(600)
def test_a_folder_without_a_module_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "plain_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"Received: 'plain_folder', a folder without __init__"):
        imports.load(["plain_folder"])


def test_a_term_without_its_output_is_refused_before_the_first_step(few_classes, tmp_path):
    (tmp_path / "acgan.yaml").write_text(ACGAN.replace("DATA", str(few_classes)))
    train = "keras-gan train acgan.yaml --run run"
    without = f"{train} --set networks.discriminator.auxiliary_classes=false"
    (line,) = fails([without], tmp_path)
    assert "'auxiliary_classifier' reads the output 'classes' of the discriminator" in line
    assert line.endswith("Received: a discriminator with the outputs logits")
    assert not (tmp_path / "run").exists()
    works([train], tmp_path)
    header = (tmp_path / "run/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"auxiliary_classifier", "generator_auxiliary_classifier"} <= set(header)
