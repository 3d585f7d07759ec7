"""Passes on ONNX graphs: exact where they apply, and similar graphs are left unchanged."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

import keras_gan
from export.network import open_network
from export.passes import PASSES, optimize
from export.to_onnx import open_session, to_onnx
from keras_gan import UsageError

RNG = np.random.default_rng(0)
BATCHES = (1, 5)


class Build:
    """A graph under construction: `add` returns the name of the new node's output."""

    def __init__(self, *shape, opset=17):
        self.inputs = {"x": ("batch", *shape)}
        self.nodes, self.constants, self.opset = [], {}, opset

    def constant(self, value):
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def weights(self, *shape):
        return self.constant(RNG.normal(size=shape).astype("float32"))

    def add(self, op, *inputs, **attributes):
        inputs = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def input(self, name, *shape):
        self.inputs[name] = ("batch", *shape)
        return name

    def model(self, *outputs, dtype=TensorProto.FLOAT):
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info(n, dtype, s) for n, s in self.inputs.items()],
            [helper.make_tensor_value_info(n, dtype, None) for n in outputs],
            [numpy_helper.from_array(v, n) for n, v in self.constants.items()],
        )
        opset = helper.make_opsetid("", self.opset)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
        for ours, full in zip(model.graph.output, inferred, strict=True):
            ours.CopyFrom(full)
        return model


def copy(model):
    return onnx.ModelProto.FromString(model.SerializeToString(deterministic=True))


def run(model, batch):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(batch)
    feeds = {
        port.name: rng.normal(size=(batch, *port.shape[1:])).astype("float32")
        for port in session.get_inputs()
    }
    return session.run(None, feeds)


def assert_same(before, after, tolerance=1e-5):
    onnx.checker.check_model(after, full_check=True)
    for batch in BATCHES:
        for old, new in zip(run(before, batch), run(after, batch), strict=True):
            assert old.shape == new.shape
            difference = np.abs(old.astype("float64") - new).max()
            assert difference <= tolerance * max(1.0, float(np.abs(old).max()))


def operators(model):
    return [node.op_type for node in model.graph.node]


def applied(model, *names):
    """Applies passes that must change the model; checks its function and its determinism."""
    first, second = copy(model), copy(model)
    for name in names:
        assert PASSES[name](first) > 0, name
        PASSES[name](second)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )
    assert [i.name for i in first.graph.input] == [i.name for i in model.graph.input]
    assert [o.name for o in first.graph.output] == [o.name for o in model.graph.output]
    assert_same(model, first)
    return first


def assert_untouched(model, name):
    after = copy(model)
    assert PASSES[name](after) == 0
    assert operators(after) == operators(model)
    assert [list(n.output) for n in after.graph.node] == [list(n.output) for n in model.graph.node]
    kept = {i.name: i for i in model.graph.initializer}
    assert all(kept[i.name] == i for i in after.graph.initializer)


# ------------------------------------------------------------------------------ constants


def test_constants_fold_and_shapes_become_static():
    b = Build(4, 6)
    shape = b.add("Cast", b.add("Shape", "x"), to=TensorProto.INT32)
    rows = b.add("Slice", shape, np.array([0]), np.array([1]), np.array([0]))
    target = b.add("Concat", rows, np.array([24], "int32"), axis=0)
    target = b.add("Cast", target, to=TensorProto.INT64)
    flat = b.add("Identity", b.add("Reshape", "x", target))
    scale = b.add("Exp", b.add("Add", b.weights(24), b.weights(24)))
    b.add("Neg", "x")  # dead
    model = b.model(b.add("Mul", flat, scale))
    after = applied(model, "constants")
    assert operators(after) == ["Reshape", "Mul"]
    constants = {i.name: numpy_helper.to_array(i) for i in after.graph.initializer}
    assert constants[after.graph.node[0].input[1]].tolist() == [-1, 24]
    assert len(constants) == 2


def test_a_folded_scalar_stays_a_scalar():
    """The rank of an index determines that of Gather; the condition of a Loop must be scalar."""
    b = Build(4, 6)
    index = b.add("Sub", np.array(3), np.array(1))
    after = applied(b.model(b.add("Gather", "x", index, axis=1)), "constants")
    assert operators(after) == ["Gather"]
    assert list(after.graph.initializer[0].dims) == []


def test_a_constant_that_is_an_output_and_a_shape_of_two_unknowns_stay():
    b = Build(4)
    b.inputs["y"] = ("other", 6)
    both = b.add("Concat", b.add("Shape", "x", end=1), b.add("Shape", "y", end=1), axis=0)
    grid = b.add("Reshape", b.add("MatMul", "x", b.add("Transpose", b.weights(6, 4))), both)
    model = b.model(grid)
    after = copy(model)
    PASSES["constants"](after)
    assert "Shape" in operators(after)
    b = Build(4)
    b.add("Neg", "x")
    model = b.model(b.nodes[0].output[0], b.add("Exp", b.weights(3)))
    after = copy(model)
    PASSES["constants"](after)
    assert_same(model, after)


