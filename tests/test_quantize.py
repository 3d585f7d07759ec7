"""int8: values computed by hand, forms with kernels, the search, and errors."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from export import quantize
from export.quantize import as_quantizable, choose, find_layers, quantized, saturated, to_int8
from export.tensor_ranges import tensor_ranges
from export.to_onnx import open_session
from keras_gan import UsageError


def graph(nodes, weights, latents, samples, opset=17):
    """A model from latents to samples; each node is (op, inputs, output, attributes)."""
    made = [
        helper.make_node(op, inputs, [output], name=output, **attributes)
        for op, inputs, output, attributes in nodes
    ]
    value = helper.make_tensor_value_info
    return helper.make_model(
        helper.make_graph(
            made,
            "generator",
            [value("latents", onnx.TensorProto.FLOAT, ["batch", latents])],
            [value("samples", onnx.TensorProto.FLOAT, ["batch", *samples])],
            [numpy_helper.from_array(np.asarray(w), name) for name, w in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )


def normal(*shape, seed=0, scale=0.3):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype("float32")


def pictures(channels=16, last="Tanh"):
    """A small transposed-convolution generator as the passes leave one, before `phases`."""
    pads = {"pads": [1, 1, 1, 1]}
    return graph(
        [
            ("Gemm", ["latents", "dense", "shift"], "hidden", {}),
            ("Relu", ["hidden"], "positive", {}),
            ("Reshape", ["positive", "small"], "image", {}),
            ("ConvTranspose", ["image", "twice", "bias"], "large", {"strides": [2, 2], **pads}),
            ("LeakyRelu", ["large"], "leaky", {"alpha": 0.2}),
            ("ConvTranspose", ["leaky", "once"], "values", pads),
            (last, ["values"], "squashed", {}),
            ("Transpose", ["squashed"], "samples", {"perm": [0, 2, 3, 1]}),
        ],
        {
            "dense": normal(8, channels * 16),
            "shift": normal(channels * 16, seed=1),
            "small": np.array([-1, channels, 4, 4]),
            "twice": normal(channels, channels, 4, 4, seed=2),
            "bias": normal(channels, seed=3),
            "once": normal(channels, 1, 3, 3, seed=4),
        },
        8,
        (8, 8, 1),
    )


def feeds(latents=8, count=4):
    return [{"latents": normal(16, latents, seed=s, scale=1)} for s in range(count)]


def run(model, batch):
    return np.asarray(open_session(model.SerializeToString()).run(["samples"], batch)[0])


def error_of(model):
    """Stands in for the Frechet distance: the change of samples relative to their spread."""
    batch = feeds(model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)[0]
    expected = run(model, batch)

    def error(made):
        return float(np.sqrt(np.mean((run(made, batch) - expected) ** 2)) / expected.std())

    return error


def operators(model):
    return [node.op_type for node in model.graph.node]


def as_run(model, folder):
    """The operators of a model after onnxruntime's optimization."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return operators(onnx.load(folder / "optimized.onnx"))


def test_a_convolution_in_eight_bits_by_hand():
    """1 x 1, two channels to two: x of scale 2/255 around 128, weights of scale max/127."""
    weights = np.array([[1.0, -0.45], [0.25, 0.1]], np.float32)
    bias = np.array([0.5, -0.25], np.float32)
    model = graph(
        [
            ("Reshape", ["latents", "pixel"], "image", {}),
            ("Conv", ["image", "kernel", "bias"], "values", {}),
            ("Reshape", ["values", "flat"], "samples", {}),
        ],
        {
            "pixel": np.array([-1, 2, 1, 1]),
            "kernel": weights[:, :, None, None],
            "bias": bias,
            "flat": np.array([-1, 2]),
        },
        2,
        (2,),
    )
    ranges = {"latents": (-1.0, 1.0), "image": (-1.0, 1.0), "values": (-2.0, 2.0)}
    ranges["samples"] = ranges["values"]
    layers, others = find_layers(model)
    assert not others
    assert [layer.nodes for layer in layers] == [("values",)]
    x = np.array([[0.3, -0.7], [0.9, 0.9], [-0.9, 0.5]], np.float32)

    step, wide = np.float32(2 / 255), np.float32(4 / 255)
    x8 = np.clip(np.rint(x / step) + 128, 0, 255) - 128
    scales = np.abs(weights).max(axis=1) / 127
    w8 = np.rint(weights / scales[:, None])
    b32 = np.rint(bias / (step * scales))
    exact = (x8 @ w8.T + b32) * step * scales
    expected = (np.clip(np.rint(exact / wide) + 128, 0, 255) - 128) * wide

    found = run(quantized(model, ranges, layers), {"latents": x})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - (x @ weights.T + bias)).max() < 0.02


