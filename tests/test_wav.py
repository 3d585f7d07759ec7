"""Tests of the reader and the writer of WAV files."""

import importlib
import io
import struct
import subprocess
import sys
import warnings
import wave

import numpy as np
import pytest

from serving.errors import UsageError
from serving.wav import (
    read_frames,
    read_header,
    read_wav,
    to_one_channel,
    to_pcm16,
    write_wav,
)

WAVE = np.array([0, 1, -1, 1000, -32768, 32767], "<i2")


def chunk(name, content, size=None):
    size = len(content) if size is None else size
    return name + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)


def form(code=1, bits=16, channels=1, rate=8000, more=b"", width=None):
    block = channels * (width or -(-bits // 8))
    return struct.pack("<HHIIHH", code, channels, rate, rate * block, block, bits) + more


def wav(data, *, before=b"", after=b"", size=None, name=b"RIFF", **options):
    body = b"WAVE" + before + chunk(b"fmt ", form(**options)) + chunk(b"data", data, size) + after
    return name + struct.pack("<I", len(body)) + body


def test_the_standard_library_reads_what_is_written():
    samples = np.stack([WAVE, WAVE[::-1]], axis=1)
    with wave.open(io.BytesIO(write_wav(samples, 8000, {"seed": "7"}))) as read:
        assert read.getparams()[:4] == (2, 2, 8000, 6)
        np.testing.assert_array_equal(np.frombuffer(read.readframes(6), "<i2"), samples.ravel())


def test_samples_out_of_range_are_clipped_and_counted():
    values, clipped = to_pcm16(np.array([1.5, -1.5, 1.0, -1.0, 0.4 / 32767, 0.6 / 32767]))
    np.testing.assert_array_equal(values, [32767, -32767, 32767, -32767, 0, 1])
    assert clipped == 2
    assert values.dtype == np.int16


@pytest.mark.parametrize(("code", "name"), [(7, "ulaw2lin"), (6, "alaw2lin")])
def test_g711_is_that_of_the_standard_library(code, name):
    if sys.version_info >= (3, 13):
        pytest.skip("audioop has been removed from Python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        audioop = importlib.import_module("audioop")
    codes = bytes(range(256))
    expected = np.frombuffer(getattr(audioop, name)(codes, 2), "<i2") / 2**15
    read, rate = read_wav(wav(codes, code=code, bits=8))
    np.testing.assert_array_equal(read[:, 0], expected)
    assert rate == 8000


def test_an_extensible_header_names_the_encoding_in_its_extension():
    guid = struct.pack("<HHI", 22, 24, 3) + struct.pack("<H", 1) + b"\0" * 14
    data = (np.array([1 << 30, -(1 << 31)], "<i4")).tobytes()
    read, _ = read_wav(wav(data, code=0xFFFE, bits=32, more=guid))
    np.testing.assert_array_equal(read[:, 0], [0.5, -1.0])


def test_24_bits_in_4_bytes_are_the_upper_ones():
    data = np.array([1 << 30, -(1 << 31)], "<i4").tobytes()
    read, _ = read_wav(wav(data, bits=24, width=4))
    np.testing.assert_array_equal(read[:, 0], [0.5, -1.0])


@pytest.mark.parametrize(
    "before",
    [
        chunk(b"JUNK", b"\0" * 4096),
        chunk(b"LIST", b"INFOICMT\x05\0\0\0abcd\0"),  # of odd size, with a byte of padding
        b"note" + struct.pack("<I", 3) + b"abc",  # of odd size, without it
        chunk(b"bext", b"x" * 603),
    ],
    ids=["JUNK", "odd with padding", "odd without padding", "bext"],
)
def test_other_chunks_are_passed_over(before):
    read, _ = read_wav(wav(WAVE.tobytes(), before=before, after=chunk(b"id3 ", b"y" * 99)))
    np.testing.assert_array_equal(read[:, 0], WAVE / 2**15)


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0x7FFFF024, 0xFFFFFFFF, 0xFFFFF000])
def test_a_file_that_was_written_to_a_pipe_ends_with_its_sound(size):
    header = read_header(wav(WAVE.tobytes(), size=size))
    assert (header.frames, header.missing) == (6, 0)


def test_a_file_of_more_than_4_gib_has_its_sizes_in_another_chunk():
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, WAVE.nbytes, 0, 0))
    content = wav(WAVE.tobytes(), before=ds64, name=b"RF64", size=0xFFFFFFFF)
    content += chunk(b"LIST", b"INFO")
    read, _ = read_wav(content)
    np.testing.assert_array_equal(read[:, 0], WAVE / 2**15)


def test_what_a_truncated_file_lacks_is_counted():
    content = wav(WAVE.tobytes())
    header = read_header(content[:-5])  # half of a sample and two more
    assert (header.frames, header.missing) == (3, 3)
    np.testing.assert_array_equal(read_wav(content[:-5])[0][:, 0], WAVE[:3] / 2**15)