def test_tensors_that_a_loop_reads_are_kept():
    """Only the body of an If reads a tensor and a constant."""
    b = Build(4)
    doubled = b.add("Identity", b.add("Mul", "x", b.weights(4)))
    held = b.weights(4)
    condition = b.add("Greater", b.add("Size", "x"), np.array(0))

    def branch(op):
        node = helper.make_node(op, [doubled, held], ["inner_" + op])
        result = helper.make_tensor_value_info("inner_" + op, TensorProto.FLOAT, None)
        return helper.make_graph([node], op, [], [result])

    model = b.model(b.add("If", condition, then_branch=branch("Add"), else_branch=branch("Sub")))
    after = copy(model)
    optimize(after)
    assert_same(model, after)


# ------------------------------------------------------------------------------- movement


def repeat(b, name, axis, shape, times=2, by="Tile"):
    """Keras's repeat along one axis, as tf2onnx writes it; `shape` is the result's."""
    wide = b.add("Unsqueeze", name, np.array([axis + 1]))
    if by == "Tile":
        tiles = np.ones(len(shape) + 1, "int64")
        tiles[axis + 1] = times
        wide = b.add("Tile", wide, tiles)
    else:
        wide = b.add("Concat", *[wide] * times, axis=axis + 1)
    return b.add("Reshape", wide, np.array([-1, *shape[1:]]))


@pytest.mark.parametrize("by", ["Tile", "Concat"])
@pytest.mark.parametrize("opset", [13, 18])
def test_nearest_upsampling_is_one_resize(by, opset):
    b = Build(3, 5, 4, opset=opset)
    x = repeat(b, "x", 1, (-1, 6, 5, 4), by=by)
    x = repeat(b, x, 2, (-1, 6, 15, 4), times=3, by=by)
    after = applied(b.model(b.add("Transpose", x, perm=[0, 3, 1, 2])), "movement")
    assert operators(after) == ["Transpose", "Resize"]  # the smaller image is transposed
    (scales,) = (numpy_helper.to_array(i) for i in after.graph.initializer)
    assert scales.tolist() == [1, 1, 2, 3]


def test_inverse_transposes_are_removed_and_others_merged():
    b = Build(3, 5, 4)
    x = b.add("Transpose", "x", perm=[0, 2, 3, 1])
    model = b.model(b.add("Relu", b.add("Transpose", x, perm=[0, 3, 1, 2])))
    assert operators(applied(model, "movement")) == ["Relu"]
    b = Build(3, 5, 4)
    x = b.add("Transpose", "x", perm=[0, 2, 3, 1])
    model = b.model(b.add("Transpose", x, perm=[0, 2, 1, 3]))
    after = applied(model, "movement")
    assert operators(after) == ["Transpose"]
    assert after.graph.node[0].attribute[0].ints == [0, 3, 2, 1]


def test_resize_by_half_pixels_is_the_plain_one():
    b = Build(4, 3, 5)
    scales = np.array([1, 1, 2, 4], "float32")
    how = {"mode": "nearest", "coordinate_transformation_mode": "tf_half_pixel_for_nn"}
    how |= {"nearest_mode": "floor"}
    model = b.model(b.add("Resize", "x", np.zeros(0, "float32"), scales, **how))
    after = applied(model, "movement")
    modes = {a.name: a.s for a in after.graph.node[0].attribute}
    assert modes["coordinate_transformation_mode"] == b"asymmetric"


def moved_otherwise():
    """Chains that look like a nearest upsampling."""
    b = Build(4, 4, 2)  # repeats the image instead of the elements
    wide = b.add("Tile", b.add("Unsqueeze", "x", np.array([1])), np.array([1, 2, 1, 1, 1]))
    yield "tiled", b.model(b.add("Reshape", wide, np.array([-1, 8, 4, 2])))
    b = Build(4, 4, 2)  # alternates between two tensors
    wide = [b.add("Unsqueeze", n, np.array([2])) for n in ("x", b.add("Relu", "x"))]
    wide = b.add("Concat", *wide, axis=2)
    yield "two sources", b.model(b.add("Reshape", wide, np.array([-1, 8, 4, 2])))
    b = Build(4, 4, 2)  # mixes height and width
    x = b.add("Transpose", "x", perm=[0, 3, 1, 2])
    yield "reshaped", b.model(b.add("Reshape", x, np.array([-1, 4, 4, 2])))
    b = Build(4, 4, 2)  # samples become channels
    x = b.add("Transpose", "x", perm=[1, 0, 2, 3])
    yield "batch", b.model(b.add("Reshape", x, np.array([-1, 4, 4, 2])))
    b = Build(4, 3, 5)
    scales = np.array([1, 1, 1.5, 2], "float32")
    yield "fraction", b.model(b.add("Resize", "x", np.zeros(0, "float32"), scales, mode="nearest"))
    b = Build(4, 3, 5)
    scales = np.array([1, 1, 2, 2], "float32")
    yield "linear", b.model(b.add("Resize", "x", np.zeros(0, "float32"), scales, mode="linear"))


