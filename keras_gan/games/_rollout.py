"""Rollouts of a policy in copies of an environment, inside the graph of a training step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan.control.spaces import Spaces
from keras_gan.control.vector import State, Vector


@dataclasses.dataclass(frozen=True)
class Rollout:
    """Steps of all copies; each tensor is `(steps, copies, ...)`.

    Args:
        observations: observations before the actions.
        actions: drawn actions, of which continuous ones may be out of bounds.
        taken: the actions as the environment took them.
        following: observations after the actions.
        terminated: 1.0 where the episode has ended.
        truncated: 1.0 where the episode was cut off.
    """

    observations: Any
    actions: Any
    taken: Any
    following: Any
    terminated: Any
    truncated: Any

    def flat(self, name: str) -> Any:
        """Returns a tensor with one row for each step of each copy."""
        value = getattr(self, name)
        return tf.reshape(value, tf.concat([[-1], tf.shape(value)[2:]], 0))


class Player:
    """Copies of an environment that a graph steps.

    The copies are made when they are first needed. Their state is that of the variables at the
    start of each round, so that a game that was loaded, or set back, goes on from there.

    Args:
        spaces: the environment.
        copies: number of copies.
        seed: seed of the resets.
        restart: see `Vector`.
    """

    def __init__(self, spaces: Spaces, copies: int, seed: int, restart: bool):
        self._make: Callable[[], Vector] = lambda: Vector(spaces, copies, seed, restart)
        self._vector: Vector | None = None
        self.spaces, self.copies = spaces, copies
        self.error: Exception | None = None  # of a step, which TensorFlow reports as its own

    def play(self, variables: dict[str, Any], act: Callable, noise: Any) -> Rollout:
        """Steps the copies from the state of variables on, and assigns their new state.

        Args:
            variables: the variables of `State` by name.
            act: function from observations and noise to the drawn actions and the taken ones.
            noise: noise of all steps, `(steps, copies, ...)`.
        """
        spaces, copies, steps = self.spaces, self.copies, tf.shape(noise)[0]
        wide = (copies, spaces.observation)
        state = [variable.value for variable in variables.values()]
        first = tf.numpy_function(self._restore, state, tf.float32)
        arrays = [tf.TensorArray(tf.float32, steps) for _ in range(6)]

        def step(i: Any, observation: Any, arrays: Any) -> Any:
            observation = tf.ensure_shape(observation, wide)
            actions, taken = act(observation, noise[i])
            found = tf.numpy_function(self._step, [taken], [tf.float32] * 4)
            row = (observation, actions, taken, *found[1:])
            return i + 1, found[0], [a.write(i, x) for a, x in zip(arrays, row, strict=True)]

        unknown: Any = tf.TensorShape(None)  # pyright: ignore[reportArgumentType]
        shapes = (tf.TensorShape(()), unknown, [unknown] * 6)
        _, last, arrays = tf.while_loop(
            lambda i, *rest: i < steps,
            step,
            (tf.constant(0), first, arrays),
            shape_invariants=shapes,
            parallel_iterations=1,
        )
        stacked = [array.stack() for array in arrays]
        for tensor, sizes in zip(stacked, _sizes(copies, spaces), strict=True):
            tensor.set_shape((None, *sizes))
        with tf.control_dependencies([last]):
            dtypes = [variable.value.dtype for variable in variables.values()]
            ended = tf.numpy_function(self._state, [tf.reduce_sum(last)], dtypes)
        for variable, value in zip(variables.values(), ended, strict=True):
            value.set_shape(variable.shape)
            variable.assign(value)
        return Rollout(*stacked)

    # ---------------------------------------------------------------- called from the graph

    def _restore(self, *arrays: np.ndarray) -> np.ndarray:
        try:
            if self._vector is None:
                self._vector = self._make()
            self._vector.restore(State(*(np.array(array) for array in arrays)))
        except Exception as error:
            self.error = error
            raise
        return self._vector.state.observation.copy()

    def _step(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        try:
            found = self._running.step(actions)
        except Exception as error:  # environments raise anything
            self.error = error
            raise
        flags = (found.terminated, found.truncated)
        as_floats = (flag.astype(np.float32) for flag in flags)
        return (found.observation, found.following, *as_floats)

    def _state(self, last: np.ndarray) -> list[np.ndarray]:
        return [array.copy() for array in self._running.state.arrays()]

    @property
    def _running(self) -> Vector:
        if self._vector is None:
            raise RuntimeError("the copies are made at the start of a round")
        return self._vector


def _sizes(copies: int, spaces: Spaces) -> list[tuple[int, ...]]:
    """Returns the shapes of the tensors of a rollout, without the steps."""
    wide, acting = (copies, spaces.observation), (copies, spaces.action)
    return [wide, acting, acting, wide, (copies,), (copies,)]


def advantages(
    rollout: Rollout, rewards: Any, values: Any, following: Any, discount: float, smoothing: float
) -> Any:
    """Returns generalized advantage estimates, `(steps, copies)`.

    A_t = d_t + gamma lambda A_(t+1) with d_t = r_t + gamma V(s_(t+1)) - V(s_t). The sum ends at
    terminated and at truncated steps.

    Args:
        rollout: the steps.
        rewards: rewards of the steps, `(steps, copies)`.
        values: values of the observations before the actions.
        following: values of what follows the actions. After a truncated step it is the value of
            the observation, as the episode would have gone on; after a terminated one that of the
            end, such as 0.
        discount: gamma, from 0 to 1.
        smoothing: lambda, from 0 to 1.

    Reference:
        [Schulman et al., 2015](https://arxiv.org/abs/1506.02438), equation 16
    """
    differences = rewards + discount * following - values
    factors = discount * smoothing * (1.0 - rollout.terminated) * (1.0 - rollout.truncated)
    return tf.scan(
        lambda later, now: now[0] + now[1] * later,
        (differences, factors),
        tf.zeros_like(rewards[0]),
        reverse=True,
    )
