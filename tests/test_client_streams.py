"""Tests of streams of sound in the clients: parts as they arrive, early ends, failures."""

import asyncio
import re
import struct
import time

import numpy as np
import pytest
import tiny
import vocoders
from servers import Serving, until
from vocoders import MEL, npy, tones, wav
from wire import Wire, hang_up

import serving
from serving import AsyncClient, Client, ServerError, UsageError
from serving.wav import write_wav

STEP = 1 / 32767


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """A server whose vocoder takes about 10 ms for a chunk, and which refuses a third stream."""
    folder = tmp_path_factory.mktemp("slow")
    bundles = vocoders.slow(folder / "slow"), vocoders.whole(folder / "whole")
    with Serving(*bundles, "--workers", 2, "--max-streams", 2) as found:
        found.bundle = serving.Bundle(folder / "slow", threads=1)
        found.url = f"http://127.0.0.1:{found.port}/slow"
        yield found
        assert "Traceback" not in found.log


@pytest.fixture
def wire(tmp_path):
    """A stand-in for the server, whose answers are scripted."""
    with Wire(serving.Bundle(tiny.clothes(tmp_path / "bundle"), threads=1)) as found:
        yield found


def value(server, name):
    text = server.ask("/metrics").body.decode()
    return int(re.search(rf"^{name}(?:\{{.*\}})? (\d+)$", text, re.MULTILINE)[1])


def has_ended(server):
    return until(lambda: value(server, "keras_gan_sound_streams") == 0)


def blocking(url, *arguments, **options):
    """Reads a stream; returns its parts, when each has arrived, and its sampling rate."""
    with Client(url) as client, client.vocode_chunks(*arguments, **options) as stream:
        timed = [(part, time.monotonic()) for part in stream]
        return *zip(*timed, strict=True), stream.sample_rate


def asynchronous(url, *arguments, **options):
    async def read():
        async with AsyncClient(url) as client:
            async with await client.vocode_chunks(*arguments, **options) as stream:
                timed = [(part, time.monotonic()) async for part in stream]
            return *zip(*timed, strict=True), stream.sample_rate

    return asyncio.run(read())


BOTH = pytest.mark.parametrize("read", [blocking, asynchronous])


# ------------------------------------------------------------------ parts


@BOTH
def test_the_first_part_arrives_before_the_last_is_computed(slow, read):
    sound = np.rint(tones(40_000) * 32767) * STEP  # 25 chunks of 10 ms or more
    start = time.monotonic()
    parts, times, rate = read(slow.url, sound)
    assert rate == 8_000
    assert all(part.dtype == np.float32 and part.ndim == 1 and len(part) for part in parts)
    assert len(parts) >= 20
    assert times[0] - start < 0.5 * (times[-1] - start)
    found = np.concatenate(parts)
    np.testing.assert_allclose(found, slow.bundle.vocode(sound), atol=2 * STEP + 1e-5)


@BOTH
def test_the_parts_are_those_of_chunks(slow, read):
    mel = MEL(tones(51 * 64))
    whole = slow.bundle.vocode(mel)
    for sent in (mel, npy(mel)):
        parts, _, _ = read(slow.url, sent, 7)
        assert len(parts) == 8
        assert [len(part) for part in parts] == [7 * 64] * 7 + [2 * 64]
        np.testing.assert_allclose(np.concatenate(parts), whole, atol=0.51 * STEP + 1e-5)


@BOTH
def test_the_options_are_those_of_a_whole_sound(slow, read, tmp_path):
    server = slow.url.removesuffix("/slow")
    (tmp_path / "a.wav").write_bytes(wav(tones(3200, 16_000), 16_000))
    parts, _, rate = read(server, tmp_path / "a.wav", 25, model="slow", resample=True)
    assert (sum(map(len, parts)), rate) == (1600, 8_000)
    parts, _, _ = read(slow.url, tones(3200), sample_rate=16_000, resample=True, version=1)
    assert sum(map(len, parts)) == 1600


