"""Observations that a client sends to a policy, and the actions that return."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from serving.checks import is_finite
from serving.client.arguments import check_arguments
from serving.client.http_types import Exchange, ServerError, post, to_json
from serving.environments import ACTION, OBSERVATION
from serving.errors import UsageError, short_repr

if TYPE_CHECKING:
    from serving.client.session import Session


@dataclasses.dataclass(frozen=True)
class Acted:
    """Observations to act on.

    Args:
        observation: float32, of the shape of one or with one more axis.
        model: name of a model, or `None`.
        version: its version, or `None` for the newest.
    """

    observation: np.ndarray
    model: str | None
    version: int | None


def check_acted(observation: Any, *, model: str | None = None, version: int | None = None) -> Acted:
    """Checks the arguments of `Client.act`.

    Raises:
        UsageError: no numbers in rows of equal length, NaN or infinity.
    """
    try:
        array = np.asarray(observation)
    except (TypeError, ValueError):  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "fiu" or not array.ndim or not array.size:
        raise UsageError(
            "`observation` must be numbers in rows of equal length. "
            f"Received: observation={short_repr(observation)}"
        )
    with np.errstate(over="ignore"):  # to infinity, which is refused
        array = array.astype(np.float32)
    if not is_finite(array):
        raise UsageError("`observation` must be finite. Received: NaN or infinity")
    return Acted(array, model, version)


def act(session: Session, sent: Acted) -> Exchange[Any]:
    """Returns the action of an observation, or those of several.

    Every server of a policy answers: one of another protocol than `keras-gan serve` gets tensors.
    """
    server = yield from session.connect(sent.model)
    if server.protocol != "keras_gan":
        return (yield from _infer(session, sent))
    fields: dict[str, Any] = {OBSERVATION: sent.observation.tolist()}
    fields |= {"model": sent.model or server.name, "version": sent.version}
    body = to_json({name: value for name, value in fields.items() if value is not None})
    headers = {"Content-Type": "application/json"}
    return _read((yield post(f"{server.path}/v1/act", body, headers)).json())


def _read(content: Any) -> Any:
    """Returns the action of an answer: an int, or an array of integers or of floats."""
    try:
        action = content[ACTION]
        if type(action) is int:
            return action
        array = np.asarray(action)
        if array.dtype.kind not in "fi" or not array.ndim:
            raise TypeError(f"an action of {array.dtype}")
        return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
    except (KeyError, TypeError, ValueError) as error:
        raise ServerError(f"An answer must have an action. Received: {error!r:.80}") from error


def _infer(session: Session, sent: Acted) -> Exchange[Any]:
    """Runs the model of a server that takes tensors."""
    names = {"model": sent.model, "version": sent.version}
    found = yield from session.find(check_arguments(0, **names))
    source = found.inputs.by_name.get(OBSERVATION)
    if source is None or ACTION not in {port.name for port in found.outputs}:
        raise UsageError(
            "`act` needs a policy, with the input 'observation' and the output 'action'. "
            f"Received: model {found.name!r} with the inputs {', '.join(found.inputs.by_name)}"
        )
    is_single = sent.observation.ndim == len(source.shape)
    array = sent.observation[np.newaxis] if is_single else sent.observation
    outputs = yield from session.outputs(check_arguments(inputs={OBSERVATION: array}, **names))
    actions = outputs[ACTION]
    if not is_single:
        return actions
    return actions[0] if actions.ndim > 1 else int(actions[0])
