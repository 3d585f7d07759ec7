"""The server as it runs: `keras-gan serve` in a process of its own, asked over sockets."""

import asyncio
import base64
import calendar
import email.utils
import gzip
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from PIL import Image
from servers import ROOT, Serving, Uvicorn, comes, read_all, until

import serving
from serving.app import create_app
from serving.connection import Connection
from serving.generate import FIELDS
from serving.interpolation import slerp
from serving.limits import Settings
from serving.pictures import to_uint8
from serving.seeds import latents_from_seeds
from serving.server import Server, http_date


@pytest.fixture(scope="session")
def one(tmp_path_factory):
    """A bundle of pictures of clothes in three classes."""
    return tiny.clothes(tmp_path_factory.mktemp("one") / "clothes")


@pytest.fixture(scope="session")
def two(tmp_path_factory):
    """Another generator of the same clothes."""
    return tiny.clothes(tmp_path_factory.mktemp("two") / "clothes", seed=4)


@pytest.fixture(scope="session")
def models(one, two, tmp_path_factory):
    """A folder with two versions of clothes, points, and tables that are no pictures."""
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(one, root / "clothes" / "1")
    shutil.copytree(two, root / "clothes" / "2")
    tiny.points(root / "points")
    tiny.rows(root / "rows")
    return root


@pytest.fixture(scope="module")
def server(models):
    with Serving(models, "--max-count", 100, "--max-body", 20_000, "--max-values", 18_000) as it:
        yield it
        assert it.process.poll() is None, "the server must still run after all tests"


@pytest.fixture
def folder(one, tmp_path):
    """A folder of versions that a test may change."""
    shutil.copytree(one, tmp_path / "clothes" / "1")
    return tmp_path / "clothes"


def opened(models, version=2):
    return serving.Bundle(models / "clothes" / str(version))


def pixels(png):
    image = np.asarray(Image.open(io.BytesIO(png)))
    return image if image.ndim == 3 else image[..., np.newaxis]


def numbers(answer):
    return np.load(io.BytesIO(answer.body))


# ------------------------------------------------------------------------------- samples


def test_a_seed_is_the_image_that_the_bundle_generates(server, models):
    expected = to_uint8(opened(models).generate([7]))[0]
    for answer in (
        server.ask("/v1/generate?model=clothes&seed=7"),
        server.ask("/v1/generate", {"model": "clothes", "seeds": [7]}),
        server.ask("/v1/generate", {"model": "clothes", "seed": 7, "count": 1, "format": "png"}),
        server.ask("/v1/generate?model=clothes&seeds=7&version=2"),
    ):
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["x-model"] == "clothes"
        assert answer.headers["x-model-version"] == "2"
        assert answer.headers["x-model-sha256"] == opened(models).sha256
        assert answer.headers["x-seed"] == "7"
        np.testing.assert_array_equal(pixels(answer.body), expected)
    old = server.ask("/v1/generate?model=clothes&seed=7&version=1")
    np.testing.assert_array_equal(pixels(old.body), to_uint8(opened(models, 1).generate([7]))[0])


def test_images_carry_their_provenance_unless_metadata_is_false(server, models):
    body = {"model": "clothes", "seed": 5, "labels": "bag", "truncation": 0.5}
    texts = Image.open(io.BytesIO(server.ask("/v1/generate", body).body)).text  # type: ignore
    assert texts["Model SHA-256"] == opened(models).sha256
    assert (texts["Seed"], texts["Label"], texts["Truncation"]) == ("5", "2", "0.5")
    assert "trainedAlgorithmicMedia" in texts["Digital Source Type"]
    plain = server.ask("/v1/generate", body | {"metadata": False}).body
    assert not Image.open(io.BytesIO(plain)).text  # type: ignore[attr-defined]
    walk = {"model": "clothes", "interpolate": [1, 2], "count": 3}
    png = base64.b64decode(server.ask("/v1/generate", walk).json["samples"][1]["png"])
    assert Image.open(io.BytesIO(png)).text["Between seeds"] == "1, 2 at 0.5"  # type: ignore


def test_formats_of_several_samples(server, models):
    expected = opened(models).generate([3, 9, 4], labels=[0, 1, 2])
    body = {"model": "clothes", "seeds": [3, 9, 4], "labels": [0, "shoe", 2]}
    npy = server.ask("/v1/generate", body | {"format": "npy"})
    np.testing.assert_array_equal(numbers(npy), expected)
    assert numbers(npy).dtype == np.float32
    assert npy.headers["content-type"] == "application/x-npy"
    listed = server.ask("/v1/generate", body).json
    assert {k: listed[k] for k in ("model", "version", "sha256")} == {
        "model": "clothes",
        "version": 2,
        "sha256": opened(models).sha256,
    }
    assert [(x["seed"], x["label"]) for x in listed["samples"]] == [(3, 0), (9, 1), (4, 2)]
    for sample, picture in zip(listed["samples"], to_uint8(expected), strict=True):
        np.testing.assert_array_equal(pixels(base64.b64decode(sample["png"])), picture)
    listed = server.ask("/v1/generate", body | {"format": "json"}).json
    values = np.array([x["values"] for x in listed["samples"]], np.float32)
    np.testing.assert_array_equal(values, expected)
    grid = server.ask("/v1/generate", body | {"format": "grid", "columns": 2})
    canvas = pixels(grid.body)
    assert canvas.shape == (2 * 8 + 2, 2 * 8 + 2, 3)
    np.testing.assert_array_equal(canvas[10:, :8], to_uint8(expected)[2])


def test_samples_are_the_same_in_any_batch(server, models):
    """Bit-identical in onnxruntime on this CPU: no operation of a generator mixes samples."""
    body = {"model": "clothes", "seed": 100, "count": 90, "format": "npy"}
    many = numbers(server.ask("/v1/generate", body))
    np.testing.assert_array_equal(many, opened(models).generate(range(100, 190)))
    for seed in (100, 117, 189):
        one = server.ask(f"/v1/generate?model=clothes&seed={seed}&format=npy")
        np.testing.assert_array_equal(numbers(one)[0], many[seed - 100])
    listed = server.ask("/v1/generate", body | {"format": "json"}).json["samples"]
    assert [x["seed"] for x in listed] == list(range(100, 190))
    np.testing.assert_array_equal(np.array([x["values"] for x in listed], np.float32), many)


def test_truncation_and_large_seeds(server, models):
    big = 2**63 - 1
    body = {"model": "clothes", "seeds": [big], "truncation": 0.25, "format": "npy"}
    expected = opened(models).generate([big], truncation=0.25)
    np.testing.assert_array_equal(numbers(server.ask("/v1/generate", body)), expected)
    query = f"/v1/generate?model=clothes&seed={big}&truncation=0.25&format=npy"
    np.testing.assert_array_equal(numbers(server.ask(query)), expected)


def run_latents(bundle, latents, label):
    labels = np.full(len(latents), label, np.int64)
    return bundle.run({"latents": latents.astype(np.float32), "labels": labels})["samples"]


def test_a_walk_passes_through_its_seeds_on_the_sphere(server, models):
    body = {"model": "clothes", "interpolate": [4, 8, 15], "count": 9, "format": "npy"}
    walk = numbers(server.ask("/v1/generate", body))
    bundle = opened(models)
    ends = bundle.generate([4, 8, 15], labels=1)  # 4 modulo 3: the first seed's own label
    for place, end in zip((0, 4, 8), ends, strict=True):
        np.testing.assert_array_equal(walk[place], end)
    a, b = latents_from_seeds([4, 8], bundle.latent_dim).astype(float)
    middle = run_latents(bundle, slerp(a, b, 0.25)[np.newaxis], 1)
    np.testing.assert_array_equal(walk[1], middle[0])
    listed = server.ask("/v1/generate", body | {"format": "json"}).json["samples"]
    assert [(x["from"], x["to"], x["at"]) for x in listed[3:6]] == [
        (4, 8, 0.75),
        (8, 15, 0.0),
        (8, 15, 0.25),
    ]
    assert {x["label"] for x in listed} == {1}


