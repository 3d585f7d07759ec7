"""Networks of video: layers by hand, shapes, options, other lengths, chunks, training."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gan
from keras_gan import Spec, UsageError, architectures, endless, precision
from keras_gan.layers import (
    FoldFrames,
    Modulation2D,
    PickFrames,
    PlaceSprites,
    RepeatForFrames,
    RepeatFrames,
    SpritePlaces,
    StartState,
    TemporalConv,
    UnfoldFrames,
    VideoLatents,
    layer_noise,
)

RNG = np.random.default_rng(0)
CLASSES, FRAMES = 3, 4
SMALL = {"content_dim": 3, "start_dim": 2, "motion_dim": 2, "units": 5, "widths": [4, 4]}
SMALL_D = {"width": 2, "clip_width": 2, "picked": 2}
FORMS = ({}, {"patch": 2}, {"sprites": 2})


def video(frames=FRAMES, size=16, channels=1, num_classes=CLASSES):
    return Spec("video", (frames, size, size, channels), (-1.0, 1.0), num_classes=num_classes)


def generator(conditional=True, spec=None, **options):
    keras.utils.set_random_seed(3)
    spec = spec or video()
    return architectures.build_network("generator", "video", spec, conditional, **SMALL | options)


def discriminator(conditional=True, spec=None, **options):
    keras.utils.set_random_seed(4)
    spec = spec or video()
    options = SMALL_D | options
    return architectures.build_network("discriminator", "video", spec, conditional, **options)


def latents(count, frames=FRAMES, seed=0):
    drawn = keras_gan.latents.latents_from_seeds(range(seed, seed + count), 5 + 2 * frames)
    return np.array(drawn)  # which may be written to


def random_weights(network):
    """Sets every weight to a random value, batch statistics too."""
    rng = np.random.default_rng(5)
    for weight in network.weights:
        drawn = rng.normal(0, 0.3, weight.shape)
        weight.assign(np.abs(drawn) + 0.5 if "variance" in weight.path else weight + drawn)
    return network


# ------------------------------------------------------------------------ layers


def test_latents_are_split_into_content_start_and_frames():
    layer = VideoLatents(2, 1, 3)
    content, start, noise = layer(np.arange(18.0).reshape(2, 9))
    np.testing.assert_array_equal(content, [[0, 1], [9, 10]])
    np.testing.assert_array_equal(start, [[2], [11]])
    np.testing.assert_array_equal(noise[1], [[12, 13, 14], [15, 16, 17]])
    assert layer.length(2) == 9
    line = r"must have .* = 3 \+ frames \* 3 numbers. Received: 10$"
    with pytest.raises(UsageError, match=line):
        VideoLatents(2, 1, 3)(np.zeros((1, 10)))
    with pytest.raises(UsageError, match=r"`start_dim` must be an integer of at least 1"):
        VideoLatents(2, 0, 3)


def test_frames_are_folded_into_the_batch_and_back():
    x = RNG.normal(size=(2, 3, 4, 5, 1)).astype("float32")
    folded = FoldFrames()(x)
    np.testing.assert_array_equal(folded[4], x[1, 1])
    np.testing.assert_array_equal(UnfoldFrames()([folded, x]), x)
    vectors = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    repeated = RepeatForFrames()([vectors, x])
    np.testing.assert_array_equal(repeated, [[1, 2]] * 3 + [[3, 4]] * 3)
    np.testing.assert_array_equal(RepeatFrames(2)(x), np.repeat(x, 2, axis=1))


def test_modulation_scales_and_shifts_each_channel():
    x = np.ones((1, 1, 2, 2), "float32") * [2.0, 3.0]
    found = Modulation2D()([x, np.array([[1.0, -0.5, 10.0, 20.0]])])
    np.testing.assert_allclose(found[0, 0], [[2 * 2 + 10, 3 * 0.5 + 20]] * 2)


def test_a_video_that_has_not_begun_takes_its_first_state():
    first = np.array([[1.0, 2.0], [3.0, 4.0]])
    found = StartState()([first, np.array([[7.0, 8.0, 1.0], [0.0, 0.0, 0.0]])])
    np.testing.assert_array_equal(found, [[7, 8], [3, 4]])


def test_sprites_are_put_at_their_places():
    """A whole place, one between two rows, and one that is cut on the left."""
    pictures = RNG.normal(size=(2, 3, 3, 4)).astype("float32")
    places = np.zeros((2, 2, 4), "float32")
    places[:, 0] = [2, 1.5, -1, 0]  # rows of both sprites, then columns
    places[:, 1] = [2, 1.5, -1, 2]
    found = np.asarray(PlaceSprites(2, 6, 5)([pictures, places])).reshape(2, 2, 6, 5, 4)
    wanted = np.zeros_like(found)
    wanted[:, :, 2:5, 0:2, :2] = pictures[:, None, :, 1:, :2]
    for frame, column in ((0, 0), (1, 2)):
        wanted[:, frame, 1:4, column : column + 3, 2:] += 0.5 * pictures[..., 2:]
        wanted[:, frame, 2:5, column : column + 3, 2:] += 0.5 * pictures[..., 2:]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    with pytest.raises(UsageError, match=r"sprites=3, 4 channels, places of 4 numbers$"):
        PlaceSprites(3, 6, 5)([pictures, places])


def test_places_reach_half_of_a_sprite_beyond_the_frame():
    found = SpritePlaces((10, 20), (6, 4))(np.array([[0.0, 0.0], [99.0, -99.0]]))
    np.testing.assert_allclose(found, [[5, 10], [5 + 8, 10 - 12]], atol=1e-5)


def test_picked_frames_are_one_of_each_part():
    x = np.arange(6.0, dtype="float32").reshape(1, 6, 1) * np.ones((50, 1, 1), "float32")
    layer = PickFrames(2, name="p")
    assert np.asarray(layer(x))[0, :, 0].tolist() == [1, 4]
    assert np.asarray(layer(x, training=True))[0, :, 0].tolist() == [1, 4]  # outside of a game
    with layer_noise(lambda: tf.constant([7, 1], tf.int64)):
        drawn, again = (np.asarray(layer(x, training=True))[..., 0] for _ in range(2))
    np.testing.assert_array_equal(drawn, again)
    assert set(drawn[:, 0]) == {0, 1, 2}
    assert set(drawn[:, 1]) == {3, 4, 5}
    with layer_noise(lambda: tf.constant([7, 2], tf.int64)):
        assert (np.asarray(layer(x, training=True))[..., 0] != drawn).any()
    with pytest.raises(UsageError, match=r"must divide that of the video. Received: 4 of 6"):
        PickFrames(4)(x)


def test_a_temporal_convolution_is_that_of_each_pixel():
    layer = TemporalConv(2, 3, 2)
    x = RNG.normal(size=(1, 4, 2, 3, 1)).astype("float32")
    found = np.asarray(layer(x))
    assert found.shape == (1, 2, 2, 3, 2)
    kernel = np.asarray(layer.kernel)[:, 0, 0]  # (3, 2)
    # Keras pads an even number of frames with one zero behind the end for a stride of 2.
    pixel = np.append(x[0, :, 1, 2, 0], 0)
    wanted = [pixel[t : t + 3] @ kernel for t in (0, 2)]
    np.testing.assert_allclose(found[0, :, 1, 2], wanted, atol=1e-6)


# ------------------------------------------------------------------------ networks


@pytest.mark.parametrize("options", FORMS, ids=str)
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_ranges(options, conditional, channels):
    spec = video(channels=channels)
    g, d = generator(conditional, spec, **options), discriminator(conditional, spec)
    labels = np.array([0, 2])
    samples = g([latents(2), labels] if conditional else latents(2))
    assert (samples.shape, samples.dtype) == ((2, FRAMES, 16, 16, channels), "float32")
    assert 0 < np.abs(samples).max() <= 1
    logits = d([samples.numpy(), labels] if conditional else samples)
    assert [(x.shape, x.dtype) for x in logits] == [((2, 2, 1), "float32"), ((2, 1), "float32")]
    assert [x.name for x in g.inputs] == ["latents", "labels"][: 1 + conditional]
    assert [x.name for x in d.inputs] == ["samples", "labels"][: 1 + conditional]


def test_the_parameters_of_a_small_generator():
    """Counted by hand: the label, the state, the GRU, the stages, the last convolution."""
    g = generator()
    label, state = CLASSES * 3, 2 * 5 + 5
    gru = 3 * (2 * 5 + 5 * 5 + 2 * 5)
    project, up = (6 + 5) * 8 * 8 * 4, 9 * 4 * 4
    norms, factors = 2 * 4 * 4, 2 * (6 * 8 + 8)
    assert g.count_params() == label + state + gru + project + up + norms + factors + 9 * 4 + 1


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_a_video_does_not_depend_on_its_batch_and_later_noise(options):
    g = random_weights(generator(**options))
    whole = np.asarray(g([latents(4), np.array([0, 1, 2, 0])]))
    alone = np.asarray(g([latents(1, seed=2), np.array([2])]))
    np.testing.assert_allclose(whole[2:3], alone, atol=1e-5)
    changed = latents(1, seed=2)
    changed[:, -2:] += 1  # of the last frame
    found = np.asarray(g([changed, np.array([2])]))
    np.testing.assert_allclose(found[:, :-1], alone[:, :-1], atol=1e-6)
    assert np.abs(found[:, -1] - alone[:, -1]).max() > 1e-4


def test_content_is_shared_and_motion_is_not():
    """Sprites: the same content and other motion show the same small pictures elsewhere."""
    g = random_weights(generator(sprites=1))
    drawn = keras.Model(g.inputs, [g.get_layer("to_sprites").output, g.get_layer("places").output])
    a, b = latents(1), latents(1)
    b[:, 3:] = latents(1, seed=9)[:, 3:]
    (sprites_a, places_a), (sprites_b, places_b) = (drawn([x, np.array([1])]) for x in (a, b))
    np.testing.assert_array_equal(sprites_a, sprites_b)
    assert np.abs(np.asarray(places_a) - np.asarray(places_b)).max() > 0.1


def test_samples_and_logits_are_float32_in_half_precision():
    with precision.layers("mixed_bfloat16"):
        g, d = generator(sprites=1), discriminator()
    samples = g([latents(1), np.array([1])])
    assert samples.dtype == "float32"
    assert {x.dtype for x in d([samples.numpy(), np.array([1])])} == {tf.float32}
    assert g.get_layer("motion").compute_dtype == "float32"
    assert g.get_layer("refine").compute_dtype == "bfloat16"


def test_classes_of_the_discriminator():
    d = discriminator(False, auxiliary_classes="real_and_fake")
    found = d(np.zeros((2, FRAMES, 16, 16, 1), "float32"))
    assert {name: getattr(x, "shape", None) for name, x in found.items() if name != "logits"} == {
        "classes": (2, CLASSES),
        "fake_classes": (2, CLASSES),
    }
    assert len(found["logits"]) == 2


@pytest.mark.parametrize(
    ("build", "options", "line"),
    [
        (generator, {"patch": 3}, "`patch` must divide the height and width of the videos. "),
        (generator, {"motion_dim": 0}, "`motion_dim` must be an integer of at least 1"),
        (generator, {"units": 0}, "`units` must be an integer of at least 1"),
        (generator, {"sprite_size": 8}, "`sprite_size` needs `sprites`. Received: sprite_size=8"),
        (generator, {"sprites": 1, "patch": 2}, "`patch` is for frames without sprites"),
        (generator, {"sprites": 1, "sprite_size": 20}, "at most the height and width of a frame"),
        (generator, {"norm": "group"}, "`norm` must be one of none, batch, layer"),
        (generator, {"latent_dim": 8}, "latent_dim"),
        (discriminator, {"picked": 3}, "`picked` must divide the number of frames of a video."),
        (discriminator, {"clip_width": 0}, "`clip_width` must be an integer of at least 1"),
        (discriminator, {"depth": 5}, "must be divisible by 32 at depth=5"),
    ],
)
def test_options_out_of_range(build, options, line):
    with pytest.raises(UsageError, match=re.escape(line)):
        build(**options)


@pytest.mark.parametrize("build", [generator, discriminator])
def test_other_data_is_refused(build):
    for spec in (Spec("image", (16, 16, 1), (-1.0, 1.0)), video(None)):
        with pytest.raises(UsageError, match=r"'video' is for video of one size only"):
            build(False, spec)


@pytest.mark.parametrize(
    ("name", "family"), [("mocogan", "video"), ("MoCoGAN", "video"), ("VGAN", "video_clip")]
)
def test_names_of_publications_are_suggested(name, family):
    with pytest.raises(UsageError, match=rf"Did you mean '{family}'\?"):
        architectures.build_network("generator", name, video())


# ------------------------------------------------------------------------ (2+1)-D


def clips(conditional=True, spec=None, **options):
    keras.utils.set_random_seed(3)
    options = {"latent_dim": 6, "widths": [6, 4, 4], **options}
    return architectures.build_network(
        "generator", "video_clip", spec or video(), conditional, **options
    )


@pytest.mark.parametrize("options", [{}, {"norm": "none"}, {"frame_doublings": 0}], ids=str)
@pytest.mark.parametrize("conditional", [False, True])
def test_clips_have_the_shape_of_the_data(options, conditional):
    g = clips(conditional, **options)
    z = np.array(keras_gan.latents.latents_from_seeds(range(2), 6))
    samples = g([z, np.array([0, 2])] if conditional else z)
    assert (samples.shape, samples.dtype) == ((2, FRAMES, 16, 16, 1), "float32")
    assert 0 < np.abs(samples).max() <= 1
    assert endless.find_split(g) is None
    d = architectures.build_network("discriminator", "video_clip", video(), True, **SMALL_D)
    assert [x.shape for x in d.outputs] == [(None, 2, 1), (None, 1)]


def test_the_frames_of_a_clip_begin_coarse():
    """Frames without convolutions along time are equal in groups of the repeated ones."""
    g = clips(kernel_frames=1, widths=[6, 4, 4])
    assert g.get_layer("reshape").output.shape[1:] == (2, 4, 4, 6)  # 4 frames, doubled once
    z = np.array(keras_gan.latents.latents_from_seeds([0], 6))
    frames = np.asarray(g([z, np.array([0])]))[0]
    np.testing.assert_allclose(frames[0], frames[1], atol=1e-6)
    assert np.abs(frames[1] - frames[2]).max() > 1e-3
    mixed = np.asarray(clips(widths=[6, 4, 4])([z, np.array([0])]))[0]
    assert np.abs(mixed[0] - mixed[1]).max() > 1e-4


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"frame_doublings": 3}, "frame_doublings=3, depth=2, 4 frames"),
        ({"frame_doublings": 2, "spec": video(6)}, "frame_doublings=2, depth=2, 6 frames"),
        ({"kernel_frames": 0}, "`kernel_frames` must be an integer of at least 1"),
        ({"norm": "group"}, "`norm` must be one of none, batch, layer"),
        ({"spec": Spec("image", (16, 16, 1), (-1.0, 1.0))}, "'video_clip' is for video of one"),
    ],
    ids=["doublings", "frames", "kernel", "norm", "pictures"],
)
def test_options_of_clips_out_of_range(options, line):
    with pytest.raises(UsageError, match=re.escape(line)):
        clips(False, **options)


# ------------------------------------------------------------------------ other lengths


@pytest.mark.parametrize("options", FORMS, ids=str)
@pytest.mark.parametrize("conditional", [False, True])
def test_a_longer_clip_begins_with_the_shorter_one_and_equals_its_chunks(options, conditional):
    g = random_weights(generator(conditional, **options))
    labels = [np.array([2, 0])] if conditional else []
    frames = 11
    given = latents(2, frames)
    whole = np.asarray(endless.with_frames(g, frames)([given, *labels]))
    np.testing.assert_allclose(whole[:, :FRAMES], g([latents(2), *labels]), atol=1e-6)
    for size in (1, 3):
        network = endless.in_chunks(g, size)
        state, parts = np.zeros((2, endless.state_size(g)), "float32"), []
        noise = np.pad(given[:, 5:].reshape(2, frames, 2), ((0, 0), (0, size), (0, 0)))
        for start in range(0, frames, size):
            found = network([given[:, :5], noise[:, start : start + size], state, *labels])
            state = np.asarray(found["next_state"])
            parts.append(np.asarray(found["samples"]))
        np.testing.assert_allclose(np.concatenate(parts, 1)[:, :frames], whole, atol=1e-6)
    assert endless.in_chunks(g, 3).get_layer("motion") is g.get_layer("motion")


def test_other_generators_have_one_length():
    g = architectures.build_network("generator", "mlp", Spec("points", (2,)))
    assert endless.find_split(g) is None
    for function in (endless.with_frames, endless.in_chunks):
        with pytest.raises(UsageError, match=r"Only a generator with latents of content and mot"):
            function(g, 8)
    with pytest.raises(UsageError, match=r"`frames` must be an integer of at least 1"):
        endless.with_frames(generator(), 0)


# ------------------------------------------------------------------------ training


def test_a_game_of_two_lists_of_logits_learns():
    """A step with lazy penalties on both parts changes every weight but the moving averages."""
    spec = video(size=8)
    sizes = {"conditional": True, "spec": spec}
    gan = keras_gan.GAN(
        generator(**sizes),
        discriminator(**sizes),
        loss="non_saturating",  # of others the bias of the logits may have no gradient
        terms=[{"name": "r1", "weight": 1.0, "interval": 2}],
        num_classes=CLASSES,
    )
    gan.sample_kind = "video"
    gan.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    x = RNG.uniform(-1, 1, (8, FRAMES, 8, 8, 1)).astype("float32")
    before = [w.numpy() for w in (*gan.generator.weights, *gan.discriminator.weights)]
    gan.fit(x, np.arange(8) % CLASSES, batch_size=4, epochs=2, verbose=0)
    after = [w.numpy() for w in (*gan.generator.weights, *gan.discriminator.weights)]
    changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert all(changed)
    assert all(np.isfinite(a).all() for a in after)
