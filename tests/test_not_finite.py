"""Samples that are NaN or infinite, by every way: server, client, command, shards, Bundle."""

import asyncio
import io
import json
import tarfile
import warnings

import numpy as np
import onnx
import pytest
import tiny
from servers import Serving

import serving
from serving import cli, kinds
from serving.inputs import Input, Port
from serving.seeds import latents_from_seeds

FLOATS = ("float16", "float32", "float64")
SHAPES = {
    "image": (2, 3, 1),
    "audio": (6, 1),
    "video": (2, 1, 3, 1),
    "text": (2, 3),
    "table": (6,),
    "series": (3, 2),
    "points": (6,),
    "array": (6,),
    "label": (6,),
}
STRONG = 100.0  # a truncation at which most samples are not finite
MILD = 12.0  # one at which some samples are


def overflowing(to, name, kind="array", dtype="float32", limit=20.0):
    """Writes a bundle of two outputs, NaN and infinite where a latent is above a limit.

    samples = sqrt(limit - |z|), energy = 1 / relu(limit - |z|).
    """
    shape = SHAPES[kind]
    meta = {"num_classes": 6} if kind == "label" else {}
    inputs = [Input("latents", "float32", (6,), "array", fill="normal")]
    outputs = [Port("samples", dtype, shape, kind, meta), Port("energy", dtype, (6,), "array")]
    cast = {"to": onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}
    nodes = [
        ("Abs", ["latents"], ["size"], {}),
        ("Sub", ["limit", "size"], ["rest"], {}),
        ("Sqrt", ["rest"], ["root"], {}),
        ("Cast", ["root"], ["values"], cast),
        ("Reshape", ["values", "shape"], ["samples"], {}),
        ("Relu", ["rest"], ["above"], {}),
        ("Reciprocal", ["above"], ["inverse"], {}),
        ("Cast", ["inverse"], ["energy"], cast),
    ]
    weights = {"limit": np.array(limit, np.float32), "shape": np.array([0, *shape], np.int64)}
    model = tiny.network(name, nodes, inputs, outputs, weights)
    return tiny.save(to, name, model, inputs, outputs)


def root(to):
    """Writes a bundle without random inputs: the square root of a given row."""
    inputs = [Input("x", "float32", (2,), "table")]
    outputs = [Port("samples", "float32", (2,), "table")]
    model = tiny.network("root", [("Sqrt", ["x"], ["samples"], {})], inputs, outputs)
    return tiny.save(to, "root", model, inputs, outputs, "translator")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for dtype in FLOATS:
        overflowing(folder / dtype, dtype, "table", dtype)
    for kind in SHAPES:
        overflowing(folder / kind, kind, kind)
    overflowing(folder / "low-image", "low-image", "image", limit=1.5)
    overflowing(folder / "low-audio", "low-audio", "audio", limit=1.5)
    tiny.clothes(folder / "clothes")
    root(folder / "root")
    return folder


@pytest.fixture(scope="module")
def server(models):
    with Serving(models) as it:
        yield it
        assert it.process.poll() is None, "the server must still run after all tests"


@pytest.fixture(scope="module")
def url(server):
    return f"http://127.0.0.1:{server.port}"


