"""Examples of a translator's bundle: pictures in its folder `examples`, else its golden inputs."""

from __future__ import annotations

from serving import png
from serving.bundle import Bundle
from serving.golden import read_golden
from serving.kinds import image as image_kind

_MAX_EXAMPLES = 16
_MAX_BYTES = 4 * 2**20  # of a file


def read_examples(bundle: Bundle) -> list[bytes]:
    """Returns the examples of a bundle as PNG files; none unless it is a translator.

    Raises:
        UsageError: the golden samples are damaged.
    """
    facts = bundle.manifest.get("translation")
    if facts is None:
        return []
    names = (f"examples/{number}.png" for number in range(_MAX_EXAMPLES))
    files = [bundle.path / name for name in names if name in bundle.manifest["files"]]
    files = [file for file in files if file.is_file() and file.stat().st_size <= _MAX_BYTES]
    if files:
        return [file.read_bytes() for file in files]
    golden = read_golden(bundle)
    if golden is None:
        return []
    port = bundle.inputs.by_name[facts["input"]]
    samples = golden.arguments[port.name]
    return [png.encode(image_kind.pixels(sample, port.meta)) for sample in samples]