def test_a_connection_whose_stream_was_read_is_used_again(slow):
    with Client(slow.url) as client:
        for _ in range(3):
            assert sum(map(len, client.vocode_chunks(tones(700)))) == 700
            assert len(client._idle) == 1
        assert client.vocode(tones(700)).shape == (700,)
        assert len(client._idle) == 1


# ------------------------------------------------------------------ early ends


def test_a_caller_that_stops_ends_the_work(slow):
    """By `close`, a `with` block, or as the stream is deleted."""
    sound = wav(tones(400_000))  # 250 chunks
    client = Client(slow.url)
    for leave in ("close", "with", "delete"):
        before = value(slow, "keras_gan_samples_total")
        stream = client.vocode_chunks(sound)
        assert value(slow, "keras_gan_sound_streams") == 1
        if leave == "close":
            next(stream)
            stream.close()
            assert list(stream) == []
        elif leave == "with":
            with stream:
                next(stream)
        del stream
        assert has_ended(slow)
        assert value(slow, "keras_gan_samples_total") - before < 60
    assert client.vocode(sound[:1000]).startswith(b"RIFF")


def test_an_asynchronous_caller_that_stops_ends_the_work(slow):
    async def run(leave):
        async with AsyncClient(slow.url) as client:
            if leave == "cancel":
                reading = asyncio.ensure_future(consume(client))
                await asyncio.sleep(0.3)
                reading.cancel()
                return
            async with await client.vocode_chunks(wav(tones(400_000))) as stream:
                async for _ in stream:
                    break
            assert [part async for part in stream] == []

    async def consume(client):
        async for _ in await client.vocode_chunks(wav(tones(400_000))):
            pass

    for leave in ("break", "cancel"):
        before = value(slow, "keras_gan_samples_total")
        asyncio.run(run(leave))
        assert has_ended(slow)
        assert value(slow, "keras_gan_samples_total") - before < 120


# ------------------------------------------------------------------ failures


@BOTH
def test_an_error_before_the_first_part_is_the_line_of_the_server(slow, read):
    server = slow.url.removesuffix("/slow")
    for url, sound, options, status, line in (
        (slow.url, wav(tones(99), 16_000), {}, 422, "must have 8000 Hz"),
        (slow.url, b"nothing", {}, 400, "must be a WAV file or a spectrogram"),
        (f"{server}/none", wav(tones(99)), {}, 404, "Received: model='none'"),
        (f"{server}/whole", wav(tones(99)), {}, 400, "cannot be streamed"),
        (server, wav(tones(99)), {}, 400, "must be one of slow, whole"),
    ):
        with pytest.raises(ServerError, match=line) as refused:
            read(url, sound, **options)
        assert refused.value.status == status
    for chunk in (0, 1025, 2.5, True):
        with pytest.raises(UsageError, match=r"^`chunk` must be an integer from 1 to 1024\. Rec"):
            read(slow.url, tones(99), chunk)
    with pytest.raises(UsageError, match="must be a file, finite"):
        read(slow.url, np.zeros(3, int))


def test_a_server_that_is_full_of_streams_is_asked_again(slow):
    sound = wav(tones(400_000))
    held = [Client(slow.url).vocode_chunks(sound) for _ in range(2)]
    with pytest.raises(ServerError, match="at most 2 streams of sound at a time") as refused:
        Client(slow.url, retries=0).vocode_chunks(sound)
    assert refused.value.status == 503
    for stream in held:
        stream.close()
    assert sum(map(len, Client(slow.url).vocode_chunks(sound[:2044]))) == 1000
    assert has_ended(slow)


@BOTH
def test_a_server_that_ends_in_a_stream_is_one_line(tmp_path, read):
    with Serving(vocoders.slow(tmp_path / "slow")) as server:
        url = f"http://127.0.0.1:{server.port}/slow"

        def run(stop):
            with Client(url) as client:
                stream = client.vocode_chunks(wav(tones(400_000)))
                assert len(next(stream)) == 1600
                stop()
                list(stream)

        async def run_later(stop):
            async with AsyncClient(url) as client:
                stream = await client.vocode_chunks(wav(tones(400_000)))
                assert len(await anext(stream)) == 1600
                stop()
                async for _ in stream:
                    pass

        def stop():
            server.stop(kill=True)

        with pytest.raises(ServerError) as broken:
            run(stop) if read is blocking else asyncio.run(run_later(stop))
    line = r"A stream must have an end\. Received: (\d+) samples, then a closed connection"
    found = re.fullmatch(line, str(broken.value))
    assert found, str(broken.value)
    assert 1600 <= int(found[1]) < 400_000
    assert broken.value.status == 0


