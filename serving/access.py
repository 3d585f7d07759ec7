"""Access control: bearer tokens, the Host header, origins of web pages."""

from __future__ import annotations

import hmac
from pathlib import Path

from serving.errors import UsageError, short_repr
from serving.http_types import HTTPError
from serving.limits import is_loopback

_MIN_TOKEN = 16  # characters
_MAX_KNOWN_HOSTS = 100


class AccessControl:
    """Rules that decide which requests are answered.

    Args:
        tokens: file of bearer tokens, or `None` to require none.
        local_only: accept only a `Host` header that names this machine, or one of `hosts`.
        hosts: further names that `Host` may have.
        cors: origins whose pages may send requests, `*` for all.

    Raises:
        UsageError: a file of tokens that cannot be used.
    """

    def __init__(
        self,
        tokens: str | None,
        local_only: bool,
        hosts: tuple[str, ...] = (),
        cors: tuple[str, ...] = (),
    ):
        self.tokens = Tokens(tokens) if tokens else None
        self.cors = cors
        self._local_only = local_only
        self._hosts = frozenset(host.lower() for host in hosts)
        self._known_hosts: set[bytes] = set()  # cached values of Host that are accepted

    def check_host(self, headers: dict[bytes, bytes]) -> None:
        """Checks the `Host` header of a server that listens on this machine only.

        A web page can make a name of its own resolve to this machine (DNS rebinding); its requests
        carry that name.

        Raises:
            HTTPError: 403 for another host.
        """
        if not self._local_only:
            return
        host = headers.get(b"host", b"localhost")
        if host not in self._known_hosts and not self._is_own(host):
            name = split_host(host.decode("latin-1").lower())
            raise HTTPError(
                403,
                "The host must be this machine, or one that --trusted-host names. "
                f"Received: host={short_repr(name)}",
            )

    def check_origin(self, headers: dict[bytes, bytes], method: str = "GET") -> None:
        """Checks the `Origin` header, which browsers add to requests of web pages.

        A page of another site may POST text/plain and forms without asking the server first; such
        a request is recognized here, not by its content type. `Sec-Fetch-Site` says the same of a
        request whose Origin something has removed.

        Raises:
            HTTPError: 403 for another origin than this server's and those of `cors`.
        """
        origin = headers.get(b"origin")
        if origin is None:
            if method == "POST":
                self._check_site(headers.get(b"sec-fetch-site", b"none").lower())
            return
        is_own = origin.rpartition(b"//")[2].lower() == headers.get(b"host", b"").lower()
        if not is_own and not self.allows_origin(origin):
            raise HTTPError(
                403,
                "Pages of other origins may not send requests; see --cors. "
                f"Received: origin={short_repr(origin.decode('latin-1'))}",
            )

    def _check_site(self, site: bytes) -> None:
        if site not in (b"same-origin", b"none") and "*" not in self.cors:
            raise HTTPError(
                403,
                "Pages of other origins may not send requests; see --cors. "
                f"Received: sec-fetch-site={short_repr(site.decode('latin-1'))}",
            )

    def check_token(self, headers: dict[bytes, bytes]) -> None:
        """Checks the bearer token, if the server requires one.

        Raises:
            HTTPError: 401 without a valid token. The error does not quote the token.
        """
        if self.tokens is None or self.tokens.allow(headers.get(b"authorization")):
            return
        received = "no token" if b"authorization" not in headers else "an unknown token"
        raise HTTPError(
            401,
            f"The header Authorization: Bearer TOKEN must hold a token. Received: {received}",
            b"www-authenticate: Bearer\r\n",
        )

    def allows_origin(self, origin: bytes) -> bool:
        """Returns True if pages of another origin may send requests."""
        return "*" in self.cors or origin.decode("latin-1") in self.cors

    def _is_own(self, host: bytes) -> bool:
        name = split_host(host.decode("latin-1").lower())
        is_own = name in self._hosts or is_loopback(name)
        if is_own and len(self._known_hosts) < _MAX_KNOWN_HOSTS:
            self._known_hosts.add(host)
        return is_own


class Tokens:
    """Bearer tokens from a file with one per line; empty lines and those with # are comments.

    Args:
        path: path of the file.

    Raises:
        UsageError: the file cannot be read, has no token, or has one that no header can carry.
    """

    def __init__(self, path: str | Path):
        self._path = Path(path)
        self._tokens = self._read()
        self._stamp = self._stat()

    def __len__(self) -> int:
        return len(self._tokens)

    def allow(self, authorization: bytes | None) -> bool:
        """Returns True if the value of an Authorization header holds a valid token.

        Compares with every token, each in constant time, so that the response time reveals
        nothing about them.
        """
        scheme, _, given = (authorization or b"").strip().partition(b" ")
        given = given.strip()
        found = False
        for token in self._tokens:
            found |= hmac.compare_digest(given, token)
        return found and scheme.lower() == b"bearer"

    def refresh(self) -> None:
        """Reads the file again if it has changed.

        Raises:
            UsageError: the new content is not valid; the old tokens stay in use.
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
                "The file of tokens must hold at least one, each on a line of its own. "
                f"Received: {str(self._path)!r} with 0 tokens"
            )
        for number, token in enumerate(tokens, 1):
            if not all(0x21 <= byte <= 0x7E for byte in token) or len(token) < _MIN_TOKEN:
                raise UsageError(
                    f"A token must be {_MIN_TOKEN} or more printable ASCII characters without "
                    "spaces, as `openssl rand -hex 32` writes. "
                    f"Received: {str(self._path)!r}, whose token {number} is not"
                )
        return tuple(tokens)


def split_host(value: str) -> str:
    """Returns the host of a `Host` header or of an origin, without its port."""
    value = value.rpartition("//")[2]
    if value.startswith("["):
        return value.partition("]")[0] + "]"
    return value.partition(":")[0]
