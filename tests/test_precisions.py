"""Bundles with models in reduced precision: records, opening, verification, errors."""

import dataclasses
import json
import math
import shutil

import bundles
import numpy as np
import onnx
import onnxruntime
import pytest
import test_export_table as table
from test_quantize import graph, normal, pictures, run

import export
import serving
from export import fidelity, precisions, quantize, speed
from export.draft import open_draft
from export.manifest import Manifest
from export.tensor_ranges import tensor_ranges
from export.to_float16 import to_float16
from export.to_onnx import to_onnx
from keras_gan import UsageError, __main__, metrics
from serving import cli
from serving.inputs import Input, Port

FILES = {"float16": "model.fp16.onnx", "int8": "model.int8.onnx"}


@pytest.fixture(scope="session")
def reduced(tmp_path_factory):
    """The bundle of `clothes` with both precisions, whatever their speed and fidelity."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantize, "LEAST_SPEEDUP", 0.0)
        patch.setattr(quantize, "MOST_CHANGE", 100.0)
        patch.setattr(fidelity, "MOST", 512)
        patch.setattr(speed, "_MEASUREMENT", 0.001)
        to = tmp_path_factory.mktemp("reduced") / "bundle"
        return bundles.write(to, precision="float16,int8").path


@pytest.fixture
def copy(reduced, tmp_path):
    return shutil.copytree(reduced, tmp_path / "bundle")


def test_recorded_parity_equals_measured_parity(reduced):
    manifest = Manifest.load(reduced)
    with np.load(reduced / "golden.npz") as file:
        golden = dict(file)
    for name, file in FILES.items():
        told = manifest.parity["precisions"][name]
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")  # docs/bundle.md
        session = onnxruntime.InferenceSession(
            str(reduced / file), options, providers=["CPUExecutionProvider"]
        )
        for batch in (1, 5, 64):
            rows = np.arange(batch) % len(golden["seeds"])
            inputs = {"latents": golden["latents"][rows], "labels": golden["labels"][rows]}
            found = session.run(["samples"], inputs)[0].astype("float64")
            error = (found - golden["samples"][rows]) / 2  # the range is [-1, 1]
            assert told["max"][str(batch)] == pytest.approx(np.abs(error).max(), rel=0.02)
            assert told["rms"][str(batch)] == pytest.approx(math.sqrt((error**2).mean()), rel=0.02)
        assert told["frechet"]["samples"] == 512
        assert told["frechet"]["reference"] == ("512 samples of the float32 model from other seeds")
        assert told["speed"]["times_as_fast"] > 0
    assert manifest.parity["precisions"]["int8"]["int8"]


def test_a_bundle_opens_in_each_precision(reduced):
    whole = serving.Bundle(reduced)
    assert whole.precision == "float32"
    expected = whole.generate(range(20))
    for name, most in (("float16", 5e-3), ("int8", 0.2)):
        bundle = serving.Bundle(reduced, precision=name)
        assert bundle.sha256 == whole.manifest["files"][FILES[name]]["sha256"]
        difference = np.abs(bundle.generate(range(20)) - expected).max()
        assert 0 < difference < most


def test_sample_takes_a_precision(reduced, tmp_path, capsys):
    out = tmp_path / "samples.npz"
    assert cli.main(["sample", str(reduced), "--precision", "int8", "--out", str(out)]) == 0
    with np.load(out) as file:
        expected = serving.Bundle(reduced, precision="int8").generate(range(64))
        np.testing.assert_array_equal(file["samples"], expected)


def test_a_missing_precision_is_refused(clothes, reduced, capsys):
    rule = r"keras-gan export --precision int8\. Received: precision='int8'.* with float32$"
    with pytest.raises(serving.UsageError, match=rule):
        serving.Bundle(clothes.path, precision="int8")
    with pytest.raises(serving.UsageError, match=r"precision='int4'.* float32, float16, int8$"):
        serving.Bundle(reduced, precision="int4")
    assert cli.main(["sample", str(clothes.path), "--precision", "float16"]) == 2
    assert "--precision float16" in capsys.readouterr().err


def test_verify_checks_them_all(reduced):
    report = export.verify_bundle(reduced)
    assert report.ok, report
    assert {"onnx float16", "onnx int8"} <= report.figures.keys()
    card = (reduced / "README.md").read_text()
    assert "`model.int8.onnx` (int8)" in card


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_model_is_refused(copy, name):
    bundles.flip(copy / FILES[name])
    with pytest.raises(serving.UsageError, match=f"{FILES[name]} must have the SHA-256"):
        serving.Bundle(copy, precision=name)
    serving.Bundle(copy)
    assert f"{FILES[name]} was changed" in export.verify_bundle(copy).problems[0]


def edited(bundle, change):
    content = json.loads((bundle / "manifest.json").read_text())
    change(content)
    bundles.reseal(bundle, content, files=False)
    return content


def test_verify_refuses_models_and_figures_that_do_not_belong_together(copy):
    content = edited(copy, lambda content: content["parity"]["precisions"].pop("int8"))
    assert "model.int8.onnx must have its figures" in export.verify_bundle(copy).problems[0]
    (copy / "model.int8.onnx").unlink()
    content["parity"]["precisions"]["int8"] = content["parity"]["precisions"]["float16"]
    content["files"].pop("model.int8.onnx")
    bundles.reseal(copy, content, files=False)
    assert "model.int8.onnx is not in manifest.json" in export.verify_bundle(copy).problems[0]


def test_figures_of_a_manifest_are_validated(copy):
    edited(copy, lambda content: content["parity"]["precisions"]["int8"].pop("rms"))
    with pytest.raises(UsageError, match=r"`parity` in manifest\.json must be .*Received: parity="):
        export.verify_bundle(copy)


def test_a_model_with_larger_errors_than_recorded_fails(copy):
    """Exchanges the files of the two precisions and corrects the hashes."""
    half, eight = (copy / file for file in FILES.values())
    content = half.read_bytes(), eight.read_bytes()
    half.write_bytes(content[1])
    eight.write_bytes(content[0])
    bundles.reseal(copy)
    manifest = Manifest.load(copy)
    _, problems = export.verify.compare_precisions(copy, manifest)
    assert problems
    assert all("model.fp16.onnx must differ from Keras by what" in p for p in problems)


def test_a_precision_without_benefit_leaves_no_bundle(tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "LEAST_SPEEDUP", 1e6)
    monkeypatch.setattr(fidelity, "MOST", 512)
    monkeypatch.setattr(speed, "_MEASUREMENT", 0.001)
    with pytest.raises(UsageError, match=r"at least 1000000.0 times .* Received: \d+\.\d\d times"):
        bundles.write(tmp_path / "bundle", precision="int8")
    assert not list(tmp_path.iterdir())


def test_names_of_precisions():
    parse = precisions.parse_precisions
    assert parse(()) == ()
    assert parse("int8") == ("int8",)
    assert parse(["int8,float16", "int8"]) == ("float16", "int8")
    with pytest.raises(UsageError, match=r"float32 is always there\. Received: precision='int4'"):
        parse("int8,int4")


def test_a_model_repository_has_only_float32(capsys):
    with pytest.raises(SystemExit) as stopped:
        __main__.main(["export", "run", "--layout", "triton", "--precision", "int8"])
    assert stopped.value.code == 2
    assert "--precision needs --layout bundle" in capsys.readouterr().err


def test_the_summary_states_the_use_of_a_precision(reduced):
    manifest = Manifest.load(reduced)
    lines = export.summarize_precisions(manifest)
    assert lines[0].startswith("float16: for GPUs; ")
    slow = json.loads(json.dumps(manifest.parity))
    slow["precisions"]["float16"]["speed"]["times_as_fast"] = 0.5
    slow["precisions"]["int8"]["float32"] = ["Conv/8 (32 to 1)"]
    lines = export.summarize_precisions(dataclasses.replace(manifest, parity=slow))
    assert "it takes 2.00 times as long as float32 on this CPU" in lines[0]
    assert lines[1].endswith("; kept in float32: Conv/8 (32 to 1)")


# ------------------------------------------------------------------------ fidelity


def points(matrix):
    return graph(
        [("MatMul", ["latents", "matrix"], "samples", {})],
        {"matrix": np.asarray(matrix, "float32")},
        2,
        (2,),
    )


def described(clothes, **change):
    return dataclasses.replace(
        clothes.manifest,
        inputs=(Input("latents", "float32", (2,), fill="normal"),),
        outputs=(Port("samples", "float32", (2,), "points"),),
        **change,
    )


def test_the_change_is_that_of_the_frechet_distance(clothes):
    manifest = described(clothes)
    model = points([[1, 0], [0, 2]])
    found = fidelity.Fidelity(manifest, model, 512)
    assert found.change(model) == 0
    latents = [
        fidelity.inputs_of(manifest, range(first, first + 512))["latents"] for first in (0, 512)
    ]
    reference, others = (x @ np.diag([1, 2]) for x in latents)
    assert found.float32 == pytest.approx(metrics.frechet_distance(reference, others), rel=1e-3)
    worse = metrics.frechet_distance(reference, latents[1] @ np.diag([2, 2]))
    assert found.change(points([[2, 0], [0, 2]])) == pytest.approx(
        worse / found.float32 - 1, rel=1e-3
    )


def pictures_of(clothes, shape, meta):
    """Returns a manifest of pictures of another shape."""
    samples = Port("samples", "float32", shape, "image", meta)
    return dataclasses.replace(clothes.manifest, outputs=(samples,))


def test_projections_keep_squared_lengths_on_average(clothes):
    manifest = pictures_of(clothes, (16, 16, 3), {})
    x = normal(400, 16, 16, 3, scale=1)
    features = fidelity._projections(manifest)(x)
    assert features.shape == (400, 64)
    assert (features**2).sum() == pytest.approx((x**2).sum(), rel=0.05)
    assert features[:1] == pytest.approx(fidelity._projections(manifest)(x[:1]), rel=1e-5)


def test_costly_generators_take_fewer_samples():
    model = pictures()
    # dense 8 x 256; 16 x 16 x 4 x 4 at 4 x 4 places; 16 x 1 x 3 x 3 at 8 x 8 places.
    assert fidelity._operations(model) == 2 * (8 * 256 + 4096 * 16 + 144 * 64)
    assert fidelity._affordable(model) == fidelity.MOST


def test_known_data_are_the_reference(clothes):
    known = dataclasses.replace(
        pictures_of(clothes, (28, 28, 1), {"value_range": [-1.0, 1.0]}),
        training={"data": {"description": "fashion-mnist-10k: 9,000 + 1,000 images"}},
    )
    assert fidelity._is_fashion_mnist(known)
    other = dataclasses.replace(known, outputs=pictures_of(clothes, (28, 28, 1), {}).outputs)
    assert not fidelity._is_fashion_mnist(other)
    assert not fidelity._is_fashion_mnist(dataclasses.replace(known, training=None))


def test_speed_is_a_ratio_of_processor_times():
    square = normal(256, 256, scale=0.05)
    nodes = [("MatMul", [f"x{i}" if i else "latents", "square"], f"x{i + 1}", {}) for i in range(8)]
    long = graph([*nodes, ("Tanh", ["x8"], "samples", {})], {"square": square}, 256, (256,))
    short = graph([nodes[0], ("Tanh", ["x1"], "samples", {})], {"square": square}, 256, (256,))
    inputs = {"latents": normal(256, 256)}
    assert 2 < speed.times_as_fast(short, long, inputs) < 20


# ------------------------------------------------------------------------ any generator


NEITHER = {"GRU": "loop", "SimpleRNN": "loop", "LSTM": "recurrent", "bidirectional": "recurrent"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(table.TABLE))
def test_a_generator_has_both_or_is_refused(name):
    """Valid, finite and close; anything else is refused in one line."""
    row = table.TABLE[name]
    network, draft = open_draft(
        table.settled(row.build), name="row", **{"kind": None, **row.options}
    )
    model = to_onnx(network)
    batches = [fidelity.inputs_of(draft, range(first, first + 16)) for first in (0, 16)]
    expected = run(model, batches[0])
    refusal = ""
    try:
        half = to_float16(model, tensor_ranges(model, batches))
        assert far(half, batches[0], expected) < 0.05
    except UsageError as error:
        refusal = str(error)
    assert NEITHER.get(name, "float16 holds numbers" if refusal else "") in refusal
    if NEITHER.get(name) == "loop":
        return
    plain = quantize.as_quantizable(model)
    if layers := quantize.find_layers(plain)[0]:
        ranges = quantize.saturated(plain, tensor_ranges(plain, batches))
        assert far(quantize.quantized(plain, ranges, layers), batches[0], expected) < 0.3


def far(model, batch, expected):
    onnx.checker.check_model(model, full_check=True)
    found = run(model, batch)
    return float(np.abs(found - expected).max()) / max(2.0, float(np.abs(expected).max()))
