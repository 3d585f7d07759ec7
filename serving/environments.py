"""Environments of policies: spaces of observations and of actions, as a manifest describes them.

`environment` of a manifest is an object. A bound that does not exist is null.

| key | value |
|---|---|
| `id` | name of the environment in gymnasium, such as `"CartPole-v1"`, or null |
| `observation` | `low` and `high`: one bound for all numbers, or a list with one for each |
| `action` | `n`, the number of discrete actions; or `low` and `high`, a list of bounds each |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving.errors import UsageError, short_repr
from serving.port_rules import Wrong, is_line, is_number
from serving.value_ranges import ROUNDING

POLICY, REWARD = "policy", "reward"  # roles of networks of an environment
OBSERVATION, ACTION = "observation", "action"  # names of their ports
# Stands for a bound that does not exist, so that one comparison refuses NaN and infinity as well.
LARGEST = float(np.finfo(np.float32).max)
_DIGITS = 6  # digits by which the bounds of two environments are compared
Facts = Mapping[str, Any]


class Environment(NamedTuple):
    """Spaces of an environment.

    Args:
        id: name of the environment in gymnasium; `None` if it is not known.
        low: smallest value of each number of an observation, float32 in its shape; `-LARGEST`
            where there is no bound.
        high: largest values, likewise.
        count: number of discrete actions; 0 for continuous ones.
        least: smallest value of each number of a continuous action, float32 `(values,)`; `None`
            for discrete ones.
        most: largest values, likewise.
    """

    id: str | None
    low: np.ndarray
    high: np.ndarray
    count: int
    least: np.ndarray | None
    most: np.ndarray | None

    @property
    def title(self) -> str:
        """Name of the environment for messages."""
        return self.id or "the environment"

    @property
    def describes_actions(self) -> str:
        """Description of the actions for messages, such as `2 discrete actions`."""
        if self.least is None or self.most is None:
            return f"{self.count} discrete actions"
        low, high = (_listed(x) for x in (self.least, self.most))
        return f"actions of {len(self.least)} numbers from {low} to {high}"


def _listed(values: np.ndarray) -> str:
    """Returns a vector as text: one number where all are the same."""
    texts = ["none" if abs(x) >= LARGEST else f"{x:g}" for x in values.reshape(-1).tolist()]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def read(facts: Facts, shape: Sequence[int]) -> Environment:
    """Returns the environment that a manifest describes.

    Args:
        facts: `environment` of a manifest, which `serving.port_rules` has checked.
        shape: shape of one observation.
    """
    low, high = (_bounds(facts["observation"][key], shape, key) for key in ("low", "high"))
    action = facts["action"]
    if "n" in action:
        return Environment(facts["id"], low, high, action["n"], None, None)
    size = (len(action["low"]),)
    least, most = (_bounds(action[key], size, key) for key in ("low", "high"))
    return Environment(facts["id"], low, high, 0, least, most)


def _bounds(values: Any, shape: Sequence[int], key: str) -> np.ndarray:
    missing = -LARGEST if key == "low" else LARGEST
    listed = values if isinstance(values, list) else [values] * math.prod(shape)
    numbers = [missing if x is None else min(max(x, -LARGEST), LARGEST) for x in listed]
    return np.array(numbers, np.float32).reshape(tuple(shape))


def describe(name: str | None, observations: Any, actions: Any) -> dict[str, Any]:
    """Returns `environment` of a manifest for the spaces of an environment of gymnasium.

    Args:
        name: id of the environment, or `None`.
        observations: its space of observations, a `Box`.
        actions: its space of actions: a `Discrete` that starts at 0, or a `Box` of one axis.

    Raises:
        UsageError: other spaces.
    """
    if not _is_box(observations) or not observations.shape:
        raise UsageError(
            "The observations of an environment must be a Box of at least one axis. "
            f"Received: observation_space={_text(observations)} of {name!r}"
        )
    low, high = (_one_or_all(_plain(getattr(observations, key))) for key in ("low", "high"))
    if (count := getattr(actions, "n", None)) is not None and np.ndim(count) == 0:
        if int(getattr(actions, "start", 0)) == 0:
            return _facts(name, low, high, {"n": int(count)})
    elif _is_box(actions) and len(actions.shape) == 1:
        bounds = {key: _plain(getattr(actions, key)) for key in ("low", "high")}
        return _facts(name, low, high, bounds)
    raise UsageError(
        "The actions of an environment must be a Discrete that starts at 0, or a Box of one axis. "
        f"Received: action_space={_text(actions)} of {name!r}"
    )


def _facts(name: str | None, low: Any, high: Any, action: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "observation": {"low": low, "high": high}, "action": action}


def _is_box(space: Any) -> bool:
    return all(hasattr(space, key) for key in ("low", "high", "shape"))


def _text(space: Any) -> str:
    """Returns a space as text without the values of its bounds."""
    shape = getattr(space, "shape", None)
    return f"{type(space).__name__} of shape {shape}" if _is_box(space) else short_repr(space)


def _plain(values: Any) -> list[float | None]:
    """Returns bounds as JSON holds them: null for those that are infinite or the largest float."""
    numbers = np.asarray(values, np.float64).reshape(-1).tolist()
    return [x if abs(x) < LARGEST * (1 - ROUNDING) else None for x in numbers]


def _one_or_all(values: list[float | None]) -> list[float | None] | float | None:
    return values[0] if len(set(values)) == 1 else values


def difference(ours: Facts, theirs: Facts, shape: Sequence[int], other: Sequence[int]) -> str:
    """Returns how the spaces of two environments differ, in words; empty if they do not.

    A bound of an observation that does not exist, or is not known, fits every bound.

    Args:
        ours: `environment` of a manifest.
        theirs: that of another environment.
        shape: shape of one observation of the first.
        other: shape of one observation of the second.
    """
    if tuple(shape) != tuple(other):
        return f"observations of shape {tuple(other)}, not {tuple(shape)}"
    one, two = read(ours, shape), read(theirs, other)
    if one.count != two.count or not _alike((one.least, one.most), (two.least, two.most)):
        return f"{two.describes_actions}, not {one.describes_actions}"
    if not all(_fit(*bounds) for bounds in ((one.low, two.low), (one.high, two.high))):
        found, wanted = (f"{_listed(x.low)} to {_listed(x.high)}" for x in (two, one))
        return f"observations from {found}, not {wanted}"
    return ""


def _alike(one: Sequence[Any], two: Sequence[Any]) -> bool:
    for a, b in zip(one, two, strict=True):
        if (a is None) != (b is None):
            return False
        same = a is None or (a.shape == b.shape and np.allclose(a, b, rtol=10.0**-_DIGITS, atol=0))
        if not same:
            return False
    return True


def _fit(one: np.ndarray, two: np.ndarray) -> bool:
    """Returns whether bounds are equal where both of them exist."""
    known = (np.abs(one) < LARGEST) & (np.abs(two) < LARGEST)
    return np.allclose(one[known], two[known], rtol=10.0**-_DIGITS, atol=0)


def check_facts(facts: Any) -> dict[str, Any]:
    """Returns `environment` as a caller declares it, checked.

    Raises:
        UsageError: another form than that of a manifest.
    """
    if (wrong := find_wrong_environment(facts)) is not None:
        raise UsageError(
            f"`{wrong.key}` must be {wrong.rule}. Received: {wrong.key}={short_repr(wrong.value)}"
        )
    return dict(facts)


# ------------------------------------------------------------------------ rules of a manifest


def find_wrong_environment(value: Any) -> Wrong | None:
    """Returns the first broken rule of `environment` in a manifest, `None` if all hold."""
    if not isinstance(value, dict) or value.keys() != {"id", "observation", "action"}:
        return Wrong("environment", "an object with id, observation and action", value)
    name, seen, action = value["id"], value["observation"], value["action"]
    if name is not None and not (is_line(name) and 0 < len(name) <= 200):
        return Wrong("environment.id", "the name of an environment, or null", name)
    if not isinstance(seen, dict) or seen.keys() != {"low", "high"}:
        return Wrong("environment.observation", "an object with low and high", seen)
    for key in ("low", "high"):
        if not _is_bound(seen[key]) and not _is_bounds(seen[key]):
            rule = "a number, a list of numbers, or null for no bound"
            return Wrong(f"environment.observation.{key}", rule, seen[key])
    return _find_wrong_order("environment.observation", seen) or _find_wrong_action(action)


def _find_wrong_action(action: Any) -> Wrong | None:
    """Returns the first broken rule of a space of actions, `None` if all hold."""
    if not isinstance(action, dict) or action.keys() not in ({"n"}, {"low", "high"}):
        return Wrong("environment.action", "an object with n, or with low and high", action)
    if "n" in action:
        fits = type(action["n"]) is int and 0 < action["n"] < 2**31
        rule = "the number of actions, an integer above 0"
        return None if fits else Wrong("environment.action.n", rule, action["n"])
    for key in ("low", "high"):
        if not _is_bounds(action[key]):
            rule = "a list of numbers, null for no bound"
            return Wrong(f"environment.action.{key}", rule, action[key])
    return _find_wrong_order("environment.action", action)


def _find_wrong_order(key: str, bounds: Mapping[str, Any]) -> Wrong | None:
    """Returns bounds of different lengths, or a low bound that is not below its high one."""
    low, high = (x if isinstance(x, list) else None for x in (bounds["low"], bounds["high"]))
    count = len(low or high or [None])
    lows, highs = low or [bounds["low"]] * count, high or [bounds["high"]] * count
    if len(lows) != len(highs):
        return Wrong(f"{key}.high", f"a list of {len(lows)} numbers, as low is", bounds["high"])
    known = [(a, b) for a, b in zip(lows, highs, strict=True) if None not in (a, b)]
    if not all(a <= b for a, b in known):
        return Wrong(f"{key}.high", "at least low", bounds["high"])
    return None


def _is_bound(value: Any) -> bool:
    return value is None or is_number(value)


def _is_bounds(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_is_bound, value))


def find_wrong_environment_ports(manifest: Mapping[str, Any]) -> Wrong | None:
    """Returns the ports of a manifest with `environment` that do not fit it."""
    facts = manifest.get("environment")
    if facts is None:
        return None
    inputs = {port["name"]: port for port in manifest["inputs"]}
    outputs = {port["name"]: port for port in manifest["outputs"]}
    seen = inputs.get(OBSERVATION)
    if seen is None or seen["fill"] != "given" or not _is_fixed(seen):
        rule = "a given `observation` of fixed shape, beside `environment`"
        return Wrong("inputs", rule, manifest["inputs"])
    size = math.prod(seen["shape"][1:])
    for key in ("low", "high"):
        bounds = facts["observation"][key]
        if isinstance(bounds, list) and len(bounds) != size:
            rule = f"{size} numbers, one for each of an observation"
            return Wrong(f"environment.observation.{key}", rule, bounds)
    action = inputs.get(ACTION) or outputs.get(ACTION)
    wanted = [] if "n" in facts["action"] else [len(facts["action"]["low"])]
    dtype = "int64" if "n" in facts["action"] else "float32"
    if action is None or action["shape"][1:] != wanted or action["dtype"] != dtype:
        group = "inputs" if ACTION in inputs else "outputs"
        rule = f"ports with an `action` of dtype {dtype} and shape {['batch', *wanted]}"
        return Wrong(group, rule, manifest[group])
    return None


def _is_fixed(port: Mapping[str, Any]) -> bool:
    sizes = port["shape"][1:]
    return bool(sizes) and all(type(size) is int for size in sizes) and port["dtype"] == "float32"
