"""Runs a bundle's model.onnx in OpenVINO, in an environment of its own; prints the difference."""

import sys
from pathlib import Path

import numpy as np
import openvino

bundle = Path(sys.argv[1])
golden = np.load(bundle / "golden.npz")
model = openvino.Core().compile_model(
    bundle / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
)
inputs = {port.any_name: golden[port.any_name] for port in model.inputs}
samples = model(inputs)[model.output("samples")]
print("difference", float(np.abs(samples - golden["samples"]).max()))
