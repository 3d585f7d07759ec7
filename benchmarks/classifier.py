"""Training of the classifier whose features `keras-gan evaluate --features fashion_mnist` uses.

    python benchmarks/classifier.py --to keras_gan/metrics/networks/fashion_mnist.onnx

Trains on the 60,000 training images of Fashion-MNIST, and prints the accuracy on the 10,000 test
images, in Keras and of the ONNX file in onnxruntime, and the file's SHA-256. The file in the
package was made by this command. Another machine's arithmetic may give a different file, and
distances measured with different files cannot be compared.

The network has six 3x3 convolutions with batch normalization and ReLU, 32 to 128 channels, from 28
to 7 pixels. Global average pooling gives the 128 features, and one dense layer the logits of the
ten classes. Training images are shifted by up to 2 pixels and flipped at random.
"""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import time
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from keras import layers

from keras_gan import datasets, precision


def build() -> keras.Model:
    """Builds the network: `(batch, 28, 28, 1)` in [-1, 1] to 128 `features` and 10 `logits`."""
    keras.utils.set_random_seed(0)
    images = keras.Input((28, 28, 1), name="images")
    x = images
    for i, (width, strides) in enumerate([(32, 1), (32, 2), (64, 1), (64, 2), (128, 1), (128, 1)]):
        x = layers.Conv2D(width, 3, strides, "same", use_bias=False, name=f"convolution_{i}")(x)
        x = layers.BatchNormalization(momentum=0.95, name=f"norm_{i}")(x)
        x = layers.ReLU(name=f"activation_{i}")(x)
    features = layers.GlobalAveragePooling2D(name="features")(x)
    logits = layers.Dense(10, name="logits")(layers.Dropout(0.3, name="dropout")(features))
    return keras.Model(images, {"features": features, "logits": logits}, name="fashion_mnist")


def batches(source: datasets.Source, size: int) -> tf.data.Dataset:
    """Returns training batches, flipped at random and shifted by up to 2 pixels."""

    def augment(images, labels):
        seeds = tf.random.uniform((2,), maxval=2**30, dtype=tf.int32)
        flipped = tf.random.uniform((size, 1, 1, 1)) < 0.5
        images = tf.where(flipped, images[:, :, ::-1], images)
        padded = tf.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], constant_values=-1.0)
        corner = tf.math.floormod(seeds, 5)
        return padded[:, corner[0] : corner[0] + 28, corner[1] : corner[1] + 28], labels

    data = source.dataset("train", batch_size=size, seed=0, repeat=True)
    return data.map(augment).map(lambda x, y: (tf.ensure_shape(x, (size, 28, 28, 1)), y))


def train(model: Any, source: datasets.Source, epochs: int, size: int = 100) -> None:
    steps = source.count("train") // size
    rate: Any = keras.optimizers.schedules.CosineDecay(
        0.0, epochs * steps, warmup_target=3e-3, warmup_steps=steps
    )
    network: Any = keras.Model(model.inputs, model.output["logits"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.AdamW(rate, weight_decay=1e-2), loss, metrics=["accuracy"])
    with precision.graphs(precision.choose("auto")[0]):
        network.fit(batches(source, size), epochs=epochs, steps_per_epoch=steps, verbose=2)


def to_onnx(model: Any, path: pathlib.Path) -> None:
    signature = [tf.TensorSpec((None, 28, 28, 1), tf.float32, name="images")]
    function = tf.function(lambda images: model(images, training=False), signature)
    converted, _ = tf2onnx.convert.from_function(function, signature, opset=17)
    converted.producer_version = ""
    path.write_bytes(converted.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--to", type=pathlib.Path, required=True, help="the ONNX file")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    source = datasets.open("fashion-mnist")
    began = time.monotonic()
    trained: Any = build()
    train(trained, source, options.epochs)
    to_onnx(trained, options.to)
    images, labels = source.arrays("held_out")
    images = (images / 127.5 - 1).astype("float32")
    own: Any = trained.predict(images, batch_size=500, verbose=0)
    session: Any = onnxruntime.InferenceSession(options.to)
    parts = np.array_split(images, 20)
    logits = np.concatenate([session.run(["logits"], {"images": part})[0] for part in parts])
    print(f"trained {time.monotonic() - began:.0f} s, {trained.count_params():,} parameters")
    print(f"Keras: accuracy {np.mean(own['logits'].argmax(1) == labels):.2%} on the test images")
    accuracy, error = np.mean(logits.argmax(1) == labels), np.abs(logits - own["logits"]).max()
    print(f"onnxruntime: accuracy {accuracy:.2%}, largest difference {error:.1e}")
    print(f"sha256 {hashlib.sha256(options.to.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
