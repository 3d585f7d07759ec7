"""Features of texts: shares of their n-grams."""

from __future__ import annotations

import numpy as np

BINS = 256
_ORDERS = (1, 2, 3)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio


def hashed_ngrams(samples: np.ndarray) -> tuple[np.ndarray, None]:
    """Returns the shares of a text's n-grams by a hash, which different n-grams may have in common.

    Args:
        samples: weights of tokens `(count, time, vocabulary)`, of which the largest counts.

    Returns:
        float32 `(count, 256)`, whose rows sum to 1, and `None`: there are no classes.
    """
    ids = samples.argmax(axis=-1).astype(np.uint64) + np.uint64(1)
    counts = np.zeros((len(ids), BINS), np.float32)
    rows = np.arange(len(ids))[:, np.newaxis]
    for order in _ORDERS[: ids.shape[1]]:
        windows = np.lib.stride_tricks.sliding_window_view(ids, order, axis=1)
        codes = np.zeros(windows.shape[:2], np.uint64)
        for place in range(order):
            codes = (codes ^ (codes >> np.uint64(32))) * _MULTIPLIER + windows[..., place]
        mixed = (codes ^ (codes >> np.uint64(32))) * _MULTIPLIER
        np.add.at(counts, (rows, (mixed >> np.uint64(56)).astype(np.int64)), 1)
    return counts / counts.sum(axis=1, keepdims=True), None
