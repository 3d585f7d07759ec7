"""`/v1/act`: an observation, or several, to the actions of a policy.

An observation is a job of the model's queue like the samples of any other request, so those of many
environments share batches. A lone client of a small policy is answered in the event loop itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from serving.act.fields import FIELDS, read_fields
from serving.act.request import ActRequest
from serving.engine import even
from serving.http_types import Request, Response
from serving.picture_requests import find

__all__ = ["FIELDS", "start"]

_NONE = "none, since the server has no policy"


def start(app: Any, request: Request) -> Any:
    """Handles `/v1/act`; returns a job, or a coroutine for more observations than a batch holds.

    Raises:
        UsageError: a field or an observation that is not allowed.
        HTTPError: a body that is not JSON, or an unknown model.
    """
    fields = read_fields(request)
    served = request.served = find(app, fields, lambda each: each.policy is not None, _NONE)
    wanted = ActRequest(served, fields, request.start, app.settings)
    if wanted.count <= served.engine.max_batch:
        job = wanted.job(0, wanted.count)
        job.encode = lambda job, outputs: wanted.respond(outputs)
        job.is_light = wanted.is_light
        return job
    return _answer(wanted)


async def _answer(wanted: ActRequest) -> Response:
    """Returns the response of several batches, of which one is queued at a time."""
    engine = wanted.served.engine
    step = even(wanted.count, engine.max_batch)
    parts: list[list[np.ndarray]] = []
    wanted.served.users += 1
    try:
        for first in range(0, wanted.count, step):
            job = wanted.job(first, min(first + step, wanted.count))
            parts.append(await engine.run(job, part=first > 0))
    finally:
        wanted.served.users -= 1
    outputs = [np.concatenate(rows) for rows in zip(*parts, strict=True)]
    return await asyncio.get_running_loop().run_in_executor(None, wanted.respond, outputs)
