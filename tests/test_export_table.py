"""Every kind of generator x SavedModel and ONNX x batch 1, 5, 64: the contract of export.

A row of the table is a generator. Each is written as `export_bundle` writes it, with random weights
and batch statistics; the SavedModels run in processes without Keras.
"""

import dataclasses
import traceback
from collections.abc import Callable
from typing import Any

import families
import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf

import keras_gan
from export.bundle import write_models
from export.draft import open_draft
from export.golden import check_golden, load_golden
from export.triton import configuration
from export.verify import (
    TOLERANCE,
    compare_onnx,
    compare_saved_models,
    plan_saved_models,
    run_saved_models,
)

L = keras.layers
ours = keras_gan.layers
LATENTS = 6


@dataclasses.dataclass
class Row:
    """A generator and its expected properties."""

    build: Callable[[], keras.Model]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    call: Callable[[dict], Any] = lambda golden: golden["latents"]  # the arguments of the model
    inputs: tuple[str, ...] = ("latents",)
    outputs: tuple[str, ...] = ("samples",)
    kind: str = "image"
    close: float = (
        1e-6  # difference to the model itself; larger for mixed precision, exported in float32
    )


TABLE: dict[str, Row] = {}
# Resizing and several inputs or outputs are in test_export_resizing and test_export_networks.
FAST = [
    "dcgan, classes by batch norm",
    "gelu, exact",
    "r3gan, classes",
    "transposed valid, output_padding",
    "GRU",
]


def row(name: str, **about: Any):
    """Adds the model that a function builds to the table."""

    def add(build):
        TABLE[name] = Row(build, **about)
        return build

    return add


LABELS = {"inputs": ("latents", "labels"), "options": {"num_classes": 3}}
BOTH: dict[str, Any] = LABELS | {"call": lambda golden: [golden["latents"], golden["labels"]]}


def chain(*layers, shape=(4, 4, 4), end=True):
    """Latents, a Dense layer into a shape, some layers and a convolution to images."""
    start = [keras.Input((LATENTS,)), L.Dense(int(np.prod(shape))), L.Reshape(shape)]
    last = [L.Conv2D(3, 3, padding="same", activation="tanh")] if end else []
    return keras.Sequential([*start, *layers, *last])


def in_chain(name: str, *make: Callable[[], L.Layer], shape=(4, 4, 4), **about: Any) -> None:
    end = about.pop("end", True)
    TABLE[name] = Row(lambda: chain(*(m() for m in make), shape=shape, end=end), **about)


# ------------------------------------------------------------------ architectures of the package

FAMILIES: list[tuple[str, str, dict, bool]] = [
    ("dcgan", "dcgan", {"widths": [8, 4, 4]}, False),
    ("dcgan, classes by concatenation", "dcgan", {"widths": [8, 4, 4]}, True),
    (
        "dcgan, classes by batch norm",
        "dcgan",
        {"widths": [8, 4, 4], "conditioning": "batch_norm", "extra_convolutions": 1},
        True,
    ),
    ("resnet", "resnet", {"widths": [8, 4, 4]}, False),
    (
        "resnet, attention, spectral norm",
        "resnet",
        {"widths": [8, 4, 4], "attention": 4, "spectral": True},
        True,
    ),
    (
        "resnet, classes by concatenation",
        "resnet",
        {"widths": [8, 4, 4], "conditioning": "concatenation"},
        True,
    ),
    ("r3gan", "r3gan", {"widths": [16, 8, 8]}, False),
    ("r3gan, classes", "r3gan", {"widths": [16, 8, 8]}, True),
    ("multi_scale", "multi_scale", {"widths": [8, 4, 4]}, False),
    ("mlp", "mlp", {"widths": [16]}, False),
    ("mlp, classes", "mlp", {"widths": [16]}, True),
    ("video_clip", "video_clip", {"widths": [8, 4, 4]}, False),
    ("video_clip, classes", "video_clip", {"widths": [8, 4, 4], "norm": "layer"}, True),
    ("text_resnet", "text_resnet", {"width": 8, "blocks": 1}, False),
    ("text_resnet, classes", "text_resnet", {"width": 8, "blocks": 1}, True),
    ("wavegan", "wavegan", {"width": 4}, False),
    ("wavegan, classes", "wavegan", {"width": 4, "upsampling": "sub_pixel"}, True),
]


