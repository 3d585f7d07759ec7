"""Callbacks of Keras in `fit`: each works, or is refused before the first step."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import callbacks, layers

import keras_gan
from keras_gan import UsageError

X = np.random.default_rng(0).normal(size=(8, 1)).astype("float32")


def make_gan(rates=(0.1, 0.4), optimizer=keras.optimizers.SGD, use_ema=False, **arguments):
    """A game of two numbers' weights, trained step by step in Python."""
    keras.utils.set_random_seed(3)
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    discriminator = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    gan = keras_gan.GAN(generator, discriminator, **arguments)
    gan.compile(*(optimizer(rate, use_ema=use_ema) for rate in rates), run_eagerly=True)
    return gan


def fit(gan, *given, epochs=2, **arguments):
    options = {"batch_size": 4, "verbose": 0, "shuffle": False, **arguments}
    return gan.fit(X, epochs=epochs, callbacks=list(given), **options).history


def rates(gan):
    return [
        float(of.learning_rate) for of in (gan.generator_optimizer, gan.discriminator_optimizer)
    ]


def assert_equal_weights(a, b):
    for x, y in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(x, y)


# ------------------------------------------------------------------------ learning rates


def test_a_scheduler_gets_and_sets_the_rate_of_each_player():
    gan, seen = make_gan(), []

    def schedule(epoch, rate):
        seen.append((epoch, round(rate, 6)))
        return rate / 2

    history = fit(gan, callbacks.LearningRateScheduler(schedule))
    assert seen == [(0, 0.1), (0, 0.4), (1, 0.05), (1, 0.2)]
    assert rates(gan) == pytest.approx([0.025, 0.1])
    assert history["learning_rate_generator"] == pytest.approx([0.05, 0.025])
    assert history["learning_rate_discriminator"] == pytest.approx([0.2, 0.1])
    slow = make_gan(rates=(0.05, 0.2))  # the rate of the first epoch is that of its steps
    fit(slow, epochs=1)
    half = make_gan()
    fit(half, callbacks.LearningRateScheduler(lambda epoch: (0.05, 0.2)[0], 0), epochs=1)
    assert rates(half) == pytest.approx([0.05, 0.05])
    again = make_gan()
    fit(again, callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2), epochs=1)
    for a, b in zip(again.generator.get_weights(), slow.generator.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_scheduled_training_is_resumed_exactly(tmp_path):
    def scheduler():
        return callbacks.LearningRateScheduler(lambda epoch, rate: rate / (epoch + 2))

    whole, part = (
        make_gan(optimizer=keras.optimizers.Adam),
        make_gan(optimizer=keras.optimizers.Adam),
    )
    fit(whole, scheduler(), epochs=2)
    fit(part, scheduler(), epochs=1)
    part.save(tmp_path / "part.keras")
    loaded = keras.saving.load_model(tmp_path / "part.keras")
    assert rates(loaded) == pytest.approx([0.05, 0.2])
    fit(loaded, scheduler(), epochs=2, initial_epoch=1)
    assert_equal_weights(loaded, whole)


def test_a_plateau_reduces_both_rates_down_to_the_smallest():
    gan = make_gan()
    plateau = callbacks.ReduceLROnPlateau(
        "d_loss", factor=0.5, patience=1, mode="max", min_delta=1e3, min_lr=0.03
    )
    history = fit(gan, plateau, epochs=4)
    assert history["learning_rate_generator"] == pytest.approx([0.1, 0.1, 0.05, 0.03])
    assert history["learning_rate_discriminator"] == pytest.approx([0.4, 0.4, 0.2, 0.1])
    assert rates(gan) == pytest.approx([0.03, 0.05])


def test_the_rate_within_a_loss_scale_is_set():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        gan = make_gan()
    finally:
        keras.config.set_dtype_policy("float32")
    assert isinstance(gan.generator_optimizer, keras.optimizers.LossScaleOptimizer)
    fit(gan, callbacks.LearningRateScheduler(lambda epoch, rate: rate / 4), epochs=1)
    assert rates(gan) == pytest.approx([0.025, 0.1])


@pytest.mark.parametrize(
    "rate",
    [
        keras_gan.schedules.Linear(0.1, 0.0, 100),
        keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9),
    ],
)
@pytest.mark.parametrize(
    "callback",
    [
        lambda: callbacks.LearningRateScheduler(lambda epoch, rate: 0.1),
        lambda: callbacks.ReduceLROnPlateau("d_loss", mode="min"),
    ],
)
def test_a_schedule_and_a_callback_for_the_same_rate_are_refused(rate, callback):
    gan = make_gan(rates=(0.1, rate))
    with pytest.raises(UsageError, match=r"Received: discriminator_optimizer with the schedule"):
        fit(gan, callback())
    assert gan.count("iteration") == 0
    with pytest.raises(UsageError, match="discriminator_optimizer, which follows the schedule"):
        gan.optimizer.optimizers[1].learning_rate = 0.1


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_scheduler_cannot_set_a_rate_that_is_out_of_range(value):
    with pytest.raises(UsageError, match=r"`learning_rate` must be a number from 0 up. Received"):
        fit(make_gan(), callbacks.LearningRateScheduler(lambda epoch, rate: value))


