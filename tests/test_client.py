"""Tests of serving.Client: the same call to every server, failures, retries."""

import asyncio
import contextlib
import io
import itertools
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
import wire
from PIL import Image
from wire import Wire, hang_up, refuse, say

import serving
from serving import AsyncClient, Client, ServerError, UsageError, cli, interpolation, pictures
from serving.client import RemoteBundle
from serving.client.arguments import check_arguments
from serving.client.endpoint import retry_after
from serving.client.http_types import Response
from serving.client.session import Server
from serving.seeds import latents_from_seeds

CLASSES = '{"count": 3, "names": ["shirt", "shoe", "bag"]}'
CONFIG = {"classes": {"string_value": CLASSES}, "value_range": {"string_value": "[-1.0, 1.0]"}}

# Servers of a bundle, by their protocol and by what they report.
SERVERS = {
    "keras_gan": {"speaks": ("keras_gan", "v2")},
    "v2": {"speaks": ("v2",), "config": CONFIG},
    "v2 in JSON": {"speaks": ("v2",), "binary": False, "config": CONFIG},
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of pictures in three classes."""
    return serving.Bundle(tiny.clothes(tmp_path_factory.mktemp("clothes") / "bundle"), threads=1)


@pytest.fixture(params=SERVERS)
def server(request, bundle):
    with Wire(bundle, **SERVERS[request.param]) as found:
        yield found


@pytest.fixture
def ours(bundle):
    with Wire(bundle) as found:
        yield found


# ------------------------------------------------------------------------------ the same call


def expected(bundle, latents, labels):
    return wire.run(bundle, latents, np.array(labels))


def test_every_server_gives_the_samples_of_the_bundle(server, bundle):
    with Client(server.url) as client:
        samples = client.generate([7, 8, 2**40])
        assert samples.dtype == np.float32
        np.testing.assert_allclose(samples, bundle.generate([7, 8, 2**40]), atol=1e-6)
        same = client.generate(seed=7, count=2, labels="shoe", truncation=0.5)
        np.testing.assert_allclose(same, bundle.generate([7, 8], "shoe", 0.5), atol=1e-6)
        each = client.generate(seeds=[1, 2], labels=[2, "shirt"], model="clothes", version=1)
        np.testing.assert_allclose(each, bundle.generate([1, 2], [2, 0]), atol=1e-6)
        assert client.generate(3).shape == (1, 8, 8, 3)


def test_every_server_interpolates_and_gives_neighbors(server, bundle):
    z = latents_from_seeds([5, 9, 11], bundle.latent_dim)
    with Client(server.url) as client:
        walk = client.generate(interpolate=[5, 9, 11], count=7)
        np.testing.assert_allclose(walk[[0, 3, 6]], expected(bundle, z, [2] * 3), atol=1e-6)
        np.testing.assert_allclose(
            walk, expected(bundle, interpolation.interpolate(z, 7), [2] * 7), atol=1e-6
        )
        near = client.generate(around=5, radius=0.6, seeds=[9, 11], labels="bag")
        np.testing.assert_allclose(
            near, expected(bundle, 0.8 * z[0] + 0.6 * z[1:], [2, 2]), atol=1e-5
        )
        still = client.generate(around=5, radius=0.0, count=2)
        np.testing.assert_allclose(still, expected(bundle, z[[0, 0]], [2, 2]), atol=1e-6)


def test_every_server_walks_in_a_loop(server, bundle):
    z = latents_from_seeds([5, 9, 11], bundle.latent_dim)
    with Client(server.url) as client:
        looped = client.generate(interpolate=[5, 9, 11], count=9, loop=True, easing="smooth")
        path = interpolation.Path(3, 9, loop=True, easing="smooth")
        latents = np.stack([path.point(n, z) for n in range(9)]).astype(np.float32)
        np.testing.assert_allclose(looped, expected(bundle, latents, [2] * 9), atol=1e-5)
        for other in ({"loop": True}, {"easing": "smooth"}):
            samples = client.generate(interpolate=[5, 9, 11], count=9, **other)
            assert np.abs(looped - samples).max() > 1e-3
        film = client.animation(interpolate=[5, 9, 11], count=6, loop=True, frame_rate=20)
        image = Image.open(io.BytesIO(film))
        assert (image.format, image.n_frames, image.size) == ("WEBP", 6, (8, 8))
        image = Image.open(io.BytesIO(client.animation([1, 2], format="gif", metadata=False)))
        assert (image.format, image.n_frames, image.info["duration"]) == ("GIF", 2, 30)


def comment_of(film):
    return Image.open(io.BytesIO(film)).info["comment"].decode("utf-8")


@pytest.mark.parametrize(
    ("one", "other", "texts"),
    [
        ({"labels": "bag"}, {"labels": "shoe"}, "Labels=bag"),
        ({"labels": ["bag", 0]}, {"labels": [0, "bag"]}, "Labels=bag,0"),
        ({"labels": "bag"}, {}, "Labels=bag"),
        ({"around": 5}, {"around": 6}, "Around=5; Radius=0.3"),
        ({"around": 5, "radius": 0.5}, {"around": 5, "radius": 0.6}, "Around=5; Radius=0.5"),
        ({"truncation": 0.5}, {}, "Truncation=0.5"),
    ],
)
def test_different_animations_have_different_texts(ours, one, other, texts):
    with Client(ours.url) as client:
        first, second = (
            comment_of(client.animation([1, 2], format="gif", **each)) for each in (one, other)
        )
    assert texts in first
    assert "Seeds=1, 2" in first
    assert first != second


def test_every_server_gives_pictures(server, bundle):
    with Client(server.url) as client:
        made = client.pictures([7, 8])
        drawn = pictures.to_uint8(bundle.generate([7, 8]))
        for content, picture in zip(made, drawn, strict=True):
            image = Image.open(io.BytesIO(content))
            np.testing.assert_array_equal(np.asarray(image), picture)
            assert image.info["Model"] == "clothes"
        assert Image.open(io.BytesIO(made[1])).info["Seed"] == "8"
        (bare,) = client.pictures([7], metadata=False)
        assert Image.open(io.BytesIO(bare)).info == {}
        assert len(client.pictures(interpolate=[1, 2], count=3)) == 3


def test_pictures_of_tensors_have_the_texts_of_animations(bundle):
    walk = {"interpolate": [1, 2], "count": 3, "loop": True, "easing": "smooth"}
    with Wire(bundle, **SERVERS["v2"]) as server, Client(server.url) as client:
        (*_, last) = client.pictures(**walk, labels="bag")
        (near,) = client.pictures([7], around=5, radius=0.5)
    texts = Image.open(io.BytesIO(last)).info
    assert (texts["Between seeds"], texts["Step"], texts["Count"]) == ("1, 2", "2", "3")
    assert (texts["Loop"], texts["Easing"], texts["Label"]) == ("True", "smooth", "2")
    texts = Image.open(io.BytesIO(near)).info
    assert (texts["Seed"], texts["Around"], texts["Radius"]) == ("7", "5", "0.5")


def test_every_server_lists_its_models(server):
    (model,) = Client(server.url).models()
    assert (model["name"], model["version"], model["versions"]) == ("clothes", 1, [1])
    assert (model["kind"], model["shape"], model["latent_dim"]) == ("image", [8, 8, 3], 6)
    assert model["value_range"] == [-1.0, 1.0]
    assert model["classes"] == {"count": 3, "names": ["shirt", "shoe", "bag"]}


def test_many_samples_are_requested_in_parts(server, bundle):
    client = Client(server.url, batch_size=4)
    labels = [0, 1, 2] * 3 + [1]
    samples = client.generate(range(10), labels=labels)
    np.testing.assert_allclose(samples, bundle.generate(range(10), labels), atol=1e-6)
    posts = [r for r in server.requests if r[1].endswith(("generate", "infer"))]
    assert len(posts) == 3
    assert len(client.pictures(range(10))) == 10


@pytest.mark.parametrize("speaks", ["keras_gan", "v2"])
def test_a_model_is_named_in_the_url_or_by_argument(bundle, speaks):
    with Wire(bundle, (speaks,), names=["a", "b"], prefix="/under/this", config=CONFIG) as server:
        one = bundle.generate([1])
        for url, model in ((server.url, "b"), (f"{server.url}/b", None), (f"{server.url}/a", "b")):
            client = Client(url)
            np.testing.assert_allclose(client.generate([1], model=model), one, atol=1e-6)
            assert client.generate([1], model=model).shape == one.shape
        with pytest.raises(UsageError, match="must be that of keras-gan serve"):
            Client(f"http://127.0.0.1:{server.port}/elsewhere").generate([1])
        with pytest.raises(UsageError, match=r"unknown model|no such model") as caught:
            Client(server.url).generate([1], model="c")
        assert isinstance(caught.value, ServerError)
        assert caught.value.status == 404
        if speaks == "v2":
            with pytest.raises(UsageError, match=r"Name one of the server.s models.*: a, b"):
                Client(server.url).generate([1])


def test_the_bundle_supplies_what_a_server_does_not_report(bundle):
    with Wire(bundle, ("v2",)) as server:
        client = Client(server.url)
        assert client.models()[0]["classes"] is None
        with pytest.raises(UsageError, match="does not report the number of classes"):
            client.generate([1])
        with pytest.raises(UsageError, match="labels must be ids"):
            client.generate([1], labels="shoe")
        shoe = bundle.generate([1], "shoe")
        np.testing.assert_allclose(client.generate([1], labels=1), shoe, atol=1e-6)
        informed = Client(server.url, bundle=bundle.path)
        np.testing.assert_allclose(informed.generate([1], labels="shoe"), shoe, atol=1e-6)
        np.testing.assert_allclose(informed.generate([1]), bundle.generate([1]), atol=1e-6)


def test_tritons_configuration_describes_inputs_and_outputs(bundle):
    """It has the ports of the manifest, so that names of classes and seeds need no bundle."""
    config = {"role": {"string_value": '"generator"'}}
    for name in ("inputs", "outputs"):
        config[name] = {"string_value": json.dumps(bundle.manifest[name])}
    with Wire(bundle, ("v2",), config=config) as server:
        client = Client(server.url)
        shoe = bundle.generate([1, 2], "shoe", 0.5)
        found = client.generate([1, 2], labels="shoe", truncation=0.5)
        np.testing.assert_allclose(found, shoe, atol=1e-6)
        (model,) = client.models()
        assert (model["role"], model["inputs"]) == ("generator", bundle.manifest["inputs"])


# ----------------------------------------------------------------------------------- failures


def test_a_full_server_is_asked_again_after_its_retry_after(ours):
    ours.script = [refuse(503, Retry_After="0.3"), refuse(429, Retry_After="0"), refuse(502)]
    client = Client(ours.url)
    start = time.monotonic()
    assert client.generate([1]).shape == (1, 8, 8, 3)
    assert time.monotonic() - start >= 0.3
    assert len(ours.asked("generate")) == 4


def test_a_server_that_stays_full_raises_its_own_line(ours):
    ours.script = [refuse(503, Retry_After="0.01")] * 9
    with pytest.raises(ServerError, match=r"^The queue must have a place\. Received: 256") as e:
        Client(ours.url, retries=2).generate([1])
    assert e.value.status == 503
    assert len(ours.asked("generate")) == 3
    start = time.monotonic()
    ours.script = [refuse(503, Retry_After="3600")]
    with pytest.raises(ServerError, match="The queue"):
        Client(ours.url, timeout=5.0).generate([1])
    assert time.monotonic() - start < 4.0  # it does not wait beyond its timeout


def test_waits_are_random_and_never_shorter_than_retry_after(ours):
    client = Client(ours.url)
    full = Response(503, {"retry-after": "2"}, b"")
    waits = [client.retries.next_wait(0, time.monotonic() + 60, full) for _ in range(50)]
    assert min(waits) >= 2.0
    assert max(waits) <= 2.1
    assert len(set(waits)) > 40
    later = [client.retries.next_wait(n, time.monotonic() + 60, None) for n in range(6)]
    assert all(a * 2 * 0.5 <= b * 1.01 for a, b in itertools.pairwise(later))
    assert later[5] <= 3.2
    assert client.retries.next_wait(6, time.monotonic() + 60, None) is None
    assert client.retries.next_wait(0, time.monotonic() + 1, full) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("", None), ("soon", None), ("nan", None)],
)
def testretry_after(text, seconds):
    assert retry_after(Response(503, {"retry-after": text}, b"")) == seconds
    at = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 28 < (retry_after(Response(503, {"retry-after": at}, b"")) or 0) < 31


def test_connections_are_kept_and_replaced(ours):
    client = Client(ours.url)
    for _ in range(3):
        client.generate([1])
    assert ours.connections == 1
    ours.script = [hang_up]  # like a server that has closed an idle connection
    start = time.monotonic()
    assert client.generate([1]).shape == (1, 8, 8, 3)
    assert time.monotonic() - start < 1.0
    assert ours.connections == 2
    ours.script = [hang_up] * 2
    assert client.generate([1]).shape == (1, 8, 8, 3)


def test_a_token_is_sent(bundle, tmp_path, monkeypatch, capsys):
    with Wire(bundle, token="secret") as server:
        assert Client(server.url, token="secret").generate([1]).shape == (1, 8, 8, 3)
        with pytest.raises(ServerError, match=r"must bring a token") as caught:
            Client(server.url).generate([1])
        assert caught.value.status == 401
        command = ["sample", f"{server.url}/clothes", "--out", str(tmp_path / "x.png")]
        assert cli.main(command) == 2
        assert capsys.readouterr().err.count("\n") == 1
        monkeypatch.setenv("KERAS_GAN_TOKEN", "secret")
        assert cli.main(command) == 0


def npy(shape, count=0):
    """Returns an .npy file of zeros whose header claims a shape."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00\x76\x00" + head.encode() + bytes(4 * count)


BAD_ANSWERS = [
    (refuse(400, "A label must be 0 to 2. Received: '9'"), r"^A label must be 0 to 2"),
    (say(b"<h1>Oops</h1>", "text/html", 500), r"status 500 <h1>Oops</h1>"),
    (say(b"", status=308, Location="https://elsewhere/"), r"redirection to 'https://elsewhere/'"),
    (say(b"not an array"), r"must be an \.npy file"),
    (say(b"\x93NUMPY\x01\x00"), r"must be an \.npy file"),
    (say(npy("(1000000000000, 8, 8, 3)")), r"must be an \.npy file"),
    (say(npy("(2, 2)", 4)), r"must answer with 1 samples.*Received: an array of shape \(2, 2\)"),
]


@pytest.mark.parametrize(("answer", "rule"), BAD_ANSWERS)
def test_a_bad_answer_is_one_line(ours, answer, rule):
    client = Client(ours.url)
    client.models()
    ours.script = [answer]
    with pytest.raises(ServerError, match=rule) as caught:
        client.generate([1])
    assert "\n" not in str(caught.value)


def test_a_pickled_array_is_not_opened(ours):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was run",))

    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil()], object), allow_pickle=True)
    ours.script = [say(buffer.getvalue())]
    with pytest.raises(ServerError, match=r"must be an \.npy file"):
        Client(ours.url).generate([1])


