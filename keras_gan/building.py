"""Construction of a training from its recipe: data, game, batches, held-out samples."""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import architectures, callbacks, datasets, metrics, network_checks, workers
from keras_gan import precision as precisions
from keras_gan import recipe as recipes
from keras_gan.errors import UsageError
from keras_gan.games.gan import GAN
from keras_gan.metrics import nearest_ratio
from keras_gan.metrics.pairs import with_sizes
from keras_gan.networks import fields_of
from keras_gan.registry import parameters_of
from keras_gan.spec import Spec


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Held-out samples by which a training is evaluated.

    Args:
        samples: real samples that are not trained on, `(count, ...)`.
        labels: their class ids in a conditional game, otherwise `None`.
        comparison: the comparison of generated samples with them.
        fields: their further fields by name, `(count, ...)`.
        conditions: labels and further fields of the pictures that samples are compared with, if
            these are not the held-out samples.
    """

    samples: np.ndarray
    labels: np.ndarray | None
    comparison: metrics.Comparison
    fields: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    conditions: Mapping[str, np.ndarray] | None = None


def prepare(
    recipe: recipes.Recipe,
    team: workers.Team | None = None,
    source: datasets.Source | None = None,
) -> tuple[datasets.Source, GAN, tf.data.Dataset, HeldOut]:
    """Builds and checks the parts of a training; raises the errors that the training would raise.

    Args:
        recipe: a resolved recipe.
        team: the workers, see `keras_gan.workers.join`; by default this process on one device.
        source: the recipe's data, if it is open.

    Returns:
        The data, the compiled game, the stream of batches, and the held-out samples.
    """
    team = team or workers.Team(tf.distribute.get_strategy(), [""], 0)
    recipes.check_batches(recipe, team.replicas)
    source = source or open_data(recipe)
    with team.strategy.scope():
        gan = build(recipe, source.spec)
    held_out = open_held_out(recipe, source, team.replicas)
    return source, gan, batches(recipe, source, 0, team), held_out


def open_data(recipe: recipes.Recipe) -> datasets.Source:
    """Opens the recipe's data."""
    return datasets.open(recipe.data.source, **recipe.data.options)


def build(recipe: recipes.Recipe, spec: Spec) -> GAN:
    """Builds and compiles the recipe's game for data of a spec.

    Args:
        recipe: a resolved recipe.
        spec: spec of the data.

    Raises:
        UsageError: networks that do not fit the data or each other, labels that the data does not
            have, or an argument that the game refuses.
    """
    if recipe.uses_labels and not spec.num_classes:
        path = next(name for name, of in recipe.networks.items() if "labels" in of.condition)
        raise UsageError(
            f"networks.{path}.condition=[labels] needs data with labels, such as an image folder "
            f"with one subfolder for each class. Received: data.source={recipe.data.source!r} "
            "without labels"
        )
    _check_conditions(recipe, spec)
    game = recipes.game_classes()[recipe.game.name]
    keras.utils.set_random_seed(recipe.training.seed % 2**32)  # initial weights
    with precisions.layers(recipe.training.precision):
        networks = {name: _build_network(recipe, name, spec) for name in recipe.networks}
    examples = recipe.training.examples  # length of open-ended schedules
    supplied = recipes.supplied_arguments(
        game,
        num_classes=spec.num_classes if recipe.uses_labels else 0,
        seed=recipe.training.seed,
        training_examples=examples,
        picture_shape=_picture_shape(recipe, spec),
    )
    gan = game(**networks, **recipes.resolve(recipe.game.options, examples), **supplied)
    optimizers = {
        f"{player}_optimizer": recipes.make_optimizer(section, examples)
        for player, section in recipe.optimizers.items()
    }
    if recipe.training.equilibrium and "discriminator" not in gan.networks:
        raise UsageError(
            "training.equilibrium needs a game with a network named 'discriminator'. "
            f"Received: game.name={recipe.game.name!r} with {', '.join(gan.networks)}"
        )
    _check_samples(gan, spec)
    gan.compile(**optimizers, jit_compile=recipe.training.jit_compile)
    return gan


