"""Imitation of scripted experts: returns of ours, of the control and of cloning; steps to 0.9.

    python benchmarks/imitation.py --seeds 10 --out imitation.jsonl
    python benchmarks/imitation.py --peer /tmp/imit/bin/python   # imitation 1.0.1, in its own venv

Returns are normalized: random actions have 0, the scripted expert has 1. Each row is the
interquartile mean over the seeds. `best` is the policy of the best evaluation, in 50 other
episodes; `steps` are those in the environment until an evaluation first reached 0.9. Runs that are
in the file of --out already are not repeated.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time
from typing import Any

import keras
import scipy.stats
import tensorflow as tf

from keras_gan import building, recipe, workers
from keras_gan.control import cloning, experts, recording, scores

RECIPES = ("cartpole-imitation", "mountain-car-imitation", "pendulum-imitation")
RECIPES += ("acrobot-imitation",)
VARIANTS = {"ours": (), "constant": ("game.reward=constant",)}
EVERY = 10_240  # steps between two evaluations
FRESH = 77_000  # seed of the episodes by which the best policy is scored


class Scores(keras.callbacks.Callback):
    """Scores of a game after every so many steps, and its best policy."""

    def __init__(self):
        super().__init__()
        self.found, self.best, self.seconds = [], None, 0.0

    def on_epoch_end(self, epoch, logs=None):
        game: Any = self.model
        start = time.process_time()
        score = game.scores()["normalized_return"]
        if self.best is None or score > max(value for _, value in self.found):
            self.best = game.average("policy").model.get_weights()
        self.found.append((game.count("examples_seen"), score))
        self.seconds += time.process_time() - start


def train(name, seed, episodes, settings):
    """Trains a recipe on some episodes. Returns the figures of the run."""
    given = (f"training.seed={seed}", f"data.data_seed={seed}", f"data.episodes={episodes}")
    found = recipe.load(name, given + settings)
    source = building.open_data(found)
    game = building.build(found, source.spec)
    steps = max(1, EVERY // found.training.batch_size)
    alone = workers.Team(tf.distribute.get_strategy(), [""], 0)
    watch, start, wall = Scores(), time.process_time(), time.perf_counter()
    game.fit(
        building.batches(found, source, 0, alone),
        steps_per_epoch=steps,
        epochs=building.total_steps(found) // steps,
        verbose=0,
        callbacks=[watch],
    )
    seconds = time.process_time() - start - watch.seconds
    game.average("policy").model.set_weights(watch.best)
    reached = [steps for steps, score in watch.found if score >= 0.9]
    return {
        "best": fresh_score(game, game.average("policy")),
        "last": watch.found[-1][1],
        "steps": reached[0] if reached else None,
        "cpu_seconds": seconds,
        "wall_seconds": time.perf_counter() - wall,
        "curve": watch.found,
    }


def clone(name, seed, episodes):
    """Clones a policy of the recipe's networks. Returns its score."""
    given = (f"training.seed={seed}", f"data.data_seed={seed}", f"data.episodes={episodes}")
    found = recipe.load(name, given)
    source = building.open_data(found)
    game = building.build(found, source.spec)
    fields = source.field_arrays("train")
    policy = cloning.cloned(game.networks["policy"], fields, seed)
    return {"best": fresh_score(game, policy), "last": None, "steps": None}


def fresh_score(game, policy):
    """Returns the normalized return of a policy in 50 episodes of another seed."""
    mean = float(scores.returns_of(policy, game.spaces, 50, FRESH).mean())
    return normalized(game.environment, mean)


def normalized(environment, mean):
    """Returns a mean return on the scale of random actions and of the scripted expert."""
    expert = scores.scripted_return(environment, 50)
    return scores.normalized_return(mean, scores.random_return(environment, 50), expert or 0.0)


def measure(name, variant, seed, episodes):
    """Returns the figures of one run."""
    if variant == "cloning":
        return clone(name, seed, episodes)
    return train(name, seed, episodes, VARIANTS[variant])


PEER = """
import json, sys, time
import gymnasium, numpy as np, torch
from imitation.algorithms.adversarial.gail import GAIL
from imitation.data import types
from imitation.rewards.reward_nets import BasicRewardNet
from imitation.util.networks import RunningNorm
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
import seals
torch.set_num_threads(1)
file, seed, total, random_return, expert_return = json.loads(sys.argv[1])
data = np.load(file)
ends = np.flatnonzero(data["terminated"] | data["truncated"]) + 1
trajectories = []
for start, end in zip([0, *ends[:-1]], ends):
    obs = data["observations"][start:end]
    obs = np.concatenate([obs, obs[-1:]])
    trajectories.append(types.Trajectory(
        obs=obs, acts=data["actions"][start:end], infos=None, terminal=True))
venv = make_vec_env("seals/CartPole-v0", n_envs=8, seed=seed)
learner = PPO(env=venv, policy="MlpPolicy", batch_size=64, ent_coef=0.0, learning_rate=0.0004,
              gamma=0.95, n_epochs=5, seed=seed)
net = BasicRewardNet(venv.observation_space, venv.action_space, normalize_input_layer=RunningNorm)
trainer = GAIL(demonstrations=trajectories, demo_batch_size=1024, gen_replay_buffer_capacity=512,
               n_disc_updates_per_round=8, venv=venv, gen_algo=learner, reward_net=net)
test = make_vec_env("CartPole-v1", n_envs=1, seed=seed + 1)
curve, start = [], time.process_time()
def score(round):
    mean, _ = evaluate_policy(learner, test, 20)
    steps = (round + 1) * trainer.gen_train_timesteps
    curve.append((steps, (mean - random_return) / (expert_return - random_return)))
trainer.train(total, callback=score)
print(json.dumps({"curve": curve, "cpu_seconds": time.process_time() - start}))
"""


