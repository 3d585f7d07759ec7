"""A recipe for pictures of one's own, chosen from the data, the time, and the machine's speed.

The constants are those of runs on two CPU cores (docs/recipes.md): of Fashion-MNIST for gray images
up to 36 pixels, of emoji of 64 and 32 pixels for all others. Lengths of schedules and averages are
shares of the budget, so that they fit a training of any length.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_gan import building, datasets, train
from keras_gan import precision as precisions
from keras_gan import recipe as recipes
from keras_gan.datasets.splits import digests_of
from keras_gan.errors import UsageError
from keras_gan.spec import Spec
from serving import kinds

LEAST = 50  # pictures; the discriminator knows fewer by heart after a few steps
FEW = 1_000  # pictures, below which samples tend to be copies
MINUTES = 15.0  # of a training of which no length is given
SMALL_SIDE = 36  # pixels
_ENOUGH_64 = 30_000  # examples by which pictures of 64 pixels show more than blobs
_SPEED_32 = 5  # times as many examples as of 64 pixels
_TRIAL_STEPS, _WARM_UP_STEPS = 20, 2
_TRIAL_EXAMPLES = 10_000_000  # of the game that is timed: its lengths do not matter
_TRAINED = 0.9  # share of the time that is left for training steps; the rest are evaluations
_PLAIN_BORDER = 0.95  # share of equal border pixels by which a picture has a plain background
_MOSTLY_PLAIN = 0.5  # share of pictures with a plain background, from which on all are treated so
_COMPARED = 1_000  # pictures and samples of an evaluation; of fewer the distance is mostly noise
_LOOKED_AT = 500  # pictures, for their backgrounds
_AVERAGED = 0.04  # half-life by the examples seen: a power function with a deviation of 0.05 (EDM2)
_CONSTANT = 16_000  # examples of 64 pixels, after which the learning rate falls
_AREA_64 = 64 * 64  # pixels, for which the weight of the gradient penalties is 2


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Facts about pictures by which a recipe is chosen.

    Args:
        size: height and width in pixels, after resizing.
        channels: 1, 3 or 4.
        count: pictures to train on.
        held_out: pictures held out.
        classes: number of pictures to train on in each class; empty without classes.
        copies: pictures to train on that equal another one.
        plain: share of the pictures with a border of one color.
    """

    size: tuple[int, int]
    channels: int
    count: int
    held_out: int
    classes: tuple[int, ...]
    copies: int
    plain: float

    @property
    def side(self) -> int:
        """The larger of height and width."""
        return max(self.size)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One row of the table: what was chosen, and why."""

    name: str
    value: str
    reason: str


def look(source: datasets.Source) -> Pictures:
    """Looks at pictures.

    Raises:
        UsageError: data of another kind, or too few pictures.
    """
    spec = source.spec
    if not spec.modality.has_pixels:
        raise UsageError(
            f"train chooses a recipe for pictures only; name one for other data. "
            f"{_recipes_for(spec)}. Received: {spec.kind} of shape {spec.shape}"
        )
    samples, labels = source.arrays("train")
    count = len(samples)
    if count < LEAST:
        raise UsageError(
            f"A game needs at least {LEAST} pictures to learn from; it copies fewer. "
            f"Received: {count} to train on, {source.description}"
        )
    classes = np.bincount(labels, minlength=spec.num_classes) if labels is not None else ()
    copies = count - len(np.unique(digests_of(samples, range(count))))
    chosen = np.random.default_rng(0).permutation(count)[:_LOOKED_AT]
    plain = float(np.mean([_is_plain(samples[row]) for row in np.sort(chosen)]))
    height, width, channels = spec.shape
    held_out = source.count("held_out") if "held_out" in source.split_names else 0
    size = (int(height), int(width))
    return Pictures(size, int(channels), count, held_out, tuple(map(int, classes)), copies, plain)


def _is_plain(sample: np.ndarray) -> bool:
    border = np.concatenate([sample[0], sample[-1], sample[:, 0], sample[:, -1]])
    colors, counts = np.unique(border, axis=0, return_counts=True)
    return bool(counts.max() >= _PLAIN_BORDER * len(border)) and len(colors) < len(border)


def choose(pictures: Pictures, examples: int) -> tuple[dict[str, Any], list[Choice]]:
    """Chooses a recipe, except for its data.

    Args:
        pictures: facts about the pictures.
        examples: examples that the training will see.

    Returns:
        The recipe's sections as a dictionary, and the rows of the table.
    """
    small_gray = pictures.side <= SMALL_SIDE and pictures.channels == 1
    networks, network_rows = _networks(pictures, small_gray)
    game, game_rows = _game(pictures, examples, small_gray)
    rate, rate_row = _rate(pictures, examples, small_gray)
    batch = 64 if small_gray else 32
    optimizer = {"name": "adam", "learning_rate": rate, "beta_1": 0.0, "beta_2": 0.99}
    every = max(batch, examples // 5)
    # Few held-out pictures may resemble each other, as near duplicates are held out together.
    of_all = pictures.held_out < _COMPARED
    count = min(_COMPARED, pictures.count + pictures.held_out)
    tree = {
        "networks": networks,
        "game": game,
        "optimizers": {"generator": dict(optimizer), "discriminator": dict(optimizer)},
        "training": {
            "examples": examples,
            "batch_size": batch,
            "precision": "auto",
            "tick_examples": max(batch, min(2_000, examples // 20)),
        },
        "evaluation": {
            "every_examples": every,
            "count": count,
            "pictures": "all" if of_all else "held_out",
        },
    }
    compared = "of all pictures; copies by those held out" if of_all else "held-out pictures"
    rows = [
        *network_rows,
        Choice("batch", str(batch), "more steps in the time than with larger ones"),
        rate_row,
        *game_rows,
        Choice("evaluation", f"every {every:,} examples", f"with {count:,} {compared}"),
    ]
    return tree, rows


def _networks(pictures: Pictures, small_gray: bool) -> tuple[dict[str, Any], list[Choice]]:
    if small_gray:
        networks: dict[str, Any] = {
            "generator": {"architecture": "dcgan", "latent_dim": 64, "extra_convolutions": 1},
            "discriminator": {"architecture": "dcgan", "extra_halvings": 1},
        }
        text = "gray and small: the networks of fashion-mnist"
        return networks, [Choice("networks", "dcgan", text)]
    networks = {
        "generator": {
            "architecture": "resnet",
            "latent_dim": 64,
            "width": 16,
            "shortcut": "blurred",
        },
        "discriminator": {"architecture": "dcgan", "width": 24},
    }
    text = "upsampling by convolution and blur leaves no checkerboard and no squares"
    if pictures.plain >= _MOSTLY_PLAIN:
        networks["generator"]["output"] = "clipped"
        text += "; samples are clipped to their range, which plain backgrounds reach exactly"
    return networks, [Choice("networks", "resnet 16, dcgan 24", text)]


def _game(
    pictures: Pictures, examples: int, small_gray: bool
) -> tuple[dict[str, Any], list[Choice]]:
    weight = 2.0 * max(0.5, math.prod(pictures.size) / _AREA_64)
    interval = 8 if small_gray else 4
    penalties = [{"name": name, "weight": weight, "interval": interval} for name in ("r1", "r2")]
    game: dict[str, Any] = {
        "loss": "relativistic",
        "terms": penalties,
        "ema_half_life": examples,  # the share below is reached first
        "ema_rampup": _AVERAGED,
        "average_deviations": [0.05, 0.1],
    }
    augment, augment_row = _augment(pictures, examples)
    if augment:
        game["augment"] = augment
    rows = [
        Choice("R1 and R2", f"weight {weight:g}", f"in proportion to {_by(pictures.size)} pixels"),
        augment_row,
        Choice(
            "average",
            f"half-life {_AVERAGED:.0%} of the examples so far",
            "fits any length; `keras-gan average RUN --choose` tries others afterward",
        ),
    ]
    return game, rows


def _augment(pictures: Pictures, examples: int) -> tuple[dict[str, Any] | None, Choice]:
    passes = examples / pictures.count
    if pictures.count < FEW and passes > 20:
        adaptive = {"name": "adaptive", "blit": 0.0, "examples": examples // 10}
        reason = f"few pictures, each seen {passes:.0f} times; a tenth of the training to adapt"
        return adaptive, Choice("augmentation", "adaptive, without flips and turns", reason)
    if passes > 2:
        translation = {"name": "diff_augment", "policy": "translation"}
        return translation, Choice("augmentation", "translation", f"seen {passes:.0f} times each")
    return None, Choice("augmentation", "none", "each picture is seen once or twice")


def _rate(pictures: Pictures, examples: int, small_gray: bool) -> tuple[Any, Choice]:
    if small_gray:
        schedule = {"name": "cosine", "start": 1.6e-3, "end": 3.0e-4, "examples": examples // 2}
        return schedule, Choice("learning rate", "0.0016 to 0.0003", "half the training to fall")
    # Small pictures are trained with more examples in the time.
    constant = round(_CONSTANT * min(4, max(1, _AREA_64 / math.prod(pictures.size))))
    schedule = {"name": "inverse_sqrt", "rate": 5.0e-4, "decay_examples": constant}
    text = f"constant for {constant:,} examples, then by their square root; needs no length"
    return schedule, Choice("learning rate", "from 0.0005", text)


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """A recipe that was chosen for data.

    Args:
        recipe: the recipe, its lengths set for the budget.
        source: the opened data.
        rows: what was chosen, and why.
        warnings: what the user should know before the training.
    """

    recipe: recipes.Recipe
    source: datasets.Source
    rows: list[Choice]
    warnings: list[str]


def plan(data: str, minutes: float | None = None, settings: Iterable[str] = ()) -> Plan:
    """Chooses a recipe for pictures, whose length fits the time on this machine.

    Times some training steps, which are not part of the training.

    Args:
        data: the data, as `keras_gan.datasets.open` takes it.
        minutes: length of the training; 15 by default.
        settings: overrides as in `keras_gan.recipe.load`. They win over what is chosen.

    Raises:
        UsageError: data that is not pictures, too few pictures, or a setting that does not fit.
    """
    given = [*settings]
    options = recipes.parse_data(data, [s for s in given if s.startswith("data.")])
    source = datasets.open(data, **options)
    pictures = look(source)
    minutes = MINUTES if minutes is None else minutes

    def complete(examples: int) -> tuple[recipes.Recipe, list[Choice]]:
        tree, rows = choose(pictures, examples)
        tree["data"] = {"source": data}
        tree["training"]["minutes"] = minutes
        return recipes.complete(tree, given), rows

    trial, _ = complete(_TRIAL_EXAMPLES)
    rate = _examples_per_second(trial, source)
    capacity = _two_digits(rate * 60 * minutes * _TRAINED)
    stated = any(setting.startswith("training.examples=") for setting in given)
    examples = (stated and trial.training.examples) or capacity  # the lengths fit what is stated
    recipe, rows = complete(examples)
    seen = min(capacity, recipe.training.examples)
    time_taken = minutes if seen == capacity else seen / rate / 60 / _TRAINED
    expected = Choice(
        "expect",
        f"{seen:,} examples in {_minutes(time_taken)}",
        f"{rate:,.0f} a second on this machine, each picture {seen / pictures.count:.1f} times",
    )
    rows = [*_of_data(pictures, source), *rows, expected]
    return Plan(recipe, source, rows, _warnings(pictures, recipe))


def _examples_per_second(recipe: recipes.Recipe, source: datasets.Source) -> float:
    """Times training steps of a game that is then discarded."""
    chosen, _ = train.choose_precision(recipe)
    gan = building.build(chosen, source.spec)
    batches = source.dataset("train", recipe.training.batch_size, seed=0, repeat=True)
    with precisions.graphs(chosen.training.precision):
        gan.fit(batches, steps_per_epoch=_WARM_UP_STEPS, verbose=0)
        began = time.perf_counter()
        gan.fit(batches, steps_per_epoch=_TRIAL_STEPS, verbose=0)
    return _TRIAL_STEPS * recipe.training.batch_size / (time.perf_counter() - began)


def _minutes(number: float) -> str:
    return f"{number:.2g} minutes" if number < 10 else f"{number:,.0f} minutes"


def _two_digits(number: float) -> int:
    digits = max(0, math.floor(math.log10(max(number, 1))) - 1)
    return max(100, int(round(number, -digits)))


def _of_data(pictures: Pictures, source: datasets.Source) -> list[Choice]:
    size, count = _by(pictures.size), pictures.count
    colors = {1: "gray", 3: "RGB", 4: "RGBA"}[pictures.channels]
    reason = f"resized ({source.resized})" if source.resized else "as stored"
    rows = [Choice("size", f"{size}, {colors}", reason)]
    if source.composited:
        text = "composited onto white; --set data.channels=4 keeps transparency"
        rows.append(Choice("alpha channel", f"in {source.composited:,} pictures", text))
    text = f"{pictures.copies:,} equal another one" if pictures.copies else "none equals another"
    rows.append(Choice("pictures", f"{count:,}", text))
    rows.append(Choice("held out", f"{pictures.held_out:,}", "never trained on; for evaluations"))
    if pictures.classes:
        least = min(pictures.classes)
        text = f"the smallest has {least:,} pictures; --set networks.generator.condition=[labels] "
        text += "--set networks.discriminator.condition=[labels] draws by class"
        rows.append(Choice("classes", f"{len(pictures.classes)}, not used", text))
    if pictures.plain >= _MOSTLY_PLAIN:
        text = "so no cutout, whose boxes would be learned"
        rows.append(Choice("background", f"plain in {pictures.plain:.0%}", text))
    return rows


def _warnings(pictures: Pictures, recipe: recipes.Recipe) -> list[str]:
    found, examples = [], recipe.training.examples
    if pictures.count < FEW:
        found.append(
            f"A game of fewer than {FEW:,} pictures tends to copy them. Received: "
            f"{pictures.count:,}. `keras-gan evaluate RUN` says how near samples are to them"
        )
    if pictures.side > SMALL_SIDE and examples < _ENOUGH_64:
        found.append(
            f"Pictures of {_by(pictures.size)} pixels take more than {_ENOUGH_64:,} examples to "
            f"show more than blobs. Received: time for {examples:,}. --minutes gives more; "
            f"--set data.size=32 sees about {_SPEED_32} times as many"
        )
    if pictures.copies > pictures.count // 10:
        found.append(
            f"Equal pictures count as often as they are there. Received: {pictures.copies:,} of "
            f"{pictures.count:,} equal another one"
        )
    return found


def check_kind(name: str, source: datasets.Source) -> None:
    """Checks that data are of the kind that a preset was made for, as far as that is known.

    A recipe of a user's own may be for other data than it names: its networks check them.

    Args:
        name: the recipe, a preset or a file, with data of its own.
        source: the data in their place, opened.

    Raises:
        UsageError: data of another kind; the line names the recipes for it.
    """
    own, spec = kind_of(name), source.spec
    if name not in recipes.names() or own in (None, spec.kind):
        return
    # The options of a recipe for sounds, which another folder keeps, may make spectrograms of them.
    if recipes.load(name).data.options.get("samples") == spec.kind:
        return
    raise UsageError(
        f"The recipe {name} is for {kinds.get(own).plural}. {_recipes_for(spec)}. "
        f"Received: {spec.modality.plural} of shape {spec.shape}"
    )


def kind_of(recipe: str) -> str | None:
    """Returns the kind of the samples of a recipe's own data; `None` if it is not known."""
    try:
        own = recipes.load(recipe).data.source
    except UsageError:  # the recipe's own data are not on this machine
        return None
    return datasets.kind_of(own) if isinstance(own, str) else None


