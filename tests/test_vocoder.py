"""Vocoders: networks of any length, their context, discriminators, terms, training, resuming."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from sounds import MEL, decibels, judge, silence, spec, tones, vocoder

import keras_gan
from keras_gan import Field, Spec, UsageError, architectures, datasets, terms
from keras_gan.layers import VocoderInput
from serving.mel import Mel

RNG = np.random.default_rng(0)


def levels(frames, count=1):
    return RNG.uniform(-11, -2, (count, frames, MEL.mels)).astype("float32")


# ------------------------------------------------------------------------ generators


@pytest.mark.parametrize(
    ("architecture", "options", "context"),
    [
        ("vocoder", {}, 8),  # 3 of the first convolution, 3 of the block, 2 of the overlap
        ("vocoder", {"blocks": 2, "kernel": 5, "window": 192}, 7),
        ("vocoder", {"window": 64, "gain": False}, 6),
        ("hifi", {"kernels": [3, 5], "dilations": [1, 2]}, None),
        ("hifi", {"factors": [4, 16], "kernels": [3], "dilations": [1], "gain": True}, None),
    ],
)
def test_samples_depend_on_the_frames_of_the_context(architecture, options, context):
    """The first and the last frame that change the samples of frame 40 are as far as stated."""
    generator = vocoder(architecture, **options)
    layer = next(x for x in generator.layers if isinstance(x, VocoderInput))
    assert context in (None, layer.context)
    mel = tf.Variable(0.1 * levels(81) - 5)
    with tf.GradientTape() as tape:
        part = generator(mel)[0, 40 * MEL.hop : 41 * MEL.hop, 0]
        value = tf.reduce_sum(part * RNG.normal(size=MEL.hop).astype("float32"))
    effect = np.abs(tape.gradient(value, mel).numpy()[0]).sum(axis=-1)
    found = np.flatnonzero(effect)
    assert max(40 - found[0], found[-1] - 40) == layer.context


@pytest.mark.parametrize("architecture", ["vocoder", "hifi"])
def test_any_number_of_frames(architecture):
    generator = vocoder(architecture, frames=16)
    for frames in (1, 7, 50):
        samples = generator(levels(frames, 2)).numpy()
        assert samples.shape == (2, frames * MEL.hop, 1)
        assert np.abs(samples).max() <= 1
    loud = generator(levels(20) + 5).numpy()
    assert np.isfinite(loud).all()


@pytest.mark.parametrize("architecture", ["vocoder", "hifi"])
def test_the_gain_makes_silence_silent(architecture):
    generator = vocoder(architecture, gain=True)
    samples = generator(silence(250)).numpy()[0, :, 0]
    assert decibels(samples) < -60
    assert decibels(generator(silence(250) + 8)) > decibels(samples) + 40
    if architecture == "vocoder":
        assert decibels(vocoder(gain=False)(silence(250))) > -60


def test_the_default_sizes():
    generator = architectures.build_network("generator", "vocoder", spec(), conditions=["mel"])
    assert generator.get_layer("scale").context == 17
    assert 430_000 < generator.count_params() < 500_000


@pytest.mark.parametrize("architecture", ["vocoder", "hifi"])
@pytest.mark.parametrize(
    ("fields", "given", "line"),
    [
        ({}, {"conditions": []}, r"needs one condition, a field of kind 'mel'.*condition=\[\]"),
        ({"mel": Field("mel", (16, 40))}, {}, "must state the definition .* Received: meta={}"),
        ({"samples": Field("audio", (1000, 1))}, {}, "64 values .* 1000 samples, 16 frames"),
        ({"samples": Field("audio", (1024, 2))}, {}, "is for audio of one channel"),
        (
            {"samples": Field("audio", (1024, 1), meta={"sample_rate": 16_000})},
            {},
            "must have one sampling rate. Received: sample_rate=16000 of the samples, 8000 of",
        ),
    ],
)
def test_data_that_a_vocoder_refuses(architecture, fields, given, line):
    data = Spec(fields={**spec().fields, **fields})
    arguments = {"conditions": ["mel"], **given}
    with pytest.raises(UsageError, match=line):
        architectures.build_network("generator", architecture, data, **arguments)


@pytest.mark.parametrize(
    ("architecture", "options", "line"),
    [
        ("vocoder", {"kernel": 4}, "`kernel` must be odd. Received: kernel=4"),
        ("vocoder", {"window": 32}, "at least the hop of 64 samples. Received: window=32"),
        ("vocoder", {"blocks": 0}, "`blocks`"),
        ("hifi", {"factors": [8, 4]}, r"hop of the spectrograms, 64. Received: factors=\[8, 4\]"),
        ("hifi", {"factors": [8, 8], "width": 2}, "`width` must be at least 4 with 2 factors"),
        ("hifi", {"kernels": [4]}, r"`kernels` must be a list of odd .* Received: kernels=\[4\]"),
    ],
)
def test_options_that_a_vocoder_refuses(architecture, options, line):
    with pytest.raises(UsageError, match=line):
        vocoder(architecture, **options)


# ------------------------------------------------------------------------ discriminators


def test_logits_and_features_of_all_discriminators():
    discriminator = judge(periods=[2, 5], resolutions=[64], layers=2)
    outputs = discriminator(tones(3)["samples"])
    assert len(outputs["logits"]) == 3
    assert len(outputs["features"]) == 6
    assert outputs["logits"][0].shape == (3, 57, 2, 1)  # 1024 / 2 rows, in strides of 3 twice
    assert outputs["logits"][2].shape == (3, 64, 9, 1)
    alone = judge(features=False, resolutions=[], periods=[3])
    assert [x.shape for x in alone.outputs] == [(None, 38, 3, 1)]
    with pytest.raises(UsageError, match=r"`periods` or `resolutions` must name at least one"):
        judge(periods=[], resolutions=[])
    with pytest.raises(UsageError, match=r"list of multiples of 4. Received: resolutions=\[30\]"):
        judge(resolutions=[30])
    with pytest.raises(UsageError, match=r"is for audio of one channel. Received: kind='image'"):
        architectures.build_network("discriminator", "multi_period", Spec("image", (8, 8, 1)))


# ------------------------------------------------------------------------ terms


def context(real, fake):
    """The context of a step of a small game, with given samples."""
    gan = game(64)
    forward = terms.SharedForward(lambda x: gan.networks["discriminator"]({"samples": x}, True))
    return terms.StepContext(
        player="generator",
        networks=gan.networks,
        forward=forward,
        generate=lambda latents: latents,
        latents=None,
        real=tf.constant(real),
        fake=tf.constant(fake),
        seed=tf.constant([0, 0]),
    )


def test_mel_reconstruction_is_the_distance_of_the_spectrograms():
    real, fake = tones(3)["samples"], tones(3, seed=1)["samples"]
    expected = np.abs(MEL(real[..., 0]) - MEL(fake[..., 0])).mean(axis=(1, 2))
    term = terms.MelReconstruction()
    found = term.values(context(real, fake))
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    other = {"hop": 32, "mels": 20}
    mel = Mel(**other)
    expected = np.abs(mel(real[..., 0]) - mel(fake[..., 0])).mean(axis=(1, 2))
    found = terms.MelReconstruction(mel=other).values(context(real, fake))
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    wide = vocoder(mel=Mel(sample_rate=16_000))
    assert terms.MelReconstruction(mel=other)._layer(wide).mel.sample_rate == 16_000
    with pytest.raises(UsageError, match=r"`mel` must be options of .* Received: mel={'hopp': 1}"):
        terms.MelReconstruction(mel={"hopp": 1})
    config = terms.MelReconstruction(mel=other).get_config()
    assert terms.MelReconstruction.from_config(config).get_config() == config


def test_spectral_distances():
    real, fake = tones(3)["samples"], tones(3, seed=1)["samples"]
    total = np.zeros(3)
    for window in (64, 128):
        mel = Mel(window=window, n_fft=window, hop=window // 4, mels=2)
        a, b = mel.magnitudes(real[..., 0]), mel.magnitudes(fake[..., 0])
        total += np.linalg.norm(a - b, axis=(1, 2)) / np.linalg.norm(a, axis=(1, 2))
        total += np.abs(np.log(a + 1e-3) - np.log(b + 1e-3)).mean(axis=(1, 2))
    term = terms.Spectral(windows=[64, 128])
    np.testing.assert_allclose(term.values(context(real, fake)), total / 2, rtol=1e-3)
    same = tf.Variable(real)
    of_itself = context(real, real)
    with tf.GradientTape() as tape:
        values = term.values(dataclasses.replace(of_itself, fake=same.value()))
    np.testing.assert_allclose(values, 0, atol=1e-4)
    assert np.isfinite(tape.gradient(values, same).numpy()).all()
    with pytest.raises(UsageError, match=r"`windows` must be .* Received: windows=\[10\]"):
        terms.Spectral(windows=[10])


def test_features_of_each_sample_are_matched():
    real, fake = tones(3)["samples"], tones(3, seed=1)["samples"]
    of_step = context(real, fake)
    features = [of_step.discriminator(x, training=True)["features"] for x in (real, fake)]
    expected = [
        np.abs(a.numpy() - b.numpy()).mean(axis=(1, 2, 3)) for a, b in zip(*features, strict=True)
    ]
    assert len(expected) == 6
    found = terms.FeatureMatching(distance="l1").values(of_step)
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-4)
    with pytest.raises(
        UsageError, match=r"`distance` must be means or l1. Received: distance='l2'"
    ):
        terms.FeatureMatching(distance="l2")


# ------------------------------------------------------------------------ training


def game(first_stage, frames=16, periods=(2, 3), resolutions=(64,)):
    found = [
        terms.MelReconstruction(15.0),
        terms.Spectral(1.0, windows=[64]),
        terms.FeatureMatching(2.0, distance="l1"),
    ]
    gan = keras_gan.TwoStage(
        *(vocoder(frames=frames), judge(frames, periods=periods, resolutions=resolutions)),
        first_stage=first_stage,
        adversarial_weight=1.0,
        loss="least_squares",
        terms=found,
        ema_half_life=50,
    )
    gan.compile(*(keras.optimizers.Adam(2e-3) for _ in range(2)))
    return gan


def state(gan):
    """All variables but those of the metrics."""
    optimizers = (gan.generator_optimizer, gan.discriminator_optimizer)
    return [*gan.weights, *(v for optimizer in optimizers for v in optimizer.variables)]


def test_it_learns():
    data = tf.data.Dataset.from_tensor_slices(tones(64)).batch(8).repeat()
    gan = game(10**6)
    history = gan.fit(data, steps_per_epoch=20, epochs=6, verbose=0).history
    values = history["generator_mel_reconstruction"]
    assert values[-1] < 0.6 * values[0]
    assert np.isnan(history["generator_feature_matching"]).all()
    assert gan.generate([0, 1], mel=levels(7, 2)).shape == (2, 7 * MEL.hop, 1)


def test_a_game_saved_in_the_first_stage_goes_on_as_if_it_had_not_been(tmp_path):
    """Saved after 2 of 6 batches of 8, before the border at 24 examples, and after 4, behind it."""
    data = tf.data.Dataset.from_tensor_slices(tones(48)).batch(8)
    whole, parts = (game(24, periods=[2], resolutions=[]) for _ in range(2))
    whole.fit(data, verbose=0)
    for first in (0, 2, 4):
        parts.fit(data.skip(first).take(2), verbose=0)
        parts.save(tmp_path / "game.keras")
        parts = keras.saving.load_model(tmp_path / "game.keras")
    assert whole.count("examples_seen") == parts.count("examples_seen") == 48
    assert int(parts.discriminator_optimizer.iterations.numpy()) == 3
    for one, other in zip(state(whole), state(parts), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)


def test_arrays_with_spectrograms(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.savez(file, **tones(20))
    source = datasets.open(
        "arrays",
        path=str(tmp_path / "x.npz"),
        kind={"samples": "audio", "mel": "mel"},
        sample_rate=8000,
        mel={"mel": {"hop": 64}},
    )
    assert source.spec.fields["mel"].kind == "mel"
    assert Mel.from_meta(source.spec.fields["mel"].meta["mel"]) == MEL
    generator = architectures.build_network("generator", "vocoder", source.spec, conditions=["mel"])
    batch = next(iter(source.dataset("train", batch_size=4)))
    assert generator(batch["mel"]).shape == batch["samples"].shape


# ------------------------------------------------------------------------ other logarithms


LIKE_LOG10 = r"`mel` must be natural logarithms of mel .* look like log10: multiply them by 2\.3026"
DECIBELS = r"`mel` must be natural logarithms .* decibels by 0\.11513\. Received: values from -100 "


def quiet(mel):
    """Spectrograms with some silence, as recordings have."""
    mel = mel.copy()
    mel[:, :2] = np.log(MEL.floor)
    return mel


@pytest.mark.parametrize(
    ("factor", "message"), [(1 / np.log(10), LIKE_LOG10), (20 / np.log(10), DECIBELS)]
)
def test_other_logarithms_are_refused_before_the_first_step(factor, message):
    gan, data = game(10**6), tones(16)
    natural = {**data, "mel": quiet(data["mel"])}
    wrong = {**data, "mel": (quiet(data["mel"]) * factor).astype("float32")}
    stream = tf.data.Dataset.from_tensor_slices(wrong).batch(8)
    for call, place in (
        (lambda: gan.fit(wrong, batch_size=8, verbose=0), "$"),
        (lambda: gan.fit(stream, verbose=0), ", in batch 1$"),
        (lambda: gan.fit(iter([wrong]), verbose=0), ", in batch 1$"),
        (lambda: gan.fit(natural, validation_data=(wrong,), batch_size=8, verbose=0), "$"),
        (lambda: gan.evaluate(stream, verbose=0), ", in batch 1$"),
        (lambda: gan.train_on_batch(wrong), "$"),
        (lambda: gan.test_on_batch(wrong), "$"),
        (lambda: gan.generate(range(16), mel=wrong["mel"]), "$"),
    ):
        with pytest.raises(UsageError, match=f"{message}.*{place}"):
            call()
    assert gan.count("examples_seen") == 0
    gan.fit(natural, batch_size=8, verbose=0)
    assert gan.generate([0], mel=quiet(data["mel"])[:1]).shape == (1, 16 * MEL.hop, 1)


def test_a_single_least_value_is_not_the_floor():
    """The least value of a batch may happen to be the base 10 logarithm of the floor."""
    mel = levels(16, 4).clip(-4.9, None)
    mel[mel == mel.min()] += RNG.uniform(0, 0.1, (mel == mel.min()).sum())
    mel[0, 0, 0] = np.log10(MEL.floor)
    generator = game(10**6)
    assert generator.generate(range(4), mel=mel).shape == (4, 16 * MEL.hop, 1)
    mel[0, 0, 1] = mel[0, 0, 0]
    with pytest.raises(UsageError, match=LIKE_LOG10):
        generator.generate(range(4), mel=mel)


def test_networks_state_their_spectrograms():
    gan = game(10**6)
    assert dict(gan.data_spec.stated) == {
        "mel": Field("mel", (None, 40), meta={"mel": MEL.to_meta()})
    }
    inputs = keras.Input((16, 40), name="mel"), keras.Input((16, 40), name="condition")
    two = keras.Model(inputs, VocoderInput(MEL.to_meta(), 0)(inputs[0]) + inputs[1])
    found = keras_gan.networks.Network("generator", two, ("latents",), "samples")
    assert found.stated_fields() == {}  # either may be meant


def test_arrays_of_other_logarithms_are_refused():
    data = tones(20)
    for definition, factor, message in (
        ({"mel": {"hop": 64}}, 1 / np.log(10), LIKE_LOG10),
        ({"mel": {"hop": 64}}, 20 / np.log(10), DECIBELS),
        (None, 20 / np.log(10), DECIBELS),
    ):
        with pytest.raises(UsageError, match=f"{message}.* in train$"):
            datasets.arrays.from_arrays(
                data["samples"],
                fields={"mel": (quiet(data["mel"]) * factor).astype("float32")},
                kind={"samples": "audio", "mel": "mel"},
                sample_rate=8000,
                mel=definition,
            )
