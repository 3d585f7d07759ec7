"""`keras-gan vocode`, and `keras-gan sample` of sounds into a folder."""

import numpy as np
import pytest
import tiny
import vocoders
from vocoders import MEL, heard, tones, wav

import serving
from serving.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("vocoders")
    vocoders.write(found / "voice")
    return found


@pytest.fixture
def speech(tmp_path):
    sounds = tmp_path / "in"
    sounds.mkdir()
    (sounds / "a.wav").write_bytes(wav(tones(3000)))
    (sounds / "B.WAV").write_bytes(wav(tones(8000, 16_000), 16_000))
    np.save(sounds / "c.npy", MEL(tones(640)))
    (sounds / "notes.txt").write_text("no sound")
    return sounds


def test_a_sound_and_a_spectrogram(folder, speech, tmp_path, capsys):
    out = tmp_path / "a.wav"
    assert main(["vocode", str(folder / "voice"), str(speech / "a.wav"), str(out)]) == 0
    assert "1 sound of 0.375 s in all by voice" in capsys.readouterr().out
    found, rate = heard(out.read_bytes())
    wanted = serving.Bundle(folder / "voice", threads=1).vocode(speech / "a.wav")
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert rate == 8_000
    assert b"A sound made by a model" in out.read_bytes()
    arguments = ["vocode", str(folder / "voice"), str(speech / "c.npy"), str(out)]
    assert main([*arguments, "--no-metadata"]) == 0
    assert len(heard(out.read_bytes())[0]) == 640
    assert b"A sound made" not in out.read_bytes()


def test_a_folder_with_a_file_that_cannot_be_read(folder, speech, tmp_path, capsys):
    (speech / "bad.wav").write_bytes(b"nothing")
    status = main(["vocode", str(folder / "voice"), str(speech), str(tmp_path / "out")])
    shown = capsys.readouterr()
    assert status == 1
    assert sorted(x.name for x in (tmp_path / "out").iterdir()) == ["B.wav", "a.wav", "c.wav"]
    assert len(heard((tmp_path / "out" / "B.wav").read_bytes())[0]) == 4_000
    assert "B.WAV: The sound was resampled from 16000 to 8000 Hz." in shown.err
    assert "bad.wav: error: A sound must be a WAV file" in shown.err
    assert "3 sounds of 0.955 s in all" in shown.out
    assert "1 could not be read" in shown.out


def test_clipped_samples_are_counted(folder, speech, tmp_path, capsys):
    vocoders.write(folder / "loud", "loud", scale=2.0)
    assert (
        main(["vocode", str(folder / "loud"), str(speech / "a.wav"), str(tmp_path / "a.wav")]) == 0
    )
    assert "of 3000 samples were beyond [-1, 1] and were clipped." in capsys.readouterr().err


def test_mistakes(folder, speech, tmp_path, capsys):
    tiny.points(folder / "points")
    sound, out = str(speech / "a.wav"), str(tmp_path / "out.wav")
    voice = str(folder / "voice")
    for arguments, message in (
        ([voice, str(tmp_path / "none.wav"), out], "A sound must exist"),
        ([voice, sound, str(tmp_path / "a.mp3")], "OUT must be a file that ends in .wav"),
        ([voice, sound, str(tmp_path)], "OUT must be a file that ends in .wav"),
        ([voice, sound, sound], "An answer must not replace a sound that is read"),
        ([voice, str(speech), str(speech)], "An answer must not replace a sound that is read"),
        ([voice, str(speech), sound], "OUT must be a folder for several sounds"),
        ([voice, voice, out], "A folder must have files that end in .wav, .wave, .npy"),
        ([str(folder / "points"), sound, out], "A vocoder has the role 'vocoder'"),
        (["http://localhost/voice", sound, out], "vocode takes a bundle on this machine"),
    ):
        assert main(["vocode", *arguments]) == 2, message
        assert message in capsys.readouterr().err


def test_answers_are_not_written_among_the_sounds(folder, tmp_path, capsys):
    mels = tmp_path / "mels"
    mels.mkdir()
    np.save(mels / "x.npy", MEL(tones(640)))
    for out in (mels, f"{tmp_path}/mels/../mels/"):
        assert main(["vocode", str(folder / "voice"), str(mels), str(out)]) == 2
        line = capsys.readouterr().err
        assert "Answers must not be written into a folder of sounds" in line
        assert "Received: OUT " in line
    assert [x.name for x in mels.iterdir()] == ["x.npy"]
    voice, answer = str(folder / "voice"), mels / "x.wav"
    assert main(["vocode", voice, str(mels / "x.npy"), str(answer)]) == 0  # a file beside another
    assert len(heard(answer.read_bytes())[0]) == 640
    assert main(["vocode", voice, str(mels), str(tmp_path / "out")]) == 2
    assert "Sounds of one OUT folder must have different names" in capsys.readouterr().err


def test_sounds_from_seeds_are_files_of_a_folder(folder, tmp_path, capsys):
    tiny.two_latents(folder / "sounds")
    out = f"{tmp_path}/wavs/"
    assert main(["sample", str(folder / "sounds"), "--count", "16", "--out", out]) == 0
    names = sorted(x.name for x in (tmp_path / "wavs").iterdir())
    assert names == [f"seed{seed:06d}.wav" for seed in range(16)]
    found, rate = heard((tmp_path / "wavs" / "seed000005.wav").read_bytes())
    assert rate == 8_000
    wanted = serving.Bundle(folder / "sounds", threads=1).generate([5])[0, :, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    shards = f"{tmp_path}/shards/"
    arguments = ["sample", str(folder / "sounds"), "--count", "4", "--out", shards]
    assert main([*arguments, "--format", "npz", "--workers", "1"]) == 0
    assert not list((tmp_path / "shards").glob("*.wav"))
    capsys.readouterr()
