"""Versions, machine and devices of a training, for its record."""

from __future__ import annotations

import os
import pathlib
import platform
import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan._version import __version__
from serving.processor import name as processor


def describe_environment() -> dict[str, Any]:
    """Returns versions, processor, devices and the command line."""
    return {
        "keras_gan": __version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "command": [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]],
    }
