"""Terms on the spectra of sound: log-mel spectrograms and short-time Fourier transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_gan.arguments import check_positive, is_integer
from keras_gan.errors import UsageError
from keras_gan.layers import LogMel, VocoderInput
from keras_gan.layers.sound import fourier_kernels, magnitudes
from keras_gan.networks import mean_per_sample
from keras_gan.schedules import Schedule
from keras_gan.terms._term import GameSpec, StepContext, Term, check_condition, widened

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


class _SoundTerm(Term):
    """Base class of terms that compare generated sound with the real sound of its condition."""

    players = ("generator",)
    outputs = {"generator": ("samples",)}
    supervises = True

    def check(self, game: GameSpec) -> None:
        name = type(self).__name__
        if len(game.sample_shape) != 2 or game.sample_shape[-1] != 1:
            raise UsageError(
                f"{name} is for sound of the shape (time, 1). "
                f"Received: samples of shape {tuple(game.sample_shape)}"
            )
        check_condition(game, name)


@keras.saving.register_keras_serializable("keras_gan")
class MelReconstruction(_SoundTerm):
    """Mean absolute difference of log-mel spectrograms of each generated sample and its real one.

    Both spectrograms are computed from the window alone, with zeros outside of it.

    Args:
        weight: from 0 up, or a schedule of it; 45 as in HiFi-GAN.
        interval: see `Term`.
        mel: options of `keras_gan.layers.LogMel`; the sampling rate of a vocoder need not be
            given. By default those of the spectrograms that the generator takes.

    Raises:
        UsageError: an argument out of range, samples other than sound, or a generator without a
            condition, or without a definition of its spectrograms where `mel` is not given.

    Reference:
        - [Kong et al., 2020](https://arxiv.org/abs/2010.05646), equation 3
    """

    def __init__(
        self,
        weight: float | Schedule = 45.0,
        interval: int = 1,
        mel: Mapping[str, Any] | None = None,
    ):
        super().__init__(weight, interval)
        self.mel = None if mel is None else dict(mel)
        if mel is not None:
            _log_mel(mel)

    def check(self, game: GameSpec) -> None:
        super().check(game)
        self._layer(game.networks["generator"].model)

    def values(self, context: StepContext):
        spectrogram = self._layer(context.generator)
        real = ops.stop_gradient(spectrogram(widened(context.real)))
        return mean_per_sample(ops.abs(spectrogram(widened(context.fake)) - real))

    def _layer(self, generator: keras.Model) -> LogMel:
        own = [x.mel for x in generator._flatten_layers() if isinstance(x, VocoderInput)]
        if self.mel is not None:
            rate = {"sample_rate": own[0].sample_rate} if own else {}
            return _log_mel({**rate, **self.mel})
        if own:
            return LogMel(**own[0].to_meta())
        raise UsageError(
            "MelReconstruction needs `mel`, the definition of the spectrograms, unless the "
            f"generator is a vocoder. Received: mel=None, generator {generator.name!r}"
        )

    def get_config(self) -> dict:
        return {**super().get_config(), "mel": self.mel}


def _log_mel(options: Mapping[str, Any]) -> LogMel:
    """Returns the layer of options.

    Raises:
        UsageError: an unknown option, or one out of range.
    """
    try:
        return LogMel(**options)
    except (TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(
            f"`mel` must be options of keras_gan.layers.LogMel. Received: mel={dict(options)!r}"
        ) from None


@keras.saving.register_keras_serializable("keras_gan")
class Spectral(_SoundTerm):
    """Multi-resolution STFT loss: spectral convergence and log magnitudes, over several windows.

    With magnitudes S of the real and T of the generated sample, it is the mean over the windows of
    |S - T|_F / |S|_F + mean |ln(S + floor) - ln(T + floor)|. The hop is a quarter of the window.

    Args:
        weight: from 0 up, or a schedule of it.
        interval: see `Term`.
        windows: lengths of the Hann windows in samples, divisible by 4.
        floor: added to the magnitudes in the logarithm, above 0.

    Raises:
        UsageError: an argument out of range, samples other than sound, or a generator without a
            condition.

    Reference:
        - [Yamamoto et al., 2019](https://arxiv.org/abs/1910.11480), section 2.2
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        interval: int = 1,
        windows: Sequence[int] = (64, 256, 512),
        floor: float = 1e-3,
    ):
        super().__init__(weight, interval)
        is_list = isinstance(windows, list | tuple) and len(windows) > 0
        if not is_list or not all(is_integer(n, 4) and n % 4 == 0 for n in windows):
            raise UsageError(
                f"`windows` must be a list of multiples of 4. Received: windows={windows!r}"
            )
        check_positive("floor", floor)
        self.windows, self.floor = [int(n) for n in windows], float(floor)

    def values(self, context: StepContext):
        real, fake = widened(context.real), widened(context.fake)
        found = [self._distance(real, fake, window) for window in self.windows]
        return sum(found[1:], found[0]) / len(found)

    def _distance(self, real, fake, window: int):
        kernels = fourier_kernels(window)
        one, other = (magnitudes(x, kernels, window // 4) for x in (real, fake))
        one = ops.stop_gradient(one)
        # Not the norm itself, whose gradient is infinite at 0.
        squares, of_real = (ops.sum(ops.square(x), axis=(1, 2)) for x in (one - other, one))
        convergence = ops.sqrt((squares + 1e-12) / (of_real + 1e-12))
        logs = ops.abs(ops.log(one + self.floor) - ops.log(other + self.floor))
        return convergence + mean_per_sample(logs)

    def get_config(self) -> dict:
        return {**super().get_config(), "windows": self.windows, "floor": self.floor}
