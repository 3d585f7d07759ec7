"""The place of a new bundle: a folder of its own, or a version in a folder of versions."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

from export import versions
from export.errors import WriteError, writing
from export.manifest import FILE_NAME, Manifest
from export.staging import clean, move, staging
from keras_gan import UsageError
from serving.bundle_folder import is_bundle, is_run


class Target(Protocol):
    """The place of a new bundle."""

    @property
    def neighbor(self) -> Path:
        """Path beside which the bundle is written, on the same file system."""
        ...

    def check_name(self, name: str) -> None:
        """Checks that a model of this name may be written here."""
        ...

    def publish(self, folder: Path, name: str) -> Path:
        """Moves a complete bundle to its place and returns its path."""
        ...


def open_target(to: Path, overwrite: bool, version: int | Literal["next"] | None) -> Target:
    """Checks where a bundle is to be written, before anything is computed.

    Raises:
        UsageError: the target exists and may not be replaced, the options exclude each other, or
            TensorFlow cannot write to the path.
    """
    try:
        str(to).encode()
    except UnicodeEncodeError:
        raise UsageError(
            "The path of a bundle must be valid UTF-8, as TensorFlow writes to no other; choose "
            f"another with `to`. Received: to={str(to)!r}"
        ) from None
    if version is None:
        return FolderTarget(to, overwrite)
    if overwrite:
        raise UsageError(
            f"A version is never replaced. Received: overwrite=True, version={version!r}"
        )
    return VersionTarget(to, version)


class FolderTarget:
    """A folder that becomes the bundle.

    Args:
        to: the folder.
        overwrite: whether a bundle that exists there may be replaced.

    Raises:
        UsageError: the folder exists and may not be replaced, or holds more than a bundle.
    """

    def __init__(self, to: Path, overwrite: bool):
        self.neighbor = to
        self._overwrite = overwrite
        clean(to)
        _check_folder(to, overwrite)

    def check_name(self, name: str) -> None:
        """Accepts every name."""

    def publish(self, folder: Path, name: str) -> Path:
        """Moves a complete bundle to its place and returns its path."""
        move(folder, self.neighbor, self._overwrite)
        return self.neighbor


class VersionTarget:
    """A new version in a folder of versions.

    Args:
        folder: the folder of versions.
        version: a number, or `"next"`.
    """

    def __init__(self, folder: Path, version: int | Literal["next"]):
        self.neighbor = versions.stage_beside(folder)
        self._folder = folder
        self._version: int | Literal["next"] = version

    def check_name(self, name: str) -> None:
        """Checks that a model of this name may be added to the folder.

        Raises:
            UsageError: the version exists, or the folder holds something else.
        """
        versions.check_folder(self._folder, self._version, name)

    def publish(self, folder: Path, name: str) -> Path:
        """Moves a complete bundle to its place and returns its path."""
        return versions.publish(folder, self._folder, self._version, name)


@contextlib.contextmanager
def temporary_folder(target: Target) -> Iterator[Path]:
    """Creates the folder in which a bundle is written, and removes it on exit.

    Raises:
        UsageError: the disk is full or not writable.
    """
    with contextlib.ExitStack() as cleanup:
        with writing(target.neighbor):
            folder = cleanup.enter_context(staging(target.neighbor))
        try:
            yield folder
        except WriteError as error:  # names the target, not the file in the temporary folder
            with writing(target.neighbor):
                raise error.__cause__ or error from None


def _check_folder(to: Path, overwrite: bool) -> None:
    if not os.path.lexists(to):
        return
    if not overwrite:
        raise UsageError(_describe_present(to))
    if not to.is_dir() or to.is_symlink():
        raise UsageError(f"Only a folder can be overwritten. Received: {to}")
    try:
        present = {entry.name for entry in to.iterdir()}
    except OSError as error:
        raise UsageError(f"The target must be readable. Received: {to} ({error})") from error
    if present:
        _check_replaceable(to, present)


def _describe_present(to: Path) -> str:
    """Returns the error for a target that exists, with what can be done about it."""
    rule, replace = "The target must not exist", "or pass overwrite=True (--overwrite)"
    if versions.numbers(to):
        hint = "which holds versions: pass version='next' (--version next) to add one"
        return f"{rule}, {replace}. Received: {to}, {hint}"
    if is_run(to):
        return f"{rule}. Received: {to}, a run, whose bundle is {to / 'bundle'} by default"
    if not to.is_dir():
        return f"{rule}. Received: {to}, which is a file"
    if is_bundle(to) or not any(to.iterdir()):
        return f"{rule}, {replace}. Received: {to}"
    return f"{rule}. Received: {to}, a folder that is not a bundle"


def _check_replaceable(to: Path, present: set[str]) -> None:
    """Checks that a folder holds one bundle and nothing else."""
    rule = f"Only a bundle or an empty folder can be overwritten. Received: {to}"
    try:
        known = {name.split("/")[0] for name in Manifest.load(to).files}
    except UsageError as error:
        raise UsageError(f"{rule} ({error})") from None
    if foreign := sorted(present - known - {FILE_NAME}):
        raise UsageError(f"{rule}, which also holds {foreign[0]}")
