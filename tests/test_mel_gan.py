"""Sound from seeds: image networks on mel spectrograms, their sound, and a vocoder as last part."""

import io
import json
import wave

import keras
import numpy as np
import pytest
import sounds
import tones

import export
import serving
from export.manifest import Manifest
from keras_gan import (
    Field,
    Spec,
    UsageError,
    architectures,
    automatic,
    datasets,
    metrics,
    recipe,
    train,
)
from keras_gan.__main__ import main
from keras_gan.metrics.mel_patch_distance import MelPatchDistance
from keras_gan.metrics.patch_distance import patch_distance
from keras_gan.metrics.sound_classifier import open_sound_classifier
from keras_gan.spec import label_field
from serving import kinds
from serving.griffin_lim import griffin_lim, magnitudes_of
from serving.mel import Mel
from serving.wav import to_pcm16, write_wav

MEL = Mel(hop=128, mels=16, floor=1e-3)
META = {"mel": MEL.to_meta()}
SPEC = Spec(
    fields={"samples": Field("mel", (16, 16), meta=META), "labels": label_field(4, tones.CLASSES)}
)
SMALL = {"dcgan": {"width": 4}, "resnet": {"width": 8}, "r3gan": {"width": 8}}


def written(folder, count=48):
    """Writes labeled clips of tones, of 2,048 samples."""
    labels = np.arange(count) % 4
    with (folder / "clips.npz").open("wb") as file:
        np.savez(file, samples=tones.clips(labels)[:, :2048], labels=labels, sample_rate=8000)
    return folder / "clips.npz"


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("conditional", [False, True])
def test_image_networks_take_spectrograms(name, conditional):
    keras.utils.set_random_seed(0)
    g, d = architectures.build(name, SPEC, conditional, SMALL[name], SMALL[name])
    latents = np.random.default_rng(0).normal(size=(5, g.inputs[0].shape[1]))
    labels = np.array([0, 1, 2, 3, 0])
    samples = g([latents, labels] if conditional else latents)
    assert samples.shape == (5, 16, 16)
    assert d.inputs[0].shape == (None, 16, 16)
    assert d.inputs[0].name == "samples"
    logits = d([samples, keras.ops.convert_to_tensor(labels)] if conditional else samples)
    assert logits.shape == (5, 1)


