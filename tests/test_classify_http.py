"""POST /v1/classify in a real server process, with http.client and both Python clients."""

import asyncio
import io
import struct
import zlib

import numpy as np
import pytest
import test_classification
import tiny
import translators
from PIL import Image
from servers import Serving
from test_classification import SIZE, pixels

import serving

PICTURE = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture(scope="module")
def server(folder):
    bundles = [
        test_classification.write(folder / "color", name="color"),
        test_classification.write(folder / "gray", channels=1, names=(), name="gray"),
        test_classification.write(folder / "points", shape=(5,), name="points"),
        test_classification.write(folder / "overflow", scale=3e38, name="overflow"),
        tiny.clothes(folder / "clothes"),
        translators.negative(folder / "negative"),
    ]
    with Serving(*bundles, "--max-pixels", 1_000_000, "--workers", 2) as found:
        yield found
        assert found.process.poll() is None, "the server must still run after all tests"
        assert "Traceback" not in found.log


def file(picture, format="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format, **options)
    return buffer.getvalue()


def ask(server, body, query="?model=color", headers=PICTURE):
    return server.ask(f"/v1/classify{query}", body, headers)


def test_an_answer_is_that_of_the_bundle(server, folder):
    for model in ("color", "gray"):
        bundle = serving.Bundle(folder / model)
        picture = pixels(30, 70)
        wanted = bundle.classify(picture)
        answer = ask(server, file(picture), f"?model={model}")
        assert answer.status == 200, answer.body
        found = answer.json
        assert [x["name"] for x in found["classes"]] == [x.name for x in wanted.top()]
        for got, want in zip(found["classes"], wanted.top(), strict=True):
            assert got["id"] == want.id
            assert got["probability"] == pytest.approx(want.probability, abs=1e-6)
        assert found["novelty"] == pytest.approx(wanted.novelty, abs=1e-4)
        assert found["picture"] == {"height": 30, "width": 70}
        assert found["input"] == {"height": SIZE[0], "width": SIZE[1]}
        assert tuple(found["notes"]) == wanted.notes
        assert "cropped around its center and resized from 70 x 30" in found["notes"][0]
        assert (found["model"], found["version"]) == (model, 1)
        assert found["sha256"] == bundle.sha256 == answer.headers["x-model-sha256"]


def test_a_large_picture_has_the_answer_of_the_bundle(server, folder):
    picture = pixels(300, 450)  # decoded in a thread, by its file and by its pixels
    flat = np.full((600, 900, 3), (9, 80, 200), np.uint8)
    for given in (picture, flat):
        body = file(given)
        wanted = serving.Bundle(folder / "color").classify(given)
        found = ask(server, body).json
        assert [x["id"] for x in found["classes"]] == [x.id for x in wanted.top()]
        assert found["novelty"] == pytest.approx(wanted.novelty, abs=1e-4)
        assert found["picture"] == {"height": given.shape[0], "width": given.shape[1]}
    assert len(file(flat)) < 2**14 < len(file(picture))


def test_the_classes_can_be_limited(server):
    body = file(pixels(*SIZE))
    whole = ask(server, body).json["classes"]
    for count in (1, 2, 3, 100):
        assert ask(server, body, f"?model=color&top={count}").json["classes"] == whole[:count]


def test_a_form_with_a_file_and_fields(server):
    body = file(pixels(*SIZE))
    lines = [
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\ncolor\r\n',
        b'--x\r\nContent-Disposition: form-data; name="top"\r\n\r\n1\r\n',
        b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\n\r\n',
        body,
        b"\r\n--x--\r\n",
    ]
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    found = ask(server, b"".join(lines), "", headers)
    assert found.status == 200, found.body
    assert found.json["classes"] == ask(server, body, "?model=color&top=1").json["classes"]


def huge():
    """Returns a small PNG file of 10,000 x 10,000 pixels."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("query", "body", "headers", "status", "line"),
    [
        ("", b"x", PICTURE, 400, "must be one of color, gray, overflow. Received: model=None"),
        (
            "?model=clothes",
            b"x",
            PICTURE,
            400,
            "one of color, gray, overflow. Received: model='clo",
        ),
        ("?model=points", b"x", PICTURE, 400, "Received: model='points'"),
        ("?model=nothing", b"x", PICTURE, 404, "The models are"),
        ("?model=color&top=0", b"x", PICTURE, 400, "Received: top=0"),
        ("?model=color&top=two", b"x", PICTURE, 400, "`top` must be an integer"),
        ("?model=color&tile=64", b"x", PICTURE, 400, "Received: field='tile'"),
        ("?model=color", b"", PICTURE, 400, "Received: 0 bytes"),
        ("?model=color", b"nothing", PICTURE, 400, "7 bytes of another format"),
        ("?model=color", b"{}", {"Content-Type": "application/json"}, 415, "must be a picture"),
        ("?model=color", huge(), PICTURE, 413, "Received: 10000 x 10000"),
    ],
)
def test_errors_are_one_line(server, query, body, headers, status, line):
    answer = ask(server, body, query, headers)
    assert answer.status == status, answer.body
    assert line in answer.error


def test_outputs_that_are_not_finite_are_422(server):
    white = file(np.full((*SIZE, 3), 255, np.uint8))
    answer = ask(server, white, "?model=overflow")
    assert answer.status == 422
    assert "must be finite numbers" in answer.error


def test_the_listing_and_the_document_know_classifiers(server):
    models = {x["name"]: x for x in server.ask("/v1/models").json["models"]}
    assert models["color"]["classifier"] == {
        "input": "picture",
        "height": SIZE[0],
        "width": SIZE[1],
        "count": 3,
        "names": list(tiny.NAMES),
        "novelty": True,
    }
    assert models["gray"]["classifier"]["names"] == []
    for name in ("points", "clothes", "negative"):
        assert models[name]["classifier"] is None
    operation = server.ask("/openapi.json").json["paths"]["/v1/classify"]["post"]
    parameters = {x["name"]: x["schema"] for x in operation["parameters"]}
    assert parameters["model"]["enum"] == ["color", "gray", "overflow"]
    assert set(parameters) == {"model", "version", "top", "timeout"}
    assert "image/png" in operation["requestBody"]["content"]
    found = ask(server, file(pixels(*SIZE))).json
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(found) == set(schema["required"]) == set(schema["properties"])


def test_both_clients_return_what_the_bundle_does(server, folder, tmp_path):
    bundle, picture = serving.Bundle(folder / "color"), pixels(9, 9)
    wanted = bundle.classify(picture)
    Image.fromarray(picture).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()

    async def ask_later(given):
        async with serving.AsyncClient(f"http://127.0.0.1:{server.port}", timeout=30) as client:
            return await client.classify(given, model="color")

    with serving.Client(f"http://127.0.0.1:{server.port}", timeout=30) as client:
        for given in (picture, Image.fromarray(picture), tmp_path / "a.png", content):
            for found in (client.classify(given, model="color"), asyncio.run(ask_later(given))):
                np.testing.assert_allclose(found.probabilities, wanted.probabilities, atol=1e-6)
                assert found.novelty == pytest.approx(wanted.novelty, abs=1e-4)
                assert found[2:] == wanted[2:]
                assert found.label == wanted.label
        with pytest.raises(serving.ServerError, match=r"`model` must be one of color, gray"):
            client.classify(picture)
        with pytest.raises(serving.UsageError, match=r"`picture` must be a file, a PIL image"):
            client.classify(3, model="color")
