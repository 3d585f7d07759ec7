"""TensorFlow Serving: its configuration, and requests with their responses.

No package registry has TensorFlow Serving. The tests send requests to a small server that
follows its protocols (`tf_serving_server.py`), and the real one as well where the environment
variable TF_SERVING_BIN names its program, `tensorflow_model_server`.
"""

import base64
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import protos
import pytest
import tensorflow as tf
import yaml
from google.protobuf import text_format
from PIL import Image

import serving
from export.tf_serving import BATCH_SIZES, configuration
from export.warmup import message_class
from serving import pictures

HERE = Path(__file__).parent
FILES = HERE.parent / "serving" / "tf_serving"


@pytest.fixture(scope="module")
def bundle(clothes, tmp_path_factory):
    """A bundle mounted at the path in its models.config."""
    path = clothes.path
    mounted = shutil.copytree(path / "tf_serving", tmp_path_factory.mktemp("mounted") / "config")
    config = (mounted / "models.config").read_text().replace('"/models/', f'"{path}/')
    (mounted / "models.config").write_text(config)
    return path, mounted


def start_contract(_, mounted):
    command = [sys.executable, HERE / "tf_serving_server.py", mounted / "models.config"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(HERE)}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    line = process.stdout.readline()
    assert line.startswith("ready "), line
    return process, *map(int, line.split()[1:])


def start_binary(program, mounted):
    ports = [free_port(), free_port()]
    process = subprocess.Popen(
        [
            program,
            f"--port={ports[0]}",
            f"--rest_api_port={ports[1]}",
            f"--model_config_file={mounted / 'models.config'}",
            "--enable_batching=true",
            f"--batching_parameters_file={mounted / 'batching.config'}",
            f"--monitoring_config_file={mounted / 'monitoring.config'}",
        ]
    )
    for _ in range(120):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/v1/models/clothes", timeout=5)
            return process, *ports
        except OSError:
            time.sleep(1)
    process.kill()
    raise AssertionError("TensorFlow Serving does not answer")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module", params=["contract", "binary"])
def server(request, bundle):
    program = os.environ.get("TF_SERVING_BIN")
    if request.param == "binary" and not program:
        pytest.skip("TF_SERVING_BIN names no tensorflow_model_server")
    start = start_binary if request.param == "binary" else start_contract
    process, rpc, rest = start(program, bundle[1])
    yield f"127.0.0.1:{rpc}", f"http://127.0.0.1:{rest}/v1/models/clothes"
    process.kill()
    process.wait()


def ask(url, content=None):
    """Returns status and JSON of a response."""
    data = None if content is None else json.dumps(content).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def predict(server, request):
    """Sends a PredictRequest by gRPC and returns the PredictResponse."""
    with grpc.insecure_channel(server[0]) as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        return protos.message("PredictResponse").FromString(call(request, timeout=60))


# ---------------------------------------------------------------------------------- requests


def test_status_and_metadata(server):
    status, answer = ask(server[1])
    assert status == 200
    (version,) = answer["model_version_status"]
    assert (version["version"], version["state"]) == ("1", "AVAILABLE")
    _, answer = ask(f"{server[1]}/versions/1/metadata")
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "generate", "generate_png"} <= set(signatures)


def test_rest_returns_samples_by_rows_and_by_columns(server, bundle):
    expected = serving.Bundle(bundle[0]).generate([7, 8, 2**40], labels=[1, 2, 0])
    rows = [{"seeds": seed, "labels": y} for seed, y in ((7, 1), (8, 2), (2**40, 0))]
    status, answer = ask(f"{server[1]}:predict", {"signature_name": "generate", "instances": rows})
    assert status == 200, answer
    np.testing.assert_allclose(answer["predictions"], expected, atol=1e-4)
    columns = {"seeds": [7, 8, 2**40], "labels": [1, 2, 0]}
    _, answer = ask(
        f"{server[1]}/versions/1:predict", {"signature_name": "generate", "inputs": columns}
    )
    np.testing.assert_allclose(answer["outputs"], expected, atol=1e-4)


