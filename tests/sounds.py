"""Small vocoders and their data, shared by the tests."""

import keras
import numpy as np

from keras_gan import Field, Spec, architectures
from serving.mel import Mel

MEL = Mel()  # 8 kHz, hop 64, 40 mels
# Networks of a recipe for a small vocoder.
NETWORKS = {
    "generator": {"architecture": "vocoder", "width": 8, "blocks": 1, "condition": ["mel"]},
    "discriminator": {
        "architecture": "multi_period",
        "periods": [2],
        "resolutions": [64],
        "width": 4,
        "layers": 1,
    },
}


def spec(frames=16, mel=MEL):
    """The fields of windows of sound and their spectrograms."""
    time = None if frames is None else frames * mel.hop
    return Spec(
        fields={
            "samples": Field("audio", (time, 1), meta={"sample_rate": mel.sample_rate}),
            "mel": Field("mel", (frames, mel.mels), meta={"mel": mel.to_meta()}),
        }
    )


def vocoder(architecture="vocoder", frames=16, mel=MEL, seed=0, **options):
    """A small generator."""
    keras.utils.set_random_seed(seed)
    small = {"vocoder": {"width": 16, "blocks": 1}, "hifi": {"width": 8}}[architecture]
    return architectures.build_network(
        *("generator", architecture, spec(frames, mel)), conditions=["mel"], **small | options
    )


def judge(frames=16, seed=1, **options):
    """A small discriminator."""
    keras.utils.set_random_seed(seed)
    small = {"periods": [2, 3], "resolutions": [64], "width": 4, "layers": 2}
    return architectures.build_network(
        "discriminator", "multi_period", spec(frames), **small | options
    )


def tones(count=32, frames=16, mel=MEL, seed=0):
    """Fields of gliding tones with some noise, and their spectrograms."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames * mel.hop) / mel.sample_rate
    pitch, glide = rng.uniform(100, 1000, (count, 1)), rng.uniform(0, 2000, (count, 1))
    level = 10 ** rng.uniform(-2, -0.3, (count, 1))
    waves = level * np.sin(2 * np.pi * (pitch * time + glide * time**2))
    waves = waves + rng.normal(0, 1e-3, waves.shape)
    return {"samples": waves[..., None].astype("float32"), "mel": mel(waves)}


def silence(frames, mel=MEL):
    """The spectrogram of silence."""
    return np.full((1, frames, mel.mels), np.log(mel.floor), np.float32)


def decibels(samples):
    """The level in dBFS."""
    return 20 * np.log10(np.sqrt(np.mean(np.square(np.asarray(samples, np.float64)))) + 1e-12)
