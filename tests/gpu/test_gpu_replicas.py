"""Two devices by MirroredStrategy: the update of one device on the whole batch."""

import pathlib
import subprocess
import sys

import gpu_device
import gpu_games as games
import keras
import numpy as np
import pytest
import replicas
import tensorflow as tf

from keras_gan import UsageError, precision, recipe, train

TOLERANCE = 1e-4  # of float32, whose sums have another order on two devices
LOSSES = [component.name for component in games.components("loss")]
TERMS = [c for c in games.components("term") if not c.conditional]
SETTINGS = [
    "training.examples=640",
    "training.batch_size=32",
    "training.tick_examples=320",
    "training.precision=float32",
    "networks.generator.widths=[16]",
    "networks.discriminator.widths=[16]",
    "evaluation.count=64",
    "samples.count=4",
]


def sgd():
    return [keras.optimizers.SGD(0.05), keras.optimizers.SGD(0.05)]


def play(gan, steps=3):
    batch = replicas.samples()
    if gan.is_supervised:
        pictures, _ = games.data()
        batch = {"condition": -pictures, "samples": pictures}
    data = tf.data.Dataset.from_tensors(batch).repeat()
    gan.fit(data, steps_per_epoch=steps, verbose=0)


def assert_same_update(strategy, two, **arguments):
    """Trains on one device and on two, and compares every variable."""
    with tf.device(two[0]), replicas.as_two():
        one = replicas.make(cls=replicas.OnOneDevice, optimizers=sgd(), **arguments)
        before = replicas.state(one)
        play(one)
    with strategy.scope():
        both = replicas.make(optimizers=sgd(), **arguments)
    for i, device in enumerate(two):
        copies = strategy.experimental_local_results(both.generator.weights[0].value)
        assert copies[i].device.endswith(device)
    play(both)
    for variable in both.variables:
        first, second = strategy.experimental_local_results(variable.value)
        if "average" in variable.path or variable.trainable:
            np.testing.assert_array_equal(first, second)
    replicas.assert_moved(before, replicas.state(one), arguments)
    replicas.assert_equal(replicas.state(one), replicas.state(both), arguments, TOLERANCE)


@pytest.mark.parametrize("loss", LOSSES)
def test_two_devices_train_like_one_with_every_loss(loss, strategy, two):
    assert_same_update(strategy, two, loss=loss)


@pytest.mark.parametrize("term", TERMS, ids=lambda component: component.name)
def test_two_devices_train_like_one_with_every_term(term, strategy, two):
    built = term.arguments().get("built")  # other networks than those of points
    assert_same_update(strategy, two, built=built, terms=[replicas.penalty(term.name)])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_two_devices_train_in_mixed_precision(policy, strategy):
    with strategy.scope(), precision.layers(policy):
        gan = replicas.make("relativistic", ["r1"], optimizers=sgd())
    before = replicas.state(gan)
    play(gan, 20)  # the loss scale may skip the first steps
    replicas.assert_moved(before, replicas.state(gan), policy)
    assert all(np.isfinite(w).all() for w in gan.get_weights())


def test_xla_is_refused_on_two_devices(strategy):
    with strategy.scope():
        gan = replicas.make()
        with pytest.raises(UsageError, match=r"XLA on several replicas .*jit_compile=True"):
            gan.compile(*sgd(), jit_compile=True)


def test_a_recipe_trains_on_two_devices_and_resumes_on_them(strategy, tmp_path):
    """In the scope of the strategy, which the training takes: a machine may have more GPUs."""
    with strategy.scope():
        outcome = train.train(recipe.load("gaussians-8", SETTINGS), tmp_path / "run")
        assert outcome.team.replicas == 2
        override = ("training.examples",)
        after = train.resume(tmp_path / "run", ("training.examples=1280",), override=override)
    assert after.gan.count("examples_seen") == 1280
    rows = after.run.rows()
    assert [row["examples_seen"] for row in rows] == [320, 640, 960, 1280]
    assert np.isfinite([row["d_loss"] for row in rows]).all()


def test_the_command_trains_on_both_gpus_that_it_sees(two, is_gpu, tmp_path):
    """In a process of its own, which has no other strategy."""
    if not is_gpu:
        pytest.skip(f"needs 2 GPUs. Received: {', '.join(two)}")
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, "-m", "keras_gan", "train", "gaussians-8", *sets]
    done = subprocess.run(
        [*command, "--run", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
        env=gpu_device.environment(2),
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "training on 2 GPUs of this machine" in done.stderr
