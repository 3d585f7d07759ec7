"""Scripted experts of environments, by the name of the environment."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_gan.errors import UsageError, one_line
from serving.nearest_names import find_nearest

# An expert gets an observation and the environment, and returns an action of the environment.
Expert = Callable[[np.ndarray, Any], Any]


def cart_pole(observation: np.ndarray, environment: Any) -> int:
    """Pushes to the side to which the pole falls, corrected toward the center of the track."""
    position, velocity, angle, rate = observation
    return int(angle + 0.3 * rate + 0.02 * position + 0.04 * velocity > 0)


def mountain_car(observation: np.ndarray, environment: Any) -> int:
    """Pushes along the velocity, which adds energy at every step."""
    return 2 if observation[1] > 0 else 0


def pendulum(observation: np.ndarray, environment: Any) -> np.ndarray:
    """Pumps energy until the pendulum can reach the top, and balances it there.

    Reference:
        [Åström and Furuta, 2000](https://doi.org/10.1016/S0005-1098(99)00140-5)
    """
    cosine, sine, rate = (float(x) for x in observation)
    angle = math.atan2(sine, cosine)  # 0 upright
    if cosine > 0.85 or (cosine > 0.5 and abs(rate) < 3.0 and angle * rate < 0):
        torque = -12.0 * angle - 3.0 * rate  # proportional to the angle and its rate
    else:
        # Rod of mass 1 and length 1 about its end: inertia 1/3, weight 10 at half its length.
        energy = rate * rate / 6 + 5.0 * (cosine - 1.0)  # 0 for a pendulum at rest on top
        torque = 2.0 * math.copysign(1.0, rate if energy < 0 else -rate)
    return np.array([min(2.0, max(-2.0, torque))], np.float32)


def acrobot(observation: np.ndarray, environment: Any) -> int:
    """Swings the second link with the first, which pumps energy into both."""
    return 0 if observation[4] > 0 else 2


def lunar_lander(observation: np.ndarray, environment: Any) -> Any:
    """Lands by the heuristic that comes with gymnasium."""
    module = importlib.import_module("gymnasium.envs.box2d.lunar_lander")
    return module.heuristic(environment.unwrapped, observation)


EXPERTS: dict[str, Expert] = {
    "CartPole-v1": cart_pole,
    "MountainCar-v0": mountain_car,
    "Pendulum-v1": pendulum,
    "Acrobot-v1": acrobot,
    "LunarLander-v3": lunar_lander,
}


def scripted(environment: str) -> Expert:
    """Returns the scripted expert of an environment.

    Raises:
        UsageError: there is none.
    """
    if environment not in EXPERTS:
        near = find_nearest(environment, EXPERTS)
        raise UsageError(
            f"A scripted expert is for one of {', '.join(EXPERTS)}; for others give `expert`, "
            f"FILE.py:FUNCTION or a policy bundle. Received: environment={environment!r}"
            + (f". Did you mean {near!r}?" if near else "")
        )
    return EXPERTS[environment]


def call(expert: Expert, observation: np.ndarray, environment: Any, name: str) -> Any:
    """Returns an expert's action, with its errors as user errors.

    Raises:
        UsageError: the expert has failed, or its action is not one of the environment's.
    """
    try:
        action = expert(observation, environment)
    except UsageError:
        raise
    except Exception as error:  # a script of the user's may raise anything
        raise UsageError(
            f"The expert must return an action for an observation. Received: {name}, which raised "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    space = environment.action_space
    converted = np.asarray(action)
    is_number = converted.dtype.kind in "biuf"
    if not is_number:
        pass  # such as None, or a text
    elif hasattr(space, "n"):
        is_choice = converted.size == 1 and float(converted.reshape(())) in range(int(space.n))
        if is_choice:
            return int(converted.reshape(()))
    elif converted.shape == space.shape and space.contains(converted.astype(space.dtype)):
        return converted.astype(space.dtype)
    raise UsageError(
        f"The expert must return an action of {space}. Received: {name}, which returned {action!r}"
    )
