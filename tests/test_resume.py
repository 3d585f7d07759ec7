"""Killed at any instant, a training goes on as if nothing had happened: bit for bit."""

import hashlib
import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_gan import UsageError, recipe, train
from keras_gan import run as runs

SETTINGS = {
    # Every tick of four steps ends with a checkpoint, so that most kills fall into a writing.
    "quickstart": [
        "generator.widths=[8,4,4]",
        "discriminator.widths=[8,4,4]",
        "generator.latent_dim=4",
        "game.penalties=[{name: r1, interval: 3}, le_cam]",
        "game.augment=adaptive",
        "optimizers.generator.learning_rate={name: cosine, start: 1.0e-3}",
        "training.batch_size=8",
        "training.tick_images=32",
        "evaluation.count=16",
        "evaluation.every_images=640",
        "samples.count=4",
        "samples.every_seconds=0.3",
        "training.checkpoint_seconds=0",
    ],
    "gaussians-8": [
        "generator.widths=[16,16]",
        "discriminator.widths=[16,16]",
        "training.batch_size=32",
        "training.tick_images=128",
        "evaluation.count=100",
        "evaluation.every_images=2560",
        "samples.count=10",
        "training.checkpoint_seconds=0",
    ],
}


def settings_of(name, ticks):
    images = ticks * (32 if name == "quickstart" else 128)
    return [*SETTINGS[name], f"training.images={images}", "training.minutes=null"]


def command(name, run, ticks):
    if (run / "recipe.yaml").exists():
        return [sys.executable, "-m", "keras_gan", "train", "--resume", str(run)]
    given = [part for setting in settings_of(name, ticks) for part in ("--set", setting)]
    return [sys.executable, "-m", "keras_gan", "train", name, *given, "--run", str(run)]


def start(name, run, ticks):
    log = run.parent / "log.txt"
    with log.open("ab") as file:
        return subprocess.Popen(command(name, run, ticks), stdout=file, stderr=file)


def outcome(run):
    """All that must not differ: weights, moments and counters, rows, the last grid."""
    opened = runs.Run.open(run)
    gan = opened.load()
    optimizers = (gan.generator_optimizer, gan.discriminator_optimizer)
    numbers = [v.value.numpy() for owner in (gan, *optimizers) for v in owner.variables]
    timing = ("seconds", "images_per_second")
    rows = [{k: v for k, v in row.items() if k not in timing} for row in opened.rows()]
    grid = max(opened.samples.glob("images-*.png")).read_bytes()
    return numbers, rows, (opened.best_record, hashlib.sha256(grid).hexdigest())


def assert_same(a, b):
    for x, y in zip(a[0], b[0], strict=True):
        np.testing.assert_array_equal(x, y)
    assert len(a[1]) == len(b[1])
    for x, y in zip(a[1], b[1], strict=True):
        assert {k: (x.get(k), y.get(k)) for k in x.keys() | y.keys() if x.get(k) != y.get(k)} == {}
    assert a[2] == b[2]


def killed_and_resumed(name, folder, kills, ticks, seed):
    """Kills a training so often, and lets it end: how many kills left something half written."""
    rng, run = random.Random(seed), folder / "killed"
    half = done = 0
    while done < kills:
        process = start(name, run, ticks)
        checkpoints = set((run / "checkpoints").glob("images-*.keras"))
        if done % 5:  # as it plays and writes; else as it starts
            while set((run / "checkpoints").glob("images-*.keras")) == checkpoints:
                assert process.poll() is None, (folder / "log.txt").read_text()[-2000:]
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.6))
        else:
            time.sleep(rng.uniform(0, 8))
        assert process.poll() is None, "it has ended too early: give it more ticks"
        process.send_signal(signal.SIGKILL)
        process.wait()
        done += 1
        half += bool(list((run / "checkpoints").glob(".*")) if run.exists() else [])
    process = start(name, run, ticks)
    assert process.wait(timeout=600) == 0, (folder / "log.txt").read_text()[-2000:]
    return run, half


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "ticks"), [("quickstart", 120), ("gaussians-8", 150)])
def test_twenty_kills_leave_no_trace(name, ticks, tmp_path):
    straight = train.train(recipe.load(name, settings_of(name, ticks)), tmp_path / "straight")
    run, half = killed_and_resumed(name, tmp_path, kills=20, ticks=ticks, seed=7)
    assert_same(outcome(run), outcome(straight.run.path))
    assert half > 0, "no kill was in the middle of a write"
    assert not list((run / "checkpoints").glob(".*"))


