"""model.onnx in programs that no one here wrote: the same samples in each."""

import json
import shutil
import subprocess
from pathlib import Path

import bundles
import numpy as np
import onnx.reference
import pytest
from environments import node_modules_with, python_with

import serving
from serving import pictures

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundles.write(tmp_path_factory.mktemp("strangers") / "bundle").path


def test_onnx_reference_gives_the_golden_samples(bundle):
    """The definition of ONNX's operations, in numpy."""
    golden = np.load(bundle / "golden.npz")
    model = onnx.reference.ReferenceEvaluator(str(bundle / "model.onnx"))
    rows = slice(0, 4)
    feeds = {name: golden[name][rows] for name in model.input_names}
    (samples,) = model.run(["samples"], feeds)
    np.testing.assert_allclose(samples, golden["samples"][rows], atol=1e-4)


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
    """In Node, by the WebAssembly that browsers run."""
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
