"""Recording of an expert's episodes, and the experts that a command names."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import os
import pathlib
import sys
import types
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_gan.arguments import check_integer
from keras_gan.control import experts
from keras_gan.control.spaces import make, spaces_of
from keras_gan.errors import UsageError, one_line
from serving import playing


@dataclasses.dataclass(frozen=True)
class Recording:
    """Episodes of an environment, one after the other; row i of each array is one step.

    Args:
        environment: name of the environment.
        observations: observations before the actions, float32 `(steps, features)`.
        actions: actions of the environment: int64 `(steps,)`, or float32 `(steps, values)`.
        rewards: rewards of the steps, float64 `(steps,)`.
        terminated: whether the step has ended its episode, bool `(steps,)`.
        truncated: whether the episode was cut off after the step, bool `(steps,)`.
    """

    environment: str
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray

    @property
    def returns(self) -> np.ndarray:
        """Sum of the rewards of each episode, `(episodes,)`."""
        ends = np.flatnonzero(self.terminated | self.truncated)
        return np.diff(np.concatenate([[0.0], np.cumsum(self.rewards)[ends]]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the arrays to a `.npz` file, which is at any instant the old or the new one."""
        target = pathlib.Path(path)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                np.savez_compressed(file, **dataclasses.asdict(self))
            os.replace(temporary, target)
        except OSError as error:
            raise UsageError(
                f"A recording must be written to a folder that exists. Received: {path}: "
                f"{one_line(error)}"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)


def seed_of(purpose: str, *numbers: int) -> int:
    """Returns the seed of an environment's reset for a purpose and numbers, below 2^31."""
    state = np.random.SeedSequence([zlib.crc32(purpose.encode()), *numbers]).generate_state(1)
    return int(state[0] >> 1)


def record(
    environment: str, expert: experts.Expert, episodes: int, seed: int = 0, name: str = "the expert"
) -> Recording:
    """Records episodes of an expert.

    Args:
        environment: name of the environment.
        expert: function from an observation and the environment to an action.
        episodes: number of episodes, from 1 up. The first ones do not depend on it.
        seed: seed of the resets, from 0 up.
        name: name of the expert, for errors.

    Raises:
        UsageError: an unknown environment, or an expert that fails.
    """
    check_integer("episodes", episodes)
    check_integer("seed", seed, 0)
    spaces, env = spaces_of(environment), make(environment)
    rows: list[tuple] = []
    try:
        for episode in range(episodes):
            observation, _ = env.reset(seed=seed_of("record", seed, episode))
            ended = False
            while not ended:
                action = experts.call(expert, observation, env, name)
                following, reward, terminated, truncated, _ = env.step(action)
                rows.append((observation, action, reward, terminated, truncated))
                observation, ended = following, terminated or truncated
    finally:
        env.close()
    columns = [np.asarray(column) for column in zip(*rows, strict=True)]
    kind = np.int64 if spaces.choices else np.float32
    return Recording(
        environment,
        columns[0].astype(np.float32),
        columns[1].astype(kind),
        columns[2].astype(np.float64),
        columns[3].astype(bool),
        columns[4].astype(bool),
    )


# ------------------------------------------------------------------------ experts by name


def named(
    expert: str | None, environment: str, open_bundle: Callable[..., Any] | None = None
) -> tuple[experts.Expert, str]:
    """Returns the expert that a text names, and its name.

    Args:
        expert: None for the scripted expert of the environment; `FILE.py:FUNCTION`; or the folder
            of a policy bundle, or of a run with one.
        environment: name of the environment.
        open_bundle: `serving.Bundle`, where the folder of a bundle is taken.

    Raises:
        UsageError: no such expert.
    """
    if expert is None:
        return experts.scripted(environment), f"the scripted expert of {environment}"
    path, _, function = expert.rpartition(":")
    if path.endswith(".py"):
        return _from_file(pathlib.Path(os.path.expanduser(path)), function), expert
    folder = os.path.expanduser(expert)
    if open_bundle is not None and not expert.endswith(".py") and os.path.exists(folder):
        return _from_bundle(open_bundle(folder, device="cpu"), environment), expert
    raise UsageError(
        "`expert` must be FILE.py:FUNCTION or the folder of a policy bundle; without it the "
        f"scripted expert of the environment is taken. Received: expert={expert!r}"
    )


def _from_file(path: pathlib.Path, function: str) -> experts.Expert:
    """Returns a function of a file, which takes an observation, or also the environment.

    Raises:
        UsageError: a file that cannot be imported, or that has no such function.
    """
    if not path.is_file():
        raise UsageError(f"The file of an expert must exist. Received: {path}")
    found = getattr(_imported(path), function, None)
    if not callable(found):
        raise UsageError(
            f"The expert must be a function of its file. Received: {function!r}, which {path} "
            "does not have"
        )
    return (
        found if _takes_environment(found) else lambda observation, environment: found(observation)
    )


def _imported(path: pathlib.Path) -> types.ModuleType:
    """Returns the module of a file, which may import the files beside it.

    Raises:
        UsageError: it cannot be imported.
    """
    name = f"_expert_{path.stem}"
    spec: Any = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # data classes look their module up there
    beside = str(path.parent.resolve())
    sys.path.insert(0, beside)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a script of the user's may raise anything
        sys.modules.pop(name, None)
        raise UsageError(
            f"The file of an expert must be a Python module. Received: {path}, which raised "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    finally:
        if beside in sys.path:
            sys.path.remove(beside)
    return module


def _takes_environment(function: Callable) -> bool:
    """Returns whether a function takes the environment after the observation.

    It does if its second positional parameter has no default, or is named `environment`.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # such as some functions of C, which state none
        return False
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [each for each in parameters if each.kind in kinds]
    if len(positional) < 2:
        return False
    return positional[1].default is inspect.Parameter.empty or positional[1].name == "environment"


def _from_bundle(bundle: Any, environment: str) -> experts.Expert:
    """Returns the policy of an opened bundle, run by onnxruntime.

    Raises:
        UsageError: a bundle of another role, or one for another environment.
    """
    actor = bundle.actor  # which refuses a network of another role
    policy = bundle.policy
    env = make(environment)
    try:
        playing.check_spaces(environment, env, policy)
    finally:
        env.close()
    return lambda observation, environment: actor.follow(observation)
