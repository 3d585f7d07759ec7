"""Videos of any number of frames without TensorFlow: Python, files, the command, HTTP, clients."""

import asyncio
import gc
import http.client
import io
import json
import re
import tracemalloc
import weakref

import films
import numpy as np
import pytest
import tiny
from films import CHUNK, CLASSES, FRAMES, SIZE, reference
from PIL import Image, ImageSequence
from servers import Serving, until

import serving
from serving import cli, film_files, seeds
from serving.app import App
from serving.client import AsyncClient, Client
from serving.endless import MAX_FRAMES, VideoStream, stream_video
from serving.engine import Expired
from serving.errors import NotFiniteError, UsageError
from serving.generate import films as generated_films
from serving.http_types import Request
from serving.limits import Settings
from serving.loading import Served
from serving.manifest import read_manifest
from serving.telemetry import Log


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("films")


@pytest.fixture(scope="module")
def path(folder):
    return films.write(folder / "film")


@pytest.fixture(scope="module")
def bundle(path):
    return serving.Bundle(path, threads=1)


def pixels(frames):
    return np.rint(np.clip((frames + 1) * 127.5, 0, 255)).astype(int)


# ------------------------------------------------------------------------ seeds


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 5, 2**63 - 1])
@pytest.mark.parametrize("stream", [0, 3])
def test_parts_of_the_normal_numbers_are_those_of_the_whole(seed, stream):
    whole = seeds.normals(np.array([seed]), 901, stream)[0]
    for first, size in ((0, 1), (0, 901), (1, 2), (4, 7), (333, 400), (900, 1), (5, 0)):
        part = seeds.normals(np.array([seed]), size, stream, first)[0]
        assert part.dtype == np.float32
        np.testing.assert_array_equal(part, whole[first : first + size])


# ------------------------------------------------------------------------ Python


@pytest.mark.parametrize("frames", [1, 3, CHUNK, CHUNK + 1, 2 * CHUNK, FRAMES, 50])
def test_frames_are_those_of_the_formula(bundle, frames):
    found = np.stack(list(stream_video(bundle, 7, frames, "square")))
    assert (found.shape, found.dtype) == ((frames, *SIZE), np.float32)
    np.testing.assert_allclose(found, reference(7, frames, 1), atol=1e-6)


def test_a_longer_video_begins_with_the_clip_of_the_whole_network(bundle):
    found = np.stack(list(stream_video(bundle, 12, 3 * FRAMES)))
    np.testing.assert_allclose(found[:FRAMES], bundle.generate([12])[0], atol=1e-6)
    np.testing.assert_array_equal(found[:9], np.stack(list(stream_video(bundle, 12, 9))))


def test_a_bundle_without_its_second_graph_is_refused(folder):
    to = films.write(folder / "less", "less")
    (to / "stream.onnx").unlink()
    manifest = json.loads((to / "manifest.json").read_text())
    del manifest["files"]["stream.onnx"]
    (to / "manifest.json").write_text(json.dumps(manifest))
    tiny.seal(to)
    line = r"^A bundle of this kind must hold stream\.onnx\. Received: '.*less'$"
    with pytest.raises(UsageError, match=line):
        stream_video(serving.Bundle(to, threads=1), 0, 5)


def test_labels_and_truncation(bundle):
    own = np.stack(list(stream_video(bundle, 5, 8)))
    np.testing.assert_allclose(own, reference(5, 8, 5 % len(CLASSES)), atol=1e-6)
    half = np.stack(list(stream_video(bundle, 5, 8, 2, truncation=0.5)))
    np.testing.assert_allclose(half, reference(5, 8, 2, 0.5), atol=1e-6)


def test_a_generator_without_classes(folder):
    plain = serving.Bundle(films.write(folder / "plain", "plain", classes=False), threads=1)
    found = np.stack(list(stream_video(plain, 3, 9)))
    np.testing.assert_allclose(found, reference(3, 9, classes=False), atol=1e-6)
    with pytest.raises(UsageError, match=r"^Bundle 'plain' takes no labels. Received: labels=1$"):
        stream_video(plain, 3, 9, 1)


def test_frames_are_made_as_they_are_asked_for_in_constant_memory(bundle):
    frames = stream_video(bundle, 1, MAX_FRAMES)
    next(frames)
    tracemalloc.start()
    try:
        for _ in range(40):
            next(frames)
        low = tracemalloc.get_traced_memory()[0]
        for _ in range(400):
            next(frames)
        assert tracemalloc.get_traced_memory()[0] < low + 20_000  # 400 frames are 38,400 bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("frames", [0, -1, 1.0, True, "5", MAX_FRAMES + 1])