def test_a_rate_of_all_players_together_is_refused_with_their_names():
    gan = make_gan()
    message = "Use generator_optimizer.learning_rate and discriminator_optimizer.learning_rate"
    assert not hasattr(gan.optimizer, "learning_rate")
    with pytest.raises(UsageError, match=message):
        _ = gan.optimizer.learning_rate
    with pytest.raises(UsageError, match=message):
        gan.optimizer.learning_rate = 0.1
    with pytest.raises(UsageError, match="which `compile` sets"):
        gan.optimizer = keras.optimizers.Adam()
    assert keras_gan.GAN(gan.generator, gan.discriminator).optimizer is None
    gan.compile()  # a second time
    assert [of.name for of in gan.optimizer.optimizers] == ["generator", "discriminator"]


# ------------------------------------------------------------------------ the others


def test_one_training_with_many_callbacks(tmp_path):
    gan, seen = make_gan(use_ema=True), []
    files = {
        "each": callbacks.ModelCheckpoint(tmp_path / "{epoch}-{d_loss:.2f}.keras"),
        "weights": callbacks.ModelCheckpoint(
            tmp_path / "last.weights.h5", save_weights_only=True, save_freq=1
        ),
        "best": callbacks.ModelCheckpoint(
            tmp_path / "best.keras", "val_d_loss", mode="max", save_best_only=True
        ),
    }
    history = fit(
        gan,
        *files.values(),
        callbacks.TensorBoard(
            tmp_path / "logs", histogram_freq=1, write_steps_per_second=True, update_freq=1
        ),
        callbacks.BackupAndRestore(tmp_path / "backup", delete_checkpoint=False),
        callbacks.CSVLogger(tmp_path / "log.csv"),
        callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["g_loss"])),
        callbacks.ProgbarLogger(),
        callbacks.SwapEMAWeights(),
        validation_data=X,
    )
    assert seen == pytest.approx(history["g_loss"])
    names = [f"{i + 1}-{loss:.2f}.keras" for i, loss in enumerate(history["d_loss"])]
    for name, iteration in zip(names, (2, 4), strict=True):
        assert keras.saving.load_model(tmp_path / name).count("iteration") == iteration
    other = make_gan(use_ema=True)
    other.load_weights(tmp_path / "last.weights.h5")
    for a, b in zip(other.generator.get_weights(), gan.generator.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)  # swapping rounds
    assert other.count("examples_seen") == 16
    best = 2 * (1 + int(np.argmax(history["val_d_loss"])))
    assert keras.saving.load_model(tmp_path / "best.keras").count("iteration") == best
    assert (tmp_path / "log.csv").read_text().splitlines()[0].startswith("epoch,d_loss,")
    (events,) = (tmp_path / "logs" / "train").glob("*.v2")
    tags = {
        v.tag for e in tf.compat.v1.train.summary_iterator(str(events)) for v in e.summary.value
    }
    assert {"epoch_learning_rate_generator", "epoch_learning_rate_discriminator"} <= tags
    assert {"epoch_d_loss", "epoch_steps_per_second"} <= tags
    assert any(tag.endswith("kernel/histogram") for tag in tags)


