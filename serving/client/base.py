"""Constructor of both clients."""

from __future__ import annotations

from pathlib import Path

from serving.client.endpoint import Endpoint, Retries
from serving.client.session import PROTOCOLS, Session
from serving.errors import UsageError
from serving.manifest import read_manifest

IDLE_CONNECTIONS = 16  # kept open


class ClientBase:
    """Address, retries and session of a client, whose documentation lists the arguments."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = 60.0,
        *,
        retries: int = 6,
        protocol: str | None = None,
        bundle: str | Path | None = None,
        batch_size: int = 64,
    ):
        self.endpoint = Endpoint.parse(url, token)
        if protocol not in (None, *PROTOCOLS):
            raise UsageError(
                f"`protocol` must be one of {', '.join(PROTOCOLS)}. Received: protocol={protocol!r}"
            )
        if not timeout > 0 or retries < 0 or batch_size < 1:
            raise UsageError(
                "`timeout` must be above 0, `retries` at least 0 and `batch_size` at least 1. "
                f"Received: timeout={timeout!r}, retries={retries!r}, batch_size={batch_size!r}"
            )
        manifest = None if bundle is None else read_manifest(Path(bundle))
        self.retries = Retries(url, timeout, retries)
        self.session = Session(self.endpoint, protocol, manifest, batch_size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """URL of the server, as it was passed."""
        return self.endpoint.url

    @property
    def timeout(self) -> float:
        """Seconds for a request, repeats and waits included."""
        return self.retries.timeout

    @property
    def batch_size(self) -> int:
        """Samples of one request."""
        return self.session.batch_size
