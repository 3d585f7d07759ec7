"""Number formats of a training: Keras's policies, and a graph pass for CPUs that multiply bfloat16.

Two ways lead to 16 bits. A Keras policy (`mixed_float16`, `mixed_bfloat16`) casts in every layer.
The graph pass (`bfloat16`) leaves the model in float32 and rewrites the graph that runs:
convolutions and matrix products take bfloat16 and add up in float32; weights, moments, averages
and sums stay float32. On a CPU the pass is the faster one, as it casts only where it pays
(docs/speed.md).
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

import keras
import tensorflow as tf

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
_PASS = "auto_mixed_precision_onednn_bfloat16"


_ON_GPUS = (
    "on a GPU TensorFlow takes TensorFloat-32 for products by itself; assumed, not measured. "
    "Try --set training.precision=mixed_float16"
)


def choose(precision: str) -> tuple[str, str]:
    """Resolves "auto" for this machine.

    Args:
        precision: "auto", which is resolved, or any other, which stays.

    Returns:
        The precision, and a line that says why.
    """
    gpu, multiplies = bool(tf.config.list_physical_devices("GPU")), cpu_multiplies_bfloat16()
    if precision != "auto":
        line = f"precision {precision}, as the recipe says"
        if precision == "bfloat16" and not multiplies:
            line += "; this CPU has no bfloat16 products: it may be slower than float32"
        if precision == "float32" and multiplies and not gpu:
            line += "; --set training.precision=bfloat16 is faster on this CPU"
        if precision == "float32" and gpu:
            line += f"; {_ON_GPUS}"
        return precision, line
    if gpu:
        return "float32", f"precision float32: {_ON_GPUS}"
    if multiplies:
        return "bfloat16", (
            "precision bfloat16: this CPU multiplies it natively, measured about twice as fast "
            "as float32"
        )
    return "float32", "precision float32: this CPU does not multiply bfloat16 natively"


def cpu_multiplies_bfloat16() -> bool:
    """Whether the processor says that it has AVX512-BF16 or AMX-BF16."""
    return bool({"avx512_bf16", "amx_bf16"} & cpu_flags())


def cpu_flags() -> set[str]:
    """What the processor says that it has, in Linux's words; elsewhere nothing."""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("flags"):
                return set(line.split())
    return set()


@contextlib.contextmanager
def layers(precision: str) -> Iterator[None]:
    """Layers made within compute at this precision's Keras policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision if precision in POLICIES else "float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def in_bfloat16(dtype: str) -> bool:
    """Whether products of this type are computed in bfloat16 by what is traced here."""
    return dtype == "bfloat16" or in_graphs()


def in_graphs() -> bool:
    """Whether a graph that is traced here is to run under the pass."""
    return bool(tf.config.optimizer.get_experimental_options().get(_PASS, False))


@contextlib.contextmanager
def graphs(precision: str) -> Iterator[None]:
    """Graphs that are called within run under the pass where this precision is "bfloat16"."""
    # TensorFlow reads the option at every call of a function, not where it is traced.
    before = in_graphs()
    tf.config.optimizer.set_experimental_options({_PASS: precision == "bfloat16"})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_PASS: before})
