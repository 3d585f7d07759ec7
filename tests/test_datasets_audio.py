"""Data sets of sounds: files, layouts, windows, splits, spectrograms and the report."""

import os
import re
import shutil

import numpy as np
import pytest

from keras_gan import UsageError, automatic, datasets
from keras_gan import recipe as recipes
from keras_gan.datasets import audio, sound_files
from keras_gan.datasets.cuts import Cuts
from keras_gan.datasets.sound_clips import ClipOptions, decode
from keras_gan.datasets.sound_files import CorruptSound, Sound
from keras_gan.datasets.sound_store import Store
from serving.mel import Mel
from serving.wav import to_pcm16, write_wav
from tests.test_wav import wav

RATE = 8000


def tone(seconds=0.5, frequency=440.0, rate=RATE, level=0.5, channels=1):
    wave = level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def write(file, samples, rate=RATE):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(write_wav(to_pcm16(samples)[0], rate))
    return file


@pytest.fixture
def tones(tmp_path):
    """A folder of twelve tones of different frequencies and lengths."""
    for number in range(12):
        write(tmp_path / "tones" / f"{number}.wav", tone(0.3 + 0.02 * number, 200 + 50 * number))
    return tmp_path / "tones"


def everything(source):
    parts = [np.asarray(source.arrays(name)[0]) for name in source.split_names]
    return np.concatenate(parts)


# --------------------------------------------------------------------------- cuts


def test_cuts_are_those_of_the_array_and_filled_beyond_their_limits():
    values = np.arange(20).reshape(10, 2)
    limits = np.array([[0, 10], [2, 8], [2, 8], [0, 3], [0, 3]])
    cuts = Cuts(values, np.array([1, 0, 6, -9, 7]), 4, limits, fill=-1)
    expected = np.full((5, 4, 2), -1)
    expected[0] = values[1:5]
    expected[1, 2:] = values[2:4]
    expected[2, :2] = values[6:8]
    assert cuts.shape == (5, 4, 2)
    np.testing.assert_array_equal(cuts[:], expected)
    np.testing.assert_array_equal(cuts[np.array([2, 0])], expected[[2, 0]])
    np.testing.assert_array_equal(cuts[1], expected[1])
    np.testing.assert_array_equal(np.asarray(cuts), expected)


# --------------------------------------------------------------------------- one clip


def as_sound(values, rate=RATE):
    return Sound(rate, values.shape[1], len(values), lambda a, b: values[a:b])


def test_the_louder_channel_is_read_where_two_cancel_each_other():
    stereo = np.concatenate([tone(), -0.99 * tone()], axis=1)
    clip = decode(as_sound(stereo), ClipOptions(RATE))
    assert clip.opposite
    expected = stereo[:, 0] / np.abs(stereo[:, 0]).max() * 0.95
    np.testing.assert_allclose(clip.samples[:, 0] / 2**15, expected, atol=1e-3)


