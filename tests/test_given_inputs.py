"""Networks of other roles than plain generators, through every HTTP protocol of the server."""

import base64
import csv
import io
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tiny
from PIL import Image
from servers import Serving

import serving
from serving import kinds, multipart
from serving.kinds.audio import read_wav
from serving.pictures import to_uint8

MODELS = (tiny.translator, tiny.two_latents, tiny.conditioned, tiny.classifier)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a translator, two generators with inputs of their own, and a classifier."""
    root = tmp_path_factory.mktemp("models")
    for write in MODELS:
        write(root / write.__name__)
    tiny.write(root / "sound", "sound", "audio", (32, 1), 5)
    return root


@pytest.fixture(scope="module")
def server(models):
    with Serving(models, "--max-values", 20_000, "--max-count", 100) as it:
        yield it
        assert it.process.poll() is None, "the server must still run after all tests"


@pytest.fixture(scope="module")
def bundles(models):
    return {folder.name: serving.Bundle(folder) for folder in models.iterdir()}


def picture(height=5, width=7, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, channels)).astype(np.uint8)
    return pixels, kinds.get("image").encode(pixels / np.float32(127.5) - 1, "png")


def values_of(pixels):
    return kinds.get("image").decode(kinds.get("image").encode(pixels / 127.5 - 1, "png"), "png",
                                     pixels.shape)  # fmt: skip


def numbers(answer):
    assert answer.status == 200, answer.body
    return np.load(io.BytesIO(answer.body))


def form(*parts, boundary="xYz"):
    """Returns the body and the headers of a form of (name, content, file name, media type)."""
    body = b""
    for name, content, file_name, media_type in parts:
        file = f'; filename="{file_name}"' if file_name is not None else ""
        kind = f"Content-Type: {media_type}\r\n" if media_type else ""
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{kind}\r\n'
        body += head.encode() + content + b"\r\n"
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return body + f"--{boundary}--\r\n".encode(), headers


# ------------------------------------------------------------------------------ /v1/generate


def test_a_picture_as_the_body_is_translated(server, bundles):
    pixels, png = picture()
    path = "/v1/generate?model=translator&seed=3"
    expected = bundles["translator"].generate([3], picture=values_of(pixels)[np.newaxis])
    answer = server.ask(path, png, {"Content-Type": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-seed"] == "3"
    image = Image.open(io.BytesIO(answer.body))
    np.testing.assert_array_equal(np.asarray(image), to_uint8(expected)[0])
    assert image.text["Seed"] == "3"  # type: ignore[attr-defined]
    for form_name, media_type in (("npy", "application/x-npy"), ("webp", "image/webp")):
        answer = server.ask(f"{path}&format={form_name}", png, {"Content-Type": "image/png"})
        assert answer.headers["content-type"] == media_type
    answer = server.ask(f"{path}&format=npy", png, {"Content-Type": "image/png"})
    np.testing.assert_array_equal(numbers(answer), expected)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_sends_a_picture(server, bundles, tmp_path):
    pixels, png = picture(6, 4)
    (tmp_path / "in.png").write_bytes(png)
    url = f"http://127.0.0.1:{server.port}/v1/generate"
    raw = ["--data-binary", "@in.png", "-H", "Content-Type: image/png"]
    query = f"{url}?model=translator&seed=3&format=png"
    fields = ["-F", "picture=@in.png", "-F", "model=translator", "-F", "seed=3"]
    expected = bundles["translator"].generate([3], picture=values_of(pixels)[np.newaxis])
    for args in ([*raw, query], [*fields, url]):
        command = ["curl", "-sS", "--fail-with-body", "--noproxy", "*", "-o", "out.png", *args]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        image = np.asarray(Image.open(tmp_path / "out.png"))
        np.testing.assert_array_equal(image, to_uint8(expected)[0])


def test_one_given_sample_serves_for_all_seeds(server, bundles):
    pixels, png = picture()
    path = "/v1/generate?model=translator&seeds=4,9,2&format=npy"
    found = numbers(server.ask(path, png, {"Content-Type": "image/png"}))
    given = values_of(pixels)[np.newaxis]
    np.testing.assert_array_equal(found, bundles["translator"].generate([4, 9, 2], picture=given))
    body = {"model": "translator", "count": 40, "inputs": {"picture": given[0].tolist()}}
    many = server.ask("/v1/generate", body | {"format": "npy"})
    expected = bundles["translator"].generate(range(40), picture=given)
    np.testing.assert_allclose(numbers(many), expected, atol=1e-6)
    stream = server.ask("/v1/generate", body | {"format": "npy", "stream": True})
    np.testing.assert_array_equal(numbers(stream), numbers(many))
    lines = server.ask("/v1/generate", body | {"format": "json", "stream": True}).body.splitlines()
    assert json.loads(lines[-1]) == {"done": 40}
    np.testing.assert_array_equal(
        np.array(json.loads(lines[7])["values"], np.float32), numbers(many)[7]
    )


def test_given_samples_set_the_number_of_samples(server, bundles):
    ages = [[3.0], [4.0], [5.5]]
    body = {"model": "conditioned", "inputs": {"condition": ages}}
    found = server.ask("/v1/generate", body | {"format": "json"}).json["samples"]
    assert [x["seed"] for x in found] == [0, 1, 2]
    expected = bundles["conditioned"].generate(range(3), condition=ages)
    np.testing.assert_allclose([x["values"] for x in found], expected, rtol=1e-6)
    table = server.ask("/v1/generate", body | {"inputs": {"condition": [7]}, "seed": 5})
    assert table.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(table.body.decode())))
    assert rows[0] == ["a", "b", "c", "age"]
    assert float(rows[1][3]) == 7
    files = server.ask("/v1/generate", body).json["samples"]
    assert base64.b64decode(files[2]["csv"]).startswith(b"a,b,c,age\n")


def test_any_random_input_may_be_given_in_place_of_its_seed(server):
    latents = [[1.0, 2.0, 3.0]]
    body = {"model": "conditioned", "inputs": {"condition": [4], "latents": latents}}
    found = server.ask("/v1/generate", body | {"format": "json"}).json["samples"]
    assert found[0]["values"] == [1, 2, 3, 4]


def test_a_classifier_needs_no_seeds(server, bundles):
    pixels, png = picture(4, 4, 1)
    expected = bundles["classifier"].sample(picture=values_of(pixels)[np.newaxis])
    name = tiny.NAMES[int(expected["classes"].argmax())]
    answer = server.ask("/v1/generate?model=classifier", png, {"Content-Type": "image/png"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.body.decode() == f"{name}\n"
    assert "x-seed" not in answer.headers
    path = "/v1/generate?model=classifier&format=json"
    (found,) = server.ask(path, png, {"Content-Type": "image/png"}).json["samples"]
    assert found.keys() == {"values", "outputs"}
    np.testing.assert_allclose(found["values"], expected["classes"][0], rtol=1e-6)
    for output in ("classes", "novelty"):
        np.testing.assert_allclose(found["outputs"][output], expected[output][0], rtol=1e-6)
    many = np.linspace(-1, 1, 5 * 16).reshape(5, 4, 4, 1)
    body = {"model": "classifier", "format": "npz", "inputs": {"picture": many.tolist()}}
    archive = numbers(server.ask("/v1/generate", body))
    assert set(archive.files) == {"classes", "novelty"}
    given = many.astype(np.float32)
    np.testing.assert_allclose(
        archive["novelty"], bundles["classifier"].sample(picture=given)["novelty"], rtol=1e-5
    )
    body = {"model": "classifier", "interpolate": [1, 2], "inputs": {"picture": many[0].tolist()}}
    assert (
        "`interpolate` needs a model with normal inputs" in server.ask("/v1/generate", body).error
    )


def test_two_latents_and_truncation(server, bundles):
    bundle = bundles["two_latents"]
    answer = server.ask("/v1/generate?model=two-latents&seed=9&truncation=0.5")
    assert answer.headers["content-type"] == "audio/wav"
    wave, rate = read_wav(answer.body)
    assert rate == 8000
    expected = bundle.sample([9], truncation=0.5)
    np.testing.assert_allclose(wave, expected["samples"][0], atol=1e-4)
    body = {"model": "two-latents", "seeds": [9, 3], "format": "json"}
    found = server.ask("/v1/generate", body).json["samples"]
    both = bundle.sample([9, 3])
    np.testing.assert_allclose([x["outputs"]["energy"] for x in found], both["energy"], rtol=1e-5)
    walk = {"model": "two-latents", "interpolate": [9, 3], "count": 5, "format": "npz"}
    archive = numbers(server.ask("/v1/generate", walk))
    # All normal inputs move; the uniform one keeps the values of the first seed.
    np.testing.assert_allclose(archive["samples"][0], both["samples"][0], atol=1e-6)
    end = bundle.sample([3], style=both["style"][:1])
    np.testing.assert_allclose(archive["samples"][-1], end["samples"][0], atol=1e-6)
    near = {"model": "two-latents", "around": 9, "seed": 3, "radius": 1, "format": "npy"}
    np.testing.assert_allclose(
        numbers(server.ask("/v1/generate", near))[0], end["samples"][0], atol=1e-6
    )


def test_a_plain_generator_of_sound_returns_wav(server, bundles):
    answer = server.ask("/v1/generate?model=sound&seed=4")
    assert answer.headers["content-type"] == "audio/wav"
    assert b"Seed=4" in answer.body
    plain = server.ask("/v1/generate?model=sound&seed=4&metadata=false")
    assert b"Seed=4" not in plain.body
    wave, rate = read_wav(answer.body)
    assert rate == 16_000
    np.testing.assert_allclose(wave, bundles["sound"].generate([4])[0], atol=1e-4)
    files = server.ask("/v1/generate?model=sound&seed=4&count=2").json["samples"]
    assert base64.b64decode(files[0]["wav"]) == answer.body
    grid = server.ask("/v1/generate?model=sound&count=3&format=grid")
    assert Image.open(io.BytesIO(grid.body)).size[0] > 100


def test_a_form_has_fields_and_files(server, bundles):
    pixels, png = picture()
    expected = bundles["translator"].generate([3], picture=values_of(pixels)[np.newaxis])
    noise = np.ones((5, 7, 1)).tolist()
    fields = [("model", b"translator", None, ""), ("format", b"npy", None, "")]
    seed = ("seed", b"3", None, "")
    for part in (
        ("picture", png, "in.png", "image/png"),
        ("picture", png, "in.png", ""),
        ("picture", png, "in.PNG", "application/octet-stream"),
        ("picture", json.dumps(values_of(pixels).tolist()).encode(), None, ""),
    ):
        body, headers = form(*fields, seed, part)
        np.testing.assert_array_equal(numbers(server.ask("/v1/generate", body, headers)), expected)
    body, headers = form(
        *fields,
        ("picture", png, "in.png", ""),
        ("inputs", json.dumps({"noise": noise}).encode(), None, ""),
    )
    found = numbers(server.ask("/v1/generate", body, headers))
    given = values_of(pixels)[np.newaxis]
    other = bundles["translator"].generate(picture=given, noise=np.ones((1, 5, 7, 1)))
    np.testing.assert_allclose(found, other, atol=1e-6)


def test_pictures_of_several_sizes_at_the_same_time(server, bundles):
    def ask(number):
        pixels, png = picture(4 + number % 3, 6, seed=number)
        path = f"/v1/generate?model=translator&seed={number}&format=npy"
        found = numbers(server.ask(path, png, {"Content-Type": "image/png"}))
        given = values_of(pixels)[np.newaxis]
        expected = bundles["translator"].generate([number], picture=given)
        np.testing.assert_allclose(found, expected, atol=1e-6)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ask, range(60)))


NPY = "application/x-npy"


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array))
    return buffer.getvalue()


PNG = picture()[1]


@pytest.mark.parametrize(
    ("query", "content", "media_type", "rule"),
    [
        ("translator", PNG, "audio/wav", "takes files of image/png, image/webp, image/jpeg"),
        ("translator", PNG[:60], "image/png", "must be a readable PNG file"),
        ("translator", b"", "image/png", "must be a readable PNG file. Received: 0 bytes"),
        ("classifier", PNG, "image/png", "must have the shape (4, 4, 1) here. Received: shape=(5"),
        ("translator", npy(np.full((5, 7, 3), np.nan, "f4")), NPY, "NaN or infinity"),
        ("translator", npy(np.zeros((5, 7, 2), "f4")), NPY, "shape (any, any, 3)"),
        ("translator", npy(np.zeros((5, 7, 3), "S1")), NPY, "must be numbers"),
        ("translator", npy(np.full((5, 7, 3), 1.5)), NPY, "'picture' must have values in [-1, 1]"),
        ("translator", npy(np.full((5, 7, 3), 9, "f2")), NPY, "Received: values from 9 to 9"),
        ("translator", npy(np.full((5, 7, 3), 99)), NPY, "(from 0..255: x / 127.5 - 1)"),
        ("translator", npy(np.zeros((90, 90, 3), "f4")), NPY, "at most 20000 numbers or pixels"),
        ("translator&labels=1", PNG, "image/png", "takes no labels"),
        ("translator&seed=1&count=101", PNG, "image/png", "`count` must be at most 100"),
        ("translator&format=wav", PNG, "image/png", "`format` must be one of png, webp, npy"),
        ("two-latents", PNG, "image/png", "needs a model with one given input"),
        ("translator&sead=1", PNG, "image/png", "Did you mean 'seed'?"),
        ("translator&inputs=1", PNG, "image/png", "`inputs` must be an object"),
    ],
)
def test_files_that_do_not_fit_are_refused(server, query, content, media_type, rule):
    answer = server.ask(f"/v1/generate?model={query}", content, {"Content-Type": media_type})
    assert answer.status == 400, answer.body
    assert rule in answer.error
    assert "\n" not in answer.error


SCORED = {"model": "classifier", "inputs": {"picture": [[[0]] * 4] * 4}}
ROW = {"model": "conditioned", "inputs": {"condition": [4], "latents": [1, 2, 3]}}


@pytest.mark.parametrize("more", [{"truncation": 1}, {"count": 3}, {"seed": None}])
def test_fields_that_change_nothing_are_accepted(server, more):
    assert server.ask("/v1/generate", SCORED | more).status == 200


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"model": "translator"}, "'picture' of kind 'image' must be given. Received: none"),
        ({"model": "translator", "inputs": {"noise": [[[0]]]}}, "'picture' of kind 'image' must"),
        ({"model": "conditioned", "inputs": {"age": 3}}, "The inputs are latents, condition"),
        ({"model": "conditioned", "inputs": {"condition": ["a"]}}, "'condition' must be numbers"),
        ({"model": "conditioned", "inputs": {"condition": [None]}}, "'condition' must be numbers"),
        ({"model": "conditioned", "inputs": {"condition": [[1], [2, 3]]}}, "rows of equal length"),
        ({"model": "conditioned", "inputs": {"condition": [1, 2]}}, "shape (batch, 1). Received"),
        ({"model": "conditioned", "inputs": {"condition": {}}}, "'condition' must be numbers"),
        (
            {"model": "conditioned", "inputs": {"condition": [[1], [2]]}, "seeds": [1, 2, 3]},
            "one sample for all or one for each of 3. Received: 2",
        ),
        ({"model": "conditioned", "inputs": {"condition": [1e39]}}, "must be finite"),
        (
            {
                "model": "translator",
                "inputs": {"picture": [[[0, 0, 0]]], "noise": [[[0], [0]]]},
            },
            "one size 'width'. Received: 1 and 2",
        ),
        (
            {"model": "translator", "inputs": {"picture": [[[0, 128, 255]]]}},
            "'picture' must have values in [-1, 1] (from 0..255: x / 127.5 - 1). "
            "Received: values from 0 to 255",
        ),
        ({"model": "translator", "inputs": {"picture": [[[-1, 0, 1.1]]]}}, "from -1 to 1.1"),
        (
            {
                "model": "translator",
                "count": 2,
                "inputs": {"picture": [[[[-7, 0, 1]]], [[[0] * 3]]]},
            },
            "from -7 to 1",
        ),
        (
            SCORED | {"seeds": [1]},
            "`seeds` needs a network with random inputs. Received: seeds=",
        ),
        (SCORED | {"seed": 0}, "Received: seed=0 for the inputs picture"),
        (SCORED | {"seed": 3, "count": 2}, "`seed` needs a network with random inputs"),
        (SCORED | {"truncation": 0.5}, "draws of normal inputs. Received: truncation=0.5"),
        (
            SCORED | {"columns": 2},
            "`columns` needs `format` grid. Received: columns=2, format=",
        ),
        (ROW | {"truncation": 0}, "which here are all given. Received: truncation=0"),
        (ROW | {"around": 3}, "need a normal input that is not given. Received: inputs=latents"),
        (ROW | {"interpolate": [3, 4]}, "`interpolate` and `around` need a normal input that is"),
        (
            {"model": "two-latents", "truncation": 0.5, "inputs": {"truncation": 0.3}},
            "`truncation` and the input 'truncation' exclude each other. Received: truncation=0.5",
        ),
        ({"model": "classifier", "labels": 1, "inputs": {"picture": [[[0]] * 4] * 4}}, "no labels"),
        ({"model": "two-latents", "inputs": {"style": [2**70] * 16}, "seed": "x"}, "`seed` must"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(server, body, rule):
    answer = server.ask("/v1/generate", body)
    assert answer.status == 400, answer.body
    assert rule in answer.error


@pytest.mark.parametrize(
    ("parts", "rule"),
    [
        ([("picture", PNG[:50], "a.png", "")], "must be a readable PNG file"),
        ([("picture", PNG, "a.xyz", "")], "must have a Content-Type or an ending of its kind"),
        ([("picture", b"[[[0, 9, 255]]]", None, "")], "Received: values from 0 to 255"),
        ([("picture", b"[[[0, 9, 255]]]", "a.json", "")], "Received: values from 0 to 255"),
        ([("picture", npy(np.full((2, 2, 3), -2.0)), "a.npy", "")], "from -2 to -2"),
        ([("image", PNG, "a.png", "")], "must be one of model, version, seeds"),
        ([("picture", PNG, "a.png", ""), ("picture", PNG, "a.png", "")], "'picture' twice"),
        ([("seed", b"x", None, "")], "`seed` must be an integer"),
        ([("seed", b"\xff", None, "")], "`seed` must be UTF-8"),
        ([("seed", b"1" * 70_000, None, "")], "at most 65536 bytes"),
        ([("model", b"translator", None, "")], "'model' twice"),
        ([("picture", b"[1", None, "")], "`picture` must be JSON"),
        ([("x" * 300, b"1", None, "")], "must have Content-Disposition: form-data"),
        ([(f"x{i}", b"1", None, "") for i in range(100)], "at most 64 parts"),
        ([("seed", b"1", None, "text/plain\r\nX-Other: 1")], "may have Content-Disposition"),
        ([("seed", b"1", None, "a/b" + " " * 3000)], "headers of at most 2048 bytes"),
    ],
)
def test_forms_that_do_not_fit_are_refused(server, parts, rule):
    body, headers = form(*parts)
    answer = server.ask("/v1/generate?model=translator", body, headers)
    assert answer.status == 400, answer.body
    assert rule in answer.error


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"--xYz",
        b"--xYz--",
        b"--xYz\r\n\r\n",
        b"hello\r\n--xYz--\r\n",
        b"--xYz--\r\nmore",
    ],
)
def test_malformed_forms_are_refused(server, body):
    headers = {"Content-Type": "multipart/form-data; boundary=xYz"}
    answer = server.ask("/v1/generate?model=translator", body, headers)
    assert (answer.status, "Received: " in answer.error) == (400, True)
    for content_type in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed",
    ):
        answer = server.ask("/v1/generate?model=translator", body, {"Content-Type": content_type})
        assert answer.status in (400, 415)
        assert "Received: content-type=" in answer.error


def test_a_form_is_divided_into_its_parts():
    body, headers = form(("a", b"1\r\n--xY", None, ""), ("b", b"", "c.bin", "x/y"))
    first, second = multipart.parse(headers["Content-Type"], body)
    assert first == ("a", b"1\r\n--xY", None, "")
    assert second == ("b", b"", "c.bin", "x/y")
    quoted = 'Multipart/Form-Data; boundary="xYz"'
    assert multipart.parse(quoted, body) == [first, second]


# ----------------------------------------------------------------------------- /v1/models, docs


def test_models_describe_their_inputs_and_outputs(server):
    listed = {x["name"]: x for x in server.ask("/v1/models").json["models"]}
    translator, classifier = listed["translator"], listed["classifier"]
    assert translator["role"] == "translator"
    assert translator["shape"] == ["height", "width", 3]
    assert [(x["name"], x["fill"], x["kind"]) for x in translator["inputs"]] == [
        ("picture", "given", "image"),
        ("noise", "normal", "array"),
    ]
    assert translator["inputs"][0]["shape"] == ["batch", "height", "width", 3]
    assert [x["name"] for x in classifier["outputs"]] == ["classes", "novelty"]
    assert classifier["outputs"][0]["meta"]["class_names"] == list(tiny.NAMES)
    assert classifier["formats"] == ["txt", "npy", "npz", "json", "grid"]
    assert listed["sound"]["formats"][0] == "wav"


def test_the_openapi_document_lists_files_and_formats(server):
    post = server.ask("/openapi.json").json["paths"]["/v1/generate"]["post"]
    body = post["requestBody"]["content"]
    assert {"application/json", "multipart/form-data", "image/png", "text/csv"} <= body.keys()
    parts = body["multipart/form-data"]["schema"]["properties"]
    assert {"picture", "condition", "seed"} <= parts.keys()
    assert {"image/png", "audio/wav", "text/csv"} <= post["responses"]["200"]["content"].keys()


# ------------------------------------------------------------------------------------------ V2


def infer(server, model, *tensors, **fields):
    body = {"inputs": list(tensors)} | fields
    return server.ask(f"/v2/models/{model}/infer", body)


def tensor(name, array, datatype="FP32"):
    array = np.asarray(array)
    data = array.reshape(-1).tolist()
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": data}


def outputs_of(answer):
    assert answer.status == 200, answer.body
    return {
        x["name"]: np.array(x["data"], np.float32).reshape(x["shape"])
        for x in answer.json["outputs"]
    }


def test_v2_describes_all_inputs_and_outputs(server):
    about = server.ask("/v2/models/translator").json
    assert about["inputs"] == [
        {"name": "picture", "datatype": "FP32", "shape": [-1, -1, -1, 3]},
        {"name": "noise", "datatype": "FP32", "shape": [-1, -1, -1, 1]},
    ]
    assert about["parameters"]["seeds"] == "INT64 [-1], in the place of noise"
    config = server.ask("/v2/models/two-latents/config").json
    assert [x["dims"] for x in config["input"]] == [[16], [16], [1]]
    assert [(x["name"], x["dims"]) for x in config["output"]] == [
        ("samples", [16, 1]),
        ("energy", [1]),
    ]
    assert "parameters" not in server.ask("/v2/models/classifier").json


def test_v2_takes_any_input_and_returns_several_outputs(server, bundles):
    given = np.random.default_rng(1).uniform(-1, 1, (3, 4, 6, 3)).astype(np.float32)
    seeds = tensor("seeds", [5, 6, 7], "INT64")
    found = outputs_of(infer(server, "translator", tensor("picture", given), seeds))
    expected = bundles["translator"].generate([5, 6, 7], picture=given)
    np.testing.assert_allclose(found["samples"], expected, atol=1e-6)
    found = outputs_of(infer(server, "translator", tensor("picture", given)))
    expected = bundles["translator"].generate(picture=given)
    np.testing.assert_allclose(found["samples"], expected, atol=1e-6)
    bundle = bundles["two_latents"]
    drawn = bundle.sample(range(40))
    names = ("content", "style", "truncation")
    found = outputs_of(infer(server, "two-latents", *(tensor(n, drawn[n]) for n in names)))
    for name in ("samples", "energy"):
        np.testing.assert_allclose(found[name], drawn[name], rtol=1e-4)
    by_seed = infer(
        server,
        "two-latents",
        tensor("seeds", [3], "UINT32"),
        parameters={"truncation": 0.5},
        outputs=[{"name": "energy"}],
    )
    assert list(outputs_of(by_seed)) == ["energy"]
    expected = bundle.sample([3], truncation=0.5)["energy"]
    np.testing.assert_allclose(outputs_of(by_seed)["energy"], expected, rtol=1e-4)


def test_v2_sends_several_outputs_as_bytes(server, bundles):
    given = np.random.default_rng(1).uniform(-1, 1, (2, 4, 4, 1)).astype(np.float32)
    head = {
        "inputs": [
            {
                "name": "picture",
                "shape": [2, 4, 4, 1],
                "datatype": "FP32",
                "parameters": {"binary_data_size": given.nbytes},
            }
        ],
        "outputs": [
            {"name": "novelty", "parameters": {"binary_data": True}},
            {"name": "classes", "parameters": {"binary_data": True}},
        ],
    }
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    answer = server.ask("/v2/models/classifier/infer", text + given.tobytes(), headers)
    size = int(answer.headers["inference-header-content-length"])
    described = json.loads(answer.body[:size])["outputs"]
    assert [x["name"] for x in described] == ["novelty", "classes"]
    values = np.frombuffer(answer.body[size:], "<f4")
    expected = bundles["classifier"].sample(picture=given)
    np.testing.assert_allclose(values[:2], expected["novelty"][:, 0], rtol=1e-5)
    np.testing.assert_allclose(values[2:].reshape(2, 3), expected["classes"], rtol=1e-5)


PLAIN = tensor("picture", np.zeros((1, 4, 4, 1)))


@pytest.mark.parametrize(
    ("model", "tensors", "fields", "rule"),
    [
        ("translator", [tensor("seeds", [1], "INT64")], {}, "'picture' of kind 'image' must be"),
        ("classifier", [tensor("picture", np.zeros((1, 4, 5, 1)))], {}, "shape [n, 4, 4, 1]"),
        ("classifier", [tensor("picture", np.zeros((1, 4, 4, 1)), "INT64")], {}, "`datatype` of"),
        ("classifier", [tensor("image", [0.0])], {}, "The inputs must be picture, seeds"),
        ("classifier", [tensor("labels", [0], "INT64")], {}, "takes no labels"),
        (
            "classifier",
            [tensor("picture", np.zeros((1, 4, 4, 1)))],
            {"outputs": [{"name": "novelty"}, {"name": "novelty"}]},
            "`outputs` must be among classes, novelty, each at most once",
        ),
        ("classifier", [tensor("picture", np.full((1, 4, 4, 1), 255.0))], {}, "from 255 to 255"),
        ("classifier", [tensor("picture", np.full((1, 4, 4, 1), -1.5))], {}, "from -1.5 to -1.5"),
        (
            "translator",
            [tensor("picture", np.full((2, 1, 1, 3), 2)), tensor("seeds", [1, 2], "INT64")],
            {},
            "'picture' must have values in [-1, 1]",
        ),
        ("classifier", [PLAIN, tensor("seeds", [1], "INT64")], {}, "`seeds` needs a network with"),
        ("classifier", [PLAIN], {"parameters": {"truncation": 0.5}}, "draws of normal inputs. Rec"),
        (
            "two-latents",
            [tensor("seeds", [1], "INT64"), tensor("truncation", [0.5])],
            {"parameters": {"truncation": 0.5}},
            "`truncation` and the input 'truncation' exclude each other",
        ),
        ("two-latents", [tensor("content", np.zeros((1, 16)))], {}, "either `content`, `style` or"),
        ("translator", [tensor("picture", np.zeros((1, 90, 90, 3)))], {}, "at most 20000 numbers"),
    ],
)
def test_v2_refuses_tensors_that_do_not_fit(server, model, tensors, fields, rule):
    answer = infer(server, model, *tensors, **fields)
    assert answer.status == 400, answer.body
    assert rule in answer.error


def test_v2_refuses_bytes_outside_the_range(server):
    def ask(given):
        about = {"name": "picture", "shape": list(given.shape), "datatype": "FP32"}
        head = {"inputs": [about | {"parameters": {"binary_data_size": given.nbytes}}]}
        text = json.dumps(head).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        return server.ask("/v2/models/classifier/infer", text + given.tobytes(), headers)

    within = np.linspace(-1, 1, 16, dtype="<f4").reshape(1, 4, 4, 1)
    assert ask(within).status == 200
    for given, rule in ((within * 127.5 + 127.5, "from 0 to 255"), (within * 2, "from -2 to 2")):
        answer = ask(given)
        assert (answer.status, rule in answer.error) == (400, True), answer.body
    assert "must be finite" in ask(within * np.float32("inf")).error


# ----------------------------------------------------------------------------------- TF Serving


def predict(server, model, **content):
    return server.ask(f"/v1/models/{model}:predict", content)


def test_signatures_follow_the_ports(server):
    def signatures(model):
        about = server.ask(f"/v1/models/{model}/metadata").json
        return about["metadata"]["signature_def"]["signature_def"]

    found = signatures("translator")
    assert set(found) == {"serving_default", "generate", "generate_png"}
    assert set(found["generate"]["inputs"]) == {"seeds", "picture"}
    sizes = [x["size"] for x in found["generate"]["inputs"]["picture"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "-1", "-1", "3"]
    found = signatures("two-latents")
    assert set(found) == {"serving_default", "generate", "generate_wav"}
    assert set(found["serving_default"]["inputs"]) == {"content", "style", "truncation"}
    assert set(found["generate"]["outputs"]) == {"samples", "energy"}
    assert set(signatures("classifier")) == {"serving_default", "generate"}
    assert set(signatures("classifier")["generate"]["inputs"]) == {"picture"}


def test_predict_returns_several_outputs_by_rows_and_by_columns(server, bundles):
    given = np.random.default_rng(2).uniform(-1, 1, (3, 4, 4, 1)).astype(np.float32)
    expected = bundles["classifier"].sample(picture=given)
    rows = predict(server, "classifier", instances=given.tolist()).json["predictions"]
    columns = predict(server, "classifier", inputs={"picture": given.tolist()}).json["outputs"]
    for name in ("classes", "novelty"):
        np.testing.assert_allclose([row[name] for row in rows], expected[name], rtol=1e-5)
        np.testing.assert_allclose(columns[name], expected[name], rtol=1e-5)
    text = [{"b64": base64.b64encode(x.tobytes()).decode()} for x in given]
    again = predict(server, "classifier", instances=[{"picture": x} for x in text])
    assert again.json["predictions"] == rows


def test_predict_refuses_values_outside_the_range(server):
    given = np.linspace(0, 255, 16, dtype="<f4").reshape(1, 4, 4, 1)
    text = {"b64": base64.b64encode(given.tobytes()).decode()}
    instance = {"seeds": 3, "picture": [[[0, 9, 255]]]}
    for model, content in (
        ("classifier", {"instances": given.tolist()}),
        ("classifier", {"inputs": {"picture": given.tolist()}}),
        ("classifier", {"instances": [{"picture": text}]}),
        ("translator", {"signature_name": "generate", "instances": [instance]}),
        ("translator", {"signature_name": "generate_png", "instances": [instance]}),
    ):
        answer = predict(server, model, **content)
        assert answer.status == 400, answer.body
        assert "'picture' must have values in [-1, 1] (from 0..255" in answer.error
        assert "Received: values from 0 to 255" in answer.error


def test_uint8_arrays_are_pixels(server, bundles):
    pixels, png = picture()
    expected = bundles["translator"].generate([3], picture=values_of(pixels)[np.newaxis])
    found = bundles["translator"].generate([3], picture=pixels[np.newaxis])
    np.testing.assert_array_equal(found, expected)
    path = "/v1/generate?model=translator&seed=3&format=npy"
    body, headers = form(("picture", npy(pixels), "a.npy", ""))
    for answer in (
        server.ask(path, npy(pixels), {"Content-Type": NPY}),
        server.ask(path, body, headers),
        server.ask(path, png, {"Content-Type": "image/png"}),
    ):
        np.testing.assert_array_equal(numbers(answer), expected)


def test_predict_generates_from_seeds_and_given_inputs(server, bundles):
    given = values_of(picture()[0])[np.newaxis]
    instance = {"seeds": 3, "picture": given[0].tolist()}
    expected = bundles["translator"].generate([3], picture=given)
    found = predict(server, "translator", signature_name="generate", instances=[instance])
    np.testing.assert_allclose(found.json["predictions"], expected, atol=1e-6)
    found = predict(server, "translator", signature_name="generate_png", instances=[instance])
    png = base64.b64decode(found.json["predictions"][0]["b64"])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), to_uint8(expected)[0])
    found = predict(server, "two-latents", signature_name="generate_wav", inputs=[4, 5])
    wave, _ = read_wav(base64.b64decode(found.json["outputs"][1]["b64"]))
    np.testing.assert_allclose(wave, bundles["two_latents"].generate([5])[0], atol=1e-4)
    missing = predict(server, "translator", signature_name="generate", instances=[{"seeds": 3}])
    assert "The inputs must be seeds, picture. Received: 'seeds'" in missing.error
