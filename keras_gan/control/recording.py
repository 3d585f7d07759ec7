"""Recording of an expert's episodes, and the experts that a command names."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import pathlib
import zlib
from typing import Any

import numpy as np

from keras_gan.arguments import check_integer
from keras_gan.control import experts
from keras_gan.control.spaces import Spaces, make, spaces_of
from keras_gan.errors import UsageError, one_line


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


def named(expert: str | None, environment: str) -> tuple[experts.Expert, str]:
    """Returns the expert that a text names, and its name.

    Args:
        expert: None for the scripted expert of the environment; `FILE.py:FUNCTION`; or the folder
            of a policy bundle.
        environment: name of the environment.

    Raises:
        UsageError: no such expert.
    """
    if expert is None:
        return experts.scripted(environment), f"the scripted expert of {environment}"
    path, _, function = expert.rpartition(":")
    if path.endswith(".py"):
        return _from_file(pathlib.Path(os.path.expanduser(path)), function), expert
    folder = pathlib.Path(os.path.expanduser(expert))
    if (folder / "manifest.json").is_file():
        return _from_bundle(folder, spaces_of(environment)), expert
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
    spec: Any = importlib.util.spec_from_file_location(f"_expert_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a script of the user's may raise anything
        raise UsageError(
            f"The file of an expert must be a Python module. Received: {path}, which raised "
            f"{type(error).__name__}: {one_line(error)}"
        ) from error
    found = getattr(module, function, None)
    if not callable(found):
        raise UsageError(
            f"The expert must be a function of its file. Received: {function!r}, which {path} "
            "does not have"
        )
    several = found.__code__.co_argcount > 1 if hasattr(found, "__code__") else False
    return found if several else lambda observation, environment: found(observation)


def _from_bundle(folder: pathlib.Path, spaces: Spaces) -> experts.Expert:
    """Returns the policy of a bundle, run by onnxruntime.

    Raises:
        UsageError: a bundle of another role, or for other observations.
    """
    import onnxruntime  # here only: other experts need none

    role = json.loads((folder / "manifest.json").read_text("utf-8")).get("role")
    if role != "policy":
        raise UsageError(f"The bundle must be a policy. Received: {folder}, role={role!r}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    shape = session.get_inputs()[0].shape
    if shape[1:] != [spaces.observation]:
        raise UsageError(
            f"The policy must take observations of {spaces.environment}, of length "
            f"{spaces.observation}. Received: {folder}, which takes {shape[1:]}"
        )
    name = session.get_inputs()[0].name

    def act(observation: np.ndarray, environment: Any) -> Any:
        rows = np.asarray(observation, np.float32)[np.newaxis]
        return np.asarray(session.run(["action"], {name: rows})[0])[0]

    return act
