"""Interpolation of latents: walks on the sphere, and neighborhoods."""

from __future__ import annotations

import math

import numpy as np

from serving.errors import UsageError, short_repr

# Position between two stations as a function of time, both 0 to 1; by name.
EASINGS = {"linear": lambda t: t, "smooth": lambda t: t * t * (3 - 2 * t)}


class Path:
    """Points of a walk through stations, in equal time from each station to the next.

    Several inputs that move together therefore reach a station together, whatever the angles
    between their vectors.

    Args:
        stations: number of latents that the walk passes through, at least 1.
        count: number of points. An open walk includes both ends. A loop returns to the first
            station and ends one step before it, so that it can be repeated without a pause.
        loop: the walk returns to its first station.
        easing: `"linear"` moves at equal speed, `"smooth"` slows down at every station.

    Raises:
        UsageError: an unknown easing.
    """

    def __init__(self, stations: int, count: int, loop: bool = False, easing: str = "linear"):
        self.stations = stations
        self.count = count
        self.loop = loop
        if not isinstance(easing, str) or easing not in EASINGS:
            raise UsageError(
                f"`easing` must be one of {', '.join(EASINGS)}. "
                f"Received: easing={short_repr(easing)}"
            )
        self._ease = EASINGS[easing]

    def place(self, number: int) -> tuple[int, int, float]:
        """Returns the stations before and after a point, and its position, 0 to 1.

        Args:
            number: number of the point, from 0.
        """
        legs, steps = (
            (self.stations, self.count) if self.loop else (self.stations - 1, self.count - 1)
        )
        if not legs or not steps:
            return 0, min(1, self.stations - 1), 0.0
        # Integer arithmetic, so that the stations are exact.
        leg, rest = divmod(number * legs, steps)
        if leg == legs:  # the end of an open walk
            return leg - 1, leg, 1.0
        return leg, (leg + 1) % self.stations, self._ease(rest / steps)

    def nearest(self, number: int) -> int:
        """Returns the station that is nearest to a point; the earlier one of two in the middle."""
        before, after, t = self.place(number)
        return after if t > 0.5 else before

    def point(self, number: int, latents: np.ndarray) -> np.ndarray:
        """Returns a point on the great circles between latents, float64 `(..., latent_dim)`.

        Args:
            number: number of the point, from 0.
            latents: float array `(stations, ..., latent_dim)`.
        """
        before, after, t = self.place(number)
        return slerp(
            np.asarray(latents[before], np.float64), np.asarray(latents[after], np.float64), t
        )


def interpolate(
    latents: np.ndarray, count: int, loop: bool = False, easing: str = "linear"
) -> np.ndarray:
    """Interpolates through latents along great circles, both ends included.

    Args:
        latents: float array `(stations, latent_dim)` with at least one row.
        count: number of points; 1 returns the first latents.
        loop, easing: see `Path`.

    Returns:
        float32 array `(count, latent_dim)`.
    """
    path = Path(len(latents), count, loop, easing)
    return np.stack([path.point(n, latents) for n in range(count)]).astype(np.float32)


def slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Interpolates between vectors on the sphere.

    `slerp(a, b, t) = (sin((1 - t) w) a + sin(t w) b) / sin(w)`, where `w` is the angle between
    them. Normal vectors of many components lie near a sphere. A straight line between two of them
    passes near the origin, where a generator was not trained.

    Args:
        a: float array `(..., latent_dim)`, the result for `t = 0`.
        b: float array `(..., latent_dim)`, the result for `t = 1`.
        t: position, 0 to 1.

    Reference:
        Shoemake, "Animating rotation with quaternion curves", SIGGRAPH 1985;
        White, "Sampling generative networks", https://arxiv.org/abs/1609.04468
    """
    if t in (0.0, 1.0):
        return b if t else a
    lengths = np.sqrt(_dot(a, a) * _dot(b, b))
    is_zero = lengths == 0  # a vector without a direction
    cosine = np.clip(_dot(a, b) / np.where(is_zero, 1.0, lengths), -1.0, 1.0)
    angle = np.where(is_zero, 0.0, np.arccos(cosine))
    sine = np.sin(angle)
    straight = sine < 1e-6  # equal or opposite directions
    sine = np.where(straight, 1.0, sine)
    left = np.where(straight, 1 - t, np.sin((1 - t) * angle) / sine)
    right = np.where(straight, t, np.sin(t * angle) / sine)
    return left * a + right * b


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...i->...", a, b)[..., np.newaxis]


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
