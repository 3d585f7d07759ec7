"""Comparisons during training: the same values as the metrics by themselves."""

import json

import numpy as np
import pytest

from keras_gan import Spec, UsageError, metrics, recipe, report, train
from keras_gan import run as runs


def test_a_recipe_accepts_the_metrics_that_a_comparison_computes():
    for name in ("sliced_wasserstein", "frechet_distance", "kernel_distance"):
        assert recipe.EvaluationSection(metric=name).metric == name
    others = list(metrics.training_metrics())
    assert others[:3] == ["sliced_wasserstein", "frechet_distance", "kernel_distance"]
    others = [name for name in others if name != "spread_ratio"]
    assert set(others[3:]) == {
        *("patch_distance", "nyquist_ratio", "pair_distance_ratio", "pair_distance"),
        "nearest_ratio",
        *("precision", "recall", "density", "coverage"),
        *("l1", "psnr", "ssim", "gmsd", "gradient_ratio", "spectrum_error"),
        *("consistency", "cycle_l1", "pair_accuracy", "background"),
        *("log_mel_l1", "mr_stft", "mcd", "level_error", "stoi", "mel_patch_distance"),
        *("nll_oracle", "ngram_nll", "reverse_ngram_nll", "unique_texts"),
        *("velocity_error", "bounce_accuracy", "action_error"),
    }
    assert recipe.EvaluationSection(others=others).others == others
    with pytest.raises(UsageError, match=r"evaluation\.metric: .*one of sliced_w.*: 'recall'"):
        recipe.load("gaussians-8", ["evaluation.metric=recall"])
    with pytest.raises(UsageError, match=r"evaluation\.others.*: .*must be one of .*: 'fid'"):
        recipe.load("gaussians-8", ["evaluation.others=[fid]"])


class SpreadRatio(metrics.Metric):
    """A metric of the tests: deviation of the generated values over that of the real ones."""

    title = "Ratio of standard deviations"
    least = 3
    kinds = ("points",)
    in_training = True

    def of(self, inputs):
        real, generated = inputs.features
        return generated.std() / real.std()


def test_a_metric_is_one_class(sets, monkeypatch):
    """Evaluation, comparison, recipe and help find a subclass by its name, with its needs."""
    real, generated = (x.astype("float32") for x in sets)
    expected = pytest.approx(generated.std() / real.std())
    options = {"cache": False, "progress": False}
    found = metrics.evaluate(generated, real, "pixels", 300, metrics="spread_ratio", **options)
    assert found.values == {"spread_ratio": expected}
    assert "spread_ratio" in metrics.evaluate(generated, real, "pixels", 300, **options).values
    with pytest.raises(UsageError, match=r"spread_ratio needs at least 3 real .*2 generated"):
        metrics.evaluate(generated, real, "pixels", 2, metrics="spread_ratio", **options)
    images = np.zeros((9, 4, 4, 1), "uint8")
    with pytest.raises(UsageError, match=r"needs samples of kind points\. Received: .*'image'"):
        metrics.evaluate(images, images, "pixels", 9, metrics="spread-ratio", **options)
    compare = metrics.Comparison(real, others=["spread_ratio"], extractor=lambda x: (x, None))
    assert compare(generated)["spread_ratio"] == expected
    assert recipe.EvaluationSection(others=["spread_ratio"]).others == ["spread_ratio"]
    with pytest.raises(UsageError, match=r"must be one of .*Received: metric='spread_ratio'"):
        metrics.Comparison(real, "spread_ratio")  # neither high nor low is better
    assert metrics.names()["spread_ratio"] == "Ratio of standard deviations"
    monkeypatch.setattr(SpreadRatio, "needs", ("feature",))
    with pytest.raises(UsageError, match=r"SpreadRatio\.needs must name req.*'feature'. Did you"):
        metrics.evaluate(generated, real, "pixels", 300, metrics="spread_ratio", **options)


def halves(x):
    """Features of points that are easy to compute: half of each coordinate."""
    return x / 2, None


@pytest.fixture
def sets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(300, 4)), rng.normal(0.5, 1.2, size=(300, 4))


def test_measures_are_those_of_the_metrics_on_the_same_features(sets):
    real, made = sets
    others = ["sliced_wasserstein", "precision", "recall", "density", "coverage", "kernel_distance"]
    found = metrics.Comparison(real, "frechet_distance", others, halves)(made)
    assert list(found) == ["frechet_distance", *others]
    assert found["frechet_distance"] == metrics.frechet_distance(real / 2, made / 2)
    assert found["sliced_wasserstein"] == metrics.sliced_wasserstein(real, made)
    assert found["recall"] == metrics.precision_recall(real / 2, made / 2).recall
    assert found["coverage"] == metrics.density_coverage(real / 2, made / 2).coverage
    kernel = metrics.kernel_distance(real / 2, made / 2, subset_size=150)
    assert found["kernel_distance"] == kernel.mean


def test_held_out_features_are_computed_once(sets):
    seen = []

    def counting(x):
        seen.append(len(x))
        return x, None

    compare = metrics.Comparison(sets[0], "frechet_distance", (), counting)
    assert compare(sets[1]) == compare(sets[1])
    assert seen == [300, 300, 300]


def test_the_default_needs_no_features(sets):
    real, made = sets
    expected = {"sliced_wasserstein": metrics.sliced_wasserstein(real, made)}
    assert metrics.Comparison(real)(made) == expected