def test_the_client_works_as_with_any_server(server, bundle):
    """Seeds use `generate`, images `generate_png`, all else latents drawn by the client."""
    local = serving.Bundle(bundle[0])
    client = serving.Client(server[1].replace("/v1/models", ""), bundle=bundle[0])
    seeds = [7, 8, 2**40]
    np.testing.assert_allclose(client.generate(seeds), local.generate(seeds), atol=1e-4)
    some = client.generate(seeds, labels="shoe", truncation=0.5, version=1)
    np.testing.assert_allclose(some, local.generate(seeds, "shoe", 0.5), atol=1e-4)
    walk = client.generate(interpolate=[7, 8], count=3, labels=1)
    ends = local.generate([7, 8], labels=1)
    np.testing.assert_allclose(walk[[0, 2]], ends, atol=1e-4)
    for options in ({}, {"truncation": 0.5}):
        expected = pictures.to_uint8(local.generate([7, 8], [1, 2], **options))
        for png, picture in zip(
            client.pictures([7, 8], labels=[1, 2], **options), expected, strict=True
        ):
            drawn = np.asarray(Image.open(io.BytesIO(png))).astype(int)
            assert np.abs(drawn - picture).max() <= 1
    (model,) = client.models()
    assert (model["name"], model["versions"], model["kind"]) == ("clothes", [1], "image")
    assert (model["shape"], model["latent_dim"]) == ([8, 8, 3], 6)
    bare = serving.Client(server[1].replace("/v1/models/clothes", ""))
    with pytest.raises(serving.UsageError, match="TensorFlow Serving needs the name of a model"):
        bare.generate([7])
    with pytest.raises(serving.UsageError, match="does not report the number of classes"):
        bare.generate([7], model="clothes")
    np.testing.assert_allclose(
        bare.generate([7], labels=1, model="clothes"), local.generate([7], 1), atol=1e-4
    )


def test_rest_returns_golden_samples_for_latents(server, bundle):
    golden = np.load(bundle[0] / "golden.npz")
    columns = {name: golden[name][:5].tolist() for name in ("latents", "labels")}
    status, answer = ask(f"{server[1]}:predict", {"inputs": columns})
    assert status == 200, answer
    np.testing.assert_allclose(answer["outputs"], golden["samples"][:5], atol=1e-4)


def test_rest_returns_images_in_base64(server, bundle):
    rows = [{"seeds": 7, "labels": 1}, {"seeds": 3, "labels": 0}]
    _, answer = ask(f"{server[1]}:predict", {"signature_name": "generate_png", "instances": rows})
    drawn = pictures.to_uint8(serving.Bundle(bundle[0]).generate([7, 3], labels=[1, 0]))
    for prediction, seed, expected in zip(answer["predictions"], "73", drawn, strict=True):
        image = Image.open(io.BytesIO(base64.b64decode(prediction["b64"])))
        assert image.text["Seed"] == seed
        assert np.abs(np.asarray(image).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        (":predict", {"instances": [{"latents": [0.0] * 5, "labels": 0}]}, 400),
        (":predict", {"instances": [{"seeds": 1}], "signature_name": "generate"}, 400),
        (":predict", {"instances": [{"seeds": 1}], "inputs": {}}, 400),
        (":predict", {"instances": [1], "signature_name": "paint"}, 400),
        ("/versions/9:predict", {"inputs": {}}, 404),
        ("2:predict", {"inputs": {}}, 404),
    ],
)
def test_rest_refuses_with_a_message(server, path, content, status):
    found, answer = ask(f"{server[1]}{path}", content)
    assert found == status
    assert list(answer) == ["error"]


def test_grpc_answers_the_warm_up_requests_of_the_bundle(server, bundle):
    """Sends the recorded warm-up requests unchanged."""
    path = bundle[0] / "saved_model/clothes/1/assets.extra/tf_serving_warmup_requests"
    shapes = {}
    for record in tf.data.TFRecordDataset(str(path)):
        log = message_class("PredictionLog").FromString(record.numpy())
        request = log.predict_log.request
        response = predict(server, request.SerializeToString())
        (output,) = response.outputs.items()
        shapes[request.model_spec.signature_name] = output[0], tf.make_ndarray(output[1]).shape
    assert shapes == {
        "serving_default": ("samples", (1, 8, 8, 3)),
        "generate": ("samples", (1, 8, 8, 3)),
        "generate_png": ("png_bytes", (1,)),
    }


def request_of(message, seeds, labels, name="clothes", signature="generate"):
    request = message()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    request.inputs["seeds"].CopyFrom(tf.make_tensor_proto(seeds, tf.int64))
    request.inputs["labels"].CopyFrom(tf.make_tensor_proto(labels, tf.int64))
    return request.SerializeToString()


