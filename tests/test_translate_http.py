"""POST /v1/translate in a real server process, with http.client, curl and both Python clients."""

import asyncio
import io
import os
import shutil
import struct
import subprocess
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import translators
from PIL import Image, ImageCms
from servers import Serving, until

import serving
from serving import png
from serving.client import RemoteBundle
from serving.translate.fields import preferred_format

PICTURE = {"Content-Type": "image/png"}
MODELS = ("blur", "even", "enlarge", "centered", "negative")
SIZES = ((1, 1), (4, 4), (16, 256), (193, 193), (5, 300))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("translators")


@pytest.fixture(scope="module")
def server(folder):
    bundles = [getattr(translators, name)(folder / name) for name in MODELS]
    with Serving(*bundles, "--max-pixels", 1_000_000, "--workers", 2) as found:
        yield found
        assert found.process.poll() is None, "the server must still run after all tests"
        assert "Traceback" not in found.log


@pytest.fixture(scope="module")
def slow(folder):
    """A server whose translator takes about 100 ms for 64 x 64 pixels."""
    bundle = translators.slow(folder / "slow")
    with Serving(bundle, "--workers", 2, "--queue", 8) as found:
        found.path = bundle
        yield found
        assert "Traceback" not in found.log


def pixels(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def file(picture, format="PNG", **options):
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def ask(server, model, body, query="", headers=PICTURE):
    return server.ask(f"/v1/translate?model={model}{query}", body, headers)


def opened(answer):
    assert answer.status == 200, answer.body
    return Image.open(io.BytesIO(answer.body))


def array(answer):
    return np.asarray(opened(answer))


# ------------------------------------------------------------------ sizes, tiles, formats


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_answer_has_exactly_the_size_of_the_picture_times_the_scale(server, model, size):
    picture = pixels(*size)
    found = array(ask(server, model, file(picture)))
    scale = 4 if model == "enlarge" else 1
    assert found.shape == (scale * size[0], scale * size[1], 3)
    if model == "enlarge":
        np.testing.assert_array_equal(found, picture.repeat(4, 0).repeat(4, 1))
    if model == "negative":
        np.testing.assert_array_equal(found, 255 - picture)


def test_tiles_are_equal_to_the_whole_picture(server):
    body = file(pixels(193, 130))
    whole = array(ask(server, "blur", body, "&tile=0"))
    for tile in (32, 64, 100):
        np.testing.assert_array_equal(array(ask(server, "blur", body, f"&tile={tile}")), whole)
    large = file(pixels(600, 640))  # above the size of one piece: tiles are the default
    np.testing.assert_array_equal(
        array(ask(server, "blur", large)), array(ask(server, "blur", large, "&tile=0"))
    )


def test_the_format_is_that_of_the_query_else_of_the_header_accept(server):
    body = file(pixels(20, 30))
    for query, accept, wanted in (
        ("", None, "PNG"),
        ("&format=jpeg", "image/webp", "JPEG"),
        ("&format=webp", None, "WEBP"),
        ("", "image/webp", "WEBP"),
        ("", "image/avif, image/jpeg;q=0.9, */*;q=0.1", "JPEG"),
        ("", "*/*", "PNG"),
    ):
        answer = ask(
            server, "negative", body, query, PICTURE | ({"Accept": accept} if accept else {})
        )
        assert opened(answer).format == wanted, (query, accept)
        assert answer.headers["content-type"] == f"image/{wanted.lower()}"
    assert preferred_format(b"text/html,image/webp,image/*,*/*;q=0.8") == "png"
    assert preferred_format(b"image/png;q=0.5,image/webp;q=x,image/jpeg;q=0.6") == "jpeg"
    lossless = array(ask(server, "negative", body, "&format=webp"))
    np.testing.assert_array_equal(lossless, array(ask(server, "negative", body)))


def test_the_png_encoder_is_lossless():
    for shape in ((1, 1, 1), (7, 5, 1), (6, 4, 2), (300, 2, 3), (3, 40, 4), (260, 301, 3)):
        picture = pixels(*shape)
        image = Image.open(io.BytesIO(png.encode(picture)))
        assert image.mode == {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[shape[2]]
        np.testing.assert_array_equal(np.asarray(image).reshape(shape), picture)
    texts = {"Model": "a", "Comment": "\N{SNOWMAN}", "XML:com.adobe.xmp": "<x/>"}
    image = Image.open(io.BytesIO(png.encode(pixels(2, 2), texts)))
    assert {key: image.info[key] for key in texts} == texts


# ------------------------------------------------------------------ what is sent


def test_a_form_with_a_file_and_fields(server):
    picture = pixels(9, 11)
    boundary = "----b0undary"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="'
    body = (
        f'{head}model"\r\n\r\nnegative\r\n{head}format"\r\n\r\npng\r\n'
        f'{head}picture"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    ).encode() + file(picture)
    body += f"\r\n--{boundary}--\r\n".encode()
    form = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    np.testing.assert_array_equal(array(server.ask("/v1/translate", body, form)), 255 - picture)
    twice = server.ask("/v1/translate?model=negative", body, form)
    assert (twice.status, "'model' twice" in twice.error) == (400, True)
    none = f'{head}model"\r\n\r\nnegative\r\n--{boundary}--\r\n'.encode()
    assert "must have one file" in server.ask("/v1/translate", none, form).error


def test_an_exif_orientation_is_applied_and_noted(server):
    picture = pixels(6, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    answer = ask(server, "negative", file(picture, exif=exif))
    np.testing.assert_array_equal(array(answer), 255 - np.rot90(picture, -1))


def test_alpha_gray_and_palettes(server):
    picture = pixels(6, 10, 4)
    found = array(ask(server, "negative", file(picture)))
    assert found.shape == (6, 10, 4)
    np.testing.assert_array_equal(found[..., 3], picture[..., 3])
    large = array(
        ask(server, "enlarge", file(np.dstack([picture[..., :3], np.full((6, 10), 255, np.uint8)])))
    )
    assert large.shape == (24, 40, 4)
    assert (large[..., 3] == 255).all()  # opaque stays opaque
    over_white = array(ask(server, "negative", file(picture), "&format=jpeg"))
    assert over_white.shape == (6, 10, 3)
    gray = array(ask(server, "negative", file(picture[..., 0])))
    np.testing.assert_array_equal(gray, (255 - picture[..., :1]).repeat(3, -1))
    palette = Image.fromarray(picture[..., :3]).convert("P")
    shown = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(array(ask(server, "negative", file(palette))), 255 - shown)


def test_what_was_done_to_a_picture_is_one_line_of_a_header(server):
    deep = np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000
    answer = ask(server, "negative", file(deep))
    assert "16 bits per channel were reduced to 8." in answer.headers["x-notes"]
    shown = 255 - (deep >> 8).astype(int)
    assert np.abs(array(answer)[..., 0].astype(int) - shown).max() <= 1
    frames = [Image.fromarray(pixels(6, 10, seed=seed)).convert("P") for seed in range(3)]
    body = file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    answer = ask(server, "negative", body, headers={"Content-Type": "image/gif"})
    assert answer.headers["x-notes"] == "Of an animation, the first frame is used."
    np.testing.assert_array_equal(array(answer), 255 - np.asarray(frames[0].convert("RGB")))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    turned = Image.Exif()
    turned[0x0112] = 3
    answer = ask(server, "negative", file(pixels(3, 3), exif=turned))
    assert answer.headers["x-notes"] == "The picture was turned upright by its EXIF orientation."
    assert "x-notes" not in ask(server, "negative", file(pixels(3, 3), icc_profile=lab)).headers
    broken = ask(server, "negative", file(pixels(3, 3), icc_profile=b"\r\nx: 1\r\n" * 30))
    assert broken.headers["x-notes"] == "The ICC profile is not usable and was ignored."
    about = broken.headers
    assert (about["x-model"], about["x-model-version"], "x" in about) == ("negative", "1", False)


def bomb(width, height):
    """Returns a PNG file whose header names a size that its data do not have."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR" + header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND")
    packed = [struct.pack(">I", len(x) - 4) + x + struct.pack(">I", zlib.crc32(x)) for x in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "rule"),
    [
        ("?model=blur", bomb(60_000, 60_000), "image/png", 413, "at most 1000000 pixels. Received"),
        (
            "?model=blur",
            bomb(7000, 7000),
            "image/png",
            413,
            "1000000 pixels. Received: 7000 x 7000",
        ),
        (
            "?model=enlarge",
            bomb(260, 260),
            "image/png",
            413,
            "at most 62500 pixels, since its translation has 4x4 times as many and must have at "
            "most 1000000 (--max-pixels of the server). Received: 260 x 260",
        ),
        ("?model=blur", b"", "image/png", 400, "a file with content. Received: 0 bytes"),
        ("?model=blur", b"no picture", "image/png", 400, "readable PNG"),
        ("?model=blur", file(pixels(90, 90))[:900], "image/png", 400, "readable PNG"),
        ("?model=blur", file(pixels(90, 90), "JPEG")[:900], "image/jpeg", 400, "readable PNG"),
        ("?model=blur", b"{}", "application/json", 415, "a picture (image/png"),
        ("?model=blur", b"x", "text/plain", 415, "content-type='text/plain'"),
        ("?model=blur", b"x", "multipart/form-data", 400, "must name a boundary"),
        ("?model=blur&format=gif", b"x", "image/png", 400, "one of png, jpeg, webp"),
        ("?model=blur&tile=x", b"x", "image/png", 400, "`tile` must be an integer"),
        ("?model=blur&tile=31", b"x", "image/png", 400, "at least 32 pixels. Received: tile=31"),
        ("?model=blur&tile=-1", b"x", "image/png", 400, "`tile`"),
        ("?model=blur&tiel=32", b"x", "image/png", 400, "Did you mean 'tile'?"),
        ("?model=blur&timeout=0", b"x", "image/png", 400, "`timeout`"),
        ("?model=centered&tile=32", file(pixels(40, 40)), "image/png", 400, "cannot be tiled"),
        ("", b"x", "image/png", 400, "`model` must be one of blur, centered, enlarge, even"),
        ("?model=nope", b"x", "image/png", 404, "The models are"),
        ("?model=blur&version=7", b"x", "image/png", 404, "`version` of 'blur' must be one of"),
    ],
)
def test_what_cannot_be_translated_is_one_line(server, path, body, kind, status, rule):
    answer = server.ask(f"/v1/translate{path}", body, {"Content-Type": kind})
    assert answer.status == status, answer.body
    assert rule in answer.error
    assert "\n" not in answer.error
    assert server.ask("/v1/translate?model=blur").status == 405


def test_bombs_take_no_memory(server):
    before = server.memory()
    for _ in range(20):
        assert ask(server, "blur", bomb(60_000, 60_000)).status == 413
        assert ask(server, "blur", bomb(13_000, 13_000)).status == 413
    assert server.memory() - before < 20 * 2**20


def test_a_generator_is_not_a_translator(tmp_path):
    import tiny

    bundles = [tiny.clothes(tmp_path / "clothes"), translators.negative(tmp_path / "negative")]
    with Serving(*bundles) as server:
        wrong = ask(server, "clothes", file(pixels(3, 3)))
        assert wrong.status == 400
        assert wrong.error == "`model` must be one of negative. Received: model='clothes'"
        # The only translator needs no name.
        assert server.ask("/v1/translate", file(pixels(3, 3)), PICTURE).status == 200


def test_a_large_picture_runs_in_tiles_and_a_network_without_tiles_refuses_it(tmp_path):
    """Memory is that of the pixels, several tiles and the answer, not that of a whole run."""
    bundles = [translators.blur(tmp_path / "blur"), translators.centered(tmp_path / "centered")]
    picture = np.zeros((2400, 2000, 3), np.uint8)
    picture[1000:1100, 900:1300] = 200
    body = file(picture)
    with Serving(*bundles, "--workers", 2) as server:
        refused = ask(server, "centered", body)
        assert refused.status == 413
        assert "at most 4194304 pixels. Received: 2000 x 2400" in refused.error
        before = server.memory()
        found = array(ask(server, "blur", body))
        grown = server.memory() - before
    assert grown < 320 * 2**20  # whole, it is more than 600 MiB
    assert found.shape == picture.shape
    np.testing.assert_array_equal(found[1010:1090, 910:1290], picture[1010:1090, 910:1290])


def test_access_is_that_of_the_other_paths(folder, tmp_path):
    (tmp_path / "tokens").write_text("secret-token-of-tests\n")
    with Serving(folder / "negative", "--tokens", tmp_path / "tokens") as server:
        body = file(pixels(3, 3))
        assert server.ask("/v1/translate", body, PICTURE).status == 401
        own = PICTURE | {"Authorization": "Bearer secret-token-of-tests"}
        assert server.ask("/v1/translate", body, own).status == 200
        assert server.ask("/v1/models/negative/examples/0.png").status == 401
        with serving.Client(f"http://127.0.0.1:{server.port}", "secret-token-of-tests") as client:
            assert client.translate(pixels(3, 4)).shape == (3, 4, 3)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl_as_a_body_and_as_a_form(server, tmp_path):
    picture = pixels(12, 7)
    (tmp_path / "in.png").write_bytes(file(picture))
    address = f"http://127.0.0.1:{server.port}/v1/translate?model=negative"
    kind = ("-H", "Content-Type: image/png")
    for options in (("-F", "picture=@in.png"), (*kind, "--data-binary", "@in.png")):
        line = ["curl", "-fsS", *options, address, "-o", "out.png"]
        subprocess.run(line, cwd=tmp_path, check=True, timeout=60)
        np.testing.assert_array_equal(Image.open(tmp_path / "out.png"), 255 - picture)


# ------------------------------------------------------------------ the queue


def figures(server):
    lines = server.ask("/metrics").body.decode().splitlines()
    return {x.rpartition(" ")[0]: float(x.rpartition(" ")[2]) for x in lines if x[0] != "#"}


def test_other_requests_go_on_while_a_picture_is_translated(slow):
    answers = []
    thread = threading.Thread(
        target=lambda: answers.append(ask(slow, "slow", file(pixels(128, 256)), "&tile=64"))
    )
    start = time.monotonic()
    thread.start()
    waits = []
    while thread.is_alive():
        begin = time.monotonic()
        assert slow.ask("/healthz").status == 200
        waits.append(time.monotonic() - begin)
        time.sleep(0.02)
    thread.join()
    assert answers[0].status == 200, answers[0].body
    assert len(waits) > 3
    assert max(waits) < (time.monotonic() - start) / 2


def test_tiles_are_queued_a_few_at_a_time_and_share_batches(slow):
    """A picture of 32 tiles fits a queue of 8, and a second one shares its batches."""
    labels = '{model="slow",version="1"}'
    batches, samples = (f"keras_gan_batch_samples_{x}{labels}" for x in ("count", "sum"))
    before = figures(slow)
    bodies = [file(pixels(128, 128, seed=seed)) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda body: ask(slow, "slow", body, "&tile=32&timeout=25"), bodies))
    assert [x.status for x in found] == [200, 200], found[0].body
    after = figures(slow)
    assert after[samples] - before[samples] == 32
    assert after[batches] - before[batches] < 32
    bundle = serving.Bundle(slow.path, threads=1)
    for body, answer in zip(bodies, found, strict=True):
        given = np.asarray(Image.open(io.BytesIO(body)))[np.newaxis].astype(np.float32) / 127.5 - 1
        wanted = bundle.run({"condition": given.astype(np.float32)})["samples"][0]
        assert np.abs(array(answer) - (wanted + 1) * 127.5).max() <= 1


def test_a_client_that_disconnects_cancels_the_rest(slow):
    labels = '{model="slow",version="1"}'
    samples = f"keras_gan_batch_samples_sum{labels}"
    before = figures(slow)[samples]
    body = file(pixels(960, 960))  # 900 tiles, more than 3 s on the fastest machine so far
    head = (
        "POST /v1/translate?model=slow&tile=32 HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with slow.connect() as connection:
        connection.sendall(head.encode() + body)
        until(lambda: figures(slow)[samples] > before)
    until(lambda: "499" in slow.log)
    queued = f"keras_gan_queue_samples{labels}"
    until(lambda: figures(slow)[queued] == 0)
    time.sleep(0.5)
    done = figures(slow)[samples]
    time.sleep(1)
    assert figures(slow)[samples] == done  # nothing runs for it
    assert done - before < 450


def test_a_deadline_ends_a_translation(slow):
    body = file(pixels(960, 960))  # 900 tiles, more than 3 s on the fastest machine so far
    start = time.monotonic()
    answer = ask(slow, "slow", body, "&tile=32&timeout=0.5")
    assert answer.status == 504
    assert "by the deadline" in answer.error
    assert time.monotonic() - start < 5


def test_a_full_queue_is_503(slow):
    many = [file(pixels(64, 64, seed=seed)) for seed in range(14)]
    with ThreadPoolExecutor(len(many)) as pool:
        found = list(pool.map(lambda body: ask(slow, "slow", body), many))
    statuses = {x.status for x in found}
    assert statuses <= {200, 503}
    for answer in found:
        if answer.status == 503:
            assert "queue" in answer.error
            assert int(answer.headers["retry-after"]) >= 1


# ------------------------------------------------------------------ other protocols, documents


def test_v2_and_tf_serving_take_tensors_of_two_sizes(server, folder):
    bundle = serving.Bundle(folder / "enlarge", threads=1)
    for height, width in ((3, 5), (8, 2)):
        values = pixels(height, width)[np.newaxis].astype(np.float32) / 127.5 - 1
        wanted = bundle.run({"condition": values})["samples"]
        predict = server.ask("/v1/models/enlarge:predict", {"instances": values.tolist()})
        assert predict.status == 200, predict.body
        np.testing.assert_allclose(predict.json["predictions"], wanted, atol=1e-6)
        tensor = {"name": "condition", "shape": values.shape, "datatype": "FP32"}
        body = {"inputs": [tensor | {"data": values.ravel().tolist()}]}
        infer = server.ask("/v2/models/enlarge/infer", body)
        assert infer.status == 200, infer.body
        (output,) = infer.json["outputs"]
        assert output["shape"] == [1, 4 * height, 4 * width, 3]
        np.testing.assert_allclose(output["data"], wanted.ravel(), atol=1e-6)


def test_models_metrics_and_the_openapi_document_name_the_path(server):
    listed = {x["name"]: x for x in server.ask("/v1/models").json["models"]}
    assert listed["enlarge"]["translation"]["scale"] == 4
    assert listed["enlarge"]["examples"] == 0
    ask(server, "negative", file(pixels(3, 3)))
    name = 'keras_gan_requests_total{model="negative",version="1",route="translate",status="200"}'
    assert figures(server)[name] >= 1
    document = server.ask("/openapi.json").json
    post = document["paths"]["/v1/translate"]["post"]
    assert {"multipart/form-data", "image/png", "image/jpeg"} <= post["requestBody"][
        "content"
    ].keys()
    assert post["responses"]["200"]["content"].keys() == {"image/png", "image/jpeg", "image/webp"}
    parameters = {x["name"]: x["schema"] for x in post["parameters"]}
    assert parameters.keys() == {"model", "version", "format", "tile", "timeout", "seed"}
    assert parameters["model"]["enum"] == sorted(MODELS)


def test_the_name_of_the_other_direction_is_checked(tmp_path):
    bundle = serving.Bundle(translators.negative(tmp_path / "dark", "dark", backward="light"))
    assert bundle.manifest["translation"]["backward"] == "light"
    wrong = translators.negative(tmp_path / "wrong", backward=3)
    with pytest.raises(serving.UsageError, match=r"`translation.backward` .* must be the name"):
        serving.Bundle(wrong)


def test_examples(tmp_path):
    bundle = translators.negative(tmp_path / "negative", examples=2)
    with Serving(bundle) as server:
        assert server.ask("/v1/models").json["models"][0]["examples"] == 2
        path = "/v1/models/negative/examples/1.png"
        answer = server.ask(path)
        assert answer.body == (bundle / "examples" / "1.png").read_bytes()
        assert answer.headers["content-type"] == "image/png"
        assert server.ask("/v1/models/negative/versions/1/examples/1.png").body == answer.body
        again = server.ask(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
        missing = server.ask("/v1/models/negative/examples/2.png")
        assert missing.status == 404
        assert "has 2 examples" in missing.error
    (bundle / "examples" / "1.png").write_bytes((bundle / "examples" / "0.png").read_bytes())
    with Serving(bundle, wait=False) as server:
        assert server.process.wait(60) == 2
        assert "An example must be the PNG file" in server.log


# ------------------------------------------------------------------ the clients


def test_the_clients_translate_files_images_and_arrays(server, tmp_path):
    picture = pixels(7, 9)
    url = f"http://127.0.0.1:{server.port}/negative"
    source = tmp_path / "in.png"
    source.write_bytes(file(picture))
    with serving.Client(url) as client:
        np.testing.assert_array_equal(client.translate(picture), 255 - picture)
        image = client.translate(Image.fromarray(picture))
        assert isinstance(image, Image.Image)
        np.testing.assert_array_equal(image, 255 - picture)
        for given in (source, str(source), source.read_bytes()):
            found = client.translate(given)
            if isinstance(given, bytes):
                found = Image.open(io.BytesIO(found))
                assert found.info["Model"] == "negative"
            np.testing.assert_array_equal(found, 255 - picture)
        client.translate(source, tmp_path / "out.jpg", tile=0)
        assert Image.open(tmp_path / "out.jpg").format == "JPEG"
        gray = client.translate(picture[..., 0])  # this model may give color to it
        np.testing.assert_array_equal(gray, (255 - picture[..., :1]).repeat(3, -1))
        alpha = client.translate(pixels(3, 4, 4))
        assert alpha.shape == (3, 4, 4)
        large = client.translate(picture, model="enlarge")
        assert large.shape == (28, 36, 3)

    remote = RemoteBundle(url)
    for tile in ("auto", None, 32):
        np.testing.assert_array_equal(remote.translate(picture, tile), 255 - picture)

    async def several():
        async with serving.AsyncClient(url) as client:
            return await asyncio.gather(*(client.translate(pixels(5, 6, seed=i)) for i in range(4)))

    for seed, found in enumerate(asyncio.run(several())):
        np.testing.assert_array_equal(found, 255 - pixels(5, 6, seed=seed))


def test_mistakes_of_a_client_are_one_line(server, tmp_path):
    url = f"http://127.0.0.1:{server.port}"
    with serving.Client(url) as client:
        for arguments, rule in (
            ((pixels(3, 3).astype(float),), "`picture` must be a file, a PIL image, or a uint8"),
            ((pixels(3, 3, 5),), "with 1 to 4 channels"),
            ((np.zeros((0, 3, 3), np.uint8),), "must have pixels"),
            ((tmp_path / "none.png",), "`picture` must be a readable file. Received: picture="),
            ((pixels(3, 3), "out.gif"), "`to` must end in .png, .jpg"),
            ((pixels(3, 3), tmp_path / "none" / "a.png"), "`model` must be one of"),
        ):
            with pytest.raises(serving.UsageError, match=r"Received") as caught:
                client.translate(*arguments)
            assert rule in str(caught.value)
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(serving.UsageError, match="must be a file that can be written"):
            client.translate(pixels(3, 3), tmp_path / "file" / "a.png", model="blur")
        (tmp_path / "old.png").write_bytes(b"old")
        os.link(tmp_path / "old.png", tmp_path / "a.png")
        client.translate(pixels(3, 3), tmp_path / "a.png", model="blur")
        assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
        assert (tmp_path / "old.png").read_bytes() == b"old"  # replaced, not overwritten


def test_an_exported_keras_network_is_translated(tmp_path):
    import keras

    import export

    inputs = keras.Input((None, None, 3), name="condition")
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    outputs = keras.layers.Conv2D(3, 3, padding="same", activation="tanh", name="samples")(x)
    model = keras.Model(inputs, outputs, name="net")
    bundle, picture = tmp_path / "net", pixels(33, 47)
    export.export_bundle(model, bundle, role="translator", examples=[picture])
    with Serving(bundle) as server:
        found = array(ask(server, "net", file(picture)))
        tiled = array(ask(server, "net", file(picture), "&tile=32"))
        assert server.ask("/v1/models").json["models"][0]["translation"]["radius"] == 2
        example = array(server.ask("/v1/models/net/examples/0.png"))
    given = picture[np.newaxis].astype(np.float32) / 127.5 - 1
    wanted = (np.asarray(model(given))[0] + 1) * 127.5
    assert np.abs(found - wanted).max() <= 0.51
    np.testing.assert_array_equal(tiled, found)
    np.testing.assert_array_equal(example, picture)
