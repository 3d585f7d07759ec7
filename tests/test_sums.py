"""Sums of large graphs do not depend on which part was ready first."""

import os
import subprocess
import sys
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.python.eager import context

# The first of three terms, which cancel but for it, is ready last: 1 if it is added last, else 0.
ORDER = """
import os, sys, time
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
import tensorflow as tf
if sys.argv[1] == "kept":
    import keras_gan

def late(x):
    time.sleep(0.3)
    return x

@tf.function(autograph=False)
def total(*terms):
    first = tf.py_function(late, terms[:1], tf.float32)
    first.set_shape([])
    parts = [tf.exp(tf.zeros([24_000_000]) * x) * x for x in (first, *terms[1:])]
    return tf.add_n(parts)[:4]

print(float(total(*map(tf.constant, (1.0, 1e8, -1e8)))[0]))
"""

# The gradient of a kernel is a sum of those of its uses: of real and of fake images, and of R1.
GAME = """
import hashlib
import keras, numpy as np
import keras_gan
keras.utils.set_random_seed(0)
spec = keras_gan.Spec("image", (28, 28, 1), (-1.0, 1.0))
players = keras_gan.architectures.build(
    "dcgan", spec, False, generator={"width": 48, "extra_convolutions": 1},
    discriminator={"width": 48, "extra_halvings": 1},
)
terms = [{"name": name, "weight": 1.0, "interval": 8} for name in ("r1", "r2")]
gan = keras_gan.GAN(*players, loss="relativistic", terms=terms)
gan.compile(*(keras.optimizers.Adam(1e-3, beta_1=0.0) for _ in range(2)))
x = np.tanh(np.random.default_rng(0).normal(size=(64, 28, 28, 1))).astype("float32")
gan.fit(x, batch_size=64, epochs=2, verbose=0)
weights = [w.tobytes() for w in gan.get_weights()]
print(hashlib.sha256(b"".join(weights)).hexdigest())
"""


def run(program, *arguments):
    command = [sys.executable, "-c", program, *arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True
    ).stdout.split()[-1]


def test_the_options_that_graphs_run_with_keep_the_order():
    options: Any = context.context()
    given = options.function_call_options.config_proto_serialized
    rewriting = tf.compat.v1.ConfigProto.FromString(given).graph_options.rewrite_options
    assert rewriting.memory_optimization == rewriting.NO_MEM_OPT


@pytest.mark.slow
def test_terms_are_added_in_their_order():
    """TensorFlow without the option fails it, or the test would show nothing."""
    assert run(ORDER, "kept") == "0.0"
    assert run(ORDER, "given") == "1.0"


@pytest.mark.slow
def test_processes_train_large_networks_to_the_same_weights():
    assert len({run(GAME) for _ in range(4)}) == 1
