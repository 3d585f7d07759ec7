"""Vocoders in onnxruntime: chunks equal the whole, lengths, sounds of any form, bad ones."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
import tiny
import vocoders
from vocoders import CONTEXT, MEL, reference, tones, wav

import serving
from serving import UsageError, cli, sounds
from serving.errors import TooLargeError
from serving.manifest import digest
from serving.vocoding import Clip

CHUNKS = (1, 7, 25, 100)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vocoders")


@pytest.fixture(scope="module")
def voice(folder):
    return serving.Bundle(vocoders.write(folder / "voice"), threads=1)


@pytest.fixture(scope="module")
def short(folder):
    """The same vocoder, with one frame of context less than it needs."""
    return serving.Bundle(vocoders.write(folder / "short", context=CONTEXT - 1), threads=1)


@pytest.fixture(scope="module")
def mel():
    return MEL(tones(51 * 64 - 5))


def joined(bundle, sound, chunk):
    return np.concatenate(list(bundle.vocode_chunks(sound, chunk)))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_chunks_equal_the_whole(voice, mel, chunk):
    whole = reference(voice, mel)
    assert np.abs(whole).max() > 0.05
    parts = list(voice.vocode_chunks(mel, chunk))
    assert [len(part) for part in parts[:-1]] == [64 * chunk] * (-(-len(mel) // chunk) - 1)
    assert np.abs(np.concatenate(parts) - whole).max() < 1e-5


@pytest.mark.parametrize("chunk", [1, 7, 25])
def test_one_frame_of_context_less_shows_in_chunks(short, mel, chunk):
    assert np.abs(joined(short, mel, chunk) - reference(short, mel)).max() > 1e-3


@pytest.mark.parametrize("frames", [1, 2, 3, CONTEXT, CONTEXT + 1, 2 * CONTEXT + 1])
def test_chunks_of_short_spectrograms_equal_the_whole(voice, mel, frames):
    for chunk in (1, 2, frames):
        found = joined(voice, mel[:frames], chunk)
        np.testing.assert_allclose(found, reference(voice, mel[:frames]), atol=1e-5)


@pytest.mark.parametrize("more", [0, 1, 63])
def test_a_sound_keeps_its_length_and_has_no_delay(voice, more):
    sound = tones(30 * 64 + more)
    answer = voice.vocode(sound)
    assert answer.shape == sound.shape
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, reference(voice, MEL(sound))[: len(sound)], atol=1e-5)
    parts = joined(voice, sound, 7)
    np.testing.assert_allclose(parts, answer, atol=1e-5)


@pytest.mark.parametrize("length", [1, 63, 64, 65, 700, 5000])
def test_spectrograms_of_parts_are_those_of_the_whole(voice, length):
    """The spectrogram of a chunk is cut from that of the whole sound, its ends included."""
    sound = tones(length)
    clip = Clip(voice.vocoder, sound)
    whole = MEL(sound)
    assert clip.frames == len(whole)
    for chunk in clip.chunks(3):
        np.testing.assert_allclose(clip.input_of(chunk)[0], whole[chunk.window], atol=1e-6)


def test_a_long_sound_is_run_in_parts_of_bounded_memory(voice):
    sound = tones(400_000)  # 50 s; the windows of its spectrogram are float64 of 13 MB
    answer = voice.vocode(sound)
    np.testing.assert_allclose(answer, reference(voice, MEL(sound))[: len(sound)], atol=1e-5)
    chunks = voice.vocode_chunks(sound, 25)
    next(chunks)
    tracemalloc.start()
    for _, part in zip(range(50), chunks, strict=False):
        assert len(part) == 1600
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_vocoder_without_a_finite_context_is_run_whole(folder, mel):
    bundle = serving.Bundle(vocoders.whole(folder / "whole"), threads=1)
    np.testing.assert_allclose(bundle.vocode(mel), reference(bundle, mel), atol=1e-6)
    with pytest.raises(UsageError, match="cannot be streamed"):
        bundle.vocode_chunks(mel, 7)


# --------------------------------------------------------------------------- forms of sounds


def test_files_arrays_and_spectrograms(voice, mel, tmp_path):
    sound = np.rint(tones(2000) * 32767) / 32767
    (tmp_path / "a.wav").write_bytes(wav(sound))
    np.save(tmp_path / "mel.npy", mel.astype(np.float64))
    answer = voice.vocode(sound)
    np.testing.assert_allclose(voice.vocode(tmp_path / "a.wav"), answer, atol=1e-3)
    np.testing.assert_allclose(voice.vocode(sound[:, np.newaxis]), answer, atol=1e-6)
    np.testing.assert_allclose(voice.vocode(tmp_path / "mel.npy"), voice.vocode(mel), atol=1e-6)
    np.testing.assert_allclose(voice.vocode(mel.astype(np.float16)), voice.vocode(mel), atol=0.02)


def test_another_rate_is_resampled_and_keeps_its_pitch(voice):
    time = np.arange(16_000) / 16_000
    sound = 0.5 * np.sin(2 * np.pi * 440 * time)
    found = sounds.from_samples(sound[:, np.newaxis], 16_000, voice.vocoder)
    assert found.notes == ("The sound was resampled from 16000 to 8000 Hz.",)
    assert found.clip.length == 8_000
    spectrogram = found.clip.input_of(next(found.clip.chunks(None)))[0]
    wanted = MEL(0.5 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 8_000))
    loud = wanted > -4
    assert np.abs(spectrogram[10:-10] - wanted[10:-10])[loud[10:-10]].max() < 0.01
    assert voice.vocode(sound, sample_rate=16_000).shape == (8_000,)


def test_channels_are_mixed_and_those_that_cancel_are_not(voice):
    sound = tones(2000).astype(np.float64)
    pair = np.stack([sound, 0.5 * sound], axis=1)
    mixed = sounds.read(wav(pair), voice.vocoder)
    assert mixed.notes == ("The 2 channels were mixed to one.",)
    opposite = sounds.read(wav(np.stack([-sound, sound], axis=1)), voice.vocoder)
    assert opposite.notes == (
        "Channel 1 of 2 was used, because the channels cancel out.",
    )  # the louder one where one is
    for found, factor in ((mixed, 0.75), (opposite, -1.0)):
        part = found.clip.input_of(next(found.clip.chunks(None)))[0]
        np.testing.assert_allclose(part, MEL(np.rint(sound * factor * 32767) / 32768), atol=0.05)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"A sound must be a WAV file or a spectrogram as \.npy\. Received: 0 bytes"),
        (b"nothing at all", r"Received: 14 bytes that begin with b'nothing '"),
        (wav([]), r"A sound must have samples\. Received: 0 samples"),
        (b"RIFF\x04\0\0\0WAVE", "must have the chunks fmt and data"),
        (vocoders.npy(np.zeros((40, 9))), r"shape \(frames, 40\).*may be transposed.*\(40, 9\)"),
        (vocoders.npy(np.zeros((9, 80))), r"shape \(frames, 40\) with 1 frame.*\(9, 80\)"),
        (vocoders.npy(np.zeros((0, 40))), r"1 frame or more\. Received: shape=\(0, 40\)"),
        (vocoders.npy(np.full((9, 40), np.nan)), "finite"),
        (vocoders.npy(np.full((9, 40), -80.0)), r"natural logarithms|decibel"),
        (vocoders.npy(np.full((9, 40), 6.0)), "values from 6 to 6"),
        (vocoders.npy(np.array(["a"])), "numbers"),
    ],
    ids=range(11),
)  # fmt: skip
def test_bad_files(voice, content, message):
    with pytest.raises(UsageError, match=message):
        sounds.read(content, voice.vocoder)


@pytest.mark.parametrize("factor", [1 / np.log(10), 20 / np.log(10)])
def test_every_way_to_give_a_spectrogram_checks_its_logarithms(voice, tmp_path, factor, capsys):
    mel = (MEL(np.pad(tones(4000), (999, 0))) * factor).astype(np.float32)
    np.save(tmp_path / "mel.npy", mel)
    path = str(tmp_path / "mel.npy")
    for call in (
        lambda: voice.vocode(mel),
        lambda: voice.vocode(path),
        lambda: voice.vocode_chunks(mel),
        lambda: voice.generate(mel=mel[np.newaxis]),
        lambda: voice.sample(mel=mel[np.newaxis]),
    ):
        with pytest.raises(UsageError, match=r"^`mel` must be natural logarithms of mel magni"):
            call()
    bundle = str(voice.path)
    for status, command in (  # 1: a file that cannot be read, beside others that may
        (1, ["vocode", bundle, path, str(tmp_path / "a.wav")]),
        (2, ["sample", bundle, "--input", f"mel={path}", "--out", str(tmp_path / "a.wav")]),
        (2, ["sample", bundle, "--input", f"mel={path}", "--out", f"{tmp_path}/many/"]),
    ):
        assert cli.main(command) == status
        line = capsys.readouterr().err
        assert "`mel` must be natural logarithms of mel magnitudes" in line
        assert line.count("\n") == 1
    assert not (tmp_path / "a.wav").exists()


def test_lengths_and_rates_are_checked_by_the_header(voice):
    forged = bytearray(wav(tones(100)))
    struct.pack_into("<I", forged, 24, 1)  # Hz
    with pytest.raises(TooLargeError, match=r"at most 20 s long\. Received: 100 s"):
        sounds.read(bytes(forged), voice.vocoder, max_seconds=20)
    with pytest.raises(sounds.RateError, match=r"must have 8000 Hz.*Received: 16000 Hz"):
        sounds.read(wav(tones(100), 16_000), voice.vocoder, resampled=False)
    with pytest.raises(TooLargeError, match=r"Received: 800 s"):
        sounds.read(vocoders.npy(np.zeros((100_000, 40))), voice.vocoder, max_seconds=300)


def test_bad_arrays(voice, tmp_path):
    for sound, message in (
        (np.zeros(100, int), "A sound must be a path, floats"),
        (np.zeros((2, 3, 4)), r"shape=\(2, 3, 4\)"),
        (np.zeros(0), r"shape=\(0,\)"),
        (np.full(100, np.nan), "finite numbers"),
        (np.full(100, 15.0), r"must be in \[-1, 1\]\. Received: values from 15 to 15"),
        (tmp_path / "none.wav", r"A sound must be a readable file\. Received: .* \(No such file"),
        (tmp_path, r"A sound must be a readable file\. Received: .* \(Is a directory\)"),
        ("a\0.wav", r"A sound must be a readable file\. Received: 'a\\x00\.wav' \(embedded null"),
    ):
        with pytest.raises(UsageError, match=message):
            voice.vocode(sound)
    with pytest.raises(UsageError, match="`sample_rate` must be an integer above 0"):
        voice.vocode(tones(100), sample_rate=0)
    for chunk in (0, 2000, 2.5):
        with pytest.raises(UsageError, match=f"`chunk` must be .* Received: chunk={chunk}"):
            voice.vocode_chunks(tones(100), chunk)


def test_other_bundles_do_not_vocode(folder):
    bundle = serving.Bundle(tiny.points(folder / "points"), threads=1)
    assert bundle.vocoder is None
    with pytest.raises(UsageError, match=r"A vocoder has the role 'vocoder'.*role 'generator'"):
        bundle.vocode(tones(100))


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ({}, "`audio` in manifest.json must be an object with context"),
        ({"context": -1}, r"`audio.context` .* must be an integer from 0 to 4096"),
        ({"context": 1.5}, r"Received: audio.context=1.5"),
        ({"context": 4, "rate": 1}, "an object with context"),
    ],
)
def test_bad_facts_in_a_manifest(tmp_path, audio, message):
    path = vocoders.write(tmp_path / "a") / "manifest.json"
    content = json.loads(path.read_text()) | {"audio": audio}
    content["digest"] = digest(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=message):
        serving.Bundle(tmp_path / "a")


def test_a_definition_in_a_manifest_may_leave_out_what_has_a_default(tmp_path):
    path = vocoders.write(tmp_path / "a") / "manifest.json"
    content = json.loads(path.read_text())

    def opened(definition):
        content["inputs"][0]["meta"] = {"mel": definition}
        content["digest"] = digest(content)
        path.write_text(json.dumps(content))
        return serving.Bundle(tmp_path / "a")

    assert opened({"mels": 40}).vocoder.mel == MEL
    with pytest.raises(UsageError, match="sound of one channel at 16000 Hz, beside `audio`"):
        opened({"mels": 40, "sample_rate": 16_000, "high": 4000})


def test_facts_of_a_vocoder_need_its_ports(tmp_path):
    sound = tiny.two_latents(tmp_path / "a")
    vocoders.declare(sound, 3)
    with pytest.raises(UsageError, match="one given spectrogram of any length"):
        serving.Bundle(sound)
