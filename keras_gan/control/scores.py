"""Returns of policies in an environment, and the scale between random actions and the expert."""

from __future__ import annotations

import functools

import numpy as np
import tensorflow as tf

from keras_gan.control import experts, recording
from keras_gan.control.spaces import Spaces, spaces_of
from keras_gan.control.vector import play
from keras_gan.networks import Network

_SEED = 20_000  # of the episodes by which policies are scored, apart from those of recordings


def returns_of(policy: Network, spaces: Spaces, episodes: int, seed: int = _SEED) -> np.ndarray:
    """Returns the returns of episodes of a policy without randomness.

    Args:
        policy: network from `observation` to `samples`.
        spaces: the environment.
        episodes: number of episodes, from 1 up.
        seed: seed of the resets.
    """

    @tf.function(
        input_signature=[tf.TensorSpec((None, spaces.observation), tf.float32)], autograph=False
    )
    def act(observations):
        return policy({"observation": observations}, training=False)["samples"]

    return play(spaces, lambda seen: act(tf.constant(seen)).numpy(), episodes, seed)


@functools.lru_cache(maxsize=16)
def random_return(environment: str, episodes: int) -> float:
    """Returns the mean return of uniformly random actions."""
    spaces, rng = spaces_of(environment), np.random.default_rng(_SEED)

    def act(observations: np.ndarray) -> np.ndarray:
        count = len(observations)
        if spaces.choices:
            return spaces.encode(rng.integers(0, spaces.choices, count))
        return rng.uniform(spaces.low, spaces.high, (count, spaces.action)).astype(np.float32)

    return float(play(spaces, act, episodes, _SEED).mean())


@functools.lru_cache(maxsize=16)
def scripted_return(environment: str, episodes: int) -> float | None:
    """Returns the mean return of the scripted expert; `None` for an environment without one."""
    if environment not in experts.EXPERTS:
        return None
    expert = experts.scripted(environment)
    return float(recording.record(environment, expert, episodes, _SEED).returns.mean())


def normalized_return(mean: float, random: float, expert: float) -> float:
    """Returns a mean return on the scale on which random actions have 0 and the expert has 1."""
    return (mean - random) / (expert - random) if expert != random else float(mean >= expert)
