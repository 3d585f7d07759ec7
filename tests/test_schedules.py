"""Schedules: values by hand, and a game with schedules against the same in numpy."""

import math
import pathlib
import re

import keras
import numpy as np
import pytest
import yaml

import keras_gan
from keras_gan import UsageError, recipe, schedules, train
from keras_gan.registry import classes
from keras_gan.schedules import Cosine, Exponential, HoldLinear, InverseSqrt, Linear, WarmUp

ROOT = pathlib.Path(__file__).parents[1]

# Each registered kind, with values computed by hand.
VALUES = [
    (Linear(2.0, 1.0, 100), {0: 2.0, 25: 1.75, 100: 1.0, 1e9: 1.0}),
    (HoldLinear(2e-4, examples=100), {0: 2e-4, 50: 2e-4, 75: 1e-4, 100: 0.0, 1e9: 0.0}),
    (HoldLinear(1.0, 0.5, 40, hold=0.75), {30: 1.0, 35: 0.75, 40: 0.5}),
    (Exponential(1.0, 16.0, 32), {0: 1.0, 8: 2.0, 16: 4.0, 32: 16.0, 99: 16.0}),
    (Exponential(1e-2, 1e-4, 10), {0: 1e-2, 5: 1e-3, 10: 1e-4}),
    (Cosine(0.9, 0.99, 2e7), {0: 0.9, 5e6: 0.9131802, 1e7: 0.945, 2e7: 0.99, 3e7: 0.99}),
    (Cosine(2e-4, examples=30), {0: 2e-4, 10: 1.5e-4, 30: 0.0}),
    (WarmUp(3.0, 10), {0: 0.0, 5: 1.5, 10: 3.0, 99: 3.0}),
    (WarmUp(3.0, 8, start=1.0, shape="cosine"), {0: 1.0, 2: 1.2928932, 4: 2.0, 8: 3.0}),
    (WarmUp(Linear(4.0, 2.0, 20), 10), {0: 0.0, 5: 2.0, 10: 4.0, 20: 3.0, 30: 2.0, 50: 2.0}),
    (WarmUp(Linear(1.0, 0.5, 20), 10, start=1.0), {0: 1.0, 5: 1.0, 10: 1.0, 20: 0.75}),
    (InverseSqrt(0.01, 512e3), {0: 0.01, 512e3: 0.01, 2_048_000: 0.005, 51_200_000: 0.001}),
    (InverseSqrt(0.5, 100, 50), {0: 0.0, 25: 0.25, 50: 0.5, 100: 0.5, 400: 0.25}),
    (InverseSqrt(1.0, 100, 400), {100: 0.25, 200: 0.35355339, 400: 0.5, 1600: 0.25}),
]


@pytest.mark.parametrize(("schedule", "values"), VALUES, ids=str)
def test_values_by_hand_and_round_trips(schedule, values):
    config = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(schedule)
    assert repr(again) == repr(schedule)
    for examples, value in values.items():
        assert float(schedules.now(schedule, examples)) == pytest.approx(value, rel=1e-6, abs=1e-12)
        assert float(schedules.now(again, examples)) == float(schedules.now(schedule, examples))
        assert min(schedule.bounds()) <= value <= max(schedule.bounds())


def test_every_registered_schedule_is_in_the_table():
    ours = {
        cls.__name__
        for cls in classes(schedules.Schedule).values()
        if cls.__module__ == schedules.__name__
    }
    assert {type(schedule).__name__ for schedule, _ in VALUES} == ours
    assert all(line.endswith(".") for line in schedules.names().values())


def test_a_dictionary_makes_a_schedule():
    schedule = schedules.get(
        {"name": "warm_up", "to": {"name": "cosine", "start": 1.0}, "examples": 40}
    )
    assert schedule.open_ended
    assert repr(schedule.with_duration(100).to) == "Cosine(start=1.0, end=0.0, examples=60)"
    assert not schedule.with_duration(100).open_ended
    assert schedules.get(0.5) == 0.5
    held = schedules.get({"name": "hold_linear", "start": 1.0, "hold": 0.25})
    assert repr(held.with_duration(8)) == "HoldLinear(start=1.0, end=0.0, examples=8, hold=0.25)"
    fixed = Linear(1.0, 0.0, 10)
    assert fixed.with_duration(100) is fixed


