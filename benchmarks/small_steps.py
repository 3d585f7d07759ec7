"""Processor time until a small game trains, and of its steps, where operations are tiny.

    python benchmarks/small_steps.py [--steps 400]

Two games: points with dense layers, and 16 x 16 images with DiffAugment; both relativistic, with R1
and R2. To compare versions, run it in turns with the Python of each.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_gan

FIRST = 10  # steps, which include the tracing of the graph
PENALTIES = [{"name": name, "weight": 1.0, "interval": 4} for name in ("r1", "r2")]


def points() -> tuple[keras_gan.GAN, np.ndarray]:
    def network(inputs: int, outputs: int) -> keras.Model:
        dense = keras.layers.Dense
        return keras.Sequential(
            [keras.Input((inputs,)), dense(64, activation="relu"), dense(outputs)]
        )

    gan = keras_gan.GAN(network(8, 2), network(2, 1), loss="relativistic", terms=PENALTIES)
    return gan, np.random.default_rng(0).normal(size=(64, 2))


def images() -> tuple[keras_gan.GAN, np.ndarray]:
    spec, widths = keras_gan.Spec("image", (16, 16, 3), (-1.0, 1.0)), {"widths": [8, 8, 8]}
    players = keras_gan.architectures.build(
        "dcgan", spec, False, generator={"latent_dim": 8, **widths}, discriminator=widths
    )
    augment = {"name": "diff_augment", "policy": "color,translation,cutout"}
    gan = keras_gan.GAN(*players, loss="relativistic", terms=PENALTIES, augment=augment)
    return gan, np.tanh(np.random.default_rng(0).normal(size=(16, 16, 16, 3)))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=400)
    steps = parser.parse_args().steps
    for make in (points, images):
        keras.utils.set_random_seed(0)
        gan, samples = make()
        batches = tf.data.Dataset.from_tensors(samples.astype("float32")).repeat()
        gan.compile(*(keras.optimizers.Adam(1e-3) for _ in range(2)), steps_per_execution=FIRST)
        times = [time.process_time()]
        for count in (FIRST, steps):
            gan.fit(batches, steps_per_epoch=count, verbose=0)
            times.append(time.process_time())
        first, later = times[1] - times[0], (times[2] - times[1]) / steps
        print(f"{make.__name__}: {first:.1f} s for {FIRST} steps, then {later * 1e3:.2f} ms a step")


if __name__ == "__main__":
    main()
