"""Several copies of an environment, stepped together, whose state is a few plain arrays.

An environment is put into a state by its last reset and the actions since then: every reset has a
seed of its own, a function of the game's seed, the number of the copy and that of the reset. So the
state of any environment that is a function of its seeds and actions can be saved without access
to its internals, its random generator included.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from keras_gan.control.recording import seed_of
from keras_gan.control.spaces import Spaces, make
from keras_gan.errors import UsageError


@dataclasses.dataclass
class State:
    """State of the copies of an environment.

    Args:
        observation: present observations, float32 `(copies, features)`.
        actions: encoded actions since the last reset, float32 `(copies, horizon, action)`; 0
            after them.
        since: number of actions since the last reset, int64 `(copies,)`.
        clock: steps since the last truncation, int64 `(copies,)`.
        resets: number of resets, int64 `(copies,)`.
        progress: sum of the rewards since the last reset, float64 `(copies,)`.
        returns: return of the last whole episode, float64 `(copies,)`; before the first end of
            one, the same as `progress`.
        finished: number of whole episodes, int64 `(copies,)`.
    """

    observation: np.ndarray
    actions: np.ndarray
    since: np.ndarray
    clock: np.ndarray
    resets: np.ndarray
    progress: np.ndarray
    returns: np.ndarray
    finished: np.ndarray

    @classmethod
    def empty(cls, spaces: Spaces, copies: int) -> State:
        """Returns the state before the first reset."""
        names = ("since", "clock", "resets", "finished")
        counts = {name: np.zeros(copies, np.int64) for name in names}
        return cls(
            np.zeros((copies, spaces.observation), np.float32),
            np.zeros((copies, spaces.horizon, spaces.action), np.float32),
            progress=np.zeros(copies),
            returns=np.zeros(copies),
            **counts,
        )

    def arrays(self) -> list[np.ndarray]:
        """Returns the arrays in the order of their fields."""
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def copied(self) -> State:
        """Returns a state of copies of the arrays."""
        return State(*(array.copy() for array in self.arrays()))

    def equals(self, other: State) -> bool:
        """Returns whether all arrays are equal, bit for bit."""
        pairs = zip(self.arrays(), other.arrays(), strict=True)
        return all(np.array_equal(a, b) for a, b in pairs)


class Steps:
    """Results of one step of all copies.

    Attributes:
        observation: observations from which the next step is taken, `(copies, features)`.
        following: observations that follow the actions, which differ from `observation` where an
            episode was truncated, or has ended, and the next one begins.
        terminated: whether the episode has ended.
        truncated: whether the episode was cut off.
    """

    def __init__(self, copies: int, features: int):
        self.observation = np.zeros((copies, features), np.float32)
        self.following = np.zeros((copies, features), np.float32)
        self.terminated = np.zeros(copies, bool)
        self.truncated = np.zeros(copies, bool)


class Vector:
    """Copies of an environment that are stepped together and reset by themselves.

    Args:
        spaces: the environment.
        copies: number of copies, from 1 up.
        seed: seed of the resets.
        restart: whether an environment that ends an episode before its horizon is reset and the
            episode goes on, so that all episodes are equally long. Otherwise the next one begins.
    """

    def __init__(self, spaces: Spaces, copies: int, seed: int, restart: bool = True):
        self.spaces, self.copies, self.seed, self.restart = spaces, copies, seed, restart
        self._environments = [make(spaces.environment, limited=False) for _ in range(copies)]
        self.state = State.empty(spaces, copies)
        for copy in range(copies):
            self._reset(copy)

    def restore(self, state: State) -> None:
        """Brings all copies into a state, if they are not in it.

        Raises:
            UsageError: the environment does not repeat its observations.
        """
        if not state.resets.any():  # before the first step of a training
            state = State.empty(self.spaces, self.copies)
            self.state = state.copied()
            for copy in range(self.copies):
                self._reset(copy)
            return
        if self.state.equals(state):
            return
        self.state = state.copied()
        for copy, environment in enumerate(self._environments):
            found = self._begin(copy)
            for action in state.actions[copy, : state.since[copy]]:
                found = environment.step(self.spaces.decode(action))[0]
            if not np.array_equal(np.asarray(found, np.float32), state.observation[copy]):
                raise UsageError(
                    "An environment must repeat its observations after the same seed and actions, "
                    f"or a training cannot be resumed exactly. Received: "
                    f"environment={self.spaces.environment!r} with others"
                )

    def step(self, actions: np.ndarray) -> Steps:
        """Steps all copies.

        Args:
            actions: encoded actions, `(copies, action)`.
        """
        found = Steps(self.copies, self.spaces.observation)
        for copy in range(self.copies):
            self._step(copy, actions[copy], found)
        found.observation[...] = self.state.observation
        return found

    def _step(self, copy: int, action: np.ndarray, found: Steps) -> None:
        state, (terminated, own) = self.state, self._act(copy, action)
        found.following[copy] = state.observation[copy]
        state.clock[copy] += 1
        # The environment's own end is that of a whole episode. One that began at a hidden reset
        # and was cut off at the horizon is not.
        truncated = own or bool(state.clock[copy] >= self.spaces.horizon)
        if terminated or own or (truncated and state.since[copy] == state.clock[copy]):
            state.finished[copy] += 1
            state.returns[copy] = state.progress[copy]
        elif not state.finished[copy]:
            state.returns[copy] = state.progress[copy]
        found.terminated[copy] = terminated and not self.restart
        found.truncated[copy] = truncated and not found.terminated[copy]
        if terminated or truncated:
            self._reset(copy)
        if terminated and self.restart:  # the episode goes on from the reset
            found.following[copy] = state.observation[copy]
        if found.terminated[copy] or truncated:
            state.clock[copy] = 0

    def _act(self, copy: int, action: np.ndarray) -> tuple[bool, bool]:
        """Takes an action in a copy. Returns whether its episode has ended, and was cut off."""
        state, environment = self.state, self._environments[copy]
        found = environment.step(self.spaces.decode(action))
        observation, reward, terminated, truncated, _ = found
        state.actions[copy, state.since[copy]] = action
        state.observation[copy] = np.asarray(observation, np.float32)
        state.since[copy] += 1
        state.progress[copy] += float(reward)
        return bool(terminated), bool(truncated and not terminated)

    def _reset(self, copy: int) -> None:
        state = self.state
        state.resets[copy] += 1
        state.since[copy], state.progress[copy] = 0, 0.0
        state.actions[copy] = 0.0
        state.observation[copy] = np.asarray(self._begin(copy), np.float32)

    def _begin(self, copy: int) -> Any:
        seed = seed_of("reset", self.seed, copy, int(self.state.resets[copy]))
        return self._environments[copy].reset(seed=seed)[0]


def play(spaces: Spaces, act: Any, episodes: int, seed: int, most: int = 100) -> np.ndarray:
    """Returns the returns of episodes of a policy, at the environment's own ends.

    Args:
        spaces: the environment.
        act: function from observations `(count, features)` to encoded actions `(count, action)`.
        episodes: number of episodes, from 1 up.
        seed: seed of the resets.
        most: episodes that are played together.
    """
    totals = np.zeros(episodes)
    for start in range(0, episodes, most):
        numbers = range(start, min(episodes, start + most))
        running = {number: make(spaces.environment) for number in numbers}
        seen = {
            number: env.reset(seed=seed_of("play", seed, number))[0]
            for number, env in running.items()
        }
        while running:
            actions = act(np.stack([seen[number] for number in running]).astype(np.float32))
            for number, action in zip(list(running), np.asarray(actions), strict=True):
                env = running[number]
                seen[number], reward, terminated, truncated, _ = env.step(spaces.decode(action))
                totals[number] += float(reward)
                if terminated or truncated:
                    running.pop(number).close()
    return totals
