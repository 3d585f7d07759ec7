"""Triton: a model repository, and a real server that reads it."""

import json
import os
import re
import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.request
from pathlib import Path

import bundles
import keras
import numpy as np
import protos
import pytest
from environments import python_with
from google.protobuf import text_format

import export
import serving
from export.triton import configuration
from keras_gan import UsageError
from keras_gan.__main__ import main


@pytest.fixture
def bundle(clothes):
    return clothes


def test_a_bundle_becomes_a_model_repository(bundle, tmp_path):
    repository = tmp_path / "models"
    assert export.export_triton(bundle.path, repository) == repository / "clothes" / "1"
    assert sorted(os.listdir(repository / "clothes")) == ["1", "config.pbtxt"]
    files = {"model.onnx", "manifest.json", "golden.npz", "README.md"}
    assert set(os.listdir(repository / "clothes" / "1")) == files
    assert os.listdir(tmp_path) == ["models"]
    golden = np.load(bundle.path / "golden.npz")
    samples = serving.Bundle(repository / "clothes" / "1").generate(golden["seeds"])
    np.testing.assert_allclose(samples, golden["samples"], atol=1e-4)


def test_the_configuration_parses_and_matches_the_manifest(bundle):
    text = configuration(bundle.manifest)
    config = text_format.Parse(text, protos.message("TritonConfig")())
    assert (config.name, config.backend, config.max_batch_size) == ("clothes", "onnxruntime", 64)
    latents, labels = config.input
    assert (latents.name, latents.data_type, list(latents.dims)) == ("latents", 11, [6])
    assert not latents.HasField("reshape")
    assert (labels.name, labels.data_type, list(labels.dims)) == ("labels", 5, [1])
    assert labels.HasField("reshape")
    assert list(labels.reshape.shape) == []
    (samples,) = config.output
    assert (samples.name, samples.data_type, list(samples.dims)) == ("samples", 11, [8, 8, 3])
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    told = {entry.key: json.loads(entry.value.string_value) for entry in config.parameters}
    assert told["role"] == "generator"
    inputs, outputs = (told[group] for group in ("inputs", "outputs"))
    assert [port["fill"] for port in inputs] == ["normal", "class"]
    assert inputs[1]["meta"] == {"num_classes": 3, "class_names": ["shirt", "shoe", "bag"]}
    assert outputs[0]["kind"] == "image"
    assert outputs[0]["meta"] == {"value_range": [-1.0, 1.0]}
    (warmup,) = config.model_warmup
    assert [(x.key, list(x.value.dims), x.value.zero_data) for x in warmup.inputs] == [
        ("latents", [6], True),
        ("labels", [1], True),
    ]


def test_versions_of_a_repository(bundle, tmp_path):
    repository = tmp_path / "models"
    export.export_triton(bundle.path, repository)
    config = repository / "clothes" / "config.pbtxt"
    config.write_text(config.read_text().replace("2000", "500"))  # as a user may
    assert export.export_triton(bundle.path, repository).name == "2"
    assert export.export_triton(bundle.path, repository, 9).name == "9"
    assert "500" in config.read_text()
    with pytest.raises(UsageError, match="never replaced"):
        export.export_triton(bundle.path, repository, 2)
    with pytest.raises(UsageError, match="must be next"):
        export.export_triton(bundle.path, repository, "latest")  # type: ignore[arg-type]
    config.write_text(config.read_text().replace("[ 8, 8, 3 ]", "[ 8, 8, 1 ]"))
    with pytest.raises(UsageError, match="same inputs and outputs"):
        export.export_triton(bundle.path, repository)
    assert sorted(os.listdir(repository / "clothes")) == ["1", "2", "9", "config.pbtxt"]