def test_early_stopping_restores_the_best_epoch():
    gan = make_gan()
    stop = callbacks.EarlyStopping("d_loss", mode="max", min_delta=1e3, restore_best_weights=True)
    assert len(fit(gan, stop, epochs=5)["d_loss"]) == 2
    first = make_gan()
    fit(first, epochs=1)
    assert_equal_weights(gan, first)
    assert gan.count("examples_seen") == 8


def test_a_backup_continues_an_interrupted_training_exactly(tmp_path):
    class Interruption(callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise InterruptedError

    def backup():
        return callbacks.BackupAndRestore(tmp_path / "backup")

    adam = {"optimizer": keras.optimizers.Adam}
    with pytest.raises(InterruptedError):
        fit(make_gan(**adam), backup(), Interruption(), epochs=2)
    resumed, whole = make_gan(**adam), make_gan(**adam)
    assert len(fit(resumed, backup(), epochs=2)["d_loss"]) == 1
    fit(whole, epochs=2)
    assert_equal_weights(resumed, whole)
    for a, b in zip(resumed.optimizer.variables, whole.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_averages_of_an_optimizer_are_swapped_in_for_an_evaluation():
    """Without an average of the game, the generator of a validation is the optimizer's."""
    gan = make_gan(use_ema=True, ema_half_life=0)
    seen = {}

    class Look(callbacks.Callback):
        def on_test_begin(self, logs=None):
            seen["test"] = gan.generator.get_weights()

        def on_epoch_end(self, epoch, logs=None):
            seen["end"] = gan.generator.get_weights()

    fit(gan, callbacks.SwapEMAWeights(), Look(), epochs=1, validation_data=X)
    average = gan.generator_optimizer._model_variables_moving_average
    for a, b in zip(seen["test"], average, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert not np.allclose(seen["test"][0], seen["end"][0])
    np.testing.assert_allclose(seen["end"][0], gan.generator.get_weights()[0])


class Quiet(callbacks.Callback):
    """A callback of the user, which may add anything to the logs."""

    def on_epoch_end(self, epoch, logs=None):
        logs["fid"] = 1.0 / (epoch + 1)


class Terminate(callbacks.TerminateOnNaN):
    """A subclass that acts as its base class does."""


class OwnTerminate(callbacks.TerminateOnNaN):
    """A subclass that watches another metric."""

    def on_batch_end(self, batch, logs=None):
        super().on_batch_end(batch, {"loss": logs["d_loss"]})


def test_a_subclass_that_acts_by_itself_is_taken():
    assert len(fit(make_gan(), OwnTerminate(), epochs=2)["d_loss"]) == 2
    stop = OwnTerminate()
    stop.set_model(make_gan())
    stop.on_batch_end(0, {"d_loss": float("nan")})
    assert stop.model.stop_training


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [callbacks.EarlyStopping()],
            r"`monitor` of EarlyStopping .* monitor='val_loss'. Valid: d_",
        ),
        ([callbacks.ReduceLROnPlateau()], r"`monitor` of ReduceLROnPlateau .* monitor='val_loss'"),
        ([callbacks.ModelCheckpoint("x.keras", save_best_only=True)], r"`monitor` of ModelCheck"),
        ([callbacks.EarlyStopping("d_los", mode="min")], r"'d_los'. Did you mean 'd_loss'\?"),
        ([callbacks.EarlyStopping("val_d_loss", mode="min")], r"Give validation_data to fit"),
        ([callbacks.EarlyStopping("val_loss"), keras_gan.callbacks.Preview("x")], r"'val_loss'"),
        ([callbacks.EarlyStopping("d_loss")], r"`mode` of EarlyStopping must be 'min' or 'max'"),
        (
            [callbacks.ModelCheckpoint("x.keras", "g_loss", save_best_only=True)],
            r"`mode` of ModelC",
        ),
        ([callbacks.ModelCheckpoint("x.h5")], r"only to a .keras file.*filepath='x.h5'"),
        (
            [callbacks.ModelCheckpoint("{val_loss:.2f}.keras")],
            r"epoch, batch and metrics in braces",
        ),
        ([callbacks.TerminateOnNaN()], r"keras_gan.callbacks.CollapseGuard\(\) stops"),
        (
            [Terminate()],
            r"CollapseGuard\(\) stops .*Received: Terminate for a game with",
        ),
        ([type("T", (Terminate,), {})()], r"would never act.* Received: T for a game"),
        ([type("Stop", (callbacks.EarlyStopping,), {})()], r"`monitor` of Stop .*'val_loss'"),
        ([Terminate(), keras_gan.callbacks.Preview("x")], "Received: Terminate for a game"),
        ([callbacks.SwapEMAWeights()], r"needs an optimizer with use_ema=True"),
        ([callbacks.CSVLogger], r"instances of keras.callbacks.Callback. Received: <class"),
        ([print], r"instances of keras.callbacks.Callback. Received: <built-in function print>"),
    ],
)
def test_callbacks_that_could_not_act_are_refused_before_the_first_step(given, message):
    gan = make_gan()
    with pytest.raises(UsageError, match=message) as caught:
        fit(gan, *given)
    assert "\n" not in str(caught.value)
    assert gan.count("iteration") == 0