def test_images_are_clipped_as_when_they_are_saved_and_points_are_not():
    """Generators without a tanh are unbounded: 3 is white in an image, and 2 from 1 for a point."""
    white = np.ones((5, 2, 2, 1))
    compare = metrics.Comparison(white, "sliced_wasserstein")
    assert compare(3 * white) == {"sliced_wasserstein": 0.0}
    assert compare(-3 * white) == compare(-white)
    assert compare(-white)["sliced_wasserstein"] > 0.1
    points = np.ones((5, 1))
    assert metrics.Comparison(points)(3 * points)["sliced_wasserstein"] == pytest.approx(2.0)


def test_errors_name_the_rule_and_the_value(sets):
    with pytest.raises(UsageError, match=r"one of sliced_wass.*Received: metric='recall'"):
        metrics.Comparison(sets[0], "recall")
    with pytest.raises(UsageError, match=r"others must be names of .*Received: others with 'fid'"):
        metrics.Comparison(sets[0], others=["fid"])
    with pytest.raises(UsageError, match=r"recall compares features: evaluation\.features must"):
        metrics.Comparison(sets[0], others=["recall"])


def test_too_few_held_out_samples_are_refused_before_training(sets):
    few = sets[0]
    for name, least in (("recall", 4), ("coverage", 6), ("kernel_distance", 2)):
        with pytest.raises(UsageError, match=rf"{name} needs at least {least} held-out samples"):
            metrics.Comparison(few[: least - 1], others=[name], extractor=halves)
        assert metrics.Comparison(few[:least], others=[name], extractor=halves)(few[:least])


def test_the_protocol_names_the_extractor_and_the_count(sets):
    pixels = metrics.open_features("pixels", Spec("points", (4,)))
    protocol = metrics.Comparison(sets[0], "kernel_distance", ["recall"], pixels).protocol
    assert protocol["measures"] == ["kernel_distance", "recall"]
    assert (protocol["extractor"], protocol["resize"], protocol["count"]) == ("pixels", "none", 300)
    assert (protocol["kernel_subsets"], protocol["kernel_subset_size"]) == (100, 150)
    assert metrics.Comparison(sets[0]).protocol == {
        "metric": "sliced_wasserstein",
        "measures": ["sliced_wasserstein"],
        "count": 300,
    }


def test_the_best_checkpoint_of_a_run_is_the_best_by_its_metric(tmp_path):
    settings = {
        "training.examples": 6400,
        "training.tick_examples": 640,
        "networks.generator.widths": [16],
        "networks.discriminator.widths": [16],
        "evaluation.metric": "frechet_distance",
        "evaluation.others": ["sliced_wasserstein", "coverage"],
        "evaluation.features": "pixels",
        "evaluation.every_examples": 1280,
        "evaluation.count": 200,
        "samples.count": 9,
    }
    sets = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    outcome = train.train(recipe.load("gaussians-8", sets), tmp_path / "run")
    rows = [row for row in outcome.run.rows() if "frechet_distance" in row]
    assert len(rows) == 5
    assert all({"sliced_wasserstein", "coverage"} <= set(row) for row in rows)
    least = min(rows, key=lambda row: row["frechet_distance"])
    best = outcome.run.best_record
    assert best["examples_seen"] == least["examples_seen"]
    assert best["frechet_distance"] == pytest.approx(least["frechet_distance"], rel=1e-6)
    # Computed again from the checkpoint, without the training, the value is the same.
    gan = runs.Run.open(outcome.run.path).load("best")
    source = train.open_data(outcome.run.recipe)
    held_out = next(iter(source.dataset("held_out", batch_size=200, seed=0, repeat=True)))
    made = gan.generate(range(2**62, 2**62 + 200))
    again = metrics.frechet_distance(np.asarray(held_out), made)
    assert again == pytest.approx(best["frechet_distance"], rel=1e-6)
    lines = report.best_and_last(outcome.run, outcome.run.rows())
    assert lines[0].startswith("Best frechet_distance ")
    assert lines[1].endswith("after 6,400 examples")
    assert len(lines) == 2
    copied = [*rows[:-1], rows[-1] | {"nearest_ratio": 0.25}]
    found = report.best_and_last(outcome.run, copied)
    assert found[2].startswith("Samples tend to be copies: to the nearest training sample their")
    assert "0.25 times that of held-out samples" in found[2]
    fine = [*rows[:-1], rows[-1] | {"nearest_ratio": 0.75}]
    assert len(report.best_and_last(outcome.run, fine)) == 2
    page = (outcome.run.path / "report.html").read_text()
    assert lines[0] in page
    protocol = outcome.run.evaluation
    assert (protocol["extractor"], protocol["count"]) == ("pixels", 200)
    assert protocol["measures"] == ["frechet_distance", "sliced_wasserstein", "coverage"]
    assert "Frechet distance, against held-out samples" in page


def test_a_metric_of_features_without_an_extractor_is_refused_before_training(tmp_path):
    broken = recipe.load("gaussians-8", ["evaluation.metric=frechet_distance"])
    with pytest.raises(UsageError, match=r"evaluation\.features must name an extractor"):
        train.train(broken, tmp_path / "run")
    assert not (tmp_path / "run").exists()
