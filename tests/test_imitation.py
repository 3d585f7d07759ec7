"""Imitation: environments, advantages, PPO, rewards, rounds, and exact resume."""

import math
import os
import random
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gan import (
    BehaviorCloning,
    Imitation,
    Spec,
    UsageError,
    architectures,
    building,
    datasets,
    layers,
    recipe,
    rewards,
    train,
)
from keras_gan import run as runs
from keras_gan.callbacks import variables_of
from keras_gan.control import distributions, scores
from keras_gan.control.spaces import spaces_of
from keras_gan.control.vector import State, Vector
from keras_gan.games import _ppo, _rollout
from keras_gan.metrics.action_error import action_error

gymnasium = pytest.importorskip("gymnasium")

POLE = spaces_of("CartPole-v1")
PENDULUM = spaces_of("Pendulum-v1")
SMALL = {"environments": 4, "minibatches": 4, "discriminator_steps": 2, "epochs": 2}


def networks(spaces, *names):
    spec = Spec(fields=spaces.fields)
    return {name: architectures.build_network(name, "policy", spec, widths=[8]) for name in names}


def imitation(spaces=POLE, **options):
    keras.utils.set_random_seed(0)
    found = networks(spaces, "policy", "value", "discriminator")
    given = SMALL | {"evaluation_episodes": 2} | options
    game = Imitation(**found, environment=spaces.environment, ema_half_life=0, **given)
    game.compile()
    return game


def batches(environment="CartPole-v1", size=64, start=0):
    data = datasets.open("trajectories", environment=environment, episodes=1, every=20)
    return data.dataset("train", size, repeat=True, start=start)


# ------------------------------------------------------------------------ environments


def test_a_restarted_episode_goes_on_after_a_fall():
    vector, left = Vector(POLE, 1, seed=0), np.float32([[1, 0]])
    falls, ends = [], []
    for step in range(1, 1001):
        resets = vector.state.resets[0]
        found = vector.step(left)
        if vector.state.resets[0] > resets:
            falls.append(step)
        ends += [step] if found.truncated[0] else []
        assert not found.terminated[0]
        if not found.truncated[0]:
            np.testing.assert_array_equal(found.following, found.observation)
    assert ends == [500, 1000]  # always pushing left falls in 8 to 10 steps
    assert 8 <= falls[0] <= 10
    assert len(falls) > 90
    assert vector.state.returns[0] == falls[-2] - falls[-3] or 8 <= vector.state.returns[0] <= 10


def test_without_restarts_an_episode_is_terminated_where_it_falls():
    vector, left = Vector(POLE, 2, seed=0, restart=False), np.float32([[1, 0]] * 2)
    flags = [vector.step(left) for _ in range(10)]
    terminated = np.array([found.terminated for found in flags])
    assert (terminated.sum(axis=0) == 1).all()
    step = int(np.argmax(terminated[:, 0]))
    assert abs(flags[step].following[0][2]) > 0.2  # the fallen pole
    assert abs(flags[step].observation[0][2]) <= 0.05  # the next episode's first observation
    assert vector.state.returns[0] == step + 1
    assert vector.state.resets.tolist() == [2, 2]


@pytest.mark.parametrize(
    "environment", ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "LunarLander-v3"]
)
def test_a_vector_is_restored_from_plain_arrays(environment):
    spaces, rng = spaces_of(environment), np.random.default_rng(0)
    actions = [spaces.encode([0, 1] if spaces.choices else [[0.5], [-1]]) for _ in range(3)]
    actions = [actions[rng.integers(3)] for _ in range(90)]
    one = Vector(spaces, 2, seed=5)
    for each in actions[:45]:
        one.step(each)
    kept = State(*(array.copy() for array in one.state.arrays()))
    expected = [one.step(each).observation.copy() for each in actions[45:]]
    other = Vector(spaces, 2, seed=5)
    other.restore(kept)
    for each, wanted in zip(actions[45:], expected, strict=True):
        np.testing.assert_array_equal(other.step(each).observation, wanted)


# ------------------------------------------------------------------------ the algorithm by hand


