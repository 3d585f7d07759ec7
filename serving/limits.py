"""The settings of a server: what it serves, to whom, and how much of it."""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.errors import UsageError

MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """What a server is told.

    Args:
        paths: folders of bundles, of runs, of versions, or of several of these.
        host: address to listen on.
        port: port to listen on, 0 for one that is free.
        workers: sessions of one thread that run at the same time; by default one for each CPU.
        max_batch: most samples in a batch.
        queue: most samples that wait; beyond, 503.
        tokens: file of bearer tokens, one a line.
        max_count: most samples in an answer that is not streamed.
        max_stream: most samples in a stream.
        max_values: most numbers in an answer that is not streamed.
        max_body: most bytes of a request's body.
        max_requests: most requests at the same time; beyond, 503.
        max_connections: most connections; beyond, 503 and an end.
        header_seconds: a request's line and headers must be there by then.
        body_seconds: the rest of it must, and an answer must move on.
        idle_seconds: an idle connection is closed after these.
        timeout: seconds after which a request is given up, 504, unless it asks for less.
        drain_seconds: what is under way at a SIGTERM has these to end.
        poll_seconds: how often the folders are looked at.
        versions: newest versions of a model that are served.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"tensorrt"`.
        precision: `"float32"`, `"float16"` or `"int8"`, of every bundle.
        log_format: `"text"` or `"json"`.
        access_log: whether each request is logged, or only those that fail.
        cors: origins whose pages may ask, `*` for all.
        hosts: names in `Host` that are answered besides loopback's, where it listens on that.
    """

    paths: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 0
    max_batch: int = 16
    queue: int = 512
    tokens: str | None = None
    max_count: int = 1024
    max_stream: int = 100_000
    max_values: int = 2**24
    max_body: int = 8 * MIB
    max_requests: int = 1024
    max_connections: int = 2048
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 75.0
    timeout: float = 30.0
    drain_seconds: float = 30.0
    poll_seconds: float = 1.0
    versions: int = 3
    device: str = "auto"
    precision: str = "float32"
    log_format: str = "text"
    access_log: bool = True
    cors: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.workers:
            object.__setattr__(self, "workers", cpus())
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be above 0. Received: {name}={getattr(self, name)}")
        if self.tokens == "":  # as of a variable that is not set: not open to all
            raise UsageError("tokens must name a file. Received: tokens=''")
        if not 0 <= self.port < 2**16:
            raise UsageError(f"port must be 0 to 65535. Received: port={self.port}")
        if self.log_format not in ("text", "json"):
            raise UsageError(
                f"log_format must be text or json. Received: log_format={self.log_format!r}"
            )
        if self.device not in ("auto", "cpu", "cuda", "tensorrt"):
            raise UsageError(
                f"device must be auto, cpu, cuda or tensorrt. Received: device={self.device!r}"
            )

    @property
    def is_local(self) -> bool:
        """Whether it listens to this machine alone."""
        return is_loopback(self.host)


_POSITIVE = ("max_batch", "queue", "max_count", "max_stream", "max_values", "max_body", "versions")
_POSITIVE += ("max_requests", "max_connections", "header_seconds", "body_seconds", "idle_seconds")
_POSITIVE += ("timeout", "drain_seconds", "poll_seconds", "workers")


def cpus() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Tokens:
    """Bearer tokens from a file, one a line; empty lines and those that start with # do not count.

    Args:
        path: of the file; it is read again when it has changed.

    Raises:
        UsageError: no such file, no token in it, or one that no header can carry.
    """

    def __init__(self, path: str | Path):
        self._path = Path(path)
        self._tokens = self._read()
        self._stamp = self._stat()

    def __len__(self) -> int:
        return len(self._tokens)

    def allow(self, authorization: bytes | None) -> bool:
        """Whether the value of an Authorization header holds a token.

        Compares with every token, each in a time that does not tell where it differs.
        """
        kind, _, given = (authorization or b"").strip().partition(b" ")
        given = given.strip()
        found = False
        for token in self._tokens:
            found |= hmac.compare_digest(given, token)
        return found and kind.lower() == b"bearer"

    def refresh(self) -> None:
        """Reads the file again if it has changed.

        Raises:
            UsageError: what it holds now are no tokens; the old ones stay.
        """
        stamp = self._stat()
        if stamp != self._stamp:
            self._stamp = stamp
            self._tokens = self._read()

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> tuple[bytes, ...]:
        try:
            lines = self._path.read_bytes().splitlines()
        except OSError as error:
            raise UsageError(
                f"The file of tokens must be readable. Received: {str(self._path)!r} "
                f"({error.strerror})"
            ) from error
        tokens = [line.strip() for line in lines]
        tokens = [token for token in tokens if token and not token.startswith(b"#")]
        if not tokens:
            raise UsageError(
                f"The file of tokens must hold one a line. Received: {str(self._path)!r}, "
                "which holds none"
            )
        for number, token in enumerate(tokens, 1):
            if not all(0x21 <= byte <= 0x7E for byte in token) or len(token) < 16:
                raise UsageError(
                    "A token must be 16 or more plain characters without spaces, as of "
                    f"`openssl rand -hex 32`. Received: {str(self._path)!r}, token {number} is not"
                )
        return tuple(tokens)


def split_host(value: str) -> str:
    """The host of a `Host` header or of an origin, without its port."""
    value = value.rpartition("//")[2]
    if value.startswith("["):
        return value.partition("]")[0] + "]"
    return value.partition(":")[0]


def names(values: Sequence[str] | None) -> tuple[str, ...]:
    """Splits what was given once or often, with commas or without."""
    return tuple(x.strip() for value in values or () for x in value.split(",") if x.strip())