def drawn(models, name, seeds=range(8), truncation=STRONG):
    """Returns all outputs of a bundle, and the first seed whose samples are not finite."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", serving.NotFiniteWarning)
        found = serving.Bundle(models / name).sample(seeds, truncation=truncation)
    finite = np.isfinite(found["samples"]).reshape(len(found["samples"]), -1).all(axis=1)
    assert not finite.all()
    assert truncation == STRONG or finite.any()
    return found, int(np.asarray(seeds)[np.argmin(finite)])


def generate(server, model, **fields):
    fields = {"truncation": STRONG, "seed": 0, "count": 8} | fields
    return server.ask("/v1/generate", {"model": model} | fields)


def bad(array):
    return int(array.size - np.isfinite(array).sum())


# ------------------------------------------------------------------------------ /v1/generate


@pytest.mark.parametrize("dtype", FLOATS)
def test_numbers_in_json_are_refused_in_every_dtype(server, models, dtype):
    found, seed = drawn(models, dtype, truncation=MILD)
    answer = generate(server, dtype, format="json", truncation=MILD)
    assert answer.status == 422
    assert "`samples` must be finite numbers in json; npy and npz have" in answer.error
    assert f"Received: samples=nan for seed={seed}, truncation=12, in " in answer.error
    assert f"{bad(found['samples'])} of the batch" in answer.error
    mild = generate(server, dtype, format="json", truncation=1)
    values = np.array([x["values"] for x in mild.json["samples"]])
    np.testing.assert_allclose(values, drawn_finite(models, dtype), rtol=1e-3)


def drawn_finite(models, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return serving.Bundle(models / name).generate(range(8))


@pytest.mark.parametrize("dtype", FLOATS)
def test_arrays_have_such_values_and_a_header_counts_them(server, models, dtype):
    found, _ = drawn(models, dtype, range(40))
    npy = generate(server, dtype, format="npy", count=40)
    array = np.load(io.BytesIO(npy.body))
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, found["samples"])
    assert npy.headers["x-not-finite"] == f"samples={bad(array)}"
    npz = generate(server, dtype, format="npz", count=40)
    arrays = np.load(io.BytesIO(npz.body))
    for name in ("samples", "energy"):
        np.testing.assert_array_equal(arrays[name], found[name])
    counts = f"samples={bad(found['samples'])}, energy={bad(found['energy'])}"
    assert npz.headers["x-not-finite"] == counts
    assert "x-not-finite" not in generate(server, dtype, format="npz", truncation=1).headers
    assert server.log.count(f"for {dtype} version 1\n") == 1  # though there were two responses


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_stream_of_arrays_counts_those_of_its_first_batch(server, models, dtype):
    for count in (3, 8, 40):
        stream = generate(server, dtype, format="npy", count=count, stream=True)
        array = np.load(io.BytesIO(stream.body))
        assert len(array) == count
        found = {f"samples={bad(array[:rows])}" for rows in range(1, count + 1)}
        assert stream.headers["x-not-finite"] in found
        if count == 3:
            assert stream.headers["x-not-finite"] == f"samples={bad(array)}"
    mild = generate(server, dtype, format="npy", count=40, stream=True, truncation=1)
    assert "x-not-finite" not in mild.headers


def formats():
    """Returns the kinds with their formats that have no NaN."""
    found = {name: kinds.get(name).formats for name in SHAPES}
    own = [(name, form.name) for name in SHAPES for form in found[name] if form.encode]
    return own + [(name, form) for name in SHAPES for form in ("json", "grid")]


@pytest.mark.parametrize(("kind", "form"), formats())
def test_no_file_is_made_of_nan(server, models, kind, form):
    _, seed = drawn(models, kind, truncation=MILD)
    for count in (8, 60):
        answer = generate(server, kind, format=form, count=count, truncation=MILD)
        assert answer.status == 422
        assert f"in {form}; npy and npz have NaN and infinity. Received: samples=nan for seed=" in (
            answer.error
        )
    one = generate(server, kind, format=form, seed=seed, count=1, truncation=MILD)
    assert one.status == 422
    assert f"samples=nan for seed={seed}, truncation=12" in one.error
    assert generate(server, kind, format=form, truncation=1).status == 200


def test_an_output_besides_the_samples_counts_where_it_is_sent(server, models):
    """A latent of exactly 20 gives a root of 0 and an infinite inverse."""
    inputs = {"latents": [[20.0, 0, 0, 0, 0, 0]]}
    answer = generate(server, "image", format="json", count=1, inputs=inputs, truncation=1)
    assert answer.status == 422
    assert "`energy` must be finite numbers in json" in answer.error
    assert "energy=inf for seed=0, in 1 of 6 values" in answer.error
    png = generate(server, "image", format="png", count=1, inputs=inputs, truncation=1)
    assert (png.status, png.body[:4]) == (200, b"\x89PNG")
    npz = generate(server, "image", format="npz", count=1, inputs=inputs, truncation=1)
    assert npz.headers["x-not-finite"] == "energy=1"
    npy = generate(server, "image", format="npy", count=1, inputs=inputs, truncation=1)
    assert "x-not-finite" not in npy.headers


def test_a_walk_and_a_given_input_are_named(server):
    walk = {"interpolate": [1, 2], "count": 3, "format": "json", "truncation": STRONG}
    answer = server.ask("/v1/generate", {"model": "array"} | walk)
    assert "samples=nan for between_seeds=1, 2 at 0, truncation=100" in answer.error
    rows = {"x": [[1, 4], [9, 16], [4, -1]]}
    answer = server.ask("/v1/generate", {"model": "root", "inputs": rows, "format": "csv"})
    assert answer.status == 422
    assert "samples=nan for sample 2, in 1 of 2 values" in answer.error


@pytest.mark.parametrize("form", ["json", "png"])
def test_a_stream_ends_with_the_error(server, models, form):
    largest = np.abs(latents_from_seeds(range(40), 6)).max()
    truncation = float(19.99 / largest)  # so that the first two batches are finite
    found, seed = drawn(models, "image", range(200), truncation)
    assert seed >= 40
    fields = {"format": form, "truncation": truncation, "count": 200, "stream": True}
    answer = generate(server, "image", **fields)
    assert answer.status == 200
    *lines, last = answer.body.splitlines()
    assert 0 < len(lines) <= seed
    error = json.loads(last)["error"]
    assert f"`samples` must be finite numbers in {form};" in error
    assert f"samples=nan for seed={seed}, truncation={truncation:g}" in error
    first = generate(server, "image", **fields | {"truncation": STRONG})
    assert first.status == 422
    npy = generate(server, "image", **fields | {"format": "npy"})
    np.testing.assert_array_equal(np.load(io.BytesIO(npy.body)), found["samples"])


# ------------------------------------------------------------------------------ V2


def infer(server, model, **fields):
    seeds = {"name": "seeds", "shape": [40], "datatype": "INT64", "data": list(range(40))}
    content = {"inputs": [seeds], "parameters": {"truncation": STRONG}} | fields
    return server.ask(f"/v2/models/{model}/infer", content)


@pytest.mark.parametrize("dtype", FLOATS)
def test_v2_refuses_them_in_json_and_sends_them_as_bytes(server, models, dtype):
    found, seed = drawn(models, dtype, range(40))
    answer = infer(server, dtype)
    assert answer.status == 422
    assert "`samples` must be finite numbers in JSON; binary_data has NaN" in answer.error
    assert f"samples=nan for seed={seed}, truncation=100" in answer.error
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in found if
               name in ("energy", "samples")]  # fmt: skip
    answer = infer(server, dtype, outputs=outputs)
    size = int(answer.headers["inference-header-content-length"])
    start = size
    for output in json.loads(answer.body[:size])["outputs"]:
        length = output["parameters"]["binary_data_size"]
        array = np.frombuffer(answer.body[start : start + length], dtype)
        np.testing.assert_array_equal(array.reshape(output["shape"]), found[output["name"]])
        assert f"{output['name']}={bad(array)}" in answer.headers["x-not-finite"]
        start += length
    mixed = infer(server, dtype, outputs=[outputs[0], {"name": outputs[1]["name"]}])
    assert (mixed.status, "`energy`" in mixed.error or "`samples`" in mixed.error) == (422, True)


def test_v2_names_the_sample_of_given_latents(server):
    latents = {"name": "latents", "shape": [3, 6], "datatype": "FP32"}
    data = [0.0] * 12 + [0, 0, 30, 0, 0, 0]
    answer = infer(server, "array", inputs=[latents | {"data": data}], parameters={})
    assert "samples=nan for sample 2, in 1 of 6 values" in answer.error


def test_tritonclient_gets_them_as_bytes(server, models):
    module = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    utils = pytest.importorskip("tritonclient.utils")
    found, _ = drawn(models, "audio")
    given = module.InferInput("seeds", [8], "INT64")
    given.set_data_from_numpy(np.arange(8))
    with module.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        options = {"parameters": {"truncation": STRONG}}
        result = client.infer("audio", [given], **options)
        np.testing.assert_array_equal(result.as_numpy("samples"), found["samples"])
        wanted = [module.InferRequestedOutput("samples", binary_data=False)]
        with pytest.raises(utils.InferenceServerException, match="finite numbers in JSON"):
            client.infer("audio", [given], outputs=wanted, **options)


# ------------------------------------------------------------------------------ TensorFlow Serving


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rows", [True, False])
def test_predict_writes_nan_as_tensorflow_serving_does(server, models, dtype, rows):
    """json_tensor.cc of TensorFlow Serving: NaN, Infinity and -Infinity."""
    path = f"/v1/models/{dtype}:predict"
    bundle = serving.Bundle(models / dtype)
    latents = np.zeros((3, 6), np.float32)
    latents[1] = (0.3, 20, 25, -30, 1, 2)
    expected = bundle.run({"latents": latents})
    content = {"instances" if rows else "inputs": latents.tolist()}
    answer = server.ask(path, content)
    assert answer.status == 200
    assert b"NaN" in answer.body
    assert b"Infinity" in answer.body
    assert b"null" not in answer.body
    found = answer.json["predictions" if rows else "outputs"]
    for name in ("samples", "energy"):
        array = np.array([x[name] for x in found] if rows else found[name], dtype)
        np.testing.assert_array_equal(array, expected[name])
    counts = f"samples={bad(expected['samples'])}, energy={bad(expected['energy'])}"
    assert answer.headers["x-not-finite"] == counts
    # Finite samples of the response have the digits of a response that is finite.
    content = {"instances": latents[:1].tolist()}
    finite = server.ask(path, content).body
    if rows:
        start = finite.index(b"{", 1)
        assert finite[start : finite.index(b"}") + 1] in answer.body


@pytest.mark.parametrize(("kind", "form"), [("image", "png"), ("audio", "wav")])
def test_predict_makes_no_picture_or_sound_of_nan(server, models, url, kind, form):
    name = f"low-{kind}"
    found, seed = drawn(models, name, range(8), 1.0001)
    path, content = f"/v1/models/{name}:predict", {"instances": list(range(8))}
    answer = server.ask(path, content | {"signature_name": f"generate_{form}"})
    assert answer.status == 422
    assert f"`samples` must be finite numbers in {form}; other signatures have" in answer.error
    assert f"samples=nan for seed={seed}, in " in answer.error
    answer = server.ask(path, content | {"signature_name": "generate"})
    array = np.array([x["samples"] for x in answer.json["predictions"]])
    np.testing.assert_array_equal(np.isnan(array), np.isnan(found["samples"]))
    options = {"protocol": "tf_serving", "bundle": models / name}
    with serving.Client(f"{url}/{name}", **options) as client:
        with pytest.raises(serving.ServerError, match=f"for seed={seed}, in") as caught:
            client.files(range(8), format=form)
        assert caught.value.status == 422


# ------------------------------------------------------------------------------ Bundle


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_bundle_warns_and_counts(models, dtype):
    found, seed = drawn(models, dtype, truncation=MILD)
    bundle = serving.Bundle(models / dtype)
    with pytest.warns(serving.NotFiniteWarning) as caught:
        samples = bundle.generate(range(8), truncation=MILD, batch_size=3)
    np.testing.assert_array_equal(samples, found["samples"])
    assert [str(w.message) for w in caught] == [
        f"Samples should be finite numbers. Received: {bad(samples)} NaN or infinite values in "
        f"samples, first for seed={seed}, truncation=12, of 8 samples"
    ]
    assert caught[0].filename == __file__
    with pytest.warns(serving.NotFiniteWarning, match=f"{bad(found['energy'])} .* in energy"):
        bundle.sample(range(8), truncation=MILD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bundle.sample(range(8))
        serving.Bundle(models / "clothes").sample(range(8), truncation=STRONG)


def test_a_bundle_names_the_sample_of_a_given_input(models):
    with pytest.warns(serving.NotFiniteWarning, match="first for sample 1, of 2 samples"):
        serving.Bundle(models / "root").generate(x=np.array([[1, 4], [9, -1]], np.float32))


@pytest.mark.parametrize(("kind", "form"), [x for x in formats() if x[1] != "grid"])
def test_encoders_refuse_nan_and_infinity(kind, form):
    for value in (np.nan, np.inf, -np.inf):
        for dtype in FLOATS:
            sample = np.zeros(SHAPES[kind], dtype)
            sample.flat[3] = value
            with pytest.raises(serving.NotFiniteError, match=f"in a {form} file. .* 1 NaN or inf"):
                kinds.get(kind).encode(sample, form)


def test_arrays_are_encoded_with_nan():
    sample = np.array([1, np.nan, -np.inf], np.float32)
    for form in ("npy", "npz"):
        found = np.load(io.BytesIO(kinds.get("array").encode(sample, form)))
        np.testing.assert_array_equal(found if form == "npy" else found["samples"], sample)


# ------------------------------------------------------------------------------ the client


def test_the_client_warns_as_a_bundle_does(url, models):
    found, seed = drawn(models, "audio", truncation=MILD)
    for protocol in ("keras_gan", "v2", "tf_serving"):
        options = {} if protocol == "keras_gan" else {"bundle": models / "audio"}
        client = serving.Client(url, protocol=protocol, batch_size=3, **options)
        with client, pytest.warns(serving.NotFiniteWarning) as caught:
            samples = client.generate(range(8), model="audio", truncation=MILD)
        np.testing.assert_array_equal(samples, found["samples"])
        (warning,) = caught
        assert f"{bad(samples)} NaN or infinite values in samples, first for seed={seed}, " in str(
            warning.message
        )
        with client, pytest.warns(serving.NotFiniteWarning, match="in energy"):
            outputs = client.outputs(range(8), model="audio", truncation=MILD)
        np.testing.assert_array_equal(outputs["energy"], found["energy"])


def test_the_client_makes_no_files_of_nan(url, models):
    for protocol in ("keras_gan", "v2", "tf_serving"):
        options = {} if protocol == "keras_gan" else {"bundle": models / "audio"}
        with serving.Client(url, protocol=protocol, **options) as client:
            with pytest.raises(serving.UsageError, match="`samples` must be finite numbers in wav"):
                client.files(range(8), model="audio", truncation=STRONG)
            arrays = client.files([0], model="audio", truncation=STRONG, format="npy")
            assert np.isnan(np.load(io.BytesIO(arrays[0]))).any()
            with pytest.raises(serving.UsageError, match="must be finite numbers in json"):
                client.files([0], model="audio", truncation=STRONG, format="json")

    async def main():
        async with serving.AsyncClient(url) as client:
            with pytest.raises(serving.ServerError, match="for seed=0, truncation=100") as caught:
                await client.pictures([0], model="image", truncation=STRONG)
            assert caught.value.status == 422

    asyncio.run(main())


# ------------------------------------------------------------------------------ the command


def sample(path, *options):
    return cli.main(["sample", str(path), *map(str, options)])


@pytest.mark.parametrize("out", ["x.png", "x.wav", "x.json", "each"])
@pytest.mark.parametrize("remote", [False, True])
def test_sample_writes_no_file_of_nan(models, url, tmp_path, capsys, out, remote):
    _, seed = drawn(models, "audio", truncation=MILD)
    path = f"{url}/audio" if remote else models / "audio"
    count = ["--count", 1, "--seed", seed] if out == "x.wav" else ["--count", 8]
    each = ["--each"] if out == "each" else []
    options = ["--out", tmp_path / out, "--truncation", MILD, *count, *each]
    assert sample(path, *options) == 2
    form = "wav" if out == "each" else out[2:]
    error = capsys.readouterr().err
    assert error.startswith(f"keras-gan: error: `samples` must be finite numbers in {form};")
    assert f"samples=nan for seed={seed}, truncation=12" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("remote", [False, True])
def test_sample_writes_arrays_of_nan_with_one_warning(models, url, tmp_path, capsys, remote):
    found, seed = drawn(models, "audio", range(40), MILD)
    path = f"{url}/audio" if remote else models / "audio"
    options = ["--truncation", MILD, "--count", 40, "--batch-size", 7]
    for out, names in (("x.npy", ["samples"]), ("x.npz", ["samples", "energy"])):
        assert sample(path, "--out", tmp_path / out, *options) == 0
        printed = capsys.readouterr()
        counts = [f"{bad(found[name])} NaN or infinite values in {name}" for name in names]
        assert printed.err.startswith("keras-gan: warning: Samples should be finite")
        assert all(count in printed.err for count in counts)
        assert f"first for seed={seed}, truncation=12" in printed.err
        assert printed.err.endswith("of 40 samples\n")
        assert printed.err.count("\n") == 1
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), found["samples"])
    np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["energy"], found["energy"])


# ------------------------------------------------------------------------------ shards


@pytest.mark.parametrize("form", ["webdataset", "tfrecord"])
def test_no_shard_has_a_picture_of_nan(models, tmp_path, capsys, form):
    _, seed = drawn(models, "image", truncation=MILD)
    options = ["--format", form, "--count", 8, "--truncation", MILD, "--workers", 1]
    assert sample(models / "image", "--out", f"{tmp_path}/x/", *options) == 2
    error = capsys.readouterr().err
    assert "`samples` must be finite numbers in png; the npz format has NaN" in error
    assert f"samples=nan for seed={seed}, truncation=12" in error
    assert error.count("\n") == 1
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["index.json"]


@pytest.mark.parametrize(
    ("name", "form"), [("image", "npz"), ("points", "webdataset"), ("points", "tfrecord")]
)
def test_shards_of_arrays_count_them(models, tmp_path, capsys, name, form):
    found, _ = drawn(models, name, range(16), MILD)
    options = ["--format", form, "--count", 16, "--shard-size", 8, "--truncation", MILD]
    assert sample(models / name, "--out", f"{tmp_path}/x/", *options, "--workers", 1) == 0
    total = bad(found["samples"]) + bad(found["energy"])
    error = capsys.readouterr().err
    assert error.startswith("keras-gan: warning: Samples should be finite numbers; index.json")
    assert error.endswith(f"Received: {total} NaN or infinite values in 16 samples\n")
    index = json.loads((tmp_path / "x" / "index.json").read_text())
    halves = [bad(found["samples"][s]) + bad(found["energy"][s]) for s in
              (slice(0, 8), slice(8, 16))]  # fmt: skip
    assert [shard.get("not_finite", 0) for shard in index["shards"]] == halves
    if form == "npz":
        arrays = np.load(tmp_path / "x" / index["shards"][0]["name"])
        np.testing.assert_array_equal(arrays["samples"], found["samples"][:8])
    if form == "webdataset":
        with tarfile.open(tmp_path / "x" / index["shards"][0]["name"]) as tar:
            content = tar.extractfile(f"{0:019d}.npy").read()  # type: ignore[union-attr]
        np.testing.assert_array_equal(np.load(io.BytesIO(content)), found["samples"][0])
    assert sample(models / name, "--out", f"{tmp_path}/y/", *options[:-2], "--workers", 1) == 0
    assert capsys.readouterr().err == ""
