"""Training precision: the choice, the scope of the graph pass, and exact resuming."""

import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gan import precision, recipe, train
from serving import processor

FLAGS = "processor\t: 0\nflags\t\t: fpu avx512f {}\n"
NATIVE = processor.multiplies_bfloat16(processor.flags())
needs_bfloat16 = pytest.mark.skipif(not NATIVE, reason="the CPU has no native bfloat16 products")
SETS = (
    "training.examples=512",
    "training.batch_size=16",
    "training.tick_examples=64",
    "training.precision=bfloat16",
    "evaluation.count=16",
    "samples.count=4",
)
WIDTHS = {
    "gaussians-8": ("networks.generator.widths=[32,32]", "networks.discriminator.widths=[32,32]"),
    "quickstart": ("networks.generator.width=16", "networks.discriminator.width=16"),
}


@pytest.mark.parametrize(
    ("flag", "chosen", "why"),
    [
        ("avx512_bf16", "bfloat16", "has native bfloat16 products"),
        ("amx_bf16", "bfloat16", "has native bfloat16 products"),
        ("avx512_fp16", "float32", "has no native bfloat16 products"),
    ],
)
def test_auto_follows_the_processors_features(monkeypatch, flag, chosen, why):
    content = FLAGS.format(flag)
    monkeypatch.setattr(pathlib.Path, "read_text", lambda *_: content)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [])
    found, line = precision.choose("auto")
    assert found == chosen
    assert why in line


def test_the_log_line_for_a_gpu_states_the_assumption(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: ["a GPU"])
    for given in ("auto", "float32"):
        found, line = precision.choose(given)
        assert found == "float32"
        assert "assumed, not measured" in line
        assert "--set training.precision=mixed_float16" in line


def test_a_named_precision_is_kept_and_auto_is_recorded_as_its_choice():
    for name in ("float32", "bfloat16", "mixed_float16", "mixed_bfloat16"):
        assert precision.choose(name)[0] == name
    loaded = recipe.load("quickstart", ("training.precision=auto",))
    chosen, line = train.choose_precision(loaded)
    assert loaded.training.precision == "auto"
    assert chosen.training.precision == ("bfloat16" if NATIVE else "float32")
    assert chosen.training.precision in line


def test_layers_get_the_policy_and_the_old_one_is_restored():
    with precision.layers("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    with precision.layers("bfloat16"):  # the model itself stays in float32
        assert keras.layers.Dense(1).compute_dtype == "float32"
    assert keras.layers.Dense(1).compute_dtype == "float32"


@needs_bfloat16
def test_the_pass_acts_within_its_context_only_whenever_a_graph_was_traced():
    a = tf.random.stateless_normal((256, 256), seed=(1, 2))
    exact = a.numpy().astype("float64") @ a.numpy().astype("float64")
    multiply = tf.function(lambda a: tf.matmul(a, a))

    def error():
        return np.abs(multiply(a).numpy() - exact).max()

    before = error()
    with precision.graphs("bfloat16"):
        within = error()
        with precision.graphs("float32"):
            inner = error()
        again = error()
    assert before < 1e-3
    assert within > 1e-2
    assert (inner, again, error()) == (before, within, before)


def weights(gan):
    networks = gan.generator, gan.discriminator, gan.average_generator
    optimizers = gan.generator_optimizer, gan.discriminator_optimizer
    return [v.numpy() for part in (*networks, *optimizers) for v in part.variables]


@needs_bfloat16
def test_a_loaded_game_resumes_exactly_under_bfloat16(tmp_path, make_gan, images):
    arguments = {"loss": "relativistic", "terms": ["r1", "r2"]}
    straight = make_gan(**arguments)
    with precision.graphs("bfloat16"):
        straight.fit(images.take(1), verbose=0)
        straight.save(tmp_path / "half.keras")
        straight.fit(images.take(1), verbose=0)
        loaded: Any = keras.saving.load_model(tmp_path / "half.keras")
        loaded.fit(images.take(1), verbose=0)
    for a, b in zip(weights(straight), weights(loaded), strict=True):
        np.testing.assert_array_equal(a, b)


@needs_bfloat16
@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussians-8", "quickstart"])
def test_a_run_resumes_exactly_under_bfloat16(tmp_path, name):
    def run(to, *settings):
        return train.train(recipe.load(name, (*SETS, *WIDTHS[name], *settings)), tmp_path / to)

    constant = [
        f"optimizers.{role}.learning_rate={{name: cosine, start: 1e-3, examples: 2000}}"
        for role in ("generator", "discriminator")
    ]
    straight = run("straight", *constant)
    run("halves", *constant, "training.examples=256")
    halves = train.resume(tmp_path / "halves", ("training.examples=512",))
    for a, b in zip(weights(straight.gan), weights(halves.gan), strict=True):
        np.testing.assert_array_equal(a, b)
    plain = run("float32", *constant, "training.precision=float32")
    pairs = zip(weights(straight.gan), weights(plain.gan), strict=True)
    assert not all(np.array_equal(a, b) for a, b in pairs)  # bfloat16 was in effect
