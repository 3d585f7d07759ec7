"""Clocks by which `quality.py` gives games equal times, in seconds."""

import os
import time

CLOCKS = {
    "wall": time.monotonic,
    # Of all cores: what a game would take by the clock that keeps every core busy.
    "processor": lambda: time.process_time() / (os.cpu_count() or 1),
}
