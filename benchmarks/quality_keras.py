"""The keras.io examples that `quality.py` compares with this library, each in its own process.

`keras-dcgan` is "dcgan_overriding_train_step" at 64 x 64, as published except for one color channel
instead of three. `keras-dcgan-28` is the same at 28 x 28, the generator without its last upsampling
layer, an obvious adaptation to these images. `keras-wgan-gp` is "wgan_gp", written for
Fashion-MNIST, as published, with the epsilon under the square root that was added in 2026.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from clocks import CLOCKS
from keras import layers
from PIL import Image

GAMES = ("keras-dcgan", "keras-dcgan-28", "keras-wgan-gp")


class Example(keras.Model):
    """Base class of the examples: two networks, two optimizers."""

    latent_dim = 128

    def __init__(self, generator, discriminator):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator

    def compile(self, generator_optimizer, discriminator_optimizer):  # pyright: ignore
        super().compile()
        self.g_optimizer, self.d_optimizer = generator_optimizer, discriminator_optimizer

    def noise(self, count):
        return tf.random.normal((count, self.latent_dim))

    def learn(self, optimizer, network, tape, loss) -> None:
        weights = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))


class DCGAN(Example):
    """Cross-entropy with uniform noise added to the labels of real and generated images."""

    def __init__(self, size: int):
        base, widths = (8, (128, 256, 512)) if size == 64 else (7, (128, 256))
        discriminator = [keras.Input((size, size, 1))]
        for width in (64, 128, 128):
            discriminator += [layers.Conv2D(width, 4, 2, "same"), layers.LeakyReLU(0.2)]
        discriminator += [layers.Flatten(), layers.Dropout(0.2), layers.Dense(1, "sigmoid")]
        generator = [keras.Input((self.latent_dim,)), layers.Dense(base * base * 128)]
        generator += [layers.Reshape((base, base, 128))]
        for width in widths:
            generator += [layers.Conv2DTranspose(width, 4, 2, "same"), layers.LeakyReLU(0.2)]
        generator += [layers.Conv2D(1, 5, padding="same", activation="sigmoid")]
        super().__init__(keras.Sequential(generator), keras.Sequential(discriminator))
        self.compile(keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4))
        self.cross_entropy = keras.losses.BinaryCrossentropy()

    def train_step(self, real):  # pyright: ignore
        count = tf.shape(real)[0]
        both = tf.concat([self.generator(self.noise(count)), real], axis=0)
        labels = tf.concat([tf.ones((count, 1)), tf.zeros((count, 1))], axis=0)
        labels += 0.05 * tf.random.uniform(tf.shape(labels))
        with tf.GradientTape() as tape:
            # As published, without training=True, so that Keras 3 does not apply Dropout.
            loss = self.cross_entropy(labels, self.discriminator(both))
        self.learn(self.d_optimizer, self.discriminator, tape, loss)
        noise = self.noise(count)
        with tf.GradientTape() as tape:
            logits = self.discriminator(self.generator(noise))
            loss = self.cross_entropy(tf.zeros((count, 1)), logits)
        self.learn(self.g_optimizer, self.generator, tape, loss)
        return {"g_loss": loss}


class WGANGP(Example):
    """Wasserstein loss, gradient penalty of weight 10, three critic steps per generator step."""

    def __init__(self):
        critic = [keras.Input((28, 28, 1)), layers.ZeroPadding2D((2, 2))]
        for width, dropout in ((64, 0.0), (128, 0.3), (256, 0.3), (512, 0.0)):
            critic += [layers.Conv2D(width, 5, 2, "same"), layers.LeakyReLU(0.2)]
            critic += [layers.Dropout(dropout)] if dropout else []
        critic += [layers.Flatten(), layers.Dropout(0.2), layers.Dense(1)]
        generator = [keras.Input((self.latent_dim,)), layers.Dense(4 * 4 * 256, use_bias=False)]
        generator += [layers.BatchNormalization(), layers.LeakyReLU(0.2)]
        generator += [layers.Reshape((4, 4, 256))]
        for width, activation in ((128, None), (64, None), (1, "tanh")):
            generator += [layers.UpSampling2D(), layers.Conv2D(width, 3, 1, "same", use_bias=False)]
            generator += [layers.BatchNormalization()]
            generator += [layers.Activation(activation) if activation else layers.LeakyReLU(0.2)]
        generator += [layers.Cropping2D((2, 2))]
        super().__init__(keras.Sequential(generator), keras.Sequential(critic))
        adam: Any = keras.optimizers.Adam
        self.compile(adam(2e-4, beta_1=0.5, beta_2=0.9), adam(2e-4, beta_1=0.5, beta_2=0.9))

    def penalty(self, real, fake):
        shape: Any = (tf.shape(real)[0], 1, 1, 1)
        mix = tf.random.uniform(shape)
        between = real + mix * (fake - real)
        with tf.GradientTape() as tape:
            tape.watch(between)
            logits = self.discriminator(between, training=True)
        slope: Any = tape.gradient(logits, between)
        squares = tf.reduce_sum(tf.square(slope), axis=[1, 2, 3])
        norm = tf.sqrt(squares + keras.backend.epsilon())
        return tf.reduce_mean((norm - 1.0) ** 2)

    def train_step(self, real):  # pyright: ignore
        count = tf.shape(real)[0]
        for _ in range(3):
            noise = self.noise(count)
            with tf.GradientTape() as tape:
                fake = self.generator(noise, training=True)
                on_fake = self.discriminator(fake, training=True)
                on_real = self.discriminator(real, training=True)
                loss = tf.reduce_mean(on_fake) - tf.reduce_mean(on_real)
                loss += 10.0 * self.penalty(real, fake)
            self.learn(self.d_optimizer, self.discriminator, tape, loss)
        noise = self.noise(count)
        with tf.GradientTape() as tape:
            fake = self.generator(noise, training=True)
            loss = -tf.reduce_mean(self.discriminator(fake, training=True))
        self.learn(self.g_optimizer, self.generator, tape, loss)
        return {"g_loss": loss}


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """Resizes gray uint8 images, `(count, height, width, 1)`, with Pillow's bilinear filter."""
    if images.shape[1] == size:
        return images
    shape, bilinear = (size, size), Image.Resampling.BILINEAR
    pixels = [
        np.asarray(Image.fromarray(image[..., 0]).resize(shape, bilinear)) for image in images
    ]
    return np.stack(pixels)[..., None]