def of_family(family, options, conditional):
    spec = families.spec(family, (8, 12, 3), 128, num_classes=3 * conditional)
    build = keras_gan.architectures.build_network
    return build("generator", family, spec, conditional, latent_dim=LATENTS, **options)


for _name, *_player, _conditional in FAMILIES:
    # The kinds of sounds and texts, of two axes, have to be declared.
    _of_two_axes = (*families.OF_SOUND, *families.OF_TEXT)
    _kind = {"kind": "series"} if _player[0] in _of_two_axes else {}
    _kind |= {"kind": "video"} if _player[0] in families.OF_VIDEO else {}
    TABLE[_name] = Row(
        lambda player=(*_player, _conditional): of_family(*player),
        **_kind | (BOTH if _conditional else {}),
    )


def test_every_architecture_is_in_the_table():
    """Those from pictures to pictures are in tests/test_architectures_pictures.py."""
    assert {family for _, family, *_ in FAMILIES} == set(families.of_latents())


# ----------------------------------------------------------------------- ways to write a model


@row("functional, upsampling, a Resizing")
def functional():
    z = keras.Input((LATENTS,))
    x = L.UpSampling2D()(L.Reshape((2, 2, 8))(L.Dense(2 * 2 * 8)(z)))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(6, 3, padding="same")(x)))
    x = L.Resizing(6, 6, interpolation="bilinear")(x)  # in Keras 3.15 it leaks training=True
    x = L.Dropout(0.5)(L.Activation("silu")(L.BatchNormalization()(x)))
    return keras.Model(z, L.Conv2D(4, 3, padding="same", activation="tanh")(x))


class Subclassed(keras.Model):
    """Takes a dict and returns normalized points."""

    def __init__(self):
        super().__init__()
        self.embedding = L.Embedding(3, LATENTS)
        self.hidden = L.Dense(16, activation="relu")
        self.normalization = L.BatchNormalization()
        self.out = L.Dense(2)

    def call(self, inputs, training=None):
        x = inputs["latents"] + self.embedding(inputs["labels"])
        return self.out(self.normalization(self.hidden(x), training=training))


@row("subclassed, dict", **{**LABELS, "kind": "points", "call": lambda golden: pick(golden)})
def subclassed():
    model = Subclassed()
    model({"latents": np.zeros((2, LATENTS), "float32"), "labels": np.zeros(2, "int32")})
    return model


def pick(golden, names=("latents", "labels")):
    return {name: golden[name] for name in names}


@row("nested, layers of the same names")
def nested():
    def block(size, channels):
        x = inputs = keras.Input((size, size, channels))
        x = L.Conv2DTranspose(channels, 4, 2, "same", name="up")(x)
        x = L.BatchNormalization(name="norm")(x)
        return keras.Model(inputs, L.LeakyReLU(0.2, name="activation")(x))

    inner = keras.Sequential([block(2, 4), block(4, 4)], name="inner")
    outer = keras.Sequential([keras.Input((2, 2, 4)), inner, L.Conv2D(3, 3, padding="same")])
    return keras.Sequential(
        [keras.Input((LATENTS,)), L.Dense(16), L.Reshape((2, 2, 4)), outer, L.Activation("tanh")]
    )


@row("shared layers")
def shared():
    z = keras.Input((LATENTS,))
    dense, conv, norm = L.Dense(LATENTS), L.Conv2D(4, 3, padding="same"), L.BatchNormalization()
    x = dense(keras.ops.relu(dense(dense(z))))
    x = L.Reshape((4, 4, 4))(L.Dense(64)(x))
    for _ in range(3):
        x = keras.ops.tanh(norm(conv(x)) + x)
    return keras.Model(z, L.Conv2D(1, 1)(x))


# ------------------------------------------------------------------------- inputs and outputs


@row("labels by embedding, named y", **BOTH)
def by_embedding():
    z, y = keras.Input((LATENTS,), name="z"), keras.Input((), dtype="int32", name="y")
    x = L.Concatenate()([z, L.Embedding(3, 4)(y)])
    return keras.Model([z, y], pictures(x))


def pictures(x):
    x = L.Reshape((4, 4, 4))(L.Dense(64)(x))
    return L.Conv2DTranspose(3, 4, 2, "same", activation="tanh")(x)


def hot(golden):
    return np.eye(3, dtype="float32")[golden["labels"]]


