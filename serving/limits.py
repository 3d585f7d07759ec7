"""Settings of a server: what it serves, to whom, and its limits."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from serving import processor
from serving.errors import UsageError
from serving.lists import parse_list

MIB = 2**20
_DEVICES = ("auto", "cpu", "cuda", "tensorrt")


@dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Args:
        paths: bundles, run folders, folders of versions, or folders of any of these.
        host: address to listen on.
        port: port to listen on, 0 for a free one.
        workers: number of single-threaded sessions; by default one for each CPU.
        max_batch: maximum samples in a batch.
        queue: maximum samples that wait for a worker; more are answered 503.
        tokens: file of bearer tokens, one on each line.
        max_count: maximum samples in a response that is not streamed.
        max_stream: maximum samples in a stream.
        max_values: maximum numbers in a response that is not streamed.
        max_pixels: maximum pixels of a translation; pictures whose translation has more are
            answered 413. The default is 2 megapixels at four times their height and width.
        max_body: maximum bytes of a request's body.
        max_requests: maximum concurrent requests; more are answered 503.
        max_connections: maximum connections; more are answered 503 and closed.
        header_seconds: timeout for receiving the request line and the headers.
        body_seconds: timeout for receiving the body and for a stalled response.
        idle_seconds: timeout of an idle connection.
        timeout: seconds until a request is answered 504; requests may set a shorter time.
        drain_seconds: time that running requests have to finish after SIGTERM.
        poll_seconds: interval at which the folders are checked for changes.
        versions: number of versions of each model to serve, the newest ones.
        device: `"auto"`, `"cpu"`, `"cuda"` or `"tensorrt"`.
        precision: `"float32"`, `"float16"` or `"int8"`, for every bundle.
        log_format: `"text"` or `"json"`.
        access_log: log every request, instead of failed ones only.
        cors: origins whose pages may send requests, `*` for all.
        hosts: values of `Host` accepted besides this machine's names, if the server listens on
            the loopback address.

    Raises:
        UsageError: a value that is not allowed.
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
    max_pixels: int = 2**25
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
            object.__setattr__(self, "workers", processor.cpus())
        for name in _POSITIVE:
            value = getattr(self, name)
            if not value > 0:
                raise UsageError(f"`{name}` must be above 0. Received: {name}={value}")
        # An unset variable in a shell gives an empty path: it must not open the server to all.
        if self.tokens == "":
            raise UsageError("`tokens` must name a file. Received: tokens=''")
        if not 0 <= self.port < 2**16:
            raise UsageError(f"`port` must be 0 to 65535. Received: port={self.port}")
        if self.log_format not in ("text", "json"):
            raise UsageError(
                f"`log_format` must be text or json. Received: log_format={self.log_format!r}"
            )
        if self.device not in _DEVICES:
            raise UsageError(
                f"`device` must be {', '.join(_DEVICES[:-1])} or {_DEVICES[-1]}. "
                f"Received: device={self.device!r}"
            )

    @property
    def is_local(self) -> bool:
        """True if the server listens on this machine's loopback address."""
        return is_loopback(self.host)


_POSITIVE = ("max_batch", "queue", "max_count", "max_stream", "max_values", "max_body", "versions")
_POSITIVE += ("max_requests", "max_connections", "header_seconds", "body_seconds", "idle_seconds")
_POSITIVE += ("timeout", "drain_seconds", "poll_seconds", "workers", "max_pixels")


def is_loopback(host: str) -> bool:
    """Returns True if a name or address means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def names(values: Sequence[str] | None) -> tuple[str, ...]:
    """Splits the values of a repeatable option, each of which may list several with commas."""
    return tuple(x for value in values or () for x in parse_list(value) if x)
