"""Ends of a training: equilibrium, collapse, roll back, on real trainings."""

import math
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gan
from keras_gan import UsageError, callbacks, recipe, train
from keras_gan import run as runs
from keras_gan.__main__ import main

FACTOR = np.array([[1.0, 0.6], [0.0, 0.8]], "float32")
MEAN = np.array([1.0, -1.0], "float32")


def points(count, seed=0):
    """Returns correlated Gaussian points, which a linear generator can represent exactly."""
    noise = np.random.default_rng(seed).normal(size=(count, 2)).astype("float32")
    return noise @ FACTOR + MEAN


def batches(size=128):
    return tf.data.Dataset.from_tensor_slices(points(20_000, seed=1)).repeat().batch(size)


@keras.saving.register_keras_serializable("tests")
class Ripples(keras.layers.Layer):
    """Logits that vary strongly but do not distinguish data, samples and noise."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer=keras.initializers.Constant(20.0))

    def call(self, samples):
        return self.scale * keras.ops.sin(300.0 * keras.ops.sum(samples, axis=1, keepdims=True))


def linear_game(discriminator=None, loss="non_saturating", scale=1.0, rates=(0.0, 2e-3)):
    """Returns a game whose generator has the data's distribution, up to a scale."""
    keras.utils.set_random_seed(0)
    generator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    generator.set_weights([scale * FACTOR, MEAN])
    hidden = [keras.layers.Dense(32, "leaky_relu") for _ in range(2)]
    layers = discriminator or [*hidden, keras.layers.Dense(1)]
    networks = generator, keras.Sequential([keras.Input((2,)), *layers])
    gan = keras_gan.GAN(*networks, loss=loss, ema_half_life=0)
    optimizers = [
        keras.optimizers.Adam(r, beta_1=0.0) if r else keras.optimizers.SGD(r) for r in rates
    ]
    gan.compile(*optimizers)
    return gan


class Logs(keras.callbacks.Callback):
    """Keeps the logs of each epoch."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({name: float(value) for name, value in logs.items()})


class Plant(keras.callbacks.Callback):
    """Applies a change to the game before an epoch, once or several times."""

    def __init__(self, epoch, harm, times=1):
        super().__init__()
        self.epoch, self.harm, self.times = epoch, harm, times

    def on_epoch_begin(self, epoch, logs=None):
        if epoch >= self.epoch and self.times > 0:
            self.times -= 1
            self.harm(self.model)


# ------------------------------------------------------------------------ equilibrium


@pytest.mark.parametrize(
    "loss", ["relativistic", pytest.param("non_saturating", marks=pytest.mark.slow)]
)
def test_equilibrium_ends_a_game_whose_generator_is_right(loss):
    """The generator is too wide at first, and then has the data's distribution."""
    gan = linear_game(loss=loss, scale=3.0)
    equilibrium, logs = callbacks.Equilibrium(points(1000)), Logs()
    becomes_right = Plant(3, lambda gan: gan.generator.set_weights([FACTOR, MEAN]))
    gan.fit(
        batches(),
        steps_per_epoch=60,
        epochs=20,
        verbose=0,
        callbacks=[becomes_right, equilibrium, logs],
    )
    measured = [row["balanced_accuracy"] for row in logs.rows]
    assert min(measured[:3]) > 0.6  # no equilibrium while the generator is wrong
    assert len(measured) < 20
    assert np.abs(np.array(measured[-3:]) - 0.5).max() <= 0.05
    assert min(row["noise_accuracy"] for row in logs.rows[-3:]) >= 0.75
    assert re.fullmatch(
        r"equilibrium: the discriminator's balanced accuracy between samples and held-out data "
        r"is 0\.\d{3}, within 0\.05 of 0\.5 in 3 evaluations in a row",
        equilibrium.reason,
    )


@pytest.mark.parametrize(
    "discriminator",
    [[keras.layers.Dense(1, kernel_initializer="zeros")], [Ripples()]],
    ids=["constant", "blind to noise"],
)
def test_a_failed_discriminator_does_not_count_as_equilibrium(discriminator):
    """The generator is right, but the discriminator's accuracy is 0.5 for another reason."""
    gan = linear_game(discriminator, rates=(0.0, 0.0))
    equilibrium, logs = callbacks.Equilibrium(points(1000)), Logs()
    gan.fit(batches(), steps_per_epoch=1, epochs=8, verbose=0, callbacks=[equilibrium, logs])
    assert len(logs.rows) == 8
    assert equilibrium.reason is None
    assert max(abs(row["balanced_accuracy"] - 0.5) for row in logs.rows) <= 0.05
    assert max(row["noise_accuracy"] for row in logs.rows) < 0.6