@row("labels one-hot, first", **{**LABELS, "call": lambda g: [hot(g), g["latents"]]})
def one_hot():
    y, z = keras.Input((3,)), keras.Input((LATENTS,))
    return keras.Model([y, z], pictures(L.Concatenate()([z, y])))


@row(
    "labels one-hot by name",
    inputs=("latents", "labels"),
    call=lambda g: {"class_id": hot(g), "noise": g["latents"]},
)
def one_hot_named():
    inputs = {"class_id": keras.Input((3,)), "noise": keras.Input((LATENTS,))}
    return keras.Model(inputs, pictures(L.Concatenate()(list(inputs.values()))))


@row(
    "labels as a float column",
    **{**LABELS, "call": lambda g: [g["latents"], g["labels"][:, None].astype("float32")]},
)
def float_labels():
    z, y = keras.Input((LATENTS,)), keras.Input((1,))
    return keras.Model([z, y], pictures(L.Concatenate()([z, y])))


@row("labels that change nothing", **BOTH)
def ignored():
    z, y = keras.Input((LATENTS,)), keras.Input((), dtype="int32", name="labels")
    return keras.Model([z, y], pictures(z))


@row("latents (1, 1, n)", call=lambda g: g["latents"][:, None, None])
def spatial_latents():
    layers = [L.Conv2DTranspose(8, 4, 1, "valid"), L.ReLU(), L.Conv2DTranspose(3, 4, 2, "same")]
    return keras.Sequential([keras.Input((1, 1, LATENTS)), *layers])


@row(
    "two latents, a style and an integer",
    options={"num_classes": 3},
    inputs=("latents", "labels", "fine", "style", "steps"),
    call=lambda g: [g["latents"], g["fine"], g["style"], g["steps"], g["labels"]],
)
def several_latents():
    z, fine = keras.Input((LATENTS,), name="z"), keras.Input((4, 4, 2), name="fine")
    style, steps = keras.Input((5,), name="style"), keras.Input((2,), dtype="int32", name="steps")
    labels = keras.Input((), dtype="int64", name="labels")
    x = L.Concatenate()(
        [z, style, keras.ops.cast(steps, "float32"), keras.ops.one_hot(labels, 3, dtype="float32")]
    )
    x = L.Concatenate()([L.Reshape((4, 4, 2))(L.Dense(32)(x)), fine])
    x = L.Conv2D(3, 3, padding="same")(x)
    return keras.Model([z, fine, style, steps, labels], x)


@row(
    "several inputs and outputs",
    inputs=("latents", "style"),
    outputs=("samples", "depth", "mask"),
    call=lambda g: pick(g, ("latents", "style")),
)
def several_outputs():
    z, style = keras.Input((LATENTS,), name="latents"), keras.Input((5,), name="style")
    x = L.Reshape((4, 4, 4))(L.Dense(64)(L.Concatenate()([z, style])))
    x = L.BatchNormalization()(x)
    outputs = {
        "depth": L.Conv2D(1, 1)(x)[..., 0],
        "mask": keras.ops.argmax(x, axis=-1),
        "samples": L.Conv2D(3, 3, padding="same", activation="tanh")(x),
    }
    return keras.Model({"latents": z, "style": style}, outputs)


@row("a list of outputs", outputs=("samples", "alpha"))
def list_of_outputs():
    z = keras.Input((LATENTS,))
    x = L.Reshape((4, 4, 4))(L.Dense(64)(z))
    return keras.Model(z, [L.Conv2D(3, 1, name="color")(x), L.Conv2D(1, 1, name="alpha")(x)])


class Arguments(keras.Model):
    """Takes separate arguments and returns a tuple."""

    def __init__(self):
        super().__init__()
        self.out = L.Dense(4)

    def build(self, z_shape, style_shape):
        self.out.build((None, z_shape[-1] + style_shape[-1]))

    def call(self, z, style):
        x = self.out(keras.ops.concatenate([z, style], -1))
        return x, keras.ops.sum(x, -1)


@row(
    "separate arguments, a tuple",
    inputs=("latents", "style"),
    outputs=("samples", "output_1"),
    kind="points",
    call=lambda g: (g["latents"], g["style"]),
)
def arguments():
    model = Arguments()
    model(np.zeros((2, LATENTS), "float32"), np.zeros((2, 3), "float32"))
    return model


# ----------------------------------------------------------------------------------- layers

