"""Optimizers of a game: making, schedules, loss scales, replicas, lazy terms, lower rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_gan import replicas
from keras_gan.arguments import check_integer, check_number
from keras_gan.errors import UsageError
from keras_gan.registry import parameters_of
from keras_gan.schedules import Schedule

_COMPILE = ("jit_compile", "steps_per_execution", "run_eagerly")
_SCALED = keras.optimizers.LossScaleOptimizer

# Ranges of the arguments of Keras's optimizers, most of which Keras itself does not check. Numbers
# with other names must be finite.
_NONNEGATIVE, _POSITIVE = {"minimum": 0}, {"above": 0}
_DECAY, _MOMENTUM = {"minimum": 0, "below": 1}, {"minimum": 0, "maximum": 1}
_RANGES: dict[str, Any] = {
    **dict.fromkeys(("beta_1", "beta_2", "adam_beta_1", "adam_beta_2", "rho"), _DECAY),
    **dict.fromkeys(("momentum", "ema_momentum"), _MOMENTUM),
    **dict.fromkeys(("epsilon", "epsilon_1", "epsilon_2", "clip_threshold"), _POSITIVE),
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"), _POSITIVE),
    **dict.fromkeys(("learning_rate", "weight_decay", "adam_weight_decay"), _NONNEGATIVE),
    **dict.fromkeys(("adam_lr_ratio", "initial_accumulator_value"), _NONNEGATIVE),
}
_INTEGERS = {  # the smallest valid one
    "gradient_accumulation_steps": 2,
    "ema_overwrite_frequency": 1,
    "ns_steps": 1,
    "warmup_steps": 0,
}

NO_GRADIENT = (
    "A player's loss must depend on its weights through operations with a gradient, unlike argmax, "
    "round, sign, comparisons and stop_gradient."
)


def inner(optimizer: Any) -> Any:
    """Returns the optimizer that updates the weights: the one within a loss scale optimizer."""
    return getattr(optimizer, "inner_optimizer", optimizer)


# ------------------------------------------------------------------------ making


def make(identifier: Any, networks: Iterable[keras.Model]) -> Any:
    """Returns the optimizer of a player, with a loss scale where a network computes in float16.

    Args:
        identifier: a Keras optimizer, its name or its config; None for `Adam(2e-4, beta_1=0.5)`.
        networks: the networks that it is to train.
    """
    if identifier is None:
        identifier = keras.optimizers.Adam(2e-4, beta_1=0.5)
    if isinstance(identifier, dict):
        identifier = _deserialized(identifier)
    optimizer: Any = keras.optimizers.get(identifier)
    layers = [layer for network in networks for layer in network._flatten_layers()]
    half = any(layer.compute_dtype == "float16" for layer in layers)
    if half and not isinstance(optimizer, _SCALED):  # Keras wraps only Model.compile's optimizer
        optimizer = _SCALED(optimizer)
    return optimizer


def for_players(
    game: str, models: Mapping[str, list[keras.Model]], given: tuple, arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the optimizers that `compile` of a game is called with.

    Args:
        game: name of the game's class, for errors.
        models: networks that each player trains.
        given: optimizers in the order of the players.
        arguments: optimizers by name, `PLAYER_optimizer`, and Keras's arguments of `compile`.

    Returns:
        The optimizer of each player, and Keras's arguments.

    Raises:
        UsageError: an argument that a game cannot use, or as `check`.
    """
    names = [f"{player}_optimizer" for player in models]
    chosen = dict(zip(names, given, strict=False))
    unused = [n for n in arguments if n in chosen or n not in (*names, *_COMPILE)]
    if unused or len(given) > len(names):
        raise UsageError(
            f"{game}.compile takes {', '.join((*names, *_COMPILE))}, each once. "
            f"Received: {', '.join(sorted(unused)) or f'{len(given)} optimizers'}"
        )
    made = {
        player: make(chosen.get(name, arguments.get(name)), models[player])
        for player, name in zip(models, names, strict=True)
    }
    compiled = {name: value for name, value in arguments.items() if name in _COMPILE}
    check(made, compiled)
    return made, compiled


