"""Checks of the networks, arguments and batches of `Cycle`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from keras_gan import network_checks
from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.networks import Network

_UNUSED = {"augment": None, "terms": (), "num_classes": 0}


def arguments(given: Mapping[str, Any]) -> None:
    """Checks that no argument of other games is given, which would have no effect.

    Raises:
        UsageError: one that is.
    """
    for name, none in _UNUSED.items():
        value = given.get(name, none)
        if value is not None and value != none and value != []:
            raise UsageError(f"`{name}` is not used by Cycle. Received: {name}={value!r}")


def networks(
    found: Mapping[str, Network], outputs: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple]:
    """Checks that the four networks fit each other; returns the shapes of both generators' samples.

    Raises:
        UsageError: the first thing that does not fit.
    """
    shapes = {}
    for name in ("forward", "backward"):
        fields = found[name].fields
        if fields != ("condition",):
            raise UsageError(
                f"The network {name!r} must take the input `condition` alone: pictures to "
                f"translate. Received: {', '.join(fields)}"
            )
        shapes[name] = network_checks.sample_shape(found[name], outputs[name])
        if len(shapes[name]) != 3:
            raise UsageError(
                f"The network {name!r} must return pictures (height, width, channels). "
                f"Received: samples of shape {shapes[name]}"
            )
    _check_chain(found, shapes, "forward", "backward")
    _check_chain(found, shapes, "backward", "forward")
    for name, generator in (("discriminator_a", "backward"), ("discriminator_b", "forward")):
        _check_discriminator(found[name], outputs[name], generator, shapes[generator])
    return shapes


def _check_chain(
    found: Mapping[str, Network], shapes: Mapping[str, tuple], first: str, second: str
) -> None:
    taken = network_checks.input_shape(found[second], "condition")
    if taken is not None and not _fits(taken, shapes[first]):
        raise UsageError(
            f"The network {second!r} must take the pictures that {first!r} returns, "
            f"{shapes[first]}. Received: a network of pictures {taken}"
        )


def _check_discriminator(
    network: Network, outputs: Mapping[str, Any], generator: str, shape: tuple
) -> None:
    if network.fields != ("samples",) or "logits" not in outputs:
        raise UsageError(
            f"The network {network.role!r} must take `samples` alone and return logits. "
            f"Received: inputs {', '.join(network.fields)}, outputs {', '.join(outputs)}"
        )
    network_checks.list_of_logits(outputs["logits"])
    taken = network_checks.input_shape(network, "samples")
    if taken is not None and not _fits(taken, shape):
        raise UsageError(
            f"The network {network.role!r} must take the pictures that {generator!r} returns, "
            f"{shape}. Received: a network of pictures {taken}"
        )


def _fits(one: tuple, other: tuple) -> bool:
    return tf.TensorShape(one).is_compatible_with(other)


def identity(of_a: tuple, of_b: tuple, weight: Any) -> None:
    """Checks that both domains have the same channels, as the identity term needs.

    Raises:
        UsageError: they do not.
    """
    if of_a[-1] != of_b[-1]:
        raise UsageError(
            "`identity_weight` must be 0 for domains with different numbers of channels. "
            f"Received: identity_weight={weight}, {of_a[-1]} channels in A and {of_b[-1]} in B"
        )


def picture_shape(given: Sequence[int] | None, game: Any) -> tuple[int, int] | None:
    """Returns the height and width of the pictures of a training batch, None if not needed.

    Raises:
        UsageError: other sizes than those of the networks, or none of networks of any size that
            are trained with a history.
    """
    known: tuple[int | None, ...] = game.sample_shape[:2]
    if given is not None:
        sizes = tuple(given) if isinstance(given, (list, tuple)) else ()
        if len(sizes) != 2:
            raise UsageError(
                "`picture_shape` must be the height and the width of the pictures. "
                f"Received: picture_shape={given!r}"
            )
        for size in sizes:
            check_integer("picture_shape", size)
        if not _fits(known, sizes):
            raise UsageError(
                f"`picture_shape` must be that of the networks, {known}. "
                f"Received: picture_shape={given!r}"
            )
        return int(sizes[0]), int(sizes[1])
    if None not in known:
        return known  # type: ignore[return-value]
    if game.pool_size:
        raise UsageError(
            "`picture_shape`, the height and width of a batch, is needed for a history of pictures "
            "if the networks take any size (in a recipe, it is that of data.crop or data.size). "
            f"Received: picture_shape=None, pool_size={game.pool_size}"
        )
    return None


def batch(a: Any, b: Any, expected: tuple[int, int] | None) -> None:
    """Checks the declared sizes of the pictures of a training batch.

    Args:
        a: pictures of the domain A.
        b: pictures of the domain B.
        expected: height and width for which the histories were made; None for any.

    Raises:
        UsageError: other sizes.
    """
    for name, pictures in (("condition", a), ("samples", b)):
        if expected is not None and not _fits(pictures.shape[1:3], expected):
            raise UsageError(
                f"Training batches must have pictures of `picture_shape`, {expected}. Received: "
                f"{name} of shape {tuple(pictures.shape)}"
            )
