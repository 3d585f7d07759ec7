"""Functions that TensorFlow traces as they are.

Autograph rewrites Python's `if` and `for` on tensors. The first function that it rewrites in a
process costs it half a second, so functions without either are kept from it.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

do_not_convert: Any = tf.autograph.experimental.do_not_convert
