"""Mixed precision: an overflow of the loss scale, and the architectures of the library."""

import functools

import families
import gpu_games as games
import keras
import numpy as np
import pytest

import keras_gan
from keras_gan import architectures
from keras_gan.spec import Field

SCALE = 2.0**26  # the gradients are above 2^-10 somewhere, and float16 ends at 2^16


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_an_overflow_halves_the_loss_scale_and_keeps_the_weights(jit_compile, on_device):
    gan = games.make("mixed_float16", terms=["r1"])
    made = [
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=SCALE)
        for _ in range(2)
    ]
    gan.compile(*made, jit_compile=jit_compile)
    before = {name: games.weights(gan, name) for name in gan.networks}
    games.fit(gan, 1)
    for name, values in before.items():
        np.testing.assert_array_equal(games.weights(gan, name), values)
    for optimizer in made:
        assert float(optimizer.dynamic_scale.value.numpy()) == SCALE / 2
        assert int(optimizer.iterations.value.numpy()) == 0  # a skipped step is none
    # The game's own counters go on: schedules and data follow the examples that were seen.
    assert (gan.count("iteration"), gan.count("examples_seen")) == (1, games.BATCH)
    games.fit(gan, 20)
    for optimizer in made:
        assert 1 <= float(optimizer.dynamic_scale.value.numpy()) < SCALE / 2
        assert 0 < int(optimizer.iterations.value.numpy()) < 21
    for name, values in before.items():
        after = games.weights(gan, name)
        assert np.isfinite(after).all()
        assert np.abs(after - values).max() > 0, name
    assert gan.count("iteration") == 21


# ------------------------------------------------------------------------ architectures

SHAPE = (games.PICTURE, games.PICTURE, 3)
WIDTHS = {"widths": [8, 8]}
# Times the tolerance, as samples may change their branch of an activation: more often behind the
# instance normalization of `translator`, whose values are centered at 0 in every layer, and in
# `video`, whose sprites are interpolated linearly, with corners at every pixel.
KINKS = {"translator": 8, "video": 32}
LARGEST = 0.4  # with which a comparison still proves something
OPTIONS = {
    "mlp": ({"latent_dim": 4, **WIDTHS}, WIDTHS),
    "dcgan": ({"latent_dim": 4, **WIDTHS}, WIDTHS),
    "multi_scale": ({"latent_dim": 4, **WIDTHS}, WIDTHS),
    "resnet": ({"latent_dim": 4, "widths": [8, 8, 8]}, WIDTHS),
    "r3gan": ({"latent_dim": 4, "width": 8, "depth": 2}, {"width": 8, "depth": 2}),
    "wavegan": ({"latent_dim": 4, "width": 4, "kernel": 9}, {"width": 4, "kernel": 9}),
    "video": ({"sprites": 1, **WIDTHS}, {"width": 4, "clip_width": 4, "picked": 2}),
    "video_clip": ({"latent_dim": 4, **WIDTHS}, {"width": 4, "clip_width": 4, "picked": 2}),
}
LENGTH = 512  # of sounds, so that two stages are shifted
# Generators from pictures to pictures, and the factor between their sizes; `patch` judges them.
OF_PICTURES = {
    "unet": ({"widths": [8, 8]}, 1),
    "translator": ({"width": 8, "blocks": 1}, 1),
    "srresnet": ({"width": 8, "blocks": 1}, 2),
    "rrdb": ({"width": 8, "blocks": 1}, 2),
}
# Squares: rounding turns the gradient of an absolute difference around where it is small.
RECONSTRUCTION = {"name": "reconstruction", "weight": 1.0, "norm": "l2"}
NAMES = (*OPTIONS, *OF_PICTURES)


def build(name, conditional=False):
    """Builds the networks of a family, always with the same initial weights."""
    keras.utils.set_random_seed(3)
    if name in OF_PICTURES:
        options, scale = OF_PICTURES[name]
        small = (SHAPE[0] // scale, SHAPE[1] // scale, 3)
        shapes = {"samples": SHAPE, "condition": small}
        fields = {field: Field("image", shape) for field, shape in shapes.items()}
        spec = keras_gan.Spec(fields=fields)
        return (
            architectures.build_network("generator", name, spec, False, ["condition"], **options),
            architectures.build_network("discriminator", "patch", spec, width=8, layers=1),
        )
    spec = families.spec(name, SHAPE, LENGTH, games.CLASSES)
    return architectures.build(name, spec, conditional, *OPTIONS[name])


def arguments(name):
    """Returns the arguments of a game with the networks of a family."""
    built = functools.partial(build, name)
    if name not in OF_PICTURES:
        return {"built": built, "terms": ["r1"]}
    _, scale = OF_PICTURES[name]
    return {"built": built, "scale": scale, "terms": [RECONSTRUCTION]}


@functools.cache
def reference(name):
    return games.train("CPU:0", **arguments(name))


def test_all_architectures_are_here():
    # Networks of texts and policies are trained in test_gpu_other_games, vocoders in tests of
    # their own.
    others = {*families.OF_TEXT, "text_lstm", "policy", "patch", *families.OF_SPECTROGRAMS}
    assert OPTIONS.keys() == {*families.of_latents(), *families.OF_VIDEO} - others
    assert {*NAMES, *others} == architectures.families().keys()


@pytest.mark.parametrize("precision", games.PRECISIONS)
@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_trains_as_on_the_cpu_in_float32(name, precision, device):
    found = games.train(device, precision, **arguments(name))
    tolerance = KINKS.get(name, 2) * games.TOLERANCES[precision]
    games.assert_close(reference(name), found, min(tolerance, LARGEST))


@pytest.mark.parametrize("precision", games.PRECISIONS)
def test_phase_shuffle_is_the_same_under_xla(precision, device):
    found = games.train(device, precision, jit_compile=True, **arguments("wavegan"))
    games.assert_close(reference("wavegan"), found, 2 * games.TOLERANCES[precision])