in_chain("BatchNormalization", L.BatchNormalization, L.ReLU)
in_chain("LayerNormalization", L.LayerNormalization)
in_chain("GroupNormalization", lambda: L.GroupNormalization(2), L.ReLU)
in_chain("our GroupNormalization", lambda: ours.GroupNormalization(2), L.ReLU)
in_chain("instance norm", lambda: L.GroupNormalization(-1))
in_chain("UnitNormalization", L.UnitNormalization)
in_chain("PixelNormalization", ours.PixelNormalization)
in_chain(
    "SpectralNormalization",
    lambda: ours.SpectralNormalization(ours.Conv2D(4, 3, padding="same")),
    lambda: ours.SpectralNormalization(L.Conv2DTranspose(4, 4, 2, "same")),
)
in_chain("our SelfAttention2D", ours.SelfAttention2D, shape=(4, 4, 8))
in_chain("our blurs", ours.BlurUpsample2D, ours.BlurPool2D, ours.UpSampling2D)
in_chain(
    "our Basis2D and NarrowConv2D",
    lambda: ours.Basis2D(4, 4),
    lambda: ours.NarrowConv2D(2, 3),
    shape=(8,),
)
in_chain("our Conv2DTranspose", lambda: ours.Conv2DTranspose(4, 4, 2, "same"))
in_chain(
    "our UpConv2D", lambda: ours.UpConv2D(4), lambda: ours.SpectralNormalization(ours.UpConv2D(4))
)
in_chain("equalized", lambda: ours.EqualizedConv2D(4, 3), L.LeakyReLU)
in_chain("UpSampling2D, nearest", L.UpSampling2D)
in_chain("UpSampling2D, bilinear", lambda: L.UpSampling2D(2, interpolation="bilinear"))
in_chain("Conv2D in groups", lambda: L.Conv2D(4, 3, groups=2, padding="same"))
in_chain("Conv2D, dilated", lambda: L.Conv2D(4, 3, dilation_rate=2, padding="same"))
in_chain("SeparableConv2D", lambda: L.SeparableConv2D(4, 3, padding="same"))
in_chain("DepthwiseConv2D", lambda: L.DepthwiseConv2D(3, 2))
in_chain(
    "pooling",
    lambda: L.AveragePooling2D(2),
    L.UpSampling2D,
    lambda: L.MaxPooling2D(2),
    lambda: L.ZeroPadding2D(3),
)
in_chain("cropping", lambda: L.Cropping2D(((1, 0), (0, 2))), lambda: L.Permute((2, 1, 3)))
in_chain("gelu, exact", lambda: L.Activation("gelu"), L.BatchNormalization)
in_chain("gelu, tanh", lambda: L.Activation(lambda x: keras.ops.gelu(x, approximate=True)))
in_chain(
    "activations",
    lambda: L.Conv2D(4, 1, activation="silu"),
    lambda: L.Conv2D(4, 1, activation="softplus"),
    lambda: L.Conv2D(4, 1, activation="mish"),
    L.PReLU,
    L.ELU,
    lambda: L.Activation("selu"),
    lambda: L.Activation("hard_sigmoid"),
    L.Softmax,
)
in_chain(
    "noise layers",
    lambda: L.GaussianNoise(0.5),
    lambda: L.Dropout(0.5),
    lambda: L.GaussianDropout(0.5),
    lambda: L.SpatialDropout2D(0.5),
    lambda: L.AlphaDropout(0.5),
)
for _kernel in (3, 4, 5):
    for _padding in ("valid", "same"):
        in_chain(
            f"transposed {_padding}, kernel {_kernel}",
            lambda k=_kernel, p=_padding: L.Conv2DTranspose(5, k, 2, p),
            L.BatchNormalization,
            L.ReLU,
        )
in_chain(
    "transposed valid, output_padding",
    lambda: L.Conv2DTranspose(4, 3, 2, "valid", output_padding=1),
    L.LeakyReLU,
    lambda: L.Conv2DTranspose(4, (2, 3), (4, 3), "valid", output_padding=(3, 0)),
)
in_chain("transposed same, output_padding", lambda: L.Conv2DTranspose(4, 5, 2, "same", 1))
in_chain("transposed, strides beyond the kernel", lambda: L.Conv2DTranspose(4, 1, 2, "valid"))
in_chain("transposed same, strides beyond the kernel", lambda: L.Conv2DTranspose(4, 2, 3, "same"))
in_chain("transposed, dilated", lambda: L.Conv2DTranspose(4, 3, 1, "same", dilation_rate=2))


