"""Videos in training previews and reports: animated grids, a still sheet, reduced motion."""

import io
import re

import bars
import keras
import numpy as np
from PIL import Image, ImageSequence

import keras_gan
from keras_gan import report
from serving import kinds

VIDEO = kinds.get("video")


def frames_of(content):
    with Image.open(io.BytesIO(content)) as film:
        durations, frames = [], []
        for frame in ImageSequence.Iterator(film):
            frames.append(np.asarray(frame.convert("L")))
            durations.append(film.info["duration"])
        return np.stack(frames), durations


def test_sixteen_videos_are_one_animation_of_four_rows():
    ids = np.arange(20) % 2
    videos = bars.clips(ids, ids) / np.float32(127.5) - 1
    frames, durations = frames_of(VIDEO.loop(videos, {"frame_rate": 10}))
    gap = (frames.shape[1] - 4 * bars.SIDE) // 3
    assert frames.shape == (bars.FRAMES, *[4 * bars.SIDE + 3 * gap] * 2)
    assert durations == [100] * bars.FRAMES
    step = bars.SIDE + gap
    for number in (0, 5, 15):
        row, column = number // 4 * step, number % 4 * step
        cell = frames[:, row : row + bars.SIDE, column : column + bars.SIDE]
        np.testing.assert_array_equal(cell, bars.clips(ids, ids)[number, ..., 0])


def test_colors_and_few_videos_are_drawn_and_pictures_do_not_move():
    colors = np.random.default_rng(0).uniform(-1, 1, (3, 5, 8, 8, 3)).astype("float32")
    frames, durations = frames_of(VIDEO.loop(colors))
    assert len(frames) == 5
    assert durations == [125] * 5  # 8 Hz, as the kind assumes
    assert kinds.get("image").loop(colors[:, 0]) is None


def test_a_preview_has_an_animation_beside_each_picture(tmp_path):
    keras.utils.set_random_seed(0)
    shape = (3, 8, 8, 1)
    generator = keras.Sequential(
        [
            keras.Input((4,), name="latents"),
            keras.layers.Dense(192, activation="tanh"),
            keras.layers.Reshape(shape, name="samples"),
        ]
    )
    discriminator = keras.Sequential(
        [keras.Input(shape, name="samples"), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    gan = keras_gan.GAN(generator, discriminator)
    gan.compile(keras.optimizers.Adam(1e-2), keras.optimizers.Adam(1e-2))
    field = keras_gan.Field("video", shape, meta={"frame_rate": 4})
    preview = keras_gan.callbacks.Preview(tmp_path, seeds=range(18), field=field)
    data = np.tanh(np.random.default_rng(0).normal(size=(16, *shape))).astype("float32")
    gan.fit(data, batch_size=8, epochs=1, callbacks=[preview], verbose=0)
    stills, loops = (sorted(p.stem for p in tmp_path.glob(f"*.{e}")) for e in ("png", "webp"))
    assert stills == loops == ["examples-000000000", "examples-000000016"]
    newest = (tmp_path / "examples-000000016.webp").read_bytes()
    assert newest == VIDEO.loop(gan.generate(range(18)), {"frame_rate": 4})
    assert frames_of(newest)[1] == [250] * 3


def test_a_report_shows_animations_and_respects_reduced_motion(run):
    for number in (0, 640):
        (run.samples / f"examples-{number:09d}.png").write_bytes(b"")
    assert "<picture>" not in report.write(run).read_text()
    for number in (0, 640):
        (run.samples / f"examples-{number:09d}.webp").write_bytes(b"")
    page = report.write(run).read_text()
    still = 'media="(prefers-reduced-motion: reduce)" srcset="samples/examples-000000640.png"'
    assert re.search(
        rf"<picture>\s*<source [^>]*{re.escape(still)}>\s*"
        r'<img id="preview" src="samples/examples-000000640\.webp"',
        page,
    )
    assert '<img id="sheet" src="samples/examples-000000640.png"' in page
    assert 'previews = ["examples-000000000", "examples-000000640"]' in page