def test_bad_answers_of_v2_are_one_line(bundle):
    with Wire(bundle, ("v2",), config=CONFIG) as server:
        client = Client(f"{server.url}/clothes")
        client.generate([1])
        port = {"name": "samples", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
        for body in (b"[]", b'{"outputs": []}', b'{"outputs": [{"name": "samples"}]}'):
            server.script = [say(body)]
            with pytest.raises(ServerError, match="must hold samples"):
                client.generate([1])
        server.script = [say(wire.json.dumps({"outputs": [port]}).encode())]
        with pytest.raises(ServerError, match=r"1 samples of shape \(8, 8, 3\). Received.*\(2, 2"):
            client.generate([1])


def test_an_unreachable_server_is_one_line():
    start = time.monotonic()
    with pytest.raises(ServerError, match=r"must answer at the URL.*(refused|Connection)"):
        Client("http://127.0.0.1:9", retries=1).generate([1])
    assert time.monotonic() - start < 3.0


def test_a_silent_server_times_out(ours):
    client = Client(ours.url, timeout=0.3)
    client.models()
    ours.script = [lambda _: time.sleep(1.5)]
    start = time.monotonic()
    with pytest.raises(ServerError, match=r"no answer within 0\.3 s"):
        client.generate([1])
    assert time.monotonic() - start < 1.3


@pytest.mark.parametrize(
    "begun", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-Long: "]
)
def test_a_server_that_sends_byte_by_byte_times_out(ours, begun):
    def trickle(handler):
        handler.wfile.write(begun)
        with contextlib.suppress(OSError):
            for _ in range(30):
                handler.wfile.write(b"x")
                time.sleep(0.1)

    client = Client(ours.url, timeout=0.4)
    client.models()
    ours.script = [trickle]
    start = time.monotonic()
    with pytest.raises(ServerError, match=r"no answer within 0\.4 s"):
        client.generate([1])
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(("given", "asked"), [(None, [None, 3, 3]), (2, [2, 2, 2])])
def test_all_parts_are_requested_from_the_version_of_the_first(given, asked):
    client = Client("http://127.0.0.1:9", batch_size=1)
    client.session.server = Server("keras_gan", "", None)
    plan = client.session.generate(check_arguments([1, 2, 3], version=given))
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((1, 2), np.float32))
    answers = [Response(200, {"x-model-version": str(x)}, buffer.getvalue()) for x in (3, 4, 4)]
    for version, answer in zip(asked, [None, *answers], strict=False):
        assert json.loads(plan.send(answer).body).get("version") == version


