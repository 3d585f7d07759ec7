"""Requirements that metrics declare, and the facts by which they are checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from keras_gan import registry
from keras_gan.errors import UsageError
from keras_gan.metrics.class_matching import data_ids
from keras_gan.metrics.extractor import Extractor
from keras_gan.spec import Spec


@dataclasses.dataclass(frozen=True)
class MetricContext:
    """Facts known before any metric is computed, which decide which metrics apply.

    Args:
        extractor: extractor of the features.
        spec: description of the real samples.
        labeled: whether the generated samples have labels.
        has_training: whether there is a training split besides the samples compared with.
        count: number of generated samples.
        real_count: number of real samples.
        truncation: factor on the latents of the generated samples.
        answers: whether each generated sample answers a condition, such as a picture.
        paired: whether the real sample of the same row is the right answer.
        invertible: whether the generator's game has a network for the way back.
        coded: whether the generator has codes.
        classes: number of classes of the discriminator of the generator's game, if it classifies.
        unpaired: whether the training examples are of two domains without pairs.
        likely: whether the generator has a likelihood, see `EvaluationInputs.token_logits`.
    """

    extractor: Extractor
    spec: Spec
    labeled: bool
    has_training: bool
    count: int
    real_count: int
    truncation: float = 1.0
    answers: bool = False
    paired: bool = False
    invertible: bool = False
    coded: bool = False
    classes: int = 0
    unpaired: bool = False
    likely: bool = False


class Missing(NamedTuple):
    """An unmet requirement: the rule, and the value that was found."""

    rule: str
    received: str


def check_need(owner: str, need: str) -> Callable[[MetricContext], Missing | None]:
    """Returns the check of a requirement.

    Args:
        owner: name of the metric's class, for the error.
        need: name of the requirement, of `NEEDS`.

    Raises:
        UsageError: an unknown name.
    """
    if need not in NEEDS:
        raise UsageError(
            f"{owner}.needs must name requirements. Received: {need!r}. "
            f"{registry.nearest(need, NEEDS)}"
        )
    return NEEDS[need]


def _available(context: MetricContext) -> Missing | None:
    return None


def _classes(context: MetricContext) -> Missing | None:
    if context.extractor.classes:
        return None
    return Missing("an extractor with classes", f"features={context.extractor.name!r}")


def _data_classes(context: MetricContext) -> Missing | None:
    extractor, spec = context.extractor, context.spec
    if extractor.classes != spec.num_classes:
        return Missing(
            f"an extractor with the data's {spec.num_classes} classes",
            f"features={extractor.name!r} with {extractor.classes} classes",
        )
    if data_ids(extractor.classes, extractor.class_names, spec) is None:
        return Missing(
            "an extractor with the data's classes, by the same names",
            f"features={extractor.name!r} with other class names",
        )
    return None


def _labels(context: MetricContext) -> Missing | None:
    if context.labeled:
        return None
    return Missing("generated samples with labels", "samples without labels")


def _data_labels(context: MetricContext) -> Missing | None:
    return None if context.spec.num_classes else Missing("data with labels", "data without labels")


def _training(context: MetricContext) -> Missing | None:
    if context.has_training:
        return None
    rule = "data with a training split, compared at split='held_out'"
    return Missing(rule, "another split, or data without a training split")


def _equal_counts(context: MetricContext) -> Missing | None:
    if context.count == context.real_count:
        return None
    return Missing(
        "as many real samples as generated ones",
        f"{context.real_count} real and {context.count} generated samples",
    )


def _conditions(context: MetricContext) -> Missing | None:
    if context.answers:
        return None
    rule = "samples that answer pictures, of a generator with the input `condition`"
    return Missing(rule, "samples of no conditions")


def _pairs(context: MetricContext) -> Missing | None:
    if context.answers and context.paired:
        return None
    if context.paired:
        rule = f"answers to the conditions of the data: {ANSWERS}"
        return Missing(rule, "samples that are not answers")
    rule = "paired data, such as --data pairs --set data.path=FOLDER or sounds with data.mel"
    return Missing(f"{rule}, and samples that answer its conditions", "data without pairs")


def _inverse(context: MetricContext) -> Missing | None:
    if context.invertible:
        return None
    return Missing("a game with a network for the way back", "samples without one")


def _classifier(context: MetricContext) -> Missing | None:
    if context.classes and context.classes == context.spec.num_classes:
        return None
    rule = "a run or a game with a discriminator of samples alone that has the data's classes"
    found = f"a discriminator of {context.classes} classes" if context.classes else "none"
    return Missing(rule, f"{found}, data with {context.spec.num_classes} classes")


def _codes(context: MetricContext) -> Missing | None:
    if context.coded:
        return None
    return Missing("a generator with codes (its option `codes`)", "samples without codes")


def _factors(context: MetricContext) -> Missing | None:
    if context.extractor.factors:
        return None
    rule = "an extractor that reads known factors, such as features=sprites"
    return Missing(rule, f"features={context.extractor.name!r}")


def _likelihood(context: MetricContext) -> Missing | None:
    if context.likely:
        return None
    rule = "a run or a game with a generator that has a likelihood (a layer with `token_logits`)"
    return Missing(rule, "samples without a likelihood")


# Sources whose samples are compared with pairs row by row.
ANSWERS = (
    "a run, a bundle, or a .npy or .npz file of as many answers in the order of the held-out pairs"
)

# Requirements that a metric can declare, each with its check.
NEEDS: dict[str, Callable[[MetricContext], Missing | None]] = {
    "moments": _available,  # mean and covariance of the features
    "features": _available,  # features of each sample
    "values": _available,  # the samples themselves
    "images": _available,  # up to 1,000 real and as many generated samples
    "classes": _classes,  # class probabilities of each sample
    "data_labels": _data_labels,  # labels of the real samples
    "labels": _labels,  # labels of the generated samples
    "data_classes": _data_classes,  # an extractor whose classes are the data's
    "training": _training,  # a training split
    "texts": _available,  # real, generated and training samples as ids of tokens
    "likelihood": _likelihood,  # logits of each token of real texts by the generator
    "training_values": _available,  # training samples; of comparisons during training
    "conditions": _conditions,  # values that the generated samples answer, row by row
    "pairs": _pairs,  # the right answers as well: row i of the real and of the generated samples
    "inverse": _inverse,  # a network for the way back
    "codes": _codes,  # codes of the generated samples
    "factors": _factors,  # an extractor whose features are levels of known factors
    "classifier": _classifier,  # a discriminator with the data's classes
    "equal_counts": _equal_counts,  # as many real samples as generated ones
}
PER_SAMPLE = ("features", "classes", "data_classes", "factors")  # needs of each sample's features
OF_PAIRS = ("pairs", "conditions")  # needs of `EvaluationInputs.pairs`
OF_FEATURES = ("moments", *PER_SAMPLE)  # needs of an extractor
