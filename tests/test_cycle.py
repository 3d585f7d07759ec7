"""The game of two translators: its step against numpy, the history, saving, resuming, export."""

import json as jsons
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import DISCRIMINATOR, GENERATOR, check_kill, judge, pairs, translator, write

import export
import keras_gan
import serving
from keras_gan import Spec, UsageError, datasets, metrics, recipe, schedules, train
from keras_gan.__main__ import main as cli
from keras_gan.commands import exporting
from keras_gan.games._history import History
from keras_gan.metrics.images import to_bytes
from keras_gan.spec import Field

GAME = {
    "networks": {
        "forward": GENERATOR,
        "backward": GENERATOR,
        "discriminator_a": DISCRIMINATOR,
        "discriminator_b": DISCRIMINATOR,
    },
    "game": {"name": "cycle", "pool_size": 12, "ema_half_life": 50},
}


def game(of_a=1, of_b=1, size=8, **arguments):
    return keras_gan.Cycle(
        translator(of_b, of_a, size, seed=1),
        translator(of_a, of_b, size, seed=2),
        judge(of_a, size=size, seed=3),
        judge(of_b, size=size, seed=4),
        **arguments,
    )


def compiled(cycle, rate=2e-3, **arguments):
    cycle.compile(*(keras.optimizers.Adam(rate, beta_1=0.5) for _ in range(2)), **arguments)
    return cycle


# ------------------------------------------------------------------------ the step


def scaled(factor, name):
    """A translator that multiplies by a number, its only weight."""
    picture = keras.Input((4, 4, 1), name=name)
    layer = keras.layers.Conv2D(1, 1, use_bias=False)
    model = keras.Model(picture, layer(picture))
    layer.kernel.assign(tf.fill((1, 1, 1, 1), factor))
    return model


@pytest.mark.parametrize("identity_weight", [0.0, 3.0])
def test_a_step_by_hand(identity_weight):
    """All networks multiply by a number: G(a) = 2 a, F(b) = 0.5 b, D_A(a) = 1.5 a, D_B(b) = -b.

    With constant pictures a = 0.4 and b = -0.2, the losses and the steps of gradient descent
    follow by hand.
    """
    g, f, u, v = 2.0, 0.5, 1.5, -1.0
    a, b, rate, cycle_weight = 0.4, -0.2, 0.01, 10.0
    networks = [scaled(x, "condition") for x in (g, f)] + [scaled(x, "samples") for x in (u, v)]
    cycle = keras_gan.Cycle(
        *networks, identity_weight=identity_weight, cycle_weight=cycle_weight, pool_size=0
    )
    cycle.compile(*(keras.optimizers.SGD(rate) for _ in range(2)))
    batch = {"condition": np.full((2, 4, 4, 1), a), "samples": np.full((2, 4, 4, 1), b)}
    batch = {name: values.astype("float32") for name, values in batch.items()}
    history = cycle.fit(batch, batch_size=2, verbose=0).history
    measured = {name: values[0] for name, values in history.items()}

    # Generators: (D - 1)^2 / 2, and the distances of the pictures that went there and back.
    assert measured["g_loss"] == pytest.approx((u * f * b - 1) ** 2 / 2 + (v * g * a - 1) ** 2 / 2)
    there_and_back = abs(f * g * a - a) + abs(g * f * b - b)
    assert measured["cycle_loss"] == pytest.approx(there_and_back, abs=1e-6)
    same = abs(g * b - b) + abs(f * a - a)
    if identity_weight:
        assert measured["identity_loss"] == pytest.approx(same)
    else:
        assert "identity_loss" not in measured
    # |f g a - a| + |g f b - b| is at its least; sign(0) is 0 in TensorFlow.
    slope_g = (v * g * a - 1) * v * a + identity_weight * np.sign(g * b - b) * b
    slope_f = (u * f * b - 1) * u * b + identity_weight * np.sign(f * a - a) * a
    found = [float(network.weights[0].numpy().squeeze()) for network in networks]
    assert found[0] == pytest.approx(g - rate * slope_g, rel=1e-5)
    assert found[1] == pytest.approx(f - rate * slope_f, rel=1e-5)

    # Discriminators: half of (D(real) - 1)^2 / 2 + D(fake)^2 / 2, on the same fakes.
    fake_a, fake_b = f * b, g * a
    loss_a = (u * a - 1) ** 2 / 2 + (u * fake_a) ** 2 / 2
    loss_b = (v * b - 1) ** 2 / 2 + (v * fake_b) ** 2 / 2
    assert measured["d_loss"] == pytest.approx((loss_a + loss_b) / 2, rel=1e-5)
    slope_u = ((u * a - 1) * a + u * fake_a**2) / 2
    slope_v = ((v * b - 1) * b + v * fake_b**2) / 2
    assert found[2] == pytest.approx(u - rate * slope_u, rel=1e-5)
    assert found[3] == pytest.approx(v - rate * slope_v, rel=1e-5)


