"""Learning from the labels of few examples."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan import replicas
from keras_gan.errors import UsageError
from keras_gan.networks import mean_over_outputs
from keras_gan.spec import UNLABELED
from keras_gan.terms._term import GameSpec, StepContext, Term

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