def test_advantages_end_at_both_ends_of_episodes_but_a_cut_one_has_a_value_after_it():
    flags = {"terminated": [0.0, 0, 1, 0], "truncated": [0.0, 1, 0, 0]}
    flags = {name: tf.constant(value)[:, tf.newaxis] for name, value in flags.items()}
    rollout = _rollout.Rollout(*[None] * 4, **flags)
    column = lambda *numbers: tf.constant(numbers, tf.float32)[:, tf.newaxis]  # noqa: E731
    found = _rollout.advantages(
        rollout, column(1, 2, 3, 4), column(10, 20, 30, 40), column(20, 25, 0, 50), 0.5, 0.5
    )
    # Differences: 1 + 10 - 10 = 1; 2 + 12.5 - 20 = -5.5; 3 - 30 = -27; 4 + 25 - 40 = -11.
    np.testing.assert_allclose(found[:, 0], [1 + 0.25 * -5.5, -5.5, -27, -11])


def test_the_clipped_objective():
    ratio, advantage = tf.constant([1.5, 1.5, 0.5, 0.5, 1.1]), tf.constant([1.0, -1, 1, -1, 2])
    found = _ppo.clipped_objective(ratio, advantage, 0.2)
    np.testing.assert_allclose(found, [1.2, -1.5, 0.5, -0.8, 2.2], rtol=1e-6)


def test_rewards_of_logits():
    logits = tf.constant([[0.0], [2.0]])
    assert rewards.get("gail")(logits).numpy() == pytest.approx([math.log(2), 2.126928], rel=1e-5)
    found = rewards.get("log_d")(logits).numpy()
    assert found == pytest.approx([-math.log(2), -0.126928], rel=1e-5)
    for name in ("airl", "wgan"):
        np.testing.assert_array_equal(rewards.get(name)(logits), [0, 2])
    constant = rewards.get({"name": "constant", "value": 3.0})
    np.testing.assert_array_equal(constant(logits), [3, 3])
    assert type(constant).from_config(constant.get_config()).value == 3


def test_a_categorical_distribution():
    found = distributions.Categorical({"logits": tf.math.log([[0.25, 0.75]])})
    actions = tf.constant([[0.0, 1.0]])
    np.testing.assert_allclose(found.log_prob(actions), [math.log(0.75)], rtol=1e-6)
    np.testing.assert_allclose(found.entropy(), [0.5623351], rtol=1e-6)
    many = distributions.Categorical({"logits": tf.math.log([[0.25, 0.75]] * 4000)})
    drawn = many.sample(many.noise((4000, 2), [1, 2])).numpy()
    assert set(drawn.sum(axis=1)) == {1.0}
    assert drawn[:, 1].mean() == pytest.approx(0.75, abs=0.02)


def test_a_gaussian_distribution():
    outputs = {"mean": tf.constant([[1.0, 2.0]]), "log_std": tf.math.log([[2.0, 0.5]])}
    found = distributions.Gaussian(outputs)
    # ln N(3; 1, 2) + ln N(2; 2, 1/2) = -1/2 - ln 2 - ln(2 pi) / 2 + ln 2 - ln(2 pi) / 2
    np.testing.assert_allclose(
        found.log_prob(tf.constant([[3.0, 2.0]])), [-0.5 - math.log(2 * math.pi)], rtol=1e-6
    )
    np.testing.assert_allclose(found.entropy(), [math.log(2 * math.pi * math.e)], rtol=1e-6)
    np.testing.assert_allclose(found.sample(tf.constant([[1.0, -2.0]])), [[3, 1]], rtol=1e-6)