def test_slerp_by_hand():
    a, b = np.array([2.0, 0.0]), np.array([0.0, 2.0])
    np.testing.assert_allclose(slerp(a, b, 0.5), [2**0.5, 2**0.5])
    np.testing.assert_allclose(slerp(a, b, 1 / 3), [3**0.5, 1.0])
    for t, end in ((0.0, a), (1.0, b)):
        np.testing.assert_array_equal(slerp(a, b, t), end)
    np.testing.assert_allclose(slerp(a, a, 0.3), a)  # no angle between them
    np.testing.assert_allclose(
        slerp(a, -a, 0.5), [0, 0], atol=1e-9
    )  # opposite vectors have no unique great circle
    np.testing.assert_allclose(slerp(0 * a, b, 0.5), b / 2)


def test_around_a_sample(server, models):
    bundle = opened(models)
    body = {"model": "clothes", "around": 5, "format": "npy"}
    center = server.ask("/v1/generate", body | {"seed": 1, "radius": 0})
    np.testing.assert_array_equal(numbers(center)[0], bundle.generate([5])[0])
    z = latents_from_seeds([5, 1, 2], bundle.latent_dim).astype(float)
    by_hand = np.sqrt(1 - 0.09) * z[0] + 0.3 * z[1:]
    for given in ({"seeds": [1, 2]}, {"seed": 1, "count": 2}):
        found = numbers(server.ask("/v1/generate", body | given))
        np.testing.assert_allclose(found, run_latents(bundle, by_hand, 5 % 3), atol=1e-6)
    far = numbers(server.ask("/v1/generate", body | {"seed": 1, "radius": 1}))
    np.testing.assert_allclose(far[0], bundle.generate([1], labels=2)[0], atol=1e-6)


def test_kinds_without_images_return_numbers(server, models):
    rows = server.ask("/v1/generate?model=rows&seed=3&format=npy")
    assert numbers(rows).shape == (1, 4, 3)
    table = server.ask("/v1/generate?model=rows&seed=3")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    lines = table.body.decode().splitlines()
    assert lines[0] == "column_0,column_1,column_2"
    values = np.array([line.split(",") for line in lines[1:]], np.float32)
    np.testing.assert_allclose(values, numbers(rows)[0], rtol=1e-6)
    points = server.ask("/v1/generate?model=points&seed=3&count=50")
    assert points.headers["content-type"] == "image/png"
    assert pixels(points.body).shape == (640, 640, 3)
    assert "rows" in server.ask("/v1/generate?model=rows&format=png").error
    assert "'png'" in server.ask("/v1/generate?model=points&format=png").error


@pytest.mark.parametrize(
    ("body", "status", "rule"),
    [
        ({"model": "nothing"}, 404, "models are clothes, points, rows. Received: model='nothing'"),
        (
            {"model": "clothes", "version": 9},
            404,
            "of 'clothes' must be one of 1, 2. Received: version=9",
        ),
        ({}, 400, "`model` must be one of clothes, points, rows. Received: model=None"),
        ({"model": 3}, 400, "`model` must be a name. Received: model=3"),
        ({"model": "clothes", "version": "2"}, 400, "`version` must be an integer"),
        (
            {"model": "clothes", "sead": 3},
            400,
            "Received: field='sead'. Did you mean 'see",
        ),
        (
            {"model": "clothes", "seed": -1},
            400,
            "`seed` must be an integer from 0 to 2**63 - 1. Received: seed=-1",
        ),
        ({"model": "clothes", "seed": 2**63}, 400, "`seed` must be"),
        ({"model": "clothes", "seed": True}, 400, "Received: seed=True"),
        ({"model": "clothes", "seed": 1.0}, 400, "Received: seed=1.0"),
        ({"model": "clothes", "seeds": []}, 400, "`seeds` must be a list of seeds"),
        ({"model": "clothes", "seeds": [1, "2"]}, 400, "Received: seeds=[1, '2']"),
        ({"model": "clothes", "seeds": [2**63]}, 400, "below 2**63"),
        (
            {"model": "clothes", "seeds": [1], "seed": 2},
            400,
            "`seeds` excludes `seed` and `count`. Received: seeds=[1], seed=2",
        ),
        ({"model": "clothes", "count": 0}, 400, "`count` must be an integer from 1"),
        ({"model": "clothes", "seed": 2**63 - 1, "count": 2}, 400, "below 2**63"),
        ({"model": "clothes", "count": 101}, 400, "at most 100 (stream: true allows more)"),
        ({"model": "clothes", "count": 100001, "stream": True}, 400, "at most 100000. Received"),
        ({"model": "clothes", "count": 95}, 400, "at most 18000 numbers or pixels"),
        ({"model": "clothes", "interpolate": [3]}, 400, "2 seeds or more"),
        (
            {"model": "clothes", "interpolate": [3, 4], "seed": 1},
            400,
            "`interpolate` excludes `seeds`, `seed`, `around` and `radius`. Received: seed=1",
        ),
        (
            {"model": "clothes", "interpolate": [3, 4], "count": 1},
            400,
            "`count` must be an integer from 2",
        ),
        ({"model": "clothes", "around": -3}, 400, "`around` must be an integer"),
        (
            {"model": "clothes", "around": 3, "radius": 1.5},
            400,
            "`radius` must be a number from 0 to 1",
        ),
        (
            {"model": "clothes", "truncation": -1},
            400,
            "`truncation` must be a number from 0 to 100",
        ),
        ({"model": "clothes", "truncation": "1"}, 400, "Received: truncation='1'"),
        (
            {"model": "clothes", "labels": "hat"},
            400,
            "or one of shirt, shoe, bag. Received: label='hat'",
        ),
        ({"model": "clothes", "labels": 3}, 400, "A label must be 0 to 2"),
        ({"model": "clothes", "labels": [0, 1]}, 400, "one for each of the 1 seeds"),
        ({"model": "clothes", "labels": ["shoe", "bag"], "count": 1}, 400, "Received: 2 labels"),
        ({"model": "clothes", "labels": ["shoe", "bag"], "seeds": [4]}, 400, "Received: 2 labels"),
        ({"model": "clothes", "labels": [0, 1, 2], "count": 2}, 400, "Received: 3 labels"),
        ({"model": "clothes", "labels": [None]}, 400, "`labels` must be class ids or names"),
        ({"model": "clothes", "labels": {"a": 1}}, 400, "`labels` must be class ids or names"),
        ({"model": "points", "labels": 1}, 400, "takes no labels"),
        ({"model": "points", "inputs": []}, 400, "`inputs` must be an object of values by input"),
        ({"model": "points", "inputs": {"x": 1}}, 400, "The inputs are latents. Received: 'x'"),
        ({"model": "clothes", "format": "jpeg"}, 400, "one of png, webp, npy, npz, json, grid"),
        ({"model": "clothes", "format": []}, 400, "Received: format=[]"),
        ({"model": "clothes", "format": "grid", "stream": True}, 400, "A grid is one image"),
        ({"model": "clothes", "columns": 0}, 400, "`columns` must be"),
        (
            {"model": "clothes", "columns": 2},
            400,
            "`columns` needs `format` grid. Received: columns",
        ),
        ({"model": "points", "columns": 2, "format": "npy"}, 400, "columns=2, format='npy'"),
        ({"model": "clothes", "columns": 1, "frame_rate": 8}, 400, "columns=1, format='webp'"),
        ({"model": "clothes", "radius": 0.5}, 400, "`radius` needs `around`. Received: radius=0.5"),
        ({"model": "clothes", "radius": 0, "seeds": [1]}, 400, "`radius` needs `around`"),
        ({"model": "points", "radius": 0.3, "count": 2}, 400, "`radius` needs `around`"),
        ({"model": "clothes", "stream": 1}, 400, "`stream` must be true or false"),
        (
            {"model": "clothes", "timeout": 5e-324},
            400,
            "`timeout` must be a number from 0.01 to 86400",
        ),
        ([1], 400, "must be an object. Received: a list"),
    ],
)
def test_invalid_fields_are_refused(server, body, status, rule):
    answer = server.ask("/v1/generate", body)
    assert answer.status == status, answer.body
    assert rule in answer.error