def test_a_misspelled_metric_is_refused_for_a_stream_with_labels():
    x, y = keras.Input((2,)), keras.Input((), dtype="int32")
    generator = keras.Model([x, y], layers.Dense(1)(layers.Concatenate()([x, y[:, None]])))
    x, y = keras.Input((1,)), keras.Input((), dtype="int32")
    judge = keras.Model([x, y], layers.Dense(1)(layers.Concatenate()([x, y[:, None]])))
    gan = keras_gan.GAN(generator, judge, num_classes=2)
    gan.compile("sgd", "sgd", run_eagerly=True)
    data = tf.data.Dataset.from_tensor_slices((X, np.arange(8) % 2)).batch(4)
    with pytest.raises(UsageError, match=r"'d_los'. Did you mean 'd_loss'\?"):
        gan.fit(data, callbacks=callbacks.EarlyStopping("d_los", mode="min"), verbose=0)


def test_positional_callbacks_and_those_of_an_evaluation_are_checked():
    gan = make_gan()
    with pytest.raises(UsageError, match="TerminateOnNaN"):
        gan.fit(X, None, 4, 1, 0, callbacks.TerminateOnNaN())
    with pytest.raises(UsageError, match="use_ema=True"):
        gan.evaluate(X, verbose=0, callbacks=[callbacks.SwapEMAWeights()])


def test_a_metric_that_another_callback_may_add_can_be_monitored(tmp_path):
    stop = callbacks.EarlyStopping("fid", mode="max", patience=1)
    assert len(fit(make_gan(), Quiet(), stop, epochs=5)["fid"]) == 2
    best = callbacks.ModelCheckpoint(tmp_path / "{fid:.1f}.keras", "fid", mode="min")
    fit(make_gan(), Quiet(), best, epochs=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.5.keras", "1.0.keras"]
    added = lambda epoch, logs: logs.update(loss=1.0)  # noqa: E731
    fit(make_gan(), callbacks.LambdaCallback(on_epoch_end=added), callbacks.EarlyStopping("loss"))


def test_a_game_with_a_metric_named_loss_stops_at_nan():
    class One(keras_gan.Game):
        metric_names = ("loss",)

        def __init__(self, generator, **kwargs):
            super().__init__({"generator": generator}, **kwargs)

        def step(self, batch):
            self.track(loss=float("nan"))

    gan = One(keras.Sequential([keras.Input((2,)), layers.Dense(1)]))
    gan.compile(run_eagerly=True)
    assert len(fit(gan, callbacks.TerminateOnNaN(), epochs=3)["loss"]) == 1
    with pytest.raises(UsageError, match=re.escape("'val_loss'. Give validation_data to fit")):
        fit(gan, callbacks.EarlyStopping())