@pytest.mark.parametrize(
    ("wanted", "rule"),
    [
        ({}, "named by `seeds`"),
        ({"seeds": [1], "count": 2}, "named by `seeds`"),
        ({"seeds": [1], "interpolate": [1, 2]}, "named by `seeds`"),
        ({"seeds": [-1]}, "at least 0"),
        ({"seeds": "a"}, "sequence of integers"),
        ({"count": 0}, "`count` must be"),
        ({"seed": []}, "`seed` must be one integer"),
        ({"interpolate": [], "count": 2}, "`interpolate` must name at least one seed"),
        ({"seeds": [1], "truncation": -1.0}, "`truncation` must be"),
        ({"seeds": [1, 2], "labels": [0, 1, 2]}, "one for each of the 2"),
        ({"around": 3, "radius": 1.5}, "`radius` must be"),
        ({"around": 3, "radius": float("nan")}, "`radius` must be a number from 0 to 1"),
        ({"around": 3, "radius": True}, "`radius` must be .*Received: radius=True"),
        ({"around": [3, 4]}, r"`around` must be one integer. Received: around=\[3, 4\]"),
        ({"around": 2.5}, "sequence of integers"),
        ({"seeds": [1], "radius": 0.5}, "`radius` needs `around`. Received: radius=0.5"),
        ({"seed": 1, "count": 2, "radius": 0}, "`radius` needs `around`. Received: radius=0"),
        ({"interpolate": [1, 2], "radius": 0.3}, "`radius` needs `around`. Received: radius=0.3"),
        ({"count": 2.0}, "`count` must be an integer of at least 1. Received: count=2.0"),
        ({"count": True}, "`count` must be an integer of at least 1. Received: count=True"),
        ({"count": "2"}, "`count` must be an integer of at least 1. Received: count='2'"),
        ({"seeds": "1"}, "`seeds` must be a sequence of integers. Received: seeds='1'"),
        ({"seeds": [1], "truncation": "0.5"}, "at least 0. Received: truncation='0.5'"),
        ({"seeds": [1], "truncation": float("nan")}, "at least 0. Received: truncation=nan"),
        ({"seeds": [1], "truncation": None}, "at least 0. Received: truncation=None"),
        ({"seeds": [1], "truncation": True}, "at least 0. Received: truncation=True"),
        ({"seeds": [1, 2], "labels": np.zeros((3,), int)}, "one for each of the 2"),
        ({"seeds": [1], "loop": True}, "need `interpolate`. Received: loop=True"),
        ({"count": 3, "easing": "smooth"}, "need `interpolate`. Received: easing='smooth'"),
        ({"interpolate": [1, 2], "count": 3, "easing": "slow"}, "`easing` must be one of linear"),
        ({"interpolate": [1, 2], "count": 3, "loop": "yes"}, "`loop` must be True or False"),
    ],
)
def test_user_errors_do_not_reach_the_server(wanted, rule):
    with pytest.raises(UsageError, match=rule):
        Client("http://127.0.0.1:9").generate(**wanted)


