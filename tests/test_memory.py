"""The memory estimate against a real process, and the line when memory does not suffice."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
import tensorflow as tf

from keras_gan import UsageError, memory, recipe, train

SETTINGS = ["training.batch_size=256", "training.examples=1024", "evaluation.count=64"]


@pytest.mark.slow
def test_the_estimate_is_close_to_the_peak_of_a_training_process(tmp_path):
    resolved = recipe.load("quickstart", SETTINGS)
    gan = train.build(resolved, train.open_data(resolved).spec)
    line = memory.estimate(gan, resolved.training.batch_size)[-1]
    estimated = int(re.search(r"([\d,]+) MiB", line)[1].replace(",", ""))
    program = (
        "import pathlib, re, sys\n"
        "from keras_gan import recipe, train\n"
        f"train.train(recipe.load('quickstart', {SETTINGS!r}), sys.argv[1])\n"
        # Not ru_maxrss, which starts at the peak of the process that started this one.
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1]) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert estimated == pytest.approx(int(done.stdout), rel=0.25)


# ------------------------------------------------------------------------ out of memory

SMALL = [
    "training.examples=128",
    "training.batch_size=48",
    "training.tick_examples=48",
    "training.precision=float32",
    "networks.generator.widths=[8]",
    "networks.discriminator.widths=[8]",
    "evaluation.count=64",
    "samples.count=4",
]


# A term that allocates 2^50 numbers for each sample from a step on, which no machine has.
IMMENSE = """
import keras, tensorflow as tf
import keras_gan

@keras.saving.register_keras_serializable("own")
class Immense(keras_gan.terms.Term):
    '''Allocates more than any machine has.'''
    def __init__(self, weight=1.0, interval=1, first=0):
        super().__init__(weight, interval)
        self.first = first

    def values(self, context):
        batch = tf.shape(context.real, tf.int64)[0]
        size = tf.where(context.step >= self.first, tf.constant(2**50, tf.int64), 1)
        drawn = tf.random.stateless_uniform((batch, size), context.seed, alg="philox")
        return tf.reduce_sum(drawn, axis=1) + 0 * context.logits(context.real)[:, 0]

    def get_config(self):
        return {**super().get_config(), "first": self.first}
"""


def test_out_of_memory_is_one_line_with_the_batch_size_to_try(tmp_path):
    """In the first training, and in a resumed one, which keeps its batch size."""
    (tmp_path / "immense.py").write_text(IMMENSE)
    program = textwrap.dedent(
        """
        import sys
        from keras_gan.__main__ import main

        def run(*arguments):
            try:
                main(["train", "--import", "immense.py", *arguments])
            except SystemExit as ending:
                print(ending.code)

        sets = [part for each in sys.argv[1:] for part in ("--set", each)]
        term = "game.terms=[{name: immense, first: %d}]"
        run("gaussians-8", "--run", "a", *sets, "--set", term % 0)
        run("gaussians-8", "--run", "b", *sets, "--set", term % 3)
        longer = "training.examples=480"
        run("--resume", "b", "--set", longer, "--override", "training.examples")
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *SMALL],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=200,
    )
    prefix = (
        "keras-gan: error: A training step must fit into memory. "
        "Received: training.batch_size=48, out of memory. "
    )
    hint = "--set training.batch_size=24 and a new --run; if that does not fit either, halve it"
    lines = [line for line in done.stderr.splitlines() if "error:" in line]
    assert lines == [
        f"{prefix}Try {hint} again",
        f"{prefix}A run keeps its batch size; start a new one with {hint} again",
    ]
    endings = [line for line in done.stdout.splitlines() if line.isdecimal()]
    assert endings == ["2", "2"]


def test_other_errors_pass_through():
    loaded = recipe.load("gaussians-8", SMALL)
    gan = train.build(loaded, train.open_data(loaded).spec)
    with pytest.raises(tf.errors.InvalidArgumentError), memory.advising(gan, 8, 1, False):
        tf.reshape(tf.zeros(3), [2])
    with pytest.raises(UsageError, match=r"Try --set training\.batch_size=4 "):  # noqa: SIM117
        with memory.advising(gan, 8, 1, False):
            tf.zeros(2**60)
    with pytest.raises(UsageError, match="No smaller batch"):  # noqa: SIM117
        with memory.advising(gan, 2, 2, False):
            raise MemoryError


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_not_taken_for_full_memory(monkeypatch):
    """TensorFlow reports both by the same exception."""
    loaded = recipe.load("gaussians-8", SMALL)
    gan = train.build(loaded, train.open_data(loaded).spec)
    full = shutil.disk_usage(os.sep)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    with pytest.raises(tf.errors.ResourceExhaustedError), memory.advising(gan, 8, 1, False):
        tf.io.write_file("/dev/full", "x")


def test_the_disk_of_the_run_folder_may_be_full(monkeypatch, tmp_path):
    """Though the folders of temporary files and the current one have space, or are gone."""
    loaded = recipe.load("gaussians-8", SMALL)
    gan = train.build(loaded, train.open_data(loaded).spec)
    usage = shutil.disk_usage(os.sep)
    full = {tmp_path: usage._replace(free=0)}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full.get(folder, usage))
    monkeypatch.setattr(os, "getcwd", lambda: (_ for _ in ()).throw(FileNotFoundError()))
    error = tf.errors.ResourceExhaustedError(None, None, "No space left on device")
    with pytest.raises(tf.errors.ResourceExhaustedError):  # noqa: SIM117
        with memory.advising(gan, 8, 1, False, tmp_path):
            raise error
    with pytest.raises(UsageError, match="out of memory"):  # noqa: SIM117
        with memory.advising(gan, 8, 1, False, tmp_path / "other"):
            raise error


@pytest.mark.parametrize(
    ("batch_size", "settings", "available", "size"),
    [
        (64, [], None, 32),  # once, where the memory is unknown
        (63, [], None, 31),
        (64, [], 2**40, 32),
        (1, [], None, None),
        (6, ["game.pac=3", "training.batch_size=6"], None, 3),
        (3, ["game.pac=3", "training.batch_size=6"], None, None),
        (36, ["game.discriminator_steps=4"], None, 16),
        (2**20, [], 1.0, 1),  # nothing fits
    ],
)
def test_the_batch_size_to_try(batch_size, settings, available, size):
    loaded = recipe.load("gaussians-8", [*SMALL, *settings])
    gan = train.build(loaded, train.open_data(loaded).spec)
    assert memory.smaller_batch(gan, batch_size, gan.data_spec.multiple, available) == size


def test_the_batch_size_to_try_fits_by_the_estimate():
    loaded = recipe.load("gaussians-8", SMALL)
    gan = train.build(loaded, train.open_data(loaded).spec)
    available = memory.batch_bytes(gan, 1000)
    size = memory.smaller_batch(gan, 2**16, 1, available)
    assert size == 512
    assert memory.batch_bytes(gan, size) <= available < memory.batch_bytes(gan, 2 * size)
    assert memory.smaller_batch(gan, 2**16, 2, available / 2) == 256
