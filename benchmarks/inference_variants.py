"""Variants of `inference.py`: the networks in every format, and the functions that compute them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

from children import matmul_peak

BASE = "keras-onnx"  # the reference of all ratios
COLOR = ("image", (32, 32, 3), (-1.0, 1.0))
GRAY = ("image", (28, 28, 1), (-1.0, 1.0))
# Architecture, kind of samples, options, and number of classes.
ARCHITECTURES: dict[str, tuple[str, tuple, dict[str, Any], int]] = {
    "quickstart": ("dcgan", GRAY, {}, 0),
    "dcgan-classes": ("dcgan", GRAY, {"conditioning": "batch_norm"}, 10),
    "dcgan-layer": ("dcgan", GRAY, {"norm": "layer", "extra_convolutions": 1}, 0),
    "resnet": ("resnet", COLOR, {"width": 128}, 0),
    "resnet-classes": ("resnet", COLOR, {"width": 128, "attention": 16}, 10),
    "r3gan": ("r3gan", COLOR, {"preset": "cpu"}, 0),
    "r3gan-classes": ("r3gan", COLOR, {"preset": "cpu"}, 10),
    "mlp": ("mlp", ("points", (2,), None), {}, 0),
}
NETS = ("dcgan", *ARCHITECTURES)


# --------------------------------------------------------------------- the models


def build(net: str) -> Any:
    """Builds a Keras generator whose batch statistics match its activations."""
    import keras
    import numpy as np
    from train_step_variants import build_networks

    import keras_gan

    if net == "dcgan":
        model = build_networks("dcgan")[0]
        # Keras exports only a model that has been called.
        model(np.zeros((1, *model.inputs[0].shape[1:]), "float32"))
        return model
    keras.utils.set_random_seed(0)
    family, what, options, classes = ARCHITECTURES[net]
    spec = keras_gan.Spec(*what, num_classes=classes)
    make = keras_gan.architectures.build_network
    model = make("generator", family, spec, conditional=classes > 0, **options)
    inputs = model.inputs
    latents = np.random.default_rng(0).normal(size=(64, inputs[0].shape[-1])).astype("float32")
    labels = np.arange(64) % max(classes, 1)
    for _ in range(20):  # otherwise activations vanish or explode, and denormals are slow
        model([latents, labels] if classes else latents, training=True)
    return model


def write_models(net: str, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Writes a network in every format; returns the file or folder of each variant."""
    import keras
    import onnx

    from export.network import open_network
    from export.passes import PASSES, optimize
    from export.to_onnx import to_onnx
    from export.to_saved_model import to_saved_model

    keras.backend.clear_session()
    model = build(net)
    files = {"keras-predict": folder / "generator.keras", BASE: folder / "keras.onnx"}
    files["keras-function"] = files["keras-predict"]
    model.save(files["keras-predict"])
    model.export(files[BASE], format="onnx", verbose=False)
    network = open_network(model, num_classes=getattr(model, "num_classes", 0))
    files["saved-model"] = folder / "saved_model"
    to_saved_model(network, files["saved-model"], name="generator")
    plain = to_onnx(network, without=PASSES)

    def save(variant: str, without: Any) -> dict[str, int]:
        copy = onnx.ModelProto()
        copy.CopyFrom(plain)
        counts = optimize(copy, without)
        files[variant] = folder / f"{variant}.onnx"
        onnx.save(copy, files[variant])
        return counts

    counts = save("ours", ())
    save("ours-without-all", PASSES)
    for name, count in counts.items():
        if count:
            save(f"ours-without-{name}", (name,))
    return files


def sample_flops(path: pathlib.Path) -> float:
    """Returns the floating-point operations of one sample, two for each product of a layer."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    weights = {i.name: numpy_helper.to_array(i).shape for i in model.graph.initializer}
    total = 0.0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            continue
        given, kernel = shapes.get(node.input[0]), weights.get(node.input[1])
        output = shapes.get(node.output[0])
        if node.op_type == "Conv" and kernel and output:
            total += 2.0 * np.prod(kernel[1:]) * np.prod(output)
        elif node.op_type == "ConvTranspose" and kernel and given:
            total += 2.0 * np.prod(kernel[1:]) * np.prod(given)
        elif output:  # MatMul sums over the last axis of its first input
            first = given or weights.get(node.input[0], (1,))
            total += 2.0 * first[-1] * np.prod(output)
    return float(total)


# --------------------------------------------------------------------- the variants


def keras_variant(variant: str, path: str, threads: int) -> Callable[[int], Any]:
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_gan  # noqa: F401 - registers the layers of the file

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if variant == "saved-model":
        loaded: Any = tf.saved_model.load(path)
        signature = loaded.signatures["serving_default"]
        _, specs = signature.structured_input_signature

        def call(batch: int) -> None:
            feeds = {
                name: tf.constant(drawn(spec.dtype.name, batch, tuple(spec.shape[1:])))
                for name, spec in specs.items()
            }
            signature(**feeds)["samples"].numpy()

        return call
    model: Any = keras.saving.load_model(path, compile=False)

    def feeds(batch: int) -> Any:
        made = [drawn(each.dtype, batch, tuple(each.shape[1:])) for each in model.inputs]
        return made if len(made) > 1 else made[0]

    if variant == "keras-predict":
        return lambda batch: np.asarray(model.predict(feeds(batch), batch_size=batch, verbose=0))
    function = tf.function(lambda inputs: model(inputs, training=False))

    def run(batch: int) -> None:
        function(tf.nest.map_structure(tf.constant, feeds(batch))).numpy()

    return run


def onnx_variant(path: str, threads: int) -> Callable[[int], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.x64quantprecision", "1")  # as in serving
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ports = session.get_inputs()

    def run(batch: int) -> Any:
        feeds = {port.name: drawn(port.type, batch, tuple(port.shape[1:])) for port in ports}
        return session.run(None, feeds)

    return run


def peak_variant(threads: int) -> Callable[[int], None]:
    """Returns a function that multiplies matrices and keeps the best GFLOP/s."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    measure = matmul_peak()["float32"]

    def run(_: int) -> None:
        vars(run)["gflops"] = max(vars(run).get("gflops", 0.0), measure())

    return run


def drawn(dtype: str, batch: int, shape: tuple) -> Any:
    """Returns latents, or class ids for integer inputs; the same in every call."""
    import numpy as np

    if "int" in dtype:
        return np.zeros((batch, *shape), "int32" if "int32" in dtype else "int64")
    return np.random.default_rng(0).normal(size=(batch, *shape)).astype("float32")


def make(variant: str, path: str, threads: int) -> Callable[[int], Any]:
    if variant == "peak":
        return peak_variant(threads)
    if path.endswith(".onnx"):
        return onnx_variant(path, threads)
    return keras_variant(variant, path, threads)