def test_a_sound_that_ends_before_its_header_says_is_cut_and_counted():
    values = tone(1)[:5000]
    short = lambda a, b: values[a:b]  # noqa: E731
    for rate, count in ((RATE, 5000), (16_000, 10_000)):
        clip = decode(Sound(RATE, 1, 8000, short, 7), ClipOptions(rate, 1, "none"))
        assert (len(clip.samples), clip.missing, clip.values) == (count, 3007, 5000)
        np.testing.assert_allclose(clip.samples[:: rate // RATE], values * 2**15, atol=700)
    with pytest.raises(CorruptSound, match="holds no samples"):
        decode(Sound(RATE, 1, 8000, lambda a, b: values[:0]), ClipOptions(RATE))


def test_one_active_channel_of_many_is_not_taken_for_cancellation():
    values = np.concatenate([tone(), np.zeros((4000, 15))], axis=1)
    clip = decode(as_sound(values), ClipOptions(RATE, 1, "none"))
    assert not clip.opposite
    np.testing.assert_allclose(clip.samples / 2**15, tone() / 16, atol=1e-4)


def test_the_mean_of_other_channels_is_read():
    clip = decode(as_sound(np.concatenate([tone(), 0 * tone()], 1)), ClipOptions(RATE, 1, "none"))
    assert not clip.opposite
    np.testing.assert_allclose(clip.samples / 2**15, tone() / 2, atol=1e-4)


def test_a_constant_offset_is_removed_and_the_peak_scaled():
    clip = decode(as_sound(0.1 * tone() + 0.4), ClipOptions(RATE))
    values = clip.samples / 2**15
    assert abs(values.mean()) < 1e-3
    assert np.abs(values).max() == pytest.approx(0.95, abs=1e-3)


def test_floats_beyond_full_scale_do_not_wrap_around():
    loud = decode(as_sound(30 * tone()), ClipOptions(RATE, 1, "none"))
    assert loud.clipped > 0.9 * loud.values
    assert set(np.sign(loud.samples[np.abs(loud.samples) > 30000])) == {-1, 1}
    used = np.abs(tone()) > 1e-6
    np.testing.assert_array_equal(np.sign(loud.samples[used]), np.sign(tone()[used]))


def test_a_long_clip_is_decoded_by_blocks_in_bounded_memory(monkeypatch):
    monkeypatch.setattr("keras_gan.datasets.sound_clips._IN_MEMORY", 1000)
    monkeypatch.setattr("keras_gan.datasets.sound_clips._ON_DISK", 1000)
    monkeypatch.setattr("keras_gan.datasets.sound_clips._BLOCK", 4096)
    values = np.concatenate([0 * tone(), tone(3), 0 * tone()])
    longest = []

    def read(first, last):
        longest.append(last - first)
        return values[first:last]

    clip = decode(Sound(RATE, 1, len(values), read), ClipOptions(RATE))
    assert max(longest) <= 2**18  # samples that the resampler reads together
    np.testing.assert_allclose(clip.samples / 2**15, values * 1.9, atol=1e-3)
    assert abs(clip.first - 4000) <= 40
    assert abs(clip.last - 28_000) <= 40
    assert abs(clip.silent - 8000) <= 320


def test_a_tone_of_another_rate_keeps_its_pitch(tmp_path):
    file = write(tmp_path / "a.wav", tone(1.0, 440, 16_000), 16_000)
    source = datasets.open(str(file), sample_rate=8000, layout="windows", length=4096)
    x = source.arrays("train")[0][0][:, 0] / 2**15
    # The phase of the signal at 440 Hz advances by less than a cent in all of the window.
    spectrum = x * np.hanning(4096) * np.exp(-2j * np.pi * 440 * np.arange(4096) / 8000)
    first, second = spectrum[:2048].sum(), spectrum[2048:].sum()
    drift = np.angle(second / first) / (2 * np.pi * 2048 / 8000)  # Hz
    assert abs(1200 * np.log2(1 + drift / 440)) < 1
    assert "resampled from 16,000 Hz (1)" in source.description


# --------------------------------------------------------------------------- folders


def test_a_folder_of_sounds_is_opened_by_its_path(tones):
    source = datasets.open(tones)
    assert source.spec.kind == "audio"
    assert source.spec.shape == (4096, 1)
    assert source.spec.samples.meta["sample_rate"] == RATE
    assert (source.count("train"), source.count("held_out")) == (11, 1)
    line = f"audio: {tones}, 11 + 1 sounds (4.9 s) at 8,000 Hz, each as 4,096 samples (0.512 s)"
    assert source.description.startswith(line)
    batch = next(iter(source.dataset("train", 4, seed=0))).numpy()
    assert batch.shape == (4, 4096, 1)
    assert batch.dtype == np.float32
    assert np.abs(batch).max() == pytest.approx(0.95, abs=1e-3)


def test_clips_are_centered_or_aligned_at_the_start(tones):
    for align, place in (("center", 1.0), ("start", 0.0)):
        for sample in everything(datasets.open(tones, align=align)):
            loud = np.flatnonzero(sample[:, 0])
            before, after = loud[0], len(sample) - 1 - loud[-1]
            assert before <= 40 if not place else abs(before - after) <= 80


def test_subfolders_are_classes_and_hidden_files_and_loops_are_passed_over(tmp_path):
    for name in ("low", "high"):
        for number in range(4):
            level = 100 if name == "low" else 900
            write(tmp_path / name / "more" / f"{number}.WAV", tone(0.3, level + 10 * number))
    write(tmp_path / "low" / "._0.wav", tone())
    (tmp_path / "low" / "notes.txt").write_text("x")
    os.symlink(tmp_path, tmp_path / "high" / "loop")
    source = datasets.open(tmp_path)
    assert source.spec.class_names == ("high", "low")
    assert source.count("train") + source.count("held_out") == 8
    assert "left out: 1 .txt, 1 hidden" in source.description
    x, labels = source.arrays("train")
    crossings = [np.count_nonzero(np.diff(np.sign(s[:, 0]))) for s in np.asarray(x)]
    assert [int(n < 150) for n in crossings] == labels.tolist()


def test_a_folder_of_splits_is_held_out_as_it_is(tmp_path):
    for number in range(6):
        write(tmp_path / ("test" if number < 2 else "train") / f"{number}.wav", tone(0.3 + number))
    source = datasets.open(tmp_path, length=1024, layout="windows")
    assert "4 + 2 sounds" in source.description
    with pytest.raises(UsageError, match=r"held-out samples of its own. Received: held_out=0.5"):
        datasets.open(tmp_path, held_out=0.5)


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"split_by": "folder"}, "split_by='folder'"),
        ({"group_pattern": "^a"}, "group_pattern='\\^a'"),
    ],
)
def test_groups_are_refused_for_a_folder_of_splits(tmp_path, options, received):
    for split in ("train", "test"):
        write(tmp_path / split / "a" / "1.wav", tone(0.3, 300 if split == "test" else 400))
    rule = f"`{next(iter(options))}` must not be given for a folder with held-out sounds of its own"
    with pytest.raises(UsageError, match=f"{rule}. Received: {received}"):
        datasets.open(tmp_path, **options)


