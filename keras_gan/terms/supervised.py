"""Terms for classifiers of few labels: the labels themselves, and predicted ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_gan import augment as augments
from keras_gan import replicas
from keras_gan.arguments import check_probability
from keras_gan.errors import UsageError
from keras_gan.networks import mean_over_outputs
from keras_gan.schedules import Schedule
from keras_gan.spec import UNLABELED
from keras_gan.terms._term import GameSpec, StepContext, Term
from keras_gan.terms.consistency import Consistency

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class Supervised(Term):
    """Cross-entropy of the discriminator's classes with the labels of those examples that have one.

    The discriminator's output `classes` holds logits over the classes, `(batch, num_classes)`; an
    example with the label -1 is unlabeled. The discriminator minimizes the mean of -log P(c | x)
    over the labeled real examples of the batch (of the replica's batch if the term is lazy),
    which is 0 without any. One value for the whole batch.

    With a discriminator of `classes_as_logits` and the loss `non_saturating`, this is the
    semi-supervised game of K + 1 classes: the discriminator's logit is log(sum exp) of the logits
    of the K classes, and the K + 1st, of generated samples, is fixed at 0. Neither network is
    given labels, so that the game has num_classes=0.

    Args:
        weight: see `Term`.
        interval: see `Term`.

    Raises:
        UsageError: a discriminator whose output `classes` is missing, or a game whose networks are
            given labels.

    Reference:
        - [Salimans et al., 2016](https://arxiv.org/abs/1606.03498), section 5
    """

    outputs = {"discriminator": ("classes",)}
    fields = ("labels",)
    allows_unlabeled = True

    def label_classes(self, game: GameSpec) -> int:
        classes = keras.tree.flatten(game.outputs["discriminator"]["classes"])
        return int(classes[0].shape[-1])

    def check(self, game: GameSpec) -> None:
        shapes = {
            tuple(x.shape) for x in keras.tree.flatten(game.outputs["discriminator"]["classes"])
        }
        if len(shapes) > 1 or len(next(iter(shapes))) != 2:
            raise UsageError(
                "The discriminator's output 'classes' must have the shape ('batch', classes). "
                f"Received: {', '.join(map(str, sorted(shapes, key=str)))}"
            )
        if game.num_classes:
            raise UsageError(
                "The term 'supervised' is for a game whose networks are given no labels, with "
                "num_classes=0; auxiliary_classifier is for those that are. "
                f"Received: num_classes={game.num_classes}"
            )

    def values(self, context: StepContext):
        labels = context.fields["labels"]
        # The value at an unlabeled example is that of class 0, and does not count.
        ids = ops.maximum(labels, 0)
        losses = mean_over_outputs(
            lambda classes: ops.sparse_categorical_crossentropy(ids, classes, from_logits=True),
            context.forward(context.real)["classes"],
        )
        known = ops.cast(ops.not_equal(labels, UNLABELED), losses.dtype)
        count = ops.sum(known)
        if self.interval == 1:  # a lazy one is in a branch of the graph: replicas cannot meet there
            count = replicas.mean(count)
        return (ops.sum(known * losses) / ops.maximum(count, 1e-6))[None]


@keras.saving.register_keras_serializable("keras_gan")
class PseudoLabels(Consistency):
    """Cross-entropy of the classes of augmented real samples with confident predicted classes.

    The discriminator's output `classes` holds logits over the classes, `(batch, num_classes)`.
    Where the greatest probability of a real sample x is at least `threshold`, its class c counts
    as the label of T(x), and the discriminator minimizes -log P(c | T(x)); other samples have the
    value 0. T is an augmentation that does not change the class. No label is read, so the term
    uses the unlabeled examples beside `supervised`.

    Args:
        weight: see `Term`.
        interval: see `Term`.
        augment: T: name or instance of an augmentation without a state, or a callable
            `augment(samples, seed)`. By default changes of color, translation and cutout of
            images. If the game has an augmentation of its own, it is applied to both x and T(x).
        threshold: least probability of a class, from 0 to 1.

    Raises:
        UsageError: a discriminator whose output `classes` is missing, a threshold out of range, or
            as `Consistency`.

    Reference:
        - [Sohn et al., 2020](https://arxiv.org/abs/2001.07685), equation 4
    """

    also_called = ("fixmatch",)

    outputs = {"discriminator": ("classes",)}

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        interval: int = 1,
        augment: str | dict | augments.Augment | Callable = "diff_augment",
        threshold: float = 0.95,
    ):
        super().__init__(weight, interval, augment)
        check_probability("threshold", threshold)
        self.threshold = float(threshold)

    def values(self, context: StepContext):
        changed = context.per_sample(lambda x: self.augment(x, context.seed), context.real)
        return mean_over_outputs(
            self._cross_entropy,
            context.forward(context.real)["classes"],
            context.forward(changed)["classes"],
        )

    def _cross_entropy(self, logits, changed):
        """Returns the cross-entropy of each sample, `(batch,)`, 0 where no class is certain."""
        logits = ops.stop_gradient(logits)
        certain = ops.max(ops.softmax(logits), axis=-1) >= self.threshold
        losses = ops.sparse_categorical_crossentropy(
            ops.argmax(logits, axis=-1), changed, from_logits=True
        )
        return ops.cast(certain, losses.dtype) * losses

    def get_config(self) -> dict:
        return {**super().get_config(), "threshold": self.threshold}