def test_equilibrium_uses_new_seeds_and_noise_at_each_step_reproducibly():
    gan = linear_game()
    equilibrium = callbacks.Equilibrium(points(200))
    equilibrium.set_model(gan)
    equilibrium.on_train_begin()
    first = equilibrium.evaluate()
    assert equilibrium.evaluate() == first
    gan.iteration.assign(7)
    other = equilibrium.evaluate()  # the networks are the same, but the seeds and the noise differ
    assert other["balanced_accuracy"] != first["balanced_accuracy"]
    assert other["noise_accuracy"] != first["noise_accuracy"]


def test_equilibrium_continues_its_count_after_a_resume():
    gan = linear_game()
    gan.examples_seen.assign(300)
    rows = [
        {"examples_seen": seen, "balanced_accuracy": 0.5, "noise_accuracy": noise}
        for seen, noise in ((0, 0.9), (100, 0.5), (200, 0.9), (300, 0.9), (400, 0.9))
    ]
    equilibrium = callbacks.Equilibrium(points(200), history=rows)
    equilibrium.set_model(gan)
    equilibrium.on_train_begin()
    assert equilibrium._in_a_row == 2  # since the failure at 100, without the future


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tolerance": 0.5}, r"`tolerance` must be a number above 0 .*tolerance=0\.5"),
        ({"patience": 0}, r"`patience` must be an integer of at least 1. Received: patience=0"),
        ({"noise_accuracy": 1.5}, r"`noise_accuracy` must be .*noise_accuracy=1\.5"),
        ({"tolerance": 0.01}, r"within 0\.01 .* at least 5000 held-out .*Received: 200"),
    ],
)
def test_equilibrium_refuses_arguments_out_of_range(arguments, message):
    with pytest.raises(UsageError, match=message):
        callbacks.Equilibrium(points(200), **arguments)


# ------------------------------------------------------------------------ collapse


def crowd(gan):
    """Moves all samples to one point."""
    kernel, bias = gan.generator.get_weights()
    gan.generator.set_weights([kernel * 1e-3, bias])


def spoil(gan):
    gan.discriminator.trainable_variables[-1].assign([math.nan])


def state(gan):
    owners = (gan, gan.generator_optimizer, gan.discriminator_optimizer)
    means = {id(v) for metric in gan.metrics for v in metric.variables}
    found = [v for owner in owners for v in owner.variables if id(v) not in means]
    return [v.numpy() for v in found]


