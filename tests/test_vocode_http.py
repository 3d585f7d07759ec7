"""POST /v1/vocode in a real server process: sounds, spectrograms, streams, bounds, hang-ups."""

import asyncio
import http.client
import os
import re
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tiny
import vocoders
from servers import Serving, Uvicorn, until
from vocoders import MEL, heard, npy, reference, tones, wav

import serving
from serving.wav import read_wav

SOUND = {"Content-Type": "audio/wav"}
ARRAY = {"Content-Type": "application/x-npy"}
STEP = 1 / 32767


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vocoders")


@pytest.fixture(scope="module")
def server(folder):
    bundles = [
        vocoders.write(folder / "voice"),
        vocoders.whole(folder / "whole"),
        vocoders.write(folder / "loud", "loud", scale=2.0),
        tiny.write(folder / "digits", "digits", "audio", (8000, 1), 5),
        tiny.points(folder / "points"),
    ]
    with Serving(*bundles, "--workers", 2, "--max-seconds", 60) as found:
        found.bundle = serving.Bundle(folder / "voice", threads=1)
        yield found
        assert found.process.poll() is None, "the server must still run after all tests"
        assert "Traceback" not in found.log


@pytest.fixture(scope="module")
def slow(folder):
    """A server whose vocoder takes about 10 ms for a chunk, with room for two streams."""
    bundle = vocoders.slow(folder / "slow")
    with Serving(bundle, "--workers", 2, "--max-streams", 2, "--body-seconds", 5) as found:
        yield found
        assert "Traceback" not in found.log


def ask(server, body, query="model=voice", headers=SOUND):
    return server.ask(f"/v1/vocode?{query}", body, headers)


def pieces(response):
    """Yields the chunks of a chunked response as they arrive, by their own framing."""
    file = response.fp
    while size := int(file.readline(), 16):
        yield file.read(size)
        assert file.readline() == b"\r\n"
    file.readline()


