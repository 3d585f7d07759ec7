"""Tests of the ideas that `benchmarks/trials.py` compares: each changes what it claims."""

import importlib
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gan
from keras_gan import architectures, recipe
from keras_gan.datasets import Source
from keras_gan.datasets.splits import Split

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"
SIZE, CLASSES = 8, 3


@pytest.fixture(scope="module")
def trials():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("trials")


@pytest.fixture(scope="module")
def ideas(trials):
    return trials.trial_games


def pictures(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, SIZE, SIZE, 1)).astype("float32")


def source():
    labels = np.arange(32, dtype=np.int32) % CLASSES
    spec = keras_gan.Spec("image", (SIZE, SIZE, 1), (-1.0, 1.0), CLASSES, ("a", "b", "c"))
    splits = {"train": Split(pictures(32), labels), "held_out": Split(pictures(8, 1), labels[:8])}
    return Source(spec, splits, "noise")


@pytest.fixture
def bench(trials, monkeypatch):
    """The trials of the gray recipes, whose data are random pictures."""
    monkeypatch.setattr(trials.datasets, "open", lambda name, **options: source())
    small = [
        *("networks.generator.width=4", "networks.discriminator.width=4", "game.terms=[]"),
        *("networks.generator.depth=1", "networks.discriminator.depth=1"),
        *("training.batch_size=4", "networks.generator.latent_dim=3", "training.precision=float32"),
    ]
    changes = [argument for setting in small for argument in ("--set", setting)]
    return trials.Bench(trials.parse(["--share", "0.001", *changes]))


def players(gan):
    return [*gan.generator.trainable_variables, *gan.discriminator.trainable_variables]


def trained(bench, trials, name, steps=3):
    """Returns the game of a trial after some steps."""
    made = bench.recipe(name, seed=5)
    gan = trials.build(made, bench.source)
    before = [weight.numpy().copy() for weight in players(gan)]
    budget = trials.Budget()
    trials.fit(gan, made, bench.source, steps, budget)
    assert budget.steps == steps
    assert gan.seed == 5
    for old, new in zip(before, players(gan), strict=True):
        assert np.isfinite(new.numpy()).all()
        assert not new.path.endswith("kernel") or not np.array_equal(old, new.numpy()), new.path
    return gan


# ------------------------------------------------------------------------ each trial


def test_the_base_is_the_recipe(bench, trials):
    assert bench.recipe("base", 5) == recipe.load(
        "fashion-mnist-5",
        [
            *bench.options.set,
            *("training.seed=5", "training.minutes=null", "training.examples=340"),
            *("optimizers.generator.learning_rate.examples=170", "game.ema_half_life=20"),
            "optimizers.discriminator.learning_rate.examples=170",
        ],
    )


def test_kernels_are_centered_and_of_one_size_after_a_step(bench, trials):
    names = ("base", "weight_norm", "weight_norm_6", "weight_norm_batch")
    rates = [bench.recipe(n, 0).optimizers["generator"].learning_rate["start"] for n in names]
    np.testing.assert_allclose(rates, 1.6e-3 * np.array([1, 3, 6, 3]))
    gan = trained(bench, trials, "weight_norm")
    assert not any("norm" in layer.name for layer in gan.generator.layers)
    kernels = {"/".join(w.path.split("/")[-2:]): w.numpy() for w in players(gan)}
    kernels = {path: value for path, value in kernels.items() if path.endswith("/kernel")}
    # A pixel of a transposed 4x4 convolution with strides 2 meets a quarter of the weights.
    relu, leaky = (1 / np.sqrt((1 + a**2 - (1 - a) ** 2 / np.pi) / 2) for a in (0.0, 0.2))
    checked = {
        "project/kernel": ((0,), 3, 1.0),
        "stage_0_conv_1/kernel": ((0, 1, 2), 9 * 8, relu),
        "stage_1_up/kernel": ((0, 1, 3), 4 * 8, relu),
        "stage_1_down/kernel": ((0, 1, 2), 16, 1.0),
        "stage_2_down/kernel": ((0, 1, 2), 9 * 8, leaky),
    }
    for path, (axes, inputs, gain) in checked.items():
        kernel = kernels.pop(path)
        rms = np.sqrt(np.mean(kernel**2, axes))
        np.testing.assert_allclose(rms * np.sqrt(inputs) / gain, 1.0, rtol=1e-5)
        centered = np.abs(kernel.mean(axes)).max() < 1e-6
        assert centered == (path != "stage_1_down/kernel")
    assert sorted(kernels) == ["logits/kernel", "samples/kernel"]


