"""Policies: observations of an environment to actions, in microseconds.

An action is the one of a deterministic policy: the most probable of discrete ones, the mean of
continuous ones within their bounds. The same observation has the same action in every runtime.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving import environments
from serving.checks import is_finite
from serving.environments import ACTION, LARGEST, POLICY, Environment
from serving.errors import NotFiniteError, UsageError, one_line, short_repr
from serving.inputs import Input, Inputs, Port
from serving.value_ranges import ROUNDING

_KINDS = "fiu"  # of dtypes of numbers


class Policy:
    """Facts about a policy, and the checks of its observations.

    Args:
        source: the input of observations.
        target: the output of actions.
        environment: spaces of its environment.
        facts: the same as the manifest holds them.
    """

    def __init__(
        self, source: Input, target: Port, environment: Environment, facts: Mapping[str, Any]
    ):
        self.source, self.target = source, target
        self.environment, self.facts = environment, facts
        self.shape: tuple[int, ...] = tuple(int(n) for n in source.shape)
        # Bounds that rounding may exceed, where there are some.
        low, high = (x.astype(np.float64) for x in (environment.low, environment.high))
        margin = ROUNDING * np.maximum(np.abs(low), np.abs(high))
        bounded = np.abs(low) < LARGEST, np.abs(high) < LARGEST
        self._low = np.where(bounded[0], low - margin, low).astype(np.float32)
        self._high = np.where(bounded[1], high + margin, high).astype(np.float32)

    @property
    def is_discrete(self) -> bool:
        """True if actions are numbers of alternatives, not vectors."""
        return self.environment.least is None

    def describe(self) -> dict[str, Any]:
        """Returns the entry of the model in `/v1/models`."""
        return {"input": self.source.name, "output": self.target.name, "environment": self.facts}

    def read(self, observation: Any) -> np.ndarray:
        """Returns checked observations, float32 `(*shape)` or `(batch, *shape)`.

        Args:
            observation: an array or nested lists of numbers.

        Raises:
            UsageError: no numbers, another shape, NaN, infinity, or values outside the bounds of
                the environment.
        """
        array = self.read_numbers(observation)
        # NaN and infinity fail the comparison as well.
        if not ((array >= self._low) & (array <= self._high)).all():
            raise self._describe_outside(array)
        return array

    def read_numbers(self, observation: Any) -> np.ndarray:
        """Returns observations as `read` does, without the checks of their values.

        Raises:
            UsageError: no numbers, or another shape.
        """
        try:
            array = np.asarray(observation)
        except (TypeError, ValueError):  # rows of different lengths
            array = np.empty(0, object)
        fits = array.shape == self.shape or (array.shape[1:] == self.shape and len(array) > 0)
        if array.dtype.kind not in _KINDS or not fits:
            is_array = array.dtype.kind in _KINDS
            raise self.describe_wrong(
                f"shape={array.shape}" if is_array else short_repr(observation)
            )
        if array.dtype == np.float32:
            return array
        with np.errstate(over="ignore"):  # to infinity, which `read` refuses
            return array.astype(np.float32)

    def describe_wrong(self, received: str) -> UsageError:
        """Returns the error for an observation of another form, with what was received."""
        sizes = ", ".join(map(str, self.shape))
        one = f"{sizes}," if len(self.shape) == 1 else sizes
        return UsageError(
            f"An observation must be numbers of shape ({one}), or several of shape "
            f"(batch, {sizes}). Received: {received}"
        )

    def _describe_outside(self, array: np.ndarray) -> UsageError:
        """Returns the error for observations of which a value is not finite or outside."""
        if not is_finite(array):
            return UsageError("An observation must be finite. Received: NaN or infinity")
        wrong = ~((array >= self._low) & (array <= self._high))
        rows = np.argwhere(wrong)[0]
        place = tuple(rows[-len(self.shape) :].tolist())
        low, high = (float(x[place]) for x in (self.environment.low, self.environment.high))
        index = ", ".join(map(str, place))
        return UsageError(
            f"An observation must be within the bounds of {self.environment.title}, here "
            f"[{_bound(low)}, {_bound(high)}]. Received: observation[{index}]="
            f"{array[tuple(rows)]:g}"
        )


def _bound(value: float) -> str:
    return f"{value:g}" if abs(value) < LARGEST else "no bound"


def find_policy(
    role: str, inputs: Inputs, outputs: Sequence[Port], facts: Mapping[str, Any] | None
) -> Policy | None:
    """Returns the policy of a bundle; `None` for other networks.

    It has the role `policy`, `environment` in its manifest, the only input `observation`, and an
    output `action`.
    """
    target = next((port for port in outputs if port.name == ACTION), None)
    if role != POLICY or facts is None or target is None or len(inputs.ports) != 1:
        return None
    source = inputs.ports[0]
    shape = [n for n in source.shape if isinstance(n, int)]
    return Policy(source, target, environments.read(facts, shape), facts)


class _Bound(NamedTuple):
    """Arrays that a session reads and writes at every run."""

    observation: np.ndarray
    outputs: dict[str, np.ndarray]
    binding: Any


class Actor:
    """A policy with its own session of one thread, whose input and outputs are bound once.

    Several threads may share an actor; their calls follow each other.

    Args:
        policy: the policy.
        session: a session of onnxruntime on the CPU.
        bundle: its bundle.
    """

    def __init__(self, policy: Policy, session: Any, bundle: Any):
        self.policy = policy
        self._session, self._name = session, bundle.name
        self._ports: Sequence[Port] = bundle.outputs
        self._lock = threading.Lock()
        self._one = self._bind(1)
        session.run_with_iobinding(self._one.binding)  # the first run allocates its memory

    def act(self, observation: Any) -> Any:
        """Returns the action of an observation, or those of several.

        Args:
            observation: numbers of the shape of one, or with one more axis for several.

        Returns:
            An int for a discrete action, float32 `(values,)` for a continuous one; for several
            observations an array with one more axis.

        Raises:
            UsageError: as of `Policy.read`.
            NotFiniteError: an answer of NaN or infinity.
        """
        return self._answer(self.policy.read(observation))

    def follow(self, observation: Any) -> Any:
        """Returns the action of an observation that an environment has made.

        Takes and returns what `act` does, but for the bounds of observations, which environments
        do not always respect themselves.

        Raises:
            UsageError: no numbers, or another shape.
            NotFiniteError: an observation or an answer of NaN or infinity.
        """
        array = self.policy.read_numbers(observation)
        if not is_finite(array):
            raise NotFiniteError("An observation must be finite. Received: NaN or infinity")
        return self._answer(array)

    def _answer(self, array: np.ndarray) -> Any:
        if array.ndim > len(self.policy.shape):
            return self._run(self._bind(len(array)), array)
        with self._lock:
            action = self._run(self._one, array)
            return int(action[0]) if self.policy.is_discrete else action[0].copy()

    def _run(self, bound: _Bound, array: np.ndarray) -> np.ndarray:
        """Runs a batch; returns its actions."""
        bound.observation[...] = array
        try:
            self._session.run_with_iobinding(bound.binding)
        except Exception as error:  # onnxruntime has a class for each failure
            raise UsageError(
                f"A policy must run in onnxruntime. Received: {self._name!r} ({one_line(error)})"
            ) from error
        floats = (x for x in bound.outputs.values() if x.dtype.kind == "f")
        if not all(map(is_finite, floats)):
            raise NotFiniteError(
                "The outputs of a policy must be finite numbers. "
                f"Received: NaN or infinity from {self._name!r}"
            )
        return bound.outputs[self.policy.target.name]

    def _bind(self, count: int) -> _Bound:
        """Returns arrays for so many observations, bound to the session."""
        import onnxruntime

        value = onnxruntime.OrtValue.ortvalue_from_numpy  # which shares the memory of the array
        source = self.policy.source
        observation = np.zeros((count, *self.policy.shape), source.dtype)
        outputs = {
            port.name: np.zeros((count, *(int(n) for n in port.shape)), port.dtype)
            for port in self._ports
        }
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(source.name, value(observation))
        for name, array in outputs.items():
            binding.bind_ortvalue_output(name, value(array))
        return _Bound(observation, outputs, binding)


def require_policy(bundle: Any) -> Policy:
    """Returns the policy of a bundle, or of a model on a server.

    Raises:
        UsageError: another network.
    """
    if bundle.policy is None:
        raise UsageError(
            "A policy has the role 'policy', the only input 'observation', and an output 'action'. "
            f"Received: {bundle.name!r} of role {bundle.role!r}, with the inputs "
            f"{', '.join(bundle.inputs.by_name)}"
        )
    return bundle.policy