class States(keras.callbacks.Callback):
    """Keeps the whole state at the end and at the beginning of each epoch."""

    def __init__(self):
        super().__init__()
        self.ends, self.begins = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begins.append(state(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(state(self.model))


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_planted_collapse_is_detected_and_the_last_good_state_is_kept(run):
    gan = linear_game()
    guard = callbacks.CollapseGuard(points(128), every_steps=5)
    record, states, logs = (
        callbacks.RunWriter(run, every_seconds=1e-9, guard=guard),
        States(),
        Logs(),
    )
    gan.fit(
        batches(),
        steps_per_epoch=5,
        epochs=20,
        verbose=0,
        callbacks=[guard, Plant(2, crowd), states, logs, record],
    )
    shares = [row["diversity"] for row in logs.rows]
    assert min(shares[:2]) > 0.8
    assert max(shares[2:]) < 0.01
    assert len(shares) == 2 + 3  # the third check in a row is enough
    assert re.fullmatch(
        r"collapsed: mode collapse: the generated samples have 0\.\d% of the data's diversity, "
        r"after \d+% at best, after 3,200 examples",
        guard.reason,
    )
    assert equal(state(gan), states.ends[1])
    assert [path.name for path in sorted(run.checkpoints.glob("*.keras"))] == [
        "examples-000000640.keras",
        "examples-000001280.keras",  # the end of the second epoch: none was written later
    ]
    assert equal(state(run.load()), states.ends[1])
    assert run.checkpoint().name == "examples-000001280.keras"
    assert [row["examples_seen"] for row in run.rows()] == [640 * n for n in range(1, 6)]
    assert "diversity" in (run.path / "report.html").read_text("utf-8").lower()


@pytest.mark.parametrize("action", ["stop", "roll_back"])
def test_the_last_good_state_replaces_later_checkpoints(run, action):
    """The guard checks every four epochs; each epoch has a checkpoint."""
    gan = linear_game()
    guard = callbacks.CollapseGuard(points(128), every_steps=20, action=action)
    record = callbacks.RunWriter(run, every_seconds=1e-9, guard=guard)
    listeners = [guard, Plant(6, spoil), record]
    if action == "stop":
        gan.fit(batches(), steps_per_epoch=5, epochs=20, verbose=0, callbacks=listeners)
        last = 2560  # of the check after the fourth epoch, although the sixth was saved
    else:
        with pytest.warns(UserWarning, match=r"After 4,480 examples: .*Back to 2,560 examples"):
            gan.fit(batches(), steps_per_epoch=5, epochs=8, verbose=0, callbacks=listeners)
        last = 3200
    assert run.checkpoint().name == f"examples-{last:09d}.keras"
    assert equal(state(run.load()), state(gan))
    assert gan.count("examples_seen") == last


@pytest.mark.parametrize("harm", [spoil, crowd])
def test_a_roll_back_restores_everything_and_lowers_the_learning_rates(run, harm):
    gan = linear_game(rates=(1e-6, 2e-3))
    guard = callbacks.CollapseGuard(points(128), action="roll_back", every_steps=5, patience=1)
    record, states = callbacks.RunWriter(run, guard=guard), States()
    with pytest.warns(
        UserWarning, match=r"After 3,200 examples: .*Back to 2,560 examples.*\(1 of 3\)"
    ):
        gan.fit(
            batches(),
            steps_per_epoch=5,
            epochs=8,
            verbose=0,
            callbacks=[guard, Plant(4, harm), states, record],
        )
    assert guard.reason is None
    rates = [float(o.learning_rate) for o in (gan.generator_optimizer, gan.discriminator_optimizer)]
    np.testing.assert_allclose(rates, [5e-7, 1e-3], rtol=1e-6)
    # The fifth epoch was lost; the sixth began at the end of the fourth, except for two rates.
    differ = [
        i
        for i, (a, b) in enumerate(zip(states.begins[5], states.ends[3], strict=True))
        if not np.array_equal(a, b)
    ]
    assert len(differ) == 2
    assert all(states.begins[5][i] == states.ends[3][i] / 2 for i in differ)
    assert gan.count("iteration") == 5 * 7
    rows = run.rows()
    assert [row["examples_seen"] for row in rows] == [640 * n for n in range(1, 8)]
    assert [row.get("roll_backs", 0) for row in rows] == [0, 0, 0, 0, 1, 1, 1]
    assert all(row["examples_per_second"] > 0 for row in rows)
    assert equal(state(run.load()), state(gan))
    assert run.ending == {"reason": "finished", "examples_seen": 4480, "roll_backs": 1}


def test_evaluations_are_rolled_back_with_the_game(run):
    """The game is evaluated every 1,280 examples, and fails within the fourth epoch."""
    gan = linear_game()
    guard = callbacks.CollapseGuard(points(128), action="roll_back", every_steps=20)
    equilibrium = callbacks.Equilibrium(points(200), every_examples=1280, patience=9, guard=guard)
    evaluation = callbacks.Evaluation(run, points(128), every_examples=1280, guard=guard)
    record, logs = callbacks.RunWriter(run, guard=guard), Logs()
    listeners = [guard, Plant(3, spoil), equilibrium, evaluation, logs, record]
    with pytest.warns(UserWarning, match=r"After 2,560 examples: .*Back to 0 examples"):
        gan.fit(batches(), steps_per_epoch=5, epochs=8, verbose=0, callbacks=listeners)
    for name in ("balanced_accuracy", "sliced_wasserstein"):
        evaluated = [i for i, row in enumerate(logs.rows) if name in row]
        assert evaluated == [1, 5, 7]  # not the fourth, which was broken
        assert [row["examples_seen"] for row in run.rows() if name in row] == [1280, 2560]
    assert [row["examples_seen"] for row in equilibrium._evaluated] == [1280, 2560]


def test_a_schedule_is_lowered_as_well_and_saved(tmp_path):
    gan = linear_game()
    schedule = keras.optimizers.schedules.CosineDecay(4e-3, 1000)
    gan.compile(keras.optimizers.SGD(0.0), keras.optimizers.Adam(schedule))
    guard = callbacks.CollapseGuard(action="roll_back", factor=0.25, every_steps=5)
    with pytest.warns(UserWarning, match=r"After 1,920 examples: .*Back to 1,280 examples"):
        gan.fit(
            batches(), steps_per_epoch=5, epochs=4, verbose=0, callbacks=[guard, Plant(2, spoil)]
        )
    gan.save(tmp_path / "game.keras")
    again = keras.saving.load_model(tmp_path / "game.keras")
    for game in (gan, again):
        steps = game.count("iteration")
        expected = float(schedule(steps)) / 4
        assert float(game.discriminator_optimizer.learning_rate) == pytest.approx(expected)


def test_the_number_of_roll_backs_is_limited():
    gan = linear_game()
    guard = callbacks.CollapseGuard(action="roll_back", retries=2, every_steps=2)
    with pytest.warns(UserWarning, match=r"\(2 of 2\)"):
        gan.fit(
            batches(),
            steps_per_epoch=2,
            epochs=20,
            verbose=0,
            callbacks=[guard, Plant(1, spoil, times=9)],
        )
    assert guard.reason.startswith("collapsed: ")
    assert guard.reason.endswith("after 512 examples and 2 roll backs")
    # A training that is stopped ends in the last good state, with its learning rate.
    assert float(gan.discriminator_optimizer.learning_rate) == pytest.approx(2e-3)
    assert all(np.isfinite(v.numpy()).all() for v in gan.discriminator.variables)


def test_a_loss_that_is_not_finite_is_detected(run):
    """Infinite logits lead to infinite losses while the weights are still finite."""
    gan = linear_game(rates=(0.0, 0.0))
    guard = callbacks.CollapseGuard(every_steps=2)
    burst = Plant(
        2,
        lambda gan: gan.discriminator.trainable_variables[-2].assign(
            np.full((32, 1), 3e38, "float32")
        ),
    )
    gan.fit(
        batches(),
        steps_per_epoch=2,
        epochs=9,
        verbose=0,
        callbacks=[guard, burst, callbacks.RunWriter(run, guard=guard)],
    )
    assert re.fullmatch(
        r"collapsed: a loss is not finite \(d_loss=(inf|nan)\), after 768 examples",
        guard.reason,
    )
    assert gan.count("examples_seen") == 512
    assert [row["examples_seen"] for row in run.rows()] == [256, 512]


def test_a_discriminator_that_wins_outright_is_detected():
    gan = linear_game(rates=(0.0, 0.02))
    gan.generator.set_weights([FACTOR, MEAN + 100])
    guard = callbacks.CollapseGuard(points(128), every_steps=5, winning=4)
    logs = Logs()
    gan.fit(batches(), steps_per_epoch=5, epochs=99, verbose=0, callbacks=[guard, logs])
    assert re.match(
        r"collapsed: the discriminator wins outright: its accuracy was at least 100\.0% in "
        r"4 checks in a row, and its loss is down to \d",
        guard.reason,
    )
    assert all(0 <= row["d_loss"] < 0.01 for row in logs.rows[-4:])
    assert gan.count("iteration") == 5 * (len(logs.rows) - 4)


def test_the_guard_continues_its_counts_after_a_resume():
    gan = linear_game()
    gan.examples_seen.assign(500)
    judged = {"iteration": 1, "real_accuracy": 0.5, "fake_accuracy": 0.5, "d_loss": 1.0}
    rows = [
        {"examples_seen": 100 * n, "diversity": share, "roll_backs": 1} | judged
        for n, share in enumerate((0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1), start=1)
    ]
    guard = callbacks.CollapseGuard(points(128), history=rows)
    guard.set_model(gan)
    guard.on_train_begin()
    assert (guard._best, guard._low, guard.roll_backs) == (0.9, 2, 1)
    assert guard.suspicious


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"action": "wait"}, r"`action` must be stop or roll_back. Received: action='wait'"),
        ({"factor": 0}, r"`factor` must be a number above 0 .*factor=0"),
        ({"diversity": 1}, r"`diversity` must be a number above 0 .*diversity=1"),
        ({"patience": 0}, r"`patience` must be an integer of at least 1. Received: patience=0"),
        ({"retries": -1}, r"`retries` must be an integer of at least 0. Received: retries=-1"),
    ],
)
def test_the_guard_refuses_arguments_out_of_range(arguments, message):
    with pytest.raises(UsageError, match=message):
        callbacks.CollapseGuard(**arguments)


