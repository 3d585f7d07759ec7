"""Tests of the clients with networks of given inputs and several outputs: ours, Triton's, curl."""

import asyncio
import io
import shutil
import subprocess
import wave

import numpy as np
import pytest
import tiny
from PIL import Image
from servers import Serving

import serving
from serving import AsyncClient, Client, ServerError, UsageError, kinds, pictures
from serving.client import RemoteBundle

NETWORKS = ("translator", "two_latents", "conditioned", "classifier", "clothes")
PROTOCOLS = ("keras_gan", "v2", "tf_serving")
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 255, (5, 4, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Bundles by the name of their function in `tiny`."""
    folder = tmp_path_factory.mktemp("networks")
    return {name: serving.Bundle(getattr(tiny, name)(folder / name)) for name in NETWORKS}


@pytest.fixture(scope="module")
def url(found):
    with Serving(*(bundle.path for bundle in found.values()), "--no-access-log") as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture(params=PROTOCOLS)
def client(request, url, found):
    """Opens a client of a network by a protocol."""

    def connect(name, **options):
        bundle = found[name]
        own = {} if request.param == "keras_gan" else {"bundle": bundle.path}
        return Client(f"{url}/{bundle.name}", protocol=request.param, **own, **options)

    return connect


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


SMALL = png(PIXELS[:4, :4])  # of the classifier's size


def picture(pixels=PIXELS):
    return kinds.get("image").decode(png(pixels), "png", (None, None, 3))[np.newaxis]


# ------------------------------------------------------------------------------ our clients


def test_a_picture_is_given_as_an_array_or_as_a_file(client, found, tmp_path):
    (tmp_path / "x.png").write_bytes(png(PIXELS))
    bundle, to = found["translator"], client("translator")
    wanted = bundle.generate([3, 4], picture=picture())
    np.save(tmp_path / "x.npy", PIXELS)
    paths = tmp_path / "x.png", str(tmp_path / "x.png"), tmp_path / "x.npy"
    for value in (picture(), png(PIXELS), PIXELS[np.newaxis], *paths):
        np.testing.assert_allclose(to.generate([3, 4], picture=value), wanted, atol=1e-5)
    without = bundle.generate(picture=picture())
    np.testing.assert_allclose(to.generate(picture=picture()), without, atol=1e-5)
    np.testing.assert_allclose(to.generate(picture=png(PIXELS)), without, atol=1e-5)
    noise = np.zeros((2, 5, 4, 1), np.float32)
    both = to.generate([3, 4], picture=picture(), noise=noise)
    np.testing.assert_allclose(
        both, bundle.generate([3, 4], picture=picture(), noise=noise), atol=1e-5
    )
    walk = to.generate(interpolate=[3, 4], count=3, picture=picture())
    np.testing.assert_allclose(walk[[0, 2]], wanted, atol=1e-5)
    near = to.generate([4, 5], around=3, radius=0.0, picture=picture())
    np.testing.assert_allclose(near, wanted[[0, 0]], atol=1e-5)


def test_given_arrays_are_sent_in_parts(client, found):
    ages = np.arange(7, dtype=np.float32)[:, np.newaxis]
    samples = client("conditioned", batch_size=3).generate(range(7), condition=ages)
    assert samples[:, 3].tolist() == list(range(7))
    wanted = found["conditioned"].generate(range(7), condition=ages)
    np.testing.assert_allclose(samples, wanted, atol=1e-5)
    one = client("conditioned", batch_size=3).generate(range(7), condition=[[2.5]])
    assert one[:, 3].tolist() == [2.5] * 7


def test_all_outputs_by_name(client, found):
    for name, seeds, given in (
        ("two_latents", [1, 2, 3], {}),
        ("classifier", None, {"picture": RNG.uniform(-1, 1, (3, 4, 4, 1)).astype(np.float32)}),
    ):
        bundle = found[name]
        outputs = client(name, batch_size=2).outputs(seeds, **given)
        wanted = bundle.sample(seeds, **given)
        assert list(outputs) == [port.name for port in bundle.outputs]
        for key, array in outputs.items():
            np.testing.assert_allclose(array, wanted[key], atol=1e-5)
    cut = client("two_latents").generate([1], truncation=0.5)
    np.testing.assert_allclose(cut, found["two_latents"].generate([1], None, 0.5), atol=1e-5)


def test_files_follow_the_kind(client, found):
    (sound,) = client("two_latents").files([4])
    with wave.open(io.BytesIO(sound)) as opened:
        assert (opened.getframerate(), opened.getnframes()) == (8000, 16)
    assert len(client("two_latents").files([4, 5], format="wav")) == 2
    (row,) = client("conditioned").files([4], condition=[[3.0]])
    assert row.decode().splitlines()[0] == "a,b,c,age"
    (label,) = client("classifier").files(picture=np.ones((1, 4, 4, 1), np.float32))
    assert label.decode().strip() in tiny.NAMES
    drawn = pictures.to_uint8(found["translator"].generate([3], picture=picture()))[0]
    for value in (picture(), png(PIXELS), PIXELS[np.newaxis]):
        (made,) = client("translator").pictures([3], picture=value)
        made = np.asarray(Image.open(io.BytesIO(made))).astype(int)
        assert np.abs(made - drawn).max() <= 1
    (array,) = client("two_latents").files([4], format="npy")
    assert np.load(io.BytesIO(array)).shape == (16, 1)
    with pytest.raises(UsageError, match="kind 'audio' are files of wav, npy"):
        client("two_latents").pictures([1])


MISTAKES = [
    ("classifier", {}, "named by `seeds`"),
    ("classifier", {"seeds": [1]}, "`seeds` needs a network with random inputs"),
    ("classifier", {"seed": 1, "picture": np.ones((1, 4, 4, 1))}, "`seed` needs a network with"),
    ("classifier", {"seeds": [1], "picture": SMALL}, "`seeds` needs"),
    ("classifier", {"truncation": 0.5, "picture": np.ones((1, 4, 4, 1))}, "`truncation` needs"),
    ("classifier", {"truncation": 0.5, "picture": SMALL}, "`truncation` needs"),
    ("clothes", {"seeds": [1], "truncation": 2, "latents": np.ones((1, 6))}, "all given"),
    (
        "clothes",
        {"seeds": [1], "labels": "1"},
        "a class name, shirt, shoe, bag; ids",
    ),
    ("clothes", {"seeds": [1, 2], "labels": ["2", "bag"]}, "2, are numbers. .*label='2'"),
    ("clothes", {"seeds": [1], "labels": "0", "latents": np.ones((1, 6))}, "label='0'"),
    ("classifier", {"picture": "/dev/null/x.png"}, "must be an array or a file"),
    ("classifier", {"picture": np.ones((1, 5, 4, 1))}, r"\(batch, 4, 4, 1\)"),
    ("classifier", {"picture": np.full((1, 4, 4, 1), np.nan)}, "finite"),
    ("classifier", {"picture": np.full((2, 4, 4, 1), 255.0)}, r"\[-1, 1\] .*from 255 to 255"),
    ("classifier", {"picture": np.full((1, 4, 4, 1), 128)}, r"\[-1, 1\] .*from 128 to 128"),
    ("classifier", {"picture": np.full((1, 4, 4, 1), -1.1)}, r"\[-1, 1\]. .*from -1.1 to -1.1"),
    ("classifier", {"picture": png(PIXELS)}, r"shape \(4, 4, 1\)"),
    ("classifier", {"picture": b"nothing"}, "readable PNG file"),
    ("translator", {"seeds": [1], "pikture": picture()}, "The inputs are picture, noise"),
    ("translator", {"seeds": [1, 2, 3], "picture": np.ones((2, 5, 4, 3))}, "each of 3"),
    ("conditioned", {"seeds": [1], "condition": [["a"]]}, "array of numbers"),
]


def test_a_number_of_samples_names_no_seeds(client, found):
    bundle, to = found["classifier"], client("classifier", batch_size=2)
    given = kinds.get("image").decode(SMALL, "png", (4, 4, 1))[np.newaxis]
    wanted = bundle.generate(picture=given)
    np.testing.assert_allclose(to.generate(picture=SMALL), wanted, atol=1e-5)
    for value in (SMALL, given):
        several = to.generate(count=3, picture=value)
        np.testing.assert_allclose(several, wanted.repeat(3, axis=0), atol=1e-5)
        assert len(to.files(count=3, picture=value)) == 3


def test_an_id_stays_an_id_beside_a_file(tmp_path):
    """The address of a request with a file holds texts only, which are names."""
    bundle = serving.Bundle(tiny.recolored(tmp_path / "recolored", ("1", "0", "2, 3")))
    given = kinds.get("image").decode(SMALL, "png", (None, None, 3))[np.newaxis]
    with Serving(bundle.path) as server, Client(f"http://127.0.0.1:{server.port}") as client:
        for labels in (1, "1", "2, 3", [0, 1, 2], [2, "1", "0"]):
            seeds = range(3 if isinstance(labels, list) else 1)
            wanted = bundle.generate(seeds, labels=labels, picture=given)
            made = client.generate(seeds, labels=labels, picture=SMALL)
            np.testing.assert_allclose(made, wanted, atol=1e-5)
            (first, *_) = client.files(seeds, labels=labels, picture=SMALL)
            drawn = pictures.to_uint8(wanted)[0].astype(int)
            assert np.abs(np.asarray(Image.open(io.BytesIO(first))) - drawn).max() <= 1


@pytest.mark.parametrize(("name", "arguments", "rule"), MISTAKES)
def test_a_mistake_is_one_line(client, name, arguments, rule):
    with pytest.raises(UsageError, match=rule) as caught:
        client(name).generate(**arguments)
    assert "\n" not in str(caught.value)


def test_the_async_client_takes_the_same(url, found):
    async def ask():
        async with AsyncClient(f"{url}/translator") as to, AsyncClient(f"{url}/two-latents") as two:
            return await asyncio.gather(
                to.generate([3], picture=png(PIXELS)),
                two.outputs([1]),
                two.files([1], format="wav"),
            )

    made, outputs, (sound,) = asyncio.run(ask())
    wanted = found["translator"].generate([3], picture=picture())
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    assert list(outputs) == ["samples", "energy"]
    assert sound[:4] == b"RIFF"


def test_a_remote_bundle_gives_outputs_and_inputs(url, found):
    for name, seeds, given in (
        ("two-latents", [1, 2], {}),
        ("classifier", None, {"picture": np.ones((2, 4, 4, 1), np.float32)}),
        ("clothes", [5, 6], {}),
    ):
        bundle = found[name.replace("-", "_")]
        near, far = (
            bundle.sample(seeds, **given),
            RemoteBundle(f"{url}/{name}").sample(seeds, **given),
        )
        assert sorted(near) == sorted(far)
        for key, array in near.items():
            np.testing.assert_allclose(far[key], array, atol=1e-5)


def test_models_are_described(url):
    entries = {entry["name"]: entry for entry in Client(url).models()}
    assert entries["classifier"]["role"] == "classifier"
    (port,) = entries["classifier"]["inputs"]
    assert (port["name"], port["fill"], port["kind"]) == ("picture", "given", "image")
    assert [port["name"] for port in entries["two-latents"]["outputs"]] == ["samples", "energy"]
    assert entries["translator"]["shape"] == ["height", "width", 3]


def test_a_server_that_does_not_say_how_inputs_are_filled_needs_the_bundle(url):
    with pytest.raises((UsageError, ServerError)) as caught:
        Client(f"{url}/two-latents", protocol="tf_serving").outputs([1])
    assert "bundle" in str(caught.value)


# ---------------------------------------------------------------------- clients of others


def test_tritonclient_gives_tensors_and_takes_all_outputs(url, found):
    http = pytest.importorskip("tritonclient.http")

    def infer(client, bundle, **arrays):
        inputs = []
        for name, array in arrays.items():
            datatype = {"f": "FP32", "i": "INT64"}[array.dtype.kind]
            inputs.append(http.InferInput(name, list(array.shape), datatype))
            inputs[-1].set_data_from_numpy(array)
        outputs = [http.InferRequestedOutput(port.name) for port in bundle.outputs]
        done = client.infer(bundle.name, inputs, outputs=outputs)
        return {port.name: done.as_numpy(port.name) for port in bundle.outputs}

    given = {
        "translator": {"picture": picture()},
        "two_latents": {},
        "conditioned": {"condition": np.full((1, 1), 2.0, np.float32)},
        "classifier": {"picture": np.ones((1, 4, 4, 1), np.float32)},
    }
    with http.InferenceServerClient(url.removeprefix("http://")) as client:
        for name, arrays in given.items():
            bundle = found[name]
            wanted = bundle.sample([7] if bundle.inputs.seeded else None, **arrays)
            seeds = {"seeds": np.array([7])} if bundle.inputs.seeded else {}
            for feeds in (
                seeds | arrays,
                {port.name: wanted[port.name] for port in bundle.inputs.ports},
            ):
                for key, array in infer(client, bundle, **feeds).items():
                    np.testing.assert_allclose(array, wanted[key], atol=1e-5)
            described = client.get_model_metadata(bundle.name)
            assert {x["name"] for x in described["outputs"]} == {p.name for p in bundle.outputs}


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl_sends_files_and_receives_files(url, found, tmp_path):
    (tmp_path / "x.png").write_bytes(png(PIXELS))
    Image.fromarray(PIXELS[:4, :, 0]).save(tmp_path / "small.png")
    (tmp_path / "age.csv").write_text("age\n3.5\n")

    def curl(*options):
        command = ["curl", "-fsS", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    wanted = pictures.to_uint8(found["translator"].generate([3], picture=picture()))[0]
    query = f"{url}/v1/generate?model=translator&seed=3"
    body = ("--data-binary", "@x.png", "-H", "Content-Type: image/png")
    for options in (body, ("-F", "picture=@x.png")):
        made = np.asarray(Image.open(io.BytesIO(curl(*options, query)))).astype(int)
        assert np.abs(made - wanted).max() <= 1
    label = curl("-F", "picture=@small.png", f"{url}/v1/generate?model=classifier&format=txt")
    assert label.decode().strip() in tiny.NAMES
    row = curl(
        "--data-binary",
        "@age.csv",
        "-H",
        "Content-Type: text/csv",
        f"{url}/v1/generate?model=conditioned&seed=1&format=csv",
    )
    assert row.decode().splitlines()[1].endswith(",3.5")
    sound = curl(f"{url}/v1/generate?model=two-latents&seed=1&format=wav")
    assert sound[:4] == b"RIFF"
