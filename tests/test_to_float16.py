"""float16: casts, operations that stay in float32, and overflow."""

import sys

import numpy as np
import onnx
import pytest
from test_quantize import feeds, graph, normal, operators, pictures, run

from export.tensor_ranges import tensor_ranges
from export.to_float16 import KEPT, to_float16
from keras_gan import UsageError

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def types(model):
    """The element type of every tensor."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def made(model):
    return to_float16(model, tensor_ranges(model, feeds()))


def test_inputs_and_outputs_stay_and_the_weights_are_halved():
    model = pictures()
    before, path = model.SerializeToString(deterministic=True), list(sys.path)
    half = made(model)
    onnx.checker.check_model(half, full_check=True)
    assert sys.path == path
    assert model.SerializeToString(deterministic=True) == before
    assert {p.type.tensor_type.elem_type for p in (*half.graph.input, *half.graph.output)} == {
        FLOAT
    }
    floats = {w.data_type for w in half.graph.initializer} - {onnx.TensorProto.INT64}
    assert floats == {HALF}
    assert half.ByteSize() < 0.55 * model.ByteSize()
    assert operators(half).count("Cast") == 2
    difference = np.abs(run(half, feeds()[0]) - run(model, feeds()[0])).max()
    assert 1e-6 < difference < 5e-3
    assert half.SerializeToString() == made(model).SerializeToString()


def test_sums_and_roots_stay_in_float32_with_what_is_between_them():
    """A layer normalization as converters write it: mean, variance, epsilon, root."""
    model = graph(
        [
            ("Gemm", ["latents", "dense"], "x", {}),
            ("ReduceMean", ["x"], "mean", {"axes": [1]}),
            ("Sub", ["x", "mean"], "centered", {}),
            ("Mul", ["centered", "centered"], "squares", {}),
            ("ReduceMean", ["squares"], "variance", {"axes": [1]}),
            ("Add", ["variance", "epsilon"], "above", {}),
            ("Sqrt", ["above"], "deviation", {}),
            ("Div", ["centered", "deviation"], "samples", {}),
        ],
        {"dense": normal(8, 16), "epsilon": np.array([1e-8], np.float32)},
        8,
        (16,),
    )
    half = made(model)
    found = types(half)
    by_type = {node.op_type: found[node.output[0]] for node in half.graph.node}
    assert {op: by_type[op] for op in ("ReduceMean", "Add", "Sqrt")} == dict.fromkeys(
        ("ReduceMean", "Add", "Sqrt"), FLOAT
    )
    assert {op: by_type[op] for op in ("Gemm", "Sub", "Mul", "Div")} == dict.fromkeys(
        ("Gemm", "Sub", "Mul", "Div"), HALF
    )
    np.testing.assert_allclose(run(half, feeds()[0]), run(model, feeds()[0]), atol=1e-2)


def test_a_choice_compares_the_inputs_before_they_are_rounded():
    """Both values are 1 in float16, which would choose the first one."""
    model = graph(
        [
            ("Slice", ["latents", "from", "to", "axis"], "part", {}),
            ("ArgMax", ["part"], "choice", {"axis": 1}),
            ("Cast", ["choice"], "category", {"to": FLOAT}),
            ("Mul", ["latents", "weights"], "rest", {}),
            ("Add", ["category", "rest"], "samples", {}),
        ],
        {
            "from": np.array([1]),
            "to": np.array([4]),
            "axis": np.array([1]),
            "weights": normal(8),
        },
        8,
        (8,),
    )
    half = made(model)
    onnx.checker.check_model(half, full_check=True)
    (product,) = (node for node in half.graph.node if node.op_type == "Mul")
    assert types(half)[product.output[0]] == HALF
    latents = np.zeros((2, 8), np.float32)
    latents[:, 1:4] = [[1.0, 1.0001, 0.0], [0.0, 1.0, 1.0001]]
    assert np.float16(1.0001) == 1
    found = run(half, {"latents": latents})
    np.testing.assert_allclose(found, run(model, {"latents": latents}), atol=1e-2)
    np.testing.assert_allclose(found[:, 0], [1, 2], atol=1e-2)


def test_every_reason_names_operations_of_onnx():
    schemas = {schema.name for schema in onnx.defs.get_all_schemas()}
    for ops in KEPT.values():
        assert set(ops) <= schemas


def test_values_beyond_float16_are_refused_by_name():
    large = graph(
        [
            ("Gemm", ["latents", "up"], "large", {}),
            ("Gemm", ["large", "down"], "samples", {}),
        ],
        {"up": normal(8, 8, scale=3e4), "down": normal(8, 8, scale=1e-5)},
        8,
        (8,),
    )
    with pytest.raises(UsageError, match=r"up to 65504.*the output of large, which reaches \d"):
        made(large)
    weight = graph(
        [("Mul", ["latents", "small"], "less", {}), ("Mul", ["less", "big"], "samples", {})],
        {"small": np.array([1e-3], np.float32), "big": np.array([1e6], np.float32)},
        8,
        (8,),
    )
    with pytest.raises(UsageError, match=r"a weight of samples, which reaches 1e\+06"):
        made(weight)


def test_large_sums_in_float32_do_not_count_as_overflow():
    model = graph(
        [
            ("Mul", ["latents", "scale"], "wide", {}),
            ("Exp", ["wide"], "powers", {}),
            ("Log", ["powers"], "samples", {}),
        ],
        {"scale": np.array([4.0], np.float32)},
        8,
        (8,),
    )
    ranges = tensor_ranges(model, feeds())
    assert ranges["powers"][1] > 65504
    np.testing.assert_allclose(
        run(to_float16(model, ranges), feeds()[0]), run(model, feeds()[0]), atol=2e-2
    )