def test_a_folder_without_sounds_is_refused(tmp_path):
    assert audio.parse(str(tmp_path)) is None
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(UsageError, match=r"files such as .wav.*Received: none in .*1 .txt"):
        datasets.open("audio", path=tmp_path)
    with pytest.raises(UsageError, match=r"folder of sounds must exist. Received: path="):
        datasets.open("audio", path=tmp_path / "missing")


def test_copies_are_never_separated(tones):
    for number in range(3):
        shutil.copy(tones / "5.wav", tones / f"copy{number}.wav")
    source = datasets.open(tones, held_out=0.4)
    assert "3 duplicates" in source.description
    digests = [{x.tobytes() for x in np.asarray(source.arrays(n)[0])} for n in source.split_names]
    assert not digests[0] & digests[1]


def test_sounds_of_a_folder_or_a_group_are_never_separated(tmp_path):
    for speaker in range(6):
        for number in range(3):
            pitch = 200 + 100 * speaker + 5 * number
            write(tmp_path / f"s{speaker}" / f"{speaker}_{number}.wav", tone(0.3, pitch))
    for options in ({"split_by": "folder"}, {"group_pattern": r"^\d+"}):
        source = datasets.open(tmp_path, labels=False, held_out=0.34, **options)
        assert source.count("held_out") == 6
        assert "files of one group, of 6, are kept together" in source.description
        pitches = [
            {
                round(np.abs(np.fft.rfft(s[:, 0])).argmax() * RATE / 4096 / 100)
                for s in np.asarray(x)
            }
            for x in (source.arrays(name)[0] for name in source.split_names)
        ]
        assert not pitches[0] & pitches[1]
    with pytest.raises(UsageError, match=r"that are not the classes.*6 folders and 6 classes"):
        datasets.open(tmp_path, split_by="folder")


# --------------------------------------------------------------------------- windows


@pytest.fixture
def long_tones(tmp_path):
    """Ten sounds of 4 seconds: a tone, silence, and another tone."""
    for number in range(10):
        parts = [tone(1, 300 + 20 * number), 0 * tone(2), tone(1, 310 + 20 * number)]
        write(tmp_path / f"{number}.wav", np.concatenate(parts))
    write(tmp_path / "short.wav", tone(0.1))
    return tmp_path


