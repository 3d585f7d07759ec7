"""Base class of the terms, and the context that a term gets in a training step."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_gan import random_numbers, schedules
from keras_gan.arguments import check_integer, check_number
from keras_gan.errors import UsageError
from keras_gan.networks import Network
from keras_gan.registry import snake_case
from keras_gan.schedules import Schedule

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


class SharedForward:
    """A network's forward passes in one training step, one for each batch.

    The loss and the terms look at the same batches. Called with a tensor for a second time, this
    object returns the outputs that it has. `input_gradient` differentiates through the same pass.
    It must be made inside the tape that differentiates by the network's weights.

    Args:
        network: callable from samples `(batch, ...)` to outputs by name.
    """

    def __init__(self, network: Callable[[Any], Mapping[str, Any]]):
        self.network = network
        self._passes: dict[int, tuple] = {}  # id -> (samples, tape, outputs); samples keep the id

    def __call__(self, samples) -> Mapping[str, Any]:
        return self._pass(samples)[2]

    def input_gradient(self, samples, output: str = "logits"):
        """Returns the gradient of the sum of an output by the samples, at least float32.

        Of a list of outputs, it is the list of their gradients. It can be differentiated again.
        """
        samples, tape, outputs = self._pass(samples)
        # Samples of a batch do not meet in a discriminator without batch statistics, so that the
        # gradient of the sum holds the gradient of each.
        return keras.tree.map_structure(
            lambda tensor: widened(tape.gradient(tensor, samples)), outputs[output]
        )

    def _pass(self, samples):
        if id(samples) not in self._passes:
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(samples)
                outputs = self.network(samples)
            self._passes[id(samples)] = (samples, tape, outputs)
        return self._passes[id(samples)]


@dataclasses.dataclass(frozen=True)
class StepContext:
    """Inputs of a term in one training step of a player.

    Args:
        player: whose loss the term is added to, such as "discriminator".
        networks: the networks of the game by name.
        forward: callable from samples to the outputs of the discriminator by name, in float32, as
            the step computes them: behind the augmentation, in training mode.
        generate: callable from latents `(batch, latent_dim)` to samples as the discriminator takes
            them, in training mode, with the other fields of this step.
        latents: those of the generated batch, `(batch, latent_dim)`.
        real: real samples, `(batch, ...)`, before the augmentation.
        fake: generated samples, the same shape; differentiable in the generator's step.
        seed: two integers for the random numbers of the term (stateless).
        fields: the other fields of the batch by name, such as `labels`.
        step: number of this step of the player, from 0.
        augmented: callable from samples to augmented samples, with the random numbers of `forward`.
        per_sample: callable that applies a function to each of the samples that the discriminator
            sees as one, see `keras_gan.GAN`: `per_sample(function, samples)`.
        outputs: the generator's outputs by name, of the pass that `fake` comes from.
    """

    player: str
    networks: Mapping[str, Network]
    forward: Any
    generate: Callable[[Any], Any]
    latents: Any
    real: Any
    fake: Any
    seed: Any
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    step: Any = 0
    augmented: Callable[[Any], Any] = lambda samples: samples
    per_sample: Callable[[Callable, Any], Any] = lambda function, samples: function(samples)
    outputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def generator(self) -> keras.Model:
        """The generator, for its weights and layers."""
        return self.networks["generator"].model

    @property
    def discriminator(self) -> keras.Model:
        """The discriminator, for its weights and layers."""
        return self.networks["discriminator"].model

    def logits(self, samples):
        """Returns the discriminator's logits on samples: a tensor, or a list of them."""
        return self.forward(samples)["logits"]

    def input_gradient(self, samples):
        """Returns the gradient of the summed logits by the samples, see `SharedForward`."""
        return self.forward.input_gradient(samples)

    def inputs(self, network: str, **given: Any) -> Any:
        """Returns the inputs of a network from fields that are given and those of the step."""
        return self.networks[network].inputs({**self.fields, **given})

    def with_own_passes(self) -> StepContext:
        """Returns the same with forward passes of its own, for a branch of the graph."""
        return dataclasses.replace(self, forward=SharedForward(self.forward.network))


@dataclasses.dataclass(frozen=True)
class GameSpec:
    """Structure of the game, for a term's checks before the first step.

    Args:
        players: names of the players, who each have an optimizer.
        networks: the networks by name.
        outputs: symbolic outputs by name, for each network.
        sample_shape: shape of a sample.
        num_classes: number of classes of the labels; 0 without labels.
    """

    players: tuple[str, ...]
    networks: Mapping[str, Network]
    outputs: Mapping[str, Mapping[str, Any]]
    sample_shape: tuple
    num_classes: int = 0