def test_a_part_of_a_file_is_that_of_the_whole():
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (100, 6)).astype("<i2")
    content = wav(samples.tobytes(), channels=6)
    header = read_header(content)
    assert (header.channels, header.frames) == (6, 100)
    part = read_frames(content, header, 10, 35)
    np.testing.assert_array_equal(part, samples[10:35] / 2**15)
    np.testing.assert_array_equal(read_wav(content)[0][10:35], part)


def test_a_file_of_a_header_alone_has_no_samples():
    assert read_header(wav(b"")).frames == 0
    assert read_wav(wav(b""))[0].shape == (0, 1)


def test_floats_may_exceed_their_range():
    data = np.array([15.0, -15.0], "<f4").tobytes()
    np.testing.assert_array_equal(read_wav(wav(data, code=3, bits=32))[0][:, 0], [15.0, -15.0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must begin with RIFF and WAVE. Received: b''"),
        (b"hello, this is text", "must begin with RIFF and WAVE. Received: b'hello, this "),
        (wav(b"ab", rate=0), "Received: format 1 of 16 bits, 1 channels, 0 Hz"),
        (wav(b"ab", channels=0), "Received: format 1 of 16 bits, 0 channels, 8000 Hz"),
        (wav(b"ab", code=0x55), "A-law or mu-law. Received: format 85 of 16 bits"),
        (wav(b"abcd", bits=16)[:36], "chunks fmt and data. Received: fmt"),
        (wav(b"", bits=12, width=3, channels=2)[:32] + b"\x05\0" + wav(b"abcd")[34:], "5 bytes"),
    ],
)
def test_other_files_are_refused(content, message):
    with pytest.raises(UsageError, match=message):
        read_wav(content)


def test_empty_sound_before_other_chunks_is_empty():
    after = chunk(b"LIST", b"INFOICMT\x05\0\0\0abcd\0\0") + chunk(b"id3 ", b"y" * 99)
    for content in (wav(b"", after=after), wav(b"", after=after[:-1])):
        assert (read_header(content).frames, read_header(content).missing) == (0, 0)
    streamed = wav(b"", after=after + b"abcd")  # no whole chunks: sound that looks like some
    assert read_header(streamed).frames == (len(after) + 4) // 2


def test_a_chunk_of_large_sizes_must_hold_them():
    head = b"RF64\0\0\0\0WAVE"
    data = b"data\xff\xff\xff\xff"
    for content in (head + b"ds64\0\0\0\0" + data, head + chunk(b"ds64", b"12345678") + data):
        with pytest.raises(UsageError, match=r"ds64 .* must have 16 bytes or more. Received: [08]"):
            read_wav(content)


def test_the_walk_of_chunks_ends():
    class Counted(bytes):
        """Bytes that count how often they are read."""

        reads = 0

        def __getitem__(self, key):
            Counted.reads += 1
            return super().__getitem__(key)

    with pytest.raises(UsageError, match=r"Received: none$"):
        read_header(Counted(b"RIFF\0\0\0\0WAVE" + bytes(10**6)))
    assert Counted.reads < 10
    many = b"".join(chunk(b"%04d" % number, b"") for number in range(5000))
    with pytest.raises(UsageError) as error:
        read_header(Counted(b"RIFF\0\0\0\0WAVE" + many))
    assert str(error.value).endswith(
        "Received: 0000, 0001, 0002, 0003, 0004, 0005, 0006, 0007, ..."
    )
    assert 1000 < Counted.reads < 3000


def test_one_channel_is_the_mean_unless_the_channels_cancel_each_other():
    sound = np.sin(np.arange(1000) / 5)
    mono, loudest = to_one_channel(np.stack([0.9 * sound, -sound], axis=1))
    assert loudest == 1
    np.testing.assert_array_equal(mono[:, 0], -sound)
    one_of_16 = np.zeros((1000, 16))
    one_of_16[:, 3] = sound
    mono, loudest = to_one_channel(one_of_16)
    assert loudest is None
    np.testing.assert_allclose(mono[:, 0], sound / 16)
    assert to_one_channel(np.zeros((9, 2)))[1] is None
    assert to_one_channel(sound[:, None])[1] is None


def test_random_bytes_in_a_header_are_refused_or_read():
    """Every header leads to an error of one line or to an array, never to another exception."""
    rng = np.random.default_rng(0)
    content = wav(WAVE.tobytes(), before=chunk(b"LIST", b"INFO"))
    for _ in range(2000):
        damaged = bytearray(content)
        for at in rng.integers(12, len(content), 3):
            damaged[at] = rng.integers(256)
        end = rng.integers(12, len(content) + 1)
        error = "none"
        try:
            samples, rate = read_wav(bytes(damaged[:end]))
        except UsageError as refused:
            error = str(refused)
        assert "\n" not in error
        assert error != "none" or (samples.ndim == 2 and rate > 0)


def test_the_module_needs_numpy_alone():
    code = "import sys, serving.wav, serving.resample; print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
