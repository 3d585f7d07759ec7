"""Checks of a game's networks before the first training step."""

from __future__ import annotations

import inspect
import itertools
import math
import types
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from keras_gan.errors import UsageError, one_line
from keras_gan.intervals import Interval
from keras_gan.losses import Loss
from keras_gan.networks import Network
from keras_gan.terms import Term
from serving import value_ranges

# Keras is not annotated, and what a type checker infers of it is wrong.
tree: Any = keras.tree

_WRONG_SECOND_DERIVATIVE = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,  # and InstanceNormalization, if Keras has it
    keras.layers.LayerNormalization,
)


_WITHOUT_LOSS = ("builtins", "keras", "keras_gan", "tensorflow")  # modules without add_loss

# ------------------------------------------------------------------------ networks


def named_networks(models: Mapping[str, Any], needed: tuple[str, ...]) -> None:
    """Checks that a game has the networks that it samples from and averages.

    Raises:
        UsageError: one that is missing.
    """
    for name in needed:
        if name not in models:
            raise UsageError(
                f"The game must have a network named {name!r}. "
                f"Received: networks {', '.join(models)}"
            )


def network(role: str, model: Any) -> None:
    """Checks that a network is a built Keras model.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(model, keras.Model):
        raise UsageError(f"The {role} must be a keras.Model. Received: {type(model).__name__}")
    if not model.built:
        raise UsageError(
            f"The {role} must be built: begin it with keras.Input, or call it once on a batch. "
            f"Received: {model.name!r} without weights"
        )


# ------------------------------------------------------------------------ inputs


def latent_dim(network: Network, given: int | None) -> int:
    """Returns the length of the latents of a generator; 0 if it takes none.

    Raises:
        UsageError: a length that cannot be read from the network, or differs from the given one.
    """
    if "latents" not in network.fields:
        return 0
    shape = input_shape(network, "latents")
    if shape is None:
        if given is None:
            raise UsageError(
                "The length of the latents cannot be read from a subclassed generator: "
                "give `latent_dim`. Received: latent_dim=None"
            )
        return int(given)
    if len(shape) != 1 or shape[0] is None:
        raise UsageError(
            f"The latents of the generator must be of shape (batch, latent_dim){_order(network)}. "
            f"Received: {_described(_tensors(network)['latents'])}"
        )
    if given not in (None, shape[0]):
        raise UsageError(
            f"`latent_dim` must be the generator's, {shape[0]}. Received: latent_dim={given}"
        )
    return int(shape[0])


def input_shape(network: Network, field: str) -> tuple | None:
    """Returns the shape of an input without the batch; None of a subclassed network."""
    tensors = _tensors(network)
    return tuple(tensors[field].shape[1:]) if field in tensors else None


def inputs(networks: Mapping[str, Network], num_classes: int) -> None:
    """Checks the inputs of networks that are latents or labels: their order, types and shapes.

    Args:
        networks: the networks by name.
        num_classes: number of classes of the game; 0 if labels are not used.

    Raises:
        UsageError: latents that are integers, or labels of another shape than class ids.
    """
    for network in networks.values():
        _inputs(network, num_classes)


def _inputs(network: Network, num_classes: int) -> None:
    tensors = _tensors(network)
    latents, labels = tensors.get("latents"), tensors.get("labels")
    if latents is not None and "int" in keras.backend.standardize_dtype(latents.dtype):
        raise UsageError(
            f"The latents of the {network.role} must be floating-point numbers{_order(network)}. "
            f"Received: {_described(latents)}"
        )
    # Keras adds the last axis of size 1 by itself.
    if labels is None or not num_classes or tuple(labels.shape[1:]) in ((), (1,)):
        return
    hint = _order(network)
    if labels.shape[1:] == (num_classes,) and (latents is None or latents.shape[1:] != (1,)):
        layer = f"keras.layers.CategoryEncoding({num_classes}, output_mode='one_hot')"
        hint = f", not one-hot: encode them in the network, by {layer}"
    raise UsageError(
        f"The labels of the {network.role} must be class ids (batch,) or (batch, 1){hint}. "
        f"Received: {_described(labels)}"
    )


def _tensors(network: Network) -> dict[str, Any]:
    """Returns the symbolic inputs by field; of a subclassed network, nothing."""
    return dict(zip(network.fields, getattr(network.model, "inputs", None) or (), strict=False))


def _order(network: Network) -> str:
    """Returns a hint at the order of inputs that are not named after their fields."""
    if network.by_name or len(network.fields) < 2:
        return ""
    return f"; inputs must be in the order {', '.join(network.fields)}, or have these names"


def _described(tensor: Any) -> str:
    sizes = ", ".join("any" if n is None else str(n) for n in tensor.shape[1:])
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return f"input {tensor.name!r} of shape (batch{', ' * bool(sizes)}{sizes}), {dtype}"


def tables(networks: Mapping[str, Network], num_classes: int) -> None:
    """Checks that the embeddings and one-hot encodings of labels have a row for each class.

    TensorFlow raises an error of its own for an id beyond an embedding on a CPU; on a GPU, and in a
    one-hot encoding, it returns zeros.

    Raises:
        UsageError: fewer rows than classes.
    """
    for role, network in networks.items():
        asks = num_classes and "labels" in network.fields
        for table in network.lookups({"labels": (0, num_classes - 1)}) if asks else ():
            if table.ids.high >= table.size:
                raise UsageError(
                    f"The {role} must have a row for each of the {num_classes} classes, whose ids "
                    f"reach up to {table.ids.high:g} in layer {table.layer!r}. "
                    f"Received: {table.size} rows"
                )


# ------------------------------------------------------------------------ outputs


def outputs(network: Network, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the symbolic outputs of a network by name.

    Args:
        network: the network.
        fields: symbolic fields by name.

    Raises:
        UsageError: a network that cannot be called with them, or that returns no batch, or
            integers.
    """
    try:
        found = network.describe(fields)
    except UsageError:
        raise
    except Exception as error:  # layers may raise anything
        line = one_line(error)
        raise UsageError(
            f"The {network.role} must run on a batch of {', '.join(network.fields)}. "
            f"Received: an error: {line or type(error).__name__}"
        ) from error
    if network.output not in found:
        return found
    for tensor in tree.flatten(found[network.output]):
        if not hasattr(tensor, "dtype"):
            continue
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if not keras.backend.is_float_dtype(dtype):
            raise UsageError(
                f"The {network.output} of the {network.role} must be floating-point numbers, "
                f"through which it learns. Received: {dtype}"
            )
    of_two = tree.flatten(network.describe_two()[network.output])
    for tensor, two in zip(tree.flatten(found[network.output]), of_two, strict=True):
        sizes: list[tuple[int | None, ...]] = [
            tuple(getattr(x, "shape", ())) for x in (tensor, two)
        ]
        if not all(sizes) or sizes[0][0] is not None or sizes[1][0] not in (None, 2):
            fixed = all(sizes) and sizes[0][0] is not None
            raise UsageError(
                f"The {network.output} of the {network.role} must have one row for each example "
                f"of a batch of any size. Received: shape "
                + (f"{sizes[0]}" if fixed else f"{sizes[1]} for 2 examples")
            )
    return found


