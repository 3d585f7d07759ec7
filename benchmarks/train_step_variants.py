"""TensorFlow variants of `train_step.py`: the networks, their work, and the training steps."""

from __future__ import annotations

import inspect
from typing import Any

SHAPES = {"dcgan": (64, 64, 3), "small": (28, 28, 1), "color": (64, 64, 3)}

# --------------------------------------------------------------------- the work of a step


def generator_flops(net: str) -> float:
    """Returns the floating-point operations of the generator's forward pass, per sample."""
    if net == "dcgan":
        ups = [(8, 128, 128), (16, 128, 256), (32, 256, 512)]
        dense, last = 128 * 8 * 8 * 128, 64 * 64 * 25 * 512 * 3
    elif net == "color":
        ups = [(4, 512, 256), (8, 256, 128), (16, 128, 64), (32, 64, 32)]
        dense, last = 64 * 4 * 4 * 512, 64 * 64 * 9 * 32 * 3
    else:
        ups = [(7, 128, 64), (14, 64, 32)]
        dense, last = 64 * 7 * 7 * 128, 28 * 28 * 9 * 32 * 1
    return 2.0 * (dense + last + sum(size**2 * 16 * a * b for size, a, b in ups))


def discriminator_flops(net: str) -> tuple[float, float]:
    """Returns the same of the discriminator, and of its first layer alone."""
    if net == "dcgan":
        downs, dense = [(32, 3, 64), (16, 64, 128), (8, 128, 128)], 8 * 8 * 128
    elif net == "color":
        downs = [(32, 3, 64), (16, 64, 128), (8, 128, 256), (4, 256, 512)]
        dense = 4 * 4 * 512
    else:
        downs, dense = [(14, 1, 64), (7, 64, 128)], 7 * 7 * 128
    parts = [2.0 * size**2 * 16 * a * b for size, a, b in downs]
    return sum(parts) + 2.0 * dense, parts[0]


def step_flops(net: str) -> float:
    """Returns the necessary operations of a training step per real sample, each product once.

    A backward pass computes two products for each one of the forward pass: with respect to the
    layer's input and to its weights. The generator runs once. The discriminator processes a real
    and a generated sample in its own step, and the generated one in the generator's step, where
    its weights are constant. R1 and R2 add the gradient with respect to the sample (one product)
    and its derivative with respect to the weights (two). The relativistic generator loss also
    needs the discriminator on the real sample.
    """
    g, (d, first) = generator_flops(net), discriminator_flops(net)
    if net == "dcgan":
        return 3 * g + 2 * (3 * d - first) + 2 * d
    return 3 * g + 2 * (6 * d - first) + 3 * d


# --------------------------------------------------------------------- networks and games


def build_networks(net: str, own: Any = None) -> tuple[Any, Any]:
    """Builds the generator and the discriminator, which returns logits.

    `own` is a module of layers that compute the same functions as Keras's.
    """
    import keras
    from keras import layers

    import keras_gan

    keras.utils.set_random_seed(0)
    if net != "dcgan":
        spec = keras_gan.Spec("image", SHAPES[net], (-1.0, 1.0))
        networks = keras_gan.architectures.build("dcgan", spec)
        if own is None:
            clone: Any = keras.models.clone_model
            return clone(networks[0], clone_function=_as_keras), clone(
                networks[1], clone_function=_as_keras
            )
        return networks
    discriminator = keras.Sequential(
        [
            keras.Input((64, 64, 3)),
            *(
                layer
                for width in (64, 128, 128)
                for layer in (
                    (own or layers).Conv2D(width, 4, 2, "same"),
                    layers.LeakyReLU(negative_slope=0.2),
                )
            ),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(1, dtype="float32"),
        ],
        name="discriminator",
    )
    generator = keras.Sequential(
        [
            keras.Input((128,)),
            layers.Dense(8 * 8 * 128),
            layers.Reshape((8, 8, 128)),
            *(
                layer
                for width in (128, 256, 512)
                for layer in (
                    (own or layers).Conv2DTranspose(width, 4, 2, "same"),
                    layers.LeakyReLU(negative_slope=0.2),
                )
            ),
            getattr(own, "NarrowConv2D", layers.Conv2D)(
                3, 5, padding="same", activation="sigmoid", dtype="float32"
            ),
        ],
        name="generator",
    )
    return generator, discriminator


def _as_keras(layer: Any) -> Any:
    """Converts a layer of this library to Keras's own layer of the same function."""
    import keras

    kind = getattr(keras.layers, type(layer).__name__, type(layer))
    return kind.from_config(layer.get_config())


def optimizers(net: str) -> tuple[Any, Any]:
    import keras

    if net == "dcgan":
        return keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)
    adam = keras.optimizers.Adam
    return adam(2e-4, beta_1=0.0, beta_2=0.99), adam(2e-4, beta_1=0.0, beta_2=0.99)


def build_ours(net: str, jit_compile: bool, steps_per_execution: int) -> Any:
    import keras_gan

    loss = "non_saturating" if net == "dcgan" else "relativistic"
    penalties: list[str] = [] if net == "dcgan" else ["r1", "r2"]
    # Version 0.1.0 may be the one that is compared with.
    known = inspect.signature(keras_gan.GAN).parameters
    terms: dict[str, Any] = {"terms" if "terms" in known else "penalties": penalties}
    # Neither the example nor the PyTorch variants keep an averaged generator.
    networks = build_networks(net, own=keras_gan.layers)
    gan = keras_gan.GAN(*networks, loss=loss, ema_half_life=0, **terms)
    gan.compile(*optimizers(net), jit_compile=jit_compile, steps_per_execution=steps_per_execution)
    return gan


def build_keras(net: str) -> Any:
    """Builds and compiles the Keras model whose training step is that of the example."""
    from train_step_keras import GAMES

    model = GAMES[net](*build_networks(net))
    model.compile(*optimizers(net))
    return model


class TensorFlowVariant:
    """A TensorFlow variant whose training steps are run one at a time, on endless data."""

    def __init__(self, variant: str, net: str, batch: int):
        import keras
        import tensorflow as tf

        if variant.endswith("mixed"):
            keras.config.set_dtype_policy("mixed_bfloat16")
        if variant.endswith(("-bf16", "grappler")):
            graph_pass = "auto_mixed_precision_onednn_bfloat16"
            tf.config.optimizer.set_experimental_options({graph_pass: True})
        if variant.startswith("keras"):
            self.model = build_keras(net)
        else:
            self.model = build_ours(net, variant.endswith("xla"), steps_per_execution=1)
        images = tf.random.uniform((4 * batch, *SHAPES[net]), -1, 1, seed=0)
        data = tf.data.Dataset.from_tensor_slices(images).repeat().batch(batch, drop_remainder=True)
        self.data = iter(data.prefetch(2))
        self.model.make_train_function()
        self.step = self.model.train_function

    def run(self, steps: int) -> None:
        for _ in range(steps):
            logs = self.step(self.data)
        [float(value) for value in logs.values()]  # waits for the last step