@pytest.mark.parametrize(
    "model", [pytest.param(model, id=name) for name, model in moved_otherwise()]
)
def test_similar_moves_stay(model):
    assert_untouched(model, "movement")


# ------------------------------------------------------------------------------ batch norm


def normalized(b, x, *shape):
    """Batch normalization as tf2onnx writes it, and once more in other operators."""
    x = b.add("Add", b.add("Mul", x, b.weights(*shape)), b.weights(*shape))
    x = b.add("Sub", b.weights(*shape), x)
    return b.add("Div", x, np.abs(RNG.normal(size=shape)).astype("float32") + 0.5)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_batch_norm_folds_into_convolutions(op, groups, opset):
    b = Build(4, 5, 6, opset=opset)
    # six outputs: (6, 4 / groups) of a Conv, (4, 6 / groups) of a ConvTranspose
    shape = (6, 4 // groups, 3, 3) if op == "Conv" else (4, 6 // groups, 3, 3)
    x = b.add(op, "x", b.weights(*shape), strides=[2, 2], group=groups)
    model = b.model(b.add("Relu", normalized(b, x, 1, 6, 1, 1)))
    assert operators(applied(model, "batch_norm")) == [op, "Relu"]


def test_batch_norm_nodes_fold_and_the_weights_of_others_are_not_touched():
    b = Build(4, 5, 6)
    kernel = b.weights(3, 4, 2, 2)
    statistics = [b.weights(3) for _ in range(3)]
    statistics.append(b.constant(np.array([0.5, 1.0, 2.0], "float32")))
    first = b.add("Conv", "x", kernel, b.weights(3))
    first = b.add("BatchNormalization", first, *statistics, epsilon=1e-2)
    model = b.model(first, b.add("Conv", "x", kernel))
    assert operators(applied(model, "batch_norm")) == ["Conv", "Conv"]


@pytest.mark.parametrize("reshaped", [False, True])
def test_batch_norm_folds_into_dense_layers(reshaped):
    b = Build(5)
    x = b.add("MatMul", "x", b.weights(5, 24))
    x = b.add("Add", x, b.weights(24))
    if reshaped:
        x = b.add("Reshape", x, np.array([-1, 2, 3, 4]))
    x = normalized(b, x, 4) if reshaped else normalized(b, x, 24)
    after = applied(b.model(b.add("Relu", x)), "batch_norm")
    assert operators(after) == ["Gemm", *["Reshape"] * reshaped, "Relu"]


def test_batch_norm_folds_into_gemm_with_its_options():
    b = Build(5)
    x = b.add("Gemm", "x", b.weights(7, 5), b.weights(1, 7), transB=1, beta=0.5)
    assert operators(applied(b.model(normalized(b, x, 7)), "batch_norm")) == ["Gemm"]


def norms_that_stay():
    def conv(b, **attributes):
        return b.add("Conv", "x", b.weights(3, 4, 2, 2), **attributes)

    b = Build(4, 5, 5)
    x = conv(b)
    yield "shared result", b.model(b.add("Add", b.add("Mul", x, b.weights(1, 3, 1, 1)), x))
    b = Build(4, 5, 5)
    x = conv(b)
    yield "result is an output", b.model(b.add("Mul", x, b.weights(1, 3, 1, 1)), x)
    b = Build(4, 5, 5)
    scale = b.add("Reshape", b.input("scale", 3), np.array([-1, 3, 1, 1]))
    yield "scale of each sample", b.model(b.add("Mul", conv(b), scale))
    b = Build(4, 5, 5)
    yield "scale of each pixel", b.model(b.add("Mul", conv(b), b.weights(1, 3, 4, 4)))
    b = Build(4, 5, 5)
    yield "scale of each column", b.model(b.add("Mul", conv(b), b.weights(4)))
    b = Build(4, 5, 5)
    yield "more axes", b.model(b.add("Mul", conv(b), b.weights(1, 1, 3, 1, 1)))
    b = Build(4, 5, 5)
    kernel = b.add("Reshape", b.input("kernel", 48), np.array([-1, 4, 4, 3]))
    x = b.add("Conv", "x", b.add("Slice", kernel, *(np.array([n]) for n in (0, 1, 0))))
    yield "kernel that is not constant", b.model(b.add("Add", x, b.weights(1, 1, 1, 1)))
    b = Build(4, 5, 5)
    yield "activation between", b.model(b.add("Mul", b.add("Relu", conv(b)), b.weights(1, 3, 1, 1)))
    b = Build(4, 5, 5)
    with np.errstate(divide="ignore"):
        zero = np.zeros((1, 3, 1, 1), "float32")
    yield "division by zero", b.model(b.add("Div", conv(b), zero))
    b = Build(6)
    x = b.add("Reshape", b.add("MatMul", "x", b.weights(6, 6)), np.array([-1, 3]))
    yield "rows mixed", b.model(b.add("Mul", x, b.weights(3)))
    b = Build(3, 6)
    yield (
        "dense of three axes",
        b.model(b.add("Add", b.add("MatMul", "x", b.weights(6, 6)), b.weights(6))),
    )


@pytest.mark.parametrize(
    "model", [pytest.param(model, id=name) for name, model in norms_that_stay()]
)
def test_similar_scales_stay(model):
    assert_untouched(model, "batch_norm")


# --------------------------------------------------------------------------------- layout

FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def test_transposes_around_a_conditional_norm_are_removed():
    b = Build(4, 6, 5)
    x = b.add("Transpose", b.add("Conv", "x", b.weights(3, 4, 1, 1)), perm=LAST)
    scale = b.add("Reshape", b.input("scale", 3), np.array([-1, 1, 1, 3]))
    shift = b.input("shift", 1, 1, 3)
    x = b.add("Add", b.add("Mul", x, scale), shift)
    x = b.add("Transpose", b.add("Relu", b.add("Mul", x, b.weights(3))), perm=FIRST)
    after = applied(b.model(b.add("Conv", x, b.weights(2, 3, 1, 1))), "layout")
    assert "Transpose" not in operators(after)


def test_a_dense_layer_absorbs_the_transpose_of_its_units():
    b = Build(5)
    x = b.add("Gemm", "x", b.weights(5, 24), b.weights(24))
    x = b.add("Relu", b.add("Reshape", x, np.array([-1, 2, 3, 4])))
    after = applied(b.model(b.add("Transpose", x, perm=FIRST)), "layout")
    assert operators(after) == ["Gemm", "Reshape", "Relu"]


def test_two_branches_of_one_dense_layer_share_its_order():
    """The residual block of SNGAN: one branch is normalized before it is transposed."""
    b = Build(5)
    x = b.add("Reshape", b.add("MatMul", "x", b.weights(5, 24)), np.array([-1, 2, 3, 4]))
    way = b.add("Transpose", b.add("Relu", b.add("Mul", x, b.weights(4))), perm=FIRST)
    way = b.add("Conv", way, b.weights(2, 4, 1, 1))
    short = b.add("Conv", b.add("Transpose", x, perm=FIRST), b.weights(2, 4, 1, 1))
    after = applied(b.model(b.add("Add", way, short)), "layout")
    assert "Transpose" not in operators(after)


def test_resizing_runs_with_channels_first():
    b = Build(4, 6, 5)
    x = b.add("Transpose", b.add("Conv", "x", b.weights(3, 4, 1, 1)), perm=LAST)
    x = b.add("Resize", x, "", np.array([1, 2, 2, 1], "float32"), mode="nearest")
    x = b.add("Transpose", x, perm=FIRST)
    after = applied(b.model(b.add("Conv", x, b.weights(2, 3, 1, 1))), "layout")
    assert operators(after) == ["Conv", "Resize", "Conv"]


def test_an_output_between_two_transposes_keeps_one():
    b = Build(4, 6, 5)
    x = b.add("Relu", b.add("Transpose", "x", perm=LAST))
    after = applied(b.model(b.add("Transpose", x, perm=FIRST), x), "layout")
    assert operators(after).count("Transpose") == 1


def layouts_that_stay():
    b = Build(4, 6, 5)  # at the border of the graph
    yield "border", b.model(b.add("Transpose", b.add("Relu", "x"), perm=LAST))
    b = Build(4, 6, 5)  # depends on the order of the axes
    x = b.add("Softmax", b.add("Transpose", "x", perm=LAST), axis=-1)
    yield "softmax", b.model(b.add("Transpose", x, perm=FIRST))
    b = Build(4, 6, 5)  # operands of different ranks
    y = b.input("y", 4)
    x = b.add("Add", b.add("Transpose", "x", perm=LAST), b.add("Reshape", y, np.array([4, -1, 1])))
    yield "ranks", b.model(b.add("Transpose", x, perm=[1, 0, 2, 3]))
    b = Build(5)
    x = b.add("Reshape", b.add("Gemm", "x", b.weights(5, 24)), np.array([-1, 2, 3, 4]))
    yield "shared units", b.model(b.add("Transpose", x, perm=FIRST), x)


@pytest.mark.parametrize(
    "model", [pytest.param(model, id=name) for name, model in layouts_that_stay()]
)
def test_similar_transposes_stay(model):
    assert_untouched(model, "layout")


# ----------------------------------------------------------------------------- activations


def test_leaky_relu_is_recognized_and_moved_to_its_layer():
    b = Build(4, 6, 5)
    x = b.add("Transpose", b.add("Conv", "x", b.weights(3, 4, 1, 1)), perm=LAST)
    model = b.model(b.add("Max", x, b.add("Mul", np.float32(0.2), x)))
    assert operators(applied(model, "activations")) == ["Conv", "LeakyRelu", "Transpose"]


def activations_that_stay():
    def leaky(slope, between=None):
        b = Build(4)
        product = b.add("Mul", "x", slope(b))
        return b.model(b.add("Max", "x", product), *([product] if between else []))

    yield "slope above 1", leaky(lambda b: np.float32(1.5))
    yield "negative slope", leaky(lambda b: np.float32(-0.2))
    yield "slope of each channel", leaky(lambda b: np.full(4, 0.2, "float32"))
    yield "more axes", leaky(lambda b: np.full((1, 1, 1), 0.2, "float32"))
    yield "product is an output", leaky(lambda b: np.float32(0.2), between=True)
    b = Build(4, 6, 5)
    x = b.add("Transpose", b.add("Conv", "x", b.weights(3, 4, 1, 1)), perm=LAST)
    yield "move is an output", b.model(b.add("Relu", x), x)
    b = Build(4, 6, 5)
    yield "no layer", b.model(b.add("Relu", b.add("Transpose", "x", perm=LAST)))


@pytest.mark.parametrize(
    "model", [pytest.param(model, id=name) for name, model in activations_that_stay()]
)
def test_similar_activations_stay(model):
    assert_untouched(model, "activations")


# ---------------------------------------------------------------------------- convolutions


@pytest.mark.parametrize("form", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_is_written_as_numbers(form):
    """Of any size, as tf2onnx leaves it to the runtime there."""
    b = Build(6, "height", "width")
    x = b.add("Conv", "x", b.weights(8, 6, 3, 5), b.weights(8), auto_pad=form)
    model = b.model(b.add("Conv", x, b.weights(4, 8, 1, 1), auto_pad=form))
    after = copy(model)
    assert PASSES["pads"](after) == 2
    found = [
        {a.name: list(helper.get_attribute_value(a)) for a in node.attribute}
        for node in after.graph.node
    ]
    assert [each["pads"] for each in found] == [[1, 2, 1, 2], [0, 0, 0, 0]]
    assert not any("auto_pad" in each for each in found)
    for size in ((5, 4), (1, 1)):
        given = {"x": RNG.normal(size=(2, 6, *size)).astype("float32")}
        old, new = (open_session(m.SerializeToString()).run(None, given) for m in (model, after))
        np.testing.assert_array_equal(old[0], new[0])


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),  # depends on the size
        ((4, 4), {"auto_pad": "SAME_UPPER"}),  # more on one side
        ((3, 3), {"dilations": [2, 2], "auto_pad": "SAME_UPPER"}),
        ((3, 3), {"auto_pad": "VALID"}),
        ((3, 3), {"pads": [1, 1, 1, 1]}),
    ],
)
def test_other_padding_stays(kernel, attributes):
    b = Build(6, 8, 8)
    assert_untouched(b.model(b.add("Conv", "x", b.weights(8, 6, *kernel), **attributes)), "pads")