def _recipes_for(spec: Spec) -> str:
    """Returns the presets for data of a kind in words."""
    found = [name for name in recipes.names() if kind_of(name) == spec.kind]
    plural = spec.modality.plural
    return f"Recipes for {plural}: {', '.join(found)}" if found else f"No preset is for {plural}"


def describe_misfit(name: str, data: str, source: datasets.Source) -> str:
    """Returns one line about data of another size or kind than a recipe was made for.

    Args:
        name: the recipe, a preset or a file, with data of its own.
        data: the data in its place, as they were named.
        source: the same, opened.

    Returns:
        The line; empty if the data fit, if the size of the recipe's own is not known, or if the
        recipe is for any folder of its kind.
    """
    try:
        own = recipes.load(name).data
    except UsageError:  # the recipe's own data are not on this machine
        return ""
    shape, spec = datasets.known_shape(own.source, own.options), source.spec
    if shape is None or datasets.takes_folder(own.source):
        return ""
    if len(shape) == len(spec.shape) and all(
        known in (None, size) for known, size in zip(shape, spec.shape, strict=True)
    ):
        return ""
    line = (
        f"The recipe {name} is for samples of {_form(shape)}, and networks, rates and lengths that "
        f"suit those may not suit others. Received: {spec.modality.plural} of {_form(spec.shape)}"
    )
    advice = f". `keras-gan train --data {data}` chooses a recipe for them"
    return line + (advice if spec.modality.has_pixels else "")


def _form(shape: Sequence[int | None]) -> str:
    """Returns a shape in words, such as `64 x 64 pixels in color`."""
    if len(shape) != 3:
        return f"shape {tuple(shape)}"
    height, width, channels = shape
    size = "" if height is None else f"{height} x {width} pixels"
    colors = {1: "in gray", 3: "in color", 4: "in color with alpha"}.get(channels or 0, "")
    return " ".join(filter(None, (size, colors)))