class DepthToSpace(L.Layer):
    def call(self, x):
        return tf.nn.depth_to_space(x, 2)


class Resize(L.Layer):
    """Resizes with a filter of `tf.image`."""

    def __init__(self, method, size=(7, 9), antialias=False):
        super().__init__()
        self.method, self.size, self.antialias = method, size, antialias

    def call(self, x):
        return tf.image.resize(x, self.size, self.method, antialias=self.antialias)


in_chain("depth_to_space", DepthToSpace, shape=(4, 4, 8))
in_chain("resize by Lanczos", lambda: Resize("lanczos3"), L.BatchNormalization)
in_chain("resize, antialiased", lambda: Resize("bilinear", (3, 7), antialias=True))
in_chain("resize, antialiased cubic", lambda: Resize("bicubic", (3, 2), antialias=True))
in_chain("resize by a Gaussian", lambda: Resize("gaussian"))
in_chain("resize, cubic", lambda: Resize("bicubic", (8, 8)))
in_chain("resize, nearest", lambda: Resize("nearest", (8, 8)))


# ------------------------------------------------------------------ sequences, audio and video


SERIES = {"shape": (8, 4), "end": False, "kind": "series"}
in_chain("LSTM", lambda: L.LSTM(5, return_sequences=True), **SERIES)
in_chain("GRU", lambda: L.GRU(5, return_sequences=True), lambda: L.Dense(2), **SERIES)
in_chain("SimpleRNN", lambda: L.SimpleRNN(5, return_sequences=True), **SERIES)
in_chain("bidirectional", lambda: L.Bidirectional(L.LSTM(5, return_sequences=True)), **SERIES)
in_chain(
    "audio by transposed convolutions",
    lambda: L.Conv1DTranspose(4, 25, 4, "same"),
    L.BatchNormalization,
    L.ReLU,
    lambda: L.Conv1DTranspose(1, 4, 2, "valid", activation="tanh"),
    shape=(4, 8),
    end=False,
    kind="audio",
    options={"kind": "audio", "value_range": (-1, 1)},
)
in_chain(
    "audio, convolutions with output_padding",
    L.UpSampling1D,
    lambda: L.Conv1D(4, 5, padding="same", dilation_rate=2),
    lambda: L.Conv1DTranspose(2, 3, 2, "valid", output_padding=1),
    **SERIES,
)
in_chain(
    "video",
    lambda: L.Conv3DTranspose(4, 4, 2, "same"),
    L.BatchNormalization,
    L.ReLU,
    lambda: L.Conv3DTranspose(3, 3, (1, 2, 2), "same", activation="tanh"),
    shape=(2, 2, 2, 4),
    end=False,
    kind="video",
)
in_chain(
    "video, convolutions",
    L.UpSampling3D,
    lambda: L.Conv3D(3, 3, padding="same"),
    lambda: L.Conv3DTranspose(3, 3, 2, "valid", output_padding=1),
    shape=(2, 2, 2, 4),
    end=False,
    kind="video",
)
in_chain("an array of any form", L.LeakyReLU, shape=(3, 2, 5), end=False, kind="array")


@row("multi-head attention over a sequence", kind="series")
def transformer():
    z = keras.Input((LATENTS,))
    x = L.Reshape((8, 4))(L.Dense(32)(z))
    x = x + L.Embedding(8, 4)(keras.ops.arange(8))
    x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 2)(x, x, use_causal_mask=True))
    return keras.Model(z, L.Dense(3, activation="gelu")(x))


for _policy in ("mixed_float16", "mixed_bfloat16"):

    @row(_policy, close=0.1, **BOTH)
    def reduced(policy=_policy):
        keras.config.set_dtype_policy(policy)
        try:
            return of_family("dcgan", {"widths": [8, 4, 4], "conditioning": "batch_norm"}, True)
        finally:
            keras.config.set_dtype_policy("float32")


# ---------------------------------------------------------------------------------- the table


def settled(build):
    """Builds a model with weights and statistics that differ from the initial zeros and ones."""
    keras.utils.set_random_seed(7)
    model = build()
    rng = np.random.default_rng(1)
    for variable in model.variables:
        if variable.name.startswith("moving"):
            low, high = (0.5, 2.0) if "var" in variable.name else (-0.3, 0.3)
            variable.assign(rng.uniform(low, high, variable.shape))
        elif variable.dtype == "float32":
            variable.assign_add(0.1 * rng.normal(size=variable.shape))
    return model


