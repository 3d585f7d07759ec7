"""Pictures to try a translator with: the files `examples/N.png` of its bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.errors import UsageError

FOLDER = "examples"
MAX_EXAMPLES = 16
MAX_BYTES = 4 * 2**20  # of a file
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read_examples(bundle: Path, manifest: Mapping[str, Any]) -> list[bytes]:
    """Returns the examples of a bundle as PNG files; none unless it is a translator.

    Args:
        bundle: folder of the bundle.
        manifest: its checked manifest.

    Raises:
        UsageError: a file is missing, too large, or not the one that the manifest names.
    """
    if manifest.get("translation") is None:
        return []
    found: list[bytes] = []
    for number in range(MAX_EXAMPLES):
        facts = manifest["files"].get(f"{FOLDER}/{number}.png")
        if facts is None:
            break
        path = bundle / FOLDER / f"{number}.png"
        content = b""
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            content = path.read_bytes()
        is_named = hashlib.sha256(content).hexdigest() == facts["sha256"]
        if not is_named or not content.startswith(_SIGNATURE):
            raise UsageError(
                f"An example must be the PNG file, of at most {MAX_BYTES} bytes, that "
                f"manifest.json names; the bundle was changed. Received: {str(path)!r}"
            )
        found.append(content)
    return found
