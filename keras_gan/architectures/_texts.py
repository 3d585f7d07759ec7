"""Common parts of the architectures for text: checks, and the end of a text."""

from __future__ import annotations

from keras_gan.errors import UsageError
from keras_gan.spec import Spec


def check_texts(spec: Spec, family: str) -> tuple[int, int]:
    """Returns the length of the texts and the size of their vocabulary.

    Args:
        spec: description of the samples.
        family: name of the architecture, for errors.

    Raises:
        UsageError: samples other than weights of tokens `(time, vocabulary)` of a fixed length.
    """
    if not spec.modality.has_tokens or len(spec.shape) != 2 or None in spec.shape:
        raise UsageError(
            f"The architecture {family!r} is for texts of one length, weights of their tokens "
            f"(time, vocabulary). Received: kind={spec.kind!r}, shape={spec.shape}"
        )
    length, vocabulary = spec.shape
    return int(length or 0), int(vocabulary or 0)


def has_end(spec: Spec) -> bool:
    """Returns whether token 0 is the end of a text: the empty token."""
    tokens = spec.samples.meta.get("vocabulary") or ()
    return bool(tokens) and tokens[0] == ""