def test_steps_of_a_kernel_are_scaled(ideas):
    """A kernel of rms 1 that is scaled by g / sqrt(n) where it is used moves by as much."""
    kernel = keras.Variable(np.zeros((4, 1), "float32"))
    rule = ideas.KernelRule(kernel, (0,), inputs=4, gain=3.0, forced=False)
    np.testing.assert_allclose(rule.moved(np.ones(4), np.array([1, 2, 1, 1])), [1, 2.5, 1, 1])
    rule = ideas.KernelRule(kernel, (0,), inputs=4, gain=3.0)
    value = np.array([[3.0], [1.0], [3.0], [1.0]], "float32")
    np.testing.assert_allclose(rule.normalized(value)[:, 0], [1.5, -1.5, 1.5, -1.5])


@pytest.mark.parametrize(("shortcut", "least"), [("nearest", 0.5), ("blurred", 0.4)])
def test_normalized_resnets_keep_the_variance(ideas, shortcut, least):
    """The branches of a block of the color recipe's generator add up to the variance before.

    A blur takes some of it.
    """
    spec = keras_gan.Spec("image", (16, 16, 3), (-1.0, 1.0))
    options = {"norm": "none", "width": 64, "shortcut": shortcut}
    network = architectures.build_network("generator", "resnet", spec, **options)
    for rule in ideas.kernel_rules(network, "generator"):
        rule.kernel.assign(rule.normalized(rule.kernel.value))
    blocks = [network.get_layer(name).output for name in ("block_1", "block_2")]
    latents = np.random.default_rng(0).normal(size=(64, 128)).astype("float32")
    for output in keras.Model(network.input, blocks)(latents):
        assert least < np.var(output) < 2.0


def test_the_gradient_is_divided_by_the_moving_average_of_its_norm(ideas):
    layer, x = ideas.GradientNormalization(), tf.constant([[1.0, 2.0]])

    def gradient(factors):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.reduce_sum(layer(x, training=True) * tf.constant([factors]))
        return tape.gradient(y, x).numpy()[0]

    np.testing.assert_allclose(gradient([3.0, 4.0]), [0.6, 0.8], rtol=1e-6)
    # (0.9 * 0.5 + 0.1 * 10) / (0.9 * 0.1 + 0.1) = 1.45 / 0.19
    np.testing.assert_allclose(gradient([6.0, 8.0]), [6 * 0.19 / 1.45, 8 * 0.19 / 1.45], rtol=1e-5)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(7 * layer(x))
    np.testing.assert_allclose(tape.gradient(y, x), [[7.0, 7.0]])


def test_the_generators_gradient_is_normalized_in_a_game(bench, trials):
    gan = trained(bench, trials, "afm")
    layer = gan.generator.get_layer("gradient_normalization")
    # Only the generator's step passes a gradient, once a step.
    np.testing.assert_allclose(layer.sum_of_weights, 1 - 0.9**3, rtol=1e-5)
    assert float(layer.sum_of_norms) > 0
    assert [*gan.terms] == ["logit_centering"]
    assert gan.terms["logit_centering"].weight == 0.01


def test_the_value_of_logit_centering(ideas):
    class Context:
        real, fake = "real", "fake"

        @staticmethod
        def logits(samples):
            return tf.constant({"real": [[1.0], [2.0]], "fake": [[0.5], [-2.0]]}[samples])

    np.testing.assert_allclose(ideas.LogitCentering().values(Context()), [2.25, 0.0])


def test_twice_the_batch_at_1_4_times_the_rate(bench):
    base, double = bench.recipe("base", 0), bench.recipe("double_batch", 0)
    assert (base.training.batch_size, double.training.batch_size) == (4, 8)
    rates = [r.optimizers["discriminator"].learning_rate for r in (base, double)]
    assert rates[1]["start"] == pytest.approx(1.4 * rates[0]["start"])
    assert rates[1]["examples"] == rates[0]["examples"]


def test_the_networks_see_other_real_samples(bench, trials, monkeypatch):
    """The discriminator learns from the first half of a batch, the generator from the second."""
    made = bench.recipe("fresh_reals", 0)
    assert made.training.batch_size == 8
    assert made.optimizers["generator"].learning_rate["examples"] == 2 * 170
    gan = trials.build(made, bench.source)
    seen = {}

    def record(context):
        seen[context.player] = np.array(context.real)
        return 0.0

    monkeypatch.setattr(gan, "sum_of_terms", record)
    batch = pictures(8)
    gan.step({"samples": tf.constant(batch)})
    np.testing.assert_array_equal(seen["discriminator"], batch[:4])
    np.testing.assert_array_equal(seen["generator"], batch[4:])