def begin(server, body, query="stream=1", headers=SOUND):
    """Sends a request for a stream; returns its connection and the response without its body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", f"/v1/vocode?{query}", body, headers)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    return connection, response


def gauge(server, name):
    text = server.ask("/metrics").body.decode()
    return int(re.search(rf"^{name} (\d+)$", text, re.MULTILINE)[1])


# ------------------------------------------------------------------ whole sounds


@pytest.mark.parametrize("length", [1, 63, 64, 8_000, 70_001])
def test_a_sound_is_answered_by_one_of_its_length(server, length):
    sound = tones(length)
    answer = ask(server, wav(sound))
    assert (answer.status, answer.headers["content-type"]) == (200, "audio/wav")
    found, rate = heard(answer.body)  # by the standard library, which reads true sizes only
    assert (len(found), rate) == (length, 8_000)
    assert struct.unpack_from("<I", answer.body, 4)[0] == len(answer.body) - 8
    stored, _ = read_wav(wav(sound))
    wanted = server.bundle.vocode(stored[:, 0])
    assert np.abs(found - wanted).max() <= 0.51 * STEP + 1e-5
    assert abs(float(answer.headers["x-peak"]) - np.abs(wanted).max()) < 1e-4
    assert answer.headers["x-clipped"] == "0"
    assert answer.headers["x-model"] == "voice"
    assert b"A sound made by a model" in answer.body[:500]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_spectrogram_is_answered_by_its_sound(server, dtype):
    mel = MEL(tones(51 * 64)).astype(dtype)
    for sent in (mel, mel[np.newaxis]):
        answer = ask(server, npy(sent), headers=ARRAY)
        assert answer.status == 200, answer.body
        found, _ = heard(answer.body)
        np.testing.assert_allclose(found, reference(server.bundle, mel), atol=0.51 * STEP + 1e-5)


def test_samples_beyond_the_range_are_clipped_and_counted(server, folder):
    mel = MEL(tones(4000))
    answer = ask(server, npy(mel), "model=loud", ARRAY)
    wanted = reference(serving.Bundle(folder / "loud", threads=1), mel)
    found, _ = heard(answer.body)
    np.testing.assert_allclose(found, np.clip(wanted, -1, 1), atol=0.51 * STEP + 1e-4)
    assert int(answer.headers["x-clipped"]) == (np.abs(np.rint(wanted * 32767)) > 32767).sum() > 9
    assert float(answer.headers["x-peak"]) == pytest.approx(np.abs(wanted).max(), abs=1e-3)


def test_a_form_with_a_file_and_fields(server):
    boundary = "----b0undary"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="'
    body = (
        f'{head}model"\r\n\r\nvoice\r\n{head}resample"\r\n\r\ntrue\r\n'
        f'{head}sound"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    ).encode() + wav(tones(16_000, 16_000), 16_000)
    body += f"\r\n--{boundary}--\r\n".encode()
    form = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    answer = server.ask("/v1/vocode", body, form)
    assert len(heard(answer.body)[0]) == 8_000
    assert answer.headers["x-notes"] == "The sound was resampled from 16000 to 8000 Hz."


def test_a_sound_from_a_seed(server, folder):
    """The headers of /v1/generate: the seed, the peak, what was clipped, the true sizes."""
    answer = server.ask("/v1/generate?model=digits&seed=7")
    assert (answer.status, answer.headers["content-type"]) == (200, "audio/wav")
    found, rate = heard(answer.body)
    assert (len(found), rate) == (8_000, 16_000)
    wanted = serving.Bundle(folder / "digits", threads=1).generate([7])[0, :, 0]
    np.testing.assert_allclose(found, wanted, atol=0.51 * STEP)
    assert answer.headers["x-seed"] == "7"
    assert answer.headers["x-clipped"] == "0"
    assert float(answer.headers["x-peak"]) == pytest.approx(np.abs(wanted).max(), abs=1e-4)


# ------------------------------------------------------------------ what is refused


def test_another_rate_is_refused_or_resampled(server):
    time_ = np.arange(16_000) / 16_000
    body = wav(0.5 * np.sin(2 * np.pi * 440 * time_), 16_000)
    refused = ask(server, body)
    assert refused.status == 422
    assert "must have 8000 Hz" in refused.error
    assert "Received: 16000 Hz; resample=1 resamples it" in refused.error
    answer = ask(server, body, "model=voice&resample=1")
    assert len(heard(answer.body)[0]) == 8_000


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (npy(MEL(np.pad(tones(4000), (999, 0))) / np.log(10)), 422, "log10"),
        (npy(np.full((20, 40), -80.0)), 422, "natural logarithms"),
        (npy(np.zeros((40, 20))), 400, "this one may be transposed"),
        (npy(np.zeros((20, 80))), 400, "must have the shape (frames, 40)"),
        (npy(np.zeros((0, 40))), 400, "with 1 frame or more"),
        (npy(np.full((20, 40), np.nan)), 400, "finite"),
        (npy(np.zeros((100_000, 40), np.float16)), 413, "at most 60 s long. Received: 800 s"),
        (wav(tones(500_000)), 413, "Received: 62.5 s (--max-seconds of the server)"),
        (wav([]), 400, "must have samples"),
        (b"", 400, "0 bytes"),
        (b"nothing", 400, "a WAV file or a spectrogram as .npy"),
        (b"RIFF\0\0\0\0WAVEfmt ", 400, "chunks fmt and data"),
    ],
    ids=range(12),
)
def test_bad_sounds_and_spectrograms(server, body, status, message):
    headers = {"Content-Type": "application/octet-stream"}
    for query in ("model=voice", "model=voice&stream=1"):
        answer = ask(server, body, query, headers)
        assert (answer.status, message in answer.error) == (status, True), answer.error
    assert gauge(server, "keras_gan_sound_streams") == 0


def test_bad_requests(server):
    body = wav(tones(100))
    for query, status, message in (
        ("model=points", 400, "must be one of loud, voice, whole"),
        ("", 400, "must be one of loud, voice, whole"),
        ("model=none", 404, "Received: model='none'"),
        ("model=voice&chunk=7", 400, "`chunk` needs `stream`"),
        ("model=voice&stream=1&chunk=0", 400, "`chunk` must be an integer from 1 to 1024"),
        ("model=voice&stream=1&chunk=x", 400, "`chunk` must be an integer"),
        ("model=whole&stream=1", 400, "cannot be streamed"),
        ("model=voice&stream=2", 400, "`stream` must be true or false"),
        ("model=voice&seed=2", 400, "Received: field='seed'"),
    ):
        answer = ask(server, body, query)
        assert (answer.status, message in answer.error) == (status, True), answer.error
    answer = ask(server, body, headers={"Content-Type": "image/png"})
    assert (answer.status, "audio/wav" in answer.error) == (415, True)
    assert server.ask("/v1/vocode").status == 405
    head = b"POST /v1/vocode HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\n"
    found = server.raw(head + b"Content-Length: 10000000000\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 413 ")


# ------------------------------------------------------------------ streams


@pytest.mark.parametrize("chunk", [1, 7, 25, 100])
def test_a_stream_is_the_whole_sound_in_chunks(server, chunk):
    sound = tones(51 * 64 - 5)
    whole, _ = heard(ask(server, wav(sound)).body)
    connection, response = begin(server, wav(sound), f"model=voice&stream=1&chunk={chunk}")
    assert response.headers["content-type"] == "audio/wav"
    assert response.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in response.headers
    found = list(pieces(response))
    connection.close()
    assert len(found) == -(-51 // chunk)
    content = b"".join(found)
    assert content.count(b"RIFF") == content.count(b"WAVEfmt ") == content.count(b"data") == 1
    assert content[4:8] == b"\xff" * 4
    start = content.index(b"data") + 8
    assert content[start - 4 : start] == b"\xff" * 4
    samples = np.frombuffer(content[start:], "<i2") / 32767
    assert len(samples) == len(sound)
    assert np.abs(samples - whole).max() <= STEP + 1e-9
    assert len(read_wav(content)[0]) == len(sound)


def test_the_first_sound_arrives_before_the_last_is_computed(slow):
    body = wav(tones(40_000))  # 25 chunks of 10 ms or more
    start = time.monotonic()
    connection, response = begin(slow, body)
    arrivals = []
    for piece in pieces(response):
        arrivals.append((time.monotonic() - start, len(piece)))
    connection.close()
    assert len(arrivals) == 25
    assert arrivals[0][1] == arrivals[1][1] + len(body_header(slow))
    assert arrivals[0][0] < 0.5 * arrivals[-1][0]
    answered = until(lambda: gauge(slow, "keras_gan_sound_streams") == 0)
    assert answered


def body_header(server):
    connection, response = begin(server, wav(tones(64)))
    content = b"".join(pieces(response))
    connection.close()
    return content[: content.index(b"data") + 8]


def test_a_client_that_hangs_up_ends_the_work(slow):
    before = samples_made(slow)
    connection, response = begin(slow, wav(tones(400_000)))  # 250 chunks
    next(pieces(response))
    connection.sock.close()
    response.close()
    until(lambda: gauge(slow, "keras_gan_sound_streams") == 0)
    time.sleep(0.3)
    made = samples_made(slow)
    assert made - before < 60
    time.sleep(0.3)
    assert samples_made(slow) == made


def test_a_client_of_uvicorn_that_hangs_up_ends_the_work(folder, slow):
    """uvicorn drops what is sent after a disconnect, without an error."""
    pytest.importorskip("uvicorn")
    with Uvicorn(folder / "slow") as server:
        until(lambda: server.ask("/readyz").status == 200)
        connection, response = begin(server, wav(tones(40_000)))
        assert len(b"".join(pieces(response))) > 80_000
        connection.close()
        before = samples_made(server)
        connection, response = begin(server, wav(tones(400_000)))  # 250 chunks
        next(pieces(response))
        connection.sock.close()
        response.close()
        until(lambda: gauge(server, "keras_gan_sound_streams") == 0)
        made = samples_made(server)
        assert made - before < 60
        time.sleep(0.3)
        assert samples_made(server) == made
        assert "Traceback" not in server.log


def samples_made(server):
    text = server.ask("/metrics").body.decode()
    return int(re.search(r"^keras_gan_samples_total\{.*\} (\d+)$", text, re.MULTILINE)[1])


def test_streams_are_bounded_and_a_client_that_does_not_read_is_cut_off(slow):
    body = wav(tones(2_000_000))  # 4 MB of answer: more than the buffers of a socket
    held = [begin(slow, body) for _ in range(2)]
    refused = slow.ask("/v1/vocode?stream=1", wav(tones(100)), SOUND)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert "at most 2 streams of sound at a time. Received: 3 streams" in refused.error
    assert slow.ask("/v1/vocode", wav(tones(100)), SOUND).status == 200  # whole sounds go on
    for connection, response in held:
        response.close()
        connection.close()
    until(lambda: gauge(slow, "keras_gan_sound_streams") == 0)
    text = slow.ask("/metrics").body.decode()
    assert re.search(r'keras_gan_refused_total\{reason="streams"\} 1', text)


# ------------------------------------------------------------------ the client


def test_the_client_returns_a_sound_in_the_form_of_the_given_one(server, tmp_path):
    sound = np.rint(tones(3000) * 32767) / 32767
    wanted = server.bundle.vocode(sound)
    with serving.Client(f"http://127.0.0.1:{server.port}/voice") as client:
        found = client.vocode(sound, to=tmp_path / "a.wav")
        assert (found.dtype, found.shape) == ("float32", (3000,))
        np.testing.assert_allclose(found, wanted, atol=1e-3)
        np.testing.assert_allclose(heard((tmp_path / "a.wav").read_bytes())[0], found, atol=1e-6)
        np.testing.assert_allclose(client.vocode(tmp_path / "a.wav").shape, (3000,))
        answer = client.vocode(wav(sound))
        assert isinstance(answer, bytes)
        np.testing.assert_allclose(heard(answer)[0], found, atol=1e-3)
        mel = MEL(sound)
        np.testing.assert_allclose(client.vocode(mel)[:3000], wanted, atol=1e-3)
        double = np.repeat(sound, 2)
        assert client.vocode(double, sample_rate=16_000, resample=True).shape == (3000,)
        with pytest.raises(serving.ServerError, match="Received: 16000 Hz") as refused:
            client.vocode(double, sample_rate=16_000)
        assert refused.value.status == 422
        for bad, message in (
            (np.zeros(3, int), "must be a file, finite"),
            ("none", "be a readable file"),
        ):
            with pytest.raises(serving.UsageError, match=message):
                client.vocode(bad)
        with pytest.raises(serving.UsageError, match=r"`to` must end in \.wav"):
            client.vocode(sound, to="a.mp3")
        os.link(tmp_path / "a.wav", tmp_path / "old.wav")
        old = (tmp_path / "old.wav").read_bytes()
        client.vocode(sound[:700], to=tmp_path / "a.wav")
        assert len(heard((tmp_path / "a.wav").read_bytes())[0]) == 700
        assert (tmp_path / "old.wav").read_bytes() == old  # replaced, not overwritten
    points = serving.Client(f"http://127.0.0.1:{server.port}/points")
    with points, pytest.raises(serving.ServerError, match="must be one of loud, voice, whole"):
        points.vocode(sound)


def test_the_client_refuses_samples_of_another_range_as_a_bundle_does(server):
    with serving.Client(f"http://127.0.0.1:{server.port}/voice") as client:
        for bad, message in (
            (tones(700) * 32767, r"must be in \[-1, 1\]\. Received: values from "),
            (np.zeros(0), "must have samples. Received: 0 samples"),
        ):
            with pytest.raises(serving.UsageError, match=message) as refused:
                client.vocode(bad)
            assert not isinstance(refused.value, serving.ServerError)
        sound = tones(700)
        sound[[3, 30, 300]] = 1.2, -1.9, 1.1
        with pytest.warns(UserWarning, match=r"^3 of 700 samples were beyond \[-1, 1\]"):
            assert client.vocode(sound).shape == (700,)


def test_the_asynchronous_client(server):
    async def run():
        async with serving.AsyncClient(f"http://127.0.0.1:{server.port}/voice") as client:
            return await client.vocode(tones(700))

    assert asyncio.run(run()).shape == (700,)


# ------------------------------------------------------------------ endurance


@pytest.mark.slow
def test_a_thousand_streams_and_hang_ups_leave_nothing(server):
    """Memory, threads and descriptors are those of before; every stream has ended."""
    body = wav(tones(16_000))

    def ask_and_hang_up(number):
        connection, response = begin(server, body, "model=voice&stream=1&chunk=5")
        if number % 2:
            next(pieces(response))
            connection.sock.shutdown(2)
        else:
            assert sum(map(len, pieces(response))) > 32_000
        response.close()
        connection.close()

    def facts():
        until(lambda: gauge(server, "keras_gan_sound_streams") == 0)
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        descriptors = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        return int(re.search(r"Threads:\s+(\d+)", status)[1]), descriptors, server.memory()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask_and_hang_up, range(200)))
        before = facts()
        list(threads.map(ask_and_hang_up, range(1000)))
    after = facts()
    assert after[0] == before[0]
    assert after[1] <= before[1] + 2
    assert after[2] <= before[2] + 8 * 2**20
    assert "Traceback" not in server.log
