"""Refused exports: the error names the cause, the layer and the remedy, and nothing is left."""

import json
import shutil
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L
from keras import ops

import export
from export import formats
from export.draft import open_draft
from export.locate import first_difference, in_graph, in_onnx
from export.network import open_network
from export.to_onnx import to_onnx
from export.verify import compare_formats
from keras_gan import UsageError

LATENTS = 8
LATENT_ROWS = np.random.default_rng(0).normal(size=(5, LATENTS)).astype("float32")


class Apply(L.Layer):
    """Any function as a layer."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def call(self, x):
        return self.function(x)


class Forced(L.Layer):
    """A layer that is always called as if it were trained."""

    def __init__(self, inner, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x):
        return self.inner(x, training=True)


class Seeded(L.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal((1, *x.shape[1:]), seed=self.generator)


class Otherwise(L.Layer):
    """Computes something else in a graph than eagerly."""

    def call(self, x):
        return 2.0 * x if tf.executing_eagerly() else x


def with_layer(layer, shape=(LATENTS,)):
    latents = keras.Input((LATENTS,), name="latents")
    x = L.Reshape(shape)(L.Dense(int(np.prod(shape)), name="first")(latents))
    return keras.Model(latents, L.Dense(3, name="last")(layer(x)), name="generator")


# ------------------------------------------------------------------------------ noise


@pytest.mark.parametrize(
    ("layer", "where", "fill"),
    [
        (lambda: Apply(lambda x: x + keras.random.normal(ops.shape(x)), name="n"), "'n'", "normal"),
        (lambda: Apply(lambda x: x + tf.random.normal(tf.shape(x)), name="n"), "'n'", "normal"),
        (lambda: Apply(lambda x: x * tf.random.uniform(tf.shape(x)), name="n"), "'n'", "uniform"),
        (lambda: Apply(lambda x: x + keras.random.uniform((1, 4, 4, 2)), name="n"), "'n'", "uni"),
        (lambda: Seeded(name="n"), "'n' (Seeded)", "normal"),
        (lambda: Forced(L.Dropout(0.3, name="d"), name="n"), "'n/d' (Dropout)", "uniform"),
        (lambda: Forced(L.GaussianNoise(0.3, name="d"), name="n"), "'n/d' (GaussianNo", "normal"),
        (lambda: Forced(L.RandomFlip(name="d"), name="n"), "'n/d' (RandomFlip)", "uniform"),
        (lambda: Forced(L.RandomContrast(0.2, name="d"), name="n"), "'n/d' (RandomC", "uniform"),
    ],
)
def test_noise_in_a_layer_is_named_as_noise_with_the_input_to_make_of_it(layer, where, fill):
    network = open_network(with_layer(layer(), (4, 4, 2)))
    with pytest.raises(UsageError, match="Received: ") as caught:
        to_onnx(network)
    message = str(caught.value)
    assert f"in layer {where}" in message
    assert "take the noise as an input of the model, keras.Input(" in message
    assert ("inputs={'noise': {'fill': 'uniform'}}" in message) == fill.startswith("uni")
    assert ("with the `training` of the model" in message) == ("'n/d'" in where)
    assert "Assign" not in message
    assert "\n" not in message


def test_the_input_for_noise_has_the_shape_of_the_noise():
    layer = Apply(lambda x: x + tf.random.normal(tf.shape(x)), name="n")
    with pytest.raises(UsageError, match=r"keras\.Input\(\(4, 4, 2\), name='noise'\)"):
        to_onnx(open_network(with_layer(layer, (4, 4, 2))))


def test_the_remedy_works(tmp_path):
    """The noise as an input, as the error shows it: filled from the seed."""
    latents = keras.Input((LATENTS,), name="latents")
    noise = keras.Input((4, 4, 2), name="noise")
    x = L.Reshape((4, 4, 2))(L.Dense(32)(latents)) + noise
    network = open_network(keras.Model([latents, noise], L.Dense(3)(x)))
    assert [(p.name, p.fill, p.stream) for p in network.inputs] == [
        ("latents", "normal", 0),
        ("noise", "normal", 1),
    ]
    declared = {"noise": {"fill": "uniform"}}
    network = open_network(keras.Model([latents, noise], L.Dense(3)(x)), inputs=declared)
    assert network.inputs[1].fill == "uniform"


# ------------------------------------------------------------------------------ classes


def conditional(encode, dtype="int32"):
    latents = keras.Input((4,), name="latents")
    labels = keras.Input((), dtype=dtype, name="labels")
    x = L.Concatenate()([latents, encode(labels)])
    return keras.Model([latents, labels], L.Dense(3)(x), name="conditional")


def embedding(labels):
    return L.Embedding(10, 4, name="table")(labels)


ENCODINGS = {
    "embedding": (embedding, "'table' (Embedding), which reads 11, has 10 rows"),
    "category": (
        lambda y: L.CategoryEncoding(10, output_mode="one_hot", name="hot")(y),
        "'hot' (CategoryEncoding), which reads 11, has 10 values",
    ),
    "one_hot": (lambda y: ops.one_hot(y, 10), "which reads 11, has 10 values"),
    "in a layer": (
        lambda y: Apply(lambda x: tf.one_hot(x, 10), name="mine")(y),
        "'mine' (Apply), which reads 11, has 10 values",
    ),
    "shifted": (
        lambda y: L.Embedding(12, 4, name="table")(y + 1),
        "'table' (Embedding), which reads 12, has 12 rows",
    ),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("names", [False, True])
def test_more_classes_than_rows_are_refused_by_the_layer(encoding, names, tmp_path):
    encode, where = ENCODINGS[encoding]
    options = {"class_names": list("abcdefghijkl")} if names else {"num_classes": 12}
    with pytest.raises(UsageError, match="num_classes=12, so that labels reach 11") as caught:
        export.export_bundle(conditional(encode), tmp_path / "bundle", **options)
    assert where in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["embedding", "category", "one_hot"])
@pytest.mark.parametrize("count", [10, 3])
def test_as_many_classes_as_rows_or_fewer_are_accepted(encoding, count):
    _, draft = open_draft(conditional(ENCODINGS[encoding][0]), num_classes=count)
    assert draft.classes.num_classes == count


@pytest.mark.parametrize(
    ("dtype", "options", "rule"),
    [
        ("uint8", {"num_classes": 300}, "num_classes=300, 'labels' of dtype uint8"),
        ("int8", {"num_classes": 129}, "num_classes=129, 'labels' of dtype int8"),
        ("bool", {"num_classes": 2}, "Received: 'labels', dtype=bool"),
        ("string", {"num_classes": 2}, "Received: 'labels', dtype=string"),
        ("int32", {"num_classes": "10"}, "`num_classes` must be an integer"),
        ("int32", {"num_classes": 10.0}, "Received: num_classes=10.0"),
        ("int32", {"class_names": "abcdefghij"}, "`class_names` must be a list of texts"),
        ("int32", {"class_names": range(10)}, "`class_names` must be a list of texts"),
        ("int32", {"num_classes": 10, "class_names": list("abc")}, "10 classes. Received: 3 names"),
        (
            "int32",
            {"num_classes": 10, "class_names": list("abcdefghijkl")},
            "10 classes. Received: 12 names",
        ),
        ("int32", {"class_names": [*"abcdefghi", "a"]}, "`class_names` must be different texts"),
        ("int32", {"class_names": [*"abcdefghi", ""]}, "different texts, none of them empty"),
        ("int32", {"inputs": ["latents"]}, "`inputs` must be a dictionary of dictionaries"),
        ("int32", {"inputs": {"latents": "normal"}}, "dictionary of dictionaries, such as"),
        ("int32", {"outputs": "samples"}, "`outputs` must be a dictionary of dictionaries"),
        (
            "int32",
            {"num_classes": 10, "inputs": {"labels": {"meta": {"num_classes": 12}}}},
            "Received: num_classes=10 and 12",
        ),
    ],
)
def test_a_wrong_declaration_of_classes_is_refused(dtype, options, rule):
    encode = embedding if dtype == "int32" else lambda y: Apply(lambda x: tf.ones((2, 1)))(y)
    latents, labels = keras.Input((4,), name="latents"), keras.Input((), dtype=dtype, name="labels")
    model = keras.Model([latents, labels], {"samples": L.Dense(3)(latents), "y": encode(labels)})
    with pytest.raises(UsageError, match="Received: ") as caught:
        open_draft(model, **options)
    assert rule in str(caught.value)


def test_numbers_and_names_of_numpy_are_taken():
    latents, labels = (
        keras.Input((4,), name="latents"),
        keras.Input((), dtype="int32", name="labels"),
    )
    model = keras.Model(
        [latents, labels], {"samples": L.Dense(3)(latents), "y": L.Embedding(3, 2)(labels)}
    )
    names = np.array(["a", "b", "c"])
    _, draft = open_draft(model, num_classes=np.int64(3), class_names=names)
    assert (draft.classes.num_classes, draft.class_names) == (3, ["a", "b", "c"])


def test_an_error_of_a_layer_is_not_one_of_the_disk(tmp_path):
    def read(x):
        if tf.executing_eagerly() and x.shape[0] > 2:
            raise FileNotFoundError("vocabulary.txt")
        return x

    model = with_layer(Apply(read, name="reader"))
    with pytest.raises(UsageError, match="where layer 'reader'") as caught:
        export.export_bundle(model, tmp_path / "bundle")
    assert "must run on its example inputs" in str(caught.value)
    assert "vocabulary.txt" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def same(value):
    return value


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.ensure_shape(tf.py_function(same, [x], tf.float32), x.shape),
        lambda x: tf.ensure_shape(tf.numpy_function(same, [x], tf.float32), x.shape),
        lambda x: tf.numpy_function(same, [x], tf.float32),  # of an unknown shape
        lambda x: tf.py_function(same, [x], tf.float32),
    ],
)
def test_calls_of_python_are_named_with_their_layer(function, tmp_path):
    latents = keras.Input((LATENTS,), name="latents")
    layer = Apply(function, name="n")
    layer.compute_output_shape = lambda shape: shape
    model = keras.Model(latents, L.Reshape((2, 4))(layer(latents)))
    with pytest.raises(
        UsageError, match=r"call Python. Received: op \w*PyFunc in layer 'n'"
    ) as one:
        export.export_bundle(model, tmp_path / "bundle")
    assert "\n" not in str(one.value)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_needs_the_size_of_the_batch_is_named(tmp_path):
    layer = Apply(lambda x: ops.reshape(x, (int(x.shape[0]), LATENTS)), name="n")
    layer.compute_output_shape = lambda shape: shape
    latents = keras.Input((LATENTS,), name="latents")
    model = keras.Model(latents, L.Dense(3)(layer(latents)))
    with pytest.raises(UsageError, match=r"batch of any size\. Received: layer 'n' \(App"):
        export.export_bundle(model, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


class Texts(keras.Model):
    """A subclassed model that returns texts beside its samples."""

    def __init__(self):
        super().__init__(name="texts")
        self.dense = L.Dense(3)

    def call(self, latents, training=False):
        samples = self.dense(latents)
        return {"samples": samples, "caption": tf.strings.as_string(samples[:, 0])}


def texts():
    model = Texts()
    model(LATENT_ROWS)
    return model


def of_function(function):
    latents = keras.Input((LATENTS,), name="latents")
    return keras.Model(latents, L.Lambda(function, output_shape=(LATENTS,), name="n")(latents))


def of_outputs(arrange):
    """A functional model of a text and of samples, which `arrange` nests."""
    latents = keras.Input((LATENTS,), name="latents")
    text = L.Lambda(tf.strings.as_string, output_shape=(LATENTS,), name="bad")(latents)
    return keras.Model(latents, arrange(text, L.Dense(3, name="good")(latents)))


@pytest.mark.parametrize(
    ("build", "received"),
    [
        (
            lambda: of_outputs(lambda text, good: {"a": text, "samples": good}),
            "output 'a' of dtype string, of layer 'bad'",
        ),
        (
            lambda: of_outputs(lambda text, good: {"samples": good, "z": text}),
            "output 'z' of dtype string, of layer 'bad'",
        ),
        (lambda: of_outputs(lambda text, good: [good, text]), "of dtype string, of layer 'bad'"),
        (lambda: of_outputs(lambda text, good: [text, good]), "of dtype string, of layer 'bad'"),
        (texts, "output 'caption' of dtype string, of model 'texts'"),
        (lambda: of_function(tf.strings.as_string), "'samples' of dtype string, of layer 'n'"),
        (lambda: of_function(lambda x: tf.complex(x, x)), "of dtype complex64, of layer 'n'"),
    ],
)
def test_outputs_that_are_not_numbers_are_refused(build, received, tmp_path):
    with pytest.raises(UsageError, match=rf"must be numbers: .*Received: .*{received}$"):
        export.export_bundle(build(), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------ layers


@pytest.mark.parametrize("run", [in_onnx(17), in_graph], ids=["onnx", "graph"])
@pytest.mark.parametrize("nested", [False, True])
def test_the_first_layer_that_differs_is_named(run, nested):
    inner = keras.Sequential([L.Dense(4, name="a"), Otherwise(name="culprit")], name="block")
    model = with_layer(inner if nested else Otherwise(name="culprit"))
    before = {name: layer.call for name, layer in ((x.name, x) for x in model.layers)}
    found = first_difference(open_network(model), {"latents": LATENT_ROWS}, 1e-5, run)
    path = "block/culprit" if nested else "culprit"
    assert found.startswith(f"the first to differ is layer '{path}' (Otherwise), by 0.")
    assert {layer.name: layer.call for layer in model.layers} == before
    assert not any("call" in vars(layer) for layer in model.layers)


def test_layers_that_agree_are_not_accused():
    """A layer in two places, a branch, a loop whose inner tensors cannot be read."""
    latents = keras.Input((LATENTS,), name="latents")
    shared = L.Dense(LATENTS, activation="tanh", name="shared")
    x = L.Reshape((4, 2))(shared(shared(latents)))
    x = L.Add()([L.GRU(3, name="loop")(x), L.Dense(3)(latents)])
    model = keras.Model(latents, ops.tanh(x))
    for run in (in_onnx(17), in_graph):
        found = first_difference(open_network(model), {"latents": LATENT_ROWS}, 1e-5, run)
        assert found == "every layer alone agrees"


def test_numbers_of_numpy_in_a_layer_are_named():
    rng = np.random.default_rng(0)
    layer = Apply(lambda x: x + rng.normal(size=LATENTS).astype("float32"), name="n")
    network = open_network(with_layer(layer))
    found = first_difference(network, {"latents": LATENT_ROWS}, 1e-3, in_graph)
    assert found.startswith("layer 'n' (Apply) returns other values each time")
    assert "take the noise as an input" in found


def test_an_export_that_differs_names_the_layer_and_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match="A bundle must pass its own check") as caught:
        export.export_bundle(with_layer(Otherwise(name="culprit")), tmp_path / "bundle")
    message = str(caught.value)
    assert "onnx must reproduce the samples of Keras within 1e-05" in message
    assert "; the first to differ is layer 'culprit' (Otherwise), by 0." in message
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------ formats

DENSE = '''
"""Weights of one dense layer."""
import numpy as np

FILE_NAME = "{name}.npz"


def write(network, to):
    kernel, bias = network.model.weights
    np.savez(to, kernel={factor} * kernel.numpy(), bias=bias.numpy())
'''
RUN = """