def test_weights_that_are_not_finite_are_never_saved(run):
    gan = linear_game()
    spoil(gan)
    for save in (lambda: run.save(gan), lambda: run.save_best(gan, {})):
        with pytest.raises(UsageError, match=r"finite weights only. Received: .*bias of the disc"):
            save()
    with pytest.raises(UsageError, match="start from finite weights"):
        gan.fit(batches(), steps_per_epoch=1, verbose=0, callbacks=[callbacks.CollapseGuard()])
    assert not list(run.checkpoints.glob("*.keras"))


# ------------------------------------------------------------------------ healthy and bad runs

R = [{"name": "r1", "weight": 0.1}, {"name": "r2", "weight": 0.1}]
HEALTHY = [
    (25, "relativistic", R),
    (8, "relativistic", R),
    (25, "non_saturating", R),
    (8, "non_saturating", []),
    (8, "hinge", R),
    (25, "relativistic_average", R),
    (8, "least_squares", R),
    (8, "minimax", R),
    (25, "hinge", ["r1"]),
    (8, "relativistic_average", ["r1"]),
]


def fit(modes, loss, penalties, seed, epochs, guard, steps=100, batch_size=64):
    source = keras_gan.datasets.open("gaussians", modes=modes, count=20_000)
    keras.utils.set_random_seed(seed)
    widths = {"widths": [64, 64, 64]}
    networks = keras_gan.architectures.build(
        "mlp", source.spec, generator={"latent_dim": 8, **widths}, discriminator=widths
    )
    gan = keras_gan.GAN(*networks, loss=loss, terms=penalties, seed=seed)
    gan.compile(*[keras.optimizers.Adam(1e-3, beta_1=0.0, beta_2=0.99) for _ in range(2)])
    logs = Logs()
    batches = source.dataset("train", batch_size=batch_size, seed=seed, repeat=True)
    held_out = next(iter(source.dataset("held_out", batch_size=128, seed=0))).numpy()
    guard = guard(held_out)
    gan.fit(batches, steps_per_epoch=steps, epochs=epochs, verbose=0, callbacks=[guard, logs])
    return guard, logs.rows


