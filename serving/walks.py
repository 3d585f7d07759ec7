"""Latents between seeds and around one."""

from __future__ import annotations

import numpy as np


def interpolate(latents: np.ndarray, count: int) -> np.ndarray:
    """Walks through latents along great circles, in steps of equal angle between two of them.

    A straight line would pass near the origin, where a normal vector of many components never
    is: a generator has not learned what to make of that.

    Args:
        latents: float array `(stations, latent_dim)`, at least one.
        count: number of points, both ends included; 1 gives the first.

    Returns:
        float32 array `(count, latent_dim)`.

    Reference:
        White, "Sampling generative networks", 2016, https://arxiv.org/abs/1609.04468
    """
    stations = np.asarray(latents, np.float64)
    if len(stations) == 1:
        return np.repeat(stations, count, axis=0).astype(np.float32)
    places = np.linspace(0.0, len(stations) - 1.0, count)
    first = np.minimum(places.astype(np.int64), len(stations) - 2)
    part = (places - first)[:, None]
    a, b = stations[first], stations[first + 1]
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.clip(np.sum(a * b, axis=1) / np.maximum(norms, 1e-300), -1.0, 1.0)
    angle = np.arccos(cosine)[:, None]
    sine = np.sin(angle)
    straight = sine < 1e-6  # nearly one direction, where the formula divides by nothing
    sine = np.where(straight, 1.0, sine)
    left = np.where(straight, 1.0 - part, np.sin((1.0 - part) * angle) / sine)
    right = np.where(straight, part, np.sin(part * angle) / sine)
    return (left * a + right * b).astype(np.float32)


def around(center: np.ndarray, latents: np.ndarray, radius: float) -> np.ndarray:
    """Draws latents toward one: `sqrt(1 - radius**2) center + radius latents`, normal again.

    Args:
        center: float array `(latent_dim,)`.
        latents: float array `(batch, latent_dim)`, standard normal.
        radius: 0 gives the center, 1 the latents.

    Returns:
        float32 array `(batch, latent_dim)`.
    """
    near = np.sqrt(1.0 - radius**2) * np.asarray(center, np.float64)
    return (near + radius * np.asarray(latents, np.float64)).astype(np.float32)