def run(path, batches):
    with np.load(path) as weights:
        kernel, bias = weights["kernel"], weights["bias"]
    return [{"samples": batch["latents"] @ kernel + bias} for batch in batches]
"""


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Registers formats as a user does: one file each."""
    folder = tmp_path / "formats"
    folder.mkdir()
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(folder)])

    def add(name, factor=1, run=RUN):
        code = textwrap.dedent(DENSE.format(name=name, factor=factor)) + run
        (folder / f"{name}.py").write_text(code)

    return add


def points():
    return keras.Sequential([keras.Input((LATENTS,)), L.Dense(2)], name="points")


def test_formats_of_ones_own_are_compared_with_keras(register, tmp_path):
    register("dense")
    register("silent", run='\nNOT_RUN = "weights alone compute nothing"\n')
    bundle = export.export_bundle(points(), tmp_path / "b", formats=["dense", "silent"])
    parity = json.loads((bundle.path / "manifest.json").read_text())["parity"]
    assert set(parity["figures"]["dense"]) == {"1", "5", "64"}
    assert max(parity["figures"]["dense"].values()) < 1e-6
    assert "silent" not in parity["figures"]
    assert parity["not_run"] == {"silent": "weights alone compute nothing"}
    report = export.verify_bundle(bundle.path)
    assert report.ok
    assert set(report.figures["dense"]) == {1, 5, 64}
    assert "silent                          not run: weights alone compute nothing" in str(report)


