"""Small games of every loss, term, augmentation, constraint and game, trained for 3 steps.

The components come from the registries, so that a new one is covered as soon as it exists.
"""

import contextlib
import dataclasses
import functools
import math
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import keras_gan
from keras_gan import augment, constraints, losses, random_numbers, terms
from keras_gan import precision as precisions
from keras_gan.games import Game
from keras_gan.registry import classes

STEPS, BATCH, SHAPE, CLASSES, LATENTS = 3, 8, (8, 8, 1), 2, 4
PICTURE = 16  # height and width of the pictures of networks that take any size
FAMILIES = {
    "loss": losses.Loss,
    "term": terms.Term,
    "augment": augment.Augment,
    "constraint": constraints.Constraint,
    "game": Game,
}
# Largest difference to float32 on the CPU: of an update, relative to its norm, for each network;
# of a loss, a logit or a term, relative to 1 plus its size. An update adds up many roundings, of
# the forward and backward pass and of the second derivative, hence 8 to 30 times the rounding of
# one number. A component that is missing altogether changes the update by more than twice the
# largest of these, which `reference` checks for each of them.
TOLERANCES = {
    "float32": 2e-4,  # 24 bits, 6e-8: sums in another order, and exp and log of another library
    "tf32": 2e-2,  # 11 bits in products, 5e-4
    "mixed_float16": 2e-2,  # 11 bits, 5e-4
    "mixed_bfloat16": 1.5e-1,  # 8 bits, 4e-3
}
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
# Arguments with which a component has an effect within 3 steps of these networks.
ARGUMENTS = {
    "adaptive": {"probability": 0.8, "interval": 1},
    "apa": {"probability": 0.8, "interval": 1},
    "balanced_consistency": {"weight": 1.0},
    "consistency": {"weight": 1.0},
    "contrastive_patches": {"weight": 0.2},
    # With its own weight of 10 this game diverges, and the third loss is rounding.
    "dragan": {"weight": 3.0},
    "feature_matching": {"weight": 10.0},
    "latent_consistency": {"noise": 1.0},
    "le_cam": {"weight": 2.0},
    "orthogonal": {"weight": 4e-3, "player": "both"},
    "path_length": {"weight": 20.0},
    "reconstruction": {"weight": 3.0},
    # Clipped to its own 0.01, the critic's gradients are smaller than float16 can represent well.
    "weight_clipping": {"limit": 0.2},
}
# Games whose cases are in test_gpu_other_games, as their data are texts or an expert's episodes.
OF_OTHER_DATA = {"sequence_gan", "imitation", "behavior_cloning"}
# Steps of a discriminator have kinks here: a sample that changes its branch changes the rest.
_JUMPS = ("real_accuracy", "fake_accuracy")


@dataclasses.dataclass(frozen=True)
class Component:
    """A loss, term, augmentation, constraint or game by its family and name."""

    family: str
    name: str

    def __str__(self):
        return f"{self.family}-{self.name}"

    def arguments(self):
        """Returns the arguments of a game that has it."""
        if self.family == "game":
            return GAMES[self.name]
        given = {"name": self.name, **ARGUMENTS.get(self.name, {})}
        if self.family == "term":  # in every step, also where the paper computes it less often
            return {"terms": [{"interval": 1, **given}], **NETWORKS.get(self.name, {})}
        if self.name == "minimax":
            return {"loss": given, "built": confident}
        return {self.family: given}

    @property
    def conditional(self):
        if self.family != "term":
            return False
        term = terms.get(self.name)
        return "labels" in term.fields and not term.allows_unlabeled


def components(*families):
    """Returns all components of the library, without those that tests define."""
    return [
        Component(family, name)
        for family in families or FAMILIES
        for name, cls in sorted(classes(FAMILIES[family]).items())
        if cls.__module__.startswith("keras_gan.") and name not in OF_OTHER_DATA
    ]


