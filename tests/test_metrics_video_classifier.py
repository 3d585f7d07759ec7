"""Classifiers of videos: content and motion, features, classes of single frames, the command."""

import json
import pathlib
import re

import bars
import numpy as np
import pytest

from keras_gan import datasets, metrics
from keras_gan.commands import app
from keras_gan.errors import UsageError
from keras_gan.metrics import evaluate


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data():
    return bars.labeled()


@pytest.fixture(scope="module")
def trained(data, cache):
    return metrics.train_video_classifier(data, epochs=10, cache=cache / "keras_gan/classifiers")


@pytest.fixture(autouse=True)
def own_cache(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def made(contents, motions):
    return bars.clips(contents, motions, seed=7) / np.float32(127.5) - 1


def test_it_learns_content_and_motion_and_is_named_by_its_hash(trained):
    assert min(trained.accuracies.values()) >= 0.9
    assert trained.accuracy == trained.accuracies["content"]
    content = json.loads(trained.path.with_suffix(".json").read_text())
    assert content["sha256"].startswith(trained.path.stem)
    assert content["outputs"] == {"content": ["wide", "tall"], "motion": ["right", "left"]}
    assert content["accuracies"] == trained.accuracies
    assert (content["still"], content["shape"]) == ("content", [6, 16, 16, 1])


def test_sets_of_videos_are_compared_by_its_features(trained, data):
    contents, motions = np.arange(80) % 2, np.arange(80) // 2 % 2
    good = made(contents, motions), contents
    result = evaluate(good, data, features="video_classifier")
    assert result.protocol["extractor"] == f"video_classifier:{trained.path.stem[:8]}"
    assert result.protocol["features"] == 96
    assert result["label_accuracy"] >= 0.9
    assert result["class_constancy"] >= 0.9
    assert result["content_drift"] < 0.5
    assert "velocity_error" not in result.values
    # The content changes in the middle of each video.
    broken = np.concatenate([good[0][:, :3], made(1 - contents, motions)[:, 3:]], axis=1)
    worse = evaluate((broken, contents), data, features="video_classifier")
    assert worse["class_constancy"] < 0.1
    assert worse["frame_constancy"] == pytest.approx(0.5, abs=0.05)
    assert worse["content_drift"] > 2 * result["content_drift"]
    assert worse["frechet_distance"] > 2 * result["frechet_distance"]


def test_labels_choose_the_output(trained):
    by_motion = bars.labeled(8, 40, labels="motion")
    extractor = metrics.open_features("video_classifier", by_motion.spec)
    assert extractor.class_names == bars.MOTIONS
    motions = np.arange(40) % 2
    result = evaluate((made(motions * 0, motions), motions), by_motion, features=extractor)
    assert result["label_accuracy"] >= 0.9
    unlabeled = bars.labeled(8, 4, labels=None)
    of_content = metrics.open_features("video_classifier", unlabeled.spec)
    assert of_content.classes == 2
    # Single frames have a content and no motion, whatever the output.
    frames = made(np.array([0, 1]), np.array([1, 1]))[:, 2]
    for each in (extractor, of_content):
        assert each.still(frames)[1].argmax(axis=1).tolist() == [0, 1]


@pytest.mark.slow
def test_it_is_the_same_again(trained, data, tmp_path):
    first, again = (
        metrics.train_video_classifier(data, 1, seed=3, cache=tmp_path / name) for name in "ab"
    )
    one, other = (metrics.video_classifier.open_video_classifier("", data.spec, p.path.parent)
                  for p in (first, again))  # fmt: skip
    clips = made(np.array([0, 1]), np.array([0, 1]))
    np.testing.assert_array_equal(one(clips)[0], other(clips)[0])


def test_labels_alone_have_one_output(cache, tmp_path):
    data = bars.labeled(64, 8, factors=False)
    found = metrics.train_video_classifier(data, epochs=1, cache=tmp_path)
    assert list(found.accuracies) == ["labels"]
    content = json.loads(found.path.with_suffix(".json").read_text())
    assert (content["outputs"], content["still"]) == ({"labels": ["wide", "tall"]}, "labels")


def test_metrics_of_frames_need_such_an_extractor(data):
    videos = made(np.array([0, 1]), np.array([0, 1]))
    with pytest.raises(UsageError, match=r"such as features=video_classifier\. Rec.*features='pix"):
        evaluate(videos, data, features="pixels", metrics="class_constancy")


def test_other_videos_are_refused(trained):
    spec = datasets.open("moving-fashion", count=2, held_out_count=2).spec
    line = r"There must be a video classifier for these data in .*keras-gan video-classifier DATA"
    with pytest.raises(UsageError, match=line + r".*videos of shape \(16, 32, 32, 1\) with 10"):
        metrics.open_features("video_classifier", spec)
    with pytest.raises(UsageError, match=r"of that name for these data .*'video_classifier:0123'"):
        metrics.open_features("video_classifier:0123", bars.labeled(2, 2).spec)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (lambda: datasets.open("gaussians"), r"data of videos\. Received: samples of kind 'points"),
        (lambda: bars.labeled(4, 2, None, False), r"data with labels, .*Received: bars that move"),
        (
            lambda: datasets.from_arrays(
                np.zeros((4, 3, 4, 4, 1), np.uint8), np.arange(4), kind="video", held_out=0
            ),
            r"2 frames of 8 x 8 pixels\. Received: shape=\(3, 4, 4, 1\)",
        ),
    ],
)
def test_data_that_no_classifier_can_learn(source, line, tmp_path):
    with pytest.raises(UsageError, match=line):
        metrics.train_video_classifier(source(), cache=tmp_path)


def test_the_command_prints_the_accuracy_and_the_next_command(capsys):
    options = ["count=64", "held_out_count=16", "frames=4"]
    settings = [part for option in options for part in ("--set", f"data.{option}")]
    app(["video-classifier", "moving-fashion", *settings, "--epochs", "1"], standalone_mode=False)
    printed = capsys.readouterr().out
    stated = re.search(r"Held-out accuracy: content ([\d.]+), motion ([\d.]+), after", printed)
    wrote = pathlib.Path(re.search(r"Wrote (.*)", printed)[1])
    kept = json.loads(wrote.with_suffix(".json").read_text())["accuracies"]
    assert [float(stated[1]), float(stated[2])] == pytest.approx([*kept.values()], abs=1e-4)
    assert "keras-gan evaluate RUN --features video_classifier:" in printed
