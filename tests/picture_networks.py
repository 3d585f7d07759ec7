"""Small networks from pictures to pictures of any size, for tests."""

import keras
import tensorflow as tf

L = keras.layers
_register = keras.saving.register_keras_serializable("picture_networks")


@_register
class Reflect(L.Layer):
    """Pads by reflection."""

    def __init__(self, pad=1, **options):
        super().__init__(**options)
        self.pad = pad

    def call(self, x):
        p = self.pad
        return tf.pad(x, [[0, 0], [p, p], [p, p], [0, 0]], "REFLECT")

    def compute_output_shape(self, shape):
        sizes = (n and n + 2 * self.pad for n in shape[1:3])
        return (shape[0], *sizes, shape[3])

    def get_config(self):
        return super().get_config() | {"pad": self.pad}


@_register
class Enlarge(L.Layer):
    """Enlarges by the bicubic filter, or by `depth_to_space`."""

    def __init__(self, scale=4, filtered=True, **options):
        super().__init__(**options)
        self.scale, self.filtered = scale, filtered

    def call(self, x):
        if self.filtered:
            return tf.image.resize(x, tf.shape(x)[1:3] * self.scale, "bicubic")
        return tf.nn.depth_to_space(x, self.scale)

    def compute_output_shape(self, shape):
        sizes = (n and n * self.scale for n in shape[1:3])
        return (shape[0], *sizes, shape[3] if self.filtered else shape[3] // self.scale**2)

    def get_config(self):
        return super().get_config() | {"scale": self.scale, "filtered": self.filtered}


@_register
class AddRows(L.Layer):
    """Adds the number of the row."""

    def call(self, x):
        return x + tf.range(tf.shape(x)[1], dtype=x.dtype)[:, tf.newaxis, tf.newaxis] / 100


def condition(channels=3):
    return keras.Input((None, None, channels), name="condition")


def unet(levels=2, width=6, norm="batch", channels=(3, 3), features=False, seed=1):
    """A U-Net with stored batch statistics, or with instance normalization."""
    keras.utils.set_random_seed(seed)

    def normalize(x):
        return L.BatchNormalization()(x) if norm == "batch" else L.GroupNormalization(-1)(x)

    skips = []
    x = picture = condition(channels[0])
    for _ in range(levels):
        x = L.LeakyReLU()(normalize(L.Conv2D(width, 4, 2, "same")(x)))
        skips.append(x)
    for skip in [*skips[-2::-1], None]:
        x = L.ReLU()(normalize(L.Conv2DTranspose(width, 4, 2, "same")(x)))
        x = x if skip is None else L.Concatenate()([x, skip])
    y = L.Conv2D(channels[1], 3, padding="same", activation="tanh")(x)
    outputs = {"samples": y, "features": skips} if features else y
    return keras.Model(picture, outputs, name="unet")


def residual(width=4, blocks=1, norm=True):
    """A residual network with reflect padding and instance normalization."""
    keras.utils.set_random_seed(2)

    def conv(x, width, size=3, pad=1, strides=1):
        x = L.Conv2D(width, size, strides)(Reflect(pad)(x))
        return L.GroupNormalization(groups=-1, epsilon=1e-5)(x) if norm else x

    picture = condition()
    x = L.ReLU()(conv(picture, width, 7, 3))
    x = L.ReLU()(conv(x, width, strides=2))
    for _ in range(blocks):
        x = L.Add()([x, conv(L.ReLU()(conv(x, width)), width)])
    x = L.ReLU()(conv(L.UpSampling2D(2)(x), width))
    y = L.Conv2D(3, 7, activation="tanh")(Reflect(3)(x))
    return keras.Model(picture, y, name="residual")


def enlarger(scale=4, width=6, blocks=2, channels=(3, 3), last="zeros"):
    """A network for super-resolution whose last layers are zero: at first its skip alone."""
    keras.utils.set_random_seed(3)
    picture = condition(channels[0])
    head = x = L.Conv2D(width, 3, padding="same")(picture)
    for _ in range(blocks):
        y = L.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = L.Add()([x, L.Conv2D(width, 3, padding="same", kernel_initializer="zeros")(y)])
    x = L.Add()([head, x])
    count = channels[1] * scale**2
    x = L.Conv2D(count, 3, padding="same", kernel_initializer=last)(x)
    skip = Enlarge(scale)(picture)
    skip = skip if channels[0] == channels[1] else L.Conv2D(channels[1], 1)(skip)
    y = L.Add()([Enlarge(scale, filtered=False)(x), skip])
    return keras.Model(picture, y, name="enlarger")
