"""The base class of games: everything but the algorithm of a training step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import augment as augments
from keras_gan import (
    configuration,
    data_spec,
    layers,
    network_checks,
    optimizers,
    random_numbers,
    replicas,
    schedules,
    terms,
)
from keras_gan.arguments import check_integer, check_number, check_positive
from keras_gan.data_ranges import SeenValues
from keras_gan.errors import UsageError
from keras_gan.games import _averaging, _construction, _data, _noise, _players, _states, _terms
from keras_gan.games._augmentation import Augmentation
from keras_gan.games._generation import GenerationInterface
from keras_gan.games._keras import KerasInterface
from keras_gan.games._optimizer import PlayerOptimizers
from keras_gan.games._packing import Packing
from keras_gan.networks import Network
from serving import value_ranges

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

# Arguments of every game, beside those that a subclass defines.
_AVERAGES = ("ema_half_life", "ema_rampup", "average_deviations")
_SHARED = ("terms", "augment", *_AVERAGES, "num_classes", "latent_dim", "seed")


class Game(_construction.Construction, _data.DataInterface, GenerationInterface, KerasInterface):
    """Base class of games, which are Keras models that `fit` trains on real samples.

    A subclass names its players and metrics, passes its networks on, and writes one training step
    in `step`. Everything else is here: noise, optimizers, moving averages, counters, terms,
    augmentation, metrics, replicas, saving and sampling.

    Networks are attributes by their names, and their moving averages are `average_NAME`. A network
    gets the fields (`latents`, `samples`, `labels`, `condition`, ...) that its inputs are named
    after; if its inputs have no such names, it is called with `latents` or `samples`, and `labels`
    if the game has classes.

    Class attributes:
        players: the networks that each player trains, with one optimizer for each player. By
            default each network is a player.
        metric_names: names of the metrics that `track` updates.
        sampled: name of the network that generates samples.
        averaged: names of the networks that have a moving average.
        first_input: field of the first input of a network that generates samples, if its inputs
            are not named after fields.
        inverse: name of the network from samples back to the condition, if there is one; the game
            then has a method `translate`, as `Cycle` has.

    Args:
        networks: built Keras models by name.
        terms: names or instances of terms that players minimize, see `keras_gan.terms`.
        augment: None, name or instance of an augmentation, or a callable, see `GAN`.
        packing: how samples are grouped for the discriminator; by default they are not.
        ema_half_life: half-life of the moving averages in examples, from 0 up, or a schedule of
            it; 0 for no averages.
        ema_rampup: the half-life is at most this share of the examples seen so far.
        average_deviations: standard deviations of further averages, see `GAN`.
        num_classes: number of classes of the labels; 0 if labels are not used.
        latent_dim: length of the latents; needed only for a subclassed generator.
        seed: seed of all noise in training, a whole number from 0 up.
        **kwargs: `name`, `dtype` and other arguments of `keras.Model`.

    Raises:
        UsageError: networks that do not fit the game, or an argument out of range.
    """

    players: Mapping[str, tuple[str, ...]] = {}
    metric_names: tuple[str, ...] = ()
    sampled = "generator"
    averaged: tuple[str, ...] = ("generator",)
    first_input = "latents"
    inverse: str | None = None
    sample_kind: str | None = None  # kind of the data, in its range; otherwise `fit` guesses it

    def __init__(
        self,
        networks: Mapping[str, keras.Model],
        /,
        *,
        terms: Iterable[str | dict | terms.Term] = (),
        augment: str | dict | augments.Augment | Callable | None = None,
        packing: Packing | None = None,
        ema_half_life: float | schedules.Schedule = 10_000,
        ema_rampup: float = 0.05,
        average_deviations: Sequence[float] = (),
        num_classes: int = 0,
        latent_dim: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        configuration.check_floatx()
        check_integer("num_classes", num_classes, 0)
        check_integer("seed", seed, 0)
        check_number("ema_half_life", ema_half_life, minimum=0, schedule=True)
        check_positive("ema_rampup", ema_rampup)
        self.terms = _terms.named(terms)
        self.augment = augments.get(augment)
        self.ema_half_life, self.ema_rampup = ema_half_life, float(ema_rampup)
        self.num_classes, self.seed = int(num_classes), int(seed)
        if not self.players:
            self.players = {name: (name,) for name in networks}
        self._add_networks(networks, latent_dim, packing or Packing())
        for name in self.averaged:
            live = getattr(self, name)
            average = _averaging.copy_of(live, name) if ema_half_life else live
            setattr(self, f"average_{name}", average)
        # Counters of its own: an optimizer's stands still when a loss scale is halved.
        self.iteration = self._counter("iteration")
        self.examples_seen = self._counter("examples_seen")
        self.evaluation_step = self._counter("evaluation_step")
        self.augmentation = Augmentation(self.augment, self.sample_shape, self.examples_seen)
        initial = {name: term.initial_state() for name, term in self.terms.items()}
        if isinstance(self.augment, augments.Augment):
            initial["augment"] = self.augment.initial_state()
        self.states = {name: _states.create(self, name, state) for name, state in initial.items()}
        self.augmentation.variables = self.states.get("augment", {})
        self.power_averages = _averaging.PowerAverages(self, average_deviations)
        self._training_metrics = [*_terms.metric_names(self.terms), *self.augmentation.metric_names]
        measured = (*self.metric_names, *self._training_metrics)
        self._trackers = {name: _terms.Mean(name) for name in measured}
        self._objectives = _terms.Objectives(self.terms, self.states, self._trackers)
        self.seen_values = SeenValues()
        self._compiled_weights = {}
        self.built = True  # the networks are: nothing is left for the first batch to build

    def _add_networks(self, models: Mapping[str, Any], latent_dim: Any, packing: Packing) -> None:
        """Keeps the networks by name and checks what can be checked before the first step."""
        network_checks.named_networks(models, (self.sampled, *self.averaged))
        labels = ("labels",) if self.num_classes else ()
        self.networks: dict[str, Network] = {}
        for role, model in models.items():
            network_checks.network(role, model)
            configuration.check_layers(role, model)
            setattr(self, role, model)
            generates = self.network_role(role) == "generator"
            ports = (self.first_input, "samples") if generates else ("samples", "logits")
            self.networks[role] = Network(role, model, (ports[0], *labels), ports[1])
        generator = self.networks[self.sampled]
        network_checks.inputs(self.networks, self.num_classes)
        self.latent_dim = network_checks.latent_dim(generator, latent_dim)
        fields = {
            "latents": keras.KerasTensor((None, self.latent_dim), "float32"),
            "labels": keras.KerasTensor((None,), "int32"),
        }
        outputs = {self.sampled: network_checks.outputs(generator, fields)}
        self.sample_shape = network_checks.sample_shape(generator, outputs[self.sampled])
        self.packing = packing.of(self.sample_shape)
        fields["samples"] = keras.KerasTensor((None, *self.packing.shape), "float32")
        for role, network in self.networks.items():
            if role != self.sampled:
                outputs[role] = network_checks.outputs(network, fields)
        spec = terms.GameSpec(
            tuple(self.players), self.networks, outputs, self.sample_shape, self.num_classes
        )
        # First, as a network that lacks an output of a term seems to lack an input for it.
        for term in self.terms.values():
            terms.check_outputs(term, spec)
        self.check_networks(outputs)
        network_checks.shared(_players.models(self))
        network_checks.regularizers(self.networks)
        network_checks.second_order(self.networks, self.terms.values())
        for term in self.terms.values():
            terms.check(term, spec)
        # Labels that the networks are not given, but terms read.
        found = [term.label_classes(spec) for term in self.terms.values()]
        self.label_classes = 0 if self.num_classes else max(found, default=0)
        network_checks.tables(self.networks, self.num_classes)

    def check_networks(self, outputs: Mapping[str, Mapping[str, Any]]) -> None:
        """Raises a `UsageError` if the networks do not fit the game; for subclasses.

        Args:
            outputs: symbolic outputs by name, for each network.
        """

    def check_gradients(self) -> None:
        """Raises a `UsageError` if a network could learn nothing; for subclasses.

        It is called once before the first step of a training.
        """

    def _counter(self, name: str):
        return self.add_weight(
            name=name,
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    def count(self, name: str) -> int:
        """Returns the value of a counter, "iteration" or "examples_seen"."""
        return int(getattr(self, name).value.numpy())

    # ---------------------------------------------------------------- optimizers

    def compile(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *given: Any, **arguments: Any
    ) -> None:
        """Sets the optimizer of each player.

        Args:
            *given: optimizers in the order of the players; or by name, `PLAYER_optimizer`. Each is
                a Keras optimizer, its name or its config; by default `Adam(2e-4, beta_1=0.5)`.
            **arguments: `jit_compile`, `steps_per_execution` and `run_eagerly` of
                `keras.Model.compile`.

        Raises:
            UsageError: one optimizer for two players, an argument that a game cannot use, or one
                that Keras cannot run under the distribution strategy.
        """
        models = _players.check(self)
        made, compiled = optimizers.for_players(type(self).__name__, models, given, arguments)
        super().compile(optimizer=None, **compiled)
        for player, optimizer in made.items():
            setattr(self, f"{player}_optimizer", optimizer)
            optimizers.prepare(optimizer, self.weights_of(player), self.examples_seen.value)
        self._compile_arguments = compiled
        self._player_optimizers = PlayerOptimizers(self)
        self._compiled_weights = _players.identities(self)

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        # Under a strategy, Keras would build what is built already, with a batch that it cannot
        # make on several workers (keras issue 20585).
        return

    def weights_of(self, player: str) -> list[Any]:
        """Returns the variables that a player trains."""
        return _players.weights(self, player)

    def minimize(self, player: str, loss: Any, tape: tf.GradientTape) -> None:
        """Updates the weights of a player by one step of its optimizer.

        Args:
            player: name of the player.
            loss: scalar, the mean over this replica's batch.
            tape: tape that has recorded the loss.
        """
        optimizer = getattr(self, f"{player}_optimizer")
        optimizers.apply(optimizer, tape, loss, self.weights_of(player))

    def sum_of_terms(self, context: terms.StepContext, without: Sequence[str] = ()) -> Any:
        """Returns the sum of the terms of a player, each times its weight; updates their states.

        Args:
            context: what the terms see of the step.
            without: names of networks; terms that read one of them are left out.
        """
        return self._objectives.total(context, self.examples_seen.value, without)

    # ---------------------------------------------------------------- steps

    def step(self, batch: dict[str, Any]) -> None:
        """Runs one training step of the algorithm; a subclass defines it.

        Args:
            batch: fields of the data by name: `samples`, and the others that networks or terms
                ask for.
        """
        raise NotImplementedError

    def evaluation(self, batch: dict[str, Any]) -> None:
        """Updates the metrics on one batch without training; a subclass may define it."""
        raise UsageError(
            f"{type(self).__name__} has no evaluation: train it without validation_data. "
            "Received: a batch to evaluate"
        )

    @property
    def has_evaluation(self) -> bool:
        """True if the game defines `evaluation`."""
        return type(self).evaluation is not Game.evaluation

    def train_step(self, data: Any) -> dict[str, Any]:
        """Runs `step` on a batch, updates averages and counters, and returns the metrics."""
        batch = self.batch_of(data)
        # A step at the end of the data, or at a batch that is refused, must leave no trace. What
        # does not depend on the batch, such as the counters, would run before it has arrived.
        with tf.control_dependencies([tf.identity(batch["samples"])]):
            self._update(batch)
        return replicas.as_results(self.get_metrics_result())

    def _update(self, batch: dict[str, Any]) -> None:
        size = tf.cast(tf.shape(batch["samples"])[0], "int64") * replicas.count()
        with self.layer_noise():
            self.step(batch)
        self.examples_seen.assign_add(size)
        _averaging.update(self, size)
        self.end_step(size)
        self.iteration.assign_add(1)

    def end_step(self, examples: Any) -> None:
        """Runs at the end of each training step, after the averages; for subclasses.

        Args:
            examples: number of examples of the step, which `examples_seen` includes.
        """

    def test_step(self, data: Any) -> dict[str, Any]:
        """Runs `evaluation` on a batch and returns the metrics."""
        self.evaluation(self.batch_of(data))
        self.evaluation_step.assign_add(1)
        # Terms are for training; a 0.0 beside a validation loss would be read as a value.
        results = self.get_metrics_result()
        kept = {n: value for n, value in results.items() if n not in self._training_metrics}
        return replicas.as_results(kept)

    def make_train_function(self, force: bool = False):
        old = None if force else self.train_function
        if old is None:
            _players.check(self, self._compiled_weights)
            self.check_gradients()
        super().make_train_function(force)
        if self.train_function is not old and replicas.spans_processes(self.distribute_strategy):
            self.train_function = replicas.by_name(self.train_function)

    def make_test_function(self, force: bool = False):
        old = None if force else self.test_function
        super().make_test_function(force)
        if self.test_function is not old and replicas.spans_processes(self.distribute_strategy):
            self.test_function = replicas.by_name(self.test_function)

    # ---------------------------------------------------------------- noise

    def random_seed(self, purpose: str, index: Any = 0):
        """Returns two integers for stateless random operations.

        They are a function of the game's seed, the purpose, the replica, the iteration and an
        index, so that no state needs saving.

        Args:
            purpose: any name; different purposes get different numbers.
            index: number within the training step, such as that of a discriminator step.
        """
        return _noise.seed_of(self.seed, purpose, self.iteration.value, index)

    def layer_noise(self, index: Any = 0):
        """Returns a context in which layers such as `PhaseShuffle` draw from the game's seed.

        `step` runs within that of index 0.

        Args:
            index: number within the training step, for other noise.
        """
        return layers.layer_noise(lambda: self.random_seed("layers", index))

    def draw_latents(self, samples: Any, seed: Any):
        """Returns standard normal latents `(batch, latent_dim)`, as many as there are samples."""
        return random_numbers.normal((tf.shape(samples)[0], self.latent_dim), seed)

    # ---------------------------------------------------------------- metrics

    def track(self, **values: Any) -> None:
        """Adds values, or those of each sample, to the means of metrics by name."""
        for name, value in values.items():
            self._trackers[name].update_state(value)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._trackers.values())

    def has_values(self, metric: str) -> bool:
        """Returns False for a metric that no training step has computed yet; for subclasses."""
        return True

    @property
    def is_supervised(self) -> bool:
        """True if the generator can learn without a discriminator, from a term."""
        return any(term.supervises for term in self.terms.values())

    def reset_metrics(self) -> None:
        self.evaluation_step.assign(0)  # every evaluation begins with the same noise
        super().reset_metrics()

    # ---------------------------------------------------------------- data

    @property
    def data_spec(self) -> data_spec.DataSpec:
        """The data that the game needs."""
        asked = {name: f"term {key!r}" for key, t in self.terms.items() for name in t.fields}
        shapes: dict[str, tuple] = {}
        for role, network in self.networks.items():
            asked |= dict.fromkeys(network.fields, role)
            stated = {name: network_checks.input_shape(network, name) for name in network.fields}
            shapes |= {name: shape for name, shape in stated.items() if shape is not None}
        for name in ("latents", "samples", *(["labels"] if self.num_classes else [])):
            asked.pop(name, None)
            shapes.pop(name, None)
        limits = self.networks[self.sampled].output_limits()
        needs = (self.sample_shape, self.num_classes, asked, shapes)
        found = data_spec.DataSpec(*needs, kind=self.sample_kind, output_range=limits)
        stated = {k: v for x in self.networks.values() for k, v in x.stated_fields().items()}
        stated = {name: field for name, field in stated.items() if name in asked}
        return dataclasses.replace(found, label_classes=self.label_classes, stated=stated)

    def batch_of(self, data: Any) -> dict[str, Any]:
        """Returns the fields of a batch that the game uses, by name."""
        fields, spec = data_spec.read_fields(data), self.data_spec
        batch = {name: fields[name] for name in ("samples", *spec.asked) if name in fields}
        if self.num_classes:
            if "labels" not in fields:
                raise UsageError(
                    f"A conditional game of {self.num_classes} classes needs batches (x, y). "
                    "Received: x alone"
                )
            batch["labels"] = ops.cast(fields["labels"], "int32")
        return batch

    # ---------------------------------------------------------------- samples

    @property
    def samples_range(self) -> tuple[float, float] | None:
        """Range of the samples, by the data and by the last layers; None if neither is known."""
        limits = self.networks[self.sampled].output_limits()
        return value_ranges.of_samples(limits, self.data_range)

    def call(self, inputs: Any, training: bool = False):
        """Returns the averaged generator's output of its inputs."""
        return self.average(self.sampled).model(inputs, training=training)

    def average(self, name: str) -> Network:
        """Returns the moving average of a network; the network itself if it has none."""
        network = self.networks[name]
        return network.with_model(self._average_of(name)) if name in self.averaged else network

    @property
    def average_deviations(self) -> list[float]:
        """Standard deviations of the power-function averages, see `power_averages`."""
        return list(self.power_averages.deviations)

    def assign_average(self, name: str, values: Sequence[np.ndarray]) -> None:
        """Sets the floating-point weights of the moving average of a network.

        Raises:
            UsageError: a network without an average, or weights of other shapes.
        """
        _averaging.assign(self, name, values)

    def _average_of(self, name: str) -> Any:
        return getattr(self, f"average_{name}")

    # ---------------------------------------------------------------- saving

    def argument(self, name: str) -> Any:
        """Returns an argument of the constructor; by default the attribute of its name."""
        return list(self.terms.values()) if name == "terms" else getattr(self, name)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        names = dict.fromkeys((*_construction.own_arguments(type(self), Game), *_SHARED))
        return {"name": self.name} | {name: serialize(self.argument(name)) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Game:
        deserialize = keras.saving.deserialize_keras_object
        make: Any = cls  # a subclass names its networks
        return make(**{name: deserialize(value, custom_objects) for name, value in config.items()})

    def get_compile_config(self) -> dict[str, Any]:
        names = [f"{player}_optimizer" for player in self.players if self.compiled]
        serialized = {name: keras.optimizers.serialize(getattr(self, name)) for name in names}
        return serialized | getattr(self, "_compile_arguments", {})

    def compile_from_config(self, config: dict[str, Any]) -> None:
        # Optimizers are built by compile, so that their saved moments find their places.
        self.compile(**config)