def test_weights_follow_schedules():
    """Without discriminators that learn, only the identity term of the first examples counts."""
    weight = schedules.Linear(1.0, 0.0, 32)
    cycle = compiled(game(cycle_weight=0.0, identity_weight=weight, ema_half_life=0), 1e-2)
    for network in (cycle.discriminator_a, cycle.discriminator_b):
        network.set_weights([np.zeros_like(x) for x in network.get_weights()])
    data = pairs(64)
    cycle.fit(data, batch_size=32, epochs=1, shuffle=False, verbose=0)
    assert cycle.has_identity
    loaded = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(cycle))
    assert loaded.get_config()["identity_weight"] == cycle.get_config()["identity_weight"]


def test_it_learns_to_negate_without_pairs():
    """Pictures that are mostly bright, and mostly dark ones: each becomes the other."""
    rng = np.random.default_rng(0)
    bright = np.clip(rng.normal(0.5, 0.2, (64, 8, 8, 1)), -1, 1).astype("float32")
    dark = -np.roll(bright, 1, axis=0)
    cycle = compiled(game(identity_weight=0.5, ema_half_life=50), 5e-3)
    data = {"condition": bright, "samples": dark}
    cycle.fit(data, batch_size=4, epochs=20, verbose=0)
    assert cycle.translate(bright).mean() == pytest.approx(-0.5, abs=0.15)
    back = cycle.translate(dark, backward=True)
    assert back.mean() == pytest.approx(0.5, abs=0.15)
    there = cycle.translate(cycle.translate(bright), backward=True)
    assert np.abs(there - bright).mean() < 0.15
    np.testing.assert_array_equal(
        cycle.generate(range(64), condition=bright), cycle.translate(bright)
    )
    live = cycle.translate(bright, average=False)
    assert not np.array_equal(live, cycle.translate(bright))
    measured = cycle.evaluate(data, batch_size=16, verbose=0, return_dict=True)
    assert set(measured) == set(cycle.metric_names)
    assert measured["cycle_loss"] < 0.4


# ------------------------------------------------------------------------ the history


def numbered(first, count):
    """Pictures of one pixel whose values are their numbers."""
    return tf.reshape(tf.range(first, first + count, dtype=tf.float32), (count, 1, 1, 1))


def shown_by(history, first, count, step):
    found = history(numbered(first, count), tf.constant([7, step], tf.int64))
    return found.numpy().astype(int).ravel().tolist()


def test_the_history_fills_and_then_exchanges_half():
    history = History(keras_gan.GAN(translator(), judge(given=1)), "d", 50, (1, 1, 1))
    assert shown_by(history, 0, 48, 0) == list(range(48))
    # Of three more, two fill the pool. The third may be exchanged for one of those before.
    shown = shown_by(history, 48, 3, 1)
    assert shown[:2] == [48, 49]
    assert shown[2] in range(51)
    assert int(history.count.numpy()) == 50
    exchanged = total = 0
    seen = {50} & set(history.pictures.numpy().astype(int).ravel())
    for step in range(2, 102):
        before = history.pictures.numpy().astype(int).ravel().tolist()
        new = list(range(1000 * step, 1000 * step + 4))
        shown = shown_by(history, new[0], 4, step)
        after = history.pictures.numpy().astype(int).ravel().tolist()
        old = [x for x in shown if x not in new]
        assert set(old) <= set(before)
        # A picture that is shown from the pool leaves it to the one in whose place it is shown.
        assert len(set(old)) == len(old)
        kept = [x for x, y in zip(new, shown, strict=True) if x != y]
        assert [a for a, b in zip(after, before, strict=True) if a != b] == sorted(
            kept, key=lambda x: after.index(x)
        )
        assert set(after) == set(before) - set(old) | set(kept)
        exchanged, total, seen = exchanged + len(old), total + 4, seen | set(old)
    assert exchanged / total == pytest.approx(0.5, abs=0.1)
    assert len(seen) > 100


