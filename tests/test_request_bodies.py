"""Bodies of requests: compression, media types, repeated keys, pages of other sites."""

import functools
import gzip
import io
import json
import shutil
import subprocess
import time
import zlib

import numpy as np
import orjson
import pytest
import tiny
from servers import Serving
from test_given_inputs import form, picture, values_of

import serving
from serving.http_types import HTTPError, parse_json
from serving.inputs import Input, Port
from serving.strict_json import check_keys

MIB = 2**20
SEEDS = {"name": "seeds", "shape": [2], "datatype": "INT64", "data": [7, 8]}
# One request of each protocol: path, body, and where the numbers are in the response.
REQUESTS = {
    "generate": (
        "/v1/generate",
        {"model": "points", "seeds": [7, 8], "format": "json"},
        lambda found: [x["values"] for x in found["samples"]],
    ),
    "v2": (
        "/v2/models/points/infer",
        {"inputs": [SEEDS], "parameters": {}},
        lambda found: np.reshape(found["outputs"][0]["data"], found["outputs"][0]["shape"]),
    ),
    "tf_serving": (
        "/v1/models/points:predict",
        {"signature_name": "generate", "instances": [7, 8]},
        lambda found: found["predictions"],
    ),
}
protocols = pytest.mark.parametrize("protocol", REQUESTS)


def words(to):
    """Writes a bundle from a text of weights to the same weights."""
    meta = {"vocabulary": ["a", "b", "c"]}
    inputs = [Input("text", "float32", ("time", 3), "text", meta)]
    outputs = [Port("samples", "float32", ("time", 3), "text", meta)]
    model = tiny.network("words", [("Identity", ["text"], ["samples"], {})], inputs, outputs)
    return tiny.save(to, "words", model, inputs, outputs, "translator")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    tiny.points(root / "points")
    tiny.translator(root / "translator")
    words(root / "words")
    return root


@pytest.fixture(scope="module")
def server(models):
    with Serving(models, "--max-body", MIB) as it:
        yield it
        assert it.process.poll() is None, "the server must still run after all tests"


@pytest.fixture(scope="module")
def expected(models):
    return serving.Bundle(models / "points").generate([7, 8])


def ask(server, protocol, body=None, headers=None):
    """Sends the request of a protocol; returns the response."""
    path, content, _ = REQUESTS[protocol]
    body = json.dumps(content).encode() if body is None else body
    return server.ask(path, body, headers)


def samples(protocol, answer):
    assert answer.status == 200, answer.body
    return np.array(REQUESTS[protocol][2](answer.json), np.float32)


def content_of(protocol):
    return json.dumps(REQUESTS[protocol][1]).encode()


# ------------------------------------------------------------------------------ compression

ENCODED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "gzip, identity": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
    "": bytes,
}


@protocols
@pytest.mark.parametrize("encoding", ENCODED)
def test_compressed_bodies_are_read_in_every_protocol(server, expected, protocol, encoding):
    body = ENCODED[encoding](content_of(protocol))
    answer = ask(server, protocol, body, {"Content-Encoding": encoding})
    np.testing.assert_allclose(samples(protocol, answer), expected, rtol=1e-6)


@protocols
def test_a_gzip_body_of_two_members_and_padding_is_read(server, expected, protocol):
    body = content_of(protocol)
    body = gzip.compress(body[:10]) + gzip.compress(body[10:]) + bytes(7)
    answer = ask(server, protocol, body, {"Content-Encoding": "gzip"})
    np.testing.assert_allclose(samples(protocol, answer), expected, rtol=1e-6)


@protocols
@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "x"])
def test_other_encodings_are_refused(server, protocol, encoding):
    answer = ask(server, protocol, gzip.compress(b"{}"), {"Content-Encoding": encoding})
    assert answer.status == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert f"by gzip or deflate. Received: content-encoding={encoding!r}" in answer.error


def flipped(body):
    return body[:-6] + bytes([body[-6] ^ 1]) + body[-5:]  # in the checksum