def test_grpc_returns_samples_and_error_codes(server, bundle):
    message = protos.message("PredictRequest")
    response = predict(server, request_of(message, [5, 6], [0, 2]))
    samples = tf.make_ndarray(response.outputs["samples"])
    expected = serving.Bundle(bundle[0]).generate([5, 6], labels=[0, 2])
    np.testing.assert_allclose(samples, expected, atol=1e-4)
    for change, code in (
        ({"name": "shoes"}, grpc.StatusCode.NOT_FOUND),
        ({"signature": "paint"}, grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            predict(server, request_of(message, [5], [0], **change))
        assert caught.value.code() == code


def test_the_messages_are_those_of_tensorflow_serving_api():
    """Compares bytes and text with the real package."""
    api = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    ours = request_of(protos.message("PredictRequest"), [5, 2**40], [0, 1])
    real = api.PredictRequest.FromString(ours)
    assert real.model_spec.name == "clothes"
    assert tf.make_ndarray(real.inputs["seeds"]).tolist() == [5, 2**40]
    assert request_of(api.PredictRequest, [5], [0]) == request_of(
        protos.message("PredictRequest"), [5], [0]
    )
    text = configuration("clothes")["models.config"]
    parsed = text_format.Parse(text, config.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    assert model.model_version_policy.latest.num_versions == 1
    again = protos.message("ModelServerConfig").FromString(parsed.SerializeToString())
    assert again.model_config_list.config[0].base_path == "/models/saved_model/clothes"


# ------------------------------------------------------------------------------- configuration


def test_the_configuration_parses_and_fits_the_bundle(bundle):
    path, _ = bundle
    texts = {name: (path / "tf_serving" / name).read_text() for name in configuration("clothes")}
    assert texts == configuration("clothes")
    models = text_format.Parse(texts["models.config"], protos.message("ModelServerConfig")())
    (model,) = models.model_config_list.config
    assert model.name == "clothes"
    base = path / Path(model.base_path).relative_to("/models")
    assert (base / "1" / "saved_model.pb").is_file()
    batching = protos.message("BatchingParameters")
    parsed = text_format.Parse(texts["batching.config"], batching())
    # TF Serving requires increasing sizes that end in the largest batch.
    assert list(parsed.allowed_batch_sizes) == sorted(set(BATCH_SIZES))
    assert parsed.allowed_batch_sizes[-1] == parsed.max_batch_size.value == 64
    own = (base / "1" / "batching_params.pbtxt").read_text()
    assert text_format.Parse(own, batching()) == parsed
    monitoring = protos.message("MonitoringConfig")
    watched = text_format.Parse(texts["monitoring.config"], monitoring()).prometheus_config
    assert (watched.enable, watched.path) == (True, "/monitoring/prometheus/metrics")


def flags(*texts):
    found = [re.findall(r"--(\w+)=([^\s\",]+)", text) for text in texts]
    return [dict(pairs) for pairs in found]


def test_the_templates_name_files_of_a_bundle_and_parse(bundle):
    compose = yaml.safe_load((FILES / "compose.yaml").read_text())["services"]
    documents = list(yaml.safe_load_all((FILES / "kubernetes.yaml").read_text()))
    assert [d["kind"] for d in documents] == ["Deployment", "Service", "HorizontalPodAutoscaler"]
    (container,) = documents[0]["spec"]["template"]["spec"]["containers"]
    docker = (FILES / "Dockerfile").read_text().split("CMD")[1]
    for given in flags(
        " ".join(compose["tf-serving"]["command"]), " ".join(container["args"]), docker
    ):
        for flag in ("model_config_file", "batching_parameters_file", "monitoring_config_file"):
            assert (bundle[0] / Path(given[flag]).relative_to("/models")).is_file()
        assert given["enable_batching"] == "true"
    assert compose["tf-serving"]["volumes"][0].endswith(":/models:ro")
    assert container["volumeMounts"][0]["mountPath"] == "/models"
    path = configuration("x")["monitoring.config"].split('path: "')[1].split('"')[0]
    annotations = documents[0]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] == path
    (job,) = yaml.safe_load((FILES / "prometheus.yaml").read_text())["scrape_configs"]
    assert job["metrics_path"] == path
    images = {compose["tf-serving"]["image"].replace("${TF_SERVING_VERSION:-2.20.0}", "2.20.0")}
    images |= {container["image"], re.search("FROM (.*)", (FILES / "Dockerfile").read_text())[1]}
    assert images == {"tensorflow/serving:2.20.0"}


@pytest.mark.slow
def test_saved_model_cli_shows_and_runs_the_model(bundle, tmp_path):
    """Runs TensorFlow's own program as a user does."""
    program = Path(sys.executable).with_name("saved_model_cli")
    model = bundle[0] / "saved_model" / "clothes" / "1"

    def cli(*arguments):
        command = [program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    shown = cli("show", "--dir", model, "--tag_set", "serve", "--signature_def", "generate_png")
    assert "inputs['seeds'] tensor_info" in shown
    assert "outputs['png_bytes'] tensor_info" in shown
    inputs = "seeds=[7];labels=[1]"
    cli(
        *("run", "--dir", model, "--tag_set", "serve", "--signature_def", "generate"),
        *("--input_exprs", inputs, "--outdir", tmp_path),
    )
    expected = serving.Bundle(bundle[0]).generate([7], labels=1)
    np.testing.assert_allclose(np.load(tmp_path / "samples.npy"), expected, atol=1e-4)
