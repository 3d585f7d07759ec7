"""Sections of a recipe: their keys, types and defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import ConfigDict, Field

from keras_gan.recipe.scheduling import schedules_in
from keras_gan.recipe.signatures import as_list
from keras_gan.registry import choices


def _reject_bool(value: Any) -> Any:
    """Rejects true and false, which Python counts as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _number_or_schedule(value: Any) -> Any:
    if isinstance(value, dict):
        return value  # `checking` applies the rules of the schedule that it names
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("must be a number, or a schedule {name: ...}")
    try:
        return float(value)
    except ValueError:
        raise ValueError("must be a number, or a schedule {name: ...}") from None


_LISTED = pydantic.BeforeValidator(lambda value: as_list(value, list[str]))
Names = Annotated[list[str], _LISTED]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, pydantic.BeforeValidator(_reject_bool), Field(ge=1)]
NumberOrSchedule = Annotated[Any, pydantic.BeforeValidator(_number_or_schedule)]


class _Section(pydantic.BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True)


class _OpenSection(pydantic.BaseModel):
    """A section whose other keys are the arguments of the function or class that it names."""

    model_config = ConfigDict(extra="allow", validate_default=True)

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})


class DataSection(_OpenSection):
    """`source` is the first argument of `datasets.open`; other keys are the source's options."""

    source: str


class NetworkSection(_OpenSection):
    """`architecture` names the family; other keys are its options.

    `condition` lists the fields of the data that the network receives besides its main input.
    """

    architecture: str
    condition: Names = []

    @property
    def conditional(self) -> bool:
        """True if the network receives labels."""
        return "labels" in self.condition

    @property
    def fields(self) -> list[str]:
        """Names of the fields that the network receives besides its main input and labels."""
        return [name for name in self.condition if name != "labels"]


class GameSection(_OpenSection):
    """`name` names the game; other keys are arguments of its constructor."""

    name: str = "gan"


class OptimizerSection(_OpenSection):
    """`name` is a Keras optimizer; other keys are its arguments.

    `lazy_interval` above 1 rescales them, see `keras_gan.terms.rescaled`.
    """

    name: str = "adam"
    learning_rate: NumberOrSchedule = 2e-4
    lazy_interval: Count = 1


class CollapseGuardSection(_Section):
    """Arguments of `callbacks.CollapseGuard`; `action: off` leaves the guard out."""

    # YAML reads a bare `off` as false.
    action: Annotated[
        Literal["stop", "roll_back", "off"],
        pydantic.BeforeValidator(lambda value: "off" if value is False else value),
    ] = "stop"
    factor: Annotated[float, Field(gt=0, le=1)] = 0.5
    retries: Annotated[int, pydantic.BeforeValidator(_reject_bool), Field(ge=0)] = 3
    diversity: Annotated[float, Field(gt=0, lt=1)] = 0.25


class EquilibriumSection(_Section):
    """Arguments of `callbacks.Equilibrium`."""

    every_examples: Annotated[int, Field(ge=0)] = 0
    tolerance: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    patience: Count = 3
    noise_accuracy: Annotated[float, Field(ge=0.5, le=1)] = 0.75


class TrainingSection(_Section):
    """Length, batches, precision, seed, checkpoints, and the conditions that end a training."""

    examples: Count
    minutes: Positive | None = None
    batch_size: Count = 64
    precision: Literal["auto", "float32", "bfloat16", "mixed_float16", "mixed_bfloat16"] = "float32"
    jit_compile: bool | Literal["auto"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    tick_examples: Count = 2_000
    checkpoint_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    keep_checkpoints: Count = 2
    collapse_guard: CollapseGuardSection = CollapseGuardSection()
    equilibrium: EquilibriumSection | None = None


def _chosen_from(key: str) -> pydantic.AfterValidator:
    """Accepts the names that are registered for a key, see `registry.provide_choices`."""

    def check(value: str) -> str:
        if value not in (valid := choices(key)):
            raise ValueError(f"must be one of {', '.join(valid)}")
        return value

    return pydantic.AfterValidator(check)


class EvaluationSection(_Section):
    """Arguments of `metrics.Comparison`; `every_examples: 0` evaluates at the end only."""

    # By default the metric of the samples' kind.
    metric: Annotated[str, _chosen_from("evaluation.metric")] | None = None
    others: Annotated[list[Annotated[str, _chosen_from("evaluation.others")]], _LISTED] = []
    features: str | None = None
    every_examples: Annotated[int, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=2)] = 1_000
    pictures: Literal["held_out", "all"] = "held_out"


class SamplesSection(_Section):
    """Seeds and frequency of the previews."""

    count: Annotated[Count, Field(le=10_000)] = 64
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0
    every_seconds: Positive = 30.0


class Recipe(_Section):
    """A resolved recipe. `load` and `parse` make one and check every key."""

    data: DataSection
    networks: dict[str, NetworkSection]
    game: GameSection = GameSection()
    optimizers: dict[str, OptimizerSection] = {}
    training: TrainingSection
    evaluation: EvaluationSection = EvaluationSection()
    samples: SamplesSection = SamplesSection()

    @property
    def uses_labels(self) -> bool:
        """True if any network receives labels."""
        return any(network.conditional for network in self.networks.values())

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)

    def keys(self) -> set[str]:
        """Returns the paths of all keys and sections."""
        paths = _flatten(self.model_dump()).keys()
        return {path.rsplit(".", n)[0] for path in paths for n in range(path.count(".") + 1)}

    def open_ended(self) -> list[str]:
        """Returns the paths of the schedules that last as long as the training."""
        tree = self.model_dump(include={"game", "optimizers"})
        return [path for path, schedule in schedules_in(tree) if schedule.open_ended]

    def diff(self, other: Recipe) -> list[str]:
        """Returns every key that differs, as `path: own value -> value of the other`."""
        mine, others = _flatten(self.model_dump()), _flatten(other.model_dump())
        return [
            f"{path}: {mine.get(path, 'unset')} -> {others.get(path, 'unset')}"
            for path in sorted(mine.keys() | others.keys())
            if mine.get(path, "unset") != others.get(path, "unset")
        ]


def _flatten(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {path: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat.update(_flatten(value, f"{path}.{key}" if path else key))
    return flat
