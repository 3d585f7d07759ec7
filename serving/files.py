"""Static files of the page in `serving/page/`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from serving.http_types import HTTPError, Request, Response

FOLDER = Path(__file__).parent / "page"
POLICY = (
    b"content-security-policy: default-src 'self'; img-src 'self' blob: data:; "
    b"media-src 'self' blob:; "
    b"object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
)
_CONTENT_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".ico": b"image/x-icon",
    ".json": b"application/json",
    ".webmanifest": b"application/manifest+json",
    ".woff2": b"font/woff2",
    ".txt": b"text/plain; charset=utf-8",
}
_cache: dict[Path, tuple[tuple[int, int], bytes, bytes]] = {}


def index(app: Any, request: Request) -> Response:
    """Handles `/`."""
    return file(app, request, "index.html")


def file(app: Any, request: Request, file: str) -> Response:
    """Handles `/page/...`."""
    parts = file.split("/")
    path = FOLDER.joinpath(*parts)
    # Plain names only: hidden files and paths that leave the folder must not be served.
    plain = all(
        p
        and p[0] != "."
        and p.replace("-", "").replace("_", "").replace(".", "").isalnum()
        and p.isascii()
        for p in parts
    )
    content_type = _CONTENT_TYPES.get(path.suffix)
    if not plain or content_type is None or not path.is_file():
        raise HTTPError(
            404, f"The path must name a file of the page. Received: {'/page/' + file!r:.200}"
        )
    content, tag = _read(path)
    head = POLICY + b'cache-control: no-cache\r\netag: "%b"\r\n' % tag
    if tag in request.headers.get(b"if-none-match", b""):
        return Response(304, b"", content_type, head)
    return Response(200, content, content_type, head)


def _read(path: Path) -> tuple[bytes, bytes]:
    """Returns the content and the ETag of a file, cached until the file changes."""
    status = path.stat()
    stamp = (status.st_mtime_ns, status.st_size)
    known = _cache.get(path)
    if known is None or known[0] != stamp:
        content = path.read_bytes()
        tag = hashlib.sha256(content).hexdigest()[:32].encode()
        known = _cache[path] = (stamp, content, tag)
    return known[1], known[2]