def sample_shape(network: Network, found: Mapping[str, Any]) -> tuple:
    """Returns the shape of a generator's samples.

    Height and width are `None` for a translator: a generator that makes pictures of any size from
    pictures of any size, and whose latents have a known length, if it takes any. So is the time of
    sound from spectrograms of any length.

    Args:
        network: the generator.
        found: its symbolic outputs by name.

    Raises:
        UsageError: no output `samples`, several tensors, or an unknown shape.
    """
    output: Any = found.get("samples")
    if not hasattr(output, "shape"):
        several = isinstance(output, (list, tuple))
        shapes = [tuple(getattr(x, "shape", ())) for x in output or ()] if several else []
        received = f"{len(shapes)} outputs, of shapes {shapes}"
        raise UsageError(
            "The generator must return a tensor, or a dictionary with one named samples. "
            f"Received: {received if several else 'outputs ' + ', '.join(found)}"
        )
    shape = tuple(output.shape[1:])
    if None in shape and not _follows_inputs(network, shape):
        raise UsageError(
            "The generator's samples must have a known shape; only a generator that takes a "
            "picture of any height and width, or a series of any length, may leave those of its "
            "samples open. "
            f"Received: {shape}"
        )
    if not shape:
        raise UsageError(
            "The generator's samples must have at least one axis besides the batch. "
            "Received: samples of shape (batch,)"
        )
    return shape


