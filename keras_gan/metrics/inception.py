"""Network of the Frechet Inception distance: Google's Inception of 2015-12-05, in TensorFlow.

Its weights are read, without PyTorch, from the file that PyTorch tools use. The network differs
from torchvision's: average pools exclude the padding, and the last block uses maximum pooling.
"""

from __future__ import annotations

import collections
import hashlib
import io
import os
import pathlib
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan.errors import UsageError

FILE = "pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
RESIZE = "bilinear of TensorFlow 1, without antialiasing, to 299x299"
DIM = 2048
CLASSES = 1008
_WHERE = (
    f"It is {FILE} of https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights (the same "
    "file as torch-fidelity's weights-inception-2015-12-05-6726825d.pth)"
)

Weights = dict[str, np.ndarray]


def load(path: str) -> tuple[Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], str]:
    """Returns the network in a file, and the file's SHA-256.

    Raises:
        UsageError: no such file, or not the file of the standard network.
    """
    file = pathlib.Path(os.path.expanduser(path))
    if not path or not file.is_file():
        received = f"{path!r}, which is not a file" if path else "no path"
        raise UsageError(
            "The extractor inception needs the standard FID network in a local file, named as "
            f"inception:PATH or by KERAS_GAN_INCEPTION. {_WHERE}. Received: {received}"
        )
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise UsageError(
            f"The extractor inception must be the standard FID network, of sha256 {SHA256[:8]}... "
            f"{_WHERE}. Received: {path!r}, of sha256 {digest[:8]}..."
        )
    return network(read(content)), digest


# ------------------------------------------------------------------------ network


