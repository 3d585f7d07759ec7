"""Scripted experts, recordings, the data set trajectories, and what they refuse."""

import subprocess
import sys

import numpy as np
import policies
import pytest

import serving
from keras_gan import UsageError, datasets
from keras_gan.commands.recording import record_command
from keras_gan.control import experts, recording, spaces
from serving.kinds import action

pytest.importorskip("gymnasium")

# Returns of 5 episodes with seed 0, at least; gymnasium's reward thresholds are 475, -110 (met by
# few), about -200 for a good swing-up, -100 and 200.
LEAST = {
    "CartPole-v1": 500,
    "MountainCar-v0": -150,
    "Pendulum-v1": -300,
    "Acrobot-v1": -110,
    "LunarLander-v3": 200,
}


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def pairs(count=10, features=4, ends=(4, 9), choices=2):
    """Returns the arrays of two episodes."""
    flags = np.zeros(count, bool)
    flags[list(ends)] = True
    return {
        "observations": np.arange(count * features, dtype="float32").reshape(count, features),
        "actions": np.arange(count) % choices,
        "terminated": flags,
        "truncated": np.zeros(count, bool),
    }


def opened(path, **options):
    return datasets.open("trajectories", path=path, environment="CartPole-v1", **options)


@pytest.mark.parametrize("environment", LEAST)
def test_scripted_experts_solve_their_environments(environment):
    found = recording.record(environment, experts.scripted(environment), 5, seed=0)
    assert found.returns.mean() >= LEAST[environment]
    assert len(found.returns) == 5
    assert (found.terminated | found.truncated)[-1]


def test_the_spaces_of_choices_and_of_continuous_actions():
    pole, pendulum = spaces.spaces_of("CartPole-v1"), spaces.spaces_of("Pendulum-v1")
    assert (pole.observation, pole.choices, pole.action, pole.horizon) == (4, 2, 2, 500)
    assert (pendulum.action, pendulum.low, pendulum.high) == (1, (-2.0,), (2.0,))
    np.testing.assert_array_equal(pole.encode([1, 0]), [[0, 1], [1, 0]])
    assert pole.decode(np.array([0.0, 1.0])) == 1
    np.testing.assert_array_equal(pendulum.decode(np.array([3.0])), [2.0])
    field = pendulum.fields["samples"]
    low, high = action.bounds(field.meta)
    assert (low, high) == (np.float32([-2]), np.float32([2]))
    assert action.bounds(pole.fields["samples"].meta) is None


def test_a_recording_is_a_function_of_its_seed_and_does_not_depend_on_its_length():
    expert = experts.scripted("MountainCar-v0")
    short, long = (recording.record("MountainCar-v0", expert, n, seed=3) for n in (1, 2))
    np.testing.assert_array_equal(short.observations, long.observations[: len(short.actions)])
    other = recording.record("MountainCar-v0", expert, 1, seed=4)
    assert not np.array_equal(other.observations[0], short.observations[0])


def test_one_in_twenty_steps_of_the_first_episodes_and_the_others_are_held_out():
    found = datasets.open("trajectories", environment="CartPole-v1", episodes=2, every=20)
    assert found.count("train") == 50
    assert found.count("held_out") == 5_000  # ten further episodes
    batch = next(iter(found.dataset("train", 128, repeat=True)))  # more than there are examples
    assert batch["samples"].shape == (128, 2)
    assert batch["observation"].shape == (128, 4)
    np.testing.assert_array_equal(batch["samples"].numpy().sum(axis=1), 1)
    rows = {tuple(row) for row in found.field_arrays("train")["observation"]}
    assert {tuple(row) for row in batch["observation"].numpy()} == rows  # each at least twice


def test_steps_between_those_of_the_training_are_held_out_if_all_episodes_are_used(tmp_path):
    path = write(tmp_path / "a.npz", **pairs())
    found = opened(path, every=5, data_seed=1)
    assert (found.count("train"), found.count("held_out")) == (2, 8)
    whole = opened(path)
    assert (whole.count("train"), whole.count("held_out")) == (9, 1)


def test_the_layouts_of_other_packages(tmp_path):
    own = pairs()
    expected = opened(write(tmp_path / "own.npz", **own)).field_arrays("train")
    acts, obs = own["actions"], own["observations"]
    last = np.full((1, 4), 99, "float32")  # of each episode, which has no action
    with_last = np.concatenate([obs[:5], last, obs[5:], last])
    layouts = [
        {"obs": with_last, "acts": acts, "indices": [5], "terminal": [True, True]},
        {"obs": obs, "acts": acts, "dones": own["terminated"], "next_obs": obs},
        {
            "observations": with_last,
            "actions": acts,
            "terminations": np.arange(10) == 4,
            "truncations": np.arange(10) == 9,
        },
        {"observations": obs, "actions": acts, "episode_ends": [5, 10]},
        {"observations": obs, "actions": acts[:, np.newaxis], "lengths": [5, 5]},
    ]
    for number, layout in enumerate(layouts):
        found = opened(write(tmp_path / f"{number}.npz", **layout)).field_arrays("train")
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=f"{number} {name}")


