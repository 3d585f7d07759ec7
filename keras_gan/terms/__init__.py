"""Terms that players minimize beside the adversarial loss: one small class each, found by name.

A term sees a training step as a `StepContext` and returns one value per sample, or one for the
batch, before its weight. The game adds `weight` times their mean to the loss of the player that it
is for, usually the discriminator, every `interval` of that player's steps (and then `interval`
times as much, so that the average stays the same).
"""

from __future__ import annotations

from keras_gan.optimizers import rescaled
from keras_gan.registry import find, registered
from keras_gan.spec import UNLABELED
from keras_gan.terms._term import (
    GameSpec,
    SharedForward,
    StepContext,
    Term,
    check,
    check_outputs,
    name_of,
)
from keras_gan.terms.auxiliary import (
    AuxiliaryClassifier,
    DataToData,
    DiscriminativeClassifier,
    RealClasses,
    TwoClassifiers,
)
from keras_gan.terms.codes import MutualInformation
from keras_gan.terms.consistency import BalancedConsistency, Consistency, LatentConsistency
from keras_gan.terms.contrastive import ContrastivePatches
from keras_gan.terms.features import FeatureMatching
from keras_gan.terms.gradient import (
    R1,
    R2,
    Dragan,
    GradientPenalty,
    LipschitzPenalty,
    PathLength,
    between,
    norm,
    squared_norm,
)
from keras_gan.terms.reconstruction import Reconstruction
from keras_gan.terms.regularization import LeCam, Orthogonal
from keras_gan.terms.sound import MelReconstruction, Spectral
from keras_gan.terms.supervised import PseudoLabels, Supervised

__all__ = [
    "R1",
    "R2",
    "UNLABELED",
    "AuxiliaryClassifier",
    "BalancedConsistency",
    "Consistency",
    "ContrastivePatches",
    "DataToData",
    "DiscriminativeClassifier",
    "Dragan",
    "FeatureMatching",
    "GameSpec",
    "GradientPenalty",
    "LatentConsistency",
    "LeCam",
    "LipschitzPenalty",
    "MelReconstruction",
    "MutualInformation",
    "Orthogonal",
    "PathLength",
    "PseudoLabels",
    "RealClasses",
    "Reconstruction",
    "SharedForward",
    "Spectral",
    "StepContext",
    "Supervised",
    "Term",
    "TwoClassifiers",
    "between",
    "check",
    "check_outputs",
    "get",
    "name_of",
    "names",
    "norm",
    "rescaled",
    "squared_norm",
]


def names() -> dict[str, str]:
    """Returns every term's name with the first line of its description."""
    return registered(Term)


def get(term: str | dict | Term) -> Term:
    """Returns the term of a name, of a `{"name": ..., **arguments}` dictionary, or itself.

    Raises:
        UsageError: no term has that name, or it does not take an argument.
    """
    return find(Term, term, "term")
