"""Training callbacks: previews, evaluation, records, progress, stopping."""

from keras_gan.callbacks.collapse import CollapseGuard
from keras_gan.callbacks.equilibrium import Equilibrium, least_held_out
from keras_gan.callbacks.evaluation import Evaluation
from keras_gan.callbacks.limits import Limits
from keras_gan.callbacks.preview import Preview
from keras_gan.callbacks.progress import Progress
from keras_gan.callbacks.record import RunWriter
from keras_gan.callbacks.single_run import SingleRunCallbackList
from keras_gan.callbacks.snapshots import AverageSnapshots
from keras_gan.callbacks.state import given_to, variables_of
from keras_gan.optimizers import (
    Lowered,
    learning_rate,
    lowered_by,
    optimizers_of,
    set_learning_rate,
)

__all__ = [
    "AverageSnapshots",
    "CollapseGuard",
    "Equilibrium",
    "Evaluation",
    "Limits",
    "Lowered",
    "Preview",
    "Progress",
    "RunWriter",
    "SingleRunCallbackList",
    "given_to",
    "learning_rate",
    "least_held_out",
    "lowered_by",
    "optimizers_of",
    "set_learning_rate",
    "variables_of",
]