def drawn_from_integers(shape, seed, dtype="float32"):
    """Uniform numbers from integers, which XLA and TensorFlow draw alike, unlike floats."""
    numbers = tf.cast(random_numbers.integers(shape, seed, 2**24), tf.float32)
    return tf.cast((numbers + 0.5) / 2**24, dtype)


def normal_from_integers(shape, seed, dtype="float32"):
    """Normal numbers from integers, by the Box-Muller transform."""
    first, second = (
        drawn_from_integers(shape, random_numbers.fold_in(seed, tf.constant(i))) for i in range(2)
    )
    drawn = tf.sqrt(-2 * tf.math.log(first)) * tf.cos(2 * math.pi * second)
    return tf.cast(drawn, dtype)


@contextlib.contextmanager
def same_numbers():
    """Makes all random numbers the same under XLA, so that one reference serves for both."""
    with (
        mock.patch.object(random_numbers, "uniform", drawn_from_integers),
        mock.patch.object(random_numbers, "normal", normal_from_integers),
    ):
        yield


def networks(conditional=False, bias=0.6):
    """Smooth convolutional networks, always with the same initial weights.

    Without kinks, so that a difference in the last bits stays one; steep, so that penalties of
    slopes above 1 are not 0.
    """
    keras.utils.set_random_seed(3)
    layers = keras.layers
    steep = keras.initializers.VarianceScaling(10.0, seed=5)
    names = ["latents", "samples"]
    latents, samples = (
        keras.Input(shape, name=n) for n, shape in zip(names, ((LATENTS,), SHAPE), strict=True)
    )
    labels = [keras.Input((), name="labels", dtype="int32") for _ in range(2)]
    x = layers.Dense(64, activation="swish")(latents)
    y = layers.Conv2D(6, 4, strides=2, padding="same", activation="swish")(samples)
    y = layers.Conv2D(6, 3, padding="same", activation="swish", kernel_initializer=steep)(y)
    y = layers.Dense(8, activation="swish", kernel_initializer=steep)(layers.Flatten()(y))
    # Logits away from 0, where losses are alike, and from 1, where hinge loss has a kink.
    start = keras.initializers.Constant(bias)
    logits = layers.Dense(1, dtype="float32", kernel_initializer=steep, bias_initializer=start)(y)
    if conditional:
        x = x + layers.Embedding(CLASSES, 64)(labels[0])
        logits = {"logits": logits, **class_outputs(y, steep)}
    x = layers.Conv2DTranspose(6, 4, strides=2, padding="same")(layers.Reshape((4, 4, 4))(x))
    x = layers.Conv2D(1, 3, padding="same")(layers.Activation("swish")(x))
    x = layers.Activation("tanh", dtype="float32")(x)
    generator = keras.Model([latents, labels[0]] if conditional else latents, x)
    return generator, keras.Model(samples, logits)


def class_outputs(features, steep):
    """Outputs of the features that the terms of classes read."""
    dense, found = keras.layers.Dense, {}
    for seed, name in ((5, "classes"), (6, "fake_classes")):
        start = keras.initializers.VarianceScaling(10.0, seed=seed)
        found[name] = dense(CLASSES, dtype="float32", kernel_initializer=start)(features)
    embedding = dense(4, dtype="float32", kernel_initializer=steep)(features)
    found["embedding"] = keras.layers.UnitNormalization(dtype="float32")(embedding)
    cosine = keras_gan.layers.CosineDense(CLASSES, dtype="float32")
    return found | {"similarities": cosine(found["embedding"])}


def confident(conditional=False):
    """The same networks with logits so far from 0 that they are far from it after 3 steps.

    At 0, minimax and non-saturating losses have the same gradients.
    """
    return networks(conditional, bias=2.0)


def coded(conditional=False):
    """The same networks with a categorical and a continuous code, and predictions of them."""
    generator, discriminator = networks(conditional)
    layer = keras_gan.layers.LatentCodes((2,), 1)
    latents = keras.Input((LATENTS,), name="latents")
    *_, features = (x for x in discriminator.layers if isinstance(x, keras.layers.Dense))
    predicted = keras.layers.Dense(layer.width, dtype="float32")(features.input)
    outputs = {"logits": discriminator.output, "codes": predicted}
    samples = generator(layer(latents))
    return keras.Model(latents, samples), keras.Model(discriminator.input, outputs)


