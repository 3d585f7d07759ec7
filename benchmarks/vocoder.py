"""Trains a vocoder on one core for a given processor time, and measures it.

    taskset -c 1 python benchmarks/vocoder.py --seconds 120

The data is `asterisk-core-sounds-en-wav` (Debian): its 358 sentences, of which the first 28 by the
SHA-256 of their names are the test files and the next 30 the validation files. Needs nothing else.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import onnxruntime
import sentences
import tensorflow as tf

import export
import keras_gan
from keras_gan import Field, Spec, architectures, terms
from serving.mel import Mel

TEST, VALIDATION = 28, 30
FRAMES, BATCH = 64, 16
SILENT = 0.01  # RMS of windows that are not trained on
MEL = Mel()
SPEC = Spec(
    fields={
        "samples": Field("audio", (FRAMES * MEL.hop, 1), meta={"sample_rate": MEL.sample_rate}),
        "mel": Field("mel", (FRAMES, MEL.mels), meta={"mel": MEL.to_meta()}),
    }
)


def read_clips() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the clips to train on and the test clips, float32 `(time,)`, in whole frames."""
    waves = [wave.astype(np.float32) for wave in sentences.read(MEL.sample_rate)]
    clips = [np.pad(wave, (0, -len(wave) % MEL.hop)) for wave in waves]
    return clips[TEST + VALIDATION :], clips[:TEST]


def windows(clips: list[np.ndarray], seed: int, batch: int, frames: int):
    """Yields batches of random windows with their part of the spectrogram of the clip."""
    clips = [x for x in clips if len(x) >= frames * MEL.hop]
    mels = [MEL(x) for x in clips]
    counts = np.array([len(m) - frames + 1 for m in mels])
    rng = np.random.default_rng(seed)
    while True:
        samples, spectrograms = [], []
        while len(samples) < batch:
            clip = rng.choice(len(clips), p=counts / counts.sum())
            first = rng.integers(counts[clip])
            window = clips[clip][first * MEL.hop : (first + frames) * MEL.hop]
            if np.sqrt(np.mean(window**2)) >= SILENT:
                samples.append(window[:, None])
                spectrograms.append(mels[clip][first : first + frames])
        yield {"samples": np.stack(samples), "mel": np.stack(spectrograms)}


class ProcessorTime(keras.callbacks.Callback):
    """Stops the training after a processor time, and follows it with the learning rate.

    Args:
        seconds: processor time of the training, with its compilation.
        rate: highest learning rate; it falls to 0 as a quarter of a cosine.
        warm: steps in which the rate rises to it.
    """

    def __init__(self, seconds: float, rate: float, warm: int = 50):
        super().__init__()
        self.seconds, self.rate, self.warm = seconds, rate, warm
        self.began, self.steps, self.first = time.process_time(), 0, 0.0

    @property
    def used(self) -> float:
        return time.process_time() - self.began

    def on_train_batch_begin(self, batch, logs=None):
        share = min(1.0, self.used / self.seconds)
        rate = self.rate * np.cos(np.pi / 2 * share) * min(1.0, (self.steps + 1) / self.warm)
        game: Any = self.model
        game.generator_optimizer.learning_rate.assign(max(rate, 1e-6))

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.first = self.first or self.used
        if self.steps % 200 == 0:
            value = (logs or {})["generator_mel_reconstruction"]
            print(f"{self.used:6.1f} s, step {self.steps}: mel reconstruction {value:.3f}")
        if self.used > self.seconds:
            game: Any = self.model
            game.stop_training = True


def build(options: argparse.Namespace) -> keras_gan.TwoStage:
    """Returns the compiled game."""
    keras.utils.set_random_seed(options.seed)
    conditions = {"conditions": ["mel"]}
    generator = architectures.build_network(
        "generator", options.architecture, SPEC, **conditions, **options.generator
    )
    discriminator = architectures.build_network("discriminator", "multi_period", SPEC)
    found = [terms.MelReconstruction(15.0), terms.Spectral(options.spectral)]
    if options.first_stage < 1:
        found.append(terms.FeatureMatching(2.0, distance="l1"))
    gan = keras_gan.TwoStage(
        *(generator, discriminator),
        first_stage=10**9 if options.first_stage >= 1 else options.first_stage,
        training_examples=options.examples,
        adversarial_weight=1.0,
        loss="least_squares",
        terms=found,
        ema_half_life=options.half_life,
        seed=options.seed,
    )
    gan.sample_kind = "audio"
    gan.compile(
        generator_optimizer=keras.optimizers.Adam(options.rate, beta_1=0.8, beta_2=0.99),
        discriminator_optimizer=keras.optimizers.Adam(2e-4, beta_1=0.8, beta_2=0.99),
        jit_compile=options.jit,
    )
    return gan