def test_labels_are_counted_before_they_are_read(models):
    bundle = opened(models)
    start = time.monotonic()
    with pytest.raises(serving.UsageError, match="each of the 2 seeds"):
        bundle.label_ids(np.arange(2), [1] * 2_000_000)
    assert time.monotonic() - start < 0.5
    with pytest.raises(serving.UsageError) as caught:
        bundle.label_ids(np.arange(2), "x" * 10_000)
    assert len(str(caught.value)) < 200


def test_errors_are_short_for_values_of_any_size(server):
    assert len(server.ask("/v1/generate", {"x" * 10_000: 1}).error) < 400
    deep = b"[" * 900 + b"]" * 900
    for path, body in (
        ("/v1/generate", b'{"model": "clothes", "seeds": %b}'),
        ("/v1/generate", b'{"model": "clothes", "format": {"a": %b}}'),
        ("/v1/generate", b'{"model": %b}'),
        ("/v2/models/points/infer", b'{"inputs": %b}'),
        ("/v2/models/points/infer", b'{"inputs": [], "id": %b}'),
        ("/v1/models/points:predict", b'{"instances": {"a": %b}}'),
        ("/v1/models/points:predict", b'{"inputs": %b}'),
        ("/v1/models/clothes:predict", b'{"inputs": %b}'),
    ):
        answer = server.ask(path, body % deep)
        assert answer.status == 400, (path, body)
        assert len(answer.error) < 300
    body = {"inputs": [{"name": "latents", "datatype": "FP32", "data": []}]}
    body["inputs"][0]["shape"] = [0] + [2**31 - 1] * 7
    assert "sizes above 0" in server.ask("/v2/models/points/infer", body).error


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "rule"),
    [
        ("/v1/generate", b"{", {}, 400, "must be JSON"),
        ("/v1/generate", b'{"seed": NaN}', {}, 400, "must be JSON"),
        ("/v1/generate", b"\xff", {}, 400, "must be JSON"),
        ("/v1/generate", b"{}", {"Content-Type": "text/xml"}, 415, "application/json"),
        ("/v1/generate", b" " * 20_001, {}, 413, "at most 20000 bytes. Received: 20001 bytes"),
        ("/v1/generate?seed=1&seed=2", None, {}, 400, "'seed' twice"),
        ("/v1/generate?seed=x", None, {}, 400, "`seed` must be an integer. Received: seed='x'"),
        ("/v1/generate?seeds=1,x", None, {}, 400, "`seeds` must be integers"),
        ("/v1/generate?stream=maybe", None, {}, 400, "`stream` must be true or false"),
        ("/v1/generate?seed", None, {}, 400, "name=value"),
        ("/v1/generate?radius=nan&model=clothes", None, {}, 400, "`radius` must be"),
        ("/nope", None, {}, 404, "one of those in /docs. Received: path='/nope'"),
        ("/page/../app.py", None, {}, 404, "must name a file of the page. Received"),
        ("/page/%2e%2e/app.py", None, {}, 404, "must name a file of the page. Received"),
        ("/page//etc/passwd", None, {}, 404, "must name a file of the page. Received"),
        ("/page/.hidden", None, {}, 404, "must name a file of the page. Received"),
        ("/v1/models/clothes/versions/99", None, {}, 404, "`version` of 'clothes' must be one of"),
        ("/v1/models/nope", None, {}, 404, "The models are"),
        ("/healthz", b"x", {}, 405, "takes GET, OPTIONS. Received: method='POST'"),
        ("/healthz", None, {"Host": "evil.example"}, 403, "must be this machine"),
        ("/v1/models", None, {"Origin": "http://evil.example"}, 403, "other origins"),
    ],
)
def test_invalid_requests_are_refused(server, path, body, headers, status, rule):
    answer = server.ask(path, body, headers)
    assert answer.status == status, answer.body
    assert rule in answer.error


# ------------------------------------------------------------------------------- metadata


def test_models(server, models):
    listed = {x["name"]: x for x in server.ask("/v1/models").json["models"]}
    clothes = listed["clothes"]
    assert (clothes["version"], clothes["versions"]) == (2, [1, 2])
    assert (clothes["kind"], clothes["shape"], clothes["latent_dim"]) == ("image", [8, 8, 3], 6)
    assert clothes["classes"] == {"count": 3, "names": list(tiny.NAMES)}
    assert clothes["sha256"] == opened(models).sha256
    assert clothes["value_range"] == [-1.0, 1.0]
    assert "generated" in clothes["notice"].lower()
    assert {"license", "intended_use"} <= clothes.keys()
    assert [listed[x]["pictures"] for x in ("clothes", "points", "rows")] == [True, True, False]
    assert listed["rows"]["formats"] == ["csv", "npy", "npz", "json", "grid"]
    assert listed["points"]["default_format"] == "grid"
    assert (clothes["role"], clothes["default_format"]) == ("generator", "png")
    assert [(x["name"], x["fill"]) for x in clothes["inputs"]] == [
        ("latents", "normal"),
        ("labels", "class"),
    ]
    assert clothes["outputs"][0]["shape"] == ["batch", 8, 8, 3]


def test_health(server):
    assert server.ask("/healthz").json == {"status": "ok"}
    assert server.ask("/readyz").json == {"status": "ready"}
    head = server.ask("/healthz", method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "15")


def test_dates_are_those_of_the_standard_library():
    for month in range(1, 13):
        for day in range(1, 29):
            seconds = calendar.timegm((2024 + day % 3, month, day, day % 24, 59, 7))
            assert http_date(seconds) == email.utils.formatdate(seconds, usegmt=True)