def test_damaged_bundles_and_other_folders_are_refused(bundle, tmp_path):
    copy = shutil.copytree(bundle.path, tmp_path / "copy")
    bundles.flip(copy / "model.onnx")
    with pytest.raises(UsageError, match=r"model\.onnx must have the SHA-256"):
        export.export_triton(copy, tmp_path / "models")
    with pytest.raises(UsageError, match="A bundle is a folder"):
        export.export_triton(tmp_path, tmp_path / "models")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="must be writable"):
        export.export_triton(bundle.path, tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == ["copy", "file"]


def test_the_command_line_exports_a_bundle(bundle, tmp_path, capsys):
    repository = tmp_path / "models"
    main(["export", str(bundle.path), "--layout", "triton", "--to", str(repository)])
    assert f"tritonserver --model-repository={repository}" in capsys.readouterr().out
    assert (repository / "clothes" / "1" / "model.onnx").is_file()


# ------------------------------------------------------------------------------ a real server

MODEL = """
import os
import sys

sys.path.insert(0, {site!r})
import numpy as np
import onnxruntime
import triton_python_backend_utils as utils


class TritonPythonModel:
    def initialize(self, args):
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(path)
        self.names = [port.name for port in self.session.get_inputs()]

    def execute(self, requests):
        read = utils.get_input_tensor_by_name
        given = [[read(request, name).as_numpy() for name in self.names] for request in requests]
        sizes = [len(values[0]) for values in given]
        feeds = dict(zip(self.names, map(np.concatenate, zip(*given))))
        samples = self.session.run(["samples"], feeds)[0]
        parts = np.split(samples, np.cumsum(sizes)[:-1])
        return [utils.InferenceResponse([utils.Tensor("samples", part)]) for part in parts]
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def triton(tmp_path):
    """The server in nvidia-pytriton's wheel, which includes only the Python backend."""
    python = python_with("triton", "nvidia-pytriton", "tritonclient[http,grpc]", "onnxruntime")
    site = next(python.parents[1].glob("lib/python*/site-packages")).resolve()
    wheel = site / "pytriton" / "tritonserver"
    backends = shutil.copytree(wheel / "backends", tmp_path / "backends")
    stubs = wheel / "python_backend_stubs"
    stub = stubs / sysconfig.get_python_version() / "triton_python_backend_stub"
    shutil.copy(stub, backends / "python")
    # The stub needs the libpython and the libraries of the wheel, which it looks up relative to its
    # original folder.
    paths = [str(sysconfig.get_config_var("LIBDIR")), str(site / "nvidia_pytriton.libs")]
    library = {"LD_LIBRARY_PATH": os.pathsep.join(paths)}
    processes = []

    def start(repository):
        ports = [free_port() for _ in range(3)]
        command = [wheel / "bin" / "tritonserver", f"--model-repository={repository}"]
        command += [f"--backend-directory={backends}", "--exit-on-error=true"]
        names = ("http", "grpc", "metrics")
        command += [f"--{n}-port={port}" for n, port in zip(names, ports, strict=True)]
        log = (tmp_path / "log").open("w")
        process = subprocess.Popen(
            command, env=os.environ | library, stdout=log, stderr=subprocess.STDOUT
        )
        processes.append(process)
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/v2/health/ready", timeout=5)
                return python, site, ports
            except OSError:
                assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.5)
        raise AssertionError((tmp_path / "log").read_text()[-3000:])

    yield start, site
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("conditional", [True, False])
def test_a_real_triton_serves_the_repository(conditional, bundle, triton, tmp_path):
    """Uses the exported configuration except for the backend, which the wheel lacks."""
    if not conditional:
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(2)], name="points")
        bundle = export.export_bundle(model, tmp_path / "points")
    start, site = triton
    version = export.export_triton(bundle.path, tmp_path / "models")
    config = version.parent / "config.pbtxt"
    asked = shutil.copy(config, tmp_path / "config.pbtxt")
    text, count = re.subn('backend: "onnxruntime"', 'backend: "python"', config.read_text())
    assert count == 1
    # On a busy machine, more than 2 ms may pass between two concurrent requests.
    text, count = re.subn("microseconds: 2000", "microseconds: 300000", text)
    assert count == 1
    config.write_text(text)
    (version / "model.py").write_text(MODEL.format(site=str(site)))
    python, _, ports = start(version.parents[1])
    name = bundle.manifest.name
    client = Path(__file__).with_name("triton_client.py")
    golden = bundle.path / "golden.npz"
    done = subprocess.run(
        [python, client, *map(str, ports[:2]), name, golden, asked],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("found "), done.stderr[-3000:]
    found = json.loads(done.stdout.removeprefix("found "))
    assert found["backend"] == "onnxruntime"
    assert max(found["difference"].values()) < 1e-4
    latents = ["latents", "FP32", [-1, *bundle.manifest.inputs[0].shape]]
    labels = [["labels", "INT64", [-1, 1]]] if conditional else []
    assert found["inputs"] == [latents, *labels]
    assert found["outputs"] == [["samples", "FP32", [-1, *bundle.manifest.first.shape]]]
    remote = serving.Client(f"http://127.0.0.1:{ports[0]}/{name}")
    seeds = np.load(golden)["seeds"][:5]
    expected = serving.Bundle(bundle.path).generate(seeds)
    np.testing.assert_allclose(remote.generate(seeds), expected, atol=1e-4)
    (told,) = remote.models()
    assert (told["kind"], told["versions"]) == (bundle.manifest.first.kind, [1])
    assert found["inference_count"] == 12
    assert found["execution_count"] < 12  # dynamic batching puts some of them together
    print(f"12 requests at once ran as {found['execution_count']} batches")