def test_lookahead_moves_to_the_mean_with_the_slow_weights(bench, trials, ideas):
    made = bench.recipe("base", 0)
    gan = trials.build(made, bench.source)
    start = [weight.numpy().copy() for weight in players(gan)]
    fast, at = {}, {}

    class Watch(keras.callbacks.Callback):
        def __init__(self, into):
            super().__init__()
            self.into = into

        def on_train_batch_end(self, batch, logs=None):
            self.into[batch] = [weight.numpy().copy() for weight in players(gan)]

    callbacks = (Watch(fast), ideas.Lookahead(steps=2), Watch(at))
    trials.fit(gan, made, bench.source, 4, trials.Budget(), callbacks)
    for index, first in enumerate(start):
        np.testing.assert_array_equal(at[0][index], fast[0][index])
        np.testing.assert_allclose(at[1][index], (first + fast[1][index]) / 2, atol=1e-6)
        mean = (at[1][index] + fast[3][index]) / 2
        np.testing.assert_allclose(at[3][index], mean, atol=1e-6)
    assert trials.TRIALS["lookahead"].callback().steps == 50


def test_ucd_reads_no_labels_of_generated_samples(bench, trials):
    gan = trained(bench, trials, "ucd")
    assert gan.networks["discriminator"].fields == ("samples",)
    assert gan.networks["generator"].fields == ("latents", "labels")
    term = gan.terms["real_classes"]
    assert (term.players, term.weight) == (("discriminator",), 0.3)

    class Context:
        real, fields = "real", {"labels": tf.constant([0, 1])}

        @staticmethod
        def forward(samples):
            assert samples == "real"
            return {"classes": tf.math.log([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])}

    np.testing.assert_allclose(term.values(Context()), np.log([2.0, 4.0]), rtol=1e-6)
    term = bench.recipe("ucd_labels", 0).game.options["terms"][-1]
    assert (term["name"], term["weight"], term["fake"]) == ("auxiliary_classifier", 0.3, 0.0)


def test_trials_of_auxiliary_classes_differ_in_their_term_alone(bench, trials):
    found = {
        "ucd": ("real_classes", {"classes"}),
        "acgan": ("auxiliary_classifier", {"classes"}),
        "tac": ("two_classifiers", {"classes", "fake_classes"}),
        "adc": ("discriminative_classifier", {"classes", "fake_classes"}),
        "reacgan": ("data_to_data", {"embedding", "similarities"}),
    }
    base = bench.recipe("base_classes", 0).model_dump()
    for name, (term, outputs) in found.items():
        assert trials.TRIALS[name].base == "base_classes"
        made = bench.recipe(name, 0).model_dump()
        assert made["game"]["terms"][-1]["name"] == term
        made["game"]["terms"].pop()
        assert made["networks"]["discriminator"].pop("condition") == []
        assert {**made, "networks": None} == {**base, "networks": None}
        assert made["networks"]["generator"] == base["networks"]["generator"]
        gan = trained(bench, trials, name, steps=1)
        assert gan.networks["discriminator"].fields == ("samples",)
        assert set(gan.networks["discriminator"].output_names) == {"logits"} | outputs


# ------------------------------------------------------------------------ the whole


def test_every_trial_has_the_processor_time_of_its_base(trials, bench, monkeypatch, tmp_path):
    monkeypatch.setattr(trials.Bench, "measure", lambda self, gan: {"distance": 2.0})
    bench.options.trials = trials.with_bases(["lookahead"])
    bench.options.set.append("training.examples=40000")
    path = tmp_path / "rows.json"
    results = trials.Results(path, {"data": "noise"})
    trials.run_all(bench, results)
    base, other = json.loads(path.read_text())["rows"]
    assert (base["trial"], base["steps"], base["examples"]) == ("base", 10, 40)
    assert other["trial"] == "lookahead"
    assert base["seconds"] <= other["seconds"] < 2 * base["seconds"] + 0.5

    # Another run finds both rows and trains nothing.
    monkeypatch.setattr(trials.Bench, "run", None)
    again = trials.Results(path, {"data": "noise"})
    trials.run_all(bench, again)
    assert again.rows == [base, other]
    with pytest.raises(SystemExit, match="--json must be a new file"):
        trials.Results(path, {"data": "emoji"})


