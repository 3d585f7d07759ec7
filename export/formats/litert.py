"""LiteRT (TensorFlow Lite), for phones and small devices."""

from export.to_litert import FILE_NAME
from export.to_litert import run_litert as run
from export.to_litert import to_litert as write

__all__ = ["FILE_NAME", "run", "write"]