def test_copies_as_channels_become_a_resize_of_any_size():
    """The upsampling of `keras_gan.layers.UpConv2D` where height and width are not known."""
    b = Build("height", "width", 6)
    x = b.add("Concat", "x", "x", "x", "x", axis=-1)
    x = b.add("DepthToSpace", b.add("Transpose", x, perm=FIRST), blocksize=2, mode="DCR")
    model = b.model(b.add("Transpose", x, perm=LAST))
    after = copy(model)
    assert PASSES["movement"](after) > 0
    assert operators(after) == ["Transpose", "Resize", "Transpose"]
    given = {"x": RNG.normal(size=(2, 3, 5, 6)).astype("float32")}
    old, new = (open_session(m.SerializeToString()).run(None, given) for m in (model, after))
    np.testing.assert_array_equal(old[0], new[0])
    np.testing.assert_array_equal(new[0], given["x"].repeat(2, 1).repeat(2, 2))


def test_copies_as_channels_that_stay():
    for inputs, mode in (("xxxx", "CRD"), ("xxyx", "DCR")):
        b = Build(4, 3, 3)
        names = [name if name == "x" else b.add("Neg", "x") for name in inputs]
        x = b.add("Concat", *names, axis=1)
        assert_untouched(b.model(b.add("DepthToSpace", x, blocksize=2, mode=mode)), "movement")