def test_the_forms_with_int8_kernels_are_the_same_function():
    for channels in (16, 6):  # with 6, the float32 passes would not divide
        model = pictures(channels)
        before = model.SerializeToString(deterministic=True)
        plain = as_quantizable(model)
        assert "ConvTranspose" in operators(model)
        assert "ConvTranspose" not in operators(plain)
        assert model.SerializeToString(deterministic=True) == before
        batch = feeds()[0]
        np.testing.assert_allclose(run(plain, batch), run(model, batch), atol=2e-6)


def test_the_phases_of_a_transposed_convolution_are_one_layer():
    layers, others = find_layers(as_quantizable(pictures()))
    assert not others
    assert [len(layer.nodes) for layer in layers] == [1, 4, 1]
    assert [layer.text.partition(" ")[2] for layer in layers] == [
        "(8 to 256)",
        "(16 to 16, kernel 2x2), 4 phases",
        "(16 to 1, kernel 3x3)",
    ]


def test_convolutions_in_groups_and_products_of_activations_stay():
    model = graph(
        [
            ("Reshape", ["latents", "shape"], "image", {}),
            ("Conv", ["image", "kernel"], "grouped", {"group": 2}),
            ("Reshape", ["grouped", "rows"], "queries", {}),
            ("MatMul", ["queries", "queries"], "product", {}),
            ("MatMul", ["product", "dense"], "samples", {}),
        ],
        {
            "shape": np.array([-1, 4, 1, 1]),
            "kernel": normal(4, 2, 1, 1),
            "rows": np.array([-1, 2, 2]),
            "dense": normal(2, 3),
        },
        4,
        (2, 3),
    )
    layers, others = find_layers(model)
    assert [layer.nodes for layer in layers] == [("samples",)]
    assert others == ["grouped (4 to 4, kernel 1x1, 2 groups)", "product"]


def test_the_input_range_of_a_squashing_function_is_clipped():
    ranges = {"values": (-40.0, 2.0), "leaky": (-40.0, 40.0)}
    limit = np.arctanh(1 - 1 / 255)
    assert saturated(pictures(), ranges) == {"values": (-limit, 2.0), "leaky": (-40.0, 40.0)}
    found = saturated(pictures(last="Sigmoid"), ranges)["values"]
    assert 1 / (1 + np.exp(-found[0])) == pytest.approx(1 / 510)
    assert ranges["values"] == (-40.0, 2.0)


def test_ranges_are_the_smallest_and_the_largest_value():
    model = pictures()
    found = tensor_ranges(model, feeds())
    samples = np.concatenate([run(model, batch) for batch in feeds()])
    assert found["samples"] == pytest.approx((samples.min(), samples.max()), abs=1e-6)
    assert found["positive"][0] == 0
    latents = np.concatenate([batch["latents"] for batch in feeds()])
    assert found["latents"] == (latents.min(), latents.max())


def test_every_layer_runs_in_int8(tmp_path):
    plain = as_quantizable(pictures())
    layers, _ = find_layers(plain)
    ranges = saturated(plain, tensor_ranges(plain, feeds()))
    made = quantized(plain, ranges, layers)
    found = as_run(made, tmp_path)
    assert (found.count("QLinearConv"), found.count("QGemm")) == (5, 1)
    assert not {"Conv", "ConvTranspose", "Gemm", "FusedConv", "FusedGemm"} & set(found)
    assert error_of(pictures())(made) < 0.1
    onnx.checker.check_model(made, full_check=True)


