"""The seed of a translation: the same answer in Python, on the command line and over HTTP."""

import io

import numpy as np
import pytest
import translators
from PIL import Image
from servers import Serving
from translators import tint

import serving
from serving import Bundle, cli
from serving.client import RemoteBundle
from serving.errors import UsageError

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
PICTURE = {"Content-Type": "image/png"}
LARGEST = 2**63 - 1
NO_NOISE = r"`seed` needs a network with random inputs\. Received: seed=7 for the inputs condition$"


def png(pixels=PIXELS):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def opened(content):
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    translators.tinted(folder / "tinted")
    translators.negative(folder / "negative")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with Serving(folder / "tinted", folder / "negative", "--workers", 2) as found:
        yield found
        assert "Traceback" not in found.log


def test_python_draws_the_latents_of_the_seed(folder):
    bundle = Bundle(folder / "tinted")
    for seed in (0, 7, np.int64(8), LARGEST):
        answer = bundle.translate(PIXELS, seed=seed)
        assert np.abs(answer - tint(PIXELS, int(seed))).max() <= 0.51
        np.testing.assert_array_equal(bundle.translate(PIXELS, seed=seed, tile=16), answer)
    np.testing.assert_array_equal(bundle.translate(PIXELS), bundle.translate(PIXELS, seed=0))
    assert np.abs(tint(PIXELS, 7) - tint(PIXELS, 8)).mean() > 3
    for wrong in (-1, 2**63, 1.5, True, "7"):
        with pytest.raises(UsageError, match=r"`seed` must be an integer from 0 to 2\*\*63 - 1"):
            bundle.translate(PIXELS, seed=wrong)
    with pytest.raises(UsageError, match=NO_NOISE):
        Bundle(folder / "negative").translate(PIXELS, seed=7)


def test_the_command_line_writes_the_seed_into_the_file(folder, tmp_path, capsys):
    (tmp_path / "in.png").write_bytes(png())
    wanted = Bundle(folder / "tinted").translate(PIXELS, seed=7)
    command = ["translate", str(folder / "tinted"), str(tmp_path / "in.png"), "--out"]
    assert cli.main([*command, str(tmp_path / "out.png"), "--seed", "7"]) == 0
    found = Image.open(tmp_path / "out.png")
    np.testing.assert_array_equal(np.asarray(found), wanted)
    assert found.text["Seed"] == "7"
    assert cli.main([*command, str(tmp_path / "tiles.png"), "--seed", "7", "--tile", "16"]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "tiles.png")), wanted)
    assert cli.main([*command, str(tmp_path / "out.png")]) == 0
    assert Image.open(tmp_path / "out.png").text["Seed"] == "0"
    capsys.readouterr()
    assert cli.main([*command, str(tmp_path / "out.png"), "--seed", "-1"]) == 2
    assert "`seed` must be an integer from 0 to 2**63 - 1. Received: seed=-1" in (
        capsys.readouterr().err
    )
    command[1] = str(folder / "negative")
    assert cli.main([*command, str(tmp_path / "out.png"), "--seed", "7"]) == 2
    assert "`seed` needs a network with random inputs" in capsys.readouterr().err
    assert cli.main([*command, str(tmp_path / "plain.png")]) == 0
    assert "Seed" not in Image.open(tmp_path / "plain.png").text


def test_http_and_the_clients_give_the_answer_of_the_bundle(server, folder):
    bundle = Bundle(folder / "tinted")
    for seed in (7, LARGEST):
        wanted = bundle.translate(PIXELS, seed=seed)
        path = f"/v1/translate?model=tinted&seed={seed}"
        for more in ("", "&tile=32"):
            answer = server.ask(path + more, png(), PICTURE)
            assert answer.status == 200, answer.body
            np.testing.assert_array_equal(opened(answer.body), wanted)
        assert Image.open(io.BytesIO(answer.body)).text["Seed"] == str(seed)
        address = f"http://127.0.0.1:{server.port}"
        with serving.Client(address) as client:
            found = client.translate(PIXELS, model="tinted", seed=seed)
        np.testing.assert_array_equal(found, wanted)
        remote = RemoteBundle(f"{address}/tinted")
        np.testing.assert_array_equal(remote.translate(PIXELS, seed=seed), wanted)
    answer = server.ask("/v1/translate?model=tinted", png(), PICTURE)
    np.testing.assert_array_equal(opened(answer.body), bundle.translate(PIXELS, seed=0))
    rows = {"seeds": [7], "inputs": {"condition": ((PIXELS / 127.5 - 1)[np.newaxis]).tolist()}}
    generated = server.ask("/v1/generate", {"model": "tinted", "format": "png", **rows})
    np.testing.assert_array_equal(opened(generated.body), bundle.translate(PIXELS, seed=7))


def test_a_seed_that_is_wrong_or_has_no_effect_is_refused_over_http(server):
    for query, line in (
        ("model=tinted&seed=-1", "`seed` must be an integer from 0 to 2**63 - 1. Received: seed=-"),
        ("model=tinted&seed=x", "`seed` must be an integer. Received: seed='x'"),
        ("model=negative&seed=7", "`seed` needs a network with random inputs. Received: seed=7"),
    ):
        answer = server.ask(f"/v1/translate?{query}", png(), PICTURE)
        assert answer.status == 400
        assert line in answer.error
    with (
        serving.Client(f"http://127.0.0.1:{server.port}") as client,
        pytest.raises(UsageError, match=r"`seed` must be an integer from 0 to .* seed=-1"),
    ):
        client.translate(PIXELS, model="tinted", seed=-1)


def test_concurrent_seeds_are_not_mixed_up(server, folder):
    """Jobs of several seeds share batches."""
    from concurrent.futures import ThreadPoolExecutor

    bundle, body = Bundle(folder / "tinted"), png()

    def ask(seed):
        return opened(server.ask(f"/v1/translate?model=tinted&seed={seed}", body, PICTURE).body)

    with ThreadPoolExecutor(8) as pool:
        for seed, found in enumerate(pool.map(ask, range(24))):
            np.testing.assert_array_equal(found, bundle.translate(PIXELS, seed=seed))


def test_the_openapi_document_has_the_seed(server):
    document = server.ask("/openapi.json").json
    parameters = document["paths"]["/v1/translate"]["post"]["parameters"]
    (seed,) = [p for p in parameters if p["name"] == "seed"]
    assert seed["schema"] == {"type": "integer", "minimum": 0, "maximum": LARGEST}
