"""Several devices and several processes play the game that one device would play."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import replicas
import tensorflow as tf

from keras_gan import UsageError, workers
from keras_gan import run as runs
from keras_gan.__main__ import main


def start(program, *arguments, **environment):
    """A process of its own, as devices and workers are chosen before anything else."""
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )


def output(process, timeout=280):
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err[-3000:]
    return out.splitlines()


# ------------------------------------------------------------------------ two devices

SUM = """
import sys
import keras, numpy as np, tensorflow as tf
import keras_gan, replicas
from keras_gan.losses import Loss

class Sum(Loss):
    '''All losses at once.'''
    parts = [keras_gan.losses.get(name) for name in keras_gan.losses.names() if name != "sum"]

    def discriminator(self, real, fake):
        return sum(part.discriminator(real, fake) for part in self.parts)

    def generator(self, real, fake):
        return sum(part.generator(real, fake) for part in self.parts)

def play(gan, steps, data):
    gan.fit(tf.data.Dataset.from_tensors(data).repeat(), steps_per_epoch=steps, verbose=0)

def one_and_two(strategy, steps, optimizers=lambda: None, **arguments):
    x = replicas.samples()
    with replicas.as_two():
        one = replicas.make(cls=replicas.OnOneDevice, optimizers=optimizers(), **arguments)
        before = replicas.state(one)
        play(one, steps, x)
    with strategy.scope():
        two = replicas.make(optimizers=optimizers(), **arguments)
    play(two, steps, x)
    one, two = replicas.state(one), replicas.state(two)
    replicas.assert_moved(before, one, arguments)
    replicas.assert_equal(one, two, arguments)
"""


def test_two_devices_learn_what_one_learns_from_the_whole_batch():
    """With all losses and all penalties at once, and by an optimizer that clips."""
    program = """
        strategy = replicas.two_devices()
        names = list(keras_gan.penalties.names())
        def clipping():
            return [keras.optimizers.Adam(1e-3, epsilon=1e-3, global_clipnorm=0.1) for _ in "gd"]
        one_and_two(strategy, 3, clipping, loss=Sum(), penalties=names)
        print("equal")
        """
    assert output(start(SUM + textwrap.dedent(program))) == ["equal"]


@pytest.mark.slow
def test_two_devices_learn_as_one_by_every_loss_and_every_penalty():
    program = """
        strategy = replicas.two_devices()
        for loss, penalty in replicas.pairs():
            one_and_two(strategy, 3, loss=loss, penalties=[penalty])
            one_and_two(strategy, 5, loss=loss, penalties=[{"name": penalty, "interval": 2}])
            print(loss, penalty)
        """
    told = output(start(SUM + textwrap.dedent(program), timeout=900), timeout=900)
    assert told == [" ".join(pair) for pair in replicas.pairs()]


def test_what_is_not_finite_on_the_second_device_leaves_the_weights_finite():
    """In float32 the step counts as one of no gradient; in float16 both loss scales are halved."""
    program = """
        strategy = replicas.two_devices()
        good, bad = replicas.samples(), replicas.samples()
        bad[-1, 0] = np.inf  # in the half of the second device; past fit's look at the first batch
        data = tf.data.Dataset.from_tensor_slices(np.stack([good, bad, good]))

        def weights(gan):
            return [w.copy() for p in (gan.generator, gan.discriminator) for w in p.get_weights()]

        for policy in ("float32", "mixed_float16"):
            keras.config.set_dtype_policy(policy)
            with strategy.scope():
                gan = replicas.make("relativistic", ["r1"])
            seen = [weights(gan)]
            class Look(keras.callbacks.Callback):
                def on_train_batch_end(self, batch, logs):
                    seen.append(weights(gan))
            gan.fit(data, verbose=0, callbacks=[Look()])
            moved = [
                any(np.any(a != b) for a, b in zip(*pair)) for pair in zip(seen, seen[1:])
            ]
            finite = all(np.isfinite(w).all() for w in seen[-1])
            scales = [
                float(o.dynamic_scale.value.numpy() / o.initial_scale)
                for o in (gan.generator_optimizer, gan.discriminator_optimizer)
                if hasattr(o, "dynamic_scale")
            ]
            print(policy, moved, finite, scales)
        """
    assert output(start(SUM + textwrap.dedent(program))) == [
        "float32 [True, False, True] True []",
        "mixed_float16 [True, False, True] True [0.5, 0.5]",
    ]


def test_the_parts_of_the_workers_are_the_batch(run):
    from keras_gan import datasets

    points = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
    source = datasets.from_arrays(points, labels=np.arange(50) % 3)

    def stream(**arguments):
        found = source.dataset(batch_size=12, seed=4, repeat=True, start=3, **arguments)
        return [[np.asarray(part) for part in batch] for batch in found.take(6)]

    whole = stream()
    parts = [stream(shard=(i, 3)) for i in range(3)]
    for k, batch in enumerate(whole):
        for i, array in enumerate(batch):
            np.testing.assert_array_equal(np.concatenate([p[k][i] for p in parts]), array)
    with pytest.raises(UsageError, match=r"Received: shard=\(0, 5\), batch_size=12"):
        stream(shard=(0, 5))
    with pytest.raises(UsageError, match=r"Received: shard=\(3, 3\), batch_size=12"):
        stream(shard=(3, 3))


# ------------------------------------------------------------------------ two processes


def ports(count=2):
    """Ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def test_two_processes_learn_what_one_learns_from_the_whole_batch(tmp_path):
    program = """
        import pickle
        from keras_gan import workers
        workers.configure(sys.argv[1], int(sys.argv[2]))
        team = workers.join()
        with team.strategy.scope():
            two = replicas.make("relativistic_average", ["r1", "gradient_penalty"])
        play(two, 3, replicas.samples())
        with open(sys.argv[3], "wb") as file:
            pickle.dump(replicas.state(two), file)
        print(team, team.gather([team.index, 7]).tolist())
        try:
            team.agree({"recipe": 1, "data": team.index})
        except keras_gan.UsageError as error:
            print(error)
        """
    a, b = ports()
    started = [
        start(
            SUM + textwrap.dedent(program),
            f"127.0.0.1:{a},127.0.0.1:{b}",
            index,
            tmp_path / str(index),
        )
        for index in range(2)
    ]
    x = replicas.samples()
    with replicas.as_two():
        penalties = ["r1", "gradient_penalty"]
        one = replicas.make("relativistic_average", penalties, cls=replicas.OnOneDevice)
        one.fit(tf.data.Dataset.from_tensors(x).repeat(), steps_per_epoch=3, verbose=0)
    told = [output(process) for process in started]
    differs = (
        "All workers must train the same game. "
        f"Received: another data on worker 1 (127.0.0.1:{b}) than on worker 0"
    )
    assert told == [[f"worker {i} of 2 [[0, 7], [1, 7]]", differs] for i in range(2)]
    states = [np.load(tmp_path / str(i), allow_pickle=True) for i in range(2)]
    for first, second in zip(states[0].values(), states[1].values(), strict=True):
        np.testing.assert_array_equal(first, second)
    replicas.assert_equal(replicas.state(one), states[0], "processes")
