"""A training that is killed at any instant is resumed bit for bit."""

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

from keras_gan import UsageError, callbacks, data_record, recipe, train
from keras_gan import run as runs

SETTINGS = {
    # Every tick of four steps ends with a checkpoint, so that most kills interrupt a write.
    "quickstart": [
        "networks.generator.widths=[8,4,4]",
        "networks.discriminator.widths=[8,4,4]",
        "networks.generator.latent_dim=4",
        "game.terms=[{name: r1, interval: 3}, le_cam]",
        "game.augment=adaptive",
        "optimizers.generator.learning_rate={name: cosine, start: 1.0e-3, examples: 10000}",
        "training.batch_size=8",
        "training.tick_examples=32",
        "evaluation.count=16",
        "evaluation.every_examples=640",
        "samples.count=4",
        "samples.every_seconds=0.3",
        "training.checkpoint_seconds=0",
    ],
    "gaussians-8": [
        "optimizers.generator.learning_rate.examples=30000",
        "optimizers.discriminator.learning_rate.examples=30000",
        "networks.generator.widths=[16,16]",
        "networks.discriminator.widths=[16,16]",
        "training.batch_size=32",
        "training.tick_examples=128",
        "evaluation.count=100",
        "evaluation.every_examples=2560",
        "samples.count=10",
        "training.checkpoint_seconds=0",
    ],
}
LONG = 10**6  # examples: more than are ever reached


def settings_of(name, images):
    return [*SETTINGS[name], f"training.examples={images}", "training.minutes=null"]


def command(name, run, images):
    if (run / "recipe.yaml").exists():
        given = ["--resume", str(run), "--set", f"training.examples={images}"]
        return [sys.executable, "-m", "keras_gan", "train", *given]
    given = [part for setting in settings_of(name, images) for part in ("--set", setting)]
    return [sys.executable, "-m", "keras_gan", "train", name, *given, "--run", str(run)]


def start(name, run, images):
    log = run.parent / "log.txt"
    with log.open("ab") as file:
        return subprocess.Popen(command(name, run, images), stdout=file, stderr=file)


def outcome(run):
    """Returns everything that must not differ: weights, moments, counters, rows, preview."""
    opened = runs.Run.open(run)
    gan = opened.load()
    optimizers = (gan.generator_optimizer, gan.discriminator_optimizer)
    numbers = [v.value.numpy() for owner in (gan, *optimizers) for v in owner.variables]
    timing = ("seconds", "examples_per_second")
    rows = [{k: v for k, v in row.items() if k not in timing} for row in opened.rows()]
    grid = max(opened.samples.glob("examples-*.png")).read_bytes()
    if opened.best_record:
        numbers += [v.value.numpy() for v in opened.load("best").variables]
    return numbers, rows, (opened.best_record, hashlib.sha256(grid).hexdigest())


def assert_same(a, b):
    for x, y in zip(a[0], b[0], strict=True):
        np.testing.assert_array_equal(x, y)
    assert len(a[1]) == len(b[1])
    for x, y in zip(a[1], b[1], strict=True):
        assert {k: (x.get(k), y.get(k)) for k in x.keys() | y.keys() if x.get(k) != y.get(k)} == {}
    assert a[2] == b[2]


def kill(name, folder, kills, seed):
    """Kills a training repeatedly. Returns the run, and the number of interrupted writes."""
    rng, run = random.Random(seed), folder / "killed"
    half = 0
    for done in range(kills):
        process = start(name, run, LONG)
        checkpoints = set((run / "checkpoints").glob("examples-*.keras"))
        if done % 5:  # during training and writing; otherwise during the start
            while set((run / "checkpoints").glob("examples-*.keras")) == checkpoints:
                assert process.poll() is None, (folder / "log.txt").read_text()[-2000:]
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.6))
        else:
            time.sleep(rng.uniform(0, 8))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, (folder / "log.txt").read_text()[-2000:]
        half += bool(list((run / "checkpoints").glob(".*")) if run.exists() else [])
    return run, half


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", SETTINGS)
def test_twenty_kills_leave_no_trace(name, tmp_path):
    run, half = kill(name, tmp_path, kills=20, seed=7)
    assert half > 0, "no kill was in the middle of a write"
    tick = recipe.load(name, settings_of(name, LONG)).training.tick_examples
    reached = max(int(path.stem[9:]) for path in (run / "checkpoints").glob("examples-*.keras"))
    images = reached + 5 * tick
    assert images >= 20 * tick, "it was killed again and again at the same place"
    train.resume(run, (f"training.examples={images}",))
    assert not list((run / "checkpoints").glob(".*"))
    straight = train.train(recipe.load(name, settings_of(name, images)), tmp_path / "straight")
    assert_same(outcome(run), outcome(straight.run.path))


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
def test_a_kill_while_a_checkpoint_is_written_leaves_no_trace(instant, tmp_path):
    """Before the temporary file is renamed, or just after."""
    images, run = 6 * 128, tmp_path / "run"
    arguments = command("gaussians-8", run, images)[3:]
    program = [sys.executable, "-c", KILLED_WITHIN, instant, *arguments]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    found = sorted(p.name for p in (run / "checkpoints").glob("examples-*.keras"))
    last = {"before": 2, "after": 3}[instant]
    assert found[-1] == f"examples-{128 * last:09d}.keras"
    assert len(list((run / "checkpoints").glob(".*"))) == (instant == "before")
    train.resume(run)
    straight = train.train(
        recipe.load("gaussians-8", settings_of("gaussians-8", images)), tmp_path / "straight"
    )
    assert_same(outcome(run), outcome(straight.run.path))


