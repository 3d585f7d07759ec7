"""TensorFlow children of `gpu.py`: the keras.io example, our games, the peak, the exports."""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Callable
from typing import Any

import gpu_cells
import gpu_flops
from children import matmul_peak, windows
from gpu_cells import KERAS_IO, SHAPES, Cell


def use_device(device: str, precision: str) -> None:
    """Lets the GPU's memory grow and sets TF32.

    Raises:
        RuntimeError: TensorFlow finds no GPU.
    """
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")
    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise RuntimeError("TensorFlow finds no GPU (pip install 'tensorflow[and-cuda]')")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)


# ------------------------------------------------------------------------ training steps


def build_game(cell: Cell) -> Any:
    """Builds and compiles the game of a measurement, or the model of the keras.io example."""
    import keras
    from train_step_variants import build_keras, build_ours

    if cell.program == "keras.io":
        return build_keras("dcgan")
    policy = "mixed_bfloat16" if cell.precision == "bfloat16" else "float32"
    if cell.network == KERAS_IO:
        keras.config.set_dtype_policy(policy)
        return build_ours("dcgan", cell.compiled, steps_per_execution=1)

    from keras_gan import Spec, building, recipe

    settings = [
        f"training.precision={policy}",
        f"training.batch_size={cell.batch}",
        f"training.jit_compile={'true' if cell.compiled else 'false'}",
    ]
    if cell.extra != "augment":
        settings.append("game.augment=null")
    classes = gpu_cells.game_of(cell.network).classes
    spec = Spec("image", SHAPES[cell.network], (-1.0, 1.0), num_classes=classes)
    return building.build(recipe.load(cell.network, settings), spec)


class OneBatch:
    """An iterator that returns the same batch of random images, which stays on the device."""

    def __init__(self, cell: Cell):
        import tensorflow as tf

        shape = (cell.batch, *SHAPES[cell.network])
        self.batch: Any = tf.identity(tf.random.uniform(shape, -1, 1, seed=0))
        classes = gpu_cells.game_of(cell.network).classes
        if classes:
            labels = tf.random.uniform((cell.batch,), maxval=classes, dtype="int32", seed=0)
            self.batch = self.batch, tf.identity(labels)

    def __iter__(self) -> OneBatch:
        return self

    def __next__(self) -> Any:
        return self.batch


def pipeline(cell: Cell) -> Any:
    """Returns an iterator over the images of Fashion-MNIST that the package includes."""
    from keras_gan import datasets

    source = datasets.open("fashion-mnist-10k")
    return iter(source.dataset("train", batch_size=cell.batch, seed=0, repeat=True))


def step_child(cell: Cell, device: str) -> Callable[[str], dict[str, Any]]:
    """Builds a game, runs its first steps, and returns the function that times more of them."""
    use_device(device, cell.precision)
    model = build_game(cell)
    game = gpu_cells.game_of(cell.network)
    batches = pipeline(cell) if cell.extra == "input" else OneBatch(cell)
    model.make_train_function()

    def run(steps: int) -> None:
        for _ in range(steps):
            logs = model.train_function(batches)
        [float(value) for value in logs.values()]  # waits for the last step

    run(1)  # traces and compiles
    began = time.perf_counter()
    run(1)
    known = {"step": time.perf_counter() - began}
    networks = [model.generator, model.discriminator]
    counts = [gpu_flops.forward(network) for network in networks]
    parameters = [parameters_of(network) for network in networks]
    flops = gpu_flops.of_step(counts[0], counts[1], game)
    return lambda line: {
        **windows(run, game.interval, line, known),
        "parameters": parameters,
        "flops": flops,
        "jit_compile": bool(model.jit_compile),
        "software": versions(),
    }


def parameters_of(network: Any) -> int:
    """Returns the number of trained values."""
    return sum(math.prod(variable.shape) for variable in network.trainable_variables)


def versions() -> dict[str, str]:
    import keras
    import tensorflow as tf

    build = tf.sysconfig.get_build_info()
    found = {"tensorflow": tf.__version__, "keras": keras.__version__}
    names = {"cuda": "cuda_version", "cudnn": "cudnn_version"}
    return found | {name: str(build[key]) for name, key in names.items() if key in build}


# ------------------------------------------------------------------------ the peak


def peak_child(device: str, precisions: list[str]) -> Callable[[str], dict[str, Any]]:
    """Returns a function that measures the best TFLOP/s of matrix products by precision."""
    import tensorflow as tf

    use_device(device, "tf32")
    dtypes = sorted({"bfloat16" if p == "bfloat16" else "float32" for p in precisions})
    measured = matmul_peak(16_384 if device == "gpu" else 4_096, dtypes)

    def measure(line: str) -> dict[str, Any]:
        best = {}
        for precision in precisions:
            tf.config.experimental.enable_tensor_float_32_execution(precision != "float32")
            once = measured["bfloat16" if precision == "bfloat16" else "float32"]
            once()
            best[precision] = max(once() for _ in range(3)) / 1e3
        return {"peak": best, "software": versions()}

    return measure


# ------------------------------------------------------------------------ the generators


def export_child(folder: pathlib.Path, network: str) -> Callable[[str], dict[str, Any]]:
    """Exports a recipe's generator, with new weights, to ONNX."""
    import numpy as np

    from export.network import open_network
    from export.to_onnx import save_onnx, to_onnx

    gan = build_game(Cell("ours", network, "float32", batch=320))
    model = gan.generator
    latents = np.random.default_rng(0).normal(size=(16, model.inputs[0].shape[-1]))
    if model.non_trainable_variables:
        for _ in range(5):  # batch statistics that match the activations
            model(latents.astype("float32"), training=True)
    exported = to_onnx(open_network(model, num_classes=gan.num_classes))
    save_onnx(exported, folder / f"{network}.onnx")
    return lambda line: {"network": network}


def make(cell: Cell, options: Any) -> Callable[[str], dict[str, Any]]:
    """Returns the answering function of a child process."""
    if cell.program == "peak":
        return peak_child(options.device, options.formats.split(","))
    if cell.program == "export":
        return export_child(pathlib.Path(options.folder), cell.network)
    return step_child(cell, options.device)
