"""The protocols of Triton and of TensorFlow Serving, with their own clients."""

import base64
import io
import json

import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from servers import Serving

import serving
from serving.pictures import to_uint8
from serving.seeds import latents_from_seeds


@pytest.fixture(scope="module")
def clothes(tmp_path_factory):
    return tiny.clothes(tmp_path_factory.mktemp("clothes") / "clothes")


@pytest.fixture(scope="module")
def models(clothes, tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    (root / "clothes").mkdir()
    (root / "clothes" / "3").symlink_to(clothes)
    tiny.points(root / "points")
    return root


@pytest.fixture(scope="module")
def server(models):
    with Serving(models, "--max-count", 100) as it:
        yield it
        assert it.process.poll() is None


@pytest.fixture(scope="module")
def golden(clothes):
    return dict(np.load(clothes / "golden.npz"))


@pytest.fixture(scope="module")
def triton(server):
    module = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    with module.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as client:
        yield module, client


# ------------------------------------------------------------------------------- Triton


def inputs_of(module, binary, **arrays):
    made = []
    for name, value in arrays.items():
        kind = "FP32" if value.dtype == np.float32 else "INT64"
        made.append(module.InferInput(name, value.shape, kind))
        made[-1].set_data_from_numpy(value, binary_data=binary)
    return made


def test_tritonclient_reads_the_server_and_its_models(triton, server):
    _, client = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("clothes")
    assert client.is_model_ready("clothes", "3")
    assert not client.is_model_ready("clothes", "4")
    assert not client.is_model_ready("nothing")
    about = client.get_server_metadata()
    assert about["name"] == "keras-gan"
    assert "binary_tensor_data" in about["extensions"]
    about = client.get_model_metadata("clothes")
    assert about == {
        "name": "clothes",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "latents", "datatype": "FP32", "shape": [-1, 6]},
            {"name": "labels", "datatype": "INT64", "shape": [-1, 1]},
        ],
        "outputs": [{"name": "samples", "datatype": "FP32", "shape": [-1, 8, 8, 3]}],
        "parameters": {"seeds": "INT64 [-1], in the place of latents"},
    }
    config = client.get_model_config("clothes", "3")
    assert [x["dims"] for x in config["input"]] == [[6], [1]]
    index = client.get_model_repository_index()
    assert [(x["name"], x["version"], x["state"]) for x in index] == [
        ("clothes", "3", "READY"),
        ("points", "1", "READY"),
    ]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("count", [1, 5, 64])
def test_tritonclient_gets_the_golden_samples(triton, golden, binary, count):
    module, client = triton
    rows = np.arange(count) % len(golden["seeds"])
    inputs = inputs_of(
        module,
        binary,
        latents=golden["latents"][rows],
        labels=golden["labels"][rows].reshape(-1, 1),
    )
    wanted = [module.InferRequestedOutput("samples", binary_data=binary)]
    for outputs in (None, wanted):
        result = client.infer("clothes", inputs, request_id="mine", outputs=outputs)
        response = result.get_response()
        assert (response["model_name"], response["model_version"]) == ("clothes", "3")
        assert response["id"] == "mine"
        samples = result.as_numpy("samples")
        assert samples.dtype == np.float32
        np.testing.assert_allclose(samples, golden["samples"][rows], atol=1e-5)


def test_tritonclient_can_send_seeds_and_truncation(triton, clothes):
    module, client = triton
    bundle = serving.Bundle(clothes)
    seeds = np.array([7, 8, 2**62], np.int64)
    result = client.infer("clothes", inputs_of(module, True, seeds=seeds), model_version="3")
    np.testing.assert_array_equal(result.as_numpy("samples"), bundle.generate(seeds))
    labels = np.array([0, 2, 1])
    inputs = inputs_of(module, True, seeds=seeds, labels=labels)
    result = client.infer("clothes", inputs, parameters={"truncation": 0.5})
    expected = bundle.generate(seeds, labels, truncation=0.5)
    np.testing.assert_array_equal(result.as_numpy("samples"), expected)


def test_tritonclient_sends_concurrent_requests(triton, clothes):
    module, client = triton
    pending = [
        client.async_infer("clothes", inputs_of(module, True, seeds=np.array([seed])))
        for seed in range(40)
    ]
    found = np.concatenate([x.get_result().as_numpy("samples") for x in pending])
    np.testing.assert_array_equal(found, serving.Bundle(clothes).generate(range(40)))


