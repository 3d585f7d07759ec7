"""Previews, records, limits, and the report, on a short real training."""

import math
import re
import signal
import time

import keras
import numpy as np
import PIL.Image
import pytest

import keras_gan
import serving.pictures
from keras_gan import UsageError, callbacks, report


def test_the_preview_draws_the_same_seeds_at_start_and_end(make_gan, images, tmp_path):
    gan = make_gan()
    first = gan.generate(range(6))
    grid = callbacks.Preview(tmp_path / "new" / "samples", seeds=range(6))
    gan.fit(images, verbose=0, callbacks=[grid])
    files = sorted((tmp_path / "new" / "samples").iterdir())
    assert [f.name for f in files] == ["examples-000000000.png", "examples-000000032.png"]
    for file, samples in zip(files, (first, gan.generate(range(6))), strict=True):
        picture = np.asarray(PIL.Image.open(file))
        # 6 samples of 8 x 12 in 2 rows of 3, with lines of 2 pixels between them.
        assert picture.shape == (2 * 10 - 2, 3 * 14 - 2)
        np.testing.assert_allclose(picture[10:, 28:], (samples[5, ..., 0] + 1) * 127.5, atol=0.51)


def test_the_preview_is_drawn_at_the_interval(make_gan, images, tmp_path):
    grid = callbacks.Preview(tmp_path, seeds=range(2), every_seconds=1e-9)
    make_gan().fit(images, verbose=0, callbacks=[grid])
    assert len(list(tmp_path.iterdir())) == 5  # before the first, and after each of 4 steps


def test_the_preview_is_drawn_by_the_kind_of_the_samples(make_gan, images, tmp_path):
    gan = make_gan()
    spec = keras_gan.Spec("array", tuple(gan.sample_shape))
    callback = callbacks.Preview(tmp_path, seeds=range(4), field=spec.samples)
    callback.set_model(gan)
    callback.on_train_begin()
    expected = spec.modality.sheet(gan.generate(range(4)), spec.samples.meta)
    (file,) = tmp_path.iterdir()
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(file)), expected[..., 0])


def test_a_preview_draws_as_many_samples_as_fit_into_a_picture(make_gan, monkeypatch, tmp_path):
    monkeypatch.setattr(serving.pictures, "MAX_PIXELS", 30)
    callback = callbacks.Preview(tmp_path, seeds=range(64))
    callback.set_model(make_gan())
    callback.on_train_begin()
    (file,) = tmp_path.iterdir()
    assert PIL.Image.open(file).size == (2 * 14 - 2, 2 * 10 - 2)


def test_the_record_has_a_row_for_each_epoch_a_checkpoint_and_a_report(make_gan, images, run):
    gan = make_gan(terms=["r1"])
    x = np.concatenate([x for x, _ in images])
    evaluation = callbacks.Evaluation(run, x[:16], every_examples=64)
    gan.fit(images, epochs=3, verbose=0, callbacks=[evaluation, callbacks.RunWriter(run)])
    rows = run.rows()
    assert [row["examples_seen"] for row in rows] == [32, 64, 96]
    assert [row["iteration"] for row in rows] == [4, 8, 12]
    assert all({"d_loss", "g_loss", "r1", "real_accuracy", "seconds"} <= set(row) for row in rows)
    assert ["sliced_wasserstein" in row for row in rows] == [False, True, False]
    assert run.best_record == {
        "patch_distance": pytest.approx(rows[1]["patch_distance"]),
        "examples_seen": 64,
        "file": "examples-000000064.keras",
    }
    assert run.load("last").count("examples_seen") == 96
    assert run.load("best").count("examples_seen") == 64
    text = (run.path / "report.html").read_text()
    assert "96 examples" in text
    assert text.count("<svg") == 1
    assert "relativistic" in text
    assert not re.search(r"(src|href)=.?http", text)


def test_the_record_drops_rows_after_the_resumed_state(make_gan, images, run):
    gan = make_gan()
    run.write_rows([{"examples_seen": 0, "seconds": 1.0}, {"examples_seen": 500, "seconds": 9.0}])
    gan.fit(images, verbose=0, callbacks=[callbacks.RunWriter(run)])
    rows = run.rows()
    assert [row["examples_seen"] for row in rows] == [0, 32]
    assert 1.0 < rows[1]["seconds"] < 300