def _deserialized(config: dict[str, Any]) -> dict[str, Any]:
    """Returns an optimizer's config with schedules as objects; Keras makes only the rate's."""
    arguments = dict(config.get("config") or {})
    for name, value in arguments.items():
        if isinstance(value, dict) and name == "inner_optimizer":
            arguments[name] = _deserialized(value)
        elif isinstance(value, dict) and "class_name" in value:
            arguments[name] = keras.saving.deserialize_keras_object(value)
    return {**config, "config": arguments}


def takes_schedule(cls: type, name: str) -> bool:
    """Returns whether an argument of an optimizer's class may be a schedule of `keras_gan`."""
    return name == "weight_decay" or isinstance(parameters_of(cls)[name][1], float)


def check_arguments(cls: type, arguments: Mapping[str, Any]) -> None:
    """Checks numbers and switches that a Keras optimizer is made of, by their names and defaults.

    A learning rate of 0 is valid: it leaves a network as it is. Schedules of Keras have no known
    bounds and are not checked.

    Args:
        cls: class of the optimizer.
        arguments: values by the names of the constructor's arguments.

    Raises:
        UsageError: the first that is out of range.
    """
    for name, (_, default) in parameters_of(cls).items():
        value = arguments.get(name)
        if name not in arguments or (value is None and default is None):
            continue
        if callable(value) and not isinstance(value, Schedule):
            continue
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise UsageError(f"`{name}` must be true or false. Received: {name}={value!r}")
        elif name in _INTEGERS:
            check_integer(name, value, _INTEGERS[name])
        elif name in _RANGES or isinstance(default, (int, float)):
            check_number(name, value, **_RANGES.get(name, {}), schedule=takes_schedule(cls, name))


def _arguments_of(optimizer: Any) -> dict[str, Any]:
    """Returns the arguments that an optimizer was made of and keeps as attributes."""
    found = {
        name: getattr(optimizer, name)
        for name in parameters_of(type(optimizer)).keys() - {"learning_rate"}
        if hasattr(optimizer, name)
    }
    # The property would evaluate a schedule.
    rated = hasattr(optimizer, "_learning_rate")
    return found | ({"learning_rate": learning_rate(optimizer)} if rated else {})