def test_invalid_arguments_are_rejected():
    for make, message in (
        (lambda: Linear(math.nan, 1, 5), "`start` must be a finite number. Received: start=nan"),
        (lambda: Cosine(1, "a", 5), "`end` must be a finite number. Received: end='a'"),
        (lambda: Cosine(1, 0, 0), "`examples` must be a number above 0. Received: examples=0"),
        (
            lambda: WarmUp(1, 5, shape="step"),
            "`shape` must be linear or cosine. Received: shape='step'",
        ),
        (
            lambda: WarmUp(Linear(1), 5).with_duration(5),
            "shorter than the training.* examples=5, training.examples=5",
        ),
        (lambda: HoldLinear(1.0, hold=1), "`hold` must be a number .* Received: hold=1"),
        (lambda: Linear(1.0).at(0), "`examples`, the length .* examples=None in Linear"),
        (
            lambda: InverseSqrt(0.1, 0),
            "`decay_examples` must be a number above 0. Received: decay_examples=0",
        ),
        (
            lambda: InverseSqrt(0.1, 5, -1),
            "`warm_up_examples` must be a number from 0 up. Received: warm_up_examples=-1",
        ),
        (lambda: schedules.get({"name": "cosin"}), "'cosin'. Did you mean 'cosine'"),
        (
            lambda: schedules.get({"name": "warm_up", "examples": 5}),
            "^`to` is missing: the schedule 'warm_up' needs it. Received: {'examples': 5}$",
        ),
        (
            lambda: schedules.get({"name": "linear", "strt": 1}),
            "^`strt` is not an option of the sched.* Received: strt=1. Did you mean 'start'",
        ),
        (
            lambda: Linear(1, 0, 5)(0),
            "belong to an optimizer of a GAN. Received: schedule=Linear",
        ),
        (lambda: keras_gan.terms.R1(Linear(1, -1, 5)), "from 0 up. Received: weight=Linear"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_the_game_rejects_schedules_out_of_range(make_gan):
    with pytest.raises(UsageError, match=r"`ema_half_life` must be .* ema_half_life=Linear"):
        make_gan(ema_half_life=Linear(-1, 5, 10))
    with pytest.raises(UsageError, match=r"`top_k` must be .* top_k=Linear"):
        make_gan(top_k=Linear(1, 0, 10))


# A game whose steps can be computed by hand: D(x) = w . x, G(z) = c, Wasserstein loss.
REAL = np.random.default_rng(3).integers(-8, 9, (24, 2)).astype("float32") / 16
RATE, BETA = Cosine(0.25, 0.0625, 20), Linear(0.5, 0.9375, 20)
GAMMA, HALF_LIFE, GENERATOR_RATE = Cosine(1.0, 0.0, 16), Linear(0, 12, 24), WarmUp(0.5, 12)


def linear_game(policy="float32", **arguments):
    keras.config.set_dtype_policy(policy)
    try:
        z, x = keras.Input((1,)), keras.Input((2,))
        # The constraint keeps the kernel at 0, so that G(z) = c, the bias.
        constant = keras.layers.Dense(
            2,
            kernel_initializer="zeros",
            kernel_constraint=keras.constraints.MaxNorm(0.0),
            bias_initializer="ones",
        )
        generator = keras.Model(z, constant(z))
        w = keras.initializers.Constant(0.5)
        discriminator = keras.Model(
            x, keras.layers.Dense(1, use_bias=False, kernel_initializer=w)(x)
        )
        gan = keras_gan.GAN(
            generator,
            discriminator,
            loss="wasserstein",
            terms=[keras_gan.terms.R1(GAMMA)],
            ema_half_life=HALF_LIFE,
            ema_rampup=100.0,
        )
    finally:
        keras.config.set_dtype_policy("float32")
    gan.compile(
        keras.optimizers.SGD(GENERATOR_RATE),
        keras.optimizers.Adam(RATE, beta_1=0.5, beta_2=BETA),
        **arguments,
    )
    return gan


def by_hand():
    """Computes w, c and the moving average of c after six steps of 4 samples."""
    w, c, average = np.full(2, 0.5), np.ones(2), np.ones(2)
    m = v = np.zeros(2)
    for step in range(6):
        seen, k = 4 * step, step + 1
        progress = min(seen / 20, 1)
        rate = 0.0625 + (0.25 - 0.0625) * (1 + math.cos(math.pi * progress)) / 2
        beta = 0.5 + (0.9375 - 0.5) * progress
        gamma = (1 + math.cos(math.pi * min(seen / 16, 1))) / 2
        slope = c - REAL[seen : seen + 4].mean(0) + gamma * w
        m, v = 0.5 * m + 0.5 * slope, beta * v + (1 - beta) * slope**2
        unbiased = rate * math.sqrt(1 - beta**k) / (1 - 0.5**k)
        w = w - unbiased * m / (np.sqrt(v) + 1e-7)
        c = c + 0.5 * min(seen / 12, 1) * w
        half_life = 12 * (seen + 4) / 24
        average = average + (1 - 0.5 ** (4 / half_life)) * (c - average)
    return w, c, average


@pytest.mark.parametrize(
    ("how", "tolerance"),
    [
        pytest.param({}, 1e-5, id="plain"),
        pytest.param({"jit_compile": True}, 1e-5, id="xla", marks=pytest.mark.slow),
        pytest.param({"policy": "mixed_float16"}, 2e-2, id="float16"),
    ],
)
def test_a_game_follows_its_schedules_and_resumes_exactly(how, tolerance, tmp_path):
    """Adam's learning rate and beta_2, SGD's learning rate, a term's weight, the half-life."""
    straight = linear_game(**how)
    straight.fit(REAL[:8], batch_size=4, shuffle=False, verbose=0)
    straight.save(tmp_path / "game.keras")
    straight.fit(REAL[8:], batch_size=4, shuffle=False, verbose=0)
    w, c, average = by_hand()
    found = straight.discriminator.get_weights()[0][:, 0]
    np.testing.assert_allclose(found, w, rtol=tolerance)
    np.testing.assert_allclose(straight.generator.layers[-1].bias, c, rtol=tolerance)
    averaged = straight.average_generator.layers[-1].bias
    np.testing.assert_allclose(averaged, average, rtol=tolerance)
    if how.get("policy"):
        assert straight.discriminator_optimizer.inner_optimizer.iterations == 6

    resumed = keras.saving.load_model(tmp_path / "game.keras")
    resumed.fit(REAL[8:], batch_size=4, shuffle=False, verbose=0)
    for a, b in zip(resumed.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    variables = [gan.discriminator_optimizer.variables for gan in (resumed, straight)]
    for a, b in zip(*variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_games_can_share_a_schedule():
    """Each game's optimizers count its own examples."""
    rate = Linear(1.0, 0.0, 8)
    games = []
    for _ in range(2):
        gan = linear_game()
        gan.compile(keras.optimizers.SGD(rate), keras.optimizers.SGD(rate))
        games.append(gan)
    games[0].fit(REAL[:4], batch_size=4, verbose=0)
    rates = [float(gan.generator_optimizer.learning_rate) for gan in games]
    assert rates == [0.5, 1.0]


def r3gan_recipe():
    """Returns the recipe from the documentation."""
    text = (ROOT / "docs" / "recipes.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    return next(yaml.safe_load(block) for block in blocks if "pipeline" in block)


def test_the_recipe_of_r3gan_follows_its_schedules(image_spec):
    """Each value, and a training step, at the start, the middle and the end."""
    tree = r3gan_recipe()
    for role in ("generator", "discriminator"):
        tree["networks"][role] = {"architecture": "dcgan", "widths": [8, 4, 4]}
    loaded = recipe.parse(tree)
    assert recipe.parse(yaml.safe_load(loaded.to_yaml())) == loaded
    assert loaded.open_ended() == []
    gan = train.build(loaded, image_spec)
    x = np.tanh(np.random.default_rng(0).normal(size=(8, 8, 12, 1))).astype("float32")
    for examples, rate, beta, gamma, half_life, probability in (
        (0, 2e-4, 0.9, 2.0, 0.0, 0.0),
        (10_000_000, 1.25e-4, 0.945, 1.1, 250_000, 0.15),
        (20_000_000, 5e-5, 0.99, 0.2, 500_000, 0.3),
    ):
        gan.examples_seen.assign(examples)
        for optimizer in (gan.generator_optimizer, gan.discriminator_optimizer):
            assert float(optimizer.learning_rate) == pytest.approx(rate)
            assert float(optimizer.beta_2(None)) == pytest.approx(beta)
            assert (optimizer.beta_1, optimizer.epsilon) == (0.0, 1e-8)
        for term in gan.terms.values():
            assert float(schedules.now(term.weight, examples)) == pytest.approx(gamma)
        assert float(schedules.now(gan.ema_half_life, examples)) == pytest.approx(half_life)
        logs = gan.fit(x, batch_size=8, verbose=0).history
        assert logs["augment_probability"][0] == pytest.approx(probability, abs=1e-7)
        assert np.isfinite([values[0] for values in logs.values()]).all()
