"""Pairs of players by name: one module for each family, and the module's name is its name.

A module gives two functions, `generator(spec, conditional=False, **options)` and
`discriminator(spec, conditional=False, **options)`, each returning a built Keras model, and its
docstring's first line is its entry in `keras-gan list`. A new family is one new file here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import keras

from keras_gan.errors import UsageError
from keras_gan.registry import nearest
from keras_gan.spec import Spec


def names() -> dict[str, str]:
    """Every architecture's name with the first line of its description."""
    found = {m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")}
    return {name: (module(name).__doc__ or "").split("\n")[0] for name in sorted(found)}


def build(
    name: str,
    spec: Spec,
    conditional: bool = False,
    generator: dict[str, Any] | None = None,
    discriminator: dict[str, Any] | None = None,
) -> tuple[keras.Model, keras.Model]:
    """Builds both players of a family for data of a given kind.

    Args:
        name: the family, see `names`.
        spec: what one sample looks like, as data sets tell it.
        conditional: whether both players take labels; the data needs classes.
        generator: options of the generator, as its function in the module documents.
        discriminator: options of the discriminator.

    Returns:
        The generator, from `latents` [and `labels`] to samples, and the discriminator, from
        `samples` [and `labels`] to logits `(batch, 1)`.

    Raises:
        UsageError: an unknown family or option, or data that the family cannot make.
    """
    return (
        build_player("generator", name, spec, conditional, **(generator or {})),
        build_player("discriminator", name, spec, conditional, **(discriminator or {})),
    )


def build_player(
    role: str, name: str, spec: Spec, conditional: bool = False, **options: Any
) -> keras.Model:
    """Builds one player, `role` being "generator" or "discriminator"; otherwise as `build`."""
    if name not in names():
        raise UsageError(
            f"No architecture has that name. Received: {name!r}. {nearest(name, names())}"
        )
    if not isinstance(spec, Spec):
        raise UsageError(
            "spec must be a keras_gan.Spec, which a data set tells as source.spec. "
            f"Received: spec={spec!r}"
        )
    if conditional and not spec.num_classes:
        raise UsageError(
            "A conditional game needs data with labels (an image folder with one subfolder for "
            "each class, for instance). Received: data without classes"
        )
    function = getattr(module(name), role)
    taken = [p for p in inspect.signature(function).parameters if p not in ("spec", "conditional")]
    for option in options:
        if option not in taken:
            raise UsageError(
                f"The {role} {name!r} has no such option. Received: {option!r}. "
                f"{nearest(option, taken)}"
            )
    return function(spec, conditional, **options)


def module(name: str):
    """The module of a family."""
    return importlib.import_module(f"{__name__}.{name}")
