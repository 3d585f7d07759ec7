"""Tests of the page's sounds in a browser: players, spectrograms, vocoders; on a running server."""

import base64
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import test_page
import tiny
import vocoders
from servers import ROOT, Serving
from test_page import PATIENCE, axe, choose, module, needs_curl, opened
from vocoders import heard, tones, wav

from serving.wav import read_wav

pytestmark = test_page.pytestmark
driver = test_page.driver  # the fixture
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of a generator of sounds of a second, and of a vocoder."""
    folder = tmp_path_factory.mktemp("sounds")
    bundles = [
        tiny.write(folder / "digits", "digits", "audio", (16_000, 1), 5),
        vocoders.write(folder / "voice"),
    ]
    (folder / "speech.wav").write_bytes(wav(tones(16_000, 16_000), 16_000))
    np.save(folder / "mel.npy", vocoders.MEL(tones(4_000)))
    with Serving(*bundles, "--no-access-log") as found:
        found.folder = folder
        yield found


@pytest.fixture
def page(driver, server):
    yield from opened(driver, server)


def shown(page, model="voice"):
    page.open(f"#model={model}", ready=False)
    page.wait("document.querySelector('#vocode').offsetHeight")
    for other in ("#wall", "#translate", "#classify", "#seed"):
        assert page.js(f"return document.querySelector('{other}').offsetHeight") == 0
    return page


def computed(page):
    page.wait(
        "document.querySelector('#vocode').getAttribute('aria-busy') === 'false' && "
        "document.querySelector('#vocode-result').offsetHeight > 0"
    )


AFTER = "document.querySelector('#vocode-after audio')"


def test_a_chosen_sound_is_heard_before_and_after(page):
    shown(page)
    page.js(
        "window.blobs = []; const make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { blobs.push(blob); return make.call(URL, blob); }"
    )
    choose(page, page.server.folder / "speech.wav", "#vocode-file")
    computed(page)
    facts = page.texts("#vocode .sound output")
    assert [x.partition(",")[0] for x in facts] == ["1.00 s at 16000 Hz", "1.00 s at 8000 Hz"]
    notes = page.js("return document.querySelector('#vocode-notes').innerText")
    assert notes == "The sound was resampled from 16000 to 8000 Hz."
    content = (page.server.folder / "speech.wav").read_bytes()
    answer = page.server.ask(
        "/v1/vocode?model=voice&resample=1", content, {"Content-Type": "audio/wav"}
    )
    assert played(page) == answer.body
    assert page.wait(f"{AFTER}.duration") == 1
    labels = page.js(
        "return [...document.querySelectorAll('#vocode .sound button')].map((x) => x.ariaLabel)"
    )
    assert labels == ["Play the sound before", "Play the sound after"]
    assert axe(page) == []


def played(page):
    """Returns the last file that a player was made for."""
    code = (
        "const done = arguments[0]; const reader = new FileReader();"
        "reader.onload = () => done(reader.result); reader.readAsDataURL(window.blobs.at(-1))"
    )
    address = page.driver.execute_async_script(code)
    return base64.b64decode(address.partition(",")[2])


def test_the_key_p_plays_and_stops_and_the_volume_is_kept(page):
    shown(page)
    choose(page, page.server.folder / "speech.wav", "#vocode-file")
    computed(page)
    page.wait(f"{AFTER}.readyState > 1")
    page.js("document.querySelector('#vocode').focus()")
    page.key("p")
    page.wait(f"!{AFTER}.paused || {AFTER}.ended")
    page.set("#vocode-after input[type=range]", 0.25)
    assert page.js(f"return {AFTER}.volume") == 0.25
    page.js(f"{AFTER}.loop = true; {AFTER}.play()")
    page.wait(f"!{AFTER}.paused")
    page.key("p")
    page.wait(f"{AFTER}.paused && {AFTER}.currentTime === 0")
    assert page.js("return localStorage.getItem('keras-gan-volume')") == "0.25"
    shown(page)
    choose(page, page.server.folder / "speech.wav", "#vocode-file")
    computed(page)
    assert page.js(f"return {AFTER}.volume") == 0.25


def test_a_spectrogram_has_no_sound_before(page):
    shown(page)
    choose(page, page.server.folder / "mel.npy", "#vocode-file")
    computed(page)
    assert page.js("return document.querySelector('#vocode-before').offsetHeight") == 0
    assert page.texts("#vocode-after output")[0].startswith("0.50 s at 8000 Hz")


def test_a_bad_sound_is_explained(page, tmp_path):
    shown(page)
    page.expected += ("400 (Bad Request)",)
    (tmp_path / "a.wav").write_bytes(b"nothing")
    choose(page, tmp_path / "a.wav", "#vocode-file")
    page.wait("document.querySelector('#problem-text').offsetHeight")
    text = page.js("return document.querySelector('#problem-text').innerText")
    assert "A sound must be a WAV file or a spectrogram as .npy" in text
    assert page.js("return document.querySelector('#vocode-result').offsetHeight") == 0


@needs_curl
def test_the_shown_lines_compute_the_sound(page):
    shown(page)
    choose(page, page.server.folder / "speech.wav", "#vocode-file")
    computed(page)
    folder = page.server.folder
    for name in ("curl", "python"):
        (folder / "speech-voice.wav").unlink(missing_ok=True)
        line = page.js(
            f"return document.querySelector('#vocode-lines [data-line={name}] code').innerText"
        )
        command = ["sh", "-c", line] if name == "curl" else [sys.executable, "-c", line]
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, timeout=PATIENCE)
        found, rate = heard((folder / "speech-voice.wav").read_bytes())
        assert (len(found), rate) == (8_000, 8_000)


def test_samples_of_sound_are_drawn_played_and_downloaded(page):
    page.open("#model=digits&size=l")
    assert page.js("return document.querySelector('#wall .tile canvas').height") == 80
    page.js("document.querySelector('#wall .tile').focus()")
    page.key("p")
    page.wait("document.querySelector('#status').textContent === 'Playing the sample of seed 0'")
    page.key("p")
    page.wait("document.querySelector('#status').textContent === 'Stopped the sample of seed 0'")
    page.click("#wall [data-index='3']")
    page.wait("document.querySelector('#explore-figure audio')?.duration === 1")
    assert page.js("return document.querySelector('#explore-title').innerText") == "Seed 3"
    assert page.texts("#explore-figure output")[0].startswith("1.00 s at 16000 Hz, peak ")
    assert "seed=3" in page.line("explore", "curl").replace("seeds=", "seed=")
    assert page.js("return document.querySelector('#explore-save-text').innerText") == (
        "Download .wav"
    )
    assert axe(page) == []


def test_the_spectrogram_of_the_page(page):
    """A full-scale tone is at 0 dB in its band, and at the floor far from it; silence likewise."""
    page.open("#model=digits")
    tone = "Float32Array.from({length: 8000}, (_, i) => Math.sin(2 * Math.PI * 1000 * i / 8000))"
    levels = np.array(module(page, "sound.js", f"m.spectrogram({tone}, 8000, 20)"))[2:-2]
    assert levels.shape == (16, 48)
    band = 48 * np.log10(1 + 1000 / 700) / np.log10(1 + 4000 / 700)
    assert np.abs(levels.argmax(axis=1) - band).max() <= 1
    assert np.abs(levels.max(axis=1)).max() < 6
    assert (levels[:, [0, -1]] == -80).all()
    silence = module(page, "sound.js", "m.spectrogram(new Float32Array(800), 8000, 3)")
    assert (np.array(silence) == -80).all()


def test_wav_files_are_read_as_they_are(page):
    page.open("#model=digits")
    samples = tones(500)
    data = base64.b64encode(wav(samples)).decode()
    array = f"Uint8Array.from(atob('{data}'), (x) => x.charCodeAt(0))"
    code = f"(({{samples, rate}}) => [[...samples], rate])(m.readWav({array}.buffer))"
    found, rate = module(page, "sound.js", code)
    np.testing.assert_allclose(found, heard(wav(samples))[0], atol=1e-6)
    assert rate == 8_000
    assert module(page, "sound.js", "m.readWav(new ArrayBuffer(9))") is None
    streamed = bytearray(wav(samples))
    streamed[40:44] = b"\0" * 4  # the size of a file that was written to a pipe
    found, rate = module(page, "sound.js", code.replace(data, base64.b64encode(streamed).decode()))
    assert (len(found), rate) == (500, 8_000)
    assert len(read_wav(bytes(streamed))[0]) == 500


@pytest.mark.parametrize(("rate", "drawn"), [(22_050, 22_050), (4_000, 8_000), (192_000, 96_000)])
def test_other_encodings_are_decoded_at_their_rate(page, rate, drawn):
    page.open("#model=digits")
    samples = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype("<f4")
    head = struct.pack("<IHHIIHHI", 0, 3, 1, rate, 4 * rate, 4, 32, 4 * rate)
    body = b"WAVEfmt \x10\0\0\0" + head[4:20] + b"data" + head[20:] + samples.tobytes()
    data = base64.b64encode(b"RIFF" + struct.pack("<I", len(body)) + body).decode()
    code = f"Uint8Array.from(atob('{data}'), (x) => x.charCodeAt(0))"
    assert module(page, "sound.js", f"m.readWav({code}.buffer)") == {"samples": None, "rate": rate}
    expression = f"m.decode(new Blob([{code}])).then((s) => done([s.samples.length, s.rate]))"
    found, at = page.driver.execute_async_script(
        f"const done = arguments[0]; import('/page/sound.js').then((m) => {expression})"
    )
    assert at == drawn
    assert abs(found / drawn - 1) < 0.01


def count_addresses(page):
    """Counts the addresses of files that are not revoked, in `window.files`."""
    page.js(
        "window.files = new Set(); const [make, free] = [URL.createObjectURL, URL.revokeObjectURL];"
        "URL.createObjectURL = (x) => { const at = make.call(URL, x); files.add(at); return at };"
        "URL.revokeObjectURL = (at) => { files.delete(at); free.call(URL, at) };"
    )


def test_players_free_their_files(page):
    shown(page)
    count_addresses(page)
    for name, count in (("speech.wav", 2), ("mel.npy", 1), ("speech.wav", 2)):
        page.js("document.querySelector('#vocode').removeAttribute('aria-busy')")
        choose(page, page.server.folder / name, "#vocode-file")
        computed(page)
        assert page.js("return files.size") == count
        assert page.js(f"return files.has({AFTER}.src)")


def test_the_dialog_frees_its_sound(page):
    page.open("#model=digits&size=l")
    count_addresses(page)
    for _ in range(2):
        page.click("#wall [data-index='3']")
        page.wait("document.querySelector('#explore-figure audio')?.duration === 1")
        assert page.js("return files.size") == 1
        page.key("Escape")
        page.wait("!document.querySelector('dialog[open]') && files.size === 0")
    page.js("document.querySelector('#wall .tile').focus()")
    for number in range(4):
        page.key("p")
        state = "Stopped" if number % 2 else "Playing"
        page.wait(f"document.querySelector('#status').textContent.startsWith('{state}')")
        assert page.js("return files.size") == 1 - number % 2