def run_peer(python, seed, total):
    """Trains `imitation` 1.0.1 by the settings of its documentation. Returns the figures."""
    path = pathlib.Path(f"/tmp/imitation-expert-{seed}.npz")
    environment = "CartPole-v1"
    recording.record(environment, experts.scripted(environment), 10, seed).save(path)
    random_return = scores.random_return(environment, 50)
    given = json.dumps([str(path), seed, total, random_return, 500.0])
    done = subprocess.run([python, "-c", PEER, given], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["no output"]
        return {"failed": reason[0]}
    found = json.loads(done.stdout.strip().splitlines()[-1])
    reached = [steps for steps, score in found["curve"] if score >= 0.9]
    known = [score for _, score in found["curve"]]
    return {**found, "best": max(known), "last": known[-1], "steps": (reached or [None])[0]}


def iqm(values):
    """Returns the interquartile mean."""
    return float(scipy.stats.trim_mean(values, 0.25))


def table(rows):
    """Prints a row for each environment, number of episodes and variant."""
    keys = dict.fromkeys((row["recipe"], row["episodes"], row["variant"]) for row in rows)
    print("| recipe | episodes | policy | seeds | best | last | steps to 0.9 | reached | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for key in keys:
        of = [row for row in rows if (row["recipe"], row["episodes"], row["variant"]) == key]
        known = [row for row in of if "failed" not in row]
        if not known:
            print(f"| {key[0]} | {key[1]} | {key[2]} | | {of[0]['failed']} |")
            continue
        steps = [row["steps"] for row in known if row["steps"]]
        last = [row["last"] for row in known if row["last"] is not None]
        seconds = [row["cpu_seconds"] for row in known if row.get("cpu_seconds")]
        cells = [
            *(str(part) for part in key),
            str(len(known)),
            f"{iqm([row['best'] for row in known]):.2f}",
            f"{iqm(last):.2f}" if last else "",
            f"{iqm(steps):,.0f}" if steps else "",
            f"{len(steps)} of {len(known)}" if last else "",
            f"{iqm(seconds):.0f}" if seconds else "",
        ]
        print(f"| {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description="Imitation of scripted experts.")
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--variants", default="ours,constant,cloning")
    parser.add_argument("--episodes", default="1,4,10")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--peer", help="Python of an environment with imitation==1.0.1")
    parser.add_argument("--peer-steps", type=int, default=300_000)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("imitation.jsonl"))
    options = parser.parse_args()
    for each in ("intra", "inter"):
        getattr(tf.config.threading, f"set_{each}_op_parallelism_threads")(1)
    rows = [json.loads(line) for line in options.out.open()] if options.out.exists() else []
    wanted = [
        (name, variant, int(episodes), seed)
        for seed in range(options.seeds)
        for episodes in options.episodes.split(",")
        for name in options.recipes.split(",")
        for variant in options.variants.split(",")
    ]
    done = {(row["recipe"], row["variant"], row["episodes"], row["seed"]) for row in rows}
    if options.peer:
        for seed in range(options.seeds):
            if ("cartpole", "imitation 1.0.1", 10, seed) not in done:
                found = run_peer(options.peer, seed, options.peer_steps)
                of = {"recipe": "cartpole", "variant": "imitation 1.0.1", "episodes": 10}
                keep(options.out, rows, {**of, "seed": seed, **found})
    for name, variant, episodes, seed in wanted:
        if (name, variant, episodes, seed) not in done:
            found = measure(name, variant, seed, episodes)
            of = {"recipe": name, "variant": variant, "episodes": episodes, "seed": seed}
            keep(options.out, rows, {**of, **found})
            keras.backend.clear_session()
    for name in options.recipes.split(","):
        environment = recipe.load(name).data.options["environment"]
        random = scores.random_return(environment, 50)
        expert = scores.scripted_return(environment, 50)
        print(f"{name}: random {random:.1f}, expert {expert:.1f}")
    table(rows)


def keep(path, rows, row):
    """Adds a row to the file and prints it."""
    rows.append(row)
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    short = {name: value for name, value in row.items() if name != "curve"}
    print(json.dumps(short), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