BAD = [
    ({"actions": np.arange(10) % 3}, "must be from 0 to 1. Received: .* from 0 to 2"),
    ({"actions": np.arange(10) / 2 % 1}, "must be integers"),
    ({"observations": np.zeros((10, 3))}, r"shape \(steps, 4\). Received: .*\(10, 3\)"),
    ({"observations": np.zeros((9, 4))}, "one observation for each of the 10 actions"),
    ({"observations": np.full((10, 4), np.nan)}, "finite numbers. Received: .*40 NaN"),
    ({"terminated": np.zeros(10, bool)}, "Every episode must have an end"),
    ({"terminated": np.ones(9, bool)}, "one value of terminated for each of the 10 actions"),
    ({"observations": None}, "must have the arrays observations and actions"),
    ({"terminated": None, "truncated": None}, "must say where episodes end"),
    (
        {"terminated": None, "truncated": None, "lengths": np.array([4, 5])},
        r"ends must ascend to the number of actions, 10. Received: .*\[4, 9\] ... \[9\]",
    ),
    ({"observations": np.float32(1)}, "observations must have one row for each step"),
    ({"actions": np.int64(1)}, "actions must have one row for each step. Received: .* a number"),
    ({"actions": np.array(["left"] * 10)}, "actions must be numbers. Received: .* dtype <U4"),
    ({"terminated": np.array(["no"] * 10)}, "terminated must be numbers. Received: .* dtype <U2"),
    ({"rewards": np.array(["1"] * 10)}, "rewards must be numbers. Received: .* dtype <U1"),
    ({"terminated": np.ones((10, 1))}, r"one value of terminated .* with shape \(10, 1\)"),
    (
        {"terminated": None, "truncated": None, "indices": np.array([[5]])},
        r"indices must have one number for each episode, in one axis. Received: .*\(1, 1\)",
    ),
    (
        {"terminated": None, "truncated": None, "lengths": np.array([5, np.nan])},
        "ends must ascend to the number of actions, 10",
    ),
    ({"environment": "Acrobot-v1"}, "of the environment CartPole-v1. Received: .*Acrobot-v1"),
]


@pytest.mark.parametrize(("changed", "message"), BAD, ids=range(len(BAD)))
def test_bad_files_are_refused_in_one_line(changed, message, tmp_path):
    arrays = {k: v for k, v in (pairs() | changed).items() if v is not None}
    with pytest.raises(UsageError, match=message) as error:
        opened(write(tmp_path / "bad.npz", **arrays))
    assert "\n" not in str(error.value)


def test_an_unknown_return_is_left_out_and_two_steps_are_too_few(tmp_path):
    known = opened(write(tmp_path / "known.npz", **pairs(), rewards=np.ones(10)))
    assert known.description.endswith("9 + 1 pairs, mean return 5.0")
    assert opened(write(tmp_path / "a.npz", **pairs())).description.endswith("9 + 1 pairs")
    three = opened(write(tmp_path / "three.npz", **pairs(count=3, ends=[2])))
    assert (three.count("train"), three.count("held_out")) == (2, 1)
    for count in (1, 2):
        path = write(tmp_path / "few.npz", **pairs(count=count, ends=[count - 1]))
        with pytest.raises(UsageError, match=f"at least three steps, .* Received: {count} of"):
            opened(path)


def test_continuous_actions_out_of_bounds_are_refused(tmp_path):
    arrays = pairs(features=3) | {"actions": np.linspace(-2, 2.5, 10)}
    path = write(tmp_path / "bad.npz", **arrays)
    with pytest.raises(
        UsageError, match=r"from \(-2.0,\) to \(2.0,\). Received: .* from -2 to 2.5"
    ):
        datasets.open("trajectories", path=path, environment="Pendulum-v1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`environment` or `path` must be given"),
        ({"environment": "CartPole"}, "Did you mean 'CartPole-v1'"),
        ({"environment": "Blackjack-v1"}, "scripted expert is for one of"),
        ({"environment": "CartPole-v1", "every": 0}, "`every` must be an integer of at least 1"),
        ({"environment": "CartPole-v1", "path": "none.npz"}, "must be a .npz file"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        datasets.open("trajectories", **options)


def test_more_episodes_than_a_file_has_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"recorded ones, 2. Received: episodes=3"):
        opened(write(tmp_path / "a.npz", **pairs()), episodes=3)


def test_an_environment_that_is_not_installed_is_one_line(monkeypatch):
    gymnasium = spaces.gymnasium()

    def missing(*args, **kwargs):
        raise gymnasium.error.DependencyNotInstalled("Box2D is not installed")

    monkeypatch.setattr(gymnasium, "make", missing)
    with pytest.raises(UsageError, match=r"must be installed with all that it needs.*Box2D"):
        spaces.make("LunarLander-v3")
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(UsageError, match="pip install 'keras-gan\\[imitation\\]'"):
        spaces.gymnasium()