@protocols
@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (lambda body: body[:-9], "bytes without an end"),
        (lambda body: body[:5], "5 bytes without an end"),
        (flipped, "complete gzip data. Received: Error -3"),
        (lambda body: b"{}", "complete gzip data. Received: Error -3"),
        (lambda body: body + b"more", "complete gzip data"),
        (lambda body: gzip.compress(b"") * 17 + body, "bytes after the end"),
    ],
)
def test_damaged_gzip_is_one_line(server, protocol, damage, rule):
    body = damage(gzip.compress(content_of(protocol)))
    answer = ask(server, protocol, body, {"Content-Encoding": "gzip"})
    assert answer.status == 400
    assert rule in answer.error


@protocols
def test_deflate_is_zlib_data_and_nothing_after_it(server, protocol):
    raw = zlib.compressobj(wbits=-15)
    raw = raw.compress(content_of(protocol)) + raw.flush()
    for body in (raw, zlib.compress(content_of(protocol)) + b"x"):
        answer = ask(server, protocol, body, {"Content-Encoding": "deflate"})
        assert answer.status == 400
        assert "complete deflate data" in answer.error


@functools.cache
def bombs():
    """Bodies that decompress to 100 MiB."""
    content = bytes(100 * MIB)
    return {"gzip": gzip.compress(content, 1), "deflate": zlib.compress(content, 1)}


@protocols
def test_a_bomb_is_refused_without_its_memory(server, protocol):
    before = server.memory()
    for encoding, bomb in bombs().items():
        assert len(bomb) < MIB
        answer = ask(server, protocol, bomb, {"Content-Encoding": encoding})
        assert answer.status == 413
        assert f"at most {MIB} bytes. Received: {len(bomb)} bytes of {encoding}" in answer.error
    assert server.memory() - before < 20 * MIB
    whole = content_of(protocol).ljust(MIB)  # as large as allowed
    assert ask(server, protocol, gzip.compress(whole), {"Content-Encoding": "gzip"}).status == 200
    over = gzip.compress(whole + b" ")
    assert ask(server, protocol, over, {"Content-Encoding": "gzip"}).status == 413


@protocols
def test_gzip_without_its_header_is_named(server, protocol):
    answer = ask(server, protocol, gzip.compress(content_of(protocol)))
    assert answer.status == 400
    assert "JSON. Received: gzip data without Content-Encoding: gzip" in answer.error


def test_compressed_files_and_forms_are_read(server, models):
    pixels, png = picture()
    given = values_of(pixels)[np.newaxis]
    expected = serving.Bundle(models / "translator").generate([3], picture=given)
    encoded = {"Content-Encoding": "gzip"}
    query = "/v1/generate?model=translator&seed=3&format=npy"
    answer = server.ask(query, gzip.compress(png), encoded | {"Content-Type": "image/png"})
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.body)), expected)
    fields = {"model": "translator", "seed": "3", "format": "npy"}
    parts = [(name, value.encode(), None, "") for name, value in fields.items()]
    body, headers = form(*parts, ("picture", png, "in.png", ""))
    answer = server.ask("/v1/generate", gzip.compress(body), encoded | headers)
    np.testing.assert_array_equal(np.load(io.BytesIO(answer.body)), expected)
    cut = server.ask("/v1/generate", gzip.compress(body)[:-20], encoded | headers)
    assert (cut.status, "without an end" in cut.error) == (400, True)


def test_tokens_are_checked_before_anything_is_decompressed(models, tmp_path):
    (tmp_path / "tokens").write_text("0123456789abcdef\n")
    with Serving(models / "points", "--tokens", tmp_path / "tokens") as server:
        damaged = {"Content-Encoding": "gzip"}
        assert server.ask("/v1/generate", b"x", damaged).status == 401
        token = {"Authorization": "Bearer 0123456789abcdef"}
        assert server.ask("/v1/generate", b"x", damaged | token).status == 400


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_compresses(server, expected, algorithm, binary):
    module = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    given = module.InferInput("seeds", [2], "INT64")
    given.set_data_from_numpy(np.array([7, 8]), binary_data=binary)
    with module.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        result = client.infer("points", [given], request_compression_algorithm=algorithm)
    np.testing.assert_allclose(result.as_numpy("samples"), expected, rtol=1e-6)