def test_an_animation_that_cannot_be_written_does_not_reach_the_server():
    for wanted, rule in {
        ("frame_rate", 0): "`frame_rate` must be from 1 to 50 frames/s. Received: frame_rate=0",
        ("frame_rate", "fast"): "`frame_rate` must be from 1 to 50",
        ("frame_rate", float("nan")): "`frame_rate` must be from 1 to 50",
        ("format", "png"): "animation must be one of webp, gif.* Received: format='png'",
    }.items():
        with pytest.raises(UsageError, match=rule):
            Client("http://127.0.0.1:9").animation([1, 2], **dict([wanted]))


URLS = ["localhost:8000", "ftp://host", "http://", "", 7, "http://h:x", "http://h/a b"]
URLS += ["http://me:secret@h/", "http://h/?model=x", "http://h/\N{LATIN SMALL LETTER E WITH ACUTE}"]


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_checked_by_the_constructor(url):
    with pytest.raises(UsageError, match="A server's URL must be http"):
        Client(url)
    with pytest.raises(UsageError, match="`protocol` must be one of"):
        Client("http://h", protocol="grpc")
    with pytest.raises(UsageError, match="`token` must hold printable") as caught:
        Client("http://h", token="secret\r\nHost: elsewhere")
    assert "secret" not in str(caught.value)