def of_few_labels(conditional=False):
    """A generator without labels, and a discriminator of K + 1 classes."""
    del conditional  # neither network is given labels
    generator, _ = networks()
    _, judge = networks(conditional=True)
    classes = judge.output["classes"]
    logits = keras_gan.layers.LogSumExp(name="logits")(classes)
    return generator, keras.Model(judge.input, {"logits": logits, "classes": classes})


def translators(conditional=False):
    """Smooth networks for pairs of pictures: a generator and a discriminator."""
    with_features, discriminator = translators_with_features(conditional)
    samples = with_features.output["samples"]
    return keras.Model(with_features.input, samples), discriminator


def translators_with_features(conditional=False):
    """The same networks; the generator has features for a contrastive term, too."""
    del conditional  # pictures are the condition
    layers = keras.layers
    steep = keras.initializers.VarianceScaling(4.0, seed=5)
    _, discriminator = networks()
    picture = keras.Input(SHAPE, name="condition")
    x = layers.Conv2D(6, 3, padding="same", activation="swish", kernel_initializer=steep)(picture)
    y = layers.Conv2D(6, 3, padding="same", activation="swish", kernel_initializer=steep)(x)
    samples = layers.Conv2D(1, 3, padding="same", dtype="float32")(y)
    features = [layers.Conv2D(4, 1, kernel_initializer=steep)(z) for z in (x, y)]
    generator = keras.Model(picture, {"samples": samples, "features": features})
    return generator, discriminator


def two_translators(conditional=False):
    """The networks of a game in both directions."""
    there, _ = translators(conditional)
    keras.utils.set_random_seed(4)
    back = keras.models.clone_model(there)
    judges = [networks()[1] for _ in range(2)]
    judges[1].set_weights([0.9 * w for w in judges[1].get_weights()])
    return [there, back, *judges]


# Networks of terms that need others.
NETWORKS = {
    "mutual_information": {"built": coded},
    "pseudo_labels": {"built": of_few_labels},
    "supervised": {"built": of_few_labels},
    "contrastive_patches": {"built": translators_with_features},
    "reconstruction": {"built": translators},
}
# Arguments of each game; those of more kinds of steps than `GAN` are trained on pairs of pictures.
GAMES = {
    "gan": {},
    "cycle": {
        "game": keras_gan.Cycle,
        "built": two_translators,
        # Where pictures are equal, rounding turns the gradient of |x| around: small weights.
        "cycle_weight": 1.0,
        "identity_weight": 0.5,
        "pool_size": BATCH // 2,
        "picture_shape": SHAPE[:2],
    },
    # One step of the first stage, two of the second.
    "two_stage": {
        "game": keras_gan.TwoStage,
        "built": translators,
        "first_stage": float(BATCH),
        "terms": [{"name": "reconstruction", "weight": 3.0}],
    },
}


def optimizer(precision, rate=0.05):
    # Not Adam, which divides a gradient by its own size: where it is 0, its sign would be rounding.
    made = keras.optimizers.SGD(rate)
    if precision != "mixed_float16":
        return made
    # Small, so that no gradient overflows and no step is skipped.
    return keras.optimizers.LossScaleOptimizer(made, initial_scale=2.0**8)


def make(
    precision="float32",
    jit_compile=False,
    conditional=False,
    built=networks,
    game=keras_gan.GAN,
    **arguments,
):
    """Returns a compiled game; to be called on the device that holds its weights."""
    with precisions.layers(precision):
        found = built(conditional)
    if conditional:
        arguments["num_classes"] = CLASSES
    gan = game(*found, seed=1, **arguments)
    gan.compile(*(optimizer(precision) for _ in range(2)), jit_compile=jit_compile)
    return gan


