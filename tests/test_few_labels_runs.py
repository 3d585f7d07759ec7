"""Tests of few labels in runs: the recipe, resuming, the metrics of the classifier."""

import numpy as np
import pytest

import keras_gan
from keras_gan import UsageError, architectures, data_record, datasets, metrics, recipe, train
from keras_gan.commands import exporting
from keras_gan.datasets import labeled
from keras_gan.metrics.classified import Classifier, classify
from keras_gan.spec import Spec

SETTINGS = (
    "data.labels=true",
    "data.labeled=16",
    "networks.generator.widths=[4]",
    "networks.discriminator.widths=[4]",
    "networks.discriminator.classes_as_logits=true",
    "game.loss=non_saturating",
    "game.terms=[supervised, feature_matching]",
    "game.average_discriminator=true",
    "optimizers.generator.learning_rate=1.0e-3",  # the recipe's goes by the length
    "optimizers.discriminator.learning_rate=1.0e-3",
    "training.batch_size=16",
    "training.tick_examples=32",
    "training.examples=96",
    "evaluation.count=100",
    "evaluation.every_examples=1000",
    "samples.count=4",
)


def loaded(*settings):
    return recipe.load("gaussians-8", [*SETTINGS, *settings])


def numbers(run):
    gan = run.load()
    owners = (gan, gan.generator_optimizer, gan.discriminator_optimizer)
    return [np.asarray(v.value) for owner in owners for v in owner.variables]


def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path, capsys):
    whole = train.train(loaded(), tmp_path / "whole").run
    counted = "training examples, 2 of each of 8 classes"
    assert counted in capsys.readouterr().err
    assert whole.data["labeled"]["count"] == 16
    part = train.train(loaded("training.examples=48"), tmp_path / "part").run
    resumed = train.resume(part.path, ("training.examples=96",)).run
    for one, other in zip(numbers(whole), numbers(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UsageError, match=r"original recipe.*data.labeled_seed: unset -> 1"):
        train.resume(part.path, ("training.examples=192", "data.labeled_seed=1"))
    found = metrics.evaluate(whole.path, count=40, metrics="accuracy", cache=False)
    assert set(found.details["accuracy"]) <= {str(k) for k in range(8)}


def test_the_generator_is_exported_under_a_name_of_its_own(tmp_path):
    """A server can have it beside the classifier, which has the name of the run."""
    run = train.train(loaded("training.examples=16"), tmp_path / "few").run
    bundle = exporting.export_run(run, tmp_path / "bundle", network="generator")
    assert (bundle.manifest.name, bundle.manifest.role) == ("few-generator", "generator")
    assert bundle.manifest.training["network"] == "generator"


def test_a_run_is_refused_with_other_labels():
    x, y = np.random.default_rng(0).normal(size=(40, 2)).astype("float32"), np.arange(40) % 2
    data = datasets.from_arrays(x, y, held_out=0)
    first, other = (
        data_record.describe_data(labeled.keep(data, labeled=4, labeled_seed=seed))
        for seed in (0, 1)
    )
    found = data_record.data_differences(first, other)
    assert found[0].startswith(f"labels (4 (digest {first['labeled']['digest'][:8]}), now 4 (")
    assert data_record.data_differences(first, first) == []
    whole = data_record.describe_data(data)
    assert "labeled" not in whole
    assert data_record.data_differences(first, whole)[0].endswith("), now all)")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.labeled=3", r"`labeled` must be at least the number of classes, 8.*labeled=3"),
        ("data.labeled=true", r"`labeled` must be an integer.*labeled=True"),
        ("data.labled=20", r"data.labled is not an option.*Did you mean 'labeled'"),
        ("data.labels=false", r"`labeled` needs data with labels"),
    ],
)
def test_options_that_do_not_fit_are_refused_in_one_line(setting, message):
    with pytest.raises(UsageError, match=message) as error:
        train.open_data(loaded(setting))
    assert "\n" not in str(error.value)


