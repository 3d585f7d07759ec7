"""Environments by name: their spaces as plain values, and how they are made."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from typing import Any

import numpy as np

from keras_gan.errors import UsageError, one_line
from keras_gan.spec import Field
from serving.nearest_names import find_nearest

Bounds = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Spaces:
    """Observations and actions of an environment.

    Args:
        environment: name of the environment, such as `"CartPole-v1"`.
        observation: length of an observation.
        choices: number of choices of a discrete action; 0 for a continuous one.
        low: smallest values of a continuous action.
        high: largest values of a continuous action.
        horizon: number of steps after which an episode is truncated.
    """

    environment: str
    observation: int
    choices: int
    low: Bounds = ()
    high: Bounds = ()
    horizon: int = 0

    @property
    def action(self) -> int:
        """Length of an encoded action: the number of choices, or of continuous values."""
        return self.choices or len(self.low)

    @property
    def fields(self) -> dict[str, Field]:
        """Fields of a data set of the environment: `samples`, the actions, and `observation`."""
        meta: dict[str, Any] = {"environment": self.environment}
        if not self.choices:
            meta |= {"low": self.low, "high": self.high}
        return {
            "samples": Field("action", (self.action,), "float32", meta),
            "observation": Field("array", (self.observation,), "float32"),
        }

    def encode(self, actions: Any) -> np.ndarray:
        """Returns actions of the environment as float32 `(count, action)`, choices one-hot."""
        if self.choices:
            ids = np.asarray(actions).reshape(-1).astype(np.int64)
            return np.eye(self.choices, dtype=np.float32)[ids]
        return np.asarray(actions, np.float32).reshape(-1, len(self.low))

    def decode(self, encoded: np.ndarray) -> Any:
        """Returns one encoded action `(action,)` as the environment takes it."""
        if self.choices:
            return int(np.argmax(encoded))
        return np.clip(encoded, self.low, self.high).astype(np.float32)


def gymnasium() -> Any:
    """Returns the module `gymnasium`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module("gymnasium")
    except ImportError:
        raise UsageError(
            "Environments need the package gymnasium: pip install 'keras-gan[imitation]'. "
            "Received: no module gymnasium"
        ) from None


def make(environment: str, limited: bool = True, **options: Any) -> Any:
    """Returns a new environment.

    Args:
        environment: its name.
        limited: whether it truncates an episode at its own horizon.
        **options: options of the environment, such as `render_mode`.

    Raises:
        UsageError: an unknown name, or an environment whose package is not installed.
    """
    gym = gymnasium()
    name = check_name(environment)
    limit = {} if limited else {"max_episode_steps": -1}
    try:
        return gym.make(name, disable_env_checker=True, **limit, **options)
    except Exception as error:  # packages of environments raise anything
        raise UsageError(
            "`environment` must be installed with all that it needs: pip install "
            f"'keras-gan[imitation]' has classic control and box2d. Received: environment={name!r}:"
            f" {one_line(error)}"
        ) from None


def check_name(environment: Any) -> str:
    """Returns the name of an environment that gymnasium knows.

    Raises:
        UsageError: it does not.
    """
    known = gymnasium().registry
    if not isinstance(environment, str) or environment not in known:
        near = find_nearest(str(environment), known)
        hint = f"Did you mean {near!r}?" if near else "gymnasium.registry lists them"
        raise UsageError(
            "`environment` must be an environment of gymnasium. "
            f"Received: environment={environment!r}. {hint}"
        )
    return environment


@functools.lru_cache(maxsize=32)
def spaces_of(environment: str) -> Spaces:
    """Returns the spaces of an environment.

    Raises:
        UsageError: an unknown environment, or spaces that are not supported.
    """
    env = make(environment)
    try:
        return _spaces(environment, env)
    finally:
        env.close()


def _spaces(environment: str, env: Any) -> Spaces:
    box, discrete = (getattr(gymnasium().spaces, name) for name in ("Box", "Discrete"))
    observation, action = env.observation_space, env.action_space
    if not isinstance(observation, box) or len(observation.shape) != 1:
        raise UsageError(
            "Observations of an environment must be vectors (a Box of one axis). "
            f"Received: {environment} with {observation}"
        )
    horizon = env.spec.max_episode_steps if env.spec is not None else None
    if not horizon:
        raise UsageError(
            "An environment must have a limit of steps (max_episode_steps). "
            f"Received: {environment} without one"
        )
    size = observation.shape[0]
    if isinstance(action, discrete) and action.start == 0:
        return Spaces(environment, size, int(action.n), horizon=int(horizon))
    bounded = isinstance(action, box) and len(action.shape) == 1
    if not bounded or not np.isfinite([action.low, action.high]).all():
        raise UsageError(
            "Actions of an environment must be choices (Discrete) or a bounded vector (Box). "
            f"Received: {environment} with {action}"
        )
    low, high = (tuple(map(float, limit)) for limit in (action.low, action.high))
    return Spaces(environment, size, 0, low, high, int(horizon))