KILLED_WITHIN = """
import os, signal, sys
from keras_gan.__main__ import main
replace, count = os.replace, 0
def killed(source, target):
    global count
    count += str(target).endswith(".keras")
    if count == 3 and sys.argv[1] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = killed
main(sys.argv[2:])
"""


@pytest.mark.parametrize("instant", ["before", pytest.param("after", marks=pytest.mark.slow)])
def test_killed_in_the_middle_of_writing_a_checkpoint(instant, tmp_path):
    """Between writing the temporary file and giving it its name; or just after."""
    ticks, run = 6, tmp_path / "run"
    arguments = command("gaussians-8", run, ticks)[3:]
    program = [sys.executable, "-c", KILLED_WITHIN, instant, *arguments]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    found = sorted(p.name for p in (run / "checkpoints").glob("images-*.keras"))
    last = {"before": 2, "after": 3}[instant]
    assert found[-1] == f"images-{128 * last:09d}.keras"
    assert len(list((run / "checkpoints").glob(".*"))) == (instant == "before")
    train.resume(run)
    straight = train.train(
        recipe.load("gaussians-8", settings_of("gaussians-8", ticks)), tmp_path / "straight"
    )
    assert_same(outcome(run), outcome(straight.run.path))


def points(*settings, ticks=4):
    return recipe.load("gaussians-8", [*settings_of("gaussians-8", ticks), *settings])


@pytest.mark.slow
def test_killed_before_the_first_checkpoint_it_starts_anew(tmp_path):
    whole = train.train(points(), tmp_path / "whole")
    data = runs.describe_data(train.open_data(points()))
    run = runs.Run.create(tmp_path / "run", points(), data)
    train.resume(run.path)
    assert_same(outcome(run.path), outcome(whole.run.path))