def _follows_inputs(network: Network, shape: tuple) -> bool:
    """Returns True if free lengths of the samples can only be those of an input of their rank."""
    axes = len(shape) - 1  # all but the channels
    free = (None,) * axes
    given = [tuple(x.shape[1:-1]) for x in _tensors(network).values() if len(x.shape) == axes + 2]
    return axes in (1, 2) and shape[-1] is not None and shape[:-1] == free and free in given


def value_range(
    own: tuple[float, float] | None, stated: tuple[float, float] | None, where: str
) -> tuple[float, float] | None:
    """Returns the range of a generator's samples, which is stated or follows from its last layers.

    Args:
        own: that of its last layers, see `keras_gan.networks.output_range`; None if unknown.
        stated: that of the data or of a description; None if unknown.
        where: what it is stated of, such as "the data".

    Raises:
        UsageError: two ranges of which one cannot be meant for the other.
    """
    if own and stated and not agree(own, stated):
        raise UsageError(
            f"The range of {where} must be that of the generator's samples, [{own[0]:g}, "
            f"{own[1]:g}] by its last layers; change one of them (tanh is for [-1, 1]). "
            f"Received: value_range=[{stated[0]:g}, {stated[1]:g}]"
        )
    return stated or own


def agree(own: tuple[float, float], stated: tuple[float, float]) -> bool:
    """Returns True if a network with its own range of outputs can be meant for a stated one.

    It may overshoot: 1.1 * tanh is for values in [-1, 1]. One without an upper limit must reach the
    lower one.
    """
    width, own_width = stated[1] - stated[0], own[1] - own[0]
    if math.isinf(own_width):
        return not value_ranges.leaves(*stated, own, 0.05 * width)
    shift = abs(sum(own) - sum(stated)) / 2
    return shift <= 0.05 * width and 0.9 * width <= own_width <= value_ranges.WIDEST * width


def list_of_logits(logits: Any) -> None:
    """Checks that several tensors of a discriminator are logits, and not its classes as well.

    Raises:
        UsageError: tensors with last axes of different sizes.
    """
    if not isinstance(logits, (list, tuple)):
        return
    shapes = [tuple(x.shape) for x in logits]
    if len({shape[-1] for shape in shapes if len(shape) > 1}) > 1:
        raise UsageError(
            "A list that a discriminator returns holds logits, which are averaged; name other "
            "outputs by a dictionary: {'logits': ..., 'classes': ...}. "
            f"Received: a list of shapes {shapes}"
        )


def logits(discriminator: Network, loss: Loss) -> None:
    """Checks that a discriminator does not end in a sigmoid, softmax or tanh.

    Raises:
        UsageError: its last layers bound the logits to a range in which the loss cannot learn.
    """
    for found in tree.flatten(discriminator.output_intervals().get("logits")):
        if isinstance(found, Interval) and not loss.reached_by(found.low, found.high):
            function = f" ({found.function})" if found.function else ""
            raise UsageError(
                "The discriminator must return logits, any real numbers, for the loss "
                f"{type(loss).__name__}: remove its last activation, such as "
                "activation='sigmoid', or end it in Dense(1). Received: values from "
                f"{found.low:g} to {found.high:g}, by layer {found.by!r}{function}"
            )


# ------------------------------------------------------------------------ what can learn


def second_order(networks: Mapping[str, Network], terms: Iterable[Term]) -> None:
    """Checks the networks that terms differentiate twice.

    Raises:
        UsageError: a layer whose second derivative is missing or wrong.
    """
    for role, network in networks.items():
        if any(role in term.second_order for term in terms):
            _second_derivative(role, network.model)