def test_the_table_compares_with_the_base_of_the_same_seeds(trials):
    rows = [
        {"trial": name, "seed": seed, "examples": 1000, "steps": 9, "seconds": 1.0, "distance": d}
        for name, distances in {"base": [2.0, 4.0, 3.0], "afm": [1.5, None, 2.7]}.items()
        for seed, d in enumerate(distances)
    ]
    lines = trials.table(rows)
    assert lines[1].split() == ["base", "1,000", "3", "2-4", "1.000", "0", "of", "3"]
    assert lines[2].split() == ["afm", "1,000", "2.7", "1.5-inf", "0.900", "2", "of", "3"]
    assert trials.shown(rows[4]).endswith("distance diverged")
    assert not lines[0].endswith("label accuracy")
    for row, share in zip(rows[3:], (0.5, 0.75, 0.875), strict=True):
        row["label_accuracy"] = share
    lines = trials.table(rows)
    assert lines[0].endswith("better in  label accuracy")
    assert lines[1].split()[-1] == "3"
    assert lines[2].split()[-1] == "75.0%"


def test_a_diverged_training_ends(trials):
    class Game:
        stop_training = False

    budget = trials.Budget()
    budget.set_model(game := Game())
    budget.on_train_batch_end(0, {"d_loss": 1.0, "g_loss": 1.0})
    assert not game.stop_training
    budget.on_train_batch_end(1, {"d_loss": float("nan"), "g_loss": 1.0})
    assert game.stop_training
    assert budget.diverged


def test_trials_of_classes_are_for_the_gray_recipe_only(trials, capsys):
    assert trials.parse(["--trials", "ucd,afm"]).trials == ["base_classes", "base", "ucd", "afm"]
    with pytest.raises(SystemExit):
        trials.parse(["--data", "color", "--trials", "ucd"])
    assert "Received: ucd" in capsys.readouterr().err
    assert "ucd" not in trials.parse(["--data", "color"]).trials
    assert "base_classes" in trials.parse([]).trials


def test_the_color_recipe_is_the_chosen_one(trials):
    """Its length is that of the processor time, and every trial fits it."""
    options = trials.parse(["--data", "color"])
    bench = object.__new__(trials.Bench)
    bench.options, bench.examples = options, 20_000
    bench.pictures = trials.automatic.Pictures((64, 64), 3, 3_000, 300, (), 0, 1.0)
    for name in options.trials:
        made = bench.recipe(name, 3)
        times = 2 if name == "fresh_reals" else 1
        assert (made.training.examples, made.training.seed) == (times * 20_000, 3), name
        assert made.networks["generator"].architecture == "resnet"
        scheduled = made.optimizers["generator"].learning_rate
        assert scheduled["decay_examples"] == times * 16_000
        faster = {"weight_norm": 3, "double_batch": 1.4}.get(name, scheduled["rate"] / 5e-4)
        assert scheduled["rate"] == pytest.approx(5e-4 * faster)
        double = name in ("double_batch", "fresh_reals")
        assert made.training.batch_size == (64 if double else 32)


def test_labels_are_seen_by_both_networks(trials):
    color = object.__new__(trials.Bench)
    color.options, color.examples = trials.parse(["--data", "color"]), 20_000
    color.pictures = trials.automatic.Pictures((64, 64), 3, 3_000, 300, (), 0, 1.0)
    networks = color.recipe("labels", 0).networks
    assert [networks[role].condition for role in ("generator", "discriminator")] == [["labels"]] * 2


def test_samples_have_the_labels_of_the_pictures(bench, trials):
    gan = trials.build(bench.recipe("base_classes", 0), bench.source)
    labels = np.array([2, 0, 0, 1, 2])
    made = [gan.generate(seeds, labels=labels) for seeds in (range(5), range(5, 10))]
    bench.options.data, bench.real_labels = trials.COLOR, labels
    bench.real = trials.to_bytes(pictures(5, 2))
    distances = [trials.metrics.patch_distance(bench.real, trials.to_bytes(x)).mean for x in made]
    assert bench.measure(gan) == {"distance": pytest.approx(np.mean(distances))}
    bench.real_labels = labels[::-1]
    assert bench.measure(gan)["distance"] != pytest.approx(np.mean(distances))


def test_schedules_without_a_length_keep_theirs_in_a_shorter_training(bench):
    rates = [
        bench.recipe(n, 0).optimizers["generator"].learning_rate for n in ("no_lengths", "base")
    ]
    assert rates[0] == {"name": "inverse_sqrt", "rate": 1.6e-3, "decay_examples": 16_000}
    assert rates[1]["name"] == "cosine"
    game = bench.recipe("no_lengths", 0).game.options
    assert (game["ema_half_life"], game["ema_rampup"]) == (340, 0.04)
