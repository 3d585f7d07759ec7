"""Errors of writing a bundle's files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from keras_gan import UsageError
from keras_gan.errors import one_line


class WriteError(UsageError):
    """A file of a bundle that could not be written."""


@contextlib.contextmanager
def writing(
    target: object, errors: tuple[type[Exception], ...] = (OSError, tf.errors.OpError)
) -> Iterator[None]:
    """Reports that a file cannot be written; wraps the writing and nothing else.

    Args:
        target: the file or the folder.
        errors: errors of writing; TensorFlow, which writes files of its own, raises its own class.

    Raises:
        WriteError: the disk is full or not writable.
    """
    try:
        yield
    except errors as error:
        raise WriteError(
            f"The target must be writable, with room for a bundle. Received: {target} "
            f"({one_line(error)})"
        ) from error