def network(weights: Weights) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns the function from images to features and probabilities.

    The logits omit their bias, as in the definition of the Inception score.

    Args:
        weights: the state dictionary, arrays by name.

    Returns:
        A function of images `(count, height, width, 3)` with values 0 to 255.
    """
    convolutions = _fold(weights)
    classify = tf.constant(weights["fc.weight"].T)

    @tf.function(reduce_retracing=True)
    def run(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # This operation aligns the corners as TensorFlow 1 did.
        x = tf.raw_ops.ResizeBilinear(images=images, size=(299, 299))
        features = _features((x - 128.0) / 128.0, convolutions)
        return features, tf.nn.softmax(features @ classify)

    def call(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Small batches: the first layers take 22 MB per image.
        parts = [run(tf.constant(images[i : i + 32])) for i in range(0, len(images), 32)]
        return (
            np.concatenate([np.asarray(part[0]) for part in parts]),
            np.concatenate([np.asarray(part[1]) for part in parts]),
        )

    return call


def _fold(weights: Weights) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
    """Returns kernel (height, width, in, out) and bias of each convolution, normalized."""
    folded = {}
    for key in weights:
        if not key.endswith(".conv.weight"):
            continue
        name = key.removesuffix(".conv.weight")
        norm = {k: weights[f"{name}.bn.{k}"].astype(np.float64) for k in _NORM}
        scale = norm["weight"] / np.sqrt(norm["running_var"] + 1e-3)
        kernel = weights[key].transpose(2, 3, 1, 0) * scale
        bias = norm["bias"] - norm["running_mean"] * scale
        folded[name] = tf.constant(kernel, tf.float32), tf.constant(bias, tf.float32)
    return folded


_NORM = ("weight", "bias", "running_mean", "running_var")


class _Block:
    """Convolutions of one block, whose names share a prefix."""

    def __init__(self, convolutions: dict[str, tuple[tf.Tensor, tf.Tensor]], prefix: str):
        self._convolutions = convolutions
        self._prefix = prefix

    def __call__(self, x: Any, *names: str, stride: int = 1, padding: Any = "SAME") -> Any:
        """Applies convolutions in sequence; stride and padding are those of the last one."""
        for name in names:
            kernel, bias = self._convolutions[f"{self._prefix}{name}"]
            last = name == names[-1]
            x = tf.nn.conv2d(x, kernel, stride if last else 1, padding if last else "SAME")
            x = tf.nn.relu(x + bias)
        return x


def _features(x: Any, convolutions: dict[str, tuple[tf.Tensor, tf.Tensor]]) -> Any:
    stem = _Block(convolutions, "Conv2d_")
    x = stem(x, "1a_3x3", stride=2, padding="VALID")
    x = stem(x, "2a_3x3", padding="VALID")
    x = _shrink(stem(x, "2b_3x3"))
    x = stem(x, "3b_1x1")
    x = _shrink(stem(x, "4a_3x3", padding="VALID"))
    for name in ("5b", "5c", "5d"):
        x = _block_a(x, _Block(convolutions, f"Mixed_{name}."))
    x = _block_b(x, _Block(convolutions, "Mixed_6a."))
    for name in ("6b", "6c", "6d", "6e"):
        x = _block_c(x, _Block(convolutions, f"Mixed_{name}."))
    x = _block_d(x, _Block(convolutions, "Mixed_7a."))
    x = _block_e(x, _Block(convolutions, "Mixed_7b."), _mean_pool)
    x = _block_e(x, _Block(convolutions, "Mixed_7c."), _max_pool)
    return tf.reduce_mean(x, [1, 2])


def _shrink(x: Any) -> Any:
    return tf.nn.max_pool2d(x, 3, 2, "VALID")


def _mean_pool(x: Any) -> Any:
    return tf.nn.avg_pool2d(x, 3, 1, "SAME")  # TensorFlow excludes the padding


def _max_pool(x: Any) -> Any:
    return tf.nn.max_pool2d(x, 3, 1, "SAME")


def _block_a(x: Any, block: _Block) -> Any:
    return tf.concat(
        [
            block(x, "branch1x1"),
            block(x, "branch5x5_1", "branch5x5_2"),
            block(x, "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            block(_mean_pool(x), "branch_pool"),
        ],
        -1,
    )


def _block_b(x: Any, block: _Block) -> Any:
    names = [f"branch3x3dbl_{i}" for i in (1, 2, 3)]
    down: dict[str, Any] = {"stride": 2, "padding": "VALID"}
    return tf.concat([block(x, "branch3x3", **down), block(x, *names, **down), _shrink(x)], -1)


def _block_c(x: Any, block: _Block) -> Any:
    return tf.concat(
        [
            block(x, "branch1x1"),
            block(x, *(f"branch7x7_{i}" for i in (1, 2, 3))),
            block(x, *(f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5))),
            block(_mean_pool(x), "branch_pool"),
        ],
        -1,
    )


def _block_d(x: Any, block: _Block) -> Any:
    names = [f"branch7x7x3_{i}" for i in (1, 2, 3, 4)]
    down: dict[str, Any] = {"stride": 2, "padding": "VALID"}
    narrow = block(x, "branch3x3_1", "branch3x3_2", **down)
    return tf.concat([narrow, block(x, *names, **down), _shrink(x)], -1)


def _block_e(x: Any, block: _Block, pool: Callable[[Any], Any]) -> Any:
    narrow = block(x, "branch3x3_1")
    wide = block(x, "branch3x3dbl_1", "branch3x3dbl_2")
    return tf.concat(
        [
            block(x, "branch1x1"),
            block(narrow, "branch3x3_2a"),
            block(narrow, "branch3x3_2b"),
            block(wide, "branch3x3dbl_3a"),
            block(wide, "branch3x3dbl_3b"),
            block(pool(x), "branch_pool"),
        ],
        -1,
    )


# ------------------------------------------------------------------------ file


def read(content: bytes) -> Weights:
    """Returns the arrays of a state dictionary that PyTorch saved, in either of its formats.

    The unpickler creates only arrays, whatever the pickle requests.
    """
    dtypes: dict[str, np.dtype] = {}
    if zipfile.is_zipfile(io.BytesIO(content)):
        return _read_zip(content, dtypes)
    stream = io.BytesIO(content)
    storages: dict[str, np.ndarray] = {}
    # Three pickles that describe the format come first.
    views = [_Unpickler(stream, dtypes).load() for _ in range(4)][3]
    for key in _Unpickler(stream, dtypes).load():
        size = int.from_bytes(stream.read(8), "little")
        storages[key] = np.frombuffer(stream.read(size * dtypes[key].itemsize), dtypes[key])
    return {name: view.of(storages) for name, view in views.items()}


def _read_zip(content: bytes, dtypes: dict[str, np.dtype]) -> Weights:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        views = _Unpickler(io.BytesIO(archive.read(index)), dtypes).load()
        folder = index.removesuffix("data.pkl")
        storages = {
            key: np.frombuffer(archive.read(f"{folder}data/{key}"), dtype)
            for key, dtype in dtypes.items()
        }
    return {name: view.of(storages) for name, view in views.items()}


class _View:
    """Pickled tensor: a view of a storage that follows later in the file."""

    def __init__(self, key: str, offset: int, shape: tuple[int, ...], *rest: Any):
        self.key, self.offset, self.shape = key, offset, shape

    def of(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        count = int(np.prod(self.shape, dtype=np.int64))
        return storages[self.key][self.offset : self.offset + count].reshape(self.shape)


class _Unpickler(pickle.Unpickler):
    """Unpickler that creates views and records the dtype of each storage."""

    def __init__(self, stream: io.BytesIO, dtypes: dict[str, np.dtype]):
        super().__init__(stream)
        self._dtypes = dtypes

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _View,
            ("torch._utils", "_rebuild_parameter"): lambda view, *rest: view,
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> str:
        _, dtype, key, *_ = pid
        self._dtypes[key] = dtype
        return key
