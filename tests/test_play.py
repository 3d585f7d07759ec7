"""`keras-gan play`: returns, animations, and what is refused."""

import os
import re
import subprocess
import sys

import corridor
import gymnasium
import numpy as np
import policies
import pytest
import tiny
from PIL import Image
from policies import BALANCE
from servers import ROOT

import serving
from serving import play_command
from serving.cli import main

CORRIDOR = {"id": "corridor:Corridor-v0", "observation": {"low": -1.0, "high": 1.0}}
CORRIDOR["action"] = {"n": 2}
RIGHT = np.array([[-1.0, 1.0]], np.float32)  # right of 0 to the right, left of it and at 0 left


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    to = tmp_path_factory.mktemp("policies")
    policies.discrete(to / "corridor", RIGHT, CORRIDOR, name="corridor")
    policies.discrete(to / "nameless", RIGHT, {**CORRIDOR, "id": None})
    policies.discrete(to / "cartpole")
    policies.continuous(to / "pendulum")
    tiny.clothes(to / "clothes")
    return to


def play(capsys, *args):
    """Runs the command; returns its status and what it printed."""
    status = main(["play", *map(str, args)])
    return status, *capsys.readouterr()


def test_returns_are_those_of_the_episodes(capsys, folder):
    # From 0 the policy goes left: -0.25 - 0.5 - 0.75 - 1. From 0.5 it goes right: 0.75 + 1.
    status, out, err = play(capsys, folder / "corridor", "--episodes", 3, "--seed", 4)
    assert (status, err) == (0, "")
    assert out.startswith(
        "corridor in corridor:Corridor-v0: 3 episodes, return -1.08333 on average, "
        "from -2.5 to 1.75; 10 steps, "
    )
    assert re.search(r" \d+ steps/s, \d+\.\d microseconds for an action\n$", out)


def test_a_policy_acts_as_in_numpy(capsys, folder):
    totals = []
    environment = gymnasium.make("CartPole-v1")
    for seed in (7, 8):
        seen, _ = environment.reset(seed=seed)
        total, done = 0.0, False
        while not done:
            seen, reward, terminated, truncated, _ = environment.step(
                int(np.argmax(seen @ BALANCE))
            )
            total, done = total + reward, terminated or truncated
        totals.append(total)
    assert min(totals) > 100  # the policy balances the pole
    _, out, _ = play(capsys, folder / "cartpole", "--episodes", 2, "--seed", 7)
    assert f"return {np.mean(totals):g} on average, from {min(totals):g} to " in out


def test_a_continuous_policy_plays(capsys, folder):
    _, out, _ = play(capsys, folder / "pendulum", "--episodes", 1)
    assert "pendulum in Pendulum-v1: 1 episode, return -1" in out
    assert "; 200 steps, " in out


@pytest.mark.parametrize("ending", ["webp", "gif", "apng"])
def test_an_animation_shows_the_first_episode(capsys, folder, tmp_path, ending):
    out = tmp_path / f"a.{ending}"
    options = ("--episodes", 2, "--seed", 0, "--out", out)
    status, text, _ = play(capsys, folder / "corridor", *options)
    assert status == 0
    # 4 steps and the frame after the last one, at the 20 frames/s of the environment.
    assert text.splitlines()[1].startswith(f"Wrote {out}: 5 frames of 20 x 10, 0.25 s, ")
    with Image.open(out) as image:
        assert image.n_frames == 5
        columns = []
        for number in range(5):
            image.seek(number)
            columns.append(int(np.asarray(image.convert("L"))[0].argmax()))
        info = image.info.values()
    assert columns == [10, 8, 6, 3, 1]
    texts = b" ".join(x if isinstance(x, bytes) else str(x).encode() for x in info)
    assert serving.Bundle(folder / "corridor").sha256.encode() in texts
    assert (b"corridor:Corridor-v0" in texts) == (ending != "webp")  # which has XMP alone


def test_an_animation_is_bounded(capsys, folder, tmp_path):
    out = tmp_path / "a.webp"
    options = ("--env", "corridor:Endless-v0", "--max-steps", 30, "--episodes", 2)
    more = ("--frames", 7, "--frame-rate", 10, "--out", out, "--no-metadata")
    status, text, _ = play(capsys, folder / "corridor", *options, *more)
    assert status == 0
    assert "2 episodes, 2 cut after 30 steps, return 7.5 on average, from 0 to 15" in text
    assert f"Wrote {out}: 7 frames of 31 of 20 x 10, 0.7 s, " in text
    assert b"Endless" not in out.read_bytes()


