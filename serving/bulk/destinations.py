"""Destinations of shards: a local folder, or a URL through fsspec."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from serving.errors import UsageError, one_line

INDEX = "index.json"
# Names that `Destination.writing` uses, which no file of somebody else has.
_TEMPORARY = re.compile(r"\..+\.(?:tar|npz|tfrecord-\d+-of-\d+|json|txt)\.\d+\.part")


def is_temporary(name: str) -> bool:
    """Checks whether a file name is that of a file that an interrupted run left incomplete."""
    return _TEMPORARY.fullmatch(name) is not None


class Destination:
    """A folder that shards are written to.

    Args:
        path: of the folder, which is created if it does not exist.
    """

    def __init__(self, path: str):
        self.path = Path(os.path.abspath(path))

    def __str__(self) -> str:
        return str(self.path)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps out a second run, whose temporary files this one would remove.

        Raises:
            UsageError: another run holds the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if sys.platform == "win32":
            yield
            return
        import fcntl

        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UsageError(
                    f"Only one run at a time may write into a folder. Received: {self}"
                ) from error
            except OSError:
                pass  # a file system without locks
            yield
        finally:
            os.close(handle)

    def sizes(self) -> dict[str, int]:
        """Returns the size of each file by its name."""
        with os.scandir(self.path) as entries:
            return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in entries}

    def clean(self, names: Iterable[str]) -> None:
        """Removes the incomplete files of an interrupted run."""
        for name in names:
            if is_temporary(name):
                (self.path / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Provides a temporary file, which is renamed if the block succeeds."""
        temporary = self.path / f".{name}.{os.getpid()}.part"
        try:
            yield temporary
            os.replace(temporary, self.path / name)
        finally:
            temporary.unlink(missing_ok=True)

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file; it is complete or remains what it was."""
        with self.writing(name) as path, path.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def read_index(self) -> Any:
        """Returns the content of `index.json`; `None` without a file, {} if damaged."""
        try:
            return json.loads((self.path / INDEX).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}


class RemoteDestination(Destination):
    """A folder of a file system that fsspec knows.

    A shard is written to a local temporary file and uploaded when it is complete.

    Args:
        url: such as `s3://bucket/folder`.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self._connect()

    def _connect(self) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise UsageError(
                "--out with a URL needs fsspec: pip install 'keras-gan[bulk]'. "
                f"Received: --out {self.url}"
            ) from error
        try:
            self._files, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError, OSError) as error:
            reason = one_line(error)
            raise UsageError(
                "--out with a URL needs the file system's package for fsspec, such as s3fs for "
                f"s3://. Received: --out {self.url} ({reason})"
            ) from error

    def __str__(self) -> str:
        return self.url

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url}  # each process opens its own connection

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.url = state["url"]
        self._connect()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with self._translated_errors():
            self._files.makedirs(self._root, exist_ok=True)
        yield

    def sizes(self) -> dict[str, int]:
        found: list[Any] = []
        # Object stores have no empty folders: a missing one holds no files.
        with self._translated_errors(), contextlib.suppress(FileNotFoundError):
            self._files.invalidate_cache()
            found = self._files.ls(self._root, detail=True)
        entries = ((entry["name"].rstrip("/").rpartition("/")[2], entry) for entry in found)
        return {name: int(entry.get("size") or 0) for name, entry in entries if name}

    def clean(self, names: Iterable[str]) -> None:
        pass  # files are uploaded whole, so that an interrupted run leaves no parts

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            yield path
            with self._translated_errors():
                self._files.put_file(str(path), f"{self._root}/{name}")

    def read_index(self) -> Any:
        try:
            with self._translated_errors():
                return json.loads(self._files.cat_file(f"{self._root}/{INDEX}"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            if isinstance(error, UsageError):
                raise
            return {}

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turns the file systems' own exceptions into errors of one line."""
        try:
            yield
        except (OSError, ValueError):
            raise
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UsageError(f"The output must be writable. Received: {self} ({reason})") from error


def open_destination(out: str) -> Destination:
    """Opens a folder or a URL.

    Raises:
        UsageError: a URL without fsspec or its file system, a file where the folder should be.
    """
    if re.match(r"[a-z][a-z0-9+.-]*://", out):
        return RemoteDestination(out)
    if os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"--out must name a folder. Received: --out {out}")
    return Destination(out)