def test_the_statistics_of_a_normalization_are_those_of_all_observations():
    layer, x = layers.ObservationNormalization(), np.random.default_rng(0).normal(3, 2, (50, 2))
    layer.build((None, 2))
    np.testing.assert_allclose(layer(x[:1]), np.clip(x[:1], -10, 10), rtol=1e-5)
    for part in (x[:7], x[7:20], x[20:]):
        layer.update_statistics(part)
    np.testing.assert_allclose(layer.mean, x.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(layer.variance, x.var(axis=0), rtol=1e-4)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.limit == 10


def test_the_error_of_actions():
    one, two = np.eye(2)[[0, 1, 1]], np.eye(2)[[0, 0, 1]]
    assert action_error(one, two) == pytest.approx(1 / 3)
    low, high = (-2.0,), (2.0,)
    assert action_error(np.array([[1.0]]), np.array([[0.0]]), low, high) == pytest.approx(0.25)
    with pytest.raises(UsageError, match="as many as the expert's"):
        action_error(one, two[:2])


# ------------------------------------------------------------------------ networks


def test_a_policy_of_choices_and_one_of_continuous_actions():
    observations = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    policy = networks(POLE, "policy")["policy"]
    found = policy(observations)
    np.testing.assert_array_equal(np.argmax(found["samples"], 1), np.argmax(found["logits"], 1))
    policy = networks(PENDULUM, "policy")["policy"]
    policy.get_layer("last").kernel.assign(np.full((8, 1), 5.0))
    found = {name: value.numpy() for name, value in policy(observations[:, :3]).items()}
    np.testing.assert_array_equal(found["samples"], found["mean"])
    assert 1.5 < np.abs(found["mean"]).max() <= 2
    np.testing.assert_allclose(found["log_std"], np.log(2) - 0.5, rtol=1e-6)  # half of 4, e^-0.5


def test_networks_that_do_not_fit_are_refused():
    found = networks(POLE, "policy", "value", "discriminator")
    others = networks(PENDULUM, "policy")
    for changed, message in (
        ({"policy": others["policy"]}, "must return logits for the actions of CartPole-v1"),
        ({"value": found["policy"]}, "must return `value`"),
        ({"discriminator": found["value"]}, "must take `observation` and `samples`"),
    ):
        with pytest.raises(UsageError, match=message):
            Imitation(**found | changed, environment="CartPole-v1")
    with pytest.raises(UsageError, match="actions of Acrobot-v1"):
        BehaviorCloning(found["policy"], environment="Acrobot-v1")
    with pytest.raises(UsageError, match="takes no labels"):
        architectures.build_network(
            "policy", "policy", Spec("points", (2,), num_classes=2), conditional=True
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reward": "wgan"}, "Received: reward='wgan' with loss='non_saturating'"),
        ({"loss": "wasserstein"}, "must be 'wgan' for the loss wasserstein"),
        (
            {"loss": "wasserstein", "reward": "log_d"},
            "Received: reward='log_d' with loss='wasserstein'",
        ),
        ({"episodes": "endless"}, "one of restart, absorbing, natural. Received: .*endless"),
        ({"terms": ["reconstruction"]}, "for the player 'generator'"),
        ({"augment": "ada"}, "Imitation has no augmentation|No augmentation"),
        ({"clip": 0}, "`clip` must be a number above 0"),
        ({"environments": 0}, "`environments` must be an integer of at least 1"),
        ({"discount": 1.5}, "`discount` must be a number from 0 to 1"),
        ({"episodes": "absorbing", "discount": 1.0}, "`discount` must be below 1 for absorbing"),
        ({"replay": -1}, "`replay` must be an integer of at least 0"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        imitation(**options)


def test_a_batch_must_divide_and_fit_into_the_replay():
    with pytest.raises(
        UsageError, match=r"must be a multiple of the least common multiple of environments.* = 4"
    ):
        imitation().fit(batches(size=62), steps_per_epoch=1, verbose=0)
    with pytest.raises(UsageError, match="at least the batch of 64 pairs"):
        imitation(replay=32).fit(batches(), steps_per_epoch=1, verbose=0)
    with pytest.raises(UsageError, match="which XLA cannot compile"):
        imitation().compile(jit_compile=True)


# ------------------------------------------------------------------------ rounds


def weights(game):
    return [variable.value.numpy() for variable in variables_of(game)]


def pairs_of(game):
    return game.states["replay"]["pairs"].value.numpy()


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ("CartPole-v1", {"terms": ["r1"], "replay": 160, "cloning_steps": 2}),
        (
            "Pendulum-v1",
            {"reward": "wgan", "loss": "wasserstein", "terms": ["gradient_penalty"], "replay": 160}
            | {"episodes": "absorbing", "entropy": 0.01},
        ),
    ],
)
def test_a_saved_game_goes_on_bit_for_bit(environment, options, tmp_path):
    game = imitation(spaces_of(environment), **options)
    game.fit(batches(environment), steps_per_epoch=2, verbose=0)
    first = pairs_of(game)
    game.save(tmp_path / "game.keras")
    history = game.fit(batches(environment, start=2), steps_per_epoch=2, verbose=0).history
    loaded = keras.saving.load_model(tmp_path / "game.keras")
    again = loaded.fit(batches(environment, start=2), steps_per_epoch=2, verbose=0).history
    for one, other in zip(weights(game), weights(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_equal(again, history)
    assert loaded.count("examples_seen") == 4 * 64  # the steps in the environment
    state = {name: value.value.numpy() for name, value in loaded.states["environment"].items()}
    assert state["clock"].tolist() == [64] * 4
    assert (state["since"] <= 64).all()
    # The pairs of the first two rounds fill 128 of 160 rows; the later ones go on from there.
    assert not first[128:].any()
    np.testing.assert_array_equal(pairs_of(game)[96:128], first[96:128])
    assert pairs_of(game)[128:].any()
    # The statistics are those of the observations, once a round, the same in all networks.
    layer = game.policy.get_layer("normalized")
    assert float(layer.count) == 4 * 64 + 64 * bool(options.get("cloning_steps"))
    for name in ("value", "discriminator"):
        other = getattr(game, name).get_layer("normalized")
        np.testing.assert_array_equal(layer.mean.numpy(), other.mean.numpy())


class Nervous(gymnasium.Env):
    """An environment whose observations are no function of its seed; it fails at step 40."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(3)
    steps = 0

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        self.start = np.random.default_rng().uniform(size=2).astype("float32")
        return self.start, {}

    def step(self, action):
        self.steps += 1
        if self.steps == 40:
            raise RuntimeError("too many steps")
        return self.start, 0.0, False, False, {}


def test_an_environment_that_does_not_repeat_itself_and_one_that_fails(tmp_path):
    gymnasium.register("Nervous-v0", Nervous, max_episode_steps=100)
    spaces = spaces_of("Nervous-v0")
    fields = {
        "samples": np.eye(3, dtype="float32")[np.arange(64) % 3],
        "observation": np.zeros((64, 2), "float32"),
    }
    game = imitation(spaces, expert_return=1.0)
    game.fit(fields, batch_size=64, verbose=0)
    game.save(tmp_path / "game.keras")
    loaded = keras.saving.load_model(tmp_path / "game.keras")
    with pytest.raises(UsageError, match=r"must repeat its observations .* with others"):
        loaded.fit(fields, batch_size=64, verbose=0)
    with pytest.raises(UsageError, match=r"which raised RuntimeError: too many steps"):
        game.fit(fields, batch_size=64, epochs=3, verbose=0)


def test_cloning_raises_the_likelihood_of_the_expert():
    keras.utils.set_random_seed(0)
    game = BehaviorCloning(
        **networks(POLE, "policy"), environment="CartPole-v1", evaluation_episodes=2
    )
    game.compile(keras.optimizers.Adam(1e-2))
    logs = game.fit(batches(), steps_per_epoch=40, epochs=2, verbose=0).history["cloning_loss"]
    assert logs[0] < math.log(2)
    assert logs[1] < logs[0] / 2
    data = next(iter(batches(size=25)))
    found = game.evaluate({k: v.numpy() for k, v in data.items()}, verbose=0, return_dict=True)
    assert found["cloning_loss"] < 0.5
    actions = game.generate(range(25), observation=data["observation"].numpy())
    assert action_error(data["samples"].numpy(), actions) < 0.2


def test_scores_lie_between_random_actions_and_the_expert():
    assert scores.normalized_return(-110.0, -200.0, -100.0) == pytest.approx(0.9)
    game = imitation()
    data = datasets.open("trajectories", environment="CartPole-v1", episodes=4, every=5)
    found = game.baselines(data.field_arrays("train"))
    assert found["expert"] == {"normalized_return": 1.0, "mean_return": 500.0}
    assert 15 < found["random"]["mean_return"] < 30
    assert found["cloning"]["mean_return"] > 300
    assert set(game.scores()) == {"normalized_return", "mean_return"}
    assert game.score == "normalized_return"


# ------------------------------------------------------------------------ runs

SETTINGS = [
    *("networks.policy.widths=[8]", "networks.value.widths=[8]"),
    *("networks.discriminator.widths=[8]", "game.environments=4", "game.minibatches=4"),
    *("game.epochs=2", "game.evaluation_episodes=2", "game.replay=200", "training.batch_size=64"),
    *("training.tick_examples=128", "training.checkpoint_seconds=0"),
    *("evaluation.every_examples=2560", "evaluation.count=50", "samples.every_seconds=0.3"),
]


def command(run, examples):
    given = [sys.executable, "-m", "keras_gan", "train"]
    if (run / "recipe.yaml").exists():
        return [*given, "--resume", str(run), "--set", f"training.examples={examples}"]
    settings = [part for each in SETTINGS for part in ("--set", each)]
    settings += ["--set", f"training.examples={examples}"]
    return [*given, "cartpole-imitation", *settings, "--run", str(run)]


def outcome(run):
    opened = runs.Run.open(run)
    timing = ("seconds", "examples_per_second")
    rows = [{k: v for k, v in row.items() if k not in timing} for row in opened.rows()]
    return weights(opened.load()), rows, opened.best_record


def kill_until(run, kills, examples, delay):
    """Kills a training some times, after its first checkpoints, and finishes it."""
    rng = random.Random(1)
    for _ in range(kills):
        with (run.parent / "log.txt").open("ab") as log:
            process = subprocess.Popen(command(run, 10**6), stdout=log, stderr=log)
        before = set((run / "checkpoints").glob("examples-*.keras"))
        while set((run / "checkpoints").glob("examples-*.keras")) == before:
            assert process.poll() is None, (run.parent / "log.txt").read_text()[-2000:]
            time.sleep(0.005)
        time.sleep(rng.uniform(0, delay))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    reached = max(int(p.stem[9:]) for p in (run / "checkpoints").glob("examples-*.keras"))
    subprocess.run(command(run, reached + examples), check=True, capture_output=True)
    return reached + examples


def assert_killed_equals_straight(tmp_path, kills):
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    examples = kill_until(killed, kills, 512, 0.6)
    subprocess.run(command(straight, examples), check=True, capture_output=True)
    one, other = outcome(killed), outcome(straight)
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1:] == other[1:]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_kills_leave_no_trace(tmp_path):
    assert_killed_equals_straight(tmp_path, 10)


KILLED_WITHIN = """
import os, signal, sys
from keras_gan.__main__ import main
from keras_gan.control import vector
step, count = vector.Vector.step, 0
def killed(self, actions):
    global count
    count += 1
    if count == 100:  # 16 steps of four copies a round: in the middle of the seventh round
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, actions)
vector.Vector.step = killed
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_within_a_round_leaves_no_trace(tmp_path):
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    given = command(killed, 640)[3:]
    done = subprocess.run([sys.executable, "-c", KILLED_WITHIN, *given], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    reached = max(int(p.stem[9:]) for p in (killed / "checkpoints").glob("examples-*.keras"))
    assert reached == 384
    for run in (killed, straight):
        subprocess.run(command(run, 640), check=True, capture_output=True, env=os.environ)
    one, other = outcome(killed), outcome(straight)
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert one[1:] == other[1:]
    page = (straight / "report.html").read_text("utf-8")
    assert "Control expert normalized_return 1, mean_return 500" in page
    assert "Normalized return of the policy" in page


@pytest.mark.parametrize(
    "name",
    ["cartpole-imitation", "mountain-car-imitation", "pendulum-imitation", "acrobot-imitation"],
)
def test_the_recipes_can_be_prepared(name):
    found = recipe.load(name)
    assert found.data.options["environment"] == found.game.options["environment"]
    source = building.open_data(found)
    game = building.build(found, source.spec)
    assert isinstance(game, Imitation)
    assert source.count("held_out") > 100


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_reward_is_learned_and_a_constant_teaches_nothing(tmp_path):
    """25 pairs of one episode are enough; the control stays where random actions are."""
    for reward, low, high in (("gail", 0.9, 1.01), ("constant", -0.1, 0.4)):
        settings = (f"game.reward={reward}", "data.episodes=1", "training.examples=61440")
        found = recipe.load("cartpole-imitation", settings)
        best = train.train(found, tmp_path / reward).run.best_record
        assert low < best["normalized_return"] < high