def test_every_response_has_an_id_and_security_headers(server):
    plain = server.ask("/healthz", headers={"X-Request-Id": "mine-1"})
    assert plain.headers["x-request-id"] == "mine-1"
    other = server.ask("/nope", headers={"X-Request-Id": "a\tb"})
    assert other.headers["x-request-id"] != server.ask("/nope").headers["x-request-id"]
    for answer in (plain, other, server.ask("/v1/generate?model=clothes")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers
    assert plain.headers["cache-control"] == "no-store"


def test_the_page_and_its_policy(server):
    page = server.ask("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'; img-src 'self' blob: data:" in policy
    assert "unsafe" not in policy
    again = server.ask("/page/index.html", headers={"If-None-Match": page.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    docs = server.ask("/docs").body.decode()
    assert "<script" not in docs
    assert "//" not in docs.replace("<!doctype html>", "")  # no other host


def test_a_numbered_version_may_be_cached_forever(server):
    path = "/v1/generate?model=clothes&seed=1"
    newest, fixed = server.ask(path), server.ask(path + "&version=1")
    assert newest.headers["cache-control"] == "no-cache"
    assert "immutable" in fixed.headers["cache-control"]
    again = server.ask(path, headers={"If-None-Match": newest.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert server.ask(path, headers={"If-None-Match": '"other"'}).status == 200
    points = server.ask("/v1/generate?model=points&seed=1&version=1")
    assert points.headers["cache-control"] == "no-cache"  # a folder that may be replaced


def test_metrics(server):
    def figures():
        lines = server.ask("/metrics").body.decode().splitlines()
        return {x.rpartition(" ")[0]: float(x.rpartition(" ")[2]) for x in lines if x[0] != "#"}

    before = figures()
    server.ask("/v1/generate", {"model": "clothes", "seed": 1, "count": 40, "format": "npy"})
    server.ask("/v1/generate?model=clothes&format=jpeg")
    after = until(lambda: (f := figures()) != before and f)
    labels = 'model="clothes",version="2"'

    def grown(name):
        return after[name] - before.get(name, 0)

    assert grown(f"keras_gan_samples_total{{{labels}}}") == 40
    assert grown(f'keras_gan_requests_total{{{labels},route="generate",status="200"}}') == 1
    assert grown(f'keras_gan_requests_total{{{labels},route="generate",status="400"}}') == 1
    assert grown(f'keras_gan_request_seconds_count{{{labels},route="generate"}}') == 2
    assert grown(f"keras_gan_batch_samples_sum{{{labels}}}") == 40
    assert grown(f"keras_gan_batch_samples_count{{{labels}}}") >= 3
    assert after[f"keras_gan_queue_samples{{{labels}}}"] == 0
    assert after["keras_gan_ready"] == 1
    assert after["process_resident_memory_bytes"] > 2**20
    kinds = [x.split()[2] for x in server.ask("/metrics").body.decode().splitlines() if "TYPE" in x]
    assert len(kinds) == len(set(kinds))


def test_the_openapi_document_matches_the_responses(server):
    document = server.ask("/openapi.json").json
    fields = document["paths"]["/v1/generate"]["post"]["requestBody"]["content"]
    schema = fields["application/json"]["schema"]
    assert schema["properties"].keys() == FIELDS.keys()
    query = document["paths"]["/v1/generate"]["get"]["parameters"]
    assert [x["name"] for x in query] == [name for name in FIELDS if name != "inputs"]
    values = {"{name}": "clothes", "{version}": "1", "{file}": "index.html", "{number}": "0"}
    # This server has neither a translator, a classifier nor a vocoder.
    others = {"translate": (415,), "classify": (415,), "vocode": (415,), "examples": (404,)}
    for template, operations in document["paths"].items():
        path = template
        for name, value in values.items():
            path = path.replace(name, value)
        for method, operation in operations.items():
            body = b"{}" if method == "post" else None
            answer = server.ask(path + ("?model=clothes" if "generate" in path else ""), body)
            assert str(answer.status) in operation["responses"], (method, path)
            allowed = next((others[name] for name in others if name in path), (200, 400))
            assert answer.status in allowed, (method, path)
            if answer.status == 200:
                kind = answer.headers["content-type"].split(";")[0]
                assert kind in operation["responses"]["200"]["content"], (method, path)
        assert server.ask(path, b"", method="DELETE").status == 405, path


# ------------------------------------------------------------------------------- streams


def test_a_stream_sends_its_samples_in_order_and_marks_its_end(server, models):
    body = {"model": "clothes", "seed": 5, "count": 200, "format": "json", "stream": True}
    answer = server.ask("/v1/generate", body)
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert lines.pop() == {"done": 200}
    assert [x["seed"] for x in lines] == list(range(5, 205))
    values = np.array([x["values"] for x in lines], np.float32)
    np.testing.assert_array_equal(values, opened(models).generate(range(5, 205)))
    npy = server.ask("/v1/generate", body | {"format": "npy"})
    np.testing.assert_array_equal(numbers(npy), values)
    assert int(npy.headers["content-length"]) == len(npy.body)


def test_a_stream_that_is_not_read_pauses_without_using_memory(server):
    before = server.memory()
    query = b"GET /v1/generate?model=clothes&count=50000&format=json&stream=true HTTP/1.1\r\n"
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(query + b"Host: localhost\r\n\r\n")
        time.sleep(1)
        assert server.memory() - before < 30 * 2**20  # whole, it would have 200 MiB
        assert "clothes" in server.ask("/v1/generate?model=clothes&seed=1").headers["x-model"]
        start = connection.recv(100_000)
        assert start.startswith(b"HTTP/1.1 200 OK\r\n")
    until(lambda: active(server) == 1)  # disconnecting ends the stream


def active(server):
    """Requests under way, this one among them."""
    text = server.ask("/metrics").body.decode()
    (line,) = [x for x in text.splitlines() if x.startswith("keras_gan_active_requests ")]
    return int(line.split()[1])


# ------------------------------------------------------------------------------- connections


def test_a_connection_is_reused_for_later_requests(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for seed in range(5):
        path = f"/v1/generate?model=clothes&seed={seed}"
        assert server.ask(path, connection=connection).headers["x-seed"] == str(seed)
        assert server.ask("/nope", connection=connection).status == 404
        many = server.ask(path + "&count=40&format=npy", connection=connection)
        assert len(numbers(many)) == 40
    connection.close()


def test_pipelined_requests_are_answered_in_order(server):
    one = b"GET /v1/generate?model=clothes&seed=%d&format=npy HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
    rows = b"".join(one % (seed, b"") for seed in range(50)) + one % (50, b"Connection: close\r\n")
    found = server.raw(rows)
    seeds = [int(x.split(b"\r\n")[0]) for x in found.split(b"x-seed: ")[1:]]
    assert seeds == list(range(51))
    assert found.count(b"HTTP/1.1 200 OK") == 51


def test_the_size_limit_applies_to_pipelined_heads_too(server):
    first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    long = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * 40_000 + b"\r\n\r\n"
    answers = server.raw(first + long)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"431"]


def test_the_only_active_connection_is_detected(one):
    async def main():
        app = create_app(Settings(paths=(str(one),), access_log=False))
        server = Server(app)
        server.loop = asyncio.get_running_loop()
        server._tick()
        ready = asyncio.Event()
        app.when_loaded = ready.set
        app.start(server.loop)
        await comes(ready)
        engine = app.repository.newest["clothes"].engine
        found = []
        engine.submit = lambda job, done: found.append((job.is_alone, job.is_light, done, job))
        transport = SimpleNamespace(
            get_extra_info=lambda name: None, write=lambda data: None, is_closing=lambda: False
        )
        a, b = Connection(server), Connection(server)
        for connection in (a, b):
            connection.connection_made(transport)

        def ask(connection, form="npy", answered=True):
            path = f"/v1/generate?seed=1&format={form}".encode()
            connection.data_received(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            alone, light, done, job = found[-1]
            if answered:
                job.error = ValueError()
                done(job)
            return alone, light

        assert ask(a) == (False, True)  # no connection was active before
        assert ask(a) == (True, True)
        assert ask(a, "png") == (True, False)
        assert ask(b) == (False, True)
        assert ask(a, answered=False)[0] is False
        assert ask(b, answered=False)[0] is False
        app.close()

    asyncio.run(main())


def test_pipelined_requests_wait_until_responses_are_read(server):
    before = server.memory()
    row = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3000
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(row)
        time.sleep(0.5)
        assert server.memory() - before < 30 * 2**20
    end = row[: len(row) // 3000 * 199] + row[: len(row) // 3000 - 2] + b"Connection: close\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(end)
        time.sleep(0.3)
        assert read_all(connection).count(b"HTTP/1.1 200 OK") == 200


def test_trailer_fields_are_ignored(server):
    head = b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    body = b'{"model": "clothes", "seed": 7}'
    chunks = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    trailer = b"X-Request-Id: mine\r\nHost: evil.example\r\n\r\n"
    found = server.raw(head + chunks + trailer)
    assert b"x-seed: 7" in found
    assert b"mine" not in found
    many = b"".join(b"A%d: %b\r\n" % (i, b"a" * 1000) for i in range(40))
    assert server.raw(head + chunks + many + b"\r\n").startswith(b"HTTP/1.1 431 ")
    with server.connect() as connection:  # one field without an end
        connection.sendall(head + chunks)
        time.sleep(0.1)
        connection.sendall(b"A: " + b"a" * 40_000)
        assert read_all(connection).startswith(b"HTTP/1.1 431 ")


def test_http_1_0_receives_unchunked_bodies(server):
    query = b"GET /v1/generate?model=clothes&count=3&format=json&stream=true HTTP/1.0\r\n\r\n"
    head, _, body = server.raw(query).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert [json.loads(line) for line in body.splitlines()][-1] == {"done": 3}


def test_head_requests_and_host_names_follow_http(server):
    head = server.ask("/v1/generate?model=clothes&seed=1", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert server.ask("/v1/models", headers={"Host": "LocalHost"}).status == 200


def test_bodies_may_arrive_in_pieces_and_chunks(server):
    body = b'{"model": "clothes", "seed": 7}'
    head = b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    whole = server.raw(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert b"x-seed: 7" in whole
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    assert b"x-seed: 7" in server.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
    with server.connect() as connection:
        message = head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
        for byte in message:
            connection.sendall(bytes([byte]))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert b"x-seed: 7" in read_all(connection)
    large = server.raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"ffff\r\n" + b"x" * 65535)
    assert large.startswith(b"HTTP/1.1 413 ")


def status_and_json(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert b"x-request-id: " in head
    assert b"connection: close" in head
    assert "Received: " in json.loads(body)["error"]
    return int(head.split()[1])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # TLS
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"CONNECT example.com:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", None),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 40_000, 431),
    ],
)
def test_malformed_requests_are_refused(server, data, status):
    found = server.raw(data)
    if status is not None:
        assert status_and_json(found) == status
    else:
        assert found.startswith(b"HTTP/1.1 4")
    assert server.ask("/healthz").status == 200


@pytest.fixture(scope="module")
def impatient(one):
    args = ("--header-seconds", 0.4, "--body-seconds", 0.4, "--idle-seconds", 1)
    with Serving(one, *args, "--max-connections", 20) as it:
        yield it


def test_slow_and_half_open_connections_are_closed(impatient):
    def wait(data):
        start = time.monotonic()
        return impatient.raw(data), time.monotonic() - start

    nothing, seconds = wait(b"")
    assert (nothing, 0.8 < seconds < 5) == (b"", True)
    for data in (
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: loc",
        b"POST /v1/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{",
    ):
        found, seconds = wait(data)
        assert status_and_json(found) == 408
        assert seconds < 5
    found, seconds = wait(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert found.endswith(b'{"status":"ok"}')
    assert 0.8 < seconds < 5  # idle, after its answer


def test_single_bytes_do_not_extend_the_timeout(impatient):
    with impatient.connect() as connection:
        start = time.monotonic()
        try:
            for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 1000:
                connection.sendall(bytes([byte]))
                time.sleep(0.02)
        except OSError:
            pass
        assert time.monotonic() - start < 5
        assert read_all(connection)[:12] in (b"HTTP/1.1 408", b"")


def test_a_client_that_reads_slowly_is_not_disconnected():
    clock, left, ended = [0.0], [1000], []
    settings = SimpleNamespace(body_seconds=30)
    loop = SimpleNamespace(create_future=lambda: None, time=lambda: clock[0])
    connection = Connection(SimpleNamespace(app=SimpleNamespace(settings=settings), loop=loop))
    connection.transport = SimpleNamespace(
        get_write_buffer_size=lambda: left[0], abort=lambda: ended.append(clock[0])
    )
    clock[0] = 1.0
    connection.pause_writing()
    connection._request = object()
    for _ in range(10):  # a little every 20 s
        clock[0] += 20
        left[0] -= 1
        connection.check_timeouts(clock[0])
    assert not ended
    clock[0] += 31
    connection.check_timeouts(clock[0])
    assert ended


def test_the_number_of_connections_is_limited(impatient):
    held = [impatient.connect() for _ in range(20)]
    time.sleep(0.1)
    found = impatient.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert found == b"" or status_and_json(found) == 503
    for connection in held:
        connection.close()
    assert until(lambda: b"200 OK" in impatient.raw(b"GET /healthz HTTP/1.0\r\n\r\n"))


# ------------------------------------------------------------------------------- access

TOKEN = "0123456789abcdef" * 2


def test_tokens(one, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(f"# ours\n{TOKEN}\n\n  {TOKEN[::-1]}  \n")
    with Serving(one, "--tokens", file, "--poll-seconds", 0.05) as server:
        for path in ("/healthz", "/readyz", "/", "/docs", "/openapi.json", "/v2/health/ready"):
            assert server.ask(path).status == 200, path
        for path in ("/v1/generate", "/v1/models", "/metrics", "/v2", "/v2/models/clothes"):
            answer = server.ask(path)
            assert answer.status == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "Received: no token" in answer.error
        for token, status in (
            (f"Bearer {TOKEN}", 200),
            (f"bearer {TOKEN[::-1]}", 200),
            (f"Bearer {TOKEN[:-1]}", 401),
            (f"Bearer {TOKEN} ", 200),
            (f"Basic {TOKEN}", 401),
            (TOKEN, 401),
            ("Bearer ", 401),
            ("Bearer \xe9", 401),
        ):
            answer = server.ask("/v1/models", headers={"Authorization": token})
            assert answer.status == status, token
            assert TOKEN not in answer.body.decode()
        new = "another-token-of-mine"
        file.write_text(new)
        headers = {"Authorization": f"Bearer {new}"}
        until(lambda: server.ask("/v1/models", headers=headers).status == 200)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert server.ask("/v1/models", headers=headers).status == 401
        server.stop()
        assert TOKEN not in server.log


def test_pages_of_other_origins_need_cors(one):
    args = ("--cors", "https://ours.example,https://too.example", "--trusted-host", "gan.example")
    with Serving(one, *args) as server:
        headers = {"Origin": "https://ours.example"}
        answer = server.ask("/v1/generate?seed=1", headers=headers)
        assert answer.headers["access-control-allow-origin"] == "https://ours.example"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        assert "x-seed" in answer.headers["access-control-expose-headers"]
        before = server.ask("/v1/generate", method="OPTIONS", headers=headers)
        assert before.status == 204
        allowed = before.headers["access-control-allow-headers"].split(", ")
        assert {"authorization", "content-encoding", "content-type"} <= set(allowed)
        assert "POST" in before.headers["access-control-allow-methods"]
        other = {"Origin": "https://other.example"}
        assert server.ask("/v1/generate?seed=1", headers=other).status == 403
        before = server.ask("/v1/generate", method="OPTIONS", headers=other)
        assert "access-control-allow-origin" not in before.headers
        own = {"Origin": f"http://127.0.0.1:{server.port}"}
        assert server.ask("/v1/generate?seed=1", headers=own).status == 200
        assert server.ask("/healthz", headers={"Host": "gan.example:80"}).status == 200


# ------------------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    ("args", "rule"),
    [
        (["nowhere"], "A bundle must exist. Received: 'nowhere'"),
        (["{root}"], "A served path must be a bundle"),
        (["{bundle}", "{copy}"], "Models must differ in their names. Received: 'clothes'"),
        (["{bundle}", "--port", "70000"], "`port` must be 0 to 65535"),
        (["{bundle}", "--queue", "0"], "`queue` must be above 0"),
        (["{bundle}", "--tokens", "none"], "The file of tokens must be readable"),
        (["{bundle}", "--tokens", "{empty}"], "must hold at least one"),
        (["{bundle}", "--tokens", "{short}"], "A token must be 16 or more"),
        (["{bundle}", "--device", "tpu"], "`device` must be auto, cpu, cuda or tensorrt"),
        (["{bundle}", "--log-format", "xml"], "`log_format` must be text or json"),
        (["{bundle}", "--host", "no.such.host.invalid"], "must be able to listen on its address"),
        (["{damaged}"], "must have the SHA-256"),
        ([], "The following arguments are required: PATH"),
    ],
)
def test_mistakes_on_the_command_line_exit_with_2(one, tmp_path, args, rule):
    places = {"root": tmp_path / "root", "bundle": one}
    places["root"].mkdir()
    for name, text in (("empty", "# none\n"), ("short", "abc\n")):
        places[name] = tmp_path / name
        places[name].write_text(text)
    for name in ("copy", "damaged"):
        if f"{{{name}}}" in args:
            places[name] = shutil.copytree(one, tmp_path / name)
    if "damaged" in places:
        tiny.flip(places["damaged"] / "model.onnx")
    args = [arg.format(**places) for arg in args]
    with Serving(*args, wait=False) as server:
        assert server.process.wait(30) == 2
        lines = server.log.splitlines()
        assert lines[-1].startswith("keras-gan: error: "), lines
        assert rule in lines[-1]
        assert "Traceback" not in "".join(lines)


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_device_is_refused_without_a_gpu(one, device):
    with Serving(one, "--device", device, wait=False) as server:
        assert server.process.wait(30) == 2
        assert f"device='{device}' needs a GPU, its driver" in server.log


def test_listening_to_other_machines_without_tokens_is_warned_about(one):
    with Serving(one, "--tokens", "", wait=False) as server:
        assert server.process.wait(30) == 2
        assert "An argument must not be empty. Received: --tokens ''" in server.log
    with Serving(one, "--host", "0.0.0.0") as server:
        assert server.ask("/healthz", headers={"Host": "any.example"}).status == 200
        assert server.stop() == 0
        assert "warning: Anyone who can reach 0.0.0.0 can use this server" in server.log
    with Serving(one) as server:
        assert server.line == f"Serving clothes version 1 at http://127.0.0.1:{server.port}\n"
        server.stop()
        assert "warning: Anyone" not in server.log


def test_the_log_has_requests_by_their_ids(one):
    with Serving(one, "--log-format", "json") as server:
        server.ask("/v1/generate?seed=1", headers={"X-Request-Id": "one"})
        server.ask("/v1/generate?seed=%0Ax", headers={"X-Request-Id": "two"})
        server.ask("/a%0Ab%22", headers={"X-Request-Id": "three"})
        assert server.stop() == 0
        lines = [json.loads(x) for x in server.log.splitlines() if x.startswith("{")]
        found = {x["id"]: x for x in lines if "id" in x}
        assert found["one"]["status"] == 200
        assert (found["one"]["model"], found["one"]["version"]) == ("clothes", 1)
        assert found["one"]["client"] == "127.0.0.1"
        assert 0 < found["one"]["seconds"] < 30
        assert "`seed` must be an integer" in found["two"]["error"]
        assert found["three"]["path"] == '/a\nb"'
    with Serving(one, "--no-access-log") as server:
        server.ask("/a%0Ab", headers={"X-Request-Id": "quiet"})
        server.stop()
        assert "quiet" not in server.log
    with Serving(one) as server:
        server.ask("/a%0Ab", headers={"X-Request-Id": "text"})
        server.stop()
        (line,) = [x for x in server.log.splitlines() if " text" in x]
        assert "127.0.0.1 GET '/a\\nb' 404 " in line


def test_a_log_that_nobody_reads_does_not_block_requests(one):
    """A pipe holds 64 KiB."""
    with Serving(one, stderr=subprocess.PIPE) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        for _ in range(1000):
            assert server.ask("/" + "x" * 150, connection=connection).status == 404
        connection.close()
        assert server.stop() == 0
        server.process.stderr.close()


def test_missing_packages_are_named_with_the_install_command(one):
    program = "import sys; sys.modules['httptools'] = None; from serving.cli import main; "
    program += "sys.exit(main(['serve', sys.argv[1]]))"
    done = subprocess.run(
        [sys.executable, "-c", program, one], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert "pip install 'keras-gan[serve]'" in done.stderr


# ------------------------------------------------------------------------------- life cycle


class Load:
    """Clients in threads, each with a connection, that send requests without a pause."""

    def __init__(self, server, clients, path, pause=0.0):
        self.server = server
        self.pause = pause  # seconds, after a refusal
        self.path = path
        self.answers = []  # (status, seconds, version, retry-after)
        self.errors = []
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        while not self.stop.is_set():
            start = time.monotonic()
            try:
                connection.request("GET", self.path)
                answer = connection.getresponse()
                answer.read()
            except OSError as error:
                self.errors.append(error)
                return
            headers = answer.headers
            self.answers.append(
                (
                    answer.status,
                    time.monotonic() - start,
                    headers.get("x-model-version"),
                    headers.get("retry-after"),
                )
            )
            if answer.status == 503:
                time.sleep(self.pause)
        connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)


def test_versions_change_under_load_without_a_failed_request(folder, two):
    with (
        Serving(folder, "--poll-seconds", 0.05) as server,
        Load(server, 4, "/v1/generate?seed=3&format=npy") as load,
    ):
        until(lambda: len(load.answers) > 50)
        shutil.copytree(two, folder.parent / "new")
        (folder.parent / "new").rename(folder / "2")  # as an export does
        until(lambda: load.answers[-1][2] == "2")
        listed = server.ask("/v1/models").json["models"][0]
        assert (listed["version"], listed["versions"]) == (2, [1, 2])
        count = len(load.answers)
        until(lambda: len(load.answers) > count + 50)
        shutil.rmtree(folder / "2")
        until(lambda: load.answers[-1][2] == "1")
        count = len(load.answers)
        until(lambda: len(load.answers) > count + 50)
        load.stop.set()
    assert not load.errors
    assert {answer[0] for answer in load.answers} == {200}


def test_a_bundle_that_is_replaced_in_place_is_reloaded(one, two, tmp_path):
    place = shutil.copytree(one, tmp_path / "bundle")
    with Serving(place, "--poll-seconds", 0.05) as server:
        first = server.ask("/v1/generate?seed=3").headers["x-model-sha256"]
        shutil.copytree(two, tmp_path / "new")
        place.rename(tmp_path / "old")
        (tmp_path / "new").rename(place)
        until(lambda: server.ask("/v1/generate?seed=3").headers["x-model-sha256"] != first)
        assert server.ask("/v1/generate?seed=3").headers["x-model-version"] == "1"


def test_a_damaged_version_changes_nothing_and_is_logged_once(folder, two):
    with Serving(folder, "--poll-seconds", 0.05) as server:
        new = shutil.copytree(two, folder.parent / "new")
        content = (new / "model.onnx").read_bytes()
        tiny.flip(new / "model.onnx")
        new.rename(folder / "2")
        liar = shutil.copytree(two, folder.parent / "liar")
        shutil.copy(folder / "1" / "golden.npz", liar)  # golden samples of another model
        tiny.seal(liar)
        liar.rename(folder / "3")
        time.sleep(1.5)
        assert server.ask("/v1/generate?seed=3").headers["x-model-version"] == "1"
        assert server.ask("/v1/generate?seed=3&version=2").status == 404
        (folder / "2" / "model.onnx").write_bytes(content)  # repaired: served
        until(lambda: server.ask("/v1/generate?seed=3").headers["x-model-version"] == "2")
        server.stop()
    assert server.log.count("version 2 was refused: model.onnx must have the SHA-256") == 1
    assert server.log.count("version 3 was refused: A model must reproduce the golden samples") == 1


def test_a_damaged_version_does_not_replace_a_good_one(folder, two):
    with Serving(folder, "--poll-seconds", 0.05, "--versions", 1) as server:
        for number in (2, 3):
            new = shutil.copytree(two, folder.parent / "new")
            tiny.flip(new / "model.onnx")
            new.rename(folder / str(number))
        until(lambda: "version 3 was refused" in server.log)
        time.sleep(0.4)
        assert server.ask("/v1/generate?seed=3").headers["x-model-version"] == "1"
        shutil.copytree(two, folder.parent / "new").rename(folder / "4")
        until(lambda: server.ask("/v1/generate?seed=3").headers["x-model-version"] == "4")


def test_a_folder_that_is_temporarily_unreadable_removes_nothing(folder, monkeypatch):
    from serving import repository

    found = repository.Repository(Settings(paths=(str(folder),)))
    before = found._scan(strict=False)
    monkeypatch.setattr(repository, "find_models", lambda path: os.listdir("/nothing/is/here"))
    after = found._scan(strict=False)
    assert [(p.folder, p.stamp) for p in after] == [(p.folder, p.stamp) for p in before]
    assert len(after) == 1


def test_only_the_newest_versions_are_served(folder, two):
    for number in (2, 3):
        shutil.copytree(two, folder / str(number))
    with Serving(folder, "--versions", 2) as server:
        assert server.ask("/v1/models").json["models"][0]["versions"] == [2, 3]
        assert "must be one of 2, 3" in server.ask("/v1/generate?version=1").error


@pytest.fixture(scope="session")
def slow_bundle(tmp_path_factory):
    """A generator that takes 5 to 20 ms a sample, by the machine."""
    return tiny.slow(tmp_path_factory.mktemp("slow") / "slow")


def test_requests_beyond_the_queue_are_refused_immediately(slow_bundle):
    args = ("--workers", 1, "--queue", 4, "--max-batch", 2)
    with Serving(slow_bundle, *args) as server, Load(server, 12, "/v1/generate?seed=1") as load:
        until(lambda: sum(x[0] == 503 for x in load.answers) > 100)
        text = server.ask("/metrics").body.decode()
        load.stop.set()
    assert not load.errors
    assert {answer[0] for answer in load.answers} == {200, 503}
    refused = sorted(x[1] for x in load.answers if x[0] == 503)
    assert refused[len(refused) // 2] < 0.05
    assert all(int(x[3]) >= 1 for x in load.answers if x[0] == 503)
    assert 'keras_gan_refused_total{reason="queue"}' in text
    queued = [x for x in text.splitlines() if x.startswith("keras_gan_queue_samples{")]
    assert 0 <= int(queued[0].split()[-1]) <= 4


def test_a_client_that_disconnects_frees_its_place(slow_bundle):
    args = ("--workers", 1, "--queue", 3, "--max-batch", 1)
    message = b"GET /v1/generate?seed=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Serving(slow_bundle, *args) as server:
        for _ in range(5):
            gone = [server.connect() for _ in range(4)]
            for connection in gone:
                connection.sendall(message)
            for connection in gone:
                connection.close()
        until(lambda: active(server) == 1)
        text = server.ask("/metrics").body.decode()
        assert 'keras_gan_queue_samples{model="slow",version="1"} 0' in text
        assert server.ask("/v1/generate?seed=1").status == 200
        assert 'status="499"' in text


def test_health_and_metrics_respond_under_load(slow_bundle):
    with (
        Serving(slow_bundle, "--workers", 1, "--max-requests", 2) as server,
        Load(server, 6, "/v1/generate?seed=1", pause=0.01) as load,
    ):
        until(lambda: any(x[0] == 503 for x in load.answers))
        for _ in range(10):
            for path in ("/healthz", "/readyz", "/metrics", "/v2/health/ready"):
                assert server.ask(path).status == 200
        load.stop.set()


def test_deadlines(slow_bundle):
    args = ("--workers", 1, "--max-batch", 1)
    with Serving(slow_bundle, *args) as server, Load(server, 6, "/v1/generate?seed=1") as load:
        until(lambda: len(load.answers) > 3)
        start = time.monotonic()
        # Enough samples to exceed the timeout even without other requests.
        answer = server.ask("/v1/generate", {"seed": 1, "count": 24, "timeout": 0.01})
        assert answer.status == 504
        assert time.monotonic() - start < 2
        assert "deadline" in answer.error
        stream = {"seed": 1, "count": 4, "timeout": 20, "stream": True, "format": "npy"}
        assert numbers(server.ask("/v1/generate", stream)).shape == (4, 32, 32, 1)
        load.stop.set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_shutdown_completes_running_requests(slow_bundle, number):
    with Serving(slow_bundle, "--workers", 1) as server:
        idle = server.connect()
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        busy = server.connect()
        path = b"/v1/generate?seed=1&count=24&format=npy"
        busy.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: active(server) == 2)
        server.process.send_signal(number)
        found = read_all(busy)
        head, _, body = found.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in head
        assert np.load(io.BytesIO(body)).shape == (24, 32, 32, 1)
        assert read_all(idle) == b""
        assert server.process.wait(20) == 0
        with pytest.raises(OSError, match="refused"):
            server.connect()
        server.stop()
    assert "Traceback" not in server.log


def test_an_immediate_shutdown_waits_for_the_workers(slow_bundle):
    with Serving(slow_bundle, "--workers", 2) as server:
        busy = server.connect()
        path = b"/v1/generate?seed=1&count=500&format=npy"
        busy.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: active(server) == 2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
    assert "terminate called" not in server.log


def test_the_server_is_ready_once_the_last_model_is_loaded(models):
    with Serving(models, wait=False) as server:
        server.wait()
        assert server.ask("/readyz").status == 200
        server.stop()


# ------------------------------------------------------------------------------- in other servers


async def through_asgi(app, path, body=None, headers=(), until=None):
    """One request by ASGI's messages."""
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": "GET" if body is None else "POST",
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("127.0.0.1", 1),
    }
    pieces = [(body or b"")[i : i + 10] for i in range(0, len(body or b"x"), 10)]
    sent = []

    async def receive():
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
        await asyncio.sleep(until or 30)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    if not sent:
        return None, {}, b""
    headers = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(x["body"] for x in sent[1:])


def test_asgi_responses_equal_those_of_the_server(models, server):
    async def test(app):
        for path, body in (
            ("/v1/generate?model=clothes&seed=3", None),
            ("/v1/generate", b'{"model": "clothes", "count": 40, "format": "npy"}'),
            ("/v1/generate", b'{"model": "clothes", "count": 40, "stream": true}'),
            ("/v1/generate", b'{"model": "clothes", "count": 0}'),
            ("/v1/models", None),
            ("/nope", None),
            ("/healthz", None),
        ):
            status, headers, content = await through_asgi(app, path, body)
            own = server.ask(path, body)
            assert (status, content) == (own.status, own.body), path
            for name in ("date", "x-request-id", "transfer-encoding"):
                headers.pop(name, None), own.headers.pop(name, None)
            assert headers == own.headers, path
        status, _, content = await through_asgi(app, "/v1/generate", b"x" * 20_001)
        assert (status, b"at most 20000 bytes. Received: 20001 bytes" in content) == (413, True)
        headers = [(b"content-encoding", b"gzip")]
        packed = gzip.compress(b'{"model": "clothes", "seed": 3}')
        _, found, _ = await through_asgi(app, "/v1/generate", packed, headers)
        assert found["x-seed"] == "3"
        bomb = gzip.compress(bytes(20_001))
        status, _, content = await through_asgi(app, "/v1/generate", bomb, headers)
        assert (status, b"more than 20000 when decompressed" in content) == (413, True)
        assert app.active == 0

    in_asgi(test, models, max_count=100, max_body=20_000, max_values=18_000)


def in_asgi(test, *paths, **options):
    async def main():
        options.setdefault("log_format", "text")
        settings = Settings(paths=tuple(map(str, paths)), access_log=False, **options)
        app = create_app(settings)
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        listed = []

        async def receive():
            if len(messages) == 1:
                while not app.ready:
                    await asyncio.sleep(0.01)
                await test(app)
            return messages.pop(0)

        async def send(message):
            listed.append(message["type"])

        await asyncio.wait_for(app({"type": "lifespan"}, receive, send), 60)
        assert listed == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    asyncio.run(main())


def test_an_asgi_client_that_disconnects_frees_its_place(slow_bundle):
    async def test(app):
        (served,) = app.repository
        many = b'{"count": 100, "format": "npy"}'
        assert await through_asgi(app, "/v1/generate", many, until=0.2) == (None, {}, b"")
        await asyncio.sleep(0.01)
        assert (app.active, served.users, served.engine.waiting) == (0, 0, 0)

    in_asgi(test, slow_bundle, workers=1, max_batch=1)


def test_the_application_is_not_ready_before_models_are_loaded(models):
    async def main():
        app = create_app(Settings(paths=(str(models),), access_log=False))
        app.loop = asyncio.get_running_loop()  # not started yet
        for path, status in (("/readyz", 503), ("/healthz", 200), ("/v2/health/ready", 503)):
            assert (await through_asgi(app, path))[0] == status
        status, headers, body = await through_asgi(app, "/v1/generate?model=clothes")
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"being loaded" in body

    asyncio.run(main())


def test_settings_are_read_from_the_environment(one, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_GAN_BUNDLES", "")
    with pytest.raises(serving.UsageError, match="KERAS_GAN_BUNDLES must name the bundles"):
        create_app()
    monkeypatch.setenv("KERAS_GAN_BUNDLES", str(one))
    monkeypatch.setenv("KERAS_GAN_TOKENS", "")  # no file is not the same as no tokens
    with pytest.raises(
        serving.UsageError, match=r"must name a file, or be unset. Received: KERAS_GAN_TOKENS=''"
    ):
        create_app()
    (tmp_path / "tokens").write_text("abcdefghijklmnop\n")
    monkeypatch.setenv("KERAS_GAN_TOKENS", str(tmp_path / "tokens"))
    assert create_app().tokens.allow(b"Bearer abcdefghijklmnop")
    monkeypatch.delenv("KERAS_GAN_TOKENS")
    assert create_app().tokens is None


def test_uvicorn_serves_it(one):
    pytest.importorskip("uvicorn")
    with Uvicorn(one) as server:
        until(lambda: server.ask("/readyz").status == 200)
        png = server.ask("/v1/generate?seed=3").body
        np.testing.assert_array_equal(pixels(png), to_uint8(serving.Bundle(one).generate([3]))[0])


# ------------------------------------------------------------------------------- slow tests


@pytest.mark.slow
def test_an_exported_bundle_is_served(clothes):
    """The bundle of `tests/bundles.py`, by Keras and `export`."""
    with Serving(clothes.path) as server:
        golden = np.load(clothes.path / "golden.npz")
        seeds = golden["seeds"][:8].tolist()
        answer = server.ask("/v1/generate", {"seeds": seeds, "format": "npy"})
        np.testing.assert_allclose(numbers(answer), golden["samples"][:8], atol=1e-4)


CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance"
CHECKS += ",response_schema_conformance"


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [False, True])
def test_requests_generated_from_the_openapi_document(models, tmp_path, tokens):
    """Thousands of valid and invalid requests that schemathesis generates from the document."""
    pytest.importorskip("schemathesis")
    args = []
    if tokens:
        (tmp_path / "tokens").write_text(TOKEN)
        args = ["--tokens", tmp_path / "tokens"]
    with Serving(models, "--no-access-log", *args) as server:
        before = server.memory()
        own = {"Authorization": f"Bearer {TOKEN}"} if tokens else {}
        header = [part for item in own.items() for part in ("--header", ": ".join(item))]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", "--max-examples", "800"),
                *("--checks", CHECKS),
                *("--phases", "coverage,fuzzing"),
                *header,
                f"http://127.0.0.1:{server.port}/openapi.json",
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,  # where it leaves a cache
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
        assert server.ask("/readyz").status == 200
        text = server.ask("/metrics", headers=own).body.decode()
        counts = re.findall(r'^keras_gan_requests_total{.*status="(\d+)"} (\d+)$', text, re.M)
        print(counts)
        assert sum(int(n) for _, n in counts) > 10_000
        assert {status for status, _ in counts if int(status) >= 500} <= {"503"}
        assert server.memory() - before < 100 * 2**20
        assert "Traceback" not in server.log


@pytest.mark.slow
def test_a_minute_of_four_times_the_load(slow_bundle):
    """Accepted requests have bounded latency, others are refused fast, memory does not grow."""
    args = ("--workers", 1, "--queue", 16, "--max-batch", 4, "--no-access-log")
    path = "/v1/generate?seed=1&format=npy"
    with Serving(slow_bundle, *args) as server:
        with Load(server, 1, path) as load:
            time.sleep(5)
        unloaded = sorted(x[1] for x in load.answers)
        batch = 4 * unloaded[len(unloaded) // 2]
        # Refused clients pause, or the test would measure its own process.
        with Load(server, 80, path, pause=0.1) as load:  # at most 20 are taken at a time
            time.sleep(10)
            before = server.memory()
            time.sleep(50)
        assert server.memory() - before < 20 * 2**20
        taken = sorted(x[1] for x in load.answers if x[0] == 200)
        refused = sorted(x[1] for x in load.answers if x[0] == 503)
        assert not load.errors
        assert {x[0] for x in load.answers} == {200, 503}
        assert taken[int(0.99 * len(taken))] < 3 * batch + 16 / 4 * batch
        assert refused[len(refused) // 2] < 0.05
        time.sleep(5)
        with Load(server, 1, path) as load:
            time.sleep(5)
        after = sorted(x[1] for x in load.answers)
        for name, times in {
            "unloaded": unloaded,
            "taken": taken,
            "503": refused,
            "after": after,
        }.items():
            middle, late = (1000 * times[int(share * len(times))] for share in (0.5, 0.99))
            print(f"{name}: {len(times)} answers, p50 {middle:.1f} ms, p99 {late:.1f} ms")
        assert after[len(after) // 2] < 1.5 * unloaded[len(unloaded) // 2]
