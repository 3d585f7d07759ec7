"""Keras variants of `train_step.py`: the example's step, with separate passes for each network."""

from __future__ import annotations

import keras
import tensorflow as tf

bce = keras.losses.BinaryCrossentropy(from_logits=True)


class Example(keras.Model):
    def __init__(self, generator, discriminator):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.latent_dim = generator.input_shape[-1]
        self.d_loss = keras.metrics.Mean("d_loss")
        self.g_loss = keras.metrics.Mean("g_loss")

    def compile(self, generator_optimizer, discriminator_optimizer):  # pyright: ignore
        super().compile()
        self.g_opt, self.d_opt = generator_optimizer, discriminator_optimizer

    @property
    def metrics(self):
        return [self.d_loss, self.g_loss]

    def learn(self, optimizer, network, tape, loss):
        weights = network.trainable_weights
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))


class Original(Example):
    def train_step(self, real):  # pyright: ignore
        count = tf.shape(real)[0]
        fake = self.generator(tf.random.normal((count, self.latent_dim)))
        both = tf.concat([fake, real], axis=0)
        labels = tf.concat([tf.ones((count, 1)), tf.zeros((count, 1))], axis=0)
        labels += 0.05 * tf.random.uniform(tf.shape(labels))
        with tf.GradientTape() as tape:
            d_loss = bce(labels, self.discriminator(both, training=True))
        self.learn(self.d_opt, self.discriminator, tape, d_loss)
        noise = tf.random.normal((count, self.latent_dim))
        with tf.GradientTape() as tape:
            fake = self.generator(noise, training=True)
            g_loss = bce(tf.zeros((count, 1)), self.discriminator(fake))
        self.learn(self.g_opt, self.generator, tape, g_loss)
        self.d_loss.update_state(d_loss)
        self.g_loss.update_state(g_loss)
        return self.get_metrics_result()


class Penalized(Example):
    def penalty(self, samples):
        with tf.GradientTape() as tape:
            tape.watch(samples)
            logits = self.discriminator(samples, training=True)
        slope = tape.gradient(logits, samples)
        return tf.reduce_mean(tf.reduce_sum(tf.square(slope), axis=(1, 2, 3))) / 2

    def train_step(self, real):  # pyright: ignore
        count = tf.shape(real)[0]
        noise = tf.random.normal((count, self.latent_dim))
        with tf.GradientTape() as tape:
            fake = self.generator(noise, training=True)
            gap = self.discriminator(real, training=True) - self.discriminator(fake, training=True)
            d_loss = tf.reduce_mean(tf.nn.softplus(-gap))
            total = d_loss + self.penalty(real) + self.penalty(fake)
        self.learn(self.d_opt, self.discriminator, tape, total)
        noise = tf.random.normal((count, self.latent_dim))
        with tf.GradientTape() as tape:
            fake = self.generator(noise, training=True)
            gap = self.discriminator(fake, training=True) - self.discriminator(real, training=True)
            g_loss = tf.reduce_mean(tf.nn.softplus(-gap))
        self.learn(self.g_opt, self.generator, tape, g_loss)
        self.d_loss.update_state(d_loss)
        self.g_loss.update_state(g_loss)
        return self.get_metrics_result()


GAMES: dict[str, type[Example]] = {"dcgan": Original, "small": Penalized, "color": Penalized}
