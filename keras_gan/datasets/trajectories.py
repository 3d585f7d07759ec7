"""Actions and observations of recorded episodes (.npz), or of a scripted expert."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

import numpy as np

from keras_gan.arguments import check_integer
from keras_gan.control import experts
from keras_gan.control.recording import Recording, record
from keras_gan.control.spaces import Spaces, check_name, spaces_of
from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split
from keras_gan.errors import UsageError, one_line
from keras_gan.spec import Spec

KIND = "action"
_RECORDED = 10  # further episodes of a scripted expert, which are held out
_TENTH = 10

# Names of the arrays in the files of keras-gan record, of `imitation` and of minari.
_NAMES = {
    "observations": ("observations", "obs"),
    "actions": ("actions", "acts"),
    "terminated": ("terminated", "terminations", "dones", "terminals"),
    "truncated": ("truncated", "truncations", "timeouts"),
    "ends": ("episode_ends",),
    "lengths": ("lengths", "episode_lengths"),
    "indices": ("indices",),  # of `imitation`: the starts of all episodes but the first
}


def open(
    *,
    environment: str | None = None,
    path: str | os.PathLike[str] | None = None,
    episodes: int | None = None,
    every: int = 1,
    data_seed: int = 0,
) -> Source:
    """Opens pairs of an observation and an action of an expert.

    An example has the action as `samples`, choices one-hot, and the field `observation`. The file
    is one of `keras-gan record`, or has arrays by the names that `imitation` (`obs`, `acts`,
    `dones` or `indices`) or minari (`terminations`, `truncations`) uses; observations may include
    the last one of each episode, which has no action. Held out are the other episodes, or without
    any the steps between those that are trained on, or else every tenth of them.

    Args:
        environment: name of the environment, such as `CartPole-v1`; by default that in the file.
        path: the file. Without it the scripted expert of the environment is recorded.
        episodes: number of episodes to train on, the first ones; by default all of a file, and 10
            of a scripted expert.
        every: one in so many steps of an episode is trained on, from a random first one on.
        data_seed: non-negative integer that fixes the first steps, and the scripted expert's
            episodes.

    Raises:
        UsageError: a file that cannot be read or lacks arrays, episodes without an end, values
            that are not finite, actions out of range, or spaces of another environment.

    Reference:
        [Ho and Ermon, 2016](https://arxiv.org/abs/1606.03476), for one in 20 steps
    """
    check_integer("every", every)
    check_integer("data_seed", data_seed, 0)
    if episodes is not None:
        check_integer("episodes", episodes)
    if path is None:
        if environment is None:
            raise UsageError(
                "`environment` or `path` must be given: an environment with a scripted expert "
                f"({', '.join(experts.EXPERTS)}), or a file. Received: path=None"
            )
        found = _scripted(check_name(environment), (episodes or 10) + _RECORDED, data_seed)
        wanted, where = episodes or 10, "its scripted expert"
    else:
        found = _read(os.path.expanduser(os.fspath(path)), environment)
        wanted, where = episodes, os.fspath(path)
    return _source(found, spaces_of(found.environment), wanted, every, data_seed, where)


@functools.lru_cache(maxsize=4)
def _scripted(environment: str, episodes: int, seed: int) -> Recording:
    return record(environment, experts.scripted(environment), episodes, seed)


def _source(
    found: Recording, spaces: Spaces, wanted: int | None, every: int, seed: int, where: str
) -> Source:
    """Returns the data set of the first episodes, one in `every` steps, with held-out others."""
    ends = np.flatnonzero(found.terminated | found.truncated) + 1
    count = len(ends)
    if ends[-1] < 3:
        raise UsageError(
            "Trajectories must have at least three steps, two to train on and one held out. "
            f"Received: {ends[-1]} of {where}"
        )
    if wanted is not None and wanted > count:
        raise UsageError(
            f"`episodes` must be at most the number of recorded ones, {count}. "
            f"Received: episodes={wanted}"
        )
    used = wanted or count
    starts = np.concatenate([[0], ends[:-1]])
    rng = np.random.default_rng(seed)
    firsts = rng.integers(0, np.minimum(every, ends - starts))
    rows = [
        np.arange(start + first, end, every)
        for start, first, end in zip(starts, firsts, ends, strict=True)
    ]
    train, inside = np.concatenate(rows[:used]), np.arange(ends[used - 1])
    others = np.arange(ends[used - 1], ends[-1])
    if not len(others):
        others = np.setdiff1d(inside, train)
    if not len(others):
        others, train = train[::_TENTH], np.delete(train, np.s_[::_TENTH])
    actions = spaces.encode(found.actions)
    fields = {"observation": found.observations.astype(np.float32)}
    splits = {
        name: Split(actions, index=index, disjoint=True, others=fields)
        for name, index in (("train", train), ("held_out", others))
    }
    share = f", 1 in {every} steps" if every > 1 else ""
    description = (
        f"trajectories: {used} of {count} episodes of {spaces.environment} of {where}{share}: "
        f"{len(train):,} + {len(others):,} pairs"
    )
    if np.isfinite(mean := found.returns[:used].mean()):
        description += f", mean return {mean:.1f}"
    return Source(Spec(fields=spaces.fields), splits, description, repeats=True)


# ------------------------------------------------------------------------ files


def _read(path: str, environment: str | None) -> Recording:
    """Returns the checked episodes of a file."""
    arrays = _arrays(path)
    named = str(arrays["environment"]) if "environment" in arrays else None
    if environment is None and named is None:
        raise UsageError(
            "data.environment must name the environment of a file that does not. "
            f"Received: {path} with {', '.join(arrays)}"
        )
    if environment is not None and named is not None and named != environment:
        raise UsageError(
            f"The trajectories must be of the environment {environment}. Received: {path}, "
            f"recorded in {named}"
        )
    spaces = spaces_of(check_name(environment or named))
    given = {
        key: next((arrays[name] for name in names if name in arrays), None)
        for key, names in _NAMES.items()
    }
    observations, actions = given.pop("observations"), given.pop("actions")
    if observations is None or actions is None:
        raise UsageError(
            "Trajectories must have the arrays observations and actions (or obs and acts). "
            f"Received: {path} with {', '.join(arrays) or 'no arrays'}"
        )
    _check_steps(path, "observations", observations)
    _check_steps(path, "actions", actions)
    rewards = arrays.get("rewards", arrays.get("rews"))
    for name, array in (given | {"rewards": rewards}).items():
        if array is not None:
            _check_dtype(path, name, array)
    terminated, truncated = _ends(path, given, len(actions))
    observations = _before_actions(path, observations, terminated | truncated)
    _check_spaces(path, observations, actions, spaces)
    if rewards is None or rewards.shape != (len(actions),):
        rewards = np.full(len(actions), np.nan)  # unknown
    return Recording(spaces.environment, observations, actions, rewards, terminated, truncated)


def _arrays(path: str) -> dict[str, np.ndarray]:
    """Returns the arrays of a .npz file.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name != "infos"}
    except Exception as error:  # such as a BadZipFile, or pickled objects
        reason = one_line(error)
        raise UsageError(
            f"Trajectories must be a .npz file of arrays. Received: {path}: {reason}"
        ) from None