HEADER = write_wav(np.zeros((0, 1), np.int16), 8_000, {"comment": "x" * 99})
HEADER = HEADER[:4] + b"\xff" * 4 + HEADER[8:-4] + b"\xff" * 4
SAMPLES = struct.pack("<4h", 32767, -32767, 0, 16384)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n"


def chunked(*pieces, end=b"0\r\n\r\n"):
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + body + end


def sized(content, size):
    return OK + b"Content-Length: %d\r\n\r\n" % size + content


BY_BYTES = [content.to_bytes(1, "little") for content in HEADER + SAMPLES]
WHOLE = HEADER + SAMPLES


@BOTH
@pytest.mark.parametrize(
    "answer",
    [
        chunked(*BY_BYTES),
        chunked(WHOLE[:-3], WHOLE[-3:]),
        sized(WHOLE, len(WHOLE)),
        OK + b"Connection: close\r\n\r\n" + WHOLE,
    ],
    ids=["bytes", "chunks", "length", "close"],
)
def test_a_stream_may_be_divided_anywhere(wire, read, answer):
    """Proxies divide and join the pieces of an answer."""
    wire.script = [speaking(answer)]
    parts, _, rate = read(wire.url, wav(tones(4)))
    assert rate == 8_000
    np.testing.assert_array_equal(np.concatenate(parts), np.float32([1, -1, 0, 16384 / 32767]))


@BOTH
@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (chunked(WHOLE, end=b""), r"must have an end.*4 samples, then a closed connection"),
        (chunked(WHOLE, end=b"9\r\nshort"), r"must have an end.*: [46] samples, then a closed"),
        (chunked(WHOLE[:-1]), r"must have an end\. Received: 3 samples, then a closed connection"),
        (sized(WHOLE, len(WHOLE) + 2), r"must have an end\. Received: [04] samples, then a closed"),
        (chunked(HEADER[:60]), r"An answer must be a WAV file\. .*chunks fmt and data"),
        (chunked(b""), r"An answer must be a WAV file\. .*begin with RIFF"),
        (chunked(b"<html>Welcome to nginx</html>"), r"An answer must be a WAV file\. .*<html>Welc"),
        (chunked(b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 9000), r"must be a WAV file\. .*junk"),
        (chunked(WHOLE, end=b"xyz\r\n"), r"(must have an end|must be a WAV)"),
    ],
)
def test_a_stream_that_breaks_is_one_line(wire, read, answer, line):
    wire.script = [speaking(answer)]
    with pytest.raises(ServerError, match=line) as broken:
        read(wire.url, wav(tones(4)))
    assert "\n" not in str(broken.value)


@BOTH
def test_a_stream_that_stops_times_out(wire, read):
    """The timeout is that of each part: a stream may take longer."""

    def trickle(handler):
        handler.wfile.write(chunked(HEADER, end=b""))
        for _ in range(4):
            handler.wfile.write(b"2\r\nxx\r\n")
            time.sleep(0.2)
        time.sleep(1.5)

    async def drain():
        client = AsyncClient(wire.url, timeout=0.5)
        return [part async for part in await client.vocode_chunks(wav(tones(4)))]

    def run():
        if read is asynchronous:
            asyncio.run(drain())
        list(Client(wire.url, timeout=0.5).vocode_chunks(wav(tones(4))))

    wire.script = [trickle]
    start = time.monotonic()
    with pytest.raises(ServerError, match=r"Received: 4 samples, then nothing within 0\.5 s$"):
        run()
    assert 0.9 < time.monotonic() - start < 1.9


def speaking(answer):
    def speak(handler):
        handler.wfile.write(answer)
        hang_up(handler)

    return speak
