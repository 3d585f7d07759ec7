"""Drawings that several kinds share: lines over time, and text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from serving import pictures

_COLORS = ("#1f5fa8", "#c0561f", "#2f8f4e", "#7a4fa3")


def lines(
    samples: np.ndarray, value_range: tuple[float, float] | None, columns: int | None = None
) -> np.ndarray:
    """Draws the first four features of each sample over time, one plot per sample.

    Args:
        samples: float array `(batch, time, features)`.
        value_range: limits of the vertical axis; by default what the samples need.
        columns: plots per row.

    Returns:
        uint8 array `(height, width, 3)`.
    """
    finite = samples[np.isfinite(samples)]
    low, high = value_range or (
        (float(finite.min()), float(finite.max())) if finite.size else (-1.0, 1.0)
    )
    if not low < high:
        low, high = low - 1.0, high + 1.0
    plots = [_line_plot(np.nan_to_num(sample), low, high) for sample in samples]
    return pictures.grid(np.stack(plots), columns)


def _line_plot(sample: np.ndarray, low: float, high: float, size=(96, 192)) -> np.ndarray:
    height, width = size
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width - 1, height - 1), outline="#dddddd")
    steps = len(sample)
    unit = np.clip((high - sample) / (high - low), 0.0, 1.0)
    for feature in reversed(range(min(4, sample.shape[1]))):
        y = 3 + unit[:, feature] * (height - 7)
        if steps > 2 * width:  # the extremes of each column; single samples would vanish
            edges = np.linspace(0, steps, width + 1).astype(int)
            for x in range(width):
                part = y[edges[x] : max(edges[x] + 1, edges[x + 1])]
                draw.line((x, part.min(), x, part.max()), fill=_COLORS[feature])
            continue
        x = np.linspace(1, width - 2, max(2, steps))
        path = list(zip(x, y if steps > 1 else np.repeat(y, 2), strict=True))
        draw.line(path, fill=_COLORS[feature])
    return np.asarray(image)


def text(rows: Sequence[str], width: int = 100, most: int = 40) -> np.ndarray:
    """Draws rows of text.

    Args:
        rows: one text per row; characters that the font lacks are replaced.
        width: characters per row that are shown.
        most: rows that are shown.

    Returns:
        uint8 array `(height, width, 3)`.
    """
    shown = [
        row.replace("\n", " ")[:width].encode("latin-1", "replace").decode("latin-1")
        for row in rows[:most]
    ]
    image = Image.new("RGB", (6 * width + 16, 14 * max(1, len(shown)) + 12), "white")
    draw = ImageDraw.Draw(image)
    for number, row in enumerate(shown):
        draw.text((8, 6 + 14 * number), row, fill="#222222")
    return np.asarray(image)