@pytest.mark.parametrize(
    ("shape", "expected"), [((400, 600, 3), "320 x 213"), ((10**7, 1, 3), None)]
)
def test_large_frames_are_reduced_or_refused(
    capsys, folder, tmp_path, monkeypatch, shape, expected
):
    frame = np.zeros(shape, np.uint8)
    monkeypatch.setattr(corridor.Corridor, "render", lambda self: frame)
    out = tmp_path / "a.gif"
    monkeypatch.setattr(play_command, "MAX_PIXELS", 10**6)
    options = ("--episodes", 1, "--seed", 0, "--out", out)
    status, text, err = play(capsys, folder / "corridor", *options)
    if expected:
        assert (status, f"Wrote {out}: 5 frames of {expected}" in text) == (0, True)
    else:
        assert (status, err.count("\n"), out.exists()) == (2, 1, False)
        assert "Received: 1 x 10000000 of 'corridor:Corridor-v0'" in err


def test_drawing_does_not_change_an_episode(capsys, folder, tmp_path):
    found = [
        play(capsys, folder / "cartpole", "--episodes", 2, *options)[1].split(";")[0]
        for options in ((), ("--out", tmp_path / "a.gif", "--frames", 2))
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["corridor", "--env", "CartPol-v1"], "'CartPol-v1'. Did you mean 'CartPole-v1'?"),
        (["corridor", "--env", "zzz-v1"], "must be registered. Received: 'zzz-v1'"),
        (["corridor", "--env", "a b"], "one that gymnasium makes. Received: 'a b' (Malformed"),
        (["corridor", "--env", "nowhere:A-v0"], "must be installed. Received: 'nowhere:A-v0'"),
        (["corridor", "--env", "CartPole-v1"], "with observations of shape (4,), not (1,)"),
        (["corridor", "--env", "Pendulum-v1"], "which are those of corridor:Corridor-v0. Rec"),
        (["corridor", "--env", "FrozenLake-v1"], "must be a Box of at least one axis"),
        (["cartpole", "--env", "MountainCarContinuous-v0"], "shape (2,), not (4,)"),
        (["pendulum", "--env", "Acrobot-v1"], "which are those of Pendulum-v1"),
        (["nameless"], "--env must name the environment, as the bundle names none"),
        (["clothes"], "A policy has the role 'policy'"),
        (["nothing"], "A bundle must exist"),
        (["corridor", "--episodes", "0"], "--episodes must be at least 1"),
        (["corridor", "--max-steps", "0"], "--max-steps must be at least 1"),
        (["corridor", "--frames", "0"], "--frames must be at least 1"),
        (["corridor", "--frames", "10001"], "--frames must be at most 10000"),
        (["corridor", "--seed", "-1"], "Received: --seed -1"),
        (["corridor", "--frame-rate", "51"], "--frame-rate must be from 1 to 50 frames/s"),
        (["corridor", "--out", "a.png"], "The ending of --out must be one of .webp"),
        (["corridor", "--episodes", "many"], "--episodes"),
    ],
)
def test_mistakes_are_one_line(capsys, folder, options, line):
    status, out, err = play(capsys, folder / options[0], *options[1:])
    assert (status, out) == (2, "")
    assert line in err
    assert err.count("\n") == 1
    assert "Received: " in err or "invalid" in err


def test_a_server_plays_nothing(capsys):
    status, _, err = play(capsys, "http://127.0.0.1:8000/cartpole")
    assert status == 2
    assert "A server acts at /v1/act" in err


def test_an_environment_with_the_same_observations_may_have_other_actions(capsys, folder):
    gymnasium.register("Three-v0", Three)
    try:
        status, _, err = play(capsys, folder / "corridor", "--env", "Three-v0")
    finally:
        gymnasium.registry.pop("Three-v0")
    assert status == 2
    assert "'Three-v0' with 3 discrete actions, not 2 discrete actions" in err


class Three(corridor.Corridor):
    action_space = gymnasium.spaces.Discrete(3)


def test_an_environment_that_cannot_be_drawn(capsys, folder, tmp_path):
    gymnasium.register("Dark-v0", Dark)
    try:
        options = ("--env", "Dark-v0", "--out", tmp_path / "a.gif")
        status, _, err = play(capsys, folder / "corridor", *options)
    finally:
        gymnasium.registry.pop("Dark-v0")
    assert status == 2
    assert "--out needs an environment that draws frames. Received: 'Dark-v0'" in err


class Dark(corridor.Corridor):
    metadata = {"render_modes": []}


def test_without_gymnasium_the_extra_is_named(folder):
    code = (
        "import sys; sys.modules['gymnasium'] = None; from serving.cli import main; "
        f"sys.exit(main(['play', {str(folder / 'corridor')!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "play needs the extra 'imitation': pip install 'keras-gan[imitation]'" in done.stderr
    assert done.stderr.count("\n") == 1