def test_a_batch_larger_than_the_history_and_no_history():
    gan = keras_gan.GAN(translator(), judge(given=1))
    history = History(gan, "small", 3, (1, 1, 1))
    assert shown_by(history, 0, 8, 0)[:3] == [0, 1, 2]
    shown = shown_by(history, 10, 8, 1)
    assert shown[3:] == [13, 14, 15, 16, 17]
    assert set(shown[:3]) <= {0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12}
    none = History(gan, "none", 0, (None, None, 1))
    assert shown_by(none, 5, 4, 0) == [5, 6, 7, 8]


def test_discriminators_are_shown_the_history(monkeypatch):
    shown = []
    call = History.__call__

    def recorded(self, fake, seed):
        result = call(self, fake, seed)
        shown.append(np.array([fake, result]))
        return result

    monkeypatch.setattr(History, "__call__", recorded)
    cycle = compiled(game(pool_size=8), run_eagerly=True)
    cycle.fit(pairs(), batch_size=4, epochs=2, verbose=0)
    fakes, results = np.array(shown).swapaxes(0, 1)
    np.testing.assert_array_equal(fakes[:4], results[:4])  # two steps of both fill them
    assert (fakes[4:] != results[4:]).any(axis=(1, 2, 3, 4)).mean() > 0.7


# ------------------------------------------------------------------------ saving and resuming