def test_a_format_that_writes_a_wrong_file_is_refused_and_leaves_nothing(register, tmp_path):
    register("doubled", factor=2)
    with pytest.raises(UsageError, match="doubled must reproduce the samples of Keras") as caught:
        export.export_bundle(points(), tmp_path / "b", formats=["doubled"])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*b*"))


@pytest.mark.parametrize(
    ("name", "run", "missing"),
    [
        ("neither", "", "run \\(or NOT_RUN"),
        ("empty", '\nNOT_RUN = ""\n', "run \\(or NOT_RUN"),
        ("constant", "\nrun = 3\n", "run \\(or NOT_RUN"),
    ],
)
def test_a_format_must_run_or_say_why_not(name, run, missing, register, tmp_path):
    register(name, run=run)
    with pytest.raises(UsageError, match=f"Received: '{name}' without {missing}"):
        export.export_bundle(points(), tmp_path / "b", formats=[name])


@pytest.mark.parametrize(
    ("name", "run", "problem"),
    [
        ("crashes", "\ndef run(path, batches):\n    raise KeyError('x')\n", "KeyError"),
        ("short", "\ndef run(path, batches):\n    return []\n", "an output for each of 3 batches"),
    ],
)
def test_a_format_that_fails_is_a_problem(name, run, problem, register, clothes, tmp_path):
    register(name, run=run)
    bundle = shutil.copytree(clothes.path, tmp_path / "bundle")
    (bundle / f"{name}.npz").touch()
    figures, (found,) = compare_formats(bundle, clothes.manifest)
    assert figures == {}
    assert found.startswith(f"{name}.npz must")
    assert problem in found