def test_tritonclient_receives_the_errors(triton):
    module, client = triton
    error = pytest.importorskip("tritonclient.utils").InferenceServerException
    latents = np.zeros((2, 6), np.float32)
    for name, arrays, rule in (
        ("nothing", {"latents": latents}, "The models are clothes, points"),
        ("clothes", {"latents": latents}, "takes labels beside latents"),
        ("clothes", {"latents": latents[:, :5]}, r"shape \[n, 6\]"),
        ("points", {"latents": latents[:, :5], "labels": np.zeros(2, np.int64)}, "takes no labels"),
        (
            "points",
            {"latents": np.full((1, 5), np.nan, np.float32)},
            "finite numbers. Received: latents=nan",
        ),
        ("points", {"noise": latents}, "The inputs must be latents"),
    ):
        with pytest.raises(error, match=rule):
            client.infer(name, inputs_of(module, True, **arrays))


def infer(server, content, name="points", **options):
    return server.ask(f"/v2/models/{name}/infer", content, **options)


def integers(name, *data, **change):
    return {"name": name, "shape": [len(data)], "datatype": "INT64", "data": list(data)} | change


def tensor(data=None, **change):
    data = [0.0] * 5 if data is None else data
    return {"name": "latents", "shape": [1, 5], "datatype": "FP32", "data": data} | change


def test_infer_with_json(server):
    answer = infer(server, {"inputs": [tensor()]})
    found = answer.json
    assert found["outputs"][0]["shape"] == [1, 2]
    nested = infer(server, {"inputs": [tensor([[0, 0, 0, 0, 0]])]}).json
    assert nested == found
    seeds = {"name": "seeds", "shape": [1], "datatype": "UINT32", "data": [9]}
    by_seed = infer(server, {"inputs": [seeds]}).json["outputs"][0]["data"]
    z = latents_from_seeds([9], 5)[0].tolist()
    by_latents = infer(server, {"inputs": [tensor(z)]}).json["outputs"][0]["data"]
    np.testing.assert_allclose(by_seed, by_latents)


def test_infer_needs_random_inputs_or_seeds(server):
    answer = infer(server, {"inputs": [integers("labels", 1)]}, "clothes")
    assert "either `latents` or `seeds`. Received: labels" in answer.error
    both = infer(server, {"inputs": [tensor(), integers("seeds", 1)]})
    assert "either `latents` or `seeds`. Received: latents, seeds" in both.error


