"""Fields of a `/v1/vocode` request."""

from __future__ import annotations

from typing import Any

from serving.generate.fields import FIELDS as GENERATE_FIELDS
from serving.vocoding import MAX_FRAMES

# JSON schema by field name. The OpenAPI document is generated from these.
FIELDS: dict[str, dict[str, Any]] = {
    "model": {"type": "string", "description": "Optional if the server has one vocoder."},
    "version": GENERATE_FIELDS["version"],
    "resample": {
        "type": "boolean",
        "description": "Resamples a sound of another sampling rate than the model's; otherwise the "
        "request is refused (422). Default false.",
    },
    "stream": {
        "type": "boolean",
        "description": "Sends the sound as it is computed, after a WAV header of unknown length. "
        "Default false.",
    },
    "chunk": {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_FRAMES,
        "description": "Frames of each part of a stream; the sound is the same. Default: 0.2 s.",
    },
    "timeout": GENERATE_FIELDS["timeout"],
}