def test_the_import_is_light():
    code = (
        "import sys, serving; serving.Client; print(sorted(sys.modules));"
        "serving.Client('http://127.0.0.1:9')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in ("onnxruntime", "PIL", "httpx", "requests", "tensorflow", "keras"):
        assert f"'{name}'" not in done.stdout


# ------------------------------------------------------------------------------------ asyncio


@pytest.mark.parametrize("chunked", [False, True])
def test_async_calls_run_side_by_side(bundle, chunked):
    async def ask(url):
        async with AsyncClient(url) as client:
            first = await client.generate([0])
            made = await asyncio.gather(*(client.generate([seed]) for seed in range(8)))
            drawn = await client.pictures([1, 2])
            film = await client.animation(interpolate=[1, 2], count=4, loop=True, format="gif")
            assert Image.open(io.BytesIO(film)).n_frames == 4
            assert (await client.models())[0]["name"] == "clothes"
            return first, np.concatenate(made), drawn

    with Wire(bundle, chunked=chunked) as server:
        first, made, drawn = asyncio.run(ask(server.url))
    np.testing.assert_allclose(made, bundle.generate(range(8)), atol=1e-6)
    np.testing.assert_allclose(first, made[:1], atol=1e-6)
    assert [content[:4] for content in drawn] == [b"\x89PNG"] * 2
    assert server.connections <= 8


def test_an_async_client_retries_replaces_connections_and_changes_loops(ours):
    client = AsyncClient(ours.url)

    async def ask():
        return await client.generate([1])

    ours.script = [refuse(503, Retry_After="0.1")]
    first = asyncio.run(ask())
    ours.script = [hang_up] * 2
    np.testing.assert_array_equal(asyncio.run(ask()), first)
    ours.script = [refuse(400, "A rule. Received: x")]
    with pytest.raises(ServerError, match=r"^A rule\."):
        asyncio.run(ask())


def test_an_async_call_that_is_cancelled_closes_its_connection(ours):
    gone = []

    def wait(handler):
        gone.append(handler.connection.recv(1))

    async def ask():
        client = AsyncClient(ours.url)
        await client.models()
        ours.script = [wait]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.generate([1]), 0.2)
        await asyncio.sleep(0.2)

    asyncio.run(ask())
    assert gone == [b""]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
    ],
)
def test_a_response_that_is_not_http_is_one_line(ours, answer):
    def speak(handler):
        handler.wfile.write(answer)
        hang_up(handler)

    async def ask():
        return await AsyncClient(ours.url, retries=0).generate([1])

    for call in (lambda: asyncio.run(ask()), lambda: Client(ours.url, retries=0).generate([1])):
        ours.script = [speak] * 2
        with pytest.raises(ServerError) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_an_async_client_times_out(ours):
    async def ask():
        client = AsyncClient(ours.url, timeout=0.3)
        await client.models()
        ours.script = [lambda _: time.sleep(1.0)]
        await client.generate([1])

    with pytest.raises(ServerError, match=r"no answer within 0\.3 s"):
        asyncio.run(ask())


