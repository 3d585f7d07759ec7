"""Episodes of a policy in an environment of gymnasium, which only this module imports."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from serving import environments
from serving.errors import UsageError, one_line
from serving.nearest_names import find_nearest

if TYPE_CHECKING:
    from serving.acting import Actor, Policy

MAX_STEPS = 100_000  # of one episode of an environment without a limit of its own
_EXTRA = "imitation"  # extra of this package that installs gymnasium


class Episode(NamedTuple):
    """One episode.

    Args:
        total: its return, the sum of its rewards.
        steps: number of its steps.
        is_complete: False if it was cut, as it had not ended after the most steps.
        acting: seconds in which its actions were computed.
        stepping: seconds of the environment's steps.
    """

    total: float
    steps: int
    is_complete: bool
    acting: float
    stepping: float


def open_environment(name: str, policy: Policy, *, has_frames: bool = False) -> Any:
    """Opens an environment that fits a policy.

    Args:
        name: its id in gymnasium, such as `"CartPole-v1"`; `"module:Id-v0"` imports the module
            that registers it.
        policy: the policy.
        has_frames: the environment draws frames.

    Raises:
        UsageError: gymnasium or a package of the environment is not installed, an unknown id, an
            environment that cannot be drawn, or one with other observations or actions.
    """
    gymnasium = _gymnasium()
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame opens no window
    mode = "rgb_array" if has_frames else None
    with _one_line(gymnasium, name), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about older versions, with colors of a terminal
        found = gymnasium.make(name, render_mode=mode)
    try:
        if has_frames and mode not in found.metadata.get("render_modes", ()):
            raise UsageError(f"--out needs an environment that draws frames. Received: {name!r}")
        check_spaces(name, found, policy)
    except BaseException:
        found.close()
        raise
    return found


def check_spaces(name: str, environment: Any, policy: Policy) -> None:
    """Checks that an environment has the observations and the actions of a policy.

    Raises:
        UsageError: it has others.
    """
    seen, taken = environment.observation_space, environment.action_space
    facts = environments.describe(name, seen, taken)
    if text := environments.difference(policy.facts, facts, policy.shape, seen.shape):
        raise UsageError(
            "The environment must have the observations and the actions of the policy, which "
            f"are those of {policy.environment.title}. Received: {name!r} with {text}"
        )


def _gymnasium() -> Any:
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise UsageError(
            f"play needs the extra {_EXTRA!r}: pip install 'keras-gan[{_EXTRA}]'. "
            f"Received: no module {error.name!r}"
        ) from error
    return gymnasium


@contextlib.contextmanager
def _one_line(gymnasium: Any, name: str) -> Iterator[None]:
    """Turns the errors of making and drawing an environment into one line.

    Raises:
        UsageError: one of them occurred.
    """
    errors = gymnasium.error
    try:
        yield
    except errors.UnregisteredEnv as error:
        near = find_nearest(name, gymnasium.registry)
        hint = f"Did you mean {near!r}?" if near else "gymnasium.pprint_registry() lists them"
        raise UsageError(
            f"An environment must be registered. Received: {name!r}. {hint}"
        ) from error
    except (errors.DependencyNotInstalled, ImportError) as error:
        raise UsageError(
            "An environment and its packages must be installed. "
            f"Received: {name!r} ({one_line(error)})"
        ) from error
    except errors.Error as error:
        raise UsageError(
            f"An environment must be one that gymnasium makes. Received: {name!r} "
            f"({one_line(error)})"
        ) from error


def play(
    environment: Any,
    actor: Actor,
    seed: int,
    max_steps: int = MAX_STEPS,
    draw: Callable[[np.ndarray], None] | None = None,
) -> Episode:
    """Plays one episode.

    Args:
        environment: of `open_environment`.
        actor: the policy.
        seed: seed of the environment.
        max_steps: most steps.
        draw: called with the frame before each step and after the last one, uint8 `(height,
            width, 3)`.

    Raises:
        UsageError: a frame that cannot be drawn.
        NotFiniteError: an observation or an action of NaN or infinity.
    """
    follow, clock = actor.follow, time.perf_counter
    observation, _ = environment.reset(seed=seed)
    total, acting, stepping, is_complete, steps = 0.0, 0.0, 0.0, False, 0
    while steps < max_steps and not is_complete:
        if draw is not None:
            draw(_frame(environment))
        start = clock()
        action = follow(observation)
        middle = clock()
        observation, reward, terminated, truncated, _ = environment.step(action)
        acting, stepping = acting + middle - start, stepping + clock() - middle
        total, steps = total + float(reward), steps + 1
        is_complete = bool(terminated or truncated)
    if draw is not None:
        draw(_frame(environment))
    return Episode(total, steps, is_complete, acting, stepping)


def _frame(environment: Any) -> np.ndarray:
    name = environment.spec.id if environment.spec else "environment"
    with _one_line(_gymnasium(), name):
        return np.asarray(environment.render(), np.uint8)
