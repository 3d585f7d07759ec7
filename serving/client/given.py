"""Given inputs of a client's call: arrays, and files that are sent as they are."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from serving import kinds
from serving.errors import UsageError, short_repr
from serving.inputs import Inputs, Port, check_array, decode_given


@dataclasses.dataclass(frozen=True)
class GivenFile:
    """File of one sample of an input.

    Args:
        content: the file.
        name: its name, whose ending says the format; empty if only the content is known.
    """

    content: bytes
    name: str = ""

    def media_type(self, port: Port) -> str:
        """Returns the Content-Type of the file, by its ending or else by its content.

        Raises:
            UsageError: a file that the kind of the input does not have.
        """
        formats = kinds.get(port.kind).all_formats().values()
        readable = [form for form in formats if form.decode]
        if self.name:
            form = kinds.get(port.kind).format_of_file(self.name)
            if form is None or form.decode is None:
                raise UsageError(
                    f"The input {port.name!r}, of kind {port.kind!r}, takes files of "
                    f"{', '.join(form.name for form in readable)}. Received: {self.name!r}"
                )
            return form.media_type
        errors: list[UsageError] = []
        for form in readable:
            try:
                if form.decode:
                    form.decode(self.content, port.sizes, port.meta)
            except UsageError as error:
                errors.append(error)
            else:
                return form.media_type
        raise errors[0]

    def decode(self, port: Port) -> np.ndarray:
        """Decodes the file, `(1, ...)`."""
        return decode_given(port, self.content, self.media_type(port))


def read_value(name: str, value: Any) -> np.ndarray | GivenFile:
    """Returns a given value as an array or as a file.

    Args:
        name: of the input.
        value: array `(batch, ...)`, nested lists, the path of a file, or its bytes.

    Raises:
        UsageError: a file that cannot be read, or values that are not numbers.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return GivenFile(bytes(value))
    if isinstance(value, str | os.PathLike):
        path = Path(value)
        try:
            return GivenFile(path.read_bytes(), path.name)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(
                f"The input {name!r} must be an array or a file. "
                f"Received: {name}={short_repr(str(path))} ({reason})"
            ) from error
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty((), object)
    if array.dtype.kind not in "fiub" or not array.ndim or not len(array):
        raise UsageError(
            f"The input {name!r} must be an array of numbers (batch, ...) or a file. "
            f"Received: {name}={short_repr(value)}"
        )
    return array


def decode_files(
    inputs: Inputs, given: Mapping[str, np.ndarray | GivenFile]
) -> dict[str, np.ndarray]:
    """Returns all given values as arrays in the dtype and the range of their inputs."""
    found = {}
    for name, value in given.items():
        port = find_port(inputs, name)
        is_file = isinstance(value, GivenFile)
        found[name] = value.decode(port) if is_file else check_array(port, value)
    return found


def find_port(inputs: Inputs, name: str) -> Port:
    """Returns the input of a name.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in inputs.by_name:
        valid = ", ".join(inputs.by_name) or "none"
        raise UsageError(f"The inputs are {valid}. Received: {short_repr(name)}")
    return inputs.by_name[name]
