"""A game of one's own: the first Wasserstein GAN, outside the package."""

import keras
import tensorflow as tf

import keras_gan


@keras.saving.register_keras_serializable("own_game")
class ClippedWasserstein(keras_gan.Game):
    """A generator against a critic whose weights are clipped (Arjovsky et al., 2017)."""

    metric_names = ("critic_loss", "generator_loss")

    def __init__(self, generator, critic, limit=0.01, **kwargs):
        super().__init__({"critic": critic, "generator": generator}, **kwargs)
        self.limit = limit

    def step(self, batch):
        real = batch["samples"]
        latents = self.draw_latents(real, self.random_seed("noise"))

        # The critic maximizes E f(x) - E f(g(z)), within the clipped weights.
        fake = self.generator(latents, training=True)
        with tf.GradientTape() as tape:
            scores = self.critic(fake, training=True), self.critic(real, training=True)
            loss = tf.reduce_mean(scores[0]) - tf.reduce_mean(scores[1])
        self.minimize("critic", loss, tape)
        for weight in self.critic.trainable_variables:
            weight.assign(tf.clip_by_value(weight, -self.limit, self.limit))
        self.track(critic_loss=loss)

        # The generator maximizes E f(g(z)).
        with tf.GradientTape() as tape:
            fake = self.generator(latents, training=True)
            loss = -tf.reduce_mean(self.critic(fake, training=True))
        self.minimize("generator", loss, tape)
        self.track(generator_loss=loss)