# ------------------------------------------------------------------------------- command line


def test_sample_takes_a_server_as_it_takes_a_bundle(server, bundle, tmp_path, capsys):
    options = ["--count", "5", "--labels", "shoe,2", "--truncation", "0.7", "--batch-size", "2"]
    written = []
    for source in (f"{server.url}/clothes", str(bundle.path)):
        for name in ("grid.png", "numbers.npz"):
            out = tmp_path / f"{len(written)}-{name}"
            assert cli.main(["sample", source, *options, "--out", str(out)]) == 0
            written.append(out)
    line = capsys.readouterr().out.splitlines()[0]
    assert "5 samples of clothes" in line
    assert f"samples/s on 127.0.0.1:{server.port}" in line
    grids = [np.asarray(Image.open(path)) for path in written[::2]]
    np.testing.assert_array_equal(*grids)
    far, near = (np.load(path) for path in written[1::2])
    assert sorted(far) == sorted(near) == ["labels", "latents", "samples", "seeds"]
    for name in far:
        np.testing.assert_allclose(far[name], near[name], atol=1e-6)
    folder = tmp_path / "each"
    command = ["sample", server.url, "--count", "2", "--each", str(folder)]
    assert cli.main(command) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["seed000000.png", "seed000001.png"]


def test_user_errors_with_a_server_are_one_line(ours, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for url, options, rule in (
        (f"{ours.url}/hats", [], "must have the model. Received: 'hats'"),
        (ours.url, ["--labels", "hat"], "A label must be 0 to 2 or one of shirt"),
        (ours.url, ["--batch-size", "0"], "batch_size` must be"),
        (ours.url, ["--out", "shards/"], "Shards are made from a bundle on disk"),
        ("http://", [], "A server's URL must be"),
    ):
        assert cli.main(["sample", url, *options]) == 2
        error = capsys.readouterr().err
        assert rule in error
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_remote_bundle_is_used_as_a_bundle(server, bundle):
    remote = RemoteBundle(server.url)
    assert (remote.name, remote.kind, remote.shape) == ("clothes", "image", (8, 8, 3))
    assert (remote.latent_dim, remote.num_classes) == (6, 3)
    np.testing.assert_allclose(remote.generate([4, 5]), bundle.generate([4, 5]), atol=1e-6)
    assert remote.sample([4, 5])["labels"].tolist() == [1, 2]


# ---------------------------------------------------------------------------- keras-gan serve


@pytest.fixture(scope="module")
def running(bundle):
    """Runs `keras-gan serve` in a new process."""
    from servers import Serving

    with Serving(bundle.path) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize("protocol", ["keras_gan", "v2", "tf_serving"])
def test_the_server_returns_the_same_samples_by_each_of_its_protocols(running, bundle, protocol):
    client = Client(f"{running}/clothes", protocol=protocol, bundle=bundle.path)
    seeds = [7, 8, 2**40]
    np.testing.assert_allclose(client.generate(seeds), bundle.generate(seeds), atol=1e-6)
    some = client.generate(seeds, labels=["shoe", 2, 0], truncation=0.5)
    np.testing.assert_allclose(some, bundle.generate(seeds, [1, 2, 0], 0.5), atol=1e-6)
    z = latents_from_seeds([5, 9, 11], bundle.latent_dim)
    walk = client.generate(interpolate=[5, 9, 11], count=7)
    np.testing.assert_allclose(
        walk, expected(bundle, interpolation.interpolate(z, 7), [2] * 7), atol=1e-5
    )
    looped = client.generate(interpolate=[5, 9, 11], count=9, loop=True, easing="smooth")
    np.testing.assert_allclose(
        looped,
        expected(bundle, interpolation.interpolate(z, 9, True, "smooth"), [2] * 9),
        atol=1e-5,
    )
    near = client.generate(around=5, radius=0.6, seeds=[9, 11], labels="bag")
    np.testing.assert_allclose(near, expected(bundle, 0.8 * z[0] + 0.6 * z[1:], [2, 2]), atol=1e-5)
    drawn = pictures.to_uint8(bundle.generate([7, 8]))
    for content, picture in zip(client.pictures([7, 8]), drawn, strict=True):
        image = Image.open(io.BytesIO(content))
        assert np.abs(np.asarray(image).astype(int) - picture).max() <= 1
        assert image.info["Model"] == "clothes"
    (model,) = client.models()
    assert (model["name"], model["version"], model["shape"]) == ("clothes", 1, [8, 8, 3])


def test_the_server_is_detected_and_its_error_lines_are_raised(running, bundle):
    client = Client(running)
    np.testing.assert_allclose(client.generate(range(100)), bundle.generate(range(100)), atol=1e-6)
    assert client.session.server == ("keras_gan", "", None)
    with pytest.raises(ServerError, match="A label must be 0 to 2") as caught:
        client.generate([1], labels="hat")
    assert caught.value.status == 400
    with pytest.raises(ServerError, match="`version` of 'clothes' must be one of 1") as caught:
        client.generate([1], version=7)
    assert caught.value.status == 404

    async def ask():
        async with AsyncClient(running) as many:
            return await asyncio.gather(*(many.generate([seed]) for seed in range(20)))

    made = np.concatenate(asyncio.run(ask()))
    np.testing.assert_allclose(made, bundle.generate(range(20)), atol=1e-6)


# ------------------------------------------------------------------------------ interpolation


def test_interpolation_has_equal_angles_and_passes_its_stations():
    z = np.array([[2.0, 0.0], [0.0, 2.0], [-4.0, 0.0]])
    walk = interpolation.interpolate(z, 5)
    np.testing.assert_allclose(walk[::2], z, atol=1e-6)
    np.testing.assert_allclose(walk[1], [np.sqrt(2), np.sqrt(2)], atol=1e-6)
    np.testing.assert_allclose(walk[3], np.array([-4.0, 2.0]) * np.sqrt(0.5), atol=1e-6)
    np.testing.assert_array_equal(interpolation.interpolate(z, 1), z[:1])
    np.testing.assert_array_equal(interpolation.interpolate(z[:1], 3), z[[0, 0, 0]])
    same = interpolation.interpolate(np.array([[1.0, 1.0], [1.0, 1.0]]), 3)
    np.testing.assert_allclose(same, np.ones((3, 2)), atol=1e-6)
    opposite = interpolation.interpolate(np.array([[1.0, 0.0], [-1.0, 0.0]]), 3)
    assert np.isfinite(opposite).all()


def test_neighbors_are_as_normal_as_their_center():
    z = latents_from_seeds(range(2000), 8)
    near = interpolation.around(z[0], z[1:], 0.6)
    np.testing.assert_allclose(near[0], 0.8 * z[0] + 0.6 * z[1], atol=1e-6)
    np.testing.assert_allclose((near - 0.8 * z[0]).std(), 0.6, rtol=0.02)