def test_the_range_of_an_image_is_that_of_sound():
    """-1 is the floor, and 1 the loudest value."""
    low, high = np.log(MEL.floor), MEL.loudest
    g, d = architectures.build("dcgan", SPEC, False, SMALL["dcgan"], SMALL["dcgan"])
    to_samples = g.get_layer("samples")
    found = to_samples(np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_allclose(found, [low, (low + high) / 2, high], atol=1e-6)
    to_image = d.get_layer("scale")
    np.testing.assert_allclose(to_image(np.array([low, high])), [-1.0, 1.0], atol=1e-6)


def test_the_loudest_value_is_that_of_a_sine():
    times = np.arange(8000) / 8000
    narrow = int(MEL.filters.max(axis=1).argmax())
    pitch = MEL.filters[narrow].argmax() * MEL.sample_rate / MEL.n_fft
    found = MEL(np.sin(2 * np.pi * pitch * times))
    assert MEL.loudest - 0.1 < found.max() < MEL.loudest


def test_networks_for_images_alone_refuse_other_kinds():
    series = Spec("series", (16, 16))
    with pytest.raises(UsageError, match=r"'dcgan' is for images only .* Received: kind='series'"):
        architectures.build("dcgan", series)
    meta = {"mel": Mel(mels=10).to_meta()}
    mels = Spec(fields={"samples": Field("mel", (16, 10), meta=meta)})
    message = r"divisible by 4 .* Received: 16 x 10 \(.* mels of data\.length and data\.mel;"
    with pytest.raises(UsageError, match=message):
        architectures.build("dcgan", mels)


# ------------------------------------------------------------------------ data


def test_a_data_set_of_spectrograms(tmp_path):
    path, options = written(tmp_path), {"hop": 128, "mels": 16, "floor": 1e-3}
    waves = datasets.open("audio", path=path, mel=options, length=2048)
    mels = datasets.open("audio", path=path, mel=options, length=2048, samples="mel")
    assert list(mels.spec.fields) == ["samples", "labels"]
    assert (mels.spec.kind, mels.spec.shape) == ("mel", (16, 16))
    assert mels.spec.samples.meta["mel"] == MEL.to_meta()
    options = {"batch_size": 4, "seed": 3}
    batch, beside = (next(iter(x.dataset("train", **options))) for x in (mels, waves))
    np.testing.assert_array_equal(batch[0], beside["mel"])
    np.testing.assert_array_equal(batch[1], beside["labels"])


def test_spectrograms_as_samples_need_a_definition(tmp_path):
    with pytest.raises(UsageError, match=r"`samples=mel` needs .* Received: samples='mel'"):
        datasets.open("audio", path=written(tmp_path), samples="mel")
    with pytest.raises(UsageError, match=r"must be wave or mel\. Received: samples='mels'"):
        datasets.open("audio", path=written(tmp_path), samples="mels")


@pytest.mark.parametrize("name", ["digits", "drums"])
def test_recipes_for_spectrograms_take_a_folder_of_sounds(name, tmp_path):
    for label in range(2):
        (tmp_path / str(label)).mkdir()
        for number in range(4):
            clip = tones.clips(np.full(1, label))[0] * (0.9 - 0.1 * number)
            content = write_wav(to_pcm16(clip)[0], 44_100)
            (tmp_path / str(label) / f"{number}.wav").write_bytes(content)
    resolved = recipe.load(name, [], str(tmp_path))
    source = train.open_data(resolved)
    assert source.spec.kind == "mel"
    assert source.spec.class_names == ("0", "1")
    automatic.check_kind(name, source)
    assert automatic.describe_misfit(name, str(tmp_path), source) == ""
    with pytest.raises(UsageError, match=r"for audio clips\. .* Received: images of shape"):
        automatic.check_kind(name, datasets.open("glyphs"))


# ------------------------------------------------------------------------ sound


def test_a_spectrogram_is_a_wav_file():
    clip = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2048) / 8000)
    kind = kinds.get("mel")
    content = kind.encode(MEL(clip), "wav", META)
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (8000, 1, 2048)
        heard = np.frombuffer(file.readframes(2048), "<i2") / 32767
    np.testing.assert_allclose(heard, griffin_lim(MEL(clip), MEL), atol=1e-4)
    # The pitch survives, within the width of a mel: the loudest frequency, in steps of 3.9 Hz.
    loudest = [np.abs(np.fft.rfft(x)).argmax() for x in (heard, clip)]
    assert abs(loudest[0] - loudest[1]) <= 12
    with pytest.raises(UsageError, match="need their definition `mel` to become sound"):
        kind.encode(MEL(clip), "wav", {})


def test_the_floor_is_silence():
    silent = np.full((12, 16), np.log(MEL.floor), np.float32)
    assert np.abs(griffin_lim(silent, MEL)).max() < 1e-6
    # A tone keeps its level: a mel of 100 times the floor loses less than 0.01 %.
    loud = np.full((3, 16), np.log(0.1), np.float32)
    found = magnitudes_of(loud, MEL) @ MEL.filters.T.astype(np.float32)
    assert found[:, 2:-2].mean() == pytest.approx(0.1, rel=0.05)


def test_kinds_say_what_is_heard():
    audio, mel, image = (kinds.get(name) for name in ("audio", "mel", "image"))
    assert audio.as_sound((2048, 2), {"sample_rate": 8000}) == (2048, 2, 8000)
    assert mel.as_sound((16, 16), META) == (2048, 1, 8000)
    assert mel.as_sound((None, 16), META) == (None, 1, 8000)
    assert mel.as_sound((16, 16), {}) is None
    assert image.as_sound((16, 16, 1)) is None
    assert image.as_image((16, 16, 3)) == ((16, 16, 3), (-1.0, 1.0))
    assert audio.as_image((2048, 1)) is None


