"""Metrics of generated samples against real ones, and of the discriminator.

Every module of this package is imported, and every subclass of `Metric` in them is a metric, found
by its name in `evaluate`, in recipes and in reports. Adding a metric is adding one file. A subclass
defined elsewhere is found too, once its module is imported.
"""

import importlib
import pkgutil

for _info in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_info.name}")

from keras_gan.metrics._metric import (  # noqa: E402
    EvaluationInputs,
    Metric,
    MetricResult,
    rank,
    training_metrics,
)
from keras_gan.metrics._needs import MetricContext  # noqa: E402
from keras_gan.metrics.accumulators import Collected, Moments  # noqa: E402
from keras_gan.metrics.accuracy import Accuracy  # noqa: E402
from keras_gan.metrics.background import Background, BackgroundResult, background  # noqa: E402
from keras_gan.metrics.balanced_accuracy import balanced_accuracy  # noqa: E402
from keras_gan.metrics.bounce_accuracy import (  # noqa: E402
    BounceAccuracy,
    bounce_accuracy,
)
from keras_gan.metrics.calibration_error import (  # noqa: E402
    CalibrationError,
    calibration_error,
)
from keras_gan.metrics.class_constancy import (  # noqa: E402
    ClassConstancy,
    class_constancy,
    frame_constancy,
)
from keras_gan.metrics.classification import (  # noqa: E402
    ClassificationAccuracy,
    classification_accuracy,
)
from keras_gan.metrics.classifier_files import TrainedClassifier  # noqa: E402
from keras_gan.metrics.codes import (  # noqa: E402
    CategoryPurity,
    FactorAccuracy,
    MutualInformationGap,
    category_purity,
    factor_accuracy,
    mutual_information,
)
from keras_gan.metrics.comparison import Comparison, needs_features  # noqa: E402
from keras_gan.metrics.consistency import Consistency, consistency  # noqa: E402
from keras_gan.metrics.content_drift import ContentDrift, content_drift  # noqa: E402
from keras_gan.metrics.content_swap import (  # noqa: E402
    ContentSwap,
    ContentSwapResult,
    content_swap,
)
from keras_gan.metrics.cycle_l1 import CycleL1  # noqa: E402
from keras_gan.metrics.density_coverage import DensityCoverage, density_coverage  # noqa: E402
from keras_gan.metrics.diversity import Diversity  # noqa: E402
from keras_gan.metrics.evaluate import EvaluationSettings, evaluate  # noqa: E402
from keras_gan.metrics.extractor import Extractor  # noqa: E402
from keras_gan.metrics.f0_error import F0Error, f0_error  # noqa: E402
from keras_gan.metrics.features import open_features, origin_note  # noqa: E402
from keras_gan.metrics.frechet import FrechetDistance, frechet_distance  # noqa: E402
from keras_gan.metrics.generators import classifier_of, inverse_of, which_weights  # noqa: E402
from keras_gan.metrics.gmsd import Gmsd, gmsd  # noqa: E402
from keras_gan.metrics.gradient_ratio import GradientRatio, gradient_ratio  # noqa: E402
from keras_gan.metrics.inception_score import (  # noqa: E402
    ClassScore,
    InceptionScore,
    inception_score,
)
from keras_gan.metrics.kernel import KernelDistance, kernel_distance  # noqa: E402
from keras_gan.metrics.l1 import L1, l1  # noqa: E402
from keras_gan.metrics.level_error import LevelError, level_error  # noqa: E402
from keras_gan.metrics.log_mel_l1 import LogMelL1, log_mel_l1  # noqa: E402
from keras_gan.metrics.lpips import Lpips  # noqa: E402
from keras_gan.metrics.mcd import Mcd, mcd  # noqa: E402
from keras_gan.metrics.mel_patch_distance import (  # noqa: E402
    MelPatchDistance,
    mel_patch_distance,
)
from keras_gan.metrics.mode_coverage import ModeCoverage, mode_coverage  # noqa: E402
from keras_gan.metrics.mr_stft import MrStft, mr_stft  # noqa: E402
from keras_gan.metrics.ms_ssim import MsSsim, ms_ssim_diversity  # noqa: E402
from keras_gan.metrics.nearest import Nearest, Neighbors, nearest  # noqa: E402
from keras_gan.metrics.nearest_ratio import NearestRatio  # noqa: E402
from keras_gan.metrics.novelty_auroc import NoveltyAuroc, auroc  # noqa: E402
from keras_gan.metrics.nyquist_ratio import NyquistRatio, nyquist_ratio  # noqa: E402
from keras_gan.metrics.pair_accuracy import PairAccuracy, pair_accuracy  # noqa: E402
from keras_gan.metrics.pair_distance import PairDistance, pair_distance  # noqa: E402
from keras_gan.metrics.pairs import Answers, Pairs, answered_field  # noqa: E402
from keras_gan.metrics.patch_distance import PatchDistance, patch_distance  # noqa: E402
from keras_gan.metrics.pesq import Pesq, pesq  # noqa: E402
from keras_gan.metrics.pitch import track_pitch  # noqa: E402
from keras_gan.metrics.precision_recall import PrecisionRecall, precision_recall  # noqa: E402
from keras_gan.metrics.psnr import Psnr, psnr  # noqa: E402
from keras_gan.metrics.result import EvaluationResult, check_target  # noqa: E402
from keras_gan.metrics.selection import names  # noqa: E402
from keras_gan.metrics.sliced_wasserstein import (  # noqa: E402
    SlicedWasserstein,
    sliced_wasserstein,
)
from keras_gan.metrics.sound_classifier import train_sound_classifier  # noqa: E402
from keras_gan.metrics.spectrum_error import SpectrumError, spectrum_error  # noqa: E402
from keras_gan.metrics.ssim import Ssim, ssim  # noqa: E402
from keras_gan.metrics.stoi import Stoi, stoi  # noqa: E402
from keras_gan.metrics.velocity_error import VelocityError, velocity_error  # noqa: E402
from keras_gan.metrics.video_classifier import train_video_classifier  # noqa: E402