def test_a_saved_game_goes_on_as_the_same_game(tmp_path):
    data = tf.data.Dataset.from_tensor_slices(pairs(64)).batch(4).repeat()
    whole, part = (compiled(game(pool_size=6)) for _ in range(2))
    whole.fit(data, steps_per_epoch=12, epochs=2, verbose=0)
    part.fit(data.take(12), verbose=0)
    part.save(tmp_path / "cycle.keras")
    again = keras.saving.load_model(tmp_path / "cycle.keras")
    history = again.histories["discriminator_b"]
    assert int(history.count.numpy()) == 6
    assert history.pictures.numpy().any()
    again.fit(data.skip(12), steps_per_epoch=12, verbose=0)
    for a, b in zip(whole.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_training_is_resumed_bit_for_bit_and_both_directions_are_exported(tmp_path):
    run = check_kill(write(tmp_path, GAME), tmp_path, kills=(2, 2))
    gan = run.load()
    assert gan.picture_shape == (16, 16)
    assert [int(x.count.numpy()) for x in gan.histories.values()] == [12, 12]
    assert {"cycle_loss", "d_loss", "val_d_loss"} <= run.rows()[-1].keys()
    pictures = pairs(3, 24)["condition"]  # of any size
    for name in ("forward", "backward"):
        bundle = exporting.export_run(run, tmp_path / name, network=name)
        facts = bundle.manifest
        assert (facts.role, facts.training["network"]) == ("translator", name)
        assert [port.name for port in (*facts.inputs, *facts.outputs)] == ["condition", "samples"]
        names = [run.path.name, f"{run.path.name}-backward"]
        assert [facts.name, facts.translation["backward"]] == names[
            :: 1 if name == "forward" else -1
        ]
        found = serving.Bundle(bundle.path).generate(condition=pictures)
        expected = gan.translate(pictures, backward=name == "backward")
        np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(UsageError, match=r"generator of the game, or .*: forward, back.*'other'"):
        exporting.export_run(run, tmp_path / "other", network="other")
    with pytest.raises(UsageError, match="--weights is for a training in two stages"):
        exporting.export_run(run, tmp_path / "other", share=0.5)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A short run, whose samples have half of the conditions' contrast."""
    folder = tmp_path_factory.mktemp("short")
    path = write(folder, GAME, examples=32)
    faint = pairs(60, 16)
    faint["samples"] = faint["samples"] / 2
    np.savez(folder / "pairs.npz", **faint)
    return train.train(recipe.load(str(path)), folder / "run").run


def figures(*arguments, json):
    """Returns the values and the protocol that the command writes."""
    cli(["evaluate", *map(str, arguments), "--json", str(json)])
    return jsons.loads(json.read_text())


@pytest.mark.timeout(600)
def test_each_direction_is_evaluated_against_its_own_target(short, tmp_path):
    gan, data = short.load(), datasets.open(**short.record["data"])
    held = {name: data.values(x, name) for name, x in data.field_arrays("held_out").items()}
    exporting.export_run(short, tmp_path / "backward", network="backward")
    forward = figures(short.path, json=tmp_path / "forward.json")
    backward = figures(short.path, "--network", "backward", json=tmp_path / "backward.json")
    bundle = figures(tmp_path / "backward", "--control", short.path, json=tmp_path / "bundle.json")

    a, b = (to_bytes(held[name]) for name in ("condition", "samples"))
    answers = gan.translate(held["samples"], backward=True)
    expected = metrics.l1(a, to_bytes(answers))
    assert backward["values"]["l1"] == pytest.approx(expected, abs=1e-6)
    assert bundle["values"]["l1"] == pytest.approx(expected, abs=1e-4)
    assert bundle["controls"][str(short.path)]["l1"] == pytest.approx(expected, abs=1e-6)
    there = gan.translate(to_bytes(answers) / np.float32(127.5) - 1)
    assert backward["values"]["cycle_l1"] == pytest.approx(metrics.l1(b, to_bytes(there)), abs=1e-6)
    ratios = [x["controls"]["identity"]["gradient_ratio"] for x in (forward, backward, bundle)]
    assert ratios == pytest.approx([ratios[0], 1 / ratios[0], 1 / ratios[0]], rel=1e-6)
    assert ratios[0] > 1.5
    assert forward["protocol"]["generated"]["network"] == "forward"
    assert backward["protocol"]["real"]["source"].endswith("in the opposite direction")


def test_only_a_run_has_a_network_to_evaluate(short, tmp_path):
    bundle = exporting.export_run(short, tmp_path / "bundle", network="backward").path
    forward = exporting.export_run(short, tmp_path / "forward").path
    with pytest.raises(UsageError, match=r"only for a run; a bundle.*network='backward' for '/"):
        metrics.evaluate(bundle, network="backward")
    with pytest.raises(UsageError, match=r"generator of the game: forward, backward.*'sideways'"):
        metrics.evaluate(short.path, network="sideways")
    with pytest.raises(UsageError, match=r"translated backward, and .* that translates forward"):
        metrics.evaluate(bundle, controls=[forward])


def test_only_a_game_has_a_network_to_choose(tmp_path):
    with pytest.raises(UsageError, match="`network` is for a game"):
        export.export_bundle(translator(), tmp_path / "bundle", network="backward")


# ------------------------------------------------------------------------ domains and checks


def test_domains_with_different_channels(tmp_path):
    rng = np.random.default_rng(0)
    data = {
        "condition": rng.uniform(-1, 1, (16, 8, 8, 1)).astype("float32"),
        "samples": rng.uniform(-1, 1, (16, 8, 8, 3)).astype("float32"),
    }
    with pytest.raises(UsageError, match=r"`identity_weight` must be 0.*1 channels in A and 3"):
        game(1, 3)
    cycle = compiled(game(1, 3, identity_weight=0, pool_size=5))
    cycle.fit(data, batch_size=4, verbose=0)
    assert cycle.histories["discriminator_a"].pictures.shape == (5, 8, 8, 1)
    assert cycle.histories["discriminator_b"].pictures.shape == (5, 8, 8, 3)
    assert cycle.translate(data["condition"]).shape == (16, 8, 8, 3)
    assert cycle.translate(data["samples"], backward=True).shape == (16, 8, 8, 1)
    with pytest.raises(UsageError, match=r"`condition` must have rows of shape \(8, 8, 3\)"):
        cycle.translate(data["condition"], backward=True)
    swapped = {"condition": data["samples"], "samples": data["condition"]}
    with pytest.raises(UsageError, match=r"Samples must have the shape"):
        cycle.fit(swapped, batch_size=4, verbose=0)
    fields = {"samples": Field("image", (8, 8, 3)), "condition": Field("image", (8, 8, 1))}
    spec = Spec(fields=fields)
    for name, channels in (("forward", (3, 1)), ("backward", (1, 3)), ("discriminator_a", (1, 3))):
        found = keras_gan.Cycle.network_spec(name, spec, {})
        assert (found.samples.shape[-1], found.fields["condition"].shape[-1]) == channels


def any_size(model_of, name):
    picture = keras.Input((None, None, 1), name=name)
    return keras.Model(picture, model_of(picture))


@pytest.mark.slow
def test_networks_of_any_size_need_the_size_of_a_batch_for_their_history():
    def conv(x):
        return keras.layers.Conv2D(1, 3, padding="same")(x)

    def networks():
        names = ("condition", "condition", "samples", "samples")
        return [any_size(conv, name) for name in names]

    with pytest.raises(UsageError, match=r"`picture_shape`.*needed.*pool_size=50"):
        keras_gan.Cycle(*networks())
    cycle = compiled(keras_gan.Cycle(*networks(), picture_shape=(8, 8)))
    with pytest.raises(
        UsageError, match=r"pictures of `picture_shape`, \(8, 8\).*\(4, 12, 12, 1\)"
    ):
        cycle.fit(pairs(16, 12), batch_size=4, verbose=0)
    cycle.fit(pairs(16), batch_size=4, validation_data=pairs(8, 12), verbose=0)
    assert cycle.translate(pairs(2, 20)["condition"]).shape == (2, 20, 20, 1)
    free = compiled(keras_gan.Cycle(*networks(), pool_size=0))
    free.fit(pairs(16, 12), batch_size=4, verbose=0)
    for shape in ((8,), 8, (8, 0)):
        with pytest.raises(UsageError, match="picture_shape"):
            keras_gan.Cycle(*networks(), picture_shape=shape)
    with pytest.raises(UsageError, match=r"`picture_shape` must be that of the networks"):
        game(picture_shape=(4, 4))


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match=r"'backward' must take the pictures that 'forward'"):
        keras_gan.Cycle(translator(3), translator(1), judge(), judge(3))
    with pytest.raises(
        UsageError, match=r"'discriminator_b' must take the pictures that 'forward'"
    ):
        keras_gan.Cycle(translator(3), translator(1, 3), judge(), judge(), identity_weight=0)
    with pytest.raises(UsageError, match=r"'discriminator_a' must take `samples` alone"):
        keras_gan.Cycle(translator(), translator(), judge(given=1), judge())
    for arguments in ({"augment": "flip"}, {"terms": ["r1"]}, {"num_classes": 3}):
        (name,) = arguments
        with pytest.raises(UsageError, match=rf"`{name}` is not used by Cycle"):
            game(**arguments)
    for name in ("cycle_weight", "identity_weight", "pool_size"):
        with pytest.raises(UsageError, match=f"`{name}`"):
            game(**{name: -1})
    sigmoid = keras.Model((x := judge()).inputs, keras.layers.Activation("tanh")(x.output))
    with pytest.raises(UsageError, match="must return logits"):
        keras_gan.Cycle(translator(), translator(), judge(), sigmoid, loss="non_saturating")
    cycle = game()
    spec = cycle.data_spec
    assert spec.names == ["samples", "condition"]
    with pytest.raises(UsageError, match=r"asks for the field 'condition'"):
        compiled(cycle).fit(pairs()["samples"], batch_size=4, verbose=0)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        cycle = game()
    finally:
        keras.config.set_dtype_policy("float32")
    history = compiled(cycle).fit(pairs(), batch_size=8, epochs=6, verbose=0).history
    assert np.isfinite([values[-1] for values in history.values()]).all()
    assert history["cycle_loss"][-1] < history["cycle_loss"][0]


