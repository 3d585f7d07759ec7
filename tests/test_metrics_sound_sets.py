"""Tests of evaluations and comparisons of sounds, and of the classifier of sounds."""

import json
import math
import pathlib
import re

import numpy as np
import pytest
import tones

from keras_gan import datasets, metrics
from keras_gan.commands import app
from keras_gan.errors import UsageError
from keras_gan.metrics import evaluate
from keras_gan.metrics.pesq import is_installed
from keras_gan.spec import Field, Spec
from serving.griffin_lim import griffin_lim

PAIRS = ["log_mel_l1", "mr_stft", "mcd", "f0_error", "voicing_error", "level_error", "level_bias"]


@pytest.fixture(scope="module")
def pairs():
    data = tones.paired()
    return data, data.arrays("held_out")[0]


@pytest.fixture(scope="module")
def answers(pairs):
    """The real clips, half as loud and with noise."""
    noise = np.random.default_rng(0).normal(0, 0.01, pairs[1].shape)
    return (pairs[1] / 2 + noise).astype(np.float32)


@pytest.fixture(scope="module")
def evaluated(pairs, answers):
    return evaluate(answers, pairs[0], cache=False)


def test_a_vocoder_is_shown_beside_griffin_lim_and_the_real_clips(pairs, answers, evaluated):
    _, real = pairs
    found = evaluated
    names = [*PAIRS, "stoi", *(["pesq"] if is_installed() else [])]
    assert sorted(found.values) == sorted(names)
    assert found["level_bias"] == pytest.approx(-6.02, abs=0.3)
    assert found["log_mel_l1"] == pytest.approx(metrics.log_mel_l1(real, answers, tones.RATE))
    assert list(found.controls) == ["griffin-lim", "real"]
    ceiling, floor = found.controls["real"], found.controls["griffin-lim"]
    assert ceiling["stoi"] == pytest.approx(1.0)
    for name in ("log_mel_l1", "mr_stft", "mcd", "f0_error", "voicing_error", "level_error"):
        assert ceiling[name] == 0.0
        assert 0.0 <= floor[name] < math.inf
    waves = griffin_lim(tones.MEL(real[..., 0]), tones.MEL)[..., np.newaxis]
    expected = metrics.log_mel_l1(real, waves, tones.RATE)
    assert floor["log_mel_l1"] == pytest.approx(expected, rel=1e-3)
    assert found.protocol["controls"]["griffin-lim"] == {
        "source": "the conditions",
        "iterations": 32,
        "momentum": 0.99,
    }
    assert found.protocol["controls"]["real"] == {"source": "the real samples"}
    assert found.protocol["log_mel_l1"]["hop"] == 64
    assert found.protocol["f0_error"]["tracker"] == "YIN"


def test_clips_beyond_the_range_are_clipped_as_files_are(pairs):
    data, real = pairs
    factor = 1.4 / np.abs(real).max()
    loud = evaluate(factor * real, data, metrics="level_error")
    expected = metrics.level_error(real, np.clip(factor * real, -1, 1), tones.RATE)
    assert loud["level_error"] == pytest.approx(expected.error)


def test_fewer_clips_keep_their_partners(pairs, answers, evaluated):
    data, _ = pairs
    found = evaluate(answers, data, count=4, metrics="level_error")
    assert found["level_error"] == pytest.approx(6.02, abs=0.4)
    assert found.controls["real"]["level_error"] == 0.0
    rng = np.random.default_rng(1)
    mixed = evaluate(rng.permutation(answers), data, metrics="log_mel_l1")
    assert mixed["log_mel_l1"] > 1.2 * evaluated["log_mel_l1"]


def test_a_comparison_during_training_has_the_same_values(pairs, answers, evaluated):
    data, real = pairs
    mels = data.values(data.field_arrays("held_out")["mel"], "mel")
    of_mel = metrics.Answers(mels, name="mel")
    compare = metrics.Comparison(real, spec=data.spec, answers=of_mel)
    assert compare.names == ("log_mel_l1", "mr_stft", "mcd", "level_error", "stoi")
    assert compare.metric == "log_mel_l1"
    expected = evaluated
    assert compare(answers) == pytest.approx({n: expected[n] for n in compare.names}, rel=1e-4)
    controls = compare.protocol["controls"]
    assert list(controls) == ["griffin-lim", "real"]
    for name, values in controls.items():
        known = {n: expected.controls[name][n] for n in compare.names}
        assert values == pytest.approx(known, rel=1e-3)


def test_clips_without_partners_are_compared_by_their_spectrograms(pairs, answers):
    _, real = pairs
    spec = tones.labeled(4, 4).spec
    compare = metrics.Comparison(real, spec=spec)
    assert compare.names == ("mel_patch_distance", "sliced_wasserstein")
    found = compare(answers)
    expected = metrics.mel_patch_distance(real, answers, tones.RATE).mean
    assert found["mel_patch_distance"] == pytest.approx(expected)
    short = real[:, :400]
    by_values = metrics.Comparison(short, spec=metrics.pairs.with_sizes(tones_spec(), {}))
    assert by_values.names == ("sliced_wasserstein",)


def tones_spec():
    return Spec(fields={"samples": Field("audio", (400, 1), meta={"sample_rate": tones.RATE})})


def test_metrics_of_pairs_name_what_they_need(pairs, answers):
    data, _ = pairs
    labeled = tones.labeled(8, 8)
    with pytest.raises(UsageError, match=r"log_mel_l1 needs paired data.* sounds with data\.mel"):
        evaluate(labeled.arrays("train")[0], labeled, metrics="log_mel_l1")
    with pytest.raises(UsageError, match=r"psnr needs samples of kind image.*kind 'audio'"):
        evaluate(answers, data, metrics="psnr")
    if not is_installed():
        with pytest.raises(UsageError, match=r"pesq needs the package pesq, of the extra sound-"):
            evaluate(answers, data, metrics="pesq")