CLASSES = {"name": "samples", "parameters": {"classification": 2}}


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ([], "must be an object"),
        ({}, "`inputs` must be a list of 1 to 2 tensors. Received: inputs=None"),
        ({"inputs": []}, "`inputs` must be a list of 1 to 2 tensors. Received: inputs=[]"),
        ({"inputs": [3]}, "must have a name"),
        ({"inputs": [tensor(name="noise")]}, "each at most once. Received: 'noise'"),
        ({"inputs": [tensor(), tensor()]}, "each at most once. Received: 'latents'"),
        ({"inputs": [tensor(datatype="INT64")]}, "`datatype` of latents must be one of FP32, FP64"),
        (
            {"inputs": [tensor(datatype=["FP32"])]},
            "`datatype` of latents must be one of FP32, FP64",
        ),
        ({"inputs": [tensor(shape=[5])]}, "shape [n, 5]. Received: shape=[5]"),
        ({"inputs": [tensor(shape=[-1, 5])]}, "a list of sizes"),
        ({"inputs": [tensor(shape=[2**30, 2**30])]}, "numbers of its datatype"),
        ({"inputs": [tensor(shape="5")]}, "a list of sizes"),
        ({"inputs": [tensor([1, 2])]}, "5 numbers of its datatype. Received: 2"),
        ({"inputs": [tensor([[1], [2, 3]])]}, "numbers in rows"),
        ({"inputs": [tensor(["a"] * 5)]}, "numbers of its datatype"),
        ({"inputs": [tensor([None] * 5)]}, "numbers of its datatype"),
        ({"inputs": [tensor([1e39] * 5)]}, "finite numbers. Received: latents=inf"),
        ({"inputs": [tensor({})]}, "`data` of latents must be a list"),
        ({"inputs": [tensor([], shape=[0, 5])]}, "sizes above 0. Received: shape=[0, 5]"),
        ({"inputs": [tensor([0] * 505, shape=[101, 5])]}, "1 to 100 samples. Received: 101"),
        ({"inputs": [tensor(parameters={"binary_data_size": 20})]}, "must follow the JSON"),
        ({"inputs": [tensor(parameters=[])]}, "`parameters` must be an object"),
        ({"inputs": [integers("seeds", 3, -1)]}, "at least 0 and below 2**63. Received: seed=-1"),
        ({"inputs": [integers("seeds", 1.5)]}, "numbers of"),
        (
            {"inputs": [integers("seeds", 1, 1, 1, 1, shape=[2, 2])]},
            "[n, 1]",
        ),
        ({"inputs": [integers("labels", 1)]}, "takes no labels. Received: the tensor 'labels'"),
        (
            {"inputs": [tensor()], "outputs": [{"name": "pixels"}]},
            "`outputs` must be among samples, each at most once",
        ),
        (
            {"inputs": [tensor()], "outputs": 3},
            "`outputs` must be among samples, each at most once. Received: outputs=3",
        ),
        (
            {
                "inputs": [tensor()],
                "outputs": [{"name": "samples", "parameters": {"classification": 2}}],
            },
            "without classification",
        ),
        ({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, "true or false"),
        (
            {"inputs": [tensor()], "parameters": {"truncation": -1}},
            "`truncation` must be a number from 0 to 100",
        ),
        ({"inputs": [tensor()], "id": 3}, "`id` must be a string"),
        (
            {"inputs": [tensor()], "parameters": {"truncatoin": 0.5}},
            "A parameter of a request must be a known one. Received: 'truncatoin'. "
            "Did you mean 'truncation'?",
        ),
        (
            {"inputs": [tensor()], "parameters": {"seed": 5}},
            "Received: 'seed'. Valid: truncation, b",
        ),
        (
            {"inputs": [tensor()], "parameters": {"binary_data": True}},
            "Did you mean 'binary_data_out",
        ),
        (
            {"inputs": [tensor(parameters={"binary_size": 4})]},
            "A parameter of an input must be a known one. Received: 'binary_size'. Did you mean",
        ),
        (
            {
                "inputs": [tensor()],
                "outputs": [{"name": "samples", "parameters": {"binary": True}}],
            },
            "A parameter of an output must be a known one. Received: 'binary'. Did you",
        ),
        (
            {"inputs": [tensor(parameters={"shared_memory_region": "a"})]},
            "Tensors must be sent without shared memory. Received: 'shared_memory_region'",
        ),
        (
            {"inputs": [tensor()], "truncation": 0.5},
            "A field of a request must be a known one. Rec",
        ),
        ({"inputs": [tensor()], "parameter": {}}, "'parameter'. Did you mean 'parameters'?"),
        ({"inputs": [tensor()], "PARAMETERS": {}}, "'PARAMETERS'. Did you mean 'parameters'?"),
        ({"inputs": [tensor()], "par": {}}, "'par'. Did you mean 'parameters'?"),
    ],
)
def test_infer_refuses(server, content, rule):
    answer = infer(server, content)
    assert answer.status == 400, answer.body
    assert rule in answer.error


def test_infer_accepts_the_parameters_of_clients(server):
    """Of Triton's extensions for sequences and scheduling, of KServe and of MLServer."""
    plain = infer(server, {"inputs": [tensor()]})
    triton = {"sequence_id": 7, "sequence_start": True, "sequence_end": False, "priority": 1}
    triton |= {"timeout": 1000, "triton_enable_empty_final_response": False}
    types = {"content_type": "np"}
    for content in (
        {"inputs": [tensor()], "parameters": triton},
        {"inputs": [tensor()], "model_name": "points", "parameters": {}},
        {
            "inputs": [tensor(parameters=types)],
            "outputs": [{"name": "samples", "parameters": types}],
            "parameters": types | {"headers": {}},
        },
    ):
        assert infer(server, content).json["outputs"] == plain.json["outputs"]


