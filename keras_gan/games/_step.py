"""Parts of a training step: batch splitting, generated samples, the context of the terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_gan import terms
from keras_gan.networks import as_float32

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


def split(batch: dict[str, Any], count: int, sample_shape: tuple) -> list[dict]:
    """Returns a batch in equal parts.

    Args:
        batch: fields by name.
        count: number of parts, one for each discriminator step; the batch must divide by it.
        sample_shape: shape of a sample.
    """
    if count == 1:
        return [batch]
    whole = tf.shape(batch["samples"])[0]
    size = whole // count
    message = f"A batch must divide by discriminator_steps={count}"
    with tf.control_dependencies([tf.debugging.assert_equal(size * count, whole, message)]):
        fields = {
            name: tf.reshape(field, tf.concat([[count, size], tf.shape(field)[1:]], 0))
            for name, field in batch.items()
        }
    for name, field in fields.items():
        field.set_shape((count, None, *batch[name].shape[1:]))
    fields["samples"].set_shape((count, None, *sample_shape))
    parts = {name: tf.unstack(field, num=count) for name, field in fields.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(count)]


def generate(game: Any, batch: dict[str, Any], index: int) -> tuple[Any, dict[str, Any]]:
    """Returns new latents, and the generator's outputs of them by name, in training mode."""
    latents = game.draw_latents(batch["samples"], game.random_seed("noise", index))
    return latents, _outputs(game, batch, latents)


def mixed(game: Any, real: Any, fake: Any, index: int) -> Any:
    """Returns the samples that the discriminator is shown as real, see `augment.Apa`."""
    if not game.num_classes:
        fake = tf.roll(fake, 1, axis=0)  # in a pair, no sample is compared with itself
    return game.augmentation.mix(real, fake, game.random_seed("mix", index))


def context(
    game: Any,
    player: str,
    batch: dict[str, Any],
    latents: Any,
    real: Any,
    fake: Any,
    index: int,
    outputs: Mapping[str, Any] | None = None,
) -> terms.StepContext:
    """Returns the context of a player's terms, and the discriminator's forward passes.

    It must be made inside the tape that differentiates by the weights of the player.

    Args:
        game: a game with a generator and a discriminator.
        player: "generator" or "discriminator".
        batch: fields of this step by name.
        latents: those of the generated samples.
        real: real samples, `(batch, ...)`.
        fake: generated samples, the same shape.
        index: number of the discriminator step within the training step, from 0.
        outputs: the generator's outputs by name, in its own step.
    """
    seed = game.random_seed("augment", index)
    pack = game.packing.pack
    step = game.iteration.value
    if player == "discriminator":
        step = step * game.discriminator_steps + index

    def augmented(samples):
        return game.packing.per_sample(lambda x: game.augmentation(x, seed), samples)

    def forward(samples):
        inputs = batch | {"samples": augmented(samples)}
        return as_float32(game.networks["discriminator"](inputs, training=True))

    return terms.StepContext(
        player=player,
        networks=game.networks,
        forward=terms.SharedForward(forward),
        generate=lambda latents: pack(_outputs(game, batch, latents)["samples"]),
        latents=latents,
        real=pack(real),
        fake=pack(fake),
        seed=game.random_seed(f"{player} terms", index),
        fields=batch,
        step=step,
        augmented=augmented,
        per_sample=game.packing.per_sample,
        outputs=outputs or {},
    )


def _outputs(game: Any, batch: dict[str, Any], latents: Any) -> dict[str, Any]:
    outputs = game.networks["generator"](batch | {"latents": latents}, training=True)
    return outputs | {"samples": ops.cast(outputs["samples"], batch["samples"].dtype)}