@pytest.mark.slow
def test_stopped_within_a_tick_the_next_rows_are_as_they_would_be(tmp_path):
    whole = train.train(points(), tmp_path / "whole")
    part = train.train(points("training.images=200"), tmp_path / "part")
    assert part.gan.count("iteration") == 7  # of 4 steps a tick
    fixed = "optimizers.{}.learning_rate.images=512"
    settings = [fixed.format(role) for role in ("generator", "discriminator")]
    whole = train.train(points(*settings), tmp_path / "fixed")
    train.train(points("training.images=200", *settings), tmp_path / "run")
    train.resume(tmp_path / "run", ("training.images=512",))
    a, b = outcome(tmp_path / "run"), outcome(whole.run.path)
    assert [row["images_seen"] for row in a[1]] == [128, 224, 256, 384, 512]
    assert [row["images_seen"] for row in b[1]] == [128, 256, 384, 512]
    assert a[1][-2:] == b[1][-2:]
    for x, y in zip(a[0], b[0], strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_a_full_disk_costs_no_more_than_what_was_not_written(tmp_path):
    """Files are limited to 40 kB, as a full disk would; checkpoints are larger."""
    whole = train.train(points(), tmp_path / "whole")
    settings = [f"optimizers.{r}.learning_rate.images=512" for r in ("generator", "discriminator")]
    train.train(points("training.images=256", *settings), tmp_path / "run")
    before = sorted((tmp_path / "run" / "checkpoints").iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UsageError, match=r"cannot be written: "):
            train.resume(tmp_path / "run", ("training.images=512",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted((tmp_path / "run" / "checkpoints").iterdir()) == before
    train.resume(tmp_path / "run", ("training.images=512",))
    for x, y in zip(outcome(tmp_path / "run")[0], outcome(whole.run.path)[0], strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_a_clock_that_goes_backwards_changes_nothing(tmp_path, monkeypatch):
    whole = train.train(points(), tmp_path / "whole")
    now = [2e9]

    def backwards():
        now[0] -= 1000
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    train.train(points(), tmp_path / "run")
    assert now[0] < 2e9
    assert_same(outcome(tmp_path / "run"), outcome(whole.run.path))
    rows = runs.Run.open(tmp_path / "run").rows()
    assert all(a["seconds"] < b["seconds"] for a, b in itertools.pairwise(rows))


# ------------------------------------------------------------------------ another recipe


def test_what_is_overridden_may_change_and_the_numbers_stay(tmp_path):
    run = tmp_path / "run"
    first = train.train(points("training.images=256"), run)
    before = [v.value.numpy() for v in first.gan.discriminator_optimizer.variables]
    changed = ("training.images=512", "game.loss=hinge")
    with pytest.raises(UsageError, match=r"--override KEY lets another one change. Received: "):
        train.resume(run, changed)
    override = ("game.loss", "training.images")
    after = train.resume(run, changed, override=override)
    assert type(after.gan.adversarial_loss).__name__ == "Hinge"
    assert after.gan.count("images_seen") == 512
    again = runs.Run.open(run).recipe
    assert again.game.loss == "hinge"
    opened = runs.Run.open(run)
    gan = opened.load(into=train.build(again, opened.spec))
    assert int(gan.discriminator_optimizer.iterations.value.numpy()) == 16
    assert len(before) == len(gan.discriminator_optimizer.variables)
    for a, b in zip(after.gan.get_weights(), gan.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_an_overridden_learning_rate_is_the_one_that_is_used(tmp_path):
    """Keras keeps a constant rate among the numbers of a checkpoint."""
    rates = [f"optimizers.{role}.learning_rate=0.001" for role in ("generator", "discriminator")]
    train.train(points(*rates, ticks=1), tmp_path / "run")
    key = "optimizers.generator.learning_rate"
    settings = ("training.images=256", f"{key}=0.00025")
    gan = train.resume(tmp_path / "run", settings, override=(key,)).gan
    assert float(gan.generator_optimizer.learning_rate) == pytest.approx(0.00025)
    assert float(gan.discriminator_optimizer.learning_rate) == pytest.approx(0.001)
    assert int(gan.generator_optimizer.iterations.value.numpy()) == 8


def test_an_override_that_changes_nothing_of_the_game_is_bit_exact(tmp_path):
    whole = train.train(points(), tmp_path / "whole")
    settings = [f"optimizers.{r}.learning_rate.images=512" for r in ("generator", "discriminator")]
    train.train(points("training.images=256", *settings), tmp_path / "run")
    train.resume(
        tmp_path / "run", ("training.images=512", "samples.count=11"), override=("samples",)
    )
    for x, y in zip(outcome(tmp_path / "run")[0], outcome(whole.run.path)[0], strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("override", "settings", "message"),
    [
        ("game.los", (), r"must name a key or a section.*'game.los'. Did you mean 'game.loss'"),
        ("training", (), r"keeps its data and the size of its batches.*--override training$"),
        ("data.source", (), r"keeps its data.*--override data.source$"),
        (
            "generator.widths",
            ("generator.widths=[8,8]", "training.images=1024"),
            r"must leave every weight and moment in its place. Received: .*keras, of which Keras",
        ),
    ],
)
def test_an_override_that_cannot_be(override, settings, message, tmp_path):
    train.train(points("training.images=128"), tmp_path / "run")
    before = sorted((tmp_path / "run").rglob("*"))
    with pytest.raises(UsageError, match=message):
        train.resume(tmp_path / "run", settings, override=(override, "training.images"))
    assert sorted((tmp_path / "run").rglob("*")) == before
    assert json.loads((tmp_path / "run" / "ending.json").read_text())["reason"] == "finished"
    assert os.access(tmp_path / "run", os.W_OK)