def curl(server, path, *args, cwd=None, body=b""):
    """Runs curl; returns the decoded response."""
    url = f"http://127.0.0.1:{server.port}{path}"
    command = ["curl", "-sS", "--fail-with-body", "--noproxy", "*", *args, url]
    done = subprocess.run(command, cwd=cwd, input=body, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@protocols
def test_curl_sends_any_of_its_media_types_and_gzip(server, expected, protocol):
    path, content, read = REQUESTS[protocol]
    text = json.dumps(content)
    packed = ["-H", "Content-Encoding: gzip", "--data-binary", "@-"]
    for args, body in (
        (["-d", text], b""),  # form-urlencoded
        (["-d", text, "-H", "Content-Type: text/plain"], b""),
        (["-d", text, "-H", "Content-Type:"], b""),  # none
        (packed, gzip.compress(text.encode())),
    ):
        found = read(curl(server, path, *args, body=body))
        np.testing.assert_allclose(np.array(found, np.float32), expected, rtol=1e-6)


# ------------------------------------------------------------------------------ media types


@protocols
@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "text/plain;charset=UTF-8",
        "Text/Plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-8",
    ],
)
def test_json_of_clients_that_name_no_media_type_is_read(server, expected, protocol, media_type):
    answer = ask(server, protocol, headers={"Content-Type": media_type})
    np.testing.assert_allclose(samples(protocol, answer), expected, rtol=1e-6)


@protocols
@pytest.mark.parametrize("media_type", ["text/xml", "application/gzip", "application/msgpack"])
def test_other_media_types_are_refused(server, protocol, media_type):
    answer = ask(server, protocol, headers={"Content-Type": media_type})
    assert answer.status == 415
    assert "application/json" in answer.error
    assert media_type in answer.error


def test_a_plain_text_is_a_file_where_the_model_takes_texts(server):
    plain = {"Content-Type": "text/plain"}
    answer = server.ask("/v1/generate?model=words", b"abca\n", plain)
    assert (answer.status, answer.body) == (200, b"abca\n")
    answer = server.ask("/v1/generate?model=points", b"abca\n", plain)
    assert (answer.status, "must be JSON" in answer.error) == (400, True)
    answer = server.ask("/v1/generate?model=none", b"abca\n", plain)
    assert answer.status == 404


def test_fields_of_the_query_join_those_of_the_body(server, expected):
    path = "/v1/generate?model=points&format=json"
    found = server.ask(path, {"seeds": [7, 8]}).json["samples"]
    np.testing.assert_allclose([x["values"] for x in found], expected, rtol=1e-6)
    assert "'format' twice" in server.ask(path, {"format": "npy"}).error


def test_an_empty_signature_name_is_the_default(server):
    path = "/v1/models/points:predict"
    rows = {"instances": [[0.5] * 5]}
    default = server.ask(path, rows | {"signature_name": "serving_default"})
    assert server.ask(path, rows | {"signature_name": ""}).body == default.body
    for name in (None, " ", 0, []):
        answer = server.ask(path, rows | {"signature_name": name})
        assert "`signature_name` must be one of serving_default" in answer.error


def test_empty_parameters_change_nothing(server, expected):
    tensor = SEEDS | {"parameters": {}}
    for parameters in ({}, None):
        body = {"inputs": [tensor], "parameters": parameters}
        body["outputs"] = [{"name": "samples", "parameters": parameters}]
        answer = server.ask(REQUESTS["v2"][0], body)
        np.testing.assert_allclose(samples("v2", answer), expected, rtol=1e-6)
    path, body = "/v1/models/points:predict", {"instances": [[0.5] * 5]}
    assert server.ask(path, body | {"parameters": {}}).body == server.ask(path, body).body
    refused = server.ask(path, body | {"parameters": {"truncation": 0.5}})
    assert (refused.status, "may have signature_name" in refused.error) == (400, True)


# ------------------------------------------------------------------------------ other sites


@protocols
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},  # of a sandboxed frame
        {"Origin": "http://127.0.0.1:1"},  # another port
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_simple_requests_of_other_sites_are_refused(server, protocol, headers):
    """A browser sends these media types without asking the server first."""
    for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = ask(server, protocol, headers=headers | {"Content-Type": media_type})
        assert answer.status == 403
        assert "Pages of other origins may not send requests" in answer.error


@protocols
def test_the_own_page_and_programs_may_send_plain_text(server, expected, protocol):
    own = {"Origin": f"http://127.0.0.1:{server.port}", "Sec-Fetch-Site": "same-origin"}
    for headers in (own, {"Sec-Fetch-Site": "none"}, {}):
        answer = ask(server, protocol, headers=headers | {"Content-Type": "text/plain"})
        np.testing.assert_allclose(samples(protocol, answer), expected, rtol=1e-6)