def _second_derivative(role: str, model: keras.Model) -> None:
    """Checks that a network has no layers whose second derivative is missing or wrong, silently."""
    for layer in model._flatten_layers():
        if isinstance(layer, _WRONG_SECOND_DERIVATIVE):
            raise UsageError(
                "A gradient penalty cannot be differentiated through a normalization layer of "
                f"Keras in the {role} (tf.nn.moments has a wrong second derivative); use none, or "
                f"keras_gan.layers.GroupNormalization. Received: layer {layer.name!r}, "
                f"{type(layer).__name__}"
            )
        resizes = isinstance(layer, keras.layers.Resizing)
        if resizes or getattr(layer, "interpolation", "nearest") != "nearest":
            raise UsageError(
                "A gradient penalty cannot be differentiated through a resizing layer of the "
                f"{role} (TensorFlow has no second derivative for it); use AveragePooling2D "
                f"or nearest UpSampling2D. Received: layer {layer.name!r}"
            )


def regularizers(networks: Mapping[str, Network]) -> None:
    """Warns of regularizers and losses of layers, which a game does not use."""
    for role, network in networks.items():
        for layer in network.model._flatten_layers():
            found = _own_loss(layer)
            if found:
                warnings.warn(
                    "Regularizers of layers and add_loss are not part of a game's losses: use a "
                    f"term, or the optimizer's weight_decay. Received: {found} of layer "
                    f"{layer.name!r} of the {role}",
                    stacklevel=2,
                )
                return


def _own_loss(layer: Any) -> str:
    """Returns what a layer adds to the losses of Keras in words; empty for nothing."""
    own = [x.regularizer for x in getattr(layer, "_trainable_variables", ())]
    if any(own) or getattr(layer, "activity_regularizer", None) is not None:
        return "a regularizer"
    classes = [c for c in type(layer).__mro__ if c.__module__.split(".")[0] not in _WITHOUT_LOSS]
    functions = [inspect.unwrap(f) for c in classes for f in vars(c).values() if callable(f)]
    codes = [getattr(getattr(f, "python_function", f), "__code__", None) for f in functions]
    return "add_loss" if any(map(_adds_loss, codes)) else ""


def _adds_loss(code: Any) -> bool:
    """Returns True if a function, or one within it, calls a method `add_loss`."""
    if not isinstance(code, types.CodeType):
        return False
    return "add_loss" in code.co_names or any(map(_adds_loss, code.co_consts))


def trainable(players: Mapping[str, Sequence[keras.Model]]) -> None:
    """Checks that each player has weights that its optimizer can move.

    Args:
        players: networks of each player.

    Raises:
        UsageError: a player whose networks are all frozen, or have no weights.
    """
    for player, models in players.items():
        if any(model.trainable_variables for model in models):
            continue
        frozen = [x.name for model in models for x in _frozen(model)]
        hint = "; leave out `trainable = False`, as each step trains one player alone"
        raise UsageError(
            f"The {player} must have trainable weights{hint if frozen else ''}. Received: "
            + (f"{frozen[0]!r} with trainable=False" if frozen else "none")
        )


def _frozen(model: keras.Model) -> list[Any]:
    """Returns the model, or those of its layers that have weights, that were made untrainable."""
    if not model.trainable:
        return [model]
    return [layer for layer in model._flatten_layers() if not layer.trainable and layer.weights]


def unchanged(player: str, compiled: Sequence[int], now: Sequence[int]) -> None:
    """Checks that a player trains the weights that its optimizer was compiled for.

    Args:
        player: its name.
        compiled: identities of the weights at `compile`.
        now: those of the weights that are trainable now.

    Raises:
        UsageError: layers that were frozen or unfrozen after `compile`.
    """
    if compiled != now:
        raise UsageError(
            f"The {player}'s `trainable` must not change after compile: call compile again. "
            f"Received: {len(now)} trainable weights, {len(compiled)} at compile"
        )


def shared(players: Mapping[str, Sequence[keras.Model]]) -> None:
    """Warns of weights that two players train, unless both train the same networks.

    Args:
        players: networks of each player.
    """
    weights = {
        player: {id(x): x for model in models for x in model.trainable_variables}
        for player, models in players.items()
    }
    for (one, own), (other, others) in itertools.combinations(weights.items(), 2):
        if all(any(x is y for y in players[other]) for x in players[one]):
            continue  # one network in two phases of a training
        if both := [own[key] for key in own if key in others]:
            warnings.warn(
                f"Networks of two players should not share weights, which both optimizers then "
                f"train, and which a saved game loads as two. Received: {len(both)} shared by "
                f"{one} and {other}, such as {both[0].path!r}",
                stacklevel=2,
            )
