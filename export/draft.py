"""The network and the manifest of a bundle before any file is written."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import numpy as np

from export import acting, endless, streaming, text
from export.class_ids import check_class_ids
from export.declare import Declarations, Facts
from export.manifest import Manifest, plain_json, software_versions, utc_now
from export.network import Network, open_network
from export.translation import measure_translation, picture_sizes
from keras_gan import Spec, UsageError
from serving.checks import check_different, check_integer
from serving.errors import short_repr
from serving.manifest import RULES


class Description(TypedDict, total=False):
    """The caller's description of a model.

    Args:
        role: what the network does: `"generator"`, `"translator"`, `"classifier"`, `"policy"`,
            `"reward"` or another word; by default `"generator"` for a network with random inputs,
            `"translator"` for one whose output has the rank of a given input. `"restoration"` is a
            translator that keeps the meaning of color, such as one against noise: gray pictures
            stay gray.
        inputs: facts by the name of an input, each optional: `fill` (`"normal"`, `"uniform"`,
            `"class"`, `"constant"`, `"given"`), `stream`, `value`, `kind`, `meta`.
        outputs: facts by the name of an output: `kind`, `meta`.
        spec: fields of the training data, which describe the ports of the same names.
        kind: kind of the first output; by default derived from its shape: points, series,
            image (1, 3 or 4 channels), video, else array.
        name: name of the model for servers; by default the model's own.
        num_classes: number of classes of a conditional network or a classifier; a GAN has its own.
        class_names: name of each class, in the order of the ids.
        value_range: smallest and largest value of the first output; by default that of its kind,
            such as `(-1, 1)` for images.
        average: of a GAN, export the averaged generator; default True.
        network: of a game, the name of the network to export: of a generator, by default the one
            that its `generate` uses, or of a discriminator with the outputs `logits` and `classes`,
            which is exported as a classifier.
        backward: of a network that translates pictures of any size, the name of the bundle of the
            opposite direction, to which a server's page can switch.
        environment: of a policy or a reward, the spaces of its observations and actions, in the
            form of `serving.environments`; a game that acts in an environment has its own.
        training: anything JSON can hold about the training, kept in the manifest.
        license: license of the weights, kept in the manifest and the model card.
        intended_use: what the model is for, kept there too.
    """

    role: str | None
    inputs: Mapping[str, Facts] | None
    outputs: Mapping[str, Facts] | None
    spec: Spec | None
    kind: str | None
    name: str | None
    num_classes: int | None
    class_names: Sequence[str]
    value_range: tuple[float, float] | None
    average: bool
    network: str | None
    backward: str | None
    environment: Facts | None
    training: dict[str, Any] | None
    license: str | None
    intended_use: str | None


def open_draft(model: Any, **description: Unpack[Description]) -> tuple[Network, Manifest]:
    """Returns the network of a model and its manifest, without files.

    Args:
        model: a `keras_gan.GAN` or a built Keras model.
        description: fields of `Description`.

    Raises:
        UsageError: a model that cannot be exported, or a description that does not fit it.
    """
    num_classes, class_names = _classes(model, description)
    role, chosen = _choose(model, description)
    declared = Declarations(
        role=role,
        inputs=description.get("inputs") or {},
        outputs=description.get("outputs") or {},
        kind=description.get("kind"),
        value_range=description.get("value_range"),
        num_classes=num_classes,
        class_names=class_names,
        spec=description.get("spec"),
    )
    environment = acting.environment_of(description.get("environment"), model, role)
    network = open_network(
        model,
        declared,
        average=description.get("average", True),
        network=chosen,
        environment=environment,
    )
    _check_classes(network, num_classes, class_names)
    check_class_ids(network)
    network, audio = streaming.describe(network)
    parity = {"sizes": list(network.sizes)} if network.sizes[0] else {}
    if (facts := measure_translation(network)) is not None:
        more = picture_sizes(network, facts)
        parity |= {"picture_sizes": list(more)}
        network = dataclasses.replace(network, sizes=(*network.sizes, *more))
        if (backward := description.get("backward")) is not None:
            facts = {**facts, "backward": _checked_name(backward)}
    draft = Manifest(
        name=_checked_name(description.get("name") or network.model.name),
        role=network.role,
        inputs=network.inputs,
        outputs=network.outputs,
        files={},
        parity=parity,
        training=_checked_training(description.get("training")),
        license=description.get("license"),
        intended_use=description.get("intended_use"),
        software=software_versions(),
        created=utc_now(),
        translation=facts,
        audio=audio,
        video=endless.describe(network),
        environment=None if environment is None else dict(environment),
        text=text.describe(network),
    )
    return network, draft


def _choose(model: Any, description: Description) -> tuple[str | None, str | None]:
    """Returns the role and the network of a game, `None` for what is not stated."""
    role, chosen = acting.choose(model, description.get("role"), description.get("network"))
    if role is not None and not RULES["role"].is_valid(role):
        raise UsageError(f"`role` must be {RULES['role'].text}. Received: role={role!r}")
    return role, chosen


def _classes(model: Any, description: Description) -> tuple[int, Sequence[str]]:
    """Returns the number of classes, 0 if not known, and their names."""
    own = int(getattr(model, "num_classes", 0) or 0)
    given, names = description.get("num_classes"), description.get("class_names")
    names = () if names is None else names.tolist() if isinstance(names, np.ndarray) else names
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise UsageError(
            "`class_names` must be a list of texts, one for each class. "
            f"Received: class_names={short_repr(names)}"
        )
    check_different("class_names", names)
    if given is not None:
        given = operator.index(given) if isinstance(given, np.integer) else given
        check_integer("num_classes", given, 0, 2**31 - 1)
    if own and given and given != own:
        raise UsageError(
            f"num_classes must be the model's own, {own}. Received: num_classes={given}"
        )
    return given or own or len(names), names


def _check_classes(network: Network, num_classes: int, class_names: Sequence[str]) -> None:
    conditional = any(port.fill == "class" for port in network.inputs)
    conditional = conditional or network.role == "classifier"  # its output has the classes
    if not conditional and (num_classes or class_names):
        raise UsageError(
            "num_classes and class_names are for a network with a labels input, or a classifier. "
            f"Received: {num_classes} classes, model {network.model.name!r} without labels"
        )


def _checked_name(name: str) -> str:
    if not RULES["name"].is_valid(name):
        raise UsageError(
            "name must be of letters, digits, '_', '-' and '.', as it names a folder and a model "
            f"on a server. Received: name={name!r}"
        )
    return name


def _checked_training(training: dict[str, Any] | None) -> dict[str, Any] | None:
    try:
        return training and json.loads(json.dumps(plain_json(training), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(f"training must be serializable as JSON. Received: {error}") from error