def test_links_of_other_sites_open_the_page(server):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.ask("/", headers=headers).status == 200


def test_pages_that_cors_names_may_send_plain_text(models):
    with Serving(models / "points", "--cors", "http://page.example") as server:
        for origin, status in (("http://page.example", 200), ("http://evil.example", 403)):
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            answer = ask(server, "v2", headers=headers | {"Content-Type": "text/plain"})
            assert answer.status == status


# ------------------------------------------------------------------------------ repeated keys


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/v1/generate", b'{"model": "points", "seed": 1, "seed": 2}', "seed"),
        ("/v1/generate", b'{"seed": 1, "model": "points", "\\u0073eed": 1}', "seed"),
        ("/v1/generate", b'{"model": "points", "inputs": {"a:b": 1, "x": 2, "x": 3}}', "x"),
        ("/v2/models/points/infer", b'{"inputs": [], "inputs": [], "id": "x"}', "inputs"),
        (
            "/v2/models/points/infer",
            b'{"inputs": [{"name": "seeds", "datatype": "INT64", "shape": [1], "shape": [2],'
            b' "data": [1, 2]}]}',
            "shape",
        ),
        (
            "/v2/models/points/infer",
            b'{"inputs": [], "parameters": {"truncation": 1, "truncation": 2}}',
            "truncation",
        ),
        ("/v1/models/points:predict", b'{"instances": [[0]], "instances": [[1]]}', "instances"),
        (
            "/v1/models/points:predict",
            b'{"instances": [{"latents": [0, 0, 0, 0, 0], "latents": [1, 1, 1, 1, 1]}]}',
            "latents",
        ),
    ],
)
def test_a_repeated_key_is_refused(server, path, body, key):
    answer = server.ask(path, body)
    assert answer.status == 400
    assert f"The body must name each key once. Received: {key!r} twice" in answer.error
    packed = server.ask(path, gzip.compress(body), {"Content-Encoding": "gzip"})
    assert packed.body == answer.body


def test_a_repeated_key_is_refused_before_bytes_and_in_forms(server):
    head = b'{"inputs": [{"name": "seeds", "name": "seeds"}]}'
    length = {"Inference-Header-Content-Length": str(len(head))}
    answer = server.ask("/v2/models/points/infer", head + bytes(8), length)
    assert "The start of the body must name each key once. Received: 'name' twice" in answer.error
    fields = [("model", b"points", None, ""), ("inputs", b'{"z": 1, "z": 2}', None, "")]
    answer = server.ask("/v1/generate", *form(*fields))
    assert "`inputs` must name each key once. Received: 'z' twice" in answer.error
    fields = [("model", b"words", None, ""), ("text", b'{"text": "a", "text": "b"}', "a.jsonl", "")]
    answer = server.ask("/v1/generate", *form(*fields))
    assert (answer.status, "'text' twice" in answer.error) == (400, True)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"3",
        b'"a:b:c"',
        b'{"a": {"a": {"a": "x:y"}}, "b": [{"a": 1}, {"a": 2}]}',
        b'{"a:": "\\":\\"", ":": [[[{":": 1e99}]]], "n": 12345678901234567890}',
        b'{"a": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_equal_keys_of_different_objects_are_not_repeated(text):
    assert parse_json(text, "It") == json.loads(text)


def test_a_text_too_deep_to_be_searched_is_refused():
    deep = b"[" * 1000 + b"]" * 1000
    assert parse_json(b'{"a": %b}' % deep, "It")
    with pytest.raises(HTTPError, match="It must be nested less deeply"):
        parse_json(b'{"a:": %b}' % deep, "It")  # the colon in the key makes a search necessary


def test_looking_for_repeated_keys_takes_little_time():
    numbers = ",".join(str(i / 7) for i in range(200_000))
    text = b'{"inputs": [{"name": "x", "data": [%b]}]}' % numbers.encode()
    start = time.perf_counter()
    content = orjson.loads(text)
    middle = time.perf_counter()
    check_keys(text, content)
    assert time.perf_counter() - middle < 2 * (middle - start)  # no second reader