# ------------------------------------------------------------------------ experts by name


def record_named(name):
    expert, text = recording.named(name, "CartPole-v1", serving.Bundle)
    return recording.record("CartPole-v1", expert, 1, name=text)


def test_an_expert_of_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def right(observation): return 1\n"
        "def by_environment(observation, environment): return environment.action_space.n - 1\n"
        "def bad(observation): return 5\n"
        "def nothing(observation): pass\n"
        "def text(observation): return 'left'\n"
        "def failing(observation): raise ValueError('no')\n"
    )
    for name in ("right", "by_environment"):
        assert record_named(f"{path}:{name}").actions.mean() == 1
    for name, message in (
        ("bad", "must return an action of Discrete.*which returned 5"),
        ("nothing", "must return an action of Discrete.*which returned None"),
        ("text", "must return an action of Discrete.*which returned 'left'"),
        ("failing", "raised ValueError: no"),
        ("missing", "must be a function of its file"),
    ):
        with pytest.raises(UsageError, match=message):
            record_named(f"{path}:{name}")
    with pytest.raises(UsageError, match=r"must be FILE.py:FUNCTION or the folder"):
        recording.named("nothing", "CartPole-v1", serving.Bundle)
    with pytest.raises(UsageError, match="file of an expert must exist"):
        recording.named(str(tmp_path / "none.py:act"), "CartPole-v1")


def test_a_function_takes_the_environment_if_it_asks_for_it(tmp_path):
    (tmp_path / "beside.py").write_text("SIDE = 1\n")
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\n"
        "import dataclasses\n"
        "from beside import SIDE\n"
        "@dataclasses.dataclass\n"
        "class Expert:\n"
        "    side: int = SIDE\n"
        "    def act(self, observation): return self.side\n"
        "    def __call__(self, observation, other): return other.action_space.n - 1\n"
        "method, instance = Expert().act, Expert()\n"
        "def with_default(observation, side=1): return side\n"
        "def named(observation, environment=None): return environment.action_space.n - 1\n"
        "def several(*observations): return len(observations)\n"
    )
    before = list(sys.path)
    try:
        for name in ("method", "instance", "with_default", "named", "several"):
            assert record_named(f"{path}:{name}").actions.mean() == 1, name
    finally:
        sys.modules.pop("beside", None)
    assert sys.path == before


def test_an_expert_of_a_bundle(tmp_path):
    run = tmp_path / "run"
    bundle = policies.discrete(run / "bundle")
    (run / "checkpoints").mkdir()
    (run / "recipe.yaml").touch()
    found = record_named(str(bundle))
    assert found.returns[0] == 500
    np.testing.assert_array_equal(record_named(str(run)).observations, found.observations)
    policies.continuous(tmp_path / "pendulum")
    policies.reward(tmp_path / "reward")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    (tmp_path / "mine.py").touch()
    for name, message in (
        ("pendulum", r"those of Pendulum-v1. Received: 'CartPole-v1' with .*shape \(4,\), not"),
        ("reward", "A policy has the role 'policy'"),
        ("broken", "manifest.json must be JSON"),
        ("", "A bundle is a folder with a manifest.json"),
        ("mine.py", "must be FILE.py:FUNCTION or the folder"),
    ):
        with pytest.raises(UsageError, match=message) as error:
            recording.named(f"{tmp_path}/{name}", "CartPole-v1", serving.Bundle)
        assert "\n" not in str(error.value)


def test_nothing_is_recorded_that_cannot_be_written(tmp_path, monkeypatch):
    def recorded(*args):
        raise AssertionError("recorded")

    monkeypatch.setattr(recording, "record", recorded)
    (tmp_path / "folder.npz").mkdir()
    for out, message in (
        ("none/expert.npz", "in a folder that exists. Received: out="),
        ("folder.npz", "--out must name a file"),
    ):
        with pytest.raises(UsageError, match=message):
            record_command("CartPole-v1", out=tmp_path / out)


def test_the_command_record(tmp_path):
    out = tmp_path / "expert.npz"
    given = [sys.executable, "-m", "keras_gan", "record", "CartPole-v1", "--episodes", "2"]
    done = subprocess.run([*given, "--out", str(out)], capture_output=True, text=True, check=True)
    assert "2 episodes of the scripted expert of CartPole-v1, 1,000 steps" in done.stdout
    found = datasets.open("trajectories", path=out, every=20)
    assert found.count("train") == 50
    assert "mean return 500.0" in found.description
    failed = subprocess.run([*given, "--out", "x.csv"], capture_output=True, text=True)
    assert (failed.returncode, failed.stderr.count("\n")) == (2, 1)