def _picture_shape(recipe: recipes.Recipe, spec: Spec) -> tuple[int, int] | None:
    """Returns the height and width of the pictures of a training batch; None if not known."""
    if not spec.modality.has_pixels:
        return None
    height, width = spec.shape[:2]
    if height and width:
        return height, width
    # Data of pictures of any size makes batches of crops.
    module, _ = datasets.find(recipe.data.source)
    _, default = parameters_of(module.open).get("crop", (None, None))
    crop = recipe.data.options.get("crop", default)
    sizes = crop if isinstance(crop, list | tuple) else (crop, crop)
    return None if None in sizes else tuple(sizes)


def _check_samples(gan: GAN, spec: Spec) -> None:
    """Checks that the generator's samples have the shape and the range of those of the data."""
    path = f"networks.{gan.sampled}"
    if not spec.samples.accepts_shape(tuple(gan.sample_shape)):
        raise UsageError(
            f"{path} must return samples of the shape of the data's, {spec.shape}. "
            f"Received: {tuple(gan.sample_shape)}"
        )
    own = gan.networks[gan.sampled].output_range()
    network_checks.value_range(own, spec.value_range, "the data")


def _check_conditions(recipe: recipes.Recipe, spec: Spec) -> None:
    """Checks that the data has the fields that networks receive."""
    known = [name for name in spec.fields if name != "samples"]
    for network, section in recipe.networks.items():
        for name in section.fields:
            if name not in known:
                raise UsageError(
                    f"networks.{network}.condition must name fields of the data besides its "
                    f"samples, {', '.join(known) or 'which has none'}. Received: {name!r}"
                )


def _build_network(recipe: recipes.Recipe, name: str, spec: Spec) -> keras.Model:
    section, game = recipe.networks[name], recipes.game_classes()[recipe.game.name]
    return architectures.build_network(
        game.network_role(name),
        section.architecture,
        game.network_spec(name, spec, recipe.game.options),
        section.conditional,
        section.fields,
        **section.options,
    )


def total_steps(recipe: recipes.Recipe) -> int:
    """Returns the number of training steps in which the recipe's examples are seen."""
    return math.ceil(recipe.training.examples / recipe.training.batch_size)


def batches(
    recipe: recipes.Recipe, source: datasets.Source, done: int, team: workers.Team
) -> tf.data.Dataset:
    """Returns the endless stream of batches from a step on.

    The order is a function of the seed and the step, so that a resume continues it exactly.
    """
    training = recipe.training

    def stream(shard: tuple[int, int]) -> tf.data.Dataset:
        return source.dataset(
            "train",
            batch_size=training.batch_size,
            seed=training.seed,
            repeat=True,
            start=done,
            shard=shard,
            augmented=True,
            labeled_share=source.labeled_share,
        )

    if team.replicas == 1:
        return stream((0, 1))

    def of_worker(context: Any) -> tf.data.Dataset:
        part = stream((context.input_pipeline_id, context.num_input_pipelines))
        return part.rebatch(context.get_per_replica_batch_size(training.batch_size))

    return team.strategy.distribute_datasets_from_function(of_worker)


def open_held_out(recipe: recipes.Recipe, source: datasets.Source, replicas: int) -> HeldOut:
    """Reads the held-out samples, and their labels in a conditional game."""
    count = min(recipe.evaluation.count, source.count("held_out"))
    if replicas > 1:  # in a partial batch a replica could be left without samples
        size = recipe.training.batch_size
        count -= count % (size if count >= size else replicas)
    if count == 0:
        raise UsageError(
            f"An evaluation on {replicas} devices needs a held-out sample for each. "
            f"Received: {source.count('held_out')} held-out samples, evaluation.count="
            f"{recipe.evaluation.count}"
        )
    equilibrium = recipe.training.equilibrium
    least = callbacks.least_held_out(equilibrium.tolerance) if equilibrium else 0
    if equilibrium and count < least:
        raise UsageError(
            f"training.equilibrium.tolerance={equilibrium.tolerance} needs at least {least} "
            f"held-out samples to be significant. Received: {count}, from evaluation.count="
            f"{recipe.evaluation.count} and {source.count('held_out')} held-out samples"
        )
    fields = _first_fields(source, "held_out", count)
    if not recipe.uses_labels:
        fields.pop("labels", None)
    conditions = pictures = None
    if recipe.evaluation.pictures == "all":
        conditions = _choice_of_all(recipe, source, fields)
        pictures = conditions.pop("samples")
    samples, labels = fields.pop("samples"), fields.pop("labels", None)
    answers = _answers(recipe, source, fields)
    comparison = _comparison(recipe, source, samples, pictures, answers)
    return HeldOut(samples, labels, comparison, fields, conditions)


