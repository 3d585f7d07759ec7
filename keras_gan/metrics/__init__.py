"""Measures of the generated samples against the real ones, and of the discriminator."""

from keras_gan.metrics.accumulators import Collected, Moments
from keras_gan.metrics.balanced_accuracy import balanced_accuracy
from keras_gan.metrics.classification import ClassificationAccuracy, classification_accuracy
from keras_gan.metrics.comparison import Comparison
from keras_gan.metrics.density_coverage import DensityCoverage, density_coverage
from keras_gan.metrics.diversity import Diversity
from keras_gan.metrics.evaluate import Evaluation, check_target, evaluate
from keras_gan.metrics.features import Extractor, open_features
from keras_gan.metrics.frechet import frechet_distance
from keras_gan.metrics.inception_score import InceptionScore, inception_score
from keras_gan.metrics.kernel import KernelDistance, kernel_distance
from keras_gan.metrics.mode_coverage import ModeCoverage, mode_coverage
from keras_gan.metrics.ms_ssim import ms_ssim_diversity
from keras_gan.metrics.nearest import Neighbors, nearest
from keras_gan.metrics.precision_recall import PrecisionRecall, precision_recall
from keras_gan.metrics.sliced_wasserstein import sliced_wasserstein
from keras_gan.metrics.sources import which_weights

__all__ = [
    "ClassificationAccuracy",
    "Collected",
    "Comparison",
    "DensityCoverage",
    "Diversity",
    "Evaluation",
    "Extractor",
    "InceptionScore",
    "KernelDistance",
    "ModeCoverage",
    "Moments",
    "Neighbors",
    "PrecisionRecall",
    "balanced_accuracy",
    "check_target",
    "classification_accuracy",
    "density_coverage",
    "evaluate",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "mode_coverage",
    "ms_ssim_diversity",
    "nearest",
    "open_features",
    "precision_recall",
    "sliced_wasserstein",
    "which_weights",
]
