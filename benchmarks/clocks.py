"""Clocks that `quality.py` limits training by, in seconds."""

import os
import time

CLOCKS = {
    "wall": time.monotonic,
    # Processor time divided by the cores: the wall-clock time with all cores busy.
    "processor": lambda: time.process_time() / (os.cpu_count() or 1),
}