def check(optimizers: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Checks the optimizers of all players and the arguments of `compile`.

    Raises:
        UsageError: one optimizer for two players, one with an argument out of range, or something
            that Keras cannot run on several replicas.
    """
    for player, optimizer in optimizers.items():
        try:
            check_arguments(type(inner(optimizer)), _arguments_of(inner(optimizer)))
        except UsageError as error:
            raise UsageError(f"{player}_optimizer: {error}") from None
    if len({id(optimizer) for optimizer in optimizers.values()}) < len(optimizers):
        raise UsageError(
            "Each network needs an optimizer of its own, which keeps that network's moments. "
            f"Received: the same instance for {' and '.join(optimizers)}"
        )
    if replicas.count() == 1:
        return
    if (arguments.get("steps_per_execution") or 1) > 1:
        raise UsageError(
            "Keras cannot run several steps per execution on several replicas "
            "(https://github.com/keras-team/keras/issues/19246). "
            f"Received: steps_per_execution={arguments['steps_per_execution']}"
        )
    if arguments.get("jit_compile") is True:
        raise UsageError(
            "Keras cannot compile with XLA on several replicas "
            "(https://github.com/keras-team/keras/issues/18666). "
            "Received: jit_compile=True"
        )
    for optimizer in optimizers.values():
        _check_on_replicas(inner(optimizer))


def _check_on_replicas(optimizer: Any) -> None:
    if optimizer.gradient_accumulation_steps or optimizer.ema_overwrite_frequency:
        raise UsageError(
            "Keras cannot accumulate gradients or overwrite weights by their average on several "
            "replicas (https://github.com/keras-team/keras/issues/20582). Received: "
            f"gradient_accumulation_steps={optimizer.gradient_accumulation_steps}, "
            f"ema_overwrite_frequency={optimizer.ema_overwrite_frequency}"
        )
    if not hasattr(optimizer, "_all_reduce_sum_gradients"):
        raise UsageError(
            "This version of Keras sums the gradients of replicas in an unknown way; use a tested "
            f"version (3.15), or one device. Received: keras {keras.__version__}"
        )


def prepare(optimizer: Any, variables: list, examples_seen: Any) -> None:
    """Builds an optimizer, binds its schedules, and takes over the sum over replicas.

    Args:
        optimizer: as `make` returns it.
        variables: those that it is to train.
        examples_seen: the variable that counts examples, by which schedules go.
    """
    # Before the first step: strategies, XLA and loading cannot create moments later.
    optimizer.build(variables)
    for name, schedule in _schedules(optimizer).items():
        setattr(inner(optimizer), name, schedule.bind(examples_seen))
    if replicas.count() > 1:
        # `apply` sums the gradients over the replicas; the optimizer must not do so once more.
        inner(optimizer)._all_reduce_sum_gradients = lambda grads_and_vars: grads_and_vars


# ------------------------------------------------------------------------ a step


def apply(optimizer: Any, tape: tf.GradientTape, loss: Any, variables: list) -> None:
    """Applies one optimizer step for a loss, at the current values of the schedules.

    Args:
        optimizer: one that `prepare` has seen.
        tape: the tape that has recorded the loss.
        loss: scalar, the mean over this replica's batch.
        variables: those that the optimizer was built for.
    """
    step = inner(optimizer)
    scheduled = _schedules(optimizer)
    scheduled.pop("_learning_rate", None)  # Keras evaluates this one itself
    for name, schedule in scheduled.items():
        setattr(step, name, schedule(None))
    # The gradients of the replicas are summed, and each replica's loss is a mean of its own batch.
    scale = optimizer.scale_loss(tf.ones_like(loss) / replicas.count())
    gradients = tape.gradient(loss, variables, output_gradients=scale)
    computed = [g for g in tf.nest.flatten(gradients, expand_composites=True) if g is not None]
    if not computed:
        raise UsageError(
            f"{NO_GRADIENT} Received: {variables[0].path!r} and {len(variables) - 1} more weights "
            "without one"
        )
    if replicas.count() > 1:
        scaled = isinstance(optimizer, _SCALED)
        gradients = replicas.sum_of_gradients(gradients, variables, scaled)
    try:
        # Grappler's remapper loses the order between reading a convolution's bias and updating it
        # (TF 2.21): a forward pass would sometimes see weights that have already been updated.
        with tf.control_dependencies([loss, *computed]):
            optimizer.apply(gradients, variables)
    finally:
        for name, schedule in scheduled.items():
            setattr(step, name, schedule)


def _schedules(optimizer: Any) -> dict[str, Any]:
    """Returns the optimizer's schedules by the names of their attributes."""
    attributes = vars(inner(optimizer)).items()
    return {name: value for name, value in attributes if hasattr(value, "bind")}


# ------------------------------------------------------------------------ learning rates


@keras.saving.register_keras_serializable("keras_gan")
class Lowered(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule times a factor, as a rollback leaves it.

    Args:
        schedule: a Keras learning rate schedule.
        factor: number above 0.
    """

    def __init__(self, schedule: Any, factor: float):
        self.schedule, self.factor = schedule, float(factor)

    def __call__(self, step: Any) -> Any:
        return self.schedule(step) * self.factor

    def bind(self, clock: Any) -> Lowered:
        """Returns the same with the variable that counts examples, for a schedule that needs it."""
        bound = getattr(self.schedule, "bind", lambda clock: self.schedule)
        return Lowered(bound(clock), self.factor)

    def get_config(self) -> dict[str, Any]:
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "factor": self.factor}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Lowered:
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["factor"])


def optimizers_of(gan: Any) -> dict[str, Any]:
    """Returns a compiled game's optimizers by the names of their players."""
    return {player: getattr(gan, f"{player}_optimizer") for player in gan.players}


def learning_rate(optimizer: Any) -> Any:
    """Returns an optimizer's learning rate: a float, or its schedule."""
    rate = inner(optimizer)._learning_rate
    return float(rate.value.numpy()) if isinstance(rate, keras.Variable) else rate


def set_learning_rate(optimizer: Any, rate: Any, factor: float = 1.0) -> None:
    """Sets an optimizer's learning rate to a number, or a schedule, times a factor."""
    if factor != 1:
        rate = rate * factor if isinstance(rate, float) else Lowered(rate, factor)
    inner(optimizer).learning_rate = rate


def lowered_by(optimizer: Any) -> float:
    """Returns the factor by which rollbacks have lowered an optimizer's schedule; 1 without one."""
    rate, factor = learning_rate(optimizer), 1.0
    while isinstance(rate, Lowered):
        rate, factor = rate.schedule, factor * rate.factor
    return factor


# ------------------------------------------------------------------------ lazy regularization


def rescaled(arguments: Mapping[str, Any], interval: int) -> dict[str, Any]:
    """Returns Adam's arguments rescaled as StyleGAN2 does for a lazy term.

    With the interval k and c = k / (k + 1), the learning rate is multiplied by c, and beta_1 and
    beta_2 are raised to the power of c. StyleGAN2 updates by a lazy term in an optimizer step of
    its own, so that k training steps are k + 1 optimizer steps; the rescaling makes up for that.
    Here a lazy term is added to the loss of the same step, so k training steps are k optimizer
    steps and need no rescaling. Use it to reproduce StyleGAN2's single steps, or in a training
    loop that updates by the term separately.

    ```python
    keras.optimizers.Adam(**keras_gan.optimizers.rescaled(
        {"learning_rate": 2.5e-3, "beta_1": 0.0, "beta_2": 0.99}, interval=16))
    ```

    Args:
        arguments: `learning_rate`, `beta_1` and `beta_2`, numbers or schedules in examples seen;
            those that are missing have Keras's defaults. Other arguments are passed through.
        interval: of the lazy term, at least 1; 1 changes nothing.

    Returns:
        The arguments, rescaled.

    Raises:
        UsageError: an interval out of range, or a schedule of Keras's.

    Reference:
        - [Karras et al., 2020](https://arxiv.org/abs/1912.04958), appendix B
    """
    check_integer("interval", interval)
    if interval == 1:
        return dict(arguments)
    share = interval / (interval + 1)
    given = {"learning_rate": 1e-3, "beta_1": 0.9, "beta_2": 0.999, **arguments}
    given["learning_rate"] = _transformed("learning_rate", given["learning_rate"], share, 1.0)
    for name in ("beta_1", "beta_2"):
        given[name] = _transformed(name, given[name], 1.0, share)
    return given


def _transformed(name: str, number: Any, factor: float, power: float) -> Any:
    if isinstance(number, Schedule):
        return _Rescaled(number, factor, power)
    if not isinstance(number, (int, float)):
        raise UsageError(
            f"`{name}` must be a number or a schedule of keras_gan to be rescaled for a lazy term. "
            f"Received: {name}={number!r}"
        )
    return factor * float(number) ** power


@keras.saving.register_keras_serializable("keras_gan")
class _Rescaled(Schedule):
    """A schedule raised to a power, times a factor."""

    def __init__(self, schedule: Schedule, factor: float, power: float):
        super().__init__()
        self.schedule, self.factor, self.power = schedule, factor, power

    def at(self, examples):
        return self.factor * self.schedule.at(examples) ** self.power

    def get_config(self) -> dict:
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "factor": self.factor, "power": self.power}

    @classmethod
    def from_config(cls, config: dict) -> _Rescaled:
        schedule: Any = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(**{**config, "schedule": schedule})
