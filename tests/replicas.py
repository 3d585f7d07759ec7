"""A small game that one device, two devices or two processes train to the same weights."""

import contextlib
import types
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

import keras_gan
from keras_gan import random_numbers


def two_devices():
    """Splits the CPU in two, before TensorFlow is used; returns the strategy over them."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
    tf.config.set_logical_device_configuration(cpu, parts)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def samples(seed=0, size=8):
    """A batch whose halves hold the same numbers, so that their deviations are the batch's.

    DRAGAN uses the standard deviation of the batch that it sees.
    """
    half = np.random.default_rng(seed).normal(size=(size // 2, 3)).astype("float32")
    return np.concatenate([half, half[::-1, ::-1]])


def make(
    loss="non_saturating",
    terms=(),
    cls=keras_gan.GAN,
    optimizers=None,
    built=None,
    **arguments,
):
    """A small game, always with the same initial weights; `built` makes other networks."""
    keras.utils.set_random_seed(3)
    gan = cls(*(built or networks)(), loss=loss, terms=list(terms), **arguments)
    gan.compile(*(optimizers or (keras.optimizers.SGD(0.05), keras.optimizers.SGD(0.05))))
    return gan


def networks():
    """A generator of points from latents, and their discriminator."""
    dense = keras.layers.Dense
    # Smooth and not small: gradients that are exactly zero would be equal for no reason.
    generator = keras.Sequential(
        [keras.Input((4,)), dense(6, activation="swish", kernel_initializer="he_normal"), dense(3)]
    )
    discriminator = keras.Sequential(
        [keras.Input((3,)), dense(6, activation="swish", kernel_initializer="he_normal"), dense(1)]
    )
    return generator, discriminator


class OnOneDevice(keras_gan.GAN):
    """The game on one device, with the random numbers that two replicas would draw.

    It returns the seeds of both replicas, each of which draws half of a batch under `as_two`.
    """

    def random_seed(self, purpose, index=0):
        seeds = []
        for number in range(2):
            replica = types.SimpleNamespace(replica_id_in_sync_group=number)
            with mock.patch.object(tf.distribute, "get_replica_context", lambda r=replica: r):
                seeds.append(super().random_seed(purpose, index))
        return tf.stack(seeds)


@contextlib.contextmanager
def as_two():
    """Makes a game's random numbers draw a batch from two seeds, half by half."""

    def halves(draw):
        def drawn(shape, seed, *args, **kwargs):
            if tf.convert_to_tensor(seed).shape.rank == 1:
                return draw(shape, seed, *args, **kwargs)
            shape = tf.convert_to_tensor(shape)
            part = tf.concat([shape[:1] // 2, shape[1:]], 0)
            return tf.concat([draw(part, s, *args, **kwargs) for s in tf.unstack(seed)], 0)

        return drawn

    def both(fold):
        def folded(seed, *args, **kwargs):
            if tf.convert_to_tensor(seed).shape.rank == 1:
                return fold(seed, *args, **kwargs)
            return tf.stack([fold(s, *args, **kwargs) for s in tf.unstack(seed)])

        return folded

    with contextlib.ExitStack() as stack:
        for name in ("normal", "uniform", "integers"):
            replaced = halves(getattr(random_numbers, name))
            stack.enter_context(mock.patch.object(random_numbers, name, replaced))
        fold = both(random_numbers.fold_in)
        stack.enter_context(mock.patch.object(random_numbers, "fold_in", fold))
        yield


@keras.saving.register_keras_serializable("tests")
class _Tilted(keras_gan.augment.Augment):
    """An augmentation of points, for the terms that need one."""

    def __call__(self, samples, seed):
        return 0.9 * samples + 0.1 * samples[:, ::-1]


def penalty(name, **given):
    """A term that two halves of a batch can compute: path length uses all of its latents."""
    arguments = {
        "consistency": {"augment": _Tilted()},
        "balanced_consistency": {"augment": _Tilted()},
        "path_length": {"batch_shrink": 1, "interval": 1},
    }
    return keras_gan.terms.get({"name": name, **arguments.get(name, {}), **given})


def state(gan):
    """The state from which training continues, as arrays by their place."""
    owners = (gan, gan.generator_optimizer, gan.discriminator_optimizer)
    skipped = {v.path for v in gan.metrics_variables}
    return {
        f"{i}/{j}/{v.path}": np.asarray(v.value.numpy())  # the average has the generator's paths
        for i, owner in enumerate(owners)
        for j, v in enumerate(owner.variables)
        if v.path not in skipped
    }


def assert_equal(one, other, what, tolerance=1e-5):
    """Checks every variable of two states, within a tolerance relative to 1."""
    values = list(one.values()), list(other.values())
    assert len(values[0]) == len(values[1]) > 10, what
    for name, a, b in zip(one, *values, strict=True):
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance, err_msg=f"{what}: {name}")


def assert_moved(before, after, what):
    """Checks that every kernel has changed; otherwise equality would prove nothing."""
    still = [
        name
        for (name, a), b in zip(before.items(), after.values(), strict=True)
        if name.endswith("kernel") and name[0] == "0" and np.array_equal(a, b)
    ]
    assert not still, (what, still)


def terms():
    """Names of the terms that a game without labels, classes and codes can have."""
    found = {name: keras_gan.terms.get(name) for name in keras_gan.terms.names()}
    del found["mutual_information"], found["pseudo_labels"]
    return [name for name, term in found.items() if not (term.fields or term.supervises)]


def pairs():
    """Pairs of a loss and a term, in which each loss and each term occurs."""
    losses = [name for name in keras_gan.losses.names() if name != "sum"]  # of the tests' own
    names = terms()
    for i in range(max(len(losses), len(names))):
        yield losses[i % len(losses)], names[i % len(names)]
