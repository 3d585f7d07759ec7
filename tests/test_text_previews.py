"""Texts in training previews and reports: files of lines, and a list that the slider changes."""

import html
import json
import re

import keras
import numpy as np

import keras_gan
from keras_gan import report
from keras_gan.spec import Field
from serving import kinds

META = {"vocabulary": ("", "a", "b\nc", "<d>&")}


def texts_of(page):
    shown = re.search(r'<pre id="lines">(.*?)</pre>', page, re.DOTALL)
    listed = re.search(r"const texts = (\[.*?\]), lines", page, re.DOTALL)
    return shown and html.unescape(shown[1]), listed and json.loads(listed[1])


def test_a_line_is_one_text_without_what_follows_its_end():
    samples = np.array([[1, 3, 0, 1], [2, 1, 1, 1], [0, 1, 1, 1]])
    assert kinds.get("text").lines(samples, META) == ["a <d>&", "b c a a a", ""]
    assert kinds.get("audio").lines(np.zeros((2, 8, 1))) is None


def test_a_preview_of_texts_is_written_beside_its_picture(tmp_path):
    keras.utils.set_random_seed(0)
    latents = keras.Input((4,), name="latents")
    x = keras.layers.Reshape((5, 4))(keras.layers.Dense(20)(latents))
    generator = keras.Model(latents, keras.layers.Softmax(name="samples")(x))
    samples = keras.Input((5, 4), name="samples")
    logits = keras.layers.Dense(1, name="logits")(keras.layers.Flatten()(samples))
    gan = keras_gan.GAN(generator, keras.Model(samples, logits))
    gan.compile(generator_optimizer="adam", discriminator_optimizer="adam")
    field = Field("text", (5, 4), meta=META)
    preview = keras_gan.callbacks.Preview(tmp_path, seeds=range(20), field=field)
    real = np.eye(4, dtype=np.float32)[np.zeros((8, 5), int)]
    gan.fit(real, batch_size=8, epochs=1, verbose=0, callbacks=[preview])
    names = sorted(path.name for path in tmp_path.iterdir())
    counts = ("000000000", "000000008")
    assert names == [f"examples-{n}.{form}" for n in counts for form in ("png", "txt")]
    lines = (tmp_path / "examples-000000008.txt").read_text().splitlines()
    assert lines == kinds.get("text").lines(gan.generate(range(20)), META)
    assert len(lines) == 20


def test_a_report_shows_the_texts_of_the_chosen_preview(run):
    for examples in (0, 10):
        (run.samples / f"examples-{examples:09d}.png").write_bytes(b"")
    assert texts_of(report.write(run).read_text()) == (None, None)
    first, last = "one\n", "two </script><b>\n</pre>\n"
    (run.samples / "examples-000000000.txt").write_text(first)
    (run.samples / "examples-000000010.txt").write_text(last)
    page = report.write(run).read_text()
    assert texts_of(page) == (last, [first, last])
    assert page.count("</script>") == 2
    assert "<b>" not in page


def test_a_report_has_the_newest_texts_up_to_its_limit(run, monkeypatch):
    monkeypatch.setattr(report, "READ", 25)
    for examples in range(3):
        (run.samples / f"examples-{examples:09d}.png").write_bytes(b"")
        (run.samples / f"examples-{examples:09d}.txt").write_text(f"{examples}" * 10)
    shown, listed = texts_of(report.write(run).read_text())
    assert shown == "2" * 10
    assert listed == ["", "1" * 10, "2" * 10]