def stft_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """Returns the mean over windows of 64, 256 and 512 of convergence and log magnitudes."""
    total = 0.0
    for window in (64, 256, 512):
        mel = Mel(window=window, n_fft=window, hop=window // 4, mels=4)
        a, b = mel.magnitudes(real), mel.magnitudes(fake)
        logs = np.abs(np.log(a + 1e-3) - np.log(b + 1e-3)).mean()
        total += np.linalg.norm(a - b) / np.linalg.norm(a) + logs
    return total / 3


def measure(run, clips: list[np.ndarray]) -> dict[str, float]:
    """Returns the mean distances of vocoded test clips from the clips, and the level in dB.

    Args:
        run: function from a spectrogram `(1, frames, mels)` to samples `(1, time, 1)`.
        clips: the test clips.
    """
    rows = []
    for clip in clips:
        mel = MEL(clip)
        fake = np.asarray(run(mel[None]))[0, :, 0]
        level = 20 * np.log10(np.sqrt((fake**2).mean()) / np.sqrt((clip**2).mean()))
        rows.append((np.abs(MEL(fake) - mel).mean(), stft_distance(clip, fake), level))
    return dict(zip(("log-mel L1", "MR-STFT", "level dB"), np.mean(rows, axis=0), strict=True))


def real_time_factor(model: Path, clips: list[np.ndarray]) -> float:
    """Returns the processor time of onnxruntime on one thread over the duration, of 4 s."""
    session = open_session(model)
    mel = MEL(np.concatenate(clips)[: 4 * MEL.sample_rate])[None]
    session.run(None, {"mel": mel})
    times = []
    for _ in range(30):
        began = time.process_time()
        session.run(None, {"mel": mel})
        times.append(time.process_time() - began)
    return float(np.median(times)) / 4


def open_session(model: Path) -> onnxruntime.InferenceSession:
    """Opens a model on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def main() -> None:
    """Trains, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--architecture", default="vocoder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--spectral", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--half-life", type=float, default=1000)
    parser.add_argument("--first-stage", type=float, default=1.0, help="share of --examples")
    parser.add_argument("--examples", type=int, default=30_000)
    parser.add_argument("--jit", action="store_true", help="XLA, which takes 40 s to compile")
    parser.add_argument("--no-export", dest="export", action="store_false")
    parser.add_argument("--precision", default="")
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE of the generator")
    options = parser.parse_args()
    pairs = (text.split("=", 1) for text in options.option)
    options.generator = {name: eval(value) for name, value in pairs}
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    train, test = read_clips()
    gan = build(options)
    stop = ProcessorTime(options.seconds, options.rate)
    shapes = {name: tf.TensorSpec((options.batch, *f.shape)) for name, f in SPEC.fields.items()}
    data = tf.data.Dataset.from_generator(
        lambda: windows(train, options.seed, options.batch, FRAMES), output_signature=shapes
    )
    gan.fit(data, epochs=1, steps_per_epoch=10**6, callbacks=[stop], verbose=0)
    print(
        f"{stop.steps} steps in {stop.used:.1f} s of processor time, of which {stop.first:.1f} s "
        f"to the end of the first step; {gan.generator.count_params():,} parameters"
    )
    for average in (False, True):
        network = gan.exported(average=average)
        figures = measure(lambda mel, net=network: net(mel, training=False), test)
        print("average" if average else "live", {k: round(float(v), 3) for k, v in figures.items()})
    if options.export:
        _export(gan, test, options.precision)


def _export(gan: keras_gan.TwoStage, test: list[np.ndarray], precision: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "bundle"
        bundle = export.export_bundle(gan, to, spec=SPEC, name="vocoder", precision=precision)
        print(bundle.manifest.worst_parity())
        for file in sorted(to.glob("model*.onnx")):
            session = open_session(file)
            figures = measure(lambda mel, s=session: s.run(None, {"mel": mel})[0], test)
            factor, size = real_time_factor(file, test), file.stat().st_size
            shown = {name: round(float(value), 3) for name, value in figures.items()}
            print(f"{file.name}: {shown}, real-time factor {factor:.5f}, {size:,} bytes")


if __name__ == "__main__":
    main()