# ------------------------------------------------------------------------ metrics


def test_the_patch_distance_compares_spectrograms_as_they_are():
    rng = np.random.default_rng(0)
    real, generated = (rng.normal(-4, 1, (40, 16, 16)).astype("float32") for _ in range(2))
    metric = MelPatchDistance()
    assert metric.unfit(SPEC) is None
    compare = metrics.Comparison(real, metric="mel_patch_distance", others=[], spec=SPEC)
    found = compare(generated)
    expected = patch_distance(real[..., None], generated[..., None]).mean
    assert found["mel_patch_distance"] == pytest.approx(expected)
    short = Spec(fields={"samples": Field("mel", (4, 16), meta=META)})
    assert "4 frames and 16 mels" in str(metric.unfit(short))


def test_a_classifier_of_waves_hears_spectrograms(tmp_path, monkeypatch):
    data = tones.labeled()
    trained = metrics.train_sound_classifier(data, epochs=12, cache=tmp_path)
    assert trained.accuracy >= 0.9
    clips, labels = data.arrays("held_out")
    mel = Mel(hop=128, floor=1e-3)
    spec = Spec(
        fields={
            "samples": Field("mel", (tones.LENGTH // 128, 40), meta={"mel": mel.to_meta()}),
            "labels": label_field(4, tones.CLASSES),
        }
    )

    extractor = open_sound_classifier("", spec, tmp_path)
    _, probabilities = extractor.run(mel(clips[..., 0]))
    assert (probabilities.argmax(axis=1) == labels).mean() >= 0.9
    other = Spec(fields={"samples": Field("mel", (9, 40), meta={"mel": mel.to_meta()})})
    with pytest.raises(UsageError, match=r"Received: .* for clips of \(1152, 1\) at 8000 Hz"):
        open_sound_classifier("", other, tmp_path)


# ------------------------------------------------------------------------ runs and bundles


def tree(path, **options):
    return {
        "data": {
            "source": "audio",
            "path": str(path),
            "length": 2048,
            "samples": "mel",
            "mel": {"hop": 128, "mels": 16, "floor": 1e-3},
        },
        "networks": {
            "generator": {"architecture": "dcgan", "width": 4, "condition": ["labels"]},
            "discriminator": {"architecture": "dcgan", "width": 4, "condition": ["labels"]},
        },
        "training": {"examples": 64, "batch_size": 8, "tick_examples": 32},
        "evaluation": {"count": 4},
        "samples": {"count": 4},
    } | options


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mels")
    (folder / "recipe.yaml").write_text(json.dumps(tree(written(folder))))
    return train.train(recipe.load(str(folder / "recipe.yaml")), folder / "run").run


@pytest.fixture(scope="module")
def vocoder_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocoder")
    content = tree(written(folder))
    content["data"].pop("samples")
    content["networks"] = sounds.NETWORKS
    terms = [{"name": "mel_reconstruction", "weight": 15.0}]
    content["game"] = {"name": "two_stage", "first_stage": 1.0, "terms": terms}
    (folder / "recipe.yaml").write_text(json.dumps(content))
    return train.train(recipe.load(str(folder / "recipe.yaml")), folder / "run").run


def test_previews_are_heard(run):
    assert sorted(path.name for path in run.samples.glob("*.wav")) == [
        f"{number:03d}.wav" for number in range(4)
    ]
    rows = run.rows()
    assert rows[-1]["mel_patch_distance"] > 0


def test_a_bundle_of_spectrograms_serves_sound(run, tmp_path):
    main(["export", str(run.path), "--to", str(tmp_path / "mels")])
    bundle = serving.Bundle(tmp_path / "mels")
    (sample,) = bundle.generate(seeds=[3], labels=[1])
    content = kinds.get("mel").encode(sample, "wav", META)
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnframes()) == (8000, 2048)


def test_a_bundle_with_a_vocoder_makes_waves(run, vocoder_run, tmp_path):
    bundle = tmp_path / "digits"
    main(["export", str(run.path), "--vocoder", str(vocoder_run.path), "--to", str(bundle)])
    manifest = Manifest.load(bundle)
    assert [port.name for port in manifest.inputs] == ["latents", "labels"]
    (target,) = manifest.outputs
    assert (target.kind, target.shape) == ("audio", (2048, 1))
    assert target.meta["sample_rate"] == 8000
    assert manifest.class_names == ["0", "1", "2", "3"]
    assert max(manifest.worst_parity().values()) <= 1e-5
    assert manifest.training["vocoder"]["examples_seen"] == 64
    assert not {"samples", "mel"} & manifest.training["recipe"]["data"].keys()
    found = metrics.evaluate(bundle, features="spectrum", count=4, cache=False, progress=False)
    assert found.values["mel_patch_distance"] > 0  # with the waves of the data
    # The bundle's samples are the vocoder's of the generator's spectrograms.
    gan, speaker = run.load(), vocoder_run.load()
    mels = gan.generate(seeds=[5, 6], labels=[0, 2])
    expected = speaker.exported()(keras.ops.convert_to_tensor(mels))
    found = serving.Bundle(bundle).generate(seeds=[5, 6], labels=[0, 2])
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_vocoders_that_do_not_fit(run, vocoder_run, capsys):
    spec = run.spec
    other = sounds.vocoder()
    with pytest.raises(UsageError, match="must have one definition of the spectrograms"):
        export.with_vocoder(run.load(), other, spec)
    with pytest.raises(UsageError, match="must be a network of the architecture vocoder or hifi"):
        export.with_vocoder(run.load(), run.load(), spec)
    with pytest.raises(UsageError, match="Received: samples of kind 'audio'"):
        export.with_vocoder(vocoder_run.load(), vocoder_run.load(), vocoder_run.spec)
    with pytest.raises(SystemExit):
        main(["export", str(vocoder_run.path), "--vocoder", str(vocoder_run.path)])
    assert "A vocoder takes the samples of a generator of mel" in capsys.readouterr().err
    other = keras.Model(made := keras.Input((3,)), keras.layers.Dense(16)(made))
    with pytest.raises(
        UsageError, match=r"one output of the shape .*\(16, 16\). Received: \[\(16,\)"
    ):
        export.with_vocoder(other, vocoder_run.load(), spec)


@pytest.mark.parametrize(
    "options",
    [
        ("--network", "generator"),
        ("--weights", "last"),
        ("--check", "bundle"),
        ("--role", "restoration"),
    ],
    ids=lambda pair: pair[0],
)
def test_a_vocoder_is_refused_where_it_would_be_ignored(run, vocoder_run, capsys, options):
    given = [] if options[0] == "--check" else [str(run.path)]
    with pytest.raises(SystemExit):
        main(["export", *given, "--vocoder", str(vocoder_run.path), *options])
    assert "--vocoder is for the generator that a run exports" in capsys.readouterr().err


def test_samples_need_their_definition():
    with pytest.raises(UsageError, match=r"Samples of kind 'mel' must state 'mel' .* meta=\{\}"):
        Spec("mel", (16, 16))
    free = Spec(fields={"samples": Field("mel", (None, 16), meta=META)})
    with pytest.raises(UsageError, match=r"'dcgan' needs samples of one size.*\(None, 16\)"):
        architectures.build("dcgan", free)


def test_values_of_a_failed_network_do_not_overflow():
    with np.errstate(over="raise", invalid="raise"):
        assert np.isfinite(griffin_lim(np.full((4, 16), 90.0), MEL)).all()