def test_layers_that_stay_in_float32_have_their_fastest_form():
    plain = as_quantizable(pictures())
    layers, _ = find_layers(plain)
    ranges = tensor_ranges(plain, feeds())
    found = operators(quantized(plain, ranges, layers[:2]))
    assert (found.count("ConvTranspose"), found.count("Conv")) == (1, 4)


def sensitive():
    """Dense layers of which the second returns a value of 1e5 that the third ignores."""
    spike = normal(8, 8, seed=2)
    spike[:, 0] *= 1e5
    blind = normal(8, 8, seed=3)
    blind[0] = 0
    return graph(
        [
            ("Gemm", ["latents", "first"], "harmless", {}),
            ("Gemm", ["harmless", "spike"], "spiked", {}),
            ("Gemm", ["spiked", "blind"], "samples", {}),
        ],
        {"first": normal(8, 8, seed=1), "spike": spike, "blind": blind},
        8,
        (8,),
    )


def test_the_search_keeps_a_sensitive_layer_in_float32():
    model = as_quantizable(sensitive())
    layers, _ = find_layers(model)
    ranges = tensor_ranges(model, feeds())
    error = error_of(model)
    assert error(quantized(model, ranges, layers)) > 0.5
    chosen = choose(model, ranges, layers, feeds(), error)
    assert [layer.text for layer in chosen] == ["Gemm/0 (8 to 8)"]
    assert error(quantized(model, ranges, chosen)) <= quantize.MOST_CHANGE

    found = to_int8(model, feeds(), error, lambda made: 2.0)
    assert found.int8 == ("Gemm/0 (8 to 8)",)
    assert found.float32 == ("Gemm/1 (8 to 8)", "Gemm/2 (8 to 8)")
    assert (found.change, found.speedup) == (pytest.approx(error(found.model)), 2.0)


def test_the_same_model_yields_the_same_bytes():
    model = pictures()
    before = model.SerializeToString(deterministic=True)
    first, second = (to_int8(model, feeds(), lambda made: 0.0, lambda made: 2.0) for _ in range(2))
    assert first.model.SerializeToString() == second.model.SerializeToString()
    assert (len(first.int8), first.float32) == (3, ())
    assert model.SerializeToString(deterministic=True) == before


def test_int8_without_benefit_is_refused_with_the_figures():
    with pytest.raises(UsageError, match=r"1\.50 times as fast, with 3 of 3 layers in int8"):
        to_int8(pictures(), feeds(), lambda made: 0.0, lambda made: 1.5)
    with pytest.raises(
        UsageError, match=r"at most 5% worse\. Received: a larger change by any of the 3"
    ):
        to_int8(pictures(), feeds(), lambda made: 0.2, lambda made: 2.5)
    model = graph([("Tanh", ["latents"], "samples", {})], {}, 8, (8,))
    with pytest.raises(UsageError, match="a network without such a layer"):
        to_int8(model, feeds(), lambda made: 0.0, lambda made: 2.0)
    grouped = graph(
        [
            ("Gemm", ["latents", "dense"], "hidden", {}),
            ("Reshape", ["hidden", "shape"], "image", {}),
            ("Conv", ["image", "kernel"], "values", {"group": 2}),
            ("Reshape", ["values", "flat"], "samples", {}),
        ],
        {
            "dense": normal(4, 4),
            "shape": np.array([-1, 4, 1, 1]),
            "kernel": normal(4, 2, 1, 1),
            "flat": np.array([-1, 4]),
        },
        4,
        (4,),
    )
    with pytest.raises(UsageError, match=r"1 of 2 layers .* no fast int8 kernel for Conv/0 \(4 to"):
        to_int8(grouped, feeds(4), lambda made: 0.0, lambda made: 1.1)


def test_the_search_may_leave_too_few_layers():
    error, speeds = error_of(sensitive()), iter([2.5, 1.2])
    with pytest.raises(UsageError, match=r"1\.20 times as fast and a Frechet .*1 of 3 layers"):
        to_int8(sensitive(), feeds(), error, lambda made: next(speeds))
