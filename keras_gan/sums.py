"""Sums of a graph in the order in which they are written.

Above 200 MB of tensors in a graph, TensorFlow rewrites sums of three and more tensors so that each
is added as soon as it is computed, to save memory. The last bits of a gradient then depend on which
of its parts was ready first, and two processes train the same game to different weights.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# TensorFlow has no public option for it.
from tensorflow.python.eager import context


def keep_order() -> None:
    """Switches the rewriting off in this process, for graphs that run from now on."""
    options: Any = context.context()
    config = options._config or tf.compat.v1.ConfigProto()
    rewriting = config.graph_options.rewrite_options
    rewriting.memory_optimization = rewriting.NO_MEM_OPT
    options._config = config
    # An assignment of options makes TensorFlow read all of them again.
    tf.config.optimizer.set_experimental_options({})