class Term:
    """Base class of the terms, which players minimize beside the adversarial loss.

    A subclass defines `values`, or `__call__` if it has a state. Its name in recipes and among the
    metrics is the class name in snake case. It must be registered with
    `keras.saving.register_keras_serializable`, so that a game can be saved.

    Class attributes:
        players: whose losses it is added to.
        outputs: names of the outputs that it reads, for each network.
        fields: names of the fields of the data that it reads, such as "labels".
        second_order: networks that it differentiates by their inputs, so that the training step
            differentiates them twice.
        supervises: True if the generator can learn from the term alone, without a discriminator.
        allows_unlabeled: True if a label of -1, which stands for an unlabeled example, is valid
            for the term.

    Args:
        weight: factor of the term, at least 0, or a schedule of it.
        interval: the term is computed every `interval` steps of its player, at least 1, and then
            weighs `interval` times as much ("lazy regularization", StyleGAN2).

    Raises:
        UsageError: a weight or interval out of range.
    """

    players: tuple[str, ...] = ("discriminator",)
    outputs: Mapping[str, tuple[str, ...]] = {"discriminator": ("logits",)}
    fields: tuple[str, ...] = ()
    second_order: tuple[str, ...] = ()
    supervises = False
    allows_unlabeled = False

    def __init__(self, weight: float | Schedule = 1.0, interval: int = 1):
        self.weight = checked_weight("weight", weight)
        check_integer("interval", interval)
        self.interval = int(interval)

    def values(self, context: StepContext) -> Any:
        """Computes the term.

        Args:
            context: what it sees of the step.

        Returns:
            One value per sample, `(batch,)`, or one for the batch, `(1,)`, before the weight.
        """
        raise NotImplementedError

    def __call__(self, context: StepContext, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Computes the term and its new state.

        Args:
            context: what it sees of the step.
            state: tensors by the names of `initial_state`.

        Returns:
            Values as those of `values`, and the new state. Replicas keep the mean of the floating
            states that each of them returns.
        """
        return self.values(context), state

    def check(self, game: GameSpec) -> None:
        """Raises a `UsageError` if the term cannot be computed in a game."""

    def networks_read(self, player: str) -> tuple[str, ...]:
        """Returns the names of the networks whose outputs it reads in a player's step."""
        return tuple(self.outputs)

    def label_classes(self, game: GameSpec) -> int:
        """Returns the number of classes of the labels that the term reads, 0 if it reads none."""
        return game.num_classes if "labels" in self.fields else 0

    def weight_on(self, player: str) -> float | Schedule:
        """Returns the term's weight in the loss of a player."""
        return self.weight

    def initial_state(self) -> dict[str, Any]:
        """Returns the state before the first step: numbers or arrays by name.

        Numbers are kept as float32, arrays in their own types and shapes.
        """
        return {}

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {"weight": serialize(self.weight), "interval": self.interval}

    @classmethod
    def from_config(cls, config: dict) -> Term:
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{name: deserialize(value) for name, value in config.items()})


class PairTerm(Term, abc.ABC):
    """Base class of terms of a generator and its discriminator, with a weight for each of them.

    Args:
        weight: on the discriminator, from 0 up, or a schedule of it.
        interval: see `Term`.
        generator_weight: on the generator, from 0 up, or a schedule of it.

    Raises:
        UsageError: a weight or interval out of range.
    """

    players = ("discriminator", "generator")

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        interval: int = 1,
        generator_weight: float | Schedule = 1.0,
    ):
        super().__init__(weight, interval)
        self.generator_weight = checked_weight("generator_weight", generator_weight)

    @abc.abstractmethod
    def values(self, context: StepContext) -> Any:
        """Computes the term, see `Term`."""

    def weight_on(self, player: str) -> float | Schedule:
        return self.generator_weight if player == "generator" else self.weight

    def get_config(self) -> dict:
        weight = keras.saving.serialize_keras_object(self.generator_weight)
        return {**super().get_config(), "generator_weight": weight}


def name_of(term: Term) -> str:
    """Returns the term's name in recipes and among the metrics."""
    return snake_case(type(term).__name__)


def check_outputs(term: Term, game: GameSpec) -> None:
    """Checks that a game has the players and outputs that a term is for.

    Raises:
        UsageError: the first that is missing.
    """
    name = name_of(term)
    for player in term.players:
        if player not in game.players:
            raise UsageError(
                f"The term {name!r} is for the player {player!r}, which the game does not have. "
                f"Received: a game with the players {', '.join(game.players)}"
            )
    for network, outputs in term.outputs.items():
        given = game.outputs.get(network, {})
        for output in outputs:
            if output not in given:
                raise UsageError(
                    f"The term {name!r} reads the output {output!r} of the {network}. "
                    f"Received: a {network} with the outputs {', '.join(given) or '(none)'}"
                )


def check(term: Term, game: GameSpec) -> None:
    """Checks that a game has the labels that a term needs, and what the term itself checks.

    Raises:
        UsageError: labels that are missing, or whatever the term itself cannot use.
    """
    if "labels" in term.fields and not term.label_classes(game):
        raise UsageError(
            f"The term {name_of(term)!r} needs labels; give num_classes. Received: num_classes=0"
        )
    term.check(game)


# ------------------------------------------------------------------------ for several terms


def widened(tensor):
    """Returns a tensor in its type, but at least float32."""
    return ops.cast(tensor, keras.backend.result_type(tensor.dtype, "float32"))


def normal(like, seed):
    """Returns standard normal numbers of a tensor's shape and type."""
    return random_numbers.normal(tf.shape(like), seed, like.dtype)


def checked_weight(name: str, weight: Any) -> float | Schedule:
    """Returns a weight as a float, or the schedule of it.

    Raises:
        UsageError: a weight below 0 or not finite.
    """
    weight = schedules.get(weight)
    check_number(name, weight, minimum=0, schedule=True)
    return weight if isinstance(weight, Schedule) else float(weight)


def check_condition(game: GameSpec, term: str) -> None:
    """Checks that the generator takes a condition, besides latents and labels.

    Args:
        game: structure of the game.
        term: the term that needs it, for the error.

    Raises:
        UsageError: it does not.
    """
    fields = game.networks["generator"].fields
    if set(fields) <= {"latents", "labels"}:
        raise UsageError(
            f"{term} needs a generator with a condition, which determines the real sample that it "
            f"is to return. Received: a generator of {', '.join(fields)}"
        )
