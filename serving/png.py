"""Fast PNG encoder: one filter, run-length matches, threads.

Pillow tries five filters on every row, which takes longer than a small network runs. Here every row
has the filter Up, which numpy computes for the whole picture, and zlib looks for runs only. On
photographs and grids of samples that takes a quarter of the time or less, for files of about equal
size. Large pictures are compressed in pieces, each in a thread of its own.

Reference:
    https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from serving import processor
from serving.provenance import XMP_KEY

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels: gray, gray and alpha, RGB, RGBA
_UP = 2  # filter: each byte minus the one above it
# Least bytes of a piece that a thread compresses. 256 x 256 x 3 is one: handing smaller pieces over
# and waiting for the interpreter lock takes as long as compressing them.
_PIECE = 2**18
_MOST_PIECES = 4  # whatever the machine, so that a picture has the same file everywhere
_ZLIB = b"\x78\x01"  # how a zlib stream of the fastest compression begins


def encode(pixels: np.ndarray, texts: Mapping[str, str] | None = None) -> bytes:
    """Encodes a picture as PNG.

    Args:
        pixels: uint8 array `(height, width, channels)`: gray, gray and alpha, RGB or RGBA.
        texts: text chunks by key, as `serving.provenance` returns them.

    Returns:
        The file.
    """
    height, width, channels = pixels.shape
    flat = pixels.reshape(height, width * channels)
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])  # modulo 256
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    described = [_text(key, text) for key, text in (texts or {}).items()]
    data = _compress(rows.reshape(-1))
    chunks = [(b"IHDR", header), *described, (b"IDAT", data), (b"IEND", b"")]
    return b"".join([_SIGNATURE, *(chunk(name, content) for name, content in chunks)])


def _compress(data: np.ndarray) -> bytes:
    """Returns a zlib stream of bytes, compressed in pieces that do not refer to each other."""
    count = min(_MOST_PIECES, max(1, data.size // _PIECE))
    pieces = [piece.data for piece in np.array_split(data, count)]
    last = [number == count - 1 for number in range(count)]
    run = _threads().map if count > 1 and processor.cpus() > 1 else map
    checksum = struct.pack(">I", zlib.adler32(data.data))
    return b"".join([_ZLIB, *run(_deflate, pieces, last), checksum])


def _deflate(piece: memoryview, is_last: bool) -> bytes:
    """Returns the blocks of a raw deflate stream."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_RLE)
    data = packer.compress(piece)
    return data + packer.flush(zlib.Z_FINISH if is_last else zlib.Z_FULL_FLUSH)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_MOST_PIECES, processor.cpus()), "png")


def _text(key: str, text: str) -> tuple[bytes, bytes]:
    """Returns the name and the content of a text chunk: in Latin-1 if it can, else in UTF-8."""
    name = key.encode("latin-1") + b"\0"
    if key != XMP_KEY:
        try:
            return b"tEXt", name + text.encode("latin-1")
        except UnicodeEncodeError:
            pass
    # Neither compressed, nor in a named language, nor with a translated key.
    return b"iTXt", name + b"\0\0\0\0" + text.encode("utf-8")


def chunk(name: bytes, content: bytes) -> bytes:
    """Returns a chunk of a PNG file."""
    checksum = zlib.crc32(content, zlib.crc32(name))
    return b"".join((struct.pack(">I", len(content)), name, content, struct.pack(">I", checksum)))
