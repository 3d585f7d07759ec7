"""Auxiliary tasks of the discriminator: classifiers of the samples."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.arguments import check_number
from keras_gan.errors import UsageError
from keras_gan.networks import mean_over_outputs
from keras_gan.schedules import Schedule
from keras_gan.terms._term import GameSpec, PairTerm, StepContext, Term

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


class _Classifier(PairTerm):
    """Base class of the terms of both networks on class outputs of the discriminator."""

    outputs = {"discriminator": ("classes",)}
    fields = ("labels",)

    def check(self, game: GameSpec) -> None:
        for output in self.outputs["discriminator"]:
            _check_one_for_each_class(game, output)


@keras.saving.register_keras_serializable("keras_gan")
class AuxiliaryClassifier(_Classifier):
    """The auxiliary classifier of AC-GAN: cross-entropy of class logits with the labels.

    The discriminator's output `classes` holds logits over the classes, `(batch, num_classes)`. The
    discriminator minimizes -log P(c | x) - log P(c | G(z, c)) and the generator
    -log P(c | G(z, c)), where c are the labels of the batch.

    Args:
        weight: on the discriminator, from 0 up, or a schedule of it; 1 as in the paper.
        interval: see `Term`.
        generator_weight: on the generator, from 0 up, or a schedule of it; 1 as in the paper.
        real: factor of the discriminator's part on real samples, from 0 up.
        fake: factor of the discriminator's part on generated samples, from 0 up. Classifiers are
            often trained on real samples only, with 0 here.

    Raises:
        UsageError: a weight or factor out of range, a game without labels, or a discriminator
            whose output `classes` is missing or has not one logit for each class.

    Reference:
        - [Odena et al., 2017](https://arxiv.org/abs/1610.09585), equation 3
    """

    also_called = ("acgan",)

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        interval: int = 1,
        generator_weight: float | Schedule = 1.0,
        real: float = 1.0,
        fake: float = 1.0,
    ):
        super().__init__(weight, interval, generator_weight)
        check_number("real", real, minimum=0)
        check_number("fake", fake, minimum=0)
        self.real, self.fake = float(real), float(fake)

    def values(self, context: StepContext):
        if context.player == "generator":
            return _cross_entropy(context, context.fake)
        real = _cross_entropy(context, context.real)
        return self.real * real + self.fake * _cross_entropy(context, context.fake)

    def get_config(self) -> dict:
        return {**super().get_config(), "real": self.real, "fake": self.fake}


@keras.saving.register_keras_serializable("keras_gan")
class RealClasses(Term):
    """Cross-entropy of the discriminator's class logits with the labels of real samples only.

    It is for a discriminator that gets no label: one linear layer on its last features, the output
    `classes` of shape `(batch, num_classes)`, learns to classify the examples, so that these
    features hold the classes. The discriminator minimizes -log P(c | x). The generator does not
    learn its labels from this term; `AuxiliaryClassifier` with `fake: 0` has the same discriminator
    and teaches the generator as well.

    Args:
        weight: see `Term`.
        interval: see `Term`.

    Raises:
        UsageError: a game without labels, or a discriminator whose output `classes` is missing or
            has not one logit for each class.

    Reference:
        - [Xia et al., 2025](https://arxiv.org/abs/2510.00624), the discriminator of UCD
    """

    also_called = ("ucd",)

    outputs = {"discriminator": ("classes",)}
    fields = ("labels",)

    def check(self, game: GameSpec) -> None:
        _check_one_for_each_class(game, "classes")

    def values(self, context: StepContext):
        return _cross_entropy(context, context.real)


@keras.saving.register_keras_serializable("keras_gan")
class TwoClassifiers(_Classifier):
    """The two auxiliary classifiers of TAC-GAN: one of real, the other of generated samples.

    The discriminator's outputs `classes` and `fake_classes` hold logits over the classes,
    `(batch, num_classes)`, of P and Q. The discriminator minimizes
    -log P(c | x) - log Q(c | G(z, c)), so that P classifies real and Q generated samples; the
    generator minimizes log Q(c | G(z, c)) - log P(c | G(z, c)). AC-GAN lacks the first part, and
    its generator prefers samples far from the boundaries between the classes.

    Args:
        weight: on the discriminator, from 0 up, or a schedule of it.
        interval: see `Term`.
        generator_weight: on the generator, from 0 up, or a schedule of it.

    Raises:
        UsageError: a weight out of range, a game without labels, or a discriminator that does not
            have both outputs with one logit for each class.

    Reference:
        - [Gong et al., 2019](https://arxiv.org/abs/1907.02690)
    """

    also_called = ("tac", "tacgan")

    outputs = {"discriminator": ("classes", "fake_classes")}

    def values(self, context: StepContext):
        on_generated = self._cross_entropy(context, context.fake, "fake_classes")
        if context.player == "generator":
            return self._cross_entropy(context, context.fake, "classes") - on_generated
        return self._cross_entropy(context, context.real, "classes") + on_generated

    def _cross_entropy(self, context: StepContext, samples, output: str):
        """Returns -log of the probability that an output gives to the labels."""
        return _cross_entropy(context, samples, output)


@keras.saving.register_keras_serializable("keras_gan")
class DiscriminativeClassifier(TwoClassifiers):
    """The auxiliary classifier of ADC-GAN, which also distinguishes real from generated samples.

    One softmax over the discriminator's outputs `classes` and `fake_classes`, logits
    `(batch, num_classes)` each, holds the probabilities P(real, c | x) and P(generated, c | x).
    The discriminator minimizes -log P(real, c | x) - log P(generated, c | G(z, c)); the generator
    minimizes log P(generated, c | G(z, c)) - log P(real, c | G(z, c)). As in TAC-GAN, the classes
    of the generator's optimum are those of the data; here the classifier needs no balance with a
    second one.

    Args:
        weight: on the discriminator, from 0 up, or a schedule of it.
        interval: see `Term`.
        generator_weight: on the generator, from 0 up, or a schedule of it.

    Raises:
        UsageError: a weight out of range, a game without labels, or a discriminator that does not
            have both outputs with one logit for each class.

    Reference:
        - [Hou et al., 2022](https://arxiv.org/abs/2107.10060)
    """

    also_called = ("adc", "adcgan")

    def _cross_entropy(self, context: StepContext, samples, output: str):
        found, labels = context.forward(samples), context.fields["labels"]
        logits = ops.concatenate([found["classes"], found["fake_classes"]], axis=1)
        if output == "fake_classes":  # the generated classes are behind the real ones
            labels = labels + found["classes"].shape[1]
        return ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)


@keras.saving.register_keras_serializable("keras_gan")
class DataToData(_Classifier):
    """The data-to-data cross-entropy of ReACGAN, which contrasts samples of different classes.

    The discriminator's outputs are `embedding`, vectors f of length 1, `(batch, units)`, and
    `similarities`, their inner products with a vector v of length 1 for each class,
    `(batch, num_classes)`. A sample i of class c_i has the value

        -log( p_i / (p_i + sum of q_ij over the samples j of other classes) ),

    p_i = exp(min(f_i v_{c_i} - margin, 0) / temperature) and
    q_ij = exp(max(f_i f_j - (1 - margin), 0) / temperature). The discriminator minimizes it for
    real samples and the generator for generated ones. The pairs are those of the batch (of the
    replica's batch). Pairs and samples beyond their margin have no gradient.

    Args:
        weight: on the discriminator, from 0 up, or a schedule of it.
        interval: see `Term`.
        generator_weight: on the generator, from 0 up, or a schedule of it.
        margin: m_p of the paper, above 0.5 and at most 1; the paper has 0.98 and m_n = 1 - m_p.
        temperature: above 0; the paper has 0.5 for 10 classes.

    Raises:
        UsageError: an argument out of range, a game without labels, or a discriminator that does
            not have both outputs.

    Reference:
        - [Kang et al., 2021](https://arxiv.org/abs/2111.01118)
    """

    also_called = ("reacgan", "d2dce")

    outputs = {"discriminator": ("embedding", "similarities")}

    def __init__(
        self,
        weight: float | Schedule = 0.5,
        interval: int = 1,
        generator_weight: float | Schedule = 0.5,
        margin: float = 0.98,
        temperature: float = 0.5,
    ):
        super().__init__(weight, interval, generator_weight)
        check_number("margin", margin, above=0.5, maximum=1)
        check_number("temperature", temperature, above=0)
        self.margin, self.temperature = float(margin), float(temperature)

    def check(self, game: GameSpec) -> None:
        _check_one_for_each_class(game, "similarities")
        for embedding in keras.tree.flatten(game.outputs["discriminator"]["embedding"]):
            if len(embedding.shape) != 2:
                raise UsageError(
                    "The discriminator's output 'embedding' must have the shape ('batch', units). "
                    f"Received: {tuple(embedding.shape)}"
                )

    def values(self, context: StepContext):
        outputs = context.forward(context.fake if context.player == "generator" else context.real)
        labels = context.fields["labels"]
        return mean_over_outputs(
            lambda embedding, similarities: self._contrast(embedding, similarities, labels),
            outputs["embedding"],
            outputs["similarities"],
        )

    def _contrast(self, embedding, similarities, labels):
        # A product and not a lookup, whose gradient on a GPU is a sum in no fixed order.
        one_hot = ops.one_hot(labels, similarities.shape[1], dtype=similarities.dtype)
        own = ops.sum(similarities * one_hot, axis=1, keepdims=True)
        attraction = ops.minimum(own - self.margin, 0.0) / self.temperature
        pairs = ops.matmul(embedding, ops.transpose(embedding))
        repulsion = ops.maximum(pairs - (1 - self.margin), 0.0) / self.temperature
        # A sample is of its own class, so that it is not paired with itself.
        same_class = labels[:, None] == labels[None]
        repulsion = ops.where(same_class, -1e9, repulsion)
        both = ops.concatenate([attraction, repulsion], axis=1)
        return ops.logsumexp(both, axis=1) - attraction[:, 0]

    def get_config(self) -> dict:
        own = {"margin": self.margin, "temperature": self.temperature}
        return {**super().get_config(), **own}


# ------------------------------------------------------------------------ parts


def _check_one_for_each_class(game: GameSpec, output: str) -> None:
    """Raises a `UsageError` unless an output of the discriminator has one value for each class."""
    for classes in keras.tree.flatten(game.outputs["discriminator"][output]):
        if tuple(classes.shape[1:]) != (game.num_classes,):
            raise UsageError(
                f"The discriminator's output {output!r} must have the shape "
                f"('batch', {game.num_classes}). Received: {tuple(classes.shape)}"
            )


def _cross_entropy(context: StepContext, samples, output: str = "classes"):
    """Returns -log of the probability that logits of samples give to the labels."""
    labels = context.fields["labels"]
    return mean_over_outputs(
        lambda classes: ops.sparse_categorical_crossentropy(labels, classes, from_logits=True),
        context.forward(samples)[output],
    )
