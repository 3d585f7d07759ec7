"""Generator and discriminator architectures by name, in one module for each family.

A family's name is its module's name, and its entry in `keras-gan list` is the first line of the
module's docstring. A module defines one or both of the functions
`generator(spec, conditional=False, **options)` and
`discriminator(spec, conditional=False, **options)`. Each returns a built Keras model. A family
whose networks take further fields of the data has a parameter `conditions`, their names. A new
family is one new file here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import keras

from keras_gan.configuration import channels_last
from keras_gan.errors import UsageError
from keras_gan.registry import check_names, nearest, parameters_of
from keras_gan.spec import Spec


def names() -> dict[str, str]:
    """Returns the name of each architecture with the first line of its description."""
    return {name: (family.__doc__ or "").split("\n")[0] for name, family in families().items()}


def families() -> dict[str, ModuleType]:
    """Returns the module of each architecture by its name."""
    found = {m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")}
    return {name: module(name) for name in sorted(found)}


def build(
    name: str,
    spec: Spec,
    conditional: bool = False,
    generator: dict[str, Any] | None = None,
    discriminator: dict[str, Any] | None = None,
) -> tuple[keras.Model, keras.Model]:
    """Builds the generator and the discriminator of a family for a kind of data.

    Args:
        name: the family, see `names`.
        spec: description of one example, such as a data source's `spec`.
        conditional: if True, both networks take labels; the data needs classes.
        generator: options of the generator, documented in the family's module.
        discriminator: options of the discriminator.

    Returns:
        The generator, from `latents` [and `labels`] to samples, and the discriminator, from
        `samples` [and `labels`] to logits `(batch, 1)`.

    Raises:
        UsageError: the family or an option is unknown, or the family does not support the data.
    """
    return (
        build_network("generator", name, spec, conditional, **(generator or {})),
        build_network("discriminator", name, spec, conditional, **(discriminator or {})),
    )


# Parameters of a family's functions that are not options.
SUPPLIED = ("spec", "conditional", "conditions")


def build_network(
    role: str,
    name: str,
    spec: Spec,
    conditional: bool = False,
    conditions: Sequence[str] = (),
    **options: Any,
) -> keras.Model:
    """Builds one network of a family.

    Args:
        role: "generator" or "discriminator".
        name: the family, see `names`.
        spec: description of one example, such as a data source's `spec`.
        conditional: if True, the network takes labels; the data needs classes.
        conditions: names of further fields of the data that the network takes.
        **options: options of the network, documented in the family's module.

    Raises:
        UsageError: the family or an option is unknown, the family does not support the data or
            the conditions, or a condition that is not a field of the data.
    """
    if name not in names():
        raise UsageError(
            f"No architecture has that name. Received: {name!r}. {nearest(name, families())}"
        )
    if not isinstance(spec, Spec):
        raise UsageError(
            "`spec` must be a keras_gan.Spec, such as a data source's `spec`. "
            f"Received: spec={spec!r}"
        )
    if conditional and not spec.num_classes:
        raise UsageError(
            "A conditional game needs data with labels (an image folder with one subfolder for "
            "each class, for instance). Received: data without classes"
        )
    function = getattr(module(name), role, None)
    if function is None:
        others = ", ".join(n for n, family in families().items() if hasattr(family, role))
        raise UsageError(
            f"The architecture of the {role} must be one of {others}. Received: {name!r}"
        )
    check_names(function, options, f"{role} {name!r}", skip=SUPPLIED)
    if conditions:
        _check_conditions(name, role, spec, conditions, "conditions" in parameters_of(function))
        options["conditions"] = tuple(conditions)
    with channels_last():
        return function(spec, conditional, **options)


def _check_conditions(
    name: str, role: str, spec: Spec, conditions: Sequence[str], takes_fields: bool
) -> None:
    """Checks that the data has the fields and that the family can take them."""
    for field in conditions:
        known = [name for name in spec.fields if name != "samples"]
        if field not in known:
            raise UsageError(
                f"The condition of the {role} must name fields of the data besides its samples, "
                f"{', '.join(known) or 'which has none'}. Received: condition=[{field}]"
            )
    if not takes_fields:
        raise UsageError(
            f"The architecture {name!r} takes labels only as condition; mlp takes any field. "
            f"Received: condition=[{', '.join(conditions)}] of the {role}"
        )


def module(name: str) -> ModuleType:
    """Imports and returns the module of a family."""
    return importlib.import_module(f"{__name__}.{name}")
