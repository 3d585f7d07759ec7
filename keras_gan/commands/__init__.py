"""The commands of `python -m keras_gan`, one module for each group."""

from keras_gan.commands import (
    averaging,
    data,
    evaluating,
    exporting,
    quickstart,
    recording,
    sound_classifier,
    training,
)
from keras_gan.commands._app import app

__all__ = ["app", "averaging", "data", "evaluating", "exporting", "quickstart"]
__all__ += ["recording", "sound_classifier", "training"]
