"""Latents between seeds and around one."""

from __future__ import annotations

import math

import numpy as np


def interpolate(latents: np.ndarray, count: int) -> np.ndarray:
    """Walks through latents along great circles, in steps of equal angle between two of them.

    Args:
        latents: float array `(stations, latent_dim)`, at least one.
        count: number of points, both ends included; 1 gives the first.

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
    """Says on which leg of a walk a point is, and how far along it, from 0 to 1.

    Args:
        number: of the point, from 0.
        count: points of the whole walk, both ends included.
        stations: latents that it goes through.
    """
    if count == 1 or stations == 1:
        return 0, 0.0
    # In whole numbers, so that both ends are met exactly.
    legs = stations - 1
    leg, rest = divmod(number * legs, count - 1)
    return (leg - 1, 1.0) if leg == legs else (leg, rest / (count - 1))


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Interpolates between two vectors on the sphere.

    Normal vectors of many components lie near one. A straight line between them would pass near
    the origin, and a generator has not learned what to make of that.

    Args:
        a: where `t` is 0.
        b: where `t` is 1.
        t: 0 to 1.

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
    """Draws latents toward one: `sqrt(1 - radius**2) center + radius latents`, normal again.

    Args:
        center: float array `(latent_dim,)`.
        latents: float array `(batch, latent_dim)`, standard normal.
        radius: 0 gives the center, 1 the latents.

    Returns:
        float32 array `(batch, latent_dim)`.
    """
    near = math.sqrt(1 - radius**2) * np.asarray(center, np.float64)
    return (near + radius * np.asarray(latents, np.float64)).astype(np.float32)