def _check_dtype(path: str, name: str, array: np.ndarray) -> None:
    if array.dtype.kind not in "fiub":
        raise UsageError(f"{name} must be numbers. Received: {path} with dtype {array.dtype}")


def _check_steps(path: str, name: str, array: np.ndarray) -> None:
    """Checks that an array has finite numbers, and an axis of steps."""
    _check_dtype(path, name, array)
    if not array.ndim:
        raise UsageError(f"{name} must have one row for each step. Received: {path} with a number")
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise UsageError(
            f"{name} must be finite numbers. Received: {path} with {bad} NaN or infinite values"
        )


def _ends(
    path: str, given: Mapping[str, np.ndarray | None], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether each step has ended, and has cut off, its episode.

    Raises:
        UsageError: no array of the ends, or a last episode without an end.
    """
    terminated, truncated = given["terminated"], given["truncated"]
    if terminated is None and truncated is None:
        terminated = _flags(path, given, count)
    found = []
    for name, flags in (("terminated", terminated), ("truncated", truncated)):
        flags = np.zeros(count, bool) if flags is None else flags
        if flags.shape != (count,):
            raise UsageError(
                f"There must be one value of {name} for each of the {count} actions. "
                f"Received: {path} with shape {flags.shape}"
            )
        found.append(flags.astype(bool))
    if not count or not (found[0][-1] or found[1][-1]):
        raise UsageError(
            "Every episode must have an end: the last step must be terminated or truncated. "
            f"Received: {path} with {count} steps, of which the last one is neither"
        )
    return found[0], found[1]


def _flags(path: str, given: Mapping[str, np.ndarray | None], count: int) -> np.ndarray:
    """Returns the flags of the last steps, from ends, lengths or first steps of episodes."""
    ends, lengths, indices = given["ends"], given["lengths"], given["indices"]
    for name, array in (("episode_ends", ends), ("lengths", lengths), ("indices", indices)):
        if array is not None and array.ndim != 1:
            raise UsageError(
                f"{name} must have one number for each episode, in one axis. "
                f"Received: {path} with shape {array.shape}"
            )
    if ends is None and lengths is not None:
        ends = np.cumsum(lengths)
    if ends is None and indices is not None:
        ends = np.concatenate([indices, [count]])
    if ends is None:
        raise UsageError(
            "Trajectories must say where episodes end: terminated and truncated, episode_ends, "
            f"lengths, dones or indices. Received: {path} without any of them"
        )
    with np.errstate(invalid="ignore"):  # NaN, which then does not ascend
        ends = np.asarray(ends).astype(np.int64)
    if not len(ends) or (np.diff(ends) <= 0).any() or ends[0] < 1 or ends[-1] != count:
        raise UsageError(
            "Every episode must have an end: the ends must ascend to the number of actions, "
            f"{count}. Received: {path} with ends {ends[:3].tolist()} ... {ends[-1:].tolist()}"
        )
    flags = np.zeros(count, bool)
    flags[ends - 1] = True
    return flags


def _before_actions(path: str, observations: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """Returns the observations before the actions, without the last ones of the episodes.

    Raises:
        UsageError: another number of observations.
    """
    count, episodes = len(ended), int(ended.sum())
    if len(observations) == count + episodes:
        last = np.flatnonzero(ended) + 1 + np.arange(episodes)
        return np.delete(observations, last, axis=0)
    if len(observations) != count:
        raise UsageError(
            f"There must be one observation for each of the {count} actions, or also the last one "
            f"of each of the {episodes} episodes. Received: {path} with {len(observations)}"
        )
    return observations


def _check_spaces(path: str, observations: np.ndarray, actions: np.ndarray, spaces: Spaces) -> None:
    """Checks that observations and actions are those of an environment.

    Raises:
        UsageError: they are not.
    """
    name = spaces.environment
    if observations.shape[1:] != (spaces.observation,):
        raise UsageError(
            f"Observations of {name} must have the shape (steps, {spaces.observation}). "
            f"Received: {path} with {observations.shape}"
        )
    if spaces.choices:
        if actions.size != len(actions) or (actions != np.floor(actions)).any():
            raise UsageError(
                f"Actions of {name} must be integers (steps,). "
                f"Received: {path} with {actions.dtype} {actions.shape}"
            )
        limits: tuple = (0, spaces.choices - 1)
    else:
        actions = actions[:, np.newaxis] if actions.ndim == 1 else actions
        if actions.shape[1:] != (spaces.action,):
            raise UsageError(
                f"Actions of {name} must have the shape (steps, {spaces.action}). "
                f"Received: {path} with {actions.shape}"
            )
        limits = (np.asarray(spaces.low) - 1e-5, np.asarray(spaces.high) + 1e-5)
    if (actions < limits[0]).any() or (actions > limits[1]).any():
        low, high = (spaces.low, spaces.high) if not spaces.choices else limits
        raise UsageError(
            f"Actions of {name} must be from {low} to {high}. Received: {path} with actions from "
            f"{actions.min():g} to {actions.max():g}"
        )