class Marks(keras.callbacks.Callback):
    """Callback that writes samples at given minutes of training, excluding its own time."""

    def __init__(
        self, minutes: list[float], count: int, low: float, folder: pathlib.Path, clock: str
    ):
        super().__init__()
        self.left, self.count, self.low, self.folder = sorted(minutes), count, low, folder
        self.clock = CLOCKS[clock]

    def on_train_begin(self, logs=None) -> None:
        self.began = self.clock()
        self.steps = 0

    def on_train_batch_end(self, batch, logs=None) -> None:
        self.steps += 1
        if self.clock() - self.began < 60 * self.left[0]:
            return
        before = self.clock()
        samples = np.concatenate(list(self.draw()))
        np.save(self.folder / f"samples-{self.left.pop(0):g}.npy", samples)
        self.began += self.clock() - before
        self.model.stop_training = not self.left  # pyright: ignore

    def draw(self) -> Iterator[np.ndarray]:
        model: Any = self.model
        for start in range(0, self.count, 100):
            samples = model.generator(model.noise(min(100, self.count - start)), training=False)
            gray = (np.asarray(samples) - self.low) * 255 / (1 - self.low)
            yield resized(np.clip(np.rint(gray), 0, 255).astype("uint8"), 28)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("game", choices=GAMES)
    parser.add_argument("--images", type=pathlib.Path, required=True, help=".npy, uint8")
    parser.add_argument("--minutes", required=True)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    images = np.load(options.images)
    if options.game == "keras-wgan-gp":
        model: Any = WGANGP()
        low, batch = -1.0, 512
    else:
        size = 28 if options.game.endswith("28") else 64
        model, low, batch = DCGAN(size), 0.0, 32
        images = resized(images, size)
    scaled = lambda x: low + tf.cast(x, tf.float32) * ((1 - low) / 255)  # noqa: E731
    data = tf.data.Dataset.from_tensor_slices(images).shuffle(len(images)).repeat()
    data = data.batch(batch).map(scaled).prefetch(2)
    minutes = [float(mark) for mark in options.minutes.split(",")]
    marks = Marks(minutes, options.count, low, options.out, options.clock)
    model.fit(data, steps_per_epoch=10**7, verbose=0, callbacks=[marks])
    print(f"{marks.steps * batch} images")


if __name__ == "__main__":
    main()
