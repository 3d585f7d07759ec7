"""The checked `/v1/translate` request: model, tiles, seed, format and deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from serving import provenance, translation, uploads
from serving.checks import check_integer
from serving.engine import SampleJob
from serving.errors import UsageError, short_repr
from serving.http_types import Request, Response, notes_header
from serving.kinds.image import STORED
from serving.limits import Settings
from serving.translate.fields import FORMATS, MIN_TILE, preferred_format

_MAX_UNTILED = 2**18  # input pixels that one worker runs in one piece, where tiles are possible


class TranslateRequest:
    """A request to translate a picture.

    Args:
        served: version of the model, a translator.
        fields: the request's fields by name.
        request: the request.
        settings: settings of the server.

    Raises:
        UsageError: a field that is not allowed.
    """

    def __init__(self, served: Any, fields: dict[str, Any], request: Request, settings: Settings):
        self.served = served
        self.facts = served.translation
        self.bundle = served.bundle
        self._scale = int(self.facts["scale"])
        # Of the picture that was sent; the setting is of its translation.
        self.max_pixels = max(1, settings.max_pixels // self._scale**2)
        self._reason = ""
        if self._scale > 1:
            self._reason = (
                f", since its translation has {self._scale}x{self._scale} times as many and must "
                f"have at most {settings.max_pixels} (--max-pixels of the server)"
            )
        self.format = self._read_format(fields.get("format"), request)
        self.tile = self._read_tile(fields.get("tile"))
        seed = self.bundle.inputs.check_seed(fields.get("seed"))
        self._seeds = np.array([seed]) if self.bundle.inputs.seeded else None
        self.deadline = request.start + settings.timeout_of(fields)
        self._source = self.bundle.inputs.by_name[self.facts["input"]]
        names = [port.name for port in self.bundle.outputs]
        self._index = names.index(self.facts["output"])
        self._target = self.bundle.outputs[self._index]

    def _read_format(self, given: Any, request: Request) -> str:
        if given is None:
            return preferred_format(request.headers.get(b"accept"))
        if given not in FORMATS:
            raise UsageError(
                f"`format` must be one of {', '.join(FORMATS)}. "
                f"Received: format={short_repr(given)}"
            )
        return given

    def _read_tile(self, given: Any) -> int | None:
        """Returns the height and width of tiles, 0 for the whole picture, `None` for either."""
        if given is None:
            return None
        tile = check_integer("tile", given, 0, 2**14)
        if 0 < tile < MIN_TILE:
            raise UsageError(
                f"`tile` must be 0, for the whole picture, or at least {MIN_TILE} pixels. "
                f"Received: tile={tile}"
            )
        return tile

    def read(self, content: bytes) -> translation.Translation:
        """Decodes the picture and plans its tiles; takes time for a large one.

        Args:
            content: the file that was sent.

        Raises:
            UsageError: no picture, or one that is damaged.
            TooLargeError: a picture of too many pixels.
        """
        limits = self._source.meta.get(STORED)
        picture = uploads.read(content, self.max_pixels, limits, self._reason)
        height, width = (size * self._scale for size in picture.pixels.shape[:2])
        uploads.check_extent(height, width, self.format)
        return translation.Translation(
            self.facts, self._source, self._target, picture, self._choose_tile(picture)
        )

    def _choose_tile(self, picture: uploads.Picture) -> Any:
        if self.tile is not None:
            return self.tile or None
        height, width = picture.pixels.shape[:2]
        if not self.facts["tileable"] or height * width <= _MAX_UNTILED:
            return None
        # In tiles, all workers take part, and other requests get their turn in between.
        return translation.usual_tile(self.facts)

    def job(self, array: np.ndarray, use: Callable[[np.ndarray], Any]) -> SampleJob:
        """Returns the job that translates one tile.

        Args:
            array: the tile, `(1, height, width, channels)`.
            use: called in the worker with the output; returns the job's result.
        """
        given = {self._source.name: array}
        job = SampleJob(1, self._seeds, given, deadline=self.deadline)
        job.sizes = tuple(self.bundle.inputs.check_sizes(given).items())
        job.encode = lambda job, outputs: use(outputs[self._index])
        return job

    def respond(self, picture: uploads.Picture) -> Response:
        """Returns the response with the translated picture; takes time for a large one."""
        seed = None if self._seeds is None else int(self._seeds[0])
        texts = provenance.edited(self.bundle.name, self.bundle.sha256, seed)
        content = uploads.write(picture.pixels, picture.alpha, picture.gray, self.format, texts)
        headers = self.served.headers + notes_header(picture.notes)
        return Response(200, content, FORMATS[self.format], headers)