def test_windows_are_loud_and_those_held_out_do_not_overlap(long_tones):
    source = datasets.open(long_tones, layout="windows", length=2048)
    assert source.count("train") > 1000
    assert re.search(r"\d\d\.\d% of the windows left out as quiet", source.description)
    assert "1 shorter than a window left out" in source.description
    for name in source.split_names:
        rows = source.rows(name, np.arange(0, source.count(name), 37))[0] / 2**15
        assert np.sqrt(np.square(rows).mean(axis=1)).min() > 0.001
    held = source.rows("held_out", np.arange(source.count("held_out")))[0]
    assert source.count("held_out") <= 2 * (8000 // 2048 + 1)
    assert len({x.tobytes() for x in held}) == len(held)


def test_the_order_of_windows_is_resumed_exactly(long_tones):
    source = datasets.open(long_tones, layout="windows", length=1024)
    whole = source.dataset("train", 4, seed=3, repeat=True).take(6)
    rest = source.dataset("train", 4, seed=3, repeat=True, start=4).take(2)
    for one, other in zip(list(whole)[4:], rest, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_length_beyond_all_sounds_is_refused(tones):
    with pytest.raises(UsageError, match=r"longest sound, 4,160; .*Received: length=8192"):
        datasets.open(tones, layout="windows", length=8192)


def test_sounds_that_exceed_the_memory_limit_are_kept_in_the_cache(long_tones, tmp_path):
    cache = tmp_path / ".cache"
    options = {"layout": "windows", "length": 1024, "cache": cache}
    first = datasets.open(long_tones, memory_limit=1000, **options)
    assert "kept in the cache folder" in first.description
    (entry,) = cache.iterdir()
    written = (entry / "samples.npy").stat().st_mtime_ns
    again = datasets.open(long_tones, memory_limit=1000, **options)
    assert (entry / "samples.npy").stat().st_mtime_ns == written
    in_memory = datasets.open(long_tones, **options)
    rows = np.arange(0, first.count("train"), 50)
    for other in (again, in_memory):
        np.testing.assert_array_equal(other.rows("train", rows)[0], first.rows("train", rows)[0])


# --------------------------------------------------------------------------- spectrograms


def test_a_cache_that_cannot_be_written_is_named(long_tones, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    rule = "The decoded sounds must be written to the cache folder; name another with cache="
    with pytest.raises(UsageError, match=f"^{rule}.*Received: .*file"):
        datasets.open(long_tones, memory_limit=1, cache=tmp_path / "file")


@pytest.mark.parametrize("layout", ["windows", "one_shot"])
def test_a_spectrogram_is_cut_from_that_of_the_whole_sound(long_tones, layout, monkeypatch):
    monkeypatch.setattr("keras_gan.datasets.sound_windows._FRAMES", 50)
    os.remove(long_tones / "short.wav")
    options = {"layout": layout, "length": 2048 if layout == "windows" else 40_000, "held_out": 0}
    source = datasets.open(long_tones, mel={"hop": 64, "mels": 20}, normalize="none", **options)
    field = source.spec.fields["mel"]
    mel = Mel(hop=64, mels=20)
    assert field.shape == (options["length"] // 64, 20)
    assert Mel.from_meta(field.meta["mel"]) == Mel(hop=64, mels=20, high=4000.0)
    batch = next(iter(source.dataset("train", 8, seed=1)))
    wholes = [sound_files.opened(f) for f in sorted(long_tones.glob("*.wav"))]
    waves = []
    for whole in wholes:
        with whole as sound:
            waves.append(sound.read(0, sound.frames)[:, 0])
    spectrograms = [mel(np.pad(wave, (40_000 // 64 * 64, 40_000 // 64 * 64))) for wave in waves]
    for samples, found in zip(batch["samples"].numpy(), batch["mel"].numpy(), strict=True):
        distances = [
            np.abs(of[first : first + len(found)] - found).max()
            for of in spectrograms
            for first in range(len(of) - len(found) + 1)
        ]
        assert min(distances) < 1e-3
        if layout == "windows":
            inner = mel(samples[:, 0])  # without context, the frames at the edges differ
            np.testing.assert_allclose(inner[2:-2], found[2:-2], atol=1e-3)


def test_the_length_with_spectrograms_is_a_multiple_of_the_hop(tones):
    source = datasets.open(tones, mel={"hop": 100, "window": 200})
    assert source.spec.shape == (4100, 1)
    with pytest.raises(
        UsageError, match=r"multiple of the hop of `mel`, 64. Received: length=1000"
    ):
        datasets.open(tones, length=1000, mel={})


def test_a_spectrogram_is_checked_at_the_sampling_rate_of_the_data(tmp_path, monkeypatch):
    mel = {"hop": 256, "window": 1024, "n_fft": 1024, "mels": 80, "high": 7600}
    write(tmp_path / "a.wav", tone(1, 440, 16_000), 16_000)
    write(tmp_path / "b.wav", tone(1, 550, 16_000), 16_000)
    source = datasets.open(tmp_path, mel=mel, held_out=0)
    assert source.spec.fields["mel"].meta["mel"]["high"] == 7600
    with pytest.raises(UsageError, match=r"length` must be a multiple .* 256. Received: length=99"):
        datasets.open(tmp_path, mel=mel, length=999)
    with pytest.raises(UsageError, match=r"Received: low=0.0, high=7600, sample_rate=8000"):
        datasets.open("audio", path=tmp_path / "none", mel=mel, sample_rate=8000)
    monkeypatch.setattr("keras_gan.datasets.sound_source.read_all", None)  # before decoding
    with pytest.raises(UsageError, match=r"Received: low=0.0, high=9000, sample_rate=16000"):
        datasets.open(tmp_path, mel=mel | {"high": 9000})
    with pytest.raises(UsageError, match=r"`hop` must be a whole number .* Received: hop='64'"):
        datasets.open(tmp_path, mel={"hop": "64"}, length=128)


def test_the_starts_of_clips_are_summed_once():
    table = np.zeros((3, 10), np.int64)
    table[:, 1] = 2, 3, 4  # the column `count`
    store = Store(np.arange(9)[:, None], table, [], [], ClipOptions(RATE))
    assert store.starts is store.starts
    np.testing.assert_array_equal(store.clip(2)[:, 0], [5, 6, 7, 8])


# --------------------------------------------------------------------------- bad files


def test_labels_keep_to_their_sounds_when_a_reader_is_installed(tmp_path, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "sounds"
    for number in range(4):
        write(folder / "b" / f"{number}.wav", tone(0.3, 500 + 9 * number))
        write(folder / "c" / f"{number}.wav", tone(0.3, 900 + 9 * number))
    (folder / "a").mkdir()
    # An encoding that the package's own reader does not know.
    soundfile.write(str(folder / "a" / "0.wav"), tone(0.3, 200), RATE, "IMA_ADPCM")

    def pitches():
        source = datasets.open(
            folder, skip_corrupt=True, memory_limit=1, cache=tmp_path / "cache", held_out=0
        )
        x, labels = (np.asarray(part) for part in source.arrays("train")[:2])
        peaks = np.abs(np.fft.rfft(x[:, :, 0])).argmax(axis=1) * RATE / x.shape[1]
        return {(int(label), round(peak / 100)) for label, peak in zip(labels, peaks, strict=True)}

    with monkeypatch.context() as patched:
        patched.setattr(sound_files, "_soundfile", lambda: None)
        assert pitches() == {(1, 5), (2, 9)}
    assert pitches() == {(0, 2), (1, 5), (2, 9)}


def test_a_truncated_mp3_ends_where_it_ends(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    file = tmp_path / "a.mp3"
    soundfile.write(str(file), tone(10, 440, 16_000), 16_000, format="MP3")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with sound_files.opened(file) as sound:
        announced, there = sound.frames, len(sound.read(0, sound.frames))
        clip = decode(sound, ClipOptions(16_000))
    assert there < announced
    assert (len(clip.samples), clip.missing) == (there, announced - there)
    assert "1 truncated, read as far as they go" in datasets.open(file, held_out=0).description


def test_damaged_files_are_refused_or_skipped_with_their_names(tones):
    damaged = {
        "empty.wav": (b"", "the file is empty"),
        "text.wav": (b"this is not sound, but text", "RIFF|[Ff]ormat|recogni"),
        "header.wav": (wav(b""), "it holds no samples"),
        "nan.wav": (wav(np.full(999, np.nan, "<f4").tobytes(), code=3, bits=32), "NaN"),
        "rate.wav": (wav(b"ab" * 99, rate=2**31, bits=8), "1 channels of 2147483648 Hz"),
    }
    for name, (content, reason) in damaged.items():
        (tones / name).write_bytes(content)
        with pytest.raises(UsageError, match=rf"skip_corrupt=true.*{name}: .*({reason})"):
            datasets.open(tones)
        source = datasets.open(tones, skip_corrupt=True)
        assert source.count("train") == 11
        assert f"1 damaged files skipped ({tones / name}: " in source.description
        assert len(source.skipped) == 1
        os.remove(tones / name)


def test_silent_and_truncated_files_are_named_in_the_report(tones):
    write(tones / "silent.wav", 0 * tone())
    write(tones / "offset.wav", 0 * tone() + 0.3)
    (tones / "cut.wav").write_bytes((tones / "11.wav").read_bytes()[:-2000])
    source = datasets.open(tones)
    assert source.count("train") + source.count("held_out") == 13
    assert f"1 truncated, read as far as they go ({tones / 'cut.wav'})" in source.description
    shown = f"2 silent ones left out ({tones / 'offset.wav'}; {tones / 'silent.wav'})"
    assert shown in source.description


def test_a_folder_without_a_readable_sound_is_refused(tmp_path):
    write(tmp_path / "a.wav", 0 * tone())
    with pytest.raises(UsageError, match=r"Received: 0 of 1; .*a.wav: silent"):
        datasets.open(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"RIFF\0\0\0\0WAVE")
    with pytest.raises(UsageError, match=r"Received: 0 of 1 files, such as .*a.wav: "):
        datasets.open(tmp_path, skip_corrupt=True)


def test_one_sample_and_one_file_in_a_class_do_no_harm(tmp_path):
    for number in range(5):
        write(tmp_path / "many" / f"{number}.wav", tone(0.3, 300 + 10 * number))
    write(tmp_path / "one" / "click.wav", np.full((1, 1), 0.5))
    write(tmp_path / "one" / "short.wav", tone(0.1))
    source = datasets.open(tmp_path, length=4096)
    assert "1 silent ones left out" in source.description  # a single value is a constant offset
    x = everything(source)
    assert x.shape == (6, 4096, 1)
    assert np.abs(x.astype(int)).max(axis=(1, 2)).min() > 30_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 0}, "`sample_rate` must be .*Received: sample_rate=0"),
        ({"length": 1}, "`length` must be .*Received: length=1"),
        ({"layout": "cut"}, "`layout` must be auto or one_shot or windows. Received: layout='cut'"),
        ({"channels": 6}, "`channels` must be 1 or 2. Received: channels=6"),
        ({"channels": True}, "`channels` must be 1 or 2. Received: channels=True"),
        ({"mel": {}, "channels": 2}, "`mel` needs one channel. Received: channels=2"),
        ({"mel": 64}, "`mel` must be a mapping .*Received: mel=64"),
        ({"mel": {"hops": 64}}, "hop"),
        ({"mel": {"sample_rate": 8000}}, "must not name a sampling rate"),
        ({"group_pattern": "("}, "`group_pattern` must be a regular expression"),
        ({"held_out": 1}, "`held_out` must be .*Received: held_out=1"),
    ],
)
def test_options_out_of_range(tones, options, message):
    with pytest.raises(UsageError, match=message):
        datasets.open(tones, **options)


# --------------------------------------------------------------------------- other formats


@pytest.mark.parametrize("form", ["FLAC", "OGG", "AIFF", "MP3"])
def test_other_formats_are_read_by_soundfile(tmp_path, form):
    soundfile = pytest.importorskip("soundfile")
    for number in range(3):
        wave = tone(0.5, 300 + 100 * number, 16_000)
        soundfile.write(str(tmp_path / f"{number}.{form.lower()}"), wave, 16_000, format=form)
    if form == "FLAC":  # the content decides
        os.rename(tmp_path / "0.flac", tmp_path / "0.wav")
    source = datasets.open(tmp_path, held_out=0, align="start", length=8192)
    assert source.count("train") == 3
    x = source.arrays("train")[0][1][:, 0] / 2**15
    spectrum = np.abs(np.fft.rfft(x[1000:7000] * np.hanning(6000)))
    assert spectrum.argmax() * 16_000 / 6000 == pytest.approx(400, abs=3)


def test_a_format_without_its_reader_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.flac").write_bytes(b"fLaC" + bytes(100))
    monkeypatch.setattr(sound_files, "_soundfile", lambda: None)
    with pytest.raises(UsageError, match=r"pip install 'keras-gan\[audio\]'. Received: .*a.flac"):
        datasets.open(tmp_path)


def test_arrays_of_waveforms(tmp_path):
    waves = np.stack([tone(0.3, 200 + 20 * n)[:, 0] for n in range(10)]).astype(np.float32)
    labels = np.arange(10) % 2
    np.savez(tmp_path / "a.npz", samples=waves, labels=labels, sample_rate=16_000)
    source = datasets.open("audio", path=tmp_path / "a.npz", sample_rate=8000)
    assert source.spec.samples.meta["sample_rate"] == 8000
    assert source.spec.num_classes == 2
    assert "resampled from 16,000 Hz (10)" in source.description
    np.savez(tmp_path / "b.npz", samples=waves)
    with pytest.raises(UsageError, match=r"`sample_rate` must be given for a .npz"):
        datasets.open("audio", path=tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", samples=waves[0])
    with pytest.raises(UsageError, match=r"Received: .*c.npz with \{'samples': 'float32"):
        datasets.open("audio", path=tmp_path / "c.npz", sample_rate=8000)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"sample_rate": 0}, "of a .npz file must be a whole number .*sample_rate=0"),
        ({"sample_rate": -8000}, "from 1 to 768000. Received: .*sample_rate=-8000"),
        ({"sample_rate": "8 kHz"}, "Received: .*a.npz with sample_rate='8 kHz'"),
        ({"sample_rate": np.nan}, "Received: .*a.npz with sample_rate=nan"),
        ({"sample_rate": 8000.5}, "Received: .*a.npz with sample_rate=8000.5"),
        ({"samples": np.zeros((0, 8192), "f4")}, r"one sound or more.*of shape \(0, 8192\)"),
        ({"samples": np.zeros((2, 0), "f4")}, r"a.npz\[0\]: it holds no samples"),
        ({"samples": np.zeros((2, 9, 0), "f4")}, r"a.npz\[0\]: 0 channels of 8000 Hz"),
    ],
)
def test_arrays_that_are_no_sounds(tmp_path, arrays, message):
    good = {"samples": np.zeros((2, 9), np.float32), "sample_rate": 8000}
    np.savez(tmp_path / "a.npz", **good | arrays)
    with pytest.raises(UsageError, match=message) as error:
        datasets.open("audio", path=tmp_path / "a.npz")
    assert "\n" not in str(error.value)


# --------------------------------------------------------------------------- recipes, preparation


def test_prepared_windows_do_not_overlap_and_are_16_bits(long_tones, tmp_path):
    source = datasets.open(long_tones, layout="windows", length=2048)
    place = datasets.prepare(source, "tfds:long_tones", data_dir=tmp_path / "tfds")
    again = datasets.open("tfds:long_tones", data_dir=str(tmp_path / "tfds"))
    assert again.dtype == np.int16
    assert again.spec == source.spec
    apart = source.without_overlap()
    assert again.count("train") == apart.count("train") < source.count("train") / 50
    np.testing.assert_array_equal(again.arrays("train")[0], np.asarray(apart.arrays("train")[0]))
    assert sum(f.stat().st_size for f in place.iterdir()) < 3 * 2048 * apart.count("train") + 10_000


def test_a_recipe_of_pictures_names_the_recipes_for_sounds(tones):
    source = datasets.open(tones)
    with pytest.raises(UsageError, match=r"quickstart is for images. (Recipes|No preset).*audio"):
        automatic.check_kind("quickstart", source)
    with pytest.raises(UsageError, match=r"pictures only; name one.*audio clips.*Received: audio"):
        automatic.look(source)
    automatic.check_kind("cyclegan", source)  # its data may be any folder


def test_a_folder_takes_the_place_of_other_sounds_and_keeps_the_options(tones):
    section = {"source": "asterisk-sounds", "layout": "windows", "mel": {"hop": 64}, "root": "/x"}
    kept = {"layout": "windows", "mel": {"hop": 64}}
    place = {"path": str(tones)}
    assert datasets.with_folder(section, str(tones)) == {"source": "audio", **kept, **place}
    section = {"source": "audio", "path": "old", **kept}
    assert datasets.with_folder(section, str(tones)) == {"source": "audio", **kept, **place}
    assert recipes.check_data("audio", {**kept, **place}) == {**kept, **place}
