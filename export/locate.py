"""Search for the layer at which a runtime deviates from Keras, after a failed comparison."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from export import formats
from export.golden import load_golden, run_exactly
from export.layer_outputs import LayerNetwork, with_layers
from export.manifest import Manifest
from export.network import Network
from export.second_graphs import Figures
from export.to_onnx import as_function, open_session, to_onnx
from export.variables import preserved_state, randomized_batch_statistics
from export.verify import PROBE, difference, golden_of, tolerance_of

Arrays = Mapping[str, np.ndarray]
Run = Callable[[LayerNetwork, Arrays], Arrays]


def locate(network: Network, folder: Path, draft: Manifest, figures: Figures, opset: int) -> str:
    """Names the first layer whose output deviates, in the first runtime that deviates from Keras.

    Args:
        network: the network.
        folder: its bundle, with golden samples.
        draft: the manifest of the bundle.
        figures: difference to Keras by runtime and batch size.
        opset: ONNX operator set of the bundle.

    Returns:
        A clause for the end of an error; empty where every measured runtime agrees.
    """
    tolerance = tolerance_of(draft)
    for runtime, by_batch in figures.items():
        if all(value <= tolerance for value in by_batch.values()):
            continue
        golden = load_golden(folder, golden_of(runtime))
        inputs = {port.name: golden[port.name] for port in network.inputs}
        statistics = randomized_batch_statistics if runtime.endswith(PROBE) else preserved_state
        with statistics(network.model):
            found = first_difference(network, inputs, tolerance, _runner(runtime, opset))
        return f"; {found}"
    return ""


def _runner(runtime: str, opset: int) -> Run:
    """Returns the function that runs a network in a runtime, by its name in the figures."""
    name = runtime.partition(",")[0]
    if name == "onnx":
        return in_onnx(opset)
    return in_format(formats.get(name)) if name in formats.names() else in_graph


def first_difference(network: Network, inputs: Arrays, tolerance: float, run: Run) -> str:
    """Describes the first layer whose output differs between Keras and a runtime.

    Args:
        network: the network.
        inputs: its inputs by name.
        tolerance: largest difference, in units of the range of an output.
        run: runs a network in the runtime.

    Returns:
        The layer and its difference, as a clause of an error.
    """
    exposed, layers = with_layers(network)
    expected = run_exactly(exposed, inputs)
    again = run_exactly(exposed, inputs)
    for name, layer in layers.items():
        if difference(again[name], expected[name]) > tolerance:
            return (
                f"{layer} returns other values each time that it is called: a layer must not draw "
                "numbers with Python or numpy; take the noise as an input of the model"
            )
    try:
        outputs = run(exposed, inputs)
    except Exception as error:  # a runtime raises anything; the caller reports the difference
        return f"the layers cannot be compared one by one ({type(error).__name__})"
    if not layers.keys() <= outputs.keys():
        return "this runtime returns no outputs of single layers"
    for name, layer in layers.items():
        value = difference(np.asarray(outputs[name]), expected[name])
        if not value <= tolerance:
            return f"the first to differ is {layer}, by {value:.3g} of its range"
    return "every layer alone agrees"


def in_onnx(opset: int) -> Run:
    """Returns the function that runs a network in onnxruntime."""

    def run(network: LayerNetwork, inputs: Arrays) -> Arrays:
        session = open_session(to_onnx(network, opset).SerializeToString())
        names = [port.name for port in session.get_outputs()]
        found = session.run(names, dict(inputs))
        return {name: np.asarray(x) for name, x in zip(names, found, strict=True)}

    return run


def in_graph(network: LayerNetwork, inputs: Arrays) -> Arrays:
    """Runs a network as the graph that a SavedModel holds."""
    values = [tf.constant(inputs[port.name]) for port in network.inputs]
    with tf.device("/CPU:0"):
        outputs: Any = as_function(network)(*values)
        return {name: np.asarray(x) for name, x in outputs.items()}


def in_format(form: ModuleType) -> Run:
    """Returns the function that writes and runs a network in another format."""

    def run(network: LayerNetwork, inputs: Arrays) -> Arrays:
        with tempfile.TemporaryDirectory() as folder:
            form.write(network, Path(folder, form.FILE_NAME))
            return form.run(Path(folder, form.FILE_NAME), [dict(inputs)])[0]

    return run
