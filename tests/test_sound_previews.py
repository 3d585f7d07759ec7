"""Sounds in training previews and reports: drawings, WAV files, players."""

import re

import keras
import numpy as np
import pytest
import vocoders

import keras_gan
from keras_gan import report
from serving import UsageError, kinds
from serving.kinds import _waves

AUDIO = kinds.get("audio")
RATE = 8_000


def tone(hertz, level=1.0, count=RATE):
    return (level * np.sin(2 * np.pi * hertz * np.arange(count) / RATE)).astype(np.float32)


def drawn(samples, **meta):
    return AUDIO.sheet(np.stack(samples)[..., np.newaxis], {"sample_rate": RATE} | meta)


def rows(picture):
    """Returns the waveform and the spectrogram of the first cell."""
    top = _waves.LINE + _waves.WAVE
    wave = picture[_waves.LINE : top, : _waves.WIDTH]
    return wave, picture[top : top + _waves.MELS, : _waves.WIDTH]


def test_sixteen_sounds_are_four_rows_of_four():
    picture = drawn([tone(100 * (i + 1)) for i in range(16)])
    height, width = _waves.HEIGHT, _waves.WIDTH
    assert picture.shape == (4 * height + 6, 4 * width + 6, 3)
    AUDIO.check_sheet(16, (RATE, 1))
    with pytest.raises(UsageError, match="A grid must be at most 16384 pixels"):
        AUDIO.check_sheet(20_000, (RATE, 1))


def test_a_cell_shows_where_a_tone_is_and_how_loud():
    wave, spectrogram = rows(drawn([tone(1000, 0.5)]))
    light = spectrogram[:, 10:-10].sum(axis=-1).mean(axis=1)
    low, high = rows(drawn([tone(300)]))[1], rows(drawn([tone(3000)]))[1]
    rows_of = [x[:, 128].sum(axis=-1).argmax() for x in (high, spectrogram, low)]
    assert rows_of == sorted(rows_of)  # low frequencies are at the bottom
    assert light.argmax() == rows_of[1]
    assert (spectrogram[0, 20:-20] == (0, 0, 4)).all()  # nothing at the top: -80 dB or less
    inked = (wave[:, 128] != 255).any(axis=-1)
    assert inked.mean() == pytest.approx(0.5, abs=0.1)  # half of the height, by the level


def test_the_scale_is_fixed():
    """A sound of -40 dB is darker than one of 0 dB, whatever is drawn beside it."""
    alone = rows(drawn([tone(1000, 0.01)]))[1]
    beside = rows(drawn([tone(1000, 0.01), tone(1000)]))[1]
    np.testing.assert_array_equal(alone, beside)
    loud = rows(drawn([tone(1000)]))[1][:, 128].astype(int).sum(axis=-1).max()
    assert alone[:, 128].astype(int).sum(axis=-1).max() < loud - 200


def test_silence_short_sounds_and_bad_values_are_drawn():
    wave, spectrogram = rows(drawn([np.zeros(RATE, np.float32)]))
    assert (spectrogram == (0, 0, 4)).all()
    assert (wave[:, 128] != 255).any(axis=-1).sum() < 5
    for count in (1, 2, 100):
        assert drawn([tone(440, count=count)]).shape[0] == _waves.HEIGHT
    bad = tone(440)
    bad[10] = np.nan
    assert drawn([bad]).shape[0] == _waves.HEIGHT
    pair = np.stack([tone(440), tone(880)], axis=1)[np.newaxis]
    for rate in (3, 192_000):
        assert AUDIO.sheet(pair, {"sample_rate": rate}).shape[0] == _waves.HEIGHT
    pair = AUDIO.sheet(pair * 127.5 + 127.5, {"value_range": [0, 255], "sample_rate": RATE})
    same = AUDIO.sheet(np.stack([tone(440), tone(880)], axis=1)[np.newaxis], {"sample_rate": RATE})
    assert np.abs(pair.astype(int) - same).mean() < 1


def sounds_of(page):
    return re.findall(r'<audio controls [^>]*src="([^"]*)"', page)


def test_a_report_has_players_of_the_newest_sounds(run):
    (run.samples / "examples-000000000.png").write_bytes(b"")
    assert sounds_of(report.write(run).read_text()) == []
    for number in range(16):
        (run.samples / f"{number:03d}.wav").write_bytes(vocoders.wav(tone(440)))
    sources = sounds_of(report.write(run).read_text())
    assert len(sources) == 16
    kept = [x for x in sources if x.startswith("data:audio/wav;base64,UklGR")]
    assert len(kept) == 9  # of 21 kB each
    assert sum(map(len, kept)) < report.PLAYED + 500
    assert sources[9:] == [f"samples/{number:03d}.wav" for number in range(9, 16)]


def test_a_preview_writes_the_newest_sounds_as_wav_files(tmp_path):
    keras.utils.set_random_seed(0)
    generator = keras.Sequential(
        [
            keras.Input((4,), name="latents"),
            keras.layers.Dense(800, activation="tanh"),
            keras.layers.Reshape((800, 1), name="samples"),
        ]
    )
    discriminator = keras.Sequential(
        [keras.Input((800, 1), name="samples"), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    gan = keras_gan.GAN(generator, discriminator)
    gan.compile(keras.optimizers.Adam(1e-2), keras.optimizers.Adam(1e-2))
    field = keras_gan.Field("audio", (800, 1), meta={"sample_rate": RATE})
    preview = keras_gan.callbacks.Preview(tmp_path, seeds=range(18), field=field)
    data = np.tanh(np.random.default_rng(0).normal(size=(16, 800, 1))).astype("float32")
    gan.fit(data, batch_size=8, epochs=1, callbacks=[preview], verbose=0)
    assert sorted(x.name for x in tmp_path.glob("*.wav")) == [f"{i:03d}.wav" for i in range(16)]
    assert len(list(tmp_path.glob("examples-*.png"))) == 2
    found, rate = vocoders.heard((tmp_path / "005.wav").read_bytes())
    assert rate == RATE
    np.testing.assert_allclose(found, gan.generate([5])[0, :, 0], atol=1e-4)  # the newest
