"""Theory of the original GAN for known densities: optimal discriminator, value, divergence.

With p the density of the data and q that of the generator, the value of the game is

    V(D, G) = E_p[log D(x)] + E_q[log(1 - D(x))].

For a fixed generator it is maximal at D*(x) = p(x) / (p(x) + q(x)), where it equals
-log 4 + 2 JSD(p, q). The generator that minimizes this reduces the Jensen-Shannon divergence to 0.
The module computes these quantities in float64, as a reference for trained networks.

Densities are given on a grid, or as probabilities of a finite set of outcomes. Expectations are
sums, Simpson's rule, or means over samples.

Reference:
    - [Goodfellow et al., 2014](https://arxiv.org/abs/1406.2661), section 4
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy.special

from keras_gan.errors import UsageError

Values = npt.ArrayLike


def optimal_logit(log_p: Values, log_q: Values) -> np.ndarray:
    """Computes the logit of the optimal discriminator: log p(x) - log q(x).

    Args:
        log_p: natural logarithm of the data's density; -inf where it is 0.
        log_q: natural logarithm of the generator's density, in a shape that broadcasts with
            `log_p`.

    Returns:
        float64; infinite where only one density is 0, and 0 where both are, because the value
        does not depend on the discriminator there.

    Raises:
        UsageError: a logarithm is NaN or +inf.
    """
    log_p, log_q = np.asarray(log_p, np.float64), np.asarray(log_q, np.float64)
    for name, given in (("log_p", log_p), ("log_q", log_q)):
        if np.isnan(given).any() or (given == np.inf).any():
            raise UsageError(
                f"`{name}` must be below infinity and not NaN. Received: {name}={given}"
            )
    both_zero = np.isneginf(log_p) & np.isneginf(log_q)
    with np.errstate(invalid="ignore"):  # -inf minus -inf, which is replaced
        return np.where(both_zero, 0.0, log_p - log_q)


def optimal_discriminator(p: Values, q: Values) -> np.ndarray:
    """Computes the optimal discriminator D*(x) = p(x) / (p(x) + q(x)).

    Args:
        p: density of the data, at least 0.
        q: density of the generator, in a shape that broadcasts with `p`. For densities too small
            for a float, use the sigmoid of `optimal_logit`, which takes logarithms.

    Returns:
        float64 in [0, 1]; 0.5 where both densities are 0.

    Raises:
        UsageError: a density is negative or not finite.
    """
    return scipy.special.expit(optimal_logit(_log(p, "p"), _log(q, "q")))


def value(real_logits: Values, fake_logits: Values) -> float:
    """Estimates the value V of a discriminator from its logits on real and generated samples.

    Args:
        real_logits: logits on real samples, any number of them.
        fake_logits: logits on generated samples, any number of them.

    Returns:
        Mean of log D over the real samples plus mean of log(1 - D) over the generated ones, in
        nats; at most 0.

    Raises:
        UsageError: there are no real or no generated samples.
    """
    real, fake = np.asarray(real_logits, np.float64), np.asarray(fake_logits, np.float64)
    if not real.size or not fake.size:
        raise UsageError(
            "The value needs real and generated samples. "
            f"Received: {real.size} real and {fake.size} generated"
        )
    return float(np.mean(_log_sigmoid(real)) + np.mean(_log_sigmoid(-fake)))


def value_on(logits: Values, p: Values, q: Values, *grid: Values) -> float:
    """Computes the value V of a discriminator by quadrature.

    Args:
        logits: its logits at the points of the grid, in the shape of the densities.
        p: density of the data at the points of the grid, or probabilities of the outcomes.
        q: the same of the generator.
        *grid: coordinates along each axis, ascending; omitted for a finite set of outcomes.

    Returns:
        The value in nats; at most 0.

    Raises:
        UsageError: a density is negative, does not fit the grid or does not integrate to 1.
    """
    p, q = _densities(p, q, grid)
    logits = np.asarray(logits, np.float64)
    if logits.shape != p.shape:
        raise UsageError(
            "`logits` must have one logit for each point of the grid. "
            f"Received: logits of shape {logits.shape}, densities of shape {p.shape}"
        )
    integrand = _weighted(p, _log_sigmoid(logits)) + _weighted(q, _log_sigmoid(-logits))
    return _integral(integrand, grid)


def optimal_value(p: Values, q: Values, *grid: Values) -> float:
    """Computes the value of the optimal discriminator, V(D*, G) = -log 4 + 2 JSD(p, q).

    Arguments, unit and errors are those of `jensen_shannon`.
    """
    return -math.log(4.0) + 2.0 * jensen_shannon(p, q, *grid)


def jensen_shannon(p: Values, q: Values, *grid: Values) -> float:
    """Computes the Jensen-Shannon divergence of two densities or distributions, in nats.

    JSD = (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2. It is 0 for equal densities and log 2
    for disjoint ones.

    Args:
        p: a density at the points of the grid, or the probabilities of a finite set of outcomes.
        q: the other density.
        *grid: coordinates along each axis, ascending; omitted for a finite set of outcomes.

    Returns:
        The divergence, from 0 to log 2 within the error of the quadrature.

    Raises:
        UsageError: a density is negative, does not fit the grid or does not integrate to 1.
    """
    p, q = _densities(p, q, grid)
    middle = (p + q) / 2
    # kl_div computes p log(p/m) - p + m, which is never negative, so that nothing cancels where p
    # is close to q.
    integrand = scipy.special.kl_div(p, middle) + scipy.special.kl_div(q, middle)
    return _integral(integrand, grid) / 2


def jensen_shannon_sampled(real_logits: Values, fake_logits: Values) -> float:
    """Estimates the Jensen-Shannon divergence from the optimal logits on samples, in nats.

    It is log 2 + V(D*) / 2, for densities in too many dimensions for a grid. With the logits of
    any other discriminator it is a lower bound, within the sampling error.

    Args:
        real_logits: `optimal_logit` on samples of p.
        fake_logits: `optimal_logit` on samples of q.
    """
    return math.log(2.0) + value(real_logits, fake_logits) / 2


def _log(density: Values, name: str) -> np.ndarray:
    density = np.asarray(density, np.float64)
    if not np.isfinite(density).all() or (density < 0).any():
        raise UsageError(
            f"`{name}` must be a density, finite and at least 0. Received: {name}={density}"
        )
    with np.errstate(divide="ignore"):  # log 0 is -inf, as it should be
        return np.log(density)


def _log_sigmoid(logits: np.ndarray) -> np.ndarray:
    return scipy.special.log_expit(logits)


def _weighted(density: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns density * values, and 0 where the density is 0, as for x log x at 0."""
    return density * np.where(density > 0, values, 0.0)


def _densities(p: Values, q: Values, grid: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Returns both densities as arrays, or raises a `UsageError`."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    shape = tuple(np.size(axis) for axis in grid) if grid else p.shape
    for name, density in (("p", p), ("q", q)):
        _log(density, name)
        if density.shape != shape:
            raise UsageError(
                f"`{name}` must have a value for each point of the grid, of shape {shape}. "
                f"Received: {name} of shape {density.shape}"
            )
        total = _integral(density, grid)
        if abs(total - 1.0) > 0.01:
            raise UsageError(
                f"`{name}` must integrate to 1 within 0.01; try a wider or finer grid. "
                f"Received: {name} with integral {total:.6g}"
            )
    return p, q


def _integral(values: np.ndarray, grid: tuple) -> float:
    if not grid:
        return float(values.sum())
    import scipy.integrate  # takes half a second, and is needed here only

    for axis in reversed(grid):  # from the last axis, so that the previous axis becomes the last
        x = np.asarray(axis, np.float64)
        values = np.asarray(scipy.integrate.simpson(values, x=x, axis=-1))
    return float(values)