def data(size=BATCH, shape=SHAPE):
    """Returns smooth samples and their labels."""
    samples = np.tanh(np.random.default_rng(0).normal(size=(size, *shape))).astype("float32")
    return samples, (np.arange(size) % CLASSES).astype("int32")


def fit(gan, steps=STEPS, scale=1):
    """Trains steps of one batch each, and returns the metrics of every step by name.

    Args:
        gan: the game; pictures that it translates are the negatives of the samples.
        steps: number of steps.
        scale: factor from the pictures that it translates to the samples.
    """
    # Fully convolutional networks take any size.
    samples, labels = data(shape=tuple(n or PICTURE for n in gan.sample_shape))
    given = (samples, labels) if gan.num_classes else (samples,)
    if gan.label_classes:
        given = (samples, np.where(np.arange(len(labels)) % 4 < 2, labels, -1))
    if "condition" in gan.data_spec.asked:
        given = ({"condition": -samples[:, ::scale, ::scale], "samples": samples},)
    return gan.fit(*given, batch_size=BATCH, epochs=steps, shuffle=False, verbose=0).history


@dataclasses.dataclass(frozen=True)
class Result:
    """Metrics of each step, and the change of each network's weights in all steps."""

    logs: dict
    updates: dict


def weights(gan, name):
    return np.concatenate([np.ravel(w) for w in getattr(gan, name).get_weights()])


def train(device, precision="float32", jit_compile=False, scale=1, **arguments):
    """Trains a game on a device, and checks that its weights are there."""
    with tf.device(device), same_numbers():
        gan = make(precision, jit_compile, **arguments)
        assert_placed(gan, device)
        before = {name: weights(gan, name) for name in gan.networks}
        logs = fit(gan, scale=scale)
    assert gan.jit_compile is jit_compile
    updates = {name: weights(gan, name) - before[name] for name in gan.networks}
    return Result({n: np.array(v) for n, v in logs.items() if n not in _JUMPS}, updates)


def assert_placed(gan, device):
    """Checks the place of every floating-point variable; integers may stay on the host."""
    found = {v.value.device for v in gan.variables if v.value.dtype.is_floating}
    assert len(found) == 1
    assert found.pop().endswith(device), (device, gan.variables[0].value.device)


def distance(one, other):
    """Returns the largest difference of an update, relative to the norm of the first."""
    return max(
        float(np.linalg.norm(other.updates[n] - update) / np.linalg.norm(update))
        for n, update in one.updates.items()
    )


def assert_close(reference, found, tolerance, what=""):
    """Compares metrics and updates with those of the reference."""
    assert reference.logs.keys() == found.logs.keys()
    for name, values in reference.logs.items():
        # Metrics of a stage that has not begun are NaN in both.
        np.testing.assert_array_equal(
            np.isnan(values), np.isnan(found.logs[name]), f"{what} {name}"
        )
        error = np.abs(found.logs[name] - values) / (1 + np.abs(values))
        assert np.nanmax(error) <= tolerance, (what, name, found.logs[name], values)
    for name, update in reference.updates.items():
        assert np.isfinite(found.updates[name]).all(), (what, name)
        assert np.linalg.norm(update) > 0, (what, name)
    assert distance(reference, found) <= tolerance, (what, distance(reference, found))


@functools.cache
def plain(conditional=False, built=networks):
    """The game without components, in float32 on the CPU."""
    return train("CPU:0", conditional=conditional, built=built)


@functools.cache
def reference(component):
    """A component in float32 on the CPU; once in a process.

    Checks that the component changes the training by more than any tolerance, as the comparisons
    with it would otherwise prove nothing.
    """
    given = component.arguments()
    found = train("CPU:0", conditional=component.conditional, **given)
    defaults = ("loss-non_saturating", "game-gan")
    if (
        str(component) not in defaults and component.name != "cycle"
    ):  # no other game is its plain one
        other = plain(component.conditional, given.get("built", networks))
        effect = distance(other, found)
        assert effect > 2 * max(TOLERANCES.values()), f"{component}: an effect of only {effect:.2g}"
    return found
