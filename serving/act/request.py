"""The checked `/v1/act` request: which model, which observations, by when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.acting import Policy
from serving.checks import flatten, is_finite
from serving.engine import LIGHT, SampleJob
from serving.errors import NotFiniteError, TooLargeError, short_repr
from serving.generate.rendering import json_ready
from serving.http_types import Response, json_response
from serving.limits import Settings


class ActRequest:
    """A request for actions.

    Args:
        served: version of the model, a policy.
        fields: the request's fields by name.
        now: arrival of the request, on the clock of `time.monotonic`.
        settings: settings of the server.

    Raises:
        UsageError: a field that is not allowed.
        TooLargeError: more observations than the server allows.
    """

    def __init__(self, served: Any, fields: dict[str, Any], now: float, settings: Settings):
        self.served = served
        policy: Policy = served.policy
        observation = policy.read(_from_json(policy, fields["observation"]))
        self._is_single = observation.ndim == len(policy.shape)
        self._source = policy.source.name
        self._array = observation[np.newaxis] if self._is_single else observation
        self.count = len(self._array)
        if self.count > settings.max_count:
            raise TooLargeError(
                f"A request may have at most {settings.max_count} observations (--max-count of "
                f"the server). Received: {self.count} observations"
            )
        self._deadline = now + settings.timeout_of(fields)

    @property
    def is_light(self) -> bool:
        """True if the answer takes little time to encode."""
        return self.count * self.served.sizes.values({}) <= LIGHT

    def job(self, first: int, last: int) -> SampleJob:
        """Returns the job of some of the observations, from `first` to before `last`."""
        given = {self._source: self._array[first:last]}
        job = SampleJob(last - first, None, given, deadline=self._deadline)
        job.engine = self.served.engine
        return job

    def respond(self, outputs: Sequence[np.ndarray]) -> Response:
        """Returns the response with all outputs by name.

        Raises:
            NotFiniteError: an output that is NaN or infinite.
        """
        served = self.served
        answer: dict[str, Any] = {
            "model": served.bundle.name,
            "version": served.version,
            "sha256": served.bundle.sha256,
        }
        for port, values in zip(served.bundle.outputs, outputs, strict=True):
            if not is_finite(values):
                raise NotFiniteError(
                    "The outputs of a policy must be finite numbers. "
                    f"Received: NaN or infinity in {port.name!r}"
                )
            rows = json_ready(values)
            answer[port.name] = rows[0] if self._is_single else rows
        return json_response(answer, headers=served.headers)


def _from_json(policy: Policy, value: Any) -> np.ndarray:
    """Returns an array of nested lists of numbers, among which no Boolean counts as one."""
    try:
        flat, shape = flatten(value, "f")
        return np.array(flat, np.float64).reshape(shape)
    except (TypeError, ValueError, OverflowError):
        raise policy.describe_wrong(f"observation={short_repr(value)}") from None