@pytest.mark.parametrize(
    ("size", "pads"), [(3, [1, 1, 1, 1]), (5, [2, 2, 2, 2]), (4, [1, 2, 2, 1]), (1, [0] * 4)]
)
def test_an_upsampled_convolution_becomes_a_transposed_one(size, pads):
    b = Build(16, 3, 5)
    x = b.add("Resize", "x", "", np.array([1, 1, 2, 2], "float32"), **NEAREST)
    model = b.model(b.add("Conv", x, b.weights(32, 16, size, size), b.weights(32), pads=pads))
    assert operators(applied(model, "upsampled_conv")) == ["ConvTranspose"]


NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}


def upsamplings_that_stay():
    def model(scales=(1, 1, 2, 2), channels=16, out=False, mode=NEAREST, **attributes):
        b = Build(channels, 4, 4)
        x = b.add("Resize", "x", "", np.array(scales, "float32"), **mode)
        kernel = b.weights(16, channels // attributes.get("group", 1), 3, 3)
        y = b.add("Conv", x, kernel, **({"pads": [1, 1, 1, 1]} | attributes))
        return b.model(y, *([x] if out else []))

    yield "image is an output", model(out=True)
    yield "three times", model(scales=(1, 1, 3, 3))
    yield "one way", model(scales=(1, 1, 2, 1))
    yield "few channels", model(channels=8)
    yield "valid", model(pads=[0, 0, 0, 0])
    yield "stride", model(strides=[2, 2])
    yield "dilation", model(dilations=[2, 2], pads=[2, 2, 2, 2])
    yield "groups", model(group=2)
    yield "linear", model(mode={"mode": "linear"})


@pytest.mark.parametrize(
    "model", [pytest.param(model, id=name) for name, model in upsamplings_that_stay()]
)
def test_similar_upsamplings_stay(model):
    assert_untouched(model, "upsampled_conv")


@pytest.mark.parametrize(
    ("size", "pads"),
    [((3, 3), [1, 1, 1, 1]), ((5, 3), [2, 0, 1, 2]), ((4, 4), [1, 1, 2, 2]), ((2, 1), [0] * 4)],
)
@pytest.mark.parametrize("bias", [False, True])
def test_a_convolution_to_few_channels_becomes_a_transposed_one(size, pads, bias):
    b = Build(6, 7, 5)
    inputs = ["x", b.weights(3, 6, *size), *([b.weights(3)] if bias else [])]
    model = b.model(b.add("Conv", *inputs, pads=pads))
    assert operators(applied(model, "stride_one")) == ["ConvTranspose"]


@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [2, 0, 1, 2]])
def test_a_transposed_convolution_of_stride_1_to_many_channels_becomes_a_plain_one(pads):
    b = Build(16, 6, 5)
    model = b.model(b.add("ConvTranspose", "x", b.weights(16, 32, 3, 3), b.weights(32), pads=pads))
    assert operators(applied(model, "stride_one")) == ["Conv"]


