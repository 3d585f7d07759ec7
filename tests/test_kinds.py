"""Kinds: axes, ranges, file formats there and back, previews, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image

from serving import UsageError, kinds
from serving.kinds import audio, text
from serving.mel import Mel

RNG = np.random.default_rng(0)
SAMPLES = {
    "image": RNG.uniform(-1, 1, (5, 8, 6, 3)).astype("float32"),
    "points": RNG.normal(size=(5, 2)).astype("float32"),
    "audio": RNG.uniform(-1, 1, (5, 200, 2)).astype("float32"),
    "video": RNG.uniform(-1, 1, (5, 4, 8, 6, 3)).astype("float32"),
    "series": RNG.normal(size=(5, 20, 3)).astype("float32"),
    "text": np.eye(4, dtype="float32")[RNG.integers(0, 4, (5, 7))],
    "table": RNG.normal(size=(5, 3)).astype("float32"),
    "array": RNG.normal(size=(5, 2, 3, 4)).astype("float32"),
    "label": RNG.uniform(size=(5, 4)).astype("float32"),
    "mel": RNG.uniform(-11, 0, (5, 9, 40)).astype("float32"),
    "action": np.eye(3, dtype="float32")[[0, 2, 1, 0, 2]],
    "codes": np.stack([np.arange(5) % 3, *RNG.uniform(-1, 1, (2, 5))], 1).astype("float32"),
}
META = {
    "audio": {"sample_rate": 8000},
    "video": {"frame_rate": 10},
    "text": {"vocabulary": list("abcd")},
    "table": {"columns": ["a", "b", "c"]},
    "label": {"num_classes": 4, "class_names": ["a", "b", "c", "d"]},
    "codes": {"categorical": [3], "continuous": 2},
    "mel": {"mel": {"sample_rate": 8000, "hop": 64}},
}
# Largest difference after a round trip: half a step of the format, of a range of 2.
STEPS = {"png": 1 / 255, "webp": 1 / 255, "apng": 1 / 255, "wav": 0.5 / 32767 + 1 / 32768}


def formats():
    for name in kinds.names():
        for form in kinds.get(name).all_formats().values():
            yield pytest.param(name, form, id=f"{name}-{form.name}")


def test_every_kind_has_a_sample_here():
    assert set(kinds.names()) == set(SAMPLES)


@pytest.mark.parametrize(
    ("shape", "dtype", "kind"),
    [
        ((2,), "float32", "points"),
        ((None,), "float64", "points"),
        ((100, 4), "float32", "series"),
        ((None, 80), "float32", "series"),
        ((28, 28), "float32", "series"),
        ((8, 8, 1), "float32", "image"),
        ((8, 8, 3), "uint8", "image"),
        ((None, None, 4), "float32", "image"),
        ((8, 8, 2), "float32", "array"),
        ((3, 8, 8), "float32", "array"),
        ((5, 8, 8, 1), "float32", "video"),
        ((5, 8, 8, 3), "uint8", "video"),
        ((None, 8, 8, 4), "float32", "video"),
        ((5, 8, 8, 2), "float32", "array"),
        ((2, 2, 2, 2, 3), "float32", "array"),
        ((), "float32", "array"),
        ((6,), "int32", "array"),
        ((6,), "uint8", "array"),
        ((28, 28), "uint8", "array"),
        ((16, 1), "int16", "array"),
        ((8, 8, 1), "bool", "array"),
    ],
)
def test_the_kind_of_a_shape(shape, dtype, kind):
    assert kinds.of_shape(shape, dtype) == kind


def test_the_kinds_that_a_shape_may_be_of():
    assert kinds.fitting((28, 28)) == ["array", "audio", "image", "mel", "series", "text"]
    assert kinds.fitting((3,)) == ["action", "array", "points", "table", "text"]
    assert kinds.fitting((8, 8, 3)) == ["array", "image"]
    assert kinds.fitting((8, 8, 2)) == ["array"]
    assert kinds.fitting((4, 8, 8, 3)) == ["array", "video"]
    assert kinds.fitting(()) == ["array"]


@pytest.mark.parametrize(("name", "form"), list(formats()))
def test_a_sample_survives_its_formats(name, form):
    kind, sample, meta = kinds.get(name), SAMPLES[name][0], META.get(name, {})
    if form.encode is None:
        return
    content = kind.encode(sample, form.name, meta)
    assert content == kind.encode(sample, form.name, meta)
    assert kind.format_of_file(f"x.{form.name.upper()}").encode is form.encode
    if form.decode is None:
        return
    assert kind.format_of(f"{form.media_type}; charset=utf-8").decode is form.decode
    back = kind.decode(content, form.name, sample.shape, meta)
    assert back.shape == sample.shape
    if form.name == "gif":  # 256 colors per frame
        assert np.abs(back - sample).mean() < 0.25
        return
    np.testing.assert_allclose(back, sample, atol=STEPS.get(form.name, 1e-6))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sheet_is_a_picture(name):
    sheet = kinds.get(name).sheet(SAMPLES[name], META.get(name))
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert sheet.shape[-1] in (1, 3, 4)
    assert len(np.unique(sheet)) > 2  # something is drawn
    one = kinds.get(name).sheet(SAMPLES[name][:1], META.get(name))
    assert one.shape[0] <= sheet.shape[0]


@pytest.mark.parametrize("name", SAMPLES)
def test_its_own_shape_is_accepted_and_another_rank_refused(name):
    kind = kinds.get(name)
    kind.check(SAMPLES[name].shape[1:], META.get(name, {}))
    if kind.axes and name != "text":
        with pytest.raises(UsageError, match=r"must have \d .*dimensions .*Received: shape="):
            kind.check((2, 2, 2, 2, 2))
    with pytest.raises(UsageError, match="Received: shape="):
        kind.check((0, *SAMPLES[name].shape[2:]) if SAMPLES[name].ndim > 2 else (0,))


@pytest.mark.parametrize(
    ("name", "shape", "meta", "message"),
    [
        ("image", (8, 8, 2), {}, r"1 \(gray\), 3 .*Received: shape=\(8, 8, 2\)"),
        ("video", (2, 8, 8, 5), {}, r"Videos must have 1 .*Received: shape="),
        ("audio", (8, 1), {"sample_rate": -1}, "sample_rate.*Received: sample_rate=-1"),
        ("video", (2, 8, 8, 3), {"frame_rate": 0}, "frame_rate.*Received: frame_rate=0"),
        ("image", (8, 8, 3), {"sample_rate": 8000}, ", stored_range. Received: sample_rate"),
        ("text", (8, 3), {"vocabulary": ["a"]}, "one token for each of the 3 .*Received: 1 tok"),
        ("label", (), {"num_classes": 3, "class_names": ["a"]}, "each of the 3 classes"),
    ],
)
def test_properties_are_checked(name, shape, meta, message):
    with pytest.raises(UsageError, match=message):
        kinds.get(name).check(shape, meta)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UsageError, match=r"array, audio, codes, image.*Received: kind='sequence'"):
        kinds.get("sequence")


def test_an_image_of_any_size_is_read_upright_with_the_wanted_channels():
    picture = np.zeros((4, 6, 3), np.uint8)
    picture[:, 3:] = 255
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(picture).save(buffer, "JPEG", quality=100, exif=exif)
    kind = kinds.get("image")
    read = kind.decode(buffer.getvalue(), "jpeg", (None, None, 1))
    assert read.shape == (6, 4, 1)
    np.testing.assert_allclose(read[0], -1, atol=0.05)
    np.testing.assert_allclose(read[-1], 1, atol=0.05)
    with pytest.raises(UsageError, match=r"shape \(8, 8, 1\) here. Received: shape=\(6, 4, 1\)"):
        kind.decode(buffer.getvalue(), "jpeg", (8, 8, 1))


def test_sixteen_bits_of_gray_are_scaled_and_not_clipped():
    buffer = io.BytesIO()
    Image.fromarray(np.array([[0, 32768, 65535]], np.uint16)).save(buffer, "PNG")
    read = kinds.get("image").decode(buffer.getvalue(), "png", (1, 3, 1))
    np.testing.assert_allclose(read[0, :, 0], [-1, 0, 1], atol=0.01)


@pytest.mark.parametrize(("bits", "scale"), [(8, 2**7), (16, 2**15), (24, 2**23), (32, 2**31)])
def test_wav_files_of_any_depth_are_read(bits, scale):
    wave = np.array([0, 1, -1, scale // 2, -scale], np.int64)
    data = wave + 128 if bits == 8 else wave
    raw = b"".join(int(x).to_bytes(bits // 8, "little", signed=bits > 8) for x in data)
    content = wav_file(1, bits, raw)
    read = kinds.get("audio").decode(content, "wav", (None, 1), {"sample_rate": 8000})
    np.testing.assert_allclose(read[:, 0], wave / scale, atol=1e-7)


def test_channels_of_a_wav_file_that_cancel_each_other_are_not_silence():
    raw = np.array([[100, -200], [-300, 600], [50, -100]] * 3, "<i2")
    for channels, wanted in ((raw, raw.mean(axis=1)), (raw * [2, 1], raw[:, 0] * 2)):
        content = wav_file(1, 16, channels.astype("<i2").tobytes(), channels=2)
        read = kinds.get("audio").decode(content, "wav", (None, 1), {"sample_rate": 8000})
        np.testing.assert_allclose(read[:, 0], wanted / 2**15, atol=1e-7)


def wav_file(code, bits, raw, rate=8000, channels=1):
    block = channels * bits // 8
    head = b"".join(
        n.to_bytes(size, "little")
        for n, size in (
            (code, 2),
            (channels, 2),
            (rate, 4),
            (rate * block, 4),
            (block, 2),
            (bits, 2),
        )
    )
    chunks = b"fmt " + (16).to_bytes(4, "little") + head
    chunks += b"data" + len(raw).to_bytes(4, "little") + raw
    return b"RIFF" + (len(chunks) + 4).to_bytes(4, "little") + b"WAVE" + chunks


def test_floats_and_stereo_are_read():
    values = np.array([[0.5, -0.5], [1.0, 0.0]], "<f4")
    content = wav_file(3, 32, values.tobytes(), channels=2)
    kind = kinds.get("audio")
    np.testing.assert_array_equal(kind.decode(content, "wav", (None, 2)), values)
    mono = kind.decode(content, "wav", (None, 1))
    np.testing.assert_allclose(mono[:, 0], [0.0, 0.5])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "RIFF and WAVE. Received: b''"),
        (b"RIFF\0\0\0\0WAVE", "chunks fmt and data. Received: none"),
        (wav_file(2, 4, b"abc"), "Received: format 2 of 4 bits, 1 channels, 8000 Hz"),
        (wav_file(1, 16, b"abcd", rate=44100), "must have 8000 Hz here. Received: 44100 Hz"),
        (wav_file(3, 32, np.array([np.nan], "<f4").tobytes()), "finite numbers. Received: NaN"),
    ],
)
def test_wav_files_that_cannot_be_read_are_refused(content, message):
    with pytest.raises(UsageError, match=message):
        kinds.get("audio").decode(content, "wav", (None, 1), {"sample_rate": 8000})


def test_the_comment_of_a_wav_file_holds_texts():
    content = kinds.get("audio").encode(SAMPLES["audio"][0], "wav", {}, {"Seed": "7", "x": "<a>"})
    assert b"ICMT" in content
    assert b"Seed=7" in content
    samples, rate = audio.read_wav(content)
    assert samples.shape == (200, 2)
    assert rate == audio.SAMPLE_RATE


@pytest.mark.parametrize("name", ["image", "video", "audio", "table", "text", "array"])
@pytest.mark.parametrize("content", [b"", b"x", b"\x89PNG\r\n\x1a\n", b'{"a": NaN}', b"[[1], 2]"])
def test_damaged_files_are_one_line(name, content):
    kind = kinds.get(name)
    forms = kind.all_formats().values()
    for form in forms:
        if form.decode is None:
            continue
        with pytest.raises(UsageError, match="Received: ") as refused:
            kind.decode(content, form.name, SAMPLES[name].shape[1:], META.get(name, {}))
        assert "\n" not in str(refused.value)


def test_columns_of_a_csv_file_are_put_in_order():
    kind, meta = kinds.get("table"), META["table"]
    read = kind.decode(b"c,a,b\n3,1,2\n", "csv", (3,), meta)
    np.testing.assert_array_equal(read, [1, 2, 3])
    with pytest.raises(UsageError, match=r"must be a, b, c. Received: \['c', 'a', 'd'\]"):
        kind.decode(b"c,a,d\n3,1,2\n", "csv", (3,), meta)
    with pytest.raises(UsageError, match=r"rows of numbers of one length. Received: \['1', 'x'"):
        kind.decode(b"1,2,3\n1,x,3\n", "csv", (3,), meta)
    assert kind.encode(np.array([1.5, 2, 3]), "csv", meta) == b"a,b,c\n1.5,2,3\n"


def test_texts_are_strings_of_their_vocabulary():
    words = {"vocabulary": ["the", "cat", "sat"]}
    assert text.string_of(np.array([0, 1, 2]), words) == "the cat sat"
    assert text.string_of(np.array([0, 3]), {"vocabulary": list("abcd")}) == "ad"
    assert text.string_of(np.array([5, 6]), {}) == "5 6"
    assert text.ids_of("the sat", words).tolist() == [0, 2]
    with pytest.raises(UsageError, match=r"tokens of the vocabulary of 3. Received: 'dog'"):
        text.ids_of("the dog", words)
    with pytest.raises(UsageError, match=r"must be below 4. Received: 9"):
        kinds.get("text").decode(b"1 9", "txt", (2, 4), {})


def test_spectrograms_have_the_mels_of_their_definition():
    kind = kinds.get("mel")
    meta = {"mel": Mel(mels=20).to_meta()}
    kind.check((None, 20), meta)
    with pytest.raises(UsageError, match=r"the 20 mels of its definition. Received: shape=\(7, 40"):
        kind.check((7, 40), meta)
    with pytest.raises(UsageError, match=r"must have the keys .* Received: hopp"):
        kind.check((7, 40), {"mel": {"hopp": 64}})


@pytest.mark.parametrize("floor", [1e-5, 1e-3])
def test_spectrograms_must_be_natural_logarithms(floor):
    kind, meta = kinds.get("mel"), {"mel": Mel(floor=floor).to_meta()}
    natural = np.maximum(np.log(floor), RNG.normal(-4, 4, (2, 30, 40))).clip(max=1)
    kind.check_given(natural, meta, "mel")
    kind.check_given(np.full((1, 3, 40), np.log(floor)), meta, "mel")
    tens = natural / np.log(10)
    assert (tens == tens.min()).sum() > 1  # silence
    with pytest.raises(UsageError, match=r"`mel` must be natural .* look like log10: .* 2.3026"):
        kind.check_given(tens, meta, "mel")
    decibels = 20 * tens
    with pytest.raises(UsageError, match=r"from -[\d.]+ \(the floor .* decibels by 0.11513. Rec"):
        kind.check_given(decibels, meta, "mel")
    with pytest.raises(UsageError, match=r"to 5; .* Received: values from 0 to 6"):
        kind.check_given(np.array([[[0.0, 6.0]]]), meta, "mel")


def test_spectrograms_are_drawn_with_low_frequencies_below():
    levels = np.full((1, 4, 40), np.log(1e-5), np.float32)
    levels[0, :, 0] = 1.0
    picture = kinds.get("mel").sheet(levels)
    assert picture.dtype == np.uint8
    brightness = picture.astype(int).sum(axis=(1, 2))
    assert brightness.argmax() > 70
    assert brightness[10] < brightness.max() / 10
