"""Classifiers: a discriminator with class logits, as probabilities and a score of novelty."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from export.declare import Declarations
from keras_gan import Game, UsageError
from serving import kinds

ROLE = "classifier"
CLASSES, NOVELTY = "classes", "novelty"  # names of the outputs
_ALONE = 1e-3  # largest change of an output by the other examples of a batch


def select(game: Game, name: str | None, average: bool) -> tuple[keras.Model, bool]:
    """Returns the network of a game that an export writes, and whether it is a classifier.

    Args:
        game: the game.
        name: name of the network; by default the one that the game exports.
        average: the averaged network rather than the live one, where it has an average.

    Raises:
        UsageError: no network of that name that can be exported.
    """
    model = game.exported(name, average)
    if game.export_role(game.exported_name(name)) != ROLE:
        return model, False
    return of_discriminator(model, game.sample_shape), True


def of_discriminator(model: keras.Model, shape: tuple[int | None, ...]) -> keras.Model:
    """Returns a model from samples to the probabilities of their classes and their novelty.

    `classes` is the softmax of the discriminator's class logits. `novelty` is its adversarial
    logit, which is their logsumexp in a semi-supervised game: the lower it is, the less a sample
    looks like the training data.

    Args:
        model: discriminator with the outputs `logits` and `classes`.
        shape: shape of one sample.

    Raises:
        UsageError: a discriminator that takes more than one sample, or that has several logits.
    """
    inputs = list(getattr(model, "inputs", None) or [])
    if len(inputs) != 1 or tuple(inputs[0].shape[1:]) != tuple(shape):
        found = ", ".join(f"{x.name} {tuple(x.shape[1:])}" for x in inputs)
        raise UsageError(
            f"A classifier must take one sample of shape {tuple(shape)} and nothing else: leave "
            "`condition` and `pac` out of the discriminator's recipe. "
            f"Received: model {model.name!r} with the inputs {found or 'of a subclassed model'}"
        )
    samples = keras.Input(inputs[0].shape[1:], dtype=inputs[0].dtype, name="samples")
    found = model(_nested(model, samples))
    logits, classes = found["logits"], found["classes"]
    if isinstance(logits, list | tuple) or math.prod(logits.shape[1:]) != 1:
        received = [tuple(x.shape) for x in keras.tree.flatten(logits)]
        raise UsageError(
            "A classifier must have one logit for each sample. "
            f"Received: logits of shape {', '.join(map(str, received))}"
        )
    layers: Any = keras.layers
    outputs = {
        CLASSES: layers.Softmax(dtype="float32", name=CLASSES)(classes),
        NOVELTY: layers.Reshape((1,), dtype="float32", name=NOVELTY)(logits),
    }
    return keras.Model(samples, outputs, name=f"{model.name}_classifier")


def _nested(model: keras.Model, samples: Any) -> Any:
    """Returns the samples in the structure that a model takes: a tensor, a list or a dict."""
    return keras.tree.map_structure(lambda _: samples, model.input)


def check_alone(model: keras.Model) -> None:
    """Checks that a classifier's answer does not depend on the other examples of the batch.

    Raises:
        UsageError: a network that compares the examples of a batch.
    """
    shape = tuple(model.inputs[0].shape[1:])
    if None in shape:
        return
    batch = np.random.default_rng(0).uniform(-1, 1, (4, *shape)).astype("float32")
    batch[1:] *= 0.1  # unlike the first one
    together, alone = (_outputs(model, rows) for rows in (batch, batch[:1]))
    for name, values in together.items():
        change = float(np.abs(values[:1] - alone[name]).max())
        if not change <= _ALONE * max(1.0, float(np.abs(values).max())):
            raise UsageError(
                "A classifier must answer each example by itself; the answer of this one depends "
                "on the others of its batch, as with a layer of minibatch statistics. "
                f"Received: output {name!r}, which changes by {change:.2g}"
            )


def _outputs(model: keras.Model, samples: np.ndarray) -> dict[str, np.ndarray]:
    found: Any = model(samples, training=False)
    return {name: np.asarray(values) for name, values in found.items()}


def without_classes(declared: Declarations) -> Declarations:
    """Returns declarations for the inputs of a classifier, which has no input of classes."""
    return dataclasses.replace(declared, num_classes=0, class_names=())


def describe(declared: Declarations, shapes: Mapping[str, Any]) -> Declarations:
    """Returns declarations in which the output `classes` has the names of the classes.

    Args:
        declared: what the caller declares.
        shapes: dtype and shape of each output by name, without the batch.

    Raises:
        UsageError: another number of names than of probabilities.
    """
    dtype, shape = shapes.get(CLASSES, ("", ()))
    facts = dict(declared.outputs.get(CLASSES, {}))
    if "float" not in dtype or len(shape) != 1 or not isinstance(shape[0], int):
        return declared
    if not kinds.get(facts.setdefault("kind", "label")).holds_classes:
        return declared
    names = tuple(declared.class_names)
    if not names and declared.spec is not None and len(declared.spec.class_names) == shape[0]:
        names = tuple(declared.spec.class_names)
    count = len(names) or declared.num_classes or shape[0]
    if count != shape[0]:
        raise UsageError(
            f"A classifier must have as many class names as probabilities, {shape[0]}. "
            f"Received: {count} classes"
        )
    meta = {"num_classes": count} | ({"class_names": list(names)} if names else {})
    facts |= {"meta": meta | dict(facts.get("meta") or {})}
    outputs = {CLASSES: facts, NOVELTY: {"kind": "array"}} | dict(declared.outputs)
    outputs[CLASSES] = facts
    return dataclasses.replace(declared, outputs={n: outputs[n] for n in shapes if n in outputs})