def test_a_number_of_frames_out_of_range_is_refused(bundle, frames):
    line = (
        r"^`frames` must be an integer from 1 to 1000000. Received: frames="
        rf"{re.escape(repr(frames))}$"
    )
    with pytest.raises(UsageError, match=line):
        stream_video(bundle, 0, frames)


def test_seeds_labels_and_truncations_that_are_refused(bundle):
    for arguments, line in (
        ((-1, 5), "A seed must be at least 0"),
        (([1, 2], 5), "A video of `frames` has one seed. Received: 2 seeds"),
        ((1, 5, "star"), "star"),
        ((1, 5, None, -1.0), "`truncation` must be"),
    ):
        with pytest.raises(UsageError, match=line):
            stream_video(bundle, *arguments)


def test_a_generator_without_content_and_motion_apart_refuses(folder):
    fixed = serving.Bundle(films.write(folder / "fixed", "fixed", endless=False), threads=1)
    line = (
        r"^`frames` needs a generator of video with content and motion apart \(architecture "
        r"video\). Received: frames=100, model 'fixed', which makes 6 frames$"
    )
    with pytest.raises(UsageError, match=line):
        stream_video(fixed, 0, 100)
    points = serving.Bundle(tiny.points(folder / "points"), threads=1)
    with pytest.raises(UsageError, match=r"which makes no videos$"):
        stream_video(points, 0, 100)


def test_frames_that_are_not_finite_are_refused(bundle):
    film = bundle.video.film(0, 0)

    def run(feeds):
        samples = np.zeros((1, CHUNK, *SIZE), np.float32)
        samples[0, 1, 0, 0] = np.nan if feeds["state"][0, 1] else 0
        return samples, np.ones((1, 2), np.float32)

    parts = film.chunks(10, run)
    assert next(parts).shape == (CHUNK, *SIZE)
    with pytest.raises(NotFiniteError, match=r"`samples` must be finite .* from frame 4 on"):
        next(parts)


# ------------------------------------------------------------------------ the manifest


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"chunk": 0}, "`video.chunk` in manifest.json must be an integer from 1 to 1024"),
        ({"state": True}, "`video.state` in manifest.json must be an integer from 1 to 65536"),
        ({"motion_dim": 2}, "must be 16 normal latents, and classes or nothing else"),
        ({"more": 1}, "`video` in manifest.json must be an object with content_dim, start_dim"),
    ],
)
def test_facts_that_do_not_fit_are_refused(folder, path, change, line):
    to = folder / f"changed-{next(iter(change))}"
    to.mkdir()
    for file in path.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    films.declare(to, films.FACTS | change)
    with pytest.raises(UsageError, match=line):
        read_manifest(to)


def test_a_changed_graph_is_refused(folder):
    to = films.write(folder / "damaged", "damaged")
    tiny.flip(to / "stream.onnx")
    opened = serving.Bundle(to, threads=1)  # its clips are made by model.onnx
    with pytest.raises(UsageError, match=r"stream.onnx must have the SHA-256"):
        VideoStream(opened)


# ------------------------------------------------------------------------ files


def clip(frames, size, texts=None):
    return film_files.Clip(frames, size, 8.0, (-1.0, 1.0), texts or {})