def points(*settings):
    return recipe.load("gaussians-8", [*settings_of("gaussians-8", 512), *settings])


@pytest.mark.slow
def test_a_run_killed_before_the_first_checkpoint_starts_from_the_beginning(tmp_path):
    whole = train.train(points(), tmp_path / "whole")
    data = data_record.describe_data(train.open_data(points()))
    run = runs.Run.create(tmp_path / "run", points(), data)
    train.resume(run.path)
    assert_same(outcome(run.path), outcome(whole.run.path))


@pytest.mark.slow
def test_a_stop_within_a_tick_does_not_change_later_rows(tmp_path):
    whole = train.train(points(), tmp_path / "whole")
    part = train.train(points("training.examples=200"), tmp_path / "part")
    assert part.gan.count("iteration") == 7  # of 4 steps a tick
    train.resume(part.run.path, ("training.examples=512",))
    a, b = outcome(part.run.path), outcome(whole.run.path)
    assert [row["examples_seen"] for row in a[1]] == [128, 224, 256, 384, 512]
    assert [row["examples_seen"] for row in b[1]] == [128, 256, 384, 512]
    assert a[1][-2:] == b[1][-2:]
    for x, y in zip(a[0], b[0], strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_resume_within_a_tick_is_one_training(tmp_path, monkeypatch):
    """A signal at the end of the interrupted tick is not lost, and no ending is written there."""
    run = train.train(points("training.examples=200"), tmp_path / "run").run
    endings, row = [], callbacks.RunWriter.on_epoch_end

    def interrupted(self, epoch, logs=None):
        row(self, epoch, logs)
        endings.append(run.ending)
        if len(endings) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(callbacks.RunWriter, "on_epoch_end", interrupted)
    outcome = train.resume(run.path, ("training.examples=512",))
    assert outcome.reason == run.ending["reason"] == "interrupted"
    assert [row["examples_seen"] for row in run.rows()] == [128, 224, 256, 288]
    assert endings == [None, None]


def test_a_signal_while_the_end_is_written_loses_nothing(tmp_path, monkeypatch):
    save = callbacks.RunWriter._save

    def interrupted(self):
        if self.model.count("examples_seen") == 256:
            os.kill(os.getpid(), signal.SIGTERM)
        save(self)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # which would end this process
    monkeypatch.setattr(callbacks.RunWriter, "_save", interrupted)
    try:
        outcome = train.train(points("training.examples=256"), tmp_path / "run")
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (outcome.reason, outcome.signal) == ("finished", None)
    assert outcome.run.load().count("examples_seen") == 256


@pytest.mark.slow
def test_a_full_disk_loses_only_what_was_not_written(tmp_path):
    """A limit on the size of files, below that of a checkpoint, stands in for a full disk."""
    whole = train.train(points(), tmp_path / "whole")
    train.train(points("training.examples=256"), tmp_path / "run")
    before = sorted((tmp_path / "run" / "checkpoints").iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UsageError, match=r"cannot be written: "):
            train.resume(tmp_path / "run", ("training.examples=512",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted((tmp_path / "run" / "checkpoints").iterdir()) == before
    train.resume(tmp_path / "run", ("training.examples=512",))
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


# ------------------------------------------------------------------------ changed recipes


def test_an_overridden_key_may_change_and_the_weights_stay(tmp_path):
    run = tmp_path / "run"
    first = train.train(points("training.examples=256"), run)
    before = [v.value.numpy() for v in first.gan.discriminator_optimizer.variables]
    changed = ("training.examples=512", "game.loss=hinge")
    with pytest.raises(UsageError, match=r"Use --override KEY to change another key. Received: "):
        train.resume(run, changed)
    override = ("game.loss", "training.examples")
    after = train.resume(run, changed, override=override)
    assert type(after.gan.adversarial_loss).__name__ == "Hinge"
    assert after.gan.count("examples_seen") == 512
    again = runs.Run.open(run).recipe
    assert again.game.loss == "hinge"
    opened = runs.Run.open(run)
    gan = opened.load(into=train.build(again, opened.spec))
    assert int(gan.discriminator_optimizer.iterations.value.numpy()) == 16
    assert len(before) == len(gan.discriminator_optimizer.variables)
    for a, b in zip(after.gan.get_weights(), gan.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_an_overridden_game_has_no_checkpoints_of_the_previous_game(tmp_path):
    run = train.train(points("training.examples=384", "training.keep_checkpoints=3"), tmp_path).run
    assert len(list(run.checkpoints.glob("*.keras"))) == 3
    settings = ("training.examples=512", "game.loss=hinge")
    train.resume(run.path, settings, override=("game.loss",))
    kept = sorted(run.checkpoints.glob("*.keras"))
    assert [path.name for path in kept] == ["examples-000000384.keras", "examples-000000512.keras"]
    kept[1].write_bytes(kept[1].read_bytes()[:-1])
    with pytest.warns(
        UserWarning, match=r"000512.keras is damaged.*Using examples-000000384.keras"
    ):
        assert type(run.load().adversarial_loss).__name__ == "Hinge"
    # The previous one is overridden as well: it becomes the newest, and the only one.
    with pytest.warns(UserWarning, match=r"000512.keras is damaged"):
        gan = train.resume(run.path, ("game.loss=minimax",), override=("game.loss",)).gan
    assert type(gan.adversarial_loss).__name__ == "Minimax"
    kept = sorted(run.checkpoints.glob("*.keras"))
    assert [path.name for path in kept] == ["examples-000000384.keras", "examples-000000512.keras"]
    assert type(runs.load_game(kept[0]).adversarial_loss).__name__ == "Minimax"
    # Weights that do not fit are an error; no other checkpoint is tried instead.
    kept[1].write_bytes(kept[0].read_bytes())
    wider = recipe.load(
        "gaussians-8", [*settings_of("gaussians-8", 512), "networks.generator.widths=[8,8]"]
    )
    with pytest.raises(
        UsageError, match=r"must have the weights and optimizer moments.*000512.keras"
    ):
        run.load(into=train.build(wider, run.spec))


@pytest.mark.slow
def test_a_rolled_back_learning_rate_stays_lowered_under_an_override(tmp_path):
    run = train.train(points("training.examples=256"), tmp_path / "run").run
    gan = run.load()
    rate = callbacks.learning_rate(gan.generator_optimizer)
    for factor in (0.5, 0.25):
        rate = callbacks.Lowered(rate, factor)
    callbacks.set_learning_rate(gan.generator_optimizer, rate)
    run.save(gan)
    settings, override = ("training.examples=512", "game.loss=hinge"), ("game.loss",)
    gan = train.resume(run.path, settings, override=override).gan
    fresh = train.build(points(), run.spec)
    for of in (fresh, gan):
        of.examples_seen.assign(512)
    for role, factor in (("generator", 0.125), ("discriminator", 1.0)):
        now, before = (getattr(of, f"{role}_optimizer").learning_rate for of in (gan, fresh))
        assert float(now) == pytest.approx(factor * float(before), rel=1e-6)


@pytest.mark.slow
def test_an_overridden_learning_rate_is_used(tmp_path):
    """Keras stores a constant rate among the weights of a checkpoint."""
    rates = [f"optimizers.{role}.learning_rate=0.001" for role in ("generator", "discriminator")]
    train.train(points(*rates, "training.examples=128"), tmp_path / "run")
    key = "optimizers.generator.learning_rate"
    settings = ("training.examples=256", f"{key}=0.00025")
    gan = train.resume(tmp_path / "run", settings, override=(key,)).gan
    assert float(gan.generator_optimizer.learning_rate) == pytest.approx(0.00025)
    assert float(gan.discriminator_optimizer.learning_rate) == pytest.approx(0.001)
    assert int(gan.generator_optimizer.iterations.value.numpy()) == 8


def test_an_override_that_changes_nothing_of_the_game_is_bit_exact(tmp_path):
    whole = train.train(points(), tmp_path / "whole")
    train.train(points("training.examples=256"), tmp_path / "run")
    train.resume(
        tmp_path / "run", ("training.examples=512", "samples.count=11"), override=("samples",)
    )
    for x, y in zip(outcome(tmp_path / "run")[0], outcome(whole.run.path)[0], strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    ("override", "settings", "message"),
    [
        ("game.los", (), r"must name a key or a section.*'game.los'. Did you mean 'game.loss'"),
        ("training", (), r"keeps its data and its batch size.*--override training$"),
        ("data.source", (), r"keeps its data.*--override data.source$"),
        (
            "game",
            ("game.average_deviations=0.03,0.1", "training.examples=1024"),
            r"keeps its `average_deviations`.*: game.average_deviations: .* -> \[0.03, 0.1\]$",
        ),
        (
            "networks.generator.widths",
            ("networks.generator.widths=[8,8]", "training.examples=1024"),
            r"must have the weights and optimizer moments .*Received: .*keras, of which Keras",
        ),
        (
            "networks.generator.widths",
            ("networks.generator.widths=[16]", "training.examples=1024"),
            r"must have the weights and optimizer moments .*Received: .*keras, because: A file of",
        ),
    ],
)
def test_an_impossible_override_is_refused(override, settings, message, tmp_path):
    train.train(points("training.examples=128"), tmp_path / "run")
    before = sorted((tmp_path / "run").rglob("*"))
    with pytest.raises(UsageError, match=message):
        train.resume(tmp_path / "run", settings, override=(override, "training.examples"))
    assert sorted((tmp_path / "run").rglob("*")) == before
    assert json.loads((tmp_path / "run" / "ending.json").read_text())["reason"] == "finished"
    assert os.access(tmp_path / "run", os.W_OK)