@dataclasses.dataclass
class Cell:
    """The result for one row."""

    model: Any = None
    path: Any = None
    probe: Any = None
    draft: Any = None
    figures: dict = dataclasses.field(default_factory=dict)
    problems: list = dataclasses.field(default_factory=list)
    error: str = ""


def write_table(names, folder):
    """Writes the rows and runs everything; an error is stored in the cell of its row."""
    cells = {}
    for number, name in enumerate(names):
        cell = cells[name] = Cell(path=folder / str(number))
        try:
            cell.path.mkdir()
            cell.model = settled(TABLE[name].build)
            network, cell.draft = open_draft(
                cell.model, name="row", **{"kind": None, **TABLE[name].options}
            )
            cell.probe = write_models(network, cell.path, cell.draft)
            cell.figures, cell.problems = compare_onnx(cell.path, cell.draft, cell.probe)
            plan = plan_saved_models(cell.path, cell.draft, cell.probe)
            ran = run_saved_models("row", plan)
            figures, problems = compare_saved_models(cell.path, cell.draft, plan, ran)
            cell.figures, cell.problems = cell.figures | figures, cell.problems + problems
        except Exception:
            cell.error = traceback.format_exc()
    return cells


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    return write_table(FAST, tmp_path_factory.mktemp("table"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_table([n for n in TABLE if n not in FAST], tmp_path_factory.mktemp("table"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FAST)
def test_a_generator_is_exported_exactly(name, fast):
    check(TABLE[name], fast[name])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in TABLE if name not in FAST])
def test_every_generator_is_exported_exactly(name, whole):
    check(TABLE[name], whole[name])


def check(expected: Row, cell: Cell):
    assert not cell.error, cell.error
    assert cell.problems == []
    draft = cell.draft

    # Parity of both formats at every batch, and with random statistics where there are any.
    has_statistics = any(v.name.startswith("moving") for v in cell.model.variables)
    runtimes = {"onnx", "saved_model", "saved_model generate"}
    assert all(set(cell.figures[runtime]) == {1, 5, 64} for runtime in runtimes)
    probes = {"onnx, random statistics", "saved_model, random statistics"}
    assert set(cell.figures) - runtimes == (probes if has_statistics else set())
    worst = {runtime: max(by_batch.values()) for runtime, by_batch in cell.figures.items()}
    assert max(worst.values()) <= TOLERANCE <= 1e-5, worst

    # The golden samples equal those of the model itself.
    assert check_golden(cell.path, draft) == []
    golden = load_golden(cell.path)
    given = expected.call(golden)
    arguments = given if isinstance(given, tuple) else (given,)
    own = cell.model(*arguments, training=False)
    if isinstance(own, dict):
        own = {"samples": own.pop("samples"), **own}
    for name, array in zip(expected.outputs, keras.tree.flatten(list(values(own))), strict=True):
        array = np.asarray(keras.ops.convert_to_numpy(array)).astype("float64")
        scale = max(1.0, np.abs(array).max())
        np.testing.assert_allclose(golden[name], array, rtol=0, atol=expected.close * scale)
    assert np.ptp(golden["samples"], axis=0).max() > 1e-3  # the samples depend on the latents

    # Names, dtypes and shapes of the manifest.
    draft.validate()
    assert configuration(draft).count("{ name:") == len(expected.inputs + expected.outputs)
    assert draft.first.kind == expected.kind
    assert [port.name for port in draft.inputs] == list(expected.inputs)
    assert [port.name for port in draft.outputs] == list(expected.outputs)
    model = onnx.load(cell.path / "model.onnx")
    assert (model.ir_version, [x.version for x in model.opset_import]) == (8, [17])
    for port, value in zip(
        [*draft.inputs, *draft.outputs], [*model.graph.input, *model.graph.output], strict=True
    ):
        tensor = value.type.tensor_type
        assert value.name == port.name
        assert [d.dim_param or d.dim_value for d in tensor.shape.dim] == ["batch", *port.shape]
        assert onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name == port.dtype


def values(outputs):
    if isinstance(outputs, dict):
        return outputs.values()
    return outputs if isinstance(outputs, list | tuple) else [outputs]