def test_writing_takes_at_most_a_twentieth_of_the_time(make_gan, images, run, monkeypatch):
    """On a fake clock an epoch takes 10 seconds, a checkpoint 4, a report 3, the rows 1."""
    now, written = [0.0], {"save": [], "report": [], "rows": []}

    def slow(name, seconds):
        def write(*_):
            written[name].append(now[0])
            now[0] += seconds

        return write

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            now[0] += 10

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(type(run), "save", slow("save", 4.0))
    monkeypatch.setattr(type(run), "write_rows", slow("rows", 1.0))
    monkeypatch.setattr(report, "write", slow("report", 3.0))
    record = callbacks.RunWriter(run, every_seconds=5.0)
    make_gan().fit(images.take(1), epochs=40, verbose=0, callbacks=[Clock(), record])
    for name, seconds in (("save", 4), ("report", 3)):
        between = np.diff(written[name][:-1])  # the last one is written at the end
        assert len(between) >= 3
        assert (between >= 21 * seconds).all(), (name, between)
        assert (between <= 21 * seconds + 25).all(), (name, between)
    assert written["rows"][-1] > written["save"][-1]  # the report has the last rows


def test_a_loss_that_is_not_finite_ends_the_training_before_the_checkpoint(make_gan, images, run):
    gan = make_gan()
    gan.fit(images, verbose=0, callbacks=[callbacks.RunWriter(run)])
    kernel = gan.discriminator.trainable_variables[0]
    kernel.assign(kernel * math.nan)
    with pytest.raises(UsageError, match=r"after 64 examples: a loss is not finite .*nan"):
        gan.fit(images, verbose=0, callbacks=[callbacks.RunWriter(run)])
    assert run.load().count("examples_seen") == 32


def test_limits_end_the_training_at_the_exact_step_and_in_time(make_gan, images):
    gan = make_gan()
    limits = callbacks.Limits(steps=6)
    gan.fit(images, epochs=9, verbose=0, callbacks=[limits])
    assert gan.count("iteration") == 6
    assert not limits.out_of_time
    timed = callbacks.Limits(steps=10**6, minutes=1e-9)
    gan.fit(images, epochs=9, verbose=0, callbacks=[timed])
    assert gan.count("iteration") == 7
    assert timed.out_of_time


def test_signal_handlers_are_restored_after_an_error(make_gan, images):
    before = signal.getsignal(signal.SIGINT)
    limits = callbacks.Limits(steps=9)
    limits.set_model(make_gan())
    limits.on_train_begin()
    assert signal.getsignal(signal.SIGINT) != before
    limits.close()
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.slow
def test_evaluations_fall_on_the_same_examples_after_a_resume(make_gan, images, run):
    x = np.concatenate([x for x, _ in images])[:16]
    evaluated = {}
    for name, epochs in (("straight", (6,)), ("resumed", (3, 3))):
        gan = make_gan()
        run.metrics.unlink(missing_ok=True)
        for count in epochs:
            evaluation = callbacks.Evaluation(run, x, every_examples=64)
            gan.fit(
                images, epochs=count, verbose=0, callbacks=[evaluation, callbacks.RunWriter(run)]
            )
        rows = run.rows()
        evaluated[name] = [r["examples_seen"] for r in rows if "sliced_wasserstein" in r]
    assert evaluated["straight"] == evaluated["resumed"] == [64, 128, 192]


def test_progress_shows_speed_time_left_and_losses(make_gan, images, capsys, monkeypatch):
    gan = make_gan()
    progress = callbacks.Progress(examples=6400)
    now = iter(range(0, 10_000, 11))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    gan.fit(images, verbose=0, callbacks=[progress])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    # 8 images every 11 seconds: 6,392 images are left at 8 / 11 a second.
    assert re.match(
        r"8 of 6,400 examples  1 examples/s  146:29 left  d_loss \S+  g_loss \S+  "
        r"real_accuracy \S+  fake_accuracy \S+$",
        lines[0],
    )


def test_report_of_a_run_without_rows(run):
    assert "No tick has ended yet" in report.write(run).read_text()


def test_sliced_wasserstein_by_hand():
    """The distance of a set from itself shifted by v is the mean of |v . direction|."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 2))
    shift = np.array([3.0, 4.0])
    distance = keras_gan.metrics.sliced_wasserstein(x, x + shift, directions=4000)
    assert distance == pytest.approx(5 * 2 / math.pi, rel=0.02)  # mean |cos| is 2 / pi
    assert keras_gan.metrics.sliced_wasserstein(x, rng.permutation(x)) == pytest.approx(0)
    with pytest.raises(UsageError, match=r"same number of samples"):
        keras_gan.metrics.sliced_wasserstein(x, x[:10])