def test_the_guard_is_silent_on_a_healthy_run():
    guard, rows = fit(*HEALTHY[0], seed=0, epochs=6, guard=callbacks.CollapseGuard)
    assert guard.reason is None
    assert not guard.suspicious
    checks = [row["diversity"] for row in rows if "diversity" in row]
    assert len(checks) == 2  # at 300 and 500 steps
    assert min(checks) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_the_guard_is_silent_on_ten_healthy_runs(number, monkeypatch):
    monkeypatch.setattr(callbacks.CollapseGuard, "warm_up", 1_000)  # of 3,000 steps
    guard, rows = fit(*HEALTHY[number], seed=number, epochs=30, guard=callbacks.CollapseGuard)
    assert guard.reason is None
    assert len(rows) == 30
    checks = [row["diversity"] for row in rows if "diversity" in row]
    assert len(checks) == 12
    assert min(checks) > 0.5  # twice the threshold


@pytest.mark.slow
def test_the_guard_detects_a_game_that_never_finds_the_data():
    """Wasserstein with one critic step for each generator step oscillates."""

    def guard(held_out):
        guard = callbacks.CollapseGuard(held_out)
        guard.warm_up = 1_000
        guard.every_steps = 100
        return guard

    guard, rows = fit(25, "wasserstein", ["gradient_penalty"], 1, 30, guard, batch_size=128)
    assert guard.reason.startswith("collapsed: mode collapse: ")
    assert max(row["diversity"] for row in rows) < 0.25
    assert len(rows) == 12  # checks at 1,000, 1,100 and 1,200 steps


@pytest.mark.slow
def test_equilibrium_ends_a_game_that_has_converged():
    """Both networks learn; at the end the generator has the data's mean and covariance."""
    gan = linear_game(scale=0.1, rates=(2e-3, 2e-3))
    gan.generator.set_weights([0.1 * FACTOR, 0 * MEAN])
    equilibrium = callbacks.Equilibrium(points(2000), noise_accuracy=0.55)
    gan.fit(batches(256), steps_per_epoch=100, epochs=40, verbose=0, callbacks=[equilibrium])
    assert equilibrium.reason
    made = gan.generate(range(20_000), batch_size=5_000)
    np.testing.assert_allclose(made.mean(axis=0), MEAN, atol=0.15)
    np.testing.assert_allclose(np.cov(made.T), FACTOR.T @ FACTOR, atol=0.25)