def stride_ones_that_stay():
    def model(outputs, size=3, op="Conv", channels=16, **attributes):
        b = Build(channels, 8, 8)
        groups = attributes.get("group", 1)
        shape = (outputs, channels // groups) if op == "Conv" else (channels, outputs // groups)
        return b.model(b.add(op, "x", b.weights(*shape, size, size), **attributes))

    yield "many channels", model(9)
    yield "one pixel", model(3, size=1)
    yield "stride", model(3, strides=[2, 2])
    yield "groups", model(4, group=2)
    yield "dilation", model(3, dilations=[2, 2])
    yield "pads as wide as the kernel", model(3, pads=[3, 1, 1, 1])
    yield "automatic pads", model(3, auto_pad="SAME_UPPER")
    yield "few of a transposed one", model(3, op="ConvTranspose")
    yield "odd channels of a transposed one", model(24, op="ConvTranspose")
    yield "groups of a transposed one", model(32, op="ConvTranspose", group=2)
    b = Build(4, 8)
    yield "one axis", b.model(b.add("Conv", "x", b.weights(3, 4, 3)))


@pytest.mark.parametrize(
    "model", [pytest.param(model, id=name) for name, model in stride_ones_that_stay()]
)
def test_similar_convolutions_of_stride_1_stay(model):
    assert_untouched(model, "stride_one")


DOUBLING = [
    ((4, 4), [1, 1, 1, 1], [0, 0]),
    ((5, 5), [1, 2, 2, 1], [0, 0]),
    ((5, 3), [2, 0, 2, 1], [1, 0]),
    ((3, 3), [0, 1, 1, 1], [0, 1]),
    ((2, 6), [0, 2, 0, 2], [0, 0]),
]


@pytest.mark.parametrize(("size", "pads", "padding"), DOUBLING)
def test_a_transposed_convolution_becomes_four_plain_ones(size, pads, padding):
    b = Build(16, 3, 5)
    inputs = ["x", b.weights(16, 32, *size), b.weights(32)]
    x = b.add("ConvTranspose", *inputs, strides=[2, 2], pads=pads, output_padding=padding)
    model = b.model(b.add("LeakyRelu", x, alpha=0.3))
    after = applied(model, "phases")
    assert sorted(operators(after)) == sorted(
        [*["Conv", "LeakyRelu"] * 4, "Concat", "DepthToSpace"]
    )
    assert "DepthToSpace" not in operators(applied(model, "phases", "interleave"))


def transposed_that_stay():
    def model(channels=16, outputs=16, size=4, pads=1, strides=2, **attributes):
        b = Build(channels, 4, 5)
        shape = (channels, outputs // attributes.get("group", 1), size, size)
        attributes |= {"strides": [strides] * 2}
        attributes = {"pads": [pads] * 4} | attributes
        return b.model(b.add("ConvTranspose", "x", b.weights(*shape), **attributes))

    yield "few outputs", model(outputs=3)
    yield "odd inputs", model(channels=24)
    yield "larger than twice", model(pads=0)
    yield "stride 1", model(strides=1, size=3)
    yield "stride 3", model(strides=3, size=3, pads=0)
    yield "kernel 1", model(size=1, pads=0, output_padding=[1, 1])
    yield "groups", model(group=2)
    yield "dilation", model(dilations=[2, 2], pads=3)
    yield "shape asked for", model(output_shape=[8, 10], pads=1)
    b = Build(16, 6)
    yield "one axis", b.model(b.add("ConvTranspose", "x", b.weights(16, 16, 4), strides=[2]))


@pytest.mark.parametrize(
    "model", [pytest.param(model, id=name) for name, model in transposed_that_stay()]
)
def test_similar_transposed_convolutions_stay(model):
    if "output_shape" in str(model):
        assert PASSES["phases"](copy(model)) == 0
        return
    assert_untouched(model, "phases")


def test_an_activation_with_several_readers_stays_after_the_phases():
    b = Build(16, 3, 5)
    x = b.add("ConvTranspose", "x", b.weights(16, 16, 4, 4), strides=[2, 2], pads=[1] * 4)
    after = applied(b.model(b.add("Relu", x), x), "phases")
    assert operators(after).count("Relu") == 1


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize(
    ("size", "pads"),
    [
        ((3, 3), [1, 1, 1, 1]),
        ((5, 5), [2, 2, 2, 2]),
        ((4, 7), [1, 3, 2, 3]),
        ((2, 3), [1, 0, 0, 2]),
    ],
)
def test_the_image_is_computed_from_the_phases(op, size, pads):
    b = Build(32, 4, 3)
    x = b.add("DepthToSpace", "x", blocksize=2)
    shape = (3, 8) if op == "Conv" else (8, 3)
    model = b.model(b.add(op, x, b.weights(*shape, *size), b.weights(3), pads=pads))
    assert operators(applied(model, "picture")) == ["ConvTranspose", "DepthToSpace"]


def pictures_that_stay():
    def model(mode="DCR", blocksize=2, outputs=3, size=3, out=False, **attributes):
        b = Build(4 * blocksize**2, 4, 3)
        x = b.add("DepthToSpace", "x", blocksize=blocksize, mode=mode)
        kernel = b.weights(outputs, 4 // attributes.get("group", 1), size, size)
        y = b.add("Conv", x, kernel, **({"pads": [size // 2] * 4} | attributes))
        return b.model(y, *([x] if out else []))

    yield "channels before phases", model(mode="CRD")
    yield "three", model(blocksize=3)
    yield "many channels", model(outputs=16)
    yield "one pixel", model(size=1)
    yield "valid", model(pads=[0] * 4)
    yield "stride", model(strides=[2, 2])
    yield "groups", model(outputs=4, group=2)
    yield "image is an output", model(out=True)


@pytest.mark.parametrize(
    "model", [pytest.param(model, id=name) for name, model in pictures_that_stay()]
)
def test_similar_images_stay(model):
    assert_untouched(model, "picture")


def test_other_modes_of_depth_to_space_stay():
    for how in ({"blocksize": 3}, {"blocksize": 2, "mode": "CRD"}):
        b = Build(36, 4, 3)
        assert_untouched(b.model(b.add("DepthToSpace", "x", **how)), "interleave")


# -------------------------------------------------------------------------------- together


def generator(b):
    """A small DCGAN as tf2onnx writes it."""
    x = b.add("Reshape", b.add("MatMul", "x", b.weights(8, 4 * 4 * 32)), np.array([-1, 4, 4, 32]))
    x = b.add("Relu", b.add("Add", b.add("Mul", x, b.weights(32)), b.weights(32)))
    x = b.add("Transpose", x, perm=FIRST)
    x = b.add("ConvTranspose", x, b.weights(32, 16, 4, 4), strides=[2, 2], pads=[1] * 4)
    x = b.add("Mul", x, np.full((1, 16, 1, 1), 0.05, "float32"))
    x = b.add("Relu", b.add("Add", x, b.weights(1, 16, 1, 1)))
    x = b.add("Conv", x, b.weights(3, 16, 3, 3), b.weights(3), pads=[1] * 4)
    return b.model(b.add("Transpose", x, perm=LAST))


def test_all_passes_on_a_generator_are_idempotent():
    model = generator(Build(8))
    after = copy(model)
    counts = optimize(after)
    assert set(counts) == set(PASSES)
    for name in ("batch_norm", "layout", "phases", "stride_one", "picture", "interleave"):
        assert counts[name] > 0, name
    assert_same(model, after)
    assert after.graph.input == model.graph.input
    assert operators(after).count("Transpose") == 2  # in the interleaving, at the output's border
    again = copy(after)
    assert not any(optimize(again).values())
    assert again.SerializeToString(deterministic=True) == after.SerializeToString(
        deterministic=True
    )


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_can_be_left_out(name):
    model = generator(Build(8))
    after = copy(model)
    assert optimize(after, without=[name])[name] == 0
    assert_same(model, after)


def test_an_unknown_pass_is_refused():
    with pytest.raises(UsageError, match=r"without must name passes: constants, .* Received: fold"):
        optimize(generator(Build(8)), without=["fold"])


def test_a_model_of_a_fixed_batch_is_supported():
    model = generator(Build(8))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    after = copy(model)
    optimize(after)
    onnx.checker.check_model(after, full_check=True)
    for old, new in zip(run(model, 2), run(after, 2), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5 * np.abs(old).max())


# --------------------------------------------------------------------------- architectures

ARCHITECTURES = [
    ("dcgan", {"widths": [48, 32, 16]}),
    ("dcgan", {"widths": [32, 32, 16], "extra_convolutions": 1, "norm": "layer"}),
    ("dcgan", {"widths": [32, 16, 8], "conditioning": "batch_norm"}),
    ("resnet", {"widths": [32, 16, 16], "attention": 4}),
    ("resnet", {"widths": [32, 16, 8], "spectral": True, "norm": "none"}),
    ("r3gan", {"widths": [32, 16, 16]}),
    ("mlp", {}),
]


def of_architecture(family, options, conditional):
    """Uses the batch statistics of its own activations, and nontrivial biases and scales."""
    keras.utils.set_random_seed(3)
    spec = keras_gan.Spec("image", (16, 24, 3), (-1.0, 1.0), num_classes=3 * conditional)
    if family == "mlp":
        spec = keras_gan.Spec("points", (2,), None, num_classes=3 * conditional)
    build = keras_gan.architectures.build_network
    model = build("generator", family, spec, conditional, latent_dim=8, **options)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        if len(variable.shape) == 1 or not np.any(variable.numpy()):
            variable.assign_add(0.1 * rng.normal(size=variable.shape))
    latents = tf.constant(rng.normal(size=(64, 8)), tf.float32)
    train = tf.function(lambda *inputs: model(list(inputs), training=True), autograph=False)
    for _ in range(20):
        train(latents, tf.range(64) % 3) if conditional else train(latents)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(("family", "options"), ARCHITECTURES)
def test_every_architecture_is_unchanged_by_the_passes(family, options, conditional):
    if not conditional:
        options = {k: v for k, v in options.items() if k != "conditioning"}
    network = open_network(
        of_architecture(family, options, conditional), num_classes=3 * conditional
    )
    for opset in (13, 18):
        plain = to_onnx(network, opset, without=PASSES)
        ours, again = copy(plain), copy(plain)
        optimize(ours)
        optimize(again)
        assert ours == again
        onnx.checker.check_model(ours, full_check=True)
        sessions = [open_session(model.SerializeToString()) for model in (plain, ours)]
        for batch in (1, 5, 64):
            rng = np.random.default_rng(batch)
            feeds = {"latents": rng.normal(size=(batch, 8)).astype("float32")}
            if conditional:
                feeds["labels"] = np.arange(batch) % 3
            old, new = (session.run(["samples"], feeds)[0] for session in sessions)
            assert old.std() > 1e-3
            assert np.abs(old - new).max() <= 1e-5 * max(1.0, float(np.abs(old).max()))