def _first_fields(source: datasets.Source, split: str, count: int) -> dict[str, np.ndarray]:
    """Returns the fields of `count` samples of a split, chosen by a fixed seed."""
    # The order of the endless stream depends on its seed only, not on TensorFlow's global one.
    batch = next(iter(source.dataset(split, batch_size=count, seed=0, repeat=True)))
    return {name: np.asarray(values) for name, values in fields_of(batch).items()}


def _comparison(
    recipe: recipes.Recipe,
    source: datasets.Source,
    held_out: np.ndarray,
    pictures: np.ndarray | None,
    answers: metrics.Answers | None,
) -> metrics.Comparison:
    section, spec = recipe.evaluation, with_sizes(source.spec, {"samples": held_out})
    names = (section.metric, *section.others) if section.metric else section.others
    extractor = None
    if section.features and metrics.needs_features(names):
        extractor = metrics.open_features(section.features, spec)
        note = metrics.origin_note(extractor, source)
        if note is not None:
            warnings.warn(note, stacklevel=2)
    return metrics.Comparison(
        held_out,
        *(section.metric, section.others, extractor, spec),
        training=lambda: _training_samples(source),
        pictures=pictures,
        answers=answers,
    )


def _answers(
    recipe: recipes.Recipe, source: datasets.Source, fields: Mapping[str, np.ndarray]
) -> metrics.Answers | None:
    """Returns the held-out values that the recipe's generator answers, if it does."""
    name, game = metrics.answered_field(source.spec), recipes.game_classes()[recipe.game.name]
    if name is None:
        return None
    invertible = game.inverse is not None
    if not invertible and name not in recipe.networks[game.sampled].fields:
        return None
    return metrics.Answers(fields[name], source.paired, invertible, name)


def _choice_of_all(
    recipe: recipes.Recipe, source: datasets.Source, held_out: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns the fields of a choice of all images, trained on or held out, in proportion."""
    if not source.spec.modality.has_pixels:
        raise UsageError(
            "evaluation.pictures=all is for images; other samples are compared with held-out ones. "
            f"Received: {source.spec.kind} of shape {source.spec.shape}"
        )
    trained = source.count("train")
    total = trained + source.count("held_out")
    count = min(recipe.evaluation.count, total)
    seen = max(1, round(count * trained / total))
    fields = _first_fields(source, "train", seen)
    whole = {
        name: np.concatenate([fields[name], values[: count - seen]])
        for name, values in held_out.items()
    }
    # Mixed, as metrics of images take the first 1,000.
    order = np.random.default_rng(0).permutation(len(whole["samples"]))
    return {name: values[order] for name, values in whole.items()}


def _training_samples(source: datasets.Source) -> np.ndarray:
    """Returns up to 10,000 training samples as metrics compare them, by a fixed seed.

    Images are those of `nearest_ratio`, and texts are ids of tokens.
    """
    count = min(source.count("train"), nearest_ratio.TRAINING)
    # Part by part, because whole pictures would take gigabytes.
    batches = source.dataset("train", min(count, 250), seed=0, drop_remainder=False)
    parts = itertools.islice(iter(batches), math.ceil(count / 250))
    samples = (np.asarray(fields_of(part)["samples"]) for part in parts)
    reduced = [nearest_ratio.reduce(source.spec.modality.to_ids(part)) for part in samples]
    return np.concatenate(reduced)[:count]