__all__ = [
    "L1",
    "Accuracy",
    "Answers",
    "Background",
    "BackgroundResult",
    "BounceAccuracy",
    "CalibrationError",
    "CategoryPurity",
    "ClassConstancy",
    "ClassScore",
    "ClassificationAccuracy",
    "Collected",
    "Comparison",
    "Consistency",
    "ContentDrift",
    "ContentSwap",
    "ContentSwapResult",
    "CycleL1",
    "DensityCoverage",
    "Diversity",
    "EvaluationInputs",
    "EvaluationResult",
    "EvaluationSettings",
    "Extractor",
    "F0Error",
    "FactorAccuracy",
    "FrechetDistance",
    "Gmsd",
    "GradientRatio",
    "InceptionScore",
    "KernelDistance",
    "LevelError",
    "LogMelL1",
    "Lpips",
    "Mcd",
    "MelPatchDistance",
    "Metric",
    "MetricContext",
    "MetricResult",
    "ModeCoverage",
    "Moments",
    "MrStft",
    "MsSsim",
    "MutualInformationGap",
    "Nearest",
    "NearestRatio",
    "Neighbors",
    "NoveltyAuroc",
    "NyquistRatio",
    "PairAccuracy",
    "PairDistance",
    "Pairs",
    "PatchDistance",
    "Pesq",
    "PrecisionRecall",
    "Psnr",
    "SlicedWasserstein",
    "SpectrumError",
    "Ssim",
    "Stoi",
    "TrainedClassifier",
    "VelocityError",
    "answered_field",
    "auroc",
    "background",
    "balanced_accuracy",
    "bounce_accuracy",
    "calibration_error",
    "category_purity",
    "check_target",
    "class_constancy",
    "classification_accuracy",
    "classifier_of",
    "consistency",
    "content_drift",
    "content_swap",
    "density_coverage",
    "evaluate",
    "f0_error",
    "factor_accuracy",
    "frame_constancy",
    "frechet_distance",
    "gmsd",
    "gradient_ratio",
    "inception_score",
    "inverse_of",
    "kernel_distance",
    "l1",
    "level_error",
    "log_mel_l1",
    "mcd",
    "mel_patch_distance",
    "mode_coverage",
    "mr_stft",
    "ms_ssim_diversity",
    "mutual_information",
    "names",
    "nearest",
    "needs_features",
    "nyquist_ratio",
    "open_features",
    "origin_note",
    "pair_accuracy",
    "pair_distance",
    "patch_distance",
    "pesq",
    "precision_recall",
    "psnr",
    "rank",
    "sliced_wasserstein",
    "spectrum_error",
    "ssim",
    "stoi",
    "track_pitch",
    "train_sound_classifier",
    "train_video_classifier",
    "training_metrics",
    "velocity_error",
    "which_weights",
]