@pytest.mark.slow
def test_xla():
    plain, compiled_ = (compiled(game(), jit_compile=jit) for jit in (False, True))
    for cycle in (plain, compiled_):
        cycle.fit(pairs(), batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(plain.weights, compiled_.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-3)


def test_the_data_supplies_the_size_of_the_history(tmp_path):
    loaded = recipe.load(str(write(tmp_path, GAME)))
    assert "picture_shape" not in loaded.to_yaml()
    with pytest.raises(UsageError, match=r"game\.picture_shape is not a"):
        recipe.load(str(tmp_path / "recipe.yaml"), ["game.picture_shape=[8,8]"])
    fields = {name: Field("image", (None, None, 1)) for name in ("samples", "condition")}
    with pytest.raises(UsageError, match=r"data\.crop or data\.size"):
        train.build(loaded, Spec(fields=fields))
    assert train.build(loaded, train.open_data(loaded).spec).picture_shape == (16, 16)


REPLICAS = """
import sys
import keras, numpy as np, replicas, tensorflow as tf
from pictures import pairs
from test_cycle import compiled, game
with replicas.two_devices().scope():
    whole, part = (compiled(game(pool_size=6)) for _ in range(2))
data = tf.data.Dataset.from_tensor_slices(pairs(32)).batch(4)
whole.fit(data, verbose=0, shuffle=False)
part.fit(data.take(4), verbose=0)
part.save(sys.argv[1])
with whole.distribute_strategy.scope():
    again = keras.saving.load_model(sys.argv[1])
again.fit(data.skip(4), verbose=0)
for a, b in zip(whole.variables, again.variables, strict=True):
    np.testing.assert_array_equal(a.numpy(), b.numpy())
for history in again.histories.values():
    first, second = (np.array(x) for x in history.pictures.value.values)
    np.testing.assert_array_equal(first, second)
    assert first.any() and int(history.count.numpy()) == 6
print("same")
"""


@pytest.mark.slow
def test_replicas_share_a_history_that_a_saved_game_keeps(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS, str(tmp_path / "cycle.keras")],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["same"], done.stderr[-2000:]