@pytest.mark.parametrize("form", ["webp", "apng", "gif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_read_by_others(form, channels):
    """Pillow finds every pixel, the durations and the endless loop; a GIF has 256 colors."""
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 256, (7, 10, 12, channels))
    frames = (stored / 127.5 - 1).astype(np.float32)
    content = film_files.encode(form, clip(7, (10, 12, channels)), [frames[:3], frames[3:]])
    with Image.open(io.BytesIO(content)) as film:
        assert (film.n_frames, film.size, film.info["loop"]) == (7, (12, 10), 0)
        mode = {1: "L", 3: "RGB"}[channels]
        found = [np.asarray(x.convert(mode)) for x in ImageSequence.Iterator(film)]
        times = []
        for number in range(7):
            film.seek(number)
            film.load()
            times.append(film.info["duration"])
    error = np.abs(np.stack(found).reshape(stored.shape).astype(int) - stored).max()
    assert error <= (16 if (form, channels) == ("gif", 3) else 0)
    assert sum(times) == pytest.approx(875, abs=5)


def test_arrays_and_raw_pixels():
    frames = np.random.default_rng(1).uniform(-1, 1, (5, 4, 6, 1)).astype(np.float32)
    content = film_files.encode("npy", clip(5, (4, 6, 1)), [frames[:4], frames[4:]])
    np.testing.assert_array_equal(np.load(io.BytesIO(content)), frames)
    raw = film_files.encode("raw", clip(5, (4, 6, 1)), [frames])
    np.testing.assert_array_equal(np.frombuffer(raw, np.uint8), pixels(frames).reshape(-1))


def test_mp4_in_fragments():
    av = pytest.importorskip("av")
    frames = np.linspace(-1, 1, 20 * 9 * 11).reshape(20, 9, 11, 1).astype(np.float32)
    content = film_files.encode(
        "mp4", clip(20, (9, 11, 1), {"Seed": "7"}), [frames[:8], frames[8:]]
    )
    with av.open(io.BytesIO(content)) as film:
        found = [x.to_ndarray(format="rgb24") for x in film.decode(video=0)]
        assert film.streams.video[0].average_rate == 8
        assert film.metadata["comment"] == "Seed=7"
    assert np.stack(found).shape == (20, 10, 12, 3)  # even sizes
    np.testing.assert_allclose(np.stack(found)[:, :9, :11, :1], pixels(frames), atol=12)
    assert content.count(b"moof") >= 2


# ------------------------------------------------------------------------ the command


@pytest.mark.parametrize("form", ["webp", "gif", "apng", "npy", "raw"])
def test_the_command_writes_the_video(path, tmp_path, capsys, form):
    to = tmp_path / f"out.{form}"
    options = ["--seed", "7", "--frames", "21", "--labels", "square", "--out", str(to)]
    assert cli.main(["sample", str(path), *options]) == 0
    line = capsys.readouterr().out
    assert "21 frames of 6 x 4, 2.625 s" in line
    assert "of seed 7 of film in" in line
    wanted = reference(7, 21, 1)
    if form == "npy":
        return np.testing.assert_allclose(np.load(to), wanted, atol=1e-6)
    if form == "raw":
        found = np.frombuffer(to.read_bytes(), np.uint8).reshape(wanted.shape)
    else:
        with Image.open(to) as film:
            frames = [np.asarray(x.convert("L")) for x in ImageSequence.Iterator(film)]
        found = np.stack(frames).reshape(wanted.shape)
    assert np.abs(found.astype(int) - pixels(wanted)).max() <= 1
    assert [x.name for x in tmp_path.iterdir()] == [to.name]
    return None


def test_the_command_writes_a_folder_of_pictures(path, tmp_path):
    to = tmp_path / "frames"
    arguments = ["sample", str(path), "--frames", "5", "--out", f"{to}/"]
    assert cli.main(arguments) == 0
    assert sorted(x.name for x in to.iterdir()) == [f"frame{i:07d}.png" for i in range(5)]
    with Image.open(to / "frame0000003.png") as picture:
        assert (picture.text["Seed"], picture.text["Frame"]) == ("0", "3")
        found = np.asarray(picture).reshape(SIZE)
    assert np.abs(found.astype(int) - pixels(reference(0, 5)[3])).max() <= 1
    assert cli.main(arguments) == 2
    (to / "notes.txt").write_text("kept")
    arguments[arguments.index("5")] = "2"
    assert cli.main([*arguments, "--overwrite"]) == 0
    assert sorted(x.name for x in to.iterdir()) == [
        "frame0000000.png",
        "frame0000001.png",
        "notes.txt",
    ]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--frames", "0"], "`frames` must be an integer from 1 to 1000000. Received: frames=0"),
        (["--frames", "9", "--count", "2"], "--frames makes one video: leave --count out"),
        (["--frames", "9", "--temperature", "0.5"], "leave --temperature out. Received: 0.5"),
        (["--frames", "9", "--prefix", "a"], "leave --prefix out. Received: 'a'"),
        (["--frames", "9", "--pattern", "a+"], "leave --pattern out. Received: 'a+'"),
        (["--frames", "9", "--exclude", "x"], "leave --exclude out. Received: 'x'"),
        (["--frames", "9", "--seeds", "1-3"], "leave --seeds out. Received: '1-3'"),
        (["--frames", "9", "--balance", "x"], "leave --balance out. Received: 'x'"),
        (["--frames", "9", "--classifier", "x"], "leave --classifier out. Received: 'x'"),
        (["--frames", "9", "--out", "x.png"], "The ending of --out must be one of .webp, .gif"),
        (["--frames", "9", "--labels", "0,1"], "A video of --frames has one label"),
        (["--frames", "9", "--out", "x/", "--format", "gif"], "A folder holds the frames as PNG"),
        (["--frames", "9", "--input", "latents=x.npy"], "--frames takes no --input"),
    ],
)
def test_options_of_the_command_that_are_refused(
    path, tmp_path, monkeypatch, capsys, options, line
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sample", str(path), *options]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------ HTTP


@pytest.fixture(scope="module")
def server(folder, path):
    other = films.write(folder / "served", "fixed", endless=False)
    options = ("--workers", 1, "--max-streams", 2, "--max-stream", 60_000, "--max-values", 5_000)
    with Serving(path, other, *options) as found:
        yield found
        assert found.process.poll() is None, "the server must still run after all tests"
        assert "Traceback" not in found.log


def ask(server, query, **fields):
    body = fields or None
    return server.ask(f"/v1/generate?model=film&{query}".rstrip("&"), body)


@pytest.mark.parametrize("form", ["gif", "apng", "npy", "raw"])
def test_streams_are_the_files(server, form):
    answer = ask(server, f"seed=7&frames=21&labels=square&stream=1&format={form}")
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == film_files.WRITERS[form].media_type
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["x-model"] == "film"
    wanted = reference(7, 21, 1)
    if form == "npy":
        found = np.load(io.BytesIO(answer.body))
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    elif form == "raw":
        found = np.frombuffer(answer.body, np.uint8).reshape(wanted.shape).astype(int)
        assert np.abs(found - pixels(wanted)).max() <= 1
    else:
        with Image.open(io.BytesIO(answer.body)) as film:
            assert film.n_frames == 21
            found = [np.asarray(x.convert("L")) for x in ImageSequence.Iterator(film)]
        assert np.abs(np.stack(found).astype(int) - pixels(wanted)[..., 0]).max() <= 1


def test_one_seed_is_one_video_everywhere(server, bundle):
    whole = np.load(io.BytesIO(ask(server, "seed=9&format=npy").body))
    streamed = np.load(io.BytesIO(ask(server, "seed=9&frames=6&format=npy&stream=1").body))
    joined = np.load(io.BytesIO(ask(server, "", seed=9, frames=6, format="npy").body))
    np.testing.assert_array_equal(streamed, joined)
    np.testing.assert_allclose(streamed, whole[0] if whole.ndim == 5 else whole, atol=1e-6)
    np.testing.assert_allclose(streamed, bundle.generate([9])[0], atol=1e-6)


def test_a_whole_answer_is_a_webp(server):
    answer = ask(server, "seed=3&frames=30&frame_rate=25")
    assert answer.headers["content-type"] == "image/webp"
    with Image.open(io.BytesIO(answer.body)) as film:
        assert film.n_frames == 30
        film.load()
        assert film.info["duration"] == 40
        assert b"Generated by a model" in film.info["xmp"] or film.info["xmp"]


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("frames=0", "`frames` must be an integer from 1 to 1000000. Received: frames=0"),
        ("frames=9&count=2", "A video of `frames` takes format, frame_rate"),
        ("frames=9&stream=1&format=webp", "for a streamed video. Received: format='webp'"),
        ("frames=9&format=grid", "for a video of `frames`. Received: format='grid'"),
        ("frames=60001&stream=1", "A stream has at most 60000 frames. Received: frames=60001"),
        ("frames=300", "A response holds at most 5000 numbers or pixels"),
        ("frames=9&labels=0,1", "A video of `frames` has one label. Received: 2 labels"),
        ("frames=9&labels=star", "star"),
    ],
)
def test_requests_that_are_refused(server, query, line):
    answer = ask(server, query)
    assert answer.status == 400
    assert line in answer.error


