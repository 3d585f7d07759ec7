"""Training precision: Keras dtype policies, and a graph pass for CPUs with bfloat16 products.

Training in 16 bits is possible in two ways. A Keras policy (`mixed_float16`, `mixed_bfloat16`)
casts in every layer. The graph pass (`bfloat16`) leaves the model in float32 and rewrites the
graph when it runs: convolutions and matrix products take bfloat16 and accumulate in float32;
weights, moments, averages and sums stay float32. On a CPU the pass is faster, because it casts
only where that pays off (docs/speed.md).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf

from serving import processor

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
_PASS = "auto_mixed_precision_onednn_bfloat16"
_ON_GPUS = (
    "on a GPU TensorFlow uses TensorFloat-32 for products by default; assumed, not measured. "
    "Try --set training.precision=mixed_float16"
)


def choose(precision: str) -> tuple[str, str]:
    """Resolves "auto" for this machine.

    Args:
        precision: "auto", or a precision that is returned as it is.

    Returns:
        The precision, and a line for the log that says why.
    """
    gpu, flags = bool(tf.config.list_physical_devices("GPU")), processor.flags()
    multiplies = processor.multiplies_bfloat16(flags)
    if precision != "auto":
        line = f"precision {precision}, as set in the recipe"
        if precision == "bfloat16" and not multiplies:
            line += "; this CPU has no native bfloat16 products: it may be slower than float32"
        if precision == "float32" and multiplies and not gpu:
            line += "; --set training.precision=bfloat16 is faster on this CPU"
        if precision == "float32" and gpu:
            line += f"; {_ON_GPUS}"
        return precision, line
    if gpu:
        return "float32", f"precision float32: {_ON_GPUS}"
    chosen = processor.automatic_precision(flags, gpu)
    if chosen == "bfloat16":
        return chosen, (
            "precision bfloat16: this CPU has native bfloat16 products, measured about twice as "
            "fast as float32"
        )
    return chosen, "precision float32: this CPU has no native bfloat16 products"


@contextlib.contextmanager
def layers(precision: str) -> Iterator[None]:
    """Creates layers under this precision's Keras dtype policy within the context."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision if precision in POLICIES else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def computes_in_bfloat16(dtype: str) -> bool:
    """Returns True if a graph traced now computes products of this dtype in bfloat16."""
    return dtype == "bfloat16" or graph_pass_enabled()


def graph_pass_enabled() -> bool:
    """Returns True if the bfloat16 graph pass is enabled."""
    return bool(tf.config.optimizer.get_experimental_options().get(_PASS, False))


@contextlib.contextmanager
def graphs(precision: str) -> Iterator[None]:
    """Runs graphs within the context under the pass if the precision is "bfloat16", else without.

    TensorFlow reads the option in each call of a function, not when the function is traced.
    """
    before = graph_pass_enabled()
    tf.config.optimizer.set_experimental_options({_PASS: precision == "bfloat16"})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_PASS: before})