# ------------------------------------------------------------------------ classifier


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data():
    return tones.labeled()


@pytest.fixture(scope="module")
def trained(data, cache):
    return metrics.train_sound_classifier(data, epochs=15, cache=cache / "keras_gan/classifiers")


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def test_a_classifier_learns_timbres_and_is_named_by_its_hash(trained):
    assert trained.accuracy >= 0.95
    content = json.loads(trained.path.with_suffix(".json").read_text())
    assert content["sha256"].startswith(trained.path.stem)
    assert content["classes"] == list(tones.CLASSES)
    assert content["data"] == "tones of four timbres"
    assert content["accuracy"] == trained.accuracy


def test_sets_of_clips_are_compared_by_its_features(trained, data):
    labels = np.arange(120) % 4
    good = tones.clips(labels, seed=7), labels
    result = evaluate(good, data, features="sound_classifier")
    name = f"sound_classifier:{trained.path.stem[:8]}"
    assert result.protocol["extractor"] == name
    assert result.protocol["extractor_sha256"].startswith(trained.path.stem)
    assert result.protocol["features"] == 64
    assert result["label_accuracy"] >= 0.95
    assert result["class_score"] > 2.5  # of at most 4
    assert "fid" not in result.values
    # Of one class, with the labels of all.
    one = tones.clips(labels * 0, seed=7), labels
    worse = evaluate(one, data, features=name)
    assert worse["label_accuracy"] == pytest.approx(0.25)
    assert worse["class_score"] < 1.5
    assert worse["frechet_distance"] > 3 * result["frechet_distance"]
    assert worse["recall"] < result["recall"]
    # Copies of training clips are nearer to them than held-out clips are.
    copies = evaluate(data.arrays("train"), data, features=name, count=120)
    assert copies["nearest_ratio"] == pytest.approx(0.0, abs=1e-3)
    assert result["nearest_ratio"] > 0.5


def test_a_classifier_of_other_clips_is_refused(trained, data, cache):
    spec = tones_spec()
    with pytest.raises(UsageError, match=r"There must be a sound classifier for these data in .*"):
        metrics.open_features("sound_classifier", spec)
    whole = json.loads(trained.path.with_suffix(".json").read_text())["sha256"]
    assert metrics.open_features(f"sound_classifier:{whole}", data.spec).sha256 == whole
    with pytest.raises(UsageError, match=r"of that name for these data .*'sound_classifier:0123'"):
        metrics.open_features("sound_classifier:0123", data.spec)
    damaged = trained.path.with_name("00" + trained.path.name)
    damaged.write_bytes(trained.path.read_bytes()[:-1] + b"?")
    damaged.with_suffix(".json").write_text(trained.path.with_suffix(".json").read_text())
    with pytest.raises(UsageError, match="must have the hash that names it"):
        metrics.open_features("sound_classifier:00", data.spec)
    damaged.unlink()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "needs data with labels, .* Received: tones of four timbres"),
        ({"samples": np.zeros((8, 500, 1), np.float32)}, "at least 8 frames. Received: 500 sampl"),
    ],
)
def test_data_that_no_classifier_can_learn(changes, message, cache):
    source = tones.labeled(8, 4)
    samples, labels = source.arrays("train")
    arrays = {"samples": samples, "labels": labels} | changes
    data = datasets.from_arrays(
        arrays["samples"], arrays["labels"], kind="audio", sample_rate=tones.RATE, held_out=0
    )
    data.description = "tones of four timbres"
    with pytest.raises(UsageError, match=message):
        metrics.train_sound_classifier(data, cache=cache)


def test_a_classifier_needs_sounds(cache):
    with pytest.raises(UsageError, match=r"needs data of sounds\. Received: samples of kind 'poi"):
        metrics.train_sound_classifier(datasets.open("gaussians"), cache=cache)


def test_the_command_prints_the_accuracy_and_the_next_command(tmp_path, capsys):
    source = tones.labeled(40, 8)
    (x, y), (x_test, y_test) = map(source.arrays, ("train", "held_out"))
    file = tmp_path / "tones.npz"
    np.savez(file, samples=x, labels=y, samples_test=x_test, labels_test=y_test)
    options = ["--set", "data.kind=audio", "--set", f"data.sample_rate={tones.RATE}"]
    app(["sound-classifier", str(file), *options, "--epochs", "1"], standalone_mode=False)
    printed = capsys.readouterr().out
    stated = float(re.search(r"Held-out accuracy ([\d.]+\d)", printed)[1])
    wrote = pathlib.Path(re.search(r"Wrote (.*)", printed)[1])
    kept = json.loads(wrote.with_suffix(".json").read_text())["accuracy"]
    assert stated == pytest.approx(kept, abs=1e-4)
    assert "keras-gan evaluate RUN --features sound_classifier:" in printed


def test_spectrograms_without_a_definition_have_no_griffin_lim(pairs):
    spec = pairs[0].spec
    unknown = Field("mel", spec.fields["mel"].shape)
    spec = Spec(fields={"samples": spec.samples, "mel": unknown})
    assert list(metrics.pairs.controls_of(spec, "mel")) == ["real"]
    assert metrics.answered_field(spec) == "mel"
    series = Spec(fields={"samples": spec.samples, "mel": Field("series", (64, 40))})
    assert metrics.answered_field(series) is None