@pytest.mark.parametrize("length", ["-1", "x", "9" * 30, "4"])
def test_the_length_of_the_json_must_be_correct(server, length):
    headers = {"Inference-Header-Content-Length": length}
    answer = infer(server, b'{"inputs": []}', headers=headers)
    assert answer.status == 400
    assert "JSON" in answer.error


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_binary_requests_with_wrong_sizes(server, data):
    """Any lengths and shapes get samples or a one-line error."""
    draw = data.draw
    rows = draw(st.integers(0, 4))
    values = np.zeros((rows, 5), np.float32).tobytes()
    size = draw(st.sampled_from([len(values), len(values) - 4, -1, 0, 2**40, 20, "20", None, 1.5]))
    shape = draw(st.sampled_from([[rows, 5], [5], [rows, 5, 1], [rows, 2**31], [-1, 5], [], "x"]))
    content = {"inputs": [tensor(shape=shape, parameters={"binary_data_size": size})]}
    if draw(st.booleans()):
        del content["inputs"][0]["data"]
    text = json.dumps(content).encode()
    extra = draw(st.binary(max_size=8))
    length = draw(st.sampled_from([len(text), len(text) - 1, len(text) + 1, 0, 10**9]))
    headers = {"Inference-Header-Content-Length": str(length)}
    answer = infer(server, text + values + extra, headers=headers)
    assert answer.status in (200, 400), answer.body
    if answer.status == 400:
        assert answer.error
    else:
        assert answer.json["outputs"][0]["shape"] == [rows, 2]


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "model",
        "version",
        "seeds",
        "seed",
        "count",
        "interpolate",
        "around",
        "radius",
        "labels",
        "truncation",
        "format",
        "stream",
        "inputs",
        "instances",
        "signature_name",
        "outputs",
        "id",
    ]
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.sampled_from(
        ["/v1/generate", "/v2/models/clothes/infer", "/v1/models/clothes:predict"]
    ),
    body=st.dictionaries(KEYS, JSONS, max_size=4) | JSONS | st.binary(max_size=20),
)
def test_any_json_gets_samples_or_an_error(server, path, body):
    body = body if isinstance(body, bytes) else json.dumps(body).encode("utf-8", "surrogatepass")
    answer = server.ask(path, body)
    assert answer.status in (200, 400, 404), (answer.status, body)
    if answer.status != 200:
        assert answer.error


# ------------------------------------------------------------------------------- TF Serving


def predict(server, content, name="clothes", **options):
    return server.ask(f"/v1/models/{name}:predict", content, **options)


