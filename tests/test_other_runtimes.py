"""model.onnx gives the same samples in runtimes of other projects."""

import json
import shutil
import subprocess
from pathlib import Path

import bundles
import keras
import numpy as np
import onnx.reference
import pytest
from environments import node_modules_with, python_with

import export
import serving
from export.draft import open_draft
from export.to_litert import to_litert
from keras_gan import UsageError
from serving import pictures

HERE = Path(__file__).parent


@pytest.fixture
def bundle(clothes):
    return clothes.path


def test_onnx_reference_gives_the_golden_samples(bundle):
    """The reference implementation of ONNX, in numpy."""
    golden = np.load(bundle / "golden.npz")
    model = onnx.reference.ReferenceEvaluator(str(bundle / "model.onnx"))
    rows = slice(0, 4)
    feeds = {name: golden[name][rows] for name in model.input_names}
    (samples,) = model.run(["samples"], feeds)
    np.testing.assert_allclose(samples, golden["samples"][rows], atol=1e-4)


@pytest.mark.slow
def test_litert_gives_the_golden_samples(tmp_path):
    """Keras's exporter and TensorFlow's interpreter, with LiteRT's builtin operations only."""
    bundle = bundles.write(tmp_path / "bundle", formats=["litert"])
    assert "model.tflite" in bundle.manifest.files
    assert bundle.manifest.worst_parity()["litert"] < 1e-5
    report = export.verify_bundle(bundle.path)
    assert report.ok
    assert set(report.figures["litert"]) == {1, 5, 64}
    other = bundles.write(tmp_path / "other", seed=4, formats=["litert"]).path
    shutil.copy(other / "model.tflite", bundle.path)
    bundles.reseal(bundle.path)
    (problem,) = export.verify_bundle(bundle.path).problems[-1:]
    assert problem.startswith("litert must reproduce the samples")
    (bundle.path / "model.tflite").write_bytes(b"TFL3" * 9)
    bundles.reseal(bundle.path)
    assert any(
        x.startswith("model.tflite must load") for x in export.verify_bundle(bundle.path).problems
    )


@pytest.mark.slow
def test_litert_that_cannot_be_written_names_the_file(tmp_path):
    model = keras.Sequential([keras.Input((3,), name="latents"), keras.layers.Dense(2)])
    network, _ = open_draft(model)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"target must be writable.* Received: .*file/x\.tflite"):
        to_litert(network, tmp_path / "file" / "x.tflite")


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"formats must be of \['litert'\]. Received: 'coreml'"):
        bundles.write(tmp_path / "bundle", formats=["coreml"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_openvino_gives_the_golden_samples(bundle):
    python = python_with("openvino", "openvino")
    command = [python, HERE / "openvino_samples.py", bundle]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    difference = float(done.stdout.split()[-1])
    print(f"OpenVINO differs by {difference:.1e}")
    assert difference < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_picture_of_seed_7_is_the_same_in_onnxruntime_web(bundle, tmp_path):
    """In Node, with the WebAssembly of browsers."""
    if not shutil.which("node"):
        pytest.skip("there is no node")
    modules = node_modules_with("web", "onnxruntime-web")
    drawn = serving.Bundle(bundle).sample([7, 2**40])
    feeds = {name: drawn[name].tolist() for name in ("latents", "labels")}
    (tmp_path / "feeds.json").write_text(json.dumps(feeds))
    command = ["node", HERE / "ort_web.mjs", modules, bundle / "model.onnx"]
    done = subprocess.run(
        [*command, tmp_path / "feeds.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout)
    samples = np.array(answer["data"], np.float32).reshape(answer["dims"])
    print(f"onnxruntime-web differs by {np.abs(samples - drawn['samples']).max():.1e}")
    np.testing.assert_allclose(samples, drawn["samples"], atol=1e-5)
    ours, theirs = pictures.to_uint8(drawn["samples"]), pictures.to_uint8(samples)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
