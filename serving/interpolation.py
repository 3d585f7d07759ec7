"""Interpolation of latents: walks on the sphere, and neighborhoods."""

from __future__ import annotations

import math

import numpy as np


def interpolate(latents: np.ndarray, count: int) -> np.ndarray:
    """Interpolates through latents along great circles, in equal angles between two of them.

    Args:
        latents: float array `(stations, latent_dim)` with at least one row.
        count: number of points, both ends included; 1 returns the first latents.

    Returns:
        float32 array `(count, latent_dim)`.
    """
    stations = np.asarray(latents, np.float64)
    rows = np.empty((count, stations.shape[1]), np.float32)
    for number in range(count):
        leg, t = place(number, count, len(stations))
        rows[number] = slerp(stations[leg], stations[leg + 1], t) if t else stations[leg]
    return rows


def place(number: int, count: int, stations: int) -> tuple[int, float]:
    """Returns the leg of a walk that a point lies on, and its position there, from 0 to 1.

    Args:
        number: number of the point, from 0.
        count: number of points of the whole walk, both ends included.
        stations: number of latents that the walk passes through.
    """
    if count == 1 or stations == 1:
        return 0, 0.0
    # Integer arithmetic, so that the ends are exact.
    legs = stations - 1
    leg, rest = divmod(number * legs, count - 1)
    return (leg - 1, 1.0) if leg == legs else (leg, rest / (count - 1))


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Interpolates between two vectors on the sphere.

    `slerp(a, b, t) = (sin((1 - t) w) a + sin(t w) b) / sin(w)`, where `w` is the angle between
    them. Normal vectors of many components lie near a sphere. A straight line between two of them
    passes near the origin, where a generator was not trained.

    Args:
        a: float array `(latent_dim,)`, the result for `t = 0`.
        b: float array `(latent_dim,)`, the result for `t = 1`.
        t: position, 0 to 1.

    Reference:
        Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985;
        White, "Sampling generative networks", https://arxiv.org/abs/1609.04468
    """
    if t in (0.0, 1.0):
        return b if t else a
    lengths = math.sqrt(float(a @ a) * float(b @ b))
    angle = math.acos(max(-1.0, min(1.0, float(a @ b) / lengths))) if lengths else 0.0
    if math.sin(angle) < 1e-6:
        return (1 - t) * a + t * b
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


def around(center: np.ndarray, latents: np.ndarray, radius: float) -> np.ndarray:
    """Moves latents toward a center: `sqrt(1 - radius**2) center + radius latents`.

    The result is standard normal again.

    Args:
        center: float array `(latent_dim,)`.
        latents: float array `(batch, latent_dim)`, standard normal.
        radius: 0 returns the center, 1 the latents.

    Returns:
        float32 array `(batch, latent_dim)`.
    """
    near = math.sqrt(1 - radius**2) * np.asarray(center, np.float64)
    return (near + radius * np.asarray(latents, np.float64)).astype(np.float32)