def test_status_and_metadata(server):
    expected = {
        "model_version_status": [
            {
                "version": "3",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    assert server.ask("/v1/models/clothes").json == expected
    assert server.ask("/v1/models/clothes/versions/3").json == expected
    about = server.ask("/v1/models/clothes/metadata").json
    assert about["model_spec"] == {"name": "clothes", "signature_name": "", "version": "3"}
    signatures = about["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "generate", "generate_png"}
    default = signatures["serving_default"]
    assert default["method_name"] == "tensorflow/serving/predict"
    assert default["inputs"]["latents"]["dtype"] == "DT_FLOAT"
    sizes = [x["size"] for x in default["outputs"]["samples"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "8", "8", "3"]
    assert signatures["generate_png"]["outputs"]["png_bytes"]["dtype"] == "DT_STRING"
    points = server.ask("/v1/models/points/metadata").json
    assert set(points["metadata"]["signature_def"]["signature_def"]) == {
        "serving_default",
        "generate",
    }
    assert server.ask("/v1/models/clothes:classify", {}).status == 404


def test_predict_by_rows_and_by_columns(server, golden):
    rows = [
        {"latents": z.tolist(), "labels": int(y)}
        for z, y in zip(golden["latents"][:3], golden["labels"][:3], strict=True)
    ]
    found = predict(server, {"instances": rows}).json["predictions"]
    np.testing.assert_allclose(found, golden["samples"][:3], atol=1e-5)
    columns = {"latents": golden["latents"][:3].tolist(), "labels": golden["labels"][:3].tolist()}
    content = {"signature_name": "serving_default", "inputs": columns}
    found = predict(server, content).json["outputs"]
    np.testing.assert_allclose(found, golden["samples"][:3], atol=1e-5)
    many = {"seeds": list(range(40)), "labels": [1] * 40}
    found = predict(server, {"signature_name": "generate", "inputs": many}).json["outputs"]
    assert np.shape(found) == (40, 8, 8, 3)


def test_predict_with_a_single_input_may_omit_its_name(server):
    z = [0.5, 0.0, 0.0, 0.0, -1.0]
    forms = (
        {"instances": [z]},
        {"instances": [{"latents": z}]},
        {"inputs": [z]},
        {"inputs": {"latents": [z]}},
    )
    found = [next(iter(predict(server, x, "points").json.values())) for x in forms]
    assert found == [found[0]] * 4
    by_seed = {"signature_name": "generate", "instances": [4, 5]}
    assert np.shape(predict(server, by_seed, "points").json["predictions"]) == (2, 2)


def test_predict_returns_images_in_base64(server, clothes):
    content = {
        "signature_name": "generate_png",
        "instances": [{"seeds": 7, "labels": 1}, {"seeds": 8, "labels": 2}],
    }
    found = predict(server, content).json["predictions"]
    expected = to_uint8(serving.Bundle(clothes).generate([7, 8], labels=[1, 2]))
    for item, picture in zip(found, expected, strict=True):
        assert set(item) == {"b64"}
        image = Image.open(io.BytesIO(base64.b64decode(item["b64"])))
        np.testing.assert_array_equal(np.asarray(image), picture)
        assert image.text["Seed"] in ("7", "8")  # type: ignore[attr-defined]


def test_predict_takes_bytes_in_base64(server, golden):
    z = golden["latents"][:2]
    text = [{"b64": base64.b64encode(row.tobytes()).decode()} for row in z]
    labels = golden["labels"][:2].tolist()
    rows = [{"latents": a, "labels": b} for a, b in zip(text, labels, strict=True)]
    found = predict(server, {"instances": rows}).json["predictions"]
    np.testing.assert_allclose(found, golden["samples"][:2], atol=1e-5)


def test_a_long_string_among_numbers_takes_no_memory(server):
    before = server.memory()
    data = [0] * 50_000 + ["x" * 100_000]  # as one array of strings: 20 GB
    content = {"inputs": [tensor(data, shape=[10_000, 5])]}
    assert "numbers of its datatype. Received: a str" in infer(server, content).error
    rows = {"instances": data}
    assert "`latents` must be numbers" in predict(server, rows, "points").error
    assert server.memory() - before < 100 * 2**20


def test_curl_needs_no_content_type(server):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # curl's own with -d
    body = json.dumps({"instances": [[0.0] * 5]}).encode()
    assert predict(server, body, "points", headers=headers).status == 200


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ([], "must be an object"),
        ({}, "instances or inputs"),
        ({"instances": [[0] * 5], "inputs": [[0] * 5]}, "instances or inputs"),
        ({"instances": []}, "`instances` must be a list"),
        ({"instances": {}}, "`instances` must be a list"),
        ({"instances": [[0] * 5], "signature": "x"}, "instances or inputs"),
        (
            {"instances": [[0] * 5], "signature_name": "nope"},
            "`signature_name` must be one of serving_default, gen",
        ),
        (
            {"instances": [[0] * 5], "signature_name": "generate_png"},
            "`signature_name` must be one of",
        ),
        ({"instances": [[0] * 4]}, "shape [n, 5]"),
        ({"instances": [[0] * 5, [0]]}, "numbers in rows"),
        ({"instances": [["a"] * 5]}, "`latents` must be numbers"),
        ({"instances": [{"latents": [0] * 5, "labels": 1}]}, "The inputs must be latents"),
        ({"instances": [{"latents": [0] * 5}, [0] * 5]}, "The inputs must be latents"),
        ({"instances": [{"b64": "AAAAAA=="}]}, "shape [n, 5]. Received"),
        ({"instances": [{"b64": "!"}]}, "must be base64"),
        ({"instances": [{"b64": 3}]}, "must be base64"),
        ({"inputs": {"b64": "AAAAAA=="}}, "shape [n, 5]"),
        ({"inputs": {}}, "The inputs must be latents"),
        ({"inputs": None}, "`latents` must be numbers"),
        ({"signature_name": "generate", "instances": [1.5]}, "`seeds` must be integers"),
        (
            {"signature_name": "generate", "instances": [-1]},
            "at least 0 and below 2**63. Received: seed=-1",
        ),
        (
            {"signature_name": "generate", "instances": [2**63]},
            "below 2**63. Received: seed=9223372036854775808",
        ),
        ({"signature_name": "generate", "instances": [[1, 2]]}, "[n] or [n, 1]"),
        ({"signature_name": "generate", "instances": [1] * 101}, "1 to 100 samples"),
    ],
)
def test_predict_refuses(server, content, rule):
    answer = predict(server, content, "points")
    assert answer.status == 400, answer.body
    assert rule in answer.error