def test_other_models_refuse_frames(server):
    answer = server.ask("/v1/generate?model=fixed&frames=9")
    assert (answer.status, "which makes 6 frames" in answer.error) == (400, True)


def test_the_listing_says_what_can_be_asked(server):
    entries = {x["name"]: x for x in server.ask("/v1/models").json["models"]}
    assert entries["fixed"]["video"] is None
    facts = entries["film"]["video"]
    assert (facts["frames"], facts["frame_rate"], facts["chunk"]) == (6, 8.0, CHUNK)
    assert facts["max_frames"] == 60_000
    assert facts["formats"][0] == "webp"
    assert "webp" not in facts["streamed"]


def test_openapi_has_the_field(server):
    content = json.loads(server.ask("/openapi.json").body)
    assert '"frames"' in json.dumps(content)


def gauge(server):
    text = server.ask("/metrics").body.decode()
    return int(re.search(r"^keras_gan_sound_streams (\d+)$", text, re.MULTILINE)[1])


def begin(server):
    """Sends a request for a stream; returns its connection and the response without its body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    query = "model=film&seed=1&frames=60000&stream=1&format=raw"
    connection.request("GET", f"/v1/generate?{query}")
    response = connection.getresponse()
    return connection, response


def test_streams_are_bounded_and_hang_ups_free_them(server):
    open_ones = [begin(server) for _ in range(2)]
    assert [x[1].status for x in open_ones] == [200, 200]
    assert gauge(server) == 2
    refused = begin(server)[1]
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert b"at most 2 streams of video" in refused.read()
    for connection, response in open_ones:
        assert response.read(24 * 9) != b""
        connection.close()
        response.close()
    until(lambda: gauge(server) == 0)
    assert ask(server, "seed=1&frames=5&stream=1&format=raw").status == 200


def whole(app, served, **fields):
    """Returns the coroutine of a whole answer."""
    request = Request("GET", "/v1/generate", b"", {}, b"", "127.0.0.1")
    request.served = served
    return generated_films.start(app, request, {"frames": 9, "format": "npy", **fields}, {})


def test_whole_answers_wait_for_their_turn(path):
    async def ask_for():
        app = App(Settings((str(path),)), Log("text", False))
        served = Served(serving.Bundle(path, threads=1), 1, False)
        while not app.pictures.locked():
            await app.pictures.acquire()
        with pytest.raises(Expired):
            await whole(app, served, timeout=0.05)
        app.pictures.release()
        answers = await asyncio.gather(*(whole(app, served, seed=n) for n in range(3)))
        assert (served.users, app.pictures.locked()) == (0, False)
        return answers

    for seed, answer in enumerate(asyncio.run(ask_for())):
        found = np.load(io.BytesIO(answer.body))
        np.testing.assert_allclose(found, reference(seed, 9, seed % len(CLASSES)), atol=1e-6)


def test_an_unloaded_version_frees_its_graph(path):
    async def ask_for():
        app = App(Settings((str(path),)), Log("text", False))
        served = Served(serving.Bundle(path, threads=1), 1, False)
        await whole(app, served)
        return weakref.ref(served.video_stream), weakref.ref(served.bundle)

    found = asyncio.run(ask_for())
    gc.collect()
    assert [x() for x in found] == [None, None]


# ------------------------------------------------------------------------ clients


def test_the_client_yields_frames(server):
    with Client(f"http://127.0.0.1:{server.port}/film") as client:
        frames = list(client.frames(seed=7, frames=21, label="square"))
        assert {(x.shape, str(x.dtype)) for x in frames} == {(SIZE, "float32")}
        np.testing.assert_allclose(np.stack(frames), reference(7, 21, 1), atol=1e-6)
        video = client.frames(seed=7, frames=60_000)
        next(video)
        video.close()
        until(lambda: gauge(server) == 0)
        client.frames(seed=7, frames=60_000).close()  # before any frame was read
        until(lambda: gauge(server) == 0)
        with client.frames(seed=7, frames=60_000):
            pass
        until(lambda: gauge(server) == 0)
        for arguments, line in (
            ({"frames": 0}, "`frames` must be an integer"),
            ({"frames": 3, "seed": [1, 2]}, "A video has one seed and one label"),
            ({"frames": 3, "label": "star"}, "star"),
        ):
            with pytest.raises(UsageError, match=line):
                next(client.frames(**arguments))


def test_the_asynchronous_client_yields_frames(server):
    async def ask_for():
        async with AsyncClient(f"http://127.0.0.1:{server.port}/film") as client:
            video = await client.frames(seed=4, frames=9, truncation=0.5)
            found = [x async for x in video]
            await (await client.frames(seed=4, frames=60_000)).aclose()
            for _ in range(100):
                if gauge(server) == 0:
                    break
                await asyncio.sleep(0.05)
            assert gauge(server) == 0
            return found

    found = asyncio.run(ask_for())
    np.testing.assert_allclose(np.stack(found), reference(4, 9, 1, 0.5), atol=1e-6)