# ------------------------------------------------------------------------ metrics


def test_calibration_error_of_hand_worked_bins():
    probabilities = np.array([[0.8, 0.2], [0.2, 0.8], [0.45, 0.55], [0.95, 0.05]])
    # Confidence 0.8 (bin 12): one hit of two, |0.5 - 0.8|; 0.55 (bin 9): hit; 0.95 (bin 15): miss.
    labels = np.array([0, 0, 1, 1])
    expected = (2 * 0.3 + 0.45 + 0.95) / 4
    assert metrics.calibration_error(probabilities, labels) == pytest.approx(expected)
    with pytest.raises(UsageError, match=r"one class id for each example.*0 labels"):
        metrics.calibration_error(probabilities, labels[:0])


def test_auroc_counts_ties_as_one_half():
    # Pairs: 3>1, 3>2, 2>1 win; 2=2 is a tie.
    assert metrics.auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == (3 + 0.5) / 4
    assert metrics.auroc(np.zeros(3), np.ones(2)) == 0
    with pytest.raises(UsageError, match=r"Received: 0 and 2"):
        metrics.auroc(np.zeros(0), np.ones(2))


def test_a_classifier_is_evaluated_on_real_and_generated_samples():
    spec = Spec("points", (2,), num_classes=3)
    generator = architectures.build_network("generator", "mlp", spec, latent_dim=2, widths=[4])
    discriminator = architectures.build_network(
        "discriminator", "mlp", spec, widths=[4], classes_as_logits=True
    )
    gan = keras_gan.GAN(generator, discriminator, average_discriminator=True)
    # The average is the classifier: with another bias it predicts class 2 for all.
    gan.average_discriminator.get_layer("classes").bias.assign([0.0, 0.0, 50.0])
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)).astype("float32"), np.arange(60) % 3
    data = datasets.from_arrays(x, y, held_out=0)
    found = metrics.evaluate(gan, data, split="train", count=60, cache=False)
    assert found.values["accuracy"] == pytest.approx(1 / 3)
    assert found.details["accuracy"] == {"0": 0.0, "1": 0.0, "2": 1.0}
    assert found.values["calibration_error"] == pytest.approx(2 / 3)
    assert 0 <= found.values["novelty_auroc"] <= 1
    live = metrics.classifier_of(gan, average=False).judge(x)
    expected = discriminator(x)
    np.testing.assert_allclose(live[0], np.asarray(expected["classes"]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(live[1], np.asarray(expected["logits"])[:, 0], rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match=r"accuracy needs a run or a game with a discriminator"):
        metrics.evaluate((x, y), data, split="train", metrics="accuracy", cache=False)


def test_a_discriminator_that_is_given_labels_is_not_a_classifier():
    spec = Spec("points", (2,), num_classes=3)
    generator, discriminator = (
        architectures.build_network(role, "mlp", spec, True, widths=[4])
        for role in ("generator", "discriminator")
    )
    gan = keras_gan.GAN(generator, discriminator, num_classes=3)
    assert metrics.classifier_of(gan) is None


def test_unlabeled_examples_have_no_accuracy():
    classifier = Classifier(2, lambda x: (np.zeros((len(x), 2)), np.zeros(len(x))))
    x = np.zeros((2, 3))
    found = classify(classifier, x, np.array([0, 1]), x)
    np.testing.assert_array_equal(found.probabilities, np.full((2, 2), 0.5))
    with pytest.raises(UsageError, match=r"labeled examples.*1 of 2 with the label -1"):
        classify(classifier, x, np.array([0, -1]), x)
    points, ids = np.zeros((4, 2), "float32"), np.array([0, 1, 0, 1])
    few = np.array([0, 1, -1, -1])
    with pytest.raises(UsageError, match=r"labeled examples.*2 of 4 with the label -1"):
        metrics.classification_accuracy((points, ids), (points, few), (points, ids))