# ------------------------------------------------------------------------ recipes and commands

SMALL = [
    "networks.generator.widths=[16]",
    "networks.discriminator.widths=[16]",
    "training.examples=640",
    "training.batch_size=32",
    "training.tick_examples=64",
    "evaluation.every_examples=0",
    "evaluation.count=300",
    "samples.count=4",
    "data.count=1000",
    "data.held_out_count=400",
]


def small(*settings):
    return recipe.load("gaussians-8", [*SMALL, *settings])


def test_the_keys_of_guard_and_equilibrium_in_a_recipe(tmp_path):
    loaded = small()
    assert loaded.training.collapse_guard.action == "stop"
    assert loaded.training.equilibrium is None
    assert small("training.collapse_guard.action=off").training.collapse_guard.action == "off"
    again = tmp_path / "again.yaml"
    again.write_text(small("training.collapse_guard.action=off").to_yaml())
    on = recipe.load(str(again), ["training.equilibrium.patience=2"])
    assert on.training.collapse_guard.action == "off"
    assert on.training.equilibrium == recipe.EquilibriumSection(patience=2)
    for setting, message in (
        ("training.equilibrium.patients=2", r"equilibrium\.patients is not a key .*'patience'"),
        ("training.collapse_guard.action=halt", r"collapse_guard\.action: .*Received"),
        ("training.collapse_guard.factor=2", r"collapse_guard\.factor: .*Received: 2"),
    ):
        with pytest.raises(UsageError, match=message):
            small(setting)
    with pytest.raises(UsageError, match=r"tolerance=0\.02 needs at least 1250 .*Received: 300"):
        train.prepare(small("training.equilibrium.tolerance=0.02"))


def test_a_collapsed_training_is_one_line_and_can_be_resumed(tmp_path, capsys):
    """An extreme learning rate makes weights infinite within a tick."""
    run = tmp_path / "run"
    sets = [*SMALL, "optimizers.discriminator.learning_rate=1e38"]
    arguments = [part for setting in sets for part in ("--set", setting)]
    with pytest.raises(SystemExit) as exit:
        main(["train", "gaussians-8", *arguments, "--run", str(run)])
    captured = capsys.readouterr()
    assert exit.value.code == 1
    errors = [line for line in captured.err.splitlines() if "error" in line]
    (line,) = errors
    assert re.fullmatch(
        r"keras-gan: error: The training collapsed: .* is not finite.*, after 64 examples",
        line,
    )
    assert f"Kept: the last good state, after 0 examples in 0.0 minutes, in {run}" in captured.out
    resume = f"keras-gan train --resume {run} --set training.collapse_guard.action=roll_back"
    assert resume in captured.out
    opened = runs.Run.open(run)
    assert opened.ending["reason"].startswith("collapsed: ")
    assert opened.load().count("examples_seen") == 0
    assert np.isfinite(opened.load().generate(range(4))).all()
    with pytest.warns(UserWarning, match="1 of 3"):
        outcome = train.resume(run, ("training.collapse_guard.action=roll_back",))
    assert outcome.collapsed
    assert outcome.reason.endswith("after 64 examples and 3 roll backs")


@pytest.mark.slow
def test_equilibrium_ends_a_run_and_is_recorded(tmp_path, capsys):
    """With limits that always hold, the second evaluation is the last."""
    loose = ("tolerance=0.49999", "noise_accuracy=0.5", "patience=2")
    run = tmp_path / "run"
    sets = [*SMALL, *(f"training.equilibrium.{key}" for key in loose)]
    main(["train", "gaussians-8", *[p for s in sets for p in ("--set", s)], "--run", str(run)])
    out = capsys.readouterr().out
    opened = runs.Run.open(run)
    rows = opened.rows()
    assert all({"balanced_accuracy", "noise_accuracy"} <= set(row) for row in rows)
    assert len(rows) < 10
    assert "sliced_wasserstein" in rows[-1]  # the end is evaluated for any reason
    assert re.search(r"^Equilibrium: \d+ examples in 0\.\d minutes, in ", out, re.MULTILINE)
    assert f"--resume {run} --set training.equilibrium=null" in out
    assert opened.ending["reason"].startswith("equilibrium: ")
    assert "Ended: equilibrium: " in (run / "report.html").read_text("utf-8")
    outcome = train.resume(run, ("training.equilibrium=null",))
    assert outcome.reason == "finished"
    assert outcome.gan.count("examples_seen") == 640
